/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Programs of the deprecated form (export.py): no constant method tells of them, so the roles are in the signature,
 *
 *   forward(tokens, input_pos, input_length, k caches, v caches, mask) -> logits, new k, new v
 *
 * with one 5-D tensor for the caches of all layers, or one of each per layer. As they stand they cut contiguous rows of
 * the rotary tables and give the last row's logits alone. The graph is rewritten to what the engine works with:
 *
 *   slice(table, input_pos …)       => an input: the engine hands in the rows of any positions
 *   gather(x, input_length - 1)     => x: logits of all rows
 *   slice(k caches, layer)          => an input of its own for each layer
 *   stack(new k of all layers)      => an output of its own for each layer
 *
 * Source: pytorch/executorch, examples/apple/coreml/llama/{export,llama_transformer,run}.py.
 */
#include "base/half.h"
#include "base/limits.h"
#include "pass/pass.h"
#include "run/engine_internal.h"

#include <stdlib.h>
#include <string.h>

enum { FIXED = 4, TABLE_MAX = 1 << 28 }; /* tokens, input_pos, input_length, mask; table values */

typedef struct rewriting {
    anm_loaded *l;
    anm_mil_function *fn;
    anm_mil_builder b;
    anm_mil_value *tokens, *position, *length, *mask, *cos, *sin;
    anm_mil_value **k, **v, **new_k, **new_v; /* by layer */
    int64_t rows, layers;
    bool list;        /* a cache per layer in the file */
    bool *of_length, *of_position; /* by value id: made of that input and constants alone */
    uint32_t n_marks;
    anm_mil_value **to; /* by value id: what is to stand for it, once that is settled */
} rewriting;

static bool is_size(const anm_pte_value *v, int rank, const int32_t *size)
{
    if (v->kind != ANM_PTE_TENSOR || v->rank != rank) return false;
    for (int i = 0; i < rank; i++)
        if (size && size[i] && v->size[i] != size[i]) return false;
    return true;
}

bool anm_loaded_is_deprecated(const anm_loaded *l)
{
    const anm_pte_method *m = anm_pte_find(&l->pte, "forward");
    if (!m || anm_pte_find(&l->pte, "vocab_size") || m->n_inputs < FIXED + 2) return false;
    for (size_t i = 0; i < m->n_inputs; i++)
        if (m->inputs[i] >= m->n_values) return false;
    const anm_pte_value *v = m->values;
    return is_size(v + m->inputs[0], 2, (const int32_t[]){1, 0}) && is_size(v + m->inputs[1], 1, (const int32_t[]){1}) &&
           is_size(v + m->inputs[2], 1, (const int32_t[]){1}) && is_size(v + m->inputs[m->n_inputs - 1], 2, NULL);
}

static int unknown(const char *what, anm_error *err)
{
    return anm_fail(err, ANM_ERR_UNSUPPORTED, "a program of the deprecated form, but %s; export it again", what);
}

/* ---- what comes from where ---- */

/* Marks in out[value id] what is computed from `from` and constants alone. */
static bool *mark(const anm_mil_function *fn, const anm_mil_value *from)
{
    bool *out = calloc(fn->n_values ? fn->n_values : 1, sizeof *out);
    if (!out) return NULL;
    out[from->id] = true;
    for (const anm_mil_op *op = fn->first; op; op = op->next) {
        bool any = false, all = true;
        for (uint32_t i = 0; i < op->n_args; i++)
            for (uint32_t k = 0; k < op->args[i].count; k++) {
                const anm_mil_value *v = op->args[i].value[k];
                any |= out[v->id];
                all &= out[v->id] || v->constant;
            }
        for (uint32_t i = 0; i < op->n_outs && any && all; i++) out[op->outs[i]->id] = true;
    }
    return out;
}

static bool marked(const rewriting *r, const bool *marks, const anm_mil_value *v)
{
    return v && v->id < r->n_marks && marks[v->id];
}

/* What was noted stands for what it replaces, in one walk: there is something to replace in every layer. */
static void settle(rewriting *r)
{
    for (anm_mil_op *op = r->fn->first; op; op = op->next) anm_mil_replace_args(op, r->to);
    for (uint32_t i = 0; i < r->fn->n_outputs; i++) {
        anm_mil_value **v = r->fn->outputs + i;
        if (r->to[(*v)->id]) *v = r->to[(*v)->id];
    }
}

/* ---- the rotary tables ---- */

static float table_at(const anm_mil_value *t, int64_t i)
{
    const uint8_t *d = t->constant->data;
    return t->type.dtype == ANM_DT_F16 ? anm_f16_to_f32(anm_ld16(d + 2 * i)) : anm_ldf32(d + 4 * i);
}

