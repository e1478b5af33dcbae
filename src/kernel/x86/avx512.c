/* SPDX-License-Identifier: BSD-3-Clause */
/* The kernels for AVX-512 as its first processors had it, without VNNI: a vector lane is a row of a weight tile. */
#include "kernel/vexp.h"
#include "kernel/x86/rows512.h"

static inline float tree(__m512 v)
{
    __m256 a = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
    __m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    b = _mm_add_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_add_ss(b, _mm_movehdup_ps(b)));
}

static inline __m512 half16(const void *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256(p));
}

/* ---- quantising ---- */

/* The larger of `m` and each magnitude in `v`, lane by lane, by the order of the bits: NaN is above infinity. */
static inline __m512i larger(__m512i m, __m512 v)
{
    return _mm512_max_epi32(_mm512_and_si512(_mm512_castps_si512(v), _mm512_set1_epi32(INT32_MAX)), m);
}

static inline float largest_of(__m512i v)
{
    return _mm_cvtss_f32(_mm_castsi128_ps(_mm_cvtsi32_si128(_mm512_reduce_max_epi32(v))));
}

static inline __attribute__((always_inline)) void quantize_group(int8_t *q, float *scale, int32_t *offset, __m512 a, __m512 b)
{
    const __m256i order = _mm256_setr_epi8(0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15, 0, 2, 4, 6, 1, 3, 5, 7,
                                           8, 10, 12, 14, 9, 11, 13, 15);
    const __m512 most = _mm512_set1_ps(127.0f);
    float largest = largest_of(larger(larger(_mm512_setzero_si512(), a), b));
    float inverse = largest > ANM_TINY ? 127.0f / largest : 0;
    __m512 ra = _mm512_roundscale_ps(_mm512_mul_ps(a, _mm512_set1_ps(inverse)), 8);
    __m512 rb = _mm512_roundscale_ps(_mm512_mul_ps(b, _mm512_set1_ps(inverse)), 8);
    __mmask16 ka = _mm512_cmp_ps_mask(_mm512_abs_ps(ra), most, _CMP_LE_OQ);
    __mmask16 kb = _mm512_cmp_ps_mask(_mm512_abs_ps(rb), most, _CMP_LE_OQ);
    __m512i ia = _mm512_maskz_cvtps_epi32(ka, ra), ib = _mm512_maskz_cvtps_epi32(kb, rb);
    __m256i bytes = _mm256_set_m128i(_mm512_cvtepi32_epi8(ib), _mm512_cvtepi32_epi8(ia));
    _mm256_storeu_si256((__m256i *)(void *)q, _mm256_shuffle_epi8(bytes, order));
    *scale = largest * (1.0f / 127.0f);
    *offset = -8 * _mm512_reduce_add_epi32(_mm512_add_epi32(ia, ib));
}

void anm_k_quantize_avx512(int8_t *q, float *scale, int32_t *offset, const float *x, int64_t n)
{
    for (int64_t g = 0; g * ANM_GROUP < n; g++) {
        int64_t left = n - g * ANM_GROUP;
        uint32_t have = left < ANM_GROUP ? (1u << left) - 1 : UINT32_MAX;
        __m512 a = _mm512_maskz_loadu_ps((__mmask16)have, x + g * ANM_GROUP);
        __m512 b = _mm512_maskz_loadu_ps((__mmask16)(have >> 16), x + g * ANM_GROUP + 16);
        quantize_group(q + g * ANM_GROUP, scale + g, offset + g, a, b);
    }
}

void anm_k_quantize_pair_avx512(int8_t *q, float *scale, int32_t *offset, int64_t groups, const float *a, const float *b,
                              int32_t rows)
{
    for (int64_t r = 0; r < rows; r++)
        quantize_group(q + r * groups * ANM_GROUP, scale + r * groups, offset + r * groups,
                       _mm512_loadu_ps(a + r * ANM_TILE), _mm512_loadu_ps(b + r * ANM_TILE));
}

/* ---- 4-bit weights ---- */

/* Weights are 0 to 15 and activations -127 to 127, so the eight products that meet in 16 bits stay within 30480. */
static inline __attribute__((always_inline)) __m512i dot32(const __m512i v[8], const int8_t *q, int32_t offset)
{
    __m512i sum = _mm512_setzero_si512();
    for (int j = 0; j < 8; j++) sum = _mm512_add_epi16(sum, _mm512_maddubs_epi16(v[j], anm_512_four(q + 4 * j)));
    return _mm512_add_epi32(_mm512_madd_epi16(sum, _mm512_set1_epi16(1)), _mm512_set1_epi32(offset));
}

