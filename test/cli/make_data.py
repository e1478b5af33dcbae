#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Makes test/cli/data/: a very small checkpoint, whole and spoilt, as PyTorch writes it. Needs PyTorch; run by hand.

usage: make_data.py FOLDER
"""
import json
import os
import sys

import torch

DIM, KV, HIDDEN, VOCAB = 32, 16, 32, 32
PARAMS = {"dim": DIM, "n_layers": 1, "n_heads": 2, "n_kv_heads": 1, "vocab_size": VOCAB, "hidden_dim": HIDDEN,
          "norm_eps": 1e-5, "rope_theta": 10000.0}


def weights(dim=DIM):
    g = torch.Generator().manual_seed(7)
    r = lambda *shape: (torch.randn(shape, generator=g) * 0.2).to(torch.bfloat16)
    one = lambda: torch.ones(dim, dtype=torch.bfloat16)
    p = "layers.0."
    return {"tok_embeddings.weight": r(VOCAB, dim), p + "attention_norm.weight": one(),
            p + "attention.wq.weight": r(dim, dim), p + "attention.wk.weight": r(KV, dim),
            p + "attention.wv.weight": r(KV, dim), p + "attention.wo.weight": r(dim, dim),
            p + "ffn_norm.weight": one(), p + "feed_forward.w1.weight": r(HIDDEN, dim),
            p + "feed_forward.w2.weight": r(dim, HIDDEN), p + "feed_forward.w3.weight": r(HIDDEN, dim),
            "norm.weight": one(), "output.weight": r(VOCAB, dim)}


class Evil:
    """Unpickled by a careless reader, it makes a file."""

    def __reduce__(self):
        return os.system, ("touch evil_was_here",)


def main():
    folder = sys.argv[1]

    def save(name, change=lambda w: None):
        w = weights()
        change(w)
        torch.save(w, os.path.join(folder, name))

    w2 = "layers.0.feed_forward.w2.weight"
    save("whole.pth")
    save("missing.pth", lambda w: w.pop(w2))
    save("shape.pth", lambda w: w.update({w2: w[w2][:, :-1].contiguous()}))
    save("repeated.pth", lambda w: w.update({w2: w[w2][:, :1].clone().expand(-1, HIDDEN)}))
    save("complex.pth", lambda w: w.update({"norm.weight": w["norm.weight"].to(torch.complex64)}))
    save("evil.pth", lambda w: w.update({"extra": Evil()}))
    with open(os.path.join(folder, "narrow.json"), "w") as f:
        json.dump({**PARAMS, "dim": 48, "n_heads": 3}, f)
        f.write("\n")
    torch.save(weights(48), os.path.join(folder, "narrow.pth"))
    torch.save(weights(), os.path.join(folder, "legacy.pth"), _use_new_zipfile_serialization=False)

    for name, change in {"params": {}, "unknown": {"moe": True}, "odd": {"dim": "wide"},
                         "lacks": {"n_heads": None}}.items():
        p = {**PARAMS, **change}
        with open(os.path.join(folder, name + ".json"), "w") as f:
            json.dump({k: v for k, v in p.items() if v is not None}, f)
            f.write("\n")


main()
