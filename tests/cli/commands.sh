#!/usr/bin/env bash
# The commands with a model: $SLUICE_DEMO, else the demo of the repository.
set -u
sluice=$1
model=${SLUICE_DEMO:-../models/demo}
if [ ! -e "$model/config.json" ] && [ ! -e "$model/manifest.json" ]; then
    echo "skipped: no model in $model"
    exit 77
fi
export SLUICE_DEMO=$model
tmp=$(mktemp -d "${TMPDIR:-/tmp}/sluice-commands.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
export XDG_CACHE_HOME=$tmp/cache # what is remembered of the disk
failures=0

fail() {
    failures=$((failures + 1))
    printf 'FAILED: %s\n' "$*"
}

# good NAME ARGUMENTS...: succeeds, stdout into $tmp/NAME, stderr into $tmp/NAME.err.
good() {
    local name=$1
    shift
    "$sluice" "$@" >"$tmp/$name" 2>"$tmp/$name.err"
    local code=$?
    [ $code = 0 ] || fail "'$*' exits with $code: $(tail -n 1 "$tmp/$name.err")"
}

# bad PATTERN ARGUMENTS...: exits with 1, nothing on stdout, the last line of stderr matches.
bad() {
    local pattern=$1
    shift
    "$sluice" "$@" >"$tmp/bad" 2>"$tmp/bad.err"
    local code=$? message
    message=$(tail -n 1 "$tmp/bad.err")
    [ $code = 1 ] || fail "'$*' exits with $code, not 1: $message"
    [ ! -s "$tmp/bad" ] || fail "'$*' writes to stdout"
    # shellcheck disable=SC2053  # the right side is a pattern
    [[ $message == sluice:\ $pattern ]] || fail "'$*' says '$message', not '$pattern'"
}

same() { cmp -s "$tmp/$1" "$tmp/$2" || fail "$1 and $2 differ"; }
number() { sed -n "s/^ *\"$1\": \([0-9]*\),*\$/\1/p" "$tmp/inspect"; }

# ---- inspect

good inspect inspect "$model" --json
vocab=$(number vocab_size)
experts=$(number experts_per_token)
[ "${vocab:-0}" -gt 0 ] && [ "${experts:-0}" -gt 0 ] || fail "inspect --json lacks figures"
for key in family format fits minimum_memory_bytes bytes_per_token expert_bytes; do
    grep -q "\"$key\": " "$tmp/inspect" || fail "inspect --json lacks $key"
done
good table inspect "$model"
for label in parameters layers experts vocabulary resident 'one expert' 'a token needs' \
    'smallest budget' 'free here' 'will it fit'; do
    grep -q "^  $label  " "$tmp/table" || fail "inspect lacks $label"
done

# ---- tokenize and detokenize

text='["", "Hello, world", "zero \u0000 byte", "caf\u00e9 \ud83d\ude00", "a\nb\t  c"]'
good ids tokenize "$model" --json <<<"$text"
good back detokenize "$model" --json <"$tmp/ids"
printf '["","Hello, world","zero \\u0000 byte","café 😀","a\\nb\\t  c"]\n' >"$tmp/text"
same back text
grep -q '^\[\[\],\[' "$tmp/ids" || fail "an empty text has ids: $(cat "$tmp/ids")"
printf 'Some text,\n  two lines\n' >"$tmp/plain"
good plain.ids tokenize "$model" <"$tmp/plain"
good plain.back detokenize "$model" <"$tmp/plain.ids"
same plain plain.back
printf '<|im_end|>' >"$tmp/added"
good special tokenize "$model" <"$tmp/added"
good text tokenize "$model" --no-special <"$tmp/added"
[ "$(wc -w <"$tmp/special")" = 1 ] || fail "an added token is not one id"
[ "$(wc -w <"$tmp/text")" -gt 1 ] || fail "--no-special still parses added tokens"
good bare tokenize "$model" --no-bos <"$tmp/added"
cmp -s "$tmp/bare" "$tmp/special" || fail "--no-bos differs where there is no BOS"
good whole detokenize "$model" <"$tmp/special"
[ "$(cat "$tmp/whole")" = '<|im_end|>' ] || fail "an added token loses its text"
good none detokenize "$model" --skip-special <"$tmp/special"
[ ! -s "$tmp/none" ] || fail "--skip-special keeps special tokens"
printf 'a cafe <|x|>' >"$tmp/words"
good words.ids tokenize data/gguf/vocab.gguf --no-bos <"$tmp/words"
good words.back detokenize data/gguf/vocab.gguf <"$tmp/words.ids"
same words words.back
bad 'data/gguf/sample.gguf: tokenizer.ggml.merges: is missing' \
    tokenize data/gguf/sample.gguf <"$tmp/words"
bad 'standard input: element 1 (counted from 0) is not a string' \
    tokenize "$model" --json <<<'["a", 3]'
bad 'standard input: not a JSON array of strings' tokenize "$model" --json <<<'{"a": 1}'
bad 'standard input: line *' tokenize "$model" --json <<<'["a"'
bad 'standard input: element 1: not an array of token ids' \
    detokenize "$model" --json <<<'[[1], 5]'
bad "standard input: element 1: id 1$vocab at position 1 *" \
    detokenize "$model" --json <<<"[[1], [2, 1$vocab]]"
bad "standard input: position 2 (counted from 0): 'x' *" detokenize "$model" <<<"1 2 x"

# ---- render

chat='{"messages": [{"role": "system", "content": "Be kind."},
    {"role": "user", "content": [{"type": "text", "text": "H\u00e9"}]}],
    "add_generation_prompt": true, "now": "2026-01-02T03:04:05"}'
