/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Meanings of arithmetic: norms, rotary embeddings, residual sums, gated linears.
 *
 *   norm:  x -> x^2 -> mean -> + eps -> rsqrt -> * x -> * weight      (or through reduce_l2_norm, sqrt, inverse, …)
 *   rope:  a, b = slices of x; (a cos - b sin, a sin + b cos) -> stack or concat
 *   gate:  silu(x W1) * (x W3)
 */
#include "plan/lower.h"

#include <math.h>
#include <string.h>

/* ---- norms ---- */

/* The rows below an optional factor: what a norm is taken of. */
static anm_sym *rows_of(anm_lower *l, anm_sym *s, float *factor)
{
    *factor = 1;
    if (s->kind == MEANS_SCALED && !s->made) {
        *factor = s->factor;
        return (anm_sym *)s->of;
    }
    return anm_lower_force(l, s);
}

static anm_sym *norm_sym(anm_lower *l, anm_meaning kind, const anm_sym *from)
{
    anm_sym *s = anm_lower_new(l, kind, l->op->outs[0]);
    if (!s) return NULL;
    s->of = from->kind == MEANS_ROWS ? from : from->of;
    s->norm = from->norm;
    s->levelled = from->levelled;
    return s;
}

/* Is the reduction over the last dimension, which stays as a dimension of 1? */
static bool keeps_last(const anm_mil_op *op, int rank)
{
    const anm_mil_value *axes_v = anm_mil_arg_of(op, ANM_P_AXES), *keep_v = anm_mil_arg_of(op, ANM_P_KEEP_DIMS);
    int64_t axes[ANM_MIL_MAX_RANK];
    int n = 0;
    bool keep = false;
    return axes_v && keep_v && anm_mil_get_i64s(axes_v, axes, ANM_MIL_MAX_RANK, &n) && n == 1 &&
           anm_mil_get_bool(keep_v, &keep) && keep && (axes[0] == -1 || axes[0] == rank - 1);
}

/* The sum of squares over the last dimension, kept as a dimension of 1. */
static anm_sym *sum_of(anm_lower *l, anm_sym *rows, float scale)
{
    if (!keeps_last(l->op, rows->view.rank)) return anm_lower_no(l, "a sum over something else than the last dimension");
    anm_sym *s = norm_sym(l, MEANS_SUM, rows);
    if (!s) return NULL;
    s->norm = (anm_norm){.sum_scale = scale, .mul = 1};
    return s;
}

anm_sym *anm_lower_legs(anm_lower *l, const anm_sym *root, const anm_sym *constant)
{
    const anm_mil_value *v = constant->value;
    int64_t count;
    if (constant->kind != MEANS_CONST || root->norm.outer != 0 || root->norm.floor != 0 || !v->type.rank ||
        v->type.dim[v->type.rank - 1] != 1 || !anm_mil_type_count(&v->type, &count) || count < 1)
        return anm_lower_no(l, "a root beside something that is no plain column");
    anm_rows_spec w = {v, NULL, v->type.dtype, 1, count};
    float *f = anm_weight_readable(&w) ? anm_arena_array(l->arena, (size_t)count, sizeof *f) : NULL;
    if (!f) return anm_lower_no(l, "a root beside a constant that cannot be read");
    anm_weight_row(f, &w, 0);
    for (int64_t i = 1; i < count; i++)
        if (f[i] != f[0]) return anm_lower_no(l, "a root beside a constant that varies");
    anm_sym *s = norm_sym(l, MEANS_LEGS, root);
    if (s) s->norm.inner += f[0] * f[0];
    return s;
}

