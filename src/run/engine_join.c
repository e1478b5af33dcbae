/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Joining: the program's methods, each a chain of delegate calls, become one MIL function each.
 *
 *   method: values v0 v1 …            function(inputs) {
 *     call delegate 0 (v0 -> v11)  =>   ops of piece 0
 *     call delegate 1 (v11 … -> …)      ops of piece 1, its inputs being piece 0's results
 *     …                               }
 *
 * A delegate holds a package, or (multifunction) names one among the program's named data: "CMJR" and a JSON object
 * with "key" and "functionName". A call's arguments are the piece's inputs, then its outputs, in the order of the
 * package's metadata.json (or, where that is missing, of the function's own signature).
 */
#include "run/engine_internal.h"
#include "base/hash.h"
#include "base/json.h"

#include <stdlib.h>
#include <string.h>

#define HASH_NONFATAL_OOM 1
#define HASH_FUNCTION(key, len, hash) (hash) = (unsigned)anm_hash(key, len, (uintptr_t)&anm_loaded_join)
#include <uthash.h>

/* ---- packages ---- */

static const anm_dir_file *find_metadata(const anm_dir *dir)
{
    static const char name[] = "metadata.json";
    for (size_t i = 0; i < dir->count; i++) {
        const char *path = dir->file[i].path;
        size_t n = strlen(path), k = sizeof name - 1;
        if (n >= k && !strcmp(path + n - k, name) && (n == k || path[n - k - 1] == '/')) return &dir->file[i];
    }
    return NULL;
}

/* Packages are opened once, whoever refers to them: found again by the bytes that they were read from. */
static int open_package(anm_opened **out, anm_loaded *l, const uint8_t *data, uint64_t size, anm_error *err)
{
    for (*out = l->packages; *out; *out = (*out)->next)
        if ((*out)->data == data) return 0;
    anm_opened *o = anm_arena_alloc(&l->arena, sizeof *o);
    if (!o) return anm_fail_memory(err, "program");
    anm_dir dir;
    int rc = anm_dir_read(&dir, data, size, &l->arena, err);
    if (rc) return rc;
    o->data = data;
    o->metadata = find_metadata(&dir);
    rc = anm_package_read(&o->package, &dir, err);
    o->next = l->packages;
    l->packages = *out = o;
    return rc;
}

/* Follows a reference to named data, when it is one; *function is then the function that it names, else NULL. */
static int follow(const uint8_t **data, uint64_t *size, const char **function, anm_loaded *l, anm_error *err)
{
    anm_reference ref;
    int rc = anm_reference_read(&ref, *data, *size, &l->arena, err);
    *function = ref.function;
    if (rc || !ref.key) return rc;
    const anm_pte_named *named = anm_pte_named_find(&l->pte, ref.key);
    if (!named) return anm_fail(err, ANM_ERR_FORMAT, "a delegate refers to named data %s, which is not there", ref.key);
    *data = named->data;
    *size = named->size;
    return 0;
}

/* ---- joining ---- */

typedef struct taken_name {
    UT_hash_handle hh;
    unsigned next; /* the number to try next behind it */
    char text[];   /* the key */
} taken_name;

typedef struct called_piece {
    UT_hash_handle hh;
    const anm_mil_function *piece; /* the key */
} called_piece;

typedef struct join {
    anm_loaded *l;
    const anm_pte_method *m;
    anm_mil_function *fn;
    anm_mil_value **at; /* [m->n_values]: what a value of the method is in fn */
    taken_name *names; /* taken in fn */
    called_piece *called; /* in fn already */
} join;

/* `name`, or with a number behind it when it is taken. The arena keeps nothing: values copy their names. */
static const char *free_name(join *j, const char *name, char *room, size_t n)
{
    taken_name *t = NULL, *base = NULL;
    snprintf(room, n, "%.200s", name);
    HASH_FIND_STR(j->names, room, base);
    for (t = base; t;) {
        snprintf(room, n, "%.200s_%u", name, ++base->next);
        HASH_FIND_STR(j->names, room, t);
    }
    size_t len = strlen(room);
    t = calloc(1, sizeof *t + len + 1);
    if (!t) return NULL;
    memcpy(t->text, room, len + 1);
    HASH_ADD_KEYPTR(hh, j->names, t->text, len, t);
    if (!t->hh.tbl) { /* memory was out inside the table */
        free(t);
        return NULL;
    }
    return room;
}

