/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The range of an fp16 run: which op overflowed first, and the largest magnitude per kind of op and layer. Minus infinity
 * that comes from the mask is no overflow; so it is known beforehand which values may hold it.
 */
#include "run/engine_internal.h"
#include "base/shown.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Ops that hand their operand's minus infinity on as it is. */
static bool hands_on(anm_mil_opcode c)
{
    switch (c) {
    case ANM_OP_ADD: case ANM_OP_SUB: case ANM_OP_MUL: case ANM_OP_SELECT: case ANM_OP_CAST: case ANM_OP_IDENTITY:
    case ANM_OP_MAXIMUM: case ANM_OP_MINIMUM: case ANM_OP_RESHAPE: case ANM_OP_TRANSPOSE: case ANM_OP_SQUEEZE:
    case ANM_OP_EXPAND_DIMS: case ANM_OP_TILE: case ANM_OP_CONCAT: case ANM_OP_STACK: case ANM_OP_SPLIT:
    case ANM_OP_SLICE_BY_INDEX: case ANM_OP_SLICE_BY_SIZE: case ANM_OP_GATHER: case ANM_OP_REDUCE_MAX:
        return true;
    default:
        return false;
    }
}

void anm_range_mark_masked(uint8_t *out, const anm_mil_function *fn, const anm_mil_value *mask)
{
    if (!mask) return;
    out[mask->id] = 1;
    for (const anm_mil_op *op = fn->first; op; op = op->next) {
        bool from = false;
        for (uint32_t i = 0; i < op->n_args; i++)
            for (uint32_t k = 0; k < op->args[i].count; k++) from |= out[op->args[i].value[k]->id] != 0;
        if (from && hands_on(op->code))
            for (uint32_t i = 0; i < op->n_outs; i++) out[op->outs[i]->id] = 1;
    }
}

/*
 * Names say nothing of layers (the original's are numbers), so the graph must. An op that sees layer i's cache, by any way,
 * comes no earlier than that layer; but norm and projections before it see nothing of its cache yet. What tells them from
 * the layer before is the residual stream: twice in a layer one value alone is all that the rest is computed from (of
 * those that depend on the tokens), after attention and at the layer's end.
 *
 *   embedding | norm, projections, attention, add | norm, feed-forward, add | norm, projections, …
 *             alone                          alone                     alone
 */
typedef struct spot { /* after one op */
    int32_t depth; /* the last layer whose cache was seen by then; -1: none */
    bool alone;    /* one value is left */
} spot;

typedef struct flow {
    int32_t *depth; /* by value id: the last layer whose cache it depends on; -1 */
    int32_t *last;  /* by value id: the last op that takes it; -1 where it does not depend on tokens */
    spot *spots;
    int32_t n;
} flow;

static void follow(flow *f, const anm_method *m)
{
    const anm_mil_function *fn = m->fn;
    for (uint32_t i = 0; i < fn->n_values; i++) f->depth[i] = f->last[i] = -1;
    for (int32_t i = 0; i < m->n_layers; i++) {
        f->depth[fn->inputs[m->kv[i].k_in]->id] = i;
        f->depth[fn->inputs[m->kv[i].v_in]->id] = i;
    }
    f->last[fn->inputs[m->tokens]->id] = 0;
    int32_t at = 0, reached = -1;
    for (const anm_mil_op *op = fn->first; op; op = op->next, at++) {
        int32_t depth = -1;
        bool from_tokens = false;
        for (uint32_t i = 0; i < op->n_args; i++)
            for (uint32_t k = 0; k < op->args[i].count; k++) {
                uint32_t id = op->args[i].value[k]->id;
                if (f->depth[id] > depth) depth = f->depth[id];
                if (f->last[id] < 0) continue;
                from_tokens = true;
                f->last[id] = at;
            }
        for (uint32_t i = 0; i < op->n_outs; i++) {
            f->depth[op->outs[i]->id] = depth;
            if (from_tokens) f->last[op->outs[i]->id] = at;
        }
        if (from_tokens && depth > reached) reached = depth;
        f->spots[at].depth = reached;
    }
    int32_t alive = 0;
    at = 0;
    for (const anm_mil_op *op = fn->first; op; op = op->next, at++) {
        for (uint32_t i = 0; i < op->n_outs; i++) alive += f->last[op->outs[i]->id] > at;
        for (uint32_t i = 0; i < op->n_args; i++)
            for (uint32_t k = 0; k < op->args[i].count; k++) {
                int32_t *last = &f->last[op->args[i].value[k]->id];
                if (*last != at || !op->args[i].value[k]->def) continue;
                alive--;
                *last = -1; /* an op may take a value twice */
            }
        f->spots[at].alone = alive == 1;
    }
}

