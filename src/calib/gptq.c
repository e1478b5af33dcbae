/* SPDX-License-Identifier: BSD-3-Clause */
/*
 *   prepare   order columns by their input's power; U with H^-1 = U^T U (upper), in that order
 *   scales    per row and group: the one of GRID shrunken scales with the least error under H's diagonal
 *   solve     column by column: round, and push the rounding's error onto the columns not yet rounded
 *   refine    fit each scale to its integers; move single integers where that lowers the error
 *
 * Solve and refine see W with its columns in activation order; results are put back at the end.
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
};
#define GRID_STEP 0.025f

typedef struct solve {
    const anm_gptq_opts *o;
    size_t rows, n, groups;
    const anm_hot *hot;
    const float *given, *power; /* the caller's W, and H's diagonal in the caller's order */
    const float *w;      /* in activation order */
    float *work, *push;  /* [rows, n] what is left of W; [rows, BLOCK] minus the errors of the block */
    const float *u;      /* [n, n] */
    const float *hf;     /* [n, n] H in activation order */
    const uint32_t *group_of; /* the scale that each column shares, by our order */
    float *scale;        /* [rows, groups], the caller's groups */
    signed char *q;      /* [rows, n], in activation order */
    double *loss;        /* [rows] */
    float *hr;           /* [rows, n] H times what is left, for refine */
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
        const float *w = s->given + (size_t)i * s->n + g * width, *power = s->power + g * width;
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
    size_t first = (size_t)i * LANES, lanes = s->rows - first < LANES ? s->rows - first : LANES, n = s->n;
    float tile[BLOCK + 1][LANES] = {{0}}; /* one more, so that the last column has an address behind it */
    for (size_t l = 0; l < lanes; l++)
        for (size_t j = 0; j < s->width; j++) tile[j][l] = s->work[(first + l) * n + s->at + j];
    for (size_t j = 0; j < s->width; j++) {
        size_t col = s->at + j, g = s->group_of[col];
        float e[LANES], r[LANES], sc[LANES];
        for (size_t l = 0; l < LANES; l++) sc[l] = l < lanes ? s->scale[(first + l) * s->groups + g] : 1;
        s->hot->column(e, r, tile[j], sc, 1 / s->u[col * n + col], (float)s->o->low, (float)s->o->high);
        for (size_t l = 0; l < lanes; l++) {
            s->q[(first + l) * n + col] = (signed char)r[l];
            s->loss[first + l] += (double)e[l] * e[l];
            s->push[(first + l) * BLOCK + j] = -e[l];
        }
        s->hot->push(tile[j + 1], e, s->u + col * n + col + 1, s->width - j - 1);
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
        anm_view rest = {s->u + s->at * s->n + end, 1, s->n};
        int rc = anm_gemm(s->work + end, s->n, anm_rows(s->push, BLOCK), rest, s->rows, s->n - end, s->width, true, pool, err);
        if (rc) return rc;
    }
    return 0;
}

/* ---- refine ---- */

/* One row: fit its scales to its integers, then move integers, one at a time, while that lowers the error. hr holds
 * H (w - s q) on entry and is kept true through every move. The row's loss is set to the error that was reached. */
static void refine_row(void *ctx, uint32_t i, unsigned thread)
{
    (void)thread;
    const solve *s = ctx;
    const size_t n = s->n;
    const float *w = s->w + (size_t)i * n;
    signed char *q = s->q + (size_t)i * n;
    float *hr = s->hr + (size_t)i * n, *scale = s->scale + (size_t)i * s->groups;
    for (size_t j = 0; j < n; j++) {
        float sc = scale[s->group_of[j]], hjj = s->hf[j * n + j];
        float move = nearest((float)q[j] + hr[j] / (hjj * sc), s->o->low, s->o->high) - (float)q[j];
        if (move == 0) continue;
        q[j] = (signed char)((float)q[j] + move);
        const float *h = s->hf + j * n;
        for (size_t c = 0; c < n; c++) hr[c] -= sc * move * h[c];
    }
    double e = 0;
    for (size_t j = 0; j < n; j++) e += (double)(w[j] - scale[s->group_of[j]] * (float)q[j]) * hr[j];
    s->loss[i] = e;
}

/* The scale of a whole row that fits its integers best: s = (q H w) / (q H q), from hr = H (w - s q):
 * q H w = q . hr + s q H q, and q H q by way of hq = H q. */
