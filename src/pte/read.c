/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Reads an ExecuTorch program: header, flatbuffer (verified as a whole first), segments. Strings, constants and
 * delegates stay where they lie; indices are checked here once, so that what comes out can be trusted.
 */
#include "base/error.h"
#include "pte/pte.h"
#include "pte/schema.h"

#include <math.h>
#include <stdlib.h>

enum { REFERENCE_MOST = 4096 };

typedef struct range {
    uint64_t at, size;
} range;

typedef struct reader {
    anm_pte *out;
    const uint8_t *d; /* the file */
    uint64_t size;
    uint32_t program;
    uint64_t base, segment_bytes; /* where segments begin, and how many bytes they span */
    range *segment;
    uint32_t n_segments;
    uint64_t referred; /* bytes of delegates, of each as many as a reference to named data may have */
    anm_error *err;
} reader;

static int format(const reader *r, const char *what)
{
    return anm_fail(r->err, ANM_ERR_FORMAT, "program: %s", what);
}

static int unsupported(const reader *r, const char *method, const char *what)
{
    return anm_fail(r->err, ANM_ERR_UNSUPPORTED, "method '%s': %s", method, what);
}

/* An array in the program's arena that holds at least one element, so that NULL means no memory. */
static void *array(reader *r, size_t n, size_t size)
{
    return anm_arena_array(&r->out->arena, n ? n : 1, size);
}

static int no_memory(reader *r)
{
    const anm_arena *a = &r->out->arena;
    if (a->total > a->limit / 2) return format(r, "refers to the same bytes too often");
    return anm_fail_memory(r->err, "the program");
}

static int read_header(reader *r, uint64_t *flat_size)
{
    const uint8_t *d = r->d;
    if (r->size < 8) return format(r, "cut short: no room for a header");
    if (memcmp(d + 4, anm_pte_schema.identifier, 4))
        return format(r, "not an ExecuTorch program (no \"ET12\" at its start)");
    *flat_size = r->size;
    if (r->size < HEADER_AT + 8 || memcmp(d + HEADER_AT, "eh00", 4)) return 0; /* no segments */
    uint32_t length = anm_ld32(d + HEADER_AT + 4);
    if (length < HEADER_LEAST || !anm_inside(HEADER_AT, length, r->size) ||
        !anm_inside(HEADER_AT, HEADER_LEAST, r->size))
        return format(r, "its extended header has an impossible length");
    *flat_size = anm_ld64(d + HEADER_AT + 8);
    r->base = anm_ld64(d + HEADER_AT + 16);
    if (*flat_size < HEADER_AT + (uint64_t)length || *flat_size > r->size)
        return format(r, "the flatbuffer is longer than the file: it was cut short");
    if (!r->base) return 0;
    if (r->base < *flat_size || r->base > r->size) return format(r, "segments begin inside the flatbuffer or beyond the file");
    r->segment_bytes = length >= HEADER_SIZE ? anm_ld64(d + HEADER_AT + 24) : r->size - r->base;
    if (r->segment_bytes > r->size - r->base) return format(r, "segments reach beyond the file: it was cut short");
    return 0;
}

static int by_place(const void *a, const void *b)
{
    const range *x = a, *y = b;
    if (x->at != y->at) return x->at < y->at ? -1 : 1;
    return x->size < y->size ? -1 : x->size > y->size;
}

static int read_segments(reader *r)
{
    uint32_t at = anm_fb_vector(r->d, r->program, PROGRAM_SEGMENTS, &r->n_segments);
    uint32_t n = r->n_segments;
    range *sorted = array(r, n, sizeof *sorted);
    r->segment = array(r, n, sizeof *r->segment);
    if (!sorted || !r->segment) return no_memory(r);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t t = anm_fb_ref(r->d, at + 4 * i);
        range s = {anm_fb_u64(r->d, t, SEGMENT_OFFSET), anm_fb_u64(r->d, t, SEGMENT_SIZE)};
        if (!anm_inside(s.at, s.size, r->segment_bytes)) return format(r, "a segment reaches beyond the file");
        if (s.at % TENSOR_ALIGN) return format(r, "a segment is not aligned to 16 bytes");
        s.at += r->base;
        r->segment[i] = sorted[i] = s;
    }
    qsort(sorted, n, sizeof *sorted, by_place);
    for (uint32_t i = 1; i < n; i++)
        if (sorted[i].at < sorted[i - 1].at + sorted[i - 1].size) return format(r, "two segments overlap");
    return 0;
}

