/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The plain interpreter: runs a function op by op. It takes its time; what it computes is what the program
 * says.
 *
 * Each op is typed again with what is known by then: the dimensions of its arguments, and the values of short
 * integer ones (a computed `begin`). For that the op is copied with arguments that have these types and look
 * like constants; the rules of infer.h then leave nothing unknown.
 */
#include "mil/eval.h"
#include "base/bytes.h"
#include "base/half.h"

#include <stdlib.h>
#include <string.h>

enum { SMALL = 2 * ANM_MIL_MAX_RANK };

typedef struct interp {
    const anm_mil_function *fn;
    const anm_mil_interp_opts *opts;
    anm_mil_array *have; /* by value id */
    bool *borrowed;      /* by value id: the array is the caller's */
    uint32_t *uses;      /* by value id: arguments and outputs yet to come */
    anm_arena arena;     /* what one op needs: sized for the largest */
    anm_mil_op op;       /* the op as it is shown to the rules */
    anm_mil_arg *args;
    anm_mil_value *values, **refs;
    anm_blob *blobs;
    uint8_t (*small)[SMALL]; /* what blobs hold of narrow integers */
    anm_mil_type *types;
    anm_mil_array *outs, *temp;
    anm_error *err;
} interp;

/* ---- setting up ---- */

static void count_uses(interp *it, uint32_t most[3])
{
    for (const anm_mil_op *op = it->fn->first; op; op = op->next) {
        uint32_t n = 0;
        for (uint32_t a = 0; a < op->n_args; a++) {
            n += op->args[a].count;
            for (uint32_t i = 0; i < op->args[a].count; i++)
                it->uses[op->args[a].value[i]->id]++;
        }
        if (n > most[0]) most[0] = n;
        if (op->n_args > most[1]) most[1] = op->n_args;
        if (op->n_outs > most[2]) most[2] = op->n_outs;
    }
    for (uint32_t i = 0; i < it->fn->n_outputs; i++)
        it->uses[it->fn->outputs[i]->id]++;
}

static int start(interp *it)
{
    uint32_t n = it->fn->n_values, most[3] = {0};
    anm_arena *arena = &it->arena;
    it->have = anm_arena_array(arena, n, sizeof *it->have);
    it->borrowed = anm_arena_array(arena, n, sizeof *it->borrowed);
    it->uses = anm_arena_array(arena, n, sizeof *it->uses);
    if (!it->have || !it->borrowed || !it->uses) return anm_fail_memory(it->err, "the interpreter");
    count_uses(it, most);
    it->values = anm_arena_array(arena, most[0], sizeof *it->values);
    it->refs = anm_arena_array(arena, most[0], sizeof *it->refs);
    it->blobs = anm_arena_array(arena, most[0], sizeof *it->blobs);
    it->small = anm_arena_array(arena, most[0], sizeof *it->small);
    it->temp = anm_arena_array(arena, most[0], sizeof *it->temp);
    it->args = anm_arena_array(arena, most[1], sizeof *it->args);
    it->types = anm_arena_array(arena, most[2], sizeof *it->types);
    it->outs = anm_arena_array(arena, most[2], sizeof *it->outs);
    bool ok = it->values && it->refs && it->blobs && it->small && it->temp && it->args && it->types && it->outs;
    return ok ? 0 : anm_fail_memory(it->err, "the interpreter");
}

/* Is `got`, with every dimension known, of the declared type? */
static bool fits(const anm_mil_type *got, const anm_mil_type *declared)
{
    if (got->dtype != declared->dtype || got->rank != declared->rank) return false;
    for (int i = 0; i < got->rank; i++)
        if (declared->dim[i] != ANM_MIL_UNKNOWN_DIM && got->dim[i] != declared->dim[i]) return false;
    return true;
}

static int mismatch(interp *it, const char *name, const anm_mil_type *got, const anm_mil_type *declared)
{
    char a[160], b[160];
    return anm_fail(it->err, ANM_ERR_USAGE, "%%%s is %s, declared %s", name,
                    anm_mil_type_print(got, a, sizeof a), anm_mil_type_print(declared, b, sizeof b));
}

static void round_array(anm_mil_array *a)
{
    int64_t n = anm_dims(&a->type, 0, a->type.rank);
    for (int64_t i = 0; i < n; i++)
        a->f[i] = anm_round_f16(a->f[i]);
}

