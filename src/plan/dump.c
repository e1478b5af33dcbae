/* SPDX-License-Identifier: BSD-3-Clause */
/* A plan as text: its steps, the meanings that it was made of, and what became of the graph's ops. */
#include "plan/lower.h"
#include "base/shown.h"

#include <string.h>

static const char *const kind_name[] = {
    [ANM_STEP_EMBED] = "embed", [ANM_STEP_NORM] = "norm",     [ANM_STEP_LINEAR] = "linear", [ANM_STEP_ROPE] = "rope",
    [ANM_STEP_KEEP] = "keep",   [ANM_STEP_ATTEND] = "attend", [ANM_STEP_COPY] = "copy",     [ANM_STEP_ADD] = "add",
    [ANM_STEP_MUL] = "mul",     [ANM_STEP_SILU] = "silu",
};
enum { KINDS = sizeof kind_name / sizeof *kind_name };

const char *anm_plan_kind_name(anm_step_kind kind)
{
    return kind_name[kind];
}

/* Names are the file's. */
static void put_name(anm_buf *to, const char *name)
{
    anm_shown_put(to, name, strlen(name));
}

/* ---- steps ---- */

static void print_buf(anm_buf *to, const char *before, int32_t buf)
{
    if (buf == ANM_BUF_LOGITS) anm_buf_printf(to, "%slogits", before);
    else if (buf >= 0) anm_buf_printf(to, "%sb%d", before, buf);
}

static void print_step(anm_buf *to, const anm_plan_step *s)
{
    anm_buf_printf(to, "%-6s", kind_name[s->kind]);
    print_buf(to, " ", s->in);
    print_buf(to, " ", s->other);
    print_buf(to, " -> ", s->out);
    for (uint32_t k = 0; k < s->n_parts; k++) {
        const anm_linear_part *part = &s->part[k];
        anm_packed form = {0};
        anm_pack_layout(&form, &part->spec);
        anm_buf_printf(to, "%s [%lld x %lld]%s%s", k ? "," : "", (long long)part->spec.rows, (long long)part->spec.cols,
                       part->spec.n_up ? " gated" : "", form.is_q4 ? " q4" : "");
        print_buf(to, " + ", part->add);
        print_buf(to, " -> ", part->out);
    }
    if (s->kind == ANM_STEP_KEEP) anm_buf_printf(to, " -> %c of layer %d", s->v ? 'v' : 'k', s->layer);
    anm_buf_printf(to, "  %lld  # ", (long long)s->width);
    put_name(to, s->name);
    anm_buf_puts(to, "\n");
}

/* Steps; once buffers have places, these too: where in a row's memory, and how many floats. */
void anm_plan_print(anm_buf *to, const anm_plan *p)
{
    for (int32_t i = 0; i < p->n_steps; i++) {
        if (i == p->tail) anm_buf_puts(to, "-- rows whose logits are wanted --\n");
        print_step(to, &p->step[i]);
    }
    if (!p->row_floats) return;
    anm_buf_printf(to, "-- %lld floats a row --\n", (long long)p->row_floats);
    for (int32_t i = 0; i < p->n_bufs; i++)
        if (p->buf[i].first >= 0)
            anm_buf_printf(to, "b%d: %lld at %lld, steps %d to %d\n", i, (long long)p->buf[i].width, (long long)p->buf[i].off,
                           p->buf[i].first, p->buf[i].last);
}

/* ---- meanings ---- */

static const char *const meaning_name[] = {
    [MEANS_NOTHING] = "?",
    [MEANS_CONST] = "a constant",
    [MEANS_WEIGHT] = "a weight",
    [MEANS_TOKENS] = "the tokens",
    [MEANS_LAST_POS] = "the last position",
    [MEANS_NOT_NEGATIVE] = "is it not negative",
    [MEANS_WRAPPED] = "counted from the end",
    [MEANS_TABLE] = "rows of the rotary table",
    [MEANS_MASK] = "the mask",
    [MEANS_CACHE] = "the cache",
    [MEANS_ROWS] = "rows",
    [MEANS_LINEAR] = "a linear, not computed yet",
    [MEANS_SILU] = "its silu, not computed yet",
    [MEANS_SCALED] = "rows times a factor, not computed yet",
    [MEANS_SQUARE] = "squares",
    [MEANS_SIZE] = "magnitudes",
    [MEANS_PEAK] = "the largest magnitude",
    [MEANS_LEVELLED] = "divided by the largest magnitude",
    [MEANS_SUM] = "the sum of squares",
    [MEANS_ROOT] = "its root",
    [MEANS_LEGS] = "a root and a constant",
    [MEANS_INVERSE_ROOT] = "one over the root",
    [MEANS_NORMED] = "a norm, not computed yet",
    [MEANS_TURNED] = "times cos or sin",
    [MEANS_FIRST] = "turned pairs, the first",
    [MEANS_SECOND] = "turned pairs, the second",
    [MEANS_HALVES] = "halves changed round",
    [MEANS_ENTRIES] = "cached and new entries",
    [MEANS_SCORES] = "scores, not computed",
    [MEANS_PROBS] = "their softmax, not computed",
};

