/* SPDX-License-Identifier: BSD-3-Clause */
/* Core ML packages: written and read back, cut short and spoilt, each malformation named. */
#include "test.h"

#include "base/buf.h"
#include "base/bytes.h"
#include "coreml/coreml.h"
#include "coreml/fields.h"
#include "coreml/mil_pb.h"

#include <stdlib.h>
#include <string.h>

/* ---- a small program with what the format knows ---- */

static const uint8_t nibbles[32] = {0x12, 0xf8, 0x70}, zeros[32];
static const uint8_t scales[32] = {0x00, 0x3c, 0x00, 0x38};

static anm_mil_value *blob(anm_mil_builder *b, const char *name, anm_dtype t, int rank, const int64_t *dim, const uint8_t *data)
{
    anm_mil_type type = anm_mil_tensor(t, rank, dim);
    anm_blob bytes = {.data = data, .in_file = true};
    int64_t n = 0;
    assert_true(anm_mil_type_count(&type, &n));
    assert_true(anm_dtype_size(t, (uint64_t)n, &bytes.size));
    return anm_mil_const_blob(b, name, type, bytes);
}

/* y = linear(x, data * scale, zeros), then a slice and a cast of a mask: constants of every kind. */
static void add_function(anm_mil_program *p, const char *name, int64_t rows, const void *source)
{
    anm_mil_function *fn = anm_mil_function_new(p, name, "CoreML8");
    anm_mil_builder b = anm_mil_build(fn);
    anm_mil_value *x = anm_mil_input(&b, "x", anm_mil_tensor(ANM_DT_F16, 2, (int64_t[]){rows, 4}));
    anm_mil_value *i = anm_mil_input(&b, "i", anm_mil_tensor(ANM_DT_I32, 1, (int64_t[]){rows}));
    anm_mil_value *data = blob(&b, "w_data", ANM_DT_I4, 2, (int64_t[]){16, 4}, nibbles);
    if (source) {
        anm_blob made = {.size = 32, .source = source, .part = 3, .in_file = true};
        data = anm_mil_const_blob(&b, "w_made", anm_mil_tensor(ANM_DT_I4, 2, (int64_t[]){16, 4}), made);
    }
    anm_mil_value *scale = blob(&b, "w_scale", ANM_DT_F16, 2, (int64_t[]){16, 1}, scales);
    anm_mil_value *w = anm_mil_emit(&b, ANM_OP_CONSTEXPR_BLOCKWISE_SHIFT_SCALE, "w", ANM_P_DATA, data, ANM_P_SCALE, scale, ANM_P_END);
    anm_mil_value *bias = blob(&b, "bias", ANM_DT_F16, 1, (int64_t[]){16}, zeros);
    anm_mil_value *y = anm_mil_emit(&b, ANM_OP_LINEAR, "y", ANM_P_X, x, ANM_P_WEIGHT, w, ANM_P_BIAS, bias, ANM_P_END);
    anm_mil_value *same = blob(&b, "bias_again", ANM_DT_F16, 1, (int64_t[]){16}, zeros);
    y = anm_mil_emit(&b, ANM_OP_ADD, "z", ANM_P_X, y, ANM_P_Y, same, ANM_P_END);
    y = anm_mil_emit(&b, ANM_OP_MUL, "half", ANM_P_X, y, ANM_P_Y, anm_mil_const_float(&b, ANM_DT_F16, 0.5f), ANM_P_END);
    y = anm_mil_emit(&b, ANM_OP_SLICE_BY_INDEX, "slice", ANM_P_X, y, ANM_P_BEGIN, anm_mil_const_i32s(&b, 2, (int64_t[]){0, -8}),
                     ANM_P_END_INDEX, anm_mil_const_i32s(&b, 2, (int64_t[]){0, 0}), ANM_P_BEGIN_MASK,
                     anm_mil_const_bools(&b, 2, (bool[]){true, false}), ANM_P_END_MASK, anm_mil_const_bools(&b, 2, (bool[]){true, true}), ANM_P_END);
    y = anm_mil_emit(&b, ANM_OP_CONCAT, "both", ANM_P_AXIS, anm_mil_const_i32(&b, -1), ANM_P_INTERLEAVE, anm_mil_const_bool(&b, false),
                     ANM_P_VALUES, y, ANM_P_END);
    anm_mil_value *j = anm_mil_emit(&b, ANM_OP_CAST, "j", ANM_P_X, i, ANM_P_DTYPE, anm_mil_const_string(&b, "fp32"), ANM_P_END);
    j = anm_mil_emit(&b, ANM_OP_ADD, "k", ANM_P_X, j, ANM_P_Y, anm_mil_const_float(&b, ANM_DT_F32, -1.25f), ANM_P_END);
    anm_mil_output(&b, y);
    anm_mil_output(&b, j);
    if (b.err.code) fail_msg("%s", b.err.text);
}

typedef struct bytes {
    uint8_t *data;
    size_t size;
} bytes;

/* The layout's bytes; what a source makes is 0x5a. */
static bytes flatten(const anm_layout *l)
{
    bytes out = {calloc(1, (size_t)l->size + 1), (size_t)l->size};
    assert_non_null(out.data);
    for (size_t i = 0; i < l->count; i++) {
        const anm_piece *p = &l->piece[i];
        if (p->data) memcpy(out.data + p->offset, p->data, (size_t)p->size);
        else if (p->source) memset(out.data + p->offset, 0x5a, (size_t)p->size);
    }
    return out;
}

