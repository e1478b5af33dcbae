/* SPDX-License-Identifier: BSD-3-Clause */
/*
 *   basis     order columns by their input's power; U with H^-1 = U^T U (upper), in that order
 *   scales    per row and group: the one of GRID shrunken scales with the least error under H's diagonal
 *   solve     column by column: round, and push the rounding's error onto the columns not yet rounded
 *   refine    fit each scale to its integers; move single integers where that lowers the error
 *
 * Solve and refine see W with its columns in activation order; results are put back at the end. Rows are taken some
 * thousand at a time.
 */
#include "calib/gptq.h"
#include "base/half.h"
#include "calib/hot_kind.h"
#include "dense/dense.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum {
    LANES = ANM_LANES,
    BLOCK = 64,  /* columns rounded before their error is pushed onto the rest by a matrix product */
    GRID = 20,   /* shrunken scales that are tried under the diagonal */
    SLAB = 1 << 23, /* weights in work at a time */
};
#define GRID_STEP 0.025f

typedef struct solve {
    const anm_gptq_opts *o;
    const anm_gptq_basis *b;
    size_t rows, n, groups;
    const anm_hot *hot;
    const float *given;  /* the caller's W */
    float *w;            /* in activation order */
    float *work, *push;  /* [rows, n] what is left of W; [rows, BLOCK] minus the errors of the block */
    float *hr, *hq;      /* [rows, n] H times what is left, and H times the integers, for refine */
    uint32_t *group_of;  /* [n] the scale that each column shares, by our order */
    uint32_t *member;    /* [n] where the caller's columns are in our order, and so group after group */
    float *scale, *base_scale, *best_scale; /* [rows, groups], the caller's groups */
    signed char *q, *best_q;                /* [rows, n], in activation order */
    double *loss, *best_loss;               /* [rows] */
    size_t at, width;    /* the block in work */
} solve;

static float nearest(float x, int low, int high)
{
    float r = rintf(x);
    return r < (float)low ? (float)low : r > (float)high ? (float)high : r;
}

static float fit_type(float s, const anm_gptq_opts *o)
{
    if (!o->fp16_scales) return s;
    s = anm_round_f16(s);
    return fabsf(s) < 0x1p-14f ? 0x1p-14f : s; /* a subnormal scale loses its bits, and some devices flush it */
}

/* ---- scales ---- */

/* For each row: the scale of the largest weight, shrunk by the factor that loses least under the diagonal. */
static void scale_rows(void *ctx, uint32_t i, unsigned thread)
{
    (void)thread;
    const solve *s = ctx;
    const anm_gptq_opts *o = s->o;
    const float half = (float)(o->high - o->low) / 2;
    const size_t width = s->n / s->groups;
    for (size_t g = 0; g < s->groups; g++) {
        const float *w = s->given + (size_t)i * s->n + g * width, *power = s->b->diagonal + g * width;
        float most = 0;
        for (size_t j = 0; j < width; j++) most = fabsf(w[j]) > most ? fabsf(w[j]) : most;
        float best = fit_type(most / half, o);
        double least = INFINITY;
        for (int t = 0; t < GRID && most > 0; t++) {
            float sc = fit_type(most * (1 - GRID_STEP * (float)t) / half, o);
            double e = s->hot->grid_error(w, power, width, sc, (float)o->low, (float)o->high);
            if (e < least) {
                least = e;
                best = sc;
            }
        }
        s->scale[(size_t)i * s->groups + g] = best > 0 ? best : 1;
    }
}

/* ---- solve ---- */

