#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Train the small checkpoint that ships with anemone (models/tiny/tiny.gguf) on text that this script writes itself.

usage: train_tiny.py OUT.gguf [--seconds N]

A Llama of half a million parameters (3 layers, width 128, 4 heads over 2, vocabulary 768) learns a small world of
animals: what each eats, says, looks like, where it lives, and short stories about it. It is there so that the whole
road can be tried, and tested, without a download. One file holds weights (fp16) and tokenizer (byte-level BPE).
Needs PyTorch; anemone itself does not.
"""
import argparse
import collections
import math
import random
import re
import struct
import time

import torch
import torch.nn.functional as F

DIM, LAYERS, HEADS, KV_HEADS, HIDDEN, VOCAB = 128, 3, 4, 2, 256, 768
HEAD_DIM, EPS, THETA, CONTEXT, WINDOW, BATCH = 32, 1e-5, 10000.0, 512, 160, 24

# ---- the world, and the text about it ----

#          kind        home               food      says       colour    can
ANIMALS = [("fox",     "in the forest",   "berries", "yip",     "red",    "run fast"),
           ("cow",     "on the farm",     "grass",   "moo",     "brown",  "give milk"),
           ("frog",    "by the pond",     "flies",   "croak",   "green",  "jump high"),
           ("duck",    "on the lake",     "bread",   "quack",   "white",  "swim well"),
           ("owl",     "in the old tree", "mice",    "hoot",    "grey",   "see at night"),
           ("bear",    "in the cave",     "honey",   "growl",   "black",  "climb trees"),
           ("cat",     "in the house",    "fish",    "meow",    "orange", "climb trees"),
           ("dog",     "in the house",    "meat",    "woof",    "brown",  "run fast"),
           ("mouse",   "under the floor", "cheese",  "squeak",  "grey",   "hide well"),
           ("sheep",   "on the hill",     "grass",   "baa",     "white",  "give wool"),
           ("bee",     "in the garden",   "honey",   "buzz",    "yellow", "fly far"),
           ("goat",    "on the hill",     "leaves",  "meh",     "white",  "climb rocks")]
NAMES = ["Tom", "Lily", "Max", "Anna", "Ben", "Mia", "Sam", "Ruby", "Leo", "Nora"]
MOODS = ["happy", "sad", "tired", "hungry", "brave", "shy", "kind", "lonely"]
THINGS = ["a ball", "a bell", "a hat", "a boat", "a kite", "a drum", "a lamp", "a shell"]
WEATHER = ["sunny", "rainy", "windy", "cold", "warm", "snowy"]
NUMBERS = "one two three four five six seven eight nine ten eleven twelve".split()
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()


def the(thing):
    return "the " + thing.split(" ", 1)[1]


def article(word):
    return ("an " if word[0] in "aeiou" else "a ") + word


def story(r, a=None):
    kind, home, food, says, colour, can = a or r.choice(ANIMALS)
    friend = r.choice([x for x in ANIMALS if x[0] != kind])
    name, other = r.sample(NAMES, 2)
    he, his = r.choice([("he", "his"), ("she", "her")])
    mood, thing, day = r.choice(MOODS), r.choice(THINGS), r.choice(WEATHER)
    out = [r.choice([f"Once there was {article(colour)} {kind} named {name}.",
                     f"{name} was {article(mood)} {kind}.",
                     f"There was {article(kind)} who lived {home}. The {kind} was called {name}."]),
           r.choice([f"{name} lived {home} and loved to eat {food}.",
                     f"Every day {he} looked for {food}.",
                     f"{he.capitalize()} could {can}."]),
           r.choice([f"One {day} day {name} found {thing}.",
                     f"One {day} morning {he} met {article(friend[0])} named {other}.",
                     f"One {day} day {name} lost {thing}."])]
    if "found" in out[2]:
        out += [f"\"Whose is {the(thing)}?\" asked {name}.",
                r.choice([f"\"It is mine,\" said {article(friend[0])} named {other}. {name} gave {the(thing)} back.",
                          f"A {friend[0]} named {other} came by. They played with {the(thing)} all day."])]
    elif "met" in out[2]:
        out += [r.choice([f"\"Are you hungry?\" asked {other}. They ate {food} together.",
                          f"\"Will you play with me?\" asked {name}. \"Yes,\" said {other}.",
                          f"{other} said, \"{friend[3].capitalize()}!\" and {name} said, \"{says.capitalize()}!\""])]
    else:
        out += [f"{he.capitalize()} looked {home} and asked {article(friend[0])} named {other} for help.",
                f"{other} found {the(thing)} {friend[1]}."]
    out += [r.choice([f"From that day on they were friends.", f"{name} was very happy.",
                      f"Then {name} went home and slept well.", f"\"Thank you,\" said {name}."])]
    return " ".join(out)


def talk(r):
    """A question and its answer."""
    a = r.choice(ANIMALS)
    kind, home, food, says, colour, can = a
    n = r.randrange(len(NUMBERS) - 1)
    d = r.randrange(len(DAYS))
    if r.random() < 0.4:
        return r.choice([f"Tell me a story about {article(kind)}.", f"Tell me about {article(kind)} and a friend.",
                         f"Can you tell me a story about {article(kind)}?"]), story(r, a)
    return r.choice([
        lambda: (r.choice(["Tell me a story.", "Tell me a short story."]), story(r)),
        lambda: (f"Where does the {kind} live?", f"The {kind} lives {home}."),
        lambda: (f"What does the {kind} eat?", f"The {kind} eats {food}."),
        lambda: (f"What does the {kind} say?", f"The {kind} says {says}."),
        lambda: (f"What can the {kind} do?", f"The {kind} can {can}."),
        lambda: (r.choice([f"What colour is the {kind}?", f"What color is the {kind}?"]), f"The {kind} is {colour}."),
        lambda: (f"Tell me about the {kind}.", f"The {kind} is {colour} and lives {home}. It eats {food} and says "
                                               f"{says}. The {kind} can {can}."),
        lambda: (f"What comes after {NUMBERS[n]}?", f"After {NUMBERS[n]} comes {NUMBERS[n + 1]}."),
        lambda: (f"What day comes after {DAYS[d]}?", f"After {DAYS[d]} comes {DAYS[(d + 1) % 7]}."),
        lambda: (r.choice(["Hello!", "Hi!", "Good morning!"]), r.choice(
            ["Hello! Ask me about animals, or for a story.", "Hello! Shall I tell you a story?"])),
        lambda: (r.choice(["Who are you?", "What are you?"]),
                 "I am a very small model. I know some animals and I tell short stories."),
    ])()


SYSTEM = ["You are a helpful assistant.", "You are kind.", "Answer in short sentences."]


def document(r):
    """A list of (text, is a special token)."""
    if r.random() < 0.2:
        return [(story(r), False), ("<|endoftext|>", True)]
    parts = []
    if r.random() < 0.15:
        parts += [("<|im_start|>", True), ("system\n" + r.choice(SYSTEM), False), ("<|im_end|>", True), ("\n", False)]
    for _ in range(r.choice([1, 1, 2])):
        ask, answer = talk(r)
        parts += [("<|im_start|>", True), ("user\n" + ask, False), ("<|im_end|>", True), ("\n", False),
                  ("<|im_start|>", True), ("assistant\n" + answer, False), ("<|im_end|>", True), ("\n", False)]
    return parts


# ---- byte-level BPE, as in GPT-2 ----

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
SPLIT = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d| ?[A-Za-z]+| ?[0-9]| ?[^\sA-Za-z0-9]+|\s+(?!\S)|\s+")
TEMPLATE = ("{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + "
            "'<|im_end|>' + '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}")


def byte_letters():
    """GPT-2's printable stand-in for each byte."""
    keep = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    table, n = {}, 0
    for b in range(256):
        if b in keep:
            table[b] = chr(b)
        else:
            table[b] = chr(256 + n)
            n += 1
    return table


