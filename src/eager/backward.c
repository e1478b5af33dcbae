/* SPDX-License-Identifier: BSD-3-Clause */
#include "eager/backward.h"
#include "dense/dense.h"
#include "eager/layer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

void anm_eager_norm_backward(float *d, const float *x, const float *weight, size_t rows, size_t cols, double eps)
{
    for (size_t r = 0; r < rows; r++, x += cols, d += cols) {
        double square = 0, along = 0;
        for (size_t i = 0; i < cols; i++) {
            if (weight) d[i] *= weight[i];
            square += (double)x[i] * x[i];
            along += (double)d[i] * x[i];
        }
        double inv = 1 / sqrt(square / (double)cols + eps), pull = inv * inv * along / (double)cols;
        for (size_t i = 0; i < cols; i++) d[i] = (float)(inv * ((double)d[i] - pull * x[i]));
    }
}

/* dx [rows, in] (+)= dy [rows, out] w, w [out, in] */
static int back_product(float *dx, const float *dy, const float *wt, const layer_work *w, size_t in, size_t out, bool add, anm_error *err)
{
    return anm_gemm(dx, in, anm_rows(dy, out), anm_transposed(wt, in), w->rows, in, out, add, w->pool, err);
}

/* Attention's gradient: o's comes in `d_o`, q's, k's and v's go out. One task: a key head of a window and the query
 * heads that share it. */
typedef struct attend_back {
    layer_work *w;
    const float *d_o;
    float *dq, *dk, *dv;
} attend_back;

static void attention(void *ctx, uint32_t i, unsigned thread)
{
    (void)thread;
    const attend_back *a = ctx;
    layer_work *w = a->w;
    size_t kvs = (size_t)w->p->n_kv_heads, share = (size_t)w->p->n_heads / kvs, hd = (size_t)w->p->head_dim, len = w->len;
    size_t win = i / kvs, kv = i % kvs, row = win * len;
    const float *k = w->k + row * w->nk + kv * hd, *v = w->v + row * w->nk + kv * hd;
    float *dk = a->dk + row * w->nk + kv * hd, *dv = a->dv + row * w->nk + kv * hd;
    float *p = malloc(2 * len * len * sizeof *p), *ds = p ? p + len * len : NULL, scale = (float)(1 / sqrt((double)hd));
    int rc = p ? 0 : ANM_ERR_MEMORY;
    for (size_t h = kv * share; h < (kv + 1) * share && !rc; h++) {
        const float *q = w->q + row * w->nq + h * hd, *d = a->d_o + row * w->nq + h * hd;
        bool more = h > kv * share;
        rc = anm_layer_probabilities(p, w, win, h);
        /* dv += p^T d; dp = d v^T */
        if (!rc) rc = anm_gemm(dv, w->nk, (anm_view){p, 1, len}, (anm_view){d, 1, w->nq}, len, hd, len, more, NULL, NULL);
        if (!rc) rc = anm_gemm(ds, len, (anm_view){d, w->nq, 1}, (anm_view){v, w->nk, 1}, len, len, hd, false, NULL, NULL);
        for (size_t r = 0; r < len && !rc; r++) {
            float *s = ds + r * len;
            const float *pr = p + r * len;
            double along = 0;
            for (size_t c = 0; c <= r; c++) along += (double)s[c] * pr[c];
            for (size_t c = 0; c <= r; c++) s[c] = pr[c] * (s[c] - (float)along) * scale;
            memset(s + r + 1, 0, (len - r - 1) * sizeof *s);
        }
        /* dq = ds k; dk += ds^T q */
        if (!rc) rc = anm_gemm(a->dq + row * w->nq + h * hd, w->nq, anm_rows(ds, len), (anm_view){k, 1, w->nk}, len, hd, len, false, NULL, NULL);
        if (!rc) rc = anm_gemm(dk, w->nk, (anm_view){ds, 1, len}, (anm_view){q, 1, w->nq}, len, hd, len, more, NULL, NULL);
    }
    if (rc) w->code = rc;
    free(p);
}

