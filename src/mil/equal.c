/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Are two functions the same dataflow graph? By value numbering: a value's number stands for what it is made
 * of (an input's place; a constant's type and bytes; an op with its arguments' numbers, attributes and result
 * types), shared by both functions. Graphs are the same when their outputs have the same numbers and each op
 * occurs as often in one as in the other. When they are not, a walk down from the first output that differs
 * finds where they part.
 */
#include "mil/element.h"
#include "mil/hash.h"
#include "mil/mil.h"
#include "mil/rules.h"
#include "base/arena.h"
#include "base/buf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What was seen under one key: its number, and how often in each function (ops only). */
typedef struct entry {
    UT_hash_handle hh;
    uint32_t number;
    uint32_t times[2];
    const anm_mil_op *op; /* one of them */
    bool lost;
} entry;

typedef struct comparison {
    const anm_mil_function *fn[2];
    uint32_t *number[2]; /* by value id; 0: none yet */
    entry *bytes, *things;
    uint32_t next;
    anm_arena arena;
    anm_buf key;
    anm_error *err;
} comparison;

/* ---- numbering ---- */

/* The entry of a key; a new one gets a new number. Keys stay where they are when `keep` is false. NULL: no
 * memory. */
static entry *intern(comparison *c, entry **table, const void *key, size_t n, bool keep)
{
    entry *e;
    HASH_FIND(hh, *table, key, n, e);
    if (e) return e;
    e = anm_arena_alloc(&c->arena, sizeof *e);
    if (e && keep) key = anm_arena_strndup(&c->arena, key, n);
    if (!e || !key || c->next == UINT32_MAX) return NULL;
    e->number = ++c->next;
    HASH_ADD_KEYPTR(hh, *table, key, n, e);
    return e->lost ? NULL : e;
}

static void put_type(anm_buf *key, const anm_mil_type *t)
{
    anm_buf_u32(key, (uint32_t)t->dtype);
    anm_buf_u32(key, (uint32_t)t->rank);
    for (int i = 0; i < t->rank; i++)
        anm_buf_u64(key, (uint64_t)t->dim[i]);
}

static entry *intern_key(comparison *c)
{
    return c->key.bad ? NULL : intern(c, &c->things, c->key.data, c->key.size, true);
}

/* Equal bytes get one number. Bytes that are not at hand are told apart by where they will come from. */
static bool put_bytes(comparison *c, const anm_blob *b)
{
    if (b->data || !b->size) {
        entry *e = intern(c, &c->bytes, b->size ? (const void *)b->data : "", (size_t)b->size, false);
        if (e) anm_buf_u32(&c->key, e->number);
        return e != NULL;
    }
    anm_buf_u64(&c->key, (uint64_t)(uintptr_t)b->source);
    anm_buf_u32(&c->key, b->part);
    anm_buf_u64(&c->key, b->source ? 0 : b->offset);
    return true;
}

static uint32_t number_of(comparison *c, int side, const anm_mil_value *v)
{
    uint32_t *n = &c->number[side][v->id];
    if (*n || !v->constant) return *n;
    c->key.size = 0;
    anm_buf_u8(&c->key, 'c');
    put_type(&c->key, &v->type);
    if (!put_bytes(c, v->constant)) return 0;
    entry *e = intern_key(c);
    return *n = e ? e->number : 0;
}

static void number_input(comparison *c, int side, uint32_t i)
{
    const anm_mil_value *v = c->fn[side]->inputs[i];
    c->key.size = 0;
    anm_buf_u8(&c->key, 'i');
    anm_buf_u32(&c->key, i);
    put_type(&c->key, &v->type);
    entry *e = intern_key(c);
    c->number[side][v->id] = e ? e->number : 0;
}

static const char *arg_name(const anm_mil_arg *arg)
{
    return arg->param == ANM_P_END && arg->foreign ? arg->foreign : anm_mil_param_name(arg->param);
}

static const char *op_name(const anm_mil_op *op)
{
    return op->code == ANM_OP_FOREIGN && op->foreign ? op->foreign : anm_mil_op_name(op->code);
}

