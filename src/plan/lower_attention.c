/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Meanings of what surrounds attention: joining (split linears, turned pairs, cache and new entries), scores, softmax,
 * and the product with the values, at which the whole becomes one step over the cache in place.
 *
 *   concat(cache, k) -> entries;  q entries^T * scale + mask -> softmax -> times entries => ATTEND
 */
#include "plan/lower.h"

#include <math.h>
#include <string.h>

/* ---- joining ---- */

enum { PARTS_MOST = 1 << 16 }; /* of a matrix; a vocabulary in pieces of 32 has a few thousand */

static anm_sym *join_linears(anm_lower *l, anm_sym **x, uint32_t n)
{
    anm_sym *s = anm_lower_new(l, MEANS_LINEAR, l->op->outs[0]);
    if (!s) return NULL;
    *s = *x[0];
    s->value = l->op->outs[0];
    s->made = NULL;
    s->matrix.n_parts = 0;
    s->matrix.rows = 0;
    bool bias = false;
    uint64_t parts = 0; /* one may stand in the list again and again, and be such a list itself */
    for (uint32_t i = 0; i < n; i++) {
        parts += x[i]->matrix.n_parts;
        if (parts > PARTS_MOST) return anm_lower_no(l, "a matrix of too many parts");
        s->matrix.n_parts = (uint32_t)parts;
        s->matrix.rows += x[i]->matrix.rows;
        bias |= x[i]->matrix.bias != NULL;
    }
    s->matrix.part = anm_arena_array(l->arena, s->matrix.n_parts, sizeof *s->matrix.part);
    float *b = bias ? anm_arena_array(l->arena, (size_t)s->matrix.rows, sizeof *b) : NULL;
    if (!s->matrix.part || (bias && !b)) return anm_lower_no_memory(l);
    s->matrix.bias = b;
    anm_rows_spec *to = s->matrix.part;
    for (uint32_t i = 0; i < n; i++) {
        memcpy(to, x[i]->matrix.part, x[i]->matrix.n_parts * sizeof *to);
        to += x[i]->matrix.n_parts;
        if (bias && x[i]->matrix.bias) memcpy(b, x[i]->matrix.bias, (size_t)x[i]->matrix.rows * sizeof *b);
        if (bias) b += x[i]->matrix.rows;
    }
    s->view.size[s->view.rank - 1] = s->matrix.rows;
    return s;
}

/* New keys or values behind a cache: they are put into the fresh ones, in the cache's type, and both are entries. */
static anm_sym *keep(anm_lower *l, const anm_sym *cache, anm_sym *x, int64_t axis)
{
    const anm_method *m = l->m;
    int64_t heads, stride;
    x = anm_lower_force(l, x);
    if (!x) return NULL;
    const anm_view *v = &x->view, *c = &cache->view;
    int row = anm_view_row(v), last = v->rank - 1;
    if (v->rank != c->rank || axis != v->rank - 2 || (row >= 0 ? row != axis : m->rows != 1) ||
        v->size[last] != m->head_dim || c->size[last] != m->head_dim || c->size[axis] != m->cache_len || c->off ||
        !anm_view_is_heads(v, &heads, &stride) || heads != m->n_kv_heads)
        return anm_lower_no(l, "entries of another shape than the cache's");
    int at = cache->layer * 2 + cache->v;
    if (l->is_kept[at]) return anm_lower_no(l, "a cache that is used twice");
    anm_sym *s = anm_lower_new(l, MEANS_ENTRIES, l->op->outs[0]);
    anm_plan_step *st = s ? anm_lower_step(l, ANM_STEP_KEEP) : NULL;
    if (!st) return NULL;
    st->name = l->op->outs[0]->name;
    st->in = v->buf;
    st->in_off = v->off;
    st->heads = heads;
    st->stride = stride;
    st->size = m->head_dim;
    st->width = heads * m->head_dim;
    st->layer = cache->layer;
    st->v = cache->v;
    l->kept[at] = *v;
    l->is_kept[at] = true;
    s->layer = cache->layer;
    s->v = cache->v;
    s->n_heads = (int32_t)heads;
    s->kv_head = anm_arena_array(l->arena, (size_t)heads, sizeof *s->kv_head);
    if (!s->kv_head) return anm_lower_no_memory(l);
    for (int32_t h = 0; h < (int32_t)heads; h++) s->kv_head[h] = h;
    s->rank = v->rank;
    memcpy(s->dim, v->size, sizeof s->dim);
    s->dim[axis] = m->cache_len + m->rows;
    return s;
}

