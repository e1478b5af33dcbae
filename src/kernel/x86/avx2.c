/* SPDX-License-Identifier: BSD-3-Clause */
/* The kernels for AVX2 with FMA and F16C: two registers stand for the 16 lanes. */
#include "base/bytes.h"
#include "kernel/kernels.h"
#include "kernel/vexp.h"
#include "kernel/x86/rows256.h"

#include <immintrin.h>
#include <string.h>

typedef struct v16 {
    __m256 lo, hi;
} v16;

static inline float tree(v16 v)
{
    __m256 a = _mm256_add_ps(v.lo, v.hi);
    __m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    b = _mm_add_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_add_ss(b, _mm_movehdup_ps(b)));
}

static inline v16 zero16(void)
{
    return (v16){_mm256_setzero_ps(), _mm256_setzero_ps()};
}
static inline v16 load16(const void *p)
{
    return (v16){_mm256_loadu_ps(p), _mm256_loadu_ps((const float *)p + 8)};
}
static inline v16 half16(const void *p)
{
    return (v16){_mm256_cvtph_ps(_mm_loadu_si128(p)), _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p + 1))};
}
static inline void store16(float *p, v16 v)
{
    _mm256_storeu_ps(p, v.lo);
    _mm256_storeu_ps(p + 8, v.hi);
}
static inline v16 fma16(v16 a, v16 b, v16 c)
{
    return (v16){_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi)};
}
static inline v16 mul16(v16 a, v16 b)
{
    return (v16){_mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi)};
}
static inline v16 add16(v16 a, v16 b)
{
    return (v16){_mm256_add_ps(a.lo, b.lo), _mm256_add_ps(a.hi, b.hi)};
}
static inline v16 set16(float f)
{
    return (v16){_mm256_set1_ps(f), _mm256_set1_ps(f)};
}
/* The first min(n, 16) values, zeros behind them. */
static inline v16 some16(const float *p, int64_t n)
{
    if (n >= 16) return load16(p);
    float t[16] = {0};
    memcpy(t, p, (size_t)n * sizeof *t);
    return load16(t);
}
static inline void store_some(float *p, v16 v, int64_t n)
{
    if (n >= 16) {
        store16(p, v);
        return;
    }
    float t[16];
    store16(t, v);
    memcpy(p, t, (size_t)n * sizeof *t);
}

/* ---- quantising ---- */

/* The larger of `m` and each magnitude in `v`, lane by lane, by the order of the bits: NaN is above infinity. */
static inline __m256i larger(__m256i m, v16 v)
{
    const __m256i magnitude = _mm256_set1_epi32(INT32_MAX);
    m = _mm256_max_epi32(_mm256_and_si256(_mm256_castps_si256(v.lo), magnitude), m);
    return _mm256_max_epi32(_mm256_and_si256(_mm256_castps_si256(v.hi), magnitude), m);
}

static inline float largest_of(__m256i v)
{
    __m128i b = _mm_max_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    b = _mm_max_epi32(b, _mm_shuffle_epi32(b, 0x4e));
    return _mm_cvtss_f32(_mm_castsi128_ps(_mm_max_epi32(b, _mm_shuffle_epi32(b, 0xb1))));
}

