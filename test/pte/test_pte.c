/* SPDX-License-Identifier: BSD-3-Clause */
/* ExecuTorch programs: written and read back, cut short at every byte, spoilt byte by byte, each malformation named. */
#include "test.h"

#include "base/bytes.h"
#include "pte/pte.h"
#include "pte/schema.h"

#include <stdlib.h>
#include <string.h>

/* ---- a program that has everything ---- */

static const uint8_t table[24] = {1, 2, 3, 4, 5, 6, 7, 8, 9};
static const uint8_t table_again[24] = {1, 2, 3, 4, 5, 6, 7, 8, 9};
static const uint8_t other[16] = {9};

static anm_pte_value values[] = {
    {.kind = ANM_PTE_NULL},
    {.kind = ANM_PTE_INT, .i = -7},
    {.kind = ANM_PTE_INT, .i = 0},
    {.kind = ANM_PTE_BOOL, .i = 1},
    {.kind = ANM_PTE_DOUBLE, .d = 0.5},
    {.kind = ANM_PTE_STRING, .s = "words"},
    {.kind = ANM_PTE_TENSOR, .dtype = ANM_DT_F32, .rank = 2, .size = {2, 3}, .data = table, .data_size = 24},
    {.kind = ANM_PTE_TENSOR, .dtype = ANM_DT_I64, .rank = 1, .size = {2}, .data = other, .data_size = 16},
    {.kind = ANM_PTE_TENSOR, .dtype = ANM_DT_F16, .rank = 3, .size = {1, 4, 8}, .planned = true, .memory_id = 1, .memory_offset = 64},
    {.kind = ANM_PTE_TENSOR, .dtype = ANM_DT_I32, .rank = 1, .size = {4}, .dynamic = true},
    {.kind = ANM_PTE_TENSOR, .dtype = ANM_DT_BOOL, .rank = 0},
};
static anm_pte_value again[] = {{.kind = ANM_PTE_TENSOR, .dtype = ANM_DT_F32, .rank = 2, .size = {2, 3}, .data = table_again, .data_size = 24}};
static anm_pte_spec specs[] = {{"compute_units", (const uint8_t *)"cpu_and_ne", 10}, {"empty", (const uint8_t *)"", 0}};
static anm_pte_delegate delegates[] = {{.id = "CoreMLBackend", .specs = specs, .n_specs = 2, .data = (const uint8_t *)"processed", .size = 9},
                                       {.id = "CoreMLBackend", .data = (const uint8_t *)"more", .size = 4}};
static uint32_t args0[] = {9, 8}, args1[] = {8, 6, 10}, inputs[] = {9}, outputs[] = {10, 6}, only[] = {0};
static anm_pte_call calls[] = {{.delegate = 0, .args = args0, .n_args = 2}, {.delegate = 1, .args = args1, .n_args = 3}};
static uint64_t arenas[] = {0, 128}, no_arena[] = {0};
static anm_pte_method methods[] = {
    {.name = "forward", .in_spec = "in", .out_spec = "out", .values = values, .n_values = sizeof values / sizeof values[0],
     .inputs = inputs, .n_inputs = 1, .outputs = outputs, .n_outputs = 2, .delegates = delegates, .n_delegates = 2,
     .calls = calls, .n_calls = 2, .arena_sizes = arenas, .n_arenas = 2},
    {.name = "table", .in_spec = "", .out_spec = "x", .values = again, .n_values = 1, .outputs = only, .n_outputs = 1,
     .arena_sizes = no_arena, .n_arenas = 1},
};
static anm_pte_named named[] = {{.key = "package", .data = (const uint8_t *)"a package's bytes", .size = 17}};
static const anm_pte program = {.methods = methods, .n_methods = 2, .named = named, .n_named = 1};

typedef struct file {
    uint8_t *data;
    size_t size;
    uint64_t delegate_at[2], named_at[1], key_at[1];
} file;

