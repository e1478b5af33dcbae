/* SPDX-License-Identifier: BSD-3-Clause */
/* What all rules of lowering make use of: meanings, and the steps and buffers that make rows of them. */
#include "plan/lower.h"

#include <stdlib.h>
#include <string.h>

anm_sym *anm_lower_no(anm_lower *l, const char *why)
{
    if (!l->err->code) {
        const anm_mil_op *op = l->op;
        anm_fail(l->err, ANM_ERR_UNSUPPORTED, "%s %s: %s",
                 op ? op->foreign && op->code == ANM_OP_FOREIGN ? op->foreign : anm_mil_op_name(op->code) : "output",
                 op && op->n_outs ? op->outs[0]->name : "", why);
    }
    return NULL;
}

void *anm_lower_no_memory(anm_lower *l)
{
    if (l->arena->over) return anm_lower_no(l, "a plan of more memory than a program of this size needs");
    anm_fail_memory(l->err, "plan");
    return NULL;
}

anm_sym *anm_lower_new(anm_lower *l, anm_meaning kind, const anm_mil_value *v)
{
    anm_sym *s = anm_arena_alloc(l->arena, sizeof *s);
    if (!s) return anm_lower_no_memory(l);
    s->kind = kind;
    s->value = v;
    s->factor = 1;
    return s;
}

anm_sym *anm_lower_meaning(anm_lower *l, const anm_mil_value *v)
{
    if (!l->at[v->id] && v->constant) l->at[v->id] = anm_lower_new(l, MEANS_CONST, v);
    anm_sym *s = l->at[v->id];
    if (!s) return l->err->code ? NULL : anm_lower_no(l, "an operand has no known meaning");
    return s;
}

anm_sym *anm_lower_arg(anm_lower *l, anm_mil_param p)
{
    const anm_mil_value *v = anm_mil_arg_of(l->op, p);
    return v ? anm_lower_meaning(l, v) : anm_lower_no(l, "an operand is missing");
}

bool anm_lower_scalar(const anm_sym *s, float *out)
{
    int64_t i;
    if (s->kind != MEANS_CONST) return false;
    if (anm_mil_get_f32(s->value, out)) return true;
    if (!anm_mil_get_i64(s->value, &i)) return false;
    *out = (float)i;
    return true;
}

/* ---- steps and buffers ---- */

int32_t anm_lower_buffer(anm_lower *l, int64_t width)
{
    anm_plan *p = l->p;
    if (p->n_bufs == p->room_bufs) {
        int32_t room = p->room_bufs ? p->room_bufs * 2 : 64;
        anm_plan_buf *grown = realloc(p->buf, (size_t)room * sizeof *grown);
        if (!grown) {
            anm_lower_no_memory(l);
            return -1;
        }
        p->buf = grown;
        p->room_bufs = room;
    }
    p->buf[p->n_bufs] = (anm_plan_buf){.width = width, .first = -1, .last = -1};
    return p->n_bufs++;
}

anm_plan_step *anm_lower_step(anm_lower *l, anm_step_kind kind)
{
    anm_plan *p = l->p;
    if (p->n_steps == p->room_steps) {
        int32_t room = p->room_steps ? p->room_steps * 2 : 64;
        anm_plan_step *grown = realloc(p->step, (size_t)room * sizeof *grown);
        if (!grown) return anm_lower_no_memory(l);
        p->step = grown;
        p->room_steps = room;
    }
    anm_plan_step *s = &p->step[p->n_steps++];
    memset(s, 0, sizeof *s);
    s->kind = kind;
    s->op = l->op;
    s->in = s->other = s->out = ANM_BUF_NONE;
    s->factor = 1;
    return s;
}

anm_view anm_lower_packed(anm_lower *l, int32_t buf, const anm_mil_value *v, int row)
{
    return anm_view_packed(buf, &v->type, l->m->rows > 1 ? row : -1);
}