static void fit_row(void *ctx, uint32_t i, unsigned thread)
{
    (void)thread;
    const solve *s = ctx;
    const size_t n = s->n;
    const signed char *q = s->q + (size_t)i * n;
    const float *hr = s->hr + (size_t)i * n, *hq = s->work + (size_t)i * n; /* H (w - s q) and H q */
    double qr = 0, qq = 0;
    for (size_t j = 0; j < n; j++) {
        qr += (double)q[j] * hr[j];
        qq += (double)q[j] * hq[j];
    }
    if (qq > 0) s->scale[i] = fit_type((float)(s->scale[i] + qr / qq), s->o);
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

/* hr = (what `fill` puts into work) H, rows by rows */
static int times_h(float *out, solve *s, anm_pool_fn *fill, anm_pool *pool, anm_error *err)
{
    anm_pool_run(pool, fill, s, (uint32_t)s->rows);
    return anm_gemm(out, s->n, anm_rows(s->work, s->n), anm_rows(s->hf, s->n), s->rows, s->n, s->n, false, pool, err);
}

static int refine(solve *s, anm_pool *pool, anm_error *err)
{
    int rc = 0;
    float *hq = s->groups == 1 ? malloc(s->rows * s->n * sizeof *hq) : NULL;
    for (int round = 0; round < s->o->rounds && !rc; round++) {
        rc = times_h(s->hr, s, left_over, pool, err);
        if (!rc && hq) { /* fit_row reads H q from work */
            rc = times_h(hq, s, integers, pool, err);
            if (rc) break;
            float *swap = s->work;
            s->work = hq;
            anm_pool_run(pool, fit_row, s, (uint32_t)s->rows);
            s->work = swap;
            rc = times_h(s->hr, s, left_over, pool, err);
        }
        if (!rc) anm_pool_run(pool, refine_row, s, (uint32_t)s->rows);
    }
    free(hq);
    return rc;
}

/* ---- the whole ---- */

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

typedef struct by_power {
    double power;
    size_t col;
} by_power;

static int more_power_first(const void *a, const void *b)
{
    const by_power *x = a, *y = b;
    if (x->power != y->power) return x->power > y->power ? -1 : 1;
    return x->col < y->col ? -1 : x->col > y->col;
}

/* Everything that one call needs, so that one label frees it. */
typedef struct room {
    by_power *power;
    size_t *order; /* the caller's column for each of ours */
    uint32_t *group_of;
    double *factor, *loss, *best_loss;
    float *u, *hf, *diagonal, *w, *work, *push, *hr, *scale, *best_scale, *base_scale;
    signed char *q, *best_q;
} room;

static bool take(room *r, size_t rows, size_t n, size_t groups)
{
    r->power = malloc(n * sizeof *r->power);
    r->order = malloc(n * sizeof *r->order);
    r->group_of = malloc(n * sizeof *r->group_of);
    r->factor = malloc(n * n * sizeof *r->factor);
    r->u = malloc(n * n * sizeof *r->u);
    r->hf = malloc(n * n * sizeof *r->hf);
    r->diagonal = malloc(n * sizeof *r->diagonal);
    r->loss = malloc(rows * sizeof *r->loss);
    r->best_loss = malloc(rows * sizeof *r->best_loss);
    r->w = malloc(rows * n * sizeof *r->w);
    r->work = malloc(rows * n * sizeof *r->work);
    r->hr = malloc(rows * n * sizeof *r->hr);
    r->push = malloc(rows * BLOCK * sizeof *r->push);
    r->scale = malloc(rows * groups * sizeof *r->scale);
    r->best_scale = malloc(rows * groups * sizeof *r->best_scale);
    r->base_scale = malloc(rows * groups * sizeof *r->base_scale);
    r->q = malloc(rows * n);
    r->best_q = malloc(rows * n);
    return r->power && r->order && r->group_of && r->factor && r->u && r->hf && r->diagonal && r->loss && r->best_loss && r->w && r->work && r->hr &&
           r->push && r->scale && r->best_scale && r->base_scale && r->q && r->best_q;
}

static void give_back(room *r)
{
    free(r->power), free(r->order), free(r->group_of), free(r->factor), free(r->u), free(r->hf), free(r->diagonal), free(r->loss), free(r->best_loss);
    free(r->w), free(r->work), free(r->hr), free(r->push), free(r->scale), free(r->best_scale), free(r->base_scale);
    free(r->q), free(r->best_q);
}

/* order, hf (damped), u, from the caller's H. */
static int prepare(room *r, size_t n, const double *h, double damp, size_t *dead, anm_pool *pool, anm_error *err)
{
    double mean = 0;
    *dead = 0;
    for (size_t i = 0; i < n * n; i++)
        if (!isfinite(h[i]))
            return anm_fail(err, ANM_ERR_FORMAT, "the calibration's statistics are not finite at (%zu, %zu)", i / n, i % n);
    for (size_t i = 0; i < n; i++) {
        r->power[i] = (by_power){h[i * n + i], i};
        mean += h[i * n + i] / (double)n;
        *dead += h[i * n + i] <= 0;
    }
    if (!(mean > 0)) mean = 1;
    qsort(r->power, n, sizeof *r->power, more_power_first);
    for (size_t i = 0; i < n; i++) r->order[i] = r->power[i].col;
    for (;; damp *= 10) { /* more damping until the factor exists; each time tenfold */
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j < n; j++) {
                double v = h[r->order[i] * n + r->order[j]] + (i == j ? damp * mean : 0);
                if (i == j && !(v > 0)) v = mean; /* an input that is always zero */
                r->hf[i * n + j] = (float)v;
                r->factor[(n - 1 - i) * n + (n - 1 - j)] = v; /* reversed: its inverse factor is then upper */
            }
        int rc = anm_cholesky(r->factor, n, pool, err);
        if (!rc) break;
        if (damp > 1) return rc;
        if (damp <= 0) damp = 1e-6;
    }
    anm_lower_inverse(r->factor, n, pool);
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++) r->u[i * n + j] = j < i ? 0 : (float)r->factor[(n - 1 - i) * n + (n - 1 - j)];
    return 0;
}