static anm_sym *reduce(anm_lower *l, const anm_mil_op *op, anm_sym *x)
{
    float factor = 1;
    if (x->kind == MEANS_LEGS) {
        if (op->code != ANM_OP_REDUCE_L2_NORM || !keeps_last(op, anm_mil_arg_of(op, ANM_P_X)->type.rank))
            return anm_lower_no(l, "not the length of a root and a constant");
        return norm_sym(l, MEANS_ROOT, x);
    }
    bool squared = op->code == ANM_OP_REDUCE_MEAN || op->code == ANM_OP_REDUCE_SUM;
    anm_sym *rows;
    if (squared) {
        if (x->kind != MEANS_SQUARE) return anm_lower_no(l, "a mean of something that is not a square");
        rows = (anm_sym *)x->of;
        factor = x->factor;
    } else {
        rows = rows_of(l, x, &factor);
        factor *= factor;
    }
    if (!rows) return NULL;
    float n = (float)rows->view.size[rows->view.rank - 1];
    bool levelled = squared && x->levelled;
    anm_sym *s = sum_of(l, rows, op->code == ANM_OP_REDUCE_MEAN ? factor / n : factor);
    if (s && op->code == ANM_OP_REDUCE_L2_NORM) s->kind = MEANS_ROOT;
    if (s) s->levelled = levelled;
    return s;
}

/* The largest magnitude m, as norms that divide by it first take it: sqrt(mean((x / m)^2) + eps) * m. */
static anm_sym *peak(anm_lower *l, const anm_mil_op *op, anm_sym *x)
{
    anm_sym *s;
    if (op->code == ANM_OP_ABS) {
        anm_sym *rows = anm_lower_force(l, x);
        if (!rows || !(s = anm_lower_new(l, MEANS_SIZE, op->outs[0]))) return NULL;
        s->of = rows;
        return s;
    }
    if (x->kind != MEANS_SIZE || !keeps_last(op, x->of->view.rank))
        return anm_lower_no(l, "not the largest of magnitudes in the last dimension");
    return norm_sym(l, MEANS_PEAK, x);
}

/* What was levelled by the peak is raised again: the root is then that of the rows themselves. */
static anm_sym *raised(anm_lower *l, const anm_sym *root, const anm_sym *by)
{
    if (!root->levelled || !anm_view_equal(&root->of->view, &by->of->view) || root->norm.outer != 0 ||
        root->norm.floor != 0 || root->norm.peak != 0)
        return anm_lower_no(l, "a peak of other rows");
    anm_sym *s = norm_sym(l, MEANS_ROOT, root);
    if (!s) return NULL;
    s->levelled = false;
    s->norm.peak = s->norm.inner;
    s->norm.inner = 0;
    return s;
}

/* x times itself: the beginning of a norm. */
static anm_sym *square(anm_lower *l, const anm_mil_op *op, anm_sym *x)
{
    anm_sym *s = anm_lower_new(l, MEANS_SQUARE, op->outs[0]);
    if (s && x->kind == MEANS_LEVELLED) {
        s->of = x->of;
        s->levelled = true;
        return s;
    }
    if (!s || !(s->of = rows_of(l, x, &s->factor))) return NULL;
    s->factor *= s->factor;
    return s;
}

anm_sym *anm_lower_norm_rule(anm_lower *l, const anm_mil_op *op)
{
    anm_sym *x = anm_lower_arg(l, ANM_P_X), *s;
    if (!x) return NULL;
    float eps = 0;
    const anm_mil_value *eps_v = anm_mil_arg_of(op, ANM_P_EPSILON);
    if (eps_v && !anm_mil_get_f32(eps_v, &eps)) return anm_lower_no(l, "an epsilon that is not constant");
    switch (op->code) {
    case ANM_OP_ABS:
    case ANM_OP_REDUCE_MAX: return peak(l, op, x);
    case ANM_OP_SQUARE: return square(l, op, x);
    case ANM_OP_RSQRT:
        if (x->kind != MEANS_SUM) return anm_lower_no(l, "not of a sum of squares");
        if (!(s = norm_sym(l, MEANS_INVERSE_ROOT, x))) return NULL;
        if (!eps_v) eps = 1e-12f;
        s->norm.inner += eps;
        if (s->norm.floor > 0) s->norm.floor += eps;
        return s;
    case ANM_OP_SQRT:
        if (x->kind != MEANS_SUM) return anm_lower_no(l, "not of a sum of squares");
        return norm_sym(l, MEANS_ROOT, x);
    case ANM_OP_INVERSE:
        if (x->kind != MEANS_ROOT) return anm_lower_no(l, "not of a root");
        if (!(s = norm_sym(l, MEANS_INVERSE_ROOT, x))) return NULL;
        s->norm.outer += eps_v ? eps : 1e-4f;
        return s;
    case ANM_OP_MAXIMUM: {
        anm_sym *y = anm_lower_arg(l, ANM_P_Y);
        float least;
        if (!y) return NULL;
        if ((x->kind != MEANS_SUM && (x->kind != MEANS_ROOT || x->norm.outer != 0)) || !anm_lower_scalar(y, &least) ||
            least < 0)
            return anm_lower_no(l, "not of a sum of squares and a number");
        if (!(s = norm_sym(l, x->kind, x))) return NULL;
        s->norm.floor = fmaxf(s->norm.floor, x->kind == MEANS_ROOT ? least * least : least);
        return s;
    }
    default: return reduce(l, op, x);
    }
}

