/* SPDX-License-Identifier: BSD-3-Clause */
/* The kernels for NEON, which every 64-bit Arm processor has: four registers stand for the 16 lanes. */
#include "base/half.h"
#include "kernel/arm/neon.h"
#include "kernel/vexp.h"

#include <string.h>

typedef struct v16 {
    float32x4_t v[4];
} v16;

static inline float tree(v16 s)
{
    float32x4_t a = vaddq_f32(vaddq_f32(s.v[0], s.v[2]), vaddq_f32(s.v[1], s.v[3]));
    float32x2_t b = vadd_f32(vget_low_f32(a), vget_high_f32(a));
    return vget_lane_f32(b, 0) + vget_lane_f32(b, 1);
}

static inline v16 set16(float f)
{
    float32x4_t v = vdupq_n_f32(f);
    return (v16){{v, v, v, v}};
}
static inline v16 load16(const float *p)
{
    return (v16){{vld1q_f32(p), vld1q_f32(p + 4), vld1q_f32(p + 8), vld1q_f32(p + 12)}};
}
static inline v16 half16(const void *p)
{
    float16x8_t a = vreinterpretq_f16_u8(vld1q_u8(p)), b = vreinterpretq_f16_u8(vld1q_u8((const uint8_t *)p + 16));
    return (v16){{vcvt_f32_f16(vget_low_f16(a)), vcvt_high_f32_f16(a), vcvt_f32_f16(vget_low_f16(b)), vcvt_high_f32_f16(b)}};
}
static inline void store16(float *p, v16 s)
{
    for (int i = 0; i < 4; i++) vst1q_f32(p + 4 * i, s.v[i]);
}
static inline v16 fma16(v16 a, v16 b, v16 c)
{
    for (int i = 0; i < 4; i++) c.v[i] = vfmaq_f32(c.v[i], a.v[i], b.v[i]);
    return c;
}
static inline v16 mul16(v16 a, v16 b)
{
    for (int i = 0; i < 4; i++) a.v[i] = vmulq_f32(a.v[i], b.v[i]);
    return a;
}
static inline v16 add16(v16 a, v16 b)
{
    for (int i = 0; i < 4; i++) a.v[i] = vaddq_f32(a.v[i], b.v[i]);
    return a;
}
/* The first min(n, 16) values, zeros behind them. */
static inline v16 some16(const float *p, int64_t n)
{
    if (n >= 16) return load16(p);
    float t[16] = {0};
    memcpy(t, p, (size_t)n * sizeof *t);
    return load16(t);
}
static inline void store_some(float *p, v16 s, int64_t n)
{
    if (n >= 16) {
        store16(p, s);
        return;
    }
    float t[16];
    store16(t, s);
    memcpy(p, t, (size_t)n * sizeof *t);
}

/* The larger of `m` and each magnitude in `s`, lane by lane, by the order of the bits: NaN is above infinity. */
static inline uint32x4_t larger(uint32x4_t m, v16 s)
{
    for (int i = 0; i < 4; i++) m = vmaxq_u32(vreinterpretq_u32_f32(vabsq_f32(s.v[i])), m);
    return m;
}

static inline float largest_of(uint32x4_t v)
{
    return anm_bits_f32(vmaxvq_u32(v));
}

/* ---- quantising ---- */

/* Rounded to the nearest integers; 0 where that is beyond 127, NaN or infinite. */
static inline int32x4_t to_int(float32x4_t x, float inverse)
{
    float32x4_t r = vrndnq_f32(vmulq_n_f32(x, inverse));
    uint32x4_t in = vcaleq_f32(r, vdupq_n_f32(127.0f));
    return vandq_s32(vcvtq_s32_f32(r), vreinterpretq_s32_u32(in));
}

