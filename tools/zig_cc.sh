#!/bin/sh
# The C compiler of the macOS presets: `zig cc` of build/macos-sysroot, its caches beside it.
#
# Zig has habits of its own. It takes optimisation as a wish for no assertions. It reads -march= as
# the name of a processor: a kernel's extensions are put behind that of the oldest such Mac.
sysroot=$(dirname "$0")/../build/macos-sysroot
export ZIG_GLOBAL_CACHE_DIR="$sysroot/cache" ZIG_LOCAL_CACHE_DIR="$sysroot/cache"

# armv8.2-a+dotprod+fp16: apple_m1+dotprod+fullfp16
processor() {
    echo "$1" | sed 's/^armv[^+]*/apple_m1/;s/+fp16$/+fullfp16/;s/+fp16+/+fullfp16+/'
}

for argument; do
    shift
    case "$argument" in
        -march=armv*) argument=-mcpu=$(processor "${argument#-march=}") ;;
    esac
    set -- "$@" "$argument"
done
exec "$sysroot/bin/zig" cc "$@" -UNDEBUG
