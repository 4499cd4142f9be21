#!/usr/bin/env bash
# The program inside a memory cgroup, where the kernel kills what takes too much: with --memory as
# large as the whole cgroup it must live and say the same as outside, and it must live when the
# limit is lowered while it runs.
set -u
sluice=$1
demo=$PWD/../models/demo
memory=/sys/fs/cgroup/memory
group=$memory/sluice-cli-$$
prompt="It was a bright cold morning, and the old sailor"

skip() {
    echo "skipped: $*"
    exit 77
}

grep -aq '__asan_init\|__tsan_init' "$sluice" && skip "a sanitizer's own memory would be measured"
[ -e "$demo/manifest.json" ] || skip "no model in $demo"
[ -e "$memory/memory.limit_in_bytes" ] || skip "no memory cgroups (version 1) here"
mkdir "$group" 2>/dev/null || skip "memory cgroups cannot be made here"
tmp=$(mktemp -d "${TMPDIR:-/tmp}/sluice-memory.XXXXXX")
child=

cleanup() {
    [ -z "$child" ] || kill "$child" 2>/dev/null
    wait
    rm -rf "$tmp"
    # Its last process may still be on its way out.
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        rmdir "$group" 2>/dev/null && return
        sleep 0.2
    done
}
trap cleanup EXIT
checks=0
failures=0

check() { # CONDITION... -- WHAT
    local condition=()
    while [ "$1" != -- ]; do
        condition+=("$1")
        shift
    done
    shift
    checks=$((checks + 1))
    "${condition[@]}" && return
    failures=$((failures + 1))
    printf 'FAILED: %s (%s)\n' "$*" "${condition[*]}"
}

limit_to() { echo "$1" 2>/dev/null >"$group/memory.limit_in_bytes"; }
value_of() { cat "$group/$1"; }
field_of() { awk -v name="$2" '$1 == name { print $2 }' "$group/$1"; }
# Neither page cache nor what has been given back.
held() { field_of memory.stat total_rss; }

# Runs the program with these arguments inside the group.
inside() {
    # shellcheck disable=SC2016  # for the inner shell
    sh -c 'echo $$ >"$0/cgroup.procs" && exec "$@"' "$group" "$sluice" run "$demo" -p "$prompt" \
        --temp 0 "$@"
}

# A sanitized program needs much more than it plans.
limit_to 64M
if ! inside -n 4 --memory 48M >"$tmp/out" 2>"$tmp/err"; then
    if grep -q Sanitizer "$tmp/err" || grep -q "__asan\|__tsan" "$sluice"; then
        skip "a sanitizer's own memory would be measured"
    fi
    cat "$tmp/err"
    exit 1
fi

# ---- as much as was promised, and no more

"$sluice" run "$demo" -p "$prompt" --temp 0 -n 64 >"$tmp/whole" 2>/dev/null
# MiB that the program says it needs, cut off.
needed() {
    "$sluice" run "$demo" -p x --memory 1M "$@" 2>&1 |
        sed -n 's/.* \([0-9]*\)\.[0-9]* MiB are needed.*/\1/p'
}
least=$(needed)
check test -n "$least" -- "the program says how much it needs"
for more in 1 3 7 15; do
    budget=$(((least + more) << 20))
    limit_to 1G
    check limit_to "$budget" -- "the group can be limited to $budget bytes"
    # Now, for the count starts at what the group holds: files that earlier runs read are in it.
    echo 0 >"$group/memory.max_usage_in_bytes" 2>/dev/null
    inside -n 64 --memory "$budget" >"$tmp/out" 2>"$tmp/err"
    code=$?
    check test $code = 0 -- "in $budget bytes it ends with $code: $(tail -n 1 "$tmp/err")"
    check cmp -s "$tmp/out" "$tmp/whole" -- "in $budget bytes it says something else"
    check test "$(value_of memory.max_usage_in_bytes)" -le "$budget" -- "most used in $budget bytes"
    check test "$(field_of memory.oom_control oom_kill)" = 0 -- "nothing is killed in $budget bytes"
done

# ---- less while it runs

tokens=4000
[ "${SLUICE_TEST_FAST:-0}" = 0 ] || tokens=1000
"$sluice" run "$demo" -p "$prompt" --temp 0 -n $tokens --ctx 5000 >"$tmp/whole" 2>"$tmp/err"
# MiB that it came to hold outside, cut off.
most=$(sed -n 's/.* \([0-9]*\)\.[0-9]* MiB at most.*/\1/p' "$tmp/err")
check test -n "$most" -- "the program says how much it held"
limit_to 64M
rm "$tmp/out"
inside -n $tokens --ctx 5000 >"$tmp/out" 2>"$tmp/err" &
child=$!
while kill -0 "$child" 2>/dev/null && [ ! -s "$tmp/out" ]; do sleep 0.05; done
# What is not the experts' must stay, and a few of them; and what the least plan does without and a
# running one does not give back: the embedding in memory, logits of several tokens.
goal=$((($(needed --ctx 5000) + 5) << 20))
lowest=$((64 << 20))
while kill -0 "$child" 2>/dev/null && [ $lowest -gt $goal ]; do
    # A little above what is held now, so that the system can do it; the engine sees how little is
    # left and gives back more.
    next=$(($(held) + (1 << 19)))
    [ $next -ge $goal ] || next=$goal
    [ $next -ge $lowest ] || { limit_to $next && lowest=$next; }
    sleep 0.1
done
wait "$child"
code=$?
child=
check test $code = 0 -- "with less and less it ends with $code: $(tail -n 1 "$tmp/err")"
check cmp -s "$tmp/out" "$tmp/whole" -- "with less and less it says something else"
check test "$(field_of memory.oom_control oom_kill)" = 0 -- "nothing is killed"
check test $lowest -le $((goal + (1 << 20))) -- "the limit came down from 64 MiB to $goal bytes"

echo "the limit came down to $lowest bytes; outside the program held $most MiB"
echo "$checks checks, $failures failed"
[ "$failures" = 0 ]