/* Rounded to the nearest integers; 0 where that is beyond 127, NaN or infinite. */
static inline __m256i to_int(__m256 x, __m256 inverse)
{
    const __m256 sign = _mm256_set1_ps(-0.0f);
    __m256 r = _mm256_round_ps(_mm256_mul_ps(x, inverse), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m256 in = _mm256_cmp_ps(_mm256_andnot_ps(sign, r), _mm256_set1_ps(127.0f), _CMP_LE_OQ);
    return _mm256_cvtps_epi32(_mm256_and_ps(r, in));
}

static inline __attribute__((always_inline)) void quantize_group(int8_t *q, float *scale, int32_t *offset, v16 a, v16 b)
{
    const __m256i order = _mm256_setr_epi8(0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15, 0, 2, 4, 6, 1, 3, 5, 7,
                                           8, 10, 12, 14, 9, 11, 13, 15);
    float largest = largest_of(larger(larger(_mm256_setzero_si256(), a), b));
    __m256 inverse = _mm256_set1_ps(largest > ANM_TINY ? 127.0f / largest : 0);
    __m256i i0 = to_int(a.lo, inverse), i1 = to_int(a.hi, inverse), i2 = to_int(b.lo, inverse), i3 = to_int(b.hi, inverse);
    __m256i lo = _mm256_packs_epi32(i0, i1), hi = _mm256_packs_epi32(i2, i3); /* in 64-bit pieces 0 4 1 5 … */
    __m256i bytes = _mm256_packs_epi16(lo, hi);                                /* 4-byte pieces 0 2 4 6 1 3 5 7 */
    bytes = _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
    _mm256_storeu_si256((__m256i *)(void *)q, _mm256_shuffle_epi8(bytes, order));
    __m256i sum = _mm256_add_epi32(_mm256_add_epi32(i0, i1), _mm256_add_epi32(i2, i3));
    __m128i s = _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256(sum, 1));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1));
    *scale = largest * (1.0f / 127.0f);
    *offset = -8 * _mm_cvtsi128_si32(s);
}

void anm_k_quantize_avx2(int8_t *q, float *scale, int32_t *offset, const float *x, int64_t n)
{
    for (int64_t g = 0; g * ANM_GROUP < n; g++) {
        const float *p = x + g * ANM_GROUP;
        int64_t left = n - g * ANM_GROUP;
        quantize_group(q + g * ANM_GROUP, scale + g, offset + g, some16(p, left), left > 16 ? some16(p + 16, left - 16) : zero16());
    }
}

void anm_k_quantize_pair_avx2(int8_t *q, float *scale, int32_t *offset, int64_t groups, const float *a, const float *b,
                              int32_t rows)
{
    for (int64_t r = 0; r < rows; r++)
        quantize_group(q + r * groups * ANM_GROUP, scale + r * groups, offset + r * groups, some16(a + r * ANM_TILE, ANM_TILE),
                       some16(b + r * ANM_TILE, ANM_TILE));
}

/* ---- 4-bit weights ---- */

/*
 * Half a tile (8 rows) by M activation rows. Weights are 0 to 15 and activations -127 to 127, so a pair of products is
 * at most 3810 and the eight of a group stay within 16 bits: 30480.
 */
static inline __attribute__((always_inline)) void q4_q8_rows(float *out, const anm_q4 *w, const uint8_t *t, int half,
                                                             const anm_q8 *x, int32_t row, int M, anm_scales kind)
{
    const __m256i low = _mm256_set1_epi8(15), ones = _mm256_set1_epi16(1);
    __m256 sum[4];
    for (int r = 0; r < M; r++) sum[r] = _mm256_setzero_ps();
    const bool grouped = kind != ANM_SCALES_ROW;
    for (int64_t g = 0; g < w->groups; g++) {
        const uint8_t *nib = t + anm_q4_nibbles_at(kind, g) + 32 * half;
        const int8_t *q = x->q + (row * x->groups + g) * ANM_GROUP;
        __m256i acc[4];
        for (int r = 0; r < M; r++) acc[r] = _mm256_setzero_si256();
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
                const int8_t *k = q + r * x->groups * ANM_GROUP + 8 * j;
                __m256i d0 = _mm256_maddubs_epi16(v0, _mm256_set1_epi32((int32_t)anm_ld32(k)));
                __m256i d1 = _mm256_maddubs_epi16(v1, _mm256_set1_epi32((int32_t)anm_ld32(k + 4)));
                __m256i d2 = _mm256_maddubs_epi16(v2, _mm256_set1_epi32((int32_t)anm_ld32(k + 8)));
                __m256i d3 = _mm256_maddubs_epi16(v3, _mm256_set1_epi32((int32_t)anm_ld32(k + 12)));
                d0 = _mm256_add_epi16(_mm256_add_epi16(d0, d1), _mm256_add_epi16(d2, d3));
                acc[r] = _mm256_add_epi16(acc[r], d0);
            }
        }
        __m256 ws = grouped ? anm_256_scales(kind, t, g, half) : _mm256_setzero_ps();
        for (int r = 0; r < M; r++) {
            int64_t at = (row + r) * x->groups + g;
            __m256i dot = _mm256_add_epi32(_mm256_madd_epi16(acc[r], ones), _mm256_set1_epi32(x->offset[at]));
            __m256 s = _mm256_set1_ps(x->scale[at]);
            if (grouped) s = _mm256_mul_ps(s, ws);
            sum[r] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot), s, sum[r]);
        }
    }
    for (int r = 0; r < M; r++) {
        __m256 s = sum[r];
        if (!grouped) s = _mm256_mul_ps(s, _mm256_loadu_ps((const float *)(const void *)t + 8 * half));
        _mm256_storeu_ps(out + r * ANM_TILE + 8 * half, s);
    }
}