/* The shape of all tables is that of the first; *n: how many values it has. */
static int check_table(int64_t *n, rewriting *r, const anm_mil_value *t, anm_error *err)
{
    anm_loaded *l = r->l;
    bool half = t->type.dtype == ANM_DT_F16;
    if (!anm_mil_type_count(&t->type, n) || *n < 1 || *n > TABLE_MAX || (!half && t->type.dtype != ANM_DT_F32) ||
        !t->constant->data || t->constant->size < (uint64_t)*n * (half ? 2 : 4))
        return unknown("its rotary table is none of floats", err);
    if (l->info.max_context && (l->info.max_context != t->type.dim[0] || l->table_width != t->type.dim[1]))
        return unknown("its rotary tables differ in shape", err);
    l->info.max_context = t->type.dim[0];
    l->table_width = t->type.dim[1];
    return 0;
}

/* Position 0 turns nothing: its cosines are 1, its sines 0. Each layer slices tables of its own; the first of each kind stands
 * for all. */
static int take_slice(rewriting *r, anm_mil_op *op, const anm_mil_value *table, anm_error *err)
{
    int64_t n;
    int rc = check_table(&n, r, table, err);
    if (rc) return rc;
    float first = table_at(table, 0);
    bool is_cos = first == 1;
    if (!is_cos && first != 0) return unknown("a table by position is neither cosines nor sines", err);
    anm_mil_value **to = is_cos ? &r->cos : &r->sin;
    if (!*to) {
        float *rows = anm_arena_array(&r->l->arena, (size_t)n, sizeof *rows);
        if (!rows) return anm_fail_memory(err, "the rotary tables");
        for (int64_t i = 0; i < n; i++) rows[i] = table_at(table, i);
        const int64_t shape[2] = {r->rows, table->type.dim[1]};
        *to = anm_mil_input(&r->b, is_cos ? "cos_rows" : "sin_rows", anm_mil_tensor(table->type.dtype, 2, shape));
        *(is_cos ? &r->l->cos : &r->l->sin) = rows;
    }
    const float *kept = is_cos ? r->l->cos : r->l->sin;
    for (int64_t i = 0; i < n; i++)
        if (kept[i] != table_at(table, i)) return unknown("its layers' rotary tables differ", err);
    r->to[op->outs[0]->id] = *to;
    anm_mil_remove(r->fn, op);
    return 0;
}

static int free_positions(rewriting *r, anm_error *err)
{
    int rc = 0;
    for (anm_mil_op *op = r->fn->first, *next; op && !rc; op = next) {
        next = op->next;
        const anm_mil_value *x = op->code == ANM_OP_SLICE_BY_INDEX ? anm_mil_arg_of(op, ANM_P_X) : NULL;
        if (x && x->constant && x->type.rank == 2 && marked(r, r->of_position, anm_mil_arg_of(op, ANM_P_BEGIN)))
            rc = take_slice(r, op, x, err);
    }
    settle(r);
    if (!rc && (!r->cos || !r->sin)) rc = unknown("rotary rows are not sliced from tables", err);
    return rc;
}

/* ---- all rows' logits ---- */

/* The types behind `op`, anew where an operand's changed. */
static int retype(anm_mil_op *op, bool *changed, anm_error *err)
{
    for (; op; op = op->next) {
        anm_mil_type types[ANM_MIL_MAX_SLOTS];
        bool touched = false;
        for (uint32_t i = 0; i < op->n_args; i++)
            for (uint32_t k = 0; k < op->args[i].count; k++) touched |= changed[op->args[i].value[k]->id];
        if (!touched) continue;
        if (op->n_outs > ANM_MIL_MAX_SLOTS || anm_mil_infer(types, op, err))
            return unknown("what follows the choice of the last row does not take several rows", err);
        for (uint32_t i = 0; i < op->n_outs; i++) {
            op->outs[i]->type = types[i];
            changed[op->outs[i]->id] = true;
        }
    }
    return 0;
}

static int keep_all_rows(rewriting *r, anm_error *err)
{
    anm_mil_op *gather = r->fn->first;
    while (gather && !(gather->code == ANM_OP_GATHER && marked(r, r->of_length, anm_mil_arg_of(gather, ANM_P_INDICES))))
        gather = gather->next;
    anm_mil_value *x = gather ? anm_mil_arg_of(gather, ANM_P_X) : NULL, *row = gather ? gather->outs[0] : NULL;
    int64_t axis = -1;
    if (!x || x->type.rank != 3 || x->type.dim[1] != r->rows || !anm_mil_get_i64(anm_mil_arg_of(gather, ANM_P_AXIS), &axis) || axis != 1)
        return unknown("the last row is not gathered", err);
    bool *changed = calloc(r->fn->n_values, sizeof *changed);
    if (!changed) return anm_fail_memory(err, "program");
    anm_mil_op *behind = gather->next;
    for (anm_mil_op *op = behind, *next; op; op = next) {
        next = op->next;
        if (op->code != ANM_OP_SQUEEZE || anm_mil_arg_of(op, ANM_P_X) != row) continue;
        r->to[op->outs[0]->id] = x;
        if (op == behind) behind = next;
        anm_mil_remove(r->fn, op);
    }
    r->to[row->id] = x;
    anm_mil_remove(r->fn, gather);
    settle(r);
    changed[x->id] = true;
    int rc = retype(behind, changed, err);
    free(changed);
    return rc;
}

