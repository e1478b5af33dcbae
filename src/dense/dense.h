/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Dense linear algebra for whole matrices: what evaluating a checkpoint in full precision and calibrating its
 * quantisation need. Row-major, fp32, with fp64 inside the diagonal blocks of a factor. Results do not depend on the
 * number of threads: work is cut into tiles of a fixed size, and each is summed in one order.
 */
#ifndef ANM_DENSE_DENSE_H
#define ANM_DENSE_DENSE_H

#include "base/error.h"
#include "base/pool.h"

#include <stdbool.h>
#include <stddef.h>

/* A matrix by its strides: element (i, j) is at data[i * row + j * col]. A transposed view swaps the two. */
typedef struct anm_view {
    const float *data;
    size_t row, col;
} anm_view;

static inline anm_view anm_rows(const float *data, size_t cols) { return (anm_view){data, cols, 1}; }
static inline anm_view anm_transposed(const float *data, size_t cols) { return (anm_view){data, 1, cols}; }

/* c[i * ldc + j] = (add ? c[i * ldc + j] : 0) + sum over p of a(i, p) * b(j, p), for i < m, j < n, p < k: the product
 * of A and B transposed, which is `x @ w.T` for activations x [m, k] and a linear's weight w [n, k]. */
int anm_gemm(float *c, size_t ldc, anm_view a, anm_view b, size_t m, size_t n, size_t k, bool add, anm_pool *pool,
             anm_error *err);

/* h [n, n] += x^T x for x [rows, n], on the diagonal and right of it; what lies left of it is of no meaning afterwards. */
int anm_gram(float *h, const float *x, size_t rows, size_t n, anm_pool *pool, anm_error *err);

/* Which micro-kernel anm_gemm uses here: "avx512", "avx2", "plain". */
const char *anm_gemm_name(void);

/* The lower Cholesky factor of the symmetric positive definite a [n, n], in place; only a's lower triangle is read, and what
 * lies above it is of no meaning afterwards. ANM_ERR_FORMAT with the row at which `a` turns out not to be positive definite;
 * ANM_ERR_MEMORY. */
int anm_cholesky(float *a, size_t n, anm_pool *pool, anm_error *err);

/* In place: the inverse of the lower triangular matrix in a's lower triangle [n, n], zeros above it. */
int anm_lower_inverse(float *a, size_t n, anm_pool *pool, anm_error *err);

#endif
