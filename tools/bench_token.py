# SPDX-License-Identifier: BSD-3-Clause
"""Encoding speed beside the originals', on real tokenizers, in MB of text per second of processor time.

    bench_token.py ANEMONE FOLDER [curve]     FOLDER as `token_oracle.py real FOLDER` left it

Ours is the difference between ten texts in one file and the first of them alone, so that loading the tokenizer does not
count; the original's is one call of its encode on the first. `curve`: 10 MB and less of one letter, our time and memory.
"""
import os
import resource
import subprocess
import sys
import tempfile
import time

import sentencepiece
from tokenizers import Tokenizer

import token_oracle
import token_text


def ours(program, tokenizer, path):
    """Processor seconds and peak memory (KB) of one run."""
    child = subprocess.Popen([program, "tokenize", "-t", tokenizer, "--count", path], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        sys.exit("%s failed on %s" % (program, path))
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss


def best(f, times=3):
    return min(f() for _ in range(times))


def original(name, path):
    if name.startswith("llama"):
        return token_oracle.llama_tokenizer(name.split(".")[0], path)
    if name.startswith("tekken"):
        return token_oracle.FromTekken(path)
    if name.endswith(".json"):
        return token_oracle.FromTokenizers(Tokenizer.from_file(path))
    return token_oracle.FromSentencePiece(path)


def seconds(f):
    start = time.process_time()
    f()
    return time.process_time() - start


def compare(program, folder):
    text = open(os.path.join(folder, "mixed.txt"), encoding="utf-8", newline="").read()
    size = len(text.encode()) / 1e6
    with tempfile.TemporaryDirectory() as scratch:
        one, ten = os.path.join(scratch, "1"), os.path.join(scratch, "10")
        open(one, "w", encoding="utf-8", newline="").write(text)
        open(ten, "w", encoding="utf-8", newline="").write(text + "".join(token_text.make(seed=i) for i in range(2, 11)))
        print("%-48s %10s %10s" % ("tokenizer", "ours MB/s", "original"))
        for name in sorted(os.listdir(folder)):
            path = os.path.join(folder, name)
            if name in ("answers.json", "mixed.txt") or name.endswith(".gguf"):
                continue
            them = original(name, path)
            theirs = best(lambda: seconds(lambda: them.encode(text, False)))
            mine = best(lambda: ours(program, path, ten)[0]) - best(lambda: ours(program, path, one)[0])
            print("%-48s %10.1f %10.1f" % (name, size * 9 / mine, size / theirs), flush=True)


def curve(program, folder):
    with tempfile.TemporaryDirectory() as scratch:
        path, empty = os.path.join(scratch, "x"), os.path.join(scratch, "empty")
        open(empty, "w").close()
        for name in sorted(os.listdir(folder)):
            if name in ("answers.json", "mixed.txt"):
                continue
            load = ours(program, os.path.join(folder, name), empty)[0]
            row = []
            for n in (1250000, 2500000, 5000000, 10000000):
                open(path, "w").write("a" * n)
                taken, peak = ours(program, os.path.join(folder, name), path)
                row.append("%.2f s" % (taken - load))
            print("%-48s %s, %d MB" % (name, " ".join(row), peak // 1024), flush=True)


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    (curve if sys.argv[3:] == ["curve"] else compare)(sys.argv[1], sys.argv[2])
