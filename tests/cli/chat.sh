#!/usr/bin/env bash
# sluice chat with the demo: through pipes, and on a terminal (chat_pty.py).
set -u
sluice=$1
model=${SLUICE_DEMO:-../models/demo}
if [ ! -e "$model/config.json" ] && [ ! -e "$model/manifest.json" ]; then
    echo "skipped: no model in $model"
    exit 77
fi
export SLUICE_DEMO=$model
tmp=$(mktemp -d "${TMPDIR:-/tmp}/sluice-chat.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
export XDG_CACHE_HOME=$tmp/cache XDG_STATE_HOME=$tmp/state
failures=0

fail() {
    failures=$((failures + 1))
    printf 'FAILED: %s\n' "$*"
}

# talk CODE NAME ARGUMENTS...: stdin goes in; stdout into $tmp/NAME, stderr into $tmp/NAME.err.
talk() {
    local want=$1 name=$2
    shift 2
    "$sluice" chat --greedy -n 24 "$@" >"$tmp/$name" 2>"$tmp/$name.err"
    local code=$?
    [ $code = "$want" ] || fail "'$*' exits with $code, not $want: $(tail -n 1 "$tmp/$name.err")"
}

# says NAME PATTERN: a line of what it wrote to stderr matches.
says() {
    local line
    while IFS= read -r line; do
        # shellcheck disable=SC2053  # the right side is a pattern
        [[ $line == $2 ]] && return
    done <"$tmp/$1.err"
    fail "$1 does not say '$2' but: $(cat "$tmp/$1.err")"
}

same() { cmp -s "$tmp/$1" "$tmp/$2" || fail "$1 and $2 differ: $(cat "$tmp/$1" "$tmp/$2")"; }
messages() { grep -c '"role"' "$1"; }

# ---- messages

talk 0 one -p 'What is the sea?'
[ -s "$tmp/one" ] && [ ! -s "$tmp/one.err" ] || fail "one message: $(cat "$tmp/one.err")"
grep -q "$(printf '\033')" "$tmp/one" && fail "a pipe gets commands of terminals"
[ -n "$(tail -c 1 "$tmp/one")" ] && fail "an answer does not end its line"
talk 0 piped <<<'What is the sea?'
same one piped
printf 'What is the sea?' | talk 0 open
same one open
printf '\n  \nWhat is the sea?\r\n' | talk 0 blank
same one blank

# Three turns at once are what they are one by one.
printf 'Hello\n/stats\nAnd now?\n//etc/fstab\n/quit\nNever\n' | talk 0 turns
talk 0 first -p Hello
talk 0 second --resume -p 'And now?'
talk 0 third --resume -p /etc/fstab
cat "$tmp/first" "$tmp/second" "$tmp/third" >"$tmp/each"
same turns each
says turns '  decode *tok/s*'
says turns '  cache hits *'
says turns '  budget *'
says second '(goes on after 2 messages)'
printf '\377\376 \303\n' | talk 0 bytes
talk 1 long --ctx 64 -p "$(seq 1 200)"
says long 'sluice: the conversation has * tokens, the context 64 (*)'

# What was evaluated is not evaluated again, though the session is elsewhere by then.
long=$(seq 1 100 | tr '\n' ' ')
printf '%s\n/stats\n/clear\nHi\n/clear\n%s\n/stats\n' "$long" "$long" | talk 0 known
mapfile -t counts < <(sed -n 's/^  prefill .*(\([0-9]*\) token.*/\1/p' "$tmp/known.err")
[ "${counts[0]:-0}" -gt 200 ] && [ "${counts[1]:-1000}" -lt 80 ] ||
    fail "evaluated: ${counts[*]} tokens"
talk 0 fresh -p "$long"
head -n "$(wc -l <"$tmp/fresh")" "$tmp/known" >"$tmp/head"
tail -n "$(wc -l <"$tmp/fresh")" "$tmp/known" >"$tmp/tail"
same fresh head
same fresh tail

# ---- the system text

printf '/system\n/system Be brief.\n/system\n/system -\n/system\n' | talk 0 system
says system '(there is no system text)'
says system '(system: Be brief.)'
talk 0 briefly --system 'Answer in French.' -p 'What is the sea?'
printf '/system Answer in French.\nWhat is the sea?\n' | talk 0 briefly2
same briefly briefly2
cmp -s "$tmp/one" "$tmp/briefly" && fail "the system text changes nothing"

# ---- commands

printf '/nope\n' | talk 1 nope
says nope 'sluice: there is no command /nope (/help lists them)'
printf '/save\n' | talk 1 needs
says needs 'sluice: /save needs a FILE'
printf '/quit now\n' | talk 1 takes
says takes 'sluice: /quit takes nothing'
printf '/stats\n' | talk 0 none
says none '(nothing was answered yet)'
printf '/help\n' | talk 0 help
for command in help clear save load system thinking stats tools experts quit; do
    grep -q "^  /$command" "$tmp/help.err" || fail "/help lacks /$command"
done
printf '/thinking loud\n' | talk 1 loud
says loud "sluice: /thinking takes show, dim, hide or off, not 'loud'"

printf 'Hi\n/clear\nWhat is the sea?\n' | talk 0 cleared
talk 0 hi -p Hi
cat "$tmp/hi" "$tmp/one" >"$tmp/each"
same cleared each

experts=$("$sluice" inspect "$model" --json | sed -n 's/^ *"experts_per_token": \([0-9]*\),*$/\1/p')
printf '/experts\n/experts 1\nWhat is the sea?\n/experts %s\nWhat is the sea?\n' "$experts" |
    talk 0 experts
says experts '(* experts a token, as trained)'
says experts "LOSSY: 1 of $experts experts a token*"
cmp -s "$tmp/experts" "$tmp/each" && fail "/experts changes nothing"
talk 0 lossy --experts-per-token 1 -p 'What is the sea?'
says lossy "LOSSY: 1 of $experts experts a token*"
head -n "$(wc -l <"$tmp/lossy")" "$tmp/experts" >"$tmp/lossy2"
same lossy lossy2
for n in 0 1000 x ' 3 ' -1; do
    printf '/experts %s\nWhat is the sea?\n' "$n" | talk 1 wrong
    same wrong one
done

# ---- conversations on the disk

printf 'Hello\n/save %s/kept.json\nAnd now?\n' "$tmp" | talk 0 saved --system 'Be "kind".'
says saved "(2 messages in $tmp/kept.json)"
[ "$(messages "$tmp/kept.json")" = 2 ] || fail "/save: $(cat "$tmp/kept.json")"
printf '/load %s/kept.json\nAnd now?\n' "$tmp" | talk 0 loaded
tail -n "$(wc -l <"$tmp/loaded")" "$tmp/saved" >"$tmp/tail"
same loaded tail
printf '/load %s/kept.json\n/save %s/kept2.json\n/save %s/kept.json\n' "$tmp" "$tmp" "$tmp" |
    talk 0 again
same kept.json kept2.json
echo 'my notes' >"$tmp/notes"
printf '/save %s/notes\n' "$tmp" | talk 1 over
says over "sluice: $tmp/notes: is there, and is no conversation; it stays as it is"
[ "$(cat "$tmp/notes")" = 'my notes' ] || fail "/save writes over another file"
printf '/save %s/none/x\n' "$tmp" | talk 1 nowhere
says nowhere "sluice: $tmp/none/x*"
[ -z "$(find "$tmp" -name '*.tmp')" ] || fail "a temporary file stays"

# Every seed that can be given comes back.
seed=18446744073709551615
printf 'Hello\n/save %s/seed.json\n' "$tmp" | talk 0 seeded --seed $seed
grep -q "\"seed\": \"$seed\"" "$tmp/seed.json" || fail "/save: $(cat "$tmp/seed.json")"
printf '/load %s/seed.json\n/save %s/seed2.json\n' "$tmp" "$tmp" | talk 0 seeded
same seed.json seed2.json

# refused PATTERN JSON: /load says so in a line, and the conversation is what it was.
refused() {
    printf '%s' "$2" >"$tmp/bad.json"
    printf 'Hi\n/load %s/bad.json\n/save %s/after.json\n' "$tmp" "$tmp" | talk 1 refused
    says refused "sluice: $tmp/bad.json: $1"
    [ "$(messages "$tmp/after.json")" = 2 ] || fail "after $2: $(cat "$tmp/after.json")"
}
ok='"sluice_chat": 1, "model": "m"'
refused 'line 1*' '{'
refused 'not a conversation (no "sluice_chat")' '{"messages": []}'
refused 'a conversation of version 2, not 1' '{"sluice_chat": 2}'
refused 'model: expected text' '{"sluice_chat": 1}'
refused 'messages: expected an array*' "{$ok}"
refused 'system: expected text' "{$ok, \"system\": 1, \"messages\": []}"
refused 'messages\[0\].role: expected*' "{$ok, \"messages\": [1]}"
refused 'messages\[0\].role: expected*' "{$ok, \"messages\": [{\"role\": \"system\"}]}"
refused 'messages\[1\].content: expected text' \
    "{$ok, \"messages\": [{\"role\": \"user\", \"content\": \"a\"}, {\"role\": \"user\"}]}"
refused 'messages\[0\].tool_calls\[0\]: expected a function*' \
    "{$ok, \"messages\": [{\"role\": \"assistant\", \"content\": \"\", \"tool_calls\": [{}]}]}"
refused 'settings.thinking: expected*' "{$ok, \"messages\": [], \"settings\": {\"thinking\": 1}}"
refused 'settings.sampling.temp: not a value of this option' \
    "{$ok, \"messages\": [], \"settings\": {\"sampling\": {\"temp\": -1}}}"
refused 'settings.sampling.heat: no such option' \
    "{$ok, \"messages\": [], \"settings\": {\"sampling\": {\"heat\": 1}}}"
printf '/load %s/absent\n' "$tmp" | talk 1 missing
says missing "sluice: $tmp/absent: No such file*"

XDG_STATE_HOME=$tmp/empty talk 1 unknown --resume -p Hi
says unknown "sluice: $model: no conversation with this model is remembered"
XDG_STATE_HOME=$tmp/empty talk 0 forgotten --forget -p Hi
[ -z "$(find "$tmp/empty" -name 'chat*' 2>/dev/null)" ] || fail "--forget keeps something"
file=$(find "$tmp/state/sluice" -name 'chat-*.json')
[ "$(stat -c %a "$file" 2>/dev/null || stat -f %Lp "$file")" = 600 ] ||
    fail "others may read what is remembered"

# ---- tools

cat >"$tmp/tools.json" <<END
[{"name": "play_music", "description": "Plays a piece of music",
  "parameters": {"type": "object", "properties": {"artist": {"type": "string"},
    "title": {"type": "string"}}, "required": ["title"]},
  "command": ["sh", "-c", "echo \"\$1\" >>$tmp/ran; echo playing", "sh", "{title}"]}]
END
ask=(--tools "$tmp/tools.json" -n 60 -p 'Play Doctor Forest by Handel')
talk 0 asked "${ask[@]}"
if grep -q '^play_music: sh -c ' "$tmp/asked.err"; then
    says asked '(not run: nobody can be asked; --yes-run-tools runs tools)'
    [ ! -e "$tmp/ran" ] || fail "a tool ran in a pipe"
    file=$(find "$tmp/state/sluice" -name 'chat-*.json')
    grep -q 'the user did not allow this to be run' "$file" || fail "the model is not told"
    talk 0 allowed "${ask[@]}" --yes-run-tools
    [ -s "$tmp/ran" ] || fail "--yes-run-tools does not run tools"
    says allowed '(play_music: exit status 0, 8 B of output)'
    grep -q '"content": "playing\\n"' "$file" || fail "the output is lost: $(cat "$file")"
    grep -q '"tools_file": ' "$file" || fail "the tools are not remembered"
    # A conversation's tools are taken where each call is asked about, and nowhere else.
    printf '/load %s\n/tools\n' "$file" | talk 0 loaded_tools
    says loaded_tools '(play_music: Plays a piece of music)'
    printf '/load %s\n/tools\n' "$file" | talk 0 unloaded_tools --yes-run-tools
    says unloaded_tools '(no tools)'
else
    echo "the model calls no tool: not tested"
fi
printf '/tools\n/tools %s/tools.json\n/tools -\n' "$tmp" | talk 0 tools
says tools '(no tools)'
says tools '(play_music: Plays a piece of music)'
echo '[{"name": "x"}]' >"$tmp/wrong.json"
talk 1 wrong --tools "$tmp/wrong.json" -p Hi
says wrong "sluice: $tmp/wrong.json: tool x: description: expected text"

# ---- a reader that goes away, an empty input

talk 0 quiet </dev/null
[ ! -s "$tmp/quiet" ] || fail "nothing is answered with something"
{ yes Hello | head -n 500 | "$sluice" chat --forget 2>"$tmp/gone.err"; echo $? >"$tmp/gone"; } |
    head -c 1 >/dev/null
[ "$(cat "$tmp/gone")" = 0 ] || fail "a reader that goes away is a failure: $(cat "$tmp/gone.err")"

# ---- a terminal

if command -v python3 >/dev/null; then
    python3 cli/chat_pty.py "$sluice" "$model" "$tmp"
    code=$?
    [ $code = 0 ] || [ $code = 77 ] || fail "the chat on a terminal"
else
    echo "python3 is not there: nothing is tested on a terminal"
fi

[ $failures = 0 ] || exit 1
echo "chat: all is well"
