/* SPDX-License-Identifier: BSD-3-Clause */
/* The plan: what is wanted, held against what the model is. All refusals that depend on both are here. */
#include "graph/parts.h"
#include "base/bytes.h"
#include "base/half.h"
#include "base/limits.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

anm_recipe anm_recipe_default(void)
{
    return (anm_recipe){.type = ANM_DT_F16, .max_context_len = 1024, .input_len = 32, .cache_len = -1, .graph_breaks = true,
                        .split_size = 1024, .max_splits = 8, .linear_bits = 4, .embedding_bits = 8};
}

static bool is_deprecated(const anm_graph *g)
{
    return g->recipe.form == ANM_FORM_DEPRECATED;
}

static const char *file_of(const anm_graph *g)
{
    return anm_ckpt_path(g->model->ckpt);
}

/* ---- lengths ---- */

static int plan_methods(anm_graph *g, anm_error *err)
{
    anm_recipe *r = &g->recipe;
    if (r->max_context_len < 1) return anm_fail(err, ANM_ERR_USAGE, "--max_context_len: must be 1 or more, not %lld", (long long)r->max_context_len);
    if (r->max_context_len > INT32_MAX) return anm_fail(err, ANM_ERR_USAGE, "--max_context_len: %lld is more than a program can hold", (long long)r->max_context_len);
    if (r->input_len < 1) return anm_fail(err, ANM_ERR_USAGE, "--input_len: must be 1 or more, not %lld", (long long)r->input_len);
    if (r->input_len > r->max_context_len)
        return anm_fail(err, ANM_ERR_USAGE, "--input_len: %lld is more than --max_context_len, %lld; take fewer, or a longer context",
                        (long long)r->input_len, (long long)r->max_context_len);
    if (r->input_len > ANM_ROWS_LIMIT)
        return anm_fail(err, ANM_ERR_USAGE, "--input_len: %lld is more than a step can have, %d", (long long)r->input_len, ANM_ROWS_LIMIT);
    int64_t decoding = r->multifunction ? 1 : r->input_len, longest = r->max_context_len - decoding;
    if (r->cache_len > longest)
        return anm_fail(err, ANM_ERR_USAGE, "--cache_len: %lld is more than the context leaves beside a step of %lld, which is %lld",
                        (long long)r->cache_len, (long long)decoding, (long long)longest);
    if (r->cache_len < 0) r->cache_len = longest;
    if (r->cache_len > ANM_CACHE_LIMIT)
        return anm_fail(err, ANM_ERR_USAGE, "--cache_len: %lld is more than a cache can have, %d; take fewer, or a shorter context",
                        (long long)r->cache_len, ANM_CACHE_LIMIT);
    if (!r->multifunction) {
        g->method[g->n_methods++] = (anm_graph_method){"forward", "main", r->input_len, r->logits == ANM_LOGITS_LAST};
        return 0;
    }
    g->method[g->n_methods++] = (anm_graph_method){"forward", "forward", 1, true};
    g->method[g->n_methods++] = (anm_graph_method){"prefill", "prefill", r->input_len, r->logits != ANM_LOGITS_ALL};
    return 0;
}

/* The safe norm holds the root of the epsilon, which must be an fp16 number. */
static int check_norm(const anm_graph *g, anm_error *err)
{
    const double most = 1e9;
    if (g->recipe.norm != ANM_NORM_SAFE || g->model->params.norm_eps <= most) return 0;
    return anm_fail(err, ANM_ERR_UNSUPPORTED, "%s: --norm safe cannot hold a norm_eps of %g; leave it out", file_of(g),
                    g->model->params.norm_eps);
}

/* What no engine would take. */
static int check_model(const anm_graph *g, anm_error *err)
{
    const anm_params *p = &g->model->params;
    if (p->n_layers <= ANM_LAYERS_LIMIT && p->n_kv_heads <= ANM_HEADS_LIMIT && p->head_dim <= ANM_HEAD_LIMIT) return 0;
    return anm_fail(err, ANM_ERR_UNSUPPORTED, "%s: %lld layers of %lld key heads of %lld are more than a program can hold (%d, %d and %d)",
                    file_of(g), (long long)p->n_layers, (long long)p->n_kv_heads, (long long)p->head_dim, ANM_LAYERS_LIMIT,
                    ANM_HEADS_LIMIT, ANM_HEAD_LIMIT);
}

/* ---- small weights ---- */

/* A vector in the recipe's type. Where it goes by heads and those are wanted in halves, `halves` is the heads' size. */
static int read_vector(const uint8_t **out, anm_graph *g, const anm_matrix *m, int64_t halves, anm_error *err)
{
    *out = NULL;
    if (!m->rows) return 0;
    anm_weight w = {.matrix = m, .rows = m->rows, .type = g->recipe.type};
    uint64_t size = anm_weight_size(&w, ANM_WEIGHT_DATA), width = anm_dtype_bytes(w.type), head = (uint64_t)halves * width;
    uint8_t *data = anm_arena_alloc(&g->arena, size), *mixed = anm_arena_alloc(&g->arena, size);
    if (!data || !mixed) return anm_fail_memory(err, "a small weight");
    int rc = anm_weight_make(data, NULL, &w, 0, w.rows, err);
    *out = data;
    if (rc || !halves) return rc;
    *out = mixed;
    for (uint64_t at = 0; at + head <= size; at += head)
        for (uint64_t i = 0; i < (uint64_t)halves; i++)
            memcpy(mixed + at + (i / 2 + i % 2 * ((uint64_t)halves / 2)) * width, data + at + i * width, width);
    return 0;
}

