/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Products of matrices: linear, matmul, attention. Every sum runs over its terms in order, in fp64, for each
 * row by itself: a row's result does not depend on the rows beside it or on the threads.
 */
#include "base/cpu.h"
#include "mil/eval.h"
#include "mil/lanes.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- linear: x [rows, K] by weight [N, K] -> [rows, N] ----
 *
 * The rows of x are laid out in groups of LANES, the K values of a group side by side, so that one pass over
 * a weight's row serves a whole group. Tasks take CHUNK rows of the weight each, decoded as they are needed.
 */

enum { LANES = ANM_LANES, MANY = ANM_LANES_WEIGHTS, CHUNK = 16 }; /* CHUNK is a multiple of MANY */

typedef struct linear_job {
    const anm_eval *e;
    anm_source weight;
    const float *bias; /* NULL: none */
    const double *x;   /* [groups, K, LANES] */
    float *w;          /* [threads, CHUNK, K] */
    int64_t rows, k, n;
    anm_lanes_fn *product;
} linear_job;

static anm_lanes_fn *best_product(void)
{
#if defined(__x86_64__)
    if (anm_isa_usable(ANM_ISA_AVX512)) return anm_lanes_avx512;
    if (anm_isa_usable(ANM_ISA_AVX2)) return anm_lanes_avx2;
#endif
    return anm_lanes_plain;
}

/* `n` of the MANY outputs from `o` on, for a group of rows. */
static void linear_group(const linear_job *j, int64_t row, const double *x, const float *w, int64_t o, int64_t n)
{
    double sum[MANY][LANES];
    j->product(sum[0], x, w, j->k);
    for (int l = 0; l < LANES && row + l < j->rows; l++)
        for (int64_t i = 0; i < n; i++)
            j->e->out->f[(row + l) * j->n + o + i] = (float)(j->bias ? sum[i][l] + (double)j->bias[o + i] : sum[i][l]);
}

static void linear_task(void *ctx, uint32_t i, unsigned thread)
{
    const linear_job *j = ctx;
    float *w = j->w + (int64_t)thread * CHUNK * j->k;
    int64_t first = (int64_t)i * CHUNK, n = j->n - first < CHUNK ? j->n - first : CHUNK;
    anm_source_read(&j->weight, first * j->k, n * j->k, w);
    for (int64_t at = n * j->k; at < (n + MANY - 1) / MANY * MANY * j->k; at++) w[at] = 0; /* rows that make up the last group */
    for (int64_t row = 0; row < j->rows; row += LANES)
        for (int64_t o = 0; o < n; o += MANY)
            linear_group(j, row, j->x + row * j->k, w + o * j->k, first + o, n - o < MANY ? n - o : MANY);
}

/* x to the nearest of what `how` holds: the largest magnitude of a block is the largest integer. */
static void round_row(double *to, int64_t stride, const float *x, int64_t n, anm_rounding how)
{
    double most = (double)((INT32_C(1) << (how.bits - 1)) - 1);
    for (int64_t first = 0; first < n; first += how.block) {
        int64_t end = first + how.block < n ? first + how.block : n;
        float peak = 0;
        for (int64_t k = first; k < end; k++)
            if (fabsf(x[k]) > peak) peak = fabsf(x[k]);
        double scale = (double)(float)((double)peak / most);
        for (int64_t k = first; k < end; k++)
            to[k * stride] = scale > 0 ? rint((double)x[k] / scale) * scale : (double)x[k];
    }
}

int anm_eval_linear(anm_eval *e)
{
    const anm_mil_array *x = anm_eval_arg(e, ANM_P_X), *bias = anm_eval_arg(e, ANM_P_BIAS);
    if (!x || (!bias && anm_mil_arg_of(e->op, ANM_P_BIAS))) return -1;
    linear_job j = {.e = e,
                    .product = best_product(),
                    .bias = bias ? bias->f : NULL,
                    .k = x->type.dim[x->type.rank - 1],
                    .rows = anm_dims(&x->type, 0, x->type.rank - 1)};
    if (anm_source_of(&j.weight, e, anm_mil_arg_of(e->op, ANM_P_WEIGHT))) return -1;
    j.n = j.weight.type->dim[0];
    int64_t groups = (j.rows + LANES - 1) / LANES, tasks = (j.n + CHUNK - 1) / CHUNK;
    if (tasks > UINT32_MAX)
        return anm_fail(e->err, ANM_ERR_LIMIT, "linear: a weight of %lld rows", (long long)j.n);

    double *lanes = calloc((size_t)(groups * j.k * LANES) + 1, sizeof *lanes);
    j.w = malloc(((size_t)anm_pool_threads(e->pool) * CHUNK * (size_t)j.k + 1) * sizeof *j.w);
    if (lanes && j.w) {
        for (int64_t r = 0; r < j.rows; r++) {
            double *row = lanes + r / LANES * j.k * LANES + r % LANES;
            if (e->linear.bits) round_row(row, LANES, x->f + r * j.k, j.k, e->linear);
            else
                for (int64_t k = 0; k < j.k; k++) row[k * LANES] = (double)x->f[r * j.k + k];
        }
        j.x = lanes;
        anm_pool_run(e->pool, linear_task, &j, (uint32_t)tasks);
    }
    bool ok = lanes && j.w;
    free(lanes);
    free(j.w);
    return ok ? 0 : anm_fail_memory(e->err, "linear");
}

/* ---- matmul ---- */

