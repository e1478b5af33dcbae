/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Ops that only rearrange: the same floats seen in other dimensions (view.h). What would mix rows, or needs floats moved,
 * ends the attempt.
 */
#include "plan/lower.h"

#include <string.h>

/* Scores and entries keep their last two dimensions; those before them only have other names. */
static anm_sym *reshape_heads(anm_lower *l, const anm_sym *x, const anm_mil_value *out)
{
    const anm_mil_type *t = &out->type;
    int64_t n = 1;
    for (int d = 0; d < t->rank - 2; d++) n *= t->dim[d];
    if (t->rank < 2 || n != x->n_heads || t->dim[t->rank - 2] != x->dim[x->rank - 2] ||
        t->dim[t->rank - 1] != x->dim[x->rank - 1])
        return anm_lower_no(l, "a shape that mixes heads and entries");
    anm_sym *s = anm_lower_new(l, x->kind, out);
    if (!s) return NULL;
    *s = *x;
    s->value = out;
    s->rank = t->rank;
    memcpy(s->dim, t->dim, sizeof s->dim);
    return s;
}

anm_sym *anm_lower_reshape(anm_lower *l, const anm_mil_op *op)
{
    anm_sym *x = anm_lower_arg(l, ANM_P_X);
    if (!x) return NULL;
    const anm_mil_value *out = op->outs[0];
    switch (x->kind) {
    case MEANS_TOKENS:
    case MEANS_LAST_POS: return x;
    case MEANS_ENTRIES:
    case MEANS_SCORES:
    case MEANS_PROBS: return reshape_heads(l, x, out);
    case MEANS_TABLE:
    case MEANS_MASK:
    case MEANS_CACHE: break;
    default: x = anm_lower_force(l, x);
    }
    anm_sym *s = x ? anm_lower_new(l, x->kind, out) : NULL;
    if (!s) return NULL;
    *s = *x;
    s->value = out;
    if (!anm_view_reshape(&s->view, &x->view, out->type.rank, out->type.dim))
        return anm_lower_no(l, "a shape that mixes rows and features");
    return s;
}

anm_sym *anm_lower_transpose(anm_lower *l, const anm_mil_op *op)
{
    anm_sym *x = anm_lower_arg(l, ANM_P_X);
    x = x ? anm_lower_force(l, x) : NULL;
    const anm_mil_value *perm_v = anm_mil_arg_of(op, ANM_P_PERM);
    int64_t perm[ANM_MIL_MAX_RANK];
    int n = 0;
    if (!x) return NULL;
    if (!perm_v || !anm_mil_get_i64s(perm_v, perm, ANM_MIL_MAX_RANK, &n) || n != x->view.rank)
        return anm_lower_no(l, "an order that is not constant");
    for (int i = 0; i < n; i++) {
        if (perm[i] < 0) perm[i] += n;
        if (perm[i] < 0 || perm[i] >= n) return anm_lower_no(l, "an order that is none");
    }
    anm_sym *s = anm_lower_new(l, MEANS_ROWS, op->outs[0]);
    if (s) anm_view_permute(&s->view, &x->view, perm);
    return s;
}

static int64_t flag(const anm_mil_op *op, anm_mil_param p, int d, bool *bad)
{
    const anm_mil_value *v = anm_mil_arg_of(op, p);
    if (!v) return 0;
    if (!v->constant || !v->constant->data || v->type.dtype != ANM_DT_BOOL || (uint64_t)d >= v->constant->size) {
        *bad = true;
        return 0;
    }
    return v->constant->data[d] != 0;
}

/* Takes [begin, end) of dimension d, every `step`-th; the dimension stays. */
static bool cut(anm_view *v, int d, int64_t begin, int64_t end, int64_t step)
{
    int64_t size = v->size[d];
    if (begin < 0 || end > size || begin >= end || step < 1) return false;
    if (begin == 0 && end == size && step == 1) return true;
    if (v->stride[d] == ANM_ROW) return false;
    v->off += begin * v->stride[d];
    v->size[d] = (end - begin + step - 1) / step;
    v->stride[d] *= step;
    return true;
}

