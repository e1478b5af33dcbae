/* SPDX-License-Identifier: BSD-3-Clause */
/* Blocks of 32 values in 4 and 5 bits, plainly. A part of values_body.h. */

/* 32 values; the low nibbles are the first half, the high nibbles the second. */
static void q4_0(float *restrict out, const uint8_t *restrict p)
{
    float d = scale_at(p);
    for (int i = 0; i < 16; i++) out[i] = d * (float)((p[2 + i] & 15) - 8);
    for (int i = 0; i < 16; i++) out[i + 16] = d * (float)((p[2 + i] >> 4) - 8);
}

static void q4_1(float *restrict out, const uint8_t *restrict p)
{
    float d = scale_at(p), m = scale_at(p + 2);
    for (int i = 0; i < 16; i++) out[i] = d * (float)(p[4 + i] & 15) + m;
    for (int i = 0; i < 16; i++) out[i + 16] = d * (float)(p[4 + i] >> 4) + m;
}

/* The fifth bits of 16 values stand together in 2 bytes: 16 where they are set. */
static inline int32_t fifth_bit(uint32_t bits, int i)
{
    static const uint32_t bit[16] = {1,   2,   4,    8,    16,   32,   64,    128,
                                     256, 512, 1024, 2048, 4096, 8192, 16384, 32768};
    return bits & bit[i] ? 16 : 0;
}

static void q5_0(float *restrict out, const uint8_t *restrict p)
{
    float d = scale_at(p);
    uint32_t low = half_at(p + 2), high = half_at(p + 4);
    for (int i = 0; i < 16; i++) out[i] = d * (float)((p[6 + i] & 15) + fifth_bit(low, i) - 16);
    for (int i = 0; i < 16; i++) out[i + 16] = d * (float)((p[6 + i] >> 4) + fifth_bit(high, i) - 16);
}

static void q5_1(float *restrict out, const uint8_t *restrict p)
{
    float d = scale_at(p), m = scale_at(p + 2);
    uint32_t low = half_at(p + 4), high = half_at(p + 6);
    for (int i = 0; i < 16; i++) out[i] = d * (float)((p[8 + i] & 15) + fifth_bit(low, i)) + m;
    for (int i = 0; i < 16; i++) out[i + 16] = d * (float)((p[8 + i] >> 4) + fifth_bit(high, i)) + m;
}
