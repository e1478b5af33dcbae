/* SPDX-License-Identifier: BSD-3-Clause */
/* Blocks of 32 values in 4 and 5 bits by AVX2: left to themselves, compilers take the nibbles apart one by one. A part of
 * values_body.h; values_blocks32.h is the same, plainly. */
#include <immintrin.h>

/* Low nibbles in the lower half, high nibbles in the upper one. */
static inline __m256i nibbles(const uint8_t *p)
{
    __m128i raw = _mm_loadu_si128((const __m128i *)p);
    return _mm256_and_si256(_mm256_set_m128i(_mm_srli_epi16(raw, 4), raw), _mm256_set1_epi8(15));
}

/* 16 in each byte whose bit is set in the 4 bytes at `p`. */
static inline __m256i fifth_bits(const uint8_t *p)
{
    int32_t all;
    memcpy(&all, p, 4);
    const __m256i byte = _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303);
    const __m256i bit = _mm256_set1_epi64x((long long)0x8040201008040201ull);
    __m256i of = _mm256_and_si256(_mm256_shuffle_epi8(_mm256_set1_epi32(all), byte), bit);
    return _mm256_and_si256(_mm256_cmpeq_epi8(of, bit), _mm256_set1_epi8(16));
}

/* d * code (+ m) for the 32 signed bytes of `code`. */
static inline void scale_codes(float *out, __m256i code, float d, const float *m)
{
    const __m256 by = _mm256_set1_ps(d), plus = _mm256_set1_ps(m ? *m : 0);
    __m128i half[2] = {_mm256_castsi256_si128(code), _mm256_extracti128_si256(code, 1)};
    for (int i = 0; i < 4; i++) {
        __m128i eight = i % 2 ? _mm_unpackhi_epi64(half[i / 2], half[i / 2]) : half[i / 2];
        __m256 v = _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(eight)), by);
        _mm256_storeu_ps(out + 8 * i, m ? _mm256_add_ps(v, plus) : v);
    }
}

static inline void q4_0(float *restrict out, const uint8_t *restrict p)
{
    scale_codes(out, _mm256_sub_epi8(nibbles(p + 2), _mm256_set1_epi8(8)), scale_at(p), NULL);
}

static inline void q4_1(float *restrict out, const uint8_t *restrict p)
{
    const float m = scale_at(p + 2);
    scale_codes(out, nibbles(p + 4), scale_at(p), &m);
}

static inline void q5_0(float *restrict out, const uint8_t *restrict p)
{
    __m256i code = _mm256_or_si256(nibbles(p + 6), fifth_bits(p + 2));
    scale_codes(out, _mm256_sub_epi8(code, _mm256_set1_epi8(16)), scale_at(p), NULL);
}

static inline void q5_1(float *restrict out, const uint8_t *restrict p)
{
    const float m = scale_at(p + 2);
    scale_codes(out, _mm256_or_si256(nibbles(p + 8), fifth_bits(p + 4)), scale_at(p), &m);
}
