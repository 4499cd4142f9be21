#!/usr/bin/env bash
# What the program says and how it exits where no model is needed: help, wrong usage, bad input.
set -u
sluice=$1
tmp=$(mktemp -d "${TMPDIR:-/tmp}/sluice-usage.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
export XDG_CACHE_HOME=$tmp/cache
unset SLUICE_DEMO HF_HOME HF_HUB_CACHE HUGGINGFACE_HUB_CACHE
checks=0
failures=0

fail() {
    failures=$((failures + 1))
    printf 'FAILED: %s\n' "$*"
}

# Runs the program; leaves $code, and its streams in $tmp/out and $tmp/err.
call() {
    checks=$((checks + 1))
    "$sluice" "$@" >"$tmp/out" 2>"$tmp/err" </dev/null
    code=$?
}

# expect CODE PATTERN ARGUMENTS...: nothing on stdout, one line on stderr, "sluice: PATTERN".
expect() {
    local want=$1 pattern=$2
    shift 2
    call "$@"
    local message
    message=$(cat "$tmp/err")
    [ "$code" = "$want" ] || fail "'$*' exits with $code, not $want: $message"
    [ ! -s "$tmp/out" ] || fail "'$*' writes to stdout"
    [ "$(wc -l <"$tmp/err")" = 1 ] || fail "'$*' says: $message"
    # shellcheck disable=SC2053  # the right side is a pattern
    [[ $message == sluice:\ $pattern ]] || fail "'$*' says '$message', not '$pattern'"
}

usage() {
    local pattern=$1
    shift
    expect 2 "$pattern" "$@"
    grep -q -- "--help')\$" "$tmp/err" || fail "'$*' does not point to --help"
}

# ---- help and version

commands=(run chat inspect pull pack tokenize detokenize render logits 'eval nll' probe cpu bench
    synth 'trace record' 'trace inspect' 'trace simulate')

call --version
[ "$code" = 0 ] && grep -Eqx 'sluice [0-9]+\.[0-9]+\.[0-9]+' "$tmp/out" || fail "--version"
for flag in --help -h; do
    call $flag
    [ "$code" = 0 ] && [ ! -s "$tmp/err" ] || fail "$flag"
    for command in "${commands[@]}"; do
        grep -q "^  $command  " "$tmp/out" || fail "$flag does not list $command"
    done
done
for command in "${commands[@]}"; do
    for flag in --help -h; do
        # shellcheck disable=SC2086  # two words are two arguments
        call $command $flag
        [ "$code" = 0 ] && [ ! -s "$tmp/err" ] || fail "$command $flag"
        grep -q "^usage: sluice $command " "$tmp/out" || fail "$command $flag shows no usage"
        grep -q -- "-h, --help" "$tmp/out" || fail "$command $flag does not list itself"
        [ "$(awk 'length > 100' "$tmp/out")" = "" ] || fail "$command $flag has long lines"
    done
    case $command in
    run | chat | logits | 'eval nll' | 'trace record')
        for option in memory cache threads cpu-mask io direct io-depth map-advice prefetch ctx \
            chunk experts-per-token verify-reads; do
            grep -q -- "--$option " "$tmp/out" || fail "$command --help lacks --$option"
        done
        ;;
    esac
done
call eval --help
[ "$code" = 0 ] && grep -q 'sluice eval nll' "$tmp/out" || fail "eval --help"
call help
[ "$code" = 0 ] && grep -q '^usage: sluice COMMAND' "$tmp/out" || fail "help"
call help eval nll
[ "$code" = 0 ] && grep -q '^usage: sluice eval nll' "$tmp/out" || fail "help eval nll"
usage "unknown command 'bogus'*" help bogus
call run --bogus-later --help # the first mistake decides
[ "$code" = 2 ] || fail "run --bogus-later --help"
call run -p x --help
[ "$code" = 0 ] || fail "run -p x --help"

# ---- commands

