#!/usr/bin/env bash
# The demo as folders of MLX, written by tools/make_mlx.py: the program runs them as they are, says
# what they are, and comes out where the very same weights in float32 do. Needs numpy in python3 (or
# in $SLUICE_PYTHON), and the demo's checkpoint in the reference data.
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
if ! "$python" -c 'import numpy' 2>/dev/null; then
    echo "skipped: $python has no package numpy"
    exit 77
fi
tmp=$(mktemp -d "${TMPDIR:-/tmp}/sluice-mlx.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
export XDG_CACHE_HOME=$tmp/cache
checks=0
failures=0

fail() {
    failures=$((failures + 1))
    printf 'FAILED: %s\n' "$*"
}

make() {
    rm -rf "$tmp/demo" "$tmp/same"
    "$python" ../tools/make_mlx.py "$checkpoint" "$tmp/demo" --dequantised "$tmp/same" "$@" \
        >"$tmp/log" 2>&1 || { fail "make_mlx $*: $(tail -n 1 "$tmp/log")"; exit 1; }
}

# compare A B BOUND: the logits of some text.
compare() {
    local i=0
    checks=$((checks + 1))
    for model in "$1" "$2"; do
        i=$((i + 1))
        rm -f "$tmp/$i.out"
        "$sluice" logits "$model" --exact --ids "$tmp/ids" --out "$tmp/$i.out" 2>"$tmp/err" ||
            { fail "logits $model: $(cat "$tmp/err")"; return; }
    done
    "$python" - "$tmp/1.out" "$tmp/2.out" "$3" <<'END' ||
import sys
import numpy as np
got, want = (np.fromfile(path, "<f4") for path in sys.argv[1:3])
error = np.linalg.norm(got - want) / np.linalg.norm(want)
print(f"{error:.1e}, at most {sys.argv[3]}")
sys.exit(not error <= float(sys.argv[3]))
END
        fail "$1 and $2: logits"
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

make --bits 8 --group 32 --scales F16 --prefix --split 3
compare "$tmp/demo" "$tmp/same" 1e-4
compare "$tmp/demo" "$checkpoint" 0.05
"$sluice" tokenize "$tmp/demo" <"$tmp/text" | tr '\n' ' ' | cmp -s - "$tmp/ids" ||
    fail "other ids"

make --bits 3 --group 64 --override 'down_proj:6:32' --override 'lm_head:0:0'
compare "$tmp/demo" "$tmp/same" 1e-4
says 'affine3, affine6' "$sluice" inspect "$tmp/demo"

make --bits 4 --group 64
compare "$tmp/demo" "$tmp/same" 1e-4
says 'mlx' "$sluice" inspect "$tmp/demo"
says 'affine4' "$sluice" inspect "$tmp/demo"
says ' ' "$sluice" run "$tmp/demo" -p Once -n 4 --temp 0
says 'verified' "$sluice" pack "$tmp/demo" "$tmp/pack" --verify
says 'q4' "$sluice" inspect "$tmp/pack"
compare "$tmp/pack" "$tmp/same" 1e-4

make --bits 0
compare "$tmp/demo" "$tmp/same" 1e-4

echo "$checks checks, $failures failed"
[ "$failures" = 0 ]
