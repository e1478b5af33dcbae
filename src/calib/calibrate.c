/* SPDX-License-Identifier: BSD-3-Clause */
#include "calib/calibrate.h"
#include "base/half.h"
#include "calib/fisher.h"
#include "calib/gptq.h"
#include "calib/rotate.h"
#include "dense/dense.h"
#include "eager/eager.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The state of one calibration. */
typedef struct work {
    const anm_calib_opts *o;
    const anm_params *p;
    anm_pool *pool;
    anm_calibrated *out;
    size_t rows; /* windows * len */
    anm_windows full, quant; /* the two streams */
    anm_eager_layer fl, ql;  /* the layer: rotated, and as it is being quantised */
    size_t layer;
    float *fisher;      /* [n_layers][ANM_POINTS][rows], or NULL */
    float *seen[4];     /* the full stream's inputs at each point of the layer */
    float *residual[2]; /* and its residual before attention and before the MLP write to it */
} work;

anm_calib_opts anm_calib_defaults(void)
{
    return (anm_calib_opts){.linear_bits = 4, .embed_bits = 8, .fp16 = true, .seed = 1, .rotate = true, .damp = 0.01, .ridge = -1,
                            .tries = 3, .rounds = 2};
}

static int make_room(anm_made *m, int64_t rows, int64_t cols, int64_t group, anm_error *err)
{
    *m = (anm_made){.rows = rows, .cols = cols, .groups = group ? cols / group : 1};
    m->q = malloc((size_t)(rows * cols));
    m->scale = malloc((size_t)(rows * m->groups) * sizeof *m->scale);
    return m->q && m->scale ? 0 : anm_fail_memory(err, "calibrated weights");
}

static void dequantise(float *w, const anm_made *m, bool fp16)
{
    int64_t group = m->cols / m->groups;
    for (int64_t i = 0; i < m->rows; i++)
        for (int64_t j = 0; j < m->cols; j++) {
            float v = m->scale[i * m->groups + j / group] * (float)m->q[i * m->cols + j];
            w[i * m->cols + j] = fp16 ? anm_round_f16(v) : v;
        }
}

/* h (+)= x^T y, in fp64, in chunks of rows so that fp32 sums stay short. x [rows, n], y [rows, k]. */
static int accumulate(double *h, const float *x, size_t n, const float *y, size_t k, size_t rows, anm_pool *pool, anm_error *err)
{
    enum { CHUNK = 1024 };
    float *part = malloc(n * k * sizeof *part);
    int rc = part ? 0 : anm_fail_memory(err, "statistics");
    for (size_t at = 0; at < rows && !rc; at += CHUNK) {
        size_t c = rows - at < CHUNK ? rows - at : CHUNK;
        rc = anm_gemm(part, k, anm_transposed(x + at * n, n), anm_transposed(y + at * k, k), n, k, c, false, pool, err);
        for (size_t i = 0; i < n * k && !rc; i++) h[i] += part[i];
    }
    free(part);
    return rc;
}

/* The inverse of h + ridge * mean(diagonal), as fp32. */
static int inverse(float *out, const double *h, size_t n, double ridge, anm_pool *pool, anm_error *err)
{
    double *l = malloc(n * n * sizeof *l), mean = 0;
    float *lf = malloc(n * n * sizeof *lf);
    int rc = l && lf ? 0 : anm_fail_memory(err, "statistics");
    if (rc) goto done;
    memcpy(l, h, n * n * sizeof *l);
    for (size_t i = 0; i < n; i++) mean += h[i * n + i] / (double)n;
    for (size_t i = 0; i < n; i++) l[i * n + i] += ridge * mean + 1e-12;
    if ((rc = anm_cholesky(l, n, pool, err))) goto done;
    anm_lower_inverse(l, n, pool);
    for (size_t i = 0; i < n * n; i++) lf[i] = (float)l[i];
    rc = anm_gemm(out, n, anm_transposed(lf, n), anm_transposed(lf, n), n, n, n, false, pool, err);
done:
    free(l);
    free(lf);
    return rc;
}

/* One linear to quantise at a point: where its weights are, and where its result goes. */
typedef struct target {
    const char *name;
    const float *full;
    float *quant;
    size_t rows;
    int which;
} target;