static inline void quantize_group(int8_t *q, float *scale, int32_t *offset, v16 a, v16 b)
{
    static const uint8_t even_odd[16] = {0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15};
    const uint8x16_t order = vld1q_u8(even_odd);
    v16 half[2] = {a, b};
    float largest = largest_of(larger(larger(vdupq_n_u32(0), a), b));
    float inverse = largest > ANM_TINY ? 127.0f / largest : 0;
    int32x4_t sum = vdupq_n_s32(0);
    for (int h = 0; h < 2; h++) {
        int32x4_t k[4];
        for (int i = 0; i < 4; i++) {
            k[i] = to_int(half[h].v[i], inverse);
            sum = vaddq_s32(sum, k[i]);
        }
        int16x8_t lo = vcombine_s16(vmovn_s32(k[0]), vmovn_s32(k[1])), hi = vcombine_s16(vmovn_s32(k[2]), vmovn_s32(k[3]));
        vst1q_s8(q + 16 * h, vqtbl1q_s8(vcombine_s8(vmovn_s16(lo), vmovn_s16(hi)), order));
    }
    *scale = largest * (1.0f / 127.0f);
    *offset = -8 * vaddvq_s32(sum);
}

void anm_k_quantize_neon(int8_t *q, float *scale, int32_t *offset, const float *x, int64_t n)
{
    for (int64_t g = 0; g * ANM_GROUP < n; g++) {
        const float *p = x + g * ANM_GROUP;
        int64_t left = n - g * ANM_GROUP;
        quantize_group(q + g * ANM_GROUP, scale + g, offset + g, some16(p, left), left > 16 ? some16(p + 16, left - 16) : set16(0));
    }
}

void anm_k_quantize_pair_neon(int8_t *q, float *scale, int32_t *offset, int64_t groups, const float *a, const float *b,
                              int32_t rows)
{
    for (int64_t r = 0; r < rows; r++)
        quantize_group(q + r * groups * ANM_GROUP, scale + r * groups, offset + r * groups, some16(a + r * ANM_TILE, ANM_TILE),
                       some16(b + r * ANM_TILE, ANM_TILE));
}

/* ---- 4-bit weights ---- */

/*
 * Products of int8 where there is no instruction for a sum of four: weights are 0 to 15 and activations -127 to 127, so
 * the eight products that meet in a 16-bit lane stay within 15240.
 */
static inline __attribute__((always_inline)) int32x4_t dot32(const int8x16_t w[8], int8x16_t q0, int8x16_t q1,
                                                              int32_t offset)
{
    int16x8_t lo = vdupq_n_s16(0), hi = vdupq_n_s16(0); /* rows 0 and 1, rows 2 and 3 */
#define PART(q, at, lane)                                                                                              \
    do {                                                                                                               \
        int8x16_t four = vreinterpretq_s8_s32(vdupq_laneq_s32(vreinterpretq_s32_s8(q), lane));                         \
        lo = vmlal_s8(lo, vget_low_s8(w[at]), vget_low_s8(four));                                                      \
        hi = vmlal_high_s8(hi, w[at], four);                                                                           \
    } while (0)
    PART(q0, 0, 0);
    PART(q0, 1, 1);
    PART(q0, 2, 2);
    PART(q0, 3, 3);
    PART(q1, 4, 0);
    PART(q1, 5, 1);
    PART(q1, 6, 2);
    PART(q1, 7, 3);
#undef PART
    return vaddq_s32(vpaddq_s32(vpaddlq_s16(lo), vpaddlq_s16(hi)), vdupq_n_s32(offset));
}

void anm_k_q4_q8_neon(float *out, const anm_q4 *w, int64_t tile, const anm_q8 *x, int32_t row, int32_t rows)
{
    anm_neon_q4_q8(out, w, tile, x, row, rows, dot32);
}

