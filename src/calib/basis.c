/* SPDX-License-Identifier: BSD-3-Clause */
/* H in the order in which columns are rounded, and the factor of its inverse. */
#include "calib/gptq.h"
#include "dense/dense.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

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

static int sort_columns(size_t *order, const float *h, size_t n, anm_error *err)
{
    by_power *power = malloc(n * sizeof *power);
    if (!power) return anm_fail_memory(err, "error-compensated rounding");
    for (size_t i = 0; i < n; i++) power[i] = (by_power){(double)h[i * n + i], i};
    qsort(power, n, sizeof *power, more_power_first);
    for (size_t i = 0; i < n; i++) order[i] = power[i].col;
    free(power);
    return 0;
}

typedef struct reorder {
    float *to;
    const float *from; /* upper triangle */
    const size_t *order;
    size_t n;
} reorder;

static void reorder_row(void *ctx, uint32_t i, unsigned thread)
{
    (void)thread;
    const reorder *r = ctx;
    const size_t n = r->n, a = r->order[i];
    for (size_t j = 0; j < n; j++) {
        size_t b = r->order[j];
        r->to[i * n + j] = r->from[a < b ? a * n + b : b * n + a];
    }
}

/* From the last entry to the first: rows and columns in opposite order. */
static void reverse(float *to, const float *from, size_t n)
{
    for (size_t i = 0; i < n * n; i++) to[i] = from[n * n - 1 - i];
}

/* b->u, in place of h: the factor of the reversed H, inverted and reversed again, is upper. */
static int factor(anm_gptq_basis *b, double mean, double damp, anm_pool *pool, anm_error *err)
{
    const size_t n = b->n;
    double more = damp > 0 ? 9 * damp : 1e-6;
    for (;;) { /* more damping until the factor exists, each time tenfold */
        reverse(b->u, b->h, n);
        int rc = anm_cholesky(b->u, n, pool, err);
        if (!rc) break;
        if (rc != ANM_ERR_FORMAT || more > 10) return rc;
        for (size_t i = 0; i < n; i++) b->h[i * n + i] += (float)(more * mean);
        more *= 10;
    }
    int rc = anm_lower_inverse(b->u, n, pool, err);
    for (size_t i = 0, j = n * n - 1; i < j; i++, j--) {
        float t = b->u[i];
        b->u[i] = b->u[j];
        b->u[j] = t;
    }
    return rc;
}

int anm_gptq_basis_new(anm_gptq_basis *out, float *h, size_t n, double damp, anm_pool *pool, anm_error *err)
{
    double mean = 0;
    int rc = 0;
    *out = (anm_gptq_basis){.n = n, .u = h};
    out->order = malloc(n * sizeof *out->order);
    out->diagonal = malloc(n * sizeof *out->diagonal);
    out->h = malloc(n * n * sizeof *out->h);
    if (!out->order || !out->diagonal || !out->h) rc = anm_fail_memory(err, "error-compensated rounding");
    for (size_t i = 0; i < n && !rc; i++)
        for (size_t j = i; j < n && !rc; j++)
            if (!isfinite(h[i * n + j]))
                rc = anm_fail(err, ANM_ERR_FORMAT, "the calibration's statistics are not finite at (%zu, %zu)", i, j);
    for (size_t i = 0; i < n && !rc; i++) {
        mean += (double)h[i * n + i] / (double)n;
        out->dead += h[i * n + i] <= 0;
    }
    if (!rc) rc = sort_columns(out->order, h, n, err);
    if (rc) goto done;
    if (!(mean > 0)) mean = 1;
    reorder r = {out->h, h, out->order, n};
    anm_pool_run(pool, reorder_row, &r, (uint32_t)n);
    for (size_t i = 0; i < n; i++) {
        float *d = &out->h[i * n + i];
        *d += (float)(damp * mean);
        if (!(*d > 0)) *d = (float)mean; /* an input that is always zero, and no damping */
    }
    rc = factor(out, mean, damp, pool, err);
    for (size_t i = 0; i < n && !rc; i++) out->diagonal[out->order[i]] = out->h[i * n + i];
done:
    if (rc) anm_gptq_basis_free(out);
    return rc;
}

void anm_gptq_basis_free(anm_gptq_basis *b)
{
    free(b->order);
    free(b->diagonal);
    free(b->h);
    free(b->u);
    *b = (anm_gptq_basis){0};
}