static file write_program(const anm_pte *p)
{
    anm_layout l = {0};
    anm_arena arena;
    anm_error err = {0};
    file f = {0};
    anm_arena_init(&arena);
    assert_int_equal(anm_pte_write(&l, p, &arena, f.delegate_at, f.named_at, f.key_at, &err), 0);
    f.size = (size_t)l.size;
    f.data = calloc(1, f.size);
    assert_non_null(f.data);
    for (size_t i = 0; i < l.count; i++)
        if (l.piece[i].data) memcpy(f.data + l.piece[i].offset, l.piece[i].data, (size_t)l.piece[i].size);
    anm_layout_free(&l);
    anm_arena_free(&arena);
    return f;
}

/* Reads a copy of exactly `size` bytes, so that a sanitizer sees every byte beyond. */
static int read_copy(const uint8_t *data, size_t size, anm_error *err)
{
    uint8_t *copy = malloc(size ? size : 1);
    anm_pte p;
    assert_non_null(copy);
    memcpy(copy, data, size);
    int rc = anm_pte_read(&p, copy, size, err);
    anm_pte_free(&p);
    free(copy);
    return rc;
}

/* ---- the tests ---- */

static void same_value(const anm_pte_value *a, const anm_pte_value *b)
{
    assert_int_equal(a->kind, b->kind);
    assert_int_equal(a->i, b->i);
    assert_true(a->d == b->d);
    if (a->s) assert_string_equal(a->s, b->s);
    assert_int_equal(a->dtype, b->dtype);
    assert_int_equal(a->rank, b->rank);
    assert_memory_equal(a->size, b->size, sizeof a->size);
    assert_int_equal(a->dynamic, b->dynamic);
    assert_int_equal(a->planned, b->planned);
    assert_int_equal(a->memory_id, b->memory_id);
    assert_int_equal(a->memory_offset, b->memory_offset);
    assert_int_equal(!a->data, !b->data);
    assert_int_equal(a->data_size, b->data_size);
    if (a->data) assert_memory_equal(a->data, b->data, a->data_size);
}

static void same_list(const uint32_t *a, size_t na, const uint32_t *b, size_t nb)
{
    assert_int_equal(na, nb);
    if (na) assert_memory_equal(a, b, na * sizeof *a);
}

static void same_method(const anm_pte_method *a, const anm_pte_method *b)
{
    assert_string_equal(a->name, b->name);
    assert_string_equal(a->in_spec, b->in_spec);
    assert_string_equal(a->out_spec, b->out_spec);
    assert_int_equal(a->n_values, b->n_values);
    for (size_t i = 0; i < a->n_values; i++) same_value(&a->values[i], &b->values[i]);
    same_list(a->inputs, a->n_inputs, b->inputs, b->n_inputs);
    same_list(a->outputs, a->n_outputs, b->outputs, b->n_outputs);
    assert_int_equal(a->n_delegates, b->n_delegates);
    for (size_t i = 0; i < a->n_delegates; i++) {
        const anm_pte_delegate *x = &a->delegates[i], *y = &b->delegates[i];
        assert_string_equal(x->id, y->id);
        assert_int_equal(x->size, y->size);
        assert_memory_equal(x->data, y->data, x->size);
        assert_int_equal(x->n_specs, y->n_specs);
        for (size_t k = 0; k < x->n_specs; k++) {
            assert_string_equal(x->specs[k].key, y->specs[k].key);
            assert_int_equal(x->specs[k].size, y->specs[k].size);
            if (x->specs[k].size) assert_memory_equal(x->specs[k].value, y->specs[k].value, x->specs[k].size);
        }
    }
    assert_int_equal(a->n_calls, b->n_calls);
    for (size_t i = 0; i < a->n_calls; i++) {
        assert_int_equal(a->calls[i].delegate, b->calls[i].delegate);
        same_list(a->calls[i].args, a->calls[i].n_args, b->calls[i].args, b->calls[i].n_args);
    }
    assert_int_equal(a->n_arenas, b->n_arenas);
    assert_memory_equal(a->arena_sizes, b->arena_sizes, a->n_arenas * sizeof *a->arena_sizes);
}

