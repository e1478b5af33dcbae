/* SPDX-License-Identifier: BSD-3-Clause */
#include "calib/calibrate.h"
#include "base/half.h"
#include "base/spill.h"
#include "calib/derive.h"
#include "calib/hot_kind.h"
#include "calib/key.h"
#include "calib/point.h"
#include "calib/rotate.h"
#include "calib/tune.h"
#include "eager/eager.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

const char *const anm_linear_names[ANM_LINEARS] = {"wq", "wk", "wv", "wo", "w1", "w2", "w3"};

enum {
    SLAB = 1 << 23, /* weights of embedding and head in work at a time */
};

/* The state of one calibration. */
typedef struct work {
    const anm_calib_opts *o;
    const anm_model *m;
    const anm_params *p;
    const int32_t *tokens;
    anm_pool *pool;
    anm_calibrated *out;
    size_t rows; /* windows * len */
    anm_rotation stream, value;
    float *cos, *sin;
    anm_spill spill;   /* what the activations below lie in */
    bool both;         /* the full stream runs, too */
    anm_windows full, quant;
    float *seen[4];     /* the full stream's inputs at each point of the layer */
    float *residual[2]; /* and its residual before attention and before the MLP write to it */
    size_t layer;
    anm_eager_layer l; /* rotated; quantised linear by linear */
    anm_point point;   /* of the layer in work */
    size_t at;         /* rows that came by it */
    anm_calib_note *note;
    double cost, done, resumed;
    struct timespec since;
} work;

anm_calib_opts anm_calib_defaults(void)
{
    return (anm_calib_opts){.linear_bits = 4, .embed_bits = 8, .fp16 = true, .seed = 1, .rotate = true, .damp = 0.01, .ridge = 0.01,
                            .drift = 0.5, .tries = 3, .rounds = 2};
}

/* ---- what lies where in the work file ---- */

typedef struct shape {
    size_t rows, cols;
} shape;

static void layer_shapes(shape s[ANM_LINEARS], const anm_params *p)
{
    size_t dim = (size_t)p->dim, nq = (size_t)(p->n_heads * p->head_dim), nk = (size_t)(p->n_kv_heads * p->head_dim);
    size_t f = (size_t)p->hidden_dim;
    s[ANM_WQ] = (shape){nq, dim}, s[ANM_WK] = s[ANM_WV] = (shape){nk, dim}, s[ANM_WO] = (shape){dim, nq};
    s[ANM_W1] = s[ANM_W3] = (shape){f, dim}, s[ANM_W2] = (shape){dim, f};
}

/* Puts a matrix at *at behind `base` (NULL: only counts) and moves on. */
static void place(anm_made *m, uint8_t *base, uint64_t *at, shape s, int64_t group, bool fp16)
{
    *m = (anm_made){.rows = (int64_t)s.rows, .cols = (int64_t)s.cols, .groups = group ? (int64_t)s.cols / group : 1, .fp16 = fp16};
    if (base) m->scale = (float *)(void *)(base + *at);
    *at += s.rows * (uint64_t)m->groups * sizeof *m->scale;
    if (base) m->q = (int8_t *)base + *at;
    *at += (s.rows * s.cols + 63) & ~(uint64_t)63;
}

/* The bytes of stage i; with a store, `out` learns where everything is. */
static uint64_t place_stage(anm_calibrated *out, const anm_params *p, const anm_calib_opts *o, size_t i)
{
    size_t layers = (size_t)p->n_layers, vocab = (size_t)p->vocab_size, dim = (size_t)p->dim, nk = (size_t)(p->n_kv_heads * p->head_dim);
    if (i > layers + 1) return anm_tune_count(p) * sizeof(float);
    uint8_t *base = out->store ? anm_store_stage(out->store, i) : NULL;
    shape s[ANM_LINEARS];
    uint64_t at = 0;
    if (i == 0 && !o->embed_bits) {
        out->embedding_values = (float *)(void *)base;
        return vocab * dim * sizeof(float);
    }
    if (i == 0) place(&out->embedding, base, &at, (shape){vocab, dim}, o->embed_group, o->fp16);
    else if (i > layers) place(&out->layer[layers][0], base, &at, (shape){vocab, dim}, o->linear_group, o->fp16);
    else {
        layer_shapes(s, p);
        if (out->value_bias) {
            out->value_bias[i - 1] = (const float *)(void *)base;
            at = (nk * sizeof(float) + 63) & ~(uint64_t)63;
        }
        for (int j = 0; j < ANM_LINEARS; j++) place(&out->layer[i - 1][j], base, &at, s[j], o->linear_group, o->fp16);
    }
    return at;
}

