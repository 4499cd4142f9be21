#!/usr/bin/env bash
# The server through OpenAI's and Anthropic's Python packages (tools/bootstrap.sh --with clients).
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
for python in ../.venv/bin/python3 python3; do
    if "$python" -c 'import anthropic, openai' 2>/dev/null; then
        exec "$python" cli/serve_clients.py "$sluice"
    fi
done
echo "skipped: no Python packages openai and anthropic (tools/bootstrap.sh --with clients)"
exit 77
