/* SPDX-License-Identifier: BSD-3-Clause */
/* The kernels in plain C: what the vector forms are held against, and what runs where there are none. */
#include "base/bytes.h"
#include "base/half.h"
#include "kernel/kernels.h"
#include "kernel/vexp.h"

#include <string.h>

/* Sixteen partial sums, added up as the vector forms do: halves onto halves. */
static float tree(const float lane[16])
{
    float t[8];
    for (int i = 0; i < 8; i++) t[i] = lane[i] + lane[i + 8];
    for (int i = 0; i < 4; i++) t[i] += t[i + 4];
    return (t[0] + t[2]) + (t[1] + t[3]);
}

/* The largest magnitude, by the order of the bits: NaN is above infinity, and infinity above the rest. */
static float largest_of(const float *x, int64_t n)
{
    uint32_t most = 0;
    for (int64_t i = 0; i < n; i++) {
        uint32_t bits = anm_f32_bits(x[i]) & INT32_MAX;
        most = bits > most ? bits : most;
    }
    return anm_bits_f32(most);
}

/* A group that holds NaN or infinity has such a scale, and gives no numbers: an overflow is not hidden. */
static void quantize_group(int8_t *q, float *scale, int32_t *offset, const float v[ANM_GROUP])
{
    float largest = largest_of(v, ANM_GROUP), inverse = largest > ANM_TINY ? 127.0f / largest : 0;
    int32_t sum = 0;
    for (int i = 0; i < ANM_GROUP; i++) {
        float f = nearbyintf(v[i] * inverse);
        int32_t k = fabsf(f) <= 127 ? (int32_t)f : 0; /* NaN and infinity become 0 */
        q[(i & ~7) + (i & 1) * 4 + (i >> 1 & 3)] = (int8_t)k;
        sum += k;
    }
    *scale = largest * (1.0f / 127.0f);
    *offset = -8 * sum;
}

void anm_k_quantize_plain(int8_t *q, float *scale, int32_t *offset, const float *x, int64_t n)
{
    for (int64_t g = 0; g * ANM_GROUP < n; g++) {
        float v[ANM_GROUP] = {0};
        int64_t have = n - g * ANM_GROUP < ANM_GROUP ? n - g * ANM_GROUP : ANM_GROUP;
        memcpy(v, x + g * ANM_GROUP, (size_t)have * sizeof *v);
        quantize_group(q + g * ANM_GROUP, scale + g, offset + g, v);
    }
}

void anm_k_quantize_pair_plain(int8_t *q, float *scale, int32_t *offset, int64_t groups, const float *a, const float *b,
                               int32_t rows)
{
    for (int64_t r = 0; r < rows; r++) {
        float v[ANM_GROUP];
        memcpy(v, a + r * ANM_TILE, ANM_TILE * sizeof *v);
        memcpy(v + ANM_TILE, b + r * ANM_TILE, ANM_TILE * sizeof *v);
        quantize_group(q + r * groups * ANM_GROUP, scale + r * groups, offset + r * groups, v);
    }
}

/* The weight scale of a row in a group. */
static float scale_at(const anm_q4 *w, const uint8_t *tile, int64_t group, int row)
{
    const uint8_t *s = tile + anm_q4_scales_at(w->scales, group);
    return w->scales == ANM_SCALES_GROUP_F16 ? anm_f16_to_f32(anm_ld16(s + 2 * row)) : anm_ldf32(s + 4 * row);
}

/* The 16 rows of a tile go side by side in the innermost loops, as lanes do: compilers make vectors of that. */

