#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""How fast is an export, beside a plain C program that reads the checkpoint and writes as many bytes?

usage: bench_export.py ANEMONE [--dir DIR] [--checkpoint FILE]... [--small] [--rounds N]

Makes a random checkpoint of Llama 3.2 1B's shape (2.5 GB; --small: 300 MB) in DIR, unless it is there, and times
single-method and multifunction exports of it and of every FILE, with and without waiting for the disk, in turns with
the plain copy. All files are read once first, so that they are in the page cache. Needs a C compiler; no Python
packages.
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


def timed(cmd):
    """Seconds, and the most anonymous memory that the process held (MiB; 0 where the system does not tell)."""
    t = time.perf_counter()
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
        time.sleep(0.002)
    seconds = time.perf_counter() - t
    if child.returncode:
        sys.exit(f"{' '.join(cmd)}: exit {child.returncode}")
    return seconds, most / 1024


def warm(path):
    with open(path, "rb", buffering=0) as f:
        buffer = bytearray(1 << 20)
        while f.readinto(buffer):
            pass


def bench(exe, copy, checkpoint, params, rounds, folder):
    size = os.path.getsize(checkpoint)
    out, other = os.path.join(folder, "bench_out.pte"), os.path.join(folder, "bench_copy.out")
    base = [exe, "export", "-q", "-c", checkpoint, "-o", out] + (["-p", params] if params else [])
    warm(checkpoint)
    print(f"{os.path.basename(checkpoint)}: {size / 1e6:.0f} MB")
    for kind, extra in (("single", []), ("multifunction", ["--multifunction"])):
        for sync in (False, True):
            ours, theirs, most = [], [], 0
            for _ in range(rounds):
                seconds, memory = timed(base + extra + ([] if sync else ["--no_sync"]))
                ours.append(seconds)
                most = max(most, memory)
                theirs.append(timed([copy, checkpoint, other, str(os.path.getsize(out))] + (["sync"] if sync else []))[0])
            a, b = sorted(ours)[rounds // 2], sorted(theirs)[rounds // 2]
            print(f"  {kind:13} {'with fsync' if sync else 'no fsync':10}  export {a:6.2f} s   copy {b:6.2f} s   ratio {a / b:4.2f}   "
                  f"out {os.path.getsize(out) / 1e6:.0f} MB   RssAnon {most:.0f} MiB")
    os.unlink(out)
    os.unlink(other)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("anemone")
    ap.add_argument("--dir", default=os.path.join(tempfile.gettempdir(), "anemone-bench"))
    ap.add_argument("--checkpoint", action="append", default=[])
    ap.add_argument("--small", action="store_true")
    ap.add_argument("--rounds", type=int, default=3)
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
    bench(o.anemone, copy, path, path + ".json", o.rounds, o.dir)
    for c in o.checkpoint:
        bench(o.anemone, copy, c, None, o.rounds, o.dir)


main()
