/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * IEEE 754 binary16 and bfloat16, converted with round-to-nearest-even, subnormals and infinities kept; NaN stays NaN.
 * These are the plain forms, the truth for the vector kernels.
 */
#ifndef ANM_BASE_HALF_H
#define ANM_BASE_HALF_H

#include <stdint.h>
#include <string.h>

static inline uint32_t anm_f32_bits(float f)
{
    uint32_t u;
    memcpy(&u, &f, 4);
    return u;
}
static inline float anm_bits_f32(uint32_t u)
{
    float f;
    memcpy(&f, &u, 4);
    return f;
}

static inline float anm_f16_to_f32(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16, exp = h >> 10 & 31u, man = h & 0x3ffu;
    if (exp == 31) return anm_bits_f32(sign | 0x7f800000u | man << 13);
    if (exp) return anm_bits_f32(sign | (exp + 112) << 23 | man << 13);
    float f = (float)man * 0x1p-24f; /* zero or subnormal: exact */
    return anm_bits_f32(sign | anm_f32_bits(f));
}

static inline uint16_t anm_f32_to_f16(float f)
{
    uint32_t u = anm_f32_bits(f), sign = u >> 16 & 0x8000u, a = u & 0x7fffffffu;
    if (a > 0x7f800000u) return (uint16_t)(sign | 0x7e00u | (a >> 13 & 0x3ffu));
    if (a >= 0x477ff000u) return (uint16_t)(sign | 0x7c00u); /* 65520 and more round to infinity */
    if (a < 0x38800000u) {                                   /* below 2^-14: a subnormal half */
        float r = anm_bits_f32(a) + 0.5f;                    /* the sum rounds at 2^-24, ties to even */
        return (uint16_t)(sign | (anm_f32_bits(r) - 0x3f000000u));
    }
    a += 0xfffu + (a >> 13 & 1u);
    return (uint16_t)(sign | (a - 0x38000000u) >> 13);
}

static inline float anm_bf16_to_f32(uint16_t h)
{
    return anm_bits_f32((uint32_t)h << 16);
}

static inline uint16_t anm_f32_to_bf16(float f)
{
    uint32_t u = anm_f32_bits(f);
    if ((u & 0x7fffffffu) > 0x7f800000u) return (uint16_t)(u >> 16 | 0x40u);
    return (uint16_t)((u + 0x7fffu + (u >> 16 & 1u)) >> 16);
}

/* `f` as an fp16 device would hold it. */
static inline float anm_round_f16(float f)
{
    return anm_f16_to_f32(anm_f32_to_f16(f));
}

#endif
