/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Every rule that later stages trust, checked in one walk over each function (and a table of its names).
 * Side tables are by value id; what a rule says about types is in infer.h.
 */
#include "mil/mil.h"
#include "mil/rules.h"
#include "base/bytes.h"

#include <stdlib.h>
#include <string.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

typedef struct checker {
    const anm_mil_function *fn;
    bool strict;
    const anm_mil_value **seen; /* by id: the value that has it */
    bool *defined;              /* by id: it may be used */
    uint32_t n_seen;
    anm_mil_type *types; /* of the results of one op */
    uint32_t room;
    anm_error *err;
} checker;

#define FAIL(c, ...) anm_fail((c)->err, ANM_ERR_FORMAT, __VA_ARGS__)

/* No product of dimensions may overflow, nor the bytes of it; unknown ones count as 1, and those of 0. */
static int check_type(checker *c, const anm_mil_value *v)
{
    const anm_mil_type *t = &v->type;
    int64_t n = 1;
    uint64_t bytes;
    if (!anm_mil_type_sane(t)) return FAIL(c, "%%%s: a malformed type", v->name);
    for (int i = 0; i < t->rank; i++)
        if (t->dim[i] > 1 && !anm_mul_i64(n, t->dim[i], &n))
            return FAIL(c, "%%%s: its dimensions multiply to more than 2^63", v->name);
    if (!anm_mul_u64((uint64_t)n, 8, &bytes)) return FAIL(c, "%%%s: too large", v->name);
    return 0;
}

static int check_constant(checker *c, const anm_mil_value *v)
{
    int64_t n;
    uint64_t bytes;
    if (!anm_mil_type_count(&v->type, &n)) return FAIL(c, "%%%s: a constant of unknown shape", v->name);
    if (v->type.dtype == ANM_DT_STRING) return 0;
    if (!anm_dtype_size(v->type.dtype, (uint64_t)n, &bytes) || bytes != v->constant->size) {
        char t[160];
        return FAIL(c, "%%%s: %llu bytes of data for %s", v->name, (unsigned long long)v->constant->size,
                    anm_mil_type_print(&v->type, t, sizeof t));
    }
    return 0;
}

/* What holds for any value when it is met first. */
static int meet(checker *c, const anm_mil_value *v)
{
    if (!v) return FAIL(c, "a value is missing");
    if (v->id < c->fn->n_values && c->seen[v->id] == v) return 0;
    if (!v->name) return FAIL(c, "a value has no name");
    if (v->id >= c->fn->n_values) return FAIL(c, "%%%s: its id is out of range", v->name);
    if (c->seen[v->id]) return FAIL(c, "%%%s and %%%s have one id", c->seen[v->id]->name, v->name);
    c->seen[v->id] = v;
    c->n_seen++;
    if (check_type(c, v)) return -1;
    if (!v->constant) return 0;
    if (v->def) return FAIL(c, "%%%s: both a constant and an op's result", v->name);
    if (check_constant(c, v)) return -1;
    c->defined[v->id] = true;
    return 0;
}

static int define(checker *c, const anm_mil_value *v, const anm_mil_op *by)
{
    if (meet(c, v)) return -1;
    if (v->constant) return FAIL(c, "%%%s: a constant where a value is defined", v->name);
    if (v->def != by) return FAIL(c, "%%%s: its definition does not lead to where it is defined", v->name);
    if (c->defined[v->id]) return FAIL(c, "%%%s is defined twice", v->name);
    c->defined[v->id] = true;
    return 0;
}

static int use(checker *c, const anm_mil_value *v)
{
    if (meet(c, v)) return -1;
    if (!c->defined[v->id]) return FAIL(c, "%%%s is used before it is defined", v->name);
    return 0;
}

/* Arguments stand in the order of ops.def; that each is allowed and none is missing, anm_mil_infer says. */
static int check_order(checker *c, const anm_mil_op *op)
{
    const anm_mil_slot *slots;
    int n = anm_mil_op_slots(op->code, &slots), at = 0;
    for (uint32_t a = 0; a < op->n_args; a++) {
        while (at < n && slots[at].param != op->args[a].param)
            at++;
        if (at == n) return FAIL(c, "%s stands out of order", anm_mil_param_name(op->args[a].param));
    }
    return 0;
}

static int check_results(checker *c, const anm_mil_op *op)
{
    if (op->n_outs > c->room) {
        anm_mil_type *grown = realloc(c->types, op->n_outs * sizeof *grown);
        if (!grown) return anm_fail_memory(c->err, "the verifier");
        c->types = grown;
        c->room = op->n_outs;
    }
    if (anm_mil_infer(c->types, op, c->err)) return -1;
    for (uint32_t i = 0; i < op->n_outs; i++) {
        const anm_mil_type *is = &op->outs[i]->type, *must = &c->types[i];
        bool open = op->code != ANM_OP_CONSTEXPR_BLOCKWISE_SHIFT_SCALE, fits = is->dtype == must->dtype && is->rank == must->rank;
        for (int d = 0; fits && d < is->rank; d++) /* what is computed may be declared unknown; a weight is of one shape */
            if ((!open || is->dim[d] != ANM_MIL_UNKNOWN_DIM) && is->dim[d] != must->dim[d]) fits = false;
        if (!fits) {
            char a[160], b[160];
            return FAIL(c, "declared %s but it gives %s", anm_mil_type_print(is, a, sizeof a),
                        anm_mil_type_print(must, b, sizeof b));
        }
    }
    return 0;
}