/* The bytes of constant `index`, of which `need` are used. */
static int read_constant(reader *r, const char *method, uint32_t index, uint64_t need, const uint8_t **data)
{
    const uint8_t *d = r->d;
    uint32_t sub = anm_fb_table(d, r->program, PROGRAM_CONSTANT_SEGMENT), n = 0;
    uint32_t offsets = sub ? anm_fb_vector(d, sub, SUBSEGMENT_OFFSETS, &n) : 0;
    uint64_t at, room;
    if (n) {
        uint32_t seg = anm_fb_u32(d, sub, SUBSEGMENT_INDEX);
        if (seg >= r->n_segments) return format(r, "the constants' segment does not exist");
        if (index >= n) return format(r, "a tensor refers to a constant that does not exist");
        uint64_t off = anm_ld64(d + offsets + 8 * (size_t)index);
        if (off > r->segment[seg].size) return format(r, "a constant lies beyond its segment");
        at = r->segment[seg].at + off;
        room = r->segment[seg].size - off;
    } else {
        uint32_t count, buffers = anm_fb_vector(d, r->program, PROGRAM_CONSTANTS, &count), bytes;
        if (index >= count) return format(r, "a tensor refers to a constant that does not exist");
        at = anm_fb_vector(d, anm_fb_ref(d, buffers + 4 * index), 0, &bytes);
        room = bytes;
    }
    if (need > room) return anm_fail_at(r->err, ANM_ERR_FORMAT, at, "method '%s': a constant is shorter than its tensor", method);
    *data = d + at;
    return 0;
}

static int read_tensor(reader *r, const anm_pte_method *m, anm_pte_value *v, uint32_t t)
{
    const uint8_t *d = r->d;
    uint32_t n, n_order;
    uint32_t sizes = anm_fb_vector(d, t, TENSOR_SIZES, &n), order = anm_fb_vector(d, t, TENSOR_DIM_ORDER, &n_order);
    v->kind = ANM_PTE_TENSOR;
    v->dtype = anm_pte_dtype_of((int8_t)anm_fb_u8(d, t, TENSOR_DTYPE));
    if (!v->dtype) return unsupported(r, m->name, "a tensor has an element type that is not known here");
    if (n > sizeof v->size / sizeof v->size[0]) return unsupported(r, m->name, "a tensor has more than 8 dimensions");
    if (n_order != n) return format(r, "a tensor's dim_order does not have its rank");
    v->rank = (int)n;
    uint64_t count = 1, bytes;
    for (uint32_t i = 0; i < n; i++) {
        v->size[i] = (int32_t)anm_ld32(d + sizes + 4 * i);
        if (v->size[i] < 0 || !anm_mul_u64(count, (uint64_t)v->size[i], &count)) return format(r, "a tensor has an impossible size");
        if (d[order + i] != i) return unsupported(r, m->name, "a tensor's dimensions are not in their plain order");
    }
    if (!anm_dtype_size(v->dtype, count, &bytes)) return format(r, "a tensor has an impossible size");
    if (anm_fb_u32(d, t, TENSOR_STORAGE_OFFSET)) return unsupported(r, m->name, "a tensor begins inside its storage");
    if (anm_fb_u8(d, t, TENSOR_LAYOUT)) return unsupported(r, m->name, "a tensor is not strided");
    uint8_t dynamism = anm_fb_u8(d, t, TENSOR_DYNAMISM);
    if (dynamism > 2) return format(r, "a tensor has an impossible shape_dynamism");
    v->dynamic = dynamism != 0;

    uint32_t extra = anm_fb_table(d, t, TENSOR_EXTRA);
    if (extra && (anm_fb_u8(d, extra, EXTRA_LOCATION) || anm_fb_at(d, extra, EXTRA_NAME)))
        return unsupported(r, m->name, "a tensor's data lies in another file");
    uint32_t index = anm_fb_u32(d, t, TENSOR_BUFFER), alloc = anm_fb_table(d, t, TENSOR_ALLOCATION);
    if (alloc) {
        v->planned = true;
        v->memory_id = anm_fb_u32(d, alloc, ALLOCATION_ID);
        v->memory_offset = anm_fb_u32(d, alloc, ALLOCATION_LOW) | (uint64_t)anm_fb_u32(d, alloc, ALLOCATION_HIGH) << 32;
        if (v->memory_id >= m->n_arenas || !anm_inside(v->memory_offset, bytes, m->arena_sizes[v->memory_id]))
            return format(r, "a tensor is planned outside of its arena");
        if (index) return unsupported(r, m->name, "a planned tensor has a first value");
    }
    if (!index) return 0;
    v->data_size = bytes;
    return read_constant(r, m->name, index, bytes, &v->data);
}

