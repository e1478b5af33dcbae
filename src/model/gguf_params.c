/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Parameters from a GGUF file's metadata. Keys are "ARCHITECTURE.name". Source: ggml-org/ggml, docs/gguf.md;
 * the order of q and k rows (pairs for llama, halves for qwen) from ggml-org/llama.cpp's converter.
 */
#include "model/params.h"

#include "ckpt/gguf.h"

#include <stdio.h>
#include <string.h>

typedef struct source {
    const anm_gguf *g;
    const char *arch;
    char key[96];
} source;

static const char *key_of(source *s, const char *name)
{
    snprintf(s->key, sizeof s->key, "%s.%s", s->arch, name);
    return s->key;
}

static bool same_text(const char *text, size_t n, const char *want)
{
    return n == strlen(want) && !memcmp(text, want, n);
}

/* A size; an array of one value per layer is allowed when all are the same. */
static int read_size(int64_t *out, source *s, const char *name, bool needed, anm_error *err)
{
    const char *key = key_of(s, name);
    size_t n;
    if (anm_gguf_array(s->g, key, &n) && n) {
        int64_t first = 0, v = 0;
        if (!anm_gguf_array_int(s->g, key, 0, &first))
            return anm_fail(err, ANM_ERR_FORMAT, "%s holds no whole numbers", key);
        for (size_t i = 1; i < n; i++)
            if (!anm_gguf_array_int(s->g, key, i, &v) || v != first)
                return anm_fail(err, ANM_ERR_UNSUPPORTED, "%s differs between layers", key);
        *out = first;
        return 0;
    }
    if (needed && !anm_gguf_kind(s->g, key)) return anm_fail(err, ANM_ERR_FORMAT, "lacks %s", key);
    return anm_gguf_read_int(out, s->g, key, err);
}

/* As ggml-org/llama.cpp reads these keys: no type means "linear", no factor or 0 means none, the newer name of the
 * factor goes before the older, and "none" makes the factor void but not the one on the attention. */
static int refuse_scaling(source *s, anm_error *err)
{
    const char *type = "linear";
    size_t n = strlen(type);
    double factor = 0, old_factor = 0, attention = 1;
    int rc = anm_gguf_read_string(&type, &n, s->g, key_of(s, "rope.scaling.type"), err);
    if (!rc) rc = anm_gguf_read_float(&attention, s->g, key_of(s, "rope.scaling.attn_factor"), err);
    if (!rc) rc = anm_gguf_read_float(&old_factor, s->g, key_of(s, "rope.scale_linear"), err);
    if (!rc) rc = anm_gguf_read_float(&factor, s->g, key_of(s, "rope.scaling.factor"), err);
    if (rc) return rc;
    if (!anm_gguf_kind(s->g, s->key)) factor = old_factor;
    bool none = same_text(type, n, "none");
    if (!none && !same_text(type, n, "linear"))
        return anm_fail(err, ANM_ERR_UNSUPPORTED, "RoPE scaling of type %.*s is not exported",
                        (int)(n < 32 ? n : 32), type);
    if (!none && factor != 0 && factor != 1)
        return anm_fail(err, ANM_ERR_UNSUPPORTED, "rope.scaling.factor %g: linear RoPE scaling is not exported",
                        factor);
    if (attention != 1)
        return anm_fail(err, ANM_ERR_UNSUPPORTED, "rope.scaling.attn_factor %g is not exported", attention);
    return 0;
}

static int refuse_features(source *s, const anm_params *p, anm_error *err)
{
    int64_t experts = 0, window = 0, rotated = p->head_dim, values = p->head_dim, parts = 0;
    double scale = 0;
    int rc = anm_gguf_read_int(&experts, s->g, key_of(s, "expert_count"), err);
    if (!rc) rc = anm_gguf_read_int(&window, s->g, key_of(s, "attention.sliding_window"), err);
    if (!rc) rc = anm_gguf_read_int(&rotated, s->g, key_of(s, "rope.dimension_count"), err);
    if (!rc) rc = anm_gguf_read_int(&values, s->g, key_of(s, "attention.value_length"), err);
    if (!rc) rc = anm_gguf_read_int(&parts, s->g, "split.count", err);
    if (!rc) rc = anm_gguf_read_float(&scale, s->g, key_of(s, "logit_scale"), err);
    if (rc) return rc;
    if (experts)
        return anm_fail(err, ANM_ERR_UNSUPPORTED, "is a mixture of %lld experts, which is not exported",
                        (long long)experts);
    if (window)
        return anm_fail(err, ANM_ERR_UNSUPPORTED, "sliding_window: attention over a window is not exported");
    if (rotated != p->head_dim)
        return anm_fail(err, ANM_ERR_UNSUPPORTED,
                        "rotates %lld of each head's %lld values; only whole heads are rotated",
                        (long long)rotated, (long long)p->head_dim);
    if (values != p->head_dim)
        return anm_fail(err, ANM_ERR_UNSUPPORTED, "has values of another length than keys");
    if (parts > 1)
        return anm_fail(err, ANM_ERR_UNSUPPORTED, "is one of %lld parts of a GGUF file; merge them first",
                        (long long)parts);
    if (scale != 0) return anm_fail(err, ANM_ERR_UNSUPPORTED, "logit_scale is not exported");
    return refuse_scaling(s, err);
}

int anm_params_of_gguf(anm_params *out, anm_origin *from, const anm_gguf *g, anm_error *err)
{
    static const char *const known[] = {"llama", "qwen2", "qwen3"};
    source s = {.g = g};
    const char *text = "(none)";
    size_t n = strlen(text);
    anm_gguf_string(g, "general.architecture", &text, &n);
    for (int i = 0; i < 3; i++)
        if (same_text(text, n, known[i])) s.arch = known[i];
    if (!s.arch)
        return anm_fail(err, ANM_ERR_UNSUPPORTED,
                        "architecture %.*s is not exported; llama, qwen2 and qwen3 are",
                        (int)(n < 64 ? n : 64), text);
    anm_params p = anm_params_default();
    *from = (anm_origin){.halves = strcmp(s.arch, "llama") != 0};
    p.vocab_size = -1; /* the embedding's rows; metadata counts a tokenizer's tokens, which may be fewer */
    int rc = read_size(&p.dim, &s, "embedding_length", true, err);
    if (!rc) rc = read_size(&p.n_layers, &s, "block_count", true, err);
    if (!rc) rc = read_size(&p.n_heads, &s, "attention.head_count", true, err);
    if (!rc) rc = read_size(&p.n_kv_heads, &s, "attention.head_count_kv", false, err);
    if (!rc) rc = read_size(&p.hidden_dim, &s, "feed_forward_length", true, err);
    if (!rc) rc = read_size(&p.head_dim, &s, "attention.key_length", false, err);
    if (!rc) rc = anm_gguf_read_float(&p.rope_theta, g, key_of(&s, "rope.freq_base"), err);
    if (!rc) rc = anm_gguf_read_float(&p.norm_eps, g, key_of(&s, "attention.layer_norm_rms_epsilon"), err);
    if (rc) return rc;
    if (!anm_gguf_kind(g, s.key)) return anm_fail(err, ANM_ERR_FORMAT, "lacks %s", s.key);
    p.attention_qkv_bias = !strcmp(s.arch, "qwen2");
    p.use_qk_norm = p.qk_norm_before_rope = !strcmp(s.arch, "qwen3");
    rc = anm_params_finish(&p, err);
    if (!rc) rc = refuse_features(&s, &p, err);
    *out = p;
    return rc;
}