/* Gradients of rotated, normed heads back to what the linears gave (`raw`, with its bias). */
static void heads_back(float *d, const float *raw, size_t heads, const float *bias, const float *norm, const layer_work *w, size_t pos,
                       float *scratch)
{
    size_t hd = (size_t)w->p->head_dim;
    for (size_t h = 0; h < heads; h++, d += hd, raw += hd) {
        for (size_t i = 0; norm && i < hd; i++) scratch[i] = raw[i] + (bias ? bias[h * hd + i] : 0);
        if (norm && !w->p->qk_norm_before_rope) {
            anm_layer_rotate(scratch, w, pos, 1);
            anm_eager_norm_backward(d, scratch, norm, 1, hd, w->p->norm_eps);
        }
        anm_layer_rotate(d, w, pos, -1);
        if (norm && w->p->qk_norm_before_rope) anm_eager_norm_backward(d, scratch, norm, 1, hd, w->p->norm_eps);
    }
}

typedef struct rows_back {
    layer_work *w;
    float *dq, *dk;
    const float *q_raw, *k_raw;
} rows_back;

static void qk_row(void *ctx, uint32_t i, unsigned thread)
{
    (void)thread;
    const rows_back *b = ctx;
    layer_work *w = b->w;
    float *scratch = malloc((size_t)w->p->head_dim * sizeof *scratch);
    if (!scratch) {
        w->code = ANM_ERR_MEMORY;
        return;
    }
    heads_back(b->dq + i * w->nq, b->q_raw + i * w->nq, (size_t)w->p->n_heads, w->l->bq, w->l->q_norm, w, i % w->len, scratch);
    heads_back(b->dk + i * w->nk, b->k_raw + i * w->nk, (size_t)w->p->n_kv_heads, w->l->bk, w->l->k_norm, w, i % w->len, scratch);
    free(scratch);
}

/* The MLP: m = silu(gate) * up, and its gradient back to gate and up, which replace them in place. */
typedef struct glu_back {
    const float *gate, *up, *dm;
    float *m, *dgate, *dup;
    size_t cols;
} glu_back;

static void glu_forward_row(void *ctx, uint32_t i, unsigned thread)
{
    (void)thread;
    const glu_back *g = ctx;
    for (size_t j = i * g->cols; j < (i + 1) * g->cols; j++) g->m[j] = g->gate[j] / (1 + expf(-g->gate[j])) * g->up[j];
}

static void glu_backward_row(void *ctx, uint32_t i, unsigned thread)
{
    (void)thread;
    const glu_back *g = ctx;
    for (size_t j = i * g->cols; j < (i + 1) * g->cols; j++) {
        float s = 1 / (1 + expf(-g->gate[j])), silu = g->gate[j] * s, dm = g->dm[j]; /* dup may be dm */
        g->dup[j] = dm * silu;
        g->dgate[j] = dm * g->up[j] * (s + silu * (1 - s));
    }
}

typedef struct norm_back {
    float *d;
    const float *x, *weight, *skip;
    size_t cols;
    double eps;
} norm_back;

/* d = skip + the norm's gradient */
static void norm_row(void *ctx, uint32_t i, unsigned thread)
{
    (void)thread;
    const norm_back *n = ctx;
    size_t at = (size_t)i * n->cols;
    anm_eager_norm_backward(n->d + at, n->x + at, n->weight, 1, n->cols, n->eps);
    for (size_t j = at; j < at + n->cols; j++) n->d[j] += n->skip[j];
}

int anm_eager_layer_backward(float *d, const anm_windows *x, const anm_eager_layer *l, const anm_params *p, const float *cos,
                             const float *sin, anm_gradient_tap *tap, void *ctx, anm_pool *pool, anm_error *err)
{
    layer_work w = anm_layer_work(x, l, p, cos, sin, pool);
    size_t rows = w.rows, dim = (size_t)p->dim, f = (size_t)p->hidden_dim, nq = w.nq, nk = w.nk;
    float *h, *mid, *dh, *q_raw, *k_raw, *v_raw, *dq, *dk, *dv, *d_o, *gate, *up, *m, *dm;
    const struct {
        float **at;
        size_t cols;
    } parts[] = {{&h, dim}, {&mid, dim}, {&dh, dim}, {&w.q, nq}, {&w.k, nk}, {&w.v, nk}, {&w.o, nq}, {&q_raw, nq}, {&k_raw, nk},
                 {&v_raw, nk}, {&dq, nq}, {&dk, nk}, {&dv, nk}, {&d_o, nq}, {&gate, f}, {&up, f}, {&m, f}, {&dm, f}};
    size_t total = 0;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) total += parts[i].cols;
    float *block = malloc(rows * total * sizeof *block), *at = block;
    if (!block) return anm_fail_memory(err, "activations of a layer");
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        *parts[i].at = at;
        at += rows * parts[i].cols;
    }
    int rc = 0;
