#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""How fast do exported files run, beside llama.cpp and beside what the machine can do at most?

usage: bench_run.py ANEMONE [--dir DIR] [--llama PYTHON] [--model smollm2|1b]... [--smollm2 FILE.gguf] [--threads N]
                    [--prompt 256] [--decode 64] [--rounds 5] [--json FILE]

Two pairs a model: b4w against Q4_0 in every matrix (nearly the same bytes a token), and c4w, the default, against Q4_0 as
llama.cpp makes it by itself (the head in more bits). A round takes each once, in turns: ours, llama.cpp's, ours as a
single-method file, and the machine's own rates (bench_roofline.c). Ratios are made within a round, and their median counts.

The first time llama-cpp-python is built from its sources for this processor (DIR/llama; many minutes; --llama names a
Python that has it), and a random model of Llama 3.2 1B's shape is made (2.5 GB). Rounds in which other programs
had processor time are taken again.
"""
import argparse, json, os, statistics, subprocess, sys, time

HERE = os.path.dirname(os.path.abspath(__file__))
LLAMA = "llama-cpp-python==0.3.36"
MODELS = ("smollm2", "1b")
PAIRS = (("b4w", "pure"), ("c4w", "usual"))
CONTEXT = 1024


def run(cmd, **more):
    return subprocess.run(cmd, check=True, **more)


class Disturbed(Exception):
    """Another program had a part of the processors that counts."""


def busy_seconds():
    """Processor time that all programs have had so far, and the host took; None where the system does not tell."""
    try:
        with open("/proc/stat") as f:
            v = [int(n) for n in f.readline().split()[1:9]]
    except OSError:
        return None
    return (sum(v) - v[3] - v[4]) / os.sysconf("SC_CLK_TCK")


def timed(cmd, threads, lenient):
    """What it prints; Disturbed where others had more than a thirtieth of the threads' time meanwhile."""
    before, own, t = busy_seconds(), os.times(), time.perf_counter()
    out = run(cmd, capture_output=True, text=True)
    took, after, now = time.perf_counter() - t, busy_seconds(), os.times()
    if before is not None and not lenient:
        mine = sum(now[:4]) - sum(own[:4])
        if after - before - mine > 0.03 + threads * took / 30:
            raise Disturbed
    return out.stdout


def llama_python(folder):
    """A Python with llama.cpp's library, built here with all that this processor has."""
    venv = os.path.join(folder, "llama")
    python = os.path.join(venv, "bin", "python")
    if not os.path.exists(os.path.join(venv, "ready")):
        print(f"building {LLAMA} in {venv} (once, many minutes)", flush=True)
        run([sys.executable, "-m", "venv", venv])
        flags = "-DGGML_NATIVE=ON -DCMAKE_BUILD_TYPE=Release -DLLAVA_BUILD=OFF"
        with open(os.path.join(folder, "llama.txt"), "w") as log:
            run([python, "-m", "pip", "install", "--no-binary", "llama-cpp-python", LLAMA, "gguf"],
                env={**os.environ, "CMAKE_ARGS": flags, "CMAKE_BUILD_PARALLEL_LEVEL": str(os.cpu_count())},
                stdout=log, stderr=subprocess.STDOUT)
        open(os.path.join(venv, "ready"), "w").close()
    return python


def prepare(o, name):
    """The files of a model: what they are made of, llama.cpp's two, our four."""
    at = lambda end: os.path.join(o.dir, f"run-{name}{end}")
    llama = os.path.join(HERE, "bench_llama.py")
    source = o.smollm2 if name == "smollm2" else at(".gguf")
    if not os.path.exists(source):
        if name == "smollm2":
            return None
        print(f"making {source}", flush=True)
        run([o.llama, llama, "random", source])
    files = {}
    for kind in ("pure", "usual"):
        files[kind] = at(f"-q4_0-{kind}.gguf")
        if not os.path.exists(files[kind]):
            run([o.llama, llama, "quantise", source, files[kind], kind], stdout=subprocess.DEVNULL)
    for kind in ("b4w", "c4w"):
        for form in ("multi", "single"):
            files[kind + form] = at(f"-{kind}-{form}.pte")
            run([o.anemone, "export", "-q", "-c", source, "-o", files[kind + form], "--linear_quantize", kind, "--no_sync",
                 "--max_context_len", str(CONTEXT)] + (["--multifunction"] if form == "multi" else []))
    return files