static bytes write_package(const anm_mil_program *p, bool multifunction, anm_uuid_slot slot[8], size_t *n_slots)
{
    anm_layout l = {0};
    anm_arena arena;
    anm_uuid_slots slots = {0};
    anm_error err = {0};
    anm_package_spec spec = {"folder", multifunction, multifunction ? p->functions->name : NULL};
    anm_arena_init(&arena);
    if (anm_package_write(&l, &slots, p, &spec, &arena, &err)) fail_msg("%s", err.text);
    for (size_t i = 0; slot && i < slots.count && i < 8; i++) slot[i] = slots.slot[i];
    if (n_slots) *n_slots = slots.count;
    bytes out = flatten(&l);
    anm_layout_free(&l);
    anm_arena_free(&arena);
    return out;
}

typedef struct opened {
    anm_arena arena;
    anm_dir dir;
    anm_package package;
} opened;

static int open_package(opened *o, bytes b, anm_error *err)
{
    *o = (opened){0};
    anm_arena_init(&o->arena);
    anm_mil_program_init(&o->package.program);
    int rc = anm_dir_read(&o->dir, b.data, b.size, &o->arena, err);
    return rc ? rc : anm_package_read(&o->package, &o->dir, err);
}

static void close_package(opened *o)
{
    anm_package_free(&o->package);
    anm_arena_free(&o->arena);
}

static const anm_dir_file *file_of(const opened *o, const char *path)
{
    for (size_t i = 0; i < o->dir.count; i++)
        if (strcmp(o->dir.file[i].path, path) == 0) return &o->dir.file[i];
    fail_msg("no %s", path);
    return NULL;
}

#define MODEL "folder/model.mlpackage/Data/com.apple.CoreML/model.mlmodel"
#define WEIGHTS "folder/model.mlpackage/Data/com.apple.CoreML/weights/weight.bin"

/* ---- round trips ---- */

static const anm_mil_op *op_of(const anm_mil_function *fn, anm_mil_opcode code)
{
    for (const anm_mil_op *op = fn->first; op; op = op->next)
        if (op->code == code) return op;
    fail_msg("no %s", anm_mil_op_name(code));
    return NULL;
}

static void test_round_trip(void **state)
{
    (void)state;
    anm_mil_program p;
    anm_error err = {0};
    opened o;
    anm_mil_program_init(&p);
    add_function(&p, "main", 3, NULL);
    bytes b = write_package(&p, false, NULL, NULL);
    if (open_package(&o, b, &err)) fail_msg("%s", err.text);
    const anm_mil_function *fn = o.package.program.functions;
    assert_int_equal(o.package.spec_version, 9);
    assert_false(o.package.multifunction);
    assert_string_equal(fn->name, "main");
    assert_string_equal(fn->opset, "CoreML8");
    assert_int_equal(fn->n_inputs, 2);
    assert_string_equal(fn->inputs[0]->name, "x");
    assert_true(anm_mil_type_equal(&fn->inputs[0]->type, &(anm_mil_type){ANM_DT_F16, 2, {3, 4}}));
    assert_int_equal(fn->n_outputs, 2);
    assert_string_equal(fn->outputs[1]->name, "k");
    /* constants: in the weight file, inline, inside a constexpr op; every kind of number */
    int64_t ints[2];
    int n = 0;
    bool flag = true;
    float f = 0;
    const char *s;
    size_t len;
    const anm_mil_op *op = op_of(fn, ANM_OP_SLICE_BY_INDEX);
    assert_true(anm_mil_get_i64s(anm_mil_arg_of(op, ANM_P_BEGIN), ints, 2, &n));
    assert_int_equal(ints[1], -8);
    assert_memory_equal(anm_mil_arg_of(op, ANM_P_BEGIN_MASK)->constant->data, "\1\0", 2);
    assert_true(anm_mil_get_bool(anm_mil_arg_of(op_of(fn, ANM_OP_CONCAT), ANM_P_INTERLEAVE), &flag));
    assert_false(flag);
    assert_true(anm_mil_get_f32(anm_mil_arg_of(op_of(fn, ANM_OP_MUL), ANM_P_Y), &f));
    assert_true(f == 0.5f);
    assert_true(anm_mil_get_string(anm_mil_arg_of(op_of(fn, ANM_OP_CAST), ANM_P_DTYPE), &s, &len));
    assert_memory_equal(s, "fp32", len);
    op = op_of(fn, ANM_OP_CONSTEXPR_BLOCKWISE_SHIFT_SCALE);
    const anm_blob *data = anm_mil_arg_of(op, ANM_P_DATA)->constant;
    assert_true(data->in_file);
    assert_memory_equal(data->data, nibbles, 32);
    /* both zero biases are one blob: three in all, at multiples of 64 */
    const anm_dir_file *w = file_of(&o, WEIGHTS);
    assert_int_equal(anm_ld32(w->data), 3);
    assert_int_equal((data->data - w->data) % 64, 0);
    assert_int_equal((w->data - b.data) % 64, 0);
    assert_ptr_equal(anm_mil_arg_of(op_of(fn, ANM_OP_LINEAR), ANM_P_BIAS)->constant->data,
                     anm_mil_arg_of(op_of(fn, ANM_OP_ADD), ANM_P_Y)->constant->data);
    /* what was read, written again, is the same file */
    bytes again = write_package(&o.package.program, false, NULL, NULL);
    assert_int_equal(again.size, b.size);
    assert_memory_equal(again.data, b.data, b.size);
    free(again.data);
    close_package(&o);
    free(b.data);
    anm_mil_program_free(&p);
}