const anm_calib_note *anm_calibrated_note(const anm_calibrated *c, size_t i)
{
    return anm_store_note(c->store, i);
}

static size_t stage_count(const work *k)
{
    return (size_t)k->p->n_layers + 2 + k->out->tuned;
}

static int open_store(work *k, size_t *done, anm_error *err)
{
    anm_calibrated *out = k->out;
    size_t stages = stage_count(k);
    _Static_assert(sizeof(anm_calib_note) <= ANM_STORE_NOTE, "a note fits its record");
    uint64_t *size = malloc(stages * sizeof *size);
    if (!size) return anm_fail_memory(err, "calibration");
    anm_store_plan plan = {.path = k->o->work, .beside = k->o->beside, .resume = k->o->resume, .stages = stages, .size = size,
                           .carried = (k->both ? 2 : 1) * (uint64_t)k->rows * (uint64_t)k->p->dim * sizeof(float)};
    for (size_t i = 0; i < stages; i++) size[i] = place_stage(out, k->p, k->o, i);
    if (k->o->work) anm_calib_key(plan.key, k->m, k->tokens, k->o);
    int rc = anm_store_open(&out->store, &plan, done, err);
    for (size_t i = 0; i < stages && !rc; i++) place_stage(out, k->p, k->o, i);
    free(size);
    return rc;
}

/* Activations: in memory if they are few, else in a file that the system may put on disk. */
static int open_spill(work *k, anm_error *err)
{
    const anm_params *p = k->p;
    size_t dim = (size_t)p->dim, nq = (size_t)(p->n_heads * p->head_dim), f = (size_t)p->hidden_dim;
    const struct {
        float **to;
        size_t cols;
        bool always;
    } parts[] = {{&k->quant.x, dim, true}, {&k->full.x, dim, false}, {&k->seen[ANM_INTO_QKV], dim, false},
                 {&k->seen[ANM_INTO_O], nq, false}, {&k->seen[ANM_INTO_GATE_UP], dim, false}, {&k->seen[ANM_INTO_DOWN], f, false},
                 {&k->residual[0], dim, false}, {&k->residual[1], dim, false}};
    enum { PARTS = sizeof parts / sizeof *parts };
    size_t total = anm_eager_room(p, k->rows);
    for (size_t i = 0; i < PARTS; i++) total += parts[i].always || k->both ? k->rows * parts[i].cols : 0;
    int rc = anm_spill_room(&k->spill, "activations", k->o->beside, total * sizeof(float), err);
    float *at = (float *)(void *)k->spill.data;
    for (size_t i = 0; i < PARTS && !rc; i++) {
        if (!parts[i].always && !k->both) continue;
        *parts[i].to = at;
        at += k->rows * parts[i].cols;
    }
    k->quant.room = k->full.room = at;
    k->quant.windows = k->full.windows = k->o->windows;
    k->quant.len = k->full.len = k->o->len;
    return rc;
}

/* ---- progress and figures ---- */

/* Of one linear, in multiplications: the text's way through it in both streams, rounding it, the statistics of what it reads,
 * if it is the first to read there, and moving it (see point.c). */
