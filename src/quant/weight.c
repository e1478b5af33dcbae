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

/* fp16 that rounding made infinite: the scale of n values each, or the values themselves. */
static int check_range(const float *x, size_t n, const anm_weight *w, int64_t row, size_t each, anm_error *err)
{
    const float most = w->type == ANM_DT_F16 ? 65520 : INFINITY; /* from here on fp16 is infinite */
    bool good = true;
    for (size_t i = 0; i < n; i++) good &= fabsf(x[i]) < most;
    for (size_t i = 0; i < n && !good; i++)
        if (!(fabsf(x[i]) < most))
            return anm_fail(err, ANM_ERR_LIMIT, "%s: tensor '%s' has a value in row %lld that is too large for fp16; --dtype fp32 holds it",
                            w->matrix->part[0]->file, w->matrix->part[0]->name,
                            (long long)row_of_matrix(w, row + (int64_t)(i * each / (size_t)w->matrix->cols)));
    return 0;
}

/* Rows that calibration has made already. */
static void copy_made(int8_t *q, float *scales, const anm_weight *w, int64_t row, int64_t n)
{
    const anm_made *made = w->matrix->made;
    for (int64_t r = 0; r < n; r++) {
        int64_t from = row_of_matrix(w, row + r);
        memcpy(q + r * made->cols, made->q + from * made->cols, (size_t)made->cols);
        memcpy(scales + r * made->groups, made->scale + from * made->groups, (size_t)made->groups * sizeof *scales);
    }
}

int anm_weight_make(uint8_t *data, uint8_t *scale, const anm_weight *w, int64_t row, int64_t n, anm_error *err)
{
    const anm_made *made = w->matrix->made;
    if (made && (!w->bits || made->groups != w->matrix->cols / w->group))
        return anm_fail(err, ANM_ERR_USAGE, "a weight was calibrated for another form than it is written in");
    int64_t cols = w->matrix->cols, few = FEW / cols / ANM_WEIGHT_ROW_STEP * ANM_WEIGHT_ROW_STEP;
    if (few < ANM_WEIGHT_ROW_STEP) few = ANM_WEIGHT_ROW_STEP;
    if (few > n) few = n;
    anm_round_fn *quantise = anm_round_best(w->type == ANM_DT_F16);
    size_t most = (size_t)few * (size_t)cols;
    float *x = malloc(most * sizeof *x), *scales = NULL;
    int8_t *q = NULL;
    int rc = 0;
    if (w->bits) {
        q = malloc(most);
        scales = malloc((size_t)(few * (cols / w->group)) * sizeof *scales);
    }
    if (!x || (w->bits && (!q || !scales))) {
        rc = anm_fail_memory(err, "a weight");
        goto done;
    }
    for (int64_t r = 0; r < n; r += few) {
        int64_t now = n - r < few ? n - r : few;
        size_t count = (size_t)(now * cols);
        /* A scale shows whether all of its values are finite: only values themselves are looked at one by one. */
        if (made) copy_made(q, scales, w, row + r, now);
        else rc = read_rows(x, w, row + r, now, w->bits ? anm_matrix_rows_unchecked : anm_matrix_rows_f32, err);
        if (rc) goto done;
        uint8_t *to = data + anm_weight_offset(w, ANM_WEIGHT_DATA, r);
        if (!w->bits) {
            if ((rc = check_range(x, count, w, row + r, 1, err))) goto done;
            put_floats(to, x, count, w->type);
            continue;
        }
        size_t group = (size_t)w->group, groups = count / group;
        ahead next = look_ahead(w, row + r + now, made ? 0 : n - r - now < few ? n - r - now : few);
        bool finite = true;
        for (size_t g = 0; g < groups && !made; g++) {
            fetch(&next, groups - g);
            scales[g] = quantise(q + g * group, x + g * group, group, w->bits);
            finite &= isfinite(scales[g]) != 0;
        }
        if (!finite && (rc = read_rows(x, w, row + r, now, anm_matrix_rows_f32, err))) goto done;
        if ((rc = check_range(scales, groups, w, row + r, group, err))) goto done;
        put_floats(scale + anm_weight_offset(w, ANM_WEIGHT_SCALE, r), scales, groups, w->type);
        if (w->bits == 4) anm_pack_int4(to, q, count);
        else memcpy(to, q, count);
    }
done:
    free(x);
    free(q);
    free(scales);
    return rc;
}
