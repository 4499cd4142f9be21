#!/usr/bin/env bash
# Builds a preset and runs its tests.
#
#   tools/check.sh PRESET [REGEX]
#
# With REGEX only the tests whose names match are built and run. Ends with the failed tests, the
# skipped ones with their reasons, and the line "N passed, N failed". CI in the environment turns
# warnings into errors; SLUICE_TEST_FAST=1 lets slow tests take smaller samples.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

[ $# -ge 1 ] || die "which preset? release, debug, asan, tsan, clang, aarch64"
preset=$1
regex=${2:-.}
folder=build/$preset
junit=$root/$folder/junit.xml
mkdir -p "$folder"
rm -f "$junit"

targets=
if [ "$regex" != . ]; then
    # Configured without building anything, so that ctest can name what matches.
    tools/build.sh "$preset" help >/dev/null
    targets=$(ctest --test-dir "$folder" -N -R "$regex" |
        sed -n 's/^ *Test *#[0-9]*: *\(\(test\|fuzz\)_.*\)$/\1/p')
    [ -n "$targets" ] || die "no test of $preset matches $regex"
fi
tools/build.sh "$preset" $targets

# The thread sanitizers of gcc 12 and clang 14 do not know the address-space layouts of newer
# kernels; a fixed layout suits them all.
run=
if [ "$preset" = tsan ] && setarch "$(uname -m)" -R true 2>/dev/null; then
    run="setarch $(uname -m) -R"
fi

status=0
$run ctest --preset "$preset" -R "$regex" --no-tests=error --output-junit "$junit" \
    --test-output-size-passed 65536 --test-output-size-failed 262144 || status=$?
[ -f "$junit" ] || die "ctest of $preset left no report"
say
python3 tools/junit_summary.py "$preset=$junit" || status=1
exit $status
