#!/usr/bin/env bash
# Installs what building Sluice needs and this machine lacks, through its own package manager.
#
#   tools/bootstrap.sh [--check-only] [--with GROUP[,GROUP…]]
#
#   build     compiler, make, cmake, ninja, pkg-config, the libraries   (always); liburing (on
#             Linux) and libcurl with libcrypto come along, whose lack alone is no reason to
#             install anything
#   download  libcurl and libcrypto, for 'sluice pull'
#   test      cmocka, python3
#   sanitize  run-time libraries of the sanitizers, where they are packages of their own
#   clang     clang
#   fuzz      clang and libFuzzer
#   cross     compiler and emulator for aarch64 Linux (Debian and its relatives only)
#   formats   the gguf and numpy packages, which write other programs' files for tests; from PyPI,
#             into .venv
#   clients   OpenAI's and Anthropic's Python packages, which the server's tests speak through; from
#             PyPI, into .venv
#   macos     zig, whose C compiler builds for macOS anywhere else; from PyPI, into .venv
#
# Prints nothing and returns at once where everything is there. --check-only installs nothing and
# fails where something is missing.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

check_only=false
groups=build
while [ $# -gt 0 ]; do
    case "$1" in
        --check-only) check_only=true ;;
        --with) [ $# -ge 2 ] || die "--with needs the name of a group"
                groups="$groups,$2"; shift ;;
        -h | --help) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p;}' "$0"; exit 0 ;;
        *) die "unknown argument $1 (see --help)" ;;
    esac
    shift
done

# ---- what is needed, and whether it is there --------------------------------------------------

needs_of() {
    case "$1" in
        build) echo cc make cmake ninja pkg-config jansson pcre2 utf8proc xxhash microhttpd \
            libedit ;;
        download) echo libcurl libcrypto ;;
        test) echo cmocka python3 ;;
        sanitize) echo sanitizers ;;
        clang) echo clang ;;
        fuzz) echo clang libfuzzer ;;
        cross) echo aarch64-gcc qemu-aarch64 ;;
        formats) echo python3 numpy gguf ;;
        clients) echo python3 openai anthropic ;;
        macos) [ "$(uname -s)" = Darwin ] || echo python3 zig ;;
        *) die "unknown group $1: build, download, test, sanitize, clang, fuzz, cross, formats," \
            "clients, macos" ;;
    esac
}

have() { command -v "$1" >/dev/null 2>&1; }
have_venv() { python3 -c 'import ensurepip, venv' >/dev/null 2>&1; }
# In .venv, or where python3 keeps its own.
have_python() {
    .venv/bin/python3 -c "import $1" 2>/dev/null || python3 -c "import $1" 2>/dev/null
}
have_library() { have pkg-config && pkg-config --exists "$1"; }

is_there() {
    case "$1" in
        cc) have cc && echo '#include <stdio.h>' | cc -E - >/dev/null 2>&1 ;;
        cmake) have cmake &&
            version_at_least "$(cmake --version | sed -n '1s/.* //p')" "$cmake_wanted" ;;
        jansson) have_library 'jansson >= 2.13' ;;
        pcre2) have_library 'libpcre2-8 >= 10.32' ;;
        utf8proc) have_library libutf8proc ;;
        microhttpd) have_library 'libmicrohttpd >= 0.9.71' ;;
        libedit) have_library libedit ;;
        liburing) have_library 'liburing >= 2.3' ;;
        xxhash) have_library 'libxxhash >= 0.8.0' ;;
        libcurl) have_library 'libcurl >= 7.64' ;;
        libcrypto) have_library 'libcrypto >= 1.1.1' ;;
        cmocka) have_library cmocka ;;
        sanitizers) sanitizers_there ;;
        libfuzzer) have clang && libfuzzer_there ;;
        aarch64-gcc) have aarch64-linux-gnu-gcc ;;
        zig) zig_path >/dev/null ;;
        openai | anthropic | numpy | gguf) have_python "$1" ;;
        *) have "$1" ;;
    esac
}

