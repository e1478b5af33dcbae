/* SPDX-License-Identifier: BSD-3-Clause */
/* Products of int8 with AVX-VNNI, on processors that have it and no AVX-512: as avx2.c, half a tile (8 rows) at a time. */
#include "base/bytes.h"
#include "kernel/kernels.h"
#include "kernel/x86/rows256.h"

#include <immintrin.h>

static inline __m256i four(const int8_t *q)
{
    return _mm256_set1_epi32((int32_t)anm_ld32(q));
}

/* Half a tile by `M` activation rows; M and kind are constants where this is inlined. */
static inline __attribute__((always_inline)) void q4_q8_rows(float *out, const anm_q4 *w, const uint8_t *t, int half,
                                                             const anm_q8 *x, int32_t row, int M, anm_scales kind)
{
    const __m256i low = _mm256_set1_epi8(15);
    const bool grouped = kind != ANM_SCALES_ROW;
    __m256 sum[4];
    for (int r = 0; r < M; r++) sum[r] = _mm256_setzero_ps();
    for (int64_t g = 0; g < w->groups; g++) {
        const uint8_t *nib = t + anm_q4_nibbles_at(kind, g) + 32 * half;
        const int64_t at = row * x->groups + g;
        __m256i dot[4];
        for (int r = 0; r < M; r++) dot[r] = _mm256_set1_epi32(x->offset[at + r * x->groups]);
        for (int j = 0; j < 4; j += 2) { /* half of the group's weights at a time: all stays in registers */
            __m256i p0 = _mm256_load_si256((const __m256i *)(const void *)(nib + 64 * j));
            __m256i p1 = _mm256_load_si256((const __m256i *)(const void *)(nib + 64 * j + 64));
            if (half == 0) {
                _mm_prefetch((const char *)nib + ANM_256_AHEAD + 64 * j, _MM_HINT_T0);
                _mm_prefetch((const char *)nib + ANM_256_AHEAD + 64 * j + 64, _MM_HINT_T0);
            }
            __m256i v0 = _mm256_and_si256(p0, low), v1 = _mm256_and_si256(_mm256_srli_epi16(p0, 4), low);
            __m256i v2 = _mm256_and_si256(p1, low), v3 = _mm256_and_si256(_mm256_srli_epi16(p1, 4), low);
            for (int r = 0; r < M; r++) {
                const int8_t *q = x->q + (at + r * x->groups) * ANM_GROUP + 8 * j;
                dot[r] = _mm256_dpbusd_avx_epi32(dot[r], v0, four(q));
                dot[r] = _mm256_dpbusd_avx_epi32(dot[r], v1, four(q + 4));
                dot[r] = _mm256_dpbusd_avx_epi32(dot[r], v2, four(q + 8));
                dot[r] = _mm256_dpbusd_avx_epi32(dot[r], v3, four(q + 12));
            }
        }
        __m256 ws = grouped ? anm_256_scales(kind, t, g, half) : _mm256_setzero_ps();
        for (int r = 0; r < M; r++) {
            __m256 s = _mm256_set1_ps(x->scale[at + r * x->groups]);
            if (grouped) s = _mm256_mul_ps(s, ws);
            sum[r] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot[r]), s, sum[r]);
        }
    }
    for (int r = 0; r < M; r++) {
        __m256 s = grouped ? sum[r] : _mm256_mul_ps(sum[r], anm_256_scales(ANM_SCALES_ROW, t, 0, half));
        _mm256_storeu_ps(out + r * ANM_TILE + 8 * half, s);
    }
}

void anm_k_q4_q8_avxvnni(float *out, const anm_q4 *w, int64_t tile, const anm_q8 *x, int32_t row, int32_t rows)
{
    anm_256_q4_q8(out, w, tile, x, row, rows, q4_q8_rows);
}

/* ---- the most that can be multiplied ---- */

/* Four rows by sixteen lanes at a time. */
void anm_k_peak_avxvnni(int32_t *sum, const uint8_t *w, const int8_t *x, int64_t times)
{
    for (int part = 0; part < 16; part++) {
        const int8_t *a = x + part / 8 * 1024 + part % 4 * 256;
        const uint8_t *b = w + part / 4 % 2 * 1024;
        int32_t *to = sum + part * 64;
        __m256i acc[8];
        for (int i = 0; i < 8; i++) acc[i] = _mm256_load_si256((const __m256i *)(const void *)(to + i * 8));
        for (int64_t t = 0; t < times; t++)
            for (int k = 0; k < 16; k++) {
                __m256i v[2];
                for (int i = 0; i < 2; i++) v[i] = _mm256_load_si256((const __m256i *)(const void *)(b + k * 64 + i * 32));
                for (int i = 0; i < 8; i++) acc[i] = _mm256_dpbusd_avx_epi32(acc[i], v[i % 2], four(a + i / 2 * 64 + k * 4));
            }
        for (int i = 0; i < 8; i++) _mm256_store_si256((__m256i *)(void *)(to + i * 8), acc[i]);
    }
}
