/* SPDX-License-Identifier: BSD-3-Clause */
/* One layer over many windows: norm, attention, norm, SwiGLU; products by dense/, the rest by rows on all threads. */
#include "eager/layer.h"
#include "dense/dense.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK = 16 }; /* rows per task of the row-wise loops */

void anm_eager_norm(float *y, const float *x, const float *weight, size_t rows, size_t cols, double eps)
{
    for (size_t r = 0; r < rows; r++, x += cols, y += cols) {
        double sum = 0;
        for (size_t i = 0; i < cols; i++) sum += (double)x[i] * x[i];
        float scale = (float)(1 / sqrt(sum / (double)cols + eps));
        for (size_t i = 0; i < cols; i++) y[i] = x[i] * scale * (weight ? weight[i] : 1);
    }
}

layer_work anm_layer_work(const anm_windows *win, const anm_eager_layer *l, const anm_params *p, const float *cos,
                          const float *sin, anm_pool *pool)
{
    return (layer_work){.p = p, .l = l, .cos = cos, .sin = sin, .windows = win->windows, .len = win->len,
                        .rows = win->windows * win->len, .nq = (size_t)(p->n_heads * p->head_dim),
                        .nk = (size_t)(p->n_kv_heads * p->head_dim), .pool = pool};
}

static uint32_t chunks(const layer_work *w)
{
    return (uint32_t)((w->rows + CHUNK - 1) / CHUNK);
}

typedef struct norm_job {
    const layer_work *w;
    float *h;
    const float *x, *weight;
} norm_job;

static void norm_rows(void *ctx, uint32_t i, unsigned thread)
{
    (void)thread;
    const norm_job *j = ctx;
    size_t at = (size_t)i * CHUNK, n = j->w->rows - at < CHUNK ? j->w->rows - at : CHUNK, d = (size_t)j->w->p->dim;
    anm_eager_norm(j->h + at * d, j->x + at * d, j->weight, n, d, j->w->p->norm_eps);
}

void anm_layer_norm(const layer_work *w, float *h, const float *x, const float *weight)
{
    norm_job j = {w, h, x, weight};
    anm_pool_run(w->pool, norm_rows, &j, chunks(w));
}

void anm_layer_rotate(float *x, const layer_work *w, size_t pos, float direction)
{
    const anm_params *p = w->p;
    size_t half = (size_t)p->head_dim / 2, table = p->use_hf_rope ? 2 * half : half;
    const float *cos = w->cos + pos * table, *sin = w->sin + pos * table;
    for (size_t i = 0; i < half; i++) {
        size_t a = p->use_hf_rope ? i : 2 * i, b = p->use_hf_rope ? i + half : 2 * i + 1;
        float u = x[a], v = x[b], s = sin[i] * direction;
        x[a] = u * cos[i] - v * s;
        x[b] = u * s + v * cos[i];
    }
}

/* Bias, norm and rotation of every head of one row. */
static void finish_heads(float *x, size_t heads, const float *bias, const float *norm, const layer_work *w, size_t pos)
{
    const anm_params *p = w->p;
    size_t hd = (size_t)p->head_dim;
    if (bias)
        for (size_t i = 0; i < heads * hd; i++) x[i] += bias[i];
    for (size_t h = 0; h < heads; h++, x += hd) {
        if (norm && p->qk_norm_before_rope) anm_eager_norm(x, x, norm, 1, hd, p->norm_eps);
        anm_layer_rotate(x, w, pos, 1);
        if (norm && !p->qk_norm_before_rope) anm_eager_norm(x, x, norm, 1, hd, p->norm_eps);
    }
}

static void finish_rows(void *ctx, uint32_t i, unsigned thread)
{
    (void)thread;
    const layer_work *w = ctx;
    for (size_t r = (size_t)i * CHUNK; r < (size_t)(i + 1) * CHUNK && r < w->rows; r++) {
        finish_heads(w->q + r * w->nq, (size_t)w->p->n_heads, w->l->bq, w->l->q_norm, w, r % w->len);
        finish_heads(w->k + r * w->nk, (size_t)w->p->n_kv_heads, w->l->bk, w->l->k_norm, w, r % w->len);
        if (w->l->bv)
            for (size_t j = 0; j < w->nk; j++) w->v[r * w->nk + j] += w->l->bv[j];
    }
}

void anm_layer_finish_qkv(layer_work *w)
{
    anm_pool_run(w->pool, finish_rows, w, chunks(w));
}

int anm_layer_product(float *y, const float *x, const float *wt, const layer_work *w, size_t in, size_t out, bool add, anm_error *err)
{
    return anm_gemm(y, out, anm_rows(x, in), anm_rows(wt, in), w->rows, out, in, add, w->pool, err);
}

int anm_layer_qkv(layer_work *w, const float *h, bool raw, anm_error *err)
{
    size_t dim = (size_t)w->p->dim;
    int rc = anm_layer_product(w->q, h, w->l->wq, w, dim, w->nq, false, err);
    if (!rc) rc = anm_layer_product(w->k, h, w->l->wk, w, dim, w->nk, false, err);
    if (!rc) rc = anm_layer_product(w->v, h, w->l->wv, w, dim, w->nk, false, err);
    if (!rc && !raw) anm_layer_finish_qkv(w);
    return rc;
}

