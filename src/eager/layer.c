/* SPDX-License-Identifier: BSD-3-Clause */
/* One layer over many windows: norm, attention, norm, SwiGLU; products by dense/, the rest by rows on all threads. */
#include "eager/eager.h"
#include "dense/dense.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

void anm_eager_norm(float *y, const float *x, const float *weight, size_t rows, size_t cols, double eps)
{
    for (size_t r = 0; r < rows; r++, x += cols, y += cols) {
        double sum = 0;
        for (size_t i = 0; i < cols; i++) sum += (double)x[i] * x[i];
        float scale = (float)(1 / sqrt(sum / (double)cols + eps));
        for (size_t i = 0; i < cols; i++) y[i] = x[i] * scale * (weight ? weight[i] : 1);
    }
}

/* The work of one layer, shared by its parallel loops. */
typedef struct layer_work {
    const anm_params *p;
    const anm_eager_layer *l;
    const float *cos, *sin;
    size_t windows, len, rows;
    float *x, *h, *q, *k, *v, *o, *gate, *up;
    const float *norm;
    _Atomic int code; /* the first failure inside a loop */
} layer_work;

enum { CHUNK = 16 }; /* rows per task of the row-wise loops */

static void norm_rows(void *ctx, uint32_t i, unsigned thread)
{
    (void)thread;
    const layer_work *w = ctx;
    size_t at = (size_t)i * CHUNK, n = w->rows - at < CHUNK ? w->rows - at : CHUNK, d = (size_t)w->p->dim;
    anm_eager_norm(w->h + at * d, w->x + at * d, w->norm, n, d, w->p->norm_eps);
}

static void rotate(float *x, const anm_params *p, const float *cos, const float *sin)
{
    size_t half = (size_t)p->head_dim / 2;
    for (size_t i = 0; i < half; i++) {
        size_t a = p->use_hf_rope ? i : 2 * i, b = p->use_hf_rope ? i + half : 2 * i + 1;
        float u = x[a], v = x[b];
        x[a] = u * cos[i] - v * sin[i];
        x[b] = u * sin[i] + v * cos[i];
    }
}

/* Bias, norm and rotation of every head of one row. */
static void finish_heads(float *x, size_t heads, const float *bias, const float *norm, const layer_work *w, size_t pos)
{
    const anm_params *p = w->p;
    size_t hd = (size_t)p->head_dim, table = p->use_hf_rope ? hd : hd / 2;
    const float *cos = w->cos + pos * table, *sin = w->sin + pos * table;
    if (bias)
        for (size_t i = 0; i < heads * hd; i++) x[i] += bias[i];
    for (size_t h = 0; h < heads; h++, x += hd) {
        if (norm && p->qk_norm_before_rope) anm_eager_norm(x, x, norm, 1, hd, p->norm_eps);
        rotate(x, p, cos, sin);
        if (norm && !p->qk_norm_before_rope) anm_eager_norm(x, x, norm, 1, hd, p->norm_eps);
    }
}

static void finish_qkv(void *ctx, uint32_t i, unsigned thread)
{
    (void)thread;
    const layer_work *w = ctx;
    const anm_params *p = w->p;
    size_t nq = (size_t)(p->n_heads * p->head_dim), nk = (size_t)(p->n_kv_heads * p->head_dim), end = (size_t)(i + 1) * CHUNK;
    for (size_t r = (size_t)i * CHUNK; r < end && r < w->rows; r++) {
        finish_heads(w->q + r * nq, (size_t)p->n_heads, w->l->bq, w->l->q_norm, w, r % w->len);
        finish_heads(w->k + r * nk, (size_t)p->n_kv_heads, w->l->bk, w->l->k_norm, w, r % w->len);
        if (w->l->bv)
            for (size_t j = 0; j < nk; j++) w->v[r * nk + j] += w->l->bv[j];
    }
}

/* One head of one window: causal attention, o = softmax(q k^T / sqrt(d)) v. */
static void attend(void *ctx, uint32_t i, unsigned thread)
{
    (void)thread;
    layer_work *w = ctx;
    const anm_params *p = w->p;
    size_t heads = (size_t)p->n_heads, hd = (size_t)p->head_dim, len = w->len, win = i / heads, head = i % heads;
    size_t nq = heads * hd, nk = (size_t)p->n_kv_heads * hd, kv = head / (heads / (size_t)p->n_kv_heads);
    const float *q = w->q + win * len * nq + head * hd;
    const float *k = w->k + win * len * nk + kv * hd, *v = w->v + win * len * nk + kv * hd;
    float *o = w->o + win * len * nq + head * hd, *score = malloc(len * len * sizeof *score);
    float scale = (float)(1 / sqrt((double)hd));
    int rc = score ? anm_gemm(score, len, (anm_view){q, nq, 1}, (anm_view){k, nk, 1}, len, len, hd, false, NULL, NULL)
                   : ANM_ERR_MEMORY;
    for (size_t r = 0; r < len && !rc; r++) {
        float *s = score + r * len, most = -INFINITY;
        double sum = 0;
        for (size_t c = 0; c <= r; c++)
            if (s[c] > most) most = s[c];
        for (size_t c = 0; c <= r; c++) {
            s[c] = expf((s[c] - most) * scale);
            sum += s[c];
        }
        float norm = (float)(1 / sum);
        for (size_t c = 0; c <= r; c++) s[c] *= norm;
        memset(s + r + 1, 0, (len - r - 1) * sizeof *s);
    }
    if (!rc) rc = anm_gemm(o, nq, (anm_view){score, len, 1}, (anm_view){v, 1, nk}, len, hd, len, false, NULL, NULL);
    if (rc) w->code = rc;
    free(score);
}

