#!/usr/bin/env bash
# sluice bench with $SLUICE_DEMO, else the demo of the repository: that it counts what it says, and
# that its files can be read. No time is looked at.
set -u
sluice=$1
model=${SLUICE_DEMO:-../models/demo}
if [ ! -e "$model/config.json" ] && [ ! -e "$model/manifest.json" ]; then
    echo "skipped: no model in $model"
    exit 77
fi
if ! python3 -c ''; then
    echo "skipped: python3 is not there"
    exit 77
fi
export SLUICE_DEMO=$model
tmp=$(mktemp -d "${TMPDIR:-/tmp}/sluice-bench-test.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
mkdir "$tmp/tmp"
export TMPDIR=$tmp/tmp
failures=0

fail() {
    failures=$((failures + 1))
    printf 'FAILED: %s\n' "$*"
}

# good NAME ARGUMENTS...: succeeds, stdout into $tmp/NAME, stderr empty.
good() {
    local name=$1
    shift
    "$sluice" bench "$@" >"$tmp/$name" 2>"$tmp/$name.err"
    local code=$?
    [ $code = 0 ] || fail "'$*' exits with $code: $(tail -n 1 "$tmp/$name.err")"
    [ ! -s "$tmp/$name.err" ] || fail "'$*' says $(cat "$tmp/$name.err")"
}

# bad CODE PATTERN ARGUMENTS...: exits so, nothing on stdout, one line on stderr that matches.
bad() {
    local want=$1 pattern=$2
    shift 2
    "$sluice" bench "$@" >"$tmp/bad" 2>"$tmp/bad.err"
    local code=$? message
    message=$(cat "$tmp/bad.err")
    [ $code = "$want" ] || fail "'$*' exits with $code, not $want: $message"
    [ ! -s "$tmp/bad" ] || fail "'$*' writes to stdout"
    # shellcheck disable=SC2053  # the right side is a pattern
    [[ $message == sluice:\ $pattern ]] || fail "'$*' says '$message', not '$pattern'"
}

# holds FILE PYTHON: the expression is true of the JSON, which is called b.
holds() {
    python3 - "$tmp/$1" "$2" <<'EOF' || fail "of $1 this is not true: $2"
import json, sys
b = json.load(open(sys.argv[1]))
runs = b["runs"]
sys.exit(0 if eval("(" + sys.argv[2] + ")") else 1)
EOF
}

few="--tokens 3 --prompt 5 --warmup 2"

# ---- one run

# shellcheck disable=SC2086  # these are several arguments
{
    good table "$model" $few --json "$tmp/one.json"
    good again $few --json - # the model is the default
}
for label in model experts machine disk 'cold by' work opening prefill decode 'a token takes' \
    'bytes a token' missing 'cache hits' 'read ahead' predictable 'disk alone' 'compute alone' \
    'while streaming' grade processor 'for I/O' checksums 'resident memory'; do
    grep -q "^  $label  " "$tmp/table" || fail "the table lacks $label"
done
grep -q '^  same ids in all runs: yes; same logits: yes' "$tmp/table" || fail "ids are not compared"
grep -q 'a token, as trained; stored as .* bits a weight' "$tmp/table" ||
    fail "bits and experts do not stand beside the speed"
grep -Eq 'LOSSY|SYNTHETIC|STOPPED' "$tmp/table" && fail "the table marks what is not so"
for json in one.json again; do
    holds $json 'b["kind"] == "one" and len(runs) == 1 and b["same_ids"] and b["same_logits"]'
    holds $json '(b["prompt_tokens"], b["warmup_tokens"], b["tokens"]) == (5, 2, 3)'
    holds $json 'runs[0]["complete"] and runs[0]["refused"] is None and not b["interrupted"]'
    holds $json '[runs[0][k] for k in ("prompt_tokens", "warmup_tokens", "tokens")] == [5, 2, 3]'
    holds $json 'len(runs[0]["token_ns"]) == 3 and min(runs[0]["token_ns"]) > 0'
    holds $json 'runs[0]["counters"]["tokens"] == 3 and runs[0]["counters"]["bytes_needed"] > 0'
    holds $json 'runs[0]["rss_peak_bytes"] > 0 and runs[0]["file_bytes"] > 0'
    holds $json '{"experts", "experts_per_token", "expert_bits", "memory_bytes", "io", "direct",
                  "threads", "synthetic"} <= set(runs[0]["engine"])'
    holds $json '{"decode_tok_s", "prefill_tok_s", "token_p10_ns", "token_p90_ns", "hit_rate",
                  "bytes_needed_per_token", "bytes_missing_per_token", "bytes_read_per_token",
                  "bytes_wasted_per_token", "amplification", "predictability", "disk_alone_ns",
                  "compute_alone_ns", "compute_streaming_ns", "grade", "bound", "verify_share",
                  "system_share", "io_cpu_share", "rss_share_of_budget"} <= set(runs[0]["figures"])'
    holds $json '{"disk_before", "disk_after", "memory_bytes_per_s"} <= set(b)'
    holds $json 'runs[0]["figures"]["token_p10_ns"] <= runs[0]["figures"]["token_p50_ns"]
                 <= runs[0]["figures"]["token_p90_ns"]'
    # A grade is the real time over the larger bound.
    holds $json '(lambda f: abs(f["grade"] * f["bound_ns"] - f["token_ns"]) < 1e-3 * f["token_ns"]
                  and f["bound_ns"] >= max(f["disk_alone_ns"] or 0, f["compute_alone_ns"] or 0)
                  )(runs[0]["figures"])'
