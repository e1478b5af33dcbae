/* SPDX-License-Identifier: BSD-3-Clause */
#include "calib/point.h"
#include "dense/dense.h"
#include "eager/eager.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

int anm_point_new(anm_point *p, const anm_calib_opts *o, size_t n, const float *w, size_t out, anm_error *err)
{
    bool move = o->ridge >= 0;
    *p = (anm_point){.o = o, .n = n, .w = w, .out = w ? out : 0};
    p->h = calloc(n * n, sizeof *p->h);
    if (move && w) p->pull = calloc(out * n, sizeof *p->pull);
    else if (move) p->cross = calloc(n * n, sizeof *p->cross);
    return p->h && (p->cross || p->pull || !move) ? 0 : anm_fail_memory(err, "statistics");
}

void anm_point_free(anm_point *p)
{
    free(p->h);
    free(p->cross);
    free(p->pull);
    anm_gptq_basis_free(&p->basis);
    *p = (anm_point){0};
}

/* y = a - b, or y += by * a where there is no b */
typedef struct rows_job {
    float *y;
    const float *a, *b;
    float by;
    size_t n;
} rows_job;

static void rows_row(void *ctx, uint32_t i, unsigned thread)
{
    (void)thread;
    const rows_job *j = ctx;
    for (size_t c = (size_t)i * j->n; c < ((size_t)i + 1) * j->n; c++) j->y[c] = j->b ? j->a[c] - j->b[c] : j->y[c] + j->by * j->a[c];
}

/* What the full model's outputs differ by from what its weights make of x, as far as a writer takes it back: y [rows, out]. */
static int shortfall(float *y, const anm_point *p, const float *less, const float *drift, size_t rows, anm_pool *pool, anm_error *err)
{
    int rc = anm_gemm(y, p->out, anm_rows(less, p->n), anm_rows(p->w, p->n), rows, p->out, p->n, false, pool, err);
    rows_job j = {.y = y, .a = drift, .by = (float)p->o->drift, .n = p->out};
    if (!rc) anm_pool_run(pool, rows_row, &j, (uint32_t)rows);
    return rc;
}

int anm_point_add(anm_point *p, const float *x, const float *seen, const float *drift, size_t rows, anm_pool *pool, anm_error *err)
{
    const size_t n = p->n, out = p->out;
    int rc = anm_gram(p->h, x, rows, n, pool, err);
    if (rc || (!p->cross && !p->pull)) return rc;
    float *less = malloc(rows * (n + out) * sizeof *less), *y = less + rows * n;
    if (!less) return anm_fail_memory(err, "statistics");
    rows_job j = {.y = less, .a = seen, .b = x, .n = n};
    anm_pool_run(pool, rows_row, &j, (uint32_t)rows);
    if (p->pull) rc = shortfall(y, p, less, drift, rows, pool, err);
    if (!rc && p->pull) rc = anm_gemm(p->pull, n, anm_transposed(y, out), anm_transposed(x, n), out, n, rows, true, pool, err);
    if (!rc && p->cross) rc = anm_gemm(p->cross, n, anm_transposed(less, n), anm_transposed(x, n), n, n, rows, true, pool, err);
    free(less);
    return rc;
}

/* The inverse of the lower Cholesky factor of h + ridge * mean(diagonal). */
static int inverse_factor(float *l, const float *h, size_t n, double ridge, anm_pool *pool, anm_error *err)
{
    double mean = 0;
    for (size_t i = 0; i < n; i++) {
        mean += (double)h[i * n + i] / (double)n;
        for (size_t j = 0; j <= i; j++) l[i * n + j] = h[j * n + i];
    }
    for (size_t i = 0; i < n; i++) l[i * n + i] += (float)(ridge * mean + 1e-12);
    int rc = anm_cholesky(l, n, pool, err);
    return rc ? rc : anm_lower_inverse(l, n, pool, err);
}

/* m [rows, n] becomes m h^-1 = (m l^T) l, where l is what inverse_factor makes of h. */
static int divide(float *m, size_t rows, const float *l, size_t n, anm_pool *pool, anm_error *err)
{
    float *y = malloc(rows * n * sizeof *y);
    int rc = y ? anm_gemm(y, n, anm_rows(m, n), anm_rows(l, n), rows, n, n, false, pool, err) : anm_fail_memory(err, "statistics");
    if (!rc) rc = anm_gemm(m, n, anm_rows(y, n), anm_transposed(l, n), rows, n, n, false, pool, err);
    free(y);
    return rc;
}

/* full W seen = W x + W (seen - x): the second term, as far as x explains it, goes into the weights */
static int solve_move(anm_point *p, anm_pool *pool, anm_error *err)
{
    const size_t n = p->n;
    float *l = malloc(n * n * sizeof *l);
    int rc = l ? inverse_factor(l, p->h, n, p->o->ridge, pool, err) : anm_fail_memory(err, "statistics");
    if (!rc) rc = p->pull ? divide(p->pull, p->out, l, n, pool, err) : divide(p->cross, n, l, n, pool, err);
    free(l);
    return rc;
}

int anm_point_solve(anm_point *p, anm_pool *pool, anm_error *err)
{
    int rc = p->cross || p->pull ? solve_move(p, pool, err) : 0;
    if (rc) return rc;
    float *h = p->h;
    p->h = NULL;
    return anm_gptq_basis_new(&p->basis, h, p->n, p->o->damp, pool, err);
}

/* w += w cross, or pull */
static int move(const anm_point *p, float *w, size_t first, size_t rows, anm_pool *pool, anm_error *err)
{
    const size_t n = p->n;
    if (p->pull) {
        for (size_t i = 0; i < rows * n; i++) w[i] += p->pull[first * n + i];
        return 0;
    }
    float *was = malloc(rows * n * sizeof *was);
    if (!was) return anm_fail_memory(err, "a linear's weights");
    memcpy(was, w, rows * n * sizeof *was);
    int rc = anm_gemm(w, n, anm_rows(was, n), anm_transposed(p->cross, n), rows, n, n, true, pool, err);
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
    int rc = p->cross || p->pull ? move(p, w, first, rows, pool, err) : 0;
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