static const char *op_name(const anm_mil_op *op)
{
    return op->code == ANM_OP_FOREIGN && op->foreign ? op->foreign : anm_mil_op_name(op->code);
}

void anm_lower_print(anm_buf *to, const anm_lower *l)
{
    int32_t step = 0;
    for (const anm_mil_op *op = l->m->fn->first; op; op = op->next) {
        put_name(to, op_name(op));
        for (uint32_t i = 0; i < op->n_outs; i++) {
            const anm_sym *s = l->at[op->outs[i]->id];
            anm_buf_puts(to, i ? ", " : " ");
            put_name(to, op->outs[i]->name);
            anm_buf_printf(to, ": %s", meaning_name[s ? s->kind : MEANS_NOTHING]);
            if (s && s->kind == MEANS_ROWS) print_buf(to, " ", s->view.buf);
        }
        anm_buf_puts(to, "\n");
        for (; step < l->p->n_steps && l->p->step[step].op == op; step++) {
            anm_buf_puts(to, "    ");
            print_step(to, &l->p->step[step]);
        }
        if (l->err->code && op == l->op) return;
    }
    for (; step < l->p->n_steps; step++) {
        anm_buf_puts(to, "    ");
        print_step(to, &l->p->step[step]);
    }
}

/* ---- the whole ---- */

static int lowered(anm_plan **out, const anm_method *m, const anm_plan_look *look, anm_error *why, anm_error *err)
{
    *why = (anm_error){0};
    if (!(*out = anm_plan_empty(m))) return anm_fail_memory(err, "plan");
    int rc = anm_plan_lower(*out, m, look, why);
    if (!rc || rc == ANM_ERR_UNSUPPORTED) return 0;
    *err = *why;
    return rc;
}

static void put_reason(anm_buf *to, const anm_error *why)
{
    anm_buf_puts(to, "no plan: ");
    put_name(to, why->text);
    anm_buf_puts(to, "\n");
}

int anm_plan_dump(anm_buf *to, const anm_method *m, anm_plan_stage after, anm_error *err)
{
    const anm_plan_look look = {to, after};
    anm_plan *p;
    anm_error why;
    int rc = lowered(&p, m, &look, &why, err);
    if (!rc && why.code) put_reason(to, &why);
    if (!rc && to->bad) rc = anm_fail_memory(err, "a plan's text");
    anm_plan_free(p);
    return rc;
}

/* A step that moves or joins numbers on its own, where the graphs that are known let it go into a neighbour. */
static bool unfused(const anm_plan_step *s)
{
    return s->kind == ANM_STEP_COPY || s->kind == ANM_STEP_ADD || s->kind == ANM_STEP_MUL || s->kind == ANM_STEP_SILU;
}

static void report_plan(anm_buf *to, const anm_plan *p, int64_t ops)
{
    int32_t count[KINDS] = {0}, alone = 0;
    for (int32_t i = 0; i < p->n_steps; i++) {
        count[p->step[i].kind]++;
        alone += unfused(&p->step[i]);
    }
    anm_buf_printf(to, "%lld ops became %d steps:", (long long)ops, p->n_steps);
    const char *between = " ";
    for (int k = 0; k < KINDS; k++) {
        if (!count[k]) continue;
        anm_buf_printf(to, "%s%d %s", between, count[k], kind_name[k]);
        between = ", ";
    }
    anm_buf_printf(to, "\nunfused: %d\n", alone);
    for (int32_t i = 0; i < p->n_steps; i++)
        if (unfused(&p->step[i])) {
            anm_buf_puts(to, "    ");
            print_step(to, &p->step[i]);
        }
}

int anm_plan_report(anm_buf *to, const anm_method *m, anm_error *err)
{
    anm_plan *p;
    anm_error why;
    int64_t count[ANM_OP_COUNT] = {0}, ops = 0;
    for (const anm_mil_op *op = m->fn->first; op; op = op->next) {
        if (op->code == ANM_OP_CONSTEXPR_BLOCKWISE_SHIFT_SCALE) continue; /* a weight, not work */
        count[op->code]++;
        ops++;
    }
    int rc = lowered(&p, m, NULL, &why, err);
    if (!rc && !why.code) report_plan(to, p, ops);
    if (!rc && why.code) {
        put_reason(to, &why);
        anm_buf_printf(to, "unfused: all %lld ops, which the interpreter runs:", (long long)ops);
        const char *between = " ";
        for (int k = 0; k < ANM_OP_COUNT; k++) {
            if (!count[k]) continue;
            anm_buf_printf(to, "%s%lld %s", between, (long long)count[k],
                           k == ANM_OP_FOREIGN ? "unknown" : anm_mil_op_name((anm_mil_opcode)k));
            between = ", ";
        }
        anm_buf_puts(to, "\n");
    }
    if (!rc && to->bad) rc = anm_fail_memory(err, "a plan's text");
    anm_plan_free(p);
    return rc;
}