void anm_k_q4_q8_avx2(float *out, const anm_q4 *w, int64_t tile, const anm_q8 *x, int32_t row, int32_t rows)
{
    anm_256_q4_q8(out, w, tile, x, row, rows, q4_q8_rows);
}

static inline __attribute__((always_inline)) void q4_f32_rows(float *out, const anm_q4 *w, const uint8_t *t, int half,
                                                              const float *x, int64_t stride, int M)
{
    const __m256i low = _mm256_set1_epi32(15), eight = _mm256_set1_epi32(8);
    __m256 total[4];
    for (int r = 0; r < M; r++) total[r] = _mm256_setzero_ps();
    __m256 ws = anm_256_scales(w->scales, t, 0, half);
    for (int64_t g = 0; g < w->groups; g++) {
        const uint8_t *nib = t + anm_q4_nibbles_at(w->scales, g) + 32 * half;
        if (w->scales != ANM_SCALES_ROW) ws = anm_256_scales(w->scales, t, g, half);
        __m256 sum[4];
        for (int r = 0; r < M; r++) sum[r] = _mm256_setzero_ps();
        int64_t left = w->cols - g * ANM_GROUP;
        for (int k = 0; k < ANM_GROUP && k < left; k += 8) {
            __m256i p = _mm256_load_si256((const __m256i *)(const void *)(nib + 8 * k));
            for (int i = 0; i < 8 && k + i < left; i++, p = _mm256_srli_epi32(p, 4)) {
                __m256 v = _mm256_cvtepi32_ps(_mm256_sub_epi32(_mm256_and_si256(p, low), eight));
                v = _mm256_mul_ps(ws, v);
                if (w->round_f16) v = _mm256_cvtph_ps(_mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
                for (int r = 0; r < M; r++)
                    sum[r] = _mm256_fmadd_ps(v, _mm256_set1_ps(x[r * stride + g * ANM_GROUP + k + i]), sum[r]);
            }
        }
        for (int r = 0; r < M; r++) total[r] = _mm256_add_ps(total[r], sum[r]);
    }
    for (int r = 0; r < M; r++) _mm256_storeu_ps(out + r * ANM_TILE + 8 * half, total[r]);
}

void anm_k_q4_f32_avx2(float *out, const anm_q4 *w, int64_t tile, const float *x, int64_t stride, int32_t rows)
{
    const uint8_t *t = w->data + (size_t)tile * w->tile_bytes;
    for (int half = 0; half < 2; half++) {
        int32_t r = 0;
        for (; r + 4 <= rows; r += 4) q4_f32_rows(out + r * ANM_TILE, w, t, half, x + r * stride, stride, 4);
        for (; r < rows; r++) q4_f32_rows(out + r * ANM_TILE, w, t, half, x + r * stride, stride, 1);
    }
}

static inline __attribute__((always_inline)) void wf_f32_rows(float *out, const anm_wf *w, const uint8_t *t,
                                                              const float *x, int64_t stride, int M)
{
    v16 total[4];
    for (int r = 0; r < M; r++) total[r] = zero16();
    for (int64_t g = 0; g < w->cols; g += ANM_GROUP) {
        v16 sum[4];
        for (int r = 0; r < M; r++) sum[r] = zero16();
        for (int64_t k = g; k < g + ANM_GROUP && k < w->cols; k++) {
            v16 v = w->f16 ? half16(t + 32 * k) : load16(t + 64 * k);
            for (int r = 0; r < M; r++) sum[r] = fma16(v, set16(x[r * stride + k]), sum[r]);
        }
        for (int r = 0; r < M; r++) total[r] = add16(total[r], sum[r]);
    }
    for (int r = 0; r < M; r++) store16(out + r * ANM_TILE, total[r]);
}

void anm_k_wf_f32_avx2(float *out, const anm_wf *w, int64_t tile, const float *x, int64_t stride, int32_t rows)
{
    const uint8_t *t = w->data + (size_t)tile * w->tile_bytes;
    int32_t r = 0;
    for (; r + 4 <= rows; r += 4) wf_f32_rows(out + r * ANM_TILE, w, t, x + r * stride, stride, 4);
    for (; r < rows; r++) wf_f32_rows(out + r * ANM_TILE, w, t, x + r * stride, stride, 1);
}

/* ---- the rest ---- */

void anm_k_norm_avx2(float *out, const float *x, const anm_norm *p)
{
    v16 lane = zero16();
    for (int64_t i = 0; i < p->n; i += 16) {
        v16 v = some16(x + i, p->n - i);
        lane = fma16(v, v, lane);
    }
    float s = fmaf(tree(lane), p->sum_scale, p->inner);
    if (p->peak != 0) {
        __m256i m = _mm256_setzero_si256();
        for (int64_t i = 0; i < p->n; i += 16) m = larger(m, some16(x + i, p->n - i));
        float largest = largest_of(m);
        s = fmaf(largest * largest, p->peak, s);
    }
    if (s < p->floor) s = p->floor;
    v16 f = set16(p->mul / (sqrtf(s) + p->outer));
    for (int64_t i = 0; i < p->n; i += 16) {
        v16 v = mul16(some16(x + i, p->n - i), f);
        if (p->weight) v = mul16(v, some16(p->weight + i, p->n - i));
        store_some(out + i, v, p->n - i);
    }
}

static inline __m256 vexp(__m256 x)
{
    __m256 nan = _mm256_cmp_ps(x, x, _CMP_UNORD_Q);
    __m256 c = _mm256_min_ps(_mm256_max_ps(x, _mm256_set1_ps(ANM_EXP_MIN)), _mm256_set1_ps(ANM_EXP_MAX));
    __m256 n = _mm256_round_ps(_mm256_mul_ps(c, _mm256_set1_ps(ANM_EXP_LOG2E)),
                               _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m256 r = _mm256_fnmadd_ps(n, _mm256_set1_ps(ANM_EXP_LN2_HI), c);
    r = _mm256_fnmadd_ps(n, _mm256_set1_ps(ANM_EXP_LN2_LO), r);
    __m256 p = _mm256_fmadd_ps(_mm256_set1_ps(ANM_EXP_C6), r, _mm256_set1_ps(ANM_EXP_C5));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(ANM_EXP_C4));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(ANM_EXP_C3));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(ANM_EXP_C2));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f));
    __m256i k = _mm256_cvtps_epi32(n), half = _mm256_srai_epi32(k, 1), bias = _mm256_set1_epi32(127);
    __m256i f1 = _mm256_slli_epi32(_mm256_add_epi32(half, bias), 23);
    __m256i f2 = _mm256_slli_epi32(_mm256_add_epi32(_mm256_sub_epi32(k, half), bias), 23);
    p = _mm256_mul_ps(_mm256_mul_ps(p, _mm256_castsi256_ps(f1)), _mm256_castsi256_ps(f2));
    return _mm256_blendv_ps(p, x, nan);
}