usage "no command was given*"
usage "unknown command 'bogus'*" bogus
usage "unknown option '--bogus'*" --bogus
usage "unknown command ''*" ''
usage "unknown command 'ru'*" ru
usage "unknown command 'runs'*" runs
usage "eval is followed by what to do: 'sluice eval nll'*" eval
usage "eval is followed by what to do: 'sluice eval nll'*" eval nlls
usage "unknown command 'a?b?c'*" $'a\nb\tc'
usage "unknown command 'xxxx*" "$(printf 'x%.0s' $(seq 3000))"

# ---- arguments

usage "inspect: too few arguments*sluice inspect MODEL*" inspect
usage "tokenize: too few arguments*" tokenize --json
usage "detokenize: too few arguments*" detokenize
usage "run: give one of --json and --json-schema*" run -p x --json --json-schema y
usage "logits: too few arguments*" logits --ids a --out b
usage "eval nll: too few arguments*" eval nll --ids a
usage "pack: too few arguments*" pack src
usage "pull: too few arguments*" pull
usage "pull: 'name' is no name of the form ORG/NAME*" pull name
usage "pull: '../etc' is no name of the form ORG/NAME*" pull ../etc
usage "pull: 'a/b/c' is no name of the form ORG/NAME*" pull a/b/c
usage "pull: --connections takes a number from 1 to 64, not '65'*" pull a/b --connections 65
expect 1 "a/b: no such file, and no such model in the hub's cache: 'sluice pull a/b' *" \
    inspect a/b
usage "synth: too few arguments*" synth --like tiny
usage "inspect: superfluous argument 'b'*" inspect a b
usage "run: superfluous argument 'b'*" run a b -p x
usage "pack: superfluous argument 'c'*" pack a b c
usage "run: superfluous argument '-p'*" run -p x -- a -p
usage "run: give one of -p TEXT and -f FILE*" run m
usage "run: give one of -p TEXT and -f FILE*" run m -p x -f y
usage "render: give one of MODEL and --template FILE*" render
usage "render: give one of MODEL and --template FILE*" render m --template f
usage "render: superfluous argument 'b'*" render a b
usage "render: --template needs a value (FILE)*" render --template
usage "logits: --ids FILE is missing*" logits m --out x
usage "logits: --out FILE is missing*" logits m --ids x
usage "eval nll: --ids FILE is missing*" eval nll m
usage "trace is followed by what to do: 'sluice trace record', 'sluice trace inspect', *" trace
usage "trace record: --out FILE is missing*" trace record m --ids x
usage "trace record: give one of --ids and -p TEXT*" trace record m --out x
usage "trace record: give one of --ids and -p TEXT*" trace record m --out x --ids y -p z
usage "trace simulate: too few arguments*" trace simulate
usage "synth: --like NAME is missing; NAME is one of qwen3.5-397b, *" synth d
usage "synth: give one of --overlap X and --uniform*" \
    synth d --like tiny --uniform --overlap 0.3
usage "inspect: --tokens goes with --routing*" inspect m --tokens 3
usage "inspect: give one of --json and --routing*" inspect m --json --routing

# ---- options

usage "run: unknown option --bogus*" run m -p x --bogus
usage "run: unknown option --bogus*" run m -p x --bogus=3
usage "run: unknown option --memor*" run m -p x --memor 1G
usage "run: unknown option --memory-*" run m -p x --memory- 1G
usage "run: unknown option -x*" run m -p x -x
usage "run: unknown option --*" run m -p x --=3
usage "inspect: unknown option --memory*" inspect m --memory 1G
usage "pack: unknown option --ctx*" pack a b --ctx 1
usage "run: --memory needs a value (SIZE)*" run m -p x --memory
usage "run: -n needs a value (N)*" run m -p x -n
usage "logits: --ids needs a value (FILE)*" logits m --ids
usage "run: --greedy takes no value*" run m -p x --greedy=yes
usage "tokenize: --json takes no value*" tokenize m --json=
for size in 12Q '' 0 -1 1e9 0x10 nan ' 1G' '1 G' 1.2.3G 99999999999T; do
    usage "run: --memory takes a size such as 512M or 1.5GiB, not '$size'*" \
        run m -p x --memory "$size"
    usage "eval nll: --cache takes a size *" eval nll m --ids f "--cache=$size"
