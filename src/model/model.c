/* SPDX-License-Identifier: BSD-3-Clause */
#include "model/model.h"

#include "base/arena.h"
#include "base/bytes.h"
#include "base/map.h"
#include "model/params.h"

#include <float.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- names ---- */

/* Who named the tensors: Meta's own code (and the reference), Hugging Face's transformers, or llama.cpp. */
typedef enum scheme { META, HF, GGUF, SCHEMES } scheme;

/* Sizes that shapes are made of. */
typedef enum size { ONE, DIM, QUERY, KEY, HEAD, HIDDEN, VOCAB } size;

typedef enum need { ALWAYS, WITH_BIAS, WITH_QK_NORM } need;

/* A weight's place in anm_model or anm_layer, its shape, the axis along which model-parallel shards cut it
 * (of vectors: none, each shard has all), whether its rows (a vector's values) follow the rotary order, and
 * its names; of the first scheme two, since the reference's converters and its model do not agree. */
typedef struct role {
    size_t at;
    size rows, cols;
    enum { BY_ROWS, BY_COLS, WHOLE } cut;
    bool rotary;
    need need;
    const char *name[SCHEMES], *other;
} role;

/* clang-format off */
#define OUTER(member) offsetof(anm_model, member)
static const role outer_roles[] = {
    {OUTER(tok_embeddings), VOCAB, DIM, BY_ROWS, false, ALWAYS,
     {"tok_embeddings.weight", "model.embed_tokens.weight", "token_embd.weight"}, NULL},
    {OUTER(norm), ONE, DIM, WHOLE, false, ALWAYS, {"norm.weight", "model.norm.weight", "output_norm.weight"}, NULL},
    {OUTER(output), VOCAB, DIM, BY_ROWS, false, ALWAYS, {"output.weight", "lm_head.weight", "output.weight"}, NULL},
};
#undef OUTER

#define LAYER(member) offsetof(anm_layer, member)
static const role layer_roles[] = {
    {LAYER(attention_norm), ONE, DIM, WHOLE, false, ALWAYS,
     {"attention_norm.weight", "input_layernorm.weight", "attn_norm.weight"}, NULL},
    {LAYER(wq), QUERY, DIM, BY_ROWS, true, ALWAYS,
     {"attention.wq.weight", "self_attn.q_proj.weight", "attn_q.weight"}, "attention.wqs.0.weight"},
    {LAYER(wk), KEY, DIM, BY_ROWS, true, ALWAYS,
     {"attention.wk.weight", "self_attn.k_proj.weight", "attn_k.weight"}, "attention.wks.0.weight"},
    {LAYER(wv), KEY, DIM, BY_ROWS, false, ALWAYS,
     {"attention.wv.weight", "self_attn.v_proj.weight", "attn_v.weight"}, "attention.wvs.0.weight"},
    {LAYER(wo), DIM, QUERY, BY_COLS, false, ALWAYS,
     {"attention.wo.weight", "self_attn.o_proj.weight", "attn_output.weight"}, NULL},
    {LAYER(bq), ONE, QUERY, BY_COLS, true, WITH_BIAS,
     {"attention.wq.bias", "self_attn.q_proj.bias", "attn_q.bias"}, "attention.wqs.0.bias"},
    {LAYER(bk), ONE, KEY, BY_COLS, true, WITH_BIAS,
     {"attention.wk.bias", "self_attn.k_proj.bias", "attn_k.bias"}, "attention.wks.0.bias"},
    {LAYER(bv), ONE, KEY, BY_COLS, false, WITH_BIAS,
     {"attention.wv.bias", "self_attn.v_proj.bias", "attn_v.bias"}, "attention.wvs.0.bias"},
    {LAYER(q_norm), ONE, HEAD, WHOLE, true, WITH_QK_NORM,
     {"attention.q_norm_fn.weight", "self_attn.q_norm.weight", "attn_q_norm.weight"}, "attention.q_norm.weight"},
    {LAYER(k_norm), ONE, HEAD, WHOLE, true, WITH_QK_NORM,
     {"attention.k_norm_fn.weight", "self_attn.k_norm.weight", "attn_k_norm.weight"}, "attention.k_norm.weight"},
    {LAYER(ffn_norm), ONE, DIM, WHOLE, false, ALWAYS,
     {"ffn_norm.weight", "post_attention_layernorm.weight", "ffn_norm.weight"}, NULL},
    {LAYER(w1), HIDDEN, DIM, BY_ROWS, false, ALWAYS,
     {"feed_forward.w1.weight", "mlp.gate_proj.weight", "ffn_gate.weight"}, NULL},
    {LAYER(w2), DIM, HIDDEN, BY_COLS, false, ALWAYS,
     {"feed_forward.w2.weight", "mlp.down_proj.weight", "ffn_down.weight"}, NULL},
    {LAYER(w3), HIDDEN, DIM, BY_ROWS, false, ALWAYS,
     {"feed_forward.w3.weight", "mlp.up_proj.weight", "ffn_up.weight"}, NULL},
};
#undef LAYER
/* clang-format on */

