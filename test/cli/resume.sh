#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# A calibration that is killed, and goes on.
. "$(dirname "$0")/lib.sh"

export="export -c $tiny --calibrate --calibrate_effort high --calibrate_windows 4 --quiet"

succeeds "an uninterrupted one" $export -o whole.pte
why=
[ ! -e whole.pte.calib ] || why="whole.pte.calib is left behind"
verdict "no work file stays" "$why"

# Killed again and again, a little later each time, until it comes to its end.
i=0 kills=0 done=
while [ $i -lt 200 ] && [ ! "$done" ]; do
    i=$((i + 1))
    "$exe" $export -o killed.pte --resume 2>stderr.txt &
    pid=$!
    sleep "$((i / 20)).$((i % 20 * 5 / 10))$((i % 20 * 5 % 10))"
    kill -KILL $pid 2>/dev/null && kills=$((kills + 1))
    wait $pid 2>/dev/null && done=1
done
rm -f ./*.tmp-* # what SIGKILL alone may leave, in the moment of writing
why=
[ "$done" ] || why="did not end in $i runs"
[ $kills -gt 0 ] || why="never killed"
cmp -s whole.pte killed.pte || why="the files differ after $kills kills"
[ ! -e killed.pte.calib ] || why="killed.pte.calib is left behind"
verdict "killed until it is done: the same bytes" "$why"
echo "# $kills kills"

stop() { # OUTPUT: stopped while a layer is in work (a shell's background jobs do not hear SIGINT)
    "$exe" $export -o "$1" 2>stderr.txt &
    pid=$!
    n=0
    while [ $n -lt 500 ]; do
        n=$((n + 1))
        [ ! -s "$1.calib" ] || break
        sleep 0.01
    done
    sleep "${2:-0.1}"
    kill -TERM $pid 2>/dev/null
    wait $pid 2>/dev/null
}

stop left.pte
grep -q 'interrupted.*--resume' stderr.txt
told=$?
if [ -s left.pte.calib ]; then
    why=
    [ $told = 0 ] || why="it did not say how to go on"
    [ ! -e left.pte ] || why="an output is there"
    verdict "a signal leaves the work, and says how to go on" "$why"
    fails "another seed" 2 "left.pte.calib: belongs to a calibration with another" $export -o left.pte --resume --seed 5
    fails "fewer windows" 2 "belongs to a calibration with another" $export -o left.pte --resume --calibrate_windows 3
    cp left.pte.calib spare
    succeeds "going on" $export -o left.pte --resume --threads 1
    why=
    cmp -s whole.pte left.pte || why="the files differ"
    verdict "the same bytes, on another number of threads" "$why"

    # One byte after the other of the work is spoilt: found, and made again.
    size=$(wc -c <spare) n=0 why=
    while [ $n -lt 12 ]; do
        cp spare left.pte.calib
        at=$((n * 40 + 7))
        [ $n -lt 4 ] || at=$((16384 + n * 97))
        [ $n -lt 8 ] || at=$((size * n / 12))
        printf '\377' | dd of=left.pte.calib bs=1 seek=$at conv=notrunc 2>/dev/null
        rm -f left.pte
        "$exe" $export -o left.pte --resume 2>stderr.txt
        code=$?
        if [ $code = 0 ]; then cmp -s whole.pte left.pte || why="$why at $at: other bytes;"
        else [ $n -lt 4 ] && grep -q 'left.pte.calib: ' stderr.txt || why="$why at $at: exit $code;"; fi
        n=$((n + 1))
    done
    verdict "a spoilt work file is refused or mended" "$why"
    head -c 40000 spare >left.pte.calib
    fails "a work file cut short" 2 "left.pte.calib: belongs to" $export -o left.pte --resume
    echo "a letter" >left.pte.calib
    fails "what is no work file" 2 "left.pte.calib: is no work" $export -o left.pte --resume
    [ "$(cat left.pte.calib)" = "a letter" ]
    verdict "and it is not touched" "$([ $? = 0 ] || echo "it was overwritten")"
elif [ -e left.pte ]; then
    skip "a signal leaves the work, and says how to go on" "it was done before the signal came"
else
    verdict "a signal leaves the work, and says how to go on" "neither the work nor the output is there"
fi
fails "--resume alone" 2 "goes with --calibrate" export -c "$tiny" -o out.pte --resume
succeeds "--resume with nothing to resume" $export -o fresh.pte --resume
finish
