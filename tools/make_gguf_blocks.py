#!/usr/bin/env python3
"""Writes blocks of every GGUF type that Sluice computes with, and the floats that the Python
package `gguf` makes of them, for the test test_gguf_blocks.

    pip install gguf numpy
    tools/make_gguf_blocks.py 8 tests/data/gguf_blocks/sample.bin
    tools/make_gguf_blocks.py 10000 blocks.bin
    SLUICE_GGUF_BLOCKS=$PWD/blocks.bin ctest --test-dir build/release -R gguf_blocks

A file is a record a type: its name (16 bytes, zeros at the end), the number of blocks, the bytes
and the weights of a block (32 bits each, little-endian), the blocks, the weights as float32. Blocks
are random bytes. In three of four the halves are replaced by finite ones of a middling size; the
others hold infinities, NaN and subnormals where chance puts them.
"""
import argparse
import struct

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType as Type, dequantize

# Where the halves of a block lie.
HALVES = {
    "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "IQ4_NL": [0],
    "MXFP4": [], "NVFP4": [], "Q2_K": [80, 82], "Q3_K": [108], "Q4_K": [0, 2], "Q5_K": [0, 2],
    "Q6_K": [208], "IQ4_XS": [0], "IQ2_XXS": [0], "IQ2_XS": [0], "IQ2_S": [0], "IQ3_XXS": [0],
    "IQ3_S": [0],
}
NAMES = {"MXFP4": "mxfp4_block"}


def record(name, count, rng):
    kind = Type[name]
    weights, size = GGML_QUANT_SIZES[kind]
    blocks = rng.integers(0, 256, (count, size), dtype=np.uint8)
    for at in HALVES[name]:
        half = rng.normal(0, 0.1, (count, 1)).astype("<f2").view(np.uint8)
        tame = np.arange(count) % 4 != 3
        blocks[tame, at:at + 2] = half[tame]
    with np.errstate(all="ignore"):
        floats = dequantize(blocks, kind).astype("<f4")
    assert floats.shape == (count, weights), name
    head = struct.pack("<16sIII", NAMES.get(name, name.lower()).encode(), count, size, weights)
    return head + blocks.tobytes() + floats.tobytes()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("blocks", type=int, help="blocks of each type")
    parser.add_argument("output")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    rng = np.random.default_rng(args.seed)
    with open(args.output, "wb") as file:
        for name in HALVES:
            file.write(record(name, args.blocks, rng))


main()
