/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Attention of the deprecated form. Heads are turned before rows and heads change places, pairs in a dimension of their
 * own; keys and values are repeated for the query heads that share them, and one op does the rest:
 *
 *   q, k [1, T, heads, d] -> [1, T, heads, d/2, 2] -> turned -> [1, heads, T, d]
 *   k, v [1, kv heads, C + T, d] -> [1, heads, C + T, d]
 *   y = scaled_dot_product_attention(q, k, v, mask)
 */
#include "graph/parts.h"

/* The first or second of each pair: [1, T, heads, d/2, 2] -> [1, T, heads, d/2]. */
static anm_mil_value *one_of_pair(anm_hand *h, const char *name, anm_mil_value *pairs, int which)
{
    anm_mil_builder *b = &h->b;
    const int64_t *d = pairs->type.dim, axis = 4;
    anm_mil_value *x = anm_mil_emit(b, ANM_OP_SLICE_BY_INDEX, anm_name(h, "%s_slice", name), ANM_P_X, pairs, ANM_P_BEGIN,
                                    anm_mil_const_i32s(b, 5, (const int64_t[]){0, 0, 0, 0, which}), ANM_P_END_INDEX,
                                    anm_mil_const_i32s(b, 5, (const int64_t[]){d[0], d[1], d[2], d[3], 1}), ANM_P_END_MASK,
                                    anm_mil_const_bools(b, 5, (const bool[]){true, true, true, true, which}), ANM_P_END);
    return anm_mil_emit(b, ANM_OP_SQUEEZE, anm_name(h, "%s", name), ANM_P_X, x, ANM_P_AXES, anm_mil_const_i32s(b, 1, &axis), ANM_P_END);
}

/* Taken apart into heads and into pairs at once in fp32; in fp16 the original's casts keep its two reshapes apart. */
static anm_mil_value *to_pairs(anm_hand *h, const char *name, anm_mil_value *x, int64_t heads)
{
    const int64_t rows = h->method->rows, d = h->graph->model->params.head_dim;
    if (h->graph->recipe.type == ANM_DT_F16)
        x = anm_reshape(h, anm_name(h, "%s_by_row", name), x, 4, (const int64_t[]){1, rows, heads, d});
    return anm_reshape(h, anm_name(h, "%s_pairs", name), x, 5, (const int64_t[]){1, rows, heads, -1, 2});
}

static anm_mil_value *rotate(anm_hand *h, const char *name, anm_mil_value *x, int64_t heads)
{
    const int64_t shape[4] = {1, h->method->rows, heads, h->graph->model->params.head_dim};
    x = to_pairs(h, name, x, heads);
    anm_mil_value *a = one_of_pair(h, name[0] == 'q' ? "q_even" : "k_even", x, 0);
    anm_mil_value *b = one_of_pair(h, name[0] == 'q' ? "q_odd" : "k_odd", x, 1);
    anm_turn_pairs(h, name, &a, &b);
    x = anm_mil_emit_list(&h->b, ANM_OP_STACK, anm_name(h, "%s_turned_pairs", name), ANM_P_VALUES, 2,
                          (anm_mil_value *const[]){a, b}, ANM_P_AXIS, anm_mil_const_i32(&h->b, -1), ANM_P_END);
    return anm_reshape(h, anm_name(h, "%s_turned", name), x, 4, shape);
}

static anm_mil_value *swap_rows_and_heads(anm_hand *h, const char *name, anm_mil_value *x)
{
    return anm_mil_emit(&h->b, ANM_OP_TRANSPOSE, name, ANM_P_X, x, ANM_P_PERM,
                        anm_mil_const_i32s(&h->b, 4, (const int64_t[]){0, 2, 1, 3}), ANM_P_END);
}

/* The cache's rows, then the new ones, each head as often as queries share it. */
static anm_mil_value *all_entries(anm_hand *h, const char *name, anm_mil_value *cache, anm_mil_value *x)
{
    const anm_params *p = &h->graph->model->params;
    anm_mil_builder *b = &h->b;
    const int64_t per_kv = p->n_heads / p->n_kv_heads, all = h->graph->recipe.cache_len + h->method->rows, axis = 2;
    x = anm_mil_emit_list(b, ANM_OP_CONCAT, anm_name(h, "all_%s", name), ANM_P_VALUES, 2, (anm_mil_value *const[]){cache, x},
                          ANM_P_AXIS, anm_mil_const_i32(b, 2), ANM_P_INTERLEAVE, anm_mil_const_bool(b, false), ANM_P_END);
    if (per_kv == 1) return x;
    x = anm_mil_emit(b, ANM_OP_EXPAND_DIMS, anm_name(h, "%s_to_share", name), ANM_P_X, x, ANM_P_AXES, anm_mil_const_i32s(b, 1, &axis), ANM_P_END);
    x = anm_mil_emit(b, ANM_OP_TILE, anm_name(h, "%s_shared", name), ANM_P_X, x, ANM_P_REPS,
                     anm_mil_const_i32s(b, 5, (const int64_t[]){1, 1, per_kv, 1, 1}), ANM_P_END);
    return anm_reshape(h, anm_name(h, "%s_by_query_head", name), x, 4, (const int64_t[]){1, p->n_heads, all, p->head_dim});
}

anm_mil_value *anm_legacy_attend(anm_hand *h, anm_mil_value *x, int64_t layer, anm_mil_value **new_k, anm_mil_value **new_v)
{
    const anm_params *p = &h->graph->model->params;
    const anm_graph_layer *l = h->graph->layers + layer;
    const int64_t rows = h->method->rows;

    anm_mil_value *q = anm_apply_linear(h, anm_name(h, "wq"), x, &l->wq);
    anm_mil_value *k = anm_apply_linear(h, anm_name(h, "wk"), x, &l->wk);
    anm_mil_value *v = anm_apply_linear(h, anm_name(h, "wv"), x, &l->wv);
    q = rotate(h, "q", q, p->n_heads);
    k = rotate(h, "k", k, p->n_kv_heads);
    v = anm_reshape(h, anm_name(h, "v_by_row"), v, 4, (const int64_t[]){1, rows, p->n_kv_heads, p->head_dim});
    q = swap_rows_and_heads(h, anm_name(h, "q_heads"), q);
    *new_k = swap_rows_and_heads(h, anm_name(h, "k_heads"), k);
    *new_v = swap_rows_and_heads(h, anm_name(h, "v_heads"), v);
    k = all_entries(h, "k", h->k_cache[layer], *new_k);
    v = all_entries(h, "v", h->v_cache[layer], *new_v);
    anm_mil_value *y = anm_mil_emit(&h->b, ANM_OP_ATTENTION, anm_name(h, "attended_heads"), ANM_P_QUERY, q,
                                    ANM_P_KEY, k, ANM_P_VALUE, v, ANM_P_ATTN_MASK, h->mask, ANM_P_END);
    y = swap_rows_and_heads(h, anm_name(h, "attended_by_row"), y);
    y = anm_reshape(h, anm_name(h, "attended"), y, 3, (const int64_t[]){1, rows, -1});
    return anm_apply_linear(h, anm_name(h, "wo"), y, &l->wo);
}
