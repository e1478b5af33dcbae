/* SPDX-License-Identifier: BSD-3-Clause */
/* The interpreter's one loop that is worth vectors: see lanes_body.h. Internal to mil/. */
#ifndef ANM_MIL_LANES_H
#define ANM_MIL_LANES_H

#include <stdint.h>

enum { ANM_LANES = 8, ANM_LANES_WEIGHTS = 4 };

/* sum[4][8] = w [4, k] by x [k, 8]. */
typedef void anm_lanes_fn(double *restrict sum, const double *restrict x, const float *restrict w, int64_t k);

anm_lanes_fn anm_lanes_plain;
#if defined(__x86_64__)
anm_lanes_fn anm_lanes_avx2, anm_lanes_avx512;
#endif

#endif