static void test_functions_share_weights(void **state)
{
    (void)state;
    anm_mil_program p;
    anm_error err = {0};
    opened o;
    size_t n_slots;
    anm_uuid_slot slot[8];
    anm_mil_program_init(&p);
    add_function(&p, "prefill", 5, NULL);
    add_function(&p, "forward", 1, NULL);
    bytes b = write_package(&p, true, slot, &n_slots);
    if (open_package(&o, b, &err)) fail_msg("%s", err.text);
    assert_true(o.package.multifunction);
    assert_string_equal(o.package.default_function, "prefill");
    assert_string_equal(o.package.program.functions->name, "prefill"); /* in the order of the description */
    assert_string_equal(o.package.program.functions->next->name, "forward");
    assert_int_equal(anm_ld32(file_of(&o, WEIGHTS)->data), 3);
    const anm_dir_file *meta = file_of(&o, "folder/metadata.json");
    char *text = calloc(1, (size_t)meta->size + 1);
    memcpy(text, meta->data, (size_t)meta->size);
    assert_non_null(strstr(text, "\"methods\": {\"prefill\": {\"inputNames\": [\"x\", \"i\"], \"outputNames\": [\"both\", \"k\"]}"));
    /* identifiers: one in metadata.json; in the manifest two items, of which the model stands twice */
    assert_int_equal(n_slots, 4);
    unsigned count[ANM_UUID_COUNT] = {0};
    for (size_t i = 0; i < n_slots; i++) {
        assert_memory_equal(b.data + slot[i].offset, "00000000-0000-4000-8000-00000000000", 35);
        assert_in_range(slot[i].which, 0, ANM_UUID_COUNT - 1);
        count[slot[i].which]++;
    }
    assert_int_equal(count[ANM_UUID_IDENTIFIER], 1);
    assert_int_equal(count[ANM_UUID_MODEL], 2);
    assert_int_equal(count[ANM_UUID_WEIGHTS], 1);
    free(text);
    close_package(&o);
    free(b.data);
    anm_mil_program_free(&p);
}

static void test_weights_made_later(void **state)
{
    (void)state;
    anm_mil_program p;
    anm_error err = {0};
    opened o;
    int maker;
    anm_mil_program_init(&p);
    add_function(&p, "a", 1, &maker);
    add_function(&p, "b", 2, &maker);
    bytes b = write_package(&p, true, NULL, NULL);
    if (open_package(&o, b, &err)) fail_msg("%s", err.text);
    assert_int_equal(anm_ld32(file_of(&o, WEIGHTS)->data), 3); /* what is made once is stored once */
    const anm_blob *data = anm_mil_arg_of(op_of(o.package.program.functions, ANM_OP_CONSTEXPR_BLOCKWISE_SHIFT_SCALE), ANM_P_DATA)->constant;
    assert_int_equal(data->size, 32);
    assert_int_equal(data->data[0], 0x5a);
    assert_int_equal(data->data[31], 0x5a);
    close_package(&o);
    free(b.data);
    anm_mil_program_free(&p);
}

/* Every type of constant, small and large, goes through the format as it was. */
static void test_every_constant(void **state)
{
    (void)state;
    static const anm_dtype types[] = {ANM_DT_BOOL, ANM_DT_F16, ANM_DT_F32, ANM_DT_F64, ANM_DT_I4,  ANM_DT_U4, ANM_DT_I8, ANM_DT_U8,
                                      ANM_DT_I16,  ANM_DT_U16, ANM_DT_I32, ANM_DT_U32, ANM_DT_I64, ANM_DT_U64};
    static const int64_t counts[] = {0, 1, 9, 10, 11};
    uint8_t data[88];
    for (size_t i = 0; i < sizeof data; i++) data[i] = (uint8_t)(i * 37 + 129);
    for (size_t t = 0; t < sizeof types / sizeof types[0]; t++) {
        for (size_t c = 0; c < sizeof counts / sizeof counts[0]; c++) {
            anm_mil_program p, q;
            anm_error err = {0};
            anm_arena arena;
            anm_weights *w;
            anm_buf text = {0};
            anm_layout l = {0};
            uint8_t ones[11] = {1, 0, 1, 1, 0, 1, 0, 0, 0, 1, 1};
            anm_mil_program_init(&p);
            anm_mil_program_init(&q);
            anm_arena_init(&arena);
            anm_mil_function *fn = anm_mil_function_new(&p, "main", "CoreML8");
            anm_mil_builder b = anm_mil_build(fn);
            anm_mil_value *v = blob(&b, "v", types[t], 1, &counts[c], types[t] == ANM_DT_BOOL ? ones : data);
            anm_mil_output(&b, v);
            assert_int_equal(anm_weights_new(&w, &arena, &err), 0);
            assert_int_equal(anm_mil_pb_write(&text, &p, w, &err), 0);
            assert_int_equal(anm_weights_finish(&l, w, &err), 0);
            bytes file = flatten(&l);
            if (anm_mil_pb_read(&q, anm_pb_of(text.data, text.size), file.data, file.size, &err)) fail_msg("%s: %s", anm_dtype_name(types[t]), err.text);
            const anm_mil_value *u = q.functions->outputs[0];
            assert_true(anm_mil_type_equal(&u->type, &v->type));
            assert_int_equal(u->constant->size, v->constant->size);
            if (v->constant->size) assert_memory_equal(u->constant->data, v->constant->data, v->constant->size);
            assert_int_equal(u->constant->in_file, counts[c] >= 10 && anm_coreml_blob_dtype(types[t]) != 0);
            free(file.data);
            anm_buf_free(&text);
            anm_layout_free(&l);
            anm_weights_free(w);
            anm_arena_free(&arena);
            anm_mil_program_free(&p);
            anm_mil_program_free(&q);
        }
    }
}

