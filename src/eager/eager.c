/* SPDX-License-Identifier: BSD-3-Clause */
#include "eager/eager.h"
#include "base/bytes.h"
#include "dense/dense.h"

#include <stdatomic.h>
#include <stdlib.h>

enum { READ_ROWS = 64 }; /* rows per task: some hundred KB of weights */

typedef struct reading {
    const anm_matrix *m;
    int64_t first, rows;
    float *out;
    anm_error *err; /* of the first task that fails */
    _Atomic int code;
} reading;

static void read_some(void *ctx, uint32_t i, unsigned thread)
{
    (void)thread;
    reading *r = ctx;
    anm_error err;
    int64_t row = (int64_t)i * READ_ROWS, n = r->rows - row < READ_ROWS ? r->rows - row : READ_ROWS;
    int rc = anm_matrix_rows_f32(r->out + row * r->m->cols, r->m, r->first + row, n, &err);
    int none = 0;
    if (rc && atomic_compare_exchange_strong(&r->code, &none, rc) && r->err) *r->err = err;
}

int anm_eager_read_rows(float *out, const anm_matrix *m, int64_t row, int64_t rows, anm_pool *pool, anm_error *err)
{
    reading r = {.m = m, .first = row, .rows = rows, .out = out, .err = err};
    anm_pool_run(pool, read_some, &r, (uint32_t)((rows + READ_ROWS - 1) / READ_ROWS));
    return r.code;
}

int anm_eager_read(float *out, const anm_matrix *m, anm_pool *pool, anm_error *err)
{
    return anm_eager_read_rows(out, m, 0, m->rows, pool, err);
}

int anm_eager_layer_load(anm_eager_layer *out, const anm_model *m, size_t layer, anm_pool *pool, anm_error *err)
{
    const anm_layer *s = &m->layers[layer];
    const struct {
        const anm_matrix *from;
        float **to;
    } list[] = {
        {&s->attention_norm, &out->attention_norm}, {&s->wq, &out->wq}, {&s->wk, &out->wk}, {&s->wv, &out->wv},
        {&s->wo, &out->wo}, {&s->bq, &out->bq}, {&s->bk, &out->bk}, {&s->bv, &out->bv}, {&s->q_norm, &out->q_norm},
        {&s->k_norm, &out->k_norm}, {&s->ffn_norm, &out->ffn_norm}, {&s->w1, &out->w1}, {&s->w2, &out->w2}, {&s->w3, &out->w3},
    };
    enum { COUNT = sizeof list / sizeof *list };
    size_t total = 0;
    *out = (anm_eager_layer){0};
    for (int i = 0; i < COUNT; i++) total += (size_t)(list[i].from->rows * list[i].from->cols);
    float *at = out->block = malloc(total * sizeof *at);
    if (!at) return anm_fail_memory(err, "a layer's weights");
    for (int i = 0; i < COUNT; i++) {
        size_t n = (size_t)(list[i].from->rows * list[i].from->cols);
        if (!n) continue;
        *list[i].to = at;
        int rc = anm_eager_read(at, list[i].from, pool, err);
        if (rc) {
            anm_eager_layer_free(out);
            return rc;
        }
        at += n;
    }
    return 0;
}

void anm_eager_layer_free(anm_eager_layer *l)
{
    free(l->block);
    *l = (anm_eager_layer){0};
}

int anm_windows_new(anm_windows *out, const anm_model *m, const int32_t *tokens, size_t windows, size_t len, anm_error *err)
{
    size_t rows, size, dim = (size_t)m->params.dim;
    *out = (anm_windows){.windows = windows, .len = len};
    if (!anm_mul_size(windows, len, &rows) || !anm_mul_size(rows, dim * sizeof(float), &size))
        return anm_fail(err, ANM_ERR_LIMIT, "%zu windows of %zu tokens are too many", windows, len);
    out->token = malloc((rows ? rows : 1) * sizeof *out->token);
    out->x = malloc(size ? size : 1);
    if (!out->token || !out->x) {
        anm_windows_free(out);
        return anm_fail_memory(err, "activations");
    }
    for (size_t r = 0; r < rows; r++) {
        if (tokens[r] < 0 || tokens[r] >= m->params.vocab_size) {
            anm_windows_free(out);
            return anm_fail(err, ANM_ERR_LIMIT, "token id %d is outside the vocabulary of %lld", (int)tokens[r],
                            (long long)m->params.vocab_size);
        }
        out->token[r] = tokens[r];
        int rc = anm_matrix_rows_f32(out->x + r * dim, &m->tok_embeddings, tokens[r], 1, err);
        if (rc) {
            anm_windows_free(out);
            return rc;
        }
    }
    return 0;
}

void anm_windows_free(anm_windows *w)
{
    free(w->token);
    free(w->x);
    *w = (anm_windows){0};
}

int anm_eager_run(anm_windows *w, const anm_model *m, void (*progress)(void *ctx, size_t layer), void *ctx,
                  anm_pool *pool, anm_error *err)
{
    const anm_params *p = &m->params;
    size_t table = w->len * (size_t)(p->use_hf_rope ? p->head_dim : p->head_dim / 2), dim = (size_t)p->dim;
    float *cos = malloc(2 * table * sizeof *cos), *sin = cos ? cos + table : NULL, *norm = malloc(dim * sizeof *norm);
    int rc = cos && norm ? anm_rope_tables(cos, sin, m, (int64_t)w->len, err) : anm_fail_memory(err, "rotary tables");
    for (size_t i = 0; i < (size_t)p->n_layers && !rc; i++) {
        anm_eager_layer l;
        if (progress) progress(ctx, i);
        rc = anm_eager_layer_load(&l, m, i, pool, err);
        if (rc) break;
        rc = anm_eager_layer_run(w, &l, p, cos, sin, NULL, NULL, pool, err);
        anm_eager_layer_free(&l);
    }
    if (!rc) rc = anm_matrix_rows_f32(norm, &m->norm, 0, 1, err);
    if (!rc) anm_eager_norm(w->x, w->x, norm, w->windows * w->len, dim, p->norm_eps);
    free(cos);
    free(norm);
    return rc;
}

int anm_eager_logits(float *logits, const float *x, size_t rows, const float *head, const anm_params *p, anm_pool *pool,
                     anm_error *err)
{
    size_t dim = (size_t)p->dim, vocab = (size_t)p->vocab_size;
    return anm_gemm(logits, vocab, anm_rows(x, dim), anm_rows(head, dim), rows, vocab, dim, false, pool, err);
}
