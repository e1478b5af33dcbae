/* SPDX-License-Identifier: BSD-3-Clause */
/* A tiny random model in memory, for tests: every role filled, weights fp32. */
#ifndef ANM_TEST_TINY_H
#define ANM_TEST_TINY_H

#include "model/model.h"

#include <math.h>
#include <stdlib.h>

typedef struct tiny {
    anm_model model;
    anm_layer layers[3];
    anm_tensor tensor[64];
    int n;
} tiny;

static uint64_t tiny_seed = 42;
static inline float tiny_uniform(void)
{
    tiny_seed = tiny_seed * 6364136223846793005u + 1442695040888963407u;
    return (float)(int32_t)(tiny_seed >> 32) * 0x1p-31f;
}

static inline anm_matrix tiny_matrix(tiny *t, int64_t rows, int64_t cols, float centre, float spread)
{
    float *data = malloc((size_t)(rows * cols) * sizeof *data);
    for (int64_t i = 0; i < rows * cols; i++) data[i] = centre + spread * tiny_uniform();
    anm_tensor *x = &t->tensor[t->n++];
    *x = (anm_tensor){.name = "tiny", .dtype = ANM_DT_F32, .rank = 2, .shape = {rows, cols}, .stride = {cols, 1},
                      .data = (const uint8_t *)data, .size = (uint64_t)(rows * cols) * 4, .file = "memory"};
    anm_matrix m = {.rows = rows, .cols = cols, .n_parts = 1};
    m.part[0] = x;
    return m;
}

static inline void tiny_init(tiny *t, anm_params p)
{
    int64_t nq = p.n_heads * p.head_dim, nk = p.n_kv_heads * p.head_dim;
    float d = 1.7f / sqrtf((float)p.dim), f = 1.7f / sqrtf((float)p.hidden_dim);
    t->n = 0;
    t->model = (anm_model){.params = p, .layers = t->layers};
    t->model.tok_embeddings = tiny_matrix(t, p.vocab_size, p.dim, 0, 1);
    t->model.output = tiny_matrix(t, p.vocab_size, p.dim, 0, d);
    t->model.norm = tiny_matrix(t, 1, p.dim, 1, 0.3f);
    for (int64_t i = 0; i < p.n_layers; i++) {
        anm_layer *l = &t->layers[i];
        *l = (anm_layer){0};
        l->attention_norm = tiny_matrix(t, 1, p.dim, 1, 0.3f);
        l->ffn_norm = tiny_matrix(t, 1, p.dim, 1, 0.3f);
        l->wq = tiny_matrix(t, nq, p.dim, 0, d);
        l->wk = tiny_matrix(t, nk, p.dim, 0, d);
        l->wv = tiny_matrix(t, nk, p.dim, 0, d);
        l->wo = tiny_matrix(t, p.dim, nq, 0, d);
        l->w1 = tiny_matrix(t, p.hidden_dim, p.dim, 0, d);
        l->w3 = tiny_matrix(t, p.hidden_dim, p.dim, 0, d);
        l->w2 = tiny_matrix(t, p.dim, p.hidden_dim, 0, f);
        if (p.attention_qkv_bias) {
            l->bq = tiny_matrix(t, 1, nq, 0, 0.2f);
            l->bk = tiny_matrix(t, 1, nk, 0, 0.2f);
            l->bv = tiny_matrix(t, 1, nk, 0, 0.2f);
        }
        if (p.use_qk_norm) {
            l->q_norm = tiny_matrix(t, 1, p.head_dim, 1, 0.3f);
            l->k_norm = tiny_matrix(t, 1, p.head_dim, 1, 0.3f);
        }
    }
}

static inline void tiny_free(tiny *t)
{
    for (int i = 0; i < t->n; i++) free((void *)(uintptr_t)t->tensor[i].data);
}

#endif