static void test_round_trip(void **state)
{
    (void)state;
    file f = write_program(&program);
    anm_error err = {0};
    anm_pte p;
    assert_int_equal(anm_pte_read(&p, f.data, f.size, &err), 0);
    assert_int_equal(p.n_methods, 2);
    for (size_t i = 0; i < 2; i++) same_method(&methods[i], &p.methods[i]);
    assert_int_equal(p.n_named, 1);
    assert_string_equal(p.named[0].key, "package");
    assert_int_equal(p.named[0].size, 17);
    assert_memory_equal(p.named[0].data, "a package's bytes", 17);
    assert_ptr_equal(anm_pte_find(&p, "table"), &p.methods[1]);
    assert_null(anm_pte_find(&p, "tab"));
    /* the places that the writer gives are those that the reader finds, aligned for what lies there */
    assert_ptr_equal(f.data + f.delegate_at[0], p.methods[0].delegates[0].data);
    assert_ptr_equal(f.data + f.delegate_at[1], p.methods[0].delegates[1].data);
    assert_ptr_equal(f.data + f.named_at[0], p.named[0].data);
    assert_memory_equal(f.data + f.key_at[0], "package", 7);
    assert_int_equal(f.delegate_at[0] % 128, 0);
    assert_int_equal(f.named_at[0] % 128, 0);
    /* equal constants share their bytes, which are aligned for tensors */
    assert_ptr_equal(p.methods[0].values[6].data, p.methods[1].values[0].data);
    assert_ptr_not_equal(p.methods[0].values[6].data, p.methods[0].values[7].data);
    assert_int_equal((p.methods[0].values[6].data - f.data) % 16, 0);
    anm_pte_free(&p);
    file g = write_program(&program);
    assert_int_equal(f.size, g.size);
    assert_memory_equal(f.data, g.data, f.size);
    free(f.data);
    free(g.data);
}

static void test_layout_as_delegate(void **state)
{
    (void)state;
    anm_layout l = {0};
    anm_layout_bytes(&l, "one", 3);
    anm_layout_bytes(&l, "two", 3);
    anm_pte_delegate d[] = {{.id = "CoreMLBackend", .layout = &l}};
    anm_pte_method m[] = {{.name = "m", .in_spec = "", .out_spec = "", .delegates = d, .n_delegates = 1, .arena_sizes = no_arena, .n_arenas = 1}};
    file f = write_program(&(anm_pte){.methods = m, .n_methods = 1});
    anm_error err = {0};
    anm_pte p;
    assert_int_equal(anm_pte_read(&p, f.data, f.size, &err), 0);
    assert_int_equal(p.methods[0].delegates[0].size, 6);
    assert_memory_equal(p.methods[0].delegates[0].data, "onetwo", 6);
    anm_pte_free(&p);
    anm_layout_free(&l);
    free(f.data);
}

static void test_cut_short(void **state)
{
    (void)state;
    file f = write_program(&program);
    for (size_t n = 0; n < f.size; n++) {
        anm_error err = {0};
        assert_int_not_equal(read_copy(f.data, n, &err), 0);
        assert_true(err.text[0]);
    }
    free(f.data);
}

static void test_spoilt(void **state)
{
    (void)state;
    static const uint8_t bits[] = {0x01, 0x04, 0x80, 0xff, 0x7f};
    file f = write_program(&program);
    size_t flat = (size_t)anm_ld64(f.data + HEADER_AT + 8), refused = 0;
    for (size_t i = 0; i < flat; i++) {
        for (size_t k = 0; k < sizeof bits; k++) {
            anm_error err = {0};
            f.data[i] ^= bits[k];
            int rc = read_copy(f.data, f.size, &err);
            f.data[i] ^= bits[k];
            if (rc) assert_true(err.text[0]);
            refused += rc != 0;
        }
    }
    assert_true(refused > flat); /* most of what is in a flatbuffer is structure */
    free(f.data);
}

/* What a test changes, and what the reader must say of it. */
static void refused(const file *f, size_t at, uint64_t value, unsigned bytes, int code, const char *words)
{
    uint8_t keep[8];
    anm_error err = {0};
    memcpy(keep, f->data + at, bytes);
    for (unsigned k = 0; k < bytes; k++) f->data[at + k] = (uint8_t)(value >> 8 * k);
    int rc = read_copy(f->data, f->size, &err);
    memcpy(f->data + at, keep, bytes);
    if (rc != code || !strstr(err.text, words)) fail_msg("wanted %d, '%s', got %d, '%s'", code, words, rc, err.text);
}

