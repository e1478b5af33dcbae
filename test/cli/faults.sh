#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Full disks and interrupts during an export: the old file stays as it was, or the new one is whole; nothing else is left.
. "$(dirname "$0")/lib.sh"

succeeds "a program" export -c "$tiny" -o whole.pte

# A full disk: a small file system of its own where that may be mounted.
mkdir disk
if [ "$(uname)" = Linux ] && [ "$(id -u)" = 0 ] && mount -t tmpfs -o size=128k tmpfs disk 2>/dev/null; then
    echo old >disk/out.pte
    fails "a full disk" 1 "disk/out.pte: .*[Nn]o space" export -c "$tiny" -o disk/out.pte
    why=
    [ "$(cat disk/out.pte)" = old ] || why="the old file has changed. "
    [ "$(ls -A disk)" = out.pte ] || why="${why}left: $(ls -A disk)"
    verdict "… leaves the old file, and nothing else" "$why"
    fails "a package on a full disk" 1 "disk/out/.*[Nn]o space" extract whole.pte -o disk/out
    fails "logits on a full disk" 1 "disk/l.npy: .*[Nn]o space" run -m whole.pte --tokens "$(yes 1 | head -n 60 | paste -sd,)" \
        --max_new_tokens 1 --print_tokens --logits disk/l.npy
    why=
    [ "$(ls -A disk)" = out.pte ] || why="left: $(ls -A disk)"
    verdict "… leave nothing" "$why"
    umount disk
else
    skip "a full disk" "only root can make one"
fi

# A file that may grow no further. The limit's signal would end the program, and leave the temporary file.
program=$exe
printf '#!/bin/sh\nulimit -f 64\nexec "%s" "$@"\n' "$program" >limited
chmod +x limited
exe=$work/limited
fails "a file beyond the limit on its size" 1 "out.pte: .*too large" export -c "$tiny" -o out.pte --quiet
exe=$program
exe=$work/limited
rm -rf unpacked
fails "… and of a package's files" 1 "unpacked/.*too large" extract whole.pte -o unpacked
why=
[ ! -e unpacked ] || why="left $(find unpacked)"
verdict "… which leaves no folder" "$why"
exe=$program

succeeds "an export" export -c "$tiny" -o whole.pte
succeeds "the same again, over it" export -c "$tiny" -o whole.pte

# Interrupts at several moments. A large model gives them time to strike.
if [ ! -f "$smollm" ]; then
    skip "interrupted exports" "SmolLM2 is not in build/models (./demo fetches it)"
elif ! command -v timeout >/dev/null; then
    skip "interrupted exports" "there is no 'timeout'"
else
    for signal in INT TERM; do
        why= struck=0
        for after in 0.01 0.03 0.06 0.1 0.15 0.2 0.3 0.5; do
            echo old >out.pte
            timeout --foreground -s $signal $after "$exe" export -c "$smollm" -o out.pte --linear_quantize b4w >/dev/null 2>stderr.txt
            code=$?
            [ $code = 124 ] && struck=$((struck + 1))
            if [ $code = 124 ] && [ "$(head -c 3 out.pte)" = old ]; then :
            elif [ "$(wc -c <out.pte)" -gt 1000000 ]; then :
            else why="$why after $after s: exit code $code and a file of $(wc -c <out.pte) bytes."
            fi
            [ -z "$(ls -A | grep 'tmp-')" ] || why="$why after $after s left $(ls -A | grep tmp-)"
        done
        [ $struck -gt 0 ] || why="no export was struck"
        verdict "SIG$signal during an export ($struck struck)" "$why"
    done
fi
finish
