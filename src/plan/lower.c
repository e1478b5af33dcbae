/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Lowering: one walk over the ops, each giving its result a meaning (lower.h) from its operands'. See plan.h. Here are
 * the walk and the meanings of inputs, tokens and weights; lower_sym.c has what all rules use, lower_move.c the ops that
 * only rearrange, lower_math.c and lower_attention.c the rest.
 */
#include "plan/lower.h"

#include <stdlib.h>
#include <string.h>

/* ---- tokens, weights ---- */

static anm_sym *lower_cast(anm_lower *l, const anm_mil_op *op)
{
    anm_sym *x = anm_lower_arg(l, ANM_P_X);
    if (!x) return NULL;
    anm_dtype to = op->outs[0]->type.dtype;
    if (anm_dtype_class(to) == 'f' && x->kind >= MEANS_TABLE) return x;
    if (x->kind != MEANS_TOKENS && x->kind != MEANS_LAST_POS) return anm_lower_no(l, "a cast of something else");
    int64_t most = x->kind == MEANS_TOKENS ? l->m->vocab_size : l->m->rows;
    if ((to == ANM_DT_I16 && most <= INT16_MAX + 1) || (to == ANM_DT_U16 && most <= UINT16_MAX + 1) ||
        to == ANM_DT_I32)
        return x;
    return anm_lower_no(l, "a cast that does not hold every id");
}

static bool is_index(const anm_sym *s)
{
    return s->kind == MEANS_TOKENS || s->kind == MEANS_LAST_POS;
}

/* Negative indices count from the end; ids here never are, so the whole dance means the index itself. */
static anm_sym *lower_greater_equal(anm_lower *l, const anm_mil_op *op)
{
    anm_sym *x = anm_lower_arg(l, ANM_P_X), *y = anm_lower_arg(l, ANM_P_Y);
    float zero;
    if (!x || !y) return NULL;
    if (!is_index(x) || !anm_lower_scalar(y, &zero) || zero != 0) return anm_lower_no(l, "a comparison of something else");
    anm_sym *s = anm_lower_new(l, MEANS_NOT_NEGATIVE, op->outs[0]);
    if (s) s->of = x;
    return s;
}

static anm_sym *lower_select(anm_lower *l)
{
    anm_sym *c = anm_lower_arg(l, ANM_P_COND), *a = anm_lower_arg(l, ANM_P_A), *b = anm_lower_arg(l, ANM_P_B);
    if (!a || !b || !c) return NULL;
    if (c->kind != MEANS_NOT_NEGATIVE || c->of != a || b->kind != MEANS_WRAPPED || b->of != a)
        return anm_lower_no(l, "a choice that is not about negative ids");
    return a;
}

/* Scales stand once per row, or per row and equal block of columns. */
static anm_sym *lower_weight(anm_lower *l, const anm_mil_op *op)
{
    anm_sym *data = anm_lower_arg(l, ANM_P_DATA), *scale = anm_lower_arg(l, ANM_P_SCALE);
    if (!data || !scale) return NULL;
    if (anm_mil_arg_of(op, ANM_P_OFFSET)) return anm_lower_no(l, "weights with an offset");
    anm_sym *s = anm_lower_new(l, MEANS_WEIGHT, op->outs[0]);
    if (!s) return NULL;
    const anm_mil_type *t = &op->outs[0]->type;
    if (data->kind != MEANS_CONST || scale->kind != MEANS_CONST || t->rank != 2)
        return anm_lower_no(l, "weights that are not a constant matrix");
    s->weight = (anm_rows_spec){data->value, scale->value, t->dtype, t->dim[0], t->dim[1]};
    return anm_weight_readable(&s->weight) ? s : anm_lower_no(l, "weights of a form that the kernels do not have");
}

static bool weight_of(anm_rows_spec *w, const anm_sym *s)
{
    if (s->kind == MEANS_WEIGHT) {
        *w = s->weight;
        return true;
    }
    if (s->kind != MEANS_CONST || s->value->type.rank != 2) return false;
    const anm_mil_type *t = &s->value->type;
    *w = (anm_rows_spec){s->value, NULL, t->dtype, t->dim[0], t->dim[1]};
    return anm_weight_readable(w);
}