anm_sym *anm_lower_slice(anm_lower *l, const anm_mil_op *op)
{
    anm_sym *x = anm_lower_arg(l, ANM_P_X);
    if (!x) return NULL;
    x = anm_lower_force(l, x);
    int64_t begin[ANM_MIL_MAX_RANK], end[ANM_MIL_MAX_RANK], step[ANM_MIL_MAX_RANK];
    int n = 0, n_end = 0, n_step = 0;
    const anm_mil_value *b = anm_mil_arg_of(op, ANM_P_BEGIN), *e = anm_mil_arg_of(op, ANM_P_END_INDEX),
                        *st = anm_mil_arg_of(op, ANM_P_STRIDE);
    if (!x) return NULL;
    if (!b || !e || !anm_mil_get_i64s(b, begin, ANM_MIL_MAX_RANK, &n) ||
        !anm_mil_get_i64s(e, end, ANM_MIL_MAX_RANK, &n_end) || n != x->view.rank || n_end != n ||
        (st && (!anm_mil_get_i64s(st, step, ANM_MIL_MAX_RANK, &n_step) || n_step != n)))
        return anm_lower_no(l, "a slice that is not constant");
    anm_sym *s = anm_lower_new(l, MEANS_ROWS, op->outs[0]);
    if (!s) return NULL;
    s->view = x->view;
    bool bad = false;
    int rank = 0;
    for (int d = 0; d < n; d++) {
        int64_t size = x->view.size[d], lo = begin[d], hi = end[d];
        bool squeeze = flag(op, ANM_P_SQUEEZE_MASK, d, &bad);
        if (flag(op, ANM_P_BEGIN_MASK, d, &bad)) lo = 0;
        else if (lo < 0) lo += size;
        if (squeeze) hi = lo + 1;
        else if (flag(op, ANM_P_END_MASK, d, &bad)) hi = size;
        else if (hi < 0) hi += size;
        if (bad || !cut(&s->view, d, lo, hi, st ? step[d] : 1))
            return anm_lower_no(l, "a slice of rows, or one that is not constant");
        if (squeeze) continue;
        s->view.size[rank] = s->view.size[d];
        s->view.stride[rank++] = s->view.stride[d];
    }
    s->view.rank = rank;
    return s;
}

anm_sym *anm_lower_slice_by_size(anm_lower *l, const anm_mil_op *op)
{
    anm_sym *x = anm_lower_arg(l, ANM_P_X);
    x = x ? anm_lower_force(l, x) : NULL;
    int64_t begin[ANM_MIL_MAX_RANK];
    int n = 0;
    const anm_mil_value *b = anm_mil_arg_of(op, ANM_P_BEGIN), *out = op->outs[0];
    if (!x) return NULL;
    if (!b || !anm_mil_get_i64s(b, begin, ANM_MIL_MAX_RANK, &n) || n != x->view.rank || out->type.rank != n)
        return anm_lower_no(l, "a slice that is not constant");
    anm_sym *s = anm_lower_new(l, MEANS_ROWS, out);
    if (!s) return NULL;
    s->view = x->view;
    for (int d = 0; d < n; d++) {
        int64_t lo = begin[d] < 0 ? begin[d] + x->view.size[d] : begin[d];
        if (!cut(&s->view, d, lo, lo + out->type.dim[d], 1)) return anm_lower_no(l, "a slice of rows");
    }
    return s;
}

/* Several results, each a part along the axis. */
bool anm_lower_split(anm_lower *l, const anm_mil_op *op)
{
    anm_sym *x = anm_lower_arg(l, ANM_P_X);
    x = x ? anm_lower_force(l, x) : NULL;
    const anm_mil_value *axis_v = anm_mil_arg_of(op, ANM_P_AXIS);
    int64_t axis = 0, at = 0;
    if (!x) return false;
    if (!axis_v || !anm_mil_get_i64(axis_v, &axis)) return anm_lower_no(l, "an axis that is not constant");
    if (axis < 0) axis += x->view.rank;
    if (axis < 0 || axis >= x->view.rank) return anm_lower_no(l, "an axis that is none");
    for (uint32_t i = 0; i < op->n_outs; i++) {
        const anm_mil_value *out = op->outs[i];
        anm_sym *s = anm_lower_new(l, MEANS_ROWS, out);
        if (!s) return false;
        s->view = x->view;
        int64_t n = out->type.dim[axis];
        if (out->type.rank != x->view.rank || !cut(&s->view, (int)axis, at, at + n, 1))
            return anm_lower_no(l, "a split of rows");
        at += n;
        l->at[out->id] = s;
    }
    return true;
}