printf '%s' '{{ strftime_now("%d.%m.%Y") }}{% for m in messages %}|{{ m | tojson }}{% endfor %}' \
    >"$tmp/own.jinja"
good own render --template "$tmp/own.jinja" --json <<<"$chat"
printf '%s' '02.01.2026|{"role": "system", "content": "Be kind."}|{"role": "user", ' \
    '"content": [{"type": "text", "text": "Hé"}]}' >"$tmp/text"
same own text
if [ -e "$model/chat_template.jinja" ]; then
    good rendered render "$model" <<<"$chat"
    good same.prompt render --template "$model/chat_template.jinja" --json <<<"$chat"
    same rendered same.prompt
    grep -q 'Be kind\.' "$tmp/rendered" && grep -q 'Hé' "$tmp/rendered" ||
        fail "render leaves messages out: $(cat "$tmp/rendered")"
    bad "$model/chat_template.jinja: line *, column *" render "$model" <<<'{}'
fi
bad 'variables: line *, column *' render --template "$tmp/own.jinja" <<<'{"a"'
bad 'variables: not a JSON object' render --template "$tmp/own.jinja" <<<'[]'
printf '\n {%% for x in y %%}' >"$tmp/own.jinja"
bad "$tmp/own.jinja: line 2, column 5: the block is not closed: {% endfor %} is missing" \
    render --template "$tmp/own.jinja" <<<'{}'

# ---- logits

echo "1 2 3
4 5 6" >"$tmp/six"
good log logits "$model" --ids "$tmp/six" --out "$tmp/logits"
[ "$(wc -c <"$tmp/logits")" = $((6 * vocab * 4)) ] || fail "logits have the wrong size"
seq 1 150 >"$tmp/many" # more than one chunk
good log logits "$model" --ids "$tmp/many" --out "$tmp/logits.many"
good log logits "$model" --ids - --out "$tmp/logits.small" --chunk 64 --threads 1 --cache 2M \
    <"$tmp/many"
same logits.many logits.small
if [ "$experts" -gt 1 ]; then
    good log logits "$model" --ids "$tmp/six" --out "$tmp/logits.fewer" \
        --experts-per-token $((experts - 1))
    grep -q "^LOSSY: $((experts - 1)) of $experts experts a token" "$tmp/log.err" ||
        fail "logits of fewer experts are not called LOSSY"
