/* SPDX-License-Identifier: BSD-3-Clause */
/*
 *   forward     layer by layer, the residual stream before each kept
 *   head        both models' logits, some rows at a time: the loss, its gradient, the head's factors' gradient
 *   backward    layer by layer: a factor's gradient is the sum over rows of y dL/dy, y the output that it multiplies
 *   Adam        on the factors' logarithms, with a rate that rises over the first steps and falls to nothing
 */
#include "calib/tune.h"
#include "base/half.h"
#include "base/spill.h"
#include "calib/random.h"
#include "dense/dense.h"
#include "eager/backward.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    BATCH = 2,           /* windows a step */
    STEP = 64,           /* rows of logits at a time */
    CHUNK = 64,          /* outputs whose gradients one task adds up */
    WARM = 10,           /* steps until the rate is reached */
};
#define RATE 2e-3
#define DECAY_1 0.9
#define DECAY_2 0.95

typedef struct work {
    const anm_tune *t;
    const anm_params *p;
    anm_pool *pool;
    size_t rows, dim, vocab, count; /* rows of the batch */
    float *cos, *sin;
    anm_spill spill;              /* what the heads lie in */
    float *full_head, *made_head; /* [vocab, dim] */
    float *kept, *d;              /* [n_layers + 1][rows, dim], [rows, dim] */
    float *h, *full, *logits;     /* [STEP, dim], [STEP, vocab] twice: the full model's become the gradient */
    double *loss;                 /* [STEP] */
    int32_t *token;
    float *factor, *log, *g, *mean, *square; /* [count] each */
    size_t at;                    /* the layer's first factor */
} work;

/* ---- the factors' places ---- */

static size_t layer_rows(const anm_params *p)
{
    return (size_t)(p->n_heads * p->head_dim + 2 * p->n_kv_heads * p->head_dim + 2 * p->dim + 2 * p->hidden_dim);
}

size_t anm_tune_count(const anm_params *p)
{
    return (size_t)p->n_layers * layer_rows(p) + (size_t)p->vocab_size;
}

/* ---- weights ---- */

typedef struct scale_job {
    float *w;
    const float *by;
    size_t cols;
} scale_job;

static void scale_row(void *ctx, uint32_t i, unsigned thread)
{
    (void)thread;
    const scale_job *j = ctx;
    for (size_t c = 0; c < j->cols; c++) j->w[i * j->cols + c] *= j->by[i];
}

/* A layer with its linears as they stand now. */
static int load_layer(anm_eager_layer *l, work *k, size_t layer, anm_error *err)
{
    int rc = anm_eager_layer_load(l, &k->t->made->model, layer, k->pool, err);
    if (rc) return rc;
    float *to[ANM_LINEARS] = {l->wq, l->wk, l->wv, l->wo, l->w1, l->w2, l->w3};
    const float *by = k->factor + layer * layer_rows(k->p);
    for (int j = 0; j < ANM_LINEARS; j++) {
        const anm_made *m = &k->t->made->layer[layer][j];
        scale_job s = {to[j], by, (size_t)m->cols};
        anm_pool_run(k->pool, scale_row, &s, (uint32_t)m->rows);
        by += m->rows;
    }
    return 0;
}

/* Neither head changes: the made one's factors are applied to its outputs. */
static int load_heads(work *k, anm_error *err)
{
    size_t n = k->vocab * k->dim;
    int rc = anm_spill_room(&k->spill, "two heads", k->t->o->beside, 2 * n * sizeof(float), err);
    if (rc) return rc;
    k->full_head = (float *)(void *)k->spill.data;
    k->made_head = k->full_head + n;
    rc = anm_eager_read(k->made_head, &k->t->made->model.output, k->pool, err);
    return rc ? rc : k->t->head(k->t->ctx, k->full_head, 0, k->vocab, err);
}

/* ---- loss ---- */

