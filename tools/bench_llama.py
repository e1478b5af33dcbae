#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""llama.cpp's side of bench_run.py, for the Python in which llama-cpp-python is installed.

usage: bench_llama.py random OUT.gguf                        a random F16 model of Llama 3.2 1B's shape (needs gguf)
       bench_llama.py quantise IN.gguf OUT.gguf pure|usual   Q4_0: every matrix, or as llama.cpp does by itself
       bench_llama.py time MODEL.gguf THREADS PROMPT DECODE  prints {"prefill_tok_s":…,"decode_tok_s":…}
"""
import ctypes, json, os, sys, time


def random_model(path):
    import gguf, numpy
    dim, layers, heads, kv_heads, hidden, vocab = 2048, 16, 32, 8, 8192, 128256
    kv = dim // heads * kv_heads
    w = gguf.GGUFWriter(path + ".tmp", "llama")
    w.add_context_length(8192)
    w.add_embedding_length(dim)
    w.add_block_count(layers)
    w.add_feed_forward_length(hidden)
    w.add_head_count(heads)
    w.add_head_count_kv(kv_heads)
    w.add_layer_norm_rms_eps(1e-5)
    w.add_rope_freq_base(500000.0)
    w.add_rope_dimension_count(dim // heads)
    w.add_vocab_size(vocab)
    w.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    w.add_tokenizer_model("no_vocab")
    block = (numpy.random.default_rng(1).standard_normal(1 << 24, dtype=numpy.float32) * 0.02).astype(numpy.float16)
    made = 0

    def matrix(name, rows, cols):
        nonlocal made
        made += 1
        start = made * 7919 % (1 << 22)  # another part of the block for every matrix
        w.add_tensor(name, numpy.resize(numpy.roll(block, -start), rows * cols).reshape(rows, cols))

    def norm(name):
        w.add_tensor(name, numpy.ones(dim, dtype=numpy.float32))

    matrix("token_embd.weight", vocab, dim)
    for i in range(layers):
        norm(f"blk.{i}.attn_norm.weight")
        norm(f"blk.{i}.ffn_norm.weight")
        for name, rows, cols in (("attn_q", dim, dim), ("attn_k", kv, dim), ("attn_v", kv, dim), ("attn_output", dim, dim),
                                 ("ffn_gate", hidden, dim), ("ffn_up", hidden, dim), ("ffn_down", dim, hidden)):
            matrix(f"blk.{i}.{name}.weight", rows, cols)
    norm("output_norm.weight")
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    os.rename(path + ".tmp", path)


def library():
    import llama_cpp
    llama_cpp.llama_backend_init()
    silent = llama_cpp.llama_log_callback(lambda level, text, data: None)
    llama_cpp.llama_log_set(silent, ctypes.c_void_p(0))
    return llama_cpp, silent


def quantise(source, target, how):
    ll, keep = library()
    p = ll.llama_model_quantize_default_params()
    p.nthread = 0
    p.ftype = ll.LLAMA_FTYPE_MOSTLY_Q4_0
    p.allow_requantize = True
    p.pure = how == "pure"
    if ll.llama_model_quantize(source.encode(), (target + ".tmp").encode(), ctypes.byref(p)):
        sys.exit(f"{source}: llama.cpp could not quantise it")
    os.rename(target + ".tmp", target)


def timing(path, threads, prompt, decode):
    ll, keep = library()
    m = ll.llama_model_load_from_file(path.encode(), ll.llama_model_default_params())
    if not m:
        sys.exit(f"{path}: llama.cpp could not load it")
    p = ll.llama_context_default_params()
    p.n_ctx, p.n_batch, p.n_ubatch, p.n_threads, p.n_threads_batch = 1024, 512, 512, threads, threads
    c = ll.llama_init_from_model(m, p)

    def feed(ids):
        a = (ll.llama_token * len(ids))(*ids)
        if ll.llama_decode(c, ll.llama_batch_get_one(a, len(ids))):
            sys.exit("llama.cpp: decoding failed")
        ll.llama_synchronize(c)

    feed([1, 2, 3, 4])  # pages, buffers, threads
    feed([5])
    ll.llama_memory_clear(ll.llama_get_memory(c), True)
    t0 = time.perf_counter()
    feed(list(range(100, 100 + prompt)))
    t1 = time.perf_counter()
    for i in range(decode):
        feed([100 + i])
    t2 = time.perf_counter()
    print(json.dumps({"prefill_tok_s": prompt / (t1 - t0), "decode_tok_s": decode / (t2 - t1)}))


def main():
    a = sys.argv[1:]
    if len(a) == 2 and a[0] == "random":
        random_model(a[1])
    elif len(a) == 4 and a[0] == "quantise":
        quantise(a[1], a[2], a[3])
    elif len(a) == 5 and a[0] == "time":
        timing(a[1], int(a[2]), int(a[3]), int(a[4]))
    else:
        sys.exit(__doc__)


main()
