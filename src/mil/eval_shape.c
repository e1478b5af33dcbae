/* SPDX-License-Identifier: BSD-3-Clause */
/* The ops that only move elements, or look them up. An element is four bytes whatever it is. */
#include "mil/eval.h"

#include <string.h>

static int64_t count(const anm_mil_array *a)
{
    return anm_dims(&a->type, 0, a->type.rank);
}

/* The distance of neighbours in each dimension. */
static void strides_of(const anm_mil_type *t, int64_t stride[ANM_MIL_MAX_RANK])
{
    int64_t s = 1;
    for (int i = t->rank - 1; i >= 0; i--) {
        stride[i] = s;
        s *= t->dim[i];
    }
}

/* Fills `out` in its order from where the walk leads in `x`. */
static void copy_walk(anm_mil_array *out, const anm_mil_array *x, anm_walk *w)
{
    int64_t n = count(out);
    for (int64_t i = 0; i < n; i++, anm_walk_next(w))
        out->i[i] = x->i[w->at[0]];
}

static int copy_all(anm_eval *e)
{
    const anm_mil_array *x = anm_eval_arg(e, ANM_P_X);
    if (!x) return -1;
    memcpy(e->out->f, x->f, (size_t)count(x) * 4);
    return 0;
}

int anm_eval_reshape(anm_eval *e)
{
    return copy_all(e);
}

int anm_eval_squeeze(anm_eval *e)
{
    return copy_all(e);
}

int anm_eval_expand_dims(anm_eval *e)
{
    return copy_all(e);
}

int anm_eval_shape(anm_eval *e)
{
    const anm_mil_type *t = &anm_mil_arg_of(e->op, ANM_P_X)->type;
    for (int i = 0; i < t->rank; i++) {
        if (t->dim[i] > INT32_MAX)
            return anm_fail(e->err, ANM_ERR_LIMIT, "shape: dimension %d does not fit an int32", i);
        e->out->i[i] = (int32_t)t->dim[i];
    }
    return 0;
}

int anm_eval_transpose(anm_eval *e)
{
    const anm_mil_array *x = anm_eval_arg(e, ANM_P_X);
    int64_t perm[ANM_MIL_MAX_RANK], stride[ANM_MIL_MAX_RANK];
    int n = 0;
    if (!x) return -1;
    anm_mil_get_i64s(anm_mil_arg_of(e->op, ANM_P_PERM), perm, ANM_MIL_MAX_RANK, &n);
    strides_of(&x->type, stride);
    anm_walk w = {.rank = n, .n = 1};
    for (int i = 0; i < n; i++) {
        w.dim[i] = e->out->type.dim[i];
        w.stride[0][i] = stride[perm[i] < 0 ? perm[i] + n : perm[i]];
    }
    copy_walk(e->out, x, &w);
    return 0;
}

/* Each dimension becomes two, the repetitions and the dimension itself. */
int anm_eval_tile(anm_eval *e)
{
    const anm_mil_array *x = anm_eval_arg(e, ANM_P_X);
    int64_t stride[ANM_MIL_MAX_RANK];
    if (!x) return -1;
    strides_of(&x->type, stride);
    anm_walk w = {.rank = 2 * x->type.rank, .n = 1};
    for (int i = 0; i < x->type.rank; i++) {
        int64_t dim = x->type.dim[i];
        w.dim[2 * i] = dim ? e->out->type.dim[i] / dim : 0;
        w.dim[2 * i + 1] = dim;
        w.stride[0][2 * i + 1] = stride[i];
    }
    copy_walk(e->out, x, &w);
    return 0;
}

/* ---- joining and parting ---- */

/* One of the values to be joined: `n` pieces of `inner` elements for each of `outer` rows. Interleaved, piece
 * p of value v stands at p * values + v; else the values stand one behind the other. */
