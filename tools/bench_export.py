#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""How fast is an export, beside a plain C program that reads the checkpoint and writes as many bytes?

usage: bench_export.py ANEMONE [--dir DIR] [--checkpoint FILE]... [--small] [--rounds N]

Makes a random checkpoint of Llama 3.2 1B's shape (2.5 GB; --small: 300 MB) in DIR, unless it is there, and times
single-method and multifunction exports of it and of every FILE, with and without waiting for the disk, in turns with
the plain copy. All files are read once first, so that they are in the page cache. Needs a C compiler; no Python
packages. Times are medians, with the least and the most; the memory is of a run of its own.
"""
import argparse, io, json, os, pickle, subprocess, sys, tempfile, time, types, zipfile

SHAPES = {
    "1b": dict(dim=2048, n_layers=16, n_heads=32, n_kv_heads=8, hidden_dim=8192, vocab_size=128256, norm_eps=1e-5,
               rope_theta=500000.0, use_scaled_rope=True, rope_scale_factor=32),
    "small": dict(dim=1024, n_layers=8, n_heads=16, n_kv_heads=4, hidden_dim=4096, vocab_size=16384, norm_eps=1e-5,
                  rope_theta=500000.0),
}


def tensors(p):
    """name -> shape, in the order of Meta's checkpoints."""
    kv = p["dim"] // p["n_heads"] * p["n_kv_heads"]
    out = {"tok_embeddings.weight": (p["vocab_size"], p["dim"])}
    for i in range(p["n_layers"]):
        for name, shape in (("attention.wq", (p["dim"], p["dim"])), ("attention.wk", (kv, p["dim"])),
                            ("attention.wv", (kv, p["dim"])), ("attention.wo", (p["dim"], p["dim"])),
                            ("feed_forward.w1", (p["hidden_dim"], p["dim"])), ("feed_forward.w2", (p["dim"], p["hidden_dim"])),
                            ("feed_forward.w3", (p["hidden_dim"], p["dim"])), ("attention_norm", (p["dim"],)), ("ffn_norm", (p["dim"],))):
            out[f"layers.{i}.{name}.weight"] = shape
    out["norm.weight"] = (p["dim"],)
    return out


class Storage:
    def __init__(self, key, count):
        self.key, self.count = key, count


class Tensor:
    def __init__(self, storage, shape):
        self.storage, self.shape = storage, shape

    def __reduce__(self):
        strides, n = [], 1
        for d in reversed(self.shape):
            strides.insert(0, n)
            n *= d
        return sys.modules["torch._utils"]._rebuild_tensor_v2, (self.storage, 0, self.shape, tuple(strides), False, {})


class Pickler(pickle.Pickler):
    def persistent_id(self, o):
        return ("storage", sys.modules["torch"].BFloat16Storage, o.key, "cpu", o.count) if isinstance(o, Storage) else None


