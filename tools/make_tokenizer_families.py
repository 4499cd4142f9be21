#!/usr/bin/env python3
"""Writes small tokenizers of the kinds that real models have, with what the Python packages
`tokenizers` and `tiktoken` make of 300 texts: their ids, and the texts that ids decode to.

    pip install tokenizers tiktoken
    tools/make_tokenizer_families.py tests/data/tokenizer/families TEXT...

TEXT are files of plain English to train on, besides the lines below. Only code points that Python's
own Unicode data knows are used, so that the Unicode version of a library does not decide a result.
"""
import argparse
import base64
import json
import os
import random
import unicodedata

import tiktoken
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

LINES = """
The quick brown fox jumps over the lazy dog, and then it doesn't; it's 12:45 on 2024-05-17.
def main(args):\n    for i in range(1024):\n        print(f"{i:04d} = {i ** 2}")\n    return None
Der Fluß führt über Äcker und Höfe; die Straße ist naß. Où est l'élève? Là-bas, près du café.
Съешь же ещё этих мягких французских булок, да выпей чаю. Ξεσκεπάζω την ψυχοφθόρα βδελυγμία.
我能吞下玻璃而不伤身体。人人生而自由，在尊严和权利上一律平等。いろはにほへと ちりぬるを カタカナ
다람쥐 헌 쳇바퀴에 타고파. नमस्ते दुनिया, यह एक परीक्षण है। สวัสดีชาวโลก مرحبا بالعالم שלום עולם
Tiếng Việt có dấu. Zażółć gęślą jaźń. Příliš žluťoučký kůň úpěl ďábelské ódy. İstanbul ıssız
😀😃🚀👍🏽👩‍🚀🇩🇪 → ← ∑ ∫ √ ≠ ½ ² № ™ © € £ ¥ “quoted” ‘single’ — – … · • « »
""".strip().split("\n")
WORDS = " ".join(LINES).split(" ")
BITS = ["'s", "'T", "'LL", "don't", "DON'T", "e\u0301", "A\u030a", "\u1100\u1161\u11a8", "\u0e33",
        "\u212b", "\ufb01", "\u2460", "\uff21\uff22", "\ufdfa", "q\u0307\u0323", "x=1234", "://",
        "12", "3456789", "\u0661\u0662", "\u2163", "\u00bd", "HTTPServer", "iPhone's", "\u0130",
        "\U0001f469\u200d\U0001f680", "\U0001f1e9\U0001f1ea", "\u2581", "\u2581a", "<0x41>",
        "<0xE4>", "<0xe4>", "<unk>", "<s>", "</s>", "<mask>", "<|im_end|>", "<|im_start|>",
        "<think>", "</think>", "<|endoftext|>", "<|im_end", "[BOS]", "[EOS]", "\ufffd", "\u200b",
        "($", "...", "!!", "--", "`~", "\u3007", "\u4e00\u4e8c", "\u30ab\u30bf", "\x00", "\x1f",
        "\x7f", "\u0085", "\U0001d15e", "\U00020000", "\u00df", "\u1e9e", "\u03a3\u03c2"]
SPACES = [" ", " ", "  ", "   ", "        ", "\t", "\n", "\r\n", "\n\n", " \n", "\n \n", "\u00a0",
          "\u2003", "\u3000", "\u180e", "\u2028", "\v"]
BLOCKS = [(0x20, 0x7E), (0x20, 0x7E), (0x01, 0x1F), (0xA0, 0xFF), (0x100, 0x24F), (0x300, 0x36F),
          (0x370, 0x3FF), (0x400, 0x4FF), (0x5D0, 0x5EA), (0x620, 0x64A), (0x900, 0x97F),
          (0xE00, 0xE3A), (0x1100, 0x11FF), (0x1E00, 0x1EFF), (0x2010, 0x205E), (0x2190, 0x21FF),
          (0x3041, 0x30FF), (0x4E00, 0x9FA5), (0xAC00, 0xD7A3), (0xFF01, 0xFF5E),
          (0x1F300, 0x1F64F)]

