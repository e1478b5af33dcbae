/* SPDX-License-Identifier: BSD-3-Clause */
#include "calib/rotate.h"
#include "calib/random.h"
#include "dense/dense.h"

#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* A random orthogonal matrix: Gram-Schmidt, twice for accuracy, on rows of normal numbers. */
static bool orthogonal(float *out, size_t m, uint64_t *seed)
{
    double *a = malloc(m * m * sizeof *a);
    if (!a) return false;
    for (size_t i = 0; i < m * m; i++) a[i] = anm_random_normal(seed);
    for (size_t i = 0; i < m; i++) {
        double *r = a + i * m;
        for (int twice = 0; twice < 2; twice++) {
            for (size_t j = 0; j < i; j++) {
                double dot = 0;
                for (size_t c = 0; c < m; c++) dot += r[c] * a[j * m + c];
                for (size_t c = 0; c < m; c++) r[c] -= dot * a[j * m + c];
            }
            double len = 0;
            for (size_t c = 0; c < m; c++) len += r[c] * r[c];
            len = 1 / sqrt(len);
            for (size_t c = 0; c < m; c++) r[c] *= len;
        }
    }
    for (size_t i = 0; i < m * m; i++) out[i] = (float)a[i];
    free(a);
    return true;
}

int anm_rotation_new(anm_rotation *out, size_t n, uint64_t seed, bool identity, anm_error *err)
{
    *out = (anm_rotation){.n = n, .two = 1, .m = n};
    if (identity) {
        out->m = 0;
        return 0;
    }
    for (; out->m % 2 == 0; out->m /= 2) out->two *= 2;
    out->sign = malloc(n * sizeof *out->sign);
    out->small = out->m > 1 ? malloc(out->m * out->m * sizeof *out->small) : NULL;
    if (!out->sign || (out->m > 1 && (!out->small || !orthogonal(out->small, out->m, &seed)))) {
        anm_rotation_free(out);
        return anm_fail_memory(err, "rotation");
    }
    for (size_t i = 0; i < n; i++) out->sign[i] = anm_random_next(&seed) >> 63 ? -1.0f : 1.0f;
    return 0;
}

void anm_rotation_free(anm_rotation *r)
{
    free(r->sign);
    free(r->small);
    *r = (anm_rotation){0};
}

/* One row: signs, then the orthogonal factor on each run of m, then the transform over the runs. */
static void rotate_row(float *y, const anm_rotation *r, float *scratch)
{
    size_t n = r->n, m = r->m;
    for (size_t i = 0; i < n; i++) y[i] *= r->sign[i];
    if (r->small)
        for (size_t at = 0; at < n; at += m) {
            memset(scratch, 0, m * sizeof *scratch);
            for (size_t i = 0; i < m; i++)
                for (size_t j = 0; j < m; j++) scratch[j] += y[at + i] * r->small[i * m + j];
            memcpy(y + at, scratch, m * sizeof *scratch);
        }
    float scale = (float)(1 / sqrt((double)r->two));
    for (size_t h = m; h < n; h *= 2)
        for (size_t i = 0; i < n; i += 2 * h)
            for (size_t j = i; j < i + h; j++) {
                float a = y[j], b = y[j + h];
                y[j] = a + b;
                y[j + h] = a - b;
            }
    for (size_t i = 0; i < n; i++) y[i] *= scale;
}

typedef struct rows_work {
    float *y;
    size_t rows, stride;
    const anm_rotation *r;
    _Atomic int bad;
} rows_work;

enum { ROWS = 32 };

static void some_rows(void *ctx, uint32_t i, unsigned thread)
{
    (void)thread;
    rows_work *w = ctx;
    float *scratch = malloc(w->r->m * sizeof *scratch);
    if (!scratch) {
        w->bad = 1;
        return;
    }
    for (size_t row = (size_t)i * ROWS; row < w->rows && row < ((size_t)i + 1) * ROWS; row++)
        rotate_row(w->y + row * w->stride, w->r, scratch);
    free(scratch);
}

int anm_rotate_rows(float *y, size_t rows, size_t stride, const anm_rotation *r, anm_pool *pool, anm_error *err)
{
    if (!r->m) return 0;
    rows_work w = {.y = y, .rows = rows, .stride = stride, .r = r};
    anm_pool_run(pool, some_rows, &w, (uint32_t)((rows + ROWS - 1) / ROWS));
    return w.bad ? anm_fail_memory(err, "rotation") : 0;
}

static void transpose(float *out, const float *in, size_t rows, size_t cols)
{
    enum { T = 16 };
    for (size_t i = 0; i < rows; i += T)
        for (size_t j = 0; j < cols; j += T)
            for (size_t a = i; a < rows && a < i + T; a++)
                for (size_t b = j; b < cols && b < j + T; b++) out[b * rows + a] = in[a * cols + b];
}

int anm_rotate_columns(float *w, size_t cols, const anm_rotation *r, anm_pool *pool, anm_error *err)
{
    if (!r->m) return 0;
    float *t = malloc(r->n * cols * sizeof *t);
    if (!t) return anm_fail_memory(err, "rotation");
    transpose(t, w, r->n, cols);
    int rc = anm_rotate_rows(t, cols, r->n, r, pool, err);
    if (!rc) transpose(w, t, cols, r->n);
    free(t);
    return rc;
}

static void fold(float *w, size_t rows, size_t cols, const float *norm)
{
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < cols; j++) w[i * cols + j] *= norm[j];
}

static void ones(float *v, size_t n)
{
    for (size_t i = 0; i < n; i++) v[i] = 1;
}

int anm_rotate_layer(anm_eager_layer *l, const anm_params *p, const anm_rotation *stream, const anm_rotation *value,
                     anm_pool *pool, anm_error *err)
{
    size_t dim = (size_t)p->dim, hd = (size_t)p->head_dim, nq = (size_t)p->n_heads * hd, nk = (size_t)p->n_kv_heads * hd;
    size_t f = (size_t)p->hidden_dim;
    const struct {
        float *w;
        size_t rows;
        const float *norm;
    } readers[] = {{l->wq, nq, l->attention_norm}, {l->wk, nk, l->attention_norm}, {l->wv, nk, l->attention_norm},
                   {l->w1, f, l->ffn_norm}, {l->w3, f, l->ffn_norm}};
    int rc = 0;
    for (size_t i = 0; i < sizeof readers / sizeof *readers && !rc; i++) {
        fold(readers[i].w, readers[i].rows, dim, readers[i].norm);
        rc = anm_rotate_rows(readers[i].w, readers[i].rows, dim, stream, pool, err);
    }
    for (size_t h = 0; h < (size_t)p->n_kv_heads && !rc; h++) {
        rc = anm_rotate_columns(l->wv + h * hd * dim, dim, value, pool, err);
        if (!rc && l->bv) rc = anm_rotate_rows(l->bv + h * hd, 1, hd, value, NULL, err);
    }
    for (size_t h = 0; h < (size_t)p->n_heads && !rc; h++) rc = anm_rotate_rows(l->wo + h * hd, dim, nq, value, pool, err);
    if (!rc) rc = anm_rotate_columns(l->wo, nq, stream, pool, err);
    if (!rc) rc = anm_rotate_columns(l->w2, f, stream, pool, err);
    ones(l->attention_norm, dim);
    ones(l->ffn_norm, dim);
    return rc;
}

int anm_rotate_head(float *w, size_t rows, const float *norm, const anm_rotation *stream, anm_pool *pool, anm_error *err)
{
    fold(w, rows, stream->n, norm);
    return anm_rotate_rows(w, rows, stream->n, stream, pool, err);
}
