/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Weights: reading them as the file has them, and packing them for the kernels (kernel.h, anm_q4 and anm_wf).
 *
 * 4-bit integers keep their order within 4-byte words, so packing is moving words and flipping each nibble's top bit
 * (two's complement to +8); all cores do it while the file is read in for the first time. Everything else (8-bit
 * integers, plain floats, groups that are no multiple of 32) becomes floats.
 */
#include "base/half.h"
#include "mil/element.h"
#include "plan/internal.h"

#include <stdlib.h>
#include <string.h>

enum { TASK_BYTES = 64 << 10 };

/* ---- reading ---- */

static bool is_float(anm_dtype t)
{
    return t == ANM_DT_F16 || t == ANM_DT_F32 || t == ANM_DT_BF16;
}

static bool is_integer(anm_dtype t)
{
    return t == ANM_DT_I4 || t == ANM_DT_I8;
}

/* Columns that share a scale; 0 when the scales do not divide the matrix. */
static int64_t block_of(const anm_rows_spec *w)
{
    const anm_mil_type *s = &w->scale->type;
    if (s->rank != 2 || s->dim[0] != w->rows || s->dim[1] < 1 || w->cols % s->dim[1]) return 0;
    return w->cols / s->dim[1];
}

bool anm_weight_readable(const anm_rows_spec *w)
{
    const anm_mil_value *d = w->data;
    if (w->rows < 1 || w->cols < 1 || !d->constant || !d->constant->data) return false;
    if (!w->scale) return is_float(d->type.dtype);
    return is_integer(d->type.dtype) && w->scale->constant && w->scale->constant->data &&
           is_float(w->scale->type.dtype) && (w->declared == ANM_DT_F16 || w->declared == ANM_DT_F32) &&
           d->type.rank == 2 && d->type.dim[0] == w->rows && d->type.dim[1] == w->cols && block_of(w) > 0;
}

static float value_at(const anm_rows_spec *w, int64_t row, int64_t col)
{
    const uint8_t *data = w->data->constant->data;
    anm_dtype t = w->data->type.dtype;
    int64_t at = row * w->cols + col;
    if (!w->scale) return anm_mil_float_at(t, data, at);
    int64_t block = block_of(w);
    float s = anm_mil_float_at(w->scale->type.dtype, w->scale->constant->data, row * (w->cols / block) + col / block);
    float v = s * (float)anm_mil_int_at(t, data, at);
    return w->declared == ANM_DT_F16 ? anm_round_f16(v) : v;
}

void anm_weight_row(float *out, const anm_rows_spec *w, int64_t row)
{
    for (int64_t k = 0; k < w->cols; k++) out[k] = value_at(w, row, k);
}

/* ---- packing ---- */

/* Where row `row` of the packed matrix comes from; NULL beyond the last one. */
typedef struct source {
    const anm_rows_spec *w;
    int64_t row;
} source;

static source find(const anm_rows_spec *part, uint32_t n, int64_t row)
{
    for (uint32_t i = 0; i < n; i++) {
        if (row < part[i].rows) return (source){&part[i], row};
        row -= part[i].rows;
    }
    return (source){NULL, 0};
}

/* Row i of tile t. */
static source source_of(const anm_matrix_spec *m, int64_t t, int i)
{
    if (!m->n_up) return find(m->part, m->n_parts, t * ANM_TILE + i);
    int64_t row = t / 2 * ANM_TILE + i;
    return t & 1 ? find(m->up, m->n_up, row) : find(m->part, m->n_parts, row);
}

typedef struct packing {
    const anm_matrix_spec *m;
    anm_packed *p;
    uint32_t per_task;
} packing;

/* A row's 4-byte words into lane `lane` of its tile. */
static void pack_row(uint8_t *tile, const anm_q4 *q, const anm_rows_spec *w, int64_t row, int lane)
{
    const uint8_t *data = w->data->constant->data;
    int64_t whole = w->cols % 8 ? 0 : w->cols / ANM_GROUP; /* groups of whole words at whole bytes */
    for (int64_t g = 0; g < whole; g++) {
        const uint8_t *from = data + row * w->cols / 2 + g * (ANM_GROUP / 2);
        uint8_t *to = tile + anm_q4_nibbles_at(q->scales, g) + lane * 4;
        for (int j = 0; j < 4; j++) {
            uint32_t v;
            memcpy(&v, from + 4 * j, 4);
            v ^= 0x88888888u;
            memcpy(to + 64 * j, &v, 4);
        }
    }
    for (int64_t j = whole * 4; j < q->groups * 4; j++) { /* the ragged end, and zeros behind it */
        uint32_t v = 0;
        for (int64_t k = 0; k < 8; k++) {
            int64_t col = j * 8 + k;
            uint32_t n = col < w->cols ? (uint32_t)(anm_mil_int_at(ANM_DT_I4, data, row * w->cols + col) + 8) : 8;
            v |= n << (4 * k);
        }
        anm_st32(tile + anm_q4_nibbles_at(q->scales, j / 4) + j % 4 * 64 + lane * 4, v);
    }
}