void anm_k_q4_q8_plain(float *out, const anm_q4 *w, int64_t tile, const anm_q8 *x, int32_t row, int32_t rows)
{
    const uint8_t *t = w->data + (size_t)tile * w->tile_bytes;
    for (int32_t r = 0; r < rows; r++, out += ANM_TILE) {
        for (int i = 0; i < ANM_TILE; i++) out[i] = 0;
        for (int64_t g = 0; g < w->groups; g++) {
            const uint8_t *p = t + anm_q4_nibbles_at(w->scales, g);
            const int8_t *q = x->q + ((row + r) * x->groups + g) * ANM_GROUP;
            int32_t dot[ANM_TILE];
            for (int i = 0; i < ANM_TILE; i++) dot[i] = x->offset[(row + r) * x->groups + g];
            for (int j = 0; j < 4; j++, p += 64, q += 8)
                for (int i = 0; i < ANM_TILE; i++)
                    for (int k = 0; k < 4; k++) dot[i] += (p[4 * i + k] & 15) * q[k] + (p[4 * i + k] >> 4) * q[k + 4];
            float scale = x->scale[(row + r) * x->groups + g];
            for (int i = 0; i < ANM_TILE; i++) {
                float s = w->scales == ANM_SCALES_ROW ? scale : scale * scale_at(w, t, g, i);
                out[i] = fmaf((float)dot[i], s, out[i]);
            }
        }
        for (int i = 0; w->scales == ANM_SCALES_ROW && i < ANM_TILE; i++) out[i] *= scale_at(w, t, 0, i);
    }
}

/* The weights of a group: [input][row]. */
static void unpack(float v[ANM_GROUP][ANM_TILE], const anm_q4 *w, const uint8_t *tile, int64_t g)
{
    const uint8_t *p = tile + anm_q4_nibbles_at(w->scales, g);
    float scale[ANM_TILE];
    for (int i = 0; i < ANM_TILE; i++) scale[i] = scale_at(w, tile, g, i);
    for (int k = 0; k < ANM_GROUP; k++)
        for (int i = 0; i < ANM_TILE; i++) {
            uint8_t b = p[k / 8 * 64 + i * 4 + k % 8 / 2];
            v[k][i] = scale[i] * (float)((k & 1 ? b >> 4 : b & 15) - 8);
            if (w->round_f16) v[k][i] = anm_round_f16(v[k][i]);
        }
}

void anm_k_q4_f32_plain(float *out, const anm_q4 *w, int64_t tile, const float *x, int64_t stride, int32_t rows)
{
    const uint8_t *t = w->data + (size_t)tile * w->tile_bytes;
    for (int i = 0; i < rows * ANM_TILE; i++) out[i] = 0;
    for (int64_t g = 0; g < w->groups; g++) {
        float v[ANM_GROUP][ANM_TILE];
        unpack(v, w, t, g);
        for (int32_t r = 0; r < rows; r++) {
            float sum[ANM_TILE] = {0};
            for (int k = 0; k < ANM_GROUP && g * ANM_GROUP + k < w->cols; k++)
                for (int i = 0; i < ANM_TILE; i++) sum[i] = fmaf(v[k][i], x[r * stride + g * ANM_GROUP + k], sum[i]);
            for (int i = 0; i < ANM_TILE; i++) out[r * ANM_TILE + i] += sum[i];
        }
    }
}

void anm_k_wf_f32_plain(float *out, const anm_wf *w, int64_t tile, const float *x, int64_t stride, int32_t rows)
{
    const uint8_t *t = w->data + (size_t)tile * w->tile_bytes;
    for (int i = 0; i < rows * ANM_TILE; i++) out[i] = 0;
    for (int64_t g = 0; g < w->cols; g += ANM_GROUP) {
        int n = w->cols - g < ANM_GROUP ? (int)(w->cols - g) : ANM_GROUP;
        float v[ANM_GROUP][ANM_TILE];
        for (int k = 0; k < n; k++)
            for (int i = 0; i < ANM_TILE; i++)
                v[k][i] = w->f16 ? anm_f16_to_f32(anm_ld16(t + 2 * ((g + k) * ANM_TILE + i)))
                                 : anm_ldf32(t + 4 * ((g + k) * ANM_TILE + i));
        for (int32_t r = 0; r < rows; r++) {
            float sum[ANM_TILE] = {0};
            for (int k = 0; k < n; k++)
                for (int i = 0; i < ANM_TILE; i++) sum[i] = fmaf(v[k][i], x[r * stride + g + k], sum[i]);
            for (int i = 0; i < ANM_TILE; i++) out[r * ANM_TILE + i] += sum[i];
        }
    }
}