void anm_k_q4_q8_avx512(float *out, const anm_q4 *w, int64_t tile, const anm_q8 *x, int32_t row, int32_t rows)
{
    anm_512_q4_q8(out, w, tile, x, row, rows, dot32);
}

static inline __attribute__((always_inline)) void q4_f32_rows(float *out, const anm_q4 *w, const uint8_t *t,
                                                              const float *x, int64_t stride, int M)
{
    const __m512i low = _mm512_set1_epi32(15), eight = _mm512_set1_epi32(8);
    __m512 total[8];
    for (int r = 0; r < M; r++) total[r] = _mm512_setzero_ps();
    __m512 ws = w->scales == ANM_SCALES_ROW ? anm_512_scales(ANM_SCALES_ROW, t, 0) : _mm512_setzero_ps();
    for (int64_t g = 0; g < w->groups; g++) {
        const uint8_t *nib = t + anm_q4_nibbles_at(w->scales, g);
        if (w->scales != ANM_SCALES_ROW) ws = anm_512_scales(w->scales, t, g);
        __m512 sum[8];
        for (int r = 0; r < M; r++) sum[r] = _mm512_setzero_ps();
        int64_t left = w->cols - g * ANM_GROUP;
        for (int k = 0; k < ANM_GROUP && k < left; k += 8) {
            __m512i p = _mm512_load_si512(nib + 8 * k);
            for (int i = 0; i < 8 && k + i < left; i++, p = _mm512_srli_epi32(p, 4)) {
                __m512 v = _mm512_cvtepi32_ps(_mm512_sub_epi32(_mm512_and_si512(p, low), eight));
                v = _mm512_mul_ps(ws, v);
                if (w->round_f16) v = _mm512_cvtph_ps(_mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
                for (int r = 0; r < M; r++)
                    sum[r] = _mm512_fmadd_ps(v, _mm512_set1_ps(x[r * stride + g * ANM_GROUP + k + i]), sum[r]);
            }
        }
        for (int r = 0; r < M; r++) total[r] = _mm512_add_ps(total[r], sum[r]);
    }
    for (int r = 0; r < M; r++) _mm512_storeu_ps(out + r * ANM_TILE, total[r]);
}

void anm_k_q4_f32_avx512(float *out, const anm_q4 *w, int64_t tile, const float *x, int64_t stride, int32_t rows)
{
    const uint8_t *t = w->data + (size_t)tile * w->tile_bytes;
    for (; rows >= 8; rows -= 8, out += 8 * ANM_TILE, x += 8 * stride) q4_f32_rows(out, w, t, x, stride, 8);
    for (; rows >= 2; rows -= 2, out += 2 * ANM_TILE, x += 2 * stride) q4_f32_rows(out, w, t, x, stride, 2);
    if (rows) q4_f32_rows(out, w, t, x, stride, 1);
}

static inline __attribute__((always_inline)) void wf_f32_rows(float *out, const anm_wf *w, const uint8_t *t,
                                                              const float *x, int64_t stride, int M, bool f16)
{
    __m512 total[8];
    for (int r = 0; r < M; r++) total[r] = _mm512_setzero_ps();
    for (int64_t g = 0; g < w->cols; g += ANM_GROUP) {
        __m512 sum[8];
        for (int r = 0; r < M; r++) sum[r] = _mm512_setzero_ps();
        for (int64_t k = g; k < g + ANM_GROUP && k < w->cols; k++) {
            __m512 v = f16 ? half16(t + 32 * k) : _mm512_loadu_ps((const float *)(const void *)t + 16 * k);
            for (int r = 0; r < M; r++) sum[r] = _mm512_fmadd_ps(v, _mm512_set1_ps(x[r * stride + k]), sum[r]);
        }
        for (int r = 0; r < M; r++) total[r] = _mm512_add_ps(total[r], sum[r]);
    }
    for (int r = 0; r < M; r++) _mm512_storeu_ps(out + r * ANM_TILE, total[r]);
}

void anm_k_wf_f32_avx512(float *out, const anm_wf *w, int64_t tile, const float *x, int64_t stride, int32_t rows)
{
    const uint8_t *t = w->data + (size_t)tile * w->tile_bytes;
    for (; rows > 0; rows -= 8, out += 8 * ANM_TILE, x += 8 * stride) {
        int m = rows < 8 ? rows : 8;
        if (m == 8) {
            if (w->f16) wf_f32_rows(out, w, t, x, stride, 8, true);
            else wf_f32_rows(out, w, t, x, stride, 8, false);
            continue;
        }
        for (int r = 0; r < m; r++) {
            if (w->f16) wf_f32_rows(out + r * ANM_TILE, w, t, x + r * stride, stride, 1, true);
            else wf_f32_rows(out + r * ANM_TILE, w, t, x + r * stride, stride, 1, false);
        }
    }
}

/* ---- the rest ---- */

static inline __mmask16 first(int64_t n)
{
    return (__mmask16)(n >= 16 ? 0xffffu : (1u << n) - 1);
}

void anm_k_norm_avx512(float *out, const float *x, const anm_norm *p)
{
    __m512 lane = _mm512_setzero_ps();
    for (int64_t i = 0; i < p->n; i += 16) {
        __m512 v = _mm512_maskz_loadu_ps(first(p->n - i), x + i);
        lane = _mm512_fmadd_ps(v, v, lane);
    }
    float s = fmaf(tree(lane), p->sum_scale, p->inner);
    if (p->peak != 0) {
        __m512i m = _mm512_setzero_si512();
        for (int64_t i = 0; i < p->n; i += 16) m = larger(m, _mm512_maskz_loadu_ps(first(p->n - i), x + i));
        float largest = largest_of(m);
        s = fmaf(largest * largest, p->peak, s);
    }
    if (s < p->floor) s = p->floor;
    __m512 f = _mm512_set1_ps(p->mul / (sqrtf(s) + p->outer));
    for (int64_t i = 0; i < p->n; i += 16) {
        __mmask16 k = first(p->n - i);
        __m512 v = _mm512_mul_ps(_mm512_maskz_loadu_ps(k, x + i), f);
        if (p->weight) v = _mm512_mul_ps(v, _mm512_maskz_loadu_ps(k, p->weight + i));
        _mm512_mask_storeu_ps(out + i, k, v);
    }
}

static inline __m512 vexp(__m512 x)
{
    __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
    __m512 c = _mm512_min_ps(_mm512_max_ps(x, _mm512_set1_ps(ANM_EXP_MIN)), _mm512_set1_ps(ANM_EXP_MAX));
    __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(c, _mm512_set1_ps(ANM_EXP_LOG2E)), 8);
    __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(ANM_EXP_LN2_HI), c);
    r = _mm512_fnmadd_ps(n, _mm512_set1_ps(ANM_EXP_LN2_LO), r);
    __m512 p = _mm512_fmadd_ps(_mm512_set1_ps(ANM_EXP_C6), r, _mm512_set1_ps(ANM_EXP_C5));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(ANM_EXP_C4));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(ANM_EXP_C3));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(ANM_EXP_C2));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
    __m512i k = _mm512_cvtps_epi32(n), half = _mm512_srai_epi32(k, 1), bias = _mm512_set1_epi32(127);
    __m512i f1 = _mm512_slli_epi32(_mm512_add_epi32(half, bias), 23);
    __m512i f2 = _mm512_slli_epi32(_mm512_add_epi32(_mm512_sub_epi32(k, half), bias), 23);
    p = _mm512_mul_ps(_mm512_mul_ps(p, _mm512_castsi512_ps(f1)), _mm512_castsi512_ps(f2));
    return _mm512_mask_mov_ps(p, nan, x);
}

