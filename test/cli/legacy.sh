#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# anemone legacy: the original's programs made and run, where they are at hand, and wrong words.
. "$(dirname "$0")/lib.sh"
golden=$here/../../../shared/golden
small=$here/../data/ckpt/mixed
all="--seq_length 8 --max_seq_length 64"

# list NAME FILE: the numbers of a list in JSON on one line.
list() {
    sed -n "s/.*\"$1\": \[\([-0-9, ]*\)\].*/\1/p" "$2" | tr -d ,
}

for form in dep_c4w dep_plain_fp32 dep_list_split dep_b4w; do
    from=$golden/$form
    if [ ! -f "$from/model.pte" ]; then
        skip "$form" "no reference program"
        continue
    fi
    tokens=$(list prompt "$from/eager.json" | tr ' ' ,)
    words=$(sed 's/", "/ /g' "$from/args.json" | tr -d '[]"')
    # shellcheck disable=SC2086 # words are words
    succeeds "$form: export" legacy export -c "$from/model.pth" -p "$from/params.json" -n out.pte $words
    succeeds "$form: the same program" compare "$from/model.pte" out.pte
    for file in "$from/model.pte" out.pte; do
        run legacy run -m "$file" --tokens "$tokens" --max_new_tokens 17 --temperature 0 --exact --print_tokens
        says "$form: the tokens of the original" "$(list greedy_fp32 "$from/eager.json")"
    done
    case $form in dep_b4w) continue ;; esac
    run legacy run_lookahead -m out.pte --tokens "$tokens" --max_tokens 17 --exact --print_tokens --window_size 2 --n_verifications 2
    says "$form: the same with lookahead" "$(list greedy_fp32 "$from/eager.json")"
done

# shellcheck disable=SC2086
succeeds "export without .pte in its name" legacy export -c "$small" -n small $all --dtype fp32
[ -f small.pte ] || echo "not ok $count - small.pte is not there"
succeeds "a run that says what takes its place" legacy run -m small.pte --tokens 1,2,3 --temperature 0 --print_tokens
why=; [ "$(grep -c 'deprecated; use anemone run$' stderr.txt)" = 1 ] || why="not said once"
verdict "it says so once" "$why"
file=$(cat stdout.txt)
# shellcheck disable=SC2086
succeeds "the checkpoint itself" legacy run --use_eager -c "$small" $all --dtype fp32 --tokens 1,2,3 --temperature 0 --print_tokens
says "which answers as its program does" "$file"
# What is left of 64 positions beside a step of 8 and a prompt of 3, and the token after the last.
why=; [ "$(echo "$file" | wc -w)" = 54 ] || why="$(echo "$file" | wc -w) tokens"
verdict "it ends where the original does" "$why"
succeeds "further when it is asked for" legacy run -m small.pte --tokens 1,2,3 --temperature 0 --print_tokens --max_seq_length 300
why=; [ "$(wc -w <stdout.txt)" = 290 ] || why="$(wc -w <stdout.txt) tokens"
verdict "past the cache" "$why"
# Ids are printed at the end, a text as it is made.
succeeds "a program that talks" legacy export -q -c "$tiny" -n talk.pte --seq_length 8 --max_seq_length 64
talk="-m talk.pte -t $tiny --temperature 0 --max_seq_length 2048 --precision fp16 --ignore_eos"
# shellcheck disable=SC2086
why=$(stopped_by legacy run $talk --prompt "Once there was a fox")
verdict "Ctrl-C ends it as others end" "$([ "$why" = SIGINT ] || echo "ended by $why")"
new=$(locked run -m talk.pte -t "$tiny" --prompt "Once there was a fox" --max_new_tokens 2000 --precision fp16 --ignore_eos)
# shellcheck disable=SC2086
old=$(locked legacy run $talk --prompt "Once there was a fox")
verdict "in the sandbox where anemone run is" "$([ "$old" = "${new:-none}" ] || echo "anemone run: $new, this: $old")"
cp "$small/params.json" read.json
fails "--logits onto the parameters of --use_eager" 1 "read.json: is what is read" legacy run --use_eager -c "$small" -p read.json $all \
    --tokens 1,2,3 --logits read.json
