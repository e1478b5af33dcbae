#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Runs the tests of a build folder and counts test cases (not programs). The last line: N passed, N failed[, N skipped].
# usage: run-tests.sh FOLDER [MESON-TEST-OPTION...]
set -eu
cd "$(dirname "$0")/.."
dir=$1
shift
# A name that no test has would be passed over, and the last run's log counted for it.
log=$dir/meson-logs/testlog.txt
rm -f "$log"
known=$(meson test -C "$dir" --no-rebuild --list 2>/dev/null | sed 's/.* //')
for word; do
    case $word in -* | [0-9]*) continue ;; esac
    printf '%s\n' "$known" | grep -qxF -e "$word" || { echo "there is no test $word"; echo "0 passed, 1 failed"; exit 1; }
done
status=0
meson test -C "$dir" --no-rebuild --print-errorlogs "$@" || status=$?
[ -f "$log" ] || { echo "0 passed, 1 failed"; exit 1; }

# Each program's output is cmocka's or TAP; one that says neither, or dies before it says so, counts as one case.
awk '
    function close_program() {
        if (name == "") return
        if (n == 0) { if (code == 77) skipped++; else if (bad) failed++; else passed++ }
        else if (bad ? !f : n != planned) failed++
        name = ""
    }
    /^=+ [0-9]+\/[0-9]+ =+$/ { close_program(); name = "?"; n = f = bad = code = 0; planned = ""; next }
    /^result: / { bad = !/exit status (0|77)( |$)/; code = / 77( |$)/ ? 77 : 0; next }
    /^\[ +OK \] / || /^ok / {
        n++
        if (/# [Ss][Kk][Ii][Pp]/) skipped++; else passed++
        next
    }
    /^1\.\.[0-9]+$/ { planned = substr($0, 4) + 0; next }
    /^\[=+\] .*Running [0-9]+ test\(s\)/ { planned = $0; sub(/.*Running /, "", planned); planned += 0; next }
    /^not ok / { n++; f++; failed++; next }
    /^\[  FAILED  \] .* test\(s\), listed below/ || /^\[  SKIPPED \] .* test\(s\), listed below/ {
        for (i = 1; i <= NF; i++) if ($i == "test(s),") k = $(i - 1)
        n += k
        if (/FAILED/) { f += k; failed += k } else skipped += k
    }
    END {
        close_program()
        printf "%d passed, %d failed", passed, failed
        if (skipped) printf ", %d skipped", skipped
        print ""
        exit failed > 0 || passed == 0
    }' "$log" || exit 1
exit $status