static void solve_block(void *ctx, uint32_t i, unsigned thread)
{
    (void)thread;
    const solve *s = ctx;
    const float *u = s->b->u;
    size_t first = (size_t)i * LANES, lanes = s->rows - first < LANES ? s->rows - first : LANES, n = s->n;
    float tile[BLOCK + 1][LANES] = {{0}}; /* one more, so that the last column has an address behind it */
    for (size_t l = 0; l < lanes; l++)
        for (size_t j = 0; j < s->width; j++) tile[j][l] = s->work[(first + l) * n + s->at + j];
    for (size_t j = 0; j < s->width; j++) {
        size_t col = s->at + j, g = s->group_of[col];
        float e[LANES], r[LANES], sc[LANES];
        for (size_t l = 0; l < LANES; l++) sc[l] = l < lanes ? s->scale[(first + l) * s->groups + g] : 1;
        s->hot->column(e, r, tile[j], sc, 1 / u[col * n + col], (float)s->o->low, (float)s->o->high);
        for (size_t l = 0; l < lanes; l++) {
            s->q[(first + l) * n + col] = (signed char)r[l];
            s->loss[first + l] += (double)e[l] * e[l];
            s->push[(first + l) * BLOCK + j] = -e[l];
        }
        s->hot->push(tile[j + 1], e, u + col * n + col + 1, s->width - j - 1);
    }
}

static int solve_all(solve *s, anm_pool *pool, anm_error *err)
{
    memcpy(s->work, s->w, s->rows * s->n * sizeof *s->work);
    memset(s->loss, 0, s->rows * sizeof *s->loss);
    for (s->at = 0; s->at < s->n; s->at += BLOCK) {
        size_t end = s->n - s->at < BLOCK ? s->n : s->at + BLOCK;
        s->width = end - s->at;
        anm_pool_run(pool, solve_block, s, (uint32_t)((s->rows + LANES - 1) / LANES));
        /* work[:, end …] += push * U[at … end, end …] */
        anm_view rest = {s->b->u + s->at * s->n + end, 1, s->n};
        int rc = anm_gemm(s->work + end, s->n, anm_rows(s->push, BLOCK), rest, s->rows, s->n - end, s->width, true, pool, err);
        if (rc) return rc;
    }
    return 0;
}

/* ---- refine ---- */

/* One row: move integers, one at a time, while that lowers the error. hr holds H (w - s q) on entry and is kept true
 * through every move. The row's loss is set to the error that was reached. */
static void refine_row(void *ctx, uint32_t i, unsigned thread)
{
    (void)thread;
    const solve *s = ctx;
    const size_t n = s->n;
    const float *w = s->w + (size_t)i * n, *scale = s->scale + (size_t)i * s->groups;
    signed char *q = s->q + (size_t)i * n;
    float *hr = s->hr + (size_t)i * n;
    for (size_t j = 0; j < n; j++) {
        const float *h = s->b->h + j * n;
        float sc = scale[s->group_of[j]];
        float move = nearest((float)q[j] + hr[j] / (h[j] * sc), s->o->low, s->o->high) - (float)q[j];
        if (move == 0) continue;
        q[j] = (signed char)((float)q[j] + move);
        for (size_t c = 0; c < n; c++) hr[c] -= sc * move * h[c];
    }
    double e = 0;
    for (size_t j = 0; j < n; j++) e += (double)(w[j] - scale[s->group_of[j]] * (float)q[j]) * hr[j];
    s->loss[i] = e;
}

/* The scale of a whole row that fits its integers best: s = (q H w) / (q H q), by way of hr = H (w - s q) and hq = H q:
 * q H w = q . hr + s q . hq. hr follows the scale, and hq becomes H w, which no move of an integer changes. */
static void fit_row(void *ctx, uint32_t i, unsigned thread)
{
    (void)thread;
    const solve *s = ctx;
    const size_t n = s->n;
    const signed char *q = s->q + (size_t)i * n;
    float *hr = s->hr + (size_t)i * n, *hq = s->hq + (size_t)i * n, was = s->scale[i], now = was;
    double qr = 0, qq = 0;
    for (size_t j = 0; j < n; j++) {
        qr += (double)q[j] * hr[j];
        qq += (double)q[j] * hq[j];
    }
    if (qq > 0) now = fit_type((float)(was + qr / qq), s->o);
    for (size_t j = 0; j < n; j++) {
        hr[j] -= (now - was) * hq[j];
        hq[j] = hr[j] + now * hq[j];
    }
    s->scale[i] = now;
}