fi
echo before >"$tmp/kept"
echo "1 2 1$vocab" >"$tmp/beyond"
bad "$tmp/beyond: id 1$vocab at position 2 *" logits "$model" --ids "$tmp/beyond" --out "$tmp/kept"
bad '*context*' logits "$model" --ids "$tmp/six" --out "$tmp/kept" --ctx 5
[ "$(cat "$tmp/kept")" = before ] || fail "a failure touches the file that was there"
bad '/dev/null: not a regular file' logits "$model" --ids "$tmp/six" --out /dev/null
bad '*none*' logits "$model" --ids "$tmp/six" --out "$tmp/none/logits"
[ -z "$(find "$tmp" -name '*.tmp')" ] || fail "a temporary file stays"

# ---- eval nll, against the logits above

printf '[1,2,3,4,5,6]\n[7, 8]\n' >"$tmp/lines"
good nll eval nll "$model" --ids "$tmp/lines"
good nll.json eval nll "$model" --ids "$tmp/lines" --json
x='[-0-9.e]+'
form="\{\"lines\":\[\{\"nll\":\[$x(,$x){4}\]\},\{\"nll\":\[$x\]\}\],\"mean\":$x,\"tokens\":6\}"
grep -Eqx "$form" "$tmp/nll.json" || fail "eval nll --json prints $(cat "$tmp/nll.json")"
[ "$(sed 's/.*"mean":\([^,]*\),.*/\1/' "$tmp/nll.json")" = "$(cat "$tmp/nll")" ] ||
    fail "the mean is one thing plain and another in JSON"
od -An -v -t f4 "$tmp/logits" | awk -v vocab="$vocab" '
    {
        for (i = 1; i <= NF; i++) {
            row[column++] = $i
            if (column < vocab) continue
            top = row[0]
            sum = column = 0
            for (j = 1; j < vocab; j++) if (row[j] > top) top = row[j]
            for (j = 0; j < vocab; j++) sum += exp(row[j] - top)
            # Row 0 is what follows id 1, which is id 2, and so on to id 6.
            if (rows++ < 5) print log(sum) + top - row[rows + 1]
        }
    }' >"$tmp/by-hand"
sed 's/^[^[]*\[[^[]*\[\([^]]*\)\].*/\1/' "$tmp/nll.json" | tr ',' '\n' >"$tmp/by-program"
[ "$(wc -l <"$tmp/by-hand")" = 5 ] || fail "the logits do not have six rows"
paste "$tmp/by-hand" "$tmp/by-program" | awk '
    { d = $1 - $2; if (d < 0) d = -d; if (d > 1e-3) exit 1 }' || fail "nll is not of these logits"
printf '1 2 3 4 5 6\n[7, 8]\n' >"$tmp/plain-lines" # a line as tokenize prints it
good nll.plain eval nll "$model" --ids "$tmp/plain-lines"
same nll nll.plain
printf '[1,2]\n[3,1%d]\n' "$vocab" >"$tmp/beyond"
bad "$tmp/beyond: line 2: id 1$vocab at position 1 *" eval nll "$model" --ids "$tmp/beyond"

# ---- run

prompt='Once upon a time there was'
good text run "$model" -p "$prompt" -n 12 --greedy
for label in model generated prefill decode 'first token' experts 'read from disk' 'cache hits' \
    'resident memory' sampling; do
    grep -q "^  $label  " "$tmp/text.err" || fail "run shows no $label"
done
grep -q LOSSY "$tmp/text.err" && fail "run calls the model LOSSY as it was trained"
[ -s "$tmp/text" ] || fail "run writes no text"
good again run -p "$prompt" -n 12 --temp 0 --threads 1 --cache 2M # the model is the default
same text again
grep -q '^  rounded  *activations to q8, keys and values to f16 ' "$tmp/text.err" ||
    fail "run does not say what it rounds"
good exact run "$model" -p "$prompt" -n 12 --greedy --exact
grep -q '^  rounded' "$tmp/exact.err" && fail "run tells of what it does not round"
good kv run "$model" -p "$prompt" -n 12 --greedy --kv q8 --activations f32
grep -q "^  rounded  *keys and values to q8 " "$tmp/kv.err" ||
    fail "run does not say that KV is in q8"