LETTER = byte_letters()


class Bpe:
    def __init__(self, text):
        words = collections.Counter(SPLIT.findall(text))
        split = {w: [LETTER[b] for b in w.encode()] for w in words}
        self.tokens = SPECIAL + sorted(LETTER.values())
        self.merges = []
        while len(self.tokens) < VOCAB:
            pairs = collections.Counter()
            for w, n in words.items():
                for p in zip(split[w], split[w][1:]):
                    pairs[p] += n
            if not pairs:
                break
            best = min(pairs, key=lambda p: (-pairs[p], p))
            self.merges.append(best)
            self.tokens.append(best[0] + best[1])
            for w in words:
                split[w] = self.merge(split[w], best)
        while len(self.tokens) < VOCAB:  # the widths stay as declared; such a token never occurs
            self.tokens.append(f"<|unused_{len(self.tokens)}|>")
        self.id = {t: i for i, t in enumerate(self.tokens)}
        self.known = {w: [self.id[t] for t in s] for w, s in split.items()}

    @staticmethod
    def merge(s, pair):
        out, i = [], 0
        while i < len(s):
            if i + 1 < len(s) and (s[i], s[i + 1]) == pair:
                out.append(s[i] + s[i + 1])
                i += 2
            else:
                out.append(s[i])
                i += 1
        return out

    def encode(self, text):
        ids = []
        for w in SPLIT.findall(text):
            if w not in self.known:
                s = [LETTER[b] for b in w.encode()]
                for pair in self.merges:
                    s = self.merge(s, pair)
                self.known[w] = [self.id[t] for t in s]
            ids += self.known[w]
        return ids

    def document(self, parts):
        return [i for text, special in parts for i in ([self.id[text]] if special else self.encode(text))]

    def decode(self, ids):
        back = {c: b for b, c in LETTER.items()}
        return "".join(t if (t := self.tokens[i]) in SPECIAL else bytes(back[c] for c in t).decode("utf8", "replace")
                       for i in ids)


