#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Writes test/data/ckpt/: small checkpoints in every format, made by the formats' own packages, with the values that a
reader must find in them (*.f32: fp32, every weight in the order of WEIGHTS, embedding, norm and head first).

    python3 tools/make_ckpt_tests.py [FOLDER]        needs torch, safetensors, gguf, numpy, executorch
"""

import io
import json
import os
import pickle
import sys
import zipfile

import gguf
import numpy as np
import torch
from executorch.examples.models.llama.model_args import ModelArgs
from executorch.examples.models.llama.rope import Rope
from safetensors.torch import save_file

OUT = sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(__file__), "..", "test", "data", "ckpt")
WEIGHTS = ["attention_norm", "wq", "wk", "wv", "wo", "bq", "bk", "bv", "q_norm", "k_norm", "ffn_norm", "w1", "w2", "w3"]
META = {
    "tok_embeddings": "tok_embeddings.weight", "norm": "norm.weight", "output": "output.weight",
    "attention_norm": "attention_norm.weight", "ffn_norm": "ffn_norm.weight",
    **{w: f"attention.{w}.weight" for w in ("wq", "wk", "wv", "wo")},
    **{"b" + w: f"attention.w{w}.bias" for w in "qkv"},
    "q_norm": "attention.q_norm_fn.weight", "k_norm": "attention.k_norm_fn.weight",
    **{w: f"feed_forward.{w}.weight" for w in ("w1", "w2", "w3")},
}
HF = {
    "tok_embeddings": "model.embed_tokens.weight", "norm": "model.norm.weight", "output": "lm_head.weight",
    "attention_norm": "input_layernorm.weight", "ffn_norm": "post_attention_layernorm.weight",
    **{"w" + w: f"self_attn.{w}_proj.weight" for w in "qkvo"},
    **{"b" + w: f"self_attn.{w}_proj.bias" for w in "qkv"},
    "q_norm": "self_attn.q_norm.weight", "k_norm": "self_attn.k_norm.weight",
    "w1": "mlp.gate_proj.weight", "w2": "mlp.down_proj.weight", "w3": "mlp.up_proj.weight",
}
GGUF = {
    "tok_embeddings": "token_embd.weight", "norm": "output_norm.weight", "output": "output.weight",
    "attention_norm": "attn_norm.weight", "ffn_norm": "ffn_norm.weight",
    "wq": "attn_q.weight", "wk": "attn_k.weight", "wv": "attn_v.weight", "wo": "attn_output.weight",
    "bq": "attn_q.bias", "bk": "attn_k.bias", "bv": "attn_v.bias",
    "q_norm": "attn_q_norm.weight", "k_norm": "attn_k_norm.weight",
    "w1": "ffn_gate.weight", "w2": "ffn_down.weight", "w3": "ffn_up.weight",
}
PREFIX = {"META": "layers", "HF": "model.layers", "GGUF": "blk"}
NAMES = {"META": META, "HF": HF, "GGUF": GGUF}


class Model:
    """Random weights that every float type holds exactly: multiples of 1/64 below 2."""

    def __init__(self, seed, dim, layers, heads, kv, hidden, vocab, head_dim=None, bias=False, qk_norm=False, tied=False):
        self.__dict__.update(locals())
        self.head_dim = hd = head_dim or dim // heads
        g = torch.Generator().manual_seed(seed)

        def make(*shape):
            return torch.randint(-127, 128, shape, generator=g).float() / 64

        self.w = {(None, "tok_embeddings"): make(vocab, dim), (None, "norm"): make(dim)}
        self.w[None, "output"] = self.w[None, "tok_embeddings"] if tied else make(vocab, dim)
        shapes = {
            "attention_norm": [dim], "wq": [heads * hd, dim], "wk": [kv * hd, dim], "wv": [kv * hd, dim],
            "wo": [dim, heads * hd], "ffn_norm": [dim], "w1": [hidden, dim], "w2": [dim, hidden], "w3": [hidden, dim],
        }
        if bias:
            shapes.update(bq=[heads * hd], bk=[kv * hd], bv=[kv * hd])
        if qk_norm:
            shapes.update(q_norm=[hd], k_norm=[hd])
        for i in range(layers):
            for name in WEIGHTS:
                if name in shapes:
                    self.w[i, name] = make(*shapes[name])

    def values(self):
        return b"".join(t.contiguous().numpy().tobytes() for t in self.w.values())

    def named(self, scheme, halves=False):
        """The state dict under a scheme's names; with `halves`, rotary rows in two halves per head."""
        out = {}
        for (layer, name), t in self.w.items():
            key = NAMES[scheme][name] if layer is None else f"{PREFIX[scheme]}.{layer}.{NAMES[scheme][name]}"
            heads = {"wq": self.heads, "bq": self.heads, "wk": self.kv, "bk": self.kv, "q_norm": 1, "k_norm": 1}.get(name)
            if halves and heads:
                t = t.reshape(heads, self.head_dim // 2, 2, -1).transpose(1, 2).reshape(t.shape)
            out[key] = t
        return out

    def params(self, **more):
        return {"dim": self.dim, "n_layers": self.layers, "n_heads": self.heads, "n_kv_heads": self.kv,
                "vocab_size": self.vocab, "hidden_dim": self.hidden, "norm_eps": 1e-5, **more}

    def config(self, kind, **more):
        return {"model_type": kind, "hidden_size": self.dim, "num_hidden_layers": self.layers,
                "num_attention_heads": self.heads, "num_key_value_heads": self.kv, "head_dim": self.head_dim,
                "intermediate_size": self.hidden, "vocab_size": self.vocab, "rms_norm_eps": 1e-6,
                "rope_theta": 500000.0, "hidden_act": "silu", "tie_word_embeddings": self.tied, **more}


def path(*parts):
    p = os.path.join(OUT, *parts)
    os.makedirs(os.path.dirname(p), exist_ok=True)
    return p


def put(data, *parts):
    with open(path(*parts), "wb") as f:
        f.write(data if isinstance(data, bytes) else json.dumps(data, indent=1).encode())


def pth(llama):
    """One file with everything that torch.save does to tensors."""
    sd = llama.named("META")
    types = [torch.bfloat16, torch.float16, torch.float32, torch.float64]
    out = {}
    for i, (k, t) in enumerate(sd.items()):
        t = t.to(types[i % 4])
        if t.dim() == 2 and i % 3 == 0:
            t = t.t().contiguous().t()  # columns lie together
        out[k] = torch.nn.Parameter(t) if i % 5 == 0 else t
    pair = torch.cat([sd["layers.1.feed_forward.w1.weight"], sd["layers.1.feed_forward.w3.weight"]]).to(torch.float16)
    out["layers.1.feed_forward.w1.weight"] = pair[: llama.hidden]  # two tensors in one storage
    out["layers.1.feed_forward.w3.weight"] = pair[llama.hidden:]
    wide = torch.zeros(llama.dim, 2 * llama.dim, dtype=torch.bfloat16)
    wide[:, 1::2] = sd["layers.0.attention.wo.weight"]
    out["layers.0.attention.wo.weight"] = wide[:, 1::2]  # every second column, from the second
    out["rope.freqs"] = torch.arange(2.0)
    out["layers.0.attention.mask"] = torch.ones(1, 1, dtype=torch.bool)
    torch.save({"model": out, "step": 3, "loss": 0.5, "name": "tiny", "tags": ["a", None, True], "wide": 1 << 40},
               path("mixed", "model.pth"))
    put(llama.params(rope_theta=500000.0, use_scaled_rope=True), "mixed", "params.json")

    module = torch.nn.Module()  # state_dict() is an OrderedDict with attributes
    module.weight = torch.nn.Parameter(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    torch.save(module.state_dict(), path("odd", "module.pth"))
    torch.save({"u16": torch.tensor([1, 2, 3], dtype=torch.uint16), "empty": torch.zeros(0, 4), "scalar": torch.tensor(2.5),
                "expanded": torch.tensor([1.5, 2.5]).expand(3, 2), "int": torch.arange(4)},
               path("odd", "types.pth"), pickle_protocol=4)
    torch.save({"weight": torch.ones(2)}, path("odd", "legacy.pth"), _use_new_zipfile_serialization=False)
    torch.save({"weight": torch.ones(2).to(torch.float8_e4m3fn)}, path("odd", "float8.pth"))


class Evil:
    def __reduce__(self):
        return os.system, ("true",)


def bad_zips():
    buf = io.BytesIO()
    torch.save({"weight": torch.ones(4)}, buf)
    good = zipfile.ZipFile(io.BytesIO(buf.getvalue()))
    entries = {n: good.read(n) for n in good.namelist()}

    def rewrite(name, how=zipfile.ZIP_STORED, **change):
        with zipfile.ZipFile(path("odd", name), "w", how) as z:
            for n, data in entries.items():
                z.writestr(zipfile.ZipInfo(n), change.get(n.split("/")[-1].replace(".", "_"), data), how)

    rewrite("system.pth", data_pkl=pickle.dumps({"weight": Evil()}, protocol=2))
    rewrite("system4.pth", data_pkl=pickle.dumps({"weight": Evil()}, protocol=4))
    rewrite("big.pth", byteorder=b"big")
    rewrite("deflated.pth", how=zipfile.ZIP_DEFLATED)
    torch.jit.script(torch.nn.Linear(2, 2)).save(path("odd", "script.pt"))


def shards(llama):
    """Meta's model-parallel form, the embedding cut by columns (Llama 2) and by rows (Llama 3)."""
    for folder, axis in (("by_cols", 1), ("by_rows", 0)):
        for s in range(2):
            part = {}
            for k, t in llama.named("META").items():
                if "norm" in k:
                    cut = t
                elif k.startswith("tok_embeddings"):
                    cut = t.chunk(2, axis)[s]
                else:
                    cut = t.chunk(2, 1 if "wo." in k or "w2." in k else 0)[s]
                part[k] = cut.contiguous().bfloat16()
            torch.save(part, path(folder, f"consolidated.{s:02}.pth"))
        put({**llama.params(), "vocab_size": -1}, folder, "params.json")


def safetensors(llama, qwen2, qwen3):
    sd = {k: t.contiguous().bfloat16() for k, t in llama.named("HF", halves=True).items()}
    files = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    where = {k: files[i % 2] for i, k in enumerate(sd)}
    for f in files:
        save_file({k: t for k, t in sd.items() if where[k] == f}, path("hf", f), metadata={"format": "pt"})
    put({"metadata": {"total_size": 1}, "weight_map": where}, "hf", "model.safetensors.index.json")
    put(llama.config("llama", rope_scaling={
        "rope_type": "llama3", "factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
        "original_max_position_embeddings": 8192}), "hf", "config.json")
    types = [torch.float32, torch.float16, torch.bfloat16, torch.float64]
    for name, m in (("qwen2", qwen2), ("qwen3", qwen3)):
        sd = {k: t.contiguous().to(types[i % 4]) for i, (k, t) in enumerate(m.named("HF", halves=True).items())}
        del sd["lm_head.weight"]  # tied
        save_file(sd, path(name, "model.safetensors"))
        put(m.config(name, sliding_window=4096, use_sliding_window=False), name, "config.json")
    # Hugging Face's older form, without word on tying, in two files.
    sd = {k: t.half() for k, t in qwen2.named("HF", halves=True).items() if k != "lm_head.weight"}
    files = ["pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin"]
    for i, f in enumerate(files):
        torch.save({k: t for j, (k, t) in enumerate(sd.items()) if j % 2 == i}, path("bin", f))
    put({"weight_map": {k: files[j % 2] for j, k in enumerate(sd)}}, "bin", "pytorch_model.bin.index.json")
    config = qwen2.config("qwen2", layer_types=["full_attention"])
    del config["tie_word_embeddings"]
    put(config, "bin", "config.json")
    # The reference's own form of Qwen3: Meta's names, rows in halves, rotated in halves.
    torch.save({k: t.bfloat16() for k, t in qwen3.named("META", halves=True).items()}, path("qwen3_meta", "model.pth"))
    put(qwen3.params(head_dim=qwen3.head_dim, use_hf_rope=True, use_qk_norm=True, qk_norm_before_rope=True),
        "qwen3_meta", "params.json")
    put(b"".join(t.contiguous().numpy().tobytes() for t in qwen3.named("META", halves=True).values()), "qwen3_meta.f32")


def write_gguf(name, arch, m, kinds, freqs=None):
    w = gguf.GGUFWriter(path(name), arch)
    w.add_embedding_length(m.dim)
    w.add_block_count(m.layers)
    w.add_head_count(m.heads)
    w.add_head_count_kv(m.kv)
    w.add_feed_forward_length(m.hidden)
    w.add_layer_norm_rms_eps(1e-5)
    w.add_rope_freq_base(500000.0)
    w.add_key_length(m.head_dim)
    w.add_context_length(64)
    w.add_token_list(["a", "bc", ""])
    w.add_token_scores([0.5, -1.0, 2.0])
    w.add_token_types([1, -3, 6])
    for i, (k, t) in enumerate(m.named("GGUF", halves=arch != "llama").items()):
        if m.tied and k == "output.weight":
            continue
        kind = kinds[i % len(kinds)] if t.dim() == 2 else gguf.GGMLQuantizationType.F32
        w.add_tensor(k, gguf.quantize(t.contiguous().numpy(), kind), raw_dtype=kind)
    if freqs is not None:
        w.add_tensor("rope_freqs.weight", freqs)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def blocks():
    """Random blocks of every type, and what the gguf package makes of them."""
    q = gguf.GGMLQuantizationType
    rng = np.random.default_rng(7)
    kinds = [q.F16, q.BF16, q.Q8_0, q.Q4_0, q.Q4_1, q.Q5_0, q.Q5_1, q.Q2_K, q.Q3_K, q.Q4_K, q.Q5_K, q.Q6_K]
    w = gguf.GGUFWriter(path("blocks.gguf"), "llama")
    values = b""
    for kind in kinds:
        block, size = gguf.GGML_QUANT_SIZES[kind]
        rows = []
        while len(rows) < 2:  # rows whose values are all finite
            raw = rng.integers(0, 256, max(block, 96) // block * size, dtype=np.uint8)
            with np.errstate(all="ignore"):
                got = gguf.dequantize(raw, kind)
            if np.isfinite(got).all():
                rows.append(raw)
                values += got.astype(np.float32).tobytes()
        w.add_tensor(kind.name, np.stack(rows), raw_dtype=kind)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    put(values, "blocks.f32")


def rope():
    """The reference's tables, cosines then sines, for the cases that test_model.c lists."""
    cases = [dict(head_dim=32, rope_theta=10000.0), dict(head_dim=24, rope_theta=500000.0, use_scaled_rope=True),
             dict(head_dim=64, rope_theta=500000.0, use_scaled_rope=True, rope_scale_factor=32),
             dict(head_dim=16, rope_theta=1e6, use_hf_rope=True), dict(head_dim=96, rope_theta=500000.0)]
    out = b""
    for case in cases:
        freqs = Rope(ModelArgs(dim=64, n_heads=1, max_context_len=1024, **case)).get_freqs(None, 1024)
        out += b"".join(f[[0, 1, 2, 3, 100, 1023]].numpy().tobytes() for f in freqs)
    put(out, "rope.f32")


def main():
    q = gguf.GGMLQuantizationType
    llama = Model(1, dim=16, layers=2, heads=4, kv=2, hidden=16, vocab=10)
    qwen2 = Model(2, dim=16, layers=1, heads=2, kv=1, hidden=16, vocab=10, bias=True, tied=True)
    qwen3 = Model(3, dim=16, layers=1, heads=2, kv=1, hidden=16, vocab=10, head_dim=12, qk_norm=True, tied=True)
    for name, m in (("llama", llama), ("qwen2", qwen2), ("qwen3", qwen3)):
        put(m.values(), name + ".f32")
    pth(llama)
    bad_zips()
    shards(llama)
    safetensors(llama, qwen2, qwen3)
    kinds = [q.F32, q.F16, q.BF16]
    write_gguf("llama.gguf", "llama", llama, kinds, freqs=np.array([1.0, 8.0], dtype=np.float32))
    write_gguf("qwen2.gguf", "qwen2", qwen2, kinds)
    write_gguf("qwen3.gguf", "qwen3", qwen3, kinds)
    blocks()
    rope()


main()
