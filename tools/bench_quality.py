#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""What 4-bit weights keep of a model, rounded and calibrated: the tables of docs/quality.md, as Markdown.

usage: bench_quality.py ANEMONE CHECKPOINT.gguf [--dir DIR] [--windows 32] [--only c4w] [--texts DIR] [--no_prompts] [-j N]

Exports the checkpoint four times (c4w and b4w, by rounding and with --calibrate), and holds each against the checkpoint in
full precision on three texts that the calibration never saw. All three are at hand on any Debian with Python:

    technical   Python's help topics (pydoc_data.topics)
    quotations  the packages fortunes and fortunes-min, fetched by apt-get if they are not installed
    code        modules of Python's standard library

The figures depend a little on the versions of those, which are printed. Then ten prompts, before and after. Needs Python alone.
"""
import argparse, glob, hashlib, importlib, json, os, re, subprocess, sys, time

MODULES = ("argparse", "ast", "calendar", "configparser", "csv", "dataclasses", "decimal", "difflib", "doctest", "fractions", "ftplib",
           "gzip", "heapq", "imaplib", "inspect", "locale", "mailbox", "optparse", "pickle", "shutil", "smtplib", "statistics",
           "tarfile", "textwrap", "threading", "turtle", "typing", "zipfile")

PROMPTS = (
    "What is the capital of France, and what is it known for?",
    "Explain in two sentences why the sky is blue.",
    "Write a short story about a lighthouse keeper and a whale.",
    "List five things to pack for a hike in the mountains.",
    "Write a Python function that returns the n-th Fibonacci number.",
    "Translate into French: Good morning, how are you?",
    "A train goes 60 km in 45 minutes. How fast is that in km/h?",
    "Give me a recipe for pancakes.",
    "Who wrote Hamlet, and what happens in it?",
    "What is the difference between a list and a tuple in Python?",
)


def technical():
    topics = importlib.import_module("pydoc_data.topics").topics
    return "\n\n".join(topics[k].strip() for k in sorted(topics))


def quotations(folder):
    found = lambda: sorted(f for d in ("/usr/share/games/fortunes", os.path.join(folder, "usr/share/games/fortunes"))
                           for f in glob.glob(d + "/*") if re.fullmatch(r"[a-z-]+", os.path.basename(f)))
    if not found():
        for package in ("fortunes", "fortunes-min"):
            subprocess.run(["apt-get", "download", "-qq", package], cwd=folder, check=True, stderr=subprocess.DEVNULL)
        for deb in glob.glob(os.path.join(folder, "fortunes*.deb")):
            subprocess.run(["dpkg-deb", "-x", deb, folder], check=True)
    parts = [open(f, encoding="utf-8", errors="ignore").read() for f in found()]
    quotes = [q.strip() for p in parts for q in p.split("\n%\n") if q.strip()]
    quotes.sort(key=lambda q: hashlib.sha256(q.encode()).digest())  # all sources from the first window on
    return "\n\n".join(quotes)


def code():
    text = []
    for name in MODULES:
        try:
            text.append(open(importlib.import_module(name).__file__, encoding="utf-8").read())
        except ImportError:
            print(f"note: this Python has no {name}", file=sys.stderr)
    return "\n\n".join(text)


def make_texts(folder, windows):
    """name -> path; enough of each for so many windows of 512 tokens."""
    os.makedirs(folder, exist_ok=True)
    paths = {}
    for name, make in (("technical", technical), ("quotations", lambda: quotations(folder)), ("code", code)):
        path = paths[name] = os.path.join(folder, name + ".txt")
        try:
            text = make()
        except (OSError, subprocess.CalledProcessError) as why:
            print(f"note: no {name}: {why}", file=sys.stderr)
            del paths[name]
            continue
        with open(path, "w", encoding="utf-8") as f:
            f.write(text[: windows * 512 * 8])  # no tokenizer makes a token of more than 8 characters in the mean
    return paths


def run(command):
    out = subprocess.run(command, capture_output=True, text=True)
    if out.returncode:
        sys.exit(f"{' '.join(command)}\n{out.stderr}")
    return out.stdout


def export(a, linear, calibrated):
    path = os.path.join(a.dir, f"quality_{linear}_{'calibrated' if calibrated else 'rounded'}.pte")
    since = time.monotonic()
    more = ["--calibrate"] + a.options if calibrated else []
    run([a.anemone, "export", "-c", a.checkpoint, "-o", path, "--norm", "safe", "--linear_quantize", linear, "-q", *more, *a.threads])
    return path, time.monotonic() - since


def measure(a, path, text):
    return json.loads(run([a.anemone, "eval", "-m", path, "-t", a.checkpoint, "--text", text, "--max_windows", str(a.windows), "--precise",
                           "--against", a.checkpoint, "--json", "--quiet", *a.threads]))


def answer(a, path, prompt):
    return run([a.anemone, "run", "-m", path, "-t", a.checkpoint, "--chat", "--prompt", prompt, "--max_new_tokens", "80", "--temperature", "0",
                "--repeat_penalty", "1.1", *a.threads]).strip()


def quote(text):
    return "\n".join("> " + line for line in text.splitlines()) or "> (nothing)"


def main():
    p = argparse.ArgumentParser(usage=__doc__)
    p.add_argument("anemone"), p.add_argument("checkpoint")
    p.add_argument("--dir", default="build/bench"), p.add_argument("--texts"), p.add_argument("--windows", type=int, default=32)
    p.add_argument("--only", choices=("c4w", "b4w")), p.add_argument("--no_prompts", action="store_true")
    p.add_argument("--options", default="", help="more options for the calibrated exports"), p.add_argument("-j", default="0")
    a = p.parse_args()
    a.options, a.threads = a.options.split(), ["--threads", a.j]
    os.makedirs(a.dir, exist_ok=True)
    texts = make_texts(a.texts or os.path.join(a.dir, "texts"), a.windows)
    if not texts:
        sys.exit("no text to measure on")
    print(f"{run([a.anemone, '--version']).strip()}; Python {sys.version.split()[0]}; {a.windows} windows of 512 tokens a text\n")

    files = {}
    for linear in [a.only] if a.only else ["c4w", "b4w"]:
        for calibrated in (False, True):
            files[linear, calibrated], seconds = export(a, linear, calibrated)
            if calibrated:
                print(f"{linear}, calibrated in {seconds:.0f} s on {os.cpu_count()} processors\n", flush=True)

    print("| text | weights | full | perplexity | ratio | KL, nats | same top token |\n|---|---|---|---|---|---|---|", flush=True)
    ratios = {}
    for name, text in texts.items():
        for (linear, calibrated), path in files.items():
            e = measure(a, path, text)
            how = f"{linear}, {'calibrated' if calibrated else 'rounded'}"
            ratios.setdefault(how, []).append(e)
            print(f"| {name} ({e['windows']} windows) | {how} | {e['against_perplexity']:.2f} | {e['perplexity']:.2f} | {e['ratio']:.3f} ± {e['ratio_se']:.3f} | "
                  f"{e['kl']:.3f} ± {e['kl_se']:.3f} | {100 * e['top1']:.1f} % |", flush=True)
    for how, all_of in ratios.items():
        n = len(all_of)
        ratio, se = sum(e["ratio"] for e in all_of) / n, sum(e["ratio_se"] ** 2 for e in all_of) ** 0.5 / n
        print(f"| mean | {how} | | | {ratio:.3f} ± {se:.3f} | {sum(e['kl'] for e in all_of) / n:.3f} | {100 * sum(e['top1'] for e in all_of) / n:.1f} % |")

    if a.no_prompts:
        return
    print("\n## Ten prompts, before and after\n\nThe likeliest token each time (`--temperature 0 --repeat_penalty 1.1`), 80 tokens at most.")
    for prompt in PROMPTS:
        print(f"\n**{prompt}**", flush=True)
        for (linear, calibrated), path in files.items():
            print(f"\n{linear}, {'calibrated' if calibrated else 'rounded'}:\n\n{quote(answer(a, path, prompt))}", flush=True)


if __name__ == "__main__":
    main()
