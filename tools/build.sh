#!/usr/bin/env bash
# Configures and builds a preset, saying little while all goes well.
#
#   tools/build.sh PRESET [TARGET…]
#
# With CI set in the environment warnings are errors. V=1 shows every command.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

[ $# -ge 1 ] || die "which preset? release, debug, asan, tsan, clang, fuzz, aarch64, macos"
preset=$1
shift
folder=build/$preset
mkdir -p "$folder"

werror=OFF
if [ -n "${CI:-}" ]; then werror=ON; fi

[ -f "$folder/build.ninja" ] || say "Configuring $folder"
if ! cmake --preset "$preset" -DSLUICE_WERROR=$werror >"$folder/configure.log" 2>&1; then
    cat "$folder/configure.log" >&2
    die "configuring $folder failed"
fi

options=
if [ -n "${V:-}" ]; then options=--verbose; fi
if [ -t 1 ] || [ -n "${V:-}" ]; then
    cmake --build "$folder" $options ${1:+--target "$@"}
else
    # In a log only warnings and errors matter; ninja's progress lines would drown them.
    status=0
    cmake --build "$folder" ${1:+--target "$@"} >"$folder/build.log" 2>&1 || status=$?
    grep -v '^\[[0-9]*/[0-9]*\]\|^ninja: no work to do' "$folder/build.log" || true
    [ $status -eq 0 ] || die "building $folder failed"
fi
say "Built $folder${1:+ ($*)}"
