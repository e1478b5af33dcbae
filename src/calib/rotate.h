/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Rotating a model without changing what it computes (QuaRot, arXiv 2404.00456; SpinQuant, 2405.16406): the residual
 * stream x becomes x R, and each head's values v become v S, with R and S orthogonal. Outliers spread over all
 * channels, so that a row's weights round with less loss. Everything is absorbed into the weights:
 *
 *   norm weights go into the linears behind them (a norm without weights commutes with R)
 *   embedding E R      wq wk w1 w3 and head: W R      wo w2: R^T W      wv: per head S^T W R      wo: per head W S
 *
 * R of size n = 2^k m is a Hadamard matrix of size 2^k, Kronecker a random orthogonal matrix of size m, with random
 * signs before it, all from a seed; it is applied in n (log n + m) steps a row and never stored whole.
 */
#ifndef ANM_CALIB_ROTATE_H
#define ANM_CALIB_ROTATE_H

#include "eager/eager.h"

typedef struct anm_rotation {
    size_t n, two, m; /* n = two * m */
    float *sign;      /* [n] */
    float *small;     /* [m, m] orthogonal; NULL when m is 1 */
} anm_rotation;

/* A rotation of size n > 0 from `seed`; with identity set, the one that does nothing. */
int anm_rotation_new(anm_rotation *out, size_t n, uint64_t seed, bool identity, anm_error *err);
void anm_rotation_free(anm_rotation *r);

/* y [rows, n]: each row y becomes y R. Rows are `stride` floats apart. */
int anm_rotate_rows(float *y, size_t rows, size_t stride, const anm_rotation *r, anm_pool *pool, anm_error *err);

/* w [n, cols] becomes R^T w: each column, a vector of the rotated space, is rotated. */
int anm_rotate_columns(float *w, size_t cols, const anm_rotation *r, anm_pool *pool, anm_error *err);

/* A layer's weights with its norms folded and both rotations absorbed; its norm vectors become ones. */
int anm_rotate_layer(anm_eager_layer *l, const anm_params *p, const anm_rotation *stream, const anm_rotation *value,
                     anm_pool *pool, anm_error *err);

/* The head with the final norm folded: w [rows, dim] becomes w diag(norm) R. */
int anm_rotate_head(float *w, size_t rows, const float *norm, const anm_rotation *stream, anm_pool *pool, anm_error *err);

#endif
