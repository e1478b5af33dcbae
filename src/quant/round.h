/* SPDX-License-Identifier: BSD-3-Clause */
/* What the rounding kernels share: the arithmetic of one scale, and the vector forms by name. */
#ifndef ANM_QUANT_ROUND_H
#define ANM_QUANT_ROUND_H

#include "quant/quant.h"
#include "base/half.h"

#include <float.h>

/* Rounds to the export's type. */
static inline float anm_to_type(float f, bool fp16)
{
    return fp16 ? anm_round_f16(f) : f;
}

/* From max|x|; never less than the smallest normal number. */
static inline float anm_round_scale(float amax, unsigned bits, bool fp16)
{
    float s = anm_to_type(amax / ((float)((1u << bits) - 1) / 2), fp16), least = fp16 ? 0x1p-14f : FLT_MIN;
    return s < least ? least : s;
}

static inline float anm_round_inverse(float scale, bool fp16)
{
    return anm_to_type(1.0f / scale, fp16);
}

#if defined(__x86_64__)
anm_round_fn anm_round_avx2_f16, anm_round_avx2_f32, anm_round_avx512_f16, anm_round_avx512_f32;
anm_round_levels_fn anm_round_levels_avx2_f16, anm_round_levels_avx2_f32;
/* Converts as many of the `n` values as fill whole vectors; returns how many. */
size_t anm_floats_to_f16_avx2(uint8_t *out, const float *x, size_t n);
size_t anm_pack_int4_avx2(uint8_t *out, const int8_t *q, size_t n);
#elif defined(__aarch64__)
anm_round_fn anm_round_neon_f16, anm_round_neon_f32;
anm_round_levels_fn anm_round_levels_neon_f16, anm_round_levels_neon_f32;
size_t anm_floats_to_f16_neon(uint8_t *out, const float *x, size_t n);
size_t anm_pack_int4_neon(uint8_t *out, const int8_t *q, size_t n);
#endif

#endif
