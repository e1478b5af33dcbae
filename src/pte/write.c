/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Writes an ExecuTorch program as the original lays it out (exir/_serialize/_program.py):
 *
 *     flatbuffer with the extended header | constants | each delegate's data | each piece of named data
 *
 * Segments begin at multiples of 128, constants within theirs at multiples of 16. The flatbuffer is made last, when all
 * places are known, and goes to the front.
 */
#include "base/buf.h"
#include "base/bytes.h"
#include "pte/pte.h"
#include "pte/schema.h"

#include <stdlib.h>

typedef struct constants { /* index 0 stands for "none" */
    const anm_pte_value **value;
    uint64_t *at;
    uint32_t count;
} constants;

typedef struct writer {
    const anm_pte *p;
    anm_fb_out fb;
    anm_layout segments;
    uint64_t *segment_at, *segment_size;
    uint32_t n_segments;
    constants constants;
    uint32_t next_delegate_segment;
    anm_arena *arena;
    anm_error *err;
} writer;

static int no_memory(writer *w)
{
    return anm_fail_memory(w->err, "a program");
}

/* ---- segments ---- */

static bool same_bytes(const anm_pte_value *a, const anm_pte_value *b)
{
    if (a->data_size != b->data_size || a->source != b->source || a->part != b->part) return false;
    return a->source || !a->data_size || memcmp(a->data, b->data, a->data_size) == 0;
}

static uint32_t constant_index(const constants *c, const anm_pte_value *v)
{
    for (uint32_t i = 1; i < c->count; i++)
        if (same_bytes(c->value[i], v)) return i;
    return 0;
}

static bool is_constant(const anm_pte_value *v)
{
    return v->kind == ANM_PTE_TENSOR && (v->data || v->source);
}

static void begin_segment(writer *w)
{
    anm_layout_align(&w->segments, SEGMENT_ALIGN);
    w->segment_at[w->n_segments] = w->segments.size;
}

static void end_segment(writer *w)
{
    w->segment_size[w->n_segments] = w->segments.size - w->segment_at[w->n_segments];
    w->n_segments++;
}

static int put_constants(writer *w)
{
    const anm_pte *p = w->p;
    constants *c = &w->constants;
    size_t n = 1;
    for (size_t m = 0; m < p->n_methods; m++)
        for (size_t i = 0; i < p->methods[m].n_values; i++) n += is_constant(&p->methods[m].values[i]);
    c->value = anm_arena_array(w->arena, n, sizeof *c->value);
    c->at = anm_arena_array(w->arena, n, sizeof *c->at);
    if (!c->value || !c->at || n > UINT32_MAX) return no_memory(w);
    c->count = 1;
    begin_segment(w);
    for (size_t m = 0; m < p->n_methods; m++) {
        for (size_t i = 0; i < p->methods[m].n_values; i++) {
            const anm_pte_value *v = &p->methods[m].values[i];
            if (!is_constant(v) || constant_index(c, v)) continue;
            anm_layout_align(&w->segments, TENSOR_ALIGN);
            c->at[c->count] = w->segments.size;
            c->value[c->count++] = v;
            if (v->source) anm_layout_source(&w->segments, v->source, v->part, v->data_size);
            else anm_layout_bytes(&w->segments, v->data, v->data_size);
        }
    }
    end_segment(w);
    return 0;
}

static void put_segment(writer *w, const uint8_t *data, uint64_t size, const anm_layout *layout)
{
    begin_segment(w);
    if (layout) anm_layout_append(&w->segments, layout);
    else anm_layout_bytes(&w->segments, data, size);
    end_segment(w);
}

