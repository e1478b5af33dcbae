/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Text to programs; the form is described in mil.h. One pass, no recursion; memory is bounded by a multiple
 * of the text's size. An error names the line and column at which the text stops making sense.
 */
#include "mil/mil.h"
#include "mil/rules.h"
#include "base/buf.h"
#include "base/bytes.h"
#include "base/half.h"

#include <errno.h>
#include <locale.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ARENA_PER_BYTE = 512, ARENA_LEAST = 1 << 20, NUMBER_MAX = 64, MAX_FUNCTIONS = 1024 };

typedef struct parser {
    const char *text;
    size_t size, at;
    anm_mil_program *program;
    anm_mil_function *fn;
    int n_functions;
    anm_buf bytes;   /* of the constant that is being read */
    anm_buf values;  /* of pointers: the values of all arguments of an op, one behind the other */
    anm_buf args;    /* of anm_mil_arg */
    anm_buf outs;    /* of pointers: an op's results */
    anm_buf unnamed; /* of pointers: inline constants, named at the function's end */
    anm_error *err;
} parser;

/* ---- errors and spaces ---- */

#define FAIL_AT(p, where, ...) fail_at(p, where, anm_fail((p)->err, ANM_ERR_FORMAT, __VA_ARGS__))
#define FAIL(p, ...) FAIL_AT(p, (p)->at, __VA_ARGS__)

/* Puts line and column (in bytes, from 1) before the error's text. */
static int fail_at(parser *p, size_t where, int code)
{
    unsigned long line = 1, column = 1;
    if (!p->err) return code;
    for (size_t i = 0; i < where && i < p->size; i++) {
        column = p->text[i] == '\n' ? 1 : column + 1;
        line += p->text[i] == '\n';
    }
    anm_error why = *p->err;
    return anm_fail_at(p->err, code, where, "line %lu, column %lu: %s", line, column, why.text);
}

static int no_memory(parser *p)
{
    if (p->program->arena.limit && p->program->arena.total > p->program->arena.limit / 2)
        return anm_fail(p->err, ANM_ERR_LIMIT, "the program's text asks for too much memory");
    return anm_fail_memory(p->err, "the program's text");
}

static char peek(parser *p)
{
    for (; p->at < p->size; p->at++) {
        char c = p->text[p->at];
        if (c == '#')
            while (p->at + 1 < p->size && p->text[p->at + 1] != '\n')
                p->at++;
        else if (c != ' ' && c != '\t' && c != '\r' && c != '\n')
            return c;
    }
    return 0;
}

static bool accept(parser *p, char c)
{
    if (p->at >= p->size || peek(p) != c || p->at >= p->size) return false;
    p->at++;
    return true;
}

static int expect(parser *p, char c)
{
    if (accept(p, c)) return 0;
    if (p->at >= p->size) return FAIL(p, "the text ends where '%c' should stand", c);
    return FAIL(p, "'%c' should stand here", c);
}

/* ---- words ---- */