static void test_unknown_dimension_and_foreign_op(void **state)
{
    (void)state;
    anm_mil_program p;
    anm_error err = {0};
    opened o;
    anm_mil_program_init(&p);
    anm_mil_function *fn = anm_mil_function_new(&p, "main", "CoreML8");
    anm_mil_builder b = anm_mil_build(fn);
    anm_mil_value *x = anm_mil_input(&b, "x", anm_mil_tensor(ANM_DT_F32, 1, (int64_t[]){4}));
    anm_mil_value *n = anm_mil_const_i32(&b, 2);
    anm_mil_value *y = anm_mil_value_new(fn, "y", anm_mil_tensor(ANM_DT_F32, 1, (int64_t[]){ANM_MIL_UNKNOWN_DIM}));
    anm_mil_arg args[] = {{ANM_P_X, 1, &x, NULL}, {ANM_P_END, 1, &n, "how_many"}};
    assert_non_null(anm_mil_append(fn, NULL, ANM_OP_FOREIGN, "top_of", 2, args, 1, &y));
    anm_mil_output(&b, y);
    bytes file = write_package(&p, false, NULL, NULL);
    if (open_package(&o, file, &err)) fail_msg("%s", err.text);
    const anm_mil_op *op = o.package.program.functions->first;
    assert_int_equal(op->code, ANM_OP_FOREIGN);
    assert_string_equal(op->foreign, "top_of");
    assert_int_equal(op->n_args, 2);
    const anm_mil_arg *odd = op->args[0].param ? &op->args[1] : &op->args[0];
    assert_string_equal(odd->foreign, "how_many");
    assert_int_equal(op->outs[0]->type.dim[0], ANM_MIL_UNKNOWN_DIM);
    close_package(&o);
    free(file.data);
    anm_mil_program_free(&p);
}

/* ---- malformed ---- */

static bytes small_package(void)
{
    anm_mil_program p;
    anm_mil_program_init(&p);
    add_function(&p, "main", 3, NULL);
    bytes b = write_package(&p, false, NULL, NULL);
    anm_mil_program_free(&p);
    return b;
}

/* Opens a copy of exactly that size, so that a sanitizer sees every byte beyond. */
static int open_copy(const uint8_t *data, size_t size, anm_error *err)
{
    bytes copy = {malloc(size ? size : 1), size};
    opened o;
    memcpy(copy.data, data, size);
    int rc = open_package(&o, copy, err);
    if (rc) assert_true(err->text[0]);
    close_package(&o);
    free(copy.data);
    return rc;
}

static void test_directory_cut_short(void **state)
{
    (void)state;
    bytes b = small_package();
    for (size_t n = 0; n < b.size; n++) {
        anm_error err = {0};
        assert_int_not_equal(open_copy(b.data, n, &err), 0);
    }
    for (size_t n = 1; n < b.size; n++) { /* and from the front: the places no longer fit */
        anm_error err = {0};
        assert_int_not_equal(open_copy(b.data + n, b.size - n, &err), 0);
    }
    free(b.data);
}

static void test_model_cut_short(void **state)
{
    (void)state;
    bytes b = small_package();
    anm_error err = {0};
    opened o;
    assert_int_equal(open_package(&o, b, &err), 0);
    const anm_dir_file *m = file_of(&o, MODEL), *w = file_of(&o, WEIGHTS);
    anm_package k;
    for (uint64_t n = 0; n < m->size; n++) {
        uint8_t *copy = malloc((size_t)n + 1);
        memcpy(copy, m->data, (size_t)n);
        assert_int_not_equal(anm_package_read_model(&k, copy, n, w->data, w->size, &err), 0);
        anm_package_free(&k);
        free(copy);
    }
    for (uint64_t n = 0; n < w->size; n++) {
        uint8_t *copy = malloc((size_t)n + 1);
        memcpy(copy, w->data, (size_t)n);
        assert_int_not_equal(anm_package_read_model(&k, m->data, m->size, copy, n, &err), 0);
        assert_non_null(strstr(err.text, "weight file"));
        anm_package_free(&k);
        free(copy);
    }
    close_package(&o);
    free(b.data);
}

