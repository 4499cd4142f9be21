#!/usr/bin/env bash
# The server: requests as they should not be, then many clients at once.
set -u
sluice=$1
if [ ! -e "$PWD/../models/demo/manifest.json" ]; then
    echo "skipped: no model in models/demo"
    exit 77
fi
if ! "$sluice" serve --help >/dev/null 2>&1; then
    echo "skipped: this build has no server"
    exit 77
fi
status=0
python3 cli/serve_http.py "$sluice" || status=1
python3 cli/serve_load.py "$sluice" || status=1
exit $status
