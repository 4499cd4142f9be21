#!/usr/bin/env bash
# Tool calls and JSON of the trained demo model at 8 bits, through the server. SLUICE_SHARED (else
# ../shared) is the folder with the checkpoint and its golden.json.
set -u
sluice=$1
shared=${SLUICE_SHARED:-$PWD/../../shared}
if [ ! -e "$shared/models/demo/config.json" ] || [ ! -e "$shared/golden/demo/golden.json" ]; then
    echo "skipped: models/demo and golden/demo are not in the shared folder (SLUICE_SHARED)"
    exit 77
fi
tmp=$(mktemp -d "${TMPDIR:-/tmp}/sluice-quality.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
"$sluice" pack "$shared/models/demo" "$tmp/q8" --experts q8 --resident q8 >"$tmp/log" 2>&1 || {
    cat "$tmp/log"
    exit 1
}
python3 cli/serve_quality.py "$sluice" "$tmp/q8" "$shared/golden/demo/golden.json"