def stand_in_for_torch():
    """Modules with the names that a checkpoint's pickle mentions; nothing in them runs."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    torch.BFloat16Storage = type("BFloat16Storage", (), {"__module__": "torch"})
    def _rebuild_tensor_v2(*args): raise NotImplementedError
    _rebuild_tensor_v2.__module__, _rebuild_tensor_v2.__qualname__ = "torch._utils", "_rebuild_tensor_v2"
    utils._rebuild_tensor_v2 = _rebuild_tensor_v2
    sys.modules["torch"], sys.modules["torch._utils"] = torch, utils


def random_bf16(n):
    """Values of both signs from about 2^-10 to 2^-4."""
    high = bytes((0x3B if b & 1 else 0x3C if b & 2 else 0x3D) | (b & 0x80) for b in range(256))
    data = bytearray(os.urandom(2 * n))
    data[1::2] = data[1::2].translate(high)
    return data


def make(path, p):
    """A .pth as torch.save writes it: a zip of stored entries, the table of tensors pickled. Head and embedding are tied."""
    stand_in_for_torch()
    table, sizes = {}, []
    for i, (name, shape) in enumerate(tensors(p).items()):
        n = 1
        for d in shape:
            n *= d
        table[name] = Tensor(Storage(str(i), n), shape)
        sizes.append(n)
    table["output.weight"] = Tensor(table["tok_embeddings.weight"].storage, table["tok_embeddings.weight"].shape)
    text = io.BytesIO()
    Pickler(text, protocol=2).dump(table)
    with zipfile.ZipFile(path + ".tmp", "w", zipfile.ZIP_STORED, allowZip64=True) as z:
        z.writestr("archive/data.pkl", text.getvalue())
        z.writestr("archive/byteorder", "little")
        for i, n in enumerate(sizes):
            with z.open(f"archive/data/{i}", "w", force_zip64=True) as f:
                for left in range(n, 0, -(1 << 22)):
                    f.write(random_bf16(min(left, 1 << 22)))  # nothing twice: weights of equal bytes are written once
        z.writestr("archive/version", "3\n")
    os.rename(path + ".tmp", path)
    with open(path + ".json", "w") as f:
        json.dump(p, f)


def run(cmd):
    """Seconds. What earlier commands left to write is on the disk before."""
    os.sync()
    t = time.perf_counter()
    code = subprocess.run(cmd, stdout=subprocess.DEVNULL).returncode
    seconds = time.perf_counter() - t
    if code:
        sys.exit(f"{' '.join(cmd)}: exit {code}")
    return seconds


def memory(cmd):
    """The most anonymous memory that the process held (MiB; 0 where the system does not tell). Looking costs time: not timed."""
    child = subprocess.Popen(cmd, stdout=subprocess.DEVNULL)
    most = 0
    while child.poll() is None:
        try:
            with open(f"/proc/{child.pid}/status") as f:
                for line in f:
                    if line.startswith("RssAnon"):
                        most = max(most, int(line.split()[1]))
        except OSError:
            pass
        time.sleep(0.001)
    return most / 1024


def warm(path):
    with open(path, "rb", buffering=0) as f:
        buffer = bytearray(1 << 20)
        while f.readinto(buffer):
            pass


def median(values):
    return sorted(values)[len(values) // 2]


def bench(exe, copy, checkpoint, params, rounds, folder, original):
    out, other = os.path.join(folder, "bench_out.pte"), os.path.join(folder, "bench_copy.out")
    base = [exe, "export", "-q", "-c", checkpoint, "-o", out] + (["-p", params] if params else [])
    kinds = {"single": [], "multifunction": ["--multifunction"]}
    warm(checkpoint)
    print(f"{os.path.basename(checkpoint)}: {os.path.getsize(checkpoint) / 1e6:.0f} MB", flush=True)
    most = {kind: memory(base + extra + ["--no_sync"]) for kind, extra in kinds.items()}
    size = os.path.getsize(out)
    for sync in (False, True):
        seconds = {name: [] for name in ["copy", *kinds]}
        for i in range(rounds):
            turns = [(kind, base + extra + ([] if sync else ["--no_sync"])) for kind, extra in kinds.items()]
            turns.append(("copy", [copy, checkpoint, other, str(size)] + (["sync"] if sync else [])))
            for name, cmd in turns[i % 3:] + turns[:i % 3]:
                seconds[name].append(run(cmd))
        c = median(seconds["copy"])
        for kind in kinds:
            t = median(seconds[kind])
            line = f"  {kind:13} {'with fsync' if sync else 'no fsync':10}  {t:6.3f} s ({min(seconds[kind]):.3f} to {max(seconds[kind]):.3f})"
            line += f"   copy {c:6.3f} s   ratio {t / c:4.2f}   RssAnon {most[kind]:.0f} MiB"
            if kind == "multifunction":
                line += f"   {t / median(seconds['single']):4.2f} of single"
            if original and not sync:
                line += f"   {original[kind] / t:.0f} times faster than the original's {original[kind]} s" if kind in original else ""
            print(line, flush=True)
    print(f"  out {size / 1e6:.0f} MB")
    os.unlink(out)
    os.unlink(other)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("anemone")
    ap.add_argument("--dir", default=os.path.join(tempfile.gettempdir(), "anemone-bench"))
    ap.add_argument("--checkpoint", action="append", default=[])
    ap.add_argument("--small", action="store_true")
    ap.add_argument("--rounds", type=int, default=5)
    o = ap.parse_args()
    os.makedirs(o.dir, exist_ok=True)
    name = "small" if o.small else "1b"
    path = os.path.join(o.dir, f"random-{name}.pth")
    if not os.path.exists(path):
        print(f"making {path}", flush=True)
        make(path, SHAPES[name])
    copy = os.path.join(o.dir, "bench_copy")
    source = os.path.join(os.path.dirname(os.path.abspath(__file__)), "bench_copy.c")
    subprocess.run([os.environ.get("CC", "cc"), "-O2", "-o", copy, source], check=True)
    bench(o.anemone, copy, path, path + ".json", o.rounds, o.dir, None if o.small else {"single": 211})  # on two such cores
    for c in o.checkpoint:
        bench(o.anemone, copy, c, None, o.rounds, o.dir, None)


main()