/* Half a tile (8 rows) by M activation rows. */
static inline __attribute__((always_inline)) void q4_f32_rows(float *out, const anm_q4 *w, const uint8_t *t, int half,
                                                              const float *x, int64_t stride, int M)
{
    float32x4_t total[4][2], ws[2];
    for (int r = 0; r < M; r++) total[r][0] = total[r][1] = vdupq_n_f32(0);
    for (int64_t g = 0; g < w->groups; g++) {
        const uint8_t *nib = t + anm_q4_nibbles_at(w->scales, g) + 32 * half;
        if (g == 0 || w->scales != ANM_SCALES_ROW)
            for (int k = 0; k < 2; k++) ws[k] = anm_neon_scales(w->scales, t, g, 2 * half + k);
        float32x4_t sum[4][2];
        for (int r = 0; r < M; r++) sum[r][0] = sum[r][1] = vdupq_n_f32(0);
        int64_t left = w->cols - g * ANM_GROUP;
        for (int k = 0; k < ANM_GROUP && k < left; k += 8) {
            uint32x4_t p[2] = {vreinterpretq_u32_u8(vld1q_u8(nib + 8 * k)), vreinterpretq_u32_u8(vld1q_u8(nib + 8 * k + 16))};
            for (int i = 0; i < 8 && k + i < left; i++)
                for (int b = 0; b < 2; b++, p[b - 1] = vshrq_n_u32(p[b - 1], 4)) {
                    int32x4_t n = vsubq_s32(vreinterpretq_s32_u32(vandq_u32(p[b], vdupq_n_u32(15))), vdupq_n_s32(8));
                    float32x4_t v = vmulq_f32(ws[b], vcvtq_f32_s32(n));
                    if (w->round_f16) v = vcvt_f32_f16(vcvt_f16_f32(v));
                    for (int r = 0; r < M; r++)
                        sum[r][b] = vfmaq_n_f32(sum[r][b], v, x[r * stride + g * ANM_GROUP + k + i]);
                }
        }
        for (int r = 0; r < M; r++)
            for (int b = 0; b < 2; b++) total[r][b] = vaddq_f32(total[r][b], sum[r][b]);
    }
    for (int r = 0; r < M; r++)
        for (int b = 0; b < 2; b++) vst1q_f32(out + r * ANM_TILE + 8 * half + 4 * b, total[r][b]);
}

void anm_k_q4_f32_neon(float *out, const anm_q4 *w, int64_t tile, const float *x, int64_t stride, int32_t rows)
{
    const uint8_t *t = w->data + (size_t)tile * w->tile_bytes;
    for (int half = 0; half < 2; half++) {
        int32_t r = 0;
        for (; r + 4 <= rows; r += 4) q4_f32_rows(out + r * ANM_TILE, w, t, half, x + r * stride, stride, 4);
        for (; r < rows; r++) q4_f32_rows(out + r * ANM_TILE, w, t, half, x + r * stride, stride, 1);
    }
}

static inline __attribute__((always_inline)) void wf_f32_rows(float *out, const anm_wf *w, const uint8_t *t,
                                                              const float *x, int64_t stride, int M, bool f16)
{
    v16 total[2];
    for (int r = 0; r < M; r++) total[r] = set16(0);
    for (int64_t g = 0; g < w->cols; g += ANM_GROUP) {
        v16 sum[2];
        for (int r = 0; r < M; r++) sum[r] = set16(0);
        for (int64_t k = g; k < g + ANM_GROUP && k < w->cols; k++) {
            v16 v = f16 ? half16(t + 32 * k) : load16((const float *)(const void *)t + 16 * k);
            for (int r = 0; r < M; r++) sum[r] = fma16(v, set16(x[r * stride + k]), sum[r]);
        }
        for (int r = 0; r < M; r++) total[r] = add16(total[r], sum[r]);
    }
    for (int r = 0; r < M; r++) store16(out + r * ANM_TILE, total[r]);
}

void anm_k_wf_f32_neon(float *out, const anm_wf *w, int64_t tile, const float *x, int64_t stride, int32_t rows)
{
    const uint8_t *t = w->data + (size_t)tile * w->tile_bytes;
    for (; rows > 0; rows -= 2, out += 2 * ANM_TILE, x += 2 * stride) {
        if (rows == 1 && w->f16) wf_f32_rows(out, w, t, x, stride, 1, true);
        else if (rows == 1) wf_f32_rows(out, w, t, x, stride, 1, false);
        else if (w->f16) wf_f32_rows(out, w, t, x, stride, 2, true);
        else wf_f32_rows(out, w, t, x, stride, 2, false);
    }
}

/* ---- the rest ---- */

