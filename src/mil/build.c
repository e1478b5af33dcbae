/* SPDX-License-Identifier: BSD-3-Clause */
/* Making and rewriting graphs. */
#include "mil/hash.h"
#include "mil/mil.h"
#include "mil/rules.h"
#include "base/bytes.h"
#include "base/half.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* ---- names ----
 *
 * A name that is asked for twice gets a number. The set of names is made when the first name has to be new,
 * so a graph that is only read never pays for it. Its hash is seeded with an address: nobody can prepare a
 * file whose names all collide. */

typedef struct name_entry {
    UT_hash_handle hh;
    const char *name;
    anm_mil_value *value;
    uint32_t next; /* the number to try next for this name */
    bool lost;     /* could not be entered: memory was out */
} name_entry;

struct anm_mil_names {
    name_entry *head;
};

static name_entry *names_find(struct anm_mil_names *names, const char *name)
{
    name_entry *e;
    HASH_FIND(hh, names->head, name, strlen(name), e);
    return e;
}

static bool names_add(anm_arena *arena, struct anm_mil_names *names, anm_mil_value *v)
{
    if (!v->name || names_find(names, v->name)) return true; /* the parser names its constants last */
    name_entry *e = anm_arena_alloc(arena, sizeof *e);
    if (!e) return false;
    e->name = v->name;
    e->value = v;
    e->next = 1;
    HASH_ADD_KEYPTR(hh, names->head, v->name, strlen(v->name), e);
    return !e->lost;
}

static bool names_add_all(anm_arena *arena, struct anm_mil_names *names, uint32_t n, anm_mil_value *const *v)
{
    bool ok = true;
    for (uint32_t i = 0; i < n; i++)
        ok = ok && names_add(arena, names, v[i]);
    return ok;
}

/* The set of names, made of all values that stand in the function (inputs, results, constants among the
 * arguments and outputs) when it is asked for first. */
static struct anm_mil_names *names_of(anm_mil_function *fn)
{
    anm_arena *arena = &fn->program->arena;
    if (fn->names) return fn->names;
    struct anm_mil_names *names = anm_arena_alloc(arena, sizeof *names);
    if (!names) return NULL;
    fn->names = names; /* freed with the program, whole or not */
    bool ok = names_add_all(arena, names, fn->n_inputs, fn->inputs);
    ok = ok && names_add_all(arena, names, fn->n_outputs, fn->outputs);
    for (const anm_mil_op *op = fn->first; op; op = op->next) {
        ok = ok && names_add_all(arena, names, op->n_outs, op->outs);
        for (uint32_t a = 0; a < op->n_args; a++)
            ok = ok && names_add_all(arena, names, op->args[a].count, op->args[a].value);
    }
    return ok ? names : NULL;
}

anm_mil_value *anm_mil_value_find(anm_mil_function *fn, const char *name)
{
    struct anm_mil_names *names = names_of(fn);
    name_entry *e = names ? names_find(names, name) : NULL;
    return e ? e->value : NULL;
}

/* Names `v` `base` when no value has that name yet, else base_1, base_2, …; false: no memory. */
static bool name_unique(anm_mil_function *fn, anm_mil_value *v, const char *base)
{
    anm_arena *arena = &fn->program->arena;
    struct anm_mil_names *names = names_of(fn);
    if (!names) return false;
    name_entry *e = names_find(names, base);
    v->name = e ? NULL : anm_arena_strdup(arena, base);
    while (e && (!v->name || names_find(names, v->name))) {
        v->name = anm_arena_printf(arena, "%s_%lu", base, (unsigned long)e->next++);
        if (!v->name) return false;
    }
    return v->name && names_add(arena, names, v);
}

/* ---- programs and functions ---- */

void anm_mil_program_init(anm_mil_program *p)
{
    *p = (anm_mil_program){0};
    anm_arena_init(&p->arena);
}