/* Do two views of one shape walk alike, but for where they begin? */
static bool same_steps(const anm_view *a, const anm_view *b)
{
    anm_view moved = *a;
    moved.off = b->off;
    return anm_view_equal(&moved, b);
}

/* (-b, a), where a and b are the halves of the same rows. */
static anm_sym *halves(anm_lower *l, const anm_sym *minus_b, const anm_sym *a)
{
    const anm_sym *b = minus_b->of;
    int last = b->view.rank - 1;
    int64_t n = b->view.size[last], step = b->view.stride[last];
    if (minus_b->factor != -1 || a->kind != MEANS_ROWS || !anm_view_same_shape(&a->view, &b->view) ||
        !same_steps(&a->view, &b->view) || a->view.off + n * step != b->view.off)
        return anm_lower_no(l, "parts that are not the halves of the same rows");
    anm_sym *s = anm_lower_new(l, MEANS_HALVES, l->op->outs[0]), *whole = s ? anm_lower_new(l, MEANS_ROWS, s->value) : NULL;
    if (!whole) return NULL;
    whole->view = a->view;
    whole->view.size[last] = 2 * n;
    s->of = whole;
    return s;
}

anm_sym *anm_lower_concat(anm_lower *l, const anm_mil_op *op)
{
    const anm_mil_arg *list = anm_mil_args_of(op, ANM_P_VALUES);
    const anm_mil_value *axis_v = anm_mil_arg_of(op, ANM_P_AXIS), *mix_v = anm_mil_arg_of(op, ANM_P_INTERLEAVE);
    int64_t axis = 0;
    bool mix = false, linears = true;
    if (!list || !list->count || !axis_v || !anm_mil_get_i64(axis_v, &axis) || (mix_v && !anm_mil_get_bool(mix_v, &mix)) ||
        mix)
        return anm_lower_no(l, "a list or an axis that is not plain");
    anm_sym **x = anm_arena_array(l->arena, list->count, sizeof *x);
    if (!x) return anm_lower_no_memory(l);
    for (uint32_t i = 0; i < list->count; i++) {
        x[i] = anm_lower_meaning(l, list->value[i]);
        if (!x[i]) return NULL;
        linears = linears && x[i]->kind == MEANS_LINEAR && !x[i]->made && anm_view_equal(&x[i]->of->view, &x[0]->of->view);
    }
    int rank = op->outs[0]->type.rank;
    if (axis < 0) axis += rank;
    bool stack = op->code == ANM_OP_STACK, last = axis == rank - 1;
    if (list->count == 1 && !stack) return x[0];
    if (list->count == 2 && last && x[0]->kind == MEANS_FIRST && x[1]->kind == MEANS_SECOND)
        return anm_lower_rope(l, x[0], x[1], !stack, op->outs[0]);
    if (stack) return anm_lower_no(l, "a stack that is no turned pair");
    if (linears && last) return join_linears(l, x, list->count);
    if (list->count == 2 && last && x[0]->kind == MEANS_ROOT) return anm_lower_legs(l, x[0], x[1]);
    if (list->count == 2 && x[0]->kind == MEANS_CACHE) return keep(l, x[0], x[1], axis);
    if (list->count == 2 && last && x[0]->kind == MEANS_SCALED && !x[0]->made) return halves(l, x[0], x[1]);
    return anm_lower_no(l, "operands that do not belong together");
}

/* ---- attention ---- */

anm_sym *anm_lower_scores(anm_lower *l, const anm_sym *like, const anm_mil_value *v)
{
    anm_sym *s = anm_lower_new(l, like->kind, v);
    if (!s) return NULL;
    *s = *like;
    s->value = v;
    return s;
}