void anm_k_norm_neon(float *out, const float *x, const anm_norm *p)
{
    v16 lane = set16(0);
    for (int64_t i = 0; i < p->n; i += 16) {
        v16 v = some16(x + i, p->n - i);
        lane = fma16(v, v, lane);
    }
    float s = fmaf(tree(lane), p->sum_scale, p->inner);
    if (p->peak != 0) {
        uint32x4_t m = vdupq_n_u32(0);
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

static inline float32x4_t vexp(float32x4_t x)
{
    float32x4_t c = vminq_f32(vmaxq_f32(x, vdupq_n_f32(ANM_EXP_MIN)), vdupq_n_f32(ANM_EXP_MAX));
    float32x4_t n = vrndnq_f32(vmulq_n_f32(c, ANM_EXP_LOG2E));
    float32x4_t r = vfmsq_f32(vfmsq_f32(c, n, vdupq_n_f32(ANM_EXP_LN2_HI)), n, vdupq_n_f32(ANM_EXP_LN2_LO));
    float32x4_t p = vfmaq_f32(vdupq_n_f32(ANM_EXP_C5), vdupq_n_f32(ANM_EXP_C6), r);
    p = vfmaq_f32(vdupq_n_f32(ANM_EXP_C4), p, r);
    p = vfmaq_f32(vdupq_n_f32(ANM_EXP_C3), p, r);
    p = vfmaq_f32(vdupq_n_f32(ANM_EXP_C2), p, r);
    p = vfmaq_f32(vdupq_n_f32(1.0f), p, r);
    p = vfmaq_f32(vdupq_n_f32(1.0f), p, r);
    int32x4_t k = vcvtq_s32_f32(n), half = vshrq_n_s32(k, 1), bias = vdupq_n_s32(127);
    int32x4_t f1 = vshlq_n_s32(vaddq_s32(half, bias), 23), f2 = vshlq_n_s32(vaddq_s32(vsubq_s32(k, half), bias), 23);
    p = vmulq_f32(vmulq_f32(p, vreinterpretq_f32_s32(f1)), vreinterpretq_f32_s32(f2));
    return vbslq_f32(vceqq_f32(x, x), p, x);
}

static inline const uint8_t *entry(const anm_attend *a, const uint8_t *cache, const uint8_t *fresh, size_t bytes, int64_t i)
{
    return i < a->cached ? cache + (size_t)i * bytes : fresh + (size_t)a->fresh[i - a->cached] * bytes;
}

/* 16 values of a row from d on; zeros beyond the `left` that there are. */
static inline v16 part(const uint8_t *row, int32_t d, int32_t left, bool f16)
{
    if (!f16) return some16((const float *)(const void *)row + d, left);
    if (left >= 16) return half16(row + 2 * d);
    uint16_t t[16] = {0};
    memcpy(t, row + 2 * d, (size_t)left * sizeof *t);
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
        for (int h = 0; h < H; h++) sum[h] = set16(0);
        for (int p = 0; p < parts; p++) {
            int32_t d = 16 * p, left = N ? 16 : a->head_dim - d;
            v16 v = part(k, d, left, f16);
            for (int h = 0; h < H; h++) sum[h] = fma16(some16(a->q[h] + d, left), v, sum[h]);
        }
        for (int h = 0; h < H; h++) a->scores[h * room + i] = tree(sum[h]) * a->scale;
    }
}

/* Scores to weights that sum to 1 / the result. There is room up to a multiple of 16. */
static inline float soften(float *s, int64_t n, int64_t room)
{
    for (int64_t i = n; i < room; i++) s[i] = -INFINITY; /* exp makes zeros of these */
    float32x4_t m = vdupq_n_f32(-INFINITY);
    for (int64_t i = 0; i < room; i += 4) {
        float32x4_t v = vld1q_f32(s + i); /* m where v is NaN */
        m = vbslq_f32(vcgtq_f32(v, m), v, m);
    }
    m = vdupq_n_f32(vmaxvq_f32(m));
    v16 lane = set16(0);
    for (int64_t i = 0; i < room; i += 16) {
        v16 e;
        for (int k = 0; k < 4; k++) e.v[k] = vexp(vsubq_f32(vld1q_f32(s + i + 4 * k), m));
        store16(s + i, e);
        lane = add16(lane, e);
    }
    return 1.0f / tree(lane);
}

/* 16 values from d on, `left` of them there, weighted and summed up. */
static inline __attribute__((always_inline)) void mix(const anm_attend *a, int32_t d, int32_t left, int64_t n, int64_t room,
                                                      int H, bool f16, const float *inverse)
{
    size_t bytes = (size_t)a->head_dim * (f16 ? 2 : 4);
    v16 sum[ANM_HEADS_MAX];
    for (int h = 0; h < H; h++) sum[h] = set16(0);
    for (int64_t i = 0; i < n; i++) {
        v16 v = part(entry(a, a->v_cache, a->v_fresh, bytes, i), d, left, f16);
        for (int h = 0; h < H; h++) sum[h] = fma16(set16(a->scores[h * room + i]), v, sum[h]);
    }
    for (int h = 0; h < H; h++) store_some(a->out[h] + d, mul16(sum[h], set16(inverse[h])), left);
}

static inline __attribute__((always_inline)) void attend(const anm_attend *a, int H, bool f16)
{
    int64_t n = a->cached + a->n_fresh, room = (n + 15) & ~(int64_t)15;
    if (a->head_dim == 64) scores(a, n, room, H, 4, f16);
    else scores(a, n, room, H, 0, f16);
    float inverse[ANM_HEADS_MAX];
    for (int h = 0; h < H; h++) inverse[h] = soften(a->scores + h * room, n, room);
    int32_t d = 0;
    for (; d + 16 <= a->head_dim; d += 16) mix(a, d, 16, n, room, H, f16, inverse);
    if (d < a->head_dim) mix(a, d, a->head_dim - d, n, room, H, f16, inverse);
}

void anm_k_attend_neon(const anm_attend *a)
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

void anm_k_silu_mul_neon(float *out, const float *gate, const float *up, int64_t n)
{
    for (int64_t i = 0; i < n; i += 16) {
        v16 g = some16(gate + i, n - i), u = some16(up + i, n - i);
        for (int k = 0; k < 4; k++) {
            float32x4_t e = vaddq_f32(vdupq_n_f32(1.0f), vexp(vnegq_f32(g.v[k])));
            g.v[k] = vmulq_f32(vdivq_f32(g.v[k], e), u.v[k]);
        }
        store_some(out + i, g, n - i);
    }
}

void anm_k_to_f16_neon(uint16_t *out, const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i += 16) {
        v16 v = some16(x + i, n - i);
        uint16_t t[16];
        for (int k = 0; k < 4; k++) vst1_u16(t + 4 * k, vreinterpret_u16_f16(vcvt_f16_f32(v.v[k])));
        memcpy(out + i, t, (size_t)(n - i < 16 ? n - i : 16) * sizeof *t);
    }
}

/* ---- the most that can be multiplied ---- */

/* A row by four lanes at a time. The 16 products that meet in a 16-bit lane stay within 30480. */
void anm_k_peak_neon(int32_t *sum, const uint8_t *w, const int8_t *x, int64_t times)
{
    for (int part = 0; part < 256; part++) {
        int block = part / 64, row = part / 4 % 16, quarter = part % 4;
        const int8_t *a = x + (block / 2 * 16 + row) * 64, *b = (const int8_t *)w + block % 2 * 1024 + quarter * 16;
        int32_t *to = sum + part * 4;
        int32x4_t acc = vld1q_s32(to);
        for (int64_t t = 0; t < times; t++) {
            int16x8_t lo = vdupq_n_s16(0), hi = vdupq_n_s16(0);
            for (int k = 0; k < 16; k++) {
                int8x16_t v = vld1q_s8(b + k * 64), q = anm_neon_four(a + k * 4);
                lo = vmlal_s8(lo, vget_low_s8(v), vget_low_s8(q));
                hi = vmlal_high_s8(hi, v, q);
            }
            acc = vaddq_s32(acc, vpaddq_s32(vpaddlq_s16(lo), vpaddlq_s16(hi)));
        }
        vst1q_s32(to, acc);
    }
}