void anm_mil_program_free(anm_mil_program *p)
{
    for (anm_mil_function *fn = p->functions; fn; fn = fn->next)
        if (fn->names) HASH_CLEAR(hh, fn->names->head);
    p->functions = NULL;
    anm_arena_free(&p->arena);
}

anm_mil_function *anm_mil_function_new(anm_mil_program *p, const char *name, const char *opset)
{
    anm_mil_function *fn = anm_arena_alloc(&p->arena, sizeof *fn), **at = &p->functions;
    if (!fn) return NULL;
    fn->program = p;
    fn->name = anm_arena_strdup(&p->arena, name);
    fn->opset = anm_arena_strdup(&p->arena, opset);
    if (!fn->name || !fn->opset) return NULL;
    while (*at)
        at = &(*at)->next;
    *at = fn;
    return fn;
}

anm_mil_function *anm_mil_function_find(const anm_mil_program *p, const char *name)
{
    for (anm_mil_function *fn = p->functions; fn; fn = fn->next)
        if (strcmp(fn->name, name) == 0) return fn;
    return NULL;
}

anm_mil_value *anm_mil_value_unnamed(anm_mil_function *fn, anm_mil_type type)
{
    anm_mil_value *v = fn->n_values < UINT32_MAX ? anm_arena_alloc(&fn->program->arena, sizeof *v) : NULL;
    if (!v) return NULL;
    v->type = type;
    v->id = fn->n_values++;
    fn->distinct = false;
    return v;
}

bool anm_mil_value_number(anm_mil_function *fn, anm_mil_value *v)
{
    char made[16];
    snprintf(made, sizeof made, "v%lu", (unsigned long)v->id);
    return name_unique(fn, v, made);
}

anm_mil_value *anm_mil_value_new(anm_mil_function *fn, const char *name, anm_mil_type type)
{
    anm_arena *arena = &fn->program->arena;
    anm_mil_value *v = anm_mil_value_unnamed(fn, type);
    if (!v) return NULL;
    if (!name) return anm_mil_value_number(fn, v) ? v : NULL;
    v->name = anm_arena_strdup(arena, name);
    if (!v->name || (fn->names && !names_add(arena, fn->names, v))) return NULL;
    return v;
}

/* Puts `op` before `before`, or at the end. */
static void op_link(anm_mil_function *fn, anm_mil_op *before, anm_mil_op *op)
{
    op->next = before;
    op->prev = before ? before->prev : fn->last;
    *(op->prev ? &op->prev->next : &fn->first) = op;
    *(before ? &before->prev : &fn->last) = op;
}

/* A copy of the arguments in the arena, in the order of the op's parameters; what the op does not have comes
 * last. */
static bool args_copy(anm_arena *arena, anm_mil_op *op, uint32_t n, const anm_mil_arg *args)
{
    const anm_mil_slot *slots;
    int n_slots = anm_mil_op_slots(op->code, &slots);
    op->args = anm_arena_array(arena, n, sizeof *op->args);
    bool *done = anm_arena_array(arena, n, sizeof *done);
    if (!op->args || !done) return false;
    for (int s = 0; s <= n_slots; s++) {
        for (uint32_t a = 0; a < n; a++) {
            if (done[a] || (s < n_slots && args[a].param != slots[s].param)) continue;
            done[a] = true;
            anm_mil_arg *to = &op->args[op->n_args++];
            *to = args[a];
            to->value = anm_arena_array(arena, args[a].count, sizeof *to->value);
            if (args[a].foreign) to->foreign = anm_arena_strdup(arena, args[a].foreign);
            if (!to->value || (args[a].foreign && !to->foreign)) return false;
            if (args[a].count) memcpy(to->value, args[a].value, args[a].count * sizeof *to->value);
        }
    }
    return true;
}