static void swiglu(void *ctx, uint32_t i, unsigned thread)
{
    (void)thread;
    const layer_work *w = ctx;
    size_t f = (size_t)w->p->hidden_dim, at = (size_t)i * CHUNK, n = w->rows - at < CHUNK ? w->rows - at : CHUNK;
    float *g = w->gate + at * f;
    const float *u = w->up + at * f;
    for (size_t j = 0; j < n * f; j++) g[j] = g[j] / (1 + expf(-g[j])) * u[j];
}

/* y [rows, out] (+)= x [rows, in] w^T */
static int product(float *y, const float *x, const float *wt, size_t rows, int64_t in, int64_t out, bool add,
                   anm_pool *pool, anm_error *err)
{
    return anm_gemm(y, (size_t)out, anm_rows(x, (size_t)in), anm_rows(wt, (size_t)in), rows, (size_t)out, (size_t)in, add, pool, err);
}

int anm_eager_layer_run(anm_windows *win, const anm_eager_layer *l, const anm_params *p, const float *cos,
                        const float *sin, anm_eager_tap *tap, void *ctx, anm_pool *pool, anm_error *err)
{
    size_t rows = win->windows * win->len, dim = (size_t)p->dim, nq = (size_t)(p->n_heads * p->head_dim);
    size_t nk = (size_t)(p->n_kv_heads * p->head_dim), f = (size_t)p->hidden_dim;
    size_t attention = nq * 2 + nk * 2, wide = attention > 2 * f ? attention : 2 * f;
    uint32_t chunks = (uint32_t)((rows + CHUNK - 1) / CHUNK);
    float *h = malloc(rows * dim * sizeof *h), *block = malloc(rows * wide * sizeof *block);
    layer_work w = {.p = p, .l = l, .cos = cos, .sin = sin, .windows = win->windows, .len = win->len, .rows = rows, .x = win->x, .h = h};
    int rc = 0;
    if (!h || !block) {
        rc = anm_fail_memory(err, "activations of a layer");
        goto done;
    }
    w.q = block;
    w.o = w.q + rows * nq;
    w.k = w.o + rows * nq;
    w.v = w.k + rows * nk;
    w.norm = l->attention_norm;
    anm_pool_run(pool, norm_rows, &w, chunks);
    if (tap && (rc = tap(ctx, ANM_INTO_QKV, h, rows, dim, err))) goto done;
    if ((rc = product(w.q, h, l->wq, rows, p->dim, (int64_t)nq, false, pool, err))) goto done;
    if ((rc = product(w.k, h, l->wk, rows, p->dim, (int64_t)nk, false, pool, err))) goto done;
    if ((rc = product(w.v, h, l->wv, rows, p->dim, (int64_t)nk, false, pool, err))) goto done;
    anm_pool_run(pool, finish_qkv, &w, chunks);
    anm_pool_run(pool, attend, &w, (uint32_t)(win->windows * (size_t)p->n_heads));
    if (w.code) {
        rc = anm_fail_memory(err, "attention scores");
        goto done;
    }
    if (tap && (rc = tap(ctx, ANM_INTO_O, w.o, rows, nq, err))) goto done;
    if ((rc = product(win->x, w.o, l->wo, rows, (int64_t)nq, p->dim, true, pool, err))) goto done;

    w.gate = block;
    w.up = block + rows * f;
    w.norm = l->ffn_norm;
    anm_pool_run(pool, norm_rows, &w, chunks);
    if (tap && (rc = tap(ctx, ANM_INTO_GATE_UP, h, rows, dim, err))) goto done;
    if ((rc = product(w.gate, h, l->w1, rows, p->dim, p->hidden_dim, false, pool, err))) goto done;
    if ((rc = product(w.up, h, l->w3, rows, p->dim, p->hidden_dim, false, pool, err))) goto done;
    anm_pool_run(pool, swiglu, &w, chunks);
    if (tap && (rc = tap(ctx, ANM_INTO_DOWN, w.gate, rows, f, err))) goto done;
    rc = product(win->x, w.gate, l->w2, rows, p->hidden_dim, p->dim, true, pool, err);
done:
    free(h);
    free(block);
    return rc;
}
