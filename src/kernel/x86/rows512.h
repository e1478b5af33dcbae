/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * 4-bit weights by int8 activations with AVX-512: a vector lane is a row of a weight tile. With VNNI and without differ
 * in how a group of inputs is multiplied.
 */
#ifndef ANM_KERNEL_X86_ROWS512_H
#define ANM_KERNEL_X86_ROWS512_H

#include "base/bytes.h"
#include "kernel/kernels.h"
#include "kernel/rows.h"

#include <immintrin.h>

/* Bytes: how long before they are used weights are asked for, where several rows are multiplied by them. For one row, which
 * goes over them as fast as memory gives them, the processor reads ahead better by itself. */
enum { ANM_512_AHEAD = 2048 };

static inline __m512 anm_512_scales(anm_scales kind, const uint8_t *tile, int64_t g)
{
    const uint8_t *s = tile + anm_q4_scales_at(kind, g);
    if (kind == ANM_SCALES_GROUP_F16) return _mm512_cvtph_ps(_mm256_load_si256((const __m256i *)(const void *)s));
    return _mm512_load_ps((const float *)(const void *)s);
}

/* Four activations, for every lane. */
static inline __m512i anm_512_four(const int8_t *q)
{
    return _mm512_set1_epi32((int32_t)anm_ld32(q));
}

/* A group's weights of 16 rows (0 to 15; for each word of 8 inputs the even ones, then the odd ones) by its 32 inputs,
 * and the offset added. */
typedef __m512i anm_512_dot(const __m512i v[8], const int8_t *q, int32_t offset);

/* `M` rows of activations against one tile; M, kind and dot are constants where this is inlined. */
static inline __attribute__((always_inline)) void anm_512_rows(float *out, const anm_q4 *w, const uint8_t *t,
                                                               const anm_q8 *x, int32_t row, int M, anm_scales kind,
                                                               anm_512_dot *dot)
{
    const __m512i low = _mm512_set1_epi8(15);
    __m512 sum[8];
    for (int r = 0; r < M; r++) sum[r] = _mm512_setzero_ps();
    const bool grouped = kind != ANM_SCALES_ROW;
    for (int64_t g = 0; g < w->groups; g++) {
        const uint8_t *nib = t + anm_q4_nibbles_at(kind, g);
        __m512i v[8];
        if (grouped && M > 1) _mm_prefetch((const char *)t + anm_q4_scales_at(kind, g) + ANM_512_AHEAD, _MM_HINT_T0);
        for (int j = 0; j < 4; j++) {
            __m512i p = _mm512_load_si512(nib + 64 * j);
            if (M > 1) _mm_prefetch((const char *)nib + ANM_512_AHEAD + 64 * j, _MM_HINT_T0);
            v[2 * j] = _mm512_and_si512(p, low);
            v[2 * j + 1] = _mm512_and_si512(_mm512_srli_epi16(p, 4), low);
        }
        __m512 ws = grouped ? anm_512_scales(kind, t, g) : _mm512_setzero_ps();
        for (int r = 0; r < M; r++) {
            int64_t at = (row + r) * x->groups + g;
            __m512i d = dot(v, x->q + at * ANM_GROUP, x->offset[at]);
            __m512 s = _mm512_set1_ps(x->scale[at]);
            if (grouped) s = _mm512_mul_ps(s, ws);
            sum[r] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(d), s, sum[r]);
        }
    }
    for (int r = 0; r < M; r++) {
        __m512 s = grouped ? sum[r] : _mm512_mul_ps(sum[r], _mm512_loadu_ps((const float *)(const void *)t));
        _mm512_storeu_ps(out + r * ANM_TILE, s);
    }
}

static inline __attribute__((always_inline)) void anm_512_q4_q8(float *out, const anm_q4 *w, int64_t tile,
                                                                const anm_q8 *x, int32_t row, int32_t rows,
                                                                anm_512_dot *dot)
{
    const uint8_t *t = w->data + (size_t)tile * w->tile_bytes;
    while (rows > 0) {
        int m = rows < 8 ? rows : 8; /* a few rows in one go: a guess's */
#define CALL(M, kind) anm_512_rows(out, w, t, x, row, M, kind, dot)
        switch (m) {
            ANM_ROWS_CASE(8, w->scales, CALL);
            ANM_ROWS_CASE(7, w->scales, CALL);
            ANM_ROWS_CASE(6, w->scales, CALL);
            ANM_ROWS_CASE(5, w->scales, CALL);
            ANM_ROWS_CASE(4, w->scales, CALL);
            ANM_ROWS_CASE(3, w->scales, CALL);
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