static anm_mil_value *new_value(join *j, const anm_mil_value *like)
{
    char room[256];
    const char *name = free_name(j, like->name, room, sizeof room);
    return name ? anm_mil_value_new(j->fn, name, like->type) : NULL;
}

/* The value of fn that `v` of a piece stands for; constants are brought over when they are first met. */
static anm_mil_value *mapped(join *j, anm_mil_value **map, const anm_mil_value *v)
{
    if (!map[v->id] && v->constant) {
        map[v->id] = new_value(j, v);
        if (map[v->id]) map[v->id]->constant = v->constant;
    }
    return map[v->id];
}

static int copy_op(join *j, anm_mil_value **map, const anm_mil_op *op, anm_error *err)
{
    anm_arena *a = &j->l->arena;
    anm_mil_arg *args = anm_arena_array(a, op->n_args, sizeof *args);
    anm_mil_value **outs = anm_arena_array(a, op->n_outs, sizeof *outs);
    if (!args || !outs) return anm_fail_memory(err, "program");
    for (uint32_t i = 0; i < op->n_args; i++) {
        anm_mil_value **list = anm_arena_array(a, op->args[i].count, sizeof *list);
        if (!list) return anm_fail_memory(err, "program");
        for (uint32_t k = 0; k < op->args[i].count; k++)
            if (!(list[k] = mapped(j, map, op->args[i].value[k]))) return anm_fail_memory(err, "program");
        args[i] = (anm_mil_arg){op->args[i].param, op->args[i].count, list, op->args[i].foreign};
    }
    for (uint32_t i = 0; i < op->n_outs; i++)
        if (!(outs[i] = map[op->outs[i]->id] = new_value(j, op->outs[i]))) return anm_fail_memory(err, "program");
    if (!anm_mil_append(j->fn, NULL, op->code, op->foreign, op->n_args, args, op->n_outs, outs))
        return anm_fail_memory(err, "program");
    return 0;
}

/* The names that metadata.json lists for `function` ("inputNames" or "outputNames"), a new reference, or NULL. */
static json_t *listed_names(const json_t *root, const char *function, const char *which)
{
    const json_t *at = root;
    const json_t *methods = json_object_get(root, "methods");
    if (methods && function) at = json_object_get(methods, function);
    json_t *list = json_object_get(at, which);
    return json_is_array(list) ? json_incref(list) : NULL;
}

/* The inputs or the outputs of a piece, which a call's arguments stand for in the order of `names` (NULL: in their own). */
typedef struct listing {
    anm_mil_value **list;
    uint32_t n;
    json_t *names;
    anm_mil_value **sorted; /* by name, once one was not where its name is */
} listing;

static int by_name(const void *a, const void *b)
{
    return strcmp((*(anm_mil_value *const *)a)->name, (*(anm_mil_value *const *)b)->name);
}

/* *out is the i-th, or NULL where the names name none. */
static int in_order(anm_mil_value **out, listing *s, uint32_t i, anm_error *err)
{
    const char *name = json_string_value(json_array_get(s->names, i));
    *out = NULL;
    if (!s->names || (name && !strcmp(s->list[i]->name, name))) *out = s->list[i];
    if (*out || !name) return 0;
    if (!s->sorted) {
        if (!(s->sorted = malloc(s->n * sizeof *s->sorted))) return anm_fail_memory(err, "program");
        memcpy(s->sorted, s->list, s->n * sizeof *s->sorted);
        qsort(s->sorted, s->n, sizeof *s->sorted, by_name);
    }
    const anm_mil_value like = {.name = name}, *key = &like;
    anm_mil_value **found = bsearch(&key, s->sorted, s->n, sizeof *s->sorted, by_name);
    if (found) *out = *found;
    return 0;
}

static void end_listing(listing *s)
{
    json_decref(s->names);
    free(s->sorted);
}