printf '%s' "$prompt" >"$tmp/prompt"
good file run "$model" -f "$tmp/prompt" -n 12 --greedy
same text file
good pipe run "$model" -f - -n 12 --greedy <"$tmp/prompt"
same text pipe
good seed run "$model" -p "$prompt" -n 12 --temp 1 --seed 7
good seed.again run "$model" -p "$prompt" -n 12 --temp 1 --seed 7
same seed seed.again
good zero run "$model" -p "$prompt" -n 0
printf '{"type":"array","items":{"enum":["a",7]},"minItems":2,"maxItems":2}' >"$tmp/schema"
for seed in 1 2 3; do
    good held run "$model" -p "$prompt" --temp 1 --seed $seed --json-schema "$tmp/schema"
    tr -d " \n\t" <"$tmp/held" | grep -Eqx "\[(\"a\"|7),(\"a\"|7)\]" ||
        fail "--json-schema gives $(cat "$tmp/held")"
    grep -q 'ended where the JSON is complete' "$tmp/held.err" || fail "--json-schema does not end"
done
for limit in 2 5 9; do
    good json run "$model" -p "$prompt" -n $limit --json
    tr -d ' \n\t' <"$tmp/json" | grep -q '^{.*}$' || fail "--json gives $(cat "$tmp/json")"
    grep -q 'where the JSON is complete' "$tmp/json.err" || fail "--json does not end in $limit"
done
good json run "$model" -p "$prompt" -n 1 --json
grep -q 'asked for; the JSON is not whole' "$tmp/json.err" || fail "--json hides that it was cut"
printf '{"type":"string"}' >"$tmp/schema"
good json run "$model" -p "$prompt" -n 2 --json-schema "$tmp/schema"
tr -d ' \n\t' <"$tmp/json" | grep -q '^".*"$' || fail "2 tokens of a string: $(cat "$tmp/json")"
grep -q 'complete: shortened to fit' "$tmp/json.err" || fail "--json hides that it was shortened"
printf '{"pattern":"x"}' >"$tmp/schema"
bad '*/schema: json_schema: #: the keyword "pattern" is not supported' \
    run "$model" -p "$prompt" --json-schema "$tmp/schema"
bad '*/missing: *' run "$model" -p "$prompt" --json-schema "$tmp/missing"
[ ! -s "$tmp/zero" ] || fail "run -n 0 writes text"
if [ "$experts" -gt 1 ]; then
    good fewer run "$model" -p "$prompt" -n 4 --greedy --experts-per-token $((experts - 1))
    grep -q "^  prefill .*LOSSY: $((experts - 1)) of $experts experts a token" "$tmp/fewer.err" ||
        fail "run with fewer experts is not called LOSSY"
fi
bad '*' run "$model" -p "$prompt" --experts-per-token $((experts + 1))
bad 'the prompt is empty' run "$model" -p ''
bad 'the prompt has * tokens, the context 2 (--ctx takes more)' run "$model" -p "$prompt" --ctx 2
"$sluice" run "$model" -p "$prompt" -n 200 2>"$tmp/gone.err" | head -c 1 >"$tmp/gone"
[ "${PIPESTATUS[0]}" = 0 ] || fail "run fails where its reader goes away"
grep -q '^sluice:' "$tmp/gone.err" && fail "run complains where its reader goes away"

# Waits for a file to hold something, or for the job to end.
await() {
    while [ ! -s "$1" ] && kill -0 "$2" 2>"$tmp/kill"; do sleep 0.02; done
}

set -m # a job in the background does not ignore Ctrl-C
"$sluice" run "$model" -p "$prompt" -n 100000 --temp 2 --seed 1 >"$tmp/long" 2>"$tmp/long.err" &
await "$tmp/long" $!
kill -INT $! 2>"$tmp/kill"
interrupted=$?
wait $! || fail "run ends with $? after Ctrl-C"
grep -q '^  generated ' "$tmp/long.err" || fail "run shows no table after Ctrl-C"
reasons='ended by (Ctrl-C|an end token|the context)'
if [ $interrupted = 0 ] && ! grep -Eq "$reasons" "$tmp/long.err"; then
    fail "run does not say why it ended"
fi

# ---- probe

disks=$tmp/cache/sluice/disks.json
rm -rf "$tmp/cache"
good probe probe --time 0.2 --json # the demo is the default
for key in device io direct split_bytes depth bytes_per_s best_bytes_per_s memory_bytes_per_s \
    remembered points; do
    grep -q "^  \"$key\": " "$tmp/probe" || fail "probe --json lacks $key"