/* The lean graph turns halves of heads; where the model turns neighbours, rows of wq and wk are put in that order. */
static int64_t halves_of(const anm_graph *g)
{
    return g->recipe.lean && !g->model->params.use_hf_rope ? g->model->params.head_dim : 0;
}

/* ---- large weights ---- */

/* The reference's count. */
static int64_t count_parts(const anm_recipe *r, int64_t rows)
{
    int64_t n = r->split_size ? rows / r->split_size : 1;
    if (n < 1) n = 1;
    return n > r->max_splits ? r->max_splits : n;
}

/* The nearest smaller count that divides. */
static int fit_parts(int64_t *n, anm_graph *g, const char *name, int64_t rows, anm_error *err)
{
    int64_t asked = *n;
    while (rows % *n) --*n;
    if (*n == asked || g->fitted) return 0;
    g->fitted = anm_arena_printf(&g->arena, "the %lld rows of %s, and others like it, split into %lld, since they do not into %lld",
                                 (long long)rows, name, (long long)*n, (long long)asked);
    return g->fitted ? 0 : anm_fail_memory(err, "a plan of weights");
}

static int fail_split(const anm_graph *g, const char *name, int64_t rows, int64_t n, anm_error *err)
{
    char fits[96];
    size_t used = 0;
    for (int64_t c = 1; c <= g->recipe.max_splits && c <= rows; c++) {
        if (rows % c) continue;
        if (used + 12 > sizeof fits) break;
        used += (size_t)snprintf(fits + used, sizeof fits - used, used ? ", %lld" : "%lld", (long long)c);
    }
    return anm_fail(err, ANM_ERR_UNSUPPORTED, "%s: the %lld rows of %s do not split into %lld (--target_split_size %lld, --max_splits %lld); "
                    "counts that fit are %s%s", file_of(g), (long long)rows, name, (long long)n,
                    (long long)g->recipe.split_size, (long long)g->recipe.max_splits, fits,
                    is_deprecated(g) ? "" : "; or take --split_fit");
}

static int plan_linear(anm_linear *out, anm_graph *g, const char *name, const anm_matrix *m, const anm_matrix *bias,
                       int64_t halves, anm_error *err)
{
    const anm_recipe *r = &g->recipe;
    int64_t n = count_parts(r, m->rows), group = r->linear_group ? r->linear_group : m->cols;
    int rc = r->split_fit ? fit_parts(&n, g, name, m->rows, err) : 0;
    if (rc) return rc;
    if (m->rows % n) return fail_split(g, name, m->rows, n, err);
    if (r->linear_bits && m->cols % group)
        return anm_fail(err, ANM_ERR_UNSUPPORTED, "%s: the %lld columns of %s are no multiple of %lld, the block of --%s b4w; take c4w",
                        file_of(g), (long long)m->cols, name, (long long)group, is_deprecated(g) ? "coreml-quantize" : "linear_quantize");
    out->matrix = m;
    out->part = anm_arena_array(&g->arena, (size_t)n, sizeof *out->part);
    if (!out->part) return anm_fail_memory(err, "a plan of weights");
    for (int64_t rows = m->rows / n; out->n_parts < n; out->n_parts++)
        out->part[out->n_parts] = (anm_weight){.matrix = m, .row = out->n_parts * rows, .rows = rows, .bits = r->linear_bits,
                                               .group = group, .halves = halves, .type = r->type};
    return bias ? read_vector(&out->bias, g, bias, halves, err) : 0;
}

static int plan_layer(anm_graph *g, int64_t i, anm_error *err)
{
    const anm_layer *m = g->model->layers + i;
    anm_graph_layer *l = g->layers + i;
    int64_t halves = halves_of(g);
    const struct {
        anm_linear *to;
        const char *name;
        const anm_matrix *matrix, *bias;
        int64_t halves;
    } linears[] = {
        {&l->wq, "attention.wq", &m->wq, &m->bq, halves}, {&l->wk, "attention.wk", &m->wk, &m->bk, halves},
        {&l->wv, "attention.wv", &m->wv, &m->bv, 0},      {&l->wo, "attention.wo", &m->wo, NULL, 0},
        {&l->w1, "feed_forward.w1", &m->w1, NULL, 0},     {&l->w2, "feed_forward.w2", &m->w2, NULL, 0},
        {&l->w3, "feed_forward.w3", &m->w3, NULL, 0},
    };
    int rc = read_vector(&l->attention_norm, g, &m->attention_norm, 0, err);
    if (!rc) rc = read_vector(&l->ffn_norm, g, &m->ffn_norm, 0, err);
    if (!rc) rc = read_vector(&l->q_norm, g, &m->q_norm, halves, err);
    if (!rc) rc = read_vector(&l->k_norm, g, &m->k_norm, halves, err);
    for (size_t k = 0; k < sizeof linears / sizeof *linears && !rc; k++) {
        char name[64];
        snprintf(name, sizeof name, "layers.%lld.%s", (long long)i, linears[k].name);
        rc = plan_linear(linears[k].to, g, name, linears[k].matrix, linears[k].bias,
                         linears[k].halves, err);
    }
    return rc;
}

