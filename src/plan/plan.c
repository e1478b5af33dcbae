/* SPDX-License-Identifier: BSD-3-Clause */
/* A plan's life: lowering, packing, comparing, printing. */
#include "base/large.h"
#include "plan/internal.h"

#include <stdlib.h>
#include <string.h>

anm_plan *anm_plan_empty(const anm_method *m)
{
    anm_plan *p = calloc(1, sizeof *p);
    if (!p) return NULL;
    anm_arena_init(&p->arena);
    p->m = m;
    return p;
}

void anm_plan_free(anm_plan *p)
{
    if (!p) return;
    free(p->weights);
    free(p->step);
    free(p->buf);
    anm_arena_free(&p->arena);
    free(p);
}

static void tell_done(const anm_plan_opts *opts, const anm_rows_spec *w, uint32_t n)
{
    for (uint32_t i = 0; opts->done_with && i < n; i++)
        opts->done_with(opts->ctx, w[i].data->constant->data, w[i].data->constant->size);
}

static int pack_all(anm_plan *p, const anm_plan_opts *opts, anm_error *err)
{
    size_t total = 0;
    bool fits = true;
    for (int32_t i = 0; i < p->n_steps; i++)
        for (uint32_t k = 0; k < p->step[i].n_parts; k++) {
            anm_linear_part *part = &p->step[i].part[k];
            if (part->spec.cols > p->widest_in) p->widest_in = part->spec.cols;
            fits = fits && anm_pack_layout(&part->packed, &part->spec) && part->packed.size < SIZE_MAX / 2 &&
                   anm_add_size(total, (size_t)anm_align_up(part->packed.size, 64), &total);
        }
    uint8_t *at = NULL;
    if (fits) p->weights = anm_large_new(total, &at);
    if (!p->weights) return anm_fail_memory(err, "weights");
    for (int32_t i = 0; i < p->n_steps; i++)
        for (uint32_t k = 0; k < p->step[i].n_parts; k++) {
            anm_linear_part *part = &p->step[i].part[k];
            anm_pack(&part->packed, &part->spec, at, opts->pool);
            tell_done(opts, part->spec.part, part->spec.n_parts);
            tell_done(opts, part->spec.up, part->spec.n_up);
            at += anm_align_up(part->packed.size, 64);
        }
    return 0;
}

/* Is the result of step i, as int8, what the linear behind it takes, and does nobody else want it? */
static bool feeds_q8(const anm_plan *p, int32_t i)
{
    const anm_plan_step *s = &p->step[i], *next = s + 1;
    bool linear = s->kind == ANM_STEP_LINEAR;
    if (p->activations != ANM_ACT_INT8 || i + 1 == p->n_steps || i + 1 == p->tail || next->kind != ANM_STEP_LINEAR) return false;
    if (linear ? s->n_parts != 1 : s->kind != ANM_STEP_ATTEND || s->size % ANM_GROUP != 0) return false;
    int32_t out = linear ? s->part->out : s->out;
    int64_t width = linear ? s->part->spec.rows : s->heads * s->size;
    if (out < 0 || next->in != out || next->in_off != 0 || p->buf[out].last != i + 1) return false;
    for (uint32_t k = 0; k < next->n_parts; k++)
        if (!next->part[k].packed.is_q4 || next->part[k].spec.cols != width || next->part[k].add == out) return false;
    return true;
}

static void link_steps(anm_plan *p)
{
    for (int32_t i = 0; i < p->n_steps; i++) p->step[i].feeds_q8 = feeds_q8(p, i);
    const anm_plan_step *after = NULL;
    for (int32_t i = 2 * p->n_steps - 1; i >= 0; i--) { /* twice, so that the last one sees the first */
        anm_plan_step *s = &p->step[i % p->n_steps];
        if (s->kind != ANM_STEP_LINEAR) continue;
        s->after = after;
        after = s;
    }
}

int anm_plan_new(anm_plan **out, const anm_method *m, const anm_plan_opts *opts, anm_error *err)
{
    *out = NULL;
    anm_plan *p = anm_plan_empty(m);
    if (!p) return anm_fail_memory(err, "plan");
    p->activations = opts->activations;
    p->k = opts->kernels;
    p->rows = opts->rows > m->rows ? opts->rows : m->rows;
    int rc = anm_plan_lower(p, m, NULL, err);
    if (!rc) rc = pack_all(p, opts, err);
    if (!rc) link_steps(p);
    if (rc) {
        anm_plan_free(p);
        return rc;
    }
    *out = p;
    return 0;
}