static const char *const layer_prefix[SCHEMES] = {"layers.", "model.layers.", "blk."};

/* ---- opening ---- */

typedef struct opener {
    anm_model pub; /* first: anm_model_free finds the rest */
    anm_arena arena;
    anm_origin from;
    scheme scheme;
    bool *used; /* shard 0's tensors that have a role */
} opener;

static int add_note(opener *o, anm_error *err, const char *fmt, ...) ANM_PRINTF(3, 4);
static int add_note(opener *o, anm_error *err, const char *fmt, ...)
{
    char text[400];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    char **note = anm_arena_array(&o->arena, o->pub.n_notes + 1, sizeof *note);
    char *copy = note ? anm_arena_strdup(&o->arena, text) : NULL;
    if (!copy) return anm_fail_memory(err, "a note");
    if (o->pub.n_notes) memcpy(note, o->pub.note, o->pub.n_notes * sizeof *note);
    note[o->pub.n_notes++] = copy;
    o->pub.note = note;
    return 0;
}

static int64_t size_of(const anm_params *p, size s)
{
    switch (s) {
    case DIM: return p->dim;
    case QUERY: return p->n_heads * p->head_dim;
    case KEY: return p->n_kv_heads * p->head_dim;
    case HEAD: return p->head_dim;
    case HIDDEN: return p->hidden_dim;
    case VOCAB: return p->vocab_size;
    default: return 1;
    }
}

static int find_scheme(opener *o, anm_error *err)
{
    const anm_ckpt *c = o->pub.ckpt;
    for (scheme s = META; s < SCHEMES; s++) {
        char norm[96];
        snprintf(norm, sizeof norm, "%s0.%s", layer_prefix[s], layer_roles[0].name[s]);
        if (!anm_ckpt_find(c, 0, outer_roles[0].name[s]) && !anm_ckpt_find(c, 0, norm)) continue;
        o->scheme = s;
        return 0;
    }
    return anm_fail(err, ANM_ERR_UNSUPPORTED, "%s: no Llama model: it holds no tensor %s, %s or %s",
                    anm_ckpt_path(c), outer_roles[0].name[META], outer_roles[0].name[HF],
                    outer_roles[0].name[GGUF]);
}

/* Room for a tensor's name: the prefix, a number, the longest of the table. */
enum { NAME = 96 };

static void full_name(char *out, scheme s, int64_t layer, const char *name)
{
    if (layer < 0)
        snprintf(out, NAME, "%s", name);
    else
        snprintf(out, NAME, "%s%lld.%s", layer_prefix[s], (long long)layer, name);
}

/* A role's tensor in a shard, or NULL; `name` gets the name tried first. */
static const anm_tensor *find_role(opener *o, unsigned shard, const role *r, int64_t layer, char *name)
{
    char other[NAME];
    full_name(name, o->scheme, layer, r->name[o->scheme]);
    const anm_tensor *t = anm_ckpt_find(o->pub.ckpt, shard, name);
    if (!t && r->other && o->scheme == META) {
        full_name(other, META, layer, r->other);
        t = anm_ckpt_find(o->pub.ckpt, shard, other);
    }
    if (t && shard == 0) o->used[t - anm_ckpt_at(o->pub.ckpt, 0, 0)] = true;
    return t;
}

static void show_shape(char *out, size_t room, const anm_tensor *t)
{
    int n = snprintf(out, room, "[");
    for (int k = 0; k < t->rank && n > 0 && (size_t)n < room; k++)
        n += snprintf(out + n, room - (size_t)n, "%s%lld", k ? ", " : "", (long long)t->shape[k]);
    if (n > 0 && (size_t)n < room) snprintf(out + n, room - (size_t)n, "]");
}

