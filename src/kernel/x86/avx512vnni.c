/* SPDX-License-Identifier: BSD-3-Clause */
/* 4-bit weights by int8 activations with AVX-512 and VNNI: a vector lane is a row of a weight tile. */
#include "base/bytes.h"
#include "kernel/kernels.h"

#include <immintrin.h>

enum { AHEAD = 2048 }; /* bytes: weights are asked for this long before they are used; the caches do not look as far */

static inline __m512 group_scales(anm_scales kind, const uint8_t *tile, int64_t g)
{
    const uint8_t *s = tile + anm_q4_scales_at(kind, g);
    if (kind == ANM_SCALES_GROUP_F16) return _mm512_cvtph_ps(_mm256_load_si256((const __m256i *)(const void *)s));
    return _mm512_load_ps((const float *)(const void *)s);
}

/* `M` rows of activations against one tile; M is a constant where this is inlined. */
static inline __attribute__((always_inline)) void q4_q8_rows(float *out, const anm_q4 *w, const uint8_t *t,
                                                             const anm_q8 *x, int32_t row, int M, anm_scales kind)
{
    const __m512i low = _mm512_set1_epi8(15);
    __m512 sum[8];
    for (int r = 0; r < M; r++) sum[r] = _mm512_setzero_ps();
    const bool grouped = kind != ANM_SCALES_ROW;
    for (int64_t g = 0; g < w->groups; g++) {
        const uint8_t *nib = t + anm_q4_nibbles_at(kind, g);
        __m512i v[8];
        if (grouped) _mm_prefetch((const char *)t + anm_q4_scales_at(kind, g) + AHEAD, _MM_HINT_T0);
        for (int j = 0; j < 4; j++) {
            __m512i p = _mm512_load_si512(nib + 64 * j);
            _mm_prefetch((const char *)nib + AHEAD + 64 * j, _MM_HINT_T0);
            v[2 * j] = _mm512_and_si512(p, low);
            v[2 * j + 1] = _mm512_and_si512(_mm512_srli_epi16(p, 4), low);
        }
        __m512 ws = grouped ? group_scales(kind, t, g) : _mm512_setzero_ps();
        for (int r = 0; r < M; r++) {
            int64_t at = (row + r) * x->groups + g;
            const int8_t *q = x->q + at * ANM_GROUP;
            __m512i a = _mm512_set1_epi32(x->offset[at]), b = _mm512_setzero_si512();
            for (int j = 0; j < 8; j += 2) {
                a = _mm512_dpbusd_epi32(a, v[j], _mm512_set1_epi32((int32_t)anm_ld32(q + 4 * j)));
                b = _mm512_dpbusd_epi32(b, v[j + 1], _mm512_set1_epi32((int32_t)anm_ld32(q + 4 * j + 4)));
            }
            __m512 s = _mm512_set1_ps(x->scale[at]);
            if (grouped) s = _mm512_mul_ps(s, ws);
            sum[r] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(_mm512_add_epi32(a, b)), s, sum[r]);
        }
    }
    for (int r = 0; r < M; r++) {
        __m512 s = grouped ? sum[r] : _mm512_mul_ps(sum[r], _mm512_loadu_ps((const float *)(const void *)t));
        _mm512_storeu_ps(out + r * ANM_TILE, s);
    }
}

void anm_k_q4_q8_avx512vnni(float *out, const anm_q4 *w, int64_t tile, const anm_q8 *x, int32_t row, int32_t rows)
{
    const uint8_t *t = w->data + (size_t)tile * w->tile_bytes;
    while (rows > 0) {
        int m = rows >= 8 ? 8 : rows >= 4 ? 4 : rows >= 2 ? 2 : 1;
#define ROWS(M)                                                                                                        \
    case M:                                                                                                            \
        if (w->scales == ANM_SCALES_ROW) q4_q8_rows(out, w, t, x, row, M, ANM_SCALES_ROW);                             \
        else if (w->scales == ANM_SCALES_GROUP_F16) q4_q8_rows(out, w, t, x, row, M, ANM_SCALES_GROUP_F16);            \
        else q4_q8_rows(out, w, t, x, row, M, ANM_SCALES_GROUP_F32);                                                   \
        break
        switch (m) {
            ROWS(8);
            ROWS(4);
            ROWS(2);
            ROWS(1);
        }
#undef ROWS
        out += m * ANM_TILE;
        row += m;
        rows -= m;
    }
}

/* ---- the most that can be multiplied ---- */

void anm_k_peak_avx512vnni(int32_t *sum, const uint8_t *w, const int8_t *x, int64_t times)
{
    for (int block = 0; block < 4; block++) {
        const int8_t *a = x + block / 2 * 1024;
        const uint8_t *b = w + block % 2 * 1024;
        int32_t *to = sum + block * 256;
        __m512i acc[16];
        for (int r = 0; r < 16; r++) acc[r] = _mm512_load_si512(to + r * 16);
        for (int64_t t = 0; t < times; t++)
            for (int k = 0; k < 16; k++) {
                __m512i v = _mm512_load_si512(b + k * 64);
                for (int r = 0; r < 16; r++)
                    acc[r] = _mm512_dpbusd_epi32(acc[r], v, _mm512_set1_epi32((int32_t)anm_ld32(a + r * 64 + k * 4)));
            }
        for (int r = 0; r < 16; r++) _mm512_store_si512(to + r * 16, acc[r]);
    }
}