/* Gives the op its entry, and its results numbers of their own. */
static bool number_op(comparison *c, int side, const anm_mil_op *op)
{
    for (uint32_t a = 0; a < op->n_args; a++) /* constants first: they use the same buffer */
        for (uint32_t i = 0; i < op->args[a].count; i++)
            if (!number_of(c, side, op->args[a].value[i])) return false;
    c->key.size = 0;
    anm_buf_u8(&c->key, 'o');
    anm_buf_put(&c->key, op_name(op), strlen(op_name(op)) + 1);
    for (uint32_t a = 0; a < op->n_args; a++) {
        const anm_mil_arg *arg = &op->args[a];
        anm_buf_put(&c->key, arg_name(arg), strlen(arg_name(arg)) + 1);
        anm_buf_u32(&c->key, arg->count);
        for (uint32_t i = 0; i < arg->count; i++)
            anm_buf_u32(&c->key, c->number[side][arg->value[i]->id]);
    }
    for (uint32_t i = 0; i < op->n_outs; i++)
        put_type(&c->key, &op->outs[i]->type);
    entry *e = intern_key(c);
    if (!e) return false;
    e->op = op;
    e->times[side]++;
    uint32_t number = e->number;
    for (uint32_t i = 0; i < op->n_outs; i++) {
        c->key.size = 0;
        anm_buf_u8(&c->key, 'r');
        anm_buf_u32(&c->key, number);
        anm_buf_u32(&c->key, i);
        if (!(e = intern_key(c))) return false;
        c->number[side][op->outs[i]->id] = e->number;
    }
    return true;
}

static bool number_function(comparison *c, int side)
{
    const anm_mil_function *fn = c->fn[side];
    for (uint32_t i = 0; i < fn->n_inputs; i++)
        number_input(c, side, i);
    for (const anm_mil_op *op = fn->first; op; op = op->next)
        if (!number_op(c, side, op)) return false;
    for (uint32_t i = 0; i < fn->n_outputs; i++)
        if (!number_of(c, side, fn->outputs[i])) return false;
    return true;
}

/* ---- where they part ---- */

static void put_what(anm_buf *where, const anm_mil_value *v)
{
    char t[256];
    anm_mil_type_print(&v->type, t, sizeof t);
    if (anm_mil_is_inline(v))
        anm_mil_put_inline(where, v);
    else if (v->constant)
        anm_buf_printf(where, "a constant %s", t);
    else if (v->def)
        anm_buf_printf(where, "%s giving %s", op_name(v->def), t);
    else
        anm_buf_printf(where, "the input %%%s, %s", v->name, t);
}

/* Two large constants of one type: the first element that differs. */
static void put_element_difference(anm_buf *where, const anm_mil_value *a, const anm_mil_value *b)
{
    const anm_blob *x = a->constant, *y = b->constant;
    anm_dtype t = a->type.dtype;
    int64_t n, i = 0;
    if (!x->data || !y->data || x->size != y->size || !anm_mil_type_count(&a->type, &n)) return;
    uint64_t byte = 0, bytes = anm_dtype_bytes(t);
    while (byte < x->size && x->data[byte] == y->data[byte])
        byte++;
    if (byte == x->size || !bytes) return;
    i = (int64_t)(byte / bytes * anm_dtype_block(t));
    if (anm_dtype_block(t) == 2 && (x->data[byte] & 15) == (y->data[byte] & 15)) i++;
    if (i >= n || t == ANM_DT_STRING) return;
    if (anm_dtype_class(t) == 'f')
        anm_buf_printf(where, "; element %lld is %.9g, %.9g", (long long)i,
                       (double)anm_mil_float_at(t, x->data, i), (double)anm_mil_float_at(t, y->data, i));
    else
        anm_buf_printf(where, "; element %lld is %lld, %lld", (long long)i,
                       (long long)anm_mil_int_at(t, x->data, i), (long long)anm_mil_int_at(t, y->data, i));
}

/* `a` and `b` differ, and not in what they are made of. */
static void put_difference(anm_buf *where, const anm_mil_value *a, const anm_mil_value *b)
{
    put_what(where, a);
    anm_buf_puts(where, ", ");
    put_what(where, b);
    if (!a->constant || !b->constant || anm_mil_is_inline(a)) return;
    if (anm_mil_type_equal(&a->type, &b->type)) put_element_difference(where, a, b);
}

static uint32_t result_index(const anm_mil_value *v)
{
    uint32_t i = 0;
    while (v->def->outs[i] != v)
        i++;
    return i;
}

static bool same_results(const anm_mil_op *a, const anm_mil_op *b)
{
    if (a->n_outs != b->n_outs) return false;
    for (uint32_t i = 0; i < a->n_outs; i++)
        if (!anm_mil_type_equal(&a->outs[i]->type, &b->outs[i]->type)) return false;
    return true;
}

/* Moves on to the first pair of arguments that differ. False when none do, or when the ops do not have the
 * same ones: then it says so. */
