#!/usr/bin/env python3
"""Writes reference rows for the tokenizer test: awkward random texts with the ids and the decoded
text that the Python package `tokenizers` gives for them.

    pip install tokenizers
    cd tests/data/tokenizer && ../../../tools/make_tokenizer_rows.py demo.json random_rows.json

Only code points that Python's own Unicode data knows are used, so that the Unicode version of a
library does not decide the result.
"""
import argparse
import json
import random
import unicodedata

from tokenizers import Tokenizer

BLOCKS = [
    (0x20, 0x7E, 30), (0x00, 0x1F, 3), (0x7F, 0xFF, 6), (0x100, 0x24F, 4), (0x300, 0x36F, 8),
    (0x370, 0x3FF, 3), (0x400, 0x4FF, 3), (0x590, 0x5FF, 3), (0x600, 0x6FF, 3), (0x900, 0x97F, 4),
    (0xE00, 0xE7F, 4), (0x1100, 0x11FF, 4), (0x1E00, 0x1FFF, 4), (0x2000, 0x206F, 6),
    (0x2070, 0x218F, 3), (0x2460, 0x24FF, 2), (0x3000, 0x30FF, 5), (0x3400, 0x9FFF, 4),
    (0xA000, 0xA4CF, 1), (0xAC00, 0xD7A3, 4), (0xF900, 0xFAFF, 3), (0xFB00, 0xFB4F, 2),
    (0xFF00, 0xFFEF, 2), (0x1D15E, 0x1D1FF, 3), (0x1F100, 0x1F6FF, 4), (0x20000, 0x2A6DF, 2),
    (0x2F800, 0x2FA1D, 3), (0xE0100, 0xE01EF, 1),
]
SPACES = [" ", "  ", "\t", "\n", "\r\n", "\n\n", " \n", "\u0085", "\u00a0", "\u1680", "\u180e",
          "\u2003", "\u200b", "\u2028", "\u2029", "\u202f", "\u205f", "\u3000", "\ufeff", "\v"]
BITS = ["'s", "'T", "'\u017f", "'LL", "'re", "don't", "e\u0301", "A\u030a", "\u1100\u1161\u11a8",
        "\u0e33", "\u212b", "\u2126", "\u0344", "q\u0307\u0323", "x=1234", "://", "<think>",
        "</think>", "<|im_end|>", "<|im_end|", "<|endoftext|><|im_start|>", "<<think>>", "12",
        "\u0661\u0662", "\u2163", "\u00bd", "the", " the", "ing", "\U0001f469\u200d\U0001f680"]


def known(c):
    return unicodedata.category(chr(c)) not in ("Cn", "Cs")


def text(rng):
    out = []
    for _ in range(rng.choice([1, 2, 3, 5, 8, 13, 24])):
        kind = rng.random()
        if kind < 0.2:
            out.append(rng.choice(SPACES))
        elif kind < 0.45:
            out.append(rng.choice(BITS))
        elif kind < 0.5:
            out.append(rng.choice(" \n\ta") * rng.randint(2, 9))
        else:
            low, high, _ = rng.choices(BLOCKS, [b[2] for b in BLOCKS])[0]
            for _ in range(rng.randint(1, 4)):
                c = rng.randint(low, high)
                if known(c):
                    out.append(chr(c))
    return "".join(out)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("tokenizer")
    parser.add_argument("out")
    parser.add_argument("--rows", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    tokenizer = Tokenizer.from_file(args.tokenizer)
    rng = random.Random(args.seed)
    rows = []
    while len(rows) < args.rows:
        t = text(rng)
        ids = tokenizer.encode(t, add_special_tokens=True).ids
        rows.append({"text": t, "ids": ids,
                     "decoded": tokenizer.decode(ids, skip_special_tokens=False)})
    with open(args.out, "w") as f:
        f.write("[\n" + ",\n".join(json.dumps(r, separators=(",", ":")) for r in rows) + "\n]\n")


if __name__ == "__main__":
    main()