static inline const uint8_t *entry(const anm_attend *a, const uint8_t *cache, const uint8_t *fresh, size_t bytes, int64_t i)
{
    return i < a->cached ? cache + (size_t)i * bytes : fresh + (size_t)a->fresh[i - a->cached] * bytes;
}

/* 16 values of a row from d on; zeros beyond head_dim. */
static inline v16 part(const uint8_t *row, int32_t d, int32_t head_dim, bool f16)
{
    int32_t n = head_dim - d;
    if (!f16) return some16((const float *)(const void *)row + d, n);
    if (n >= 16) return half16(row + 2 * d);
    uint16_t t[16] = {0};
    memcpy(t, row + 2 * d, (size_t)n * sizeof *t);
    return half16(t);
}

/* Scores of all entries for H heads of 16 * N values: N > 0 is a constant, 0 takes head_dim. */
static inline __attribute__((always_inline)) void scores(const anm_attend *a, int64_t n, int64_t room, int H, int N, bool f16)
{
    size_t bytes = (size_t)a->head_dim * (f16 ? 2 : 4);
    int parts = N ? N : (a->head_dim + 15) / 16;
    for (int64_t i = 0; i < n; i++) {
        const uint8_t *k = entry(a, a->k_cache, a->k_fresh, bytes, i);
        v16 sum[ANM_HEADS_MAX];
        for (int h = 0; h < H; h++) sum[h] = zero16();
        for (int p = 0; p < parts; p++) {
            int32_t d = 16 * p, left = N ? 16 : a->head_dim - d;
            v16 v = part(k, d, d + left, f16);
            for (int h = 0; h < H; h++) sum[h] = fma16(some16(a->q[h] + d, left), v, sum[h]);
        }
        for (int h = 0; h < H; h++) a->scores[h * room + i] = tree(sum[h]) * a->scale;
    }
}

