/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Which values of a cached key are turned together, found where the graph puts them together last:
 *
 *   stack(a cos - b sin, a sin + b cos), in the last dimension     neighbours
 *   concat(a cos - b sin, a sin + b cos), in the last dimension    halves of a head
 *   x cos + (-b, a) sin                                            halves of a head
 *
 * Where a key goes on to be scaled by channels (a norm behind the rotation), or is put together in another way, it cannot be
 * turned back.
 */
#include "run/engine_internal.h"

static bool only_moves(anm_mil_opcode code)
{
    switch (code) {
    case ANM_OP_RESHAPE: case ANM_OP_TRANSPOSE: case ANM_OP_EXPAND_DIMS: case ANM_OP_SQUEEZE: case ANM_OP_CAST: case ANM_OP_IDENTITY:
    case ANM_OP_TILE: case ANM_OP_SLICE_BY_INDEX: case ANM_OP_SLICE_BY_SIZE:
        return true;
    default: return false;
    }
}

static const anm_mil_value *operand(const anm_mil_value *v, anm_mil_param p)
{
    return v->def ? anm_mil_arg_of(v->def, p) : NULL;
}

/* Is v an input of the tables, or rows of it? */
static bool is_table(const anm_method *m, const anm_mil_value *v)
{
    while (v && v->def && only_moves(v->def->code)) v = operand(v, ANM_P_X);
    return v && (v == m->fn->inputs[m->cos] || v == m->fn->inputs[m->sin]);
}

static bool is_scaled(const anm_method *m, const anm_mil_value *v)
{
    return v && v->def && v->def->code == ANM_OP_MUL && (is_table(m, operand(v, ANM_P_X)) || is_table(m, operand(v, ANM_P_Y)));
}

static bool is_turned(const anm_method *m, const anm_mil_value *v)
{
    return v && v->def && (v->def->code == ANM_OP_ADD || v->def->code == ANM_OP_SUB) && is_scaled(m, operand(v, ANM_P_X)) &&
           is_scaled(m, operand(v, ANM_P_Y));
}

/* Is what a table multiplies joined of two halves, as (-second, first) is? */
static bool of_halves(const anm_method *m, const anm_mil_value *scaled)
{
    const anm_mil_value *x = operand(scaled, ANM_P_X), *y = operand(scaled, ANM_P_Y), *v = is_table(m, x) ? y : x;
    const anm_mil_arg *list = v && v->def && v->def->code == ANM_OP_CONCAT ? anm_mil_args_of(v->def, ANM_P_VALUES) : NULL;
    int64_t axis = 0;
    if (!list || list->count != 2 || !anm_mil_get_i64(operand(v, ANM_P_AXIS), &axis)) return false;
    return axis == -1 || axis == v->type.rank - 1;
}

static anm_key_pairs pairs_of(const anm_method *m, const anm_mil_value *key)
{
    const anm_mil_value *v = key;
    while (v && v->def) {
        const anm_mil_arg *list = anm_mil_args_of(v->def, ANM_P_VALUES);
        bool joins = v->def->code == ANM_OP_STACK || v->def->code == ANM_OP_CONCAT;
        if (is_turned(m, v)) {
            bool whole = v->type.rank && v->type.dim[v->type.rank - 1] == m->head_dim;
            bool halves = of_halves(m, operand(v, ANM_P_X)) || of_halves(m, operand(v, ANM_P_Y));
            return whole && halves ? ANM_PAIRS_HALVES : ANM_PAIRS_UNKNOWN;
        }
        if (joins && list && list->count == 2 && is_turned(m, list->value[0]) && is_turned(m, list->value[1])) {
            int64_t axis = 0;
            const anm_mil_value *at = operand(v, ANM_P_AXIS);
            if (at && !anm_mil_get_i64(at, &axis)) return ANM_PAIRS_UNKNOWN;
            if (axis >= 0) axis -= v->type.rank;
            if (axis != -1) return ANM_PAIRS_UNKNOWN;
            return v->def->code == ANM_OP_STACK ? ANM_PAIRS_NEIGHBOURS : ANM_PAIRS_HALVES;
        }
        if (joins && list && list->count) v = list->value[0]; /* heads, each turned in the same way */
        else if (only_moves(v->def->code)) v = operand(v, ANM_P_X);
        else break;
    }
    return ANM_PAIRS_UNKNOWN;
}

anm_key_pairs anm_method_pairs(const anm_method *m)
{
    anm_key_pairs all = ANM_PAIRS_UNKNOWN;
    if (m->cos < 0 || m->sin < 0) return all;
    for (int64_t i = 0; i < m->n_layers; i++) {
        anm_key_pairs one = pairs_of(m, m->fn->outputs[m->kv[i].k_out]);
        if (i && one != all) return ANM_PAIRS_UNKNOWN;
        all = one;
    }
    return all;
}