/* Rows that are better now than the best so far become the best. */
static void keep_better(solve *s, room *r)
{
    for (size_t i = 0; i < s->rows; i++) {
        if (s->loss[i] >= r->best_loss[i]) continue;
        r->best_loss[i] = s->loss[i];
        memcpy(r->best_q + i * s->n, s->q + i * s->n, s->n);
        memcpy(r->best_scale + i * s->groups, s->scale + i * s->groups, s->groups * sizeof *s->scale);
    }
}

int anm_gptq(signed char *q, float *scale, const float *w, size_t rows, size_t n, const double *h,
             const anm_gptq_opts *opts, anm_gptq_report *report, anm_pool *pool, anm_error *err)
{
    room r = {0};
    size_t group = opts->group ? opts->group : n, groups = n / group, dead;
    solve s = {.o = opts, .rows = rows, .n = n, .groups = groups};
    int rc = take(&r, rows, n, groups) ? 0 : anm_fail_memory(err, "error-compensated rounding");
    if (!rc) rc = prepare(&r, n, h, opts->damp, &dead, pool, err);
    if (rc) goto done;
    for (size_t j = 0; j < n; j++) r.group_of[j] = (uint32_t)(r.order[j] / group);
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < n; j++) {
            float v = w[i * n + r.order[j]];
            if (!isfinite(v)) {
                rc = anm_fail(err, ANM_ERR_FORMAT, "the weight at row %zu, column %zu is %s", i, r.order[j], isnan(v) ? "NaN" : "infinite");
                goto done;
            }
            r.w[i * n + j] = v;
        }
    for (size_t j = 0; j < n; j++) r.diagonal[r.order[j]] = r.hf[j * n + j];
    s.hot = anm_hot_pick(), s.given = w, s.power = r.diagonal;
    s.w = r.w, s.work = r.work, s.push = r.push, s.u = r.u, s.hf = r.hf, s.group_of = r.group_of;
    s.scale = r.scale, s.q = r.q, s.loss = r.loss, s.hr = r.hr;
    *report = (anm_gptq_report){.dead = dead};

    /* Rounding to nearest is where every row starts: whatever follows must beat it. */
    anm_pool_run(pool, round_row, &s, (uint32_t)rows);
    if ((rc = measure(&s, pool, err))) goto done;
    for (size_t i = 0; i < rows; i++) {
        report->rounding += s.loss[i];
        r.best_loss[i] = INFINITY;
    }
    keep_better(&s, &r);

    anm_pool_run(pool, scale_rows, &s, (uint32_t)rows);
    memcpy(r.base_scale, r.scale, rows * groups * sizeof *r.scale);
    for (int t = 0; t < opts->tries; t++) {
        float factor = 1 + 0.04f * (float)((t + 1) / 2) * (t & 1 ? -1.0f : 1.0f); /* 1, 0.96, 1.04, 0.92, … */
        for (size_t i = 0; i < rows * groups; i++) r.scale[i] = fit_type(r.base_scale[i] * factor, opts);
        if ((rc = solve_all(&s, pool, err))) goto done;
        keep_better(&s, &r);
    }
    if (opts->rounds) {
        memcpy(r.q, r.best_q, rows * n);
        memcpy(r.scale, r.best_scale, rows * groups * sizeof *r.scale);
        if ((rc = refine(&s, pool, err))) goto done;
        keep_better(&s, &r);
    }
    /* The last word is the full error, not the one that the steps above kept count of. */
    memcpy(r.q, r.best_q, rows * n);
    memcpy(r.scale, r.best_scale, rows * groups * sizeof *r.scale);
    if ((rc = measure(&s, pool, err))) goto done;
    for (size_t i = 0; i < rows; i++) {
        report->reached += s.loss[i];
        for (size_t j = 0; j < n; j++) q[i * n + r.order[j]] = r.q[i * n + j];
    }
    memcpy(scale, r.scale, rows * groups * sizeof *scale);
done:
    give_back(&r);
    return rc;
}
