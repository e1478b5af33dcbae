#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Fuzzes every reader under AddressSanitizer and UndefinedBehaviorSanitizer; what is found stays in build/fuzz/found/, and so
# do inputs that take longer than a second (slow-unit-…).
# usage: fuzz.sh SECONDS-EACH [NAME...]
set -eu
cd "$(dirname "$0")/.."
. tools/packages.sh
need $BUILD_PACKAGES clang
clang_major=$(clang -dumpversion | cut -d. -f1)
need "libclang-rt-$clang_major-dev"
seconds=$1
shift
dir=build/fuzz
CC=clang tools/build.sh $dir -Dfuzz=true -Db_sanitize=address,undefined -Db_lundef=false -Db_pie=false \
    -Dbuildtype=debugoptimized -Db_ndebug=false
mkdir -p $dir/found

[ $# -gt 0 ] || set -- $(find $dir/fuzz -maxdepth 1 -type f -name 'fuzz_*' | sed 's/.*fuzz_//' | sort)
export ASAN_OPTIONS=allocator_may_return_null=1:detect_leaks=1
export UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
passed=0 failed=0
for name in "$@"; do
    corpus=$dir/corpus/$name
    mkdir -p "$corpus"
    rm -f "$dir/found/$name"-slow-unit-*
    seeds=
    [ ! -d "fuzz/seeds/$name" ] || seeds=fuzz/seeds/$name
    more=
    case $name in # test data that serves as seeds too
        ckpt) more="test/data/ckpt test/data/ckpt/odd" ;;
        pte) more=test/data/golden ;;
        gguf_token | hf | spm | tekken | tiktoken) more=test/data/token ;;
    esac
    dict=
    [ ! -f "fuzz/dict/$name.dict" ] || dict=-dict=fuzz/dict/$name.dict
    if nice $dir/fuzz/fuzz_"$name" -max_total_time="$seconds" -timeout=10 -report_slow_units=1 -rss_limit_mb=2048 \
        -max_len=1048576 -print_final_stats=1 -artifact_prefix="$dir/found/$name-" $dict "$corpus" $seeds $more \
        >"$dir/$name.log" 2>&1 && ! ls "$dir/found/$name"-slow-unit-* >/dev/null 2>&1; then
        passed=$((passed + 1))
        runs=$(sed -n 's/stat::number_of_executed_units: *//p' "$dir/$name.log")
        cover=$(sed -n 's/.* cov: \([0-9]*\) .*/\1/p' "$dir/$name.log" | tail -n 1)
        echo "ok   $name: $runs inputs, $cover edges"
    else
        failed=$((failed + 1))
        echo "FAIL $name: see $dir/$name.log"
        grep -m 3 -E 'ERROR|SUMMARY|runtime error|Slowest unit' "$dir/$name.log" || true
    fi
done
echo "$passed passed, $failed failed"
[ $failed = 0 ]