static int check_tensor(const anm_tensor *t, int64_t rows, int64_t cols, bool vector, anm_error *err)
{
    bool fits = vector ? t->rank == 1 && t->shape[0] == cols
                       : t->rank == 2 && t->shape[0] == rows && t->shape[1] == cols;
    if (!fits) {
        char have[200], want[64];
        show_shape(have, sizeof have, t);
        if (vector)
            snprintf(want, sizeof want, "[%lld]", (long long)cols);
        else
            snprintf(want, sizeof want, "[%lld, %lld]", (long long)rows, (long long)cols);
        return anm_fail(err, ANM_ERR_FORMAT,
                        "%s: tensor '%s' has the shape %s where the parameters ask for %s", t->file, t->name,
                        have, want);
    }
    uint64_t bytes;
    if (!anm_dtype_size(t->dtype, (uint64_t)rows * (uint64_t)cols, &bytes) || bytes > t->size)
        return anm_fail(err, ANM_ERR_FORMAT, "%s: tensor '%s' has %llu bytes for the shape [%lld, %lld]: its elements are repeated", t->file,
                        t->name, (unsigned long long)t->size, (long long)rows, (long long)cols);
    if (!anm_tensor_readable(t) || (vector && anm_dtype_class(t->dtype) == 'q'))
        return anm_fail(err, ANM_ERR_UNSUPPORTED, "%s: tensor '%s' is of type %s, which is not read as a %s",
                        t->file, t->name, anm_dtype_name(t->dtype), vector ? "vector" : "weight");
    return 0;
}

/* Meta's older models cut the embedding by columns, the newer by rows. */
static bool cut_by_cols(const opener *o, const role *r, const anm_tensor *t, unsigned shards)
{
    if (r->rows != VOCAB || t->rank != 2 || shards < 2) return r->cut == BY_COLS;
    return t->shape[1] != o->pub.params.dim;
}

/* Finds a role's tensor in every shard, checks shapes, and describes the whole. */
static int take(opener *o, anm_matrix *m, const role *r, int64_t layer, anm_error *err)
{
    const anm_params *p = &o->pub.params;
    char name[NAME];
    const unsigned shards = r->cut == WHOLE ? 1 : anm_ckpt_shards(o->pub.ckpt);
    bool vector = r->rows == ONE;
    *m = (anm_matrix){.rows = size_of(p, r->rows), .cols = size_of(p, r->cols), .n_parts = (uint8_t)shards};
    int64_t rows = m->rows, cols = m->cols;
    for (unsigned s = 0; s < shards; s++) {
        const anm_tensor *t = find_role(o, s, r, layer, name);
        if (!t) {
            const anm_tensor *any = anm_ckpt_count(o->pub.ckpt, s) ? anm_ckpt_at(o->pub.ckpt, s, 0) : NULL;
            return anm_fail(err, ANM_ERR_FORMAT, "%s: tensor '%s' is missing",
                            any ? any->file : anm_ckpt_path(o->pub.ckpt), name);
        }
        if (s == 0) {
            m->split_dim = cut_by_cols(o, r, t, shards);
            int64_t *cut = m->split_dim ? &cols : &rows;
            if (*cut % (int64_t)shards)
                return anm_fail(err, ANM_ERR_FORMAT, "%s: %u shards cannot share the %lld %s of '%s'",
                                t->file, shards, (long long)*cut, m->split_dim ? "columns" : "rows", name);
            *cut /= (int64_t)shards;
        }
        int rc = check_tensor(t, rows, cols, vector, err);
        if (rc) return rc;
        m->part[s] = t;
    }
    if (r->rotary && (o->scheme == HF || o->from.halves) && !p->use_hf_rope)
        m->unpermute_heads = (vector ? m->cols : m->rows) / p->head_dim;
    if (m->unpermute_heads && vector && cols % p->head_dim)
        return anm_fail(err, ANM_ERR_UNSUPPORTED, "%s: %u shards cut '%s' inside a head", m->part[0]->file, shards, name);
    return 0;
}

static bool is_needed(const anm_params *p, need n)
{
    return n == ALWAYS || (n == WITH_BIAS && p->attention_qkv_bias) || (n == WITH_QK_NORM && p->use_qk_norm);
}

/* "vocab_size": -1 stands for as many as the embedding has. */
static int find_vocab(opener *o, anm_error *err)
{
    if (o->pub.params.vocab_size != -1) return 0;
    char name[NAME];
    const role *r = &outer_roles[0];
    const anm_tensor *t = find_role(o, 0, r, -1, name);
    unsigned shards = anm_ckpt_shards(o->pub.ckpt);
    if (!t)
        return anm_fail(err, ANM_ERR_FORMAT, "%s: tensor '%s' is missing", anm_ckpt_path(o->pub.ckpt), name);
    if (t->rank == 2 && t->shape[0] > 0 && t->shape[0] < 1 << 24)
        o->pub.params.vocab_size = t->shape[0] * (cut_by_cols(o, r, t, shards) ? 1 : (int64_t)shards);
    return 0; /* a broken shape is named when the tensor is taken */
}