anm_sym *anm_lower_masked(anm_lower *l, const anm_sym *scores, const anm_sym *mask, const anm_mil_value *out)
{
    const anm_view *v = &mask->view;
    int last = v->rank - 1, row = anm_view_row(v);
    if (scores->masked || v->off || v->rank < 2 || v->size[last] != scores->dim[scores->rank - 1] ||
        v->size[last - 1] != scores->dim[scores->rank - 2] || (row != last - 1 && l->m->rows != 1))
        return anm_lower_no(l, "a mask of another shape");
    anm_sym *s = anm_lower_scores(l, scores, out);
    if (s) s->masked = true;
    return s;
}

/* The leading dimensions of both operands, broadcast: the number of heads, and for each the place in either. */
static int32_t broadcast(anm_lower *l, int rank_a, const int64_t *a, int rank_b, const int64_t *b, int *rank, int64_t *dim,
                         int64_t **index_a, int64_t **index_b)
{
    int n = rank_a > rank_b ? rank_a : rank_b;
    int64_t count = 1;
    for (int d = 0; d < n; d++) {
        int da = d - (n - rank_a), db = d - (n - rank_b);
        int64_t sa = da < 0 ? 1 : a[da], sb = db < 0 ? 1 : b[db];
        if (sa != sb && sa != 1 && sb != 1) return 0;
        dim[d] = sa > sb ? sa : sb;
        if (!anm_mul_i64(count, dim[d], &count) || count < 1 || count > 1 << 16) return 0;
    }
    *rank = n;
    *index_a = anm_arena_array(l->arena, (size_t)count, sizeof **index_a);
    *index_b = anm_arena_array(l->arena, (size_t)count, sizeof **index_b);
    if (!*index_a || !*index_b) {
        anm_lower_no_memory(l);
        return 0;
    }
    for (int64_t i = 0; i < count; i++) {
        int64_t left = i, at[ANM_MIL_MAX_RANK];
        for (int d = n - 1; d >= 0; d--) {
            at[d] = left % dim[d];
            left /= dim[d];
        }
        int64_t ia = 0, ib = 0;
        for (int d = 0; d < n; d++) {
            int da = d - (n - rank_a), db = d - (n - rank_b);
            if (da >= 0) ia = ia * a[da] + (a[da] == 1 ? 0 : at[d]);
            if (db >= 0) ib = ib * b[db] + (b[db] == 1 ? 0 : at[d]);
        }
        (*index_a)[i] = ia;
        (*index_b)[i] = ib;
    }
    return (int32_t)count;
}

/* The offset of the i-th of the leading dimensions' elements. */
static int64_t offset_of(const anm_view *v, int n, int64_t i)
{
    int64_t off = v->off;
    for (int d = n - 1; d >= 0; d--) {
        off += i % v->size[d] * v->stride[d];
        i /= v->size[d];
    }
    return off;
}

static anm_sym *scores(anm_lower *l, anm_sym *q, const anm_sym *k, const anm_mil_value *out)
{
    float factor = 1;
    if (q->kind == MEANS_SCALED && !q->made) {
        factor = q->factor;
        q = (anm_sym *)q->of;
    }
    q = anm_lower_force(l, q);
    if (!q) return NULL;
    const anm_view *v = &q->view;
    int row = anm_view_row(v);
    if (v->rank < 2 || k->v != 0 || (row >= 0 ? row != v->rank - 2 : v->size[v->rank - 2] != 1) ||
        v->size[v->rank - 1] != l->m->head_dim || v->stride[v->rank - 1] != 1)
        return anm_lower_no(l, "queries of another shape than the keys'");
    anm_sym *s = anm_lower_new(l, MEANS_SCORES, out);
    int64_t *iq, *ik;
    if (!s) return NULL;
    s->n_heads = broadcast(l, v->rank - 2, v->size, k->rank - 2, k->dim, &s->rank, s->dim, &iq, &ik);
    s->q_off = s->n_heads ? anm_arena_array(l->arena, (size_t)s->n_heads, sizeof *s->q_off) : NULL;
    s->kv_head = s->q_off ? anm_arena_array(l->arena, (size_t)s->n_heads, sizeof *s->kv_head) : NULL;
    if (!s->kv_head) return anm_lower_no(l, "heads that do not fit");
    for (int32_t h = 0; h < s->n_heads; h++) {
        s->q_off[h] = offset_of(v, v->rank - 2, iq[h]);
        s->kv_head[h] = k->kv_head[ik[h]];
    }
    s->dim[s->rank++] = l->m->rows;
    s->dim[s->rank++] = k->dim[k->rank - 2];
    s->of = q;
    s->layer = k->layer;
    s->factor = factor;
    return s;
}

