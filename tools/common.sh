# Shared by the scripts in tools/: sourced, not run. Plain enough for the bash 3.2 of macOS.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root" || exit 1

# A cmake that bootstrap.sh had to fetch lies in .venv and goes before an older one of the system.
if [ -x .venv/bin/cmake ]; then PATH="$root/.venv/bin:$PATH"; fi

cmake_wanted=3.25
# The compiler of the macOS check, at one version: warnings are errors there, and each version has
# new ones.
zig_wanted=0.17.1

say() { printf '%s\n' "$*"; }
warn() { printf '%s\n' "$*" >&2; }
die() { printf '%s: %s\n' "$(basename "$0")" "$*" >&2; exit 1; }

# Cores that this process may use.
core_count() {
    if command -v nproc >/dev/null 2>&1; then nproc
    else sysctl -n hw.ncpu 2>/dev/null || echo 2
    fi
}

# version_at_least HAVE WANTED, both of the form 3.25 or 3.25.1
version_at_least() {
    local have_major have_minor want_major want_minor
    have_major=${1%%.*}
    have_minor=${1#*.} have_minor=${have_minor%%.*}
    want_major=${2%%.*}
    want_minor=${2#*.} want_minor=${want_minor%%.*}
    case "$have_major$have_minor" in '' | *[!0-9]*) return 1 ;; esac
    [ "$have_major" -gt "$want_major" ] ||
        { [ "$have_major" -eq "$want_major" ] && [ "$have_minor" -ge "$want_minor" ]; }
}

# The zig of PyPI's package ziglang, from .venv (bootstrap.sh) or from where python3 keeps packages;
# else the one in PATH. Fails where there is none.
zig_path() {
    local python
    for python in .venv/bin/python3 python3; do
        "$python" 2>/dev/null -c 'import os, ziglang
print(os.path.join(os.path.dirname(os.path.abspath(ziglang.__file__)), "zig"))' && return
    done
    command -v zig
}

# The environment's own choices win: CMAKE_BUILD_PARALLEL_LEVEL and CTEST_PARALLEL_LEVEL.
: "${CMAKE_BUILD_PARALLEL_LEVEL:=$(core_count)}"
: "${CTEST_PARALLEL_LEVEL:=$CMAKE_BUILD_PARALLEL_LEVEL}"
export CMAKE_BUILD_PARALLEL_LEVEL CTEST_PARALLEL_LEVEL
