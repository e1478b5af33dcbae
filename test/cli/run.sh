#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# anemone run, from outside: prompts, ids, figures, lookahead, ends, and what it refuses. The second argument is the example.
example=$2
case $example in /*) ;; *) example=$PWD/$example ;; esac
. "$(dirname "$0")/lib.sh"

check() { # NAME CONDITION...
    name=$1
    shift
    if "$@"; then verdict "$name" ""; else verdict "$name" "not so: $*; printed: $(head -c 300 stdout.txt)"; fi
}
equal() { # NAME FILE FILE
    if cmp -s "$2" "$3"; then verdict "$1" ""; else verdict "$1" "$(head -c 200 "$2") against $(head -c 200 "$3")"; fi
}

succeeds "a single-method file" export -c "$tiny" -o single.pte --linear_quantize b4w --max_context_len 128 --input_len 32
succeeds "a multifunction file" export -c "$tiny" -o multi.pte --linear_quantize b4w --max_context_len 128 --input_len 32 --multifunction

prompt="Once there was a fox"
# Text, ids, and the ways to give them.
run run -m single.pte -t "$tiny" --prompt "$prompt" --greedy --max_new_tokens 40
cp stdout.txt text.txt
check "text comes out" test -s text.txt
printf %s "$prompt" >prompt.txt
run run -m single.pte -t "$tiny" --prompt_file prompt.txt --temperature 0 --max_new_tokens 40
equal "the prompt may be a file" stdout.txt text.txt
"$exe" run -m single.pte -t "$tiny" --prompt_file - --temperature 0 --max_new_tokens 40 <prompt.txt >stdout.txt 2>stderr.txt
equal "or standard input" stdout.txt text.txt
ids=$("$exe" tokenize -t "$tiny" prompt.txt | tr ' ' ,)
run run -m single.pte --tokens "$ids" --greedy --max_new_tokens 40
cp stdout.txt ids.txt
check "ids go in and out without a tokenizer" test "$(wc -l <ids.txt)" = 1
"$exe" tokenize -t "$tiny" --decode ids.txt >decoded.txt 2>stderr.txt
check "and are those of the text" sh -c 'head -c "$(wc -c <text.txt)" decoded.txt | cmp -s - text.txt'
run run -m single.pte -t "$tiny" --prompt "$prompt" --greedy --max_new_tokens 40 --echo
{ printf %s "$prompt"; cat text.txt; } >both.txt
equal "--echo puts the prompt before it" stdout.txt both.txt

# One answer whatever the way.
for file in single multi; do
    for how in "" "-j 3" "--lookahead" "--lookahead=always" "--lookahead=always --ngram_size 3 --window_size 3 --n_verifications 9"; do
        [ $file = multi ] && [ "${how#--look}" != "$how" ] && continue
        run run -m $file.pte --tokens "$ids" --greedy --max_new_tokens 40 $how
        equal "$file.pte $how: the same ids" stdout.txt ids.txt
    done
done
run run -m single.pte --tokens "$ids" --seed 5 --temperature 1.2 --top_p 0.95 --max_new_tokens 200
cp stdout.txt sampled.txt
check "a full context is said" grep -q "context of 128 tokens is full" stderr.txt
check "and is used to its last position" test "$(wc -w <sampled.txt)" = $((128 - $(echo "$ids" | tr , ' ' | wc -w) + 1))
run run -m single.pte --tokens "$ids" --seed 5 --temperature 1.2 --top_p 0.95 --max_new_tokens 200 --lookahead=always
equal "sampling with lookahead draws the same" stdout.txt sampled.txt
run run -m multi.pte --tokens "$ids" --seed 5 --temperature 1.2 --top_p 0.95 --max_new_tokens 200 -j 1
equal "and so does the multifunction file" stdout.txt sampled.txt
run run -m single.pte --tokens "$ids" --seed 6 --temperature 1.2 --top_p 0.95 --max_new_tokens 200
check "another seed draws others" sh -c 'test -s stdout.txt && ! cmp -s stdout.txt sampled.txt'

# Ends.
word=$(tr -s ' .' '\n' <text.txt | sed -n 4p)
run run -m single.pte -t "$tiny" --prompt "$prompt" --greedy --max_new_tokens 40 --stop "$word"
check "--stop ends before its text" sh -c 'test -s stdout.txt && ! grep -q "$1" stdout.txt && test "$(wc -c <stdout.txt)" -lt "$(wc -c <text.txt)"' - "$word"
run run -m single.pte -t "$tiny" --prompt "$prompt" --greedy --max_new_tokens 0
check "no new tokens, no text" test $code = 0 -a ! -s stdout.txt
first=$(tr -s ' .' '\n' <text.txt | sed -n 2p)
run run -m single.pte -t "$tiny" --prompt "$prompt" --greedy --max_new_tokens 40 --stop "$first"
cp stdout.txt first.txt
for how in "--stop $word --stop $first" "--stop $first --stop $word" "--stop nowhere --stop $first --stop $word"; do
    run run -m single.pte -t "$tiny" --prompt "$prompt" --greedy --max_new_tokens 40 $how
    equal "$how: the first to come ends it" stdout.txt first.txt
done

# Chat: --chat is the template written by hand; a conversation feeds only what is new.
run run -m single.pte -t "$tiny" --greedy --parse_special --prompt "<|im_start|>user
What does the cow eat?<|im_end|>
<|im_start|>assistant
"
says "a template by hand" "The cow eats grass."
run run -m single.pte -t "$tiny" --greedy --chat --template chatml --prompt "What does the cow eat?"
says "--chat --template chatml" "The cow eats grass."
printf 'What does the cow eat?\nWhat comes after six?\n/stats\n/save talk.txt\n/nothing\n/reset\nWhat comes after six?\n' |
    "$exe" chat -m single.pte -t "$tiny" --greedy --template chatml >stdout.txt 2>stderr.txt
code=$?
says "a conversation" "The cow eats grass.
After six comes seven.
After six comes seven."
check "which ends well" test $code = 0
fed=$(sed -n 's/^prefill *\([0-9]*\) tokens.*/\1/p' stderr.txt)
printf '<|im_start|>user\nWhat does the cow eat?<|im_end|>\n<|im_start|>assistant\nThe cow eats grass.<|im_end|>\n<|im_start|>user\nWhat comes after six?<|im_end|>\n<|im_start|>assistant\n' >whole.txt
whole=$("$exe" tokenize -t "$tiny" --parse_special whole.txt | wc -w)
check "only the new turn is prefilled" test "$fed" -gt 0 -a "$fed" -lt "$whole"
check "/save writes what was said" grep -q "^After six comes seven" talk.txt
check "an unknown command is said" grep -q "there is no /nothing" stderr.txt
cp "$tiny" own.gguf
why=
printf '/save own.gguf\n' | "$exe" chat -m single.pte -t own.gguf --greedy --template chatml >stdout.txt 2>stderr.txt
cmp -s "$tiny" own.gguf && why=same
check "/save does not replace what is read" test "$why" = same -a -n "$(grep 'is what is read\|is being read' stderr.txt)"
why=$(stopped_by run -m single.pte -t "$tiny" --prompt "$prompt" --max_new_tokens 1000000 --exact --ignore_eos --context slide)
check "Ctrl-C ends a run as it ends others" test "$why" = SIGINT