anm_mil_op *anm_mil_append(anm_mil_function *fn, anm_mil_op *before, anm_mil_opcode code, const char *foreign,
                           uint32_t n_args, const anm_mil_arg *args, uint32_t n_outs,
                           anm_mil_value *const *outs)
{
    anm_arena *arena = &fn->program->arena;
    anm_mil_op *op = anm_arena_alloc(arena, sizeof *op);
    if (!op) return NULL;
    op->code = code;
    if (code == ANM_OP_FOREIGN && !(op->foreign = anm_arena_strdup(arena, foreign ? foreign : "")))
        return NULL;
    if (!args_copy(arena, op, n_args, args)) return NULL;
    op->outs = anm_arena_array(arena, n_outs, sizeof *op->outs);
    if (!op->outs) return NULL;
    op->n_outs = n_outs;
    for (uint32_t i = 0; i < n_outs; i++) {
        op->outs[i] = outs[i];
        op->outs[i]->def = op;
    }
    op_link(fn, before, op);
    return op;
}

/* ---- the builder ---- */

anm_mil_builder anm_mil_build(anm_mil_function *fn)
{
    anm_mil_builder b = {.fn = fn, .failed = {.name = "failed", .type = {.dtype = ANM_DT_F32}}};
    if (!fn) anm_fail_memory(&b.err, "a function");
    return b;
}

static anm_mil_value *no_memory(anm_mil_builder *b)
{
    if (!b->err.code) anm_fail_memory(&b->err, "the graph");
    return &b->failed;
}

static anm_mil_value *value_unique(anm_mil_builder *b, const char *base, anm_mil_type type)
{
    anm_mil_value *v = anm_mil_value_unnamed(b->fn, type);
    return v && name_unique(b->fn, v, base) ? v : NULL;
}

/* Puts `v` at the end of a growing list of the arena; room doubles at powers of two. */
static bool list_add(anm_arena *arena, anm_mil_value ***list, uint32_t *n, anm_mil_value *v)
{
    if ((*n & (*n - 1)) == 0) {
        anm_mil_value **grown = anm_arena_array(arena, *n ? (size_t)*n * 2 : 1, sizeof *grown);
        if (!grown) return false;
        if (*n) memcpy(grown, *list, *n * sizeof *grown);
        *list = grown;
    }
    (*list)[(*n)++] = v;
    return true;
}

anm_mil_value *anm_mil_input(anm_mil_builder *b, const char *name, anm_mil_type type)
{
    if (b->err.code) return &b->failed;
    anm_mil_value *v = value_unique(b, name, type);
    if (!v || !list_add(&b->fn->program->arena, &b->fn->inputs, &b->fn->n_inputs, v)) return no_memory(b);
    return v;
}

anm_mil_value *anm_mil_input_new(anm_mil_function *fn, const char *name, anm_mil_type type)
{
    anm_mil_value *v = anm_mil_value_new(fn, name, type);
    return v && list_add(&fn->program->arena, &fn->inputs, &fn->n_inputs, v) ? v : NULL;
}

void anm_mil_output(anm_mil_builder *b, anm_mil_value *v)
{
    if (b->err.code) return;
    if (!list_add(&b->fn->program->arena, &b->fn->outputs, &b->fn->n_outputs, v)) no_memory(b);
}

