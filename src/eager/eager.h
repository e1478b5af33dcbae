/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The checkpoint itself in full precision: fp32 weights and activations, no quantisation, no Core ML in between. What
 * quantised files are measured against (eval), what calibration takes its statistics from, and `--use_eager`.
 *
 * It works layer by layer over many windows at once, so that one layer's weights are in memory at a time:
 *
 *   embed -> for each layer: load, run -> norm -> logits, a few rows at a time
 *
 * Source of the model: pytorch/executorch examples/models/llama/{llama_transformer,attention,norm,rope}.py.
 */
#ifndef ANM_EAGER_EAGER_H
#define ANM_EAGER_EAGER_H

#include "base/pool.h"
#include "model/model.h"

/* A batch of equal windows of text, each run from an empty cache: x [windows * len, dim]. */
typedef struct anm_windows {
    size_t windows, len;
    int32_t *token; /* [windows * len] */
    float *x;       /* the residual stream */
    float *room;    /* [anm_eager_room] for a layer with a tap to work in; NULL: it takes memory of its own */
} anm_windows;

/* One layer's weights, fp32, row-major as in the checkpoint. Norm and bias vectors may be NULL where there is none. */
typedef struct anm_eager_layer {
    float *attention_norm, *wq, *wk, *wv, *wo, *bq, *bk, *bv, *q_norm, *k_norm, *ffn_norm, *w1, *w2, *w3;
    float *block; /* all of the above lie in here */
} anm_eager_layer;

/* What flows into a layer's linears. The tap sees each before the linear is applied: some rows at a time, in order, and
 * then a call with x NULL and the number of all rows, after which the linear is used. */
typedef enum anm_eager_point { ANM_INTO_QKV, ANM_INTO_O, ANM_INTO_GATE_UP, ANM_INTO_DOWN } anm_eager_point;
typedef int anm_eager_tap(void *ctx, anm_eager_point where, const float *x, size_t rows, size_t cols, anm_error *err);

/* Reads rows of a matrix with all threads: out [m->rows, m->cols]. */
int anm_eager_read(float *out, const anm_matrix *m, anm_pool *pool, anm_error *err);
int anm_eager_read_rows(float *out, const anm_matrix *m, int64_t row, int64_t rows, anm_pool *pool, anm_error *err);

int anm_eager_layer_load(anm_eager_layer *out, const anm_model *m, size_t layer, anm_pool *pool, anm_error *err);
void anm_eager_layer_free(anm_eager_layer *l);

/* Windows of `len` tokens cut from tokens[0, windows * len); x is filled with their embeddings. Free after use. */
int anm_windows_new(anm_windows *out, const anm_model *m, const int32_t *tokens, size_t windows, size_t len, anm_error *err);
void anm_windows_free(anm_windows *w);

/* Floats that a layer with a tap keeps for `rows` rows beside the residual stream. */
size_t anm_eager_room(const anm_params *p, size_t rows);

/* x through one layer, in place. cos and sin: anm_rope_tables' of at least w->len rows. `tap` may be NULL. */
int anm_eager_layer_run(anm_windows *w, const anm_eager_layer *l, const anm_params *p, const float *cos,
                        const float *sin, anm_eager_tap *tap, void *ctx, anm_pool *pool, anm_error *err);

/* All layers and the final norm: x becomes what flows into the head. `progress` (may be NULL) hears of each layer. */
int anm_eager_run(anm_windows *w, const anm_model *m, void (*progress)(void *ctx, size_t layer), void *ctx,
                  anm_pool *pool, anm_error *err);

/* logits [rows, vocab_size] of x [rows, dim], where head [vocab_size, dim] is m->output read by anm_eager_read. */
int anm_eager_logits(float *logits, const float *x, size_t rows, const float *head, const anm_params *p, anm_pool *pool,
                     anm_error *err);

/* y[rows, cols] = x * weight / sqrt(mean(x^2) + eps), row by row; weight NULL: ones. x may be y. */
void anm_eager_norm(float *y, const float *x, const float *weight, size_t rows, size_t cols, double eps);

#endif
