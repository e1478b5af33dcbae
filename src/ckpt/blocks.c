/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Each function turns one block into its values: a scale d (and in the _1 and K types a minimum) in fp16
 * times small integers. Products and differences are rounded one by one, in the order that gguf's quants.py
 * takes.
 */
#include "ckpt/blocks.h"

#include "base/bytes.h"
#include "base/half.h"

static inline float scale_at(const uint8_t *p)
{
    return anm_f16_to_f32(anm_ld16(p));
}

/* 32 values; the low nibbles are the first half, the high nibbles the second. */
static void q4_0(float *out, const uint8_t *p)
{
    float d = scale_at(p);
    for (int i = 0; i < 16; i++) {
        out[i] = d * (float)((p[2 + i] & 15) - 8);
        out[i + 16] = d * (float)((p[2 + i] >> 4) - 8);
    }
}

static void q4_1(float *out, const uint8_t *p)
{
    float d = scale_at(p), m = scale_at(p + 2);
    for (int i = 0; i < 16; i++) {
        out[i] = d * (float)(p[4 + i] & 15) + m;
        out[i + 16] = d * (float)(p[4 + i] >> 4) + m;
    }
}

/* The fifth bits of all 32 values stand together in 4 bytes: 16 where they are set. */
static inline void fifth_bits(int32_t out[32], const uint8_t *p)
{
    static const uint32_t bit[16] = {1,   2,   4,    8,    16,   32,   64,    128,
                                     256, 512, 1024, 2048, 4096, 8192, 16384, 32768};
    uint32_t low = anm_ld16(p), high = anm_ld16(p + 2);
    for (int i = 0; i < 16; i++) {
        out[i] = low & bit[i] ? 16 : 0;
        out[i + 16] = high & bit[i] ? 16 : 0;
    }
}

static void q5_0(float *out, const uint8_t *p)
{
    float d = scale_at(p);
    int32_t high[32];
    fifth_bits(high, p + 2);
    for (int i = 0; i < 16; i++) {
        out[i] = d * (float)((p[6 + i] & 15) + high[i] - 16);
        out[i + 16] = d * (float)((p[6 + i] >> 4) + high[i + 16] - 16);
    }
}

static void q5_1(float *out, const uint8_t *p)
{
    float d = scale_at(p), m = scale_at(p + 2);
    int32_t high[32];
    fifth_bits(high, p + 4);
    for (int i = 0; i < 16; i++) {
        out[i] = d * (float)((p[8 + i] & 15) + high[i]) + m;
        out[i + 16] = d * (float)((p[8 + i] >> 4) + high[i + 16]) + m;
    }
}

static void q8_0(float *out, const uint8_t *p)
{
    float d = scale_at(p);
    for (int i = 0; i < 32; i++)
        out[i] = (float)(int8_t)p[2 + i] * d;
}

/* K types: 256 values in groups, each group with a scale of its own, a few bits wide, under the block's
 * scale. */

/* 16 groups of 16; scales 4 bits, minima 4 bits. 2-bit values: 32 bytes hold four runs of 32, bits 0-1 first.
 */
static void q2_k(float *out, const uint8_t *p)
{
    const uint8_t *scales = p;
    float d = scale_at(p + 80), dmin = scale_at(p + 82);
    for (int g = 0; g < 16; g++) {
        const uint8_t *q = p + 16 + g / 8 * 32 + g % 2 * 16;
        int shift = g % 8 / 2 * 2;
        float ds = d * (float)(scales[g] & 15), dm = dmin * (float)(scales[g] >> 4);
        for (int i = 0; i < 16; i++)
            out[g * 16 + i] = ds * (float)(q[i] >> shift & 3) - dm;
    }
}

/* 16 groups of 16; scales 6 bits less 32: low nibbles in 8 bytes, then the high pairs in 4. Values: 2 bits as
 * in q2_k, less 4 where the high mask's bit is clear. */
