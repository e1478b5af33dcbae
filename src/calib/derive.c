/* SPDX-License-Identifier: BSD-3-Clause */
/* The model as the exporter is to see it: as the one that was calibrated, with what calibration made in place of its weights. */
#include "calib/derive.h"

#include <stdlib.h>

static anm_tensor *vector(anm_calibrated *c, size_t i, const float *data, int64_t rows, int64_t cols)
{
    c->vector[i] = (anm_tensor){.name = "calibrated", .dtype = ANM_DT_F32, .rank = rows > 1 ? 2 : 1, .data = (const uint8_t *)data,
                                .size = (uint64_t)(rows * cols) * sizeof *data, .file = "calibration"};
    c->vector[i].shape[0] = rows > 1 ? rows : cols;
    c->vector[i].shape[1] = cols;
    c->vector[i].stride[0] = rows > 1 ? cols : 1;
    c->vector[i].stride[1] = 1;
    return &c->vector[i];
}

static anm_matrix of_tensor(const anm_tensor *t, int64_t rows, int64_t cols)
{
    anm_matrix m = {.rows = rows, .cols = cols, .n_parts = 1};
    m.part[0] = t;
    return m;
}

int anm_calibrated_derive(anm_calibrated *c, const anm_model *m, anm_error *err)
{
    const anm_params *p = &m->params;
    int64_t nk = p->n_kv_heads * p->head_dim;
    c->model = *m;
    c->model.layers = malloc(c->n_layers * sizeof *c->model.layers);
    c->ones = malloc((size_t)p->dim * sizeof *c->ones);
    c->vector = calloc(c->n_layers + 2, sizeof *c->vector);
    if (!c->model.layers || !c->ones || !c->vector) return anm_fail_memory(err, "calibrated model");
    for (int64_t i = 0; i < p->dim; i++) c->ones[i] = 1;
    anm_matrix norm = of_tensor(vector(c, 0, c->ones, 1, p->dim), 1, p->dim);
    c->model.norm = norm;
    c->model.output.made = &c->layer[c->n_layers][0];
    if (c->embedding.q) c->model.tok_embeddings.made = &c->embedding;
    else c->model.tok_embeddings = of_tensor(vector(c, 1, c->embedding_values, p->vocab_size, p->dim), p->vocab_size, p->dim);
    for (size_t i = 0; i < c->n_layers; i++) {
        anm_layer *l = &c->model.layers[i];
        anm_matrix *linear[ANM_LINEARS] = {&l->wq, &l->wk, &l->wv, &l->wo, &l->w1, &l->w2, &l->w3};
        *l = m->layers[i];
        l->attention_norm = norm;
        l->ffn_norm = norm;
        for (int j = 0; j < ANM_LINEARS; j++) linear[j]->made = &c->layer[i][j];
        if (c->value_bias) l->bv = of_tensor(vector(c, i + 2, c->value_bias[i], 1, nk), 1, nk);
    }
    return 0;
}