static int put_segments(writer *w)
{
    const anm_pte *p = w->p;
    size_t n = 1 + p->n_named;
    for (size_t m = 0; m < p->n_methods; m++) n += p->methods[m].n_delegates;
    w->segment_at = anm_arena_array(w->arena, n, sizeof *w->segment_at);
    w->segment_size = anm_arena_array(w->arena, n, sizeof *w->segment_size);
    if (!w->segment_at || !w->segment_size) return no_memory(w);
    int rc = put_constants(w);
    if (rc) return rc;
    for (size_t m = 0; m < p->n_methods; m++) {
        for (size_t i = 0; i < p->methods[m].n_delegates; i++) {
            const anm_pte_delegate *g = &p->methods[m].delegates[i];
            put_segment(w, g->data, g->size, g->layout);
        }
    }
    for (size_t i = 0; i < p->n_named; i++) put_segment(w, p->named[i].data, p->named[i].size, p->named[i].layout);
    return w->segments.bad ? no_memory(w) : 0;
}

/* ---- the flatbuffer ---- */

#define REF(id) {id, 0, 0}

/* A table of one field, set in the reference at `at`. */
static void put_single(writer *w, uint32_t at, uint8_t bytes, uint64_t value)
{
    anm_fb_put f = {0, bytes, value};
    anm_fb_set(&w->fb, at, anm_fb_put_table(&w->fb, &f, value != 0, NULL));
}

static void put_string(writer *w, uint32_t at, const char *s)
{
    anm_fb_set(&w->fb, at, anm_fb_put_string(&w->fb, s));
}

static void put_indices(writer *w, uint32_t at, const uint32_t *list, size_t n)
{
    anm_fb_set(&w->fb, at, anm_fb_put_vector(&w->fb, list, (uint32_t)n, 4));
}

static int put_tensor(writer *w, uint32_t at, const anm_pte_value *v)
{
    int scalar = anm_pte_scalar_of(v->dtype);
    if (scalar < 0) return anm_fail(w->err, ANM_ERR_USAGE, "program: a tensor cannot be of type %s", anm_dtype_name(v->dtype));
    anm_fb_put f[] = {{TENSOR_DTYPE, 1, (uint64_t)scalar},
                      REF(TENSOR_SIZES),
                      REF(TENSOR_DIM_ORDER),
                      {TENSOR_BUFFER, 4, is_constant(v) ? constant_index(&w->constants, v) : 0},
                      {TENSOR_DYNAMISM, 1, v->dynamic},
                      REF(TENSOR_ALLOCATION)};
    uint32_t place[6];
    anm_fb_set(&w->fb, at, anm_fb_put_table(&w->fb, f, v->planned ? 6 : 5, place));
    uint8_t order[8] = {0, 1, 2, 3, 4, 5, 6, 7};
    anm_fb_set(&w->fb, place[1], anm_fb_put_vector(&w->fb, v->size, (uint32_t)v->rank, 4));
    anm_fb_set(&w->fb, place[2], anm_fb_put_vector(&w->fb, order, (uint32_t)v->rank, 1));
    if (v->planned) {
        anm_fb_put a[] = {{ALLOCATION_ID, 4, v->memory_id},
                          {ALLOCATION_LOW, 4, (uint32_t)v->memory_offset},
                          {ALLOCATION_HIGH, 4, v->memory_offset >> 32}};
        anm_fb_set(&w->fb, place[5], anm_fb_put_table(&w->fb, a, 3, NULL));
    }
    return 0;
}

