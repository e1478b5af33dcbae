#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# How much of each reader the fuzz targets' inputs reach: lines, by clang's source coverage, over the seeds and what `make fuzz`
# has kept (or a folder of corpora that is named). Lines that stay cold are listed in build/coverage/cold.txt.
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

# The readers, and functions in their files that no reader calls: those that write files, and those that look at folders.
cat >$dir/readers.txt <<'END'
zip     src/ckpt/zip.c src/ckpt/pth.c
pickle  src/ckpt/pickle.c
safetensors src/ckpt/safetensors.c src/ckpt/rows.c
gguf    src/ckpt/gguf.c src/model/gguf_params.c
index   src/ckpt/files.c -by_text -is_shard -is_index -is_bin_index -is_safetensors -is_model_safetensors -is_pth -is_gguf -list_folder -folder_files -pattern_files -is_file
params  src/model/params.c src/model/hf_config.c
flatbuffer src/pte/flatbuf.c -anm_fb_begin -share_vtable -anm_fb_put_table -anm_fb_put_refs -anm_fb_put_vector -anm_fb_put_string -anm_fb_set
pte     src/pte/read.c
directory src/coreml/dir.c -put_entry -anm_dir_write_listing
package src/coreml/package_read.c
mlmodel src/coreml/mil_read.c src/coreml/wire.c -varint_of -anm_pb_put_varint -anm_pb_put_int -anm_pb_put_bytes -anm_pb_put_string -anm_pb_open -anm_pb_close
weights src/coreml/weights.c -anm_weights_new -anm_weights_free -find -anm_weights_add -anm_weights_finish
mil     src/mil/parse.c src/mil/print.c src/mil/infer_math.c src/mil/infer_shape.c src/mil/infer.h src/mil/infer.c src/mil/verify.c src/mil/constant.c
token   src/token/open.c -is_file -read_template src/token/gguf_token.c src/token/tiktoken.c src/token/base64.h
hf      src/token/hf.c src/token/hf_pre.c src/token/hf_norm.c src/token/hf_decode.c
spm     src/token/spm.c src/token/spm_norm.c src/token/spm_encode.c
text    src/token/bpe.c src/token/split.c src/base/utf8.h
chat    src/chat/jinja_lex.c src/chat/jinja_parse.c src/chat/jinja_eval.c src/chat/jinja_value.c src/chat/jinja_call.c
engine  src/run/engine_join.c src/run/engine_load.c src/run/engine_roles.c src/run/engine_legacy.c
plan    src/plan/lower.c src/plan/lower_sym.c src/plan/lower_attention.c src/plan/lower_math.c src/plan/lower_move.c src/plan/view.c src/plan/run.c
END

for name in "$@"; do
    exe=$dir/fuzz/fuzz_$name
    inputs=
    for d in "$corpora/$name" "fuzz/seeds/$name"; do [ ! -d "$d" ] || inputs="$inputs $d"; done
    case $name in
        ckpt) inputs="$inputs test/data/ckpt test/data/ckpt/odd" ;;
        gguf_token | hf | spm | tekken | tiktoken) inputs="$inputs test/data/token" ;;
        pte) inputs="$inputs test/data/golden" ;;
    esac
    LLVM_PROFILE_FILE=$dir/$name.raw $exe -runs=0 -rss_limit_mb=0 -timeout=600 $inputs >$dir/$name.log 2>&1 || echo "$name: see $dir/$name.log"
    llvm-profdata merge -o $dir/$name.prof $dir/$name.raw
    llvm-cov export $exe -instr-profile=$dir/$name.prof -format=lcov >$dir/$name.lcov 2>/dev/null
done

# A line counts as reached where any target reaches it; the fourth column: lines left out that say that memory is out.
# What stays cold goes to $dir/cold.txt.
python3 - $dir "$@" <<'PY'
import os, sys
folder, names = sys.argv[1], sys.argv[2:]
lines, functions = {}, {}

def out_of_memory(text, i):
    """Is this cold line part of a few that end in saying so? Those are what `make faults` reaches."""
    for line in text[i:i + 4]:
        if "no_memory(" in line or "anm_fail_memory(" in line:
            return True
        if line.strip() == "}" or "anm_fail(" in line:
            return False
    return any("anm_fail_memory(" in line for line in text[max(0, i - 2):i])

for name in names:
    at = f = None
    for row in open(f"{folder}/{name}.lcov"):
        kind, _, rest = row.strip().partition(":")
        if kind == "SF":
            f = os.path.relpath(os.path.normpath(rest))
            at = lines.setdefault(f, {})
        elif kind == "FN":
            line, function = rest.split(",", 1)
            functions.setdefault(f, {})[int(line)] = function.rpartition(":")[2]
        elif kind == "DA":
            line, count = map(int, rest.split(",")[:2])
            at[line] = max(at.get(line, 0), count)
all_hit = all_seen = 0
with open(f"{folder}/cold.txt", "w") as cold:
    for row in open(f"{folder}/readers.txt"):
        reader, *words = row.split()
        apart = {w[1:] for w in words if w[0] == "-"} | {"no_memory"}
        hit = seen = memory = 0
        parts = []
        for f in [w for w in words if w[0] != "-"]:
            starts = sorted(functions.get(f, {}))
            text = open(f, encoding="utf-8").read().splitlines()
            mine = {}
            for n, count in lines.get(f, {}).items():
                inside = [s for s in starts if s <= n]
                if inside and functions[f][inside[-1]] in apart:
                    continue
                if count == 0 and out_of_memory(text, n - 1):
                    memory += 1
                else:
                    mine[n] = count
            h = sum(c > 0 for c in mine.values())
            hit, seen = hit + h, seen + len(mine)
            parts.append(f"`{os.path.basename(f)}` {100 * h / max(1, len(mine)):.1f}")
            cold.writelines(f"{f}:{n}:{line}\n" for n, line in enumerate(text, 1) if mine.get(n) == 0)
        all_hit, all_seen = all_hit + hit, all_seen + seen
        print(f"| {reader} | {hit} of {seen} | {100 * hit / max(1, seen):.1f} % | {memory} | {', '.join(parts)} |")
print(f"| all | {all_hit} of {all_seen} | {100 * all_hit / max(1, all_seen):.1f} % | | |")
PY