static void loss_row(void *ctx, uint32_t i, unsigned thread)
{
    (void)thread;
    const work *k = ctx;
    const float *by = k->factor + k->count - k->vocab;
    float *f = k->full + i * k->vocab, *s = k->logits + i * k->vocab, most_f = f[0], most_s = s[0] * by[0], share = 1 / (float)k->rows;
    for (size_t v = 0; v < k->vocab; v++) {
        s[v] *= by[v];
        most_f = f[v] > most_f ? f[v] : most_f;
        most_s = s[v] > most_s ? s[v] : most_s;
    }
    double sum_f = 0, sum_s = 0, along = 0;
    for (size_t v = 0; v < k->vocab; v++) {
        float e = expf(f[v] - most_f);
        along += (double)e * (double)(f[v] - most_f - (s[v] - most_s));
        sum_f += (double)e;
        sum_s += (double)expf(s[v] - most_s);
        f[v] = e;
    }
    k->loss[i] = along / sum_f - log(sum_f) + log(sum_s);
    const float inv_f = (float)(1 / sum_f), inv_s = (float)(1 / sum_s);
    for (size_t v = 0; v < k->vocab; v++) f[v] = (expf(s[v] - most_s) * inv_s - f[v] * inv_f) * share;
}

typedef struct outputs_job {
    float *g, *dy;
    const float *y, *by; /* by: what dy is multiplied by once it is used; NULL: nothing */
    size_t rows, cols;
} outputs_job;

static void outputs_chunk(void *ctx, uint32_t i, unsigned thread)
{
    (void)thread;
    const outputs_job *j = ctx;
    size_t from = (size_t)i * CHUNK, n = j->cols - from < CHUNK ? j->cols - from : CHUNK;
    double sum[CHUNK] = {0};
    for (size_t r = 0; r < j->rows; r++) {
        const float *y = j->y + r * j->cols + from;
        float *dy = j->dy + r * j->cols + from;
        for (size_t c = 0; c < n; c++) sum[c] += (double)y[c] * (double)dy[c];
        for (size_t c = 0; c < n && j->by; c++) dy[c] *= j->by[from + c];
    }
    for (size_t c = 0; c < n; c++) j->g[from + c] += (float)sum[c];
}

/* g += the sum over rows of y dy, each output by itself */
static void add_outputs(outputs_job j, anm_pool *pool)
{
    anm_pool_run(pool, outputs_chunk, &j, (uint32_t)((j.cols + CHUNK - 1) / CHUNK));
}

/* From the last layer's residual to the loss, and back to the gradient by it in d. `full`: the same rows of the full model. */
static int head_gradient(work *k, const float *last, const float *full, double *loss, anm_error *err)
{
    const size_t dim = k->dim, vocab = k->vocab;
    size_t first = k->count - vocab;
    int rc = 0;
    *loss = 0;
    for (size_t r = 0; r < k->rows && !rc; r += STEP) {
        size_t n = k->rows - r < STEP ? k->rows - r : STEP;
        anm_eager_norm(k->h, last + r * dim, NULL, n, dim, k->p->norm_eps);
        rc = anm_gemm(k->logits, vocab, anm_rows(k->h, dim), anm_rows(k->made_head, dim), n, vocab, dim, false, k->pool, err);
        if (!rc) rc = anm_gemm(k->full, vocab, anm_rows(full + r * dim, dim), anm_rows(k->full_head, dim), n, vocab, dim, false, k->pool, err);
        if (rc) break;
        anm_pool_run(k->pool, loss_row, k, (uint32_t)n);
        for (size_t i = 0; i < n; i++) *loss += k->loss[i] / (double)k->rows;
        add_outputs((outputs_job){k->g + first, k->full, k->logits, k->factor + first, n, vocab}, k->pool);
        rc = anm_gemm(k->d + r * dim, dim, anm_rows(k->full, vocab), anm_transposed(k->made_head, dim), n, dim, vocab, false, k->pool, err);
        if (!rc) anm_eager_norm_backward(k->d + r * dim, last + r * dim, NULL, n, dim, k->p->norm_eps);
    }
    return rc;
}