int64_t anm_plan_most_rows(const anm_plan *p)
{
    return p->rows;
}

/* ---- comparing ---- */

static bool same_weight(const anm_rows_spec *a, const anm_rows_spec *b)
{
    return a->rows == b->rows && a->cols == b->cols && a->declared == b->declared && !a->scale == !b->scale &&
           a->data->constant->data == b->data->constant->data &&
           (!a->scale || a->scale->constant->data == b->scale->constant->data);
}

static bool same_floats(const float *a, const float *b, int64_t n)
{
    return !a == !b && (!a || !memcmp(a, b, (size_t)n * sizeof *a));
}

static bool same_part(const anm_linear_part *a, const anm_linear_part *b)
{
    const anm_matrix_spec *x = &a->spec, *y = &b->spec;
    if (a->out != b->out || a->add != b->add || a->add_off != b->add_off || x->n_parts != y->n_parts ||
        x->n_up != y->n_up || x->rows != y->rows || x->cols != y->cols || !same_floats(x->bias, y->bias, x->rows))
        return false;
    for (uint32_t i = 0; i < x->n_parts; i++)
        if (!same_weight(&x->part[i], &y->part[i])) return false;
    for (uint32_t i = 0; i < x->n_up; i++)
        if (!same_weight(&x->up[i], &y->up[i])) return false;
    return true;
}

/* The same floats moved, whichever dimension counts rows. */
static bool same_move(const anm_view *a, const anm_view *b)
{
    int i = 0, j = 0;
    for (;; i++, j++) {
        while (i < a->rank && !anm_view_counts(a, i)) i++;
        while (j < b->rank && !anm_view_counts(b, j)) j++;
        if (i == a->rank || j == b->rank) return i == a->rank && j == b->rank && a->off == b->off;
        if (a->size[i] != b->size[j] || a->stride[i] != b->stride[j]) return false;
    }
}

static bool same_step(const anm_plan_step *a, const anm_plan_step *b)
{
    if (a->kind != b->kind || a->in != b->in || a->other != b->other || a->out != b->out || a->in_off != b->in_off ||
        a->other_off != b->other_off || a->width != b->width || a->heads != b->heads || a->size != b->size ||
        (a->heads > 1 && a->stride != b->stride) || a->factor != b->factor || a->n_parts != b->n_parts)
        return false;
    const anm_norm *m = &a->norm, *n = &b->norm;
    switch (a->kind) {
    case ANM_STEP_EMBED: return same_weight(&a->embedding, &b->embedding);
    case ANM_STEP_NORM:
        return m->sum_scale == n->sum_scale && m->inner == n->inner && m->peak == n->peak && m->outer == n->outer && m->floor == n->floor &&
               m->mul == n->mul && same_floats(m->weight, n->weight, a->size);
    case ANM_STEP_ROPE:
        return a->first == b->first && a->second == b->second && a->pair == b->pair &&
               a->out_second == b->out_second && a->out_pair == b->out_pair && a->column2 == b->column2;
    case ANM_STEP_KEEP: return a->layer == b->layer && a->v == b->v;
    case ANM_STEP_ATTEND:
        return a->k_layer == b->k_layer && a->v_layer == b->v_layer &&
               !memcmp(a->q_off, b->q_off, (size_t)a->heads * sizeof *a->q_off) &&
               !memcmp(a->kv_head, b->kv_head, (size_t)a->heads * sizeof *a->kv_head);
    case ANM_STEP_COPY: return same_move(&a->view, &b->view);
    case ANM_STEP_LINEAR:
        for (uint32_t k = 0; k < a->n_parts; k++)
            if (!same_part(&a->part[k], &b->part[k])) return false;
        return true;
    default: return true;
    }
}

bool anm_plan_fits(const anm_plan *p, const anm_method *m)
{
    anm_error why;
    anm_plan *q = anm_plan_empty(m);
    bool same = q && !anm_plan_lower(q, m, NULL, &why) && q->n_steps == p->n_steps;
    for (int32_t i = 0; same && i < p->n_steps; i++) same = same_step(&p->step[i], &q->step[i]);
    anm_plan_free(q);
    return same;
}