static int copy_array(interp *it, anm_mil_array *to, const anm_mil_array *from)
{
    if (!anm_array_new(to, &from->type)) return anm_fail_memory(it->err, "a tensor");
    memcpy(to->f, from->f, (size_t)anm_dims(&from->type, 0, from->type.rank) * 4);
    return 0;
}

static int take_inputs(interp *it, const anm_mil_array *inputs)
{
    bool rounds = it->opts && it->opts->round_fp16;
    for (uint32_t i = 0; i < it->fn->n_inputs; i++) {
        const anm_mil_value *v = it->fn->inputs[i];
        int64_t n;
        if (!inputs[i].f || !anm_mil_type_count(&inputs[i].type, &n) || !fits(&inputs[i].type, &v->type))
            return mismatch(it, v->name, &inputs[i].type, &v->type);
        if (rounds && v->type.dtype == ANM_DT_F16) {
            if (copy_array(it, &it->have[v->id], &inputs[i])) return -1;
            round_array(&it->have[v->id]);
        } else {
            it->have[v->id] = inputs[i];
            it->borrowed[v->id] = true;
        }
    }
    return 0;
}

/* ---- one op ---- */

/* How `v` is shown to the rules: with its real type, and its value when that is a short list of integers. */
static const anm_mil_value *shown(interp *it, const anm_mil_value *v, uint32_t at)
{
    const anm_mil_array *a = &it->have[v->id];
    if (!a->f) return v;
    anm_mil_value *show = &it->values[at];
    *show = *v;
    show->type = a->type;
    show->constant = NULL;
    if (a->type.rank > 1) return show;
    uint64_t n = (uint64_t)anm_dims(&a->type, 0, a->type.rank);
    switch (a->type.dtype) {
    case ANM_DT_I32: it->blobs[at] = (anm_blob){.size = 4 * n, .data = (const uint8_t *)a->i}; break;
    case ANM_DT_I16: case ANM_DT_U16: case ANM_DT_I8: case ANM_DT_U8:
        if (n > ANM_MIL_MAX_RANK) return show;
        uint64_t width = anm_dtype_bytes(a->type.dtype);
        for (uint64_t i = 0; i < n; i++) memcpy(it->small[at] + i * width, &a->i[i], width); /* the low bytes come first */
        it->blobs[at] = (anm_blob){.size = width * n, .data = it->small[at]};
        break;
    default: return show;
    }
    show->constant = &it->blobs[at];
    return show;
}

static void show_op(interp *it, const anm_mil_op *op)
{
    uint32_t at = 0;
    it->op = *op;
    it->op.args = it->args;
    for (uint32_t a = 0; a < op->n_args; a++) {
        it->args[a] = op->args[a];
        it->args[a].value = it->refs + at;
        for (uint32_t i = 0; i < op->args[a].count; i++, at++)
            it->refs[at] = (anm_mil_value *)shown(it, op->args[a].value[i], at);
    }
}

static bool too_large(const interp *it, const anm_mil_type *t)
{
    int64_t n;
    return it->opts && it->opts->most && (!anm_mil_type_count(t, &n) || n > it->opts->most);
}

/* Results without elements need no work, whatever their other dimensions say. */
static bool all_empty(const anm_mil_type *t, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        bool empty = false;
        for (int d = 0; d < t[i].rank; d++) empty |= t[i].dim[d] == 0;
        if (!empty) return false;
    }
    return true;
}

static int call(interp *it, const anm_mil_op *op)
{
    static int (*const evals[ANM_OP_COUNT])(anm_eval *) = {
        NULL,
#define ANM_OP(id, name, params, rule) anm_eval_##rule,
#include "mil/ops.def"
#undef ANM_OP
    };
    show_op(it, op);
    if (anm_mil_infer(it->types, &it->op, it->err)) return -1;
    uint32_t made = 0;
    int bad = 0;
    for (; !bad && made < op->n_outs; made++) {
        if (!anm_mil_type_known(&it->types[made]) || !fits(&it->types[made], &op->outs[made]->type))
            bad = mismatch(it, op->outs[made]->name, &it->types[made], &op->outs[made]->type);
        else if (too_large(it, &it->types[made]))
            bad = anm_fail(it->err, ANM_ERR_LIMIT, "more than %lld elements", (long long)it->opts->most);
        else if (!anm_array_new(&it->outs[made], &it->types[made]))
            bad = anm_fail_memory(it->err, "a tensor");
        if (bad) break;
    }
    if (!bad) {
        anm_eval e = {.op = &it->op,
                      .have = it->have,
                      .out = it->outs,
                      .temp = it->temp,
                      .err = it->err,
                      .pool = it->opts ? it->opts->pool : NULL,
                      .linear = it->opts ? it->opts->linear : (anm_rounding){0}};
        if (!all_empty(it->types, op->n_outs)) bad = evals[op->code](&e);
        for (uint32_t i = 0; i < e.n_temp; i++)
            anm_mil_array_free(&e.temp[i]);
    }
    for (uint32_t i = 0; i < made; i++) {
        if (bad)
            anm_mil_array_free(&it->outs[i]);
        else
            it->have[op->outs[i]->id] = it->outs[i];
    }
    return bad ? -1 : 0;
}