static int gather(void *ctx, anm_linear which, const float *y, const float *dy, size_t rows, size_t cols, anm_error *err)
{
    static const int number[ANM_LINEAR_COUNT] = {[ANM_LINEAR_Q] = ANM_WQ, [ANM_LINEAR_K] = ANM_WK, [ANM_LINEAR_V] = ANM_WV, [ANM_LINEAR_O] = ANM_WO,
                                                 [ANM_LINEAR_GATE] = ANM_W1, [ANM_LINEAR_UP] = ANM_W3, [ANM_LINEAR_DOWN] = ANM_W2};
    (void)err;
    work *k = ctx;
    size_t at = k->at;
    for (int j = 0; j < number[which]; j++) at += (size_t)k->t->made->layer[0][j].rows;
    add_outputs((outputs_job){k->g + at, (float *)dy, y, NULL, rows, cols}, k->pool); /* dy is not written: there is no `by` */
    return 0;
}

/* ---- a step ---- */

/* The batch's tokens and what the full model has for them are gathered by window. */
static int through(work *k, const size_t *window, size_t windows, double *loss, anm_error *err)
{
    const size_t dim = k->dim, len = k->t->o->len, size = windows * len * dim, layers = (size_t)k->p->n_layers;
    float *full = malloc(size * sizeof *full);
    anm_windows w = {.windows = windows, .len = len, .token = k->token, .x = malloc(size * sizeof *w.x)};
    int rc = full && w.x ? 0 : anm_fail_memory(err, "activations");
    k->rows = windows * len;
    for (size_t i = 0; i < windows && !rc; i++) {
        memcpy(k->token + i * len, k->t->tokens + window[i] * len, len * sizeof *k->token);
        memcpy(full + i * len * dim, k->t->full + window[i] * len * dim, len * dim * sizeof *full);
    }
    for (size_t i = 0; i < k->rows && !rc; i++)
        rc = anm_matrix_rows_f32(w.x + i * dim, &k->t->made->model.tok_embeddings, k->token[i], 1, err);
    for (size_t i = 0; i < layers && !rc; i++) {
        anm_eager_layer l = {0};
        memcpy(k->kept + i * size, w.x, size * sizeof *w.x);
        rc = load_layer(&l, k, i, err);
        if (!rc) rc = anm_eager_layer_run(&w, &l, k->p, k->cos, k->sin, NULL, NULL, k->pool, err);
        anm_eager_layer_free(&l);
    }
    if (!rc) rc = head_gradient(k, w.x, full, loss, err);
    for (size_t i = layers; i-- > 0 && !rc;) {
        anm_eager_layer l = {0};
        k->at = i * layer_rows(k->p);
        memcpy(w.x, k->kept + i * size, size * sizeof *w.x);
        rc = load_layer(&l, k, i, err);
        if (!rc) rc = anm_eager_layer_backward(k->d, &w, &l, k->p, k->cos, k->sin, gather, k, k->pool, err);
        anm_eager_layer_free(&l);
    }
    free(w.x);
    free(full);
    return rc;
}

static void adam(work *k, size_t step, size_t steps)
{
    double rate = RATE * fmin(1, (double)(step + 1) / WARM) * 0.5 * (1 + cos(3.14159265358979323846 * (double)step / (double)steps));
    double unbias_1 = 1 - pow(DECAY_1, (double)step + 1), unbias_2 = 1 - pow(DECAY_2, (double)step + 1);
    for (size_t i = 0; i < k->count; i++) {
        double g = (double)k->g[i];
        k->mean[i] = (float)(DECAY_1 * (double)k->mean[i] + (1 - DECAY_1) * g);
        k->square[i] = (float)(DECAY_2 * (double)k->square[i] + (1 - DECAY_2) * g * g);
        k->log[i] -= (float)(rate * ((double)k->mean[i] / unbias_1) / (sqrt((double)k->square[i] / unbias_2) + 1e-12));
        k->factor[i] = expf(k->log[i]);
        k->g[i] = 0;
    }
}

/* ---- the whole ---- */

static void shuffle(size_t *order, size_t n, uint64_t *seed)
{
    for (size_t i = 0; i < n; i++) order[i] = i;
    for (size_t i = n; i > 1; i--) {
        size_t j = (size_t)(anm_random_next(seed) % i), t = order[i - 1];
        order[i - 1] = order[j];
        order[j] = t;
    }
}

