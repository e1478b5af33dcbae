#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Builds everything for 64-bit Arm on another machine and runs the tests under qemu's user emulation, and those of the
# kernels for each kind of processor. Debian's arm64 libraries are unpacked under build/arm64: the system's own packages
# stay as they are. Left out by name: what watches a program's system calls, which qemu cannot do.
# usage: check-arm64.sh [MESON-TEST-NAME...]
set -eu
cd "$(dirname "$0")/.."
. tools/packages.sh

if [ "$(uname -m)" = aarch64 ]; then
    say "This machine is an arm64 one: ./check does it"
    exit 0
fi
command -v apt-get >/dev/null || { say "make check-arm64 wants Debian's arm64 libraries, and there is no apt-get here"; exit 1; }
need $BUILD_PACKAGES gcc-aarch64-linux-gnu qemu-user

dir=$PWD/build/arm64
root=$dir/root
if [ ! -f "$dir/unpacked" ]; then
    # A package manager of its own, for arm64 alone, that thinks nothing is installed: so it fetches all that is needed.
    mkdir -p "$dir/apt/lists/partial" "$dir/apt/cache/archives/partial" "$root"
    : >"$dir/apt/status"
    fetch() {
        apt-get -qq -y -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o Dir::State="$dir/apt" \
            -o Dir::State::status="$dir/apt/status" -o Dir::Cache="$dir/apt/cache" -o APT::Sandbox::User="$(id -un)" \
            -o APT::Install-Recommends=0 -o Debug::NoLocking=1 "$@"
    }
    libraries=
    for p in $BUILD_PACKAGES $TEST_PACKAGES; do
        case $p in *-dev) libraries="$libraries $p" ;; esac
    done
    { fetch update && fetch --download-only install $libraries; } >"$dir/packages.txt" 2>&1 ||
        { cat "$dir/packages.txt" >&2; say "Debian's arm64 packages could not be fetched"; exit 1; }
    for deb in "$dir"/apt/cache/archives/*.deb; do dpkg -x "$deb" "$root"; done
    touch "$dir/unpacked"
fi

# Runs a program of either kind: what starts as an ELF file is for arm64.
cat >"$dir/run" <<END
#!/bin/sh
case \$(head -c 4 "\$1") in
    *ELF) name=\$1; exec qemu-aarch64 -0 "\$name" -L "$root" "\$@" ;;
    *) exec "\$@" ;;
esac
END
chmod +x "$dir/run"
cat >"$dir/cross.txt" <<END
[binaries]
c = ['aarch64-linux-gnu-gcc', '--sysroot=$root']
ar = 'aarch64-linux-gnu-gcc-ar'
strip = 'aarch64-linux-gnu-strip'
pkgconfig = 'pkg-config'
exe_wrapper = '$dir/run'
[properties]
sys_root = '$root'
pkg_config_libdir = '$root/usr/lib/aarch64-linux-gnu/pkgconfig:$root/usr/share/pkgconfig'
[host_machine]
system = 'linux'
cpu_family = 'aarch64'
cpu = 'aarch64'
endian = 'little'
END
cross=--cross-file=$dir/cross.txt
[ ! -f "$dir/out/build.ninja" ] || cross= # a folder keeps the machine that it was made for
tools/build.sh "$dir/out" $cross -Dwerror=true

# Scripts start the program themselves, under several names: it becomes a script that starts the emulator.
for exe in $(find "$dir/out" -type f -perm -u+x ! -path '*/meson-private/*' ! -name '*.so*' ! -name '*.elf'); do
    case $(head -c 4 "$exe") in *ELF) ;; *) continue ;; esac
    [ "$(od -An -tx1 -j18 -N1 "$exe")" = " b7" ] || continue # a tool of the build, for this machine
    mv "$exe" "$exe.elf"
    printf '#!/bin/sh\nexec qemu-aarch64 -0 "$0" -L "%s" "%s.elf" "$@"\n' "$root" "$exe" >"$exe"
    chmod +x "$exe"
done

# The kernels on a processor without dot products, and on one that has them but no matrix products; then all on one
# with everything.
for cpu in cortex-a72 neoverse-n1; do
    QEMU_CPU=$cpu tools/run-tests.sh "$dir/out" kernel
done
[ $# -gt 0 ] || set -- $(meson test -C "$dir/out" --no-rebuild --list 2>/dev/null | sed -n 's/^anemone.* \/ //p' | grep -vx faults)
tools/run-tests.sh "$dir/out" --timeout-multiplier 10 "$@"
