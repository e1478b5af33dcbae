/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The rounding kernels for AVX2 with F16C. The fp16 conversions of the processor round to nearest even and keep
 * subnormals, as base/half.h does; the rest are fp32 operations that are exact or correctly rounded in both forms, so
 * the results agree bit for bit. (NaNs keep other payloads, and make a scale that is not finite either way.)
 */
#include "quant/round.h"

#include <float.h>
#include <immintrin.h>
#include <string.h>

static inline __m256 round_f16(__m256 v)
{
    return _mm256_cvtph_ps(_mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

static inline float round_one(float f)
{
    return _cvtsh_ss(_cvtss_sh(f, _MM_FROUND_TO_NEAREST_INT));
}

/* 32 products as saturated bytes in order. */
static inline __m256i to_bytes(__m256 a, __m256 b, __m256 c, __m256 d)
{
    __m256i ab = _mm256_packs_epi32(_mm256_cvtps_epi32(a), _mm256_cvtps_epi32(b));
    __m256i cd = _mm256_packs_epi32(_mm256_cvtps_epi32(c), _mm256_cvtps_epi32(d));
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7); /* the packs work within 128-bit halves */
    return _mm256_permutevar8x32_epi32(_mm256_packs_epi16(ab, cd), order);
}

static inline float quantise(int8_t *q, const float *x, size_t n, unsigned bits, bool fp16)
{
    size_t whole = n & ~(size_t)31;
    const __m256 magnitude = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff));
    __m256i top = _mm256_setzero_si256(); /* magnitudes compare as integers; a NaN is above infinity */
    for (size_t i = 0; i < whole; i += 8) {
        __m256 v = _mm256_loadu_ps(x + i);
        top = _mm256_max_epi32(top, _mm256_castps_si256(_mm256_and_ps(v, magnitude)));
    }
    int32_t lane[8], most = 0;
    _mm256_storeu_si256((__m256i *)lane, top);
    for (int i = 0; i < 8; i++) most = lane[i] > most ? lane[i] : most;
    for (size_t i = whole; i < n; i++) {
        int32_t u;
        memcpy(&u, x + i, 4);
        u &= 0x7fffffff;
        most = u > most ? u : most;
    }
    float amax;
    memcpy(&amax, &most, 4);
    if (fp16) amax = round_one(amax); /* rounding keeps the order, so the largest rounded is the rounded largest */
    float scale = anm_round_scale(amax, bits, fp16);
    if (!(scale <= FLT_MAX)) {
        memset(q, 0, n);
        return scale;
    }
    float inverse = anm_round_inverse(scale, fp16);
    const __m256 by = _mm256_set1_ps(inverse);
    int low = -(1 << (bits - 1)), high = -low - 1;
    const __m256i lows = _mm256_set1_epi8((char)low), highs = _mm256_set1_epi8((char)high);
    for (size_t i = 0; i < whole; i += 32) {
        __m256 a = _mm256_loadu_ps(x + i), b = _mm256_loadu_ps(x + i + 8), c = _mm256_loadu_ps(x + i + 16), d = _mm256_loadu_ps(x + i + 24);
        if (fp16) a = round_f16(a), b = round_f16(b), c = round_f16(c), d = round_f16(d);
        a = _mm256_mul_ps(a, by), b = _mm256_mul_ps(b, by), c = _mm256_mul_ps(c, by), d = _mm256_mul_ps(d, by);
        if (fp16) a = round_f16(a), b = round_f16(b), c = round_f16(c), d = round_f16(d);
        __m256i r = _mm256_min_epi8(_mm256_max_epi8(to_bytes(a, b, c, d), lows), highs);
        _mm256_storeu_si256((__m256i *)(q + i), r);
    }
    for (size_t i = whole; i < n; i++) {
        float p = (fp16 ? round_one(x[i]) : x[i]) * inverse;
        if (fp16) p = round_one(p);
        int r = _mm_cvtss_si32(_mm_set_ss(p)); /* to nearest even */
        q[i] = (int8_t)(r < low ? low : r > high ? high : r);
    }
    return scale;
}

float anm_round_avx2_f16(int8_t *q, const float *x, size_t n, unsigned bits)
{
    return quantise(q, x, n, bits, true);
}

float anm_round_avx2_f32(int8_t *q, const float *x, size_t n, unsigned bits)
{
    return quantise(q, x, n, bits, false);
}

