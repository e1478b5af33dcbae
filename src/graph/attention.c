/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Grouped-query attention over the cache and the step's own rows, written out (no fused op) and without a dimension
 * for the batch where the matmuls are, so that they see 4-D tensors:
 *
 *   q [1, heads, T, d] -> [kv heads, heads per kv, T, d]      k, v [1, kv heads, C + T, d] -> [kv heads, 1, C + T, d]
 *   scores = softmax(q k^T / sqrt(d) + mask);  y = scores v -> [1, T, heads d]
 */
#include "graph/parts.h"

#include <math.h>

static anm_mil_value *swap_rows_and_heads(anm_hand *h, const char *name, anm_mil_value *x)
{
    return anm_mil_emit(&h->b, ANM_OP_TRANSPOSE, name, ANM_P_X, x, ANM_P_PERM,
                        anm_mil_const_i32s(&h->b, 4, (const int64_t[]){0, 2, 1, 3}), ANM_P_END);
}

/* [1, T, n d] -> [1, n, T, d] */
static anm_mil_value *to_heads(anm_hand *h, const char *name, anm_mil_value *x, int64_t heads)
{
    int64_t d = h->graph->model->params.head_dim;
    anm_mil_value *y = anm_reshape(h, anm_name(h, "%s_by_row", name), x, 4, (const int64_t[]){1, h->method->rows, heads, d});
    return swap_rows_and_heads(h, anm_name(h, "%s_heads", name), y);
}

/* The cache's rows, then the new ones. */
static anm_mil_value *with_cache(anm_hand *h, const char *name, anm_mil_value *cache, anm_mil_value *x)
{
    if (!cache) return x;
    return anm_mil_emit_list(&h->b, ANM_OP_CONCAT, anm_name(h, "all_%s", name), ANM_P_VALUES, 2,
                             (anm_mil_value *const[]){cache, x}, ANM_P_AXIS, anm_mil_const_i32(&h->b, -2), ANM_P_INTERLEAVE,
                             anm_mil_const_bool(&h->b, false), ANM_P_END);
}

static anm_mil_value *matmul(anm_hand *h, const char *name, anm_mil_value *x, anm_mil_value *y, bool transpose_y)
{
    return anm_mil_emit(&h->b, ANM_OP_MATMUL, name, ANM_P_X, x, ANM_P_Y, y, ANM_P_TRANSPOSE_X, anm_mil_const_bool(&h->b, false),
                        ANM_P_TRANSPOSE_Y, anm_mil_const_bool(&h->b, transpose_y), ANM_P_END);
}

static void norm_heads(anm_hand *h, const anm_graph_layer *l, anm_mil_value **q, anm_mil_value **k)
{
    *q = anm_head_norm(h, "q_norm", *q, l->q_norm);
    *k = anm_head_norm(h, "k_norm", *k, l->k_norm);
}

anm_mil_value *anm_attend(anm_hand *h, anm_mil_value *x, int64_t layer, anm_mil_value **new_k, anm_mil_value **new_v)
{
    const anm_params *p = &h->graph->model->params;
    const anm_graph_layer *l = h->graph->layers + layer;
    const int64_t rows = h->method->rows, d = p->head_dim, heads = p->n_heads, kv = p->n_kv_heads, per_kv = heads / kv;
    const int64_t all = h->graph->recipe.cache_len + rows;
    anm_mil_builder *b = &h->b;

    anm_mil_value *q = anm_apply_linear(h, anm_name(h, "wq"), x, &l->wq);
    anm_mil_value *k = anm_apply_linear(h, anm_name(h, "wk"), x, &l->wk);
    anm_mil_value *v = anm_apply_linear(h, anm_name(h, "wv"), x, &l->wv);
    q = to_heads(h, "q", q, heads);
    k = to_heads(h, "k", k, kv);
    v = to_heads(h, "v", v, kv);
    if (p->use_qk_norm && p->qk_norm_before_rope) norm_heads(h, l, &q, &k);
    q = anm_rotate(h, "q", q);
    k = anm_rotate(h, "k", k);
    if (p->use_qk_norm && !p->qk_norm_before_rope) norm_heads(h, l, &q, &k);
    *new_k = k;
    *new_v = v;
    k = with_cache(h, "k", h->k_cache[layer], k);
    v = with_cache(h, "v", h->v_cache[layer], v);

    q = anm_reshape(h, anm_name(h, "q_grouped"), q, 4, (const int64_t[]){kv, per_kv, rows, d});
    k = anm_reshape(h, anm_name(h, "k_grouped"), k, 4, (const int64_t[]){kv, 1, all, d});
    anm_mil_value *scores = matmul(h, anm_name(h, "qk"), q, k, true);
    scores = anm_mil_emit(b, ANM_OP_MUL, anm_name(h, "qk_scaled"), ANM_P_X, scores, ANM_P_Y,
                          anm_const_scalar(h, 1.0 / sqrt((double)d)), ANM_P_END);
    scores = anm_reshape(h, anm_name(h, "scores_by_head"), scores, 4, (const int64_t[]){1, heads, rows, all});
    scores = anm_mil_emit(b, ANM_OP_ADD, anm_name(h, "scores_masked"), ANM_P_X, scores, ANM_P_Y, h->mask, ANM_P_END);
    scores = anm_mil_emit(b, ANM_OP_SOFTMAX, anm_name(h, "scores"), ANM_P_X, scores, ANM_P_AXIS, anm_mil_const_i32(b, -1), ANM_P_END);
    scores = anm_reshape(h, anm_name(h, "scores_grouped"), scores, 4, (const int64_t[]){kv, per_kv, rows, all});
    v = anm_reshape(h, anm_name(h, "v_grouped"), v, 4, (const int64_t[]){kv, 1, all, d});
    anm_mil_value *y = matmul(h, anm_name(h, "attended_grouped"), scores, v, false);
    y = anm_reshape(h, anm_name(h, "attended_heads"), y, 4, (const int64_t[]){1, heads, rows, d});
    y = swap_rows_and_heads(h, anm_name(h, "attended_by_row"), y);
    y = anm_reshape(h, anm_name(h, "attended"), y, 3, (const int64_t[]){1, rows, -1});
    return anm_apply_linear(h, anm_name(h, "wo"), y, &l->wo);
}
