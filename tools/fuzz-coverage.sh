#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# How much of each reader its fuzz target's inputs reach: lines, by clang's source coverage, over the seeds and what `make fuzz`
# has kept (or a folder of corpora that is named). Lines that stay cold are listed in build/coverage/NAME.txt.
# usage: fuzz-coverage.sh [FOLDER-OF-CORPORA [NAME...]]
set -eu
cd "$(dirname "$0")/.."
. tools/packages.sh
need $BUILD_PACKAGES clang llvm
dir=build/coverage
export LLVM_PROFILE_FILE=/dev/null # the build runs a program of its own
CC=clang tools/build.sh $dir -Dfuzz=true -Db_lundef=false -Db_pie=false -Dbuildtype=debugoptimized -Db_ndebug=true \
    -Dc_args="-fprofile-instr-generate -fcoverage-mapping" -Dc_link_args="-fprofile-instr-generate"
corpora=${1:-build/fuzz/corpus}
[ $# = 0 ] || shift
[ $# -gt 0 ] || set -- $(find $dir/fuzz -maxdepth 1 -type f -name 'fuzz_*' | sed 's/.*fuzz_//' | sort)

# What a target is for.
sources() {
    case $1 in
        chat) echo src/chat/jinja_*.c ;;
        ckpt) echo src/ckpt/pth.c src/ckpt/safetensors.c src/ckpt/gguf.c src/ckpt/rows.c src/ckpt/blocks.c src/model/gguf_params.c ;;
        config) echo src/token/open.c ;;
        dir) echo src/coreml/dir.c ;;
        gguf_token) echo src/token/gguf_token.c ;;
        hf) echo src/token/hf.c src/token/hf_pre.c src/token/hf_norm.c src/token/hf_decode.c ;;
        index) echo src/ckpt/files.c ;;
        mil) echo src/mil/parse.c src/mil/infer.c src/mil/verify.c src/mil/print.c ;;
        mlmodel) echo src/coreml/mil_read.c src/coreml/weights.c src/coreml/wire.c ;;
        package) echo src/coreml/package_read.c ;;
        params) echo src/model/params.c src/model/hf_config.c src/model/rope.c ;;
        pickle) echo src/ckpt/pickle.c ;;
        plan) echo src/plan/lower*.c src/plan/view.c src/plan/run.c ;;
        pte) echo src/pte/read.c src/pte/flatbuf.c ;;
        run) echo src/run/engine_load.c src/run/engine_roles.c src/run/engine_legacy.c ;;
        spm) echo src/token/spm.c src/token/spm_norm.c src/token/spm_encode.c ;;
        tekken | tiktoken) echo src/token/tiktoken.c src/token/base64.h ;;
        text) echo src/token/bpe.c src/token/split.c src/token/utf8.h ;;
        zip) echo src/ckpt/zip.c ;;
    esac
}

for name in "$@"; do
    exe=$dir/fuzz/fuzz_$name
    set -- $(sources "$name")
    inputs=
    for d in "$corpora/$name" "fuzz/seeds/$name"; do [ ! -d "$d" ] || inputs="$inputs $d"; done
    case $name in
        ckpt) inputs="$inputs test/data/ckpt test/data/ckpt/odd" ;;
        gguf_token | hf | spm | tekken | tiktoken) inputs="$inputs test/data/token" ;;
        pte) inputs="$inputs test/data/golden" ;;
    esac
    LLVM_PROFILE_FILE=$dir/$name.raw $exe -runs=0 -rss_limit_mb=0 -timeout=600 $inputs >$dir/$name.log 2>&1 || echo "$name: see $dir/$name.log"
    llvm-profdata merge -o $dir/$name.prof $dir/$name.raw
    llvm-cov show $exe -instr-profile=$dir/$name.prof "$@" >$dir/$name.txt 2>/dev/null
    for f in "$@"; do
        # "  line|  count|text": lines that hold code have a count
        llvm-cov show $exe -instr-profile=$dir/$name.prof "$f" 2>/dev/null |
            awk -F'|' -v name="$name" -v file="$f" '$1 ~ /^ *[0-9]+$/ && $2 ~ /[0-9]/ { all++; if ($2 !~ /^ *0$/) hit++ }
                END { if (all) printf "| `%s` | `%s` | %d of %d | %.1f %% |\n", name, file, hit, all, 100 * hit / all }'
    done
done
