#!/usr/bin/env python3
"""Writes a checkpoint as a GGUF file, as converters do, for tests of running such files.

    pip install gguf numpy
    tools/make_gguf.py models/demo /tmp/demo.gguf --type Q8_0 --experts Q4_K,Q6_K,Q4_0
    tools/make_gguf.py models/demo /tmp/demo.gguf --type Q4_0 --decoded /tmp/decoded

--decoded also writes the checkpoint again, in float32, with the numbers that the file's codes stand
for (as the package decodes them): both must come out the same.

Of the families it knows qwen3_moe and qwen3_5_moe. Tensors are renamed; those of Qwen3.5 are also
changed: norms hold 1 + w, ssm_a is -exp(A_log), value heads are tiled. Encoders are plain ones:
quality is not the point.
"""
import argparse
import json
import pathlib
import shutil
import struct

import numpy as np
from gguf import GGMLQuantizationType as Type
from gguf import GGUFWriter, TokenType, dequantize, quantize

WIDTH = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}


# ---- reading a checkpoint -----------------------------------------------------------------------


class Checkpoint:
    """Tensors of a folder's safetensors files, as float32."""

    def __init__(self, folder):
        self.where = {}
        for path in sorted(folder.glob("model*.safetensors")):
            data = np.memmap(path, np.uint8, "r")
            (size,) = struct.unpack("<Q", data[:8].tobytes())
            for name, entry in json.loads(data[8 : 8 + size].tobytes()).items():
                if name != "__metadata__":
                    self.where[name] = (data, 8 + size, entry)

    def __contains__(self, name):
        return name in self.where

    def __getitem__(self, name):
        data, start, entry = self.where[name]
        begin, end = entry["data_offsets"]
        raw = data[start + begin : start + end].tobytes()
        if entry["dtype"] == "BF16":
            flat = (np.frombuffer(raw, np.uint16).astype(np.uint32) << 16).view(np.float32)
        else:
            flat = np.frombuffer(raw, f"<f{WIDTH[entry['dtype']]}").astype(np.float32)
        return flat.reshape(entry["shape"])


class Places:
    """The same tensors, each number being its own place in the checkpoint: what a converter does to
    these says where every number of its output came from."""

    def __init__(self, model):
        self.model, self.begin, self.size = model, {}, 0
        for name, (_, _, entry) in model.where.items():
            self.begin[name] = self.size
            self.size += int(np.prod(entry["shape"], dtype=np.int64))

    def __contains__(self, name):
        return name in self.model

    def __getitem__(self, name):
        shape = self.model.where[name][2]["shape"]
        count = int(np.prod(shape, dtype=np.int64))
        begin = self.begin[name]
        return np.arange(begin, begin + count, dtype=np.float64).reshape(shape)


