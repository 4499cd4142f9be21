#!/usr/bin/env bash
# Runs every fuzz target for a while.
#
#   FUZZ_SECONDS=30 tools/fuzz.sh [NAME…]
#
# New inputs gather in build/fuzz/corpus/NAME; the committed ones in tests/corpus/NAME are read,
# never written. An input that breaks a target lands in build/fuzz/found/.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

seconds=${FUZZ_SECONDS:-30}
names=$*
if [ -z "$names" ]; then
    for source in tests/fuzz/fuzz_*.c; do
        [ -e "$source" ] || die "there is no fuzz target under tests/fuzz"
        name=$(basename "$source" .c)
        names="$names ${name#fuzz_}"
    done
fi

targets=
for name in $names; do
    [ -f "tests/fuzz/fuzz_$name.c" ] || die "there is no target $name (tests/fuzz/fuzz_$name.c)"
    targets="$targets fuzz_$name"
done
tools/build.sh fuzz $targets

mkdir -p build/fuzz/found
passed=0
failed=0
for name in $names; do
    mkdir -p "build/fuzz/corpus/$name"
    committed=
    if [ -d "tests/corpus/$name" ]; then committed=$root/tests/corpus/$name; fi
    log=$root/build/fuzz/$name.log
    if (cd tests && "$root/build/fuzz/tests/fuzz_$name" -max_total_time="$seconds" -timeout=10 \
        -rss_limit_mb=2048 -print_final_stats=1 -artifact_prefix="$root/build/fuzz/found/$name-" \
        "$root/build/fuzz/corpus/$name" $committed) >"$log" 2>&1; then
        passed=$((passed + 1))
        runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
        say "fuzz_$name: $runs inputs in $seconds s, nothing found"
    else
        failed=$((failed + 1))
        tail -n 40 "$log"
        say "fuzz_$name: FAILED; the whole log is build/fuzz/$name.log"
    fi
done
say "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