static anm_sym *lower_gather(anm_lower *l, const anm_mil_op *op)
{
    anm_sym *x = anm_lower_arg(l, ANM_P_X), *idx = anm_lower_arg(l, ANM_P_INDICES);
    if (!x || !idx) return NULL;
    const anm_mil_value *out = op->outs[0], *axis_v = anm_mil_arg_of(op, ANM_P_AXIS),
                        *batch_v = anm_mil_arg_of(op, ANM_P_BATCH_DIMS);
    int64_t axis = 0, batch = 0;
    if ((axis_v && !anm_mil_get_i64(axis_v, &axis)) || (batch_v && !anm_mil_get_i64(batch_v, &batch)) || batch)
        return anm_lower_no(l, "an axis that is not constant");
    if (idx->kind == MEANS_TOKENS) {
        anm_rows_spec w;
        if (axis != 0 || !weight_of(&w, x) || w.rows < l->m->vocab_size || out->type.rank < 2 ||
            out->type.dim[out->type.rank - 2] != l->m->rows || out->type.dim[out->type.rank - 1] != w.cols)
            return anm_lower_no(l, "tokens index something that is not an embedding");
        anm_sym *s = anm_lower_new(l, MEANS_ROWS, out);
        int32_t buf = anm_lower_buffer(l, w.cols);
        anm_plan_step *st = s && buf >= 0 ? anm_lower_step(l, ANM_STEP_EMBED) : NULL;
        if (!st) return NULL;
        s->view = anm_lower_packed(l, buf, out, out->type.rank - 2);
        if (anm_view_width(&s->view) != w.cols) return anm_lower_no(l, "an embedding of several rows a token");
        st->name = out->name;
        st->embedding = w;
        st->out = buf;
        st->width = w.cols;
        return s;
    }
    if (idx->kind != MEANS_LAST_POS) return anm_lower_no(l, "an index of something else");
    x = anm_lower_force(l, x);
    if (!x) return NULL;
    if (axis < 0) axis += x->view.rank;
    int row = anm_view_row(&x->view);
    if (axis < 0 || axis >= x->view.rank || (row >= 0 ? axis != row : x->view.size[axis] != 1))
        return anm_lower_no(l, "the last position picks from something that is not rows");
    anm_sym *s = anm_lower_new(l, MEANS_ROWS, out);
    if (!s) return NULL;
    s->view = x->view;
    s->view.size[axis] = 1;
    s->view.stride[axis] = 0;
    if (l->selected_at < 0) l->selected_at = l->p->n_steps; /* the first: none may be before the last attention */
    return s;
}

static bool all_zero(const float *f, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (f[i] != 0) return false;
    return true;
}

static anm_sym *lower_linear(anm_lower *l, const anm_mil_op *op)
{
    anm_sym *x = anm_lower_arg(l, ANM_P_X), *w = anm_lower_arg(l, ANM_P_WEIGHT);
    anm_sym *bias = anm_mil_arg_of(op, ANM_P_BIAS) ? anm_lower_arg(l, ANM_P_BIAS) : NULL;
    x = x && w ? anm_lower_matrix(l, x) : NULL;
    if (!x) return NULL;
    anm_sym *s = anm_lower_new(l, MEANS_LINEAR, op->outs[0]);
    anm_rows_spec *part = anm_arena_alloc(l->arena, sizeof *part);
    if (!s || !part) return anm_lower_no_memory(l);
    if (!weight_of(part, w)) return anm_lower_no(l, "weights that are not constant");
    if (x->view.size[x->view.rank - 1] != part->cols) return anm_lower_no(l, "the weights do not fit");
    s->of = x;
    s->view = x->view;
    s->view.buf = ANM_BUF_NONE;
    s->view.size[s->view.rank - 1] = part->rows;
    s->matrix = (anm_matrix_spec){.part = part, .n_parts = 1, .rows = part->rows, .cols = part->cols};
    if (bias) {
        anm_rows_spec b = {bias->value, NULL, bias->kind == MEANS_CONST ? bias->value->type.dtype : 0, 1, part->rows};
        int64_t n;
        if (bias->kind != MEANS_CONST || !anm_mil_type_count(&bias->value->type, &n) ||
            (n != part->rows && n != 1) || n != part->rows || !anm_weight_readable(&b))
            return anm_lower_no(l, "a bias that is not constant");
        float *f = anm_arena_array(l->arena, (size_t)n, sizeof *f);
        if (!f) return anm_lower_no_memory(l);
        anm_weight_row(f, &b, 0);
        if (!all_zero(f, n)) s->matrix.bias = f;
    }
    return s;
}