static void test_spoilt(void **state)
{
    (void)state;
    static const uint8_t bits[] = {0x01, 0x08, 0x80, 0xff};
    bytes b = small_package();
    size_t refused = 0;
    for (size_t i = 0; i < b.size; i++) {
        for (size_t k = 0; k < sizeof bits; k++) {
            anm_error err = {0};
            b.data[i] ^= bits[k];
            refused += open_copy(b.data, b.size, &err) != 0;
            b.data[i] ^= bits[k];
        }
    }
    assert_true(refused > b.size);
    free(b.data);
}

static void dir_refused(const char *listing, const char *words)
{
    uint8_t data[2000] = "abcdefgh";
    size_t n = strlen(listing);
    anm_arena arena;
    anm_dir dir;
    anm_error err = {0};
    for (size_t i = 0; i < n; i++) data[8 + i] = (uint8_t)listing[n - 1 - i];
    anm_arena_init(&arena);
    int rc = anm_dir_read(&dir, data, 8 + n, &arena, &err);
    if (rc != ANM_ERR_FORMAT || !strstr(err.text, words)) fail_msg("%s: wanted '%s', got %d '%s'", listing, words, rc, err.text);
    anm_arena_free(&arena);
}

#define FILE_NODE(name, at, size) "{\"name\":\"" name "\",\"kind\":0,\"dataRegion\":{\"offset\":" at ",\"size\":" size "}}"
#define FOLDER_NODE(name, children) "{\"name\":\"" name "\",\"kind\":1,\"children\":{" children "}}"

static void test_malformed_listing(void **state)
{
    (void)state;
    dir_refused("x", "no listing");
    dir_refused("{\"nodes\":[", "no end");
    dir_refused("{nodes}", "no JSON");
    dir_refused("{\"a\":1,\"a\":2}", "no JSON");
    dir_refused("{\"nodes\":[]}", "no entries");
    dir_refused("{\"nodes\":[{}]}", "no name");
    dir_refused("{\"nodes\":[{\"name\":\"a\",\"kind\":2}]}", "neither a file nor a folder");
    dir_refused("{\"nodes\":[{\"name\":\"a\",\"kind\":0}]}", "no place");
    dir_refused("{\"nodes\":[" FILE_NODE("a", "-1", "2") "]}", "no place");
    dir_refused("{\"nodes\":[" FILE_NODE("a", "4", "5") "]}", "beyond the end");
    dir_refused("{\"nodes\":[" FILE_NODE("a", "9223372036854775807", "5") "]}", "beyond the end");
    dir_refused("{\"nodes\":[" FILE_NODE("a", "0", "5") "]}", "last entry is no folder");
    dir_refused("{\"nodes\":[" FILE_NODE("..", "0", "5") "]}", "plain file name");
    dir_refused("{\"nodes\":[" FILE_NODE("a/b", "0", "5") "]}", "plain file name");
    dir_refused("{\"nodes\":[" FILE_NODE("a\\\\b", "0", "5") "]}", "plain file name");
    dir_refused("{\"nodes\":[" FILE_NODE("a\\u0001", "0", "5") "]}", "plain file name");
    dir_refused("{\"nodes\":[" FILE_NODE("", "0", "5") "]}", "plain file name");
    dir_refused("{\"nodes\":[" FILE_NODE("a", "0", "5") "," FILE_NODE("b", "4", "2") "," FOLDER_NODE("r", "\"a\":0,\"b\":1") "]}", "overlap");
    dir_refused("{\"nodes\":[" FILE_NODE("a", "0", "5") "," FOLDER_NODE("r", "\"a\":1") "]}", "does not stand before");
    dir_refused("{\"nodes\":[" FILE_NODE("a", "0", "5") "," FOLDER_NODE("r", "\"a\":-1") "]}", "does not stand before");
    dir_refused("{\"nodes\":[" FILE_NODE("a", "0", "5") "," FOLDER_NODE("r", "\"b\":0") "]}", "another name");
    dir_refused("{\"nodes\":[" FILE_NODE("a", "0", "5") "," FOLDER_NODE("s", "\"a\":0") "," FOLDER_NODE("r", "\"a\":0,\"s\":1") "]}", "two folders");
    dir_refused("{\"nodes\":[" FOLDER_NODE("a", "") "," FOLDER_NODE("b", "\"a\":0") "," FOLDER_NODE("c", "\"b\":1") "," FOLDER_NODE(
                    "d", "\"c\":2") "," FOLDER_NODE("e", "\"d\":3") "," FOLDER_NODE("f", "\"e\":4") "," FOLDER_NODE("g", "\"f\":5") "," FOLDER_NODE("h", "\"g\":6") "," FOLDER_NODE("i", "\"h\":7") "]}",
                "nested too deeply");
}

/* Programs made field by field, and what the reader says of them. */
static void put_type(anm_buf *b, uint32_t field, anm_dtype t, int rank, const int64_t *dim)
{
    size_t at = anm_pb_open(b, field);
    anm_mil_type type = anm_mil_tensor(t, rank, dim);
    anm_mil_pb_write_type(b, &type);
    anm_pb_close(b, at);
}

