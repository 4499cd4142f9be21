#!/usr/bin/env python3
"""Prints the relative error of the encoders of the Python package gguf on normal numbers.

    compare_encoders.py [FLOATS]

FLOATS: a file of float32 numbers, a multiple of 256 of them, instead of the normal ones.
docs/internals/quant.md has the figures beside those of our encoders; where the package or numpy is
not installed, the script says so and ends well.
"""
import sys

try:
    import numpy
    from gguf import GGMLQuantizationType, quants
except ImportError as error:
    print(f"skipped: {error}")
    sys.exit(0)


def main():
    if len(sys.argv) > 1:
        x = numpy.fromfile(sys.argv[1], dtype="f4")
    else:
        x = 0.02 * numpy.random.default_rng(1).standard_normal(1 << 19).astype("f4")
    x = x.reshape(-1, 256)
    size = (x.astype("f8") ** 2).sum()
    for name in ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "MXFP4"):
        kind = GGMLQuantizationType[name]
        try:
            back = quants.dequantize(quants.quantize(x, kind), kind)
        except NotImplementedError:
            continue
        error = ((x.astype("f8") - back) ** 2).sum()
        print(f"{name.lower():8} {100 * (error / size) ** 0.5:.4f} %")


main()