static int read_value(reader *r, const anm_pte_method *m, anm_pte_value *v, uint32_t table)
{
    static const char *const other[] = {"IntList", "DoubleList", "BoolList", "TensorList", "OptionalTensorList"};
    const uint8_t *d = r->d;
    uint32_t t = anm_fb_table(d, table, VALUE_OF);
    uint8_t kind = anm_fb_u8(d, table, VALUE_KIND);
    switch (kind) {
    case KIND_NONE: return format(r, "a value has no type");
    case KIND_NULL: v->kind = ANM_PTE_NULL; return 0;
    case KIND_INT: v->kind = ANM_PTE_INT, v->i = (int64_t)anm_fb_u64(d, t, 0); return 0;
    case KIND_BOOL: v->kind = ANM_PTE_BOOL, v->i = anm_fb_u8(d, t, 0) != 0; return 0;
    case KIND_DOUBLE: {
        uint32_t at = anm_fb_at(d, t, 0);
        v->kind = ANM_PTE_DOUBLE;
        v->d = at ? anm_ldf64(d + at) : 0;
        return 0;
    }
    case KIND_STRING: v->kind = ANM_PTE_STRING, v->s = anm_fb_string(d, t, 0); return 0;
    case KIND_TENSOR: return read_tensor(r, m, v, t);
    default: {
        static const uint8_t width[] = {8, 8, 1, 4, 4};
        uint32_t n, at = anm_fb_vector(d, t, 0, &n);
        v->kind = ANM_PTE_OTHER;
        v->s = other[kind - KIND_INT_LIST];
        v->data = d + at;
        v->data_size = (uint64_t)n * width[kind - KIND_INT_LIST];
        return 0;
    }
    }
}

static int read_delegate(reader *r, anm_pte_delegate *g, uint32_t t)
{
    const uint8_t *d = r->d;
    g->id = anm_fb_string(d, t, DELEGATE_ID);
    uint32_t where = anm_fb_table(d, t, DELEGATE_PROCESSED), n;
    if (!where) return format(r, "a delegate has no data");
    uint32_t index = anm_fb_u32(d, where, PROCESSED_INDEX);
    uint8_t location = anm_fb_u8(d, where, PROCESSED_LOCATION);
    if (location == LOCATION_SEGMENT) {
        if (index >= r->n_segments) return format(r, "a delegate's segment does not exist");
        g->data = d + r->segment[index].at;
        g->size = r->segment[index].size;
    } else if (location == LOCATION_INLINE) {
        uint32_t list = anm_fb_vector(d, r->program, PROGRAM_INLINE, &n), bytes;
        if (index >= n) return format(r, "a delegate's inline data does not exist");
        g->data = d + anm_fb_vector(d, anm_fb_ref(d, list + 4 * index), 0, &bytes);
        g->size = bytes;
    } else return format(r, "a delegate's data lies in an unknown place");
    r->referred += g->size < REFERENCE_MOST ? g->size : REFERENCE_MOST;
    if (r->referred / 4 > r->size) return format(r, "delegates refer to the same bytes too often");
    uint32_t at = anm_fb_vector(d, t, DELEGATE_SPECS, &n);
    g->n_specs = n;
    if (!(g->specs = array(r, n, sizeof *g->specs))) return no_memory(r);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t s = anm_fb_ref(d, at + 4 * i), bytes;
        g->specs[i].key = anm_fb_string(d, s, SPEC_KEY);
        g->specs[i].value = d + anm_fb_vector(d, s, SPEC_VALUE, &bytes);
        g->specs[i].size = bytes;
    }
    return 0;
}

/* A list of the method's values by index. */
static int read_indices(reader *r, const anm_pte_method *m, uint32_t table, unsigned field, uint32_t **out, size_t *count)
{
    uint32_t n, at = anm_fb_vector(r->d, table, field, &n);
    *count = n;
    if (!(*out = array(r, n, sizeof **out))) return no_memory(r);
    for (uint32_t i = 0; i < n; i++) {
        (*out)[i] = anm_ld32(r->d + at + 4 * i);
        if ((*out)[i] >= m->n_values) return format(r, "a list names a value that does not exist");
    }
    return 0;
}

