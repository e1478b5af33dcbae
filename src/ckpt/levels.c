/* SPDX-License-Identifier: BSD-3-Clause */
/* Blocks of nibbles as levels: what two numbers 32 values share, and which level each value takes. Layouts: values_body.h. */
#include "base/bytes.h"
#include "base/half.h"
#include "ckpt/values.h"

bool anm_tensor_has_levels(const anm_tensor *t)
{
    return t->dtype == ANM_DT_Q4_0 || t->dtype == ANM_DT_Q4_1 || t->dtype == ANM_DT_Q4_K;
}

static float half_at(const uint8_t *p)
{
    return anm_f16_to_f32(anm_ld16(p));
}

/* 16 bytes: low nibbles first, then the high ones. */
static void nibbles(uint8_t *restrict out, const uint8_t *restrict p)
{
    for (int i = 0; i < 16; i++) out[i] = p[i] & 15;
    for (int i = 0; i < 16; i++) out[16 + i] = p[i] >> 4;
}

/* -8 * d is exact, and so is d * (index - 8): their sum is the value as it is defined. */
static void q4_0(anm_levels *out, const uint8_t *p)
{
    out->step = half_at(p);
    out->base = -8 * out->step;
    nibbles(out->index, p + 2);
}

static void q4_1(anm_levels *out, const uint8_t *p)
{
    out->step = half_at(p);
    out->base = half_at(p + 2);
    nibbles(out->index, p + 4);
}

/* Eight runs; the nibbles of two stand in the same 32 bytes. */
static void q4_k(anm_levels *out, const uint8_t *p)
{
    float d = half_at(p), dmin = half_at(p + 2);
    const uint8_t *q = p + 16;
    for (int g = 0; g < 8; g++, out++) {
        unsigned scale, least;
        anm_packed_scale(p + 4, g, &scale, &least);
        out->step = d * (float)scale;
        out->base = -(dmin * (float)least);
        for (int i = 0; i < ANM_LEVEL_RUN; i++) out->index[i] = q[g / 2 * ANM_LEVEL_RUN + i] >> g % 2 * 4 & 15;
    }
}

void anm_tensor_rows_levels(anm_levels *out, const anm_tensor *t, int64_t row, int64_t rows)
{
    size_t block = anm_dtype_block(t->dtype), bytes = anm_dtype_bytes(t->dtype), cols = (size_t)t->shape[t->rank - 1];
    const uint8_t *p = t->data + (size_t)row * cols / block * bytes;
    for (size_t n = (size_t)rows * cols / block; n > 0; n--, p += bytes, out += block / ANM_LEVEL_RUN) {
        if (t->dtype == ANM_DT_Q4_0) q4_0(out, p);
        else if (t->dtype == ANM_DT_Q4_1) q4_1(out, p);
        else q4_k(out, p);
    }
}
