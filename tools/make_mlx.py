#!/usr/bin/env python3
"""Writes a checkpoint as a folder of MLX, as mlx-lm lays it out, for tests of running such folders.

    pip install numpy
    tools/make_mlx.py models/demo /tmp/demo-4bit --bits 4 --group 64

Of the families it knows those whose experts are one tensor each, or gate_up_proj and down_proj:
qwen3_moe, qwen3_next, qwen3_5_moe, deepseek_v3, glm4_moe, mixtral, olmoe, minimax_m2. Per group
scale = (max - min) / (2^bits - 1) and bias = min: quality is not the point. What differs from the
checkpoint, besides: experts are stacks under switch_mlp, the convolution is [channels, 4, 1],
zero-centred norms hold 1 + w, drafting layers and vision towers are left out.
"""
import argparse
import json
import pathlib
import re
import shutil
import struct

import numpy as np

WIDTH = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
BESIDE = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja",
          "generation_config.json", "tiktoken.model")
SHIFTED = (".input_layernorm.weight", ".post_attention_layernorm.weight", "model.norm.weight",
           ".q_norm.weight", ".k_norm.weight")
EXPERT = re.compile(r"(.*)\.experts\.(\d+)\.(gate_proj|up_proj|down_proj|w1|w2|w3)\.weight")
PART = {"w1": "gate_proj", "w3": "up_proj", "w2": "down_proj"}
ROUTERS = (".mlp.gate.weight", ".shared_expert_gate.weight", ".block_sparse_moe.gate.weight")


# ---- files --------------------------------------------------------------------------------------


def read(folder):
    """Tensors of a folder's safetensors files as float32, by name."""
    tensors = {}
    for path in sorted(folder.glob("model*.safetensors")):
        data = np.memmap(path, np.uint8, "r")
        (size,) = struct.unpack("<Q", data[:8].tobytes())
        for name, entry in json.loads(data[8 : 8 + size].tobytes()).items():
            if name == "__metadata__":
                continue
            begin, end = entry["data_offsets"]
            raw = data[8 + size + begin : 8 + size + end].tobytes()
            if entry["dtype"] == "BF16":
                flat = (np.frombuffer(raw, np.uint16).astype(np.uint32) << 16).view(np.float32)
            else:
                flat = np.frombuffer(raw, f"<f{WIDTH[entry['dtype']]}").astype(np.float32)
            tensors[name] = flat.reshape(entry["shape"])
    return tensors