/* Values from d on, B vectors of 8 (whole ones), weighted and summed up. */
static inline __attribute__((always_inline)) void mix8(const anm_attend *a, int32_t d, int64_t n, int64_t room, int H, int B,
                                                       bool f16, const float *inverse)
{
    size_t bytes = (size_t)a->head_dim * (f16 ? 2 : 4);
    __m256 sum[ANM_HEADS_MAX][4];
    for (int h = 0; h < H; h++)
        for (int k = 0; k < B; k++) sum[h][k] = _mm256_setzero_ps();
    for (int64_t i = 0; i < n; i++) {
        const uint8_t *row = entry(a, a->v_cache, a->v_fresh, bytes, i);
        for (int k = 0; k < B; k++) {
            const uint8_t *at = row + (size_t)(d + 8 * k) * (f16 ? 2 : 4);
            __m256 v = f16 ? _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)at))
                           : _mm256_loadu_ps((const float *)(const void *)at);
            for (int h = 0; h < H; h++)
                sum[h][k] = _mm256_fmadd_ps(_mm256_set1_ps(a->scores[h * room + i]), v, sum[h][k]);
        }
    }
    for (int h = 0; h < H; h++)
        for (int k = 0; k < B; k++)
            _mm256_storeu_ps(a->out[h] + d + 8 * k, _mm256_mul_ps(sum[h][k], _mm256_set1_ps(inverse[h])));
}

/* The ragged end of head_dim, from d on: fewer than 16 values. */
static void mix_rest(const anm_attend *a, int32_t d, int64_t n, int64_t room, const float *inverse)
{
    size_t bytes = (size_t)a->head_dim * (a->f16 ? 2 : 4);
    for (int32_t h = 0; h < a->heads; h++) {
        v16 sum = zero16();
        for (int64_t i = 0; i < n; i++) {
            v16 v = part(entry(a, a->v_cache, a->v_fresh, bytes, i), d, a->head_dim, a->f16);
            sum = fma16(set16(a->scores[h * room + i]), v, sum);
        }
        store_some(a->out[h] + d, mul16(sum, set16(inverse[h])), a->head_dim - d);
    }
}

