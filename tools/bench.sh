#!/usr/bin/env bash
# Builds the release preset and measures the demo: with `sluice bench`, with all of its experts in
# memory and an eighth of them; then with the programs under bench/. Each prints a table and leaves
# build/NAME.json.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

tools/build.sh release
model=(build/release/sluice bench models/demo --prompt 512 --repeat 7 --compare cache=2016K
    --json build/bench_model.json)
say "\$ ${model[*]}"
"${model[@]}"

found=false
for bench in build/release/bench/bench_*; do
    [ -f "$bench" ] && [ -x "$bench" ] || continue
    found=true
    out=build/$(basename "$bench").json
    say "\$ $bench $out"
    "$bench" "$out"
done
$found || die "this tree has no bench program under bench/"
