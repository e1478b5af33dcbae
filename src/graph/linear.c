/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A linear layer, its outputs cut into parts that are computed side by side (the Neural Engine likes small ones):
 *
 *   x -> linear(rows 0 … n) ─┐
 *   x -> linear(rows n … 2n) ┼-> concat -> y
 *   x -> …                  ─┘
 *
 * The reference concatenates even a single part and gives every part a bias of zeros, as its tools do; the lean graph
 * does neither.
 */
#include "graph/parts.h"

#include <stdio.h>

static anm_mil_value *part_bias(anm_hand *h, const char *name, const anm_linear *l, const anm_weight *part)
{
    const anm_graph *g = h->graph;
    if (l->bias) return anm_const_vector(h, name, l->bias + (uint64_t)part->row * anm_dtype_bytes(g->recipe.type), part->rows);
    if (g->recipe.lean) return NULL;
    anm_arena *a = &h->b.fn->program->arena;
    const uint8_t *zeros = anm_arena_array(a, (size_t)part->rows, anm_dtype_bytes(g->recipe.type));
    if (!zeros && !h->b.err.code) anm_fail_memory(&h->b.err, "a graph");
    return anm_const_vector(h, name, zeros, part->rows);
}

anm_mil_value *anm_apply_linear(anm_hand *h, const char *name, anm_mil_value *x, const anm_linear *l)
{
    anm_mil_value **ys = anm_arena_array(&h->b.fn->program->arena, (size_t)l->n_parts, sizeof *ys);
    if (!ys) {
        if (!h->b.err.code) anm_fail_memory(&h->b.err, "a graph");
        return x;
    }
    char whole[64], of_part[128]; /* `name` may be one of anm_name's */
    snprintf(whole, sizeof whole, "%s", name);
    bool alone = l->n_parts == 1, bare = alone && (h->graph->recipe.lean || !h->graph->recipe.split_size);
    for (int32_t i = 0; i < l->n_parts; i++) {
        char part[80];
        if (alone) snprintf(part, sizeof part, "%s", whole);
        else snprintf(part, sizeof part, "%s_%d", whole, (int)i);
        snprintf(of_part, sizeof of_part, "%s_weight", part);
        anm_mil_value *weight = anm_const_weight(h, of_part, l->part + i);
        snprintf(of_part, sizeof of_part, "%s_bias", part);
        anm_mil_value *bias = part_bias(h, of_part, l, l->part + i);
        if (alone && !bare) snprintf(part, sizeof part, "%s_0", whole);
        ys[i] = anm_mil_emit(&h->b, ANM_OP_LINEAR, part, ANM_P_X, x, ANM_P_WEIGHT, weight, ANM_P_BIAS, bias, ANM_P_END);
    }
    if (bare) return ys[0];
    return anm_mil_emit_list(&h->b, ANM_OP_CONCAT, whole, ANM_P_VALUES, (uint32_t)l->n_parts, ys, ANM_P_AXIS,
                             anm_mil_const_i32(&h->b, -1), ANM_P_INTERLEAVE, anm_mil_const_bool(&h->b, false), ANM_P_END);
}