static void test_malformed_header(void **state)
{
    (void)state;
    file f = write_program(&program);
    const int format = ANM_ERR_FORMAT;
    refused(&f, 4, 'X', 1, format, "not an ExecuTorch program");
    refused(&f, HEADER_AT + 4, 8, 4, format, "impossible length");
    refused(&f, HEADER_AT + 4, UINT32_MAX, 4, format, "impossible length");
    refused(&f, HEADER_AT + 8, f.size + 1, 8, format, "cut short");
    refused(&f, HEADER_AT + 8, 12, 8, format, "cut short");
    refused(&f, HEADER_AT + 16, 64, 8, format, "segments begin inside");
    refused(&f, HEADER_AT + 16, UINT64_MAX, 8, format, "segments begin inside");
    refused(&f, HEADER_AT + 24, f.size, 8, format, "segments reach beyond");
    refused(&f, 0, 0, 4, format, "refers to itself");
    refused(&f, 0, 0x7ffffff0, 4, format, "beyond the end");
    refused(&f, 0, 41, 4, format, "not aligned");
    free(f.data);
}

static void test_malformed_program(void **state)
{
    (void)state;
    file f = write_program(&program);
    const uint8_t *d = f.data;
    const int format = ANM_ERR_FORMAT, unsupported = ANM_ERR_UNSUPPORTED;
    uint32_t n, root = anm_fb_root(d), at = anm_fb_vector(d, root, PROGRAM_PLANS, &n);
    uint32_t plan = anm_fb_ref(d, at), second = anm_fb_ref(d, at + 4);
    uint32_t value = anm_fb_vector(d, plan, PLAN_VALUES, &n);
    uint32_t constant = anm_fb_table(d, anm_fb_ref(d, value + 4 * 6), VALUE_OF), planned = anm_fb_table(d, anm_fb_ref(d, value + 4 * 8), VALUE_OF);
    uint32_t alloc = anm_fb_table(d, planned, TENSOR_ALLOCATION);
    /* the flatbuffer */
    uint32_t vtable = root - anm_ld32(d + root);
    refused(&f, vtable, 3, 2, format, "vtable of impossible size");
    refused(&f, vtable + 2, 2, 2, format, "impossible size");
    refused(&f, vtable + 2, 0xfff0, 2, format, "beyond the end");
    refused(&f, vtable + 4 + 2 * PROGRAM_PLANS, 400, 2, format, "outside of its table");
    refused(&f, root, 0x10000000, 4, format, "vtable before the start");
    refused(&f, anm_fb_table(d, root, PROGRAM_PLANS), 0x40000000, 4, format, "beyond the end");
    uint32_t name = anm_fb_table(d, plan, PLAN_NAME);
    refused(&f, name + 4 + 7, 'x', 1, format, "does not end with a zero byte");
    refused(&f, name + 4 + 3, 0, 1, format, "holds a zero byte");
    refused(&f, anm_fb_at(d, anm_fb_ref(d, value), VALUE_KIND), 99, 1, format, "not in the schema");
    refused(&f, anm_fb_at(d, anm_fb_ref(d, value), VALUE_KIND), 0, 1, format, "value and no type");
    /* the program */
    refused(&f, anm_fb_table(d, root, PROGRAM_PLANS), 0, 4, format, "no methods");
    refused(&f, anm_fb_table(d, second, PLAN_NAME), 0, 4, format, "does not end with a zero byte");
    refused(&f, anm_fb_table(d, anm_fb_ref(d, value + 4), VALUE_OF), 0xffffff, 4, format, "vtable");
    uint32_t sizes = anm_fb_vector(d, constant, TENSOR_SIZES, &n);
    refused(&f, sizes, (uint32_t)-2, 4, format, "impossible size");
    refused(&f, sizes, 200, 4, format, "shorter than its tensor");
    refused(&f, sizes - 4, 1, 4, format, "dim_order does not have its rank");
    refused(&f, anm_fb_vector(d, constant, TENSOR_DIM_ORDER, &n), 1, 1, unsupported, "plain order");
    refused(&f, anm_fb_at(d, constant, TENSOR_DTYPE), 12, 1, unsupported, "element type");
    refused(&f, anm_fb_at(d, constant, TENSOR_BUFFER), 77, 4, format, "constant that does not exist");
    refused(&f, anm_fb_at(d, planned, TENSOR_BUFFER), 1, 4, unsupported, "planned tensor has a first value");
    refused(&f, anm_fb_at(d, alloc, ALLOCATION_LOW), 65, 4, format, "outside of its arena");
    refused(&f, anm_fb_at(d, alloc, ALLOCATION_HIGH), 1, 4, format, "outside of its arena");
    refused(&f, anm_fb_at(d, alloc, ALLOCATION_ID), 2, 4, format, "outside of its arena");
    refused(&f, anm_fb_vector(d, plan, PLAN_INPUTS, &n), 11, 4, format, "value that does not exist");
    refused(&f, anm_fb_vector(d, plan, PLAN_OUTPUTS, &n), 11, 4, format, "value that does not exist");
    refused(&f, anm_fb_vector(d, plan, PLAN_ARENAS, &n), UINT64_MAX, 8, format, "negative size");
    refused(&f, anm_fb_vector(d, second, PLAN_INPUTS, &n) - 4, 0x20000000, 4, format, "beyond the end");
    /* calls and delegates */
    uint32_t chain = anm_fb_ref(d, anm_fb_vector(d, plan, PLAN_CHAINS, &n));
    uint32_t call = anm_fb_ref(d, anm_fb_vector(d, chain, CHAIN_INSTRUCTIONS, &n)), of = anm_fb_table(d, call, INSTRUCTION_OF);
    refused(&f, anm_fb_at(d, of, CALL_INDEX), 2, 4, format, "delegate that does not exist");
    refused(&f, anm_fb_vector(d, of, CALL_ARGS, &n), 11, 4, format, "value that does not exist");
    refused(&f, anm_fb_at(d, call, INSTRUCTION_KIND), CALL_KERNEL, 1, format, "operator that does not exist");
    uint32_t delegate = anm_fb_ref(d, anm_fb_vector(d, plan, PLAN_DELEGATES, &n)), where = anm_fb_table(d, delegate, DELEGATE_PROCESSED);
    refused(&f, anm_fb_at(d, where, PROCESSED_INDEX), 9, 4, format, "segment does not exist");
    refused(&f, anm_fb_at(d, where, PROCESSED_LOCATION), LOCATION_INLINE, 1, format, "inline data does not exist");
    refused(&f, anm_fb_at(d, where, PROCESSED_LOCATION), 7, 1, format, "unknown place");
    /* segments and named data */
    uint32_t segments = anm_fb_vector(d, root, PROGRAM_SEGMENTS, &n);
    assert_int_equal(n, 4);
    refused(&f, anm_fb_at(d, anm_fb_ref(d, segments + 4), SEGMENT_SIZE), f.size, 8, format, "segment reaches beyond");
    refused(&f, anm_fb_at(d, anm_fb_ref(d, segments + 4), SEGMENT_OFFSET), UINT64_MAX, 8, format, "segment reaches beyond");
    refused(&f, anm_fb_at(d, anm_fb_ref(d, segments + 4), SEGMENT_OFFSET), 8, 8, format, "not aligned to 16");
    refused(&f, anm_fb_at(d, anm_fb_ref(d, segments + 4), SEGMENT_OFFSET), 0, 8, format, "two segments overlap");
    uint32_t key = anm_fb_ref(d, anm_fb_vector(d, root, PROGRAM_NAMED, &n));
    refused(&f, anm_fb_at(d, key, NAMED_SEGMENT), 4, 4, format, "named data's segment");
    uint32_t sub = anm_fb_table(d, root, PROGRAM_CONSTANT_SEGMENT);
    refused(&f, anm_fb_vector(d, sub, SUBSEGMENT_OFFSETS, &n) + 8, f.size, 8, format, "constant lies beyond");
    free(f.data);
}

