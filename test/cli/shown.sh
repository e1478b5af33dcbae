#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Names in a file that a terminal would obey: no command prints one as it is. Nor does a model's text reach a terminal so.
. "$(dirname "$0")/lib.sh"

if ! command -v python3 >python.txt; then
    skip "control characters out of files" "no python3"
    finish
fi

# patch FROM TO OLD NEW: every OLD in the file, spelled forwards, by NEW (of as many bytes).
patch() {
    python3 -c '
import sys
old, new = (a.encode().decode("unicode_escape").encode("latin-1") for a in sys.argv[3:5])
data = open(sys.argv[1], "rb").read()
assert len(old) == len(new) and old in data, (old, new)
open(sys.argv[2], "wb").write(data.replace(old, new))' "$@"
}

# Bytes that a terminal obeys in what the last command printed: C0 but line ends and tabs, DEL, C1, what is not UTF-8.
obeyed() {
    python3 -c '
import sys
for name in sys.argv[1:]:
    data = open(name, "rb").read()
    try: text = data.decode()
    except UnicodeDecodeError as e: print("%s: %s" % (name, e)); continue
    print("".join("%s: %r. " % (name, c) for c in sorted(set(text)) if (c < " " and c not in "\n\t") or "\x7f" <= c < "\xa0"), end="")
' "$@"
}

# harmless NAME PATTERN COMMAND...: prints nothing of the kind, and PATTERN, the name with its escapes, on one line.
harmless() {
    name=$1 words=$2
    shift 2
    run "$@"
    why=$(obeyed stdout.txt stderr.txt)
    cat stdout.txt stderr.txt | grep -q -F -e "$words" || why="$why does not say '$words'"
    verdict "$name" "$why"
}

succeeds "a program" export -c "$data/whole.pth" -p "$data/params.json" -o good.pte --max_context_len 32 --input_len 8
patch good.pte delegate.pte CoreMLBackend 'C\x1b[31m\x07\xc2\x9bd\xff\nd'
patch good.pte method.pte vocab_size 'v\x1b]0;\xc2\x90\x7f\xffe'
patch good.pte value.pte layers_0_attention_norm_square 'l\x1b]0;named\x07_\xc2\x9b31m_\xc3_\r_\n_square'

harmless "a delegate's name, inspected" 'C\x1b[31m\x07\xc2\x9bd\xff\x0ad' inspect delegate.pte
fails "a delegate's name, run" 1 'C\\x1b\[31m\\x07\\xc2\\x9bd\\xff\\x0ad' run -m delegate.pte --tokens 1
harmless "the same" 'C\x1b[31m' run -m delegate.pte --tokens 1
harmless "a method's name, inspected" 'v\x1b]0;\xc2\x90\x7f' inspect method.pte
harmless "a method's name, compared" 'v\x1b]0;\xc2\x90\x7f\xffe' compare good.pte method.pte
harmless "a method's name, compared the other way round" 'v\x1b]0;\xc2\x90\x7f\xffe' compare method.pte good.pte
value='l\x1b]0;named\x07_\xc2\x9b31m_\xc3_\x0d_\x0a_square'
for stage in join lower; do # what stands after the later ones has no names
    harmless "a value's name after $stage" "$value" inspect "--dump=after:$stage" value.pte
done
harmless "a value's name, what it means" "$value: squares" inspect --dump=after:lower value.pte
harmless "a value's name in the graph" "$value" inspect --ops value.pte
# 1024 in the row of token 1, whose square fp16 cannot hold: the value is named.
python3 -c '
import sys
data = bytearray(open(sys.argv[1], "rb").read())
at = (data.find(b"data/0FB") + 73) // 64 * 64 + 74
data[at:at + 2] = b"\x80\x44"
open("large.pth", "wb").write(data)' "$data/whole.pth"
succeeds "a program that overflows" export -q -c large.pth -p "$data/params.json" -o large.pte --max_context_len 32 --input_len 8
patch large.pte over.pte layers_0_attention_norm_square 'l\x1b]0;named\x07_\xc2\x9b31m_\xc3_\r_\n_square'
harmless "a value's name where fp16 overflows" "first in $value (mul)" run -m over.pte --tokens 1 --precision fp16 --max_new_tokens 1

# The graph's text is that program still.
why=
"$exe" inspect --ops value.pte | grep -q -F "%\"$value\"" || why="the name is not quoted"
verdict "a value's name is quoted" "$why"

mkdir extra
cp "$here/../data/ckpt/qwen2/config.json" extra/
python3 -c '
import json, struct, sys
data = open(sys.argv[1], "rb").read()
n, = struct.unpack_from("<Q", data)
head, rest = json.loads(data[8:8 + n]), data[8 + n:]
head["x\x1b]0;renamed\x07\x9b31m\ny"] = {"dtype": "F32", "shape": [1], "data_offsets": [len(rest), len(rest) + 4]}
text = json.dumps(head).encode()
open("extra/model.safetensors", "wb").write(struct.pack("<Q", len(text)) + text + rest + b"\0" * 4)' \
    "$here/../data/ckpt/qwen2/model.safetensors"
harmless "a tensor's name, inspected" 'x\x1b]0;renamed\x07\xc2\x9b31m\x0ay' inspect extra
harmless "a tensor that is left out" 'such as x\x1b]0;renamed\x07\xc2\x9b31m\x0ay' export -c extra -o extra.pte
run inspect --json extra
why=$(python3 -c '
import json
assert any(t["name"] == "x\x1b]0;renamed\x07\x9b31m\ny" for t in json.load(open("stdout.txt"))["tensors"])' 2>&1 | tail -1)
verdict "a machine is told the name itself" "$why"

# What models and tokenizers make: byte for byte into a pipe or a file, escaped on a terminal.
printf 'a\033[31m\302\233\177\r\tb\n' >text.txt
run tokenize -t "$tiny" text.txt
mv stdout.txt ids.txt
run tokenize -t "$tiny" --decode ids.txt
why=
cmp -s stdout.txt text.txt || why="not the text itself"
verdict "a text in a pipe" "$why"
harmless "pieces of a text" '\x1b' tokenize -t "$tiny" --pieces text.txt

# on_terminal COMMAND...: with standard output on a terminal, whose line ends are \r\n.
on_terminal() {
    rm -f seen.txt
    python3 -c '
import os, pty, sys
seen = []
def read(fd):
    data = os.read(fd, 4096)
    seen.append(data)
    return data
pty.spawn(sys.argv[1:], read)
open("seen.txt", "wb").write(b"".join(seen).replace(b"\r\n", b"\n"))' "$exe" "$@" >stdout.txt 2>stderr.txt </dev/null
}
on_terminal tokenize -t "$tiny" --decode ids.txt
why=$(obeyed seen.txt)
printf 'a\\x1b[31m\\xc2\\x9b\\x7f\\x0d\tb\n' | cmp -s - seen.txt || why="$why printed: $(cat -v seen.txt)"
verdict "a text on a terminal" "$why"
succeeds "a program that answers" export -c "$tiny" -o tiny.pte --linear_quantize b4w --max_context_len 64 --input_len 32
on_terminal run -m tiny.pte -t "$tiny" --prompt "$(cat text.txt)" --echo --greedy --max_new_tokens 2
why=$(obeyed seen.txt)
grep -q -F 'a\x1b[31m\xc2\x9b' seen.txt || why="$why printed: $(cat -v seen.txt)"
verdict "an answer on a terminal" "$why"

finish
