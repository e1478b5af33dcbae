#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Small cases of the reference: random checkpoints with the program that it made of them (executorch 1.5.1) and what its
# quantised model answers in eager PyTorch. Our export is the same program, and both files give those tokens.
. "$(dirname "$0")/lib.sh"
golden=$here/../data/golden

# held CASE PROMPT ANSWER [EXPORT OPTION...]
held() {
    case=$1 prompt=$2 answer=$3
    shift 3
    succeeds "$case: export" export -c "$golden/$case/model.pth" -p "$golden/$case/params.json" -o "$case.pte" "$@"
    run compare "$golden/$case/model.pte" "$case.pte"
    why=
    [ $code = 0 ] && [ "$(tail -n 1 stdout.txt)" = same ] || why="exit code $code: $(head -n 3 stdout.txt)"
    verdict "$case: the reference's program" "$why"
    for file in "$golden/$case/model.pte" "$case.pte"; do
        run run -m "$file" --tokens "$prompt" --max_new_tokens "$(echo "$answer" | tr ',' ' ' | wc -w)" --temperature 0 --exact --print_tokens
        why=
        [ "$(tail -n 1 stdout.txt | tr -s ' ' ',')" = "$answer" ] || why="printed $(cat stdout.txt), not $answer"
        verdict "$case: eager's tokens from $(basename "$(dirname "$file")")/$(basename "$file")" "$why"
    done
}

held mha 15,292,121,86,283,147,287,179,88,161,58,31,8,117,62,130,66,172,183,18,96 \
    185,297,96,185,297,99,286,249,74,287,234,104,227,38,66,119,14 --max_context_len 64 --input_len 5
finish
