#!/usr/bin/env bash
# Makes build/macos-sysroot, from which the macos presets are compiled and linked without a Mac.
#
#   tools/macos_sysroot.sh      exits with 77, and says why, where that cannot be done here
#
#   bin/zig          the compiler, which brings the headers and the lists of symbols of macOS along
#   include/         headers of our libraries, alone: next to them lie those of another libc
#   lib/NAME.tbd     the names that a library exports, in the words of Apple's linker
#   lib/pkgconfig/   what pkg-config says about them
#
# Headers and names are those of the libraries that this machine has: they hold nothing that would
# differ on macOS. What is linked can be looked at and not run.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

skip() { say "$*"; exit 77; }

[ "$(uname -s)" != Darwin ] || skip "this is macOS: its own build says more"
zig=$(zig_path) || skip "zig is not there: tools/bootstrap.sh --with macos installs it"
have_tools() { command -v pkg-config >/dev/null 2>&1 && command -v nm >/dev/null 2>&1; }
have_tools || skip "pkg-config or nm is not there"

sysroot=$root/build/macos-sysroot
mkdir -p "$sysroot/bin" "$sysroot/include" "$sysroot/lib/pkgconfig"
ln -sf "$zig" "$sysroot/bin/zig"

# put FILE: what comes in, where it differs from what is there. An unchanged file stays as old as it
# is, and nothing is built again.
put() {
    cat >"$1.new"
    if cmp -s "$1.new" "$1"; then rm "$1.new"; else mv "$1.new" "$1"; fi
}

# library MODULE NAME HEADER…
library() {
    local module=$1 name=$2 header from shared
    shift 2
    from=$(pkg-config --keep-system-cflags --cflags-only-I "$module" | sed 's/^-I//;s/ .*//')
    for header in "$@"; do
        [ -f "$from/$header" ] || skip "$from/$header is not there"
        ln -sf "$from/$header" "$sysroot/include/$header"
    done
    shared=$(pkg-config --keep-system-libs --libs-only-L "$module" | sed 's/^-L//;s/ .*//')
    shared=$shared/lib$name.so
    [ -f "$shared" ] || skip "$shared is not there"
    put "$sysroot/lib/lib$name.tbd" <<EOF
--- !tapi-tbd
tbd-version: 4
targets: [ arm64-macos, x86_64-macos ]
install-name: '@rpath/lib$name.dylib'
exports:
  - targets: [ arm64-macos, x86_64-macos ]
    symbols: [ $(exports "$shared") ]
...
EOF
    put "$sysroot/lib/pkgconfig/$module.pc" <<EOF
Name: $module
Description: the headers and the names of lib$name
Version: $(pkg-config --modversion "$module")
Cflags: -I$sysroot/include
Libs: -L$sysroot/lib -l$name
EOF
}

# "_json_array, _json_copy, …": functions and variables of a shared library, without versions.
exports() {
    nm -D --defined-only "$1" |
        sed -n 's/^[0-9a-f]* [BDRTVW] \([A-Za-z_][A-Za-z0-9_]*\).*/_\1/p' | sort -u | paste -sd , -
}

library jansson jansson jansson.h jansson_config.h
library libpcre2-8 pcre2-8 pcre2.h
library libutf8proc utf8proc utf8proc.h
library libxxhash xxhash xxhash.h xxh3.h
if pkg-config --exists libmicrohttpd; then
    library libmicrohttpd microhttpd microhttpd.h
fi
if pkg-config --exists libedit; then library libedit edit histedit.h; fi
# The tests are compiled where their library is here.
if pkg-config --exists cmocka; then library cmocka cmocka cmocka.h; fi