# gcc names the full path of a library that it has and repeats the bare name of one that it lacks;
# clang brings its own.
sanitizers_there() {
    local name
    case "$(cc --version 2>/dev/null | sed 1q)" in *clang*) return 0 ;; esac
    for name in libasan.so libubsan.so libtsan.so; do
        [ "$(cc -print-file-name=$name 2>/dev/null)" != "$name" ] || return 1
    done
}

libfuzzer_there() {
    local file
    for file in "$(clang -print-resource-dir)"/lib/*/libclang_rt.fuzzer*; do
        [ -e "$file" ] && return 0
    done
    return 1
}

missing=
note_missing() {
    local group need
    missing=
    for group in $(echo "$groups" | tr ',' ' '); do
        for need in $(needs_of "$group"); do
            case " $missing " in *" $need "*) continue ;; esac
            is_there "$need" || missing="${missing:+$missing }$need"
        done
    done
}

for group in $(echo "$groups" | tr ',' ' '); do needs_of "$group" >/dev/null || exit 1; done
note_missing
[ -n "$missing" ] || exit 0
say "Sluice needs what is not here: $missing"
if $check_only; then exit 1; fi

# ---- packages ----------------------------------------------------------------------------------

# package MANAGER NEED: the packages' names; nothing where the system has it in another way.
package() {
    case "$1/$2" in
        apt/venv) echo python3-venv ;;
        dnf/venv | brew/venv) ;; # comes with python3
        apt/cc) echo gcc libc6-dev ;;
        apt/ninja | dnf/ninja) echo ninja-build ;;
        apt/jansson) echo libjansson-dev ;;
        apt/pcre2) echo libpcre2-dev ;;
        apt/utf8proc) echo libutf8proc-dev ;;
        apt/xxhash) echo libxxhash-dev ;;
        apt/liburing) echo liburing-dev ;;
        apt/microhttpd) echo libmicrohttpd-dev ;;
        apt/libedit) echo libedit-dev ;;
        dnf/microhttpd) echo libmicrohttpd-devel ;;
        brew/microhttpd) echo libmicrohttpd ;;
        apt/libcurl) echo libcurl4-openssl-dev ;;
        apt/libcrypto) echo libssl-dev ;;
        apt/cmocka) echo libcmocka-dev ;;
        apt/sanitizers) echo gcc ;;
        apt/libfuzzer) apt_libfuzzer ;;
        apt/aarch64-gcc) echo gcc-aarch64-linux-gnu libc6-dev-arm64-cross ;;
        apt/qemu-aarch64) echo qemu-user ;;
        dnf/cc) echo gcc glibc-devel ;;
        dnf/pkg-config) echo pkgconf-pkg-config ;;
        dnf/jansson | dnf/pcre2 | dnf/utf8proc | dnf/xxhash | dnf/liburing | dnf/libedit | \
            dnf/libcurl) echo "$2-devel" ;;
        dnf/libcrypto) echo openssl-devel ;;
        brew/liburing) ;; # of Linux alone
        brew/libcurl) echo curl ;;
        brew/libcrypto) echo openssl@3 ;;
        dnf/cmocka) echo libcmocka-devel ;;
        dnf/sanitizers) echo libasan libubsan libtsan ;;
        dnf/libfuzzer) echo compiler-rt ;;
        brew/cc) die "there is no compiler: run 'xcode-select --install', then this again" ;;
        brew/pkg-config) echo pkgconf ;;
        brew/python3) echo python ;;
        brew/clang | brew/libfuzzer)
            die "Apple's clang has no libFuzzer: 'brew install llvm', its bin first in PATH" ;;
        dnf/aarch64-gcc | dnf/qemu-aarch64 | brew/aarch64-gcc | brew/qemu-aarch64)
            die "the aarch64 cross build is set up for Debian and its relatives only" ;;
        *) echo "$2" ;;
    esac
}

# Debian 12 and later keep libFuzzer apart from the compiler, under the compiler's version.
apt_libfuzzer() {
    local version
    version=$(apt-cache depends clang 2>/dev/null |
        sed -n 's/.*Depends: clang-\([0-9][0-9]*\)$/\1/p' | sed 1q)
    [ -n "$version" ] || return 0
    if apt-cache show "libclang-rt-$version-dev" >/dev/null 2>&1; then
        echo "libclang-rt-$version-dev"
    else
        echo "libclang-common-$version-dev"
    fi
}

if have apt-get; then manager=apt
elif have dnf; then manager=dnf
elif have brew; then manager=brew
else
    die "none of apt-get, dnf and brew is here: install these by hand and run this again: $missing"
fi

as_root=
if [ "$manager" != brew ] && [ "$(id -u)" -ne 0 ]; then
    have sudo || die "not root, and there is no sudo: install these by hand: $missing"
    as_root=sudo
    [ -t 0 ] || as_root='sudo -n'
fi

if [ "$manager" = apt ]; then
    # apt-cache knows nothing on a new machine before this. A third-party source that is down is
    # no reason to stop: the install below says what it cannot find.
    say "\$ ${as_root:+$as_root }apt-get update"
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 update ||
        warn "apt-get update failed; going on with the package lists that are here"
fi

# The system's cmake where it is new enough; else the one from PyPI, in a folder of its own.
from_pypi=
cmake_packaged_well() {
    local version
    [ "$manager" = apt ] || return 0
    version=$(apt-cache policy cmake | sed -n 's/^ *Candidate: *\([0-9]*:\)\{0,1\}//p')
    version_at_least "$version" "$cmake_wanted"
}

packages=
for need in $missing; do
    if [ "$need" = cmake ] && ! cmake_packaged_well; then
        say "The packaged cmake is older than $cmake_wanted; a newer one goes into .venv."
        from_pypi="$from_pypi cmake>=$cmake_wanted"
        names='python3 python3-venv'
    elif [[ $need = openai || $need = anthropic || $need = numpy || $need = gguf ]]; then
        from_pypi="$from_pypi $need"
        names=
        have_venv || names=$(package "$manager" venv)
    elif [ "$need" = zig ]; then
        from_pypi="$from_pypi ziglang==$zig_wanted"
        names=
        have_venv || names=$(package "$manager" venv)
    else
        names=$(package "$manager" "$need") || exit 1
    fi
    packages="$packages${names:+ $names}"
done

install_packages() {
    local install
    case "$manager" in
        apt) install="apt-get install -y --no-install-recommends" ;;
        dnf) install="dnf install -y" ;;
        brew) install="brew install" ;;
    esac
    say "\$ ${as_root:+$as_root }$install $*"
    case "$manager" in
        apt) $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y \
                --no-install-recommends -o DPkg::Lock::Timeout=300 "$@" >/dev/null ;;
        dnf) $as_root dnf install -q -y "$@" ;;
        brew) brew install --quiet "$@" ;;
    esac
}

if [ -n "$packages" ]; then
    install_packages $packages || die "the packages could not be installed"
fi
# come_along NEED WITHOUT: what it is like without it
come_along() {
    local optional
    optional=$(package "$manager" "$1")
    if [ -z "$optional" ] || is_there "$1"; then return; fi
    install_packages $optional || warn "$1 could not be installed: $2"
}
come_along liburing "reads go through a pool of threads"
come_along libcurl "'sluice pull' will say that this build has no downloads"
come_along libcrypto "'sluice pull' will say that this build has no downloads"

if [ -n "$from_pypi" ]; then
    say "\$ python3 -m venv .venv && .venv/bin/pip install$from_pypi"
    python3 -m venv .venv || die "python3 -m venv failed"
    .venv/bin/pip install --quiet --disable-pip-version-check $from_pypi ||
        die "this could not be installed from PyPI:$from_pypi"
    if [ -x .venv/bin/cmake ]; then PATH="$root/.venv/bin:$PATH"; fi
fi

hash -r
note_missing
[ -z "$missing" ] || die "still missing after the installation: $missing"
say "Everything is there now."