#define TRY(call)                                                                                                      \
    if ((rc = (call))) goto done
#define TAP(which, y, dy, cols)                                                                                        \
    if (tap) TRY(tap(ctx, which, y, dy, rows, cols, err))

    /* Forward again, keeping what the gradients need. */
    anm_layer_norm(&w, h, x->x, l->attention_norm);
    TRY(anm_layer_qkv(&w, h, true, err));
    memcpy(q_raw, w.q, rows * nq * sizeof *q_raw);
    memcpy(k_raw, w.k, rows * nk * sizeof *k_raw);
    memcpy(v_raw, w.v, rows * nk * sizeof *v_raw);
    anm_layer_finish_qkv(&w);
    TRY(anm_layer_attend(&w, err));
    memcpy(mid, x->x, rows * dim * sizeof *mid);
    TRY(anm_layer_product(mid, w.o, l->wo, &w, nq, dim, true, err));
    anm_layer_norm(&w, h, mid, l->ffn_norm);
    TRY(anm_layer_product(gate, h, l->w1, &w, dim, f, false, err));
    TRY(anm_layer_product(up, h, l->w3, &w, dim, f, false, err));

    /* The MLP. */
    glu_back g = {gate, up, dm, m, m, dm, f};
    if (tap) {
        anm_pool_run(pool, glu_forward_row, &g, (uint32_t)rows);
        TRY(anm_layer_product(dh, m, l->w2, &w, f, dim, false, err));
        TAP(ANM_LINEAR_DOWN, dh, d, dim);
    }
    TRY(back_product(dm, d, l->w2, &w, f, dim, false, err));
    anm_pool_run(pool, glu_backward_row, &g, (uint32_t)rows); /* dgate into m, dup into dm */
    TAP(ANM_LINEAR_GATE, gate, m, f);
    TAP(ANM_LINEAR_UP, up, dm, f);
    TRY(back_product(dh, m, l->w1, &w, dim, f, false, err));
    TRY(back_product(dh, dm, l->w3, &w, dim, f, true, err));
    norm_back n = {dh, mid, l->ffn_norm, d, dim, p->norm_eps};
    anm_pool_run(pool, norm_row, &n, (uint32_t)rows); /* dh: the gradient by the residual after attention */
    memcpy(d, dh, rows * dim * sizeof *d);

    /* Attention. */
    if (tap) {
        TRY(anm_layer_product(h, w.o, l->wo, &w, nq, dim, false, err));
        TAP(ANM_LINEAR_O, h, d, dim);
    }
    TRY(back_product(d_o, d, l->wo, &w, nq, dim, false, err));
    attend_back a = {&w, d_o, dq, dk, dv};
    anm_pool_run(pool, attention, &a, (uint32_t)(w.windows * (size_t)p->n_kv_heads));
    rows_back b = {&w, dq, dk, q_raw, k_raw};
    anm_pool_run(pool, qk_row, &b, (uint32_t)rows);
    if (w.code) {
        rc = anm_fail_memory(err, "gradients of attention");
        goto done;
    }
    TAP(ANM_LINEAR_Q, q_raw, dq, nq);
    TAP(ANM_LINEAR_K, k_raw, dk, nk);
    TAP(ANM_LINEAR_V, v_raw, dv, nk);
    TRY(back_product(dh, dq, l->wq, &w, dim, nq, false, err));
    TRY(back_product(dh, dk, l->wk, &w, dim, nk, true, err));
    TRY(back_product(dh, dv, l->wv, &w, dim, nk, true, err));
    norm_back n1 = {dh, x->x, l->attention_norm, d, dim, p->norm_eps};
    anm_pool_run(pool, norm_row, &n1, (uint32_t)rows);
    memcpy(d, dh, rows * dim * sizeof *d);
done:
    free(block);
    return rc;
#undef TRY
#undef TAP
}