static void drop(interp *it, const anm_mil_value *v)
{
    if (it->borrowed[v->id])
        it->have[v->id].f = NULL;
    else
        anm_mil_array_free(&it->have[v->id]);
}

/* One use of `v` is over: after the last one its memory goes back. */
static void used(interp *it, const anm_mil_value *v)
{
    if (--it->uses[v->id] == 0) drop(it, v);
}

static int step(interp *it, const anm_mil_op *op)
{
    if (op->code == ANM_OP_CONSTEXPR_BLOCKWISE_SHIFT_SCALE) return 0; /* decoded where it is used */
    if (call(it, op)) {
        const char *name = op->n_outs ? op->outs[0]->name : "?";
        if (!it->err) return -1;
        anm_error why = *it->err;
        return anm_fail(it->err, why.code, "%%%s: %s", name, why.text);
    }
    for (uint32_t i = 0; i < op->n_outs; i++)
        if (it->opts && it->opts->round_fp16 && op->outs[i]->type.dtype == ANM_DT_F16)
            round_array(&it->have[op->outs[i]->id]);
    if (it->opts && it->opts->after && op->n_outs)
        it->opts->after(it->opts->ctx, op, &it->have[op->outs[0]->id]);
    for (uint32_t a = 0; a < op->n_args; a++)
        for (uint32_t i = 0; i < op->args[a].count; i++)
            used(it, op->args[a].value[i]);
    for (uint32_t i = 0; i < op->n_outs; i++)
        if (!it->uses[op->outs[i]->id]) drop(it, op->outs[i]);
    return 0;
}

/* ---- the whole ---- */

/* The last use of a computed array gives it away; anything else is copied. */
static int give_outputs(interp *it, anm_mil_array *outputs)
{
    for (uint32_t i = 0; i < it->fn->n_outputs; i++) {
        const anm_mil_value *v = it->fn->outputs[i];
        anm_mil_array *a = &it->have[v->id];
        if (a->f && it->uses[v->id] == 1 && !it->borrowed[v->id]) {
            outputs[i] = *a;
            a->f = NULL;
        } else if (a->f) {
            if (copy_array(it, &outputs[i], a)) return -1;
        } else {
            anm_eval e = {.have = it->have, .err = it->err};
            anm_source s;
            if (anm_source_of(&s, &e, v)) return -1;
            if (!anm_array_new(&outputs[i], &v->type)) return anm_fail_memory(it->err, "a tensor");
            anm_source_read(&s, 0, anm_dims(&v->type, 0, v->type.rank), outputs[i].f);
        }
        it->uses[v->id]--;
    }
    return 0;
}

int anm_mil_interp(anm_mil_array *outputs, const anm_mil_function *fn, const anm_mil_array *inputs,
                   const anm_mil_interp_opts *opts, anm_error *err)
{
    anm_error own;
    interp it = {.fn = fn, .opts = opts, .err = err ? err : &own};
    for (uint32_t i = 0; i < fn->n_outputs; i++)
        outputs[i] = (anm_mil_array){0};
    anm_arena_init(&it.arena);
    it.err->code = 0;
    int bad = start(&it);
    if (!bad) bad = take_inputs(&it, inputs);
    for (const anm_mil_op *op = fn->first; !bad && op; op = op->next)
        bad = step(&it, op);
    if (!bad) bad = give_outputs(&it, outputs);
    for (uint32_t v = 0; it.uses && it.have && it.borrowed && v < fn->n_values; v++)
        if (!it.borrowed[v]) anm_mil_array_free(&it.have[v]);
    for (uint32_t i = 0; bad && i < fn->n_outputs; i++)
        anm_mil_array_free(&outputs[i]);
    anm_arena_free(&it.arena);
    return bad ? it.err->code : 0;
}
