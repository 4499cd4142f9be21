#!/usr/bin/env bash
# sluice cpu, and --cpu-mask on everything that opens an engine.
set -u
sluice=$1
model=$PWD/data/qwen3_5_moe_text
tmp=$(mktemp -d "${TMPDIR:-/tmp}/sluice-cpu.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
export XDG_CACHE_HOME=$tmp/cache
failures=0

fail() {
    failures=$((failures + 1))
    printf 'FAILED: %s\n' "$*"
}

# good NAME ARGUMENTS...: succeeds, stdout into $tmp/NAME, stderr into $tmp/NAME.err.
good() {
    local name=$1
    shift
    "$sluice" "$@" >"$tmp/$name" 2>"$tmp/$name.err" </dev/null
    local code=$?
    [ $code = 0 ] || fail "'$*' exits with $code: $(tail -n 1 "$tmp/$name.err")"
}

# bad CODE PATTERN ARGUMENTS...: exits with CODE, one line on stderr, which matches.
bad() {
    local want=$1 pattern=$2
    shift 2
    "$sluice" "$@" >"$tmp/bad" 2>"$tmp/bad.err" </dev/null
    local code=$? message
    message=$(cat "$tmp/bad.err")
    [ $code = "$want" ] || fail "'$*' exits with $code, not $want: $message"
    [ ! -s "$tmp/bad" ] || fail "'$*' writes to stdout"
    [ "$(wc -l <"$tmp/bad.err")" = 1 ] || fail "'$*' says: $message"
    # shellcheck disable=SC2053  # the right side is a pattern
    [[ $message == sluice:\ $pattern ]] || fail "'$*' says '$message', not '$pattern'"
}

# ---- what is there

good cpu cpu
for label in cores caches features levels; do
    grep -q "^  $label  " "$tmp/cpu" || fail "cpu lacks $label"
done
# Lines of the levels: "  levels  ref  runs here", the label only on the first.
awk '/^  levels /{on = 1; sub("levels", "")} on && NF >= 2 {print $1, $2}' "$tmp/cpu" >"$tmp/levels"
[ "$(head -n 1 "$tmp/levels" | cut -d' ' -f1)" = ref ] || fail "the lowest level is not ref"
[ "$(grep -c " chosen\$" "$tmp/levels")" = 1 ] || fail "not one level: $(cat "$tmp/levels")"
chosen=$(sed -n 's/ chosen$//p' "$tmp/levels")
if sed '1,/ chosen$/d' "$tmp/levels" | grep -q ' runs$'; then
    # avx512bf16 is the default only where its products pay.
    sed '1,/ chosen$/d' "$tmp/levels" | grep ' runs$' | grep -vq '^avx512bf16 ' &&
        fail "a level above the chosen one runs here"
fi
good bench cpu --bench
grep -q '^  memory  .*, 1 thread$' "$tmp/bench" || fail "cpu --bench does not measure memory"
bad 2 "cpu: superfluous argument 'x'*" cpu x

# ---- pinned

printf '3 1 4 1 5 9 2 6 5 3 5 8 9 7 9 3\n' >"$tmp/ids"
for level in $(awk '$2 == "runs" || $2 == "chosen" {print $1}' "$tmp/levels"); do
    good "$level.one" logits "$model" --ids "$tmp/ids" --out "$tmp/$level.1" \
        --cpu-mask "$level" --threads 1 --chunk 64
    good "$level.two" logits "$model" --ids "$tmp/ids" --out "$tmp/$level.2" \
        --cpu-mask "$level" --threads 3 --chunk 64 --verify-reads none
    cmp -s "$tmp/$level.1" "$tmp/$level.2" || fail "$level: threads change the logits"
done
good default logits "$model" --ids "$tmp/ids" --out "$tmp/default" --threads 1 --chunk 64
cmp -s "$tmp/default" "$tmp/$chosen.1" || fail "the default is not the level that is chosen"
good nll eval nll "$model" --ids "$tmp/ids" --cpu-mask ref
good measured bench "$model" --prompt 8 --tokens 4 --cpu-mask ref --json -
grep -q '"cpu_level": "ref"' "$tmp/measured" || fail "bench does not say its level"

# ---- refused

for level in none '' AVX2 ref,avx2; do
    bad 1 "cpu level $level: there is none of that name; here there are ref*" \
        logits "$model" --ids "$tmp/ids" --out "$tmp/no" --cpu-mask "$level"
    bad 1 "cpu level $level: there is none*" eval nll "$model" --ids "$tmp/ids" --cpu-mask "$level"
done
for level in $(awk '$2 == "not" {print $1}' "$tmp/levels"); do
    bad 1 "cpu level $level: this processor does not have it; here there are ref*" \
        logits "$model" --ids "$tmp/ids" --out "$tmp/no" --cpu-mask "$level"
done
[ ! -e "$tmp/no" ] || fail "what was refused left a file"
bad 2 "logits: --cpu-mask needs a value (LEVEL)*" \
    logits "$model" --ids "$tmp/ids" --out "$tmp/no" --cpu-mask

[ $failures = 0 ] && echo "ok"
[ $failures = 0 ]