MARK = "\u2581"
CONTRACTION = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
END = r"|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN = CONTRACTION + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*" + END
UPPER, LOWER = r"\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}", r"\p{Ll}\p{Lm}\p{Lo}\p{M}"


def cased(a, b, slash):
    return (rf"[^\r\n\p{{L}}\p{{N}}]?{a}*{b}+{CONTRACTION}?|"
            rf"[^\r\n\p{{L}}\p{{N}}]?{a}+{b}*{CONTRACTION}?|"
            rf"\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n{slash}]*" + END)


O200K = cased(f"[{UPPER}]", f"[{LOWER}]", "/")
KIMI = r"[\p{Han}]+|" + cased(f"[{UPPER}&&[^\\p{{Han}}]]", f"[{LOWER}&&[^\\p{{Han}}]]", "")
DEEPSEEK = [r"\p{N}{1,3}", "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+",
            r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
            r"| ?[\p{P}\p{S}]+[\r\n]*" + END]


def texts(rng):
    """300 texts, awkward in every way; the first ones by hand."""
    out = ["", " ", "  ", "a", " a", "a ", "\n", "Hello, world!", MARK, MARK + MARK + " a",
           "<s>", "<s> a", " <s>a", "a<s>", "\u4e2d", "\u4e2d\u6587 ab", "\U0001f600" * 3,
           "<0x41>", "a  b   c    d", "\t\tx\r\n\r\ny", "e\u0301te\u0301 \u00e9t\u00e9"]
    while len(out) < 300:
        parts = []
        for _ in range(rng.choice([1, 2, 3, 4, 6, 9])):
            kind = rng.random()
            if kind < 0.4:
                parts.append(rng.choice(WORDS) + rng.choice(["", " ", " "]))
            elif kind < 0.55:
                parts.append(rng.choice(SPACES))
            elif kind < 0.8:
                parts.append(rng.choice(BITS) + rng.choice(["", " "]))
            else:
                low, high = rng.choice(BLOCKS)
                chars = [chr(rng.randint(low, high)) for _ in range(rng.randint(1, 3))]
                parts += [c for c in chars if unicodedata.category(c) not in ("Cn", "Cs")]
        out.append("".join(parts))
    return out


# ---- training ------------------------------------------------------------------------------------

