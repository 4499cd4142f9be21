#!/usr/bin/env bash
# Pulling models from a hub on this machine (support/fake_hub.py), which goes wrong in every way
# that networks do: what arrives is whole and verified or not there, nothing that is there comes
# twice, the token goes to the hub alone; then a model that was pulled runs by its name, with the
# hub gone.
set -u
sluice=$1
tmp=$(mktemp -d "${TMPDIR:-/tmp}/sluice-pull.XXXXXX")
hub_pid=
# shellcheck disable=SC2317  # called by the trap
finish() {
    [ -z "$hub_pid" ] || kill "$hub_pid" 2>/dev/null
    rm -rf "$tmp"
}
trap finish EXIT
unset HF_HOME HF_HUB_CACHE HUGGINGFACE_HUB_CACHE HF_TOKEN HUGGING_FACE_HUB_TOKEN HF_TOKEN_PATH
unset http_proxy HTTP_PROXY all_proxy ALL_PROXY SLUICE_DEMO
export XDG_CACHE_HOME=$tmp/xdg HF_HUB_CACHE=$tmp/hub HF_ENDPOINT=http://127.0.0.1:1
if ! python3 -c 'import http.server' 2>/dev/null; then
    echo "skipped: python3 is not there"
    exit 77
fi
if "$sluice" pull a/b 2>&1 | grep -q 'this build has no downloads'; then
    echo "skipped: this build has no downloads"
    exit 77
fi
checks=0
failures=0
commit=0123456789abcdef0123456789abcdef01234567

fail() {
    failures=$((failures + 1))
    printf 'FAILED: %s\n' "$*"
}

# ---- the repositories

root=$tmp/root
tiny=$PWD/data/families/qwen3_moe
mib=$((1 << 20))
mkdir -p "$root/org"
cp -r "$tiny" "$root/org/tiny"
mkdir "$root/org/tiny/original"
cp "$tiny/golden.safetensors" "$root/org/tiny/consolidated.safetensors"
cp "$tiny/golden.safetensors" "$root/org/tiny/original/model.safetensors"
printf 'x' >"$root/org/tiny/pytorch_model.bin"
printf 'read me\n' >"$root/org/tiny/README.md"
mkdir "$root/org/big"
cp "$tiny/config.json" "$root/org/big"
: >"$root/org/big/merges.txt"
head -c $((40 * mib + 12345)) /dev/urandom >"$root/org/big/model.safetensors"
cp -r ../models/demo "$root/org/demo" 2>/dev/null
for quant in Q4_K_M UD-Q4_K_M IQ2_XXS; do
    mkdir -p "$root/org/gguf"
    head -c 1000 /dev/urandom >"$root/org/gguf/Some-4B-$quant.gguf"
done
mkdir "$root/org/gguf/Q8_0"
for part in 1 2 3; do
    head -c $((100 * part)) /dev/urandom >"$root/org/gguf/Q8_0/Some-4B-Q8_0-0000$part-of-00003.gguf"
done
head -c 10 /dev/urandom >"$root/org/gguf/mmproj-Some-4B-F16.gguf"
mkdir "$root/org/one"
head -c 1000 /dev/urandom >"$root/org/one/One-BF16.gguf"
mkdir "$root/org/parts"
head -c 10 /dev/urandom >"$root/org/parts/P-Q8_0-00001-of-00003.gguf"
head -c 10 /dev/urandom >"$root/org/parts/P-Q8_0-00003-of-00003.gguf"
mkdir -p "$root/org/twice/additional_chat_templates"
cp "$tiny"/{config.json,generation_config.json} "$root/org/twice"
head -c $((17 * mib)) /dev/urandom >"$root/org/twice/model-00001-of-00002.safetensors"
cp "$root/org/twice/model-00001-of-00002.safetensors" \
    "$root/org/twice/model-00002-of-00002.safetensors"
for name in chat_template.jinja additional_chat_templates/a.jinja additional_chat_templates/b.jinja
do
    printf '{{ messages }}' >"$root/org/twice/$name"
done
: >"$root/org/twice/empty.json"
: >"$root/org/twice/merges.txt"
mkdir "$root/org/nothing"
printf 'read me\n' >"$root/org/nothing/README.md"
for name in gated closed; do
    mkdir "$root/org/$name"
    cp "$tiny/config.json" "$root/org/$name"
    head -c 200000 /dev/urandom >"$root/org/$name/model.safetensors"