static inline const uint8_t *entry(const anm_attend *a, const uint8_t *cache, const uint8_t *fresh, size_t bytes, int64_t i)
{
    return i < a->cached ? cache + (size_t)i * bytes : fresh + (size_t)a->fresh[i - a->cached] * bytes;
}

/* Where keys and values come from memory: the key some entries on, and this entry's value, which the second sweep takes. */
static inline void ask(const anm_attend *a, int64_t i, size_t bytes)
{
    for (size_t k = 0; k < bytes; k += 64) {
        _mm_prefetch((const char *)a->k_cache + (size_t)i * bytes + ANM_512_AHEAD + k, _MM_HINT_T0);
        _mm_prefetch((const char *)a->v_cache + (size_t)i * bytes + k, _MM_HINT_T1);
    }
}

/* 16 values of a row from d on; zeros beyond head_dim. */
static inline __m512 part(const uint8_t *row, int32_t d, __mmask16 k, bool f16)
{
    if (f16) return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(k, row + 2 * d));
    return _mm512_maskz_loadu_ps(k, row + 4 * (size_t)d);
}

/* Sixteen sums of sixteen lanes each, every one added up as tree() does; sum i goes to lane i. */
static inline __m512 trees(const __m512 *v)
{
    __m512 c[4], e[2];
    for (int l = 0; l < 4; l++) {
        __m512 u = _mm512_add_ps(_mm512_shuffle_f32x4(v[l], v[4 + l], 0x44), _mm512_shuffle_f32x4(v[l], v[4 + l], 0xee));
        __m512 w = _mm512_add_ps(_mm512_shuffle_f32x4(v[8 + l], v[12 + l], 0x44),
                                 _mm512_shuffle_f32x4(v[8 + l], v[12 + l], 0xee));
        c[l] = _mm512_add_ps(_mm512_shuffle_f32x4(u, w, 0x88), _mm512_shuffle_f32x4(u, w, 0xdd));
    }
    for (int k = 0; k < 2; k++)
        e[k] = _mm512_add_ps(_mm512_shuffle_ps(c[2 * k], c[2 * k + 1], 0x44),
                             _mm512_shuffle_ps(c[2 * k], c[2 * k + 1], 0xee));
    return _mm512_add_ps(_mm512_shuffle_ps(e[0], e[1], 0x88), _mm512_shuffle_ps(e[0], e[1], 0xdd));
}