/* The op with which the stretch of layer `layer` ends, which begins after op `from`. */
static int32_t end_of(const flow *f, int32_t layer, int32_t from)
{
    int32_t at = from + 1, end = f->n - 1, runs = 0;
    while (at < f->n && f->spots[at].depth < layer) at++;
    for (; at < f->n && f->spots[at].depth == layer; at++) {
        if (!f->spots[at].alone) continue;
        if (layer < 0) end = at; /* the last one before the first cache */
        else if ((at == 0 || !f->spots[at - 1].alone) && ++runs == 2) return at;
    }
    return layer < 0 && at < f->n && end == f->n - 1 ? at - 1 : runs == 2 || layer < 0 ? end : at - 1;
}

int anm_range_mark_layers(int32_t *out, const anm_method *m, anm_error *err)
{
    flow f = {0};
    for (const anm_mil_op *op = m->fn->first; op; op = op->next) f.n++;
    f.depth = calloc((size_t)m->fn->n_values + 1, sizeof *f.depth);
    f.last = calloc((size_t)m->fn->n_values + 1, sizeof *f.last);
    f.spots = calloc((size_t)f.n + 1, sizeof *f.spots);
    int rc = f.depth && f.last && f.spots ? 0 : anm_fail_memory(err, "program");
    if (!rc) follow(&f, m);
    int32_t layer = -1, end = rc ? 0 : end_of(&f, -1, -1), at = 0;
    for (const anm_mil_op *op = m->fn->first; op && !rc; op = op->next, at++) {
        while (at > end && layer < m->n_layers) {
            layer++;
            end = layer < m->n_layers ? end_of(&f, layer, end) : f.n;
        }
        for (uint32_t i = 0; i < op->n_outs; i++) out[op->outs[i]->id] = layer + 1;
    }
    free(f.depth);
    free(f.last);
    free(f.spots);
    return rc;
}

void anm_range_note(anm_range *r, const uint8_t *masked, const int32_t *layer, const anm_mil_op *op, const anm_mil_array *result)
{
    int64_t n;
    if (anm_dtype_class(result->type.dtype) != 'f' || !anm_mil_type_count(&result->type, &n)) return;
    bool may = masked && masked[op->outs[0]->id];
    float largest = 0;
    for (int64_t i = 0; i < n; i++) {
        float a = fabsf(result->f[i]);
        if (may && result->f[i] == -INFINITY) continue;
        if (a > largest || a != a) largest = a != a ? INFINITY : a;
        if (largest == INFINITY) break;
    }
    float *of_layer = r->by_layer ? &r->by_layer[layer[op->outs[0]->id]][op->code] : NULL;
    if (of_layer && largest > *of_layer) *of_layer = largest;
    if (largest > r->largest[op->code]) r->largest[op->code] = largest;
    if (largest == INFINITY && !r->overflow_name) {
        r->overflow_name = op->outs[0]->name;
        r->overflow_op = op->code;
    }
}

void anm_range_print(FILE *to, const anm_range *r)
{
    if (r->overflow_name) {
        fputs("fp16 overflow: first in ", to);
        anm_shown_write(to, r->overflow_name, strlen(r->overflow_name), "");
        fprintf(to, " (%s)\n", anm_mil_op_name(r->overflow_op));
    } else fprintf(to, "fp16: nothing overflowed\n");
    fprintf(to, "largest magnitude by op:");
    for (int c = 1; c < ANM_OP_COUNT; c++)
        if (r->largest[c] > 0) fprintf(to, " %s %.5g", anm_mil_op_name((anm_mil_opcode)c), (double)r->largest[c]);
    fprintf(to, "\n");
}