static int prepare(work *k, anm_error *err)
{
    const anm_calib_opts *o = k->t->o;
    size_t rows = BATCH * o->len, layers = (size_t)k->p->n_layers, table = o->len * (size_t)(k->p->use_hf_rope ? k->p->head_dim : k->p->head_dim / 2);
    k->cos = malloc(2 * table * sizeof *k->cos);
    k->kept = malloc(layers * rows * k->dim * sizeof *k->kept);
    k->d = malloc(rows * k->dim * sizeof *k->d);
    k->h = malloc(STEP * k->dim * sizeof *k->h);
    k->full = malloc(2 * STEP * k->vocab * sizeof *k->full);
    k->loss = malloc(STEP * sizeof *k->loss);
    k->token = malloc(rows * sizeof *k->token);
    k->log = calloc(4 * k->count, sizeof *k->log);
    if (!k->cos || !k->kept || !k->d || !k->h || !k->full || !k->loss || !k->token || !k->log) return anm_fail_memory(err, "gradients");
    k->sin = k->cos + table;
    k->logits = k->full + STEP * k->vocab;
    k->g = k->log + k->count;
    k->mean = k->g + k->count;
    k->square = k->mean + k->count;
    for (size_t i = 0; i < k->count; i++) k->factor[i] = 1;
    int rc = anm_rope_tables(k->cos, k->sin, &k->t->made->model, (int64_t)o->len, err);
    return rc ? rc : load_heads(k, err);
}

int anm_tune_factors(float *factor, double loss[2], const anm_tune *t, anm_pool *pool, anm_error *err)
{
    const anm_params *p = &t->made->model.params;
    const size_t windows = t->o->windows, passes = (size_t)t->o->tune, each = (windows + BATCH - 1) / BATCH, steps = passes * each;
    work k = {.t = t, .p = p, .pool = pool, .dim = (size_t)p->dim, .vocab = (size_t)p->vocab_size, .count = anm_tune_count(p), .factor = factor};
    uint64_t seed = t->o->seed;
    size_t *order = malloc(windows * sizeof *order), quarter = (steps + 3) / 4;
    int rc = order ? prepare(&k, err) : anm_fail_memory(err, "gradients");
    loss[0] = loss[1] = 0;
    for (size_t i = 0; i < steps && !rc; i++) {
        size_t at = i % each * BATCH;
        double now;
        if (!at) shuffle(order, windows, &seed);
        rc = through(&k, order + at, windows - at < BATCH ? windows - at : BATCH, &now, err);
        if (rc) break;
        if (i < quarter) loss[0] += now / (double)quarter;
        if (i + quarter >= steps) loss[1] += now / (double)quarter;
        adam(&k, i, steps);
        if (t->step) t->step(t->ctx, i + 1, steps);
    }
    free(order);
    free(k.cos), free(k.kept), free(k.d), free(k.h), free(k.full), free(k.loss), free(k.token), free(k.log);
    anm_spill_close(&k.spill);
    return rc;
}

int anm_tune_apply(anm_calibrated *c, const float *factor, bool fp16, anm_error *err)
{
    size_t total = 0;
    for (int go = 0; go < 2; go++) { /* count, then do */
        float *to = c->scales;
        const float *by = factor;
        for (size_t i = 0; i <= c->n_layers; i++)
            for (int j = 0; j < (i < c->n_layers ? ANM_LINEARS : 1); j++) {
                anm_made *m = &c->layer[i][j];
                size_t rows = (size_t)m->rows, groups = (size_t)m->groups;
                if (!go) {
                    total += rows * groups;
                    continue;
                }
                for (size_t n = 0; n < rows * groups; n++) {
                    float s = m->scale[n] * by[n / groups];
                    to[n] = fp16 ? fmaxf(anm_round_f16(s), 0x1p-14f) : s; /* a normal number, as they were */
                }
                m->scale = to;
                to += rows * groups;
                by += rows;
            }
        if (!go && !(c->scales = malloc(total * sizeof *c->scales))) return anm_fail_memory(err, "scales");
    }
    return 0;
}