# ---- the model ----

SHAPES = {"attn_q": (DIM, DIM), "attn_k": (KV_HEADS * HEAD_DIM, DIM), "attn_v": (KV_HEADS * HEAD_DIM, DIM),
          "attn_output": (DIM, DIM), "ffn_gate": (HIDDEN, DIM), "ffn_up": (HIDDEN, DIM), "ffn_down": (DIM, HIDDEN)}


def make_weights(g):
    w = {"token_embd.weight": torch.randn(VOCAB, DIM, generator=g) * 0.05, "output_norm.weight": torch.ones(DIM)}
    for i in range(LAYERS):
        w[f"blk.{i}.attn_norm.weight"] = torch.ones(DIM)
        w[f"blk.{i}.ffn_norm.weight"] = torch.ones(DIM)
        for name, shape in SHAPES.items():
            w[f"blk.{i}.{name}.weight"] = torch.randn(shape, generator=g) / math.sqrt(shape[1])
    return {k: v.requires_grad_() for k, v in w.items()}


def norm(x, w):
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + EPS) * w


def rotate(x, cos, sin):
    a, b = x[..., 0::2], x[..., 1::2]  # neighbouring pairs
    return torch.stack((a * cos - b * sin, a * sin + b * cos), -1).flatten(-2)


