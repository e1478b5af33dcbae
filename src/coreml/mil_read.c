/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * MIL programs from protobuf. `const` ops are folded into constant values; constexpr ops stay ops; an op that ops.def
 * does not have becomes ANM_OP_FOREIGN with the arguments that it names. Nothing is copied that can be pointed to.
 */
#include "base/hash.h"
#include "coreml/fields.h"
#include "coreml/mil_pb.h"

#include <stdio.h>
#include <stdlib.h>

#define uthash_fatal(msg) abort() /* never reached: the non-fatal form is asked for */
#define HASH_NONFATAL_OOM 1
#define uthash_nonfatal_oom(elt) ((elt)->lost = true)
#define HASH_FUNCTION(key, len, hash) (hash) = (unsigned)anm_hash(key, len, (uintptr_t)&anm_mil_pb_read)
#include <uthash.h>

enum { MAX_FUNCTIONS = 256, MAX_PARAMETERS = 64 };

typedef struct entry { /* a name that is defined so far */
    UT_hash_handle hh;
    anm_mil_value *value;
    bool lost;
} entry;

typedef struct reader {
    anm_mil_program *p;
    anm_mil_function *fn;
    anm_mil_builder build;
    entry *names;
    const uint8_t *weights;
    uint64_t weights_size;
    const char *op; /* the type of the op being read, or NULL */
    anm_arena scratch; /* arguments on their way into the graph */
    anm_error *err;
} reader;

static int fail(const reader *r, int code, const char *what)
{
    return anm_fail(r->err, code, "graph: %s%s%s%s%s", r->fn ? r->fn->name : "", r->fn ? ": " : "",
                    r->op ? r->op : "", r->op ? ": " : "", what);
}

static int format(const reader *r, const char *what)
{
    return fail(r, ANM_ERR_FORMAT, what);
}

static int broken(const reader *r)
{
    return format(r, "broken protobuf");
}

static int no_memory(const reader *r)
{
    return anm_fail_memory(r->err, "a graph");
}

/* A string field as a C string in the arena. */
static int read_string(reader *r, anm_arena *arena, const anm_pb_field *f, const char **out)
{
    size_t n = anm_pb_size(&f->bytes);
    if (f->type != ANM_PB_BYTES) return broken(r);
    if (memchr(f->bytes.p, 0, n)) return format(r, "a name holds a zero byte");
    *out = anm_arena_strndup(arena, (const char *)f->bytes.p, n);
    return *out ? 0 : no_memory(r);
}

/* Splits a map's entry. A missing value is an empty one. */
static int read_entry(reader *r, const anm_pb_field *f, const char **key, anm_pb *value)
{
    anm_pb m = f->bytes;
    anm_pb_field g;
    int rc;
    if (f->type != ANM_PB_BYTES) return broken(r);
    *key = "";
    *value = anm_pb_of(m.end, 0);
    while (anm_pb_next(&m, &g)) {
        if (g.number == MAP_KEY && (rc = read_string(r, &r->scratch, &g, key))) return rc;
        if (g.number == MAP_VALUE) {
            if (g.type != ANM_PB_BYTES) return broken(r);
            *value = g.bytes;
        }
    }
    return m.bad ? broken(r) : 0;
}

/* ---- types ---- */

static int read_dimension(reader *r, anm_pb m, int64_t *out)
{
    anm_pb_field f, g;
    bool known = false, unknown = false;
    *out = 0;
    while (anm_pb_next(&m, &f)) {
        if (f.type != ANM_PB_BYTES) return broken(r);
        anm_pb inner = f.bytes;
        if (f.number == DIMENSION_CONSTANT) known = true;
        if (f.number == DIMENSION_UNKNOWN) unknown = true;
        while (anm_pb_next(&inner, &g)) {
            if (g.type != ANM_PB_VARINT) return broken(r);
            if (f.number == DIMENSION_CONSTANT && g.number == CONSTANT_SIZE) {
                if (g.value > INT64_MAX) return format(r, "a dimension is too large");
                *out = (int64_t)g.value;
            }
            if (f.number == DIMENSION_UNKNOWN && g.number == UNKNOWN_VARIADIC && g.value)
                return fail(r, ANM_ERR_UNSUPPORTED, "a type has any number of dimensions");
        }
        if (inner.bad) return broken(r);
    }
    if (m.bad) return broken(r);
    if (known == unknown) return format(r, "a dimension is neither known nor unknown");
    if (unknown) *out = ANM_MIL_UNKNOWN_DIM;
    return 0;
}