/* What is not run is kept all the same: a list's bytes, an instruction's numbers. (A string and a list of bytes are one thing
 * in a flatbuffer, and so are the first numbers of a delegate's call and of a free.) */
static void test_lists_and_other_instructions(void **state)
{
    (void)state;
    file f = write_program(&program);
    uint8_t *d = f.data;
    uint32_t n, plan = anm_fb_ref(d, anm_fb_vector(d, anm_fb_root(d), PROGRAM_PLANS, &n)), value = anm_fb_vector(d, plan, PLAN_VALUES, &n);
    d[anm_fb_at(d, anm_fb_ref(d, value + 4 * 5), VALUE_KIND)] = KIND_BOOL_LIST;
    uint32_t chain = anm_fb_ref(d, anm_fb_vector(d, plan, PLAN_CHAINS, &n)), list = anm_fb_vector(d, chain, CHAIN_INSTRUCTIONS, &n);
    d[anm_fb_at(d, anm_fb_ref(d, list + 4), INSTRUCTION_KIND)] = CALL_FREE;
    anm_pte p;
    anm_error err = {0};
    if (anm_pte_read(&p, d, f.size, &err)) fail_msg("%s", err.text);
    const anm_pte_value *v = &p.methods[0].values[5];
    assert_int_equal(v->kind, ANM_PTE_OTHER);
    assert_string_equal(v->s, "BoolList");
    assert_int_equal(v->data_size, 5);
    assert_memory_equal(v->data, "words", 5);
    assert_string_equal(p.methods[0].calls[1].other, "FreeCall");
    assert_int_equal(p.methods[0].calls[1].operands, 1);
    anm_pte_free(&p);
    free(f.data);
}