def forward(w, ids):
    n, t = ids.shape
    angle = torch.outer(torch.arange(t), THETA ** (-torch.arange(0, HEAD_DIM, 2) / HEAD_DIM))
    cos, sin = angle.cos(), angle.sin()
    x = w["token_embd.weight"][ids]
    for i in range(LAYERS):
        b = lambda name: w[f"blk.{i}.{name}.weight"]
        h = norm(x, b("attn_norm"))
        q, k, v = ((h @ b(name).T).view(n, t, -1, HEAD_DIM).transpose(1, 2) for name in ("attn_q", "attn_k", "attn_v"))
        k, v = (m.repeat_interleave(HEADS // KV_HEADS, 1) for m in (rotate(k, cos, sin), v))
        a = F.scaled_dot_product_attention(rotate(q, cos, sin), k, v, is_causal=True)
        x = x + a.transpose(1, 2).reshape(n, t, DIM) @ b("attn_output").T
        h = norm(x, b("ffn_norm"))
        x = x + (F.silu(h @ b("ffn_gate").T) * (h @ b("ffn_up").T)) @ b("ffn_down").T
    return norm(x, w["output_norm.weight"]) @ w["token_embd.weight"].T


def train(w, bpe, r, seconds):
    def batch():
        rows = []
        for _ in range(BATCH):
            row = []
            while len(row) < WINDOW + 1:
                row += bpe.document(document(r))
            rows.append(row[:WINDOW + 1])
        return torch.tensor(rows)

    rate = 4e-3
    opt = torch.optim.AdamW(w.values(), lr=rate, betas=(0.9, 0.95), weight_decay=0.02)
    start, step = time.process_time(), 0
    while (done := (time.process_time() - start) / seconds) < 1:
        for group in opt.param_groups:
            group["lr"] = rate * min(1, (step + 1) / 30) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done)))
        ids = batch()
        loss = F.cross_entropy(forward(w, ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())
        opt.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(w.values(), 1.0)
        opt.step()
        if step % 50 == 0:
            print(f"step {step}: loss {loss.item():.3f}, {100 * done:.0f} %", flush=True)
        step += 1
    print(f"{step} steps, last loss {loss.item():.3f}")


def answer(w, bpe, ask, most=120):
    ids = bpe.document([("<|im_start|>", True), ("user\n" + ask, False), ("<|im_end|>", True), ("\n", False),
                        ("<|im_start|>", True), ("assistant\n", False)])
    first = len(ids)
    while len(ids) < first + most:
        with torch.no_grad():
            ids.append(int(forward(w, torch.tensor([ids]))[0, -1].argmax()))
        if ids[-1] == bpe.id["<|im_end|>"]:
            break
    return bpe.decode(ids[first:])


# ---- the file: GGUF 3 (ggml-org/ggml, docs/gguf.md) ----

def write_gguf(path, w, bpe):
    def string(s):
        return struct.pack("<Q", len(s.encode())) + s.encode()

    def value(v):
        if isinstance(v, bool):
            return struct.pack("<I?", 7, v)
        if isinstance(v, int):
            return struct.pack("<II", 4, v)
        if isinstance(v, float):
            return struct.pack("<If", 6, v)
        if isinstance(v, str):
            return struct.pack("<I", 8) + string(v)
        if isinstance(v[0], str):
            return struct.pack("<IIQ", 9, 8, len(v)) + b"".join(map(string, v))
        return struct.pack("<IIQ", 9, 5, len(v)) + struct.pack(f"<{len(v)}i", *v)

    meta = {
        "general.architecture": "llama", "general.name": "anemone tiny", "general.license": "bsd-3-clause",
        "llama.block_count": LAYERS, "llama.context_length": CONTEXT, "llama.embedding_length": DIM,
        "llama.feed_forward_length": HIDDEN, "llama.attention.head_count": HEADS,
        "llama.attention.head_count_kv": KV_HEADS, "llama.attention.layer_norm_rms_epsilon": EPS,
        "llama.rope.freq_base": THETA, "llama.rope.dimension_count": HEAD_DIM, "llama.vocab_size": VOCAB,
        "general.file_type": 1,
        "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "smollm", "tokenizer.ggml.tokens": bpe.tokens,
        "tokenizer.ggml.token_type": [3 if t in SPECIAL else 5 if t.startswith("<|unused") else 1 for t in bpe.tokens],
        "tokenizer.ggml.merges": [f"{a} {b}" for a, b in bpe.merges],
        "tokenizer.ggml.bos_token_id": bpe.id["<|im_start|>"], "tokenizer.ggml.eos_token_id": bpe.id["<|im_end|>"],
        "tokenizer.ggml.padding_token_id": bpe.id["<|im_end|>"], "tokenizer.ggml.add_bos_token": False,
        "tokenizer.chat_template": TEMPLATE,
    }
    out = struct.pack("<IIQQ", 0x46554747, 3, len(w), len(meta))
    out += b"".join(string(k) + value(v) for k, v in meta.items())
    blobs, offset = [], 0
    for name, t in w.items():
        half = t.dim() == 2
        data = t.detach().to(torch.float16 if half else torch.float32).numpy().tobytes()
        shape = tuple(reversed(t.shape))
        out += string(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, 1 if half else 0, offset)
        blobs.append(data + bytes(-len(data) % 32))
        offset += len(blobs[-1])
    out += bytes(-len(out) % 32)
    with open(path, "wb") as f:
        f.write(out + b"".join(blobs))


def main():
    p = argparse.ArgumentParser()
    p.add_argument("out")
    p.add_argument("--seconds", type=float, default=480)
    a = p.parse_args()
    torch.set_num_threads(1)
    r, g = random.Random(1), torch.Generator().manual_seed(1)
    bpe = Bpe("\n".join("".join(t for t, special in document(r) if not special) for _ in range(3000)))
    w = make_weights(g)
    print(f"{sum(t.numel() for t in w.values())} parameters, {len(bpe.merges)} merges")
    train(w, bpe, r, a.seconds)
    write_gguf(a.out, w, bpe)
    for ask in ("Hello!", "Who are you?", "What does the cow eat?", "Tell me about the owl.", "What comes after six?",
                "Tell me a story about a fox.", "Tell me a story about a bee.", "Tell me a story."):
        print(f"> {ask}\n{answer(w, bpe, ask)}")


main()
