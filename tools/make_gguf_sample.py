#!/usr/bin/env python3
"""Writes a small GGUF file with the Python package `gguf`, for the test test_gguf.

    pip install gguf numpy
    tools/make_gguf_sample.py tests/data/gguf/sample.gguf
"""
import sys

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter, quantize


def main():
    writer = GGUFWriter(sys.argv[1], "qwen3moe")
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
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


main()
