/* SPDX-License-Identifier: BSD-3-Clause */
#include "quant/quant.h"
#include "base/bytes.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { FEW = 4096 }; /* values at a time: they stay in the first-level cache */

uint64_t anm_weight_offset(const anm_weight *w, anm_weight_part part, int64_t row)
{
    uint64_t n = (uint64_t)row, cols = (uint64_t)w->matrix->cols, width = anm_dtype_bytes(w->type);
    if (part == ANM_WEIGHT_SCALE) return w->bits ? n * (cols / (uint64_t)w->group) * width : 0;
    return w->bits == 4 ? (n * cols + 1) / 2 : w->bits == 8 ? n * cols : n * cols * width;
}

uint64_t anm_weight_size(const anm_weight *w, anm_weight_part part)
{
    return anm_weight_offset(w, part, w->rows);
}

static void put_floats(uint8_t *out, const float *x, size_t n, anm_dtype type)
{
    if (type == ANM_DT_F16) anm_floats_to_f16(out, x, n);
    else
        for (size_t i = 0; i < n; i++) anm_stf32(out + 4 * i, x[i]);
}

/* Row `row` of heads of `d` rows whose even rows stand before the odd ones, in the order of the matrix. */
static int64_t row_in_pairs(int64_t row, int64_t d)
{
    int64_t in = row % d, half = d / 2;
    return row - in + (in < half ? 2 * in : 2 * (in - half) + 1);
}

static int64_t row_of_matrix(const anm_weight *w, int64_t row)
{
    return w->halves ? row_in_pairs(w->row + row, w->halves) : w->row + row;
}

typedef int rows_fn(float *out, const anm_matrix *m, int64_t row, int64_t rows, anm_error *err);

static int read_rows(float *x, const anm_weight *w, int64_t row, int64_t n, rows_fn *read, anm_error *err)
{
    if (!w->halves) return read(x, w->matrix, w->row + row, n, err);
    int rc = 0;
    for (int64_t r = 0; r < n && !rc; r++, x += w->matrix->cols)
        rc = read(x, w->matrix, row_of_matrix(w, row + r), 1, err);
    return rc;
}

/* The bytes that the next step will read. They are asked for while this one computes, a little with each scale: memory would
 * stand idle otherwise, and no processor looks ahead over the end of a page. */
typedef struct ahead {
    const uint8_t *p;
    size_t n;
} ahead;

static ahead look_ahead(const anm_weight *w, int64_t row, int64_t n)
{
    ahead a = {0};
    if (!w->halves && n > 0) a.p = anm_matrix_bytes(w->matrix, w->row + row, n, &a.n);
    return a;
}

/* Asks for a part in so many of what is left. */
static void fetch(ahead *a, size_t parts)
{
    enum { LINE = 64 };
    if (!a->p) return;
    size_t n = a->n / parts;
    for (size_t i = 0; i < n; i += LINE) __builtin_prefetch(a->p + i);
    a->p += n;
    a->n -= n;
}

static const float FP16_END = 65520; /* from here on fp16 is infinite */

/* fp16 that rounding made infinite: the scale of n values each, or the values themselves. */
static int check_range(const float *x, size_t n, const anm_weight *w, int64_t row, size_t each, anm_error *err)
{
    const float most = w->type == ANM_DT_F16 ? FP16_END : INFINITY;
    bool good = true;
    for (size_t i = 0; i < n; i++) good &= fabsf(x[i]) < most;
    for (size_t i = 0; i < n && !good; i++)
        if (!(fabsf(x[i]) < most))
            return anm_fail(err, ANM_ERR_LIMIT, "%s: tensor '%s' has a value in row %lld that is too large for fp16; --dtype fp32 holds it",
                            w->matrix->part[0]->file, w->matrix->part[0]->name,
                            (long long)row_of_matrix(w, row + (int64_t)(i * each / (size_t)w->matrix->cols)));
    return 0;
}

/* Whether fp16 holds all values of a group. */
static bool fp16_holds(const int8_t *q, int64_t group, float scale)
{
    int most = 0;
    if (fabsf(scale) * 128 < FP16_END) return true;
    for (int64_t i = 0; i < group; i++) most = abs(q[i]) > most ? abs(q[i]) : most;
    return fabsf(scale) * (float)most < FP16_END;
}

/* Rows that calibration has made already; a group whose values are too large for fp16 has a scale that is. */
static void copy_made(int8_t *q, float *scales, const anm_weight *w, int64_t row, int64_t n)
{
    const anm_made *made = w->matrix->made;
    const int64_t groups = made->groups;
    for (int64_t r = 0; r < n; r++) {
        int64_t from = row_of_matrix(w, row + r);
        memcpy(q + r * made->cols, made->q + from * made->cols, (size_t)made->cols);
        memcpy(scales + r * groups, made->scale + from * groups, (size_t)groups * sizeof *scales);
        for (int64_t g = 0; g < groups && w->type == ANM_DT_F16; g++)
            if (!fp16_holds(q + r * made->cols + g * w->group, w->group, scales[r * groups + g])) scales[r * groups + g] = INFINITY;
    }
}