cp -r "$small" mine
for name in params.json $(cd mine && ls ./*.pth ./*.safetensors 2>/dev/null); do
    # shellcheck disable=SC2086
    fails "--logits onto what was found: $name" 1 "is being read\|is what is read" legacy run --use_eager -c mine $all --tokens 1,2,3 --logits "mine/$name"
done
verdict "… which stays" "$(diff -r "$small" mine 2>&1)"
fails "--dtype of a program" 2 "goes with --use_eager" legacy run -m small.pte --tokens 1 --dtype fp32
fails "--use_eager and a program" 2 "leave -m out" legacy run --use_eager -c "$small" -m small.pte --tokens 1
fails "compare: two prompts" 2 "only one of" legacy run --compare -m small.pte -c "$small" --tokens 1 --prompt x
fails "compare: less than no threads" 2 "-j" legacy run --compare -m small.pte -c "$small" --tokens 1 -j -1
mkfifo pipe.model # a tokenizer that keeps it waiting
old=$(python3 - "$exe" legacy run --compare -m small.pte -c "$small" -t pipe.model --prompt x <<'PY'
import re, subprocess, sys, time
p, seen = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL), "0"
for _ in range(200):
    seen = re.search(r"Seccomp:\s*(\d)", open(f"/proc/{p.pid}/status").read())[1]
    if seen == "2": break
    time.sleep(0.05)
p.kill()
print(seen)
PY
)
verdict "a comparison is in the sandbox too" "$([ "$old" = "${new:-none}" ] || echo "anemone run: $new, this: $old")"
succeeds "how far both are apart" legacy run --compare -m small.pte -c "$small" --tokens 1,2,3
why=; grep -q '^same likeliest token  3 of 3$' stdout.txt || why="printed: $(cat stdout.txt)"
verdict "not far" "$why"
succeeds "the preset" legacy export -c "$here/../data/ckpt/by_rows" -n out.pte --preset iphone15 -E 4,8 --max_seq_length 64,128
why=; { [ -f out_64.pte ] && [ -f out_128.pte ]; } || why=$(ls)
verdict "a file for each length" "$why"
rm -f out_64.pte out_128.pte

fails "no subcommand of that name" 2 "frobnicate" legacy frobnicate
fails "export: no checkpoint" 2 "-c" legacy export -n out.pte
fails "export: a step of no tokens" 2 "--seq_length" legacy export -q -c "$small" -n out.pte --seq_length 0
fails "export: no room for a cache" 2 "--seq_length" legacy export -q -c "$small" -n out.pte --seq_length 128
fails "export: a cache of nothing" 2 "--cache_size" legacy export -q -c "$small" -n out.pte --cache_size 0
fails "export: a cache too large" 2 "--cache_size" legacy export -q -c "$small" -n out.pte --cache_size 128
fails "export: more positions than the tables have" 2 "--max_seq_length" legacy export -q -c "$small" -n out.pte --max_seq_length 4096
fails "export: a list that is none" 2 "--max_seq_length" legacy export -q -c "$small" -n out.pte --max_seq_length 64,x
fails "export: parts of no rows" 2 "--target_split_size" legacy export -q -c "$small" -n out.pte --target_split_size 0
fails "export: a split with a remainder" 1 "counts that fit are" legacy export -q -c "$small" -n out.pte --target_split_size 5
fails "export: a width that b4w does not divide" 1 "coreml-quantize" legacy export -q -c "$small" -n out.pte --coreml-quantize b4w
fails "export: a model that it cannot express" 1 "anemone export" legacy export -c "$here/../data/ckpt/qwen3" -n out.pte
fails "run: no program" 2 "-m" legacy run --tokens 1
fails "run: a program of the other form" 1 "use anemone run" legacy run -m "$here/../data/golden/mha/model.pte" --tokens 1
fails "run: a program cut short" 1 "cut.pte" legacy run -m "$(head -c 9000 small.pte >cut.pte; echo cut.pte)" --tokens 1
fails "run: positions beyond the tables" 1 "2048" legacy run -m small.pte --tokens 1 --max_seq_length 2049
fails "run: a prompt longer than it may be" 1 "--max_seq_length" legacy run -m small.pte --tokens 1,2,3 --max_seq_length 2
fails "run: a token outside the vocabulary" 1 "outside the vocabulary" legacy run -m small.pte --tokens 99
fails "run: steps of another length" 1 "seq_length" legacy run -m small.pte --tokens 1 --seq_length 4
fails "run: the checkpoint is not named" 2 "-c" legacy run --use_eager --tokens 1
fails "run: the checkpoint's cache too large" 2 "--cache_size" legacy run --use_eager -c "$small" --tokens 1 --cache_size 128
fails "run: compare with a file that is not there" 1 "nothing.pth" legacy run --compare -m small.pte -c nothing.pth --tokens 1
fails "run_lookahead: more guesses than rows" 1 "rows" legacy run_lookahead -m small.pte --tokens 1
fails "run: lookahead's options" 2 "ngram_size" legacy run -m small.pte --tokens 1 --ngram_size 3
finish
