#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Static analysis of every source in src/: gcc's -fanalyzer and clang-tidy (.clang-tidy), file by file. Any finding fails
# that is not in tools/analyze-reviewed.txt.
# usage: analyze.sh [PART-OF-A-PATH...] (only files whose names hold one of them)
set -eu
cd "$(dirname "$0")/.."
. tools/packages.sh
need $BUILD_PACKAGES clang clang-tidy
dir=build/analyze
tools/build.sh $dir >/dev/null
log=$dir/findings.txt
: >$log
[ $# -gt 0 ] || set -- src/

# The folder's own list of commands: one line for each file, its flags without outputs.
python3 - $dir "$@" >$dir/commands.txt <<'PY'
import json, os, shlex, sys
folder, parts = sys.argv[1], sys.argv[2:]
seen = set()
for entry in json.load(open(os.path.join(folder, "compile_commands.json"))):
    path = os.path.relpath(os.path.join(entry["directory"], entry["file"]))
    if not path.startswith("src/") or path in seen or not any(p in path for p in parts):
        continue
    seen.add(path)
    words = shlex.split(entry["command"])
    keep = [w for w in words if w[:2] in ("-D", "-I", "-m", "-U") or w.startswith("-std")]
    print(path, *[shlex.quote(os.path.normpath(os.path.join(folder, w[2:]))).join(["-I", ""]) if w[:2] == "-I" else shlex.quote(w) for w in keep])
PY

# So many at a time as there are processors; each takes every so-manieth line.
jobs=$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1)
rm -f $dir/bad.*
one() {
    n=0
    while read -r file flags; do
        n=$(((n + 1) % jobs))
        [ $n = "$1" ] || continue
        gcc_not=$(awk -v f="$file" '$1 == f && $2 ~ /^analyzer-/ { printf " -Wno-%s", $2 }' tools/analyze-reviewed.txt)
        tidy_not=$(awk -v f="$file" '$1 == f && $2 !~ /^analyzer-/ { printf "%s-%s", n++ ? "," : "", $2 }' tools/analyze-reviewed.txt)
        path=-fanalyzer
        ! awk -v f="$file" '$1 == f && $2 == "-fanalyzer" { found = 1 } END { exit !found }' tools/analyze-reviewed.txt || path=
        eval "gcc -O1 $path -Werror$gcc_not -pthread -DANM_ANALYZE $flags -c $file -o $dir/one.$1.o" >$dir/one.$1.txt 2>&1 && gcc=0 || gcc=1
        eval "clang-tidy --quiet --checks='$tidy_not' $file -- -Wno-everything -DANM_ANALYZE $flags" >>$dir/one.$1.txt 2>&1 && [ $gcc = 0 ] && continue
        echo "not ok $file"
        cat $dir/one.$1.txt >>$dir/bad.$1
    done <$dir/commands.txt
}
i=0
while [ $i -lt "$jobs" ]; do
    one $i &
    i=$((i + 1))
done >$dir/names.txt
wait
cat $dir/names.txt
cat $dir/bad.* >$log 2>/dev/null || :
echo "$(wc -l <$dir/commands.txt) files, $(wc -l <$dir/names.txt) with findings ($log)"
[ -s $dir/commands.txt ] && [ ! -s $dir/names.txt ]
