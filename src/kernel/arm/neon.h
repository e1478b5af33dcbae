/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * 4-bit weights by int8 activations on Arm: what the forms for NEON, dot products and matrix products share. They
 * differ in how four rows are multiplied by a group of inputs. A tile is read a quarter at a time: 4 rows.
 */
#ifndef ANM_KERNEL_ARM_NEON_H
#define ANM_KERNEL_ARM_NEON_H

#include "kernel/kernels.h"
#include "kernel/rows.h"

#include <arm_neon.h>
#include <string.h>

enum { ANM_NEON_AHEAD = 2048 }; /* bytes: weights are asked for this long before they are used */

/* Scales of rows 4 * quarter and up. */
static inline float32x4_t anm_neon_scales(anm_scales kind, const uint8_t *tile, int64_t g, int quarter)
{
    const uint8_t *s = tile + anm_q4_scales_at(kind, g);
    if (kind == ANM_SCALES_GROUP_F16) return vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(s + 8 * quarter)));
    return vreinterpretq_f32_u8(vld1q_u8(s + 16 * quarter));
}

/* A group's weights of four rows, 0 to 15: for each word of 8 inputs the even ones, then the odd ones. */
static inline void anm_neon_unpack(int8x16_t w[8], const uint8_t *nibbles)
{
    for (int j = 0; j < 4; j++) {
        uint8x16_t p = vld1q_u8(nibbles + 64 * j);
        w[2 * j] = vreinterpretq_s8_u8(vandq_u8(p, vdupq_n_u8(15)));
        w[2 * j + 1] = vreinterpretq_s8_u8(vshrq_n_u8(p, 4));
    }
}

/* Four activations, for every row. */
static inline int8x16_t anm_neon_four(const int8_t *q)
{
    int32_t four;
    memcpy(&four, q, sizeof four);
    return vreinterpretq_s8_s32(vdupq_n_s32(four));
}

/* Four rows of weights by a group of 32 inputs (q0, q1, as anm_q8 has them), and the offset added. */
typedef int32x4_t anm_neon_dot(const int8x16_t w[8], int8x16_t q0, int8x16_t q1, int32_t offset);

/* sum += dot * the scales: the activations' one, and the weights' where each group has its own. */
static inline float32x4_t anm_neon_scaled(float32x4_t sum, int32x4_t dot, float scale, float32x4_t ws, bool grouped)
{
    float32x4_t s = grouped ? vmulq_n_f32(ws, scale) : vdupq_n_f32(scale);
    return vfmaq_f32(sum, vcvtq_f32_s32(dot), s);
}

/* The sums of a quarter, finished and stored. */
static inline void anm_neon_store(float *out, const uint8_t *t, float32x4_t sum, int quarter, bool grouped)
{
    if (!grouped) sum = vmulq_f32(sum, anm_neon_scales(ANM_SCALES_ROW, t, 0, quarter));
    vst1q_f32(out + 4 * quarter, sum);
}

/* `M` rows of activations against one tile; M, kind and dot are constants where this is inlined. */
static inline __attribute__((always_inline)) void anm_neon_rows(float *out, const anm_q4 *w, const uint8_t *t,
                                                                const anm_q8 *x, int32_t row, int M, anm_scales kind,
                                                                anm_neon_dot *dot)
{
    const bool grouped = kind != ANM_SCALES_ROW;
    float32x4_t sum[4][4];
    for (int r = 0; r < M; r++)
        for (int k = 0; k < 4; k++) sum[r][k] = vdupq_n_f32(0);
    for (int64_t g = 0; g < w->groups; g++) {
        const uint8_t *nibbles = t + anm_q4_nibbles_at(kind, g);
        for (int k = 0; k < 4; k++) {
            __builtin_prefetch(nibbles + ANM_NEON_AHEAD + 64 * k);
            int8x16_t v[8];
            anm_neon_unpack(v, nibbles + 16 * k);
            float32x4_t ws = grouped ? anm_neon_scales(kind, t, g, k) : vdupq_n_f32(0);
            for (int r = 0; r < M; r++) {
                int64_t at = (row + r) * x->groups + g;
                const int8_t *q = x->q + at * ANM_GROUP;
                int32x4_t d = dot(v, vld1q_s8(q), vld1q_s8(q + 16), x->offset[at]);
                sum[r][k] = anm_neon_scaled(sum[r][k], d, x->scale[at], ws, grouped);
            }
        }
    }
    for (int r = 0; r < M; r++)
        for (int k = 0; k < 4; k++) anm_neon_store(out + r * ANM_TILE, t, sum[r][k], k, grouped);
}

static inline __attribute__((always_inline)) void anm_neon_q4_q8(float *out, const anm_q4 *w, int64_t tile,
                                                                 const anm_q8 *x, int32_t row, int32_t rows,
                                                                 anm_neon_dot *dot)
{
    const uint8_t *t = w->data + (size_t)tile * w->tile_bytes;
    while (rows > 0) {
        int m = rows >= 4 ? 4 : rows >= 2 ? 2 : 1;
#define CALL(M, kind) anm_neon_rows(out, w, t, x, row, M, kind, dot)
        switch (m) {
            ANM_ROWS_CASE(4, w->scales, CALL);
            ANM_ROWS_CASE(2, w->scales, CALL);
            ANM_ROWS_CASE(1, w->scales, CALL);
        }
#undef CALL
        out += m * ANM_TILE;
        row += m;
        rows -= m;
    }
}

#endif