static anm_mil_type type_of_value(const anm_pte_value *v)
{
    int64_t dim[ANM_MIL_MAX_RANK] = {0};
    for (int i = 0; i < v->rank && i < ANM_MIL_MAX_RANK; i++) dim[i] = v->size[i];
    return anm_mil_tensor(v->dtype == ANM_DT_I64 ? ANM_DT_I32 : v->dtype, v->rank, dim);
}

/* Where the piece takes one of the method's own inputs for the first time, fn gets that input. */
static int bind_input(join *j, anm_mil_value **map, const anm_mil_value *in, uint32_t index, anm_error *err)
{
    if (index >= j->m->n_values) return anm_fail(err, ANM_ERR_FORMAT, "a call's argument is no value of its method");
    if (!j->at[index])
        return anm_fail(err, ANM_ERR_FORMAT, "value %u is used before a call makes it", (unsigned)index);
    const anm_mil_type *want = &in->type, *have = &j->at[index]->type;
    bool same = want->rank == have->rank && want->dtype == have->dtype;
    for (int d = 0; same && d < want->rank; d++) same = want->dim[d] == have->dim[d];
    if (!same) {
        char a[96], b[96];
        return anm_fail(err, ANM_ERR_FORMAT, "a piece's input %s is %s, but it is given %s", in->name,
                        anm_mil_type_print(want, a, sizeof a), anm_mil_type_print(have, b, sizeof b));
    }
    map[in->id] = j->at[index];
    return 0;
}

static int join_piece(join *j, const anm_mil_function *piece, const char *function, const anm_dir_file *metadata,
                      const anm_pte_call *call, anm_error *err)
{
    if (call->n_args != (size_t)piece->n_inputs + piece->n_outputs)
        return anm_fail(err, ANM_ERR_FORMAT, "a call gives %zu values to a piece of %u inputs and %u outputs",
                        call->n_args, (unsigned)piece->n_inputs, (unsigned)piece->n_outputs);
    anm_mil_value **map = calloc(piece->n_values ? piece->n_values : 1, sizeof *map);
    if (!map) return anm_fail_memory(err, "program");
    json_t *root = NULL;
    int rc = metadata ? anm_json_read(&root, metadata->data, metadata->size, 0, "metadata.json: not JSON", err) : 0;
    listing ins = {piece->inputs, piece->n_inputs, root ? listed_names(root, function, "inputNames") : NULL, NULL};
    listing outs = {piece->outputs, piece->n_outputs, root ? listed_names(root, function, "outputNames") : NULL, NULL};
    for (uint32_t i = 0; i < piece->n_inputs && !rc; i++) {
        anm_mil_value *in;
        if ((rc = in_order(&in, &ins, i, err))) break;
        rc = in ? bind_input(j, map, in, call->args[i], err)
                : anm_fail(err, ANM_ERR_FORMAT, "metadata.json names an input that its function does not have");
    }
    for (const anm_mil_op *op = piece->first; op && !rc; op = op->next) rc = copy_op(j, map, op, err);
    for (uint32_t i = 0; i < piece->n_outputs && !rc; i++) {
        anm_mil_value *o;
        if ((rc = in_order(&o, &outs, i, err))) break;
        uint32_t index = call->args[piece->n_inputs + i];
        if (!o) rc = anm_fail(err, ANM_ERR_FORMAT, "metadata.json names an output that its function does not have");
        else if (index >= j->m->n_values)
            rc = anm_fail(err, ANM_ERR_FORMAT, "a call's argument is no value of its method");
        else if (!(j->at[index] = mapped(j, map, o))) rc = anm_fail_memory(err, "program");
    }
    end_listing(&ins);
    end_listing(&outs);
    json_decref(root);
    free(map);
    return rc;
}

/* A model's pieces run one after the other, each once; a file that calls one again and again could grow without end. */
static int call_once(join *j, const anm_mil_function *piece, anm_error *err)
{
    called_piece *c = NULL;
    HASH_FIND_PTR(j->called, &piece, c);
    if (c) return anm_fail(err, ANM_ERR_UNSUPPORTED, "method %s calls one piece twice", j->m->name);
    if (!(c = calloc(1, sizeof *c))) return anm_fail_memory(err, "program");
    c->piece = piece;
    HASH_ADD_PTR(j->called, piece, c);
    if (c->hh.tbl) return 0;
    free(c); /* memory was out inside the table */
    return anm_fail_memory(err, "program");
}