# The sandbox is on of itself where the system has one.
mkdir other
echo '{"chat_template": "old"}' >other/tokenizer_config.json
echo new >other/chat_template.jinja
succeeds "inside the sandbox a configuration elsewhere has its template beside it" run -m single.pte -t "$tiny" \
    --tokenizer_config other/tokenizer_config.json --prompt "$prompt" --greedy --max_new_tokens 4

# A chat template that cannot be rendered is its file's fault; one that refuses what was said, the caller's.
template() {
    printf '{"chat_template": "%s"}\n' "$4" >other/tokenizer_config.json
    [ -z "$5" ] || printf '%s\n' "$5" >other/chat_template.jinja
    fails "$1" "$2" "$3" run -m single.pte -t "$tiny" --tokenizer_config other/tokenizer_config.json --chat --prompt hi
}
template "a template's file is named" 1 "other/chat_template.jinja: the chat template, line 1: divides by 0" "old" "{{ 1 / 0 }}"
rm other/chat_template.jinja
template "a template's configuration is named" 1 "other/tokenizer_config.json: the chat template: line 1: a tag without" "{{ 1" ""
template "a template that gives nothing" 1 "other/tokenizer_config.json: the chat template makes nothing of" "{% if 0 %}x{% endif %}" ""
template "a template that refuses" 2 "other/tokenizer_config.json: .* refuses this conversation: no" "{{ raise_exception('no') }}" ""

