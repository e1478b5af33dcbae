#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Checkpoints and parameters that cannot be exported: exit code 1, one line, no output.
. "$(dirname "$0")/lib.sh"

export_pth() { # NAME WORDS CHECKPOINT [PARAMS] [OPTION...]
    name=$1 words=$2 checkpoint=$3 params=${4:-$data/params.json}
    shift 3
    [ $# = 0 ] || shift
    fails "$name" 1 "$words" export -c "$checkpoint" -p "$params" -o out.pte "$@"
}

export_pth "missing file" "nowhere.pth: " nowhere.pth
mkdir folder
export_pth "a folder without a checkpoint" "folder: " folder
: >empty.pth
export_pth "empty file" "empty.pth: .*empty" empty.pth
echo "Once upon a time there was a file." >text.pth
export_pth "a text file" "text.pth: " text.pth

size=$(wc -c <"$data/whole.pth")
i=1
while [ $i -lt 24 ]; do
    head -c $((size * i / 24)) "$data/whole.pth" >cut.pth
    export_pth "a zip cut short at $i/24" "cut.pth: " cut.pth
    i=$((i + 1))
done
head -c $((size - 1)) "$data/whole.pth" >cut.pth
export_pth "a zip without its last byte" "cut.pth: " cut.pth

export_pth "a pickle that calls a function" "evil.pth: .*system" "$data/evil.pth"
why=
[ ! -e evil_was_here ] || why="it was called"
verdict "… which was not called" "$why"
export_pth "the format before zip" "legacy.pth: " "$data/legacy.pth"
export_pth "a tensor is missing" "missing.pth: .*layers.0.feed_forward.w2.weight" "$data/missing.pth"
export_pth "a tensor of another shape" "shape.pth: .*layers.0.feed_forward.w2.weight" "$data/shape.pth"
export_pth "a tensor whose elements are repeated" "repeated.pth: tensor 'layers.0.feed_forward.w2.weight' has .* repeated" "$data/repeated.pth"
export_pth "a tensor of complex numbers" "complex.pth: .*[Cc]omplex" "$data/complex.pth"

# spoil FILE STORAGE VALUE BYTES: value VALUE of a storage of whole.pth is overwritten. Storages begin at multiples of 64.
spoil() {
    cp "$data/whole.pth" "$1"
    chmod u+w "$1"
    at=$(LC_ALL=C grep -abo "data/$2FB" "$1" | head -n 1 | cut -d: -f1)
    printf "$4" | dd of="$1" bs=1 seek=$(((at + 73) / 64 * 64 + $3 * 2)) conv=notrunc 2>/dev/null
}
spoil nan.pth 2 70 '\300\177'
export_pth "a NaN among the weights" "nan.pth: tensor 'layers.0.attention.wq.weight' is NaN at .2, 6." nan.pth
spoil inf.pth 6 3 '\200\377'
export_pth "an infinity in a norm" "inf.pth: tensor 'layers.0.ffn_norm.weight' is infinite at .3." inf.pth
spoil large.pth 5 33 '\200\110' # 2^18
export_pth "a weight that fp16 cannot hold" "large.pth: tensor 'layers.0.attention.wo.weight' .* row 1 .*fp16" large.pth
succeeds "… and that fp32 can" export -c large.pth -p "$data/params.json" -o large.pte --dtype fp32 --quiet

whole=$data/whole.pth
export_pth "parameters: missing file" "nowhere.json: " "$whole" nowhere.json
export_pth "parameters: a folder" "folder: .*director" "$whole" folder
export_pth "parameters: empty file" "empty.pth: .*empty" "$whole" empty.pth
export_pth "parameters: not JSON" "text.pth: " "$whole" text.pth
echo '[1, 2, 3]' >list.json
export_pth "parameters: a list" "list.json: " "$whole" list.json
export_pth "parameters: a field is missing" "lacks.json: .*n_heads" "$whole" "$data/lacks.json"
export_pth "parameters: a word for a number" "odd.json: .*dim" "$whole" "$data/odd.json"
export_pth "parameters: an unknown feature" "unknown.json: .*moe" "$whole" "$data/unknown.json"
sed 's/"dim": 32/"dim": 48/' "$data/params.json" >wide.json
sed 's/"rope_theta": 10000.0/"rope_theta": 1e-300/' "$data/params.json" >theta.json
export_pth "parameters: a theta that fp32 cannot hold" "rope_theta is 1e-300" "$whole" theta.json
export_pth "parameters: widths that the tensors do not have" "tok_embeddings.weight" "$whole" wide.json
sed 's/"n_layers": 1/"n_layers": 2/' "$data/params.json" >deep.json
export_pth "parameters: more layers than there are" "layers.1" "$whole" deep.json
sed 's/"n_layers": 1/"n_layers": 1000000000000/' "$data/params.json" >deep.json
export_pth "parameters: a million million layers" "n_layers\|layers.1" "$whole" deep.json

export_pth "a width that does not split" "split" "$whole" "" --target_split_size 10
export_pth "no folder for the output" "nodir/out.pte: " "$whole" "" -o nodir/out.pte
export_pth "the output is a folder" "folder: .*director" "$whole" "" -o folder
export_pth "the output is a folder, and an hour's work is asked for" "folder: .*director" "$whole" "" -o folder --calibrate

mkfifo pipe && ln -s nowhere nothing
export_pth "the output is a pipe" "pipe: .*regular" "$whole" "" -o pipe
export_pth "the output is a link that leads nowhere" "nothing: .*link" "$whole" "" -o nothing
mkdir away && echo old >away/target.pte && ln -s away/target.pte leads.pte
succeeds "the output is a link" export -q -c "$whole" -p "$data/params.json" -o leads.pte
why=
[ -L leads.pte ] && [ "$(wc -c <away/target.pte)" -gt 10000 ] && [ ! -L away/target.pte ] || why=$(ls -l leads.pte away)
verdict "… and what it leads to was written" "$why"
export_pth "a program in place of a checkpoint" "leads.pte: is a program" leads.pte

# An output that would replace what is read.
mkdir -p shards
cp "$whole" own.pth && cp "$whole" shards/model.pth && cp "$data/params.json" own.json && cp "$data/params.json" shards/
ln -s own.pth link.pth
export_pth "the output is the checkpoint" "own.pth: .*another file" own.pth "" -o own.pth
export_pth "… by a link" "link.pth: .*another file" own.pth "" -o link.pth
export_pth "… inside a folder" "model.pth: .*another file" shards "" -o shards/model.pth
export_pth "the output is the parameters" "own.json: .*another file" own.pth own.json -o own.json
export_pth "the report is the calibration's text" "text.pth: .*another file" own.pth own.json --calibrate text.pth --report text.pth
export_pth "the output is the configuration that was found" "params.json: .*another file" shards "" -o shards/params.json
export_pth "the report is the output" "out.pte: is the program itself" own.pth own.json --calibrate text.pth --report out.pte
why=
cmp -s shards/params.json "$data/params.json" || why="replaced"
verdict "… which stays" "$why"
why=
cmp -s own.pth "$whole" && cmp -s shards/model.pth "$whole" && cmp -s own.json "$data/params.json" || why="something was replaced"
verdict "… and all are as they were" "$why"

size=$(wc -c <"$tiny")
for part in 1 2 3 7 11 15; do
    head -c $((size * part / 16)) "$tiny" >cut.gguf
    fails "a GGUF cut short at $part/16" 1 "cut.gguf: " export -c cut.gguf -o out.pte
done
printf 'GGUF' >four.gguf
fails "a GGUF of four bytes" 1 "four.gguf: " export -c four.gguf -o out.pte
fails "b4w: a width that is no multiple of 32" 1 "32" export -c "$data/narrow.pth" -p "$data/narrow.json" -o out.pte \
    --linear_quantize b4w

printf 'version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n' >pointer
export_pth "a pointer of Git LFS" "pointer: is a pointer of Git LFS" pointer
fails "… as a program" 1 "pointer: is a pointer of Git LFS" run -m pointer --tokens 1
fails "… as a tokenizer" 1 "pointer: is a pointer of Git LFS" run -m leads.pte -t pointer --prompt x

# What is found beside a checkpoint is a file, or its fault is named; nothing is waited for.
mkdir odd && cp "$whole" odd/model.pth && mkfifo odd/params.json
fails "a pipe in place of the parameters that lie beside" 1 "odd/params.json: is no regular file" export -c odd -o out.pte
rm odd/params.json && ln -s /dev/zero odd/params.json
fails "… a device" 1 "odd/params.json: is no regular file" export -c odd -o out.pte
rm odd/params.json && ln -s nowhere odd/params.json
fails "… a link that leads nowhere" 1 "odd/params.json: .*leads nowhere" export -c odd -o out.pte
rm odd/params.json && mkdir odd/params.json
fails "… a folder" 1 "odd/params.json: is a directory" export -c odd -o out.pte
succeeds "… which is not asked for" export -q -c odd -p "$data/params.json" -o beside.pte
rm odd/model.pth && mkfifo odd/model.pth
fails "a pipe in place of the checkpoint in a folder" 1 "odd/model.pth: is no regular file" export -c odd -p "$data/params.json" -o out.pte

# A mapped file that shrinks. The parameters come through a pipe, so that it happens between mapping and reading.
cp "$whole" shrinks.pth
mkfifo slow.json
{ sleep 0.3; head -c 4096 "$whole" >shrinks.pth; cat "$data/params.json"; } >slow.json &
writer=$!
export_pth "a checkpoint that shrinks while it is read" "shrinks.pth: .*shorter" shrinks.pth slow.json
kill $writer 2>/dev/null
finish