static int plan_weights(anm_graph *g, anm_error *err)
{
    const anm_recipe *r = &g->recipe;
    const anm_model *m = g->model;
    bool whole = is_deprecated(g) && !r->split_size;
    if (r->split_size < 1 && !whole) return anm_fail(err, ANM_ERR_USAGE, "--target_split_size: must be 1 or more, not %lld", (long long)r->split_size);
    if (r->max_splits < 1) return anm_fail(err, ANM_ERR_USAGE, "--max_splits: must be 1 or more, not %lld", (long long)r->max_splits);
    int64_t dim = m->tok_embeddings.cols, group = r->embedding_group ? r->embedding_group : dim;
    if (r->embedding_bits && dim % group)
        return anm_fail(err, ANM_ERR_UNSUPPORTED, "%s: the width of the embedding, %lld, is no multiple of %lld; take --embedding_quantize %u,0",
                        file_of(g), (long long)dim, (long long)group, r->embedding_bits);
    g->embedding = (anm_weight){.matrix = &m->tok_embeddings, .rows = m->tok_embeddings.rows, .bits = r->embedding_bits,
                                .group = group, .type = r->type};
    g->layers = anm_arena_array(&g->arena, (size_t)m->params.n_layers, sizeof *g->layers);
    if (!g->layers) return anm_fail_memory(err, "a plan of weights");
    int rc = 0;
    for (int64_t i = 0; i < m->params.n_layers && !rc; i++) rc = plan_layer(g, i, err);
    if (!rc) rc = read_vector(&g->norm, g, &m->norm, 0, err);
    if (!rc) rc = plan_linear(&g->output, g, "output", &m->output, NULL, 0, err);
    return rc;
}

/* ---- pieces ---- */

static uint64_t linear_bytes(const anm_linear *l)
{
    uint64_t sum = 0;
    for (int32_t i = 0; i < l->n_parts; i++)
        sum += anm_weight_size(l->part + i, ANM_WEIGHT_DATA) + anm_weight_size(l->part + i, ANM_WEIGHT_SCALE);
    return sum;
}

static uint64_t layer_bytes(const anm_graph_layer *l)
{
    return linear_bytes(&l->wq) + linear_bytes(&l->wk) + linear_bytes(&l->wv) + linear_bytes(&l->wo) + linear_bytes(&l->w1) +
           linear_bytes(&l->w2) + linear_bytes(&l->w3);
}

/* Layers [first, end) of the next piece: as many as fit. */
static int64_t fill_piece(const anm_graph *g, int64_t first)
{
    uint64_t limit = (uint64_t)g->recipe.max_piece_bytes, sum = layer_bytes(g->layers + first);
    int64_t n = g->model->params.n_layers, end = first + 1;
    while (end < n && (!limit || sum + layer_bytes(g->layers + end) <= limit)) sum += layer_bytes(g->layers + end++);
    return end;
}

static int plan_pieces(anm_graph *g, anm_error *err)
{
    int64_t n = g->model->params.n_layers;
    g->pieces = anm_arena_array(&g->arena, (size_t)n + 2, sizeof *g->pieces);
    if (!g->pieces) return anm_fail_memory(err, "a plan of pieces");
    if (!g->recipe.graph_breaks) {
        g->pieces[g->n_pieces++] = (anm_graph_piece){true, true, 0, n};
        return 0;
    }
    g->pieces[g->n_pieces++] = (anm_graph_piece){.embeds = true};
    for (int64_t first = 0; first < n;) {
        int64_t end = fill_piece(g, first);
        g->pieces[g->n_pieces++] = (anm_graph_piece){.first = first, .end = end};
        first = end;
    }
    g->pieces[g->n_pieces++] = (anm_graph_piece){.gives_logits = true, .first = n, .end = n};
    return 0;
}

int anm_graph_plan(anm_graph *g, const anm_model *model, const anm_recipe *recipe, anm_error *err)
{
    *g = (anm_graph){.model = model, .recipe = *recipe};
    anm_arena_init(&g->arena);
    int rc = is_deprecated(g) ? anm_legacy_plan(g, err) : plan_methods(g, err);
    if (!rc) rc = check_norm(g, err);
    if (!rc) rc = check_model(g, err);
    if (!rc) rc = plan_weights(g, err);
    if (!rc) rc = plan_pieces(g, err);
    return rc;
}

void anm_graph_free(anm_graph *g)
{
    anm_arena_free(&g->arena);
    *g = (anm_graph){0};
}