done

python3 support/fake_hub.py "$root" >"$tmp/ports" &
hub_pid=$!
for _ in $(seq 300); do
    [ -s "$tmp/ports" ] && break
    sleep 0.1
done
read -r hub_port cdn_port <"$tmp/ports"
export HF_ENDPOINT=http://127.0.0.1:$hub_port

# ---- calling

# behave LINE...: what the hub does wrong from now on; no line: nothing. Its log begins anew.
behave() {
    printf '%s\n' "$@" >"$root/behave.new"
    echo "# 0 $RANDOM$RANDOM" >>"$root/behave.new" # another text, so that it is read again
    mv "$root/behave.new" "$root/behave"
    rm -f "$root/log"
    : >"$root/log"
}

fresh() {
    rm -rf "$tmp/hub"
    behave "$@"
}

call() {
    checks=$((checks + 1))
    timeout 120 "$sluice" "$@" >"$tmp/out" 2>"$tmp/err" </dev/null
    code=$?
}

# whole NAME: every file of the snapshot is that of the repository, and nothing is left over.
whole() {
    local folder=$tmp/hub/models--${1/\//--} file
    local snapshot=$folder/snapshots/$commit
    [ -d "$snapshot" ] || { fail "$1: no snapshot"; return; }
    (cd "$snapshot" && find . -type l) >"$tmp/files"
    [ -s "$tmp/files" ] || fail "$1: nothing in the snapshot"
    while read -r file; do
        cmp -s "$snapshot/$file" "$root/$1/$file" || fail "$1: $file differs"
    done <"$tmp/files"
    [ "$(find "$folder/blobs" -name '*.*')" = "" ] || fail "$1: left: $(ls "$folder/blobs")"
}

# pulls NAME [OPTION...]: it works, prints one line, and what is there is right.
pulls() {
    call pull "$@"
    [ "$code" = 0 ] || { fail "pull $*: exit code $code: $(tail -n 1 "$tmp/err")"; return; }
    [ "$(wc -l <"$tmp/out")" = 1 ] && [ -e "$(cat "$tmp/out")" ] ||
        fail "pull $*: $(cat "$tmp/out")"
    whole "${1%%:*}"
    [ "$(cat "$tmp/hub/models--${1%%/*}--$(basename "${1%%:*}")/refs/main")" = $commit ] ||
        fail "pull $*: no ref"
}

# refuses PATTERN NAME [OPTION...]: exit code 1, a message that matches; nothing is given a name.
refuses() {
    local pattern=$1 message
    shift
    call pull "$@"
    message=$(grep '^sluice: ' "$tmp/err")
    [ "$code" = 1 ] || fail "pull $*: exit code $code, not 1: $message"
    [ ! -s "$tmp/out" ] || fail "pull $* writes to stdout"
    # shellcheck disable=SC2053  # the right side is a pattern
    [[ $message == sluice:\ $pattern ]] || fail "pull $* says '$message', not '$pattern'"
    [ -z "$(find "$tmp/hub" -path '*/refs/*' 2>/dev/null)" ] || fail "pull $*: a ref is there"
}

# sent SIDE: the bytes that it sent of files
sent() {
    awk -v side="$1" '$1 == side && $3 !~ /^\/api/ { n += $6 } END { print n + 0 }' "$root/log"
}

expect_sent() {
    checks=$((checks + 1))
    [ "$(sent "$1")" = "$2" ] || fail "$3: the $1 sent $(sent "$1") bytes, not $2"
}

# ---- what is chosen

fresh
pulls org/tiny
got=$(cd "$tmp/hub/models--org--tiny/snapshots/$commit" && find . -type l | sort | tr '\n' ' ')
[ "$got" = "./config.json ./generation_config.json ./model-00001-of-00002.safetensors \
./model-00002-of-00002.safetensors ./model.safetensors.index.json " ] || fail "tiny: $got"
behave
pulls org/tiny # there: the list is asked for, and no file
[ "$(wc -l <"$root/log")" = 1 ] || fail "a model that is there: $(cat "$root/log")"
rm "$tmp/hub/models--org--tiny/snapshots/$commit/config.json"
pulls org/tiny # a name that is missing is made again, without fetching
expect_sent hub 0 "a missing name"

fresh
pulls org/twice # names that share their content: it comes once
[ "$(wc -l <"$tmp/files")" = 9 ] || fail "twice: $(cat "$tmp/files")"
[ "$(grep -c jinja "$root/log")" = 1 ] || fail "twice: $(grep jinja "$root/log")"

fresh
refuses 'org/gguf holds several GGUF models: name one, as in org/gguf:Q8_0: Q8_0 (*, IQ2_XXS (*' \
    org/gguf
refuses 'org/gguf: "Q5_1" fits none of its GGUF models: *' org/gguf:Q5_1
refuses 'org/gguf: "Q4" fits several of its GGUF models: *' org/gguf:Q4
refuses 'org/gguf: "no.gguf" fits none of its GGUF models: *' org/gguf:no.gguf
refuses "org/gguf: nothing follows the ':'" org/gguf:
refuses 'org/tiny holds no GGUF files, *' org/tiny:Q4_K_M
refuses 'org/nothing holds no model in safetensors, GGUF or a pack' org/nothing
refuses 'org/parts: P-Q8_0-00001-of-00003.gguf: not all parts of it are there (1)' \
    org/parts:P-Q8_0-00001-of-00003.gguf
refuses 'org/none: the hub has no such model, *' org/none
refuses 'org/tiny: the hub has no such revision of it: v2' org/tiny --revision v2
refuses '"../x" is no revision' org/tiny --revision ../x
[ ! -e "$tmp/hub" ] || fail "a refused pull leaves $(find "$tmp/hub")"
call pull org/gguf --list
[ "$code" = 0 ] && grep -q '1000 B  org/gguf:UD-Q4_K_M$' "$tmp/out" ||
    fail "--list: $(cat "$tmp/out")"
grep -q '600 B  org/gguf:Q8_0  (3 files)$' "$tmp/out" || fail "--list: $(cat "$tmp/out")"
call pull org/big --dry-run
[ "$code" = 0 ] && grep -q '40.0 MiB  model.safetensors$' "$tmp/out" || fail "--dry-run"
[ ! -e "$tmp/hub" ] || fail "--list writes"
pulls org/gguf:q4_k_m
[ "$(basename "$(cat "$tmp/out")")" = Some-4B-Q4_K_M.gguf ] || fail "q4_k_m: $(cat "$tmp/out")"
[ "$(wc -l <"$tmp/files")" = 1 ] || fail "q4_k_m: $(cat "$tmp/files")"
pulls org/gguf:Q8_0
[[ $(cat "$tmp/out") == */Q8_0/Some-4B-Q8_0-00001-of-00003.gguf ]] || fail "Q8_0: $(cat "$tmp/out")"
[ "$(wc -l <"$tmp/files")" = 4 ] || fail "Q8_0: $(cat "$tmp/files")"
fresh
pulls org/gguf:Some-4B-Q8_0-00002-of-00003.gguf
[ "$(wc -l <"$tmp/files")" = 3 ] || fail "a part: $(cat "$tmp/files")"
pulls org/one
call pull org/tiny --revision v1/rc
[ -e "$tmp/hub/models--org--tiny/refs/v1/rc" ] || fail "a revision's ref"

# ---- pieces, and servers that misbehave

size=$((40 * mib + 12345))
fresh
pulls org/big --connections 3
expect_sent cdn $size "big"
[ "$(grep -c '^cdn' "$root/log")" = 3 ] || fail "big: $(cat "$root/log")"
[ "$(grep -c '^hub.*resolve.*model.safetensors' "$root/log")" = 1 ] || fail "the hub is asked again"

fresh 'cdn-429 2 0' 'cdn-503 2' 'hub-429 1 1' 'cdn-drop 1'
pulls org/big
expect_sent cdn $size "busy servers"
grep -q 'the hub is asked too often (status 429): waiting 1 s' "$tmp/err" || fail "429 says nothing"
fresh 'cut 2 3000000'
pulls org/big
expect_sent cdn $size "a cut connection"
fresh 'cut 40 3000000' # more often than it is tried, but it always comes further
pulls org/big --tries 3
expect_sent cdn $size "cut often"
fresh 'no-ranges 99'
pulls org/big
expect_sent cdn $size "a server without ranges"
fresh 'no-ranges 99' 'cut 1 20000000'
pulls org/big
fresh 'expired 2'
pulls org/big
fresh 'lying-length 1 1000'
pulls org/big
fresh 'other-range 1'
pulls org/big
fresh 'spoilt 1'
pulls org/big
grep -q 'differs from its checksum and is fetched again' "$tmp/err" || fail "spoilt: no note"

fresh 'spoilt 99'
refuses 'org/big: * what the hub sends differs from its checksum, twice; removed' org/big
fresh 'wrong-sum 99'
refuses 'org/big: model.safetensors: what the hub sends differs from its checksum, twice; *' org/big
[ -z "$(find "$tmp/hub/models--org--big/blobs" -size +1M)" ] || fail "a spoilt file stays"
fresh 'other-range 99'
refuses 'org/big: model.safetensors: another range than asked for (tries: 3)' org/big --tries 3
fresh 'cdn-503 99'
refuses 'org/big: *: the server is in trouble (status 503) (tries: 2)' org/big --tries 2
fresh 'hub-429 1 9999'
refuses 'org/big: main: the hub asks to come back in 9999 s; what is there stays' org/big
fresh 'hub-503 99'
refuses 'org/big: main: the server is in trouble (status 503) (tries: 1)' org/big --tries 1
fresh 'loop 99'
refuses 'org/big: *: redirected more than 10 times' org/big
fresh 'elsewhere 9 http://example.com/x'
refuses 'org/big: *: redirected to "http://example.com/x", which is refused: not https' org/big
fresh 'elsewhere 9 http://127.0.0.1@example.com/x'
refuses 'org/big: *: redirected to "*", which is refused: not https' org/big
fresh 'elsewhere 9 file:///etc/passwd'
refuses 'org/big: *: redirected to "*", which is refused: not https' org/big
fresh 'missing 9'
refuses 'org/big: the hub has no such thing: *' org/big
for path in ../../evil /etc/evil a/../../evil 'a\b' a//b . a/./b; do
    fresh "bad-path 1 $path"
    refuses 'org/big: the hub lists a file name that is refused: *' org/big
    [ ! -e "$tmp/hub" ] || fail "$path: something is written"
done
fresh 'huge 1 9000000000000000000'
refuses "$tmp/hub: too little room for org/big: 9000000000.0 GB are missing *" org/big
[ ! -e "$tmp/hub" ] || fail "too little room: something is written"
for junk in nothing '{}' '[]' '{"sha":"x","siblings":[]}' "{\"sha\":\"$commit\"}"; do
    fresh "junk 1 $junk"
    refuses 'org/big: *' org/big
done

# ---- tokens

fresh
refuses 'org/gated: the hub wants a token: * set HF_TOKEN *' org/gated
HF_TOKEN=wrong refuses 'org/gated: the hub refuses access: ask for it at *' org/gated
HF_TOKEN=x refuses 'org/closed: the hub refuses access: ask for it at http://127.0.0.1:*' org/closed
HF_TOKEN='two words' refuses 'HF_TOKEN: a token is one word of ASCII' org/gated
behave
HF_TOKEN=secret pulls org/gated
grep -q '^hub .* yes ' "$root/log" || fail "the hub gets no token"
grep -q '^cdn .* yes ' "$root/log" && fail "the CDN gets the token"
fresh
printf ' secret\n' >"$tmp/token"
HF_TOKEN_PATH=$tmp/token pulls org/gated
fresh
HF_ENDPOINT=http://localhost.example.com refuses 'HF_ENDPOINT: * is not https, *' org/big
HF_ENDPOINT=ftp://x refuses 'HF_ENDPOINT: * is not https://HOST' org/big
HF_ENDPOINT=http://127.0.0.1:1 refuses 'org/big: http://127.0.0.1:1 cannot be reached: *' org/big

# ---- stopped and resumed

# stop SIGNAL: pulls slowly, and sends it when a piece is there.
stop() {
    "$sluice" pull org/big --connections 2 >/dev/null 2>"$tmp/err" </dev/null &
    local pid=$! map
    for _ in $(seq 600); do
        map=$(find "$tmp/hub" -name '*.sluice-pieces' 2>/dev/null | head -n 1)
        [ -n "$map" ] && grep -q '#' "$map" 2>/dev/null && break
        sleep 0.05
    done
    if [ "$1" = KILL ]; then # while it runs, nobody else may
        call pull org/big
        grep -q 'org/big: another pull of it is running' "$tmp/err" || fail "two at once: $code"
    fi
    kill "-$1" $pid 2>/dev/null
    wait $pid 2>/dev/null
    code=$?
    there=$(tail -n 1 "$map" | tr -cd '#' | wc -c)
    [ "$there" -ge 1 ] && [ "$there" -le 2 ] || fail "$1: $there pieces are there"
}

for signal in KILL INT; do
    fresh 'slow 99999 0.02'
    stop $signal
    [ -z "$(find "$tmp/hub" -path '*/refs/*')" ] || fail "$signal: a ref is there"
    [ -z "$(find "$tmp/hub" -path '*/snapshots/*.safetensors')" ] || fail "$signal: a name is there"
    if [ $signal = INT ]; then
        [ $code = 1 ] && grep -q 'stopped; run the same command again' "$tmp/err" ||
            fail "INT: $code: $(cat "$tmp/err")"
    fi
    behave
    pulls org/big
    expect_sent cdn $((size - there * 16 * mib)) "resumed after $signal"
done

# A server that has lost its ranges sends all of it over what is there, which may be wrong.
fresh 'slow 99999 0.02'
stop KILL
behave 'no-ranges 99'
python3 - "$(find "$tmp/hub" -name '*.sluice')" <<'END'
import sys
with open(sys.argv[1], "r+b") as file:
    file.write(b"spoilt")
END
pulls org/big
expect_sent cdn $size "resumed without ranges"

# What huggingface_hub left is a front part; one that is wrong is noticed.
sum=$(sha256sum <"$root/org/big/model.safetensors" | cut -c 1-64)
blobs=$tmp/hub/models--org--big/blobs
fresh
mkdir -p "$blobs"
head -c $((20 * mib)) "$root/org/big/model.safetensors" >"$blobs/$sum.incomplete"
pulls org/big
expect_sent cdn $((size - 16 * mib)) "a front part"
fresh
mkdir -p "$blobs"
head -c $((20 * mib)) /dev/zero >"$blobs/$sum.incomplete"
pulls org/big
# A map that is not of this file is not believed, nor one without its file.
fresh
mkdir -p "$blobs"
printf 'sluice pull 1 %d 16777216\n###' $size >"$blobs/$sum.sluice-pieces"
pulls org/big
expect_sent cdn $size "a map alone"
fresh
mkdir -p "$blobs"
printf 'sluice pull 1 7 16777216\n###' >"$blobs/$sum.sluice-pieces"
head -c $size /dev/zero >"$blobs/$sum.sluice"
pulls org/big
expect_sent cdn $size "a strange map"
# Another program is fetching the same file.
fresh
mkdir -p "$tmp/hub/.locks/models--org--big"
python3 - "$tmp/hub/.locks/models--org--big/$sum.lock" "$tmp/locked" <<'END' &
import fcntl, pathlib, sys, time
with open(sys.argv[1], "w") as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    pathlib.Path(sys.argv[2]).touch()
    time.sleep(600)
END
lock_pid=$!
for _ in $(seq 300); do
    [ -e "$tmp/locked" ] && break
    sleep 0.1
done
refuses 'org/big: model.safetensors: another program is downloading this file' org/big
kill $lock_pid

# ---- the model runs, and nobody is asked

fresh
pulls org/tiny
if [ -e "$root/org/demo/manifest.json" ]; then pulls org/demo; fi
kill "$hub_pid"
wait "$hub_pid" 2>/dev/null
hub_pid=
export HF_ENDPOINT=http://127.0.0.1:1
call inspect org/tiny
[ "$code" = 0 ] && grep -q qwen3_moe "$tmp/out" || fail "inspect: $(cat "$tmp/err")"
if [ -e "$root/org/demo/manifest.json" ]; then
    call run org/demo -p 'Once upon a time' -n 8
    [ "$code" = 0 ] || fail "run: $(cat "$tmp/err")"
    cp "$tmp/out" "$tmp/text"
    call run ../models/demo -p 'Once upon a time' -n 8
    cmp -s "$tmp/out" "$tmp/text" || fail "run: another text"
fi
call run org/other -p x
[ "$code" = 1 ] && grep -q "'sluice pull org/other'" "$tmp/err" || fail "run: $(cat "$tmp/err")"

echo "$checks checks, $failures failed"
[ "$failures" = 0 ]
