/* SPDX-License-Identifier: BSD-3-Clause */
/* The rounding kernels for 64-bit Arm, which converts fp16 both ways by itself: round_avx2.c four values at a time. */
#include "quant/round.h"

#include <arm_neon.h>
#include <float.h>
#include <string.h>

static inline float32x4_t round_f16(float32x4_t v)
{
    return vcvt_f32_f16(vcvt_f16_f32(v));
}

static inline float32x4_t to_type(float32x4_t v, bool fp16)
{
    return fp16 ? round_f16(v) : v;
}

static inline float round_one(float f, bool fp16)
{
    return vgetq_lane_f32(to_type(vdupq_n_f32(f), fp16), 0);
}

static inline int32x4_t nearest(float32x4_t x, float32x4_t by, bool fp16)
{
    return vcvtnq_s32_f32(to_type(vmulq_f32(to_type(x, fp16), by), fp16));
}

static inline uint32_t magnitude(float x)
{
    uint32_t u;
    memcpy(&u, &x, 4);
    return u & 0x7fffffffu;
}

static inline float quantise(int8_t *q, const float *x, size_t n, unsigned bits, bool fp16)
{
    uint32x4_t top = vdupq_n_u32(0); /* magnitudes compare as integers; a NaN is above infinity */
    size_t i = 0;
    for (; i + 4 <= n; i += 4) top = vmaxq_u32(top, vreinterpretq_u32_f32(vabsq_f32(vld1q_f32(x + i))));
    uint32_t most = vmaxvq_u32(top);
    for (; i < n; i++) {
        uint32_t u = magnitude(x[i]);
        most = u > most ? u : most;
    }
    float amax;
    memcpy(&amax, &most, 4);
    float scale = anm_round_scale(round_one(amax, fp16), bits, fp16);
    if (!(scale <= FLT_MAX)) {
        memset(q, 0, n);
        return scale;
    }
    const float32x4_t by = vdupq_n_f32(anm_round_inverse(scale, fp16));
    const int8_t low = (int8_t)-(1 << (bits - 1)), high = (int8_t)(-1 - low);
    for (i = 0; i + 16 <= n; i += 16) {
        int16x8_t a = vcombine_s16(vqmovn_s32(nearest(vld1q_f32(x + i), by, fp16)), vqmovn_s32(nearest(vld1q_f32(x + i + 4), by, fp16)));
        int16x8_t b = vcombine_s16(vqmovn_s32(nearest(vld1q_f32(x + i + 8), by, fp16)), vqmovn_s32(nearest(vld1q_f32(x + i + 12), by, fp16)));
        int8x16_t r = vcombine_s8(vqmovn_s16(a), vqmovn_s16(b));
        vst1q_s8(q + i, vminq_s8(vmaxq_s8(r, vdupq_n_s8(low)), vdupq_n_s8(high)));
    }
    for (; i < n; i++) {
        int32_t r = vgetq_lane_s32(nearest(vdupq_n_f32(x[i]), by, fp16), 0);
        q[i] = (int8_t)(r < low ? low : r > high ? high : r);
    }
    return scale;
}

float anm_round_neon_f16(int8_t *q, const float *x, size_t n, unsigned bits)
{
    return quantise(q, x, n, bits, true);
}

float anm_round_neon_f32(int8_t *q, const float *x, size_t n, unsigned bits)
{
    return quantise(q, x, n, bits, false);
}

/* Four levels from number `from` on, as integers. */
static inline int32x4_t level_codes(const anm_levels *x, float from, float32x4_t by, bool fp16)
{
    static const float first[4] = {0, 1, 2, 3};
    float32x4_t number = vaddq_f32(vld1q_f32(first), vdupq_n_f32(from));
    return nearest(vaddq_f32(vmulq_n_f32(number, x->step), vdupq_n_f32(x->base)), by, fp16);
}

static inline float quantise_levels(int8_t *q, const anm_levels *x, size_t n, unsigned bits, bool fp16)
{
    uint32_t most = 0;
    for (size_t k = 0; k < n; k++) {
        uint8x16_t a = vld1q_u8(x[k].index), b = vld1q_u8(x[k].index + 16);
        float first = (float)vminvq_u8(vminq_u8(a, b)) * x[k].step, last = (float)vmaxvq_u8(vmaxq_u8(a, b)) * x[k].step;
        uint32_t u = magnitude(first + x[k].base), v = magnitude(last + x[k].base);
        most = u > most ? u : most;
        most = v > most ? v : most;
    }
    float amax;
    memcpy(&amax, &most, 4);
    float scale = anm_round_scale(round_one(amax, fp16), bits, fp16);
    if (!(scale <= FLT_MAX)) {
        memset(q, 0, n * ANM_LEVEL_RUN);
        return scale;
    }
    const float32x4_t by = vdupq_n_f32(anm_round_inverse(scale, fp16));
    const int8_t low = (int8_t)-(1 << (bits - 1)), high = (int8_t)(-1 - low);
    for (size_t k = 0; k < n; k++) {
        int16x8_t a = vcombine_s16(vqmovn_s32(level_codes(x + k, 0, by, fp16)), vqmovn_s32(level_codes(x + k, 4, by, fp16)));
        int16x8_t b = vcombine_s16(vqmovn_s32(level_codes(x + k, 8, by, fp16)), vqmovn_s32(level_codes(x + k, 12, by, fp16)));
        int8x16_t codes = vcombine_s8(vqmovn_s16(a), vqmovn_s16(b));
        codes = vminq_s8(vmaxq_s8(codes, vdupq_n_s8(low)), vdupq_n_s8(high));
        for (int i = 0; i < ANM_LEVEL_RUN; i += 16) vst1q_s8(q + k * ANM_LEVEL_RUN + i, vqtbl1q_s8(codes, vld1q_u8(x[k].index + i)));
    }
    return scale;
}

float anm_round_levels_neon_f16(int8_t *q, const anm_levels *x, size_t n, unsigned bits)
{
    return quantise_levels(q, x, n, bits, true);
}

float anm_round_levels_neon_f32(int8_t *q, const anm_levels *x, size_t n, unsigned bits)
{
    return quantise_levels(q, x, n, bits, false);
}

size_t anm_floats_to_f16_neon(uint8_t *out, const float *x, size_t n)
{
    size_t i = 0;
    for (; i + 4 <= n; i += 4) {
        float16x4_t h = vcvt_f16_f32(vld1q_f32(x + i));
        memcpy(out + 2 * i, &h, 8);
    }
    return i;
}

size_t anm_pack_int4_neon(uint8_t *out, const int8_t *q, size_t n)
{
    size_t i = 0;
    for (; i + 32 <= n; i += 32) {
        uint8x16x2_t pairs = vld2q_u8((const uint8_t *)q + i); /* the first of each pair, the second of each */
        vst1q_u8(out + i / 2, vsliq_n_u8(vandq_u8(pairs.val[0], vdupq_n_u8(15)), pairs.val[1], 4));
    }
    return i;
}