static double cost(const work *k, shape s, int which)
{
    double n = (double)s.cols, rows = (double)s.rows, text = (double)k->rows;
    bool head = which < 0, writes = which == ANM_WO || which == ANM_W2, first = which != ANM_WK && which != ANM_WV && which != ANM_W3;
    double sum = rows * n * n * (4 + k->o->tries / 2.0);
    if (!head) sum += rows * n * text * (k->both ? 2 : 1);
    if (first) sum += text * n * n / 2 + n * n * n / 3;
    if (k->both && first) sum += n * n * n / 3;
    if (k->both && writes) sum += 2 * rows * n * (text + n);
    else if (k->both) sum += rows * n * n + (first ? text * n * n + 2 * n * n * n : 0);
    return sum;
}

/* There and back again: each linear three times and a half. */
static double tune_cost(const work *k)
{
    shape s[ANM_LINEARS];
    double weights = (double)k->p->vocab_size * (double)k->p->dim;
    layer_shapes(s, k->p);
    for (int j = 0; j < ANM_LINEARS; j++) weights += (double)k->p->n_layers * (double)s[j].rows * (double)s[j].cols;
    return 3.5 * weights * (double)k->rows * k->o->tune;
}

static double stage_cost(const work *k, size_t i)
{
    shape s[ANM_LINEARS];
    double sum = 0;
    if (i == 0) return 0;
    if (i > (size_t)k->p->n_layers + 1) return tune_cost(k);
    if (i > (size_t)k->p->n_layers) return cost(k, (shape){(size_t)k->p->vocab_size, (size_t)k->p->dim}, -1);
    layer_shapes(s, k->p);
    for (int j = 0; j < ANM_LINEARS; j++) sum += cost(k, s[j], j);
    return sum;
}

static void tell(work *k, int which)
{
    if (!k->o->progress) return;
    anm_calib_event e = {.layer = k->layer, .layers = (size_t)k->p->n_layers, .which = which, .done = k->done / k->cost, .resumed = k->resumed / k->cost};
    if (which >= 0) e.figure = &k->note->linear[which];
    k->o->progress(k->o->ctx, &e);
}

enum { RUN = 1 << 16 };
typedef struct largest_job {
    const float *x;
    size_t n;
    float *of; /* each run's */
} largest_job;

static void largest_run(void *ctx, uint32_t i, unsigned thread)
{
    (void)thread;
    const largest_job *j = ctx;
    size_t at = (size_t)i * RUN, end = j->n - at < RUN ? j->n : at + RUN;
    float most = 0;
    for (; at < end; at++) most = fabsf(j->x[at]) > most ? fabsf(j->x[at]) : most;
    j->of[i] = most;
}

/* The largest absolute value; 0 where memory is out, since it is a figure and no more. */
static double largest(const float *x, size_t n, anm_pool *pool)
{
    size_t runs = (n + RUN - 1) / RUN;
    largest_job j = {x, n, malloc(runs * sizeof *j.of)};
    float most = 0;
    if (j.of) anm_pool_run(pool, largest_run, &j, (uint32_t)runs);
    for (size_t i = 0; i < runs && j.of; i++) most = j.of[i] > most ? j.of[i] : most;
    free(j.of);
    return (double)most;
}

static double seconds_since(struct timespec *since)
{
    struct timespec now, was = *since;
    clock_gettime(CLOCK_MONOTONIC, &now);
    *since = now;
    return (double)(now.tv_sec - was.tv_sec) + 1e-9 * (double)(now.tv_nsec - was.tv_nsec);
}

/* ---- stages ---- */

static void begin_stage(work *k, size_t i)
{
    k->note = anm_store_note(k->out->store, i);
    memset(k->note, 0, ANM_STORE_NOTE);
    seconds_since(&k->since);
    tell(k, -1);
}

static void end_stage(work *k, size_t i)
{
    size_t size = k->rows * (size_t)k->p->dim;
    float *carried = anm_store_carried(k->out->store, i);
    k->note->largest = largest(k->quant.x, size, k->pool);
    memcpy(carried, k->quant.x, size * sizeof *carried);
    if (k->both) memcpy(carried + size, k->full.x, size * sizeof *carried);
    k->note->seconds = seconds_since(&k->since);
    anm_store_commit(k->out->store, i);
}

