# SPDX-License-Identifier: BSD-3-Clause
"""Perplexity by eager PyTorch, to hold `anemone eval` against.

    anemone tokenize -t TOKENIZER TEXT > ids.txt
    eval_oracle.py CHECKPOINT.pth PARAMS.json ids.txt [--window 512] [--max_windows 1] [--skip_windows 0] [--c4w | --b4w]

A plain Llama in fp32. With --c4w or --b4w the linears are rounded by torchao as the original's exporter does it, and the
embedding to 8 bits: what the exported file holds, so that `anemone eval -m FILE.pte --exact` must give the same. (The
original's graph computes in fp16 at most; the file's scales are fp16, so the model is cast to it before it is rounded.)
Needs torch, and for the last two torchao.
"""
import argparse
import json
import math

import torch
from torch import nn


class Layer(nn.Module):
    def __init__(self, p, hidden):
        super().__init__()
        head, kv = p["dim"] // p["n_heads"], p.get("n_kv_heads", p["n_heads"])
        self.heads, self.kv, self.head = p["n_heads"], kv, head
        for name, rows, cols in (("wq", p["dim"], p["dim"]), ("wk", kv * head, p["dim"]), ("wv", kv * head, p["dim"]),
                                 ("wo", p["dim"], p["dim"]), ("w1", hidden, p["dim"]), ("w2", p["dim"], hidden), ("w3", hidden, p["dim"])):
            setattr(self, name, nn.Linear(cols, rows, bias=False))
        self.attention_norm = nn.RMSNorm(p["dim"], eps=p["norm_eps"])
        self.ffn_norm = nn.RMSNorm(p["dim"], eps=p["norm_eps"])

    def forward(self, x, cos, sin):
        n = x.shape[0]

        def turn(y, heads):
            y = y.view(n, heads, self.head // 2, 2)
            a, b = y[..., 0], y[..., 1]
            return torch.stack((a * cos - b * sin, a * sin + b * cos), -1).reshape(n, heads, self.head).transpose(0, 1)

        y = self.attention_norm(x)
        q, k = turn(self.wq(y), self.heads), turn(self.wk(y), self.kv)
        v = self.wv(y).view(n, self.kv, self.head).transpose(0, 1)
        k, v = (t.repeat_interleave(self.heads // self.kv, 0) for t in (k, v))
        y = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.wo(y.transpose(0, 1).reshape(n, -1))
        y = self.ffn_norm(x)
        return x + self.w2(nn.functional.silu(self.w1(y)) * self.w3(y))


class Llama(nn.Module):
    def __init__(self, p, hidden):
        super().__init__()
        self.p = p
        self.tok_embeddings = nn.Embedding(p["vocab_size"], p["dim"])
        self.layers = nn.ModuleList(Layer(p, hidden) for _ in range(p["n_layers"]))
        self.norm = nn.RMSNorm(p["dim"], eps=p["norm_eps"])
        self.output = nn.Linear(p["dim"], p["vocab_size"], bias=False)

    def forward(self, ids):
        head = self.p["dim"] // self.p["n_heads"]
        angle = torch.outer(torch.arange(len(ids)).float(), self.p["rope_theta"] ** -(torch.arange(0, head, 2).float() / head))
        cos, sin = angle.cos()[:, None], angle.sin()[:, None]
        x = self.tok_embeddings(ids)
        for layer in self.layers:
            x = layer(x, cos, sin)
        return self.output(self.norm(x))


def main():
    a = argparse.ArgumentParser()
    a.add_argument("checkpoint"), a.add_argument("params"), a.add_argument("ids")
    a.add_argument("--window", type=int, default=512)
    a.add_argument("--max_windows", type=int, default=1)
    a.add_argument("--skip_windows", type=int, default=0)
    a.add_argument("--c4w", action="store_true"), a.add_argument("--b4w", action="store_true")
    a = a.parse_args()
    state = torch.load(a.checkpoint, map_location="cpu", weights_only=True)
    params = json.load(open(a.params))
    if "output.weight" not in state:
        state["output.weight"] = state["tok_embeddings.weight"]
    model = Llama(params, state["layers.0.feed_forward.w1.weight"].shape[0]).eval()
    model.load_state_dict({k.replace(".attention.", ".").replace(".feed_forward.", "."): v.float() for k, v in state.items()
                           if "rope" not in k and "freqs" not in k})
    if a.c4w or a.b4w:
        from torchao.quantization.granularity import PerAxis, PerGroup
        from torchao.quantization.quant_api import IntxWeightOnlyConfig, quantize_
        model = model.half()
        quantize_(model, IntxWeightOnlyConfig(weight_dtype=torch.int8, granularity=PerAxis(0)), lambda m, n: isinstance(m, nn.Embedding))
        quantize_(model, IntxWeightOnlyConfig(weight_dtype=torch.int4, granularity=PerAxis(0) if a.c4w else PerGroup(32)))
        for m in model.modules():
            if isinstance(m, (nn.Linear, nn.Embedding)):
                m.weight = nn.Parameter(m.weight.dequantize().float(), requires_grad=False)
        model = model.float()
    ids = [int(i) for i in open(a.ids).read().replace(",", " ").split()]
    means = []
    for w in range(a.skip_windows, a.skip_windows + a.max_windows):
        window = torch.tensor(ids[w * a.window:(w + 1) * a.window])
        if len(window) < a.window:
            break
        with torch.no_grad():
            logits = model(window)
        means.append(nn.functional.cross_entropy(logits[:-1], window[1:]).item())
    print(json.dumps({"perplexity": math.exp(sum(means) / len(means)), "tokens": len(means) * (a.window - 1), "windows": len(means)}))


if __name__ == "__main__":
    main()