# The sandbox, where the system has one.
run run -m single.pte -t "$tiny" --prompt "$prompt" --greedy --max_new_tokens 40 --sandbox=on
if [ $code != 0 ] && { grep -q "no sandbox in this build" stderr.txt || ! python3 -c 'import ctypes, sys; sys.exit(ctypes.CDLL(None).syscall(444, None, 0, 1) < 1)'; }; then
    check "without a sandbox that is said" grep -q "^anemone: .*sandbox\|Landlock\|seccomp" stderr.txt
    skip "the sandbox" "the system has none, or the build"
else
    equal "the same text in the sandbox" stdout.txt text.txt
    for how in "" --no_sandbox; do
        mkfifo pipe
        # shellcheck disable=SC2086
        "$exe" run -m single.pte -t "$tiny" --prompt_file pipe $how >stdout.txt 2>stderr.txt &
        id=$!
        exec 3>pipe # it waits for its prompt
        sleep 0.3
        seccomp=$(sed -n 's/^Seccomp:[^0-9]*//p' /proc/$id/status)
        echo "$prompt" >&3
        exec 3>&-
        wait $id
        rm pipe
        want=2
        [ -z "$how" ] || want=$(sed -n 's/^Seccomp:[^0-9]*//p' /proc/$$/status)
        check "in a sandbox as it is told ($how)" test "$seccomp" = "$want"
    done
    run run -m single.pte -t "$tiny" --tokens 1,2,3 --greedy --max_new_tokens 1 --logits folder.npy
    check "logits can be written from within" test $code = 0 -a -s folder.npy
    mkdir elsewhere
    printf 'What does the cow eat?\n/save elsewhere/talk.txt\n/save ../talk.txt\n' >words.txt
    (cd elsewhere && "$exe" chat -m ../single.pte -t "$tiny" --greedy --template chatml <../words.txt >../stdout.txt 2>../stderr.txt)
    check "a conversation writes nowhere else" test "$(grep -c "^in the sandbox files can be written" stderr.txt)" = 2
    (cd elsewhere && "$exe" chat --no_sandbox -m ../single.pte -t "$tiny" --greedy --template chatml <../words.txt >../stdout.txt 2>../stderr.txt)
    check "but without it" grep -q "saved in ../talk.txt" stderr.txt
fi


# A conversation longer than the context.
ask="What does the cow eat?"
for i in 1 2 3 4 5 6 7 8 9 10 11 12; do echo "$ask"; done >many.txt
"$exe" chat -m single.pte -t "$tiny" --greedy --template chatml <many.txt >stdout.txt 2>stderr.txt
check "is refused with what to do" grep -q "tokens now, and the context holds 128: /reset begins a new one" stderr.txt
{ cat many.txt; echo /stats; } >more.txt
"$exe" chat -m single.pte -t "$tiny" --greedy --template chatml --context slide --max_new_tokens 20 <more.txt >stdout.txt 2>stderr.txt
check "slides where that is asked for" sh -c '! grep -q "context" stderr.txt && test $(wc -l <stdout.txt) -ge 12'
fed=$(sed -n 's/^prefill *\([0-9]*\) tokens.*/\1/p' stderr.txt)
printf '<|im_end|>\n<|im_start|>user\n%s<|im_end|>\n<|im_start|>assistant\n' "$ask" >whole.txt
whole=$("$exe" tokenize -t "$tiny" --parse_special whole.txt | wc -w)
check "and prefills new turns alone even then" test "$fed" -gt 128 -a "$fed" -lt $((13 * whole))
"$exe" chat -m single.pte -t "$tiny" --greedy --template chatml --stop grass <many.txt >stdout.txt 2>stderr.txt
check "--stop ends every answer" test "$(sed -n 2p stdout.txt)" = "The cow eats "

