/* SPDX-License-Identifier: BSD-3-Clause */
/* Four rows by a group of inputs with SDOT: a lane takes four products at once. For the files compiled for it. */
#ifndef ANM_KERNEL_ARM_DOTPROD_H
#define ANM_KERNEL_ARM_DOTPROD_H

#include "kernel/arm/neon.h"

static inline __attribute__((always_inline)) int32x4_t anm_sdot32(const int8x16_t w[8], int8x16_t q0, int8x16_t q1,
                                                                   int32_t offset)
{
    int32x4_t even = vdupq_n_s32(offset), odd = vdupq_n_s32(0);
    even = vdotq_laneq_s32(even, w[0], q0, 0);
    odd = vdotq_laneq_s32(odd, w[1], q0, 1);
    even = vdotq_laneq_s32(even, w[2], q0, 2);
    odd = vdotq_laneq_s32(odd, w[3], q0, 3);
    even = vdotq_laneq_s32(even, w[4], q1, 0);
    odd = vdotq_laneq_s32(odd, w[5], q1, 1);
    even = vdotq_laneq_s32(even, w[6], q1, 2);
    odd = vdotq_laneq_s32(odd, w[7], q1, 3);
    return vaddq_s32(even, odd);
}

#endif
