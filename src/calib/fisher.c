/* SPDX-License-Identifier: BSD-3-Clause */
#include "calib/fisher.h"
#include "calib/random.h"
#include "dense/dense.h"
#include "eager/backward.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct work {
    const anm_model *m;
    anm_pool *pool;
    float *cos, *sin, *head, *norm;
    size_t len, rows, all; /* rows of a batch, and of the whole text */
    float *kept;           /* [n_layers + 1, rows, dim] the residual stream before each layer, and after the last */
    float *d;              /* [rows, dim] the gradient by it */
    uint64_t seed;
    float *weight;         /* of the layer in work: [ANM_POINTS][all], from the batch's first row on */
} work;

/* One row: logits become the gradient of the loss by them: what the model says, less the label that was drawn from it. */
static void label_gradient(float *logits, size_t n, uint64_t seed)
{
    float most = logits[0];
    double sum = 0, at = 0;
    for (size_t i = 1; i < n; i++) most = logits[i] > most ? logits[i] : most;
    for (size_t i = 0; i < n; i++) {
        logits[i] = expf(logits[i] - most);
        sum += (double)logits[i];
    }
    double draw = anm_random_unit(&seed) * sum;
    size_t label = n - 1;
    for (size_t i = 0; i < n; i++) {
        at += (double)logits[i];
        if (at > draw) {
            label = i;
            break;
        }
    }
    float scale = (float)(1 / sum);
    for (size_t i = 0; i < n; i++) logits[i] *= scale;
    logits[label] -= 1;
}

typedef struct label_rows {
    float *logits;
    size_t vocab;
    uint64_t seed;
} label_rows;

static void label_row(void *ctx, uint32_t i, unsigned thread)
{
    (void)thread;
    const label_rows *l = ctx;
    label_gradient(l->logits + i * l->vocab, l->vocab, l->seed + i);
}

/* d: the gradient by what the layers gave, through head and final norm, some rows at a time. */
static int begin_backward(work *k, size_t first_row, anm_error *err)
{
    enum { STEP = 64 };
    const anm_params *p = &k->m->params;
    size_t dim = (size_t)p->dim, vocab = (size_t)p->vocab_size;
    float *last = k->kept + (size_t)p->n_layers * k->rows * dim, *h = malloc(STEP * dim * sizeof *h), *logits = malloc(STEP * vocab * sizeof *logits);
    int rc = h && logits ? 0 : anm_fail_memory(err, "logits");
    for (size_t r = 0; r < k->rows && !rc; r += STEP) {
        size_t n = k->rows - r < STEP ? k->rows - r : STEP;
        anm_eager_norm(h, last + r * dim, k->norm, n, dim, p->norm_eps);
        rc = anm_eager_logits(logits, h, n, k->head, p, k->pool, err);
        if (rc) break;
        label_rows l = {logits, vocab, k->seed ^ (uint64_t)(first_row + r) << 20};
        anm_pool_run(k->pool, label_row, &l, (uint32_t)n);
        rc = anm_gemm(k->d + r * dim, dim, anm_rows(logits, vocab), anm_transposed(k->head, dim), n, dim, vocab, false, k->pool, err);
        if (!rc) anm_eager_norm_backward(k->d + r * dim, last + r * dim, k->norm, n, dim, p->norm_eps);
    }
    free(h);
    free(logits);
    return rc;
}

/* Squared gradients by a linear's outputs go to the point at which it reads. */
static int gather(void *ctx, anm_linear which, const float *y, const float *dy, size_t rows, size_t cols, anm_error *err)
{
    (void)y, (void)err;
    static const anm_eager_point point[ANM_LINEAR_COUNT] = {
        [ANM_LINEAR_Q] = ANM_INTO_QKV, [ANM_LINEAR_K] = ANM_INTO_QKV, [ANM_LINEAR_V] = ANM_INTO_QKV, [ANM_LINEAR_O] = ANM_INTO_O,
        [ANM_LINEAR_GATE] = ANM_INTO_GATE_UP, [ANM_LINEAR_UP] = ANM_INTO_GATE_UP, [ANM_LINEAR_DOWN] = ANM_INTO_DOWN};
    const work *k = ctx;
    float *w = k->weight + point[which] * k->all;
    for (size_t r = 0; r < rows; r++) {
        double sum = 0;
        for (size_t c = 0; c < cols; c++) sum += (double)dy[r * cols + c] * dy[r * cols + c];
        w[r] += (float)sum;
    }
    return 0;
}

