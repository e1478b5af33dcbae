/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * MIL programs as protobuf. A constant becomes a `const` op before its first use, but arguments of constexpr ops hold
 * their constants themselves. As in coremltools (converters/mil/backend/mil/load.py), constants of ten elements or
 * more, of the types that the weight file knows, lie there, and the rest in the graph.
 */
#include "coreml/fields.h"
#include "coreml/mil_pb.h"

#include <string.h>

enum { IN_FILE_FROM = 10 };

typedef struct writer {
    anm_buf *b;
    anm_weights *w;
    const anm_mil_function *fn;
    uint8_t *done; /* by value id: its const op is written */
    anm_arena scratch;
    anm_error *err;
} writer;

void anm_mil_pb_write_type(anm_buf *b, const anm_mil_type *t)
{
    size_t tensor = anm_pb_open(b, TYPE_TENSOR);
    anm_pb_put_int(b, TENSOR_DTYPE, anm_coreml_dtype(t->dtype));
    if (t->rank) anm_pb_put_int(b, TENSOR_RANK, (uint64_t)t->rank);
    for (int i = 0; i < t->rank; i++) {
        size_t dim = anm_pb_open(b, TENSOR_DIMENSIONS);
        bool unknown = t->dim[i] == ANM_MIL_UNKNOWN_DIM;
        size_t inner = anm_pb_open(b, unknown ? DIMENSION_UNKNOWN : DIMENSION_CONSTANT);
        if (!unknown && t->dim[i]) anm_pb_put_int(b, CONSTANT_SIZE, (uint64_t)t->dim[i]);
        anm_pb_close(b, inner);
        anm_pb_close(b, dim);
    }
    anm_pb_close(b, tensor);
}

static void put_named_type(anm_buf *b, uint32_t field, const anm_mil_value *v)
{
    size_t named = anm_pb_open(b, field);
    anm_pb_put_string(b, NAMED_NAME, v->name);
    size_t type = anm_pb_open(b, NAMED_TYPE);
    anm_mil_pb_write_type(b, &v->type);
    anm_pb_close(b, type);
    anm_pb_close(b, named);
}

static bool belongs_in_file(const anm_mil_type *t)
{
    int64_t count;
    return anm_mil_type_count(t, &count) && count >= IN_FILE_FROM && t->dtype != ANM_DT_BF16 && anm_coreml_blob_dtype(t->dtype);
}

/* The field of TensorValue in which elements of this type stand. */
static uint32_t immediate_field(anm_dtype t)
{
    switch (t) {
    case ANM_DT_BOOL: return VALUES_BOOLS;
    case ANM_DT_STRING: return VALUES_STRINGS;
    case ANM_DT_I16:
    case ANM_DT_U16:
    case ANM_DT_I32: return VALUES_INTS;
    case ANM_DT_I64:
    case ANM_DT_U64: return VALUES_LONGS;
    case ANM_DT_F32: return VALUES_FLOATS;
    case ANM_DT_F64: return VALUES_DOUBLES;
    default: return VALUES_BYTES; /* fp16, 8 bits and less, uint32 */
    }
}

static void put_immediate(anm_buf *b, const anm_mil_type *t, const anm_blob *blob)
{
    uint32_t field = immediate_field(t->dtype);
    unsigned w = anm_dtype_bytes(t->dtype);
    const uint8_t *p = blob->data;
    size_t immediate = anm_pb_open(b, VALUE_IMMEDIATE), tensor = anm_pb_open(b, IMMEDIATE_TENSOR);
    size_t values = anm_pb_open(b, field);
    if (!blob->size && t->dtype != ANM_DT_STRING) {
        /* no elements: an empty message says of what type */
    } else if (field == VALUES_INTS || field == VALUES_LONGS || field == VALUES_BOOLS) {
        size_t packed = anm_pb_open(b, REPEATED_VALUES);
        for (uint64_t i = 0; i + w <= blob->size; i += w) {
            uint64_t v = w == 1 ? p[i] : w == 2 ? anm_ld16(p + i) : w == 4 ? anm_ld32(p + i) : anm_ld64(p + i);
            bool negative = anm_dtype_class(t->dtype) == 'i' && w < 8 && v >> (8 * w - 1);
            anm_pb_put_varint(b, negative ? v | UINT64_MAX << 8 * w : v); /* negative numbers take all 64 bits */
        }
        anm_pb_close(b, packed);
    } else anm_pb_put_bytes(b, REPEATED_VALUES, p, (size_t)blob->size); /* packed floats, raw bytes, one string */
    anm_pb_close(b, values);
    anm_pb_close(b, tensor);
    anm_pb_close(b, immediate);
}

static int put_value(writer *x, uint32_t field, const anm_mil_type *t, const anm_blob *blob)
{
    anm_buf *b = x->b;
    size_t value = anm_pb_open(b, field), type = anm_pb_open(b, VALUE_TYPE);
    anm_mil_pb_write_type(b, t);
    anm_pb_close(b, type);
    if (belongs_in_file(t)) {
        uint64_t offset;
        int rc = anm_weights_add(&offset, x->w, t, blob, x->err);
        if (rc) return rc;
        size_t file = anm_pb_open(b, VALUE_BLOB);
        anm_pb_put_string(b, BLOB_FILE, ANM_WEIGHT_FILE);
        anm_pb_put_int(b, BLOB_OFFSET, offset);
        anm_pb_close(b, file);
    } else {
        if (!blob->data && blob->size) return anm_fail(x->err, ANM_ERR_USAGE, "graph: a small constant must be at hand when it is written");
        put_immediate(b, t, blob);
    }
    anm_pb_close(b, value);
    return 0;
}