# When the context is full.
run run -m single.pte -t "$tiny" --prompt "$prompt" --greedy --ignore_eos --max_new_tokens 400 --context slide --print_tokens
cp stdout.txt slid.txt
check "--context slide goes on" test "$(wc -w <slid.txt)" = 400
run run -m single.pte -t "$tiny" --prompt "$prompt" --greedy --ignore_eos --max_new_tokens 400 --context slide --print_tokens --lookahead=always -j 3
equal "the same with lookahead" stdout.txt slid.txt
run export -q -c "$tiny" -o lean.pte --linear_quantize b4w --max_context_len 128 --input_len 32 --graph lean
run run -m lean.pte -t "$tiny" --prompt "$prompt" --greedy --ignore_eos --max_new_tokens 400 --context slide --print_tokens
equal "the same in a lean graph, whose keys are turned by halves" stdout.txt slid.txt
sed 's/"qk_norm_before_rope": true/"qk_norm_before_rope": false/' "$here/../data/ckpt/qwen3_meta/params.json" >after.json
run export -q -c "$here/../data/ckpt/qwen3_meta/model.pth" -p after.json -o after.pte --max_context_len 32 --input_len 8
run run -m after.pte --tokens 1,2,3 --max_new_tokens 60 --context slide --ignore_eos
check "keys that are normed behind their rotation are not turned back" test $code = 1 -a -n "$(grep 'cannot be forgotten' stderr.txt)"

# Figures.
run run -m multi.pte --tokens "$ids" --greedy --max_new_tokens 10 --json
check "--json is the last line of standard error" sh -c 'tail -n 1 stderr.txt | grep -q "^{\"prompt_tokens\":.*\"new_tokens\":10,\"steps\":9,.*\"prefill\":{\"calls\":1"'
run run -m multi.pte --tokens "$ids" --greedy --max_new_tokens 10
check "calls and mean of each method" grep -q "forward *9 calls, mean" stderr.txt
for file in single multi; do
    run run -m $file.pte --tokens "$ids" --greedy --max_new_tokens 40 --stats
    equal "$file.pte --stats: the same ids" stdout.txt ids.txt
    check "and where the time went" sh -c 'grep -q "^  embedding .*%), layers .*%), head " stderr.txt && grep -q "^  in layers: linears .* attention " stderr.txt'
done
run run -m single.pte --tokens "$ids" --greedy --max_new_tokens 9 --stats --json
check "in JSON too, every piece above zero" sh -c 'grep -q "\"pieces\":{\"embedding\":.*\"attention\":" stderr.txt && ! grep -q "\"pieces\":{[^}]*:0\.0[,}]" stderr.txt'
run run -m single.pte --tokens "$ids" --greedy --max_new_tokens 9 --json
check "and only where it is asked for" sh -c 'grep -q "^{\"prompt_tokens\":" stderr.txt && ! grep -q pieces stderr.txt'
run run -m single.pte --tokens "$ids" --greedy --max_new_tokens 1 --logits single.npy
check "logits of every token" grep -q "'<f4', 'fortran_order': False, 'shape': ($(echo "$ids" | tr , ' ' | wc -w), " single.npy
run run -m multi.pte --tokens "$ids" --greedy --max_new_tokens 1 --logits multi.npy
check "or of the last one" grep -q "'shape': (1, " multi.npy
row=$(($(wc -c <multi.npy) - 128))
tail -c $row single.npy >a.bin
tail -c $row multi.npy >b.bin
equal "which is the same in both files" a.bin b.bin

# The options of the original's runners that the file answers by itself.
run run -m single.pte --tokens "$ids" --greedy --max_new_tokens 40 --input_len 32 --cache_len 96 --max_context_len 128
equal "options that repeat the file are taken" stdout.txt ids.txt
ln -s "$exe" run_static_llm_multifunction
./run_static_llm_multifunction --model multi.pte --tokenizer "$tiny" --prompt "$prompt" --max_new_tokens 40 --temperature 0 >stdout.txt 2>stderr.txt
equal "run_static_llm_multifunction is the same command" stdout.txt text.txt

# The example, built on the public header.
"$example" single.pte "$tiny" "$prompt" >stdout.txt 2>stderr.txt
check "the example runs" test $? = 0 -a -s stdout.txt
"$example" nothing.pte "$tiny" "$prompt" >stdout.txt 2>stderr.txt
check "and says what is wrong" grep -q "^complete: nothing.pte: cannot be opened" stderr.txt

