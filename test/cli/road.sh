#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# The whole road on the small checkpoint: exported, run, and what it says.
. "$(dirname "$0")/lib.sh"

chat() { # FILE QUESTION [OPTION...]
    file=$1 question=$2
    shift 2
    run run -m "$file" -t "$tiny" --max_new_tokens 100 --temperature 0 --parse_special "$@" --prompt "<|im_start|>user
$question<|im_end|>
<|im_start|>assistant
"
}

succeeds "export, as the original's defaults are" export -c "$tiny" -o c4w.pte
echo old >x_128.pte
ln -s x_128.pte x_64.pte
fails "two outputs in one file" 1 "x_128.pte and x_64.pte are one file" export -q -c "$tiny" -o x.pte --max_context_len 128,64 --input_len 16
verdict "… which stays" "$([ "$(cat x_128.pte)" = old ] || echo "not the old one")"
run export -q --json -c "$tiny" -o y.pte --max_context_len 64,128 --input_len 16
verdict "what came out as JSON: each file with its size" "$(
    python3 - <<'PY' 2>&1
import json, os
outputs = json.load(open("stdout.txt"))["outputs"]
assert [o["path"] for o in outputs] == ["y_64.pte", "y_128.pte"], outputs
for o in outputs:
    assert o["size"] == os.path.getsize(o["path"]), o
assert outputs[1]["tables"] == 2 * outputs[0]["tables"] > 0, outputs
assert outputs[1]["weights"] == outputs[0]["weights"] > 0, outputs
PY
)"
succeeds "export, b4w" export -c "$tiny" -o b4w.pte --linear_quantize=b4w --max_context_len 256
succeeds "export, embedding left as it is, no graph breaks" export -c "$tiny" -o plain.pte -E '' --no_graph_breaks
succeeds "export, fp32" export -c "$tiny" -o fp32.pte --dtype fp32 --input_len 16

for file in c4w b4w plain fp32; do
    chat $file.pte "What does the cow eat?"
    says "$file answers" "The cow eats grass."
    why=; grep -q "^decode .* tokens in " stderr.txt || why="no timings on standard error"
    verdict "$file tells how long it took" "$why"
done
chat b4w.pte "What comes after six?" --exact
says "--exact answers" "After six comes seven."
chat b4w.pte "What comes after six?" --precision fp16
says "--precision fp16 answers" "After six comes seven."

# The same export under the name of the original's script, and an abbreviated option.
ln -s "$exe" export_static_llm_coreml
ln -s "$exe" run_static_llm
why=
./export_static_llm_coreml -c "$tiny" -o again.pte --linear_q b4w --max_context 256 >/dev/null 2>stderr.txt || why="exit code $?"
cmp -s again.pte b4w.pte || why="$why not the same file"
verdict "export_static_llm_coreml makes the same bytes" "$why"
why=
./run_static_llm -m b4w.pte --tokens 1,2,3 --max_new_tokens 4 --temperature 0 --print_tokens >stdout.txt 2>stderr.txt || why="exit code $?"
[ "$(wc -l <stdout.txt)" = 1 ] && [ "$(wc -w <stdout.txt)" -ge 1 ] || why="$why printed: $(cat stdout.txt)"
verdict "run_static_llm runs ids" "$why"
finish