/* ---- the walk ---- */

/* The rows by whose shape a meaning goes, or NULL where it goes by none, or by dimensions of its own. */
static const anm_view *shape_of(const anm_sym *s)
{
    switch (s->kind) {
    case MEANS_TABLE:
    case MEANS_MASK:
    case MEANS_CACHE:
    case MEANS_ROWS:
    case MEANS_LINEAR: return &s->view;
    case MEANS_SILU:
    case MEANS_SCALED:
    case MEANS_SQUARE:
    case MEANS_SIZE:
    case MEANS_PEAK:
    case MEANS_LEVELLED:
    case MEANS_SUM:
    case MEANS_ROOT:
    case MEANS_LEGS:
    case MEANS_INVERSE_ROOT:
    case MEANS_NORMED:
    case MEANS_TURNED:
    case MEANS_FIRST:
    case MEANS_SECOND:
    case MEANS_HALVES: return shape_of(s->of);
    default: return NULL;
    }
}

/* What follows reads axes by the meaning's shape: it must be the value's, which an operand of one element but of more
 * dimensions may have changed. */
static bool keeps_shape(const anm_sym *s, const anm_mil_value *v)
{
    const anm_view *view = shape_of(s);
    const int64_t *dim = view ? view->size : s->dim;
    int rank = view ? view->rank : s->rank;
    if (!view && s->kind != MEANS_ENTRIES && s->kind != MEANS_SCORES && s->kind != MEANS_PROBS) return true;
    if (rank != v->type.rank) return false;
    /* Sums and what is made of them have one number where their rows have many. */
    bool sum = s->kind == MEANS_PEAK || s->kind == MEANS_SUM || s->kind == MEANS_ROOT || s->kind == MEANS_LEGS || s->kind == MEANS_INVERSE_ROOT;
    for (int i = 0; i < rank - sum; i++)
        if (dim[i] != v->type.dim[i]) return false;
    return true;
}

static anm_sym *lower_op(anm_lower *l, const anm_mil_op *op)
{
    switch (op->code) {
    case ANM_OP_CAST: return lower_cast(l, op);
    case ANM_OP_IDENTITY: return anm_lower_arg(l, ANM_P_X);
    case ANM_OP_GREATER_EQUAL: return lower_greater_equal(l, op);
    case ANM_OP_SELECT: return lower_select(l);
    case ANM_OP_CONSTEXPR_BLOCKWISE_SHIFT_SCALE: return lower_weight(l, op);
    case ANM_OP_GATHER: return lower_gather(l, op);
    case ANM_OP_LINEAR: return lower_linear(l, op);
    case ANM_OP_RESHAPE:
    case ANM_OP_SQUEEZE:
    case ANM_OP_EXPAND_DIMS: return anm_lower_reshape(l, op);
    case ANM_OP_TRANSPOSE: return anm_lower_transpose(l, op);
    case ANM_OP_SLICE_BY_INDEX: return anm_lower_slice(l, op);
    case ANM_OP_SLICE_BY_SIZE: return anm_lower_slice_by_size(l, op);
    case ANM_OP_CONCAT:
    case ANM_OP_STACK: return anm_lower_concat(l, op);
    case ANM_OP_MUL:
    case ANM_OP_ADD:
    case ANM_OP_SUB:
    case ANM_OP_REAL_DIV: return anm_lower_binary(l, op);
    case ANM_OP_SILU: {
        anm_sym *x = anm_lower_arg(l, ANM_P_X);
        if (x && x->kind == MEANS_SILU) x = anm_lower_force(l, x); /* else a chain of them, to be followed at each use */
        anm_sym *s = x ? anm_lower_new(l, MEANS_SILU, op->outs[0]) : NULL;
        if (s) s->of = x;
        return s;
    }
    case ANM_OP_ABS:
    case ANM_OP_SQUARE:
    case ANM_OP_REDUCE_MAX:
    case ANM_OP_REDUCE_MEAN:
    case ANM_OP_REDUCE_SUM:
    case ANM_OP_REDUCE_SUM_SQUARE:
    case ANM_OP_REDUCE_L2_NORM:
    case ANM_OP_RSQRT:
    case ANM_OP_SQRT:
    case ANM_OP_INVERSE:
    case ANM_OP_MAXIMUM: return anm_lower_norm_rule(l, op);
    case ANM_OP_MATMUL:
    case ANM_OP_SOFTMAX:
    case ANM_OP_TILE:
    case ANM_OP_ATTENTION: return anm_lower_attention_rule(l, op);
    default: return anm_lower_no(l, "an op that no rule knows");
    }
}

