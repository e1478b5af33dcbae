/* SPDX-License-Identifier: BSD-3-Clause */
/* Products of int8 with AVX-512 and VNNI. */
#include "kernel/x86/rows512.h"

static inline __attribute__((always_inline)) __m512i dot32(const __m512i v[8], const int8_t *q, int32_t offset)
{
    __m512i a = _mm512_set1_epi32(offset), b = _mm512_setzero_si512();
    for (int j = 0; j < 8; j += 2) {
        a = _mm512_dpbusd_epi32(a, v[j], anm_512_four(q + 4 * j));
        b = _mm512_dpbusd_epi32(b, v[j + 1], anm_512_four(q + 4 * j + 4));
    }
    return _mm512_add_epi32(a, b);
}

void anm_k_q4_q8_avx512vnni(float *out, const anm_q4 *w, int64_t tile, const anm_q8 *x, int32_t row, int32_t rows)
{
    anm_512_q4_q8(out, w, tile, x, row, rows, dot32);
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
                    acc[r] = _mm512_dpbusd_epi32(acc[r], v, anm_512_four(a + r * 64 + k * 4));
            }
        for (int r = 0; r < 16; r++) _mm512_store_si512(to + r * 16, acc[r]);
    }
}