static int join(anm_eval *e, int axis, bool stacked, bool interleave)
{
    const anm_mil_arg *values = anm_mil_args_of(e->op, ANM_P_VALUES);
    const anm_mil_type *out = &e->out->type;
    int64_t outer = anm_dims(out, 0, axis), inner = anm_dims(out, axis + 1, out->rank),
            row = out->dim[axis] * inner;
    int64_t start = 0;
    for (uint32_t v = 0; v < values->count; v++) {
        const anm_mil_array *x = anm_eval_value(e, values->value[v]);
        if (!x) return -1;
        int64_t n = stacked || !x->type.rank ? 1 : x->type.dim[axis];
        int64_t step = interleave ? inner * values->count : inner;
        for (int64_t o = 0; o < outer; o++)
            for (int64_t p = 0; p < n; p++)
                memcpy(e->out->f + o * row + start + p * step, x->f + (o * n + p) * inner, (size_t)inner * 4);
        start += interleave ? inner : n * inner;
    }
    return 0;
}

int anm_eval_concat(anm_eval *e)
{
    int64_t axis = 0;
    bool interleave = false;
    anm_mil_get_i64(anm_mil_arg_of(e->op, ANM_P_AXIS), &axis);
    anm_mil_get_bool(anm_mil_arg_of(e->op, ANM_P_INTERLEAVE), &interleave);
    return join(e, (int)(axis < 0 ? axis + e->out->type.rank : axis), false, interleave);
}

int anm_eval_stack(anm_eval *e)
{
    int64_t axis = 0;
    anm_mil_get_i64(anm_mil_arg_of(e->op, ANM_P_AXIS), &axis);
    return join(e, (int)(axis < 0 ? axis + e->out->type.rank : axis), true, false);
}

int anm_eval_split(anm_eval *e)
{
    const anm_mil_array *x = anm_eval_arg(e, ANM_P_X);
    int64_t axis = 0, start = 0;
    if (!x) return -1;
    anm_mil_get_i64(anm_mil_arg_of(e->op, ANM_P_AXIS), &axis);
    int rank = x->type.rank, at = (int)(axis < 0 ? axis + rank : axis);
    int64_t outer = anm_dims(&x->type, 0, at), inner = anm_dims(&x->type, at + 1, rank),
            row = x->type.dim[at] * inner;
    for (uint32_t part = 0; part < e->op->n_outs; part++) {
        int64_t n = e->out[part].type.dim[at] * inner;
        for (int64_t o = 0; o < outer; o++)
            memcpy(e->out[part].f + o * n, x->f + o * row + start, (size_t)n * 4);
        start += n;
    }
    return 0;
}

/* ---- taking a part ---- */

static bool flag_at(const anm_mil_value *mask, int i)
{
    return mask && mask->constant->data[i];
}

/* Where a slice begins or ends: computed or constant, but known by now. */
static int bounds(anm_eval *e, anm_mil_param p, int64_t *out)
{
    int n;
    if (anm_mil_get_i64s(anm_mil_arg_of(e->op, p), out, ANM_MIL_MAX_RANK, &n)) return 0;
    return anm_fail(e->err, ANM_ERR_UNSUPPORTED, "%s is no list of a few integers", anm_mil_param_name(p));
}