/* Eight levels from number `from` on, as integers. */
static inline __m256i level_codes(const anm_levels *x, float from, __m256 by, bool fp16)
{
    const __m256 number = _mm256_add_ps(_mm256_setr_ps(0, 1, 2, 3, 4, 5, 6, 7), _mm256_set1_ps(from));
    __m256 v = _mm256_add_ps(_mm256_mul_ps(number, _mm256_set1_ps(x->step)), _mm256_set1_ps(x->base));
    if (fp16) v = round_f16(v);
    v = _mm256_mul_ps(v, by);
    if (fp16) v = round_f16(v);
    return _mm256_cvtps_epi32(v);
}

/* The least byte of 32 that are all below 16. */
static inline float least_byte(__m256i x)
{
    __m128i v = _mm_min_epu8(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
    v = _mm_min_epu8(v, _mm_srli_epi16(v, 8)); /* of each pair, with a zero above it */
    return (float)(_mm_cvtsi128_si32(_mm_minpos_epu16(v)) & (ANM_LEVELS - 1)); /* above it stands its place */
}

static inline float quantise_levels(int8_t *q, const anm_levels *x, size_t n, unsigned bits, bool fp16)
{
    const __m128 magnitude = _mm_castsi128_ps(_mm_set1_epi32(0x7fffffff));
    __m128i top = _mm_setzero_si128();
    for (size_t k = 0; k < n; k++) {
        __m256i index = _mm256_loadu_si256((const __m256i *)x[k].index);
        float least = least_byte(index), most = ANM_LEVELS - 1 - least_byte(_mm256_xor_si256(index, _mm256_set1_epi8(ANM_LEVELS - 1)));
        __m128 ends = _mm_mul_ps(_mm_setr_ps(least, most, least, most), _mm_set1_ps(x[k].step));
        ends = _mm_and_ps(_mm_add_ps(ends, _mm_set1_ps(x[k].base)), magnitude);
        top = _mm_max_epi32(top, _mm_castps_si128(ends)); /* as integers: a NaN is above infinity */
    }
    top = _mm_max_epi32(top, _mm_srli_epi64(top, 32));
    float amax = _mm_cvtss_f32(_mm_castsi128_ps(top));
    float scale = anm_round_scale(fp16 ? round_one(amax) : amax, bits, fp16);
    if (!(scale <= FLT_MAX)) {
        memset(q, 0, n * ANM_LEVEL_RUN);
        return scale;
    }
    const __m256 by = _mm256_set1_ps(anm_round_inverse(scale, fp16));
    const int low = -(1 << (bits - 1)), high = -low - 1;
    const __m128i lows = _mm_set1_epi8((char)low), highs = _mm_set1_epi8((char)high);
    for (size_t k = 0; k < n; k++) {
        __m256i both = _mm256_packs_epi32(level_codes(x + k, 0, by, fp16), level_codes(x + k, (float)(ANM_LEVELS >> 1), by, fp16));
        both = _mm256_permute4x64_epi64(both, 0xd8); /* the pack works within 128-bit halves */
        __m128i codes = _mm_packs_epi16(_mm256_castsi256_si128(both), _mm256_extracti128_si256(both, 1));
        codes = _mm_min_epi8(_mm_max_epi8(codes, lows), highs);
        __m256i index = _mm256_loadu_si256((const __m256i *)x[k].index);
        _mm256_storeu_si256((__m256i *)(q + k * ANM_LEVEL_RUN), _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(codes), index));
    }
    return scale;
}

float anm_round_levels_avx2_f16(int8_t *q, const anm_levels *x, size_t n, unsigned bits)
{
    return quantise_levels(q, x, n, bits, true);
}

float anm_round_levels_avx2_f32(int8_t *q, const anm_levels *x, size_t n, unsigned bits)
{
    return quantise_levels(q, x, n, bits, false);
}

size_t anm_floats_to_f16_avx2(uint8_t *out, const float *x, size_t n)
{
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
        _mm_storeu_si128((__m128i *)(out + 2 * i),
                         _mm256_cvtps_ph(_mm256_loadu_ps(x + i), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
    return i;
}

size_t anm_pack_int4_avx2(uint8_t *out, const int8_t *q, size_t n)
{
    const __m256i low = _mm256_set1_epi8(15), place = _mm256_set1_epi16(0x1001); /* the first times 1, the second times 16 */
    size_t i = 0;
    for (; i + 64 <= n; i += 64) {
        __m256i a = _mm256_and_si256(_mm256_loadu_si256((const __m256i *)(q + i)), low);
        __m256i b = _mm256_and_si256(_mm256_loadu_si256((const __m256i *)(q + i + 32)), low);
        __m256i both = _mm256_packus_epi16(_mm256_maddubs_epi16(a, place), _mm256_maddubs_epi16(b, place));
        _mm256_storeu_si256((__m256i *)(out + i / 2), _mm256_permute4x64_epi64(both, 0xd8));
    }
    return i;
}