static bool input_meanings(anm_lower *l)
{
    const anm_method *m = l->m;
    const anm_mil_function *fn = m->fn;
    struct {
        int32_t index;
        anm_meaning kind;
        int row, buf;
    } in[] = {{m->tokens, MEANS_TOKENS, 1, 0}, {m->last_pos, MEANS_LAST_POS, -1, 0}, {m->mask, MEANS_MASK, -1, 0},
              {m->cos, MEANS_TABLE, 0, 0},     {m->sin, MEANS_TABLE, 0, 1}};
    for (size_t i = 0; i < sizeof in / sizeof *in; i++) {
        if (in[i].index < 0) continue;
        const anm_mil_value *v = fn->inputs[in[i].index];
        anm_sym *s = anm_lower_new(l, in[i].kind, v);
        if (!s) return false;
        s->view = anm_lower_packed(l, in[i].buf, v, in[i].kind == MEANS_MASK ? v->type.rank - 2 : in[i].row);
        l->at[v->id] = s;
    }
    for (int32_t layer = 0; layer < m->n_layers; layer++)
        for (int v = 0; v < 2; v++) {
            const anm_mil_value *c = fn->inputs[v ? m->kv[layer].v_in : m->kv[layer].k_in];
            anm_sym *s = anm_lower_new(l, MEANS_CACHE, c);
            if (!s) return false;
            s->layer = layer;
            s->v = v;
            s->view = anm_view_packed(0, &c->type, -1);
            l->at[c->id] = s;
        }
    return true;
}

/* The outputs must be the logits, and what went into each layer's cache. */
static bool outputs(anm_lower *l)
{
    const anm_method *m = l->m;
    l->op = NULL;
    for (int32_t layer = 0; layer < m->n_layers; layer++)
        for (int v = 0; v < 2; v++) {
            const anm_mil_value *out = m->fn->outputs[v ? m->kv[layer].v_out : m->kv[layer].k_out];
            anm_sym *s = l->at[out->id] ? anm_lower_force(l, l->at[out->id]) : NULL;
            if (!s || !l->is_kept[2 * layer + v] || !anm_view_equal(&s->view, &l->kept[2 * layer + v]))
                return anm_lower_no(l, "new keys or values are not what attention was given");
        }
    const anm_mil_value *out = m->fn->outputs[m->logits];
    anm_sym *s = l->at[out->id];
    if (!s) return anm_lower_no(l, "the logits have no meaning");
    if (s->kind == MEANS_LINEAR && !s->made && s->matrix.rows == m->vocab_size && !s->matrix.n_up) {
        if (!anm_lower_force(l, s)) return false;
        anm_plan_step *st = &l->p->step[l->p->n_steps - 1];
        st->part->out = ANM_BUF_LOGITS;
        return true;
    }
    s = anm_lower_matrix(l, s);
    anm_plan_step *st = s ? anm_lower_step(l, ANM_STEP_COPY) : NULL;
    if (!st) return false;
    st->name = out->name;
    st->in = s->view.buf;
    st->view = s->view;
    st->width = anm_view_width(&s->view);
    st->out = ANM_BUF_LOGITS;
    return st->width == m->vocab_size || anm_lower_no(l, "the logits have another width");
}