static int quantise(work *k, const target *t, size_t n, const double *h, anm_made *m, anm_error *err)
{
    const anm_calib_opts *o = k->o;
    anm_gptq_opts g = {.low = -(1 << (o->linear_bits - 1)), .high = (1 << (o->linear_bits - 1)) - 1, .group = (size_t)o->linear_group,
                       .damp = o->damp, .tries = o->tries, .rounds = o->rounds, .fp16_scales = o->fp16};
    anm_gptq_report report;
    int rc = make_room(m, (int64_t)t->rows, (int64_t)n, o->linear_group, err);
    if (!rc) rc = anm_gptq((signed char *)m->q, m->scale, t->quant, t->rows, n, h, &g, &report, k->pool, err);
    if (rc) return rc;
    dequantise(t->quant, m, o->fp16);
    if (o->progress) o->progress(o->ctx, k->layer, t->name, report.rounding, report.reached);
    return 0;
}

/* The rows of x, each times the square root of its weight: their products are then weighted sums. NULL: no memory. */
static float *weighted(const float *x, size_t rows, size_t n, const float *weight)
{
    float *y = malloc(rows * n * sizeof *y);
    for (size_t r = 0; y && r < rows; r++) {
        float w = weight ? sqrtf(weight[r]) : 1;
        for (size_t i = 0; i < n; i++) y[r * n + i] = x[r * n + i] * w;
    }
    return y;
}

/* All linears that read `input` (the quantised stream's input at a point; `seen` the full stream's): moved by least
 * squares, then rounded. `drift` [rows, dim], or NULL: what the residual streams differ by where these write to it.
 * `weight` [rows], or NULL: how much each row counts. */
static int quantise_at(work *k, const float *input, const float *seen, size_t n, const target *t, int count, const float *drift,
                       const float *weight, anm_error *err)
{
    const anm_calib_opts *o = k->o;
    size_t out = drift ? t->rows : 0;
    double *h = calloc(n * n, sizeof *h), *c = o->ridge >= 0 ? calloc(n * (n > out ? n : out), sizeof *c) : NULL;
    float *diff = NULL, *inv = NULL, *move = NULL, *cf = NULL, *pull = NULL, *x = weighted(input, k->rows, n, weight);
    int rc = h && x && (c || o->ridge < 0) ? accumulate(h, x, n, x, n, k->rows, k->pool, err) : anm_fail_memory(err, "statistics");
    for (int i = 0; i < count; i++) memcpy(t[i].quant, t[i].full, t[i].rows * n * sizeof(float));
    if (rc || o->ridge < 0) goto round;

    /* full W seen = W x + W (seen - x): the second term, as far as x explains it, goes into the weights. */
    diff = malloc(k->rows * n * sizeof *diff);
    inv = malloc(n * n * sizeof *inv);
    cf = malloc(n * (n > out ? n : out) * sizeof *cf);
    move = malloc(n * (n > out ? n : out) * sizeof *move);
    if (!diff || !inv || !move || !cf) {
        rc = anm_fail_memory(err, "statistics");
        goto round;
    }
    for (size_t r = 0; r < k->rows; r++) {
        float w = weight ? sqrtf(weight[r]) : 1;
        for (size_t i = r * n; i < (r + 1) * n; i++) diff[i] = (seen[i] - input[i]) * w;
    }
    if ((rc = inverse(inv, h, n, o->ridge, k->pool, err))) goto round;
    if ((rc = accumulate(c, diff, n, x, n, k->rows, k->pool, err))) goto round;
    for (size_t i = 0; i < n * n; i++) cf[i] = (float)c[i];
    if ((rc = anm_gemm(move, n, anm_rows(cf, n), anm_rows(inv, n), n, n, n, false, k->pool, err))) goto round;
    for (int i = 0; i < count && !rc; i++) /* W + W move */
        rc = anm_gemm(t[i].quant, n, anm_rows(t[i].full, n), anm_transposed(move, n), t[i].rows, n, n, true, k->pool, err);
    if (drift && o->drift > 0 && !rc) {
        memset(c, 0, n * out * sizeof *c);
        pull = weighted(drift, k->rows, out, weight);
        if (!pull) {
            rc = anm_fail_memory(err, "statistics");
            goto round;
        }
        if ((rc = accumulate(c, pull, out, x, n, k->rows, k->pool, err))) goto round;
        for (size_t i = 0; i < n * out; i++) cf[i] = (float)(c[i] * o->drift);
        rc = anm_gemm(t->quant, n, anm_rows(cf, n), anm_rows(inv, n), out, n, n, true, k->pool, err);
    }
round:
    free(diff), free(inv), free(move), free(cf), free(c), free(pull), free(x);
    for (int i = 0; i < count && !rc; i++)
        rc = quantise(k, &t[i], n, h, &k->out->layer[k->layer][t[i].which], err);
    free(h);
    return rc;
}

