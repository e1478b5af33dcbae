/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A function as a picture, for graphviz: inputs and outputs are ellipses, ops boxes with their short
 * constants written in them, weights grey notes.
 */
#include "mil/mil.h"
#include "mil/rules.h"
#include "base/buf.h"

#include <stdlib.h>
#include <string.h>

typedef struct drawing {
    anm_buf *out, label;
    bool *drawn; /* by value id: weights that have their note */
} drawing;

static void put_quoted(anm_buf *out, const char *s, size_t n)
{
    anm_buf_puts(out, "\"");
    for (size_t i = 0; i < n; i++) {
        if (s[i] == '\n') anm_buf_puts(out, "\\n");
        else if (s[i] == '"' || s[i] == '\\') anm_buf_printf(out, "\\%c", s[i]);
        else anm_buf_u8(out, (uint8_t)s[i]);
    }
    anm_buf_puts(out, "\"");
}

static void put_label(drawing *d)
{
    anm_buf_puts(d->out, "label=");
    put_quoted(d->out, (const char *)d->label.data, d->label.size);
    d->label.size = 0;
}

static void put_typed(anm_buf *out, const anm_mil_value *v)
{
    char t[256];
    anm_buf_printf(out, "%s\n%s", v->name, anm_mil_type_print(&v->type, t, sizeof t));
}

static void draw_terminal(drawing *d, const char *id, uint32_t i, const anm_mil_value *v)
{
    anm_buf_printf(d->out, "  %s%lu [shape=ellipse, style=bold, ", id, (unsigned long)i);
    put_typed(&d->label, v);
    put_label(d);
    anm_buf_puts(d->out, "];\n");
}

static void draw_weight(drawing *d, const anm_mil_value *v)
{
    if (d->drawn[v->id]) return;
    d->drawn[v->id] = true;
    anm_buf_printf(d->out, "  v%lu [shape=note, color=grey, fontcolor=grey, ", (unsigned long)v->id);
    put_typed(&d->label, v);
    put_label(d);
    anm_buf_puts(d->out, "];\n");
}

/* Ops are named after their first result; one without results is named after its place. */
static void put_op_id(anm_buf *out, const anm_mil_op *op, unsigned long place)
{
    if (op->n_outs)
        anm_buf_printf(out, "v%lu", (unsigned long)op->outs[0]->id);
    else
        anm_buf_printf(out, "op%lu", place);
}

static void put_source(anm_buf *out, const anm_mil_value *v)
{
    if (v->def)
        put_op_id(out, v->def, 0);
    else
        anm_buf_printf(out, "v%lu", (unsigned long)v->id);
}

static void draw_op(drawing *d, const anm_mil_op *op, unsigned long place)
{
    anm_buf_puts(&d->label, op->code == ANM_OP_FOREIGN ? op->foreign : anm_mil_op_name(op->code));
    for (uint32_t a = 0; a < op->n_args; a++) {
        const anm_mil_arg *arg = &op->args[a];
        const char *param =
            arg->param == ANM_P_END && arg->foreign ? arg->foreign : anm_mil_param_name(arg->param);
        for (uint32_t i = 0; i < arg->count; i++) {
            if (!anm_mil_is_inline(arg->value[i])) continue;
            anm_buf_printf(&d->label, "\n%s = ", param);
            anm_mil_put_inline(&d->label, arg->value[i]);
        }
    }
    for (uint32_t i = 0; i < op->n_outs; i++) {
        anm_buf_puts(&d->label, "\n");
        put_typed(&d->label, op->outs[i]);
    }
    anm_buf_puts(d->out, "  ");
    put_op_id(d->out, op, place);
    anm_buf_puts(d->out, " [shape=box, ");
    put_label(d);
    anm_buf_puts(d->out, "];\n");
    for (uint32_t a = 0; a < op->n_args; a++) {
        const anm_mil_arg *arg = &op->args[a];
        for (uint32_t i = 0; i < arg->count; i++) {
            const anm_mil_value *v = arg->value[i];
            if (anm_mil_is_inline(v)) continue;
            if (v->constant) draw_weight(d, v);
            anm_buf_puts(d->out, "  ");
            put_source(d->out, v);
            anm_buf_puts(d->out, " -> ");
            put_op_id(d->out, op, place);
            anm_buf_puts(d->out, " [");
            anm_buf_puts(&d->label, arg->param == ANM_P_END && arg->foreign ? arg->foreign
                                                                            : anm_mil_param_name(arg->param));
            put_label(d);
            anm_buf_puts(d->out, v->constant ? ", color=grey];\n" : "];\n");
        }
    }
}

int anm_mil_dot(anm_buf *out, const anm_mil_function *fn, anm_error *err)
{
    drawing d = {.out = out, .drawn = calloc((size_t)fn->n_values + 1, sizeof *d.drawn)};
    if (!d.drawn) return anm_fail_memory(err, "a drawing");
    anm_buf_puts(out, "digraph ");
    put_quoted(out, fn->name, strlen(fn->name));
    anm_buf_puts(
        out,
        " {\n  node [fontname=\"Helvetica\", fontsize=10];\n  edge [fontname=\"Helvetica\", fontsize=8];\n");
    for (uint32_t i = 0; i < fn->n_inputs; i++)
        draw_terminal(&d, "v", fn->inputs[i]->id, fn->inputs[i]);
    unsigned long place = 0;
    for (const anm_mil_op *op = fn->first; op; op = op->next)
        draw_op(&d, op, place++);
    for (uint32_t i = 0; i < fn->n_outputs; i++) {
        if (fn->outputs[i]->constant) draw_weight(&d, fn->outputs[i]);
        draw_terminal(&d, "out", i, fn->outputs[i]);
        anm_buf_puts(out, "  ");
        put_source(out, fn->outputs[i]);
        anm_buf_printf(out, " -> out%lu;\n", (unsigned long)i);
    }
    anm_buf_puts(out, "}\n");
    bool bad = out->bad || d.label.bad;
    anm_buf_free(&d.label);
    free(d.drawn);
    return bad ? anm_fail_memory(err, "a drawing") : 0;
}
