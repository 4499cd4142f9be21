#!/usr/bin/env bash
# Unpacks the libraries of arm64 Debian into build/aarch64-sysroot, for the aarch64 preset.
#
# They are fetched with a private set of package lists and are not installed: the machine's own
# packages and architectures stay as they are. Done once; remove the folder to do it again.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

sysroot=$root/build/aarch64-sysroot
[ ! -f "$sysroot/complete" ] || exit 0
command -v apt-get >/dev/null 2>&1 || die "this needs apt-get and Debian's packages"

say "Fetching arm64 libraries into build/aarch64-sysroot"
rm -rf "$sysroot"
mkdir -p "$sysroot/lists/partial" "$sysroot/cache/archives/partial" "$sysroot/packages"
: >"$sysroot/status"

apt_options="-qq -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o APT::Sandbox::User=root
    -o Dir::State::Lists=$sysroot/lists -o Dir::State::status=$sysroot/status
    -o Dir::Cache=$sysroot/cache -o Acquire::Languages=none"
# Another source of the machine may have nothing for arm64; what counts is what comes below.
apt-get $apt_options update >"$sysroot/update.log" 2>&1 || true

libraries='libjansson-dev libpcre2-dev libutf8proc-dev libxxhash-dev libcmocka-dev'
# A -dev package names its run-time library among what it depends on.
for package in $libraries; do
    libraries="$libraries $(apt-cache $apt_options depends "$package" |
        sed -n 's/^ *Depends: \(lib[a-z0-9.+-]*\)$/\1/p' | grep -v '^libc6' | tr '\n' ' ')"
done
(cd "$sysroot/packages" && apt-get $apt_options download $libraries) ||
    die "the arm64 packages could not be fetched; apt-get said: $(tail -n 3 "$sysroot/update.log")"
for archive in "$sysroot"/packages/*.deb; do
    dpkg-deb --extract "$archive" "$sysroot/root"
done
rm -rf "$sysroot/lists" "$sysroot/cache" "$sysroot/packages" "$sysroot/status"
: >"$sysroot/complete"
