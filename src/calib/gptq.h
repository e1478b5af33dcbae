/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Rounding a linear's weights so that its output, not its weights, stays near: GPTQ (Frantar et al., arXiv 2210.17323)
 * with activation order, a search for each row's scale by the error that counts, and coordinate descent after it.
 *
 * For a row w of n weights and inputs x with H = sum of x x^T, it looks for small integers q and a scale s that make
 * (w - s q)^T H (w - s q) small. Rows do not touch each other, so they are shared out over threads, and the answer does
 * not depend on how many there are.
 */
#ifndef ANM_CALIB_GPTQ_H
#define ANM_CALIB_GPTQ_H

#include "base/error.h"
#include "base/pool.h"

#include <stdbool.h>
#include <stddef.h>

/* What all linears share that read the same inputs: H and its factor, with columns in the order in which they are rounded. */
typedef struct anm_gptq_basis {
    size_t n, dead;  /* dead: columns whose input was always zero */
    size_t *order;   /* [n] the caller's column for each of ours, by falling power of its input */
    float *diagonal; /* [n] H's, in the caller's order, damped */
    float *h;        /* [n, n] H, damped */
    float *u;        /* [n, n] upper, U^T U = H^-1 */
} anm_gptq_basis;

/* Takes `h` [n * n] (of malloc; its diagonal and what lies right of it are read) over, also when it fails. `damp`, of the
 * mean of H's diagonal, is added to the diagonal, and as much more as it takes to make H positive definite.
 * ANM_ERR_FORMAT when h holds a NaN or infinity, with its place; ANM_ERR_MEMORY. */
int anm_gptq_basis_new(anm_gptq_basis *out, float *h, size_t n, double damp, anm_pool *pool, anm_error *err);
void anm_gptq_basis_free(anm_gptq_basis *b); /* a zeroed one is fine */

typedef struct anm_gptq_opts {
    int low, high;       /* the integers' range: -8 and 7 for int4, -128 and 127 for int8 */
    size_t group;        /* columns that share a scale; 0: the whole row */
    int tries;           /* scales tried in the full error, around the best by the diagonal; 1 takes that one */
    int rounds;          /* rounds of coordinate descent and scale fitting afterwards */
    bool fp16_scales;    /* scales are rounded to fp16 (normal numbers), else kept fp32 */
} anm_gptq_opts;

/* What came of it: sums over all rows of (w - s q)^T H (w - s q). */
typedef struct anm_gptq_report {
    double rounding;  /* by rounding to nearest with the scale of the largest weight, as an uncalibrated export does */
    double reached;   /* by this call; never more than rounding's: a row that would be worse keeps its rounding */
    double most;      /* the largest error that a row keeps … */
    size_t worst;     /* … and which row that is */
} anm_gptq_report;

/* q[rows * n] receives integers, scale[rows * groups] the scales (groups = n / group, or 1); `w` [rows * n] is not
 * changed. Memory does not grow with the rows. ANM_ERR_FORMAT when w holds a NaN or infinity, with its place;
 * ANM_ERR_MEMORY. */
int anm_gptq(signed char *q, float *scale, const float *w, size_t rows, const anm_gptq_basis *basis, const anm_gptq_opts *opts,
             anm_gptq_report *report, anm_pool *pool, anm_error *err);

#endif