/* The head is the embedding where the checkpoint's kind leaves a shared one out, or its configuration says
 * so. */
static bool head_is_embedding(opener *o)
{
    char name[NAME];
    bool there = find_role(o, 0, &outer_roles[2], -1, name) != NULL;
    if (o->scheme == HF) return o->from.tied || (!there && !o->from.untied);
    return o->scheme == GGUF && !there;
}

/* Llama 3's scaling in a GGUF file: a divisor for each frequency. Parameters from elsewhere that ask for scaling mean
 * the same one, and it is done once. */
static int take_rope_freqs(opener *o, anm_error *err)
{
    const anm_tensor *t = o->scheme == GGUF ? anm_ckpt_find(o->pub.ckpt, 0, "rope_freqs.weight") : NULL;
    if (!t) return 0;
    int64_t n = o->pub.params.head_dim / 2;
    o->used[t - anm_ckpt_at(o->pub.ckpt, 0, 0)] = true;
    int rc = check_tensor(t, 1, n, true, err);
    if (rc) return rc;
    float *f = anm_arena_array(&o->arena, (size_t)n, sizeof *f);
    if (!f) return anm_fail_memory(err, "the model");
    rc = anm_tensor_rows_f32(f, t, 0, 1, err);
    for (int64_t i = 0; !rc && i < n; i++)
        if (!(f[i] > 0 && f[i] <= FLT_MAX))
            rc = anm_fail(err, ANM_ERR_FORMAT, "%s: tensor '%s' holds %g at [%lld]; a factor is positive and finite", t->file, t->name,
                          (double)f[i], (long long)i);
    o->pub.rope_freqs = f;
    if (!rc && o->pub.params.use_scaled_rope)
        rc = add_note(o, err, "RoPE is scaled by the file's rope_freqs.weight, and not by what the parameters say besides");
    o->pub.params.use_scaled_rope = o->pub.params.scaling_unsaid = o->from.factor_assumed = false;
    if (rc) return rc;
    float *angle = anm_arena_array(&o->arena, (size_t)n * 4, sizeof *angle); /* so wide where halves rotate */
    return angle ? anm_rope_rows(angle, angle + 2 * n, &o->pub, 1, 1, err) : anm_fail_memory(err, "the model");
}

static int take_weights(opener *o, anm_error *err)
{
    anm_model *m = &o->pub;
    char name[NAME];
    int rc = find_vocab(o, err);
    bool tied = head_is_embedding(o);
    for (size_t i = 0; !rc && i < sizeof outer_roles / sizeof *outer_roles; i++) {
        const role *r = &outer_roles[i];
        anm_matrix *at = (anm_matrix *)(void *)((char *)m + r->at);
        if (at == &m->output && tied)
            *at = m->tok_embeddings;
        else
            rc = take(o, at, r, -1, err);
    }
    /* Parameters may claim any number of layers: memory is taken only for those whose first tensor is there.
     */
    for (int64_t k = 0; !rc && k < m->params.n_layers; k++)
        if (!find_role(o, 0, &layer_roles[0], k, name))
            rc = anm_fail(err, ANM_ERR_FORMAT, "%s: tensor '%s' is missing", anm_ckpt_path(m->ckpt), name);
    if (rc) return rc;
    m->layers = anm_arena_array(&o->arena, (size_t)m->params.n_layers, sizeof *m->layers);
    if (!m->layers) return anm_fail_memory(err, "the model");
    for (int64_t k = 0; !rc && k < m->params.n_layers; k++) {
        for (size_t i = 0; !rc && i < sizeof layer_roles / sizeof *layer_roles; i++) {
            const role *r = &layer_roles[i];
            if (is_needed(&m->params, r->need))
                rc = take(o, (anm_matrix *)(void *)((char *)&m->layers[k] + r->at), r, k, err);
        }
    }
    return rc ? rc : take_rope_freqs(o, err);
}

/* The reference ignores what it does not expect, in checkpoints of its own form. In the other forms a bias
 * that no role takes means a feature that the parameters were silent about, and the answers would be wrong.
 */
static int refuse_bias(const opener *o, const anm_tensor *t, anm_error *err)
{
    size_t n = strlen(t->name);
    if (o->scheme == META || n < 5 || strcmp(t->name + n - 5, ".bias")) return 0;
    return anm_fail(err, ANM_ERR_UNSUPPORTED, "%s: tensor '%s' is a bias that is not exported", t->file,
                    t->name);
}

