/* SPDX-License-Identifier: BSD-3-Clause */
/* The inner loops of rounding that fit this processor. Internal to calib/. */
#ifndef ANM_CALIB_HOT_KIND_H
#define ANM_CALIB_HOT_KIND_H

#include <stddef.h>

enum { ANM_LANES = 16 }; /* rows that one task carries side by side */

typedef struct anm_hot {
    /* The sum over n of weight * (w - scale * q)^2, q the nearest integer in [low, high]. */
    double (*grid_error)(const float *w, const float *weight, size_t n, float scale, float low, float high);
    /* For each lane: q nearest to w / scale in [low, high], e = (w - q scale) inv. */
    void (*column)(float *restrict e, float *restrict q, const float *restrict w, const float *restrict scale, float inv, float low, float high);
    /* w[c][lane] -= e[lane] * u[c] for c < n. */
    void (*push)(float *restrict w, const float *restrict e, const float *restrict u, size_t n);
} anm_hot;

const anm_hot *anm_hot_pick(void);

#endif