/* x times the inverse root of x's own sum of squares. */
static anm_sym *normed(anm_lower *l, anm_sym *x, const anm_sym *inverse)
{
    float factor;
    anm_sym *rows = rows_of(l, x, &factor);
    if (!rows) return NULL;
    if (inverse->levelled || !anm_view_equal(&rows->view, &inverse->of->view))
        return anm_lower_no(l, "a norm of other rows");
    anm_sym *s = norm_sym(l, MEANS_NORMED, inverse);
    if (!s) return NULL;
    s->norm.mul *= factor;
    return s;
}

/* A constant of as many floats as the last dimension. */
static const float *vector(anm_lower *l, const anm_sym *s, int64_t n)
{
    int64_t count;
    const anm_mil_value *v = s->value;
    if (s->kind != MEANS_CONST || !anm_mil_type_count(&v->type, &count) || count != n ||
        (v->type.rank > 0 && v->type.dim[v->type.rank - 1] != n))
        return NULL;
    anm_rows_spec w = {v, NULL, v->type.dtype, 1, n};
    float *f = anm_weight_readable(&w) ? anm_arena_array(l->arena, (size_t)n, sizeof *f) : NULL;
    if (f) anm_weight_row(f, &w, 0);
    return f;
}

/* ---- turning ---- */

static anm_sym *turned(anm_lower *l, anm_sym *x, anm_sym *table)
{
    bool halves = x->kind == MEANS_HALVES;
    const anm_view *t = &table->view;
    anm_sym *rows = halves ? (anm_sym *)x->of : anm_lower_force(l, x);
    if (!rows) return NULL;
    const anm_view *v = &rows->view;
    int row = anm_view_row(v), trow = anm_view_row(t);
    bool fits = t->off == 0 && t->rank >= 1 && v->size[v->rank - 1] == l->m->table_width &&
                t->size[t->rank - 1] == l->m->table_width && t->stride[t->rank - 1] == 1 &&
                anm_view_is_matrix(t) && (row < 0) == (trow < 0) && (row < 0 || v->rank - row == t->rank - trow);
    if (!fits) return anm_lower_no(l, "a rotary table of another shape");
    anm_sym *s = anm_lower_new(l, MEANS_TURNED, l->op->outs[0]);
    if (!s) return NULL;
    s->of = halves ? x : rows;
    s->v = table->view.buf; /* 0 cos, 1 sin */
    return s;
}

static anm_sym *pair_part(anm_lower *l, anm_meaning kind, const anm_sym *a, const anm_sym *b)
{
    anm_sym *s = anm_lower_new(l, kind, l->op->outs[0]);
    if (!s) return NULL;
    if (!anm_view_same_shape(&a->view, &b->view) || a->view.buf != b->view.buf)
        return anm_lower_no(l, "turned parts of different rows");
    s->of = a;
    s->other = b;
    return s;
}