static int read_type(reader *r, anm_pb m, anm_mil_type *out)
{
    anm_pb tensor = {0};
    anm_pb_field f;
    int rc;
    *out = (anm_mil_type){0};
    while (anm_pb_next(&m, &f)) {
        if (f.type != ANM_PB_BYTES) return broken(r);
        if (f.number != TYPE_TENSOR) return fail(r, ANM_ERR_UNSUPPORTED, "a value is a list, a tuple, a dictionary or a state, and not a tensor");
        tensor = f.bytes;
    }
    if (m.bad) return broken(r);
    if (!tensor.p) return format(r, "a value has no type");
    uint64_t dtype = 0, rank = 0;
    while (anm_pb_next(&tensor, &f)) {
        if (f.number == TENSOR_DTYPE && f.type == ANM_PB_VARINT) dtype = f.value;
        else if (f.number == TENSOR_RANK && f.type == ANM_PB_VARINT) rank = f.value;
        else if (f.number == TENSOR_DIMENSIONS && f.type == ANM_PB_BYTES) {
            if (out->rank == ANM_MIL_MAX_RANK) return fail(r, ANM_ERR_UNSUPPORTED, "a tensor has more than 8 dimensions");
            if ((rc = read_dimension(r, f.bytes, &out->dim[out->rank++]))) return rc;
        }
    }
    if (tensor.bad) return broken(r);
    if (rank != (uint64_t)out->rank) return format(r, "a tensor's rank is not the number of its dimensions");
    out->dtype = anm_coreml_dtype_of(dtype);
    if (!out->dtype) return fail(r, ANM_ERR_UNSUPPORTED, "a tensor has an element type that is not known here");
    return 0;
}

static int read_named_type(reader *r, const anm_pb_field *f, const char **name, anm_mil_type *type)
{
    anm_pb m = f->bytes, t = {0};
    anm_pb_field g;
    int rc;
    if (f->type != ANM_PB_BYTES) return broken(r);
    *name = "";
    while (anm_pb_next(&m, &g)) {
        if (g.type != ANM_PB_BYTES) return broken(r);
        if (g.number == NAMED_NAME && (rc = read_string(r, &r->scratch, &g, name))) return rc;
        if (g.number == NAMED_TYPE) t = g.bytes;
    }
    if (m.bad) return broken(r);
    if (!**name) return format(r, "a value has no name");
    return read_type(r, t, type);
}

/* ---- constants ---- */

/* How the elements of a type may be written as an immediate value, and their size in memory. */
static unsigned immediate_kind(anm_dtype t)
{
    switch (t) {
    case ANM_DT_BOOL: return VALUES_BOOLS;
    case ANM_DT_F32: return VALUES_FLOATS;
    case ANM_DT_F64: return VALUES_DOUBLES;
    case ANM_DT_I64:
    case ANM_DT_U64: return VALUES_LONGS;
    case ANM_DT_I8:
    case ANM_DT_U8:
    case ANM_DT_I16:
    case ANM_DT_U16:
    case ANM_DT_I32:
    case ANM_DT_U32: return VALUES_INTS;
    default: return VALUES_BYTES;
    }
}

