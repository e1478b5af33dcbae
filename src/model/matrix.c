/* SPDX-License-Identifier: BSD-3-Clause */
#include "base/bytes.h"
#include "base/half.h"
#include "model/model.h"

/* Rows of a part of a weight. A NaN or an infinity in it would spread over everything that is computed from it, and through
 * a scale over its whole row: it is refused by name. */
static int finite_rows(float *out, const anm_tensor *t, int64_t row, int64_t rows, anm_error *err)
{
    int rc = anm_tensor_rows_f32(out, t, row, rows, err);
    if (rc) return rc;
    int64_t cols = t->shape[t->rank - 1], n = rows * cols;
    uint32_t carry = 0; /* an exponent of all ones and one more reaches the sign: any vector unit can do that */
    for (int64_t i = 0; i < n; i++) carry |= (anm_f32_bits(out[i]) & 0x7fffffffu) + 0x00800000u;
    if (!(carry >> 31)) return 0;
    for (int64_t i = 0; i < n; i++) {
        uint32_t u = anm_f32_bits(out[i]) & 0x7fffffffu;
        if (u < 0x7f800000u) continue;
        const char *what = u > 0x7f800000u ? "NaN" : "infinite";
        if (t->rank == 1) return anm_fail(err, ANM_ERR_FORMAT, "%s: tensor '%s' is %s at [%lld]", t->file, t->name, what, (long long)i);
        return anm_fail(err, ANM_ERR_FORMAT, "%s: tensor '%s' is %s at [%lld, %lld]", t->file, t->name, what, (long long)(row + i / cols),
                        (long long)(i % cols));
    }
    return 0;
}

typedef int rows_fn(float *out, const anm_tensor *t, int64_t row, int64_t rows, anm_error *err);

/* Row `row` in the order of the parts. */
static int read_row(float *out, const anm_matrix *m, int64_t row, rows_fn *part_rows, anm_error *err)
{
    if (m->split_dim == 0) {
        int64_t each = m->rows / m->n_parts;
        return part_rows(out, m->part[row / each], row % each, 1, err);
    }
    int64_t each = m->cols / m->n_parts;
    int rc = 0;
    for (int k = 0; !rc && k < m->n_parts; k++)
        rc = part_rows(out + k * each, m->part[k], row, 1, err);
    return rc;
}

/*
 * Hugging Face stores each head's rows as two halves, [a0 a1 … b0 b1 …]; the interleaved order is a0 b0 a1 b1
 * …, so that pairs (2i, 2i + 1) rotate together. This gives where row `row` of the latter lies in the former.
 */
static int64_t row_in_halves(int64_t row, int64_t head_dim)
{
    int64_t in = row % head_dim;
    return row - in + in % 2 * (head_dim / 2) + in / 2;
}

/* A vector of heads in halves (a bias, a norm of heads): each head is read as a matrix of pairs, whose two
 * columns are the halves. */
static int read_halved_vector(float *out, const anm_matrix *m, rows_fn *part_rows, anm_error *err)
{
    int64_t head_dim = m->cols / m->unpermute_heads, half = head_dim / 2, each = m->cols / m->n_parts; /* whole heads */
    int rc = 0;
    for (int k = 0; !rc && k < m->n_parts; k++) rc = part_rows(out + k * each, m->part[k], 0, 1, err); /* for what it says of them as they lie there */
    for (int64_t h = 0; !rc && h < m->unpermute_heads; h++) {
        const anm_tensor *t = m->part[h * head_dim / each];
        const int64_t step = t->stride[0];
        anm_tensor pairs = *t;
        pairs.rank = 2;
        pairs.shape[0] = half;
        pairs.shape[1] = 2;
        pairs.stride[0] = step;
        pairs.stride[1] = half * step;
        pairs.data = t->data + (size_t)(h * head_dim % each * step) * anm_dtype_bytes(t->dtype);
        rc = anm_tensor_rows_f32(out + h * head_dim, &pairs, 0, half, err);
    }
    return rc;
}

void anm_made_row(float *out, const anm_made *m, int64_t row)
{
    const int8_t *q = m->q + row * m->cols;
    int64_t group = m->cols / m->groups;
    for (int64_t c = 0; c < m->cols; c++) {
        float v = m->scale[row * m->groups + c / group] * (float)q[c];
        out[c] = m->fp16 ? anm_round_f16(v) : v;
    }
}

static int read_rows(float *out, const anm_matrix *m, int64_t row, int64_t rows, rows_fn *part_rows, anm_error *err)
{
    if (row < 0 || rows < 0 || row > m->rows || rows > m->rows - row)
        return anm_fail(err, ANM_ERR_USAGE, "rows %lld to %lld of a weight that has %lld", (long long)row,
                        (long long)(row + rows), (long long)m->rows);
    if (!rows) return 0;
    if (m->made) {
        for (int64_t r = 0; r < rows; r++) anm_made_row(out + r * m->cols, m->made, row + r);
        return 0;
    }
    bool vector = m->part[0]->rank == 1;
    if (m->unpermute_heads && vector) return read_halved_vector(out, m, part_rows, err);
    if (!m->unpermute_heads && m->n_parts == 1) return part_rows(out, m->part[0], row, rows, err);

    int64_t head_dim = m->unpermute_heads ? m->rows / m->unpermute_heads : 0;
    int rc = 0;
    for (int64_t r = row; !rc && r < row + rows; r++, out += m->cols)
        rc = read_row(out, m, head_dim ? row_in_halves(r, head_dim) : r, part_rows, err);
    return rc;
}

int anm_matrix_rows_f32(float *out, const anm_matrix *m, int64_t row, int64_t rows, anm_error *err)
{
    return read_rows(out, m, row, rows, finite_rows, err);
}

int anm_matrix_rows_unchecked(float *out, const anm_matrix *m, int64_t row, int64_t rows, anm_error *err)
{
    return read_rows(out, m, row, rows, anm_tensor_rows_f32, err);
}

const anm_tensor *anm_matrix_tensor(const anm_matrix *m)
{
    return m->n_parts == 1 && !m->unpermute_heads && m->part[0]->rank == 2 ? m->part[0] : NULL;
}

const uint8_t *anm_matrix_bytes(const anm_matrix *m, int64_t row, int64_t rows, size_t *n)
{
    const anm_tensor *t = anm_matrix_tensor(m);
    if (!t || t->stride[1] != 1 || t->stride[0] != m->cols) return NULL;
    if (row < 0 || rows < 0 || row > m->rows || rows > m->rows - row) return NULL;
    size_t block = anm_dtype_block(t->dtype), bytes = anm_dtype_bytes(t->dtype), cols = (size_t)m->cols;
    *n = (size_t)rows * cols / block * bytes;
    return t->data + (size_t)row * cols / block * bytes;
}