static inline __attribute__((always_inline)) void attend(const anm_attend *a, int H, bool f16)
{
    int64_t n = a->cached + a->n_fresh, room = (n + 15) & ~(int64_t)15;
    if (a->head_dim == 64) scores(a, n, room, H, 4, f16);
    else scores(a, n, room, H, 0, f16);
    float inverse[ANM_HEADS_MAX];
    for (int h = 0; h < H; h++) {
        float *s = a->scores + h * room, largest = -INFINITY;
        for (int64_t i = n; i < room; i++) s[i] = -INFINITY; /* exp makes zeros of these */
        for (int64_t i = 0; i < n; i++) largest = s[i] > largest ? s[i] : largest;
        v16 lane = zero16(), m = set16(largest);
        for (int64_t i = 0; i < room; i += 16) {
            v16 v = load16(s + i);
            v16 e = {vexp(_mm256_sub_ps(v.lo, m.lo)), vexp(_mm256_sub_ps(v.hi, m.hi))};
            store16(s + i, e);
            lane = add16(lane, e);
        }
        inverse[h] = 1.0f / tree(lane);
    }
    int32_t d = 0;
    for (; H <= 3 && d + 32 <= a->head_dim; d += 32) mix8(a, d, n, room, H, 4, f16, inverse);
    for (; d + 8 <= a->head_dim; d += 8) mix8(a, d, n, room, H, 1, f16, inverse);
    if (d < a->head_dim) mix_rest(a, d, n, room, inverse);
}

void anm_k_attend_avx2(const anm_attend *a)
{
    switch (a->heads) { /* with a count that the compiler knows, the sums stay in registers */
#define HEADS(H)                                                                                                       \
    case H:                                                                                                            \
        if (a->f16) attend(a, H, true);                                                                                \
        else attend(a, H, false);                                                                                      \
        break
        HEADS(1);
        HEADS(2);
        HEADS(3);
        HEADS(4);
#undef HEADS
    default: attend(a, a->heads, a->f16);
    }
}

static inline __m256 silu_mul8(__m256 g, __m256 u)
{
    __m256 e = vexp(_mm256_xor_ps(g, _mm256_set1_ps(-0.0f)));
    return _mm256_mul_ps(_mm256_div_ps(g, _mm256_add_ps(_mm256_set1_ps(1.0f), e)), u);
}

void anm_k_silu_mul_avx2(float *out, const float *gate, const float *up, int64_t n)
{
    for (int64_t i = 0; i < n; i += 16) {
        v16 g = some16(gate + i, n - i), u = some16(up + i, n - i);
        store_some(out + i, (v16){silu_mul8(g.lo, u.lo), silu_mul8(g.hi, u.hi)}, n - i);
    }
}

void anm_k_to_f16_avx2(uint16_t *out, const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i += 8) {
        float t[8] = {0};
        int64_t have = n - i < 8 ? n - i : 8;
        memcpy(t, x + i, (size_t)have * sizeof *t);
        __m128i h = _mm256_cvtps_ph(_mm256_loadu_ps(t), _MM_FROUND_TO_NEAREST_INT);
        memcpy(out + i, &h, (size_t)have * sizeof *out);
    }
}

/* ---- the most that can be multiplied ---- */

/* Four rows by sixteen lanes at a time. Pairs of products are below 2^12, so four of them are added as 16 bits. */
void anm_k_peak_avx2(int32_t *sum, const uint8_t *w, const int8_t *x, int64_t times)
{
    const __m256i one = _mm256_set1_epi16(1);
    for (int part = 0; part < 16; part++) {
        const int8_t *a = x + part / 8 * 1024 + part % 4 * 256;
        const uint8_t *b = w + part / 4 % 2 * 1024;
        int32_t *to = sum + part * 64;
        __m256i acc[8];
        for (int i = 0; i < 8; i++) acc[i] = _mm256_load_si256((const __m256i *)(const void *)(to + i * 8));
        for (int64_t t = 0; t < times; t++)
            for (int k = 0; k < 16; k += 4)
                for (int i = 0; i < 8; i++) {
                    __m256i s = _mm256_setzero_si256();
                    for (int n = k; n < k + 4; n++) {
                        __m256i v = _mm256_load_si256((const __m256i *)(const void *)(b + n * 64 + i % 2 * 32));
                        __m256i q = _mm256_set1_epi32((int32_t)anm_ld32(a + i / 2 * 64 + n * 4));
                        s = _mm256_add_epi16(s, _mm256_maddubs_epi16(v, q));
                    }
                    acc[i] = _mm256_add_epi32(acc[i], _mm256_madd_epi16(s, one));
                }
        for (int i = 0; i < 8; i++) _mm256_store_si256((__m256i *)(void *)(to + i * 8), acc[i]);
    }
}
