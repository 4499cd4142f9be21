#!/usr/bin/env python3
"""Writes small GGUF files with the Python package `gguf`: tensors for test_gguf, a vocabulary for
test_allocation.

    pip install gguf numpy
    tools/make_gguf_sample.py tests/data/gguf
"""
import sys

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter, quantize


def finish(writer):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def sample(path):
    writer = GGUFWriter(path, "qwen3moe")
    writer.add_name("sample")
    writer.add_expert_count(8)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_head_count_kv([2, 2])
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(["a", "b", "<|end|>"])
    writer.add_token_types([1, 1, 3])
    writer.add_add_bos_token(False)
    writer.add_tensor("output_norm.weight", np.arange(5, dtype=np.float32))
    stack = np.linspace(-1, 1, 2 * 3 * 32, dtype=np.float32).reshape(2, 3, 32)
    kind = GGMLQuantizationType.Q8_0
    writer.add_tensor("blk.0.ffn_down_exps.weight", quantize(stack, kind), raw_dtype=kind)
    finish(writer)


def vocabulary(path):
    """SentencePiece: its scores become merges."""
    pieces = [("<unk>", 2), ("<s>", 3), ("<|x|>", 4)]
    pieces += [(f"<0x{byte:02X}>", 6) for byte in range(256)]
    words = ["\u2581", "a", "c", "f", "e", "ca", "\u2581ca", "\u2581a", "fe"]
    pieces += [(text, 1) for text in words]
    writer = GGUFWriter(path, "llama")
    writer.add_tokenizer_model("llama")
    writer.add_token_list([text for text, _ in pieces])
    writer.add_token_scores([-float(i) for i in range(len(pieces))])
    writer.add_token_types([kind for _, kind in pieces])
    writer.add_bos_token_id(1)
    writer.add_unk_token_id(0)
    writer.add_add_bos_token(True)
    finish(writer)


sample(sys.argv[1] + "/sample.gguf")
vocabulary(sys.argv[1] + "/vocab.gguf")
