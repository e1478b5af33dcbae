#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Wrong words on the command line: exit code 2, one line.
. "$(dirname "$0")/lib.sh"

fails "a command that there is not" 2 "frobnicate" frobnicate
for command in export run; do
    fails "$command: an option that there is not" 2 "frobnicate" $command --frobnicate
    fails "$command: an option without its value" 2 "needs a value" $command --max_context_len
    fails "$command: letters for a number" 2 "number" $command --input_len many
    fails "$command: nothing at all" 2 "" $command
    succeeds "$command --help" $command --help
done
fails "export: a prefix of two options" 2 "short for both" export --max 4
fails "export: -E with a group of one value" 2 "" export -c "$tiny" -o out.pte -E 5,0
fails "export: -E with words" 2 "" export -c "$tiny" -o out.pte -E eight
fails "export: a quantisation that there is not" 2 "" export -c "$tiny" -o out.pte --linear_quantize c5w
fails "export: no checkpoint" 2 "" export -o out.pte
fails "export: a context of no tokens" 2 "" export -c "$tiny" -o out.pte --max_context_len 0
fails "export: an input longer than the context" 2 "" export -c "$tiny" -o out.pte --max_context_len 32 --input_len 64
succeeds "--version" --version
says "the version" "anemone 0.1.0"
finish