/* Scores of up to 16 entries from i on, for H heads of 16 * N values: N > 0 is a constant, 0 takes head_dim. */
static inline __attribute__((always_inline)) void scores16(const anm_attend *a, int64_t i, int64_t n, int64_t room, int H,
                                                           int N, bool f16)
{
    size_t bytes = (size_t)a->head_dim * (f16 ? 2 : 4);
    __m512 sum[ANM_HEADS_MAX][16], q[16];
    int parts = N ? N : (a->head_dim + 15) / 16, m = n - i < 16 ? (int)(n - i) : 16;
    bool in_registers = N && H * N <= 16;
    for (int k = 0; in_registers && k < H * N; k++) q[k] = _mm512_loadu_ps(a->q[k / N] + k % N * 16);
    for (int j = 0; j < m; j++) {
        const uint8_t *row = entry(a, a->k_cache, a->k_fresh, bytes, i + j);
        if (a->ahead) ask(a, i + j, bytes);
        __m512 s[ANM_HEADS_MAX];
        for (int h = 0; h < H; h++) s[h] = _mm512_setzero_ps();
        for (int k = 0; k < parts; k++) {
            __mmask16 mask = N ? (__mmask16)0xffff : first(a->head_dim - 16 * k);
            __m512 v = part(row, 16 * k, mask, f16);
            for (int h = 0; h < H; h++)
                s[h] = _mm512_fmadd_ps(in_registers ? q[h * N + k] : _mm512_maskz_loadu_ps(mask, a->q[h] + 16 * k), v, s[h]);
        }
        for (int h = 0; h < H; h++) sum[h][j] = s[h];
    }
    for (int h = 0; h < H; h++) {
        for (int j = m; j < 16; j++) sum[h][j] = _mm512_setzero_ps();
        _mm512_storeu_ps(a->scores + h * room + i, _mm512_mul_ps(trees(sum[h]), _mm512_set1_ps(a->scale)));
    }
}

/* Scores to weights that sum to 1 / the result. */
static inline float soften(float *s, int64_t n)
{
    __m512 m = _mm512_set1_ps(-INFINITY), lane = _mm512_setzero_ps();
    for (int64_t i = 0; i < n; i += 16) {
        __mmask16 k = first(n - i);
        m = _mm512_mask_max_ps(m, k, _mm512_maskz_loadu_ps(k, s + i), m);
    }
    __m512 largest = _mm512_set1_ps(_mm512_reduce_max_ps(m));
    for (int64_t i = 0; i < n; i += 16) {
        __mmask16 k = first(n - i);
        __m512 e = _mm512_maskz_mov_ps(k, vexp(_mm512_sub_ps(_mm512_maskz_loadu_ps(k, s + i), largest)));
        _mm512_storeu_ps(s + i, e);
        lane = _mm512_add_ps(lane, e);
    }
    return 1.0f / tree(lane);
}