static int list_unexpected(opener *o, anm_error *err)
{
    size_t count = anm_ckpt_count(o->pub.ckpt, 0);
    o->pub.unexpected = anm_arena_array(&o->arena, count, sizeof *o->pub.unexpected);
    if (!o->pub.unexpected) return anm_fail_memory(err, "the model");
    for (size_t i = 0; i < count; i++) {
        if (o->used[i]) continue;
        int rc = refuse_bias(o, anm_ckpt_at(o->pub.ckpt, 0, i), err);
        if (rc) return rc;
        char *name = anm_arena_strdup(&o->arena, anm_ckpt_at(o->pub.ckpt, 0, i)->name);
        if (!name) return anm_fail_memory(err, "the model");
        o->pub.unexpected[o->pub.n_unexpected++] = name;
    }
    return 0;
}

static int read_params(opener *o, const char *path, anm_error *err)
{
    const anm_ckpt *c = o->pub.ckpt;
    if (!path && anm_ckpt_gguf(c)) {
        int rc = anm_params_of_gguf(&o->pub.params, &o->from, anm_ckpt_gguf(c), err);
        return rc ? anm_error_prefix(err, anm_ckpt_path(c)) : 0;
    }
    bool found = !path;
    if (found) path = anm_ckpt_config_path(c);
    if (!path)
        return anm_fail(err, ANM_ERR_USAGE,
                        "%s: no params.json or config.json lies beside it; name the parameters with -p",
                        anm_ckpt_path(c));
    anm_map m;
    int rc = found ? anm_map_open_found(&m, path, err) : anm_map_open(&m, path, err);
    if (rc) return rc;
    rc = anm_params_read(&o->pub.params, &o->from, (const char *)m.data, (size_t)m.size, err);
    anm_map_close(&m);
    if (rc) return anm_error_prefix(err, path);
    if (anm_ckpt_gguf(c)) { /* the rows' order stands in the GGUF whoever gives the parameters */
        anm_params unused;
        anm_origin from;
        rc = anm_params_of_gguf(&unused, &from, anm_ckpt_gguf(c), err);
        if (rc) return anm_error_prefix(err, anm_ckpt_path(c));
        o->from.halves = from.halves;
    }
    return 0;
}

static int note_oddities(opener *o, anm_error *err)
{
    const anm_params *p = &o->pub.params;
    bool small = (p->dim == 2048 && p->n_layers == 16) || (p->dim == 3072 && p->n_layers == 28);
    int rc = 0;
    if (o->from.factor_assumed && small && p->vocab_size == 128256)
        rc = add_note(o, err,
                      "use_scaled_rope without rope_scale_factor means 8, as in the reference; this looks "
                      "like Llama 3.2, "
                      "whose factor is 32: add \"rope_scale_factor\": 32 to the parameters");
    if (!rc && p->use_scaled_rope && p->use_hf_rope)
        rc = add_note(o, err, "use_scaled_rope has no effect together with use_hf_rope, as in the reference");
    return rc;
}

int anm_model_open(anm_model **out, const anm_ckpt *ckpt, const char *params_path, anm_error *err)
{
    *out = NULL;
    opener *o = calloc(1, sizeof *o);
    if (!o) return anm_fail_memory(err, "the model");
    anm_arena_init(&o->arena);
    o->pub.ckpt = ckpt;
    int rc = read_params(o, params_path, err);
    if (!rc && anm_ckpt_shards(ckpt) > sizeof o->pub.norm.part / sizeof *o->pub.norm.part)
        rc = anm_fail(err, ANM_ERR_LIMIT, "%s: %u model-parallel shards; at most %zu are read",
                      anm_ckpt_path(ckpt), anm_ckpt_shards(ckpt),
                      sizeof o->pub.norm.part / sizeof *o->pub.norm.part);
    if (!rc) rc = find_scheme(o, err);
    if (!rc && o->scheme == GGUF && !o->from.halves && o->pub.params.use_hf_rope)
        rc = anm_fail(err, ANM_ERR_UNSUPPORTED,
                      "%s: use_hf_rope, but the file's rows are in the order of pairs", anm_ckpt_path(ckpt));
    if (!rc) {
        o->used = anm_arena_array(&o->arena, anm_ckpt_count(ckpt, 0), sizeof *o->used);
        rc = o->used ? take_weights(o, err) : anm_fail_memory(err, "the model");
    }
    if (!rc) rc = list_unexpected(o, err);
    if (!rc) rc = note_oddities(o, err);
    if (rc)
        anm_model_free(&o->pub);
    else
        *out = &o->pub;
    return rc;
}

void anm_model_free(anm_model *m)
{
    if (!m) return;
    opener *o = (opener *)(void *)m;
    anm_arena_free(&o->arena);
    free(o);
}