/* Numbers written one by one or packed: varints of ints and bools, or fixed-size floats, into size bytes of `out`. */
static int read_numbers(reader *r, anm_pb m, anm_dtype t, uint8_t *out, uint64_t size)
{
    unsigned w = anm_dtype_bytes(t);
    bool fixed = anm_dtype_class(t) == 'f', is_signed = anm_dtype_class(t) == 'i';
    int fixed_type = w == 4 ? ANM_PB_FIXED32 : ANM_PB_FIXED64;
    uint64_t at = 0;
    anm_pb_field f;
    while (anm_pb_next(&m, &f)) {
        if (f.number != REPEATED_VALUES) continue;
        bool packed = f.type == ANM_PB_BYTES;
        if (!packed && f.type != (fixed ? fixed_type : ANM_PB_VARINT)) return broken(r);
        do {
            uint64_t v = f.value;
            if (packed && !anm_pb_size(&f.bytes)) break;
            if (packed && fixed) {
                if (anm_pb_size(&f.bytes) < w) return broken(r);
                v = w == 4 ? anm_ld32(f.bytes.p) : anm_ld64(f.bytes.p);
                f.bytes.p += w;
            } else if (packed && !anm_pb_varint(&f.bytes, &v)) return broken(r);
            if (!anm_inside(at, w, size)) return format(r, "a constant has more values than its type");
            if (!fixed && w < 8) {
                int64_t s = (int64_t)v, top = (int64_t)1 << (8 * w - is_signed);
                if (t == ANM_DT_BOOL) v = v != 0;
                else if (w == 4 && !is_signed) v &= UINT32_MAX; /* written through a signed field */
                else if (s >= top || s < (is_signed ? -top : 0)) return format(r, "a constant's value does not fit its type");
            }
            for (unsigned k = 0; k < w; k++) out[at + k] = (uint8_t)(v >> 8 * k);
            at += w;
        } while (packed);
    }
    if (m.bad) return broken(r);
    return at == size ? 0 : format(r, "a constant has fewer values than its type");
}

static int read_one_string(reader *r, anm_pb m, const anm_mil_type *type, anm_blob *out)
{
    anm_pb_field f;
    unsigned n = 0;
    if (type->rank) return fail(r, ANM_ERR_UNSUPPORTED, "a tensor of strings");
    while (anm_pb_next(&m, &f)) {
        if (f.number != REPEATED_VALUES) continue;
        if (f.type != ANM_PB_BYTES) return broken(r);
        out->data = f.bytes.p;
        out->size = anm_pb_size(&f.bytes);
        n++;
    }
    if (m.bad) return broken(r);
    return n == 1 ? 0 : format(r, "a constant string is not one string");
}

/* Bytes of a constant of that type, by the values in a TensorValue message. */
static int read_immediate(reader *r, anm_pb m, const anm_mil_type *type, anm_blob *out)
{
    anm_pb values = {0};
    anm_pb_field f;
    uint32_t kind = 0;
    int64_t count;
    while (anm_pb_next(&m, &f)) {
        if (f.type != ANM_PB_BYTES) return broken(r);
        if (f.number > VALUES_BYTES) continue;
        kind = f.number;
        values = f.bytes;
    }
    if (m.bad) return broken(r);
    if (!kind) return format(r, "a constant has no value");
    if (type->dtype == ANM_DT_STRING) {
        if (kind != VALUES_STRINGS) return format(r, "a constant's value is not of its type");
        return read_one_string(r, values, type, out);
    }
    if (!anm_mil_type_count(type, &count) || !anm_dtype_size(type->dtype, (uint64_t)count, &out->size))
        return format(r, "a constant has an impossible shape");
    if (kind == VALUES_BYTES) {
        anm_pb raw = anm_pb_of(values.p, 0);
        while (anm_pb_next(&values, &f)) {
            if (f.number != REPEATED_VALUES) continue;
            if (f.type != ANM_PB_BYTES) return broken(r);
            raw = f.bytes;
        }
        if (values.bad) return broken(r);
        if (anm_pb_size(&raw) != out->size) return format(r, "a constant's bytes are not as many as its type says");
        out->data = raw.p;
        return 0;
    }
    if (kind != immediate_kind(type->dtype)) return format(r, "a constant's value is not of its type");
    if (out->size / 16 > anm_pb_size(&values)) return format(r, "a constant has fewer values than its type"); /* a value takes a byte at least */
    uint8_t *data = anm_arena_alloc(&r->p->arena, (size_t)out->size + 1);
    if (!data) return no_memory(r);
    out->data = data;
    return read_numbers(r, values, type->dtype, data, out->size);
}