/* Values from d on, B vectors of 16 of them, weighted and summed up. */
static inline __attribute__((always_inline)) void mix(const anm_attend *a, int32_t d, int64_t n, int64_t room, int H, int B,
                                                      bool f16, const float *inverse)
{
    size_t bytes = (size_t)a->head_dim * (f16 ? 2 : 4);
    __m512 sum[ANM_HEADS_MAX][4];
    __mmask16 last = first(a->head_dim - d - 16 * (B - 1));
    for (int h = 0; h < H; h++)
        for (int k = 0; k < B; k++) sum[h][k] = _mm512_setzero_ps();
    for (int64_t i = 0; i < n; i++) {
        const uint8_t *row = entry(a, a->v_cache, a->v_fresh, bytes, i);
        if (a->ahead) anm_ahead_ask(a->ahead, 1);
        __m512 v[4];
        for (int k = 0; k < B; k++) v[k] = part(row, d + 16 * k, k < B - 1 ? (__mmask16)0xffff : last, f16);
        for (int h = 0; h < H; h++) {
            __m512 p = _mm512_set1_ps(a->scores[h * room + i]);
            for (int k = 0; k < B; k++) sum[h][k] = _mm512_fmadd_ps(p, v[k], sum[h][k]);
        }
    }
    for (int h = 0; h < H; h++)
        for (int k = 0; k < B; k++)
            _mm512_mask_storeu_ps(a->out[h] + d + 16 * k, k < B - 1 ? (__mmask16)0xffff : last,
                                  _mm512_mul_ps(sum[h][k], _mm512_set1_ps(inverse[h])));
}

static inline __attribute__((always_inline)) void attend(const anm_attend *a, int H, bool f16)
{
    int64_t n = a->cached + a->n_fresh, room = (n + 15) & ~(int64_t)15;
    for (int64_t i = 0; i < n; i += 16) {
        if (a->head_dim == 64) scores16(a, i, n, room, H, 4, f16);
        else if (a->head_dim == 128) scores16(a, i, n, room, H, 8, f16);
        else scores16(a, i, n, room, H, 0, f16);
    }
    float inverse[ANM_HEADS_MAX];
    for (int h = 0; h < H; h++) inverse[h] = soften(a->scores + h * room, n);
    int32_t d = 0;
    for (; H <= 4 && d + 64 <= a->head_dim; d += 64) mix(a, d, n, room, H, 4, f16, inverse);
    for (; d < a->head_dim; d += 16) mix(a, d, n, room, H, 1, f16, inverse);
}

void anm_k_attend_avx512(const anm_attend *a)
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
        HEADS(8);
#undef HEADS
    default: attend(a, a->heads, a->f16);
    }
}

void anm_k_silu_mul_avx512(float *out, const float *gate, const float *up, int64_t n)
{
    const __m512 one = _mm512_set1_ps(1.0f), sign = _mm512_set1_ps(-0.0f);
    for (int64_t i = 0; i < n; i += 16) {
        __mmask16 k = first(n - i);
        __m512 g = _mm512_maskz_loadu_ps(k, gate + i);
        __m512 s = _mm512_div_ps(g, _mm512_add_ps(one, vexp(_mm512_xor_ps(g, sign))));
        _mm512_mask_storeu_ps(out + i, k, _mm512_mul_ps(s, _mm512_maskz_loadu_ps(k, up + i)));
    }
}

void anm_k_to_f16_avx512(uint16_t *out, const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i += 16) {
        __mmask16 k = first(n - i);
        __m256i h = _mm512_cvtps_ph(_mm512_maskz_loadu_ps(k, x + i), _MM_FROUND_TO_NEAREST_INT);
        _mm256_mask_storeu_epi16(out + i, k, h);
    }
}

/* ---- the most that can be multiplied ---- */

/* Sixteen rows by sixteen lanes at a time. Pairs of products are below 2^12, so four of them are added as 16 bits. */
void anm_k_peak_avx512(int32_t *sum, const uint8_t *w, const int8_t *x, int64_t times)
{
    const __m512i one = _mm512_set1_epi16(1);
    for (int block = 0; block < 4; block++) {
        const int8_t *a = x + block / 2 * 1024;
        const uint8_t *b = w + block % 2 * 1024;
        int32_t *to = sum + block * 256;
        __m512i acc[16];
        for (int r = 0; r < 16; r++) acc[r] = _mm512_load_si512(to + r * 16);
        for (int64_t t = 0; t < times; t++)
            for (int k = 0; k < 16; k += 4)
                for (int r = 0; r < 16; r++) {
                    __m512i s = _mm512_setzero_si512();
                    for (int n = k; n < k + 4; n++)
                        s = _mm512_add_epi16(s, _mm512_maddubs_epi16(_mm512_load_si512(b + n * 64), anm_512_four(a + r * 64 + n * 4)));
                    acc[r] = _mm512_add_epi32(acc[r], _mm512_madd_epi16(s, one));
                }
        for (int r = 0; r < 16; r++) _mm512_store_si512(to + r * 16, acc[r]);
    }
}