/* Appends an op with inferred results; the arguments are args[0 … n) and then the pairs of `ap`. */
static void emit(anm_mil_builder *b, anm_mil_opcode code, const char *name, uint32_t n_outs,
                 anm_mil_value **outs, uint32_t n, anm_mil_arg args[ANM_MIL_MAX_SLOTS + 1], va_list ap)
{
    anm_mil_value *single[ANM_MIL_MAX_SLOTS + 1];
    for (uint32_t i = 0; i < n_outs; i++)
        outs[i] = &b->failed;
    for (int p; (p = va_arg(ap, int)) != ANM_P_END;) {
        anm_mil_value *v = va_arg(ap, anm_mil_value *);
        if (!v) continue;
        if (n == ANM_MIL_MAX_SLOTS + 1) {
            if (!b->err.code)
                anm_fail(&b->err, ANM_ERR_USAGE, "%s: too many arguments", anm_mil_op_name(code));
            return;
        }
        single[n] = v;
        args[n] = (anm_mil_arg){.param = (anm_mil_param)p, .count = 1, .value = &single[n]};
        n++;
    }
    if (b->err.code) return;
    if (!name) name = anm_mil_op_name(code);

    anm_arena *arena = &b->fn->program->arena;
    anm_mil_type *types = anm_arena_array(arena, n_outs, sizeof *types);
    anm_mil_op probe = {.code = code, .n_outs = n_outs};
    if (!types || !args_copy(arena, &probe, n, args)) {
        no_memory(b);
        return;
    }
    if (anm_mil_infer(types, &probe, &b->err)) {
        anm_error_prefix(&b->err, name);
        return;
    }
    anm_mil_value **made = anm_arena_array(arena, n_outs, sizeof *made);
    for (uint32_t i = 0; made && i < n_outs; i++) {
        char numbered[128];
        if (n_outs > 1) snprintf(numbered, sizeof numbered, "%s_%lu", name, (unsigned long)i);
        made[i] = value_unique(b, n_outs > 1 ? numbered : name, types[i]);
        if (!made[i]) made = NULL;
    }
    if (!made || !anm_mil_append(b->fn, b->before, code, NULL, n, args, n_outs, made)) {
        no_memory(b);
        return;
    }
    for (uint32_t i = 0; i < n_outs; i++)
        outs[i] = made[i];
}

anm_mil_value *anm_mil_emit(anm_mil_builder *b, anm_mil_opcode op, const char *name, ...)
{
    anm_mil_arg args[ANM_MIL_MAX_SLOTS + 1];
    anm_mil_value *out;
    va_list ap;
    va_start(ap, name);
    emit(b, op, name, 1, &out, 0, args, ap);
    va_end(ap);
    return out;
}

anm_mil_value *anm_mil_emit_list(anm_mil_builder *b, anm_mil_opcode op, const char *name, anm_mil_param param,
                                 uint32_t n, anm_mil_value *const *list, ...)
{
    anm_mil_arg args[ANM_MIL_MAX_SLOTS + 1];
    anm_mil_value *out;
    va_list ap;
    args[0] = (anm_mil_arg){.param = param, .count = n, .value = (anm_mil_value **)list};
    va_start(ap, list);
    emit(b, op, name, 1, &out, 1, args, ap);
    va_end(ap);
    return out;
}

void anm_mil_emit_outs(anm_mil_builder *b, anm_mil_opcode op, const char *name, uint32_t n_outs,
                       anm_mil_value **outs, ...)
{
    anm_mil_arg args[ANM_MIL_MAX_SLOTS + 1];
    va_list ap;
    va_start(ap, outs);
    emit(b, op, name, n_outs, outs, 0, args, ap);
    va_end(ap);
}

/* ---- constants ---- */

anm_mil_value *anm_mil_const_blob(anm_mil_builder *b, const char *name, anm_mil_type type, anm_blob blob)
{
    if (b->err.code) return &b->failed;
    anm_blob *kept = anm_arena_alloc(&b->fn->program->arena, sizeof *kept);
    anm_mil_value *v = name ? value_unique(b, name, type) : anm_mil_value_new(b->fn, NULL, type);
    if (!kept || !v) return no_memory(b);
    *kept = blob;
    v->constant = kept;
    return v;
}

static anm_mil_value *const_bytes(anm_mil_builder *b, anm_mil_type type, const void *data, size_t n)
{
    if (b->err.code) return &b->failed;
    uint8_t *kept = (uint8_t *)anm_arena_strndup(&b->fn->program->arena, data, n);
    if (!kept) return no_memory(b);
    return anm_mil_const_blob(b, NULL, type, (anm_blob){.size = n, .data = kept});
}