static int read_blob(reader *r, anm_pb m, const anm_mil_type *type, anm_blob *out)
{
    static const char name[] = ANM_WEIGHT_FILE;
    anm_pb_field f;
    uint64_t offset = 0;
    bool named = false;
    while (anm_pb_next(&m, &f)) {
        if (f.number == BLOB_OFFSET && f.type == ANM_PB_VARINT) offset = f.value;
        if (f.number == BLOB_FILE && f.type == ANM_PB_BYTES)
            named = anm_pb_size(&f.bytes) == sizeof name - 1 && memcmp(f.bytes.p, name, sizeof name - 1) == 0;
    }
    if (m.bad) return broken(r);
    if (!named) return fail(r, ANM_ERR_UNSUPPORTED, "a constant lies in a file that is not weights/weight.bin");
    return anm_weights_find(out, r->weights, r->weights_size, offset, type, r->err);
}

/* A Value message: its type and bytes. */
static int parse_value(reader *r, anm_pb m, anm_mil_type *type, anm_blob *blob)
{
    anm_pb type_pb = {0}, immediate = {0}, file = {0}, tensor = {0};
    anm_pb_field f;
    int rc;
    while (anm_pb_next(&m, &f)) {
        if (f.type != ANM_PB_BYTES) return broken(r);
        if (f.number == VALUE_TYPE) type_pb = f.bytes;
        if (f.number == VALUE_IMMEDIATE) immediate = f.bytes;
        if (f.number == VALUE_BLOB) file = f.bytes;
    }
    if (m.bad) return broken(r);
    if ((rc = read_type(r, type_pb, type))) return rc;
    if (!immediate.p == !file.p) return format(r, "a constant has no value, or two");
    if (file.p) return read_blob(r, file, type, blob);
    while (anm_pb_next(&immediate, &f)) {
        if (f.number != IMMEDIATE_TENSOR || f.type != ANM_PB_BYTES) return fail(r, ANM_ERR_UNSUPPORTED, "a constant is no tensor");
        tensor = f.bytes;
    }
    if (immediate.bad) return broken(r);
    if (!tensor.p) return format(r, "a constant has no value");
    return read_immediate(r, tensor, type, blob);
}

/* … as a constant of the function. NULL: its name comes when all others are known. */
static int read_value(reader *r, anm_pb m, const char *name, anm_mil_value **out)
{
    anm_mil_type type;
    anm_blob *blob = anm_arena_alloc(&r->p->arena, sizeof *blob);
    if (!blob) return no_memory(r);
    int rc = parse_value(r, m, &type, blob);
    if (rc) return rc;
    *out = name ? anm_mil_value_new(r->fn, name, type) : anm_mil_value_unnamed(r->fn, type);
    if (!*out) return no_memory(r);
    (*out)->constant = blob;
    return 0;
}

/* ---- names ---- */

static anm_mil_value *find(reader *r, const char *name)
{
    entry *e;
    HASH_FIND(hh, r->names, name, strlen(name), e);
    return e ? e->value : NULL;
}

static int define(reader *r, anm_mil_value *v)
{
    if (find(r, v->name)) return anm_fail(r->err, ANM_ERR_FORMAT, "graph: %s: two values are called '%.100s'", r->fn->name, v->name);
    entry *e = anm_arena_alloc(&r->scratch, sizeof *e);
    if (!e) return no_memory(r);
    e->value = v;
    HASH_ADD_KEYPTR(hh, r->names, v->name, strlen(v->name), e);
    return e->lost ? no_memory(r) : 0;
}

static int resolve(reader *r, const anm_pb_field *f, anm_mil_value **out)
{
    const char *name;
    int rc = read_string(r, &r->scratch, f, &name);
    if (rc) return rc;
    *out = find(r, name);
    if (!*out) return anm_fail(r->err, ANM_ERR_FORMAT, "graph: %s: '%.100s' is used before it is made", r->fn->name, name);
    return 0;
}

