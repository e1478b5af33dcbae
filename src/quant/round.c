/* SPDX-License-Identifier: BSD-3-Clause */
/* The plain kernels: the truth that the vector ones are compared with, and the choice among them. */
#include "quant/round.h"
#include "base/cpu.h"
#include "base/bytes.h"

#include <math.h>

/* max|x|, or a NaN when there is one, as torch.amin and amax would have it. Rounding to a type keeps the order, so the
 * largest of the rounded values is the largest one, rounded. */
static float largest(const float *x, size_t n)
{
    float m = 0;
    for (size_t i = 0; i < n; i++) {
        float a = fabsf(x[i]);
        if (!(a <= m)) m = a;
        if (m != m) return m;
    }
    return m;
}

static int8_t nearest(float x, float inverse, unsigned bits, bool fp16)
{
    float low = -(float)(1 << (bits - 1)), high = -low - 1, r = rintf(anm_to_type(anm_to_type(x, fp16) * inverse, fp16));
    return (int8_t)(r < low ? low : r > high ? high : r);
}

static float quantise(int8_t *q, const float *x, size_t n, unsigned bits, bool fp16)
{
    float scale = anm_round_scale(anm_to_type(largest(x, n), fp16), bits, fp16);
    if (!(scale <= FLT_MAX)) {
        memset(q, 0, n);
        return scale;
    }
    float inverse = anm_round_inverse(scale, fp16);
    for (size_t i = 0; i < n; i++) q[i] = nearest(x[i], inverse, bits, fp16);
    return scale;
}

static float plain_f16(int8_t *q, const float *x, size_t n, unsigned bits)
{
    return quantise(q, x, n, bits, true);
}

static float plain_f32(int8_t *q, const float *x, size_t n, unsigned bits)
{
    return quantise(q, x, n, bits, false);
}

anm_round_fn *anm_round_plain(bool fp16)
{
    return fp16 ? plain_f16 : plain_f32;
}

static inline float level(const anm_levels *x, int i)
{
    float product = x->step * (float)i; /* exact: nothing is lost where it is rounded */
    return product + x->base;
}

static float quantise_levels(int8_t *q, const anm_levels *x, size_t n, unsigned bits, bool fp16)
{
    float ends[2], most = 0;
    for (size_t k = 0; k < n && most == most; k++) {
        int least = ANM_LEVELS - 1, top = 0; /* levels rise or fall evenly: the largest value is of the first or the last */
        for (int i = 0; i < ANM_LEVEL_RUN; i++) {
            if (x[k].index[i] < least) least = x[k].index[i];
            if (x[k].index[i] > top) top = x[k].index[i];
        }
        ends[0] = level(x + k, least);
        ends[1] = level(x + k, top);
        float a = largest(ends, 2);
        if (!(a <= most)) most = a;
    }
    float scale = anm_round_scale(anm_to_type(most, fp16), bits, fp16);
    if (!(scale <= FLT_MAX)) {
        memset(q, 0, n * ANM_LEVEL_RUN);
        return scale;
    }
    float inverse = anm_round_inverse(scale, fp16);
    for (size_t k = 0; k < n; k++, q += ANM_LEVEL_RUN) {
        int8_t code[ANM_LEVELS];
        for (int i = 0; i < ANM_LEVELS; i++) code[i] = nearest(level(x + k, i), inverse, bits, fp16);
        for (int i = 0; i < ANM_LEVEL_RUN; i++) q[i] = code[x[k].index[i] & (ANM_LEVELS - 1)];
    }
    return scale;
}

static float levels_plain_f16(int8_t *q, const anm_levels *x, size_t n, unsigned bits)
{
    return quantise_levels(q, x, n, bits, true);
}

static float levels_plain_f32(int8_t *q, const anm_levels *x, size_t n, unsigned bits)
{
    return quantise_levels(q, x, n, bits, false);
}

anm_round_levels_fn *anm_round_levels_plain(bool fp16)
{
    return fp16 ? levels_plain_f16 : levels_plain_f32;
}

static void pack_plain(uint8_t *out, const int8_t *q, size_t n)
{
    for (size_t i = 0; i + 1 < n; i += 2) out[i / 2] = (uint8_t)((q[i] & 15) | (q[i + 1] & 15) << 4);
    if (n % 2) out[n / 2] = (uint8_t)(q[n - 1] & 15);
}

#if defined(__x86_64__)

anm_round_fn *anm_round_best(bool fp16)
{
    if (!anm_isa_usable(ANM_ISA_AVX2)) return anm_round_plain(fp16);
    if (anm_isa_usable(ANM_ISA_AVX512)) return fp16 ? anm_round_avx512_f16 : anm_round_avx512_f32;
    return fp16 ? anm_round_avx2_f16 : anm_round_avx2_f32;
}

anm_round_levels_fn *anm_round_levels_best(bool fp16)
{
    if (!anm_isa_usable(ANM_ISA_AVX2)) return anm_round_levels_plain(fp16);
    return fp16 ? anm_round_levels_avx2_f16 : anm_round_levels_avx2_f32;
}

void anm_floats_to_f16(uint8_t *out, const float *x, size_t n)
{
    size_t i = anm_isa_usable(ANM_ISA_AVX2) ? anm_floats_to_f16_avx2(out, x, n) : 0;
    for (; i < n; i++) anm_st16(out + 2 * i, anm_f32_to_f16(x[i]));
}

void anm_pack_int4(uint8_t *out, const int8_t *q, size_t n)
{
    size_t i = anm_isa_usable(ANM_ISA_AVX2) ? anm_pack_int4_avx2(out, q, n) : 0;
    pack_plain(out + i / 2, q + i, n - i);
}

#elif defined(__aarch64__)

anm_round_fn *anm_round_best(bool fp16)
{
    if (!anm_isa_usable(ANM_ISA_NEON)) return anm_round_plain(fp16);
    return fp16 ? anm_round_neon_f16 : anm_round_neon_f32;
}

anm_round_levels_fn *anm_round_levels_best(bool fp16)
{
    if (!anm_isa_usable(ANM_ISA_NEON)) return anm_round_levels_plain(fp16);
    return fp16 ? anm_round_levels_neon_f16 : anm_round_levels_neon_f32;
}

void anm_floats_to_f16(uint8_t *out, const float *x, size_t n)
{
    size_t i = anm_isa_usable(ANM_ISA_NEON) ? anm_floats_to_f16_neon(out, x, n) : 0;
    for (; i < n; i++) anm_st16(out + 2 * i, anm_f32_to_f16(x[i]));
}

void anm_pack_int4(uint8_t *out, const int8_t *q, size_t n)
{
    size_t i = anm_isa_usable(ANM_ISA_NEON) ? anm_pack_int4_neon(out, q, n) : 0;
    pack_plain(out + i / 2, q + i, n - i);
}

#else

anm_round_fn *anm_round_best(bool fp16)
{
    return anm_round_plain(fp16);
}

anm_round_levels_fn *anm_round_levels_best(bool fp16)
{
    return anm_round_levels_plain(fp16);
}

void anm_floats_to_f16(uint8_t *out, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) anm_st16(out + 2 * i, anm_f32_to_f16(x[i]));
}

void anm_pack_int4(uint8_t *out, const int8_t *q, size_t n)
{
    pack_plain(out, q, n);
}

#endif
