#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# bench: every form of a program, every form of the report. What it measures is the machine's affair.
. "$(dirname "$0")/lib.sh"

succeeds "a program of one method" export -c "$tiny" -o single.pte --max_context_len 64 --input_len 8
succeeds "one of two" export -c "$tiny" -o multi.pte --max_context_len 64 --input_len 8 --multifunction
succeeds "one of the deprecated form" legacy export -n old.pte -p "$data/params.json" -c "$data/whole.pth" --seq_length 4 \
    --max_seq_length 16 --coreml-quantize c4w

# holds NAME PATTERN...: the last command's standard output has a line for each pattern.
holds() {
    name=$1 why=
    shift
    [ $code = 0 ] || why="exit code $code."
    for pattern; do grep -q -e "$pattern" stdout.txt || why="$why no '$pattern'."
    done
    verdict "$name" "$why"
}

run bench -m single.pte --rounds 1 --prompt_len 20 --decode_len 5 -j 1
holds "a table" "^single.pte: single, .* 1 thread, default" "^prefill    20 tokens  .* int8 products/s" \
    "^decode      5 tokens  .* % of reading" "^ *1  " "^ *32  " "^ *56  " "^linear .*, gated" "^linear .*, logits" "^attention" "^norm, to int8"
run bench -m multi.pte --rounds 2 --prompt_len 16 --decode_len 4 -j 2 --plot plot.svg
holds "two methods, two threads" "^multi.pte: multifunction, .* 2 threads"
why=
if command -v python3 >python.txt; then
    python3 -c 'import sys, xml.dom.minidom as m
d = m.parse("plot.svg")
assert len(d.getElementsByTagName("polyline")) == 2 and len(d.getElementsByTagName("circle")) > 8' || why="not the picture that it should be"
fi
grep -q '^<svg ' plot.svg || why="no picture"
verdict "a plot" "$why"
run bench -m single.pte --rounds 1 --prompt_len 9 --decode_len 3 --precision exact
holds "fp32 activations have no share of int8's best" "^prefill     9 tokens *[0-9.]* tokens/s$"
run bench -m old.pte --rounds 1 --prompt_len 8 --decode_len 3 --json
holds "a deprecated program, as JSON" '"form": "deprecated"' '"prefill_tok_s": [0-9]' '"decode_tok_s": [0-9]' '"decode_roofline": [0-9]' '"op": "attention"'
if command -v python3 >python.txt; then
    why=$(python3 -c 'import json
j = json.load(open("stdout.txt"))
assert j["prompt_len"] == 8 and j["decode_len"] == 3
assert [p["tokens"] for p in j["decode"]] == [1, 2, 4, 8, 12], j["decode"]
assert all(p["ms"] > 0 for p in j["decode"]) and all(p["tok_s"] > 0 for p in j["prefill"])' 2>&1)
    verdict "the JSON is one" "$why"
else
    skip "the JSON is one" "no python3"
fi
fails "bench of a checkpoint" 1 "checkpoint" bench -m "$tiny"
fails "bench of nothing" 2 "missing" bench
fails "more than the context" 1 "do not fit" bench -m single.pte --prompt_len 60 --decode_len 40
fails "no rounds" 2 "rounds" bench -m single.pte --rounds 0
fails "a plot in a folder that there is not" 1 "nowhere" bench -m single.pte --rounds 1 --prompt_len 4 --decode_len 1 --plot nowhere/p.svg
fails "a plot over the program" 1 "single.pte: is what is read" bench -m single.pte --plot single.pte
fails "a plot of what is not measured" 2 "--rates leaves out" bench -m single.pte --rates --plot p.svg
finish
