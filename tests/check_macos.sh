#!/usr/bin/env bash
# Fails where something does not compile or link for macOS, warnings being errors: a platform's file
# that is missing, a call that macOS does not have. Nothing is run.
#
#   check_macos.sh REPOSITORY
set -euo pipefail
cd "$1"

status=0
tools/macos_sysroot.sh || status=$?
[ $status -eq 0 ] || exit $status
CI=1 tools/build.sh macos
CI=1 tools/build.sh macos-x86_64 sluice