static void pack_q4_tile(const anm_matrix_spec *m, const anm_q4 *q, int64_t t)
{
    uint8_t *tile = q->data + (size_t)t * q->tile_bytes;
    for (int i = 0; i < ANM_TILE; i++) {
        source s = source_of(m, t, i);
        if (!s.w) {
            for (int64_t j = 0; j < q->groups * 4; j++)
                memset(tile + anm_q4_nibbles_at(q->scales, j / 4) + j % 4 * 64 + i * 4, 0x88, 4);
            continue; /* its scales are zero as the memory came */
        }
        pack_row(tile, q, s.w, s.row, i);
        const anm_mil_value *sv = s.w->scale;
        int64_t blocks = sv->type.dim[1], per = block_of(s.w) / ANM_GROUP;
        for (int64_t g = 0; g < (q->scales == ANM_SCALES_ROW ? 1 : q->groups); g++) {
            int64_t at = s.row * blocks + (q->scales == ANM_SCALES_ROW ? 0 : g / per);
            uint8_t *to = tile + anm_q4_scales_at(q->scales, g);
            if (q->scales == ANM_SCALES_GROUP_F16)
                memcpy(to + 2 * i, sv->constant->data + 2 * at, 2);
            else
                anm_stf32(to + 4 * i, anm_mil_float_at(sv->type.dtype, sv->constant->data, at));
        }
    }
}

static void pack_float_tile(const anm_matrix_spec *m, const anm_wf *f, int64_t t)
{
    uint8_t *tile = f->data + (size_t)t * f->tile_bytes;
    for (int i = 0; i < ANM_TILE; i++) {
        source s = source_of(m, t, i);
        if (!s.w) continue;
        for (int64_t k = 0; k < f->cols; k++) {
            float v = value_at(s.w, s.row, k);
            if (f->f16) anm_st16(tile + 2 * (k * ANM_TILE + i), anm_f32_to_f16(v));
            else anm_stf32(tile + 4 * (k * ANM_TILE + i), v);
        }
    }
}

static void pack_some(void *ctx, uint32_t i, unsigned thread)
{
    (void)thread;
    const packing *k = ctx;
    int64_t tiles = k->p->is_q4 ? k->p->q4.tiles : k->p->wf.tiles;
    int64_t end = ((int64_t)i + 1) * k->per_task < tiles ? ((int64_t)i + 1) * k->per_task : tiles;
    for (int64_t t = (int64_t)i * k->per_task; t < end; t++)
        if (k->p->is_q4) pack_q4_tile(k->m, &k->p->q4, t);
        else pack_float_tile(k->m, &k->p->wf, t);
}

/* All weights of a matrix as 4-bit integers of one kind of scale? */
static bool fits_q4(const anm_matrix_spec *m, anm_scales *scales, bool *round)
{
    for (uint32_t i = 0; i < m->n_parts + m->n_up; i++) {
        const anm_rows_spec *w = i < m->n_parts ? &m->part[i] : &m->up[i - m->n_parts];
        if (!w->scale || w->data->type.dtype != ANM_DT_I4) return false;
        int64_t block = block_of(w);
        anm_dtype t = w->scale->type.dtype;
        if (block != w->cols && block % ANM_GROUP) return false;
        anm_scales kind = block == w->cols ? ANM_SCALES_ROW
                          : t == ANM_DT_F16 ? ANM_SCALES_GROUP_F16
                                            : ANM_SCALES_GROUP_F32;
        bool r = w->declared == ANM_DT_F16;
        if (i && (kind != *scales || r != *round)) return false;
        *scales = kind;
        *round = r;
    }
    return true;
}

bool anm_pack_layout(anm_packed *out, const anm_matrix_spec *m)
{
    memset(out, 0, sizeof *out);
    anm_scales scales = ANM_SCALES_ROW;
    bool round = false, f16 = true;
    int64_t tiles = (m->rows + ANM_TILE - 1) / ANM_TILE * (m->n_up ? 2 : 1);
    out->is_q4 = fits_q4(m, &scales, &round);
    if (!out->is_q4) {
        for (uint32_t i = 0; i < m->n_parts + m->n_up; i++)
            f16 &= (i < m->n_parts ? m->part[i] : m->up[i - m->n_parts]).declared == ANM_DT_F16;
        anm_wf *f = &out->wf;
        *f = (anm_wf){.rows = m->rows, .cols = m->cols, .tiles = tiles, .f16 = f16};
        return anm_mul_size((size_t)m->cols * ANM_TILE, f16 ? 2 : 4, &f->tile_bytes) &&
               anm_mul_size(f->tile_bytes, (size_t)tiles, &out->size);
    }
    anm_q4 *q = &out->q4;
    *q = (anm_q4){.rows = m->rows,
                  .cols = m->cols,
                  .tiles = tiles,
                  .groups = (m->cols + ANM_GROUP - 1) / ANM_GROUP,
                  .scales = scales,
                  .round_f16 = round};
    q->tile_bytes = anm_q4_tile_bytes(scales, q->groups);
    return anm_mul_size(q->tile_bytes, (size_t)tiles, &out->size);
}

void anm_pack(anm_packed *p, const anm_matrix_spec *m, uint8_t *memory, anm_pool *pool)
{
    int64_t tiles = p->is_q4 ? p->q4.tiles : p->wf.tiles;
    size_t tile_bytes = p->is_q4 ? p->q4.tile_bytes : p->wf.tile_bytes;
    p->q4.data = p->is_q4 ? memory : NULL;
    p->wf.data = p->is_q4 ? NULL : memory;
    packing k = {m, p, (uint32_t)(1 + TASK_BYTES / tile_bytes)};
    anm_pool_run(pool, pack_some, &k, (uint32_t)((tiles + k.per_task - 1) / k.per_task));
}