/* Names a constant that was written where it is used "v" and its id, and a number where that is another's name. */
static int name_constant(reader *r, anm_mil_value *v)
{
    char made[32];
    int n = snprintf(made, sizeof made, "v%lu", (unsigned long)v->id);
    for (unsigned long k = 1; find(r, made); k++)
        snprintf(made + n, sizeof made - (size_t)n, "_%lu", k);
    v->name = anm_arena_strdup(&r->p->arena, made);
    return v->name ? 0 : no_memory(r);
}

/* After this no two values of the function have one name: `define` has seen all that came with one. */
static int name_constants(reader *r)
{
    int rc;
    for (const anm_mil_op *op = r->fn->first; op; op = op->next)
        for (uint32_t a = 0; a < op->n_args; a++)
            for (uint32_t i = 0; i < op->args[a].count; i++) {
                anm_mil_value *v = op->args[a].value[i];
                if (!v->name && (rc = name_constant(r, v))) return rc;
            }
    r->fn->distinct = true;
    return 0;
}

/* ---- operations ---- */

static uint32_t count_fields(anm_pb m, uint32_t number)
{
    anm_pb_field f;
    uint32_t n = 0;
    while (anm_pb_next(&m, &f)) n += f.number == number;
    return n;
}

static int read_binding(reader *r, anm_pb m, anm_mil_value **out)
{
    anm_pb_field f;
    int rc;
    *out = NULL;
    while (anm_pb_next(&m, &f)) {
        if (f.type != ANM_PB_BYTES || *out) return broken(r);
        if (f.number == BINDING_NAME) rc = resolve(r, &f, out);
        else if (f.number == BINDING_VALUE) rc = read_value(r, f.bytes, NULL, out);
        else return broken(r);
        if (rc) return rc;
    }
    if (m.bad) return broken(r);
    return *out ? 0 : format(r, "an argument is bound to nothing");
}

static int read_arg(reader *r, const anm_pb_field *f, anm_mil_arg *out)
{
    const char *key;
    anm_pb argument;
    anm_pb_field g;
    int rc = read_entry(r, f, &key, &argument);
    if (rc) return rc;
    out->param = anm_mil_param_of_name(key);
    if (!out->param) out->foreign = key;
    uint32_t n = count_fields(argument, ARGUMENT_BINDINGS);
    out->value = anm_arena_array(&r->scratch, n, sizeof *out->value);
    if (!out->value) return no_memory(r);
    while (anm_pb_next(&argument, &g)) {
        if (g.number != ARGUMENT_BINDINGS) continue;
        if (g.type != ANM_PB_BYTES) return broken(r);
        if ((rc = read_binding(r, g.bytes, &out->value[out->count]))) return rc;
        out->count++;
    }
    if (argument.bad) return broken(r);
    return out->count ? 0 : format(r, "an argument is bound to nothing");
}

/* A const op's `val`; some foreign ops have arguments among their attributes. `name`, which every op has, is only looked
 * at: results have names of their own. */
static int read_attribute(reader *r, const anm_pb_field *f, const char *value_name, anm_mil_arg *out)
{
    const char *key;
    anm_pb value;
    int rc = read_entry(r, f, &key, &value);
    if (rc) return rc;
    if (strcmp(key, "name") == 0) {
        anm_mil_type type;
        anm_blob text;
        rc = parse_value(r, value, &type, &text);
        return rc || type.dtype == ANM_DT_STRING ? rc : format(r, "its name is no string");
    }
    out->param = anm_mil_param_of_name(key);
    out->foreign = key;
    out->value = anm_arena_array(&r->scratch, 1, sizeof *out->value);
    if (!out->value) return no_memory(r);
    if ((rc = read_value(r, value, value_name, out->value))) return rc;
    out->count = 1;
    return 0;
}

