/* SPDX-License-Identifier: BSD-3-Clause */
#include "calib/point.h"
#include "dense/dense.h"
#include "eager/eager.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

int anm_point_new(anm_point *p, const anm_calib_opts *o, size_t n, size_t out, anm_error *err)
{
    bool move = o->ridge >= 0;
    *p = (anm_point){.o = o, .n = n, .out = move && o->drift > 0 ? out : 0};
    p->h = calloc(n * n, sizeof *p->h);
    if (move) p->cross = calloc(n * n, sizeof *p->cross);
    if (p->out) p->pull = calloc(p->out * n, sizeof *p->pull);
    return p->h && (p->cross || !move) && (p->pull || !p->out) ? 0 : anm_fail_memory(err, "statistics");
}

void anm_point_free(anm_point *p)
{
    free(p->h);
    free(p->cross);
    free(p->pull);
    anm_gptq_basis_free(&p->basis);
    *p = (anm_point){0};
}

typedef struct less_job {
    float *y;
    const float *a, *b;
    size_t n;
} less_job;

static void less_row(void *ctx, uint32_t i, unsigned thread)
{
    (void)thread;
    const less_job *j = ctx;
    for (size_t c = (size_t)i * j->n; c < ((size_t)i + 1) * j->n; c++) j->y[c] = j->a[c] - j->b[c];
}

int anm_point_add(anm_point *p, const float *x, const float *seen, const float *drift, size_t rows, anm_pool *pool, anm_error *err)
{
    const size_t n = p->n;
    int rc = anm_gram(p->h, x, rows, n, pool, err);
    if (!rc && p->cross) {
        float *less = malloc(rows * n * sizeof *less);
        if (!less) return anm_fail_memory(err, "statistics");
        less_job j = {less, seen, x, n};
        anm_pool_run(pool, less_row, &j, (uint32_t)rows);
        rc = anm_gemm(p->cross, n, anm_transposed(less, n), anm_transposed(x, n), n, n, rows, true, pool, err);
        free(less);
    }
    if (!rc && p->pull) rc = anm_gemm(p->pull, n, anm_transposed(drift, p->out), anm_transposed(x, n), p->out, n, rows, true, pool, err);
    return rc;
}

/* The inverse of h + ridge * mean(diagonal). */
static int inverse(float *out, const float *h, size_t n, double ridge, anm_pool *pool, anm_error *err)
{
    float *l = malloc(n * n * sizeof *l);
    double mean = 0;
    int rc = l ? 0 : anm_fail_memory(err, "statistics");
    for (size_t i = 0; i < n && !rc; i++) {
        mean += (double)h[i * n + i] / (double)n;
        for (size_t j = 0; j <= i; j++) l[i * n + j] = h[j * n + i];
    }
    for (size_t i = 0; i < n && !rc; i++) l[i * n + i] += (float)(ridge * mean + 1e-12);
    if (!rc) rc = anm_cholesky(l, n, pool, err);
    if (!rc) rc = anm_lower_inverse(l, n, pool, err);
    if (!rc) rc = anm_gemm(out, n, anm_transposed(l, n), anm_transposed(l, n), n, n, n, false, pool, err);
    free(l);
    return rc;
}

/* m [rows, n] becomes m inv; inv is symmetric. */
static int times(float **m, size_t rows, const float *inv, size_t n, anm_pool *pool, anm_error *err)
{
    float *y = malloc(rows * n * sizeof *y);
    if (!y) return anm_fail_memory(err, "statistics");
    int rc = anm_gemm(y, n, anm_rows(*m, n), anm_rows(inv, n), rows, n, n, false, pool, err);
    free(*m);
    *m = y;
    return rc;
}

int anm_point_solve(anm_point *p, anm_pool *pool, anm_error *err)
{
    const size_t n = p->n;
    int rc = 0;
    if (p->cross) { /* full W seen = W x + W (seen - x): the second term, as far as x explains it, goes into the weights */
        float *inv = malloc(n * n * sizeof *inv);
        rc = inv ? inverse(inv, p->h, n, p->o->ridge, pool, err) : anm_fail_memory(err, "statistics");
        if (!rc) rc = times(&p->cross, n, inv, n, pool, err);
        if (!rc && p->pull) rc = times(&p->pull, p->out, inv, n, pool, err);
        free(inv);
    }
    if (rc) return rc;
    float *h = p->h;
    p->h = NULL;
    return anm_gptq_basis_new(&p->basis, h, n, p->o->damp, pool, err);
}