/* ---- a cache for each layer ---- */

static int split_caches(anm_mil_value **out, rewriting *r, anm_mil_value *all, const char *name, anm_error *err)
{
    for (anm_mil_op *op = r->fn->first, *next; op; op = next) {
        next = op->next;
        if (op->code != ANM_OP_SLICE_BY_INDEX || anm_mil_arg_of(op, ANM_P_X) != all) continue;
        int64_t begin[ANM_MIL_MAX_RANK];
        int n;
        const anm_mil_value *from = anm_mil_arg_of(op, ANM_P_BEGIN);
        if (!from || !anm_mil_get_i64s(from, begin, ANM_MIL_MAX_RANK, &n) || n != 5 || begin[0] < 0 || begin[0] >= r->layers || out[begin[0]])
            return unknown("its caches are not taken apart by layer", err);
        char own[64];
        snprintf(own, sizeof own, "%s_%d", name, (int)begin[0]);
        out[begin[0]] = anm_mil_input(&r->b, own, op->outs[0]->type);
        r->to[op->outs[0]->id] = out[begin[0]];
        anm_mil_remove(r->fn, op);
    }
    for (int64_t i = 0; i < r->layers; i++)
        if (!out[i]) return unknown("a layer has no cache", err);
    return 0;
}

static int split_outputs(anm_mil_value **out, const rewriting *r, const anm_mil_value *all, anm_error *err)
{
    anm_mil_opcode made = all->def ? all->def->code : ANM_OP_FOREIGN; /* a single layer's is made 5-D without a stack */
    const anm_mil_arg *list = made == ANM_OP_STACK ? anm_mil_args_of(all->def, ANM_P_VALUES)
                              : made == ANM_OP_EXPAND_DIMS ? anm_mil_args_of(all->def, ANM_P_X) : NULL;
    if (!list || (int64_t)list->count != r->layers) return unknown("new keys and values are not stacked by layer", err);
    memcpy(out, list->value, (size_t)r->layers * sizeof *out);
    return 0;
}

/* ---- the signature ---- */

static int read_signature(rewriting *r, anm_error *err)
{
    anm_mil_function *fn = r->fn;
    anm_mil_value **in = fn->inputs;
    uint32_t n = fn->n_inputs, caches = n - FIXED;
    r->tokens = in[0];
    r->position = in[1];
    r->length = in[2];
    r->mask = in[n - 1];
    r->rows = r->tokens->type.dim[1];
    r->list = in[3]->type.rank == 4;
    r->layers = r->list ? caches / 2 : in[3]->type.dim[0];
    bool fits = (r->list ? caches % 2 == 0 : caches == 2 && in[3]->type.rank == 5) && fn->n_outputs == 1 + caches && r->rows >= 1 &&
                r->layers >= 1 && r->layers <= ANM_LAYERS_LIMIT && r->mask->type.dim[0] == r->rows && fn->outputs[0]->type.rank == 2 &&
                fn->outputs[0]->type.dim[0] == 1;
    for (uint32_t i = 0; i < 3; i++) fits &= anm_dtype_class(in[i]->type.dtype) == 'i';
    if (!fits) return unknown("its inputs and outputs are not those of export.py", err);
    anm_mil_value **all = anm_arena_array(&r->l->arena, (size_t)r->layers, 4 * sizeof *all);
    if (!all) return anm_fail_memory(err, "program");
    r->k = all;
    r->v = all + r->layers;
    r->new_k = all + 2 * r->layers;
    r->new_v = all + 3 * r->layers;
    return 0;
}

static int find_caches(rewriting *r, anm_error *err)
{
    anm_mil_value **in = r->fn->inputs + 3, **out = r->fn->outputs + 1;
    if (r->list) {
        size_t n = (size_t)r->layers * sizeof *in;
        memcpy(r->k, in, n);
        memcpy(r->v, in + r->layers, n);
        memcpy(r->new_k, out, n);
        memcpy(r->new_v, out + r->layers, n);
        return 0;
    }
    anm_mil_value *k = in[0], *v = in[1]; /* the list of inputs grows now, and may move */
    int rc = split_outputs(r->new_k, r, out[0], err);
    if (!rc) rc = split_outputs(r->new_v, r, out[1], err);
    if (!rc) rc = split_caches(r->k, r, k, "k_cache", err);
    if (!rc) rc = split_caches(r->v, r, v, "v_cache", err);
    settle(r);
    return rc;
}

