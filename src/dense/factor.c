/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Cholesky factor and triangular inverse, in blocks of NB columns: nearly all work is matrix products, and what is left,
 * the blocks on the diagonal, is done in fp64.
 *
 *   factor:   block column -= (rows of L so far) (its own rows)^T;  L11 = chol(block);  L21 = block below * L11^-T
 *   inverse:  X11 = L11^-1;  X21 = -L22^-1 (L21 X11), one block row after the other
 */
#include "dense/dense.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    NB = 128,
    SPAN = 4 * NB, /* columns of the inverse made by one product, which leaves out the zeros above them */
};

/* What both need: a diagonal block in fp64 twice, and a panel of NB columns. */
typedef struct room {
    double *block, *inverse; /* [NB, NB] */
    float *small;            /* [NB, NB] the inverse, as fp32 */
    float *panel;            /* [n, NB] */
} room;

static int take(room *r, size_t n, anm_error *err)
{
    r->block = malloc((size_t)NB * NB * sizeof *r->block);
    r->inverse = malloc((size_t)NB * NB * sizeof *r->inverse);
    r->small = malloc((size_t)NB * NB * sizeof *r->small);
    r->panel = malloc(n * NB * sizeof *r->panel);
    return r->block && r->inverse && r->small && r->panel ? 0 : anm_fail_memory(err, "a factor");
}

static void give_back(room *r)
{
    free(r->block);
    free(r->inverse);
    free(r->small);
    free(r->panel);
}

/* block = U with U^T U = the symmetric matrix in a's lower triangle [w, w], `stride` apart. The row that fails, or w. */
static size_t factor_block(double *u, const float *a, size_t stride, size_t w)
{
    for (size_t i = 0; i < w; i++)
        for (size_t j = i; j < w; j++) u[i * NB + j] = (double)a[j * stride + i];
    for (size_t i = 0; i < w; i++) {
        double *row = u + i * NB;
        for (size_t k = 0; k < i; k++) {
            double f = u[k * NB + i];
            for (size_t j = i; j < w; j++) row[j] -= f * u[k * NB + j];
        }
        if (!(row[i] > 0) || isinf(row[i])) return i;
        double inv = 1 / sqrt(row[i]);
        for (size_t j = i; j < w; j++) row[j] *= inv;
    }
    return w;
}

/* small = x = L^-1 [w, w] with zeros above, from L = U^T; NB apart. */
static void invert_block(room *r, size_t w)
{
    const double *u = r->block;
    for (size_t i = 0; i < w; i++) {
        double *x = r->inverse + i * NB, inv = 1 / u[i * NB + i];
        memset(x, 0, w * sizeof *x);
        x[i] = 1;
        for (size_t k = 0; k < i; k++)
            for (size_t j = 0; j <= k; j++) x[j] -= u[k * NB + i] * r->inverse[k * NB + j];
        for (size_t j = 0; j <= i; j++) x[j] *= inv;
        for (size_t j = 0; j < w; j++) r->small[i * NB + j] = (float)x[j];
    }
}

int anm_cholesky(float *a, size_t n, anm_pool *pool, anm_error *err)
{
    room r = {0};
    int rc = take(&r, n, err);
    for (size_t at = 0; at < n && !rc; at += NB) {
        size_t w = n - at < NB ? n - at : NB, below = n - at - w;
        float *corner = a + at * n + at, *minus = r.panel; /* [w, at] */
        for (size_t i = 0; i < w; i++)
            for (size_t j = 0; j < at; j++) minus[i * at + j] = -a[(at + i) * n + j];
        rc = anm_gemm(corner, n, anm_rows(a + at * n, n), anm_rows(minus, at), n - at, w, at, true, pool, err);
        if (rc) break;
        size_t reached = factor_block(r.block, corner, n, w);
        if (reached < w) {
            rc = anm_fail(err, ANM_ERR_FORMAT, "the matrix is not positive definite at row %zu of %zu", at + reached, n);
            break;
        }
        for (size_t i = 0; i < w; i++)
            for (size_t j = 0; j <= i; j++) corner[i * n + j] = (float)r.block[j * NB + i];
        if (!below) break;
        invert_block(&r, w);
        float *under = corner + w * n;
        rc = anm_gemm(r.panel, w, anm_rows(under, n), anm_rows(r.small, NB), below, w, w, false, pool, err);
        for (size_t i = 0; i < below && !rc; i++) memcpy(under + i * n, r.panel + i * w, w * sizeof *under);
    }
    give_back(&r);
    return rc;
}

int anm_lower_inverse(float *a, size_t n, anm_pool *pool, anm_error *err)
{
    room r = {0};
    int rc = take(&r, n, err);
    for (size_t i = 0; i < n && !rc; i++) memset(a + i * n + i + 1, 0, (n - i - 1) * sizeof *a);
    for (size_t at = 0; at < n && !rc; at += NB) {
        size_t w = n - at < NB ? n - at : NB;
        float *rows = a + at * n; /* block row `at`: L, then X */
        for (size_t i = 0; i < w; i++)
            for (size_t j = i; j < w; j++) r.block[i * NB + j] = (double)rows[j * n + at + i];
        invert_block(&r, w);
        /* panel [at, w] = (L21 X11)^T: column c of X begins at row c */
        for (size_t c = 0; c < at && !rc; c += SPAN) {
            size_t cols = at - c < SPAN ? at - c : SPAN;
            rc = anm_gemm(r.panel + c * w, w, anm_transposed(a + c * n + c, n), anm_rows(rows + c, n), cols, w, at - c, false, pool, err);
        }
        for (size_t i = 0; i < w; i++) memcpy(rows + i * n + at, r.small + i * NB, w * sizeof *rows);
        for (size_t i = 0; i < w; i++)
            for (size_t j = 0; j < w; j++) r.small[i * NB + j] = -r.small[i * NB + j];
        if (!rc) rc = anm_gemm(rows, n, anm_rows(r.small, NB), anm_rows(r.panel, w), w, at, w, false, pool, err);
    }
    give_back(&r);
    return rc;
}
