/* SPDX-License-Identifier: BSD-3-Clause */
/* The rounding kernels for AVX-512: round_avx2.c twice as wide, the last values by a mask. */
#include "quant/round.h"

#include <float.h>
#include <immintrin.h>
#include <string.h>

enum { WIDE = 16 };

static inline __m512 round_f16(__m512 v)
{
    return _mm512_cvtph_ps(_mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

/* The lanes of the last `n` values, all of them where there are enough. */
static inline __mmask16 lanes(size_t n)
{
    return (__mmask16)(n >= WIDE ? 0xffff : (1u << n) - 1);
}

static inline float quantise(int8_t *q, const float *x, size_t n, unsigned bits, bool fp16)
{
    __m512i top = _mm512_setzero_si512(), second = top; /* magnitudes compare as integers; a NaN is above infinity */
    size_t i = 0;
    for (; i + 2 * WIDE <= n; i += 2 * WIDE) {
        top = _mm512_max_epi32(top, _mm512_castps_si512(_mm512_abs_ps(_mm512_loadu_ps(x + i))));
        second = _mm512_max_epi32(second, _mm512_castps_si512(_mm512_abs_ps(_mm512_loadu_ps(x + i + WIDE))));
    }
    for (; i < n; i += WIDE)
        top = _mm512_max_epi32(top, _mm512_castps_si512(_mm512_abs_ps(_mm512_maskz_loadu_ps(lanes(n - i), x + i))));
    int32_t most = _mm512_reduce_max_epi32(_mm512_max_epi32(top, second));
    float amax;
    memcpy(&amax, &most, 4);
    if (fp16) amax = _cvtsh_ss(_cvtss_sh(amax, _MM_FROUND_TO_NEAREST_INT));
    float scale = anm_round_scale(amax, bits, fp16);
    if (!(scale <= FLT_MAX)) {
        memset(q, 0, n);
        return scale;
    }
    const __m512 by = _mm512_set1_ps(anm_round_inverse(scale, fp16));
    int low = -(1 << (bits - 1)), high = -low - 1;
    const __m512i lows = _mm512_set1_epi32(low), highs = _mm512_set1_epi32(high);
    for (i = 0; i < n; i += WIDE) {
        __mmask16 in = lanes(n - i);
        __m512 v = _mm512_maskz_loadu_ps(in, x + i);
        if (fp16) v = round_f16(v);
        v = _mm512_mul_ps(v, by);
        if (fp16) v = round_f16(v);
        __m512i r = _mm512_min_epi32(_mm512_max_epi32(_mm512_cvtps_epi32(v), lows), highs);
        _mm_mask_storeu_epi8(q + i, in, _mm512_cvtepi32_epi8(r));
    }
    return scale;
}

float anm_round_avx512_f16(int8_t *q, const float *x, size_t n, unsigned bits)
{
    return quantise(q, x, n, bits, true);
}

float anm_round_avx512_f32(int8_t *q, const float *x, size_t n, unsigned bits)
{
    return quantise(q, x, n, bits, false);
}