/* Does a part of `s` add what a part of `prev` makes? */
static bool adds_result_of(const anm_plan_step *s, const anm_plan_step *prev)
{
    for (uint32_t i = 0; i < s->n_parts; i++)
        for (uint32_t k = 0; k < prev->n_parts; k++)
            if (s->part[i].add >= 0 && s->part[i].add == prev->part[k].out) return true;
    return false;
}

/* Puts a part at the end of the step's list; room doubles at powers of two. */
static bool add_part(anm_lower *l, anm_plan_step *s, const anm_linear_part *part)
{
    if ((s->n_parts & (s->n_parts - 1)) == 0) {
        anm_linear_part *grown = anm_arena_array(l->arena, (size_t)s->n_parts * 2, sizeof *grown);
        if (!grown) return anm_lower_no_memory(l);
        memcpy(grown, s->part, s->n_parts * sizeof *grown);
        s->part = grown;
    }
    s->part[s->n_parts++] = *part;
    return true;
}

/* Neighbouring linears of the same rows become one step: their rows are quantised once and their tiles shared out
 * together, in any order: so none may need another's result. */
static bool merge_linears(anm_lower *l)
{
    anm_plan *p = l->p;
    int32_t n = 0;
    for (int32_t i = 0; i < p->n_steps; i++) {
        anm_plan_step *s = &p->step[i], *prev = n ? &p->step[n - 1] : NULL;
        if (prev && s->kind == ANM_STEP_LINEAR && s->n_parts == 1 && prev->kind == ANM_STEP_LINEAR && s->in == prev->in &&
            s->in_off == prev->in_off && prev->part[0].spec.cols == s->part[0].spec.cols && !adds_result_of(s, prev)) {
            if (!add_part(l, prev, s->part)) return false;
            prev->width += s->width;
        } else {
            p->step[n++] = *s;
        }
    }
    p->n_steps = n;
    return true;
}

static void used(anm_plan *p, int32_t buf, int32_t step)
{
    if (buf < 0) return;
    if (p->buf[buf].first < 0) p->buf[buf].first = step;
    if (p->buf[buf].last < step) p->buf[buf].last = step;
}

/* Buffers that are not in use at the same time take turns: first fit among places, by width. */
static bool place_buffers(anm_lower *l)
{
    anm_plan *p = l->p;
    for (int32_t i = 0; i < p->n_steps; i++) {
        const anm_plan_step *s = &p->step[i];
        used(p, s->in, i);
        used(p, s->other, i);
        used(p, s->out, i);
        for (uint32_t k = 0; k < s->n_parts; k++) {
            used(p, s->part[k].out, i);
            used(p, s->part[k].add, i);
        }
    }
    typedef struct place {
        int64_t off, width;
        int32_t last; /* its present user's last step */
    } place;
    place *at = anm_arena_array(l->arena, (size_t)p->n_bufs + 1, sizeof *at);
    /* The buffers that a step is the first to use, each as its number and 1; 0 ends the list. */
    int32_t *head = anm_arena_array(l->arena, (size_t)p->n_steps + 1, sizeof *head);
    int32_t *next = anm_arena_array(l->arena, (size_t)p->n_bufs + 1, sizeof *next);
    int32_t n = 0;
    if (!at || !head || !next) return anm_lower_no_memory(l);
    for (int32_t b = p->n_bufs - 1; b >= 0; b--) {
        if (p->buf[b].first < 0) continue;
        next[b] = head[p->buf[b].first];
        head[p->buf[b].first] = b + 1;
    }
    for (int32_t i = 0; i < p->n_steps; i++)
        for (int32_t b = head[i] - 1; b >= 0; b = next[b] - 1) {
            int64_t width = (p->buf[b].width + 15) & ~(int64_t)15;
            int32_t best = -1;
            for (int32_t k = 0; k < n; k++)
                if (at[k].last < i && at[k].width >= width && (best < 0 || at[k].width < at[best].width)) best = k;
            if (best < 0) {
                best = n++;
                at[best] = (place){p->row_floats, width, 0};
                p->row_floats += width;
                if (p->row_floats > ANM_ROW_FLOATS_MAX) return anm_lower_no(l, "rows too wide");
            }
            at[best].last = p->buf[b].last;
            p->buf[b].off = at[best].off;
            p->buf[b].stride = at[best].width;
        }
    return true;
}