int anm_eval_slice_by_index(anm_eval *e)
{
    const anm_mil_array *x = anm_eval_arg(e, ANM_P_X);
    const anm_mil_value *bm = anm_mil_arg_of(e->op, ANM_P_BEGIN_MASK),
                        *em = anm_mil_arg_of(e->op, ANM_P_END_MASK),
                        *sm = anm_mil_arg_of(e->op, ANM_P_SQUEEZE_MASK);
    int64_t begin[ANM_MIL_MAX_RANK], end[ANM_MIL_MAX_RANK], step[ANM_MIL_MAX_RANK], stride[ANM_MIL_MAX_RANK];
    int n;
    if (!x) return -1;
    for (int i = 0; i < x->type.rank; i++)
        step[i] = 1;
    if (bounds(e, ANM_P_BEGIN, begin) || bounds(e, ANM_P_END_INDEX, end)) return -1;
    anm_mil_get_i64s(anm_mil_arg_of(e->op, ANM_P_STRIDE), step, ANM_MIL_MAX_RANK, &n);
    strides_of(&x->type, stride);
    anm_walk w = {.rank = x->type.rank, .n = 1};
    for (int i = 0; i < x->type.rank; i++) {
        anm_mil_slice s = {.begin = begin[i],
                           .end = end[i],
                           .stride = step[i],
                           .begin_mask = flag_at(bm, i),
                           .end_mask = flag_at(em, i),
                           .squeeze = flag_at(sm, i)};
        int64_t first;
        if (!anm_mil_slice_dim(&s, x->type.dim[i], &first, &w.dim[i]))
            return anm_fail(e->err, ANM_ERR_LIMIT, "index %lld in dimension %d", (long long)begin[i], i);
        w.at[0] += first * stride[i];
        w.stride[0][i] = step[i] * stride[i];
    }
    copy_walk(e->out, x, &w);
    return 0;
}

int anm_eval_slice_by_size(anm_eval *e)
{
    const anm_mil_array *x = anm_eval_arg(e, ANM_P_X);
    int64_t begin[ANM_MIL_MAX_RANK];
    if (!x || bounds(e, ANM_P_BEGIN, begin)) return -1;
    anm_walk w = {.rank = x->type.rank, .n = 1};
    strides_of(&x->type, w.stride[0]);
    for (int i = 0; i < x->type.rank; i++) {
        w.dim[i] = e->out->type.dim[i];
        w.at[0] += (begin[i] < 0 ? begin[i] + x->type.dim[i] : begin[i]) * w.stride[0][i];
    }
    copy_walk(e->out, x, &w);
    return 0;
}

/* The table is read by rows and not as a whole: it may be a vocabulary. A negative index counts from the end.
 */
int anm_eval_gather(anm_eval *e)
{
    const anm_mil_value *table = anm_mil_arg_of(e->op, ANM_P_X);
    const anm_mil_array *ids = anm_eval_arg(e, ANM_P_INDICES);
    anm_source x;
    int64_t axis = 0, batch = 0;
    if (!ids || anm_source_of(&x, e, table)) return -1;
    anm_mil_get_i64(anm_mil_arg_of(e->op, ANM_P_AXIS), &axis);
    anm_mil_get_i64(anm_mil_arg_of(e->op, ANM_P_BATCH_DIMS), &batch);
    int rank = x.type->rank, at = (int)(axis < 0 ? axis + rank : axis), b = (int)batch;
    int64_t batches = anm_dims(x.type, 0, b), outer = anm_dims(x.type, b, at), size = x.type->dim[at],
            inner = anm_dims(x.type, at + 1, rank), n_ids = anm_dims(&ids->type, b, ids->type.rank);
    float *out = e->out->f;
    for (int64_t o = 0; o < batches * outer; o++) {
        const int32_t *id = ids->i + o / outer * n_ids;
        for (int64_t i = 0; i < n_ids; i++, out += inner) {
            int64_t index = id[i] < 0 ? id[i] + size : id[i];
            if (index < 0 || index >= size)
                return anm_fail(e->err, ANM_ERR_LIMIT, "gather: index %ld of a dimension of %lld",
                                (long)id[i], (long long)size);
            anm_source_read(&x, (o * size + index) * inner, inner, out);
        }
    }
    return 0;
}

/* Weights in few bits are decoded where they are used; only one that a function gives away comes here. */
int anm_eval_blockwise(anm_eval *e)
{
    anm_source s;
    if (anm_source_of(&s, e, e->op->outs[0])) return -1;
    anm_source_read(&s, 0, count(e->out), e->out->f);
    return 0;
}