static bool is_word(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '.';
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

/* The text between quotes, into p->bytes. */
static int quoted(parser *p)
{
    size_t from = p->at;
    p->bytes.size = 0;
    anm_buf_grow(&p->bytes, 0);
    if (expect(p, '"')) return -1;
    for (; p->at < p->size && p->text[p->at] != '"'; p->at++) {
        char c = p->text[p->at];
        if (c == '\n') break;
        if (c == '\\') {
            size_t left = p->size - p->at;
            const char *s = p->text + p->at;
            if (left > 1 && (s[1] == '"' || s[1] == '\\')) {
                c = s[1];
                p->at++;
            } else if (left > 3 && s[1] == 'x' && hex_digit(s[2]) >= 0 && hex_digit(s[3]) >= 0) {
                c = (char)(hex_digit(s[2]) * 16 + hex_digit(s[3]));
                p->at += 3;
            } else {
                return FAIL(p, "an escape other than \\\", \\\\ and \\xNN");
            }
        }
        anm_buf_u8(&p->bytes, (uint8_t)c);
    }
    if (p->bytes.bad) return no_memory(p);
    if (p->at >= p->size || p->text[p->at] != '"') return FAIL_AT(p, from, "a quote that is not closed");
    p->at++;
    return 0;
}

/* A plain or quoted word, copied into the arena; NULL after an error. */
static char *word(parser *p, const char *what)
{
    size_t from;
    char *s;
    if (peek(p) == '"') {
        from = p->at;
        if (quoted(p)) return NULL;
        if (!p->bytes.size || memchr(p->bytes.data, 0, p->bytes.size)) {
            FAIL_AT(p, from, "%s that is empty or has a zero byte", what);
            return NULL;
        }
        s = anm_arena_strndup(&p->program->arena, (const char *)p->bytes.data, p->bytes.size);
    } else {
        for (from = p->at; p->at < p->size && is_word(p->text[p->at]);)
            p->at++;
        if (p->at == from) {
            FAIL(p, "%s should stand here", what);
            return NULL;
        }
        s = anm_arena_strndup(&p->program->arena, p->text + from, p->at - from);
    }
    if (!s) no_memory(p);
    return s;
}

/* Is the next word `s`? Takes it if so. */
static bool accept_word(parser *p, const char *s)
{
    size_t n = strlen(s);
    peek(p);
    if (p->size - p->at < n || memcmp(p->text + p->at, s, n) != 0) return false;
    if (p->at + n < p->size && is_word(p->text[p->at + n])) return false;
    p->at += n;
    return true;
}

/* The characters of a number, 0-terminated in `s`. */
static int number(parser *p, char s[NUMBER_MAX])
{
    peek(p);
    size_t from = p->at, n = 0;
    while (p->at < p->size && n < NUMBER_MAX - 1) {
        char c = p->text[p->at];
        if (!is_word(c) && !((c == '-' || c == '+') && (n == 0 || s[n - 1] == 'e' || s[n - 1] == 'E'))) break;
        s[n++] = c;
        p->at++;
    }
    s[n] = 0;
    if (!n || n == NUMBER_MAX - 1) return FAIL_AT(p, from, "a number should stand here");
    return 0;
}

static bool integer_of(const char *s, int64_t *v)
{
    char *end;
    if (!(*s == '-' || (*s >= '0' && *s <= '9'))) return false;
    errno = 0;
    long long got = strtoll(s, &end, 10);
    *v = got;
    return !errno && !*end && end != s;
}

static int integer(parser *p, int64_t least, int64_t most, int64_t *v)
{
    char s[NUMBER_MAX];
    peek(p);
    size_t from = p->at;
    if (number(p, s)) return -1;
    if (!integer_of(s, v) || *v < least || *v > most)
        return FAIL_AT(p, from, "%s is not an integer from %lld to %lld", s, (long long)least,
                       (long long)most);
    return 0;
}

static bool float_of(char *s, float *f)
{
    char *end, *point = strchr(s, '.');
    const char *local = localeconv()->decimal_point;
    if (strcmp(s, "nan") == 0)
        *f = anm_bits_f32(0x7fc00000u);
    else if (strcmp(s, "inf") == 0)
        *f = INFINITY;
    else if (strcmp(s, "-inf") == 0)
        *f = -INFINITY;
    else {
        if (point && local[0] && !local[1]) *point = local[0];
        if (!strchr("+-.0123456789", s[0]) || strpbrk(s, "xXnN")) return false;
        *f = strtof(s, &end);
        return !*end && end != s && !isinf(*f);
    }
    return true;
}

/* ---- types ---- */

static int dims(parser *p, anm_mil_type *t)
{
    if (expect(p, '[')) return -1;
    if (accept(p, ']')) return 0;
    do {
        if (t->rank == ANM_MIL_MAX_RANK) return FAIL(p, "more than %d dimensions", ANM_MIL_MAX_RANK);
        int64_t *d = &t->dim[t->rank++];
        if (accept(p, '?'))
            *d = ANM_MIL_UNKNOWN_DIM;
        else if (integer(p, 0, INT64_MAX, d))
            return -1;
    } while (accept(p, ','));
    return expect(p, ']');
}

static int dtype(parser *p, anm_dtype *t)
{
    peek(p);
    size_t from = p->at;
    char *name = word(p, "a type");
    if (!name) return -1;
    *t = anm_dtype_of_name(name);
    if (*t == ANM_DT_NONE || anm_dtype_class(*t) == 'q') return FAIL_AT(p, from, "%.40s is not a type", name);
    return 0;
}

static int type(parser *p, anm_mil_type *t)
{
    *t = (anm_mil_type){.dtype = ANM_DT_NONE};
    if (dtype(p, &t->dtype)) return -1;
    return dims(p, t);
}

/* ---- constants ---- */

/* Appends element `i` of type `t` to p->bytes. */
static int element(parser *p, anm_dtype t, int64_t i)
{
    char s[NUMBER_MAX];
    int64_t v = 0;
    float f;
    peek(p);
    size_t from = p->at;
    if (anm_dtype_class(t) == 'b') {
        bool yes = accept_word(p, "true");
        if (!yes && !accept_word(p, "false")) return FAIL(p, "true or false should stand here");
        anm_buf_u8(&p->bytes, yes);
        return 0;
    }
    if (t == ANM_DT_F16 || t == ANM_DT_F32) {
        if (number(p, s)) return -1;
        if (!float_of(s, &f)) return FAIL_AT(p, from, "%s is not a number", s);
        if (t == ANM_DT_F16)
            anm_buf_u16(&p->bytes, anm_f32_to_f16(f));
        else
            anm_buf_u32(&p->bytes, anm_f32_bits(f));
        return 0;
    }
    if (t == ANM_DT_U64) { /* its upper half has no int64 */
        char *end;
        if (number(p, s)) return -1;
        errno = 0;
        unsigned long long u = strtoull(s, &end, 10);
        if (errno || *end || *s < '0' || *s > '9') return FAIL_AT(p, from, "%s does not fit uint64", s);
        anm_buf_u64(&p->bytes, u);
        return 0;
    }
    unsigned bits = anm_dtype_block(t) == 2 ? 4 : anm_dtype_bytes(t) * 8;
    bool sign = anm_dtype_class(t) == 'i';
    int64_t most = bits == 64 ? INT64_MAX : (INT64_C(1) << (sign ? bits - 1 : bits)) - 1;
    if (integer(p, sign ? -most - 1 : 0, most, &v)) return -1;
    switch (bits) {
    case 4:
        if (i % 2 == 0)
            anm_buf_u8(&p->bytes, (uint8_t)(v & 15));
        else if (!p->bytes.bad)
            p->bytes.data[p->bytes.size - 1] |= (uint8_t)((v & 15) << 4);
        break;
    case 8: anm_buf_u8(&p->bytes, (uint8_t)v); break;
    case 16: anm_buf_u16(&p->bytes, (uint16_t)v); break;
    case 32: anm_buf_u32(&p->bytes, (uint32_t)v); break;
    default: anm_buf_u64(&p->bytes, (uint64_t)v); break;
    }
    return 0;
}

/* Numbers up to `close`; how many. */
static int elements(parser *p, anm_dtype t, char close, int64_t *n)
{
    char cls = anm_dtype_class(t);
    *n = 0;
    if (accept(p, close)) return 0;
    if (cls == 's' || (cls == 'f' && t != ANM_DT_F16 && t != ANM_DT_F32))
        return FAIL(p, "values of type %s are written as hex", anm_dtype_name(t));
    do
        if (element(p, t, (*n)++)) return -1;
    while (accept(p, ','));
    return expect(p, close);
}

static int hex(parser *p)
{
    for (p->at += 2; p->at + 1 < p->size; p->at += 2) {
        int high = hex_digit(p->text[p->at]), low = hex_digit(p->text[p->at + 1]);
        if (high < 0) break;
        if (low < 0) return FAIL(p, "half a byte of hex");
        anm_buf_u8(&p->bytes, (uint8_t)(high * 16 + low));
    }
    return 0;
}

/* The bytes of a constant of type `t` between parentheses: numbers, hex, or @offset in a file that is not
 * here. */
static int content(parser *p, const anm_mil_type *t, anm_blob *blob)
{
    int64_t n, count, offset = 0;
    uint64_t bytes;
    *blob = (anm_blob){0};
    p->bytes.size = 0;
    anm_buf_grow(&p->bytes, 0);
    if (expect(p, '(')) return -1;
    peek(p);
    size_t from = p->at;
    if (!anm_mil_type_count(t, &count)) return FAIL(p, "a constant with an unknown or too large shape");
    if (t->dtype == ANM_DT_STRING)
        bytes = 0; /* any size */
    else if (!anm_dtype_size(t->dtype, (uint64_t)count, &bytes))
        return FAIL(p, "a constant that is too large");
    if (accept(p, '@')) {
        if (integer(p, 0, INT64_MAX, &offset)) return -1;
        blob->size = bytes;
        blob->offset = (uint64_t)offset;
        return expect(p, ')');
    }
    if (p->size - p->at >= 2 && p->text[p->at] == '0' && p->text[p->at + 1] == 'x') {
        if (hex(p) || expect(p, ')')) return -1;
    } else {
        if (elements(p, t->dtype, ')', &n)) return -1;
        if (n != count)
            return FAIL_AT(p, from, "%lld values where the type has %lld", (long long)n, (long long)count);
    }
    if (t->dtype != ANM_DT_STRING && p->bytes.size != bytes)
        return FAIL_AT(p, from, "%llu bytes where the type has %llu", (unsigned long long)p->bytes.size,
                       (unsigned long long)bytes);
    if (p->bytes.bad) return no_memory(p);
    blob->size = p->bytes.size;
    return 0;
}

/* Gives `v` the bytes that were read: p->bytes, unless the constant is without. */
static int set_constant(parser *p, anm_mil_value *v, anm_blob blob, bool has_data)
{
    anm_arena *arena = &p->program->arena;
    anm_blob *kept = anm_arena_alloc(arena, sizeof *kept);
    if (has_data) blob.data = (uint8_t *)anm_arena_strndup(arena, (const char *)p->bytes.data, p->bytes.size);
    if (!kept || (has_data && !blob.data)) return no_memory(p);
    *kept = blob;
    v->constant = kept;
    return 0;
}

static anm_mil_value *literal(parser *p)
{
    anm_mil_type t = {.dtype = ANM_DT_I32};
    anm_blob blob = {0};
    int64_t n;
    char c = peek(p);
    p->bytes.size = 0;
    anm_buf_grow(&p->bytes, 0);
    if (c == '"') {
        t.dtype = ANM_DT_STRING;
        if (quoted(p)) return NULL;
    } else if (c == '-' || (c >= '0' && c <= '9')) {
        if (element(p, t.dtype, 0)) return NULL;
    } else if (accept_word(p, "true")) {
        t.dtype = ANM_DT_BOOL;
        anm_buf_u8(&p->bytes, 1);
    } else if (accept_word(p, "false")) {
        t.dtype = ANM_DT_BOOL;
        anm_buf_u8(&p->bytes, 0);
    } else if (accept(p, '[')) {
        c = peek(p);
        t = (anm_mil_type){.dtype = c == 't' || c == 'f' ? ANM_DT_BOOL : ANM_DT_I32, .rank = 1};
        if (elements(p, t.dtype, ']', &n)) return NULL;
        t.dim[0] = n;
    } else {
        if (dtype(p, &t.dtype) || (peek(p) == '[' && dims(p, &t)) || content(p, &t, &blob)) return NULL;
    }
    bool bare = blob.size && !p->bytes.size;
    if (!bare) blob.size = p->bytes.size;
    anm_mil_value *v = p->bytes.bad ? NULL : anm_mil_value_unnamed(p->fn, t);
    if (v) anm_buf_put(&p->unnamed, &v, sizeof v);
    if (!v || p->unnamed.bad) {
        no_memory(p);
        return NULL;
    }
    return set_constant(p, v, blob, !bare) ? NULL : v;
}

/* ---- values and ops ---- */

static char *value_name(parser *p)
{
    return expect(p, '%') ? NULL : word(p, "a name");
}

/* `%name: type`, which defines a value. */
static anm_mil_value *definition(parser *p)
{
    anm_mil_type t;
    peek(p);
    size_t from = p->at;
    char *name = value_name(p);
    if (!name || expect(p, ':') || type(p, &t)) return NULL;
    if (anm_mil_value_find(p->fn, name)) {
        FAIL_AT(p, from, "%%%.200s is defined twice", name);
        return NULL;
    }
    anm_mil_value *v = anm_mil_value_new(p->fn, name, t);
    if (!v) no_memory(p);
    return v;
}

/* `%name` of a value that is defined by now, or a constant. */
static anm_mil_value *operand(parser *p)
{
    if (peek(p) != '%') return literal(p);
    size_t from = p->at;
    char *name = value_name(p);
    anm_mil_value *v = name ? anm_mil_value_find(p->fn, name) : NULL;
    if (name && !v) FAIL_AT(p, from, "%%%.200s is not defined before it is used", name);
    return v;
}

static int add_value(parser *p, anm_buf *list, anm_mil_value *v)
{
    if (!v) return -1;
    anm_buf_put(list, &v, sizeof v);
    return list->bad ? no_memory(p) : 0;
}

/* `name=value` or `name=(value, value)`; the values' place in p->values is set when all are there. */
static int argument(parser *p)
{
    anm_mil_arg arg = {.param = ANM_P_END};
    char *name = word(p, "a parameter");
    if (!name || expect(p, '=')) return -1;
    arg.param = anm_mil_param_of_name(name);
    if (arg.param == ANM_P_END) arg.foreign = name;
    size_t before = p->values.size;
    if (!accept(p, '(')) {
        if (add_value(p, &p->values, operand(p))) return -1;
    } else if (!accept(p, ')')) {
        do
            if (add_value(p, &p->values, operand(p))) return -1;
        while (accept(p, ','));
        if (expect(p, ')')) return -1;
    }
    arg.count = (uint32_t)((p->values.size - before) / sizeof(anm_mil_value *));
    anm_buf_put(&p->args, &arg, sizeof arg);
    return p->args.bad ? no_memory(p) : 0;
}

static int arguments(parser *p)
{
    p->values.size = p->args.size = 0;
    if (expect(p, '(')) return -1;
    if (!accept(p, ')')) {
        do
            if (argument(p)) return -1;
        while (accept(p, ','));
        if (expect(p, ')')) return -1;
    }
    anm_mil_value **value = (anm_mil_value **)(void *)p->values.data;
    anm_mil_arg *args = (anm_mil_arg *)(void *)p->args.data;
    for (size_t a = 0, at = 0; a < p->args.size / sizeof *args; at += args[a++].count)
        args[a].value = value ? value + at : NULL;
    return 0;
}

static int constant_line(parser *p, bool in_file)
{
    anm_blob blob;
    anm_mil_value **outs = (anm_mil_value **)(void *)p->outs.data;
    if (p->outs.size != sizeof *outs) return FAIL(p, "a constant has one name");
    if (content(p, &outs[0]->type, &blob)) return -1;
    blob.in_file = in_file;
    return set_constant(p, outs[0], blob, !blob.size || p->bytes.size);
}

/* `%a: type, %b: type = op(…)`, `op(…)`, `%a: type = const(…)` or `= weight(…)`. */
static int line(parser *p)
{
    p->outs.size = 0;
    if (peek(p) == '%') {
        do
            if (add_value(p, &p->outs, definition(p))) return -1;
        while (accept(p, ','));
        if (expect(p, '=')) return -1;
    }
    if (accept_word(p, "const")) return constant_line(p, false);
    if (accept_word(p, "weight")) return constant_line(p, true);
    char *name = word(p, "an op");
    if (!name || arguments(p)) return -1;
    anm_mil_value **outs = (anm_mil_value **)(void *)p->outs.data;
    size_t n_outs = p->outs.size / sizeof *outs, n_args = p->args.size / sizeof(anm_mil_arg);
    if (n_outs > UINT32_MAX || n_args > UINT32_MAX) return FAIL(p, "too many results or arguments");
    if (!anm_mil_append(p->fn, NULL, anm_mil_op_of_name(name), name, (uint32_t)n_args,
                        (const anm_mil_arg *)(const void *)p->args.data, (uint32_t)n_outs, outs))
        return no_memory(p);
    return 0;
}

/* ---- functions ---- */

static int inputs(parser *p)
{
    p->outs.size = 0;
    if (expect(p, '(')) return -1;
    if (!accept(p, ')')) {
        do
            if (add_value(p, &p->outs, definition(p))) return -1;
        while (accept(p, ','));
        if (expect(p, ')')) return -1;
    }
    size_t n = p->outs.size / sizeof *p->fn->inputs;
    if (n > UINT32_MAX) return FAIL(p, "too many inputs");
    p->fn->inputs = anm_arena_array(&p->program->arena, n, sizeof *p->fn->inputs);
    if (!p->fn->inputs) return no_memory(p);
    if (n) memcpy(p->fn->inputs, p->outs.data, p->outs.size);
    p->fn->n_inputs = (uint32_t)n;
    return 0;
}

/* The outputs stand in front of the body that defines them; this only skips them, or with `bind` looks them
 * up. */
static int outputs(parser *p, bool bind)
{
    p->outs.size = 0;
    if (expect(p, '(')) return -1;
    if (accept(p, ')')) return 0;
    do {
        peek(p);
        size_t from = p->at;
        char *name = value_name(p);
        if (!name) return -1;
        if (!bind) continue;
        anm_mil_value *v = anm_mil_value_find(p->fn, name);
        if (!v) return FAIL_AT(p, from, "the output %%%.200s is not defined", name);
        if (add_value(p, &p->outs, v)) return -1;
    } while (accept(p, ','));
    if (expect(p, ')')) return -1;
    if (!bind) return 0;
    size_t n = p->outs.size / sizeof *p->fn->outputs;
    if (n > UINT32_MAX) return FAIL(p, "too many outputs");
    p->fn->outputs = anm_arena_array(&p->program->arena, n, sizeof *p->fn->outputs);
    if (!p->fn->outputs) return no_memory(p);
    memcpy(p->fn->outputs, p->outs.data, p->outs.size);
    p->fn->n_outputs = (uint32_t)n;
    return 0;
}

static int function(parser *p)
{
    if (!accept_word(p, "func")) return FAIL(p, "func should stand here");
    if (p->n_functions++ == MAX_FUNCTIONS) return FAIL(p, "more than %d functions", MAX_FUNCTIONS);
    peek(p);
    size_t from = p->at;
    char *name = word(p, "the function's name");
    if (!name) return -1;
    if (anm_mil_function_find(p->program, name))
        return FAIL_AT(p, from, "the function %.200s is defined twice", name);
    p->fn = anm_mil_function_new(p->program, name, "");
    if (!p->fn) return no_memory(p);
    p->unnamed.size = 0;
    if (inputs(p) || expect(p, '-') || expect(p, '>')) return -1;
    size_t promised = p->at;
    if (outputs(p, false)) return -1;
    if (!accept_word(p, "opset")) return FAIL(p, "opset should stand here");
    if (!(p->fn->opset = word(p, "the opset's name")) || expect(p, '{')) return -1;
    while (!accept(p, '}'))
        if (line(p)) return -1;
    size_t end = p->at;
    p->at = promised;
    if (outputs(p, true)) return -1;
    p->at = end;
    anm_mil_value **v = (anm_mil_value **)(void *)p->unnamed.data;
    for (size_t i = 0; i < p->unnamed.size / sizeof *v; i++)
        if (!anm_mil_value_number(p->fn, v[i])) return no_memory(p);
    return 0;
}

int anm_mil_parse(anm_mil_program *program, const char *text, size_t n, anm_error *err)
{
    anm_error own;
    parser p = {.text = text, .size = n, .program = program, .err = err ? err : &own};
    int bad = 0;
    anm_mil_program_init(program);
    program->arena.limit =
        n > (SIZE_MAX - ARENA_LEAST) / ARENA_PER_BYTE ? SIZE_MAX : n * ARENA_PER_BYTE + ARENA_LEAST;
    p.err->code = 0;
    while (!bad && (peek(&p), p.at < p.size))
        bad = function(&p);
    program->arena.limit = 0; /* what is built on top later is not the text's */
    anm_buf_free(&p.bytes);
    anm_buf_free(&p.values);
    anm_buf_free(&p.args);
    anm_buf_free(&p.outs);
    anm_buf_free(&p.unnamed);
    return bad ? p.err->code : 0;
}
