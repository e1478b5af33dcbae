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

typedef struct anm_gptq_opts {
    int low, high;       /* the integers' range: -8 and 7 for int4, -128 and 127 for int8 */
    size_t group;        /* columns that share a scale; 0: the whole row */
    double damp;         /* of the mean of H's diagonal, added to it; 0.01 */
    int tries;           /* scales tried in the full error, around the best by the diagonal; 1 takes that one */
    int rounds;          /* rounds of coordinate descent and scale fitting afterwards */
    bool fp16_scales;    /* scales are rounded to fp16 (normal numbers), else kept fp32 */
} anm_gptq_opts;

/* What came of it: sums over all rows of (w - s q)^T H (w - s q). */
typedef struct anm_gptq_report {
    double rounding;  /* by rounding to nearest with the scale of the largest weight, as an uncalibrated export does */
    double reached;   /* by this call; never more than rounding's: a row that would be worse keeps its rounding */
    size_t dead;      /* columns whose input was always zero */
} anm_gptq_report;

/* q[rows * n] receives integers, scale[rows * groups] the scales (groups = n / group, or 1); `w` [rows * n] is not
 * changed. h [n * n] is the symmetric matrix H (both triangles; not changed). ANM_ERR_FORMAT when w or h hold a NaN or
 * infinity, with its place; ANM_ERR_MEMORY. */
int anm_gptq(signed char *q, float *scale, const float *w, size_t rows, size_t n, const double *h,
             const anm_gptq_opts *opts, anm_gptq_report *report, anm_pool *pool, anm_error *err);

#endif