static int put_value(writer *w, uint32_t at, const anm_pte_value *v)
{
    static const uint8_t kind[] = {[ANM_PTE_NULL] = KIND_NULL,     [ANM_PTE_INT] = KIND_INT,       [ANM_PTE_BOOL] = KIND_BOOL,
                                   [ANM_PTE_DOUBLE] = KIND_DOUBLE, [ANM_PTE_STRING] = KIND_STRING, [ANM_PTE_TENSOR] = KIND_TENSOR};
    if (v->kind == ANM_PTE_OTHER) return anm_fail(w->err, ANM_ERR_UNSUPPORTED, "program: a value of type %s cannot be written", v->s);
    anm_fb_put f[] = {{VALUE_KIND, 1, kind[v->kind]}, REF(VALUE_OF)};
    uint32_t place[2];
    uint64_t bits;
    anm_fb_set(&w->fb, at, anm_fb_put_table(&w->fb, f, 2, place));
    switch (v->kind) {
    case ANM_PTE_INT: put_single(w, place[1], 8, (uint64_t)v->i); break;
    case ANM_PTE_BOOL: put_single(w, place[1], 1, v->i != 0); break;
    case ANM_PTE_DOUBLE:
        memcpy(&bits, &v->d, 8);
        put_single(w, place[1], 8, bits);
        break;
    case ANM_PTE_STRING: {
        anm_fb_put s = REF(0);
        uint32_t string;
        anm_fb_set(&w->fb, place[1], anm_fb_put_table(&w->fb, &s, 1, &string));
        put_string(w, string, v->s);
        break;
    }
    case ANM_PTE_TENSOR: return put_tensor(w, place[1], v);
    default: put_single(w, place[1], 8, 0); break;
    }
    return 0;
}

static void put_delegate(writer *w, uint32_t at, const anm_pte_delegate *g)
{
    anm_fb_put f[] = {REF(DELEGATE_ID), REF(DELEGATE_PROCESSED), REF(DELEGATE_SPECS)};
    anm_fb_put where[] = {{PROCESSED_LOCATION, 1, LOCATION_SEGMENT}, {PROCESSED_INDEX, 4, w->next_delegate_segment++}};
    uint32_t place[3], pair[2];
    anm_fb_set(&w->fb, at, anm_fb_put_table(&w->fb, f, 3, place));
    put_string(w, place[0], g->id);
    anm_fb_set(&w->fb, place[1], anm_fb_put_table(&w->fb, where, 2, NULL));
    uint32_t list = anm_fb_put_refs(&w->fb, (uint32_t)g->n_specs);
    anm_fb_set(&w->fb, place[2], list);
    for (size_t i = 0; i < g->n_specs; i++) {
        anm_fb_put s[] = {REF(SPEC_KEY), REF(SPEC_VALUE)};
        anm_fb_set(&w->fb, list + 4 + 4 * (uint32_t)i, anm_fb_put_table(&w->fb, s, 2, pair));
        put_string(w, pair[0], g->specs[i].key);
        anm_fb_set(&w->fb, pair[1], anm_fb_put_vector(&w->fb, g->specs[i].value, (uint32_t)g->specs[i].size, 1));
    }
}

static int put_chain(writer *w, uint32_t at, const anm_pte_method *m)
{
    anm_fb_put f[] = {REF(CHAIN_INPUTS), REF(CHAIN_OUTPUTS), REF(CHAIN_INSTRUCTIONS)};
    uint32_t place[3], pair[2], args[2];
    uint32_t chains = anm_fb_put_refs(&w->fb, 1);
    anm_fb_set(&w->fb, at, chains);
    anm_fb_set(&w->fb, chains + 4, anm_fb_put_table(&w->fb, f, 3, place));
    put_indices(w, place[0], NULL, 0);
    put_indices(w, place[1], NULL, 0);
    uint32_t list = anm_fb_put_refs(&w->fb, (uint32_t)m->n_calls);
    anm_fb_set(&w->fb, place[2], list);
    for (size_t i = 0; i < m->n_calls; i++) {
        const anm_pte_call *c = &m->calls[i];
        if (c->other) return anm_fail(w->err, ANM_ERR_UNSUPPORTED, "program: the instruction %s cannot be written", c->other);
        anm_fb_put ins[] = {{INSTRUCTION_KIND, 1, CALL_DELEGATE}, REF(INSTRUCTION_OF)};
        anm_fb_put call[] = {{CALL_INDEX, 4, c->delegate}, REF(CALL_ARGS)};
        anm_fb_set(&w->fb, list + 4 + 4 * (uint32_t)i, anm_fb_put_table(&w->fb, ins, 2, pair));
        anm_fb_set(&w->fb, pair[1], anm_fb_put_table(&w->fb, call, 2, args));
        put_indices(w, args[1], c->args, c->n_args);
    }
    return 0;
}