/* What a few rows pass through on their way. */
typedef struct room {
    float *x;           /* their values … */
    anm_levels *levels; /* … or levels, where the tensor has them: a quarter of the bytes, and half of the arithmetic */
    int8_t *q;
    float *scale;
} room;

/* The tensor whose levels can be rounded in place of its values. */
static const anm_tensor *leveled(const anm_weight *w)
{
    const anm_tensor *t = anm_matrix_tensor(w->matrix);
    return w->bits && t && anm_tensor_has_levels(t) && w->group % ANM_LEVEL_RUN == 0 ? t : NULL;
}

static bool take_room(room *m, const anm_weight *w, size_t rows)
{
    size_t n = rows * (size_t)w->matrix->cols;
    m->x = malloc(n * sizeof *m->x);
    if (!w->bits) return m->x;
    m->q = malloc(n);
    m->scale = malloc(n / (size_t)w->group * sizeof *m->scale);
    if (leveled(w) && !(m->levels = malloc(n / ANM_LEVEL_RUN * sizeof *m->levels))) return false;
    return m->x && m->q && m->scale;
}

static void give_room(room *m)
{
    free(m->x);
    free(m->levels);
    free(m->q);
    free(m->scale);
}

static int read_few(room *m, const anm_weight *w, int64_t row, int64_t n, anm_error *err)
{
    if (!m->levels) return read_rows(m->x, w, row, n, anm_matrix_rows_unchecked, err);
    size_t each = (size_t)w->matrix->cols / ANM_LEVEL_RUN;
    if (!w->halves) anm_tensor_rows_levels(m->levels, leveled(w), w->row + row, n);
    else
        for (int64_t r = 0; r < n; r++) anm_tensor_rows_levels(m->levels + (size_t)r * each, leveled(w), row_of_matrix(w, row + r), 1);
    return 0;
}

/* Integers and scales of rows [row, row + n), while the `more` rows behind them are fetched. */
static int round_rows(room *m, const anm_weight *w, int64_t row, int64_t n, int64_t more, anm_error *err)
{
    const bool fp16 = w->type == ANM_DT_F16;
    const size_t group = (size_t)w->group, groups = (size_t)(n * w->matrix->cols) / group;
    anm_round_fn *quantise = anm_round_best(fp16);
    anm_round_levels_fn *quantise_levels = anm_round_levels_best(fp16);
    int rc = read_few(m, w, row, n, err);
    if (rc) return rc;
    ahead next = look_ahead(w, row + n, more);
    bool finite = true;
    for (size_t g = 0; g < groups; g++) {
        fetch(&next, groups - g);
        int8_t *q = m->q + g * group;
        if (m->levels) m->scale[g] = quantise_levels(q, m->levels + g * group / ANM_LEVEL_RUN, group / ANM_LEVEL_RUN, w->bits);
        else m->scale[g] = quantise(q, m->x + g * group, group, w->bits);
        finite &= isfinite(m->scale[g]) != 0;
    }
    /* A scale shows whether all of its values are finite; where one is not, the value is found and named. */
    return finite ? 0 : read_rows(m->x, w, row, n, anm_matrix_rows_f32, err);
}

int anm_weight_make(uint8_t *data, uint8_t *scale, const anm_weight *w, int64_t row, int64_t n, anm_error *err)
{
    const anm_made *made = w->matrix->made;
    if (made && (!w->bits || made->groups != w->matrix->cols / w->group))
        return anm_fail(err, ANM_ERR_USAGE, "a weight was calibrated for another form than it is written in");
    int64_t cols = w->matrix->cols, few = FEW / cols / ANM_WEIGHT_ROW_STEP * ANM_WEIGHT_ROW_STEP;
    if (few < ANM_WEIGHT_ROW_STEP) few = ANM_WEIGHT_ROW_STEP;
    if (few > n) few = n;
    room m = {0};
    int rc = take_room(&m, w, (size_t)few) ? 0 : anm_fail_memory(err, "a weight");
    for (int64_t r = 0, now; r < n && !rc; r += now) {
        now = n - r < few ? n - r : few;
        size_t count = (size_t)(now * cols);
        uint8_t *to = data + anm_weight_offset(w, ANM_WEIGHT_DATA, r);
        if (!w->bits) {
            rc = read_rows(m.x, w, row + r, now, anm_matrix_rows_f32, err);
            if (!rc) rc = check_range(m.x, count, w, row + r, 1, err);
            if (!rc) put_floats(to, m.x, count, w->type);
            continue;
        }
        size_t group = (size_t)w->group, groups = count / group;
        if (made) copy_made(m.q, m.scale, w, row + r, now);
        else rc = round_rows(&m, w, row + r, now, n - r - now < few ? n - r - now : few, err);
        if (!rc) rc = check_range(m.scale, groups, w, row + r, group, err);
        if (rc) break;
        put_floats(scale + anm_weight_offset(w, ANM_WEIGHT_SCALE, r), m.scale, groups, w->type);
        if (w->bits == 4) anm_pack_int4(to, m.q, count);
        else memcpy(to, m.q, count);
    }
    give_room(&m);
    return rc;
}
