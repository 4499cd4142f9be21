#!/usr/bin/env python3
"""Prints the sizes table of docs/MODELS.md: what published models hold, from their shapes alone.

A weight of q8 and q4 costs 8.5 and 4.5 bits. "Resident" is everything but the routed experts:
matrices at the width named, norms and routers (counted with 16 bits) as they are; the embedding
is given apart, since it may stay on the disk. KV is float32, as the engine keeps it.
"""
from dataclasses import dataclass


@dataclass
class Shape:
    name: str
    family: str
    vocab: int
    hidden: int
    layers: int
    experts: int
    top_k: int
    inner: int
    # What a layer holds besides its experts: a list of (layers, matrix weights, precise weights).
    mixers: list
    shared: int = 0         # width of the shared expert
    dense: tuple = (0, 0)   # leading dense layers, their width
    kv_per_token: int = 0   # floats a token, all layers
    note: str = ""


def gqa(hidden, heads, kv, dim, gate=False):
    return hidden * dim * (heads * (3 if gate else 2) + 2 * kv)


def delta(hidden, key_heads, value_heads, dim=128):
    key, value = key_heads * dim, value_heads * dim
    return hidden * (2 * key + value) + hidden * value + value * hidden


def mla(hidden, heads, q_rank, kv_rank, nope, rope, value):
    return (hidden * q_rank + q_rank * heads * (nope + rope) + hidden * (kv_rank + rope)
            + kv_rank * heads * (nope + value) + heads * value * hidden)


def hybrid(name, family, hidden, layers, heads, value_heads, experts, top_k, inner, vocab=248320):
    full = layers // 4
    return Shape(name, family, vocab, hidden, layers, experts, top_k, inner,
                 [(full, gqa(hidden, heads, 2, 256, True), 0),
                  (layers - full, delta(hidden, 16, value_heads), 2 * value_heads * hidden)],
                 shared=inner, kv_per_token=full * 2 * 2 * 256)


def plain(name, family, vocab, hidden, layers, heads, kv, dim, experts, top_k, inner, **more):
    return Shape(name, family, vocab, hidden, layers, experts, top_k, inner,
                 [(layers, gqa(hidden, heads, kv, dim), 0)],
                 kv_per_token=layers * 2 * kv * dim, **more)


def latent(name, vocab, heads, experts, dense, inner=2048):
    return Shape(name, "deepseek_v3", vocab, 7168, 61, experts, 8, inner,
                 [(61, mla(7168, heads, 1536, 512, 128, 64, 128), 0)], shared=inner,
                 dense=(dense, 18432), kv_per_token=61 * 576)


MODELS = [
    hybrid("Qwen3.5-35B-A3B", "qwen3_5_moe", 2048, 40, 16, 32, 256, 8, 512),
    hybrid("Qwen3.5-122B-A10B", "qwen3_5_moe", 3072, 48, 32, 64, 256, 8, 1024),
    hybrid("Qwen3.5-397B-A17B", "qwen3_5_moe", 4096, 60, 32, 64, 512, 10, 1024),
    hybrid("Qwen3-Next-80B-A3B", "qwen3_next", 2048, 48, 16, 32, 512, 10, 512, vocab=151936),
    plain("Qwen3-30B-A3B", "qwen3_moe", 151936, 2048, 48, 32, 4, 128, 128, 8, 768),
    plain("Qwen3-235B-A22B", "qwen3_moe", 151936, 4096, 94, 64, 4, 128, 128, 8, 1536),
    latent("DeepSeek-V3, R1, V3.1", 129280, 128, 256, 3),
    latent("Kimi-K2", 163840, 64, 384, 1),
    plain("GLM-4.5, 4.6 (355B)", "glm4_moe", 151552, 5120, 92, 96, 8, 128, 160, 8, 1536,
          shared=1536, dense=(3, 12288)),
    plain("GLM-4.5-Air (106B)", "glm4_moe", 151552, 4096, 46, 96, 8, 128, 128, 8, 1408,
          shared=1408, dense=(1, 10944)),
    plain("gpt-oss-20b", "gpt_oss", 201088, 2880, 24, 64, 8, 64, 32, 4, 2880),
    plain("gpt-oss-120b", "gpt_oss", 201088, 2880, 36, 64, 8, 64, 128, 4, 2880),
    plain("Mixtral-8x7B", "mixtral", 32000, 4096, 32, 32, 8, 128, 8, 2, 14336),
    plain("OLMoE-1B-7B", "olmoe", 50304, 2048, 16, 16, 16, 128, 64, 8, 1024),
    plain("MiniMax-M2", "minimax_m2", 200064, 3072, 62, 48, 8, 128, 256, 8, 1536),
]

GB = 1e9


def row(m):
    sparse = m.layers - m.dense[0]
    expert = 3 * m.hidden * m.inner
    matrices = sum(n * w for n, w, _ in m.mixers)
    matrices += sparse * 3 * m.hidden * m.shared + m.dense[0] * 3 * m.hidden * m.dense[1]
    matrices += m.vocab * m.hidden  # the head
    precise = sum(n * p for n, _, p in m.mixers) + sparse * m.experts * m.hidden
    precise += m.layers * 2 * m.hidden
    embedding = m.vocab * m.hidden
    total = matrices + precise + embedding + sparse * m.experts * expert

    def resident(bits):
        return (matrices * bits + precise * 16) / 8

    return (f"| {m.name} | {total / GB:.1f} | {sparse * m.experts * expert * 4.5 / 8 / GB:.1f} "
            f"| {expert * 4.5 / 8 / 1e6:.2f} | {sparse * m.top_k * expert * 4.5 / 8 / GB:.2f} "
            f"| {resident(8.5) / GB:.1f} | {resident(4.5) / GB:.1f} "
            f"| {embedding * 8.5 / 8 / GB:.2f} | {m.kv_per_token * 4 / 1024:.0f} |")


def main():
    print("| model | parameters, 10⁹ | all experts, q4, GB | one expert, MB "
          "| a token's experts, GB | resident, q8, GB | resident, q4, GB | embedding, q8, GB "
          "| KV a token, KiB |")
    print("|---|---|---|---|---|---|---|---|---|")
    for m in MODELS:
        print(row(m))


if __name__ == "__main__":
    main()