static float *copy(const float *x, size_t n)
{
    float *p = malloc(n * sizeof *p);
    if (p) memcpy(p, x, n * sizeof *p);
    return p;
}

/* The full stream goes first and leaves its inputs behind … */
static int remember(void *ctx, anm_eager_point where, const float *x, size_t rows, size_t cols, anm_error *err)
{
    work *k = ctx;
    k->seen[where] = copy(x, rows * cols);
    if (!k->seen[where]) return anm_fail_memory(err, "activations");
    if (where != ANM_INTO_QKV && where != ANM_INTO_GATE_UP) return 0;
    float **r = &k->residual[where == ANM_INTO_GATE_UP];
    *r = copy(k->full.x, rows * (size_t)k->p->dim);
    return *r ? 0 : anm_fail_memory(err, "activations");
}

/* … then the quantised one comes by, and each linear is made just before it is used. */
static int make(void *ctx, anm_eager_point where, const float *x, size_t rows, size_t cols, anm_error *err)
{
    work *k = ctx;
    const anm_eager_layer *f = &k->fl;
    anm_eager_layer *q = &k->ql;
    size_t nq = (size_t)(k->p->n_heads * k->p->head_dim), nk = (size_t)(k->p->n_kv_heads * k->p->head_dim);
    size_t dim = (size_t)k->p->dim, hidden = (size_t)k->p->hidden_dim;
    float *drift = NULL;
    target t[3];
    int count = 0;
    switch (where) {
    case ANM_INTO_QKV:
        t[count++] = (target){"wq", f->wq, q->wq, nq, ANM_WQ};
        t[count++] = (target){"wk", f->wk, q->wk, nk, ANM_WK};
        t[count++] = (target){"wv", f->wv, q->wv, nk, ANM_WV};
        break;
    case ANM_INTO_O: t[count++] = (target){"wo", f->wo, q->wo, dim, ANM_WO}; break;
    case ANM_INTO_GATE_UP:
        t[count++] = (target){"w1", f->w1, q->w1, hidden, ANM_W1};
        t[count++] = (target){"w3", f->w3, q->w3, hidden, ANM_W3};
        break;
    case ANM_INTO_DOWN: t[count++] = (target){"w2", f->w2, q->w2, dim, ANM_W2}; break;
    }
    if (where == ANM_INTO_O || where == ANM_INTO_DOWN) {
        drift = k->residual[where == ANM_INTO_DOWN];
        for (size_t i = 0; i < rows * dim; i++) drift[i] -= k->quant.x[i];
    }
    const float *weight = k->fisher ? k->fisher + (k->layer * ANM_POINTS + where) * rows : NULL;
    return quantise_at(k, x, k->seen[where], cols, t, count, drift, weight, err);
}

/* Embeddings are rounded to nearest, with the scale that loses least for each row or group. */
static void round_embedding(anm_made *m, const float *w, const anm_calib_opts *o)
{
    int low = -(1 << (o->embed_bits - 1)), high = -low - 1;
    int64_t group = m->cols / m->groups;
    for (int64_t at = 0; at < m->rows * m->groups; at++) {
        const float *x = w + at * group;
        float most = 0, best = 0;
        double least = INFINITY;
        for (int64_t j = 0; j < group; j++) most = fmaxf(most, fabsf(x[j]));
        for (int t = 0; t < (o->embed_bits == 4 ? 20 : 6) && most > 0; t++) {
            float s = most * (1 - 0.02f * (float)t) / ((float)(high - low) / 2);
            if (o->fp16) s = anm_round_f16(s);
            double e = 0;
            for (int64_t j = 0; j < group; j++) {
                float q = fminf(fmaxf(rintf(x[j] / s), (float)low), (float)high), d = x[j] - q * s;
                e += (double)(d * d);
            }
            if (e < least) {
                least = e;
                best = s;
            }
        }
        m->scale[at] = best > 0 ? best : 1;
        for (int64_t j = 0; j < group; j++)
            m->q[at * group + j] = (int8_t)fminf(fmaxf(rintf(x[j] / m->scale[at]), (float)low), (float)high);
    }
}