/* Reads a program of one function: `ops` inside its block, output `out`. `b` holds it: constants point there. */
static int read_graph(anm_mil_program *p, anm_buf *b, const anm_buf *ops, const char *out, anm_error *err)
{
    anm_pb_put_int(b, PROGRAM_VERSION, 1);
    size_t entry = anm_pb_open(b, PROGRAM_FUNCTIONS);
    anm_pb_put_string(b, MAP_KEY, "main");
    size_t fn = anm_pb_open(b, MAP_VALUE);
    size_t in = anm_pb_open(b, FUNCTION_INPUTS);
    anm_pb_put_string(b, NAMED_NAME, "x");
    put_type(b, NAMED_TYPE, ANM_DT_F16, 0, NULL);
    anm_pb_close(b, in);
    anm_pb_put_string(b, FUNCTION_OPSET, "CoreML8");
    size_t blocks = anm_pb_open(b, FUNCTION_BLOCKS);
    anm_pb_put_string(b, MAP_KEY, "CoreML8");
    size_t block = anm_pb_open(b, MAP_VALUE);
    if (ops->size) anm_pb_put_bytes(b, BLOCK_OPERATIONS, ops->data, ops->size);
    anm_pb_put_string(b, BLOCK_OUTPUTS, out);
    anm_pb_close(b, block);
    anm_pb_close(b, blocks);
    anm_pb_close(b, fn);
    anm_pb_close(b, entry);
    anm_mil_program_init(p);
    return anm_mil_pb_read(p, anm_pb_of(b->data, b->size), NULL, 0, err);
}

static void graph_refused(const anm_buf *ops, const char *out, int code, const char *words)
{
    anm_buf b = {0};
    anm_mil_program p;
    anm_error err = {0};
    int rc = read_graph(&p, &b, ops, out, &err);
    if (rc != code || (code && !strstr(err.text, words))) fail_msg("wanted %d '%s', got %d '%s'", code, words, rc, err.text);
    anm_mil_program_free(&p);
    anm_buf_free(&b);
}

/* A const op whose value is an immediate of `kind` with these bytes as its values. */
static void const_refused(anm_dtype t, int rank, const int64_t *dim, uint32_t kind, const char *values, size_t n, int code, const char *words)
{
    anm_buf op = {0};
    anm_pb_put_string(&op, OPERATION_TYPE, "const");
    size_t out = anm_pb_open(&op, OPERATION_OUTPUTS);
    anm_pb_put_string(&op, NAMED_NAME, "c");
    put_type(&op, NAMED_TYPE, t, rank, dim);
    anm_pb_close(&op, out);
    size_t entry = anm_pb_open(&op, OPERATION_ATTRIBUTES);
    anm_pb_put_string(&op, MAP_KEY, "val");
    size_t value = anm_pb_open(&op, MAP_VALUE);
    put_type(&op, VALUE_TYPE, t, rank, dim);
    size_t imm = anm_pb_open(&op, VALUE_IMMEDIATE), tensor = anm_pb_open(&op, IMMEDIATE_TENSOR);
    if (kind) {
        size_t list = anm_pb_open(&op, kind);
        anm_pb_put_bytes(&op, REPEATED_VALUES, values, n);
        anm_pb_close(&op, list);
    }
    anm_pb_close(&op, tensor);
    anm_pb_close(&op, imm);
    anm_pb_close(&op, value);
    anm_pb_close(&op, entry);
    graph_refused(&op, "c", code, words);
    anm_buf_free(&op);
}

static void test_malformed_constants(void **state)
{
    (void)state;
    const int format = ANM_ERR_FORMAT;
    int64_t two[] = {2}, huge[] = {INT64_MAX, 3}, many[] = {1 << 30};
    const_refused(ANM_DT_I32, 1, two, VALUES_INTS, "\1\2", 2, 0, "");
    const_refused(ANM_DT_I32, 1, two, VALUES_INTS, "\1", 1, format, "fewer values");
    const_refused(ANM_DT_I32, 1, two, VALUES_INTS, "\1\2\3", 3, format, "more values");
    const_refused(ANM_DT_I32, 1, two, VALUES_INTS, "\1\x80", 2, format, "broken protobuf");
    const_refused(ANM_DT_I32, 1, two, VALUES_FLOATS, "12341234", 8, format, "not of its type");
    const_refused(ANM_DT_I8, 1, two, VALUES_INTS, "\1\x80\1", 3, format, "does not fit");
    const_refused(ANM_DT_F32, 1, two, VALUES_FLOATS, "12341234", 8, 0, "");
    const_refused(ANM_DT_F32, 1, two, VALUES_FLOATS, "123412", 6, format, "broken protobuf");
    const_refused(ANM_DT_F16, 1, two, VALUES_BYTES, "123", 3, format, "not as many");
    const_refused(ANM_DT_BOOL, 1, two, VALUES_BOOLS, "\1\0", 2, 0, "");
    const_refused(ANM_DT_STRING, 0, NULL, VALUES_STRINGS, "fp16", 4, 0, "");
    const_refused(ANM_DT_STRING, 1, two, VALUES_STRINGS, "fp16", 4, ANM_ERR_UNSUPPORTED, "tensor of strings");
    const_refused(ANM_DT_STRING, 0, NULL, VALUES_BYTES, "fp16", 4, format, "not of its type");
    const_refused(ANM_DT_I32, 0, NULL, 0, "", 0, format, "no value");
    const_refused(ANM_DT_I32, 2, huge, VALUES_INTS, "\1", 1, format, "impossible shape");
    const_refused(ANM_DT_I32, 1, many, VALUES_INTS, "\1", 1, format, "fewer values"); /* and takes no 4 GiB to say so */
}