/* The same for each group in turn, the others standing still: s += (q_g . hr) / (q_g H q_g), where q_g are the integers of
 * the group alone. hq is room for H q_g. */
static void fit_groups_of_row(void *ctx, uint32_t i, unsigned thread)
{
    (void)thread;
    const solve *s = ctx;
    const size_t n = s->n, width = n / s->groups;
    const signed char *q = s->q + (size_t)i * n;
    float *hr = s->hr + (size_t)i * n, *hq = s->hq + (size_t)i * n, *scale = s->scale + (size_t)i * s->groups;
    for (size_t g = 0; g < s->groups; g++) {
        const uint32_t *member = s->member + g * width;
        double qr = 0, qq = 0;
        memset(hq, 0, n * sizeof *hq);
        for (size_t m = 0; m < width; m++) {
            const float *h = s->b->h + member[m] * n, by = q[member[m]];
            if (by == 0) continue;
            qr += (double)by * (double)hr[member[m]];
            for (size_t c = 0; c < n; c++) hq[c] += by * h[c];
        }
        for (size_t m = 0; m < width; m++) qq += (double)q[member[m]] * (double)hq[member[m]];
        if (!(qq > 0)) continue;
        float was = scale[g], now = fit_type((float)(was + qr / qq), s->o);
        for (size_t c = 0; c < n; c++) hr[c] -= (now - was) * hq[c];
        scale[g] = now;
    }
}

/* hq from H w, after the integers moved. */
static void refit_row(void *ctx, uint32_t i, unsigned thread)
{
    (void)thread;
    const solve *s = ctx;
    const float *hr = s->hr + (size_t)i * s->n, inv = 1 / s->scale[i];
    float *hq = s->hq + (size_t)i * s->n;
    for (size_t j = 0; j < s->n; j++) hq[j] = (hq[j] - hr[j]) * inv;
}

static void left_over(void *ctx, uint32_t i, unsigned thread)
{
    (void)thread;
    const solve *s = ctx;
    for (size_t j = 0, at = (size_t)i * s->n; j < s->n; j++)
        s->work[at + j] = s->w[at + j] - s->scale[(size_t)i * s->groups + s->group_of[j]] * (float)s->q[at + j];
}

static void integers(void *ctx, uint32_t i, unsigned thread)
{
    (void)thread;
    const solve *s = ctx;
    for (size_t j = 0, at = (size_t)i * s->n; j < s->n; j++) s->work[at + j] = s->q[at + j];
}

/* out = (what `fill` puts into work) H, rows by rows */
static int times_h(float *out, solve *s, anm_pool_fn *fill, anm_pool *pool, anm_error *err)
{
    anm_pool_run(pool, fill, s, (uint32_t)s->rows);
    return anm_gemm(out, s->n, anm_rows(s->work, s->n), anm_transposed(s->b->h, s->n), s->rows, s->n, s->n, false, pool, err);
}

static int refine(solve *s, anm_pool *pool, anm_error *err)
{
    bool fit = s->groups == 1;
    int rc = times_h(s->hr, s, left_over, pool, err);
    if (!rc && fit) rc = times_h(s->hq, s, integers, pool, err);
    for (int round = 0; round < s->o->rounds && !rc; round++) {
        if (fit && round) anm_pool_run(pool, refit_row, s, (uint32_t)s->rows);
        anm_pool_run(pool, fit ? fit_row : fit_groups_of_row, s, (uint32_t)s->rows);
        anm_pool_run(pool, refine_row, s, (uint32_t)s->rows);
    }
    return rc;
}

/* ---- rows, from rounding to the last word ---- */

