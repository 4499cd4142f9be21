#!/usr/bin/env bash
# What each format costs in quality: the mean negative log-likelihood of the reference's 24 windows
# of 512 tokens under the demo model, as GGUF files, MLX folders and packs of many types, with
# activations and keys and values rounded or not, and with fewer experts a token. Prints the tables
# of docs/QUALITY.md, a line as soon as it is known.
#
#     tools/quality.sh [CHECKPOINT [GOLDEN.json]]       default: those of the reference data
#
# Needs build/release/sluice (or $SLUICE) and, for GGUF and MLX, a python with the packages gguf and
# numpy: $SLUICE_PYTHON, else one that is made in build/quality_venv. Takes some minutes and 200 MB,
# in $TMPDIR.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

shared=${SLUICE_SHARED:-$root/../shared}
model=${1:-$shared/models/demo}
golden=${2:-$shared/golden/demo/golden.json}
sluice=${SLUICE:-build/release/sluice}
[ -e "$model/config.json" ] || die "no checkpoint in $model"
[ -e "$golden" ] || die "no windows in $golden"
[ -x "$sluice" ] || tools/build.sh release
python=${SLUICE_PYTHON:-build/quality_venv/bin/python}
if ! "$python" -c 'import gguf, numpy' 2>/dev/null; then
    python3 -m venv build/quality_venv
    python=build/quality_venv/bin/python
    "$python" -m pip --quiet install gguf numpy
fi
tmp=$(mktemp -d "${TMPDIR:-/tmp}/sluice-quality.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
export XDG_CACHE_HOME=$tmp/cache

"$python" - "$golden" "$tmp/ids" <<'END'
import json
import sys
with open(sys.argv[1]) as file, open(sys.argv[2], "w") as out:
    for window in json.load(file)["nll_windows"]:
        out.write(" ".join(map(str, window["tokens"])) + "\n")
END

# nll MODEL [OPTIONS]: four decimals.
nll() {
    local value
    value=$("$sluice" eval nll "$@" --ids "$tmp/ids" 2>"$tmp/err") || die "$*: $(cat "$tmp/err")"
    printf '%.4f' "$value"
}

# figure MODEL KEY: of inspect --json.
figure() {
    "$sluice" inspect "$1" --json | sed -n "s/^ *\"$2\": \\(.*[^,]\\),*\$/\\1/p" | head -n 1
}

# row NAME MODEL: bits of the experts, MB of experts and of the rest, NLL exact and rounded.
row() {
    local bits experts rest exact rounded
    bits=$(figure "$2" expert_bits)
    experts=$(figure "$2" experts_bytes)
    rest=$(figure "$2" resident_bytes)
    exact=$(nll "$2" --exact)
    rounded=$(nll "$2" --activations q8)
    printf '| %s | %.2f | %.1f | %.1f | %s | %s |\n' "$1" "$bits" \
        "$(awk "BEGIN { print $experts / 1e6 }")" "$(awk "BEGIN { print $rest / 1e6 }")" \
        "$exact" "$rounded"
}

say "| weights | bits of experts | experts MB | the rest MB | NLL | activations rounded |"
say "| --- | --- | --- | --- | --- | --- |"
row 'checkpoint, bf16' "$model"
for type in BF16 F16 Q8_0 Q4_0; do
    "$python" tools/make_gguf.py "$model" "$tmp/demo.gguf" --type "$type" >"$tmp/log"
    row "GGUF $type" "$tmp/demo.gguf"
done
"$python" tools/make_gguf.py "$model" "$tmp/demo.gguf" --type Q8_0 --experts Q4_K >"$tmp/log"
row 'GGUF Q8_0, experts Q4_K (down: Q8_0)' "$tmp/demo.gguf"
rm "$tmp/demo.gguf"
for bits in 8 4; do
    [ -e tools/make_mlx.py ] || break
    "$python" tools/make_mlx.py "$model" "$tmp/mlx" --bits $bits --group 64 >"$tmp/log"
    row "MLX, $bits bits in groups of 64" "$tmp/mlx"
    rm -r "$tmp/mlx"
done

# packed EXPERTS RESIDENT
packed() {
    "$sluice" pack "$model" "$tmp/pack" --experts "$1" --resident "$2" >"$tmp/log" 2>&1 ||
        die "pack: $(tail -n 1 "$tmp/log")"
    row "pack, experts $1, the rest $2" "$tmp/pack"
    rm -r "$tmp/pack"
}
for type in q8 q4 q3 q2; do packed $type q8; done
packed q4 q4
packed gate=q3,up=q3,down=q4 q8
for type in q8_0 q6_k q5_k q5_1 q5_0 q4_k q4_1 q4_0 iq4_nl iq4_xs mxfp4 q3_k q2_k; do
    packed $type q8
done

say
say "| of the pack with experts q4, the rest q8 | NLL |"
say "| --- | --- |"
"$sluice" pack "$model" "$tmp/pack" --experts q4 --resident q8 >"$tmp/log" 2>&1
say "| nothing rounded | $(nll "$tmp/pack" --exact) |"
for kv in f32 f16 q8; do
    say "| keys and values $kv | $(nll "$tmp/pack" --activations f32 --kv $kv) |"
done
say "| activations rounded, keys and values q8 | $(nll "$tmp/pack" --activations q8 --kv q8) |"

table=$(dirname "$golden")/quality_table.json
# theirs BITS K: of the reference implementation's own table, where it is there.
theirs() {
    "$python" - "$table" "bits$1_k$2" <<'END' 2>/dev/null || printf '?'
import json
import sys
with open(sys.argv[1]) as file:
    print(f"{json.load(file)[sys.argv[2]]['nll']:.4f}", end="")
END
}
say
say "| experts a token | bf16 | the reference's | experts q4, the rest q8 | the reference's q4 |"
say "| --- | --- | --- | --- | --- |"
for k in 8 6 5 4; do
    say "| $k | $(nll "$model" --exact --experts-per-token $k) | $(theirs 16 $k) |" \
        "$(nll "$tmp/pack" --exact --experts-per-token $k) | $(theirs 4 $k) |"
done