/* out [M, N] = x [M, K] by y [K, N], each with its own strides; `sum` has room for N. */
static void product(float *out, const float *x, int64_t xm, int64_t xk, const float *y, int64_t yk,
                    int64_t yn, int64_t m, int64_t k, int64_t n, double *sum)
{
    for (int64_t i = 0; i < m; i++) {
        memset(sum, 0, (size_t)n * sizeof *sum);
        for (int64_t p = 0; p < k; p++) {
            double a = (double)x[i * xm + p * xk];
            for (int64_t j = 0; j < n; j++)
                sum[j] += a * (double)y[p * yk + j * yn];
        }
        for (int64_t j = 0; j < n; j++)
            out[i * n + j] = (float)sum[j];
    }
}

int anm_eval_matmul(anm_eval *e)
{
    const anm_mil_array *x = anm_eval_arg(e, ANM_P_X), *y = anm_eval_arg(e, ANM_P_Y);
    bool tx = false, ty = false;
    if (!x || !y) return -1;
    anm_mil_get_bool(anm_mil_arg_of(e->op, ANM_P_TRANSPOSE_X), &tx);
    anm_mil_get_bool(anm_mil_arg_of(e->op, ANM_P_TRANSPOSE_Y), &ty);

    /* a 1-D operand is a row (x) or a column (y); transposing leaves it as it is */
    int rx = x->type.rank, ry = y->type.rank;
    int64_t xr = rx > 1 ? x->type.dim[rx - 2] : 1, xc = x->type.dim[rx - 1];
    int64_t yr = ry > 1 ? y->type.dim[ry - 2] : y->type.dim[0], yc = ry > 1 ? y->type.dim[ry - 1] : 1;
    tx = tx && rx > 1;
    ty = ty && ry > 1;
    int64_t m = tx ? xc : xr, k = tx ? xr : xc, n = ty ? yr : yc;
    anm_mil_type bx = x->type, by = y->type, batch = e->out->type;
    bx.rank = rx > 2 ? rx - 2 : 0;
    by.rank = ry > 2 ? ry - 2 : 0;
    batch.rank -= (rx > 1) + (ry > 1);
    anm_walk w;
    anm_walk_broadcast(&w, &batch, 0, 2, (const anm_mil_type *[]){&bx, &by});

    double *sum = malloc(((size_t)n + 1) * sizeof *sum);
    if (!sum) return anm_fail_memory(e->err, "matmul");
    for (int64_t b = 0; b < anm_dims(&batch, 0, batch.rank); b++, anm_walk_next(&w))
        product(e->out->f + b * m * n, x->f + w.at[0] * xr * xc, tx ? 1 : xc, tx ? xc : 1,
                y->f + w.at[1] * yr * yc, ty ? 1 : yc, ty ? yc : 1, m, k, n, sum);
    free(sum);
    return 0;
}

/* ---- attention: softmax(query key^T / sqrt(E) + mask) value ---- */

typedef struct attention_job {
    int64_t l, s, d, f; /* rows of query, rows of key and value, columns of query and key, columns of value */
    float *scores;      /* [S] */
    double *sum;        /* max(S, F) */
} attention_job;

static void attend(const attention_job *j, float *out, const float *q, const float *key, const float *value,
                   const anm_mil_array *mask, int64_t mask_at, int64_t mask_step)
{
    product(j->scores, q, 0, 1, key, 1, j->d, 1, j->d, j->s, j->sum);
    for (int64_t s = 0; s < j->s; s++) {
        float score = (float)((double)j->scores[s] / sqrt((double)j->d));
        if (mask && anm_array_is_float(mask))
            score += mask->f[mask_at + s * mask_step];
        else if (mask && !mask->i[mask_at + s * mask_step])
            score = -INFINITY;
        j->scores[s] = score;
    }
    anm_softmax(j->scores, j->scores, j->s, 1);
    product(out, j->scores, 0, 1, value, j->f, 1, 1, j->s, j->f, j->sum);
}

int anm_eval_attention(anm_eval *e)
{
    const anm_mil_array *q = anm_eval_arg(e, ANM_P_QUERY), *k = anm_eval_arg(e, ANM_P_KEY),
                        *v = anm_eval_arg(e, ANM_P_VALUE), *mask = anm_eval_arg(e, ANM_P_ATTN_MASK);
    if (!q || !k || !v || (!mask && anm_mil_arg_of(e->op, ANM_P_ATTN_MASK))) return -1;
    int rank = q->type.rank;
    attention_job j = {.l = q->type.dim[rank - 2],
                       .s = k->type.dim[rank - 2],
                       .d = q->type.dim[rank - 1],
                       .f = v->type.dim[rank - 1]};
    anm_mil_type scores = q->type; /* what the mask broadcasts to */
    scores.dim[rank - 1] = j.s;
    const anm_mil_type none = anm_mil_scalar(ANM_DT_F32), *mask_type = mask ? &mask->type : &none;
    int64_t mask_step = mask_type->rank && mask_type->dim[mask_type->rank - 1] > 1 ? 1 : 0;
    anm_walk w; /* over batches and rows of query */
    anm_walk_broadcast(&w, &scores, 1, 1, &mask_type);

    int ok = 0;
    j.scores = malloc(((size_t)j.s + 1) * sizeof *j.scores);
    j.sum = malloc(((size_t)(j.s > j.f ? j.s : j.f) + 1) * sizeof *j.sum);
    int64_t rows = anm_dims(&q->type, 0, rank - 1);
    if (!j.scores || !j.sum) ok = anm_fail_memory(e->err, "attention");
    for (int64_t r = 0; !ok && r < rows; r++, anm_walk_next(&w)) {
        int64_t b = r / j.l;
        attend(&j, e->out->f + r * j.f, q->f + r * j.d, k->f + b * j.s * j.d, v->f + b * j.s * j.f, mask,
               w.at[0], mask_step);
    }
    free(j.scores);
    free(j.sum);
    return ok;
}
