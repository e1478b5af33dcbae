#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Wrong words on the command line: exit code 2, one line.
. "$(dirname "$0")/lib.sh"

fails "a command that there is not" 2 "frobnicate" frobnicate
for command in export run; do
    fails "$command: an option that there is not" 2 "frobnicate" $command --frobnicate
    fails "$command: an option without its value" 2 "needs a value" $command --max_context_len
    fails "$command: letters for a number" 2 "number" $command --input_len many
    fails "$command: nothing at all" 2 "^anemone: $command: .*-[cm]" $command
    succeeds "$command --help" $command --help
done
fails "export: a prefix of two options" 2 "short for both" export --max 4
fails "export: -E with bits that there are not" 2 "5 bits are not possible" export -c "$tiny" -o out.pte -E 5,0
fails "export: -E with words" 2 "is not BITS,GROUP" export -c "$tiny" -o out.pte -E eight
fails "export: a quantisation that there is not" 2 "takes one of b4w|c4w" export -c "$tiny" -o out.pte --linear_quantize c5w
fails "export: no checkpoint" 2 "no checkpoint is given" export -o out.pte
fails "export: a context of no tokens" 2 "not a number of positions" export -c "$tiny" -o out.pte --max_context_len 0
fails "export: more rows than a step can have" 2 "--input_len: 70000 is more than a step can have" export -c "$tiny" -o out.pte --max_context_len 80000 --input_len 70000
fails "export: an input longer than the context" 2 "64 is more than --max_context_len, 32" export -c "$tiny" -o out.pte --max_context_len 32 --input_len 64
for words in "--calibrate_effort high" "--calibrate_windows 3" "--seed 5" "-t $tiny" --resume "--report x.html"; do
    # shellcheck disable=SC2086
    fails "export: $words without --calibrate" 2 "goes with --calibrate" export -c "$tiny" -o out.pte $words
done
fails "export: a graph and a summary on one output" 2 "does not go with" export -c "$tiny" -o out.pte --dot --json
succeeds "a program to run" export -q -c "$tiny" -o some.pte --max_context_len 64 --input_len 16
fails "run: greedy, and not" 2 "leave one of both out" run -m some.pte --tokens 1 --greedy --temperature 0.7
fails "run: keep what never leaves" 2 "goes with --context slide" run -m some.pte --tokens 1 --keep 3
fails "run: stop before nothing" 2 "needs a text" run -m some.pte -t "$tiny" --stop ""
fails "run: lookahead's window does not fit" 1 "take a smaller one of these three" run -m some.pte --tokens 1 --lookahead
fails "chat: what a conversation has no use for" 2 "no option --prompt" chat -m some.pte -t "$tiny" --prompt x
fails "chat: nothing at all" 2 "^anemone: chat: -m" chat
fails "legacy run: nothing at all" 2 "^anemone: legacy run: -m" legacy run
run run -m some.pte --tokens 1 --max_new_tokens 1 --window_size 2
why=; { [ $code = 0 ] && grep -q "^anemone: note: .*--lookahead" stderr.txt; } || why="exit code $code, and says: $(cat stderr.txt)"
verdict "run: lookahead's words without it are said to do nothing" "$why"
fails "tokenize: pieces and their count" 2 "exclude each other" tokenize -t "$tiny" --pieces --count some.pte
echo "one two" >words.txt
fails "tokenize: a file of words is not the command's fault" 1 "not a token id" tokenize -t "$tiny" --decode words.txt
fails "inspect: two kinds of text" 2 "only one of" inspect some.pte --plan --ops
fails "inspect: a tokenizer for nothing" 2 "goes with --range" inspect some.pte -t "$tiny"
fails "inspect: a checkpoint has no ops" 1 "only programs and packages" inspect "$tiny" --ops
fails "extract: a checkpoint" 1 "is a checkpoint (GGUF), not a program; export it first" extract "$tiny" -o folder
fails "compare: a checkpoint" 2 "is a checkpoint (GGUF), not a program; export it first" compare some.pte "$tiny"
yes "Then Nora went home and slept well." | head -n 60 >text.txt
succeeds "eval: a GGUF holds its own tokenizer" eval -m "$tiny" --text text.txt --window 64 --quiet
fails "eval: a program does not" 2 "-t FILE" eval -m some.pte --text text.txt --window 64
succeeds "help" help
verdict "… which lists the commands" "$(grep -q "^  export " stdout.txt || echo "not in: $(cat stdout.txt)")"
says "as --help" "$("$exe" --help)"
succeeds "help of a command" help tokenize
verdict "… with its options" "$(grep -q -e "--decode" stdout.txt || echo "not in: $(cat stdout.txt)")"
says "as its --help" "$("$exe" tokenize --help)"
fails "help of nothing that there is" 2 "frobnicate" help frobnicate
succeeds "--version" --version
says "the version" "anemone 0.1.0"
finish