static bool differing_args(comparison *c, anm_buf *where, const anm_mil_value **a, const anm_mil_value **b,
                           const anm_mil_arg **arg)
{
    const anm_mil_op *x = (*a)->def, *y = (*b)->def;
    for (uint32_t i = 0; i < x->n_args || i < y->n_args; i++) {
        const anm_mil_arg *p = i < x->n_args ? &x->args[i] : NULL, *q = i < y->n_args ? &y->args[i] : NULL;
        if (!p || !q || strcmp(arg_name(p), arg_name(q)) != 0) {
            anm_buf_printf(where, "%s with %s, %s with %s", op_name(x), p ? arg_name(p) : "nothing more",
                           op_name(y), q ? arg_name(q) : "nothing more");
            return false;
        }
        if (p->count != q->count) {
            anm_buf_printf(where, "%s of %lu values, of %lu values", arg_name(p), (unsigned long)p->count,
                           (unsigned long)q->count);
            return false;
        }
        for (uint32_t v = 0; v < p->count; v++) {
            if (c->number[0][p->value[v]->id] == c->number[1][q->value[v]->id]) continue;
            *a = p->value[v];
            *b = q->value[v];
            *arg = p;
            return true;
        }
    }
    return false;
}

/* Walks from a pair of values that differ to the pair that is to blame. */
static void explain(comparison *c, anm_buf *where, uint32_t output)
{
    const anm_mil_value *a = c->fn[0]->outputs[output], *b = c->fn[1]->outputs[output];
    const anm_mil_arg *arg = NULL;
    const anm_mil_value *user[2] = {NULL, NULL};
    for (;;) {
        if (user[0])
            anm_buf_printf(where, "%%%s, %%%s: %s of %s: ", user[0]->name, user[1]->name, arg_name(arg),
                           op_name(user[0]->def));
        else
            anm_buf_printf(where, "output %lu: ", (unsigned long)output);
        bool ops = a->def && b->def && strcmp(op_name(a->def), op_name(b->def)) == 0;
        if (!ops) {
            put_difference(where, a, b);
            return;
        }
        if (result_index(a) != result_index(b)) {
            anm_buf_printf(where, "result %lu of %s, result %lu", (unsigned long)result_index(a),
                           op_name(a->def), (unsigned long)result_index(b));
            return;
        }
        user[0] = a;
        user[1] = b;
        size_t start = where->size;
        if (!differing_args(c, where, &a, &b, &arg)) {
            if (where->size == start && !same_results(a->def, b->def)) put_difference(where, a, b);
            return;
        }
        where->size = 0; /* they differ because of what they are made of */
    }
}

static bool compare(comparison *c, anm_buf *where)
{
    const anm_mil_function *a = c->fn[0], *b = c->fn[1];
    if (a->n_inputs != b->n_inputs || a->n_outputs != b->n_outputs) {
        anm_buf_printf(where, "%lu inputs and %lu outputs, %lu and %lu", (unsigned long)a->n_inputs,
                       (unsigned long)a->n_outputs, (unsigned long)b->n_inputs, (unsigned long)b->n_outputs);
        return false;
    }
    for (uint32_t i = 0; i < a->n_inputs; i++) {
        if (anm_mil_type_equal(&a->inputs[i]->type, &b->inputs[i]->type)) continue;
        anm_buf_printf(where, "input %lu: ", (unsigned long)i);
        put_difference(where, a->inputs[i], b->inputs[i]);
        return false;
    }
    for (uint32_t i = 0; i < a->n_outputs; i++) {
        if (c->number[0][a->outputs[i]->id] == c->number[1][b->outputs[i]->id]) continue;
        explain(c, where, i);
        return false;
    }
    for (const entry *e = c->things; e; e = e->hh.next) {
        if (e->times[0] == e->times[1]) continue;
        anm_buf_printf(where, "the outputs are the same, but the op %s of %%%s occurs %lu times, %lu times",
                       op_name(e->op), e->op->n_outs ? e->op->outs[0]->name : "?", (unsigned long)e->times[0],
                       (unsigned long)e->times[1]);
        return false;
    }
    return true;
}

int anm_mil_equal(bool *same, anm_buf *where, const anm_mil_function *a, const anm_mil_function *b,
                  anm_error *err)
{
    comparison c = {.fn = {a, b}, .err = err};
    anm_arena_init(&c.arena);
    c.number[0] = calloc((size_t)a->n_values + 1, sizeof(uint32_t));
    c.number[1] = calloc((size_t)b->n_values + 1, sizeof(uint32_t));
    where->size = 0;
    anm_buf_grow(where, 0);
    bool ok = c.number[0] && c.number[1] && number_function(&c, 0) && number_function(&c, 1);
    if (ok) *same = compare(&c, where);
    if (ok && where->bad) ok = false;
    HASH_CLEAR(hh, c.bytes);
    HASH_CLEAR(hh, c.things);
    anm_buf_free(&c.key);
    anm_arena_free(&c.arena);
    free(c.number[0]);
    free(c.number[1]);
    return ok ? 0 : anm_fail_memory(err, "comparing two graphs");
}