static int read_call(reader *r, const anm_pte_method *m, anm_pte_call *c, uint32_t plan, uint32_t table)
{
    static const char *const other[] = {[CALL_MOVE] = "MoveCall", [CALL_JUMP] = "JumpFalseCall", [CALL_FREE] = "FreeCall"};
    const uint8_t *d = r->d;
    uint8_t kind = anm_fb_u8(d, table, INSTRUCTION_KIND);
    uint32_t t = anm_fb_table(d, table, INSTRUCTION_OF), n;
    if (kind == CALL_NONE) return format(r, "an instruction has no type");
    if (kind == CALL_DELEGATE) {
        c->delegate = anm_fb_u32(d, t, CALL_INDEX);
        if (c->delegate >= m->n_delegates) return format(r, "a call names a delegate that does not exist");
        return read_indices(r, m, t, CALL_ARGS, &c->args, &c->n_args);
    }
    if (kind == CALL_KERNEL) {
        uint32_t index = anm_fb_u32(d, t, CALL_INDEX), at = anm_fb_vector(d, plan, PLAN_OPERATORS, &n);
        if (index >= n) return format(r, "a call names an operator that does not exist");
        uint32_t op = anm_fb_ref(d, at + 4 * index);
        const char *overload = anm_fb_string(d, op, OPERATOR_OVERLOAD);
        c->other = anm_arena_printf(&r->out->arena, "%s%s%s", anm_fb_string(d, op, OPERATOR_NAME), *overload ? "." : "", overload);
        return c->other ? read_indices(r, m, t, CALL_ARGS, &c->args, &c->n_args) : no_memory(r);
    }
    c->other = other[kind];
    c->operands = anm_fb_u32(d, t, 0) | (kind == CALL_FREE ? 0 : (uint64_t)anm_fb_u32(d, t, 1) << 32);
    return 0;
}

static int read_method(reader *r, anm_pte_method *m, uint32_t plan)
{
    const uint8_t *d = r->d;
    uint32_t n, at;
    int rc;
    m->name = anm_fb_string(d, plan, PLAN_NAME);
    if (!*m->name) return format(r, "a method has no name");
    uint32_t container = anm_fb_table(d, plan, PLAN_CONTAINER);
    m->in_spec = container ? anm_fb_string(d, container, CONTAINER_IN) : "";
    m->out_spec = container ? anm_fb_string(d, container, CONTAINER_OUT) : "";

    at = anm_fb_vector(d, plan, PLAN_ARENAS, &n);
    m->n_arenas = n;
    if (!(m->arena_sizes = array(r, n, sizeof *m->arena_sizes))) return no_memory(r);
    for (uint32_t i = 0; i < n; i++) {
        m->arena_sizes[i] = anm_ld64(d + at + 8 * (size_t)i);
        if (m->arena_sizes[i] > INT64_MAX) return format(r, "an arena has a negative size");
    }

    at = anm_fb_vector(d, plan, PLAN_VALUES, &n);
    m->n_values = n;
    if (!(m->values = array(r, n, sizeof *m->values))) return no_memory(r);
    for (uint32_t i = 0; i < n; i++)
        if ((rc = read_value(r, m, &m->values[i], anm_fb_ref(d, at + 4 * i)))) return rc;

    at = anm_fb_vector(d, plan, PLAN_DELEGATES, &n);
    m->n_delegates = n;
    if (!(m->delegates = array(r, n, sizeof *m->delegates))) return no_memory(r);
    for (uint32_t i = 0; i < n; i++)
        if ((rc = read_delegate(r, &m->delegates[i], anm_fb_ref(d, at + 4 * i)))) return rc;

    if ((rc = read_indices(r, m, plan, PLAN_INPUTS, &m->inputs, &m->n_inputs))) return rc;
    if ((rc = read_indices(r, m, plan, PLAN_OUTPUTS, &m->outputs, &m->n_outputs))) return rc;

    at = anm_fb_vector(d, plan, PLAN_CHAINS, &n);
    if (n > 1) return unsupported(r, m->name, "more than one chain of instructions");
    if (!n) return 0;
    at = anm_fb_vector(d, anm_fb_ref(d, at), CHAIN_INSTRUCTIONS, &n);
    m->n_calls = n;
    if (!(m->calls = array(r, n, sizeof *m->calls))) return no_memory(r);
    for (uint32_t i = 0; i < n; i++)
        if ((rc = read_call(r, m, &m->calls[i], plan, anm_fb_ref(d, at + 4 * i)))) return rc;
    return 0;
}