static void take_up(work *k, size_t done)
{
    size_t size = k->rows * (size_t)k->p->dim;
    const float *carried = anm_store_carried(k->out->store, done - 1);
    memcpy(k->quant.x, carried, size * sizeof *carried);
    if (k->both) memcpy(k->full.x, carried + size, size * sizeof *carried);
    for (size_t i = 0; i < done; i++) k->done += stage_cost(k, i);
    k->resumed = k->done;
}

typedef struct embed_job {
    const anm_made *m;
    const anm_calib_opts *o;
    const anm_hot *hot;
    const float *w, *ones; /* w from row `first` on; ones [group] */
    size_t first;
} embed_job;

/* A row of the embedding is rounded to nearest, with the scale that loses least for it or for each of its groups. */
static void round_embedding(void *ctx, uint32_t row, unsigned thread)
{
    (void)thread;
    const embed_job *job = ctx;
    const anm_made *m = job->m;
    const anm_calib_opts *o = job->o;
    const float high = (float)((1 << (o->embed_bits - 1)) - 1), low = -high - 1;
    size_t groups = (size_t)m->groups, group = (size_t)m->cols / groups;
    for (size_t g = 0; g < groups; g++) {
        const float *x = job->w + row * (size_t)m->cols + g * group;
        size_t at = (job->first + row) * groups + g;
        float most = 0, best = 1;
        double least = INFINITY;
        for (size_t j = 0; j < group && most == most; j++) most = fabsf(x[j]) <= most ? most : fabsf(x[j]); /* or a NaN */
        if (o->fp16) most = anm_round_f16(most);
        for (int t = 0; t < (o->embed_bits == 4 ? 20 : 6) && most > 0; t++) {
            float s = most * (1 - 0.02f * (float)t) / ((high - low) / 2);
            s = o->fp16 ? fmaxf(anm_round_f16(s), 0x1p-14f) : fmaxf(s, FLT_MIN); /* a normal number */
            double e = job->hot->grid_error(x, job->ones, group, s, low, high);
            if (!t || e < least) { /* that of the largest value, where errors are beyond all numbers */
                least = e;
                best = s;
            }
        }
        m->scale[at] = isfinite(most) ? best : NAN; /* the values are beyond the type */
        for (size_t j = 0; j < group; j++) {
            float q = rintf(x[j] / m->scale[at]);
            m->q[at * group + j] = (int8_t)(!(q > low) ? low : q > high ? high : q);
        }
    }
}

/* Rows of the embedding, or of the head with the final norm folded, as they are after the rotation. */
static int rotated_rows(float *w, const work *k, const anm_matrix *m, const float *norm, size_t row, size_t rows, anm_error *err)
{
    int rc = anm_eager_read_rows(w, m, (int64_t)row, (int64_t)rows, k->pool, err);
    if (!rc && norm) return anm_rotate_head(w, rows, norm, &k->stream, k->pool, err);
    return rc ? rc : anm_rotate_rows(w, rows, (size_t)k->p->dim, &k->stream, k->pool, err);
}

static size_t slab(const work *k)
{
    size_t rows = SLAB / (size_t)k->p->dim;
    return rows ? rows : 1;
}

