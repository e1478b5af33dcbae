#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Compiles every source, tests too, for macOS on Apple silicon. Compile only: nothing is linked or run.
# The compiler and the system's headers are those of the PyPI package ziglang; jansson, PCRE2, utf8proc, libedit, cmocka and uthash are
# plain C headers, taken from this system.
set -eu
cd "$(dirname "$0")/.."
. tools/packages.sh
need $BUILD_PACKAGES $TEST_PACKAGES

dir=build/macos
inc=$PWD/$dir/include
zig=build/zig
if [ ! -f $zig/whole ]; then
    need python3-venv
    python3 -m venv $zig
    $zig/bin/pip install --quiet --disable-pip-version-check ziglang==0.13.0
    touch $zig/whole
fi
mkdir -p "$inc"

# Meson asks a linker for its name before it compiles anything: the answer is that of Apple's.
zig_program=$(find "$PWD/$zig/lib" -path '*/ziglang/zig' -type f)
cat >$dir/cc <<END
#!/bin/sh
case "\$*" in
    *-Wl,--version*) echo "ld: unknown option: --version" >&2; exit 1 ;;
    *-Wl,-v*) echo "PROJECT:ld64-1" >&2; exit 1 ;;
esac
for a do # zig has its own way to name extensions
    shift
    case \$a in -march=armv8.2-a+*) a=-mcpu=generic+\${a#*-a+} ;; esac
    set -- "\$@" "\$a"
done
case " \$* " in *" - "*) cd "$PWD/$dir" ;; esac # zig leaves a file where it reads standard input
exec "$zig_program" cc -target aarch64-macos "\$@"
END
chmod +x $dir/cc

for h in xxhash.h jansson.h jansson_config.h pcre2.h utf8proc.h histedit.h cmocka.h uthash.h utlist.h utarray.h utstring.h; do
    h=$(find /usr/include -maxdepth 2 -name $h -print -quit)
    cp "$h" "$inc/"
done
for p in jansson libpcre2-8 libutf8proc libxxhash libedit cmocka; do
    printf 'Name: %s\nDescription: headers only\nVersion: %s\nCflags: -I%s\n' \
        $p "$(pkg-config --modversion $p)" "$inc" >$dir/$p.pc
done
cat >$dir/cross.txt <<END
[binaries]
c = '$PWD/$dir/cc'
ar = 'ar'
strip = 'true'
pkgconfig = 'pkg-config'
[properties]
pkg_config_libdir = '$PWD/$dir'
[host_machine]
system = 'darwin'
cpu_family = 'aarch64'
cpu = 'aarch64'
endian = 'little'
END

[ -f $dir/out/build.ninja ] || meson setup $dir/out --cross-file $dir/cross.txt -Dwerror=true >$dir/setup.txt 2>&1 ||
    { cat $dir/setup.txt >&2; exit 1; }
ninja -C $dir/out build.ninja >$dir/setup.txt 2>&1 || { cat $dir/setup.txt >&2; exit 1; }
objects=$(ninja -C $dir/out -t targets all | sed -n 's/\(.*\.o\): .*/\1/p')
ninja -C $dir/out $objects >$dir/build.txt 2>&1 || { grep -v '^\[' $dir/build.txt >&2; exit 1; }
echo "$(echo "$objects" | wc -l) sources compiled for macOS on aarch64"
