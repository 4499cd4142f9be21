#!/usr/bin/env bash
# The program as an unlucky user meets it: damaged and odd files, ids that are none, a full disk,
# kill -9, streams that are closed. Every failure is exit code 1 and one line that names the file
# and the thing; what was being written is whole or not there. What a damaged file makes the engine
# say is the matter of test_robust.c and test_robust_files.c.
set -u
sluice=$1
fast=${SLUICE_TEST_FAST:-0}
demo=$PWD/../models/demo
tiny=$PWD/data/qwen3_5_moe_text
if [ ! -e "$demo/manifest.json" ]; then
    echo "skipped: no model in $demo"
    exit 77
fi
tmp=$(mktemp -d "${TMPDIR:-/tmp}/sluice-robust.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
export XDG_CACHE_HOME=$tmp/cache
checks=0
failures=0

fail() {
    failures=$((failures + 1))
    printf 'FAILED: %s\n' "$*"
}

# judge PATTERN WHAT: exit code 1 in $code, nothing in $tmp/out, and in $tmp/err one message, which
# matches. Only pack, which reports its progress, may say more before it, and inspect on stdout what
# it knows of an incomplete model.
judge() {
    local pattern=$1 what=$2 message
    checks=$((checks + 1))
    message=$(grep '^sluice: ' "$tmp/err")
    [ "$code" = 1 ] || fail "'$what' exits with $code, not 1: $(tail -n 1 "$tmp/err")"
    [ ! -s "$tmp/out" ] || [[ $what == inspect\ * ]] || fail "'$what' writes to stdout"
    [ "$(wc -l <<<"$message")" = 1 ] || fail "'$what' says: $message"
    [ "$(wc -l <"$tmp/err")" = 1 ] || [[ $what == pack\ * ]] ||
        fail "'$what' says: $(cat "$tmp/err")"
    # shellcheck disable=SC2053  # the right side is a pattern
    [[ $message == sluice:\ $pattern ]] || fail "'$what' says '$message', not '$pattern'"
}

# refuse PATTERN ARGUMENTS...: standard input is this shell's; a wait without end is a failure too.
refuse() {
    local pattern=$1
    shift
    timeout 60 "$sluice" "$@" >"$tmp/out" 2>"$tmp/err"
    code=$?
    judge "$pattern" "$*"
}

# A folder of links to the files of a model.
links() {
    rm -rf "$2"
    mkdir "$2"
    ln -s "$1"/* "$2"
}

nothing_at() {
    local path
    for path; do
        [ ! -e "$path" ] || fail "$path is there"
    done
}

# ---- files that are none, for every command that opens a model

echo 1 2 3 >"$tmp/ids"
echo '[1, 2, 3]' >"$tmp/lines"
refuse_model() { # PATTERN MODEL
    refuse "$1" inspect "$2"
    refuse "$1" pack "$2" "$tmp/packed"
    refuse "$1" logits "$2" --ids "$tmp/ids" --out "$tmp/logits"
    refuse "$1" eval nll "$2" --ids "$tmp/lines"
    nothing_at "$tmp/packed" "$tmp/packed.partial" "$tmp/logits" "$tmp/logits.tmp"
}
m=$tmp/model
refuse_model '"" is no path*' ''
refuse_model "$tmp/none: No such file or directory" "$tmp/none"
refuse_model '/dev/zero: *' /dev/zero
refuse_model "\"*\" is no path*" "$(printf 'a/%.0s' $(seq 5000))"
for file in manifest.json resident.bin experts-003.bin chat_template.jinja; do
    links "$demo" "$m"
    rm "$m/$file"
    mkfifo "$m/$file"
    refuse_model "$m/$file: not a regular file" "$m"
    rm "$m/$file"
    mkdir "$m/$file"
    refuse_model "$m/$file: not a regular file" "$m"
    rmdir "$m/$file"
    ln -s "$file" "$m/$file"
    refuse_model "$m/$file: *symbolic links*" "$m"
    rm "$m/$file"
    : >"$m/$file"
    refuse_model "$m/$file: *" "$m"
done
for file in config.json model.safetensors.index.json model-00001-of-00002.safetensors; do
    links "$tiny" "$m"
    rm "$m/$file"
    mkfifo "$m/$file"
    refuse_model "$m/$file: not a regular file" "$m"
    rm "$m/$file"
    : >"$m/$file"
    refuse_model "$m/$file: *" "$m"
done
if [ "$(id -u)" = 0 ]; then
    echo "not checked: root may read files of mode 000"
else
    links "$demo" "$m"
    rm "$m/resident.bin"
    cp "$demo/resident.bin" "$m"
    chmod 000 "$m/resident.bin"
    refuse_model "$m/resident.bin: Permission denied" "$m"
fi
for file in tokenizer.bin; do
    links "$demo" "$m"
    rm "$m/$file"
    mkfifo "$m/$file"
    refuse "$m/$file: not a regular file" tokenize "$m" <"$tmp/ids"
    refuse "$m/$file: not a regular file" run "$m" -p hello
    rm "$m/$file"
    head -c 3000 "$demo/$file" >"$m/$file"
    refuse "$m/$file: *" tokenize "$m" <"$tmp/ids"
    refuse "$m/$file: *" run "$m" -p hello
    refuse "$m/$file: *" detokenize "$m" <"$tmp/ids"
done
refuse '"" is no path*' tokenize '' <"$tmp/ids"
refuse '"" is no path*' run '' -p hello

# ---- ids, budgets, contexts

refuse_ids() { # PATTERN IDS
    echo "$2" >"$tmp/odd"
    refuse "$tmp/odd: $1" logits "$demo" --ids "$tmp/odd" --out "$tmp/logits"
    nothing_at "$tmp/logits" "$tmp/logits.tmp"
}
refuse_ids "position 1 *: '-1' is not a token id" '5 -1'
refuse_ids "position 2 *: '1.5' is not a token id" '5 6 1.5'
refuse_ids "position 0 *: 'x' is not a token id" 'x'
refuse_ids "position 0 *: '99999999999999999999' is not*" '99999999999999999999'
refuse_ids 'id 8192 at position 1 *' '8191 8192'
refuse_ids 'holds no token id' ''
refuse_lines() { # PATTERN LINES
    printf '%b\n' "$2" >"$tmp/odd"
    refuse "$tmp/odd: $1" eval nll "$demo" --ids "$tmp/odd"
}
refuse_lines 'line 2: position 1 *' '[1,2]\n[1,-1]'
refuse_lines 'line 2: position 0 *' '[1,2]\n["1",2]'
refuse_lines 'line 1: position 2 *' '[1,2,4294967296]'
refuse_lines 'line 2: id 8192 at position 1 *' '[1,2]\n[1,8192]'
refuse_lines 'line 1: 1 token; *' '[1]'
refuse_lines 'line 2, column *' '[1,2]\n[1,'
refuse_lines 'no line *' ''
head -c 100000 /dev/zero >"$tmp/odd"
refuse "$tmp/odd: position 0 *" logits "$demo" --ids "$tmp/odd" --out "$tmp/logits"
refuse "$tmp: *" logits "$demo" --ids "$tmp" --out "$tmp/logits"
refuse "$demo: *MiB are needed*" logits "$demo" --ids "$tmp/ids" --out "$tmp/logits" --memory 1M
refuse "$demo: *too small*" logits "$demo" --ids "$tmp/ids" --out "$tmp/logits" --cache 1K
refuse "$demo: *beyond the model's*" logits "$demo" --ids "$tmp/ids" --out "$tmp/logits" \
    --ctx 100000
refuse "$demo: *MiB are needed*" run "$demo" -p hello --memory 1M
seq 0 8191 >"$tmp/many"
echo 1 >>"$tmp/many"
refuse "$demo: *8193 tokens is beyond*" logits "$demo" --ids "$tmp/many" --out "$tmp/logits"
printf 'the prompt %.0s' $(seq 4200) >"$tmp/prompt"
refuse 'the prompt has * tokens, the context 8192 *' run "$demo" -f "$tmp/prompt"
nothing_at "$tmp/logits" "$tmp/logits.tmp"

# ---- a number that is none

if command -v python3 >"$tmp/where"; then
    # poison TENSOR ELEMENT: a NaN in a copy of the tiny checkpoint.
    poison() {
        links "$tiny" "$m"
        cp "$PWD/data/tokenizer/small.json" "$m/tokenizer.json"
        python3 - "$m" "$1" "$2" <<'PYTHON'
import json, os, shutil, sys
folder, tensor, element = sys.argv[1], sys.argv[2], int(sys.argv[3])
index = json.load(open(folder + "/model.safetensors.index.json"))
path = folder + "/" + index["weight_map"][tensor]
source = os.path.realpath(path)
os.remove(path)
shutil.copy(source, path)
with open(path, "r+b") as f:
    size = int.from_bytes(f.read(8), "little")
    begin = json.loads(f.read(size))[tensor]["data_offsets"][0]
    f.seek(8 + size + begin + 2 * element)
    f.write(b"\xc0\x7f")
PYTHON
    }
    refuse_run() { # PATTERN
        refuse "$1" logits "$m" --ids "$tmp/ids" --out "$tmp/logits"
        nothing_at "$tmp/logits" "$tmp/logits.tmp"
        refuse "$1" eval nll "$m" --ids "$tmp/lines"
        refuse "$1" run "$m" -p hello --greedy
    }
    poison model.layers.1.mlp.gate.weight 77
    refuse_run "$m: layer 1: the router's output is not finite"
    poison model.norm.weight 3
    refuse_run "$m: *logit of token *"
    poison lm_head.weight 1000
    refuse_run "$m: *logit of token *"
    refuse "$m: tensor lm_head.weight: *" pack "$m" "$tmp/packed" --resident q8 --experts q8
    nothing_at "$tmp/packed" "$tmp/packed.partial"
else
    echo "not checked: python3 is not there"
fi

# ---- a full disk

"$sluice" pack "$demo" "$tmp/whole" >"$tmp/out" 2>"$tmp/err" || fail "pack: $(cat "$tmp/err")"
seq 1 300 >"$tmp/many"
"$sluice" logits "$demo" --ids "$tmp/many" --out "$tmp/whole.logits" 2>"$tmp/err" ||
    fail "logits: $(cat "$tmp/err")"

# Packs again after a failure: the result is that of one go.
resume() { # DST WHAT
    "$sluice" pack "$demo" "$1" >"$tmp/out" 2>"$tmp/err" || fail "$2: $(tail -n 1 "$tmp/err")"
    diff -r "$tmp/whole" "$1" >"$tmp/diff" || fail "$2 differs: $(head -n 3 "$tmp/diff")"
    nothing_at "$1.partial"
    rm -rf "$1"
}

# The signal that comes with the limit is the program's to ignore, and may be ignored already.
for before in : "trap '' XFSZ"; do
    for blocks in 1 1000 2000; do # of 1024 bytes: below a tensor, an expert file, resident.bin
        (
            eval "$before"
            ulimit -f $blocks
            exec "$sluice" pack "$demo" "$tmp/limited"
        ) >"$tmp/out" 2>"$tmp/err"
        code=$?
        judge "$tmp/limited.partial/*: File too large" "pack under ulimit -f $blocks"
        nothing_at "$tmp/limited"
    done
    resume "$tmp/limited" "a pack after a limit"
    (
        eval "$before"
        ulimit -f 5000
        exec "$sluice" logits "$demo" --ids "$tmp/many" --out "$tmp/logits"
    ) >"$tmp/out" 2>"$tmp/err"
    code=$?
    judge "$tmp/logits.tmp: File too large" "logits under a limit"
    nothing_at "$tmp/logits" "$tmp/logits.tmp"
done

# In a namespace of its own, so that nothing stays mounted whatever happens.
cat >"$tmp/tmpfs.sh" <<'SCRIPT'
sluice=$1 demo=$2 tmp=$3
mount -t tmpfs -o size=11m none "$tmp/small" || exit 77
"$sluice" pack "$demo" "$tmp/small/pack" >"$tmp/out3" 2>"$tmp/err3"
echo $? >"$tmp/code3"
ls "$tmp/small" >"$tmp/left3"
mount -o remount,size=64m,nr_inodes=6 "$tmp/small" # room enough, but not for so many files
"$sluice" pack "$demo" "$tmp/small/pack" >"$tmp/out" 2>"$tmp/err"
echo $? >"$tmp/code"
ls "$tmp/small" >"$tmp/left"
mount -o remount,size=64m,nr_inodes=1000 "$tmp/small"
"$sluice" pack "$demo" "$tmp/small/pack" >"$tmp/out2" 2>"$tmp/err2" || exit 1
cp -r "$tmp/small/pack" "$tmp/from-small"
rm -r "$tmp/small/pack"
mount -o remount,size=2m "$tmp/small"
echo before >"$tmp/small/logits"
"$sluice" logits "$demo" --ids "$tmp/many" --out "$tmp/small/logits" >"$tmp/out2" 2>"$tmp/err2"
echo $? >"$tmp/code2"
ls "$tmp/small" >"$tmp/left2"
cat "$tmp/small/logits" >"$tmp/kept"
SCRIPT
mkdir "$tmp/small"
unshare -m bash "$tmp/tmpfs.sh" "$sluice" "$demo" "$tmp" 2>"$tmp/unshare"
case $? in
0)
    code=$(cat "$tmp/code")
    judge "$tmp/small/pack.partial/*: No space left on device" "pack on a full disk"
    [ "$(cat "$tmp/left")" = pack.partial ] || fail "a full disk holds $(cat "$tmp/left")"
    mv "$tmp/err3" "$tmp/err"
    mv "$tmp/out3" "$tmp/out"
    code=$(cat "$tmp/code3")
    judge "$tmp/small/pack: 0.0* GiB are to be written, and its file system has 0.0* GiB free" \
        "pack on a small disk"
    [ ! -s "$tmp/left3" ] || fail "a small disk holds $(cat "$tmp/left3")"
    diff -r "$tmp/whole" "$tmp/from-small" >"$tmp/diff" ||
        fail "after a full disk: $(cat "$tmp/diff")"
    mv "$tmp/err2" "$tmp/err"
    mv "$tmp/out2" "$tmp/out"
    code=$(cat "$tmp/code2")
    judge "$tmp/small/logits.tmp: No space left on device" "logits on a full disk"
    [ "$(cat "$tmp/left2") $(cat "$tmp/kept")" = "logits before" ] ||
        fail "logits on a full disk leave $(cat "$tmp/left2")"
    ;;
*) echo "not checked: no small file system of its own: $(head -n 1 "$tmp/unshare")" ;;
esac

# ---- kill -9

rounds=6
[ "$fast" = 0 ] || rounds=2
RANDOM=5
for ((i = 0; i < rounds; i++)); do
    for ((k = 0; k < 3; k++)); do # one pack that is killed again and again
        "$sluice" pack "$demo" "$tmp/killed" >"$tmp/out" 2>"$tmp/err" &
        sleep "0.$(printf %03d $((RANDOM % 250)))"
        kill -9 $! 2>"$tmp/kill"
        wait $! 2>"$tmp/kill"
        [ ! -e "$tmp/killed" ] || break # it was done before: then it is whole
    done
    if [ -e "$tmp/killed" ]; then
        diff -r "$tmp/whole" "$tmp/killed" >"$tmp/diff" || fail "pack: $(head -n 3 "$tmp/diff")"
        rm -rf "$tmp/killed"
    else
        resume "$tmp/killed" "a pack after kill -9"
    fi
done
"$sluice" logits "$demo" --ids "$tmp/many" --out "$tmp/logits" 2>"$tmp/err" &
sleep 0.05
kill -9 $! 2>"$tmp/kill"
wait $! 2>"$tmp/kill"
[ ! -e "$tmp/logits" ] || cmp -s "$tmp/logits" "$tmp/whole.logits" || fail "half of the logits"
"$sluice" logits "$demo" --ids "$tmp/many" --out "$tmp/logits" 2>"$tmp/err"
cmp -s "$tmp/logits" "$tmp/whole.logits" || fail "logits after kill -9 differ"
nothing_at "$tmp/logits.tmp"

# A finished file of an interrupted pack that is damaged meanwhile is written again.
"$sluice" pack "$demo" "$tmp/killed" >"$tmp/out" 2>"$tmp/err" &
part=$tmp/killed.partial/experts-003.bin
while kill -0 $! 2>"$tmp/kill" && [ ! -e "$part" ]; do sleep 0.005; done
kill -9 $! 2>"$tmp/kill"
wait $! 2>"$tmp/kill"
if [ -e "$tmp/killed.partial/experts-000.bin" ]; then
    printf x | dd of="$tmp/killed.partial/experts-000.bin" bs=1 seek=5000 conv=notrunc 2>"$tmp/dd"
    refuse "$tmp/killed.partial*another source or other options*" \
        pack "$demo" "$tmp/killed" --experts q2
    resume "$tmp/killed" "a pack with a damaged part"
fi
rm -rf "$tmp/killed" "$tmp/killed.partial"

# Two at once: one of them packs, the other says so.
"$sluice" pack "$demo" "$tmp/killed" >"$tmp/out1" 2>"$tmp/err1" &
part=$tmp/killed.partial/resident.bin
while kill -0 $! 2>"$tmp/kill" && [ ! -e "$part" ]; do sleep 0.005; done
"$sluice" pack "$demo" "$tmp/killed" >"$tmp/out" 2>"$tmp/err"
code=$?
wait $! || fail "a pack beside another one fails: $(tail -n 1 "$tmp/err1")"
judge "$tmp/killed*: *" 'pack beside another one'
diff -r "$tmp/whole" "$tmp/killed" >"$tmp/diff" || fail "two packs: $(head -n 3 "$tmp/diff")"
rm -rf "$tmp/killed"

# Places that cannot be written to.
refuse "$tmp/whole: is already there" pack "$demo" "$tmp/whole"
refuse "$tmp/none/pack.partial: No such file or directory" pack "$demo" "$tmp/none/pack"
refuse "$tmp/ids/pack*: Not a directory" pack "$demo" "$tmp/ids/pack"
mkdir "$tmp/taken.partial"
echo mine >"$tmp/taken.partial/file"
refuse "$tmp/taken.partial: *no interrupted pack*" pack "$demo" "$tmp/taken"
[ "$(cat "$tmp/taken.partial/file")" = mine ] || fail "a folder of someone else's was touched"
refuse "$tmp/none/logits.tmp: *" logits "$demo" --ids "$tmp/ids" --out "$tmp/none/logits"
refuse "$tmp/small: not a regular file" logits "$demo" --ids "$tmp/ids" --out "$tmp/small"

# ---- standard streams

echo hello >"$tmp/text"
: >"$tmp/out"
"$sluice" tokenize "$demo" <"$tmp/text" 2>"$tmp/err" >&-
code=$?
judge 'standard output: *' 'tokenize >&-'
"$sluice" tokenize "$demo" <&- >"$tmp/out" 2>"$tmp/err"
code=$?
judge 'standard input: *' 'tokenize <&-'
if [ -c /dev/full ]; then
    "$sluice" tokenize "$demo" <"$tmp/text" 2>"$tmp/err" >/dev/full
    code=$?
    judge 'standard output: No space left on device' 'tokenize >/dev/full'
    "$sluice" eval nll "$demo" --ids "$tmp/lines" --json 2>"$tmp/err" >/dev/full
    code=$?
    judge 'standard output: No space left on device' 'eval nll >/dev/full'
    "$sluice" inspect "$demo" 2>"$tmp/err" >/dev/full
    code=$?
    judge 'standard output: No space left on device' 'inspect >/dev/full'
    "$sluice" run "$demo" -p hello -n 20 2>"$tmp/err" >/dev/full
    code=$?
    judge 'standard output: *' 'run >/dev/full'
fi
"$sluice" tokenize "$demo" <"$tmp/text" >"$tmp/out" 2>&- || fail "tokenize 2>&- fails"
[ -s "$tmp/out" ] || fail "tokenize 2>&- writes nothing"
"$sluice" tokenize "$tmp/none" <"$tmp/text" >"$tmp/out" 2>&-
[ $? = 1 ] || fail "a failure without stderr does not exit with 1"

# Few open files: a soft limit is raised, a hard one is named.
if [ "$(head -c 2 "$sluice")" = '#!' ]; then
    echo "not checked: what starts the program under an emulator needs more files than that itself"
else
    (ulimit -Sn 8 && "$sluice" run "$demo" -p hello -n 1 >"$tmp/out" 2>"$tmp/err") ||
        fail "run under ulimit -Sn 8 fails: $(cat "$tmp/err")"
    (ulimit -n 8 && "$sluice" run "$demo" -p hello -n 1 >"$tmp/out" 2>"$tmp/err")
    code=$?
    judge "$demo/*: Too many open files" "run under ulimit -n 8"
fi

# Ctrl-C twice: the first asks, the second ends.
set -m # a job in the background does not ignore Ctrl-C
"$sluice" run "$demo" -p hello -n 100000 --temp 2 --seed 1 >"$tmp/long" 2>"$tmp/err" &
while [ ! -s "$tmp/long" ] && kill -0 $! 2>"$tmp/kill"; do sleep 0.01; done
kill -INT $! 2>"$tmp/kill"
kill -INT $! 2>"$tmp/kill"
wait $! 2>"$tmp/kill"
code=$?
case $code in 0 | 130) ;; *) fail "run ends with $code after two Ctrl-C" ;; esac
"$sluice" pack "$demo" "$tmp/stopped" >"$tmp/out" 2>"$tmp/err" &
while [ ! -e "$tmp/stopped.partial" ] && kill -0 $! 2>"$tmp/kill"; do sleep 0.01; done
kill -INT $! 2>"$tmp/kill"
kill -INT $! 2>"$tmp/kill"
wait $! 2>"$tmp/kill"
code=$?
case $code in 0 | 1 | 130) ;; *) fail "pack ends with $code after two Ctrl-C" ;; esac
if [ -e "$tmp/stopped" ]; then
    diff -r "$tmp/whole" "$tmp/stopped" >"$tmp/diff" || fail "pack: $(head -n 3 "$tmp/diff")"
else
    resume "$tmp/stopped" "a pack after two Ctrl-C"
fi

echo "$checks failures were looked at"
[ "$failures" = 0 ] || exit 1
