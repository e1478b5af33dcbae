/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The values of every type as fp32: the inner loops of every export. Compiled once for each set of instructions
 * (values_*.c, which name the function by ANM_VALUES and the file with the blocks of 32 nibbles by ANM_BLOCKS32); written so that compilers make vectors of them: loads by memcpy
 * at any address, no branches. Nothing is fused or reordered, so all sets give the same bits.
 *
 * A blocked type has a function that turns one block into its values: a scale d (and in the _1 and K types a minimum)
 * in fp16 times small integers. Products and differences are rounded one by one, in the order that gguf's quants.py
 * takes. Source of the layouts: ggml-org/ggml, src/ggml-common.h.
 */
#include "ckpt/values.h"

#include "base/bytes.h"
#include "base/half.h"

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "checkpoints are little-endian and read in place: this machine is not"
#endif

static inline uint16_t half_at(const uint8_t *p)
{
    uint16_t h;
    memcpy(&h, p, 2);
    return h;
}

/* anm_f16_to_f32 without branches, and without arithmetic on subnormal floats, which is slow. */
static inline float widen_f16(uint16_t h)
{
    int32_t sign = (int32_t)((h & 0x8000u) << 16), exp = h & 0x7c00, man = h & 0x3ff;
    int32_t normal = ((h & 0x7fff) << 13) + 0x38000000;
    int32_t special = -(exp == 0x7c00) & 0x38000000; /* infinity, NaN: all ones in the wider exponent too */
    int32_t small = (int32_t)anm_f32_bits((float)man * 0x1p-24f), is_small = -(exp == 0);
    return anm_bits_f32((uint32_t)(sign | ((normal + special) & ~is_small) | (small & is_small)));
}

static void widen_bf16(float *restrict out, const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        out[i] = anm_bf16_to_f32(half_at(p + 2 * i));
}

static void widen_half(float *restrict out, const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        out[i] = widen_f16(half_at(p + 2 * i));
}

static void narrow_f64(float *restrict out, const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        double d;
        memcpy(&d, p + 8 * i, 8);
        out[i] = (float)d;
    }
}

/* ---- blocks ---- */

static inline float scale_at(const uint8_t *p)
{
    return widen_f16(half_at(p));
}

#include ANM_BLOCKS32 /* q4_0, q4_1, q5_0, q5_1 */

static void q8_0(float *restrict out, const uint8_t *restrict p)
{
    float d = scale_at(p);
    for (int i = 0; i < 32; i++) out[i] = (float)(int8_t)p[2 + i] * d;
}

/* K types: 256 values in groups, each group with a scale of its own, a few bits wide, under the block's
 * scale. */

/* 16 groups of 16; scales 4 bits, minima 4 bits. 2-bit values: 32 bytes hold four runs of 32, bits 0-1 first.
 */
static void q2_k(float *restrict out, const uint8_t *restrict p)
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
static void q3_k(float *restrict out, const uint8_t *restrict p)
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

/* 8 groups of 32; nibbles: 32 bytes hold two runs of 32. */
static void q4_k(float *restrict out, const uint8_t *restrict p)
{
    float d = scale_at(p), dmin = scale_at(p + 2);
    const uint8_t *q = p + 16;
    for (int g = 0; g < 8; g++) {
        unsigned scale, min;
        anm_packed_scale(p + 4, g, &scale, &min);
        float ds = d * (float)scale, dm = dmin * (float)min;
        for (int i = 0; i < 32; i++)
            out[g * 32 + i] = ds * (float)(q[g / 2 * 32 + i] >> (g % 2 * 4) & 15) - dm;
    }
}

/* As q4_k, the fifth bits apart: bit g of byte i for value i of group g. */
static void q5_k(float *restrict out, const uint8_t *restrict p)
{
    float d = scale_at(p), dmin = scale_at(p + 2);
    const uint8_t *high = p + 16, *q = p + 48;
    for (int g = 0; g < 8; g++) {
        unsigned scale, min;
        anm_packed_scale(p + 4, g, &scale, &min);
        float ds = d * (float)scale, dm = dmin * (float)min;
        for (int i = 0; i < 32; i++) {
            int v = (q[g / 2 * 32 + i] >> (g % 2 * 4) & 15) | (high[i] >> g & 1) << 4;
            out[g * 32 + i] = ds * (float)v - dm;
        }
    }
}

/* 16 groups of 16, scales signed bytes. Values less 32: low nibbles in 128 bytes (64 hold two runs of 64),
 * high pairs in 64 (32 hold four runs of 32). */
static void q6_k(float *restrict out, const uint8_t *restrict p)
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

#define BLOCKS(id, one)                                                                                                \
    case ANM_DT_##id:                                                                                                  \
        for (size_t b = 0; b < blocks; b++) one(out + b * n, p + b * bytes);                                           \
        break

static void blocks_f32(float *out, anm_dtype type, const uint8_t *p, size_t blocks)
{
    size_t n = anm_dtype_block(type), bytes = anm_dtype_bytes(type);
    switch (type) {
        BLOCKS(Q4_0, q4_0);
        BLOCKS(Q4_1, q4_1);
        BLOCKS(Q5_0, q5_0);
        BLOCKS(Q5_1, q5_1);
        BLOCKS(Q8_0, q8_0);
        BLOCKS(Q2_K, q2_k);
        BLOCKS(Q3_K, q3_k);
        BLOCKS(Q4_K, q4_k);
        BLOCKS(Q5_K, q5_k);
        BLOCKS(Q6_K, q6_k);
    default: break;
    }
}

/* ---- any type ---- */

void ANM_VALUES(float *restrict out, anm_dtype type, const uint8_t *p, size_t n)
{
    switch (type) {
    case ANM_DT_F32: memcpy(out, p, n * 4); break;
    case ANM_DT_F16: widen_half(out, p, n); break;
    case ANM_DT_BF16: widen_bf16(out, p, n); break;
    case ANM_DT_F64: narrow_f64(out, p, n); break;
    default: blocks_f32(out, type, p, n / anm_dtype_block(type)); break;
    }
}