/* The rotated embedding, and both streams' first residual from it. */
static int begin(work *k, const anm_model *m, const int32_t *tokens, const anm_rotation *stream, anm_error *err)
{
    const anm_calib_opts *o = k->o;
    size_t vocab = (size_t)k->p->vocab_size, dim = (size_t)k->p->dim;
    float *e = malloc(vocab * dim * sizeof *e);
    int rc = e ? anm_eager_read(e, &m->tok_embeddings, k->pool, err) : anm_fail_memory(err, "embedding");
    if (!rc) rc = anm_rotate_rows(e, vocab, dim, stream, k->pool, err);
    if (!rc) rc = anm_windows_new(&k->full, m, tokens, o->windows, o->len, err);
    if (!rc) rc = anm_windows_new(&k->quant, m, tokens, o->windows, o->len, err);
    for (size_t i = 0; i < k->rows && !rc; i++) memcpy(k->full.x + i * dim, e + (size_t)tokens[i] * dim, dim * sizeof *e);
    if (!rc && o->embed_bits) {
        rc = make_room(&k->out->embedding, (int64_t)vocab, (int64_t)dim, o->embed_group, err);
        if (!rc) {
            round_embedding(&k->out->embedding, e, o);
            dequantise(e, &k->out->embedding, o->fp16);
        }
    }
    for (size_t i = 0; i < k->rows && !rc; i++) memcpy(k->quant.x + i * dim, e + (size_t)tokens[i] * dim, dim * sizeof *e);
    if (!o->embed_bits) k->out->embedding_values = e;
    else free(e);
    return rc;
}

static int one_layer(work *k, const anm_model *m, const anm_rotation *stream, const anm_rotation *value, const float *cos,
                     const float *sin, anm_error *err)
{
    size_t nk = (size_t)(k->p->n_kv_heads * k->p->head_dim);
    int rc = anm_eager_layer_load(&k->fl, m, k->layer, k->pool, err);
    if (!rc) rc = anm_eager_layer_load(&k->ql, m, k->layer, k->pool, err);
    if (!rc) rc = anm_rotate_layer(&k->fl, k->p, stream, value, k->pool, err);
    if (!rc) rc = anm_rotate_layer(&k->ql, k->p, stream, value, k->pool, err);
    if (!rc && k->fl.bv) memcpy(k->out->value_bias + k->layer * nk, k->fl.bv, nk * sizeof *k->fl.bv);
    if (!rc) rc = anm_eager_layer_run(&k->full, &k->fl, k->p, cos, sin, remember, k, k->pool, err);
    if (!rc) rc = anm_eager_layer_run(&k->quant, &k->ql, k->p, cos, sin, make, k, k->pool, err);
    for (int i = 0; i < 4; i++) free(k->seen[i]), k->seen[i] = NULL;
    for (int i = 0; i < 2; i++) free(k->residual[i]), k->residual[i] = NULL;
    anm_eager_layer_free(&k->fl);
    anm_eager_layer_free(&k->ql);
    return rc;
}

static int make_head(work *k, const anm_model *m, const anm_rotation *stream, anm_error *err)
{
    size_t vocab = (size_t)k->p->vocab_size, dim = (size_t)k->p->dim;
    float *w = malloc(vocab * dim * sizeof *w), *q = malloc(vocab * dim * sizeof *q), *norm = malloc(dim * sizeof *norm);
    int rc = w && q && norm ? anm_eager_read(w, &m->output, k->pool, err) : anm_fail_memory(err, "head");
    if (!rc) rc = anm_matrix_rows_f32(norm, &m->norm, 0, 1, err);
    if (!rc) rc = anm_rotate_head(w, vocab, norm, stream, k->pool, err);
    anm_eager_norm(k->full.x, k->full.x, NULL, k->rows, dim, k->p->norm_eps);
    anm_eager_norm(k->quant.x, k->quant.x, NULL, k->rows, dim, k->p->norm_eps);
    target t = {"head", w, q, vocab, 0};
    k->layer = (size_t)k->p->n_layers;
    if (!rc) rc = quantise_at(k, k->quant.x, k->full.x, dim, &t, 1, NULL, NULL, err);
    free(w), free(q), free(norm);
    return rc;
}

void anm_calibrated_free(anm_calibrated *c)
{
    for (size_t i = 0; c->layer && i <= c->n_layers; i++)
        for (int j = 0; j < ANM_LINEARS; j++) free(c->layer[i][j].q), free(c->layer[i][j].scale);
    free(c->layer);
    free(c->embedding.q), free(c->embedding.scale), free(c->embedding_values), free(c->value_bias);
    free(c->model.layers), free(c->ones), free(c->vector);
    *c = (anm_calibrated){0};
}

static anm_tensor *vector(anm_calibrated *c, size_t i, float *data, int64_t rows, int64_t cols)
{
    c->vector[i] = (anm_tensor){.name = "calibrated", .dtype = ANM_DT_F32, .rank = rows > 1 ? 2 : 1, .data = (const uint8_t *)data,
                                .size = (uint64_t)(rows * cols) * sizeof *data, .file = "calibration"};
    c->vector[i].shape[0] = rows > 1 ? rows : cols;
    c->vector[i].shape[1] = cols;
    c->vector[i].stride[0] = rows > 1 ? cols : 1;
    c->vector[i].stride[1] = 1;
    return &c->vector[i];
}