def bf16(x):
    """Rounded to nearest, ties to even; as 16 bits."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def encode_floats(x, kind):
    """(dtype of the format, bytes, what they are as float32)"""
    if kind == "F32":
        return kind, x.astype(np.float32).tobytes(), x
    if kind == "F16":
        return kind, x.astype(np.float16).tobytes(), x.astype(np.float16).astype(np.float32)
    half = bf16(x)
    return kind, half.tobytes(), (half.astype(np.uint32) << 16).view(np.float32).reshape(x.shape)


def write(folder, tensors, parts):
    """tensors: [(name, dtype, shape, bytes)], into `parts` files and an index."""
    where = {}
    for i in range(parts):
        mine = tensors[i::parts]
        header, at = {"__metadata__": {"format": "mlx"}}, 0
        for name, dtype, shape, data in mine:
            header[name] = {"dtype": dtype, "shape": list(shape),
                            "data_offsets": [at, at + len(data)]}
            at += len(data)
        file = f"model-{i + 1:05}-of-{parts:05}.safetensors" if parts > 1 else "model.safetensors"
        text = json.dumps(header, separators=(",", ":")).encode()
        with open(folder / file, "wb") as out:
            out.write(struct.pack("<Q", len(text)) + text)
            for _, _, _, data in mine:
                out.write(data)
        where.update({name: file for name, _, _, _ in mine})
    if parts > 1:
        index = {"metadata": {"total_size": sum(len(t[3]) for t in tensors)}, "weight_map": where}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=1))


# ---- quantising ---------------------------------------------------------------------------------


def pack(codes, bits):
    """uint8 [..., n] -> uint32 [..., n * bits / 32], the lowest bits first."""
    planes = np.unpackbits(codes[..., None], axis=-1, count=bits, bitorder="little")
    flat = planes.reshape(*codes.shape[:-1], codes.shape[-1] * bits)
    return np.packbits(flat, axis=-1, bitorder="little").view("<u4")


def quantise(x, bits, group, kind):
    """(words, scales, biases: each (dtype, shape, bytes); the weights that they stand for)"""
    g = x.reshape(*x.shape[:-1], -1, group)
    low, top = g.min(-1), 2**bits - 1
    step = (g.max(-1) - low) / top
    _, scale_bytes, scale = encode_floats(np.where(step > 0, step, 1).astype(np.float32), kind)
    _, bias_bytes, bias = encode_floats(low, kind)
    q = np.rint((g - bias[..., None]) / scale[..., None]).clip(0, top)
    back = (scale[..., None] * q.astype(np.float32) + bias[..., None]).astype(np.float32)
    words = pack(q.astype(np.uint8).reshape(x.shape), bits)
    return (("U32", words.shape, words.tobytes()), (kind, scale.shape, scale_bytes),
            (kind, bias.shape, bias_bytes), back.reshape(x.shape))


# ---- converting ---------------------------------------------------------------------------------


class Converter:
    def __init__(self, args):
        self.args = args
        self.config = json.loads((args.checkpoint / "config.json").read_text())
        text = self.config.get("text_config", self.config)
        self.hybrid = text["model_type"].startswith(("qwen3_next", "qwen3_5_moe"))
        self.bare_routers = text["model_type"] in ("deepseek_v3", "kimi_k2", "glm4_moe")
        self.layers = text["num_hidden_layers"]
        self.out, self.plain, self.overrides = [], [], {}

    def name(self, name):
        name = name.replace("model.language_model.", "model.", 1)
        return ("language_model." if self.args.prefix else "") + name

    def left_out(self, name):
        if name.startswith(("mtp.", "model.visual.", "visual.")):
            return True
        layer = re.search(r"\.layers\.(\d+)\.", name)
        return bool(layer) and int(layer[1]) >= self.layers

    def bits(self, name, x):
        """(bits, group); (0, 0): as it is."""
        path = name.removesuffix(".weight")
        for pattern, bits, group in self.args.override:
            if re.search(pattern, path):
                return bits, group
        if not self.args.bits or x.shape[-1] % self.args.group:
            return 0, 0
        if name.endswith(ROUTERS):
            return (0, 0) if self.bare_routers else (self.args.router_bits, self.args.group)
        return self.args.bits, self.args.group

    def add(self, name, x, bits, group):
        """Returns the weights as they are then. name: as in the folder, with .weight."""
        if not bits:
            dtype, data, x = encode_floats(x, self.args.floats)
            self.out.append((name, dtype, x.shape, data))
            return x
        stem = name.removesuffix(".weight")
        *planes, x = quantise(x, bits, group, self.args.scales)
        for tail, plane in zip((".weight", ".scales", ".biases"), planes):
            self.out.append((stem + tail, *plane))
        if (bits, group) != (self.args.bits, self.args.group):
            self.overrides[stem] = {"bits": bits, "group_size": group}
        return x

    def keep(self, name, x):
        """For --dequantised: the checkpoint's own layout, in float32."""
        self.plain.append((name, "F32", x.shape, np.ascontiguousarray(x, np.float32).tobytes()))

    def matrix(self, name, x):
        self.keep(name, self.add(self.name(name), x, *self.bits(name, x)))

    def stack(self, where, part, x):
        name = f"{where}.switch_mlp.{part}.weight"
        return self.add(self.name(name), x, *self.bits(name, x))

    def vector(self, name, x):
        kind = self.args.floats
        if name.endswith(".conv1d.weight"):
            dtype, data, seen = encode_floats(x, kind)
            self.out.append((self.name(name), dtype, (x.shape[0], x.shape[2], x.shape[1]), data))
        elif self.hybrid and name.endswith(SHIFTED):
            dtype, data, seen = encode_floats(x + np.float32(1), kind)
            self.out.append((self.name(name), dtype, x.shape, data))
            seen = seen - np.float32(1)
        else:
            kind = "F32" if name.endswith("A_log") else kind
            dtype, data, seen = encode_floats(x, kind)
            self.out.append((self.name(name), dtype, x.shape, data))
        self.keep(name, seen)

    def experts(self, tensors):
        """Stacks of all experts that are one tensor each, or fused; returns what was taken."""
        stacks, taken = {}, set()
        for name, x in tensors.items():
            found = EXPERT.fullmatch(name)
            if self.left_out(name):
                continue
            if found:
                part = PART.get(found[3], found[3])
                stacks.setdefault((found[1], part), {})[int(found[2])] = (name, x)
                taken.add(name)
            elif name.endswith(".mlp.experts.gate_up_proj"):
                where, inner = name.removesuffix(".experts.gate_up_proj"), x.shape[1] // 2
                both = [self.stack(where, part, np.ascontiguousarray(half)) for part, half in
                        (("gate_proj", x[:, :inner]), ("up_proj", x[:, inner:]))]
                self.keep(name, np.concatenate(both, 1))
                taken.add(name)
            elif name.endswith(".mlp.experts.down_proj"):
                where = name.removesuffix(".experts.down_proj")
                self.keep(name, self.stack(where, "down_proj", x))
                taken.add(name)
        for (where, part), experts in stacks.items():
            order = [experts[e] for e in range(len(experts))]
            seen = self.stack(where, part, np.stack([x for _, x in order]))
            for (name, _), x in zip(order, seen):
                self.keep(name, x)
        return taken

    def run(self):
        tensors = read(self.args.checkpoint)
        taken = self.experts(tensors)
        for name, x in tensors.items():
            if name in taken or self.left_out(name):
                continue
            if x.ndim == 2 and name.endswith(".weight"):
                self.matrix(name, x)
            else:
                self.vector(name, x)

    def save(self, folder, tensors, config):
        folder.mkdir(parents=True)
        write(folder, tensors, self.args.split)
        (folder / "config.json").write_text(json.dumps(config, indent=2))
        for name in BESIDE:
            if (self.args.checkpoint / name).exists():
                shutil.copy(self.args.checkpoint / name, folder / name)

    def save_all(self):
        config = dict(self.config)
        if self.args.bits:
            config["quantization"] = {"group_size": self.args.group, "bits": self.args.bits,
                                      "mode": "affine", **self.overrides}
            config["quantization_config"] = config["quantization"]
        self.save(self.args.out, self.out, config)
        if self.args.dequantised:
            self.save(self.args.dequantised, self.plain, self.config)