static int batch_through(work *k, const int32_t *tokens, size_t windows, size_t first_row, float *weight, anm_error *err)
{
    const anm_params *p = &k->m->params;
    size_t layers = (size_t)p->n_layers, dim = (size_t)p->dim, size = k->rows * dim;
    anm_windows w;
    int rc = anm_windows_new(&w, k->m, tokens, windows, k->len, err);
    if (rc) return rc;
    for (size_t i = 0; i < layers && !rc; i++) {
        anm_eager_layer l;
        memcpy(k->kept + i * size, w.x, size * sizeof *w.x);
        rc = anm_eager_layer_load(&l, k->m, i, k->pool, err);
        if (rc) break;
        rc = anm_eager_layer_run(&w, &l, p, k->cos, k->sin, NULL, NULL, k->pool, err);
        anm_eager_layer_free(&l);
    }
    memcpy(k->kept + layers * size, w.x, size * sizeof *w.x);
    if (!rc) rc = begin_backward(k, first_row, err);
    for (size_t i = layers; i-- > 0 && !rc;) {
        anm_eager_layer l;
        k->weight = weight + i * ANM_POINTS * k->all + first_row;
        memcpy(w.x, k->kept + i * size, size * sizeof *w.x);
        rc = anm_eager_layer_load(&l, k->m, i, k->pool, err);
        if (rc) break;
        rc = anm_eager_layer_backward(k->d, &w, &l, p, k->cos, k->sin, gather, k, k->pool, err);
        anm_eager_layer_free(&l);
    }
    anm_windows_free(&w);
    return rc;
}

static void scale_to_one(float *w, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += (double)w[i];
    for (size_t i = 0; i < n; i++) w[i] = sum > 0 ? (float)((double)w[i] * (double)n / sum) : 1;
}

int anm_fisher(float *weight, const anm_model *m, const int32_t *tokens, size_t windows, size_t len, size_t batch, uint64_t seed,
               anm_pool *pool, anm_error *err)
{
    const anm_params *p = &m->params;
    size_t dim = (size_t)p->dim, layers = (size_t)p->n_layers, table = len * (size_t)(p->use_hf_rope ? p->head_dim : p->head_dim / 2);
    if (batch > windows) batch = windows;
    work k = {.m = m, .pool = pool, .len = len, .all = windows * len, .seed = seed};
    k.cos = malloc(2 * table * sizeof *k.cos);
    k.head = malloc((size_t)p->vocab_size * dim * sizeof *k.head);
    k.norm = malloc(dim * sizeof *k.norm);
    k.kept = malloc((layers + 1) * batch * len * dim * sizeof *k.kept);
    k.d = malloc(batch * len * dim * sizeof *k.d);
    int rc = k.cos && k.head && k.norm && k.kept && k.d ? 0 : anm_fail_memory(err, "gradients");
    k.sin = k.cos ? k.cos + table : NULL;
    if (!rc) rc = anm_rope_tables(k.cos, k.sin, m, (int64_t)len, err);
    if (!rc) rc = anm_eager_read(k.head, &m->output, pool, err);
    if (!rc) rc = anm_matrix_rows_f32(k.norm, &m->norm, 0, 1, err);
    memset(weight, 0, layers * ANM_POINTS * k.all * sizeof *weight);
    for (size_t w = 0; w < windows && !rc; w += batch) {
        size_t now = windows - w < batch ? windows - w : batch;
        k.rows = now * len;
        rc = batch_through(&k, tokens + w * len, now, w * len, weight, err);
    }
    for (size_t i = 0; i < layers * ANM_POINTS && !rc; i++) scale_to_one(weight + i * k.all, k.all);
    free(k.cos), free(k.head), free(k.norm), free(k.kept), free(k.d);
    return rc;
}