static void test_malformed_operations(void **state)
{
    (void)state;
    anm_buf op = {0};
    graph_refused(&op, "x", 0, "");
    graph_refused(&op, "y", ANM_ERR_FORMAT, "'y' is used before it is made");
    anm_pb_put_string(&op, OPERATION_TYPE, "");
    graph_refused(&op, "x", ANM_ERR_FORMAT, "no type");
    op.size = 0;
    anm_pb_put_string(&op, OPERATION_TYPE, "silu");
    anm_pb_put_bytes(&op, OPERATION_BLOCKS, "", 0);
    graph_refused(&op, "x", ANM_ERR_UNSUPPORTED, "silu: it has blocks inside");
    op.size = 0;
    anm_pb_put_string(&op, OPERATION_TYPE, "silu");
    size_t name = anm_pb_open(&op, OPERATION_ATTRIBUTES);
    anm_pb_put_string(&op, MAP_KEY, "name");
    anm_pb_close(&op, name);
    graph_refused(&op, "x", ANM_ERR_FORMAT, "silu: a value has no type");
    op.size = 0;
    anm_pb_put_string(&op, OPERATION_TYPE, "const");
    graph_refused(&op, "x", ANM_ERR_FORMAT, "no result");
    op.size = 0;
    anm_pb_put_string(&op, OPERATION_TYPE, "silu");
    size_t out = anm_pb_open(&op, OPERATION_OUTPUTS);
    anm_pb_put_string(&op, NAMED_NAME, "x");
    put_type(&op, NAMED_TYPE, ANM_DT_F16, 0, NULL);
    anm_pb_close(&op, out);
    graph_refused(&op, "x", ANM_ERR_FORMAT, "two values are called 'x'");
    for (int known = 0; known < 2; known++) {
        op.size = 0;
        anm_pb_put_string(&op, OPERATION_TYPE, "silu");
        for (int i = 0; i < 1 + known; i++) {
            size_t entry = anm_pb_open(&op, OPERATION_INPUTS);
            anm_pb_put_string(&op, MAP_KEY, known ? "x" : "unheard_of");
            size_t arg = anm_pb_open(&op, MAP_VALUE), binding = anm_pb_open(&op, ARGUMENT_BINDINGS);
            anm_pb_put_string(&op, BINDING_NAME, "x");
            anm_pb_close(&op, binding);
            anm_pb_close(&op, arg);
            anm_pb_close(&op, entry);
        }
        graph_refused(&op, "x", known ? ANM_ERR_FORMAT : ANM_ERR_UNSUPPORTED, known ? "binds a parameter twice" : "'unheard_of'");
    }
    anm_buf_free(&op);
}

/* add(x, 1) with the 1 written where it is used, and a result whose name is the one that such a constant would get. */
static void test_constants_in_place_are_named(void **state)
{
    (void)state;
    static const char *const params[] = {"x", "y"};
    anm_buf op = {0}, b = {0};
    anm_mil_program p;
    anm_error err = {0};
    anm_pb_put_string(&op, OPERATION_TYPE, "add");
    for (int i = 0; i < 2; i++) {
        size_t entry = anm_pb_open(&op, OPERATION_INPUTS);
        anm_pb_put_string(&op, MAP_KEY, params[i]);
        size_t arg = anm_pb_open(&op, MAP_VALUE), binding = anm_pb_open(&op, ARGUMENT_BINDINGS);
        if (i) {
            size_t value = anm_pb_open(&op, BINDING_VALUE);
            put_type(&op, VALUE_TYPE, ANM_DT_F16, 0, NULL);
            size_t imm = anm_pb_open(&op, VALUE_IMMEDIATE), tensor = anm_pb_open(&op, IMMEDIATE_TENSOR), list = anm_pb_open(&op, VALUES_BYTES);
            anm_pb_put_bytes(&op, REPEATED_VALUES, "\0\x3c", 2);
            anm_pb_close(&op, list);
            anm_pb_close(&op, tensor);
            anm_pb_close(&op, imm);
            anm_pb_close(&op, value);
        } else anm_pb_put_string(&op, BINDING_NAME, "x");
        anm_pb_close(&op, binding);
        anm_pb_close(&op, arg);
        anm_pb_close(&op, entry);
    }
    size_t out = anm_pb_open(&op, OPERATION_OUTPUTS);
    anm_pb_put_string(&op, NAMED_NAME, "v1");
    put_type(&op, NAMED_TYPE, ANM_DT_F16, 0, NULL);
    anm_pb_close(&op, out);
    if (read_graph(&p, &b, &op, "v1", &err) || anm_mil_verify(&p, true, &err)) fail_msg("%s", err.text);
    anm_mil_function *fn = p.functions;
    anm_mil_value *one = anm_mil_arg_of(fn->first, ANM_P_Y);
    assert_int_equal(one->id, 1);
    assert_string_equal(one->name, "v1_1");
    /* The reader's word for the names holds until another value is made. */
    assert_true(fn->distinct);
    one->name = "v1";
    assert_int_equal(anm_mil_verify(&p, true, &err), 0);
    assert_non_null(anm_mil_value_new(fn, "v2", anm_mil_scalar(ANM_DT_F16)));
    assert_int_equal(anm_mil_verify(&p, true, &err), ANM_ERR_FORMAT);
    assert_non_null(strstr(err.text, "two values are named %v1"));
    anm_mil_program_free(&p);
    anm_buf_free(&b);
    anm_buf_free(&op);
}