static anm_sym *attend(anm_lower *l, const anm_sym *p, const anm_sym *values, const anm_mil_value *out)
{
    const anm_method *m = l->m;
    int64_t dim[ANM_MIL_MAX_RANK], *ip, *iv;
    int rank;
    if (values->v != 1 || !p->masked || p->dim[p->rank - 1] != values->dim[values->rank - 2])
        return anm_lower_no(l, "scores without a mask, or values of another shape");
    int32_t n = broadcast(l, p->rank - 2, p->dim, values->rank - 2, values->dim, &rank, dim, &ip, &iv);
    if (n != p->n_heads) return anm_lower_no(l, "heads that do not fit");
    for (int32_t h = 0; h < n; h++)
        if (ip[h] != h || values->kv_head[iv[h]] != p->kv_head[h])
            return anm_lower_no(l, "a head with the keys of one and the values of another");
    anm_sym *s = anm_lower_new(l, MEANS_ROWS, out);
    int32_t buf = anm_lower_buffer(l, n * m->head_dim);
    anm_plan_step *st = s && buf >= 0 ? anm_lower_step(l, ANM_STEP_ATTEND) : NULL;
    if (!st) return NULL;
    if (out->type.rank != rank + 2) return anm_lower_no(l, "a result of another shape");
    s->view = anm_lower_packed(l, buf, out, rank);
    if (anm_view_width(&s->view) != n * m->head_dim) return anm_lower_no(l, "a result of another shape");
    st->name = out->name;
    st->in = p->of->view.buf;
    st->out = buf;
    st->heads = n;
    st->size = m->head_dim;
    st->width = n * m->head_dim;
    st->q_off = p->q_off;
    st->kv_head = p->kv_head;
    st->k_layer = p->layer;
    st->v_layer = values->layer;
    st->factor = p->factor;
    st->group = anm_arena_array(l->arena, (size_t)n + 1, sizeof *st->group);
    if (!st->group) return anm_lower_no_memory(l);
    for (int32_t h = 0; h < n; h++)
        if (h == 0 || p->kv_head[h] != p->kv_head[h - 1] || h - st->group[st->n_groups - 1] == ANM_HEADS_MAX)
            st->group[st->n_groups++] = h;
    st->group[st->n_groups] = n;
    return s;
}

static bool flag_of(const anm_mil_op *op, anm_mil_param p, bool *out)
{
    const anm_mil_value *v = anm_mil_arg_of(op, p);
    *out = false;
    return !v || anm_mil_get_bool(v, out);
}

static anm_sym *lower_matmul(anm_lower *l, const anm_mil_op *op)
{
    anm_sym *x = anm_lower_arg(l, ANM_P_X), *y = anm_lower_arg(l, ANM_P_Y);
    bool tx, ty;
    if (!x || !y) return NULL;
    if (!flag_of(op, ANM_P_TRANSPOSE_X, &tx) || !flag_of(op, ANM_P_TRANSPOSE_Y, &ty) || tx || y->kind != MEANS_ENTRIES)
        return anm_lower_no(l, "a product that is not with keys or values");
    if (x->kind == MEANS_PROBS && !ty) return attend(l, x, y, op->outs[0]);
    if (ty) return scores(l, x, y, op->outs[0]);
    return anm_lower_no(l, "a product that is not with keys or values");
}