/* The rotated embedding, and each stream's first residual from it. */
static int make_embedding(work *k, anm_error *err)
{
    const anm_calib_opts *o = k->o;
    size_t vocab = (size_t)k->p->vocab_size, dim = (size_t)k->p->dim, most = slab(k);
    const anm_made *made = &k->out->embedding;
    float *w = malloc(most * dim * sizeof *w), *ones = malloc(dim * sizeof *ones);
    int rc = w && ones ? 0 : anm_fail_memory(err, "embedding");
    for (size_t i = 0; i < dim && !rc; i++) ones[i] = 1;
    for (size_t at = 0; at < vocab && !rc; at += most) {
        size_t rows = vocab - at < most ? vocab - at : most;
        rc = rotated_rows(w, k, &k->m->tok_embeddings, NULL, at, rows, err);
        if (rc) break;
        if (!o->embed_bits) {
            memcpy(k->out->embedding_values + at * dim, w, rows * dim * sizeof *w);
            continue;
        }
        embed_job j = {made, o, anm_hot_pick(), w, ones, at};
        anm_pool_run(k->pool, round_embedding, &j, (uint32_t)rows);
        size_t groups = (size_t)made->groups;
        for (size_t i = at * groups; i < (at + rows) * groups && !rc; i++)
            if (isnan(made->scale[i]))
                rc = anm_fail(err, ANM_ERR_LIMIT, "row %zu of the embedding has values that %s cannot hold%s", i / groups,
                              o->fp16 ? "fp16" : "fp32", o->fp16 ? "; --dtype fp32 holds more" : "");
    }
    free(w);
    free(ones);
    for (size_t i = 0; i < k->rows && !rc; i++) {
        size_t token = (size_t)k->tokens[i];
        rc = anm_matrix_rows_f32(k->quant.x + i * dim, &k->out->model.tok_embeddings, (int64_t)token, 1, err);
        if (!rc && k->both) rc = anm_matrix_rows_f32(k->full.x + i * dim, &k->m->tok_embeddings, (int64_t)token, 1, err);
    }
    if (!rc && k->both) rc = anm_rotate_rows(k->full.x, k->rows, dim, &k->stream, k->pool, err);
    return rc;
}

/* Where a layer is in work: the full stream goes first and leaves its inputs behind … */
static int remember(void *ctx, anm_eager_point where, const float *x, size_t rows, size_t cols, anm_error *err)
{
    work *k = ctx;
    (void)err;
    if (x) {
        memcpy(k->seen[where] + k->at * cols, x, rows * cols * sizeof *x);
        k->at += rows;
        return 0;
    }
    k->at = 0;
    if (where == ANM_INTO_QKV || where == ANM_INTO_GATE_UP)
        memcpy(k->residual[where == ANM_INTO_GATE_UP], k->full.x, k->rows * (size_t)k->p->dim * sizeof(float));
    return 0;
}

/* Rounds the linears that read at a point. */
static int round_linears(work *k, anm_eager_point where, anm_error *err)
{
    static const int at[4][3] = {[ANM_INTO_QKV] = {ANM_WQ, ANM_WK, ANM_WV}, [ANM_INTO_O] = {ANM_WO, -1},
                                 [ANM_INTO_GATE_UP] = {ANM_W1, ANM_W3, -1}, [ANM_INTO_DOWN] = {ANM_W2, -1}};
    float *weights[ANM_LINEARS] = {k->l.wq, k->l.wk, k->l.wv, k->l.wo, k->l.w1, k->l.w2, k->l.w3};
    int rc = anm_point_solve(&k->point, k->pool, err);
    for (int i = 0; i < 3 && at[where][i] >= 0 && !rc; i++) {
        int which = at[where][i];
        const anm_made *m = &k->out->layer[k->layer][which];
        rc = anm_point_round(&k->point, m, weights[which], 0, (size_t)m->rows, &k->note->linear[which], k->pool, err);
        k->done += cost(k, (shape){(size_t)m->rows, (size_t)m->cols}, which);
        if (!rc) tell(k, which);
    }
    anm_point_free(&k->point);
    k->at = 0;
    return rc;
}

