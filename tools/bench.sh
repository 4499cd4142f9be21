#!/usr/bin/env bash
# Builds the release preset and runs its benches, one after the other. Each prints a table and
# leaves build/NAME.json.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

tools/build.sh release
found=false
for bench in build/release/bench/bench_*; do
    [ -f "$bench" ] && [ -x "$bench" ] || continue
    found=true
    out=build/$(basename "$bench").json
    say "\$ $bench $out"
    "$bench" "$out"
done
$found || die "this tree has no bench program under bench/"