/* Heads repeated: which head each copy is of. */
static anm_sym *lower_tile(anm_lower *l, const anm_mil_op *op)
{
    anm_sym *x = anm_lower_arg(l, ANM_P_X);
    const anm_mil_value *reps_v = anm_mil_arg_of(op, ANM_P_REPS);
    int64_t reps[ANM_MIL_MAX_RANK];
    int n = 0;
    if (!x) return NULL;
    if (x->kind != MEANS_ENTRIES || !reps_v || !anm_mil_get_i64s(reps_v, reps, ANM_MIL_MAX_RANK, &n) ||
        n != x->rank || reps[n - 1] != 1 || reps[n - 2] != 1)
        return anm_lower_no(l, "something repeated that is not heads");
    anm_sym *s = anm_lower_scores(l, x, op->outs[0]);
    if (!s) return NULL;
    int64_t count = 1;
    for (int d = 0; d < n - 2; d++) {
        if (reps[d] < 1 || reps[d] > 1 << 16) return anm_lower_no(l, "a number of copies out of range");
        s->dim[d] = x->dim[d] * reps[d];
        if (!anm_mul_i64(count, s->dim[d], &count) || count < 1 || count > 1 << 16)
            return anm_lower_no(l, "too many heads");
    }
    s->n_heads = (int32_t)count;
    s->kv_head = anm_arena_array(l->arena, (size_t)count, sizeof *s->kv_head);
    if (!s->kv_head) return anm_lower_no_memory(l);
    for (int64_t i = 0; i < count; i++) {
        int64_t left = i, from = 0, scale = 1;
        for (int d = n - 3; d >= 0; d--) {
            from += left % s->dim[d] % x->dim[d] * scale;
            left /= s->dim[d];
            scale *= x->dim[d];
        }
        s->kv_head[i] = x->kv_head[from];
    }
    return s;
}

static anm_sym *lower_softmax(anm_lower *l, const anm_mil_op *op)
{
    anm_sym *x = anm_lower_arg(l, ANM_P_X);
    const anm_mil_value *axis_v = anm_mil_arg_of(op, ANM_P_AXIS);
    int64_t axis = -1;
    if (!x) return NULL;
    if (x->kind != MEANS_SCORES || (axis_v && !anm_mil_get_i64(axis_v, &axis)) || (axis != -1 && axis != x->rank - 1))
        return anm_lower_no(l, "not of scores over entries");
    anm_sym *s = anm_lower_scores(l, x, op->outs[0]);
    if (s) s->kind = MEANS_PROBS;
    return s;
}

/* The fused op of the older exporter. It broadcasts the mask, so one of another shape is not the rows' alone. */
static anm_sym *lower_sdpa(anm_lower *l, const anm_mil_op *op)
{
    anm_sym *q = anm_lower_arg(l, ANM_P_QUERY), *k = anm_lower_arg(l, ANM_P_KEY), *v = anm_lower_arg(l, ANM_P_VALUE),
            *mask = anm_lower_arg(l, ANM_P_ATTN_MASK);
    if (!q || !k || !v || !mask) return NULL;
    if (k->kind != MEANS_ENTRIES || v->kind != MEANS_ENTRIES || mask->kind != MEANS_MASK)
        return anm_lower_no(l, "keys, values or a mask that are not the cache's");
    anm_sym *s = scores(l, q, k, op->outs[0]);
    if (!s) return NULL;
    s->factor /= sqrtf((float)l->m->head_dim);
    s = anm_lower_masked(l, s, mask, op->outs[0]);
    return s ? attend(l, s, v, op->outs[0]) : NULL;
}

anm_sym *anm_lower_attention_rule(anm_lower *l, const anm_mil_op *op)
{
    switch (op->code) {
    case ANM_OP_MATMUL: return lower_matmul(l, op);
    case ANM_OP_SOFTMAX: return lower_softmax(l, op);
    case ANM_OP_TILE: return lower_tile(l, op);
    default: return lower_sdpa(l, op);
    }
}
