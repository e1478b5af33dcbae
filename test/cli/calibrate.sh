#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Calibrated exports of the small checkpoint, and eval as their yardstick.
. "$(dirname "$0")/lib.sh"

# A text such as the small checkpoint speaks: its own answers.
"$exe" export -c "$tiny" -o plain.pte --quiet -E '' --dtype fp32 --linear_quantize b4w >/dev/null 2>&1
for seed in 1 2 3 4 5 6 7 8 9 10 11 12; do
    "$exe" run -m plain.pte -t "$tiny" --tokens $((seed + 20)),$((seed * 7 + 30)) --max_new_tokens 200 --temperature 0.8 --ignore_eos --seed $seed \
        2>/dev/null
    echo
done >text.txt

succeeds "export, rounded" export -c "$tiny" -o round.pte
succeeds "export, calibrated" export -c "$tiny" -o cal.pte --calibrate text.txt
succeeds "export, calibrated on the text that ships" export -c "$tiny" -o ships.pte --calibrate --calibrate_windows 2
succeeds "export, calibrated, groups and 4-bit embedding" export -c "$tiny" -o groups.pte --calibrate text.txt --linear_quantize b4w -E 4,32 --multifunction
succeeds "the same again, on one thread" export -c "$tiny" -o again.pte --calibrate text.txt --threads 1
why=
cmp -s cal.pte again.pte || why="the files differ"
verdict "threads do not change a byte" "$why"

succeeds "export with a report" export -c "$tiny" -o told.pte --calibrate --calibrate_windows 2 --report "a&b.html"
why=
cmp -s told.pte ships.pte || why="the report changes the program. "
[ "$(grep -c '<svg' 'a&b.html')" -ge 12 ] || why="${why}pictures are missing. "
[ "$(grep -o '<svg' 'a&b.html' | wc -l)" = "$(grep -o '</svg>' 'a&b.html' | wc -l)" ] || why="${why}a picture has no end. "
grep -q '<td>calibrated</td>' 'a&b.html' || why="${why}no perplexities. "
! grep -q '[^a-z/]nan[^a-z]\|[^a-z/]inf[^a-z]\|http' 'a&b.html' || why="${why}a number is none, or something must be fetched. "
[ ! -e told.pte.rounded ] || why="${why}told.pte.rounded is left behind"
verdict "a page with pictures and perplexities" "$why"
succeeds "a report where no text is left" export -c "$tiny" -o told.pte --calibrate text.txt --calibrate_windows 1000 --report all.html
verdict "… says so" "$(grep -q 'none is left to judge by' all.html || echo "it does not")"

kl() { # FILE: mean KL divergence from the checkpoint itself, in millionths of a nat
    "$exe" eval -m "$1" -t "$tiny" --text text.txt --window 64 --max_windows 8 --against "$tiny" --exact --json 2>stderr.txt |
        sed 's/.*"kl": \([0-9.e+-]*\).*/\1/' | awk '{ printf "%d\n", $1 * 1000000 }'
}
rounded=$(kl round.pte) calibrated=$(kl cal.pte)
why=
[ "${calibrated:-9999999}" -lt "${rounded:-0}" ] || why="KL $calibrated against $rounded by rounding"
verdict "calibrated weights are nearer to the checkpoint" "$why"

: >empty.txt
echo "too short" >short.txt
printf 'good \377 bad\n' >latin.txt
fails "an empty text" 1 "empty" export -c "$tiny" -o out.pte --calibrate empty.txt
fails "a text shorter than a window" 1 "less than one window" export -c "$tiny" -o out.pte --calibrate short.txt
fails "a text that is not UTF-8" 1 "not UTF-8 from byte 5" export -c "$tiny" -o out.pte --calibrate latin.txt
fails "a text that is not there" 1 "cannot be opened" export -c "$tiny" -o out.pte --calibrate nowhere.txt
fails "a tokenizer of a larger vocabulary" 1 "does not fit the model's of" export -c "$tiny" -o out.pte --calibrate -t "$here/../data/token/spm_unigram_bytes.model"
head -c $(($(wc -c <"$tiny") - 4)) "$tiny" >nan.gguf
printf '\377\377\377\377' >>nan.gguf
fails "a NaN among the weights" 1 "nan.gguf: tensor '.*' is NaN at" export -c nan.gguf -o out.pte --calibrate --calibrate_windows 1
cp "$tiny" kept.pte.calib
fails "a work file in place of the checkpoint" 1 "kept.pte.calib: is what is read" \
    export -c kept.pte.calib -o kept.pte --calibrate text.txt --calibrate_windows 1