def override(text):
    pattern, bits, group = text.rsplit(":", 2)
    return pattern, int(bits), int(group)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path, help="a folder that is not there yet")
    parser.add_argument("--bits", type=int, default=4, choices=(0, 2, 3, 4, 5, 6, 8),
                        help="0: nothing is quantised")
    parser.add_argument("--group", type=int, default=64, choices=(32, 64, 128))
    parser.add_argument("--router-bits", type=int, default=8, choices=(0, 2, 3, 4, 5, 6, 8))
    parser.add_argument("--scales", default="BF16", choices=("BF16", "F16", "F32"))
    parser.add_argument("--floats", default="BF16", choices=("BF16", "F16", "F32"),
                        help="what is not quantised")
    parser.add_argument("--override", type=override, action="append", default=[],
                        metavar="REGEX:BITS:GROUP", help="of paths of modules; bits 0: as it is")
    parser.add_argument("--prefix", action="store_true", help='"language_model." before all names')
    parser.add_argument("--split", type=int, default=1, metavar="N", help="into N files")
    parser.add_argument("--dequantised", type=pathlib.Path, metavar="FOLDER",
                        help="writes the very same weights as a float32 checkpoint, too")
    converter = Converter(parser.parse_args())
    converter.run()
    converter.save_all()


if __name__ == "__main__":
    main()