static void test_two_methods_of_one_name(void **state)
{
    (void)state;
    anm_pte_method twice[] = {methods[1], methods[1]};
    file f = write_program(&(anm_pte){.methods = twice, .n_methods = 2});
    anm_error err = {0};
    assert_int_equal(read_copy(f.data, f.size, &err), ANM_ERR_FORMAT);
    assert_non_null(strstr(err.text, "two methods are called 'table'"));
    free(f.data);
}

/* A small buffer whose calls are all one call with a long list: it must be refused, and cheaply. */
static void test_shared_again_and_again(void **state)
{
    (void)state;
    enum { CALLS = 2000, ARGS = 2000 };
    anm_pte_call *many = calloc(CALLS, sizeof *many);
    uint32_t *args = calloc(ARGS, sizeof *args);
    assert_non_null(many);
    assert_non_null(args);
    many[CALLS - 1] = (anm_pte_call){.args = args, .n_args = ARGS};
    anm_pte_method m = methods[0];
    m.calls = many;
    m.n_calls = CALLS;
    file f = write_program(&(anm_pte){.methods = &m, .n_methods = 1});
    anm_error err = {0};
    assert_int_equal(read_copy(f.data, f.size, &err), 0);
    uint32_t n, plan = anm_fb_ref(f.data, anm_fb_vector(f.data, anm_fb_root(f.data), PROGRAM_PLANS, &n));
    uint32_t chain = anm_fb_ref(f.data, anm_fb_vector(f.data, plan, PLAN_CHAINS, &n));
    uint32_t list = anm_fb_vector(f.data, chain, CHAIN_INSTRUCTIONS, &n);
    uint32_t last = anm_fb_ref(f.data, list + 4 * (CALLS - 1));
    for (uint32_t i = 0; i < CALLS; i++) anm_st32(f.data + list + 4 * i, last - (list + 4 * i));
    assert_int_equal(read_copy(f.data, f.size, &err), ANM_ERR_FORMAT);
    assert_non_null(strstr(err.text, "same bytes too often"));
    free(f.data);
    free(many);
    free(args);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_layout_as_delegate),
        cmocka_unit_test(test_cut_short),
        cmocka_unit_test(test_spoilt),
        cmocka_unit_test(test_malformed_header),
        cmocka_unit_test(test_malformed_program),
        cmocka_unit_test(test_lists_and_other_instructions),
        cmocka_unit_test(test_two_methods_of_one_name),
        cmocka_unit_test(test_shared_again_and_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