/* A const op: its value, under the name of its one result. */
static int read_const(reader *r, anm_pb m)
{
    anm_pb_field f, result = {0}, attribute[2];
    anm_mil_type type;
    unsigned n = 0;
    const char *name;
    int rc;
    while (anm_pb_next(&m, &f)) {
        if (f.number == OPERATION_OUTPUTS) {
            if (result.number) return format(r, "it has more than one result");
            result = f;
        } else if (f.number == OPERATION_ATTRIBUTES) {
            if (n == 2) return format(r, "it has attributes besides name and val");
            attribute[n++] = f;
        } else if (f.number != OPERATION_TYPE) return format(r, "it has arguments or blocks");
    }
    if (!result.number) return format(r, "it has no result");
    if ((rc = read_named_type(r, &result, &name, &type))) return rc;
    anm_mil_arg val = {0};
    for (unsigned i = 0; i < n; i++) {
        anm_mil_arg one = {0};
        if ((rc = read_attribute(r, &attribute[i], name, &one))) return rc;
        if (!one.count) continue;
        if (strcmp(one.foreign, "val")) return format(r, "it has attributes besides name and val");
        val = one;
    }
    if (!val.count) return format(r, "it has no val");
    if (!anm_mil_type_equal(&val.value[0]->type, &type)) return format(r, "its result is not of its value's type");
    return define(r, val.value[0]);
}

static int read_operation(reader *r, anm_pb m)
{
    anm_pb_field f;
    anm_pb again = m;
    int rc;
    r->op = NULL;
    while (anm_pb_next(&again, &f))
        if (f.number == OPERATION_TYPE && (rc = read_string(r, &r->scratch, &f, &r->op))) return rc;
    if (again.bad) return broken(r);
    if (!r->op || !*r->op) return format(r, "an operation has no type");
    if (strcmp(r->op, "const") == 0) return read_const(r, m);

    uint32_t max_args = count_fields(m, OPERATION_INPUTS) + count_fields(m, OPERATION_ATTRIBUTES);
    uint32_t max_outs = count_fields(m, OPERATION_OUTPUTS), n_args = 0, n_outs = 0;
    anm_mil_arg *args = anm_arena_array(&r->scratch, max_args, sizeof *args);
    anm_mil_value **outs = anm_arena_array(&r->scratch, max_outs, sizeof *outs);
    if (!args || !outs) return no_memory(r);
    for (again = m; anm_pb_next(&again, &f);) {
        rc = 0;
        if (f.number == OPERATION_BLOCKS) rc = fail(r, ANM_ERR_UNSUPPORTED, "it has blocks inside");
        else if (f.number == OPERATION_INPUTS) rc = read_arg(r, &f, &args[n_args]);
        else if (f.number == OPERATION_ATTRIBUTES) rc = read_attribute(r, &f, NULL, &args[n_args]);
        if (rc) return rc;
        if (n_args < max_args && args[n_args].count) n_args++;
    }
    anm_mil_opcode code = anm_mil_op_of_name(r->op);
    for (uint32_t i = 0; i < n_args; i++) {
        if (code != ANM_OP_FOREIGN && !args[i].param)
            return anm_fail(r->err, ANM_ERR_UNSUPPORTED, "graph: %s: %s has a parameter '%.60s' that is not known here", r->fn->name, r->op, args[i].foreign);
        for (uint32_t k = 0; k < i; k++)
            if (args[k].param == args[i].param && (args[i].param || strcmp(args[k].foreign, args[i].foreign) == 0))
                return format(r, "it binds a parameter twice");
        if (args[i].param) args[i].foreign = NULL;
        if (i == MAX_PARAMETERS) return fail(r, ANM_ERR_UNSUPPORTED, "it has more parameters than any op");
    }
    for (again = m; anm_pb_next(&again, &f);) {
        if (f.number != OPERATION_OUTPUTS) continue;
        const char *name;
        anm_mil_type type;
        if ((rc = read_named_type(r, &f, &name, &type))) return rc;
        if (!(outs[n_outs] = anm_mil_value_new(r->fn, name, type))) return no_memory(r);
        if ((rc = define(r, outs[n_outs++]))) return rc;
    }
    return anm_mil_append(r->fn, NULL, code, code == ANM_OP_FOREIGN ? r->op : NULL, n_args, args, n_outs, outs) ? 0 : no_memory(r);
}

/* ---- functions ---- */

