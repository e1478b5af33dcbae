#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# inspect, extract and compare on a small program.
. "$(dirname "$0")/lib.sh"

succeeds "a small program" export -c "$data/whole.pth" -p "$data/params.json" -o small.pte --max_context_len 32 --input_len 8
succeeds "another one" export -c "$data/whole.pth" -p "$data/params.json" -o wide.pte --max_context_len 32 --input_len 4

# holds NAME PATTERN...: the last command's standard output has a line for each pattern.
holds() {
    name=$1 why=
    shift
    for pattern; do grep -q -e "$pattern" stdout.txt || why="$why no '$pattern'."
    done
    [ ! -s stderr.txt ] || why="$why wrote to standard error."
    verdict "$name" "$why"
}

run inspect small.pte
holds "inspect a program" "^format: ExecuTorch program" "^method forward" "forward_input_len: 8" "^package 0" "function main" \
    "int4 " "constexpr_blockwise_shift_scale"
run inspect small.pte --ops
holds "its graphs" "^func main" "= linear(" "= softmax("
run inspect small.pte --json
holds "as JSON" '"format": "ExecuTorch program"' '"forward_input_len": 8'
run inspect small.pte
why=
[ -s stdout.txt ] || why="nothing was printed"
grep -q "$(printf '\033')" stdout.txt && why="escape sequences in a pipe"
verdict "no colour in a pipe" "$why"
run inspect small.pte --plan
holds "what becomes of its ops" "^# method forward, 8 rows" "ops became .* linear, .* attend" "^unfused: 0$"
run inspect small.pte --dump=after:join
holds "all pieces in one graph" "^# logits: %" "^# layer 0: keys %" "^func forward" "= softmax("
run inspect small.pte --dump after:lower
holds "what each op means" "^softmax .*: their softmax, not computed" "^    attend b" "^linear .*: a linear, not computed yet"
run inspect small.pte --dump=after:merge
holds "the steps" "^linear b.* q4 -> b.*, .* q4 -> b" "^-- rows whose logits are wanted --" "-> logits"
run inspect small.pte --dump=after:place
holds "the steps and where they keep their rows" "^attend" "floats a row" "^b0: .* at .*, steps 0 to"
fails "a stage that there is not" 2 "not after:STAGE" inspect small.pte --dump=after:noon
fails "the plan of a checkpoint" 1 "checkpoint" inspect "$data/whole.pth" --plan
fails "the plan as JSON" 2 "leave out --json" inspect small.pte --plan --json
run inspect --range small.pte
holds "how large values grow" "^  tokens: 24$" "none: no tokenizer" "^    layer  .*softmax" "^    embedding  0 .* [0-9.]*[1-9]$" "^    layer 0  .* 1 .* 0$" \
    "^    head  .* 0$"
run inspect --range --json small.pte
why=
python3 -c '
import json
rows = json.load(open("stdout.txt"))["range"]["by layer"]
names = [r["layer"] for r in rows]
assert names[0] == "embedding" and names[-1] == "head" and names[1:-1] == ["layer %d" % i for i in range(len(rows) - 2)], names
assert rows[0]["gather"] > 0 and not any(r["gather"] for r in rows[1:]), "the table is looked up once"
assert not rows[0]["softmax"] and not rows[-1]["softmax"] and all(0 < r["softmax"] <= 1 for r in rows[1:-1]), "attention is in the layers"
assert rows[-1]["linear"] > 0 and not rows[0]["linear"] and not rows[-1]["silu"], "the head is a linear and no more"
' 2>py.txt || why=$(tail -1 py.txt)
verdict "ranges by layer" "$why"
run inspect --range -p "$data/params.json" "$data/whole.pth"
holds "a checkpoint's ranges" "^    embedding" "^    layer 0" "^    head"
fails "ranges and graphs" 2 "leave out --range" inspect --range --ops small.pte
run inspect "$data/whole.pth"
holds "inspect a checkpoint" "^format: PyTorch checkpoint" "tok_embeddings.weight"
fails "the graph of a checkpoint" 1 "has a graph\|have a graph" inspect --ops "$data/whole.pth"
fails "inspect nothing" 2 "FILE" inspect
fails "inspect a missing file" 1 "nowhere: " inspect nowhere
head -c 5000 small.pte >cut.pte
fails "inspect a file cut short" 1 "cut.pte: .*cut short" inspect cut.pte

# An epsilon that fp16 cannot hold is added in fp32, as the original's tools leave it.
sed 's/"norm_eps": [^,}]*/"norm_eps": 100000/' "$data/params.json" >large.json
succeeds "a large epsilon" export -c "$data/whole.pth" -p large.json -o large.pte --max_context_len 32 --input_len 8
run inspect large.pte --ops
holds "is added in fp32" ": fp32\[1,8,1\] = add(.*y=fp32(1e+05))" ": fp16\[1,8,1\] = cast("
sed 's/"norm_eps": [^,}]*/"norm_eps": 1e10/' "$data/params.json" >huge.json
fails "an epsilon beyond the safe norm" 1 "norm safe cannot hold" export -c "$data/whole.pth" -p huge.json -o huge.pte --norm safe \
    --max_context_len 32 --input_len 8

run extract small.pte -o out
holds "extract" "^out/piece_0.mlpackage: forward (piece 0)" "^out/piece_2.mlpackage: forward (piece 2)"
why=
for i in 0 1 2; do
    for file in Manifest.json Data/com.apple.CoreML/model.mlmodel Data/com.apple.CoreML/weights/weight.bin; do
        [ -s out/piece_$i.mlpackage/$file ] || why="$why piece $i has no $file."
    done
done
verdict "three packages, whole" "$why"
run inspect out/piece_1.mlpackage
holds "inspect a package" "^format: Core ML package" "function main"
fails "a package's ranges" 2 "a part of a program" inspect --range out/piece_1.mlpackage
fails "extract over what is there" 1 "exists already" extract small.pte -o out
why=
[ -s out/piece_0.mlpackage/Manifest.json ] || why="what was there is gone"
verdict "what was there stays" "$why"
mkdir linked elsewhere
ln -s ../elsewhere linked/piece_0.mlpackage
fails "extract through a link" 1 "exists already" extract small.pte -o linked
why=
[ -z "$(ls elsewhere)" ] || why="wrote through the link"
verdict "no link is followed" "$why"
fails "extract into a file" 1 "not a folder" extract small.pte -o small.pte
fails "extract to nowhere" 2 "folder are needed" extract small.pte
fails "extract a checkpoint" 1 "whole.pth: " extract "$data/whole.pth" -o fresh
why=
[ ! -e fresh ] || why="left a folder"
verdict "a failed extraction leaves nothing" "$why"

run compare small.pte small.pte
holds "compare with itself" "^same"
run compare small.pte wide.pte
why=
[ $code = 1 ] || why="exit code $code"
verdict "compare two programs" "$why"
holds "where they part" "int32\[1,8\] / int32\[1,4\]" "differences$"
fails "compare one program" 2 "two programs" compare small.pte
LC_ALL=C sed 's/"inputNames"/"inputNamed"/g' small.pte >unnamed.pte
fails "compare what contradicts itself: trouble too" 2 "unnamed.pte: .* does not name the inputs" compare small.pte unnamed.pte
fails "compare with what is not there: no difference, but trouble" 2 "nowhere.pte: cannot be opened" compare small.pte nowhere.pte
cp small.pte 'a[1].pte'
succeeds "a program with a pattern's name" inspect 'a[1].pte'
finish
