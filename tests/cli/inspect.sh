#!/usr/bin/env bash
# What inspect says of whole models and of incomplete ones: all that is known of them, each missing
# or damaged thing by name, exit code 1.
set -u
sluice=$1
tiny=data/qwen3_5_moe_text
tmp=$(mktemp -d "${TMPDIR:-/tmp}/sluice-inspect.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
export XDG_CACHE_HOME=$tmp/cache
checks=0
failures=0

fail() {
    failures=$((failures + 1))
    printf 'FAILED: %s\n' "$*"
}

# inspect CODE MODEL [--json]: into $tmp/out and $tmp/err.
inspect() {
    local want=$1 code
    shift
    checks=$((checks + 1))
    timeout 60 "$sluice" inspect "$@" >"$tmp/out" 2>"$tmp/err"
    code=$?
    [ $code = "$want" ] || fail "inspect $* exits with $code: $(tail -n 1 "$tmp/err")"
    [ "$want" = 0 ] || [ "$(wc -l <"$tmp/err")" = 1 ] || fail "inspect $* says $(cat "$tmp/err")"
}

# has PATTERN...: a line of the last output matches each.
has() {
    local pattern
    for pattern; do
        grep -Eq -- "$pattern" "$tmp/out" || fail "no line '$pattern' in: $(cat "$tmp/out")"
    done
}

lacks() {
    ! grep -Eq -- "$1" "$tmp/out" || fail "there is a line '$1'"
}

copy() {
    rm -rf "$tmp/m"
    cp -r "$tiny" "$tmp/m"
}

# ---- whole ones

inspect 0 "$tiny"
has '^  attention  .*, 16.00 bits a weight: bf16$' '^  routers  ' '^  shared experts  ' \
    '^  embedding  ' '^  head  ' "^  experts' (gate|up|down)  .*: bf16\$" \
    '^  one expert  .* in 2 reads' '^  reads  *16 a token, of 8.0 KiB to 16.0 KiB, 12.0 KiB on' \
    '^  will it fit  *yes' '^  tokenizer  *no; chat template: no'
lacks '^problems'
inspect 0 "$tiny" --json
has '"parts": ' '"experts_gate": ' '"problems": \[\]' '"problem_count": 0' '"reads_per_token": 16' \
    '"read_min_bytes": 8192' '"read_max_bytes": 16384' '"fits": true'
"$sluice" pack "$tiny" "$tmp/pack" --experts gate=q4,up=q4,down=q8 --resident q8_0 >"$tmp/out" 2>&1
inspect 0 "$tmp/pack"
has "^  experts' gate .*, 4.50 bits a weight: q4\$" "^  experts' down .*: q8\$" \
    '^  attention  .*: bf16 \([0-9]*\), q8_0 \([0-9]*\)$' '^  one expert  .* in 1 read$'

# ---- a shard that is not there

copy
rm "$tmp/m/model-00002-of-00002.safetensors"
inspect 1 "$tmp/m"
has '^  layers  *4: ' '^problems$' 'model-00002-of-00002.safetensors: is missing; .* names it' \
    'tensor model.norm.weight is missing' 'and [0-9]* more$'
lacks 'will it fit'
[ "$(grep -c ': ' <(sed -n '/^problems/,$p' "$tmp/out"))" = 20 ] || fail "not the first 20"
grep -q '^sluice: .*model-00002-of-00002.safetensors: is missing' "$tmp/err" ||
    fail "the first problem is told as $(cat "$tmp/err")"
inspect 1 "$tmp/m" --json
has '"problem_count": [1-9]' '"fits": false' 'model-00002-of-00002.safetensors: is missing'
if command -v python3 >"$tmp/log"; then
    python3 -m json.tool <"$tmp/out" >"$tmp/log" || fail "--json of an incomplete model is no JSON"
fi

copy # the one with the embedding
rm "$tmp/m/model-00001-of-00002.safetensors"
inspect 1 "$tmp/m"
has '^  layers  *4: ' 'model-00001-of-00002.safetensors: is missing' \
    'tensor model.embed_tokens.weight is missing'

copy # all
rm "$tmp/m"/model-0*
inspect 1 "$tmp/m"
has 'model-00001-of-00002.safetensors: is missing' 'model-00002-of-00002.safetensors: is missing'

# ---- cut short

for keep in 200000 5000 3; do
    copy
    truncate -s $keep "$tmp/m/model-00002-of-00002.safetensors"
    inspect 1 "$tmp/m"
    has '^  layers  *4: '
    grep -q 'model-00002-of-00002.safetensors: ' "$tmp/err" || fail "$keep: $(cat "$tmp/err")"
done
copy
truncate -s -10 "$tmp/m/model-00002-of-00002.safetensors"
inspect 1 "$tmp/m"
has 'model-00002-of-00002.safetensors: 10 bytes are missing at its end'
[ "$(sed -n '/^problems/,$p' "$tmp/out" | wc -l)" = 2 ] || fail "more than the one thing"

# ---- packs

cp -r "$tmp/pack" "$tmp/p"
rm "$tmp/p/experts-001.bin" "$tmp/p/resident.bin"
truncate -s -1 "$tmp/p/experts-002.bin"
inspect 1 "$tmp/p"
has 'experts-001.bin: No such file' 'resident.bin: No such file' \
    'experts-002.bin: [0-9]* bytes; expected' '^  layers  *4: ' "^  experts' down .*: q8\$"

# ---- nothing to go by

copy
rm "$tmp/m/config.json"
inspect 1 "$tmp/m"
[ ! -s "$tmp/out" ] || fail "a model without config.json: $(cat "$tmp/out")"
inspect 1 "$tmp/nothing"
[ ! -s "$tmp/out" ] || fail "no model at all: $(cat "$tmp/out")"

echo "$checks checks, $failures failed"
[ "$failures" = 0 ]
