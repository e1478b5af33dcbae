#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Programs, prompts and tokenizers that cannot be run: exit code 1, one line.
. "$(dirname "$0")/lib.sh"

run_pte() { # NAME WORDS FILE [OPTION...]
    name=$1 words=$2 file=$3
    shift 3
    fails "$name" 1 "$words" run -m "$file" --tokens 1,2,3 --max_new_tokens 2 --temperature 0 --print_tokens "$@"
}

succeeds "a small program to spoil" export -c "$data/whole.pth" -p "$data/params.json" -o small.pte --max_context_len 32 \
    --input_len 8
run_pte "missing file" "nowhere.pte: " nowhere.pte
mkdir folder
run_pte "a folder" "folder: .*director" folder
: >empty.pte
run_pte "empty file" "empty.pte: .*empty" empty.pte
echo "Once upon a time there was a file." >text.pte
run_pte "a text file" "text.pte: " text.pte
run_pte "a checkpoint" "whole.pth: " "$data/whole.pth"

# Cut short: at every one of the first bytes and of the last, and at 200 places between.
size=$(wc -c <small.pte)
cuts=$(i=1; while [ $i -lt 200 ]; do echo $((size * i / 200)); i=$((i + 1)); done)
why=
for at in 1 2 3 4 7 8 11 12 31 32 39 40 $cuts $((size - 64)) $((size - 2)) $((size - 1)); do
    head -c "$at" small.pte >cut.pte
    run run -m cut.pte --tokens 1,2,3 --max_new_tokens 2 --temperature 0 --print_tokens
    [ $code = 1 ] && [ "$(wc -l <stderr.txt)" -eq 1 ] && grep -q '^anemone: cut.pte: ' stderr.txt && [ ! -s stdout.txt ] ||
        why="$why cut at $at of $size: exit code $code."
done
verdict "cut short at any byte" "$why"

run_pte "an id outside the vocabulary" "32" small.pte --tokens 1,32
for ids in 1,-2 99999999999999999999 one,two ""; do
    fails "ids that are none: '$ids'" 2 "not a token id\|the prompt is empty" run -m small.pte --tokens "$ids"
done
run_pte "a prompt longer than the context" "32" small.pte --tokens "$(i=1; while [ $i -lt 40 ]; do printf 1,; i=$((i + 1)); done)1"
fails "a prompt and no tokenizer" 2 "tokenizer" run -m small.pte --prompt Hello
fails "a tokenizer that there is not" 1 "nowhere: " run -m small.pte -t nowhere --prompt Hello
fails "a tokenizer that is a folder" 1 "folder: " run -m small.pte -t folder --prompt Hello
fails "a tokenizer that is empty" 1 "empty.pte: .*empty" run -m small.pte -t empty.pte --prompt Hello
fails "a tokenizer that is none" 1 "text.pte: " run -m small.pte -t text.pte --prompt Hello
fails "a tokenizer of more ids than the model has" 1 "768" run -m small.pte -t "$tiny" --prompt "Tell me a story."
run_pte "logits into a folder that there is not" "nodir/l.npy: " small.pte --logits nodir/l.npy

# Standard output that cannot be written.
if [ -w /dev/full ]; then
    "$exe" run -m small.pte --tokens 1,2,3 --max_new_tokens 2 --temperature 0 --print_tokens >/dev/full 2>stderr.txt
    code=$?
    why=
    [ $code = 1 ] && grep -q '^anemone: standard output: ' stderr.txt || why="exit code $code"
    verdict "a full disk behind standard output" "$why"
else
    skip "a full disk behind standard output" "there is no /dev/full"
fi
# Files that nobody's exporter writes; each crashed or grew without end once.
seeds=$here/../../fuzz/seeds/run
fails "a piece that is called twice" 1 "calls one piece twice" run -m "$seeds/called_twice.pte" --tokens 1
fails "an op without a result" 1 "an op that anemone does not know" run -m "$seeds/no_result.pte" --tokens 1
succeeds "… has no name in the plan" inspect --plan "$seeds/no_result.pte"
fails "a slice that begins where a narrow integer says, outside" 1 "slice_by_size: elements 1 and 1 more" run -m "$seeds/narrow_begin.pte" --tokens 1

finish
