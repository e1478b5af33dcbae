/* SPDX-License-Identifier: BSD-3-Clause */
/* What products of 4-bit weights share in 256 bits, half a tile (8 rows) at a time, however int8 is multiplied. */
#ifndef ANM_KERNEL_X86_ROWS256_H
#define ANM_KERNEL_X86_ROWS256_H

#include "kernel/kernels.h"
#include "kernel/rows.h"

#include <immintrin.h>

enum { ANM_256_AHEAD = 2048 }; /* bytes: weights are asked for this long before they are used; the caches do not look as far */

/* Scales of half a tile: rows 8 * half and up. */
static inline __m256 anm_256_scales(anm_scales kind, const uint8_t *tile, int64_t g, int half)
{
    const uint8_t *s = tile + anm_q4_scales_at(kind, g);
    if (kind == ANM_SCALES_GROUP_F16) return _mm256_cvtph_ps(_mm_load_si128((const __m128i *)(const void *)(s + half * 16)));
    return _mm256_load_ps((const float *)(const void *)s + half * 8);
}

/* Half a tile at t by M activation rows, 1, 2 or 4; M and kind are constants where it is inlined. */
typedef void anm_256_rows(float *out, const anm_q4 *w, const uint8_t *t, int half, const anm_q8 *x, int32_t row, int M,
                          anm_scales kind);

static inline __attribute__((always_inline)) void anm_256_q4_q8(float *out, const anm_q4 *w, int64_t tile,
                                                                const anm_q8 *x, int32_t row, int32_t rows,
                                                                anm_256_rows *half_tile)
{
    const uint8_t *t = w->data + (size_t)tile * w->tile_bytes;
    while (rows > 0) {
        int m = rows >= 4 ? 4 : rows >= 2 ? 2 : 1;
        for (int half = 0; half < 2; half++) {
#define CALL(M, kind) half_tile(out, w, t, half, x, row, M, kind)
            switch (m) {
                ANM_ROWS_CASE(4, w->scales, CALL);
                ANM_ROWS_CASE(2, w->scales, CALL);
                ANM_ROWS_CASE(1, w->scales, CALL);
            }
#undef CALL
        }
        out += m * ANM_TILE;
        row += m;
        rows -= m;
    }
}

#endif
