/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Rotary position embedding: each pair (a, b) of a head's values is turned by its position's angle,
 *
 *   a' = a cos - b sin,   b' = a sin + b cos
 *
 * The reference's pairs are neighbours (0,1), (2,3), …: strided slices take them apart, a 5-D stack and a reshape put
 * them together again. With use_hf_rope the pairs lie half a head apart: y = x cos + (-b, a) sin over whole heads.
 *
 * The lean graph has the rows of wq and wk in such an order that halves of heads are turned (plan.c), with the tables of
 * half a head as they are: two slices, and a concat instead of the stack. Scores are sums over a head, in any order.
 */
#include "graph/parts.h"

static anm_mil_value *concat_last(anm_hand *h, const char *name, anm_mil_value *a, anm_mil_value *b)
{
    return anm_mil_emit_list(&h->b, ANM_OP_CONCAT, name, ANM_P_VALUES, 2, (anm_mil_value *const[]){a, b}, ANM_P_AXIS,
                             anm_mil_const_i32(&h->b, -1), ANM_P_INTERLEAVE, anm_mil_const_bool(&h->b, false), ANM_P_END);
}

/* Values first, first + 2, … of each head, written as coremltools writes an open-ended slice: the end of a masked axis
 * is its length, that of the last one 1. */
static anm_mil_value *every_other(anm_hand *h, const char *name, anm_mil_value *x, int64_t first)
{
    anm_mil_builder *b = &h->b;
    const int64_t *d = x->type.dim;
    return anm_mil_emit(b, ANM_OP_SLICE_BY_INDEX, name, ANM_P_X, x, ANM_P_BEGIN,
                        anm_mil_const_i32s(b, 4, (const int64_t[]){0, 0, 0, first}), ANM_P_END_INDEX,
                        anm_mil_const_i32s(b, 4, (const int64_t[]){d[0], d[1], d[2], 1}), ANM_P_STRIDE,
                        anm_mil_const_i32s(b, 4, (const int64_t[]){1, 1, 1, 2}), ANM_P_END_MASK,
                        anm_mil_const_bools(b, 4, (const bool[]){true, true, true, true}), ANM_P_END);
}

static anm_mil_value *half(anm_hand *h, const char *name, anm_mil_value *x, bool upper)
{
    anm_mil_builder *b = &h->b;
    const int64_t *d = x->type.dim, middle = d[3] / 2;
    return anm_mil_emit(b, ANM_OP_SLICE_BY_INDEX, name, ANM_P_X, x, ANM_P_BEGIN,
                        anm_mil_const_i32s(b, 4, (const int64_t[]){0, 0, 0, upper ? middle : 0}), ANM_P_END_INDEX,
                        anm_mil_const_i32s(b, 4, (const int64_t[]){d[0], d[1], d[2], upper ? 1 : middle}), ANM_P_END_MASK,
                        anm_mil_const_bools(b, 4, (const bool[]){true, true, true, upper}), ANM_P_END);
}

void anm_turn_pairs(anm_hand *h, const char *name, anm_mil_value **even, anm_mil_value **odd)
{
    anm_mil_value *ac = anm_binary(h, ANM_OP_MUL, anm_name(h, "%s_even_cos", name), *even, h->cos);
    anm_mil_value *bs = anm_binary(h, ANM_OP_MUL, anm_name(h, "%s_odd_sin", name), *odd, h->sin);
    anm_mil_value *as = anm_binary(h, ANM_OP_MUL, anm_name(h, "%s_even_sin", name), *even, h->sin);
    anm_mil_value *bc = anm_binary(h, ANM_OP_MUL, anm_name(h, "%s_odd_cos", name), *odd, h->cos);
    *even = anm_binary(h, ANM_OP_SUB, anm_name(h, "%s_turned_even", name), ac, bs);
    *odd = anm_binary(h, ANM_OP_ADD, anm_name(h, "%s_turned_odd", name), as, bc);
}

static anm_mil_value *rotate_pairs(anm_hand *h, const char *name, anm_mil_value *x)
{
    bool lean = h->graph->recipe.lean;
    anm_mil_value *a = lean ? half(h, anm_name(h, "%s_even", name), x, false) : every_other(h, anm_name(h, "%s_even", name), x, 0);
    anm_mil_value *b = lean ? half(h, anm_name(h, "%s_odd", name), x, true) : every_other(h, anm_name(h, "%s_odd", name), x, 1);
    anm_turn_pairs(h, name, &a, &b);
    if (lean) return concat_last(h, anm_name(h, "%s_turned", name), a, b);
    anm_mil_value *pairs = anm_mil_emit_list(&h->b, ANM_OP_STACK, anm_name(h, "%s_pairs", name), ANM_P_VALUES, 2,
                                             (anm_mil_value *const[]){a, b}, ANM_P_AXIS,
                                             anm_mil_const_i32(&h->b, -1), ANM_P_END);
    return anm_reshape(h, anm_name(h, "%s_turned", name), pairs, 4, x->type.dim);
}

static anm_mil_value *rotate_halves(anm_hand *h, const char *name, anm_mil_value *x)
{
    anm_mil_value *a = half(h, anm_name(h, "%s_low", name), x, false);
    anm_mil_value *b = half(h, anm_name(h, "%s_high", name), x, true);
    anm_mil_value *minus_b = anm_binary(h, ANM_OP_MUL, anm_name(h, "%s_minus_high", name), b, anm_const_scalar(h, -1));
    anm_mil_value *swapped = concat_last(h, anm_name(h, "%s_swapped", name), minus_b, a);
    anm_mil_value *xc = anm_binary(h, ANM_OP_MUL, anm_name(h, "%s_cos", name), x, h->cos);
    anm_mil_value *ss = anm_binary(h, ANM_OP_MUL, anm_name(h, "%s_sin", name), swapped, h->sin);
    return anm_binary(h, ANM_OP_ADD, anm_name(h, "%s_turned", name), xc, ss);
}

anm_mil_value *anm_rotate(anm_hand *h, const char *name, anm_mil_value *x)
{
    return h->graph->model->params.use_hf_rope ? rotate_halves(h, name, x) : rotate_pairs(h, name, x);
}