/* The full error of each row's (q, scale), into loss. Uses work and hr. */
static void row_error(void *ctx, uint32_t i, unsigned thread)
{
    (void)thread;
    const solve *s = ctx;
    double e = 0;
    for (size_t j = 0, at = (size_t)i * s->n; j < s->n; j++) e += (double)s->work[at + j] * s->hr[at + j];
    s->loss[i] = e > 0 ? e : 0;
}

static int measure(solve *s, anm_pool *pool, anm_error *err)
{
    int rc = times_h(s->hr, s, left_over, pool, err);
    if (!rc) anm_pool_run(pool, row_error, s, (uint32_t)s->rows);
    return rc;
}

/* What an uncalibrated export would make of the row: the scale of its largest weight over (high - low) / 2. */
static void round_row(void *ctx, uint32_t i, unsigned thread)
{
    (void)thread;
    const solve *s = ctx;
    const anm_gptq_opts *o = s->o;
    const float *w = s->w + (size_t)i * s->n;
    for (size_t g = 0; g < s->groups; g++) {
        float most = 0;
        for (size_t j = 0; j < s->n; j++)
            if (s->group_of[j] == g && fabsf(w[j]) > most) most = fabsf(w[j]);
        float sc = most / ((float)(o->high - o->low) / 2);
        if (o->fp16_scales) sc = anm_round_f16(sc);
        s->scale[(size_t)i * s->groups + g] = sc > 0 ? sc : 1;
    }
    for (size_t j = 0; j < s->n; j++)
        s->q[(size_t)i * s->n + j] =
            (signed char)nearest(w[j] / s->scale[(size_t)i * s->groups + s->group_of[j]], o->low, o->high);
}

static void gather_row(void *ctx, uint32_t i, unsigned thread)
{
    (void)thread;
    const solve *s = ctx;
    const float *from = s->given + (size_t)i * s->n;
    float *to = s->w + (size_t)i * s->n;
    for (size_t j = 0; j < s->n; j++) to[j] = from[s->b->order[j]];
}

static int find_not_finite(const float *w, size_t rows, size_t n, anm_error *err)
{
    for (size_t i = 0; i < rows * n; i++)
        if (!isfinite(w[i]))
            return anm_fail(err, ANM_ERR_FORMAT, "the weight at row %zu, column %zu is %s", i / n, i % n, isnan(w[i]) ? "NaN" : "infinite");
    return 0;
}

/* Rows that are better now than the best so far become the best. */
static void keep_better(solve *s)
{
    for (size_t i = 0; i < s->rows; i++) {
        if (s->loss[i] >= s->best_loss[i]) continue;
        s->best_loss[i] = s->loss[i];
        memcpy(s->best_q + i * s->n, s->q + i * s->n, s->n);
        memcpy(s->best_scale + i * s->groups, s->scale + i * s->groups, s->groups * sizeof *s->scale);
    }
}

static void take_best(solve *s)
{
    memcpy(s->q, s->best_q, s->rows * s->n);
    memcpy(s->scale, s->best_scale, s->rows * s->groups * sizeof *s->scale);
}