static int put_method(writer *w, uint32_t at, const anm_pte_method *m)
{
    enum { NAME, CONTAINER, VALUES, INPUTS, OUTPUTS, CHAINS, OPERATORS, DELEGATES, ARENAS };
    anm_fb_put f[] = {REF(PLAN_NAME),   REF(PLAN_CONTAINER), REF(PLAN_VALUES),    REF(PLAN_INPUTS), REF(PLAN_OUTPUTS),
                      REF(PLAN_CHAINS), REF(PLAN_OPERATORS), REF(PLAN_DELEGATES), REF(PLAN_ARENAS)};
    anm_fb_put container[] = {REF(CONTAINER_IN), REF(CONTAINER_OUT)};
    uint32_t place[9], pair[2];
    int rc;
    anm_fb_set(&w->fb, at, anm_fb_put_table(&w->fb, f, 9, place));
    put_string(w, place[NAME], m->name);
    anm_fb_set(&w->fb, place[CONTAINER], anm_fb_put_table(&w->fb, container, 2, pair));
    put_string(w, pair[0], m->in_spec);
    put_string(w, pair[1], m->out_spec);
    uint32_t list = anm_fb_put_refs(&w->fb, (uint32_t)m->n_values);
    anm_fb_set(&w->fb, place[VALUES], list);
    for (size_t i = 0; i < m->n_values; i++)
        if ((rc = put_value(w, list + 4 + 4 * (uint32_t)i, &m->values[i]))) return rc;
    put_indices(w, place[INPUTS], m->inputs, m->n_inputs);
    put_indices(w, place[OUTPUTS], m->outputs, m->n_outputs);
    if ((rc = put_chain(w, place[CHAINS], m))) return rc;
    anm_fb_set(&w->fb, place[OPERATORS], anm_fb_put_refs(&w->fb, 0));
    list = anm_fb_put_refs(&w->fb, (uint32_t)m->n_delegates);
    anm_fb_set(&w->fb, place[DELEGATES], list);
    for (size_t i = 0; i < m->n_delegates; i++) put_delegate(w, list + 4 + 4 * (uint32_t)i, &m->delegates[i]);
    anm_fb_set(&w->fb, place[ARENAS], anm_fb_put_vector(&w->fb, m->arena_sizes, (uint32_t)m->n_arenas, 8));
    return 0;
}

/* The parts of the program beside its methods: where segments, constants and named data lie. */
static void put_places(writer *w, uint32_t segments, uint32_t constant_segment, uint32_t named, uint64_t *key_at)
{
    uint32_t list = anm_fb_put_refs(&w->fb, w->n_segments), pair[2];
    anm_fb_set(&w->fb, segments, list);
    for (uint32_t i = 0; i < w->n_segments; i++) {
        anm_fb_put s[] = {{SEGMENT_OFFSET, 8, w->segment_at[i]}, {SEGMENT_SIZE, 8, w->segment_size[i]}};
        anm_fb_set(&w->fb, list + 4 + 4 * i, anm_fb_put_table(&w->fb, s, 2, NULL));
    }
    anm_fb_put sub[] = {{SUBSEGMENT_INDEX, 4, 0}, REF(SUBSEGMENT_OFFSETS)};
    anm_fb_set(&w->fb, constant_segment, anm_fb_put_table(&w->fb, sub, 2, pair));
    anm_fb_set(&w->fb, pair[1], anm_fb_put_vector(&w->fb, w->constants.at, w->constants.count, 8));
    list = anm_fb_put_refs(&w->fb, (uint32_t)w->p->n_named);
    anm_fb_set(&w->fb, named, list);
    for (size_t i = 0; i < w->p->n_named; i++) {
        anm_fb_put n[] = {REF(NAMED_KEY), {NAMED_SEGMENT, 4, w->next_delegate_segment + i}};
        anm_fb_set(&w->fb, list + 4 + 4 * (uint32_t)i, anm_fb_put_table(&w->fb, n, 2, pair));
        uint32_t key = anm_fb_put_string(&w->fb, w->p->named[i].key);
        anm_fb_set(&w->fb, pair[0], key);
        if (key_at) key_at[i] = key + 4u;
    }
}

