/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * 4-bit weights by int8 activations with the matrix products of ARMv8.6 (FEAT_I8MM): SMMLA takes two rows of
 * activations and two of weights, 8 inputs each, and adds to a 2 x 2 matrix. A row left over goes by dot products.
 */
#include "kernel/arm/dotprod.h"

/* Weights as SMMLA wants them: pair[p][j] is rows 2p and 2p + 1 of the four, 8 inputs each, in the order of anm_q8. */
static inline void unpack_pairs(int8x16_t pair[2][4], const uint8_t *nibbles)
{
    int8x16_t w[8];
    anm_neon_unpack(w, nibbles);
    for (int j = 0; j < 4; j++) {
        int32x4_t even = vreinterpretq_s32_s8(w[2 * j]), odd = vreinterpretq_s32_s8(w[2 * j + 1]);
        pair[0][j] = vreinterpretq_s8_s32(vzip1q_s32(even, odd));
        pair[1][j] = vreinterpretq_s8_s32(vzip2q_s32(even, odd));
    }
}

/* `P` pairs of activation rows against one tile; P and kind are constants where this is inlined. */
static inline __attribute__((always_inline)) void pairs(float *out, const anm_q4 *w, const uint8_t *t, const anm_q8 *x,
                                                        int32_t row, int P, anm_scales kind)
{
    const bool grouped = kind != ANM_SCALES_ROW;
    float32x4_t sum[4][4];
    for (int r = 0; r < 2 * P; r++)
        for (int k = 0; k < 4; k++) sum[r][k] = vdupq_n_f32(0);
    for (int64_t g = 0; g < w->groups; g++) {
        const uint8_t *nibbles = t + anm_q4_nibbles_at(kind, g);
        for (int k = 0; k < 4; k++) {
            __builtin_prefetch(nibbles + ANM_NEON_AHEAD + 64 * k);
            int8x16_t v[2][4];
            unpack_pairs(v, nibbles + 16 * k);
            float32x4_t ws = grouped ? anm_neon_scales(kind, t, g, k) : vdupq_n_f32(0);
            for (int p = 0; p < P; p++) {
                int64_t at = (row + 2 * p) * x->groups + g, next = at + x->groups;
                const int8_t *q0 = x->q + at * ANM_GROUP, *q1 = x->q + next * ANM_GROUP;
                int32x4_t o = vcombine_s32(vdup_n_s32(x->offset[at]), vdup_n_s32(x->offset[next])), a = o, b = o;
                for (int j = 0; j < 4; j++) { /* both: activation row 0 by two weight rows, then row 1 */
                    int8x16_t q = vcombine_s8(vld1_s8(q0 + 8 * j), vld1_s8(q1 + 8 * j));
                    a = vmmlaq_s32(a, q, v[0][j]);
                    b = vmmlaq_s32(b, q, v[1][j]);
                }
                int32x4_t d0 = vcombine_s32(vget_low_s32(a), vget_low_s32(b));
                int32x4_t d1 = vcombine_s32(vget_high_s32(a), vget_high_s32(b));
                sum[2 * p][k] = anm_neon_scaled(sum[2 * p][k], d0, x->scale[at], ws, grouped);
                sum[2 * p + 1][k] = anm_neon_scaled(sum[2 * p + 1][k], d1, x->scale[next], ws, grouped);
            }
        }
    }
    for (int r = 0; r < 2 * P; r++)
        for (int k = 0; k < 4; k++) anm_neon_store(out + r * ANM_TILE, t, sum[r][k], k, grouped);
}

void anm_k_q4_q8_i8mm(float *out, const anm_q4 *w, int64_t tile, const anm_q8 *x, int32_t row, int32_t rows)
{
    const uint8_t *t = w->data + (size_t)tile * w->tile_bytes;
    while (rows >= 2) {
        int p = rows >= 4 ? 2 : 1;
#define PAIRS(P)                                                                                                       \
    case P:                                                                                                            \
        if (w->scales == ANM_SCALES_ROW) pairs(out, w, t, x, row, P, ANM_SCALES_ROW);                                  \
        else if (w->scales == ANM_SCALES_GROUP_F16) pairs(out, w, t, x, row, P, ANM_SCALES_GROUP_F16);                 \
        else pairs(out, w, t, x, row, P, ANM_SCALES_GROUP_F32);                                                        \
        break
        switch (p) {
            PAIRS(2);
            PAIRS(1);
        }
#undef PAIRS
        out += 2 * p * ANM_TILE;
        row += 2 * p;
        rows -= 2 * p;
    }
    if (rows) anm_neon_q4_q8(out, w, tile, x, row, 1, anm_sdot32);
}

/* Four rows by sixteen lanes at a time, of operands laid out once in pairs of rows and of lanes. */
void anm_k_peak_i8mm(int32_t *sum, const uint8_t *w, const int8_t *x, int64_t times)
{
    for (int part = 0; part < 16; part++) {
        const int8_t *a = x + part / 8 * 1024 + part % 4 * 256;
        const uint8_t *b = w + part / 4 % 2 * 1024;
        int8_t rows[8][2][2][8], lanes[8][8][2][8]; /* [8 inputs][pair][row or lane][input] */
        for (int k = 0; k < 8; k++) {
            for (int r = 0; r < 4; r++) memcpy(rows[k][r / 2][r % 2], a + r * 64 + k * 8, 8);
            for (int l = 0; l < 16; l++)
                for (int i = 0; i < 8; i += 4) memcpy(&lanes[k][l / 2][l % 2][i], b + k * 128 + i * 16 + l * 4, 4);
        }
        int32_t *to = sum + part * 64;
        int32x4_t acc[2][8];
        for (int p = 0; p < 2; p++)
            for (int l = 0; l < 8; l++)
                acc[p][l] = vcombine_s32(vld1_s32(to + p * 32 + l * 2), vld1_s32(to + p * 32 + 16 + l * 2));
        for (int64_t t = 0; t < times; t++)
            for (int k = 0; k < 8; k++) {
                int8x16_t q[2] = {vld1q_s8(rows[k][0][0]), vld1q_s8(rows[k][1][0])};
                for (int l = 0; l < 8; l++) {
                    int8x16_t v = vld1q_s8(lanes[k][l][0]);
                    for (int p = 0; p < 2; p++) acc[p][l] = vmmlaq_s32(acc[p][l], q[p], v);
                }
            }
        for (int p = 0; p < 2; p++)
            for (int l = 0; l < 8; l++) {
                vst1_s32(to + p * 32 + l * 2, vget_low_s32(acc[p][l]));
                vst1_s32(to + p * 32 + 16 + l * 2, vget_high_s32(acc[p][l]));
            }
    }
}