anm_mil_value *anm_mil_const_i32(anm_mil_builder *b, int32_t v)
{
    uint8_t bytes[4];
    anm_st32(bytes, (uint32_t)v);
    return const_bytes(b, anm_mil_scalar(ANM_DT_I32), bytes, sizeof bytes);
}

anm_mil_value *anm_mil_const_i32s(anm_mil_builder *b, int n, const int64_t *v)
{
    if (b->err.code) return &b->failed;
    uint8_t *bytes = anm_arena_array(&b->fn->program->arena, n < 0 ? 0 : (size_t)n, 4);
    if (!bytes) return no_memory(b);
    for (int i = 0; i < n; i++) {
        if (v[i] < INT32_MIN || v[i] > INT32_MAX) {
            anm_fail(&b->err, ANM_ERR_LIMIT, "%lld does not fit an int32 constant", (long long)v[i]);
            return &b->failed;
        }
        anm_st32(bytes + 4 * (size_t)i, (uint32_t)v[i]);
    }
    return anm_mil_const_blob(b, NULL, anm_mil_tensor(ANM_DT_I32, 1, (int64_t[]){n}),
                              (anm_blob){.size = 4 * (uint64_t)n, .data = bytes});
}

anm_mil_value *anm_mil_const_bool(anm_mil_builder *b, bool v)
{
    return const_bytes(b, anm_mil_scalar(ANM_DT_BOOL), &(uint8_t){v}, 1);
}

anm_mil_value *anm_mil_const_bools(anm_mil_builder *b, int n, const bool *v)
{
    if (b->err.code) return &b->failed;
    uint8_t *bytes = anm_arena_array(&b->fn->program->arena, n < 0 ? 0 : (size_t)n, 1);
    if (!bytes) return no_memory(b);
    for (int i = 0; i < n; i++)
        bytes[i] = v[i];
    return anm_mil_const_blob(b, NULL, anm_mil_tensor(ANM_DT_BOOL, 1, (int64_t[]){n}),
                              (anm_blob){.size = (uint64_t)n, .data = bytes});
}

anm_mil_value *anm_mil_const_float(anm_mil_builder *b, anm_dtype t, float v)
{
    uint8_t bytes[4];
    if (t == ANM_DT_F16)
        anm_st16(bytes, anm_f32_to_f16(v));
    else
        anm_stf32(bytes, v);
    return const_bytes(b, anm_mil_scalar(t == ANM_DT_F16 ? t : ANM_DT_F32), bytes, t == ANM_DT_F16 ? 2 : 4);
}

anm_mil_value *anm_mil_const_string(anm_mil_builder *b, const char *s)
{
    return const_bytes(b, anm_mil_scalar(ANM_DT_STRING), s, strlen(s));
}

/* ---- reading ---- */

const anm_mil_arg *anm_mil_args_of(const anm_mil_op *op, anm_mil_param p)
{
    for (uint32_t a = 0; a < op->n_args; a++)
        if (op->args[a].param == p) return &op->args[a];
    return NULL;
}

anm_mil_value *anm_mil_arg_of(const anm_mil_op *op, anm_mil_param p)
{
    const anm_mil_arg *arg = anm_mil_args_of(op, p);
    return arg && arg->count ? arg->value[0] : NULL;
}

/* ---- rewriting ---- */

void anm_mil_replace_args(anm_mil_op *op, anm_mil_value *const *to)
{
    for (uint32_t a = 0; a < op->n_args; a++)
        for (uint32_t i = 0; i < op->args[a].count; i++) {
            anm_mil_value **v = &op->args[a].value[i];
            if (to[(*v)->id]) *v = to[(*v)->id];
        }
}

void anm_mil_remove(anm_mil_function *fn, anm_mil_op *op)
{
    *(op->prev ? &op->prev->next : &fn->first) = op->next;
    *(op->next ? &op->next->prev : &fn->last) = op->prev;
    op->prev = op->next = NULL;
}
