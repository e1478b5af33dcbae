#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Static analysis of every source in src/: gcc's -fanalyzer and clang-tidy (.clang-tidy), file by file. Any finding fails.
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

checked=0 bad=0
while read -r file flags; do
    checked=$((checked + 1))
    why=$dir/one.txt
    if ! { eval "gcc -O1 -fanalyzer -Werror -pthread $flags -c $file -o $dir/one.o" &&
        eval "clang-tidy --quiet $file -- -Wno-everything $flags"; } >$why 2>&1; then
        bad=$((bad + 1))
        echo "not ok $file"
        cat $why >>$log
    fi
done <$dir/commands.txt
echo "$checked files, $bad with findings ($log)"
[ $bad = 0 ]