/* s->rows rows of s->given: q and scale hold the answer, loss its error. Adds up rounding's error. */
static int solve_rows(solve *s, double *rounding, anm_pool *pool, anm_error *err)
{
    const anm_gptq_opts *o = s->o;
    int rc;
    anm_pool_run(pool, gather_row, s, (uint32_t)s->rows);

    /* Rounding to nearest is where every row starts: whatever follows must beat it. */
    anm_pool_run(pool, round_row, s, (uint32_t)s->rows);
    if ((rc = measure(s, pool, err))) return rc;
    for (size_t i = 0; i < s->rows; i++) {
        *rounding += s->loss[i];
        s->best_loss[i] = INFINITY;
    }
    keep_better(s);

    anm_pool_run(pool, scale_rows, s, (uint32_t)s->rows);
    memcpy(s->base_scale, s->scale, s->rows * s->groups * sizeof *s->scale);
    for (int t = 0; t < o->tries; t++) {
        int step = (t + 1) / 2;
        float factor = 1 + 0.04f * (float)step * (t & 1 ? -1.0f : 1.0f); /* 1, 0.96, 1.04, 0.92, … */
        for (size_t i = 0; i < s->rows * s->groups; i++) s->scale[i] = fit_type(s->base_scale[i] * factor, o);
        if ((rc = solve_all(s, pool, err))) return rc;
        keep_better(s);
    }
    if (o->rounds) {
        take_best(s);
        if ((rc = refine(s, pool, err))) return rc;
        keep_better(s);
    }
    /* The last word is the full error, not the one that the steps above kept count of. */
    take_best(s);
    return measure(s, pool, err);
}

static bool take(solve *s, size_t rows)
{
    size_t n = s->n, groups = s->groups;
    s->group_of = malloc(2 * n * sizeof *s->group_of);
    s->w = malloc(rows * n * sizeof *s->w);
    s->work = malloc(rows * n * sizeof *s->work);
    s->hr = malloc(rows * n * sizeof *s->hr);
    s->hq = malloc(rows * n * sizeof *s->hq);
    s->push = malloc(rows * BLOCK * sizeof *s->push);
    s->scale = malloc(3 * rows * groups * sizeof *s->scale);
    s->q = malloc(2 * rows * n);
    s->loss = malloc(2 * rows * sizeof *s->loss);
    if (!s->group_of || !s->w || !s->work || !s->hr || !s->hq || !s->push || !s->scale || !s->q || !s->loss) return false;
    s->member = s->group_of + n;
    s->best_scale = s->scale + rows * groups;
    s->base_scale = s->best_scale + rows * groups;
    s->best_q = s->q + rows * n;
    s->best_loss = s->loss + rows;
    return true;
}

static void give_back(solve *s)
{
    free(s->group_of), free(s->w), free(s->work), free(s->hr), free(s->hq), free(s->push), free(s->scale), free(s->q), free(s->loss);
}

int anm_gptq(signed char *q, float *scale, const float *w, size_t rows, const anm_gptq_basis *basis, const anm_gptq_opts *opts,
             anm_gptq_report *report, anm_pool *pool, anm_error *err)
{
    const size_t n = basis->n, group = opts->group ? opts->group : n, groups = n / group;
    size_t most = SLAB / n > 16 * (size_t)LANES ? SLAB / n : 16 * (size_t)LANES;
    solve s = {.o = opts, .b = basis, .n = n, .groups = groups, .hot = anm_hot_pick()};
    *report = (anm_gptq_report){.most = -1};
    int rc = find_not_finite(w, rows, n, err);
    if (!rc && !take(&s, rows < most ? rows : most)) rc = anm_fail_memory(err, "error-compensated rounding");
    for (size_t j = 0; j < n && !rc; j++) {
        s.group_of[j] = (uint32_t)(basis->order[j] / group);
        s.member[basis->order[j]] = (uint32_t)j;
    }
    for (size_t at = 0; at < rows && !rc; at += s.rows) {
        s.rows = rows - at < most ? rows - at : most;
        s.given = w + at * n;
        rc = solve_rows(&s, &report->rounding, pool, err);
        for (size_t i = 0; i < s.rows && !rc; i++) {
            signed char *out = q + (at + i) * n;
            for (size_t j = 0; j < n; j++) out[basis->order[j]] = s.q[i * n + j];
            report->reached += s.loss[i];
            if (s.loss[i] > report->most) {
                report->most = s.loss[i];
                report->worst = at + i;
            }
        }
        if (!rc) memcpy(scale + at * groups, s.scale, s.rows * groups * sizeof *scale);
    }
    give_back(&s);
    return rc;
}