/* Rows in a new buffer, of the shape of `shape`. */
static anm_sym *new_rows(anm_lower *l, const anm_mil_value *v, const anm_view *shape)
{
    anm_sym *s = anm_lower_new(l, MEANS_ROWS, v);
    int32_t buf = anm_lower_buffer(l, anm_view_width(shape));
    if (!s || buf < 0) return NULL;
    anm_mil_type t = {.rank = shape->rank};
    memcpy(t.dim, shape->size, sizeof t.dim);
    s->view = anm_view_packed(buf, &t, anm_view_row(shape));
    return s;
}

static anm_sym *make_linear(anm_lower *l, const anm_sym *s)
{
    anm_sym *r = new_rows(l, s->value, &s->view);
    anm_plan_step *st = anm_lower_step(l, ANM_STEP_LINEAR);
    anm_linear_part *part = anm_arena_alloc(l->arena, sizeof *part);
    if (!r || !st || !part) return anm_lower_no_memory(l);
    *part = (anm_linear_part){.spec = s->matrix, .out = r->view.buf, .add = ANM_BUF_NONE};
    st->name = s->value->name;
    st->in = s->of->view.buf;
    st->in_off = s->of->view.off;
    st->width = s->matrix.rows;
    st->part = part;
    st->n_parts = 1;
    return r;
}

static anm_sym *make_norm(anm_lower *l, const anm_sym *s)
{
    const anm_view *x = &s->of->view;
    int64_t heads, stride;
    if (!anm_view_is_heads(x, &heads, &stride)) return anm_lower_no(l, "the norm's operand is scattered");
    anm_sym *r = new_rows(l, s->value, x);
    anm_plan_step *st = r ? anm_lower_step(l, ANM_STEP_NORM) : NULL;
    if (!st) return NULL;
    st->name = s->value->name;
    st->in = x->buf;
    st->in_off = x->off;
    st->out = r->view.buf;
    st->heads = heads;
    st->stride = stride;
    st->size = x->size[x->rank - 1];
    st->width = heads * st->size;
    st->norm = s->norm;
    st->norm.n = st->size;
    return r;
}

/* `of` moved together, times a factor. */
static anm_sym *make_copy(anm_lower *l, const anm_sym *of, float factor, const anm_mil_value *v)
{
    anm_sym *r = new_rows(l, v, &of->view);
    anm_plan_step *st = r ? anm_lower_step(l, ANM_STEP_COPY) : NULL;
    if (!st) return NULL;
    st->name = v->name;
    st->in = of->view.buf;
    st->out = r->view.buf;
    st->view = of->view;
    st->width = anm_view_width(&of->view);
    st->factor = factor;
    return r;
}

static anm_sym *make_silu(anm_lower *l, anm_sym *s)
{
    anm_sym *of = anm_lower_matrix(l, (anm_sym *)s->of);
    anm_sym *r = of ? new_rows(l, s->value, &of->view) : NULL;
    anm_plan_step *st = r ? anm_lower_step(l, ANM_STEP_SILU) : NULL;
    if (!st) return NULL;
    st->name = s->value->name;
    st->in = of->view.buf;
    st->in_off = of->view.off;
    st->out = r->view.buf;
    st->width = anm_view_width(&of->view);
    return r;
}

anm_sym *anm_lower_force(anm_lower *l, anm_sym *s)
{
    if (!s || s->kind == MEANS_ROWS) return s;
    if (s->made) return s->made;
    switch (s->kind) {
    case MEANS_LINEAR: s->made = make_linear(l, s); break;
    case MEANS_NORMED: s->made = make_norm(l, s); break;
    case MEANS_SCALED: s->made = make_copy(l, s->of, s->factor, s->value); break;
    case MEANS_SILU: s->made = make_silu(l, s); break;
    default: return anm_lower_no(l, "an operand is not rows of floats");
    }
    return s->made;
}

anm_sym *anm_lower_matrix(anm_lower *l, anm_sym *s)
{
    s = anm_lower_force(l, s);
    if (!s || anm_view_is_matrix(&s->view)) return s;
    anm_sym *r = make_copy(l, s, 1, s->value);
    if (r && !anm_view_is_matrix(&r->view)) return anm_lower_no(l, "an operand has features in several dimensions");
    return r;
}