done
grep -q '"remembered": false' "$tmp/probe" || fail "the first probe remembers something"
[ "$(stat -c %a "$tmp/cache/sluice" 2>"$tmp/stat" || echo 700)" = 700 ] ||
    fail "the folder of what is remembered is not the user's alone"
if [ -e "$disks" ]; then # else the demo lies in memory
    good probe.again probe "$model" --json
    grep -q '"remembered": true' "$tmp/probe.again" || fail "the second probe measures"
    good probe.table probe
    grep -q "^  from  *$disks" "$tmp/probe.table" || fail "probe does not say where it knows from"
    echo '{"version": 1' >"$disks"
    good probe.damaged probe --time 0.2 --json
    grep -q '"remembered": false' "$tmp/probe.damaged" || fail "a damaged file is remembered"
fi
good probe.table probe "$model" --again --time 0.1
for label in disk choice reads memory measured; do
    grep -q "^  $label  " "$tmp/probe.table" || fail "probe lacks $label"
done
head -c 3000000 /dev/urandom >"$tmp/plain.bin"
good plain.probe probe "$tmp/plain.bin" --expert 100K --time 0.1
echo 0 >"$tmp/cache.file"
XDG_CACHE_HOME=$tmp/cache.file good homeless probe --time 0.1 # no folder can be made there
XDG_CACHE_HOME='' HOME='' good homeless probe --time 0.1

# ---- trace

echo '[1, 2, 3]' >"$tmp/trace.ids"
echo '4 5 6 7' >>"$tmp/trace.ids"
good traced trace record "$model" --ids "$tmp/trace.ids" --out "$tmp/ids.trace"
grep -qx "$tmp/ids.trace: 7 tokens" "$tmp/traced.err" || fail "record says $(cat "$tmp/traced.err")"
bad "$tmp/ids.trace: already exists*" trace record "$model" -p x --out "$tmp/ids.trace"
good written trace record "$model" -p "$prompt" -n 30 --seed 5 --out "$tmp/text.trace"
good about trace inspect "$tmp/ids.trace"
grep -Eqx ' *tokens +7' "$tmp/about" || fail "inspect of a trace says $(cat "$tmp/about")"
good about.json trace inspect "$tmp/ids.trace" --json
grep -q '^{"tokens":7,.*"predictable":' "$tmp/about.json" || fail "$(cat "$tmp/about.json")"
good table trace simulate "$tmp/text.trace" --slots 64,50%
[ "$(grep -c '^ *[0-9][0-9]* ' "$tmp/table")" = 2 ] || fail "simulate says $(cat "$tmp/table")"
good counts trace simulate "$tmp/text.trace" --slots 64 --policy lru,belady --json
grep -q '"slots":64,"policy":"belady","requests":' "$tmp/counts" || fail "$(cat "$tmp/counts")"
bad '*1 slots are too few*' trace simulate "$tmp/text.trace" --slots 1
bad '*not a trace of routing' trace inspect "$tmp/trace.ids"
for list in '' 0 x 1,,2 101% 5%% -1 1.5; do
    "$sluice" trace simulate "$tmp/text.trace" --slots "$list" >"$tmp/bad" 2>"$tmp/bad.err"
    [ $? = 2 ] || fail "--slots '$list' is taken"
done
"$sluice" trace simulate "$tmp/text.trace" --policy lru,fifo >"$tmp/bad" 2>"$tmp/bad.err"
[ $? = 2 ] || fail "--policy lru,fifo is taken"

# ---- pack

good packed pack "$model" "$tmp/pack" --experts q3 --verify
grep -q "^$tmp/pack: .* in .*, verified\$" "$tmp/packed" &&
    grep -q '^LOSSY: experts q3, the rest kept; ' "$tmp/packed" ||
    fail "pack says $(cat "$tmp/packed")"