def train(corpus, pre, size, reserved=(), alphabet=(), limit=None):
    """A vocabulary that begins with the reserved tokens, and its merges."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre
    tokenizer.train_from_iterator(corpus, trainers.BpeTrainer(
        vocab_size=size, special_tokens=list(reserved), initial_alphabet=list(alphabet),
        show_progress=False, **({"limit_alphabet": limit} if limit else {})))
    model = json.loads(tokenizer.to_str())["model"]
    return model["vocab"], model["merges"]


def split(pattern, behavior="Isolated", kind="Regex", invert=False):
    return {"type": "Split", "pattern": {kind: pattern}, "behavior": behavior, "invert": invert}


def byte_level(regex=False):
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True,
            "use_regex": regex}


def steps(*list_):
    return {"type": "Sequence", "pretokenizers": list(list_)}


def as_object(pre):
    """A pre-tokenizer from its JSON."""
    vocab = {"a": 0}
    return Tokenizer.from_str(json.dumps({
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": [],
        "normalizer": None, "pre_tokenizer": pre, "post_processor": None, "decoder": None,
        "model": {"type": "BPE", "vocab": vocab, "merges": []}})).pre_tokenizer


def added(i, content, **flags):
    out = {"id": i, "content": content, "single_word": False, "lstrip": False, "rstrip": False,
           "normalized": False, "special": True}
    out.update(flags)
    return out


def template(name, i):
    return {"type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": name, "type_id": 0}},
                       {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}},
                     {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {name: {"id": name, "ids": [i], "tokens": [name]}}}


def tokenizer_json(vocab, merges, pairs=True, **parts):
    model = {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
             "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False,
             "ignore_merges": False, "vocab": vocab,
             "merges": merges if pairs else [" ".join(m) for m in merges]}
    model.update(parts.pop("model", {}))
    root = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [],
            "normalizer": None, "pre_tokenizer": None, "post_processor": None, "decoder": None}
    root.update(parts)
    root["model"] = model
    return root


# ---- kinds ---------------------------------------------------------------------------------------

def byte_kinds(corpus):
    letters = pre_tokenizers.ByteLevel.alphabet()

    def trained(pre):
        return train(corpus, as_object(pre), 560, alphabet=letters)

    pre = steps(split(QWEN), byte_level())
    vocab, merges = trained(pre)
    n = len(vocab)
    yield "qwen", tokenizer_json(
        vocab, merges, normalizer={"type": "NFC"}, pre_tokenizer=pre, decoder=byte_level(),
        post_processor=byte_level(), added_tokens=[
            added(n, "<|endoftext|>"), added(n + 1, "<|im_start|>"), added(n + 2, "<|im_end|>"),
            added(n + 3, "<think>", special=False), added(n + 4, "</think>", special=False)])

    pre = steps(split(O200K, "Removed", invert=True), byte_level())
    vocab, merges = trained(pre)
    n = len(vocab)
    for i, word in enumerate([" FluB", "\u4e00\u4e8c", "Server"]):  # no merge leads to these
        vocab["".join(p for p, _ in pre_tokenizers.ByteLevel(
            add_prefix_space=False, use_regex=False).pre_tokenize_str(word))] = n + i
    n = len(vocab)
    yield "o200k", tokenizer_json(
        vocab, merges, pre_tokenizer=pre, decoder=byte_level(), model={"ignore_merges": True},
        added_tokens=[added(n, "<|endoftext|>"), added(n + 1, "<|im_end|>")])

    pre = steps(*[split(p) for p in DEEPSEEK], byte_level())
    vocab, merges = trained(pre)
    n = len(vocab)
    bos = "<\uff5cbegin\u2581of\u2581sentence\uff5c>"
    yield "deepseek", tokenizer_json(
        vocab, merges, pairs=False, pre_tokenizer=pre, decoder=byte_level(),
        normalizer={"type": "Sequence", "normalizers": []}, post_processor=template(bos, n),
        added_tokens=[added(n, bos), added(n + 1, "<think>", special=False, normalized=True)])

    pre = byte_level(True)
    vocab, merges = trained(pre)
    n = len(vocab)
    runs = [added(n + 1 + i, " " * (8 - i), special=False, normalized=True) for i in range(7)]
    yield "neox", tokenizer_json(
        vocab, merges, pairs=False, normalizer={"type": "NFC"}, pre_tokenizer=pre,
        decoder=byte_level(), added_tokens=[added(n, "<|endoftext|>")] + runs)


def text_kinds(corpus):
    names = [f"<0x{b:02X}>" for b in range(256)]
    marks = as_object({"type": "Metaspace", "replacement": MARK, "prepend_scheme": "always",
                       "split": True})
    vocab, merges = train(corpus, marks, 700, ["<unk>", "<s>", "</s>"] + names, [MARK], 110)
    specials = [added(0, "<unk>"), added(1, "<s>"), added(2, "</s>")]
    back = {"type": "Sequence", "decoders": [
        {"type": "Replace", "pattern": {"String": MARK}, "content": " "}, {"type": "ByteFallback"},
        {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]}
    full = {"unk_token": "<unk>", "fuse_unk": True, "byte_fallback": True}
    space = {"type": "Replace", "pattern": {"String": " "}, "content": MARK}
    yield "mixtral", tokenizer_json(
        vocab, merges, pairs=False, model=full, added_tokens=specials, decoder=back,
        post_processor=template("<s>", 1), normalizer={"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": MARK}, space]})
    yield "llama", tokenizer_json(
        vocab, merges, model=full, added_tokens=specials, decoder=back,
        post_processor=template("<s>", 1),
        pre_tokenizer={"type": "Metaspace", "replacement": MARK, "prepend_scheme": "first",
                       "split": False})

    some = {t: i for t, i in vocab.items() if t not in names or int(t[3:5], 16) % 16 != 4}
    some = {t: i for i, t in enumerate(sorted(some, key=some.get))}
    holes = {"unk_token": "<unk>", "fuse_unk": False, "byte_fallback": True}
    yield "holes", tokenizer_json(
        some, merges, model=holes, decoder=back, added_tokens=specials,
        normalizer=space, pre_tokenizer={"type": "Metaspace", "replacement": MARK,
                                         "add_prefix_space": True})

    vocab, merges = train(corpus, marks, 420, ["<unk>", "<s>", "</s>", "<mask>"], [MARK], 110)
    meta = {"type": "Metaspace", "replacement": MARK, "prepend_scheme": "always", "split": True}
    yield "metaspace", tokenizer_json(
        vocab, merges, model={"unk_token": "<unk>"}, normalizer={"type": "NFKC"},
        pre_tokenizer=steps({"type": "WhitespaceSplit"}, meta), decoder=meta,
        added_tokens=specials + [added(3, "<mask>", lstrip=True, normalized=True)])

    pre = steps({"type": "WhitespaceSplit"}, {"type": "Digits", "individual_digits": True})
    vocab, merges = train([line.lower() for line in corpus], as_object(pre), 420,
                          ["<unk>", "<s>"], [], 110)
    yield "words", tokenizer_json(
        vocab, merges, model={"unk_token": "<unk>", "fuse_unk": True}, pre_tokenizer=pre,
        normalizer={"type": "Sequence", "normalizers": [
            {"type": "Strip", "strip_left": True, "strip_right": True}, {"type": "NFD"},
            {"type": "StripAccents"}, {"type": "Lowercase"},
            {"type": "Replace", "pattern": {"Regex": r"\p{Han}+|\.{2,}"}, "content": " # "}]},
        added_tokens=specials[:2])
    yield "punctuation", tokenizer_json(
        vocab, merges, model={"unk_token": "<unk>"}, normalizer={"type": "NFKD"},
        pre_tokenizer=steps({"type": "Whitespace"},
                            {"type": "Punctuation", "behavior": "MergedWithPrevious"},
                            {"type": "Digits", "individual_digits": False}),
        decoder={"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "th"}, "content": "TH"},
            {"type": "Strip", "content": "e", "start": 0, "stop": 1}, {"type": "Fuse"},
            {"type": "Strip", "content": "t", "start": 1, "stop": 0}]},
        added_tokens=specials[:2])


def ranks_kinds(corpus):
    """tiktoken files: name of the file, regex, token -> rank, special tokens."""
    letters = pre_tokenizers.ByteLevel.alphabet()
    of_char = {}
    for byte in range(256):
        same = 0x21 <= byte <= 0x7E or 0xA1 <= byte <= 0xAC or byte >= 0xAE
        of_char[chr(byte if same else 0x100 + len([c for c in of_char if ord(c) > 0xFF]))] = byte
    rng = random.Random(5)
    for name, regex, special in [("tiktoken.model", KIMI, ["[BOS]", "[EOS]", "<|im_end|>"]),
                                 ("o200k_small.tiktoken", O200K, [])]:
        vocab, _ = train(corpus, as_object(steps(split(regex), byte_level())), 560,
                         alphabet=letters)
        tokens = [bytes(of_char[c] for c in t) for t in sorted(vocab, key=vocab.get)]
        # Some that no merge leads to, and the last ones in an order that was not trained.
        tokens += [b" over the", "\u4e00\u4e8c\u4e09".encode(), b"Serv", b"xyz", b"e the"]
        tail = tokens[400:]
        rng.shuffle(tail)
        tokens[400:] = tail
        ranks = {t: i + (3 if i >= 256 else 0) for i, t in enumerate(tokens)}
        end = len(tokens) + 10
        yield name, regex, ranks, {s: end + 2 * i for i, s in enumerate(special)}


# ---- rows ----------------------------------------------------------------------------------------

def random_ids(rng, count, favoured):
    """Ids that no text encodes to."""
    rows = []
    for _ in range(40):
        n = rng.choice([1, 2, 3, 5, 9])
        rows.append([rng.choice(favoured) if favoured and rng.random() < 0.6
                     else rng.randrange(count) for _ in range(n)])
    return rows


def write(path, head, ids, decoded, decode, all_texts):
    """One row a line; a decoded text only where it is not the text itself."""
    lines = [json.dumps(k)[0:] + ":" + json.dumps(v, ensure_ascii=False, separators=(",", ":"))
             for k, v in head.items()]
    lines.append('"ids":[\n' + ",\n".join(json.dumps(r, separators=(",", ":")) for r in ids) + "]")
    other = {str(i): d for i, d in enumerate(decoded) if d != all_texts[i]}
    lines.append('"decoded":' + json.dumps(other, ensure_ascii=False, separators=(",", ":")))
    lines.append('"decode":[\n' + ",\n".join(
        json.dumps(r, ensure_ascii=False, separators=(",", ":")) for r in decode) + "]")
    with open(path, "w", encoding="utf-8") as f:
        f.write("{" + ",\n".join(lines) + "}\n")


def write_json_kind(folder, name, root, all_texts):
    tokenizer = Tokenizer.from_str(json.dumps(root))
    ids = [tokenizer.encode(t).ids for t in all_texts]
    bare = [tokenizer.encode(t, add_special_tokens=False).ids for t in all_texts]
    decoded = [tokenizer.decode(r, skip_special_tokens=False) for r in ids]
    vocab = root["model"]["vocab"]
    favoured = [i for t, i in vocab.items() if t.startswith("<0x") or t in (MARK, "<s>", "t", "e")]
    count = max([*vocab.values(), *[a["id"] for a in root["added_tokens"]]]) + 1
    decode = []
    for k, row in enumerate(random_ids(random.Random(9), count, favoured)):
        skip = k % 2 == 1
        decode.append([row, skip, tokenizer.decode(row, skip_special_tokens=skip)])
    head = {"tokenizer": root, "wrap": len(ids[0]) - len(bare[0])}
    write(os.path.join(folder, name + ".json"), head, ids, decoded, decode, all_texts)


def write_ranks_kind(folder, name, regex, ranks, special, all_texts):
    encoding = tiktoken.Encoding(name, pat_str=regex, mergeable_ranks=ranks, special_tokens=special)
    ids = [encoding.encode(t, allowed_special="all") for t in all_texts]
    decoded = [encoding.decode(r) for r in ids]
    known = list(ranks.values()) + list(special.values())
    rng = random.Random(9)
    rows = [[rng.choice(known) for _ in range(rng.choice([1, 2, 5]))] for _ in range(40)]
    lines = "".join(f"{base64.b64encode(t).decode()} {r}\n" for t, r in ranks.items())
    head = {"file": name, "lines": lines, "wrap": 0}
    if special:
        head["config"] = {"added_tokens_decoder": {
            str(i): {"content": s, "lstrip": False, "normalized": False, "rstrip": False,
                     "single_word": False, "special": True} for s, i in special.items()}}
    decode = [[r, False, encoding.decode(r)] for r in rows]
    write(os.path.join(folder, name.split(".")[0] + ".json"), head, ids, decoded, decode, all_texts)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder")
    parser.add_argument("text", nargs="+")
    args = parser.parse_args()
    os.makedirs(args.folder, exist_ok=True)
    corpus = LINES * 20
    for path in args.text:
        with open(path, encoding="utf-8") as f:
            corpus += f.read()[:60000].split("\n\n")
    all_texts = texts(random.Random(1))
    with open(os.path.join(args.folder, "texts.json"), "w", encoding="utf-8") as f:
        f.write("[\n" + ",\n".join(json.dumps(t, ensure_ascii=False) for t in all_texts) + "]\n")
    for name, root in [*byte_kinds(corpus), *text_kinds(corpus)]:
        write_json_kind(args.folder, name, root, all_texts)
    for name, regex, ranks, special in ranks_kinds(corpus):
        write_ranks_kind(args.folder, name, regex, ranks, special, all_texts)


if __name__ == "__main__":
    main()