done

# A cache that is too small for one token's experts leaves compute alone unmeasured.
# shellcheck disable=SC2086
{
    good small $few --cache 256K --json "$tmp/small.json"
    holds small.json 'runs[0]["figures"]["compute_alone_ns"] is None'
    holds small.json 'runs[0]["figures"]["grade"] and runs[0]["counters"]["expert_misses"]'
    grep -q '^  compute alone      not measured$' "$tmp/small" || fail "compute alone is measured"
    good default --tokens 1 --prompt 1 --json "$tmp/default.json"
    holds default.json '8 <= runs[0]["warmup_tokens"] <= 64'
    good none --tokens 1 --prompt 1 --warmup 0 --json "$tmp/none.json"
    holds none.json 'runs[0]["warmup_tokens"] == 0 and runs[0]["tokens"] == 1'
    good fewer $few --experts-per-token 1
    grep -q '^  LOSSY: 1 of ' "$tmp/fewer" && grep -q '^  decode .*LOSSY' "$tmp/fewer" ||
        fail "fewer experts are not called LOSSY"
}
echo "1 2 3 4" >"$tmp/ids"
good given --ids "$tmp/ids" --tokens 2 --warmup 1 --json "$tmp/given.json"
holds given.json 'b["prompt_tokens"] == 4'
grep -q '^  work .*as given' "$tmp/given" || fail "a given prompt is not said to be one"

# ---- rounds and comparisons

# shellcheck disable=SC2086
{
    good rounds $few --repeat 3 --json "$tmp/rounds.json"
    holds rounds.json '[r["round"] for r in runs] == [0, 1, 2] and b["same_logits"]'
    grep -q '^  of all runs .* 3 runs' "$tmp/rounds" || fail "the spread of three runs is not shown"
    good compared $few --repeat 2 --json "$tmp/compared.json" \
        --compare 'cache=1M;threads=1,prefetch=off;chunk=64,verify-reads=all'
}
holds compared.json '[r["setting"] for r in runs] == ["as asked for", "cache=1M",
    "threads=1,prefetch=off", "chunk=64,verify-reads=all"] * 2' # in turn
holds compared.json 'b["kind"] == "compare" and b["same_ids"] and b["same_logits"]'
holds compared.json 'all(r["complete"] for r in runs) and len(b["summary"]) == 4'
holds compared.json 'b["summary"][0]["decode_ratio"] == {"median": 1, "least": 1, "most": 1}'
holds compared.json 'runs[1]["engine"]["cache_bytes"] <= 1 << 20 < runs[0]["engine"]["cache_bytes"]'
holds compared.json 'runs[2]["engine"]["threads"] == 1 and runs[3]["engine"]["chunk_tokens"] <= 64'
holds compared.json 'runs[1]["counters"]["bytes_needed"] == runs[0]["counters"]["bytes_needed"]'
grep -q '^  cache=1M  ' "$tmp/compared" || fail "the table of a comparison lacks a setting"
grep -q '^  same ids in all runs: yes; same logits: yes, bit for bit (8 runs)$' "$tmp/compared" ||
    fail "the ids of eight runs are not compared"

# ---- sweeps and their picture

# shellcheck disable=SC2086
good swept $few --sweep-memory 24M,1M,96MiB,24M --json "$tmp/swept.json" --plot "$tmp/swept.svg"
holds swept.json '[r["memory_asked_bytes"] >> 20 for r in runs] == [96, 24, 1]'
holds swept.json 'runs[2]["refused"] and "figures" not in runs[2] and not runs[0]["refused"]'
holds swept.json 'b["kind"] == "sweep" and b["same_ids"]'
grep -q '^ *24.0 MiB ' "$tmp/swept" || fail "the table of a sweep lacks a budget"
grep -q '^ *1.0 MiB does not open: .*1.0 MiB of memory are not enough' "$tmp/swept" ||
    fail "a budget that is too small is not said to be"
# shellcheck disable=SC2086
good point $few --sweep-memory 96M --plot "$tmp/point.svg"
for picture in swept point; do
    python3 - "$tmp/$picture.svg" <<'EOF' || fail "$picture.svg is not as it should be"
import sys, xml.etree.ElementTree as tree
root = tree.parse(sys.argv[1]).getroot()
svg = "{http://www.w3.org/2000/svg}"
texts = ["".join(t.itertext()) for t in root.iter(svg + "text")]
assert root.tag == svg + "svg" and any(t.startswith("memory budget") for t in texts)
assert "decode, tokens a second" in texts and "measured" in texts
assert any("bits a weight" in t and "experts a token" in t for t in texts)
width, height = float(root.get("width")), float(root.get("height"))
dots = list(root.iter(svg + "circle"))
assert dots and all(0 <= float(d.get("cx")) <= width and 0 <= float(d.get("cy")) <= height
                    for d in dots)
