/* SPDX-License-Identifier: BSD-3-Clause */
/* Cholesky factor and triangular inverse in fp64. */
#include "dense/dense.h"
#include "dense/micro_kind.h"

#include <math.h>

enum { NB = 64 }; /* a block of three fits the first-level cache */

typedef struct span {
    double *a;
    size_t n, at, width; /* the panel [at, at + width) in work */
    anm_dot_fn *dot;
} span;

/* Rows below the panel's diagonal block: subtract what earlier columns explain, then solve against the block. */
static void below(void *ctx, uint32_t i, unsigned thread)
{
    (void)thread;
    const span *s = ctx;
    size_t row = s->at + s->width + i;
    double *r = s->a + row * s->n;
    for (size_t j = s->at; j < s->at + s->width; j++) {
        const double *d = s->a + j * s->n;
        r[j] = (r[j] - s->dot(r, d, j)) / d[j];
    }
}

int anm_cholesky(double *a, size_t n, anm_pool *pool, anm_error *err)
{
    anm_dot_fn *dot = anm_micro_pick()->dot;
    for (size_t at = 0; at < n; at += NB) {
        span s = {a, n, at, n - at < NB ? n - at : NB, dot};
        for (size_t j = at; j < at + s.width; j++) {
            double *d = a + j * n;
            for (size_t c = at; c < j; c++) d[c] = (d[c] - dot(d, a + c * n, c)) / a[c * n + c];
            double v = d[j] - dot(d, d, j);
            if (!(v > 0) || isinf(v))
                return anm_fail(err, ANM_ERR_FORMAT, "the matrix is not positive definite at row %zu of %zu", j, n);
            d[j] = sqrt(v);
        }
        anm_pool_run(pool, below, &s, (uint32_t)(n - at - s.width));
    }
    return 0;
}

/* Column `i` of the inverse of L, by forward substitution; kept in column order of a scratch triangle: x[j] is written
 * to the upper triangle (row i), which the factor does not use, and moved below when all are done. */
static void inverse_column(void *ctx, uint32_t i, unsigned thread)
{
    (void)thread;
    const span *s = ctx;
    double *x = s->a + (size_t)i * s->n; /* row i: entries i+1 … are free */
    double diag = 1 / x[i];
    for (size_t j = i + 1; j < s->n; j++) {
        const double *l = s->a + j * s->n;
        x[j] = -(l[i] * diag + s->dot(l + i + 1, x + i + 1, j - i - 1)) / l[j];
    }
}

void anm_lower_inverse(double *a, size_t n, anm_pool *pool)
{
    span s = {a, n, 0, n, anm_micro_pick()->dot};
    anm_pool_run(pool, inverse_column, &s, (uint32_t)n);
    for (size_t i = 0; i < n; i++) {
        a[i * n + i] = 1 / a[i * n + i];
        for (size_t j = i + 1; j < n; j++) {
            a[j * n + i] = a[i * n + j];
            a[i * n + j] = 0;
        }
    }
}