static int put_program(writer *w, uint64_t *key_at)
{
    enum { PLANS, CONSTANTS, INLINE, SEGMENTS, CONSTANT_SEGMENT, NAMED };
    anm_fb_put f[] = {REF(PROGRAM_PLANS),    REF(PROGRAM_CONSTANTS),        REF(PROGRAM_INLINE),
                      REF(PROGRAM_SEGMENTS), REF(PROGRAM_CONSTANT_SEGMENT), REF(PROGRAM_NAMED)};
    uint32_t place[6];
    int rc;
    anm_fb_begin(&w->fb, anm_pte_schema.identifier, HEADER_SIZE);
    anm_fb_set(&w->fb, 0, anm_fb_put_table(&w->fb, f, 6, place));
    uint32_t list = anm_fb_put_refs(&w->fb, (uint32_t)w->p->n_methods);
    anm_fb_set(&w->fb, place[PLANS], list);
    w->next_delegate_segment = 1; /* behind the constants */
    for (size_t i = 0; i < w->p->n_methods; i++)
        if ((rc = put_method(w, list + 4 + 4 * (uint32_t)i, &w->p->methods[i]))) return rc;
    anm_fb_set(&w->fb, place[CONSTANTS], anm_fb_put_refs(&w->fb, 0));
    anm_fb_set(&w->fb, place[INLINE], anm_fb_put_refs(&w->fb, 0));
    put_places(w, place[SEGMENTS], place[CONSTANT_SEGMENT], place[NAMED], key_at);
    if (w->fb.buf.bad) return no_memory(w);
    return w->fb.buf.size > INT32_MAX ? anm_fail(w->err, ANM_ERR_LIMIT, "program: larger than a flatbuffer can be") : 0;
}

int anm_pte_write(anm_layout *out, const anm_pte *p, anm_arena *arena, uint64_t *delegate_at, uint64_t *named_at,
                  uint64_t *key_at, anm_error *err)
{
    writer w = {.p = p, .arena = arena, .err = err};
    uint64_t start = out->size;
    int rc = put_segments(&w);
    if (!rc) rc = put_program(&w, key_at);
    if (!rc) {
        uint64_t flat = w.fb.buf.size, base = anm_align_up(flat, SEGMENT_ALIGN);
        uint8_t *header = w.fb.buf.data + HEADER_AT;
        memcpy(header, "eh00", 4);
        anm_st32(header + 4, HEADER_SIZE);
        anm_st64(header + 8, flat);
        anm_st64(header + 16, base);
        anm_st64(header + 24, w.segments.size);
        char *bytes = anm_arena_strndup(arena, (const char *)w.fb.buf.data, (size_t)flat);
        if (!bytes) rc = no_memory(&w);
        else {
            anm_layout_bytes(out, bytes, flat);
            anm_layout_zeros(out, base - flat);
            anm_layout_append(out, &w.segments);
            if (out->bad) rc = no_memory(&w);
            uint32_t delegates = w.next_delegate_segment - 1;
            for (uint32_t i = 0; delegate_at && i < delegates; i++) delegate_at[i] = start + base + w.segment_at[1 + i];
            for (size_t i = 0; named_at && i < p->n_named; i++) named_at[i] = start + base + w.segment_at[1 + delegates + i];
            for (size_t i = 0; key_at && i < p->n_named; i++) key_at[i] += start;
        }
    }
    anm_layout_free(&w.segments);
    anm_buf_free(&w.fb.buf);
    return rc;
}
