# SPDX-License-Identifier: BSD-3-Clause
"""What rounding activations costs: a program against itself with fp32 activations, on a text.

    bench_accuracy.py build/anemone MODEL.pte TOKENIZER TEXT [--windows 5] [--skip 8] [--window 512] [-j N]

The default arithmetic, --precise, and plain int8 with a scale per 32 inputs by the interpreter (no kernel in common with the
other two: slow), each against --exact on the same tokens.
"""
import argparse
import json
import subprocess


def main():
    a = argparse.ArgumentParser()
    a.add_argument("anemone"), a.add_argument("model"), a.add_argument("tokenizer"), a.add_argument("text")
    a.add_argument("--windows", default="5"), a.add_argument("--skip", default="8"), a.add_argument("--window", default="512")
    a.add_argument("-j", "--threads", default="0")
    a = a.parse_args()
    print(f"{'activations':<26}{'KL, nats':>24}{'same top token':>16}{'perplexity':>12}{'exact':>9}{'ratio':>20}")
    for name, how in (("default", ["--precision", "default"]), ("--precise", ["--precision", "precise"]),
                      ("int8 per 32, interpreted", ["--activations", "8,32"])):
        out = subprocess.run([a.anemone, "eval", "-m", a.model, "-t", a.tokenizer, "--text", a.text, "--window", a.window, "--max_windows",
                              a.windows, "--skip_windows", a.skip, "-j", a.threads, "--against_precision", "exact", "--json", *how],
                             check=True, capture_output=True, text=True).stdout
        r = json.loads(out)
        print(f"{name:<26}{r['kl']:>13.7f} ± {r['kl_se']:.6f}{100 * r['top1']:>14.2f} %{r['perplexity']:>12.3f}{r['against_perplexity']:>9.3f}"
              f"{r['ratio']:>12.5f} ± {r['ratio_se']:.4f}", flush=True)


if __name__ == "__main__":
    main()