static anm_sym *rope_step(anm_lower *l, const anm_view *x, int64_t n, const anm_mil_value *out, anm_plan_step **step)
{
    int64_t heads, stride;
    if (!anm_view_heads(x, &heads, &stride)) return anm_lower_no(l, "scattered heads");
    anm_sym *s = anm_lower_new(l, MEANS_ROWS, out);
    int32_t buf = anm_lower_buffer(l, heads * 2 * n);
    anm_plan_step *st = s && buf >= 0 ? anm_lower_step(l, ANM_STEP_ROPE) : NULL;
    if (!st) return NULL;
    int row = anm_view_row(x);
    s->view = anm_lower_packed(l, buf, out, row);
    if (anm_view_width(&s->view) != heads * 2 * n) return anm_lower_no(l, "a shape that does not fit");
    st->name = out->name;
    st->in = x->buf;
    st->out = buf;
    st->heads = heads;
    st->stride = stride;
    st->size = n;
    st->width = heads * 2 * n;
    *step = st;
    return s;
}

anm_sym *anm_lower_rope(anm_lower *l, const anm_sym *first, const anm_sym *second, bool halves,
                        const anm_mil_value *out)
{
    const anm_view *a = &first->of->view, *b = &first->other->view;
    if (!anm_view_equal(a, &second->of->view) || !anm_view_equal(b, &second->other->view))
        return anm_lower_no(l, "parts of different pairs");
    for (int d = 0; d < a->rank; d++)
        if (a->size[d] != 1 && a->stride[d] != b->stride[d]) return anm_lower_no(l, "parts of different pairs");
    int64_t n = a->size[a->rank - 1];
    anm_plan_step *st;
    anm_sym *s = rope_step(l, a, n, out, &st);
    if (!s) return NULL;
    st->in_off = 0;
    st->first = a->off;
    st->second = b->off;
    st->pair = a->stride[a->rank - 1];
    st->out_second = halves ? n : 1;
    st->out_pair = halves ? 1 : 2;
    return s;
}

/* x cos + (-second half, first half) sin. */
static anm_sym *rope_hf(anm_lower *l, const anm_sym *cos, const anm_sym *sin, const anm_mil_value *out)
{
    const anm_view *x = &cos->of->view;
    if (!anm_view_equal(x, &sin->of->of->view)) return anm_lower_no(l, "parts of different rows");
    int64_t n = x->size[x->rank - 1] / 2, pair = x->stride[x->rank - 1];
    anm_plan_step *st;
    anm_sym *s = rope_step(l, x, n, out, &st);
    if (!s) return NULL;
    st->first = x->off;
    st->second = x->off + n * pair;
    st->pair = pair;
    st->out_second = n;
    st->out_pair = 1;
    st->column2 = n;
    return s;
}

/* ---- mul, add, sub, real_div ---- */

static anm_sym *scaled(anm_lower *l, anm_sym *x, float f)
{
    anm_sym *s;
    switch (x->kind) {
    case MEANS_SCORES:
        if (x->masked) return anm_lower_no(l, "scores are masked before they are scaled");
        if ((s = anm_lower_scores(l, x, l->op->outs[0]))) s->factor *= f;
        return s;
    case MEANS_SUM:
        if (!(s = norm_sym(l, MEANS_SUM, x)) || f < 0) return anm_lower_no(l, "a negative factor");
        s->norm.sum_scale *= f;
        s->norm.inner *= f;
        s->norm.peak *= f;
        s->norm.floor *= f;
        return s;
    case MEANS_INVERSE_ROOT:
    case MEANS_NORMED:
        if (x->made) break;
        if (!(s = norm_sym(l, x->kind, x))) return NULL;
        s->norm.mul *= f;
        return s;
    case MEANS_ROOT: /* f sqrt(max(a, floor)) = sqrt(max(f^2 a, f^2 floor)) */
        if (!(s = norm_sym(l, MEANS_ROOT, x)) || f < 0) return anm_lower_no(l, "a negative factor");
        s->norm.sum_scale *= f * f;
        s->norm.inner *= f * f;
        s->norm.peak *= f * f;
        s->norm.floor *= f * f;
        s->norm.outer *= f;
        return s;
    default: break;
    }
    float before;
    anm_sym *rows = rows_of(l, x, &before);
    if (!rows || !(s = anm_lower_new(l, MEANS_SCALED, l->op->outs[0]))) return NULL;
    s->of = rows;
    s->factor = before * f;
    s->view = rows->view;
    return s;
}

