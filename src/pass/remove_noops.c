/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Takes out ops that change nothing:
 *
 *   x [1,2,16,32] -> reshape to [1,2,16,32] -> y        =>   y is x
 *   x -> mul by ones, or add of zeros, of x's own shape =>   y is x
 *   x -> transpose by 0, 1, 2 …, slice of all           =>   y is x
 *
 * requires: constants that stand beside a tensor at hand (a source is never taken for ones or zeros)
 * keeps:    the function's signature, every remaining value exactly
 * breaks:   nothing; an op that makes an output of the function stays
 */
#include "base/bytes.h"
#include "base/half.h"
#include "pass/pass.h"

static bool all_equal(const anm_mil_value *v, float wanted)
{
    const anm_blob *c = v->constant;
    if (!c || !c->data || (v->type.dtype != ANM_DT_F16 && v->type.dtype != ANM_DT_F32)) return false;
    unsigned width = anm_dtype_bytes(v->type.dtype);
    for (uint64_t i = 0; i + width <= c->size; i += width)
        if ((width == 2 ? anm_f16_to_f32(anm_ld16(c->data + i)) : anm_ldf32(c->data + i)) != wanted) return false;
    return c->size > 0;
}

static bool same_type(const anm_mil_op *op, const anm_mil_value *x)
{
    return anm_mil_type_known(&x->type) && anm_mil_type_equal(&x->type, &op->outs[0]->type);
}

/* The operand that passes unchanged, or NULL. */
static anm_mil_value *unchanged_operand(const anm_mil_op *op, float neutral)
{
    anm_mil_value *x = anm_mil_arg_of(op, ANM_P_X), *y = anm_mil_arg_of(op, ANM_P_Y);
    if (!x || !y) return NULL;
    if (all_equal(x, neutral) && same_type(op, y)) return y;
    if (all_equal(y, neutral) && same_type(op, x)) return x;
    return NULL;
}

static bool keeps_order(const anm_mil_op *op)
{
    int64_t perm[ANM_MIL_MAX_RANK];
    int n;
    const anm_mil_value *v = anm_mil_arg_of(op, ANM_P_PERM);
    if (!v || !anm_mil_get_i64s(v, perm, ANM_MIL_MAX_RANK, &n)) return false;
    for (int i = 0; i < n; i++)
        if ((perm[i] < 0 ? perm[i] + n : perm[i]) != i) return false;
    return true;
}

static bool steps_forward(const anm_mil_op *op)
{
    int64_t stride[ANM_MIL_MAX_RANK];
    int n;
    const anm_mil_value *v = anm_mil_arg_of(op, ANM_P_STRIDE);
    if (!v) return true;
    if (!anm_mil_get_i64s(v, stride, ANM_MIL_MAX_RANK, &n)) return false;
    for (int i = 0; i < n; i++)
        if (stride[i] < 0) return false;
    return true;
}

/* What the op's result can be replaced by, or NULL. */
static anm_mil_value *unchanged(const anm_mil_op *op)
{
    anm_mil_value *x = anm_mil_arg_of(op, ANM_P_X);
    if (!x || op->n_outs != 1) return NULL;
    switch (op->code) {
    case ANM_OP_ADD: return unchanged_operand(op, 0);
    case ANM_OP_MUL: return unchanged_operand(op, 1);
    case ANM_OP_IDENTITY: return x;
    case ANM_OP_RESHAPE:
    case ANM_OP_TILE:
    case ANM_OP_SLICE_BY_SIZE: return same_type(op, x) ? x : NULL;
    case ANM_OP_SLICE_BY_INDEX: return same_type(op, x) && steps_forward(op) ? x : NULL;
    case ANM_OP_TRANSPOSE: return keeps_order(op) ? x : NULL;
    default: return NULL;
    }
}

int anm_pass_remove_noops(anm_mil_function *fn, anm_error *err)
{
    anm_pass_values values;
    int rc = anm_pass_values_open(&values, fn, err);
    if (rc) return rc;
    for (anm_mil_op *op = fn->first, *next; op; op = next) {
        next = op->next;
        anm_mil_replace_args(op, values.to);
        anm_mil_value *x = unchanged(op);
        if (!x || values.is_output[op->outs[0]->id]) continue;
        values.to[op->outs[0]->id] = x;
        anm_mil_remove(fn, op);
    }
    anm_pass_values_close(&values);
    return 0;
}