/* … then the quantised one comes by, and linears are made just before they are used. */
static int make_linears(void *ctx, anm_eager_point where, const float *x, size_t rows, size_t cols, anm_error *err)
{
    work *k = ctx;
    size_t dim = (size_t)k->p->dim;
    if (!x) return round_linears(k, where, err);
    const float *writer = where == ANM_INTO_O ? k->l.wo : where == ANM_INTO_DOWN ? k->l.w2 : NULL; /* to the residual stream */
    int rc = k->at ? 0 : anm_point_new(&k->point, k->o, cols, writer, dim, err);
    if (rc) return rc;
    float *drift = NULL;
    if (k->both && writer) {
        drift = k->residual[where == ANM_INTO_DOWN] + k->at * dim;
        for (size_t i = 0; i < rows * dim; i++) drift[i] -= k->quant.x[k->at * dim + i];
    }
    k->note->inside[where] = fmax(k->note->inside[where], largest(x, rows * cols, k->pool));
    rc = anm_point_add(&k->point, x, k->both ? k->seen[where] + k->at * cols : NULL, drift, rows, k->pool, err);
    k->at += rows;
    return rc;
}

static int make_layer(work *k, anm_error *err)
{
    size_t nk = (size_t)(k->p->n_kv_heads * k->p->head_dim);
    int rc = anm_eager_layer_load(&k->l, k->m, k->layer, k->pool, err);
    if (!rc) rc = anm_rotate_layer(&k->l, k->p, &k->stream, &k->value, k->pool, err);
    if (!rc && k->l.bv) memcpy(anm_store_stage(k->out->store, k->layer + 1), k->l.bv, nk * sizeof *k->l.bv);
    k->at = 0;
    if (!rc && k->both) rc = anm_eager_layer_run(&k->full, &k->l, k->p, k->cos, k->sin, remember, k, k->pool, err);
    if (!rc) rc = anm_eager_layer_run(&k->quant, &k->l, k->p, k->cos, k->sin, make_linears, k, k->pool, err);
    anm_point_free(&k->point); /* where it went wrong half-way */
    anm_eager_layer_free(&k->l);
    return rc;
}

/* Rows of the full model's head over the rotated stream. */
static int full_head(void *ctx, float *w, size_t row, size_t rows, anm_error *err)
{
    const work *k = ctx;
    size_t dim = (size_t)k->p->dim;
    float *norm = malloc(dim * sizeof *norm);
    int rc = norm ? anm_matrix_rows_f32(norm, &k->m->norm, 0, 1, err) : anm_fail_memory(err, "head");
    if (!rc) rc = rotated_rows(w, k, &k->m->output, norm, row, rows, err);
    free(norm);
    return rc;
}

static int make_head(work *k, anm_error *err)
{
    size_t vocab = (size_t)k->p->vocab_size, dim = (size_t)k->p->dim, most = slab(k);
    const anm_made *made = &k->out->layer[k->p->n_layers][0];
    float *w = malloc(most * dim * sizeof *w);
    int rc = w ? 0 : anm_fail_memory(err, "head");
    anm_eager_norm(k->quant.x, k->quant.x, NULL, k->rows, dim, k->p->norm_eps);
    if (k->both) anm_eager_norm(k->full.x, k->full.x, NULL, k->rows, dim, k->p->norm_eps);
    if (!rc) rc = anm_point_new(&k->point, k->o, dim, NULL, 0, err);
    for (size_t i = 0; i < k->rows && !rc; i += k->o->len)
        rc = anm_point_add(&k->point, k->quant.x + i * dim, k->both ? k->full.x + i * dim : NULL, NULL, k->o->len, k->pool, err);
    if (!rc) rc = anm_point_solve(&k->point, k->pool, err);
    for (size_t at = 0; at < vocab && !rc; at += most) {
        size_t rows = vocab - at < most ? vocab - at : most;
        rc = full_head(k, w, at, rows, err);
        if (!rc) rc = anm_point_round(&k->point, made, w, at, rows, &k->note->linear[0], k->pool, err);
        k->done += stage_cost(k, k->layer + 1) * (double)rows / (double)vocab;
        if (!rc) tell(k, 0);
    }
    anm_point_free(&k->point);
    free(w);
    return rc;
}

/* ---- tuning ---- */

static void tell_step(void *ctx, size_t done, size_t of)
{
    work *k = ctx;
    k->done += tune_cost(k) / (double)of;
    (void)done;
    tell(k, -1);
}