static int by_name(const void *a, const void *b)
{
    const anm_pte_method *const *x = a, *const *y = b;
    return strcmp((*x)->name, (*y)->name);
}

static int by_key(const void *a, const void *b)
{
    return strcmp((*(const anm_pte_named *const *)a)->key, (*(const anm_pte_named *const *)b)->key);
}

/* Are the methods' names all different? */
static int check_methods(reader *r)
{
    size_t n = r->out->n_methods;
    const anm_pte_method **by = r->out->by_name = array(r, n, sizeof *by);
    if (!by) return no_memory(r);
    for (size_t i = 0; i < n; i++) by[i] = &r->out->methods[i];
    qsort(by, n, sizeof *by, by_name);
    for (size_t i = 1; i < n; i++)
        if (strcmp(by[i - 1]->name, by[i]->name) == 0)
            return anm_fail(r->err, ANM_ERR_FORMAT, "program: two methods are called '%s'", by[i]->name);
    return 0;
}

static int read_named(reader *r)
{
    uint32_t n, at = anm_fb_vector(r->d, r->program, PROGRAM_NAMED, &n);
    r->out->n_named = n;
    if (!(r->out->named = array(r, n, sizeof *r->out->named))) return no_memory(r);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t t = anm_fb_ref(r->d, at + 4 * i), seg = anm_fb_u32(r->d, t, NAMED_SEGMENT);
        if (seg >= r->n_segments) return format(r, "named data's segment does not exist");
        r->out->named[i] = (anm_pte_named){.key = anm_fb_string(r->d, t, NAMED_KEY),
                                           .data = r->d + r->segment[seg].at,
                                           .size = r->segment[seg].size};
    }
    const anm_pte_named **by = r->out->by_key = array(r, n, sizeof *by);
    if (!by) return no_memory(r);
    for (uint32_t i = 0; i < n; i++) by[i] = &r->out->named[i];
    qsort(by, n, sizeof *by, by_key);
    for (uint32_t i = 1; i < n; i++)
        if (!strcmp(by[i - 1]->key, by[i]->key)) return anm_fail(r->err, ANM_ERR_FORMAT, "program: two pieces of named data are called '%s'", by[i]->key);
    return 0;
}

int anm_pte_read(anm_pte *out, const uint8_t *data, uint64_t size, anm_error *err)
{
    *out = (anm_pte){0};
    anm_arena_init(&out->arena);
    reader r = {.out = out, .d = data, .size = size, .err = err};
    uint64_t flat_size = 0;
    int rc = read_header(&r, &flat_size);
    if (!rc) rc = anm_fb_verify(data, flat_size, &anm_pte_schema, err);
    if (rc) return rc;
    out->arena.limit = 64 * (size_t)flat_size + (256 << 10); /* the largest struct is made of the smallest table */
    r.program = anm_fb_root(data);
    if (anm_fb_u32(data, r.program, PROGRAM_VERSION))
        return anm_fail(err, ANM_ERR_UNSUPPORTED, "program: schema version %u is not known here", anm_fb_u32(data, r.program, PROGRAM_VERSION));
    if ((rc = read_segments(&r))) return rc;
    uint32_t n, plans = anm_fb_vector(data, r.program, PROGRAM_PLANS, &n);
    if (!n) return format(&r, "it has no methods");
    out->n_methods = n;
    if (!(out->methods = array(&r, n, sizeof *out->methods))) return no_memory(&r);
    for (uint32_t i = 0; i < n; i++)
        if ((rc = read_method(&r, &out->methods[i], anm_fb_ref(data, plans + 4 * i)))) return rc;
    if ((rc = check_methods(&r))) return rc;
    return read_named(&r);
}

void anm_pte_free(anm_pte *p)
{
    anm_arena_free(&p->arena);
    *p = (anm_pte){0};
}

const anm_pte_method *anm_pte_find(const anm_pte *p, const char *name)
{
    const anm_pte_method want = {.name = name}, *w = &want;
    const anm_pte_method **at = p->n_methods ? bsearch(&w, p->by_name, p->n_methods, sizeof *p->by_name, by_name) : NULL;
    return at ? *at : NULL;
}

const anm_pte_named *anm_pte_named_find(const anm_pte *p, const char *key)
{
    const anm_pte_named want = {.key = key}, *w = &want;
    const anm_pte_named **at = p->n_named ? bsearch(&w, p->by_key, p->n_named, sizeof *p->by_key, by_key) : NULL;
    return at ? *at : NULL;
}