static anm_sym *elementwise(anm_lower *l, anm_step_kind kind, anm_sym *x, anm_sym *y)
{
    x = anm_lower_matrix(l, x);
    y = x ? anm_lower_matrix(l, y) : NULL;
    if (!y) return NULL;
    if (!anm_view_same_shape(&x->view, &y->view)) return anm_lower_no(l, "operands of different shapes");
    int64_t width = anm_view_width(&x->view);
    anm_sym *s = anm_lower_new(l, MEANS_ROWS, l->op->outs[0]);
    int32_t buf = anm_lower_buffer(l, width);
    anm_plan_step *st = s && buf >= 0 ? anm_lower_step(l, kind) : NULL;
    if (!st) return NULL;
    s->view = x->view;
    s->view.buf = buf;
    s->view.off = 0;
    st->name = l->op->outs[0]->name;
    st->in = x->view.buf;
    st->in_off = x->view.off;
    st->other = y->view.buf;
    st->other_off = y->view.off;
    st->out = buf;
    st->width = width;
    return s;
}

/* silu(x W1) * (x W3): one matrix, tiles of both in turn. */
static anm_sym *gated(anm_lower *l, anm_sym *silu, anm_sym *up)
{
    const anm_sym *gate = silu->of;
    if (gate->kind != MEANS_LINEAR || gate->made || up->kind != MEANS_LINEAR || up->made || silu->made ||
        !anm_view_equal(&gate->of->view, &up->of->view) || gate->matrix.rows != up->matrix.rows ||
        gate->matrix.bias || up->matrix.bias)
        return elementwise(l, ANM_STEP_MUL, silu, up);
    anm_sym both = *gate;
    both.value = l->op->outs[0];
    both.made = NULL;
    both.matrix.up = up->matrix.part;
    both.matrix.n_up = up->matrix.n_parts;
    return anm_lower_force(l, &both);
}

static anm_sym *lower_mul(anm_lower *l, anm_sym *x, anm_sym *y)
{
    float f;
    if (x == y) return square(l, l->op, x);
    for (int turn = 0; turn < 2; turn++) {
        anm_sym *a = turn ? y : x, *b = turn ? x : y;
        if (b->kind == MEANS_TABLE) return turned(l, a, b);
        if (b->kind == MEANS_PEAK && a->kind == MEANS_ROOT) return raised(l, a, b);
        if (b->kind == MEANS_INVERSE_ROOT) return normed(l, a, b);
        if (a->kind == MEANS_SILU && (b->kind == MEANS_LINEAR || b->kind == MEANS_ROWS)) return gated(l, a, b);
        if (anm_lower_scalar(b, &f)) return scaled(l, a, f);
        if (a->kind == MEANS_NORMED && !a->made && !a->norm.weight && b->kind == MEANS_CONST) {
            const anm_view *v = &a->of->view;
            anm_sym *s = norm_sym(l, MEANS_NORMED, a);
            if (!s) return NULL;
            if (!(s->norm.weight = vector(l, b, v->size[v->rank - 1])))
                return anm_lower_no(l, "a norm's weight of another size");
            return s;
        }
    }
    return elementwise(l, ANM_STEP_MUL, x, y);
}

/* A linear whose result is added to rows: the sum is made where the linear ends. */
static anm_sym *residual(anm_lower *l, anm_sym *rows, const anm_sym *linear)
{
    rows = anm_lower_matrix(l, rows);
    if (!rows) return NULL;
    if (!anm_view_same_shape(&rows->view, &linear->view)) return anm_lower_no(l, "operands of different shapes");
    anm_sym sum = *linear;
    sum.value = l->op->outs[0];
    sum.made = NULL;
    anm_sym *s = anm_lower_force(l, &sum);
    if (!s) return NULL;
    anm_plan_step *st = &l->p->step[l->p->n_steps - 1];
    st->part->add = rows->view.buf;
    st->part->add_off = rows->view.off;
    return s;
}