void anm_k_norm_plain(float *out, const float *x, const anm_norm *p)
{
    float lane[16] = {0};
    for (int64_t i = 0; i < p->n; i++) lane[i & 15] = fmaf(x[i], x[i], lane[i & 15]);
    float s = fmaf(tree(lane), p->sum_scale, p->inner);
    if (p->peak != 0) {
        float largest = largest_of(x, p->n);
        s = fmaf(largest * largest, p->peak, s);
    }
    if (s < p->floor) s = p->floor;
    float f = p->mul / (sqrtf(s) + p->outer);
    for (int64_t i = 0; i < p->n; i++) out[i] = p->weight ? x[i] * f * p->weight[i] : x[i] * f;
}

static float element(const uint8_t *row, int64_t i, bool f16)
{
    return f16 ? anm_f16_to_f32(anm_ld16(row + 2 * i)) : anm_ldf32(row + 4 * i);
}

/* The i-th visible entry. */
static const uint8_t *entry(const anm_attend *a, const uint8_t *cache, const uint8_t *fresh, int64_t i)
{
    size_t bytes = (size_t)a->head_dim * (a->f16 ? 2 : 4);
    return i < a->cached ? cache + (size_t)i * bytes : fresh + (size_t)a->fresh[i - a->cached] * bytes;
}

void anm_k_attend_plain(const anm_attend *a)
{
    int64_t n = a->cached + a->n_fresh;
    for (int32_t h = 0; h < a->heads; h++) {
        float *s = a->scores, largest = -INFINITY, lane[16] = {0};
        for (int64_t i = 0; i < n; i++) {
            const uint8_t *k = entry(a, a->k_cache, a->k_fresh, i);
            float part[16] = {0};
            for (int32_t d = 0; d < a->head_dim; d++)
                part[d & 15] = fmaf(a->q[h][d], element(k, d, a->f16), part[d & 15]);
            s[i] = tree(part) * a->scale;
            if (s[i] > largest) largest = s[i];
        }
        for (int64_t i = 0; i < n; i++) {
            s[i] = anm_exp(s[i] - largest);
            lane[i & 15] += s[i];
        }
        float inverse = 1.0f / tree(lane);
        for (int32_t d = 0; d < a->head_dim; d++) {
            float sum = 0;
            for (int64_t i = 0; i < n; i++)
                sum = fmaf(s[i], element(entry(a, a->v_cache, a->v_fresh, i), d, a->f16), sum);
            a->out[h][d] = sum * inverse;
        }
    }
}

void anm_k_silu_mul_plain(float *out, const float *gate, const float *up, int64_t n)
{
    for (int64_t i = 0; i < n; i++) out[i] = gate[i] / (1.0f + anm_exp(-gate[i])) * up[i];
}

void anm_k_to_f16_plain(uint16_t *out, const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++) out[i] = anm_f32_to_f16(x[i]);
}

/* ---- the most that can be multiplied ---- */

void anm_k_peak_plain(int32_t *sum, const uint8_t *w, const int8_t *x, int64_t times)
{
    for (int64_t t = 0; t < times; t++)
        for (int block = 0; block < 4; block++)
            for (int row = 0; row < 16; row++)
                for (int lane = 0; lane < 16; lane++) {
                    const int8_t *a = x + (block / 2 * 16 + row) * 64;
                    const uint8_t *b = w + block % 2 * 1024 + lane * 4;
                    int32_t *to = sum + (block * 16 + row) * 16 + lane, s = 0;
                    for (int k = 0; k < 64; k++) s += a[k] * b[k / 4 * 64 + k % 4];
                    *to = (int32_t)((uint32_t)*to + (uint32_t)s);
                }
}