/* w += w cross + drift * pull */
static int move(const anm_point *p, float *w, size_t first, size_t rows, anm_pool *pool, anm_error *err)
{
    const size_t n = p->n;
    float *was = malloc(rows * n * sizeof *was);
    if (!was) return anm_fail_memory(err, "a linear's weights");
    memcpy(was, w, rows * n * sizeof *was);
    int rc = anm_gemm(w, n, anm_rows(was, n), anm_transposed(p->cross, n), rows, n, n, true, pool, err);
    for (size_t i = 0; i < rows * n && p->pull; i++) w[i] += (float)p->o->drift * p->pull[first * n + i];
    free(was);
    return rc;
}

static void count(uint16_t *bins, long at, long n)
{
    uint16_t *b = &bins[at < 0 ? 0 : at >= n ? n - 1 : at];
    if (*b < UINT16_MAX) ++*b;
}

/* What the figure says of a linear's worst row; `w`: its weights, before they were rounded. */
static void describe_row(anm_calib_figure *f, const anm_made *m, size_t row, const float *w, unsigned bits)
{
    size_t cols = (size_t)m->cols, group = cols / (size_t)m->groups;
    memset(f->weights, 0, sizeof f->weights);
    memset(f->integers, 0, sizeof f->integers);
    f->worst = row;
    enum { MIDDLE = ANM_CALIB_BINS / 2 };
    for (size_t c = 0; c < cols; c++) {
        float x = w[c] / m->scale[row * (size_t)m->groups + c / group] / (float)(1 << bits) * 16;
        count(f->weights, (long)floorf(fmaxf(-1e6f, fminf(2 * x + MIDDLE, 1e6f))), ANM_CALIB_BINS);
        count(f->integers, (m->q[row * cols + c] + (1 << (bits - 1))) * 16 >> bits, 16);
    }
}

/* Scales as they came out, and as rounding to nearest would have them. */
static void describe_scales(anm_calib_figure *f, const anm_made *m, size_t first, size_t rows, const float *w, unsigned bits)
{
    size_t groups = (size_t)m->groups, group = (size_t)m->cols / groups;
    for (size_t i = 0; i < rows * groups; i++) {
        float s = m->scale[first * groups + i], most = 0;
        f->low = f->low > 0 && f->low < s ? f->low : s;
        f->high = f->high > s ? f->high : s;
        for (size_t c = i * group; c < (i + 1) * group; c++) most = fabsf(w[c]) > most ? fabsf(w[c]) : most;
        f->subnormal += most > 0 && most / ((float)((1 << bits) - 1) / 2) < 0x1p-14f;
    }
}

int anm_point_round(const anm_point *p, const anm_made *to, float *w, size_t first, size_t rows, anm_calib_figure *figure,
                    anm_pool *pool, anm_error *err)
{
    const anm_calib_opts *o = p->o;
    anm_gptq_opts g = {.low = -(1 << (o->linear_bits - 1)), .high = (1 << (o->linear_bits - 1)) - 1, .group = (size_t)o->linear_group,
                       .tries = o->tries, .rounds = o->rounds, .fp16_scales = o->fp16};
    anm_gptq_report r;
    int rc = p->cross ? move(p, w, first, rows, pool, err) : 0;
    if (!rc)
        rc = anm_gptq((signed char *)to->q + first * p->n, to->scale + first * (size_t)to->groups, w, rows, &p->basis, &g, &r, pool, err);
    if (rc) return rc;
    figure->rounding += r.rounding;
    figure->reached += r.reached;
    if (!first || r.most > figure->most) {
        figure->most = r.most;
        describe_row(figure, to, first + r.worst, w + r.worst * p->n, o->linear_bits);
    }
    describe_scales(figure, to, first, rows, w, o->linear_bits);
    const anm_matrix made = {.rows = to->rows, .cols = to->cols, .made = to};
    return anm_eager_read_rows(w, &made, (int64_t)first, (int64_t)rows, pool, err);
}