static void put_name(writer *x, const char *name)
{
    size_t entry = anm_pb_open(x->b, OPERATION_ATTRIBUTES);
    anm_pb_put_string(x->b, MAP_KEY, "name");
    anm_mil_type type = anm_mil_scalar(ANM_DT_STRING);
    anm_blob blob = {.size = strlen(name), .data = (const uint8_t *)name};
    put_value(x, MAP_VALUE, &type, &blob); /* a string: cannot fail */
    anm_pb_close(x->b, entry);
}

/* The const op of a constant, unless it is written already. */
static int put_const(writer *x, const anm_mil_value *v)
{
    if (!v->constant || x->done[v->id]) return 0;
    x->done[v->id] = 1;
    size_t op = anm_pb_open(x->b, BLOCK_OPERATIONS);
    anm_pb_put_string(x->b, OPERATION_TYPE, "const");
    put_named_type(x->b, OPERATION_OUTPUTS, v);
    put_name(x, v->name);
    size_t entry = anm_pb_open(x->b, OPERATION_ATTRIBUTES);
    anm_pb_put_string(x->b, MAP_KEY, "val");
    int rc = put_value(x, MAP_VALUE, &v->type, v->constant);
    anm_pb_close(x->b, entry);
    anm_pb_close(x->b, op);
    return rc;
}

static int put_arg(writer *x, const anm_mil_arg *arg, bool literal)
{
    int rc = 0;
    size_t entry = anm_pb_open(x->b, OPERATION_INPUTS);
    anm_pb_put_string(x->b, MAP_KEY, arg->param ? anm_mil_param_name(arg->param) : arg->foreign);
    size_t argument = anm_pb_open(x->b, MAP_VALUE);
    for (uint32_t i = 0; i < arg->count && !rc; i++) {
        const anm_mil_value *v = arg->value[i];
        size_t binding = anm_pb_open(x->b, ARGUMENT_BINDINGS);
        if (literal && v->constant) rc = put_value(x, BINDING_VALUE, &v->type, v->constant);
        else anm_pb_put_string(x->b, BINDING_NAME, v->name);
        anm_pb_close(x->b, binding);
    }
    anm_pb_close(x->b, argument);
    anm_pb_close(x->b, entry);
    return rc;
}

static int put_op(writer *x, const anm_mil_op *op)
{
    const char *type = op->code == ANM_OP_FOREIGN ? op->foreign : anm_mil_op_name(op->code);
    bool literal = strncmp(type, "constexpr_", 10) == 0;
    int rc;
    for (uint32_t a = 0; a < op->n_args && !literal; a++)
        for (uint32_t i = 0; i < op->args[a].count; i++)
            if ((rc = put_const(x, op->args[a].value[i]))) return rc;
    size_t mark = anm_pb_open(x->b, BLOCK_OPERATIONS);
    anm_pb_put_string(x->b, OPERATION_TYPE, type);
    for (uint32_t a = 0; a < op->n_args; a++)
        if ((rc = put_arg(x, &op->args[a], literal))) return rc;
    for (uint32_t i = 0; i < op->n_outs; i++) put_named_type(x->b, OPERATION_OUTPUTS, op->outs[i]);
    put_name(x, op->n_outs ? op->outs[0]->name : type);
    anm_pb_close(x->b, mark);
    return 0;
}

static int put_function(writer *x, const anm_mil_function *fn)
{
    int rc;
    x->fn = fn;
    x->done = anm_arena_alloc(&x->scratch, fn->n_values + 1u);
    if (!x->done) return anm_fail_memory(x->err, "a function");
    size_t entry = anm_pb_open(x->b, PROGRAM_FUNCTIONS);
    anm_pb_put_string(x->b, MAP_KEY, fn->name);
    size_t function = anm_pb_open(x->b, MAP_VALUE);
    for (uint32_t i = 0; i < fn->n_inputs; i++) put_named_type(x->b, FUNCTION_INPUTS, fn->inputs[i]);
    anm_pb_put_string(x->b, FUNCTION_OPSET, fn->opset);
    size_t blocks = anm_pb_open(x->b, FUNCTION_BLOCKS);
    anm_pb_put_string(x->b, MAP_KEY, fn->opset);
    size_t block = anm_pb_open(x->b, MAP_VALUE);
    for (const anm_mil_op *op = fn->first; op; op = op->next)
        if ((rc = put_op(x, op))) return rc;
    for (uint32_t i = 0; i < fn->n_outputs; i++)
        if ((rc = put_const(x, fn->outputs[i]))) return rc;
    for (uint32_t i = 0; i < fn->n_outputs; i++) anm_pb_put_string(x->b, BLOCK_OUTPUTS, fn->outputs[i]->name);
    anm_pb_close(x->b, block);
    anm_pb_close(x->b, blocks);
    anm_pb_close(x->b, function);
    anm_pb_close(x->b, entry);
    return 0;
}

int anm_mil_pb_write(anm_buf *out, const anm_mil_program *p, anm_weights *w, anm_error *err)
{
    writer x = {.b = out, .w = w, .err = err};
    int rc = 0;
    anm_arena_init(&x.scratch);
    anm_pb_put_int(out, PROGRAM_VERSION, 1);
    for (const anm_mil_function *fn = p->functions; fn && !rc; fn = fn->next) rc = put_function(&x, fn);
    anm_arena_free(&x.scratch);
    if (!rc && out->bad) rc = anm_fail_memory(err, "a graph");
    return rc;
}