done
for number in '' x 1x 0x1 -1 +1 1.0 ' 1' 4294967296 99999999999999999999; do
    usage "run: -n takes a whole number, not '$number'*" run m -p x -n "$number"
    usage "run: --ctx takes a whole number above 0, not '$number'*" run m -p x --ctx "$number"
done
for option in threads io-depth; do
    for number in 0 1025 x -2; do
        usage "logits: --$option takes a number from 1 to 1024, not '$number'*" \
            logits m --ids a --out b "--$option" "$number"
    done
done
for option in ctx chunk experts-per-token; do
    usage "eval nll: --$option takes a whole number above 0, not '0'*" \
        eval nll m --ids a "--$option=0"
done
for number in -0.1 x '' nan inf 1e39 0x1p1 1,5 '1 '; do
    usage "run: --temp takes a number of at least 0, not '$number'*" run m -p x --temp "$number"
done
for number in 0 1.01 -1 nan; do
    usage "run: --top-p takes a number above 0, at most 1, not '$number'*" \
        run m -p x --top-p "$number"
done
for number in -0.5 1.01 nan; do
    usage "run: --min-p takes a number from 0 to 1, not '$number'*" run m -p x --min-p "$number"
done
for number in 0 -1 inf; do
    usage "run: --repetition-penalty takes a number above 0, not '$number'*" \
        run m -p x --repetition-penalty "$number"
done
usage "run: --presence-penalty takes a number, not 'x'*" run m -p x --presence-penalty x
usage "run: --frequency-penalty takes a number, not 'x'*" run m -p x --frequency-penalty x
usage "run: --seed takes a whole number, not '18446744073709551616'*" \
    run m -p x --seed 18446744073709551616
for word in '' al alll 'all|first' None; do
    usage "run: --verify-reads takes one of all|first|none, not '$word'*" \
        run m -p x --verify-reads "$word"
done
usage "pack: --threads takes a number from 1 to 1024, not '0'*" pack a b --threads 0
for number in 0 0.001 61 x nan -1; do
    usage "probe: --time takes a number from 0.01 to 60, not '$number'*" probe --time "$number"
done
usage "probe: --expert takes a size *" probe a --expert 0
usage "synth: --like takes one of qwen3.5-397b, *tiny*, not 'Tiny'*" synth d --like Tiny
usage "synth: --layers takes a whole number above 0, not '0'*" synth d --like tiny --layers 0
usage "synth: --experts takes one of bf16|q8|q4|q3|q2, not 'keep'*" \
    synth d --like tiny --experts keep
for option in overlap predictable; do
    for number in 0 1.1 -1 x nan; do
        usage "synth: --$option takes a number above 0, at most 1, not '$number'*" \
            synth d --like tiny "--$option" "$number"
    done
done
for command in 'synth d --like tiny' 'inspect m --routing'; do
    # shellcheck disable=SC2086  # words are arguments
    usage "${command%% *}: --tokens takes a whole number above 1, not '1'*" $command --tokens 1
done

# ---- failures: well-formed commands, exit code 1

none=$tmp/none
expect 1 "*$none*" inspect "$none"
expect 1 "*$none*" inspect "$none" --json
expect 1 "*$none*" tokenize "$none"
expect 1 "*$none*" detokenize "$none" --json
expect 1 "*$none*" render "$none" --json
expect 1 "*$none*" render --template "$none"
expect 1 "*$none*" run "$none" -p x
expect 1 "*$none*" run "$none" -p x --temp 0.5 --top-k=40 --top-p 1 --min-p 0 --seed \
    18446744073709551615 --repetition-penalty 1.1 --presence-penalty -1.5 -n0 --memory 1.5GiB \
    --cache=512M --threads 1024 --ctx 4294967295 --chunk 1 --verify-reads none --kv=q8