static void q3_k(float *out, const uint8_t *p)
{
    const uint8_t *s = p + 96;
    float d = scale_at(p + 108);
    for (int g = 0; g < 16; g++) {
        const uint8_t *mask = p + g % 2 * 16, *q = p + 32 + g / 8 * 32 + g % 2 * 16;
        int shift = g % 8 / 2 * 2, bit = 1 << g / 2;
        int low = s[g % 8] >> (g / 8 * 4) & 15, high = s[8 + g % 4] >> (g / 4 * 2) & 3;
        float ds = d * (float)((low | high << 4) - 32);
        for (int i = 0; i < 16; i++)
            out[g * 16 + i] = ds * (float)((q[i] >> shift & 3) - (mask[i] & bit ? 0 : 4));
    }
}

/* The scale and minimum, 6 bits each, of group g in [0, 8), packed in 12 bytes: four of each whole, then the
 * other four in nibbles with their upper pairs above the first ones. */
static void packed_scale(const uint8_t *s, int g, unsigned *scale, unsigned *min)
{
    if (g < 4) {
        *scale = s[g] & 63u;
        *min = s[g + 4] & 63u;
    } else {
        *scale = (s[g + 4] & 15u) | (s[g - 4] >> 6 << 4);
        *min = (unsigned)(s[g + 4] >> 4) | (s[g] >> 6 << 4);
    }
}

/* 8 groups of 32; nibbles: 32 bytes hold two runs of 32. */
static void q4_k(float *out, const uint8_t *p)
{
    float d = scale_at(p), dmin = scale_at(p + 2);
    const uint8_t *q = p + 16;
    for (int g = 0; g < 8; g++) {
        unsigned scale, min;
        packed_scale(p + 4, g, &scale, &min);
        float ds = d * (float)scale, dm = dmin * (float)min;
        for (int i = 0; i < 32; i++)
            out[g * 32 + i] = ds * (float)(q[g / 2 * 32 + i] >> (g % 2 * 4) & 15) - dm;
    }
}

/* As q4_k, the fifth bits apart: bit g of byte i for value i of group g. */
static void q5_k(float *out, const uint8_t *p)
{
    float d = scale_at(p), dmin = scale_at(p + 2);
    const uint8_t *high = p + 16, *q = p + 48;
    for (int g = 0; g < 8; g++) {
        unsigned scale, min;
        packed_scale(p + 4, g, &scale, &min);
        float ds = d * (float)scale, dm = dmin * (float)min;
        for (int i = 0; i < 32; i++) {
            int v = (q[g / 2 * 32 + i] >> (g % 2 * 4) & 15) | (high[i] >> g & 1) << 4;
            out[g * 32 + i] = ds * (float)v - dm;
        }
    }
}

/* 16 groups of 16, scales signed bytes. Values less 32: low nibbles in 128 bytes (64 hold two runs of 64),
 * high pairs in 64 (32 hold four runs of 32). */
static void q6_k(float *out, const uint8_t *p)
{
    const uint8_t *scales = p + 192;
    float d = scale_at(p + 208);
    for (int g = 0; g < 16; g++) {
        const uint8_t *low = p + g / 8 * 64 + g % 4 * 16, *high = p + 128 + g / 8 * 32 + g % 2 * 16;
        int low_shift = g % 8 / 4 * 4, high_shift = g % 8 / 2 * 2;
        float ds = d * (float)(int8_t)scales[g];
        for (int i = 0; i < 16; i++)
            out[g * 16 + i] =
                ds * (float)(((low[i] >> low_shift & 15) | (high[i] >> high_shift & 3) << 4) - 32);
    }
}

void anm_blocks_f32(float *out, anm_dtype type, const uint8_t *p, size_t blocks)
{
    void (*one)(float *, const uint8_t *) = NULL;
    switch (type) {
    case ANM_DT_Q4_0: one = q4_0; break;
    case ANM_DT_Q4_1: one = q4_1; break;
    case ANM_DT_Q5_0: one = q5_0; break;
    case ANM_DT_Q5_1: one = q5_1; break;
    case ANM_DT_Q8_0: one = q8_0; break;
    case ANM_DT_Q2_K: one = q2_k; break;
    case ANM_DT_Q3_K: one = q3_k; break;
    case ANM_DT_Q4_K: one = q4_k; break;
    case ANM_DT_Q5_K: one = q5_k; break;
    case ANM_DT_Q6_K: one = q6_k; break;
    default: return;
    }
    size_t n = anm_dtype_block(type), bytes = anm_dtype_bytes(type);
    for (size_t b = 0; b < blocks; b++)
        one(out + b * n, p + b * bytes);
}