static void test_malformed_weights(void **state)
{
    (void)state;
    anm_arena arena;
    anm_weights *w;
    anm_error err = {0};
    anm_layout l = {0};
    uint64_t offset;
    uint8_t data[15] = {1};
    anm_mil_type type = anm_mil_tensor(ANM_DT_U8, 1, (int64_t[]){15}), odd = anm_mil_tensor(ANM_DT_I4, 1, (int64_t[]){29});
    anm_mil_type f16 = anm_mil_tensor(ANM_DT_F16, 1, (int64_t[]){15}), long8 = anm_mil_tensor(ANM_DT_U8, 1, (int64_t[]){16});
    anm_blob b = {.data = data, .size = 15}, found;
    anm_arena_init(&arena);
    assert_int_equal(anm_weights_new(&w, &arena, &err), 0);
    assert_int_equal(anm_weights_add(&offset, w, &type, &b, &err), 0);
    assert_int_equal(offset, 64);
    assert_int_equal(anm_weights_add(&offset, w, &odd, &b, &err), 0); /* other type, same bytes: another blob */
    assert_int_equal(offset, 64 + 64 + 64);
    assert_int_equal(anm_weights_finish(&l, w, &err), 0);
    bytes f = flatten(&l);
    assert_int_equal(anm_weights_find(&found, f.data, f.size, 64, &type, &err), 0);
    assert_int_equal(anm_weights_find(&found, f.data, f.size, 192, &odd, &err), 0);
    assert_int_equal(anm_ld64(f.data + 192 + 24), 4); /* unused bits of an odd number of nibbles */
    const struct {
        size_t at;
        uint64_t value, offset;
        const anm_mil_type *type;
        const char *words;
    } cases[] = {
        {4, 3, 64, &type, "version"},          {64, 7, 64, &type, "no blob at 64"},        {0, 2, 32, &type, "no blob can be at 32"},
        {0, 2, 0, &type, "no blob can be"},    {0, 2, 1 << 20, &type, "no blob can be"},   {0, 2, UINT64_MAX - 63, &type, "no blob can be"},
        {72, 1000, 64, &type, "beyond"},       {80, 100, 64, &type, "beyond"},             {80, UINT64_MAX - 63, 64, &type, "beyond"},
        {0, 2, 64, &f16, "not of the type"},   {0, 2, 64, &long8, "not of the shape"},     {216, 0, 192, &odd, "unused bits"},
        {88, 4, 64, &type, "unused bits"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint8_t keep[8];
        unsigned n = cases[i].at < 72 ? 4 : 8;
        memcpy(keep, f.data + cases[i].at, n);
        for (unsigned k = 0; k < n; k++) f.data[cases[i].at + k] = (uint8_t)(cases[i].value >> 8 * k);
        int rc = anm_weights_find(&found, f.data, f.size, cases[i].offset, cases[i].type, &err);
        memcpy(f.data + cases[i].at, keep, n);
        if (rc != ANM_ERR_FORMAT || !strstr(err.text, cases[i].words)) fail_msg("case %zu: wanted '%s', got %d '%s'", i, cases[i].words, rc, err.text);
    }
    free(f.data);
    anm_layout_free(&l);
    anm_weights_free(w);
    anm_arena_free(&arena);
}

static void test_references(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int code;
        const char *words;
    } cases[] = {
        {"CMJR{\"version\": 1, \"key\": \"k\", \"functionName\": \"f\"}", 0, ""},
        {"CMJR{\"version\": 2, \"key\": \"k\", \"functionName\": \"f\"}", ANM_ERR_UNSUPPORTED, "version"},
        {"CMJR{\"version\": 1, \"key\": \"k\"}", ANM_ERR_FORMAT, "names no data or no function"},
        {"CMJR{", ANM_ERR_FORMAT, "no JSON"},
        {"CMJR", ANM_ERR_FORMAT, "no JSON"},
    };
    anm_arena arena;
    anm_reference r;
    anm_arena_init(&arena);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        anm_error err = {0};
        assert_int_equal(anm_reference_read(&r, (const uint8_t *)cases[i].text, strlen(cases[i].text), &arena, &err), cases[i].code);
        assert_non_null(strstr(err.text, cases[i].words));
        if (!cases[i].code) assert_string_equal(r.key, "k");
    }
    assert_int_equal(anm_reference_read(&r, (const uint8_t *)"a package", 9, &arena, NULL), 0);
    assert_null(r.key);
    anm_arena_free(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_functions_share_weights),
        cmocka_unit_test(test_weights_made_later),
        cmocka_unit_test(test_every_constant),
        cmocka_unit_test(test_unknown_dimension_and_foreign_op),
        cmocka_unit_test(test_directory_cut_short),
        cmocka_unit_test(test_model_cut_short),
        cmocka_unit_test(test_spoilt),
        cmocka_unit_test(test_malformed_listing),
        cmocka_unit_test(test_malformed_constants),
        cmocka_unit_test(test_malformed_operations),
        cmocka_unit_test(test_constants_in_place_are_named),
        cmocka_unit_test(test_malformed_weights),
        cmocka_unit_test(test_references),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
