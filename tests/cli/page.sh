#!/usr/bin/env bash
# The page of the server: that it is there without a key, whole, and refers to nothing outside;
# then, where a Chromium is there, used as a person would (page_browser.py).
set -u
sluice=$1
tmp=$(mktemp -d "${TMPDIR:-/tmp}/sluice-page.XXXXXX")
server=
# shellcheck disable=SC2317  # called by the trap
finish() {
    [ -z "$server" ] || kill "$server" 2>/dev/null
    rm -rf "$tmp"
}
trap finish EXIT
if [ ! -e "$PWD/../models/demo/manifest.json" ]; then
    echo "skipped: no model in models/demo"
    exit 77
fi
if ! python3 -c 'import http.client' 2>/dev/null; then
    echo "skipped: python3 is not there"
    exit 77
fi

"$sluice" serve --port 0 --parallel 1 --api-key sesame 2>"$tmp/log" &
server=$!
port=
for _ in $(seq 600); do
    port=$(sed -n 's|.*http://127\.0\.0\.1:\([0-9]*\)/.*|\1|p' "$tmp/log")
    [ -z "$port" ] || break
    if grep -q 'this build has no server' "$tmp/log"; then
        echo "skipped: this build has no server"
        exit 77
    fi
    kill -0 "$server" 2>/dev/null || break
    sleep 0.1
done
if [ -z "$port" ]; then
    echo "FAILED: the server did not start:"
    cat "$tmp/log"
    exit 1
fi
python3 cli/page_served.py "$port" ../src/server/page/index.html || exit 1
kill "$server"
wait "$server"
server=

for browser in chromium chromium-browser google-chrome; do
    if command -v "$browser" >/dev/null; then
        python3 cli/page_browser.py "$sluice" "$browser"
        code=$?
        [ $code -eq 77 ] || exit $code
        exit 0
    fi
done
echo "no Chromium here: the page was looked at, and not used"