verdict "… which stays" "$(cmp "$tiny" kept.pte.calib 2>&1)"
echo "no such work" >out.pte.calib
run export -c "$tiny" -o out.pte --calibrate nothere.txt --calibrate_windows 1
why=; grep -q "begun anew" stderr.txt && why=$(cat stderr.txt)
[ $code = 1 ] || why="exit code $code"
[ "$(cat out.pte.calib)" = "no such work" ] || why="the work is gone"
verdict "what was not begun is not said to be" "$why"
rm out.pte.calib
mkdir -p found && cp "$here"/../data/ckpt/hf/* found/ 2>/dev/null
fails "a report over the configuration that was found" 1 "config.json: is being read" export -c found -t "$tiny" -o out.pte \
    --calibrate text.txt --calibrate_windows 1 --report found/config.json
verdict "… which stays" "$(cmp "$here/../data/ckpt/hf/config.json" found/config.json 2>&1)"
fails "a report in a folder that there is not" 1 "nowhere/r.html: cannot be written" export -c "$tiny" -o out.pte --calibrate text.txt \
    --calibrate_windows 1 --report nowhere/r.html
fails "eval with another model's tokenizer" 1 "does not fit the model's of" eval -m "$here/../data/ckpt/mixed" -t "$tiny" --text text.txt
fails "eval with two ways to compute" 2 "only one of" eval -m round.pte -t "$tiny" --text text.txt --exact --precision fp16
fails "a report without a calibration" 2 "goes with --calibrate" export -c "$tiny" -o out.pte --report out.html
fails "no windows" 2 "calibrate_windows" export -c "$tiny" -o out.pte --calibrate text.txt --calibrate_windows 0
fails "eval of a text shorter than a window" 1 "less than one window" eval -m round.pte -t "$tiny" --text short.txt
# A step longer than 32 rows, and a window as long as the context: the last step must be a whole one.
run export -q -c "$tiny" -o wide.pte --max_context_len 128 --input_len 48
run eval -m wide.pte -t "$tiny" --text text.txt --window 128 --max_windows 2 --exact --json
cp stdout.txt wide.json
run export -q -c "$tiny" -o narrow.pte --max_context_len 128 --input_len 8
run eval -m narrow.pte -t "$tiny" --text text.txt --window 128 --max_windows 2 --exact --json
why=
[ -n "$(grep -o '"perplexity": [0-9.]*' wide.json)" ] && [ "$(grep -o '"perplexity": [0-9.]*' wide.json)" = "$(grep -o '"perplexity": [0-9.]*' stdout.txt)" ] ||
    why="not the same: $(cat wide.json stdout.txt stderr.txt)"
verdict "eval over the whole context, in steps of 48 and of 8" "$why"
# The last token of a window is only looked up.
awk 'BEGIN { printf "{\"version\": \"1.0\", \"model\": {\"type\": \"BPE\", \"merges\": [], \"vocab\": {\"a\": 0"
    for (i = 1; i < 1000; i++) printf ", \"x%d\": %d", i, i
    print ", \"c\": 1000}}}" }' >two.json
printf acacacac >two.txt
fails "eval with a tokenizer of a larger vocabulary" 1 "vocabulary of 1001 tokens does not fit" eval -m round.pte -t two.json --text two.txt --window 2
fails "eval without a text" 2 "--text" eval -m round.pte -t "$tiny"
finish