/* The block for the function's opset, or the only one. */
static int choose_block(reader *r, anm_pb m, anm_pb *block)
{
    anm_pb_field f;
    unsigned n = 0;
    bool exact = false;
    while (anm_pb_next(&m, &f)) {
        if (f.number != FUNCTION_BLOCKS) continue;
        const char *key;
        anm_pb value;
        int rc = read_entry(r, &f, &key, &value);
        if (rc) return rc;
        bool fits = strcmp(key, r->fn->opset) == 0;
        if (!n++ || (fits && !exact)) *block = value;
        exact = exact || fits;
    }
    if (m.bad) return broken(r);
    return exact || n == 1 ? 0 : format(r, "no block for its opset");
}

static int read_block(reader *r, anm_pb m)
{
    anm_pb_field f;
    int rc;
    for (anm_pb ops = m; anm_pb_next(&ops, &f);) {
        if (f.number == BLOCK_INPUTS) return format(r, "its block has inputs of its own");
        if (f.number != BLOCK_OPERATIONS) continue;
        if (f.type != ANM_PB_BYTES) return broken(r);
        if ((rc = read_operation(r, f.bytes))) return rc;
    }
    r->op = NULL;
    while (anm_pb_next(&m, &f)) {
        anm_mil_value *v;
        if (f.number != BLOCK_OUTPUTS) continue;
        if ((rc = resolve(r, &f, &v))) return rc;
        anm_mil_output(&r->build, v);
    }
    if (m.bad) return broken(r);
    return r->build.err.code ? no_memory(r) : name_constants(r);
}

static int read_function(reader *r, const char *name, anm_pb m)
{
    anm_pb_field f;
    anm_pb block = {0};
    const char *opset = "";
    int rc;
    if (!*name) return format(r, "a function has no name");
    if (anm_mil_function_find(r->p, name)) return format(r, "two functions have one name");
    for (anm_pb again = m; anm_pb_next(&again, &f);)
        if (f.number == FUNCTION_OPSET && (rc = read_string(r, &r->scratch, &f, &opset))) return rc;
    r->fn = anm_mil_function_new(r->p, name, opset);
    if (!r->fn) return no_memory(r);
    r->build = anm_mil_build(r->fn);
    for (anm_pb again = m; anm_pb_next(&again, &f);) {
        if (f.number != FUNCTION_INPUTS) continue;
        const char *input;
        anm_mil_type type;
        if ((rc = read_named_type(r, &f, &input, &type))) return rc;
        if (find(r, input)) return format(r, "two inputs have one name");
        anm_mil_value *v = anm_mil_input_new(r->fn, input, type);
        if (!v) return no_memory(r);
        if ((rc = define(r, v))) return rc;
    }
    if ((rc = choose_block(r, m, &block))) return rc;
    return read_block(r, block);
}

int anm_mil_pb_read(anm_mil_program *p, anm_pb program, const uint8_t *weights, uint64_t weights_size, anm_error *err)
{
    reader r = {.p = p, .weights = weights, .weights_size = weights_size, .err = err};
    anm_pb_field f;
    int rc = 0, functions = 0;
    anm_arena_init(&r.scratch);
    r.scratch.limit = p->arena.limit;
    while (!rc && anm_pb_next(&program, &f)) {
        if (f.number == PROGRAM_VERSION && f.type == ANM_PB_VARINT && f.value != 1)
            rc = fail(&r, ANM_ERR_UNSUPPORTED, "a version that is not 1");
        if (f.number != PROGRAM_FUNCTIONS) continue;
        const char *name;
        anm_pb function;
        r.fn = NULL;
        if (++functions > MAX_FUNCTIONS) rc = fail(&r, ANM_ERR_UNSUPPORTED, "more functions than any package has");
        else rc = read_entry(&r, &f, &name, &function);
        if (!rc) rc = read_function(&r, name, function);
        HASH_CLEAR(hh, r.names);
    }
    if (!rc && program.bad) rc = broken(&r);
    r.fn = NULL;
    if (!rc && !p->functions) rc = format(&r, "it has no function");
    HASH_CLEAR(hh, r.names);
    anm_arena_free(&r.scratch);
    return rc;
}