static anm_matrix of_tensor(const anm_tensor *t, int64_t rows, int64_t cols)
{
    anm_matrix m = {.rows = rows, .cols = cols, .n_parts = 1};
    m.part[0] = t;
    return m;
}

/* The model as the exporter is to see it. */
static int derive(anm_calibrated *c, const anm_model *m, anm_error *err)
{
    const anm_params *p = &m->params;
    int64_t nk = p->n_kv_heads * p->head_dim;
    c->model = *m;
    c->model.layers = malloc(c->n_layers * sizeof *c->model.layers);
    c->ones = malloc((size_t)p->dim * sizeof *c->ones);
    c->vector = calloc(c->n_layers + 2, sizeof *c->vector);
    if (!c->model.layers || !c->ones || !c->vector) return anm_fail_memory(err, "calibrated model");
    for (int64_t i = 0; i < p->dim; i++) c->ones[i] = 1;
    anm_matrix norm = of_tensor(vector(c, 0, c->ones, 1, p->dim), 1, p->dim);
    c->model.norm = norm;
    c->model.output.made = &c->layer[c->n_layers][0];
    if (c->embedding.q) c->model.tok_embeddings.made = &c->embedding;
    else c->model.tok_embeddings = of_tensor(vector(c, 1, c->embedding_values, p->vocab_size, p->dim), p->vocab_size, p->dim);
    for (size_t i = 0; i < c->n_layers; i++) {
        anm_layer *l = &c->model.layers[i];
        anm_matrix *linear[ANM_LINEARS] = {&l->wq, &l->wk, &l->wv, &l->wo, &l->w1, &l->w2, &l->w3};
        *l = m->layers[i];
        l->attention_norm = l->ffn_norm = norm;
        for (int j = 0; j < ANM_LINEARS; j++) linear[j]->made = &c->layer[i][j];
        if (c->value_bias) l->bv = of_tensor(vector(c, i + 2, c->value_bias + (int64_t)i * nk, 1, nk), 1, nk);
    }
    return 0;
}

int anm_calibrate(anm_calibrated *out, const anm_model *m, const int32_t *tokens, const anm_calib_opts *o, anm_pool *pool,
                  anm_error *err)
{
    const anm_params *p = &m->params;
    anm_rotation stream = {0}, value = {0};
    size_t table = o->len * (size_t)(p->use_hf_rope ? p->head_dim : p->head_dim / 2);
    float *cos = malloc(2 * table * sizeof *cos);
    work k = {.o = o, .p = p, .pool = pool, .out = out, .rows = o->windows * o->len};
    *out = (anm_calibrated){.n_layers = (size_t)p->n_layers};
    out->layer = calloc((size_t)p->n_layers + 1, sizeof *out->layer);
    if (p->attention_qkv_bias) out->value_bias = calloc((size_t)(p->n_layers * p->n_kv_heads * p->head_dim), sizeof *out->value_bias);
    int rc = out->layer && cos && (out->value_bias || !p->attention_qkv_bias) ? anm_rope_tables(cos, cos + table, m, (int64_t)o->len, err) : anm_fail_memory(err, "calibration");
    if (!rc) rc = anm_rotation_new(&stream, (size_t)p->dim, o->seed, !o->rotate, err);
    if (!rc) rc = anm_rotation_new(&value, (size_t)p->head_dim, o->seed + 1, !o->rotate, err);
    if (!rc && o->fisher) {
        k.fisher = malloc((size_t)p->n_layers * ANM_POINTS * k.rows * sizeof *k.fisher);
        rc = k.fisher ? anm_fisher(k.fisher, m, tokens, o->windows, o->len, 4, o->seed, pool, err) : anm_fail_memory(err, "gradients");
    }
    if (!rc) rc = begin(&k, m, tokens, &stream, err);
    for (k.layer = 0; k.layer < (size_t)p->n_layers && !rc; k.layer++)
        rc = one_layer(&k, m, &stream, &value, cos, cos + table, err);
    if (!rc) rc = make_head(&k, m, &stream, err);
    if (!rc) rc = derive(out, m, err);
    free(k.fisher);
    anm_windows_free(&k.full);
    anm_windows_free(&k.quant);
    anm_rotation_free(&stream);
    anm_rotation_free(&value);
    free(cos);
    if (rc) anm_calibrated_free(out);
    return rc;
}