bad "*$tmp/pack*" pack "$model" "$tmp/pack" --experts q3
# What a template needs besides its text is in the pack, wherever the source has it.
mkdir "$tmp/told"
cp data/qwen3_5_moe_text/* "$tmp/told"
printf '%s' '{"bos_token": {"content": "<s>"}, "other": 5, "chat_template": [' \
    '{"name": "default", "template": "{{ bos_token }}D"},' \
    '{"name": "tool_use", "template": "{{ bos_token }}T"}]}' >"$tmp/told/tokenizer_config.json"
good told.packed pack "$tmp/told" "$tmp/told.pack"
for vars in '{}' '{"tools": [1]}'; do
    good told.source render "$tmp/told" --json <<<"$vars"
    good told.same render "$tmp/told.pack" --json <<<"$vars"
    same told.source told.same
    grep -q '^<s>[DT]$' "$tmp/told.same" || fail "a pack's template gives $(cat "$tmp/told.same")"
done
if [ -e "$model/chat_template.jinja" ]; then
    good packed.prompt render "$tmp/pack" <<<"$chat"
    same rendered packed.prompt
fi
good from.pack run "$tmp/pack" -p "$prompt" -n 4 --greedy --verify-reads all
"$sluice" pack "$model" "$tmp/pack2" --experts q3 >"$tmp/stopped" 2>"$tmp/stopped.err" &
await "$tmp/stopped.err" $!
kill -INT $! 2>"$tmp/kill"
if ! wait $!; then
    grep -qx 'sluice: stopped; run the same command again to resume' "$tmp/stopped.err" ||
        fail "pack stops with $(tail -n 1 "$tmp/stopped.err")"
    [ ! -e "$tmp/pack2" ] || fail "half a pack has the name of a whole one"
    good resumed pack "$model" "$tmp/pack2" --experts q3
fi
diff -r "$tmp/pack" "$tmp/pack2" >"$tmp/diff" ||
    fail "a resumed pack differs: $(head -n 3 "$tmp/diff")"

# ---- synth

good dry synth "$tmp/random" --like qwen3.5-397b --dry-run
grep -Eqx "$tmp/random: 2[0-9]{2}\.[0-9] GiB would be written" "$tmp/dry" ||
    fail "synth --dry-run says $(cat "$tmp/dry")"
[ ! -e "$tmp/random" ] && [ ! -e "$tmp/random.partial" ] || fail "synth --dry-run writes"
good synth synth "$tmp/random" --like tiny --overlap 0.3 --tokens 100
grep -q "^$tmp/random: .* in .*; SYNTHETIC: random weights\$" "$tmp/synth" ||
    fail "synth says $(head -n 1 "$tmp/synth")"
for line in 'routing, over 100 tokens' '  as a token before  .* (dial: 30.0 %)' \
    '  foretold  .* (dial: 70.0 %)'; do
    grep -q "^$line\$" "$tmp/synth" || fail "synth does not say '$line'"
done
good quiet synth "$tmp/random2" --like tiny --overlap 0.3 --no-measure
[ "$(wc -l <"$tmp/quiet")" = 1 ] || fail "synth --no-measure measures"
diff -r "$tmp/random" "$tmp/random2" >"$tmp/diff" || fail "synth writes something else again"
good random.table inspect "$tmp/random" --routing --tokens 100
grep -q '^  weights  *SYNTHETIC: random weights$' "$tmp/random.table" ||
    fail "inspect does not say that weights are random"
tail -n 3 "$tmp/synth" >"$tmp/routing.synth"
tail -n 3 "$tmp/random.table" >"$tmp/routing.inspect"
same routing.synth routing.inspect
good random.json inspect "$tmp/random" --json
grep -q '"synthetic": true' "$tmp/random.json" || fail "inspect --json lacks synthetic"
grep -q '"synthetic": false' "$tmp/inspect" || fail "inspect --json calls the demo synthetic"
good demo.routing inspect "$model" --routing
grep -q '^  foretold  *[0-9.]* %$' "$tmp/demo.routing" || fail "inspect --routing of the demo"
good log logits "$tmp/random" --ids "$tmp/six" --out "$tmp/logits.random"
bad "$tmp/random: no tokenizer here*" run "$tmp/random" -p x
bad "$tmp/random: no tokenizer here*" tokenize "$tmp/random" </dev/null
bad "$tmp/random: is already there" synth "$tmp/random" --like tiny

[ "$failures" = 0 ] || exit 1
echo "all commands do as they should"