static anm_sym *lower_add(anm_lower *l, anm_sym *x, anm_sym *y)
{
    float f;
    for (int turn = 0; turn < 2; turn++) {
        anm_sym *a = turn ? y : x, *b = turn ? x : y, *s;
        if ((a->kind == MEANS_TOKENS || a->kind == MEANS_LAST_POS) && anm_lower_scalar(b, &f)) {
            if ((s = anm_lower_new(l, MEANS_WRAPPED, l->op->outs[0]))) s->of = a;
            return s;
        }
        if (a->kind == MEANS_SUM && anm_lower_scalar(b, &f)) {
            if (!(s = norm_sym(l, MEANS_SUM, a)) || a->norm.floor > 0 || f < 0)
                return anm_lower_no(l, "a sum after a maximum, or a negative number");
            s->norm.inner += f;
            return s;
        }
        if (a->kind == MEANS_ROOT && anm_lower_scalar(b, &f)) {
            if ((s = norm_sym(l, MEANS_ROOT, a))) s->norm.outer += f;
            return s;
        }
        if (a->kind == MEANS_SCORES && b->kind == MEANS_MASK) return anm_lower_masked(l, a, b, l->op->outs[0]);
        if (a->kind == MEANS_TURNED && b->kind == MEANS_TURNED && a->v == 0 && b->v == 1) {
            if (b->of->kind == MEANS_HALVES && a->of->kind == MEANS_ROWS)
                return rope_hf(l, a, b, l->op->outs[0]);
            if (a->of->kind == MEANS_ROWS && b->of->kind == MEANS_ROWS)
                return pair_part(l, MEANS_SECOND, b->of, a->of); /* first sin + second cos */
        }
        if (a->kind == MEANS_LINEAR && !a->made && b->kind != MEANS_CONST && b->kind != MEANS_LINEAR)
            return residual(l, b, a);
    }
    if (y->kind == MEANS_LINEAR && !y->made && x->kind == MEANS_LINEAR) return residual(l, x, y);
    return elementwise(l, ANM_STEP_ADD, x, y);
}

anm_sym *anm_lower_binary(anm_lower *l, const anm_mil_op *op)
{
    anm_sym *x = anm_lower_arg(l, ANM_P_X), *y = anm_lower_arg(l, ANM_P_Y);
    float f;
    if (!x || !y) return NULL;
    switch (op->code) {
    case ANM_OP_MUL: return lower_mul(l, x, y);
    case ANM_OP_ADD: return lower_add(l, x, y);
    case ANM_OP_SUB:
        if (x->kind == MEANS_TURNED && y->kind == MEANS_TURNED && x->v == 0 && y->v == 1 &&
            x->of->kind == MEANS_ROWS && y->of->kind == MEANS_ROWS)
            return pair_part(l, MEANS_FIRST, x->of, y->of);
        if (anm_lower_scalar(x, &f) && f == 0) return scaled(l, y, -1);
        return anm_lower_no(l, "a difference that is no turned pair");
    default: /* real_div */
        if (anm_lower_scalar(y, &f) && f != 0) return scaled(l, x, 1 / f);
        if (y->kind == MEANS_PEAK) {
            anm_sym *rows = anm_lower_force(l, x);
            if (!rows) return NULL;
            if (!anm_view_equal(&rows->view, &y->of->view)) return anm_lower_no(l, "a peak of other rows");
            return norm_sym(l, MEANS_LEVELLED, rows);
        }
        if (y->kind == MEANS_ROOT) {
            anm_sym *inverse = norm_sym(l, MEANS_INVERSE_ROOT, y);
            if (!inverse) return NULL;
            if (!anm_lower_scalar(x, &f)) return normed(l, x, inverse);
            inverse->norm.mul *= f;
            return inverse;
        }
        return anm_lower_no(l, "a quotient that is no norm");
    }
}