assert "nan" not in open(sys.argv[1]).read() and "inf" not in open(sys.argv[1]).read()
EOF
done
[ -z "$(ls -A "$TMPDIR")" ] || fail "something stays in the folder for temporary files"

# ---- wrong usage and failures

bad 2 "bench: --sweep-memory takes sizes such as 4G,6G,8G, not 'x'*" --sweep-memory 4G,x
bad 2 "bench: --sweep-memory takes sizes such as 4G,6G,8G, not ''*" --sweep-memory ''
bad 2 "bench: --sweep-memory takes sizes such as 4G,6G,8G, not ''*" --sweep-memory 4G,
bad 2 "bench: --sweep-memory takes sizes such as 4G,6G,8G, not '0'*" --sweep-memory 0
bad 2 "bench: --sweep-memory takes at most 32 sizes*" \
    --sweep-memory "$(seq -s, 1 33)"
bad 2 "bench: --plot draws a sweep: --sweep-memory is missing*" --plot "$tmp/x.svg"
bad 2 "bench: --compare and --sweep-memory exclude each other*" --sweep-memory 1G --compare io=pread
bad 2 "bench: --memory and --sweep-memory exclude each other*" --sweep-memory 1G --memory 1G
bad 2 "bench: --compare takes settings with ';' between them*" --compare ''
bad 2 "bench: --compare takes settings with ';' between them*" --compare 'threads=1;;threads=2'
bad 2 "bench: --compare takes settings with ';' between them*" --compare 'threads=1;'
bad 2 "bench: --compare takes settings such as *; 'threads' is not NAME=VALUE*" --compare threads
bad 2 "bench: --compare takes settings such as *; '' is not NAME=VALUE*" --compare 'threads=1,'
bad 2 "bench: --compare takes settings such as *; '--io=x' is not NAME=VALUE*" --compare --io=x
bad 2 "bench: --compare takes settings such as *; '=1' is not NAME=VALUE*" --compare =1
bad 2 "bench: unknown option --bogus*" --compare 'threads=1;bogus=2'
bad 2 "bench: --io takes one of auto|uring|pread|mmap, not 'tape'*" --compare io=tape
bad 2 "bench: --cache takes a size*" --compare cache=0
bad 2 "bench: --compare: more than 16 options in a setting*" \
    --compare "$(printf 'threads=1,%.0s' $(seq 16))threads=1"
bad 2 "bench: --compare takes at most 31 settings*" \
    --compare "$(printf 'threads=1;%.0s' $(seq 31))threads=1"
bad 2 "bench: --compare: experts-per-token makes another model*" --compare experts-per-token=1
bad 2 "bench: --kv takes one of f32|f16|q8, not 'f8'*" --kv f8
bad 2 "bench: --tokens takes a number from 1 to 1000000, not '0'*" --tokens 0
bad 2 "bench: --repeat takes a number from 1 to 1000, not '0'*" --repeat 0
bad 2 "bench: superfluous argument 'b'*" a b
bad 1 "*$tmp/nothing*" "$tmp/nothing"
bad 1 "$tmp/nothing/x.json: the folder cannot be written to" --json "$tmp/nothing/x.json"
bad 1 "$tmp: is a folder" --json "$tmp"
bad 1 "$tmp: is a folder" --sweep-memory 64M --plot "$tmp"
bad 1 "*not enough*" --memory 1M --tokens 1
bad 1 "*: the bench runs 9 tokens, the context is 4 (*" --prompt 5 --warmup 2 --tokens 2 --ctx 4
echo "1 99999999" >"$tmp/ids"
bad 1 "$tmp/ids: *position 1*vocabulary*" --ids "$tmp/ids"
: >"$tmp/ids"
bad 1 "$tmp/ids: holds no token id*" --ids "$tmp/ids"

# ---- Ctrl-C

set -m # a job in the background does not ignore Ctrl-C
"$sluice" bench --tokens 8000 --prompt 1 --warmup 0 --json "$tmp/stopped.json" \
    >"$tmp/stopped" 2>"$tmp/stopped.err" &
while [ -z "$(ls -A "$TMPDIR")" ] && kill -0 $! 2>"$tmp/kill"; do sleep 0.02; done
kill -INT $!
wait $!
code=$?
[ $code = 1 ] && grep -Eq '^sluice: stopped; (this is what|nothing) was measured' \
    "$tmp/stopped.err" || fail "Ctrl-C ends with $code: $(cat "$tmp/stopped.err")"
[ ! -e "$tmp/stopped.json" ] ||
    holds stopped.json 'b["interrupted"] and not runs[-1]["complete"]'
[ -z "$(ls -A "$TMPDIR")" ] || fail "Ctrl-C leaves something in the folder for temporary files"

[ "$failures" = 0 ] || exit 1
echo "the bench counts what it says"
