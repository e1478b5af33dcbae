/* SPDX-License-Identifier: BSD-3-Clause */
/* 4-bit weights by int8 activations with the dot products of ARMv8.2 (FEAT_DotProd). */
#include "kernel/arm/dotprod.h"

void anm_k_q4_q8_dotprod(float *out, const anm_q4 *w, int64_t tile, const anm_q8 *x, int32_t row, int32_t rows)
{
    anm_neon_q4_q8(out, w, tile, x, row, rows, anm_sdot32);
}

/* Four rows by sixteen lanes at a time. */
void anm_k_peak_dotprod(int32_t *sum, const uint8_t *w, const int8_t *x, int64_t times)
{
    for (int part = 0; part < 16; part++) {
        const int8_t *a = x + part / 8 * 1024 + part % 4 * 256, *b = (const int8_t *)w + part / 4 % 2 * 1024;
        int32_t *to = sum + part * 64;
        int32x4_t acc[16];
        for (int i = 0; i < 16; i++) acc[i] = vld1q_s32(to + i * 4);
        for (int64_t t = 0; t < times; t++)
            for (int k = 0; k < 16; k++) {
                int8x16_t v[4], q[4];
                for (int i = 0; i < 4; i++) {
                    v[i] = vld1q_s8(b + k * 64 + i * 16);
                    q[i] = anm_neon_four(a + i * 64 + k * 4);
                }
                for (int i = 0; i < 16; i++) acc[i] = vdotq_s32(acc[i], v[i % 4], q[i / 4]);
            }
        for (int i = 0; i < 16; i++) vst1q_s32(to + i * 4, acc[i]);
    }
}