def ours(o, file):
    """Rates after one round of warming up, and what they are of the machine's best, measured right behind by the same threads."""
    return json.loads(timed([o.anemone, "bench", "-m", file, "-j", str(o.threads), "--prompt_len", str(o.prompt), "--decode_len",
                            str(o.decode), "--rounds", "1", "--rates", "--json"], o.threads, o.busy))


def theirs(o, file):
    return json.loads(timed([o.llama, os.path.join(HERE, "bench_llama.py"), "time", file, str(o.threads), str(o.prompt),
                            str(o.decode)], o.threads, o.busy))


def one_pair(o, name, files, kind, other):
    """Rounds of: ours, llama.cpp, the single-method file."""
    rows, tries = [], 0
    for file in (files[kind + "multi"], files[other], files[kind + "single"]):  # into the page cache
        with open(file, "rb", buffering=0) as f:
            while f.read(1 << 24):
                pass
    while len(rows) < o.rounds:
        tries += 1
        try:
            a, b, c = ours(o, files[kind + "multi"]), theirs(o, files[other]), ours(o, files[kind + "single"])
        except Disturbed:
            if tries < 8 * o.rounds:
                continue
            sys.exit("other programs keep the processors busy: no fair measurement")
        rows.append({"decode": a["decode_tok_s"], "llama_decode": b["decode_tok_s"], "prefill": a["prefill_tok_s"],
                     "llama_prefill": b["prefill_tok_s"], "decode_ratio": a["decode_tok_s"] / b["decode_tok_s"],
                     "prefill_ratio": a["prefill_tok_s"] / b["prefill_tok_s"], "read_gb_s": a["read_bytes_s"] / 1e9,
                     "roofline_share": a["decode_roofline"], "int8_g_s": a["products_s"] / 1e9, "dot_share": a["prefill_roofline"],
                     "single_share": c["decode_tok_s"] / a["decode_tok_s"]})
    return {k: statistics.median(r[k] for r in rows) for k in rows[0]}, rows


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("anemone")
    ap.add_argument("--dir", default="build/bench")
    ap.add_argument("--llama")
    ap.add_argument("--model", action="append", choices=MODELS, default=[])
    ap.add_argument("--pair", action="append", choices=[p[0] for p in PAIRS], default=[])
    ap.add_argument("--smollm2", default="build/models/SmolLM2-135M-Instruct.Q4_1.gguf")
    ap.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count())
    ap.add_argument("--prompt", type=int, default=256)
    ap.add_argument("--decode", type=int, default=64)
    ap.add_argument("--rounds", type=int, default=5)
    ap.add_argument("--prepare", action="store_true", help="make the files, measure nothing")
    ap.add_argument("--busy", action="store_true", help="count rounds in which other programs had processor time, too")
    ap.add_argument("--json")
    o = ap.parse_args()
    os.makedirs(o.dir, exist_ok=True)
    o.llama = o.llama or llama_python(o.dir)
    table = []
    for name in o.model or MODELS:
        files = prepare(o, name)
        if not files:
            print(f"{name}: {o.smollm2} is not there (tools/fetch-smollm2.sh); left out", file=sys.stderr)
            continue
        for kind, other in PAIRS if not o.prepare else ():
            if o.pair and kind not in o.pair:
                continue
            middle, rows = one_pair(o, name, files, kind, other)
            table.append({"model": name, "pair": f"{kind} : Q4_0 {other}", "median": middle, "rounds": rows})
    if o.prepare:
        return
    print(f"{o.threads} threads, {o.prompt} tokens of prompt, {o.decode} decoded, medians of {o.rounds} rounds; tokens a second\n")
    print("| model | pair | decode | llama.cpp | ratio | of reading | prefill | llama.cpp | ratio | of int8 dots | single : multi |")
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for t in table:
        m = t["median"]
        print(f"| {t['model']} | {t['pair']} | {m['decode']:.1f} | {m['llama_decode']:.1f} | {m['decode_ratio']:.2f} | "
              f"{m['roofline_share']:.0%} of {m['read_gb_s']:.1f} GB/s | {m['prefill']:.0f} | {m['llama_prefill']:.0f} | "
              f"{m['prefill_ratio']:.2f} | {m['dot_share']:.0%} of {m['int8_g_s']:.0f} G/s | {m['single_share']:.2f} |")
    if o.json:
        with open(o.json, "w") as f:
            json.dump(table, f, indent=1)


main()