expect 1 "*$none*" run -p x -- "$none"
expect 1 "*$none*" pack "$none" "$tmp/out.pack" --experts bf16
[ ! -e "$tmp/out.pack" ] || fail "pack of nothing leaves something"
expect 1 "*$none*" probe "$none"
expect 1 "$tmp: no model here*" probe "$tmp"
SLUICE_DEMO=$none expect 1 "*$none*" run -p x
expect 1 "*$none*" inspect "$none" --routing
expect 1 "layers: 5, and tiny has 4" synth "$tmp/synth" --like tiny --layers 5
expect 1 "overlap 0.01: it can be *" synth "$tmp/synth" --like tiny --overlap 0.01 --dry-run
expect 1 "predictable 0.1: *" synth "$tmp/synth" --like tiny --predictable 0.1
expect 1 "$tmp: is already there" synth "$tmp" --like tiny
[ ! -e "$tmp/synth" ] && [ ! -e "$tmp/synth.partial" ] || fail "synth of nothing leaves something"

# Ids are read before the model is opened.
ids() { printf '%b' "$1" >"$tmp/ids"; }
lines_fail() {
    ids "$1"
    expect 1 "$tmp/ids: $2" eval nll "$none" --ids "$tmp/ids"
}
lines_fail '' "no line of token ids"
lines_fail '\n \n' "no line of token ids"
lines_fail '[1,2]\n[3\n' "line 2, column *"
lines_fail '[1,2]\n\n[3,4]\n' "line 2, column *"
lines_fail '[1,2]\n[3,4] 5\n' "line 2, column *"
lines_fail '[1,2]\n{"a":1}\n' "line 2: not an array of token ids"
lines_fail '7\n' "line 1: 1 token; at least two are needed"
lines_fail '[1,2]\n3 4 x\n' "line 2: position 2 (counted from 0): 'x' is not a token id"
lines_fail '[1,2]\n[3,4]\n[5]\n' "line 3: 1 token; at least two are needed"
lines_fail '[]\n' "line 1: 0 tokens; at least two are needed"
for odd in '"a"' -1 2.0 2147483648 null true '[1]'; do
    lines_fail "[1,2]\n[3,$odd]\n" "line 2: position 1 (counted from 0) is no token id"
done
expect 1 "$none: *" eval nll "$tmp" --ids "$none"
expect 1 "$tmp: *" eval nll "$none" --ids "$tmp"

plain_fail() {
    ids "$1"
    expect 1 "$tmp/ids: $2" logits "$none" --ids "$tmp/ids" --out "$tmp/logits"
    [ ! -e "$tmp/logits" ] && [ ! -e "$tmp/logits.tmp" ] || fail "logits of '$1' leaves a file"
}
plain_fail ' \n' "holds no token id"
plain_fail '1 2\n3 x4\n' "position 3 (counted from 0): 'x4' is not a token id"
plain_fail '1 -2' "position 1 (counted from 0): '-2' is not a token id"
plain_fail '1.0' "position 0 (counted from 0): '1.0' is not a token id"
plain_fail '[1]' "position 0 (counted from 0): '\\[1\\]' is not a token id"
plain_fail '1 2147483648' "position 1 (counted from 0): '2147483648' is not a token id"
ids '1 2'
expect 1 "*$none*" logits "$none" --ids "$tmp/ids" --out "$tmp/logits"

# ---- the end of stdout

if [ -c /dev/full ]; then
    checks=$((checks + 1))
    "$sluice" --help >/dev/full 2>"$tmp/err"
    [ $? = 1 ] && grep -q '^sluice: standard output: ' "$tmp/err" || fail "a full disk goes unsaid"
fi
checks=$((checks + 2))
"$sluice" --help >&- 2>"$tmp/err"
[ $? = 1 ] && grep -q '^sluice: standard output: ' "$tmp/err" || fail "a closed stdout goes unsaid"
"$sluice" --help 2>"$tmp/err" | true
[ "${PIPESTATUS[0]}" = 0 ] && [ ! -s "$tmp/err" ] || fail "a reader that went away is a failure"

printf '%d checks, %d failed\n' "$checks" "$failures"
[ "$failures" = 0 ]
