#!/usr/bin/env bash
# The demo as GGUF files, written by tools/make_gguf.py with another project's package: the program
# runs them as they are, says what they are, and comes out where the checkpoint does. Needs the
# package in python3 (or in $SLUICE_PYTHON), and the demo's checkpoint in the reference data.
set -u
sluice=$1
python=${SLUICE_PYTHON:-python3}
if [ -z "${SLUICE_PYTHON:-}" ] && [ -x ../.venv/bin/python3 ]; then
    python=../.venv/bin/python3
fi
checkpoint=${SLUICE_SHARED:-$PWD/../../shared}/models/demo
if [ ! -e "$checkpoint/config.json" ]; then
    echo "skipped: no checkpoint in $checkpoint"
    exit 77
fi
if ! "$python" -c 'import gguf, numpy' 2>/dev/null; then
    echo "skipped: $python has no packages gguf and numpy"
    exit 77
fi
tmp=$(mktemp -d "${TMPDIR:-/tmp}/sluice-gguf.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
export XDG_CACHE_HOME=$tmp/cache
checks=0
failures=0

fail() {
    failures=$((failures + 1))
    printf 'FAILED: %s\n' "$*"
}

make() {
    "$python" ../tools/make_gguf.py "$checkpoint" "$@" >"$tmp/log" 2>&1 ||
        { fail "make_gguf $*: $(tail -n 1 "$tmp/log")"; exit 1; }
}

# compare MODEL BOUND: the logits of some text against the checkpoint's.
compare() {
    checks=$((checks + 1))
    "$sluice" logits "$1" --ids "$tmp/ids" --out "$tmp/got" 2>"$tmp/err" ||
        { fail "logits $1: $(cat "$tmp/err")"; return; }
    "$python" - "$tmp/got" "$tmp/want" "$2" <<'END' || fail "$1: logits"
import sys
import numpy as np
got, want = (np.fromfile(path, "<f4") for path in sys.argv[1:3])
error = np.linalg.norm(got - want) / np.linalg.norm(want)
print(f"{error:.1e}, at most {sys.argv[3]}")
sys.exit(not error <= float(sys.argv[3]))
END
    rm -f "$tmp/got"
}

# says WHAT COMMAND...: stdout and stderr hold it.
says() {
    local what=$1
    shift
    checks=$((checks + 1))
    "$@" </dev/null >"$tmp/out" 2>&1 || fail "$*: exit code $?"
    grep -q -- "$what" "$tmp/out" || fail "'$*' does not say '$what': $(head -n 3 "$tmp/out")"
}

printf 'Once upon a time there was a girl who had no name, and 37 cats.\nEach of them had one.\n' \
    >"$tmp/text"
"$sluice" tokenize "$checkpoint" <"$tmp/text" | tr '\n' ' ' >"$tmp/ids"
"$sluice" logits "$checkpoint" --ids "$tmp/ids" --out "$tmp/want" 2>"$tmp/err" ||
    { fail "the checkpoint: $(cat "$tmp/err")"; exit 1; }

for type in BF16:2e-6 F32:2e-6 Q8_0:0.05; do
    make "$tmp/demo.gguf" --type "${type%:*}"
    compare "$tmp/demo.gguf" "${type#*:}"
done
# The same weights, decoded by the package and run from a checkpoint of float32.
for types in F16 BF16 Q8_0 Q4_0 Q5_1 Q4_K Q6_K 'Q8_0 --experts Q4_K,Q6_K,Q5_0,Q4_1'; do
    rm -rf "$tmp/decoded" "$tmp/demo.gguf"
    # shellcheck disable=SC2086  # words
    make "$tmp/demo.gguf" --type $types --decoded "$tmp/decoded"
    cp "$tmp/want" "$tmp/checkpoint.logits"
    "$sluice" logits "$tmp/decoded" --ids "$tmp/ids" --out "$tmp/want" 2>"$tmp/err" ||
        fail "the decoded checkpoint: $(cat "$tmp/err")"
    compare "$tmp/demo.gguf" 1e-4
    mv "$tmp/checkpoint.logits" "$tmp/want"
done
rm -rf "$tmp/decoded"

# Blocks of every type, as the package decodes them: the same bits.
checks=$((checks + 1))
blocks=$(dirname "$sluice")/tests/test_gguf_blocks
count=10000
[ "${SLUICE_TEST_FAST:-0}" = 0 ] || count=500
if [ -x "$blocks" ]; then
    "$python" ../tools/make_gguf_blocks.py $count "$tmp/blocks.bin" >"$tmp/log" 2>&1 ||
        fail "make_gguf_blocks: $(tail -n 1 "$tmp/log")"
    SLUICE_GGUF_BLOCKS=$tmp/blocks.bin "$blocks" >"$tmp/log" 2>&1 ||
        fail "blocks of gguf: $(grep -m 1 -E 'differ|ERROR' "$tmp/log")"
    grep -q "^$((count * 19)) blocks of 19 types" "$tmp/log" || fail "too few blocks were looked at"
    rm -f "$tmp/blocks.bin"
else
    echo "not checked: $blocks is not built"
fi

"$sluice" tokenize "$tmp/demo.gguf" <"$tmp/text" | tr '\n' ' ' | cmp -s - "$tmp/ids" ||
    fail "other ids"

make "$tmp/mixed.gguf" --type Q8_0 --experts Q4_K,Q6_K,Q5_1,Q4_0,BF16 --split 50
compare "$tmp/mixed-00002-of-00004.gguf" 0.1
says 'q4_k, q6_k, q5_1, q4_0, bf16' "$sluice" inspect "$tmp/mixed-00001-of-00004.gguf"
says 'temperature 0.7, top-k 20' "$sluice" run "$tmp/mixed-00003-of-00004.gguf" -p Once -n 4
says 'verified' "$sluice" pack "$tmp/mixed-00004-of-00004.gguf" "$tmp/pack" --verify
compare "$tmp/pack" 0.1
checks=$((checks + 1))
chat='{"messages": [{"role": "user", "content": "hi"}], "add_generation_prompt": true}'
for model in "$checkpoint" "$tmp/demo.gguf" "$tmp/pack"; do
    "$sluice" render "$model" <<<"$chat" >"$tmp/prompt" 2>&1
    [ -e "$tmp/first" ] || cp "$tmp/prompt" "$tmp/first"
    cmp -s "$tmp/prompt" "$tmp/first" || fail "render $model: $(cat "$tmp/prompt")"
done

echo "$checks checks, $failures failed"
[ "$failures" = 0 ]