static int check_op(checker *c, const anm_mil_op *op)
{
    if ((unsigned)op->code >= ANM_OP_COUNT) return FAIL(c, "no such op");
    for (uint32_t a = 0; a < op->n_args; a++)
        for (uint32_t i = 0; i < op->args[a].count; i++)
            if (use(c, op->args[a].value[i])) return -1;
    if (op->code == ANM_OP_FOREIGN) {
        if (!op->foreign || !*op->foreign) return FAIL(c, "an op without a name");
        if (anm_mil_op_of_name(op->foreign) != ANM_OP_FOREIGN)
            return FAIL(c, "%s is not a foreign op", op->foreign);
        if (c->strict)
            return anm_fail(c->err, ANM_ERR_UNSUPPORTED, "%s: an op that anemone does not know", op->foreign);
    }
    for (uint32_t i = 0; i < op->n_outs; i++)
        if (define(c, op->outs[i], op)) return -1;
    if (op->code == ANM_OP_FOREIGN) return 0;
    return check_results(c, op) || check_order(c, op) ? -1 : 0;
}

/* The hash of each value's name, by id. Values and names lie anywhere, so what comes is fetched ahead. */
static int hash_names(uint32_t *hash, const checker *c, uint64_t seed)
{
    enum { AHEAD = 8 };
    const anm_mil_value *const *seen = c->seen;
    const uint32_t n = c->fn->n_values;
    for (uint32_t i = 0; i < n; i++) {
        if (i + 2 * AHEAD < n && seen[i + 2 * AHEAD]) __builtin_prefetch(seen[i + 2 * AHEAD]);
        if (i + AHEAD < n && seen[i + AHEAD]) __builtin_prefetch(seen[i + AHEAD]->name);
        if (!seen[i]) continue;
        size_t length = strlen(seen[i]->name);
        if (!length) return FAIL(c, "a value has no name");
        hash[i] = (uint32_t)XXH3_64bits_withSeed(seen[i]->name, length, seed);
    }
    return 0;
}

/* No value is without a name, and no two have one: a table of them, at most half full. Its hash is seeded with an address, so
 * that nobody can prepare a file whose names collide. */
static int check_names(checker *c)
{
    typedef struct place {
        uint32_t hash, id; /* id 0: free, else one more than the value's */
    } place;
    enum { AHEAD = 8 };
    const uint32_t n = c->fn->n_values;
    size_t room = 16;
    while (room / 2 < c->n_seen)
        room *= 2;
    place *at = calloc(room, sizeof *at);
    uint32_t *hash = malloc(((size_t)n + 1) * sizeof *hash);
    int bad = at && hash ? hash_names(hash, c, (uintptr_t)c) : anm_fail_memory(c->err, "the verifier");
    for (uint32_t i = 0; i < n && !bad; i++) {
        if (i + AHEAD < n && c->seen[i + AHEAD]) __builtin_prefetch(at + (hash[i + AHEAD] & (room - 1)), 1);
        if (!c->seen[i]) continue;
        const char *name = c->seen[i]->name;
        size_t k = hash[i] & (room - 1);
        for (; at[k].id && (at[k].hash != hash[i] || strcmp(c->seen[at[k].id - 1]->name, name)); k = (k + 1) & (room - 1)) {}
        if (at[k].id) bad = FAIL(c, "two values are named %%%s", name);
        at[k] = (place){hash[i], i + 1};
    }
    free(hash);
    free(at);
    return bad;
}

static int check_body(checker *c)
{
    const anm_mil_function *fn = c->fn;
    for (uint32_t i = 0; i < fn->n_inputs; i++) {
        if (define(c, fn->inputs[i], NULL)) return -1;
    }
    const anm_mil_op *prev = NULL;
    for (const anm_mil_op *op = fn->first; op; prev = op, op = op->next) {
        if (op->next) { /* following pointers is what the walk would wait for most */
            __builtin_prefetch(op->next->next);
            __builtin_prefetch(op->next->args);
            if (op->next->n_outs) __builtin_prefetch(op->next->outs[0]);
        }
        if (op->prev != prev) return FAIL(c, "the list of ops is broken");
        if (check_op(c, op)) {
            anm_error why = *c->err;
            const char *name = op->n_outs && op->outs[0] && op->outs[0]->name ? op->outs[0]->name : "?";
            return anm_fail(c->err, why.code, "at %%%.100s: %s", name, why.text);
        }
    }
    if (fn->last != prev) return FAIL(c, "the list of ops is broken");
    for (uint32_t i = 0; i < fn->n_outputs; i++)
        if (use(c, fn->outputs[i])) return -1;
    return fn->distinct ? 0 : check_names(c);
}

static int check_function(const anm_mil_function *fn, bool strict, anm_error *err)
{
    size_t n = (size_t)fn->n_values + 1;
    checker c = {.fn = fn, .strict = strict, .err = err};
    c.seen = calloc(n, sizeof *c.seen);
    c.defined = calloc(n, sizeof *c.defined);
    int bad = c.seen && c.defined ? check_body(&c) : anm_fail_memory(err, "the verifier");
    free(c.seen);
    free(c.defined);
    free(c.types);
    return bad;
}

int anm_mil_verify(const anm_mil_program *p, bool strict, anm_error *err)
{
    anm_error own;
    if (!err) err = &own;
    for (const anm_mil_function *fn = p->functions; fn; fn = fn->next) {
        if (!fn->name || !*fn->name) return anm_fail(err, ANM_ERR_FORMAT, "a function has no name");
        if (!fn->opset) return anm_fail(err, ANM_ERR_FORMAT, "function %s has no opset", fn->name);
        if (anm_mil_function_find(p, fn->name) != fn)
            return anm_fail(err, ANM_ERR_FORMAT, "two functions are named %s", fn->name);
        if (check_function(fn, strict, err)) {
            anm_error why = *err;
            return anm_fail(err, why.code, "function %.100s: %s", fn->name, why.text);
        }
    }
    return 0;
}
