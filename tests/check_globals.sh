#!/usr/bin/env bash
# Fails where the library holds a variable that can change: state belongs to an engine, a session or
# a pool, so that two of them never meet.
#
#   check_globals.sh REPOSITORY LIBRARY
set -euo pipefail
library=$2

if ! objdump --version 2>/dev/null | grep -q GNU; then
    echo "GNU objdump is not there"
    exit 77
fi
# Lines of objdump: address, flags with O for objects (none for thread-local ones, d for sections),
# section, size, name. What is constant but holds addresses lies in .data.rel.ro.
objdump -t "$library" 2>/dev/null | awk '
    /^[^ ]+\.o:/ { file = $1; count++ }
    (/ O (\.data|\.bss|\*COM\*)/ && !/ \.data\.rel\.ro/) || (/ (\.tdata|\.tbss)/ && !/ d /) {
        print file " " $NF " can change (" $(NF - 2) ")"
        bad++
    }
    END {
        print count + 0 " object files, " bad + 0 " variables that can change"
        exit bad > 0 || count == 0
    }'