/* After the head, where both streams are as they flow into it. */
static int make_factors(work *k, anm_error *err)
{
    size_t i = (size_t)k->p->n_layers + 2;
    anm_tune t = {.made = k->out, .o = k->o, .tokens = k->tokens, .full = k->full.x, .head = full_head, .step = tell_step, .ctx = k};
    return anm_tune_factors(anm_store_stage(k->out->store, i), k->note->loss, &t, k->pool, err);
}

/* ---- the whole ---- */

void anm_calibrated_free(anm_calibrated *c, bool used)
{
    if (used) anm_store_remove(c->store);
    anm_store_close(c->store);
    free(c->layer);
    free(c->scales);
    free(c->value_bias);
    free(c->model.layers);
    free(c->ones);
    free(c->vector);
    *c = (anm_calibrated){0};
}

static int prepare(work *k, anm_error *err)
{
    const anm_params *p = k->p;
    const anm_calib_opts *o = k->o;
    anm_calibrated *out = k->out;
    size_t layers = (size_t)p->n_layers, table = o->len * (size_t)(p->use_hf_rope ? p->head_dim : p->head_dim / 2);
    *out = (anm_calibrated){.n_layers = layers, .tuned = k->both && o->tune > 0};
    out->layer = calloc(layers + 1, sizeof *out->layer);
    if (p->attention_qkv_bias) out->value_bias = calloc(layers, sizeof *out->value_bias);
    k->cos = malloc(2 * table * sizeof *k->cos);
    if (!out->layer || !k->cos || (p->attention_qkv_bias && !out->value_bias)) return anm_fail_memory(err, "calibration");
    k->sin = k->cos + table;
    for (size_t i = 0; i < k->rows; i++)
        if (k->tokens[i] < 0 || k->tokens[i] >= p->vocab_size)
            return anm_fail(err, ANM_ERR_LIMIT, "token id %d of the calibration text is outside the model's vocabulary of %lld: the tokenizer does not fit",
                            (int)k->tokens[i], (long long)p->vocab_size);
    int rc = anm_rope_tables(k->cos, k->sin, k->m, (int64_t)o->len, err);
    if (!rc) rc = anm_rotation_new(&k->stream, (size_t)p->dim, o->seed, !o->rotate, err);
    if (!rc) rc = anm_rotation_new(&k->value, (size_t)p->head_dim, o->seed + 1, !o->rotate, err);
    return rc ? rc : open_spill(k, err);
}

int anm_calibrate(anm_calibrated *out, const anm_model *m, const int32_t *tokens, const anm_calib_opts *o, anm_pool *pool,
                  anm_error *err)
{
    const anm_params *p = &m->params;
    const size_t layers = (size_t)p->n_layers;
    work k = {.o = o, .m = m, .p = p, .tokens = tokens, .pool = pool, .out = out, .rows = o->windows * o->len, .both = o->ridge >= 0};
    size_t done = 0;
    int rc = prepare(&k, err);
    for (size_t i = 0; i < stage_count(&k); i++) k.cost += stage_cost(&k, i);
    if (!rc) rc = open_store(&k, &done, err);
    if (!rc) rc = anm_calibrated_derive(out, m, err);
    if (!rc && done) take_up(&k, done);
    for (size_t i = done; i < stage_count(&k) && !rc; i++) {
        k.layer = i ? i - 1 : 0;
        begin_stage(&k, i);
        rc = i == 0 ? make_embedding(&k, err) : i <= layers ? make_layer(&k, err) : i == layers + 1 ? make_head(&k, err) : make_factors(&k, err);
        if (!rc) end_stage(&k, i);
        done += !rc;
    }
    if (!rc && out->tuned) rc = anm_tune_apply(out, anm_store_stage(out->store, layers + 2), o->fp16, err);
    anm_spill_close(&k.spill);
    anm_rotation_free(&k.stream);
    anm_rotation_free(&k.value);
    free(k.cos);
    if (rc) anm_calibrated_free(out, rc == ANM_ERR_FORMAT || !done); /* nothing to go on with */
    return rc;
}