def write_checkpoint(folder, source, model, places, decoded):
    """The checkpoint in float32, with decoded {place in all numbers: number} in it."""
    folder.mkdir()
    header, data = {}, np.empty(places.size, "<f4")
    for name, (_, _, entry) in model.where.items():
        begin = places.begin[name]
        x = model[name]
        data[begin:begin + x.size] = x.reshape(-1)
        header[name] = {"dtype": "F32", "shape": entry["shape"],
                        "data_offsets": [4 * begin, 4 * (begin + x.size)]}
    for where, x in decoded:
        data[where] = x
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(folder / "model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.write(data.tobytes())
    for name in ("config.json", "tokenizer.json", "chat_template.jinja"):
        if (source / name).exists():
            shutil.copy(source / name, folder)


# ---- encoders that the package lacks ------------------------------------------------------------


def divide(a, b):
    return np.divide(a, b, out=np.zeros_like(a), where=b != 0)


def half(x):
    return x.astype(np.float16)


def q4_k(rows):
    x = rows.reshape(-1, 8, 32)
    low = np.minimum(x.min(2), 0)
    step = (x.max(2) - low) / 15
    d, dmin = half(step.max(1) / 63), half(-low.min(1) / 63)
    scale = np.rint(divide(step, d.astype(np.float32)[:, None].repeat(8, 1))).clip(0, 63)
    least = np.rint(divide(-low, dmin.astype(np.float32)[:, None].repeat(8, 1))).clip(0, 63)
    unit = (d.astype(np.float32)[:, None] * scale)[..., None]
    offset = (dmin.astype(np.float32)[:, None] * least)[..., None]
    q = np.rint(divide(x + offset, unit.repeat(32, 2))).clip(0, 15).astype(np.uint8)
    s, m = scale.astype(np.uint8), least.astype(np.uint8)
    packed = np.concatenate([s[:, :4] | (s[:, 4:] >> 4 << 6), m[:, :4] | (m[:, 4:] >> 4 << 6),
                             (s[:, 4:] & 15) | ((m[:, 4:] & 15) << 4)], 1)
    codes = (q[:, 0::2] | (q[:, 1::2] << 4)).reshape(-1, 128)
    halves = np.stack([d, dmin], 1).view(np.uint8)
    return np.concatenate([halves, packed, codes], 1)


def q6_k(rows):
    x = rows.reshape(-1, 16, 16)
    step = np.abs(x).max(2) / 31
    d = half(step.max(1) / 127)
    scale = np.rint(divide(step, d.astype(np.float32)[:, None].repeat(16, 1))).clip(0, 127)
    unit = (d.astype(np.float32)[:, None] * scale)[..., None].repeat(16, 2)
    q = (np.rint(divide(x, unit)).clip(-32, 31) + 32).astype(np.uint8).reshape(-1, 2, 4, 32)
    low = (q[:, :, :2] & 15) | ((q[:, :, 2:] & 15) << 4)
    high = sum((q[:, :, j] >> 4) << (2 * j) for j in range(4))
    return np.concatenate([low.reshape(-1, 128), high.reshape(-1, 64), scale.astype(np.uint8),
                           d[:, None].view(np.uint8)], 1)


OWN = {Type.Q4_K: (q4_k, 144), Type.Q6_K: (q6_k, 210)}
WEIGHTS = {Type.F32: 1, Type.F16: 1, Type.BF16: 1, Type.Q4_K: 256, Type.Q6_K: 256}


def fit(kind, cols):
    """The type itself, or one with smaller blocks where rows are no whole number of them."""
    return kind if cols % WEIGHTS.get(kind, 32) == 0 else Type.Q8_0 if cols % 32 == 0 else Type.F16


def encode(x, kind):
    if kind not in OWN:
        return quantize(np.ascontiguousarray(x), kind)
    encoder, size = OWN[kind]
    return encoder(x).reshape(*x.shape[:-1], x.shape[-1] // 256 * size)


# ---- names and numbers --------------------------------------------------------------------------

ATTENTION = {"attn_q": "q_proj", "attn_k": "k_proj", "attn_v": "v_proj", "attn_output": "o_proj"}
SHARED = {"ffn_gate_shexp": "gate_proj", "ffn_up_shexp": "up_proj", "ffn_down_shexp": "down_proj"}


class Converter:
    def __init__(self, folder, args):
        config = json.loads((folder / "config.json").read_text())
        self.config = config.get("text_config", config)
        self.folder, self.model, self.args = folder, Checkpoint(folder), args
        self.prefix = next(p for p in ("model.language_model.", "model.")
                           if p + "embed_tokens.weight" in self.model)
        self.hybrid = self.config["model_type"].startswith("qwen3_5_moe")
        self.drafts = 1 if self.hybrid and "mtp.fc.weight" in self.model else 0
        self.layers = self.config["num_hidden_layers"]
        self.experts = [Type[name] for name in (args.experts or args.type).split(",")]
        self.turn = 0
        self.places, self.where, self.decoded = None, [], []
        self.writer = GGUFWriter(args.out, "qwen35moe" if self.hybrid else "qwen3moe",
                                 split_max_tensors=args.split)

    # Tensors: a matrix is encoded, a vector is float32.
    def matrix(self, name, x, kind=None):
        kind = fit(Type[self.args.type] if kind is None else kind, x.shape[-1])
        if self.places:
            self.where.append(x.astype(np.int64).reshape(-1))
            return
        codes = encode(x, kind)
        self.writer.add_tensor(name, codes, raw_dtype=kind)
        if self.args.decoded:
            self.decoded.append(dequantize(codes, kind).astype(np.float32).reshape(-1))

    def vector(self, name, x):
        if self.places:
            return
        self.writer.add_tensor(name, np.ascontiguousarray(x, np.float32))

    def norm(self, name, x):
        self.vector(name, x + np.float32(1) if self.hybrid else x)

    def heads(self, x, width=1):
        """Tiled: head i holds head (i % nk)·R + i / nk."""
        nk, nv = self.config["linear_num_key_heads"], self.config["linear_num_value_heads"]
        order = [i % nk * (nv // nk) + i // nk for i in range(nv)]
        return x.reshape(nv, width, *x.shape[1:])[order].reshape(x.shape)

    def linear(self, block, source):
        c, take = self.config, lambda name: self.model[source + "linear_attn." + name]
        keys = 2 * c["linear_num_key_heads"] * c["linear_key_head_dim"]
        width = c["linear_value_head_dim"]
        tile = lambda x: np.concatenate([x[:keys], self.heads(x[keys:], width)])
        self.matrix(block + "attn_qkv.weight", tile(take("in_proj_qkv.weight")))
        self.matrix(block + "attn_gate.weight", self.heads(take("in_proj_z.weight"), width))
        self.matrix(block + "ssm_alpha.weight", self.heads(take("in_proj_a.weight")))
        self.matrix(block + "ssm_beta.weight", self.heads(take("in_proj_b.weight")))
        conv = take("conv1d.weight")
        self.vector(block + "ssm_conv1d.weight", tile(conv.reshape(conv.shape[0], -1)))
        self.vector(block + "ssm_a", -np.exp(self.heads(take("A_log"))))
        self.vector(block + "ssm_dt.bias", self.heads(take("dt_bias")))
        self.vector(block + "ssm_norm.weight", take("norm.weight"))
        self.matrix(block + "ssm_out.weight", self.heads(take("out_proj.weight").T, width).T)

    def attention(self, block, source):
        for name, theirs in ATTENTION.items():
            self.matrix(f"{block}{name}.weight", self.model[f"{source}self_attn.{theirs}.weight"])
        for name in ("q_norm", "k_norm"):
            self.norm(f"{block}attn_{name}.weight", self.model[f"{source}self_attn.{name}.weight"])

    def expert_stacks(self, source):
        if source + "mlp.experts.gate_up_proj" in self.model:
            both = self.model[source + "mlp.experts.gate_up_proj"]
            inner = both.shape[1] // 2
            return both[:, :inner], both[:, inner:], self.model[source + "mlp.experts.down_proj"]
        count = self.config.get("num_experts") or self.config["num_local_experts"]
        return [np.stack([self.model[f"{source}mlp.experts.{e}.{part}_proj.weight"]
                          for e in range(count)]) for part in ("gate", "up", "down")]

    def feed_forward(self, block, source):
        self.vector(block + "ffn_gate_inp.weight", self.model[source + "mlp.gate.weight"])
        for part, stack in zip(("gate", "up", "down"), self.expert_stacks(source)):
            kind = self.experts[self.turn % len(self.experts)]
            self.turn += 1
            self.matrix(f"{block}ffn_{part}_exps.weight", stack, kind)
        if not self.hybrid:
            return
        gate = self.model[source + "mlp.shared_expert_gate.weight"]
        self.vector(block + "ffn_gate_inp_shexp.weight", gate.reshape(-1))
        for name, theirs in SHARED.items():
            self.matrix(f"{block}{name}.weight",
                        self.model[f"{source}mlp.shared_expert.{theirs}.weight"])

    def layer(self, block, source):
        self.norm(block + "attn_norm.weight", self.model[source + "input_layernorm.weight"])
        second = "post_attention_norm" if self.hybrid else "ffn_norm"
        self.norm(f"{block}{second}.weight", self.model[source + "post_attention_layernorm.weight"])
        if source + "linear_attn.A_log" in self.model:
            self.linear(block, source)
        else:
            self.attention(block, source)
        self.feed_forward(block, source)

    def tensors(self):
        self.matrix("token_embd.weight", self.model[self.prefix + "embed_tokens.weight"])
        self.norm("output_norm.weight", self.model[self.prefix + "norm.weight"])
        if "lm_head.weight" in self.model:
            self.matrix("output.weight", self.model["lm_head.weight"])
        for i in range(self.layers):
            self.layer(f"blk.{i}.", f"{self.prefix}layers.{i}.")
        if self.drafts:
            block = f"blk.{self.layers}."
            self.matrix(block + "nextn.eh_proj.weight", self.model["mtp.fc.weight"])
            for name, theirs in {"enorm": "pre_fc_norm_embedding", "hnorm": "pre_fc_norm_hidden",
                                 "shared_head_norm": "norm"}.items():
                self.norm(f"{block}nextn.{name}.weight", self.model[f"mtp.{theirs}.weight"])
            self.layer(block, "mtp.layers.0.")

    def keys(self):
        c, w = self.config, self.writer
        rope = c.get("rope_parameters") or c
        w.add_name(self.folder.name)
        w.add_block_count(self.layers + self.drafts)
        w.add_context_length(c["max_position_embeddings"])
        w.add_embedding_length(c["hidden_size"])
        w.add_head_count(c["num_attention_heads"])
        w.add_head_count_kv(c["num_key_value_heads"])
        w.add_key_length(c["head_dim"])
        w.add_value_length(c["head_dim"])
        w.add_layer_norm_rms_eps(c["rms_norm_eps"])
        w.add_rope_freq_base(rope["rope_theta"])
        part = rope.get("partial_rotary_factor", 0.25 if self.hybrid else 1)
        w.add_rope_dimension_count(round(c["head_dim"] * part))
        w.add_expert_count(c.get("num_experts") or c["num_local_experts"])
        w.add_expert_used_count(c["num_experts_per_tok"])
        w.add_expert_feed_forward_length(c["moe_intermediate_size"])
        if self.hybrid:
            self.hybrid_keys()

    def hybrid_keys(self):
        c, w = self.config, self.writer
        w.add_expert_shared_feed_forward_length(c["shared_expert_intermediate_size"])
        w.add_ssm_conv_kernel(c["linear_conv_kernel_dim"])
        w.add_ssm_state_size(c["linear_key_head_dim"])
        w.add_ssm_group_count(c["linear_num_key_heads"])
        w.add_ssm_time_step_rank(c["linear_num_value_heads"])
        w.add_ssm_inner_size(c["linear_value_head_dim"] * c["linear_num_value_heads"])
        w.add_uint32("qwen35moe.full_attention_interval", c.get("full_attention_interval", 4))
        if self.drafts:
            w.add_uint32("qwen35moe.nextn_predict_layers", self.drafts)

    def tokenizer(self):
        path, w = self.folder / "tokenizer.json", self.writer
        if not path.exists():
            return
        text = path.read_text(encoding="utf-8")
        root = json.loads(text)
        by_id = {i: (token, TokenType.NORMAL) for token, i in root["model"]["vocab"].items()}
        for added in root["added_tokens"]:
            kind = TokenType.CONTROL if added["special"] else TokenType.USER_DEFINED
            by_id[added["id"]] = (added["content"], kind)
        count = self.model[self.prefix + "embed_tokens.weight"].shape[0]
        tokens = [by_id.get(i, (f"[PAD{i}]", TokenType.UNUSED)) for i in range(count)]
        w.add_tokenizer_model("gpt2")
        w.add_tokenizer_pre("qwen35" if "\\\\p{M}" in text else "qwen2")
        w.add_token_list([token for token, _ in tokens])
        w.add_token_types([kind for _, kind in tokens])
        merges = root["model"]["merges"]
        w.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in merges])
        w.add_add_bos_token(False)
        ids = {token: i for i, (token, _) in enumerate(tokens)}
        w.add_eos_token_id(ids["<|im_end|>"])
        w.add_pad_token_id(ids["<|endoftext|>"])
        self.sampling()
        template = self.folder / "chat_template.jinja"
        if template.exists():
            w.add_chat_template(template.read_text(encoding="utf-8"))

    def sampling(self):
        path = self.folder / "generation_config.json"
        how = json.loads(path.read_text()) if path.exists() else {}
        for key, name in {"temperature": "temp", "top_p": "top_p"}.items():
            if how.get("do_sample") and key in how:
                self.writer.add_float32(f"general.sampling.{name}", how[key])
        if how.get("do_sample") and "top_k" in how:
            self.writer.add_int32("general.sampling.top_k", how["top_k"])

    def write(self):
        self.keys()
        self.tokenizer()
        self.tensors()
        self.writer.write_header_to_file()
        self.writer.write_kv_data_to_file()
        self.writer.write_tensors_to_file()
        self.writer.close()
        if self.args.decoded:
            self.write_decoded()

    def write_decoded(self):
        """Once more over the tensors, this time to see where their numbers come from."""
        model = self.model
        self.model = self.places = Places(model)
        self.tensors()
        write_checkpoint(self.args.decoded, self.folder, model, self.places,
                         zip(self.where, self.decoded))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("model", type=pathlib.Path, help="a checkpoint folder")
    parser.add_argument("out", help="FILE.gguf; with --split, FILE-00001-of-0000N.gguf")
    parser.add_argument("--type", default="BF16", help="of matrices (F32, BF16, Q8_0, Q4_K, ...)")
    parser.add_argument("--experts", metavar="TYPES",
                        help="of the stacks of experts, which take these by turns")
    parser.add_argument("--split", type=int, default=0, metavar="N", help="tensors a part at most")
    parser.add_argument("--decoded", type=pathlib.Path, metavar="FOLDER",
                        help="also the checkpoint with the numbers that the codes stand for")
    args = parser.parse_args()
    Converter(args.model, args).write()


main()
