#!/usr/bin/env python3
"""Writes reference rows for the stages of the tokenizer: what the Python package `tokenizers` makes
of small tokenizers that differ in one stage, and what Python decodes of bytes that are not UTF-8.

    pip install tokenizers
    tools/make_tokenizer_stages.py tests/data/tokenizer/stage_rows.json

Every case is built on a vocabulary of the 256 byte tokens (id = byte) and the tokens in "extra".
"""
import argparse
import json
import random

from tokenizers import Tokenizer


def alphabet():
    same = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    out = {b: chr(b) for b in same}
    for b in range(256):
        if b not in out:
            out[b] = chr(0x100 + len(out) - len(same))
    return out


CHAR = alphabet()
BYTE = {c: b for b, c in CHAR.items()}


def spell(text):
    return "".join(CHAR[b] for b in text.encode())


def unspell(text):
    return bytes(BYTE[c] for c in text).decode()


def byte_level(space=False, regex=False):
    return {"type": "ByteLevel", "add_prefix_space": space, "trim_offsets": True,
            "use_regex": regex}


def split(pattern, behavior, invert=False, kind="Regex"):
    return {"type": "Split", "pattern": {kind: pattern}, "behavior": behavior, "invert": invert}


def sequence(*steps):
    return {"type": "Sequence", "pretokenizers": list(steps)}


def added(i, content, **flags):
    out = {"id": i, "content": content, "single_word": False, "lstrip": False, "rstrip": False,
           "normalized": False, "special": False}
    out.update(flags)
    return out


def build(case):
    vocab = {CHAR[b]: b for b in range(256)}
    for i, t in enumerate(case.get("extra", [])):
        vocab[spell(t)] = 256 + i
    model = {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
             "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False,
             "ignore_merges": case.get("ignore_merges", False), "vocab": vocab,
             "merges": [[spell(a), spell(b)] for a, b in case.get("merges", [])]}
    return Tokenizer.from_str(json.dumps({
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": case.get("added_tokens", []), "normalizer": case.get("normalizer"),
        "pre_tokenizer": case["pre_tokenizer"], "post_processor": case.get("post_processor"),
        "decoder": byte_level(), "model": model}))


def split_cases():
    texts = ["", "a", " ", "the-final--countdown", "--a-", "-", "--", "ab12cd345", "a1b", "123",
             "  two  spaces ", "x\n\ny", "aBcDE fG", "\u0663\u00b2\u2163x7", "\u4e2d\u6587ab",
             "e\u0301te\u0301", "a b-c 1-2", "\r\n-\t-", "don't IT'S", "a\u3000b\u200bc\u180ed"]
    out = []
    for behavior in ["Isolated", "Removed", "MergedWithPrevious", "MergedWithNext", "Contiguous"]:
        for invert in [False, True]:
            for kind, pattern in [("String", "-"), ("Regex", r"\p{N}|-"), ("Regex", r"\s+"),
                                  ("Regex", r"(?=[A-Z])")]:
                out.append(sequence(split(pattern, behavior, invert, kind), byte_level()))
    for pattern in [r"a{1,2}+", r"[\w]+", r"\W+", r"\bc", r"\B.", r"^.", r".$", r"[^\S\r\n]+",
                    r"[\p{L}&&[^\p{Han}]]+", r"[^\p{L}&&[^a]]", r"[a[0-9]]+", r"\p{Han}+",
                    r"\p{^Han}+", r"\P{L}+", r"\h+", r"(?i)AB|d", r"(?i:'s|'t)", r"(?m:.)+", r"x?",
                    r"[ -/]+", r"\p{Letter}+", r"[\d\s]+", r"(?<=-)[a-z]+", r"(?<!-)\w",
                    r"(?>a|ab)c?", r"\x{61}|\u0062", r"-{,2}", r"-{2}?", r"-{1,}?a", r"[\-\]\[^]"]:
        out.append(sequence(split(pattern, "Isolated"), byte_level()))
    for individual in [True, False]:
        out.append(sequence({"type": "Digits", "individual_digits": individual}, byte_level()))
    for space in [True, False]:
        out.append(byte_level(space, True))
        out.append(sequence(split("-", "Isolated", False, "String"), byte_level(space, False)))
        out.append(sequence({"type": "Digits", "individual_digits": True},
                            split(r"\s", "MergedWithNext"), byte_level(space, True)))
    out.append(sequence(split("", "Isolated", False, "String"), byte_level()))
    out.append(sequence(split("a.b", "Removed", False, "String"), byte_level()))
    cases = []
    for pre in out:
        case = {"pre_tokenizer": pre, "rows": []}
        pre_tokenizer = build(case).pre_tokenizer
        for t in texts:
            pieces = [unspell(p) for p, _ in pre_tokenizer.pre_tokenize_str(t)]
            case["rows"].append({"text": t, "pieces": pieces})
        cases.append(case)
    return cases


