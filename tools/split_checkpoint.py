#!/usr/bin/env python3
"""Writes a safetensors file again as shards with an index, as published checkpoints come.

    tools/split_checkpoint.py model.safetensors OUT_FOLDER SHARDS

Tensors keep their order; the shards are of about equal size.
"""
import json
import struct
import sys
from pathlib import Path


def read_header(path):
    with open(path, "rb") as f:
        (size,) = struct.unpack("<Q", f.read(8))
        return json.loads(f.read(size)), 8 + size


def main(source, out, shards):
    header, base = read_header(source)
    metadata = header.pop("__metadata__", {"format": "pt"})
    tensors = sorted(header.items(), key=lambda kv: kv[1]["data_offsets"][0])
    total = sum(t["data_offsets"][1] - t["data_offsets"][0] for _, t in tensors)
    groups = [[] for _ in range(shards)]
    done = 0
    for name, t in tensors:
        groups[min(shards - 1, done * shards // total)].append((name, t))
        done += t["data_offsets"][1] - t["data_offsets"][0]
    weight_map = {}
    Path(out).mkdir(parents=True, exist_ok=True)
    with open(source, "rb") as f:
        for i, group in enumerate(groups):
            file = f"model-{i + 1:05}-of-{shards:05}.safetensors"
            offset, entries, data = 0, {"__metadata__": metadata}, []
            for name, t in group:
                begin, end = t["data_offsets"]
                f.seek(base + begin)
                data.append(f.read(end - begin))
                entries[name] = {**t, "data_offsets": [offset, offset + end - begin]}
                offset += end - begin
                weight_map[name] = file
            text = json.dumps(entries, separators=(",", ":")).encode()
            text += b" " * (-len(text) % 8)
            with open(Path(out) / file, "wb") as shard:
                shard.write(struct.pack("<Q", len(text)) + text + b"".join(data))
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (Path(out) / "model.safetensors.index.json").write_text(json.dumps(index, indent=1) + "\n")


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
