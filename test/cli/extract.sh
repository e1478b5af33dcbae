#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# anemone extract writes into the folder that it is given and nowhere else, whatever names stand in the file and whatever
# already stands in the folder; and what fails leaves nothing.
. "$(dirname "$0")/lib.sh"

# Whatever ends it politely: all is there, or nothing.
succeeds "a program" export -q -c "$tiny" -o whole.pte
succeeds "its packages" extract whole.pte -o all
verdict "whole or not at all, whatever ends it" "$(
    python3 - "$exe" <<'PY' 2>&1
import filecmp, os, random, shutil, signal, subprocess, sys, time
def files(at):
    return sorted(os.path.relpath(os.path.join(d, f), at) for d, _, fs in os.walk(at) for f in fs)
def extract():
    return subprocess.Popen([sys.argv[1], "extract", "whole.pte", "-o", "some"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
begin = time.time()
extract().wait()
took, struck = time.time() - begin, 0
shutil.rmtree("some")
random.seed(1)
for i in range(60):
    p, sent = extract(), (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)[i % 3]
    time.sleep(random.random() * took)
    p.send_signal(sent)
    code = p.wait()
    if code == 0 or os.path.exists("some"):
        bad = files("some") != files("all") or not all(filecmp.cmp(f"some/{f}", f"all/{f}", False) for f in files("all"))
        if bad: print(sent.name, "left", files("some"))
        shutil.rmtree("some", True)
    struck += code == -sent
    if code not in (0, -sent): print(sent.name, "gave", code)
if struck < 5: print("struck only", struck, "times")
PY
)"
succeeds "a program to spoil" export -c "$data/whole.pth" -p "$data/params.json" -o small.pte --max_context_len 32 --input_len 8 \
    --no_graph_breaks

# refused NAME WORDS FILE: nothing is written, neither in the folder nor beside it.
refused() {
    rm -rf target
    mkdir target
    before=$(find . ! -name 'std*.txt' | sort)
    fails "$1" 1 "$2" extract "$3" -o target
    why=
    [ "$(find . ! -name 'std*.txt' | sort)" = "$before" ] || why="the folder has changed: $(find . -newer target | tr '\n' ' ')"
    verdict "… and nothing is written" "$why"
}

# Other names in the directory blob, whose listing stands there backwards: spoil WAS IS, of equal length, each way round.
spoil() {
    was=$(printf '%s\n' "$1" | awk '{ for (i = length($0); i; i--) printf "%s", substr($0, i, 1) }')
    is=$(printf '%s\n' "$2" | sed 's/\\/\\\\/g' | awk '{ for (i = length($0); i; i--) printf "%s", substr($0, i, 1) }')
    LC_ALL=C sed "s|\"$was\"|\"$is\"|g" small.pte >spoilt.pte
    why=
    cmp -s small.pte spoilt.pte && why="nothing was replaced"
    [ "$(wc -c <small.pte)" -eq "$(wc -c <spoilt.pte)" ] || why="the length has changed"
    [ -z "$why" ] || verdict "$1 becomes $2" "$why"
}
spoil Manifest.json ../../../evil
refused "a name that leads up" "plain file name" spoilt.pte
spoil Manifest.json /tmp/anm_evil
refused "an absolute name" "plain file name" spoilt.pte
spoil model.mlmodel ./././evil.so
refused "a name of several folders" "plain file name" spoilt.pte
spoil model.mlmodel '..\u002fevil.'
refused "a slash spelled as an escape" "plain file name" spoilt.pte
spoil model.mlmodel C:evil.mlmode
refused "a name with a colon" "plain file name" spoilt.pte
spoil weights .......
refused "a name of other dots names no weights" "weight file: missing" spoilt.pte
spoil weight.bin Manifest.j
refused "weights under another name" "weight file: missing" spoilt.pte
spoil Data ....
refused "a folder under another name" "model that its manifest names is missing" spoilt.pte
LC_ALL=C sed 's|"ataD"|"..D."|' small.pte >spoilt.pte
refused "a folder called by two names" "another name" spoilt.pte

# What already stands in the target.
mkdir outside target2
ln -s ../outside target2/piece_0.mlpackage
fails "a link in the folder's place is not followed" 1 "piece_0.mlpackage: exists" extract small.pte -o target2
why=
[ -z "$(ls -A outside)" ] || why="written through the link: $(ls -A outside)"
[ -L target2/piece_0.mlpackage ] || why="$why the link is gone"
verdict "… and it still stands, with nothing behind it" "$why"
ln -s nowhere dangling
fails "a link to nothing as the target" 1 "dangling: " extract small.pte -o dangling
why=
[ ! -e nowhere ] || why="nowhere was made"
verdict "… and its end was not made" "$why"
succeeds "a folder that is there" extract small.pte -o target2/below
fails "the same once more" 1 "piece_0.mlpackage: exists" extract small.pte -o target2/below
why=
[ -s target2/below/piece_0.mlpackage/Manifest.json ] || why="the first one is damaged"
verdict "… leaves the first as it was" "$why"
echo text >plain
fails "a file as the target" 1 "plain: " extract small.pte -o plain
fails "a folder that there is not above it" 1 "nodir/x: " extract small.pte -o nodir/x
finish