int anm_layer_probabilities(float *score, const layer_work *w, size_t window, size_t head)
{
    const anm_params *p = w->p;
    size_t hd = (size_t)p->head_dim, len = w->len, kv = head / (size_t)(p->n_heads / p->n_kv_heads);
    const float *q = w->q + window * len * w->nq + head * hd, *k = w->k + window * len * w->nk + kv * hd;
    float scale = (float)(1 / sqrt((double)hd));
    int rc = anm_gemm(score, len, (anm_view){q, w->nq, 1}, (anm_view){k, w->nk, 1}, len, len, hd, false, NULL, NULL);
    for (size_t r = 0; r < len && !rc; r++) {
        float *s = score + r * len, most = -INFINITY;
        double sum = 0;
        for (size_t c = 0; c <= r; c++)
            if (s[c] > most) most = s[c];
        for (size_t c = 0; c <= r; c++) {
            s[c] = expf((s[c] - most) * scale);
            sum += (double)s[c];
        }
        float norm = (float)(1 / sum);
        for (size_t c = 0; c <= r; c++) s[c] *= norm;
        memset(s + r + 1, 0, (len - r - 1) * sizeof *s);
    }
    return rc;
}

static void attend(void *ctx, uint32_t i, unsigned thread)
{
    (void)thread;
    layer_work *w = ctx;
    size_t heads = (size_t)w->p->n_heads, hd = (size_t)w->p->head_dim, len = w->len, win = i / heads, head = i % heads;
    const float *v = w->v + win * len * w->nk + head / (heads / (size_t)w->p->n_kv_heads) * hd;
    float *score = malloc(len * len * sizeof *score), *o = w->o + win * len * w->nq + head * hd;
    int rc = score ? anm_layer_probabilities(score, w, win, head) : ANM_ERR_MEMORY;
    if (!rc) rc = anm_gemm(o, w->nq, anm_rows(score, len), (anm_view){v, 1, w->nk}, len, hd, len, false, NULL, NULL);
    if (rc) w->code = rc;
    free(score);
}

int anm_layer_attend(layer_work *w, anm_error *err)
{
    anm_pool_run(w->pool, attend, w, (uint32_t)(w->windows * (size_t)w->p->n_heads));
    return w->code ? anm_fail_memory(err, "attention scores") : 0;
}

typedef struct glu_job {
    float *gate;
    const float *up;
    size_t rows, cols;
} glu_job;

static void swiglu(void *ctx, uint32_t i, unsigned thread)
{
    (void)thread;
    const glu_job *j = ctx;
    size_t at = (size_t)i * CHUNK, n = j->rows - at < CHUNK ? j->rows - at : CHUNK;
    float *g = j->gate + at * j->cols;
    const float *u = j->up + at * j->cols;
    for (size_t k = 0; k < n * j->cols; k++) g[k] = g[k] / (1 + expf(-g[k])) * u[k];
}

int anm_eager_layer_run(anm_windows *win, const anm_eager_layer *l, const anm_params *p, const float *cos,
                        const float *sin, anm_eager_tap *tap, void *ctx, anm_pool *pool, anm_error *err)
{
    layer_work w = anm_layer_work(win, l, p, cos, sin, pool);
    size_t dim = (size_t)p->dim, f = (size_t)p->hidden_dim, attention = 2 * w.nq + 2 * w.nk;
    float *h = malloc(w.rows * dim * sizeof *h), *block = malloc(w.rows * (attention > 2 * f ? attention : 2 * f) * sizeof *block);
    int rc = 0;
    if (!h || !block) {
        rc = anm_fail_memory(err, "activations of a layer");
        goto done;
    }
    w.q = block;
    w.o = w.q + w.rows * w.nq;
    w.k = w.o + w.rows * w.nq;
    w.v = w.k + w.rows * w.nk;
    anm_layer_norm(&w, h, win->x, l->attention_norm);
    if (tap && (rc = tap(ctx, ANM_INTO_QKV, h, w.rows, dim, err))) goto done;
    if ((rc = anm_layer_qkv(&w, h, false, err))) goto done;
    if ((rc = anm_layer_attend(&w, err))) goto done;
    if (tap && (rc = tap(ctx, ANM_INTO_O, w.o, w.rows, w.nq, err))) goto done;
    if ((rc = anm_layer_product(win->x, w.o, l->wo, &w, w.nq, dim, true, err))) goto done;

    glu_job g = {block, block + w.rows * f, w.rows, f};
    anm_layer_norm(&w, h, win->x, l->ffn_norm);
    if (tap && (rc = tap(ctx, ANM_INTO_GATE_UP, h, w.rows, dim, err))) goto done;
    if ((rc = anm_layer_product(g.gate, h, l->w1, &w, dim, f, false, err))) goto done;
    if ((rc = anm_layer_product(block + w.rows * f, h, l->w3, &w, dim, f, false, err))) goto done;
    anm_pool_run(pool, swiglu, &g, chunks(&w));
    if (tap && (rc = tap(ctx, ANM_INTO_DOWN, g.gate, w.rows, f, err))) goto done;
    rc = anm_layer_product(win->x, g.gate, l->w2, &w, f, dim, true, err);
done:
    free(h);
    free(block);
    return rc;
}