def id_cases():
    plain = byte_level()
    nfc = {"type": "NFC"}
    texts = ["", "<a>", "x<a>y", " <a> ", "  <a>\n<a>  b", "<ab>", "<<a>>", "<a><b><a>", "<a",
             "word<a>", "<a>word", "- <a> -", "\u00e9<a>\u4e2d", "_<a>", "1<a>", "\u200d<a>",
             "e\u0301", "x e\u0301 y", "\u00e9", "aaaa", "abcabc", "tab\t<a>\t", "\u3000<a>\u00a0",
             "<b> <a>", "<a> <b>", "<a><a>", "ab", "the the", "<c>e\u0301<c>"]
    cases = []
    for flags in [{}, {"lstrip": True}, {"rstrip": True}, {"lstrip": True, "rstrip": True},
                  {"single_word": True}, {"single_word": True, "lstrip": True}, {"special": True},
                  {"normalized": True}, {"normalized": True, "lstrip": True}]:
        cases.append({"pre_tokenizer": plain, "normalizer": nfc,
                      "added_tokens": [added(256, "<a>", **flags), added(257, "<b>")]})
    cases.append({"pre_tokenizer": plain, "normalizer": nfc,
                  "added_tokens": [added(256, "e\u0301", normalized=True), added(257, "<c>"),
                                   added(97, "a"), added(258, "aa"), added(259, "ab"),
                                   added(260, "abc"), added(60, "<"), added(261, "the ")]})
    cases.append({"pre_tokenizer": plain, "normalizer": {"type": "Sequence", "normalizers": [nfc]},
                  "added_tokens": [added(233, "\u00e9", normalized=True),
                                   added(256, "e\u0301"), added(257, "b>", normalized=True)]})
    merges = [["a", "b"], ["b", "c"], ["a", "a"], ["ab", "c"], ["aa", "a"], ["t", "h"], ["th", "e"]]
    extra = ["ab", "bc", "aa", "abc", "aaa", "th", "the", "e the", "x<a>y"]
    for ignore in [False, True]:
        cases.append({"pre_tokenizer": plain, "merges": merges, "extra": extra,
                      "ignore_merges": ignore})
    cases.append({"pre_tokenizer": plain, "merges": [["a", "b"], ["b", "c"], ["a", "b"]],
                  "extra": ["ab", "bc"]})
    special = {"<s>": {"id": "<s>", "ids": [256], "tokens": ["<s>"]},
               "</s>": {"id": "</s>", "ids": [257], "tokens": ["</s>"]}}
    item = [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
            {"SpecialToken": {"id": "</s>", "type_id": 0}}]
    template = {"type": "TemplateProcessing", "single": item, "pair": item + [
        {"Sequence": {"id": "B", "type_id": 1}}], "special_tokens": special}
    for post in [template, {"type": "Sequence", "processors": [byte_level(), template]}]:
        cases.append({"pre_tokenizer": plain, "post_processor": post,
                      "added_tokens": [added(256, "<s>", special=True),
                                       added(257, "</s>", special=True)]})
    for case in cases:
        tokenizer = build(case)
        case["rows"] = []
        for t in texts:
            ids = tokenizer.encode(t).ids
            case["rows"].append({"text": t, "ids": ids})
    return cases


def decode_rows():
    rng = random.Random(3)
    parts = [b"a", b"\xe2\x82\xac", b"\xf0\x9f\x98\x80", b"\xc3\xa9", b"\xe2\x82", b"\xe2", b"\xf0",
             b"\xf0\x9f", b"\xf0\x9f\x98", b"\x80", b"\xbf", b"\xc0\x80", b"\xc1", b"\xf5", b"\xff",
             b"\xed\xa0\x80", b"\xed\x9f\xbf", b"\xe0\x80\x80", b"\xe0\xa0\x80",
             b"\xf0\x80\x80\x80",
             b"\xf4\x90\x80\x80", b"\xf4\x8f\xbf\xbf", b"\x00", b"\xef\xbf\xbd"]
    rows = []
    for n in [0, 1, 1, 2, 2, 2, 3, 4, 6] * 18:
        data = b"".join(rng.choice(parts) for _ in range(n))
        rows.append({"bytes": list(data), "text": data.decode("utf-8", errors="replace")})
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out")
    args = parser.parse_args()
    cases = [json.dumps(c, separators=(",", ":")) for c in split_cases() + id_cases()]
    rows = json.dumps(decode_rows(), separators=(",", ":"))
    with open(args.out, "w") as f:
        f.write('{"cases":[\n' + ",\n".join(cases) + '\n],"decode":' + rows + "}\n")


if __name__ == "__main__":
    main()