# Refusals.
many=$(seq -s, 1 129)
fails "no file" 2 "-m FILE" run
fails "no tokenizer" 2 "-t FILE" run -m single.pte --prompt x
fails "a missing file" 1 "nothing.pte: cannot be opened" run -m nothing.pte --tokens 1
fails "a prompt beyond the context" 1 "129 tokens, and the context holds 128" run -m single.pte --tokens "$many"
fails "an id outside the vocabulary" 1 "token 999999 is outside the vocabulary of" run -m single.pte --tokens 1,999999
fails "no id" 2 "not a token id at byte 2" run -m single.pte --tokens 1,x
fails "an empty prompt" 2 "the prompt is empty" run -m single.pte -t "$tiny" --prompt ""
fails "two prompts" 2 "only one of --prompt" run -m single.pte -t "$tiny" --prompt x --tokens 1
fails "another input_len" 1 "input_len is 32, but --input_len says 64" run -m single.pte --tokens 1 --input_len 64
fails "another cache_len" 1 "cache_len is 96, but --cache_len says 992" run -m single.pte --tokens 1 --cache_len 992
fails "another context" 1 "max_context_len is 128, but --max_context_len says 1024" run -m multi.pte --tokens 1 --max_context_len 1024
mkdir -p elsewhere && echo old >elsewhere/logits.npy && ln -sf elsewhere/logits.npy logits_link.npy
succeeds "logits where a link leads" run -m single.pte --tokens 1,2 --max_new_tokens 0 --logits logits_link.npy
why=
[ -L logits_link.npy ] && [ "$(wc -c <elsewhere/logits.npy)" -gt 100 ] || why=$(ls -l logits_link.npy elsewhere)
verdict "… are there" "$why"
fails "logits in place of the program" 1 "single.pte: is what is read" run -m single.pte --tokens 1 --max_new_tokens 0 --logits single.pte
cp "$tiny" logits_tokenizer.gguf
fails "logits in place of the tokenizer" 1 "logits_tokenizer.gguf: is what is read" \
    run -m single.pte -t logits_tokenizer.gguf --prompt x --max_new_tokens 0 --logits logits_tokenizer.gguf
verdict "… which stays" "$(cmp "$tiny" logits_tokenizer.gguf 2>&1)"
fails "lookahead that does not fit" 1 "36 rows are more than the 32 of a step" run -m single.pte --tokens 1 --lookahead --window_size 5
fails "lookahead in a file with the last token's logits" 1 "logits of the last token only" run -m multi.pte --tokens 1 --lookahead
fails "an unknown lookahead" 2 "must be auto or always" run -m single.pte --tokens 1 --lookahead=sometimes
fails "a temperature below 0" 2 "temperature -1" run -m single.pte --tokens 1 --temperature -1
fails "a chat of ids" 2 "a chat takes text" run -m single.pte -t "$tiny" --tokens 1 --chat
fails "too many stops" 2 "32 times at most" run -m single.pte --tokens 1 $(seq -f '--stop %g' 33)
fails "a system text without a chat" 2 "need --chat" run -m single.pte -t "$tiny" --system x
fails "more kept than there is" 1 "can be kept" run -m single.pte --tokens "$ids" --greedy --max_new_tokens 300 --context slide --keep 99
fails "two precisions" 2 "only one of --exact" run -m single.pte --tokens 1 --exact --precision fp16
fails "a folder that does not exist" 1 "cannot be written" run -m single.pte --tokens 1 --logits no/where.npy
fails "a checkpoint" 1 "tiny.gguf: is a checkpoint (GGUF), not a program; export it first: anemone export -c" run -m "$tiny" --tokens 1
mkdir -p folder.mlpackage hf empty
: >folder.mlpackage/Manifest.json
: >hf/config.json
printf 'PK\003\004 and what else is in a zip file' >w.pth
printf '\020\000\000\000\000\000\000\000{"a":{"dtype":1}}' >w.safetensors
printf 'some text that is no program at all' >w.txt
fails "PyTorch's" 1 "w.pth: is a checkpoint (PyTorch), .* -c w.pth -p params.json" run -m w.pth --tokens 1
fails "safetensors" 1 "w.safetensors: is a checkpoint (safetensors)" run -m w.safetensors --tokens 1
fails "something else" 1 "w.txt: program: not an ExecuTorch program" run -m w.txt --tokens 1
fails "a Core ML package" 1 "is a Core ML package, not a program" run -m folder.mlpackage --tokens 1
fails "the folder of a checkpoint" 1 "hf: is the folder of a checkpoint, .* anemone export -c hf" run -m hf --tokens 1
fails "a folder" 1 "empty: is a directory, not a program" run -m empty --tokens 1
if [ -f "$smollm" ]; then
    fails "a tokenizer of another model" 1 "49152 tokens does not fit the model's of" run -m single.pte -t "$smollm" --prompt x
else
    skip "a tokenizer of another model" "SmolLM2 is not in build/models"
fi
finish