static int join_call(join *j, const anm_pte_call *call, anm_error *err)
{
    const anm_pte_method *m = j->m;
    if (call->other)
        return anm_fail(err, ANM_ERR_UNSUPPORTED,
                        "method %s runs %s outside a Core ML piece; only whole Core ML programs can be run", m->name,
                        call->other);
    if (call->delegate >= m->n_delegates) return anm_fail(err, ANM_ERR_FORMAT, "a call names no delegate");
    const anm_pte_delegate *d = &m->delegates[call->delegate];
    if (!d->id || strcmp(d->id, "CoreMLBackend"))
        return anm_fail(err, ANM_ERR_UNSUPPORTED, "made for the backend %s; only Core ML programs can be run",
                        d->id ? d->id : "?");
    const uint8_t *data = d->data;
    uint64_t size = d->size;
    const char *function;
    anm_opened *o;
    int rc = follow(&data, &size, &function, j->l, err);
    if (!rc) rc = open_package(&o, j->l, data, size, err);
    if (rc) return rc;
    const anm_mil_program *p = &o->package.program;
    const anm_mil_function *piece = function ? anm_mil_function_find(p, function) : p->functions;
    if (!piece)
        return anm_fail(err, ANM_ERR_FORMAT, "a package has no function %s", function ? function : "at all");
    rc = call_once(j, piece, err);
    return rc ? rc : join_piece(j, piece, function, o->metadata, call, err);
}

int anm_loaded_join(anm_mil_function **out, anm_loaded *l, const anm_pte_method *m, anm_error *err)
{
    join j = {.l = l, .m = m};
    int rc = 0;
    j.fn = anm_mil_function_new(&l->program, m->name, "CoreML8");
    j.at = anm_arena_array(&l->arena, m->n_values, sizeof *j.at);
    if (!j.fn || !j.at) {
        rc = anm_fail_memory(err, "program");
        goto done;
    }
    anm_mil_builder b = anm_mil_build(j.fn);
    for (size_t i = 0; i < m->n_inputs; i++) {
        char name[32];
        const anm_pte_value *v = &m->values[m->inputs[i]];
        if (v->kind != ANM_PTE_TENSOR) {
            rc = anm_fail(err, ANM_ERR_UNSUPPORTED, "input %zu of method %s is not a tensor", i, m->name);
            goto done;
        }
        snprintf(name, sizeof name, "input_%zu", i);
        char room[64];
        if (!free_name(&j, name, room, sizeof room)) {
            rc = anm_fail_memory(err, "program");
            goto done;
        }
        j.at[m->inputs[i]] = anm_mil_input(&b, room, type_of_value(v));
    }
    rc = b.err.code;
    for (size_t i = 0; i < m->n_calls && !rc; i++) rc = join_call(&j, &m->calls[i], err);
    for (size_t i = 0; i < m->n_outputs && !rc; i++) {
        anm_mil_value *v = j.at[m->outputs[i]];
        if (v) anm_mil_output(&b, v);
        else if (m->values[m->outputs[i]].kind == ANM_PTE_NULL)
            rc = anm_fail(err, ANM_ERR_UNSUPPORTED, "method %s gives no new cache entries: nothing can follow its first step; export it with "
                          "an input_len below max_context_len", m->name);
        else rc = anm_fail(err, ANM_ERR_FORMAT, "output %zu of method %s is made by no call", i, m->name);
    }
    if (b.err.code) {
        *err = b.err;
        rc = b.err.code;
    }
    *out = j.fn;

done:
    for (taken_name *t = j.names, *next; t; t = next) {
        next = t->hh.next;
        HASH_DEL(j.names, t);
        free(t);
    }
    for (called_piece *c = j.called, *next; c; c = next) {
        next = c->hh.next;
        HASH_DEL(j.called, c);
        free(c);
    }
    return rc;
}