static bool is_entries(const anm_mil_value *v, const anm_mil_type *like, int64_t rows)
{
    const anm_mil_type *t = &v->type;
    return t->rank == 4 && t->dtype == like->dtype && t->dim[0] == 1 && t->dim[1] == like->dim[1] && t->dim[2] == rows && t->dim[3] == like->dim[3];
}

/* The rewritten function's inputs and outputs, in the engine's order. */
static int sign(rewriting *r, anm_method *m, anm_error *err)
{
    anm_engine_info *info = &r->l->info;
    const anm_mil_type *cache = &r->k[0]->type, *logits = &r->fn->outputs[0]->type;
    uint32_t n = 4 + 2 * (uint32_t)r->layers, at = 0, made = 0;
    anm_mil_value **in = anm_arena_array(&r->l->arena, n, sizeof *in), **out = anm_arena_array(&r->l->arena, n, sizeof *out);
    m->kv = anm_arena_array(&r->l->arena, (size_t)r->layers, sizeof *m->kv);
    if (!in || !out || !m->kv) return anm_fail_memory(err, "program");
    if (cache->rank != 4 || (cache->dtype != ANM_DT_F16 && cache->dtype != ANM_DT_F32))
        return unknown("a cache is not [1, heads, entries, width] of floats", err);
    if (logits->rank != 3 || logits->dim[0] != 1 || logits->dim[1] != r->rows || logits->dim[2] < 1 || logits->dim[2] > INT32_MAX)
        return unknown("its logits are not [1, rows, vocabulary]", err);
    *info = (anm_engine_info){.vocab_size = logits->dim[2], .head_dim = cache->dim[3], .n_kv_heads = cache->dim[1],
                              .n_layers = r->layers, .max_context = info->max_context, .cache_len = cache->dim[2],
                              .fp16_cache = cache->dtype == ANM_DT_F16, .deprecated = true, .evicts = true};
    if (r->mask->type.dim[1] - r->rows != info->cache_len) return unknown("its mask does not fit its caches", err);
    in[at++] = r->tokens;
    in[at++] = r->mask;
    in[at++] = r->cos;
    in[at++] = r->sin;
    out[made++] = r->fn->outputs[0];
    for (int64_t i = 0; i < r->layers; i++) {
        if (!is_entries(r->k[i], cache, info->cache_len) || !is_entries(r->v[i], cache, info->cache_len) ||
            !is_entries(r->new_k[i], cache, r->rows) || !is_entries(r->new_v[i], cache, r->rows))
            return unknown("its layers' caches differ", err);
        m->kv[i] = (anm_kv_io){(int32_t)at, (int32_t)at + 1, (int32_t)made, (int32_t)made + 1};
        in[at++] = r->k[i];
        in[at++] = r->v[i];
        out[made++] = r->new_k[i];
        out[made++] = r->new_v[i];
    }
    r->fn->inputs = in;
    r->fn->n_inputs = at;
    r->fn->outputs = out;
    r->fn->n_outputs = made;
    m->fn = r->fn;
    m->rows = m->logits_rows = r->rows;
    m->mask = 1;
    m->cos = 2;
    m->sin = 3;
    m->last_pos = -1;
    return 0;
}

int anm_loaded_find_deprecated(anm_loaded *l, anm_error *err)
{
    anm_method *m = &l->method[ANM_METHOD_DECODE];
    rewriting r = {.l = l};
    int rc = anm_loaded_join(&r.fn, l, anm_pte_find(&l->pte, "forward"), err);
    if (!rc) rc = read_signature(&r, err);
    if (rc) return rc;
    r.b = anm_mil_build(r.fn);
    r.n_marks = r.fn->n_values;
    r.of_length = mark(r.fn, r.length);
    r.of_position = mark(r.fn, r.position);
    r.to = calloc((size_t)r.n_marks + 2 + 2 * (size_t)r.layers, sizeof *r.to); /* and the inputs that are made: two of tables, two a layer */
    if (!r.of_length || !r.of_position || !r.to) rc = anm_fail_memory(err, "program");
    if (!rc) rc = keep_all_rows(&r, err);
    if (!rc) rc = free_positions(&r, err);
    if (!rc) rc = find_caches(&r, err);
    if (!rc && (rc = r.b.err.code)) *err = r.b.err;
    if (!rc) rc = sign(&r, m, err);
    if (!rc) rc = anm_pass_remove_unused(r.fn, err);
    if (!rc) rc = anm_mil_verify(&l->program, false, err);
    free(r.of_length);
    free(r.of_position);
    free(r.to);
    return rc;
}