/* After the last attention every row is on its own: only wanted ones go on. */
static bool find_tail(anm_lower *l)
{
    anm_plan *p = l->p;
    int32_t selected = l->selected_at;
    p->tail = 0;
    for (int32_t i = 0; i < p->n_steps; i++)
        if (p->step[i].kind == ANM_STEP_ATTEND || p->step[i].kind == ANM_STEP_KEEP) p->tail = i + 1;
    l->op = NULL;
    if (l->m->logits_rows != l->m->rows && selected < 0)
        return anm_lower_no(l, "one row's logits, but no row is picked");
    if (selected >= 0 && selected < p->tail) return anm_lower_no(l, "a row is picked before the last attention");
    return true;
}

static void show(const anm_lower *l, const anm_plan_look *look, anm_plan_stage stage)
{
    if (!look || look->after != stage) return;
    if (stage == ANM_PLAN_LOWER) anm_lower_print(look->to, l);
    else anm_plan_print(look->to, l->p);
}

/* Is every dimension of every result known, and none 0? Views have no others. */
static bool is_plain(const anm_mil_op *op)
{
    for (uint32_t i = 0; i < op->n_outs; i++)
        for (int d = 0; d < op->outs[i]->type.rank; d++)
            if (op->outs[i]->type.dim[d] < 1) return false;
    return true;
}

/* The walk: every op's meaning. */
static bool walk(anm_lower *l)
{
    for (const anm_mil_op *op = l->m->fn->first; op; op = op->next) {
        l->op = op;
        if (!is_plain(op)) return anm_lower_no(l, "a result of unknown shape, or without elements");
        if (op->code == ANM_OP_SPLIT) {
            if (!anm_lower_split(l, op)) return false;
            continue;
        }
        if (op->n_outs != 1) return anm_lower_no(l, "an op with several results");
        anm_sym *s = lower_op(l, op);
        if (s && !keeps_shape(s, op->outs[0])) s = anm_lower_no(l, "a result of another shape than its operand's");
        if (!s) return false;
        l->at[op->outs[0]->id] = s;
    }
    return outputs(l);
}

/* What lowering may take: norms' weights and biases as floats, and what is noted of each op. */
enum { ARENA_BASE = 64 << 20, ARENA_PER_OP = 4096 };

int anm_plan_lower(anm_plan *p, const anm_method *m, const anm_plan_look *look, anm_error *why)
{
    size_t ops = 0;
    for (const anm_mil_op *op = m->fn->first; op; op = op->next) ops++;
    p->arena.limit = ARENA_BASE + ARENA_PER_OP * ops;
    *why = (anm_error){0};
    anm_lower l = {.p = p, .m = m, .arena = &p->arena, .selected_at = -1, .err = why};
    l.at = anm_arena_array(l.arena, m->fn->n_values, sizeof *l.at);
    l.kept = anm_arena_array(l.arena, (size_t)m->n_layers * 2, sizeof *l.kept);
    l.is_kept = anm_arena_array(l.arena, (size_t)m->n_layers * 2, sizeof *l.is_kept);
    if (!l.at || !l.kept || !l.is_kept) return anm_fail_memory(why, "plan");
    if (!input_meanings(&l)) return why->code;
    bool fits = walk(&l);
    show(&l, look, ANM_PLAN_LOWER);
    /* The picked row is checked against the steps as they were made; merging only brings neighbours together. */
    if (!fits || !find_tail(&l) || !merge_linears(&l)) return why->code;
    p->tail = 0;
    for (int32_t i = 0; i < p->n_steps; i++)
        if (p->step[i].kind == ANM_STEP_ATTEND || p->step[i].kind == ANM_STEP_KEEP) p->tail = i + 1;
    show(&l, look, ANM_PLAN_MERGE);
    if (!place_buffers(&l)) return why->code;
    show(&l, look, ANM_PLAN_PLACE);
    return 0;
}
