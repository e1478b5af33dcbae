/* SPDX-License-Identifier: BSD-3-Clause */
/* Programs as text; the form is described in mil.h. */
#include "mil/element.h"
#include "mil/mil.h"
#include "mil/rules.h"
#include "base/buf.h"
#include "base/bytes.h"
#include "base/half.h"
#include "base/shown.h"

#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { INLINE_BYTES = 64, INLINE_TEXT = 256 };

/* ---- words ---- */

static bool is_plain(const char *s)
{
    for (const char *c = s; *c; c++)
        if (!((*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') || (*c >= '0' && *c <= '9') || *c == '_' ||
              *c == '.'))
            return false;
    return *s != 0;
}

static void put_quoted(anm_buf *out, const char *s, size_t n)
{
    anm_buf_puts(out, "\"");
    for (size_t len; n; s += len, n -= len) {
        bool hidden;
        len = anm_shown_next(s, n, &hidden);
        if (*s == '"' || *s == '\\') anm_buf_u8(out, '\\');
        anm_shown_put(out, s, len);
    }
    anm_buf_puts(out, "\"");
}

static void put_word(anm_buf *out, const char *s)
{
    if (is_plain(s))
        anm_buf_puts(out, s);
    else
        put_quoted(out, s, strlen(s));
}

static void put_name(anm_buf *out, const anm_mil_value *v)
{
    anm_buf_puts(out, "%");
    put_word(out, v->name);
}

static void put_type(anm_buf *out, const anm_mil_type *t)
{
    char s[256];
    anm_buf_puts(out, anm_mil_type_print(t, s, sizeof s));
}

/* ---- constants ---- */

/* The shortest decimal that reads back to the same value of type `t`. */
static void put_float(anm_buf *out, anm_dtype t, float f)
{
    char s[32];
    if (isnan(f)) {
        anm_buf_puts(out, "nan");
        return;
    }
    if (isinf(f)) {
        anm_buf_puts(out, f < 0 ? "-inf" : "inf");
        return;
    }
    for (int digits = 1; digits <= 9; digits++) {
        snprintf(s, sizeof s, "%.*g", digits, (double)f);
        float back = strtof(s, NULL);
        if ((t == ANM_DT_F16 ? anm_round_f16(back) : back) == f) break;
    }
    char *point = strstr(s, localeconv()->decimal_point);
    if (point) *point = '.';
    anm_buf_puts(out, s);
}

/* Do the values say all that the bytes do? Not so for a NaN with something in it, a bool of 7, set padding
 * bits. */
static bool bytes_are_plain(const anm_mil_type *t, const anm_blob *b, int64_t n)
{
    if (anm_dtype_block(t->dtype) == 2 && n % 2 && b->data[b->size - 1] >> 4) return false;
    for (int64_t i = 0; i < n; i++) {
        if (t->dtype == ANM_DT_BOOL && b->data[i] > 1) return false;
        if (anm_dtype_class(t->dtype) != 'f' || !isnan(anm_mil_float_at(t->dtype, b->data, i))) continue;
        if (t->dtype == ANM_DT_F16 ? anm_ld16(b->data + 2 * i) != 0x7e00
                                   : anm_ld32(b->data + 4 * i) != 0x7fc00000)
            return false;
    }
    return true;
}

static void put_element(anm_buf *out, anm_dtype t, const uint8_t *data, int64_t i)
{
    char cls = anm_dtype_class(t);
    if (cls == 'b')
        anm_buf_puts(out, data[i] ? "true" : "false");
    else if (cls == 'f')
        put_float(out, t, anm_mil_float_at(t, data, i));
    else if (t == ANM_DT_U64)
        anm_buf_printf(out, "%llu", (unsigned long long)anm_ld64(data + 8 * i));
    else
        anm_buf_printf(out, "%lld", (long long)anm_mil_int_at(t, data, i));
}

static void put_elements(anm_buf *out, const anm_mil_type *t, const uint8_t *data, int64_t n,
                         const char *comma)
{
    for (int64_t i = 0; i < n; i++) {
        if (i) anm_buf_puts(out, comma);
        put_element(out, t->dtype, data, i);
    }
}

static void put_hex(anm_buf *out, const uint8_t *data, uint64_t n)
{
    static const char digits[] = "0123456789abcdef";
    anm_buf_puts(out, "0x");
    char *to = anm_buf_grow(out, 2 * (size_t)n);
    for (uint64_t i = 0; to && i < n; i++) {
        to[2 * i] = digits[data[i] >> 4];
        to[2 * i + 1] = digits[data[i] & 15];
    }
}

/* The types whose values are written as numbers; the rest is hex. fp64 would lose digits, and a list of
 * strings has no form of its own. */
static bool has_values(anm_dtype t)
{
    char cls = anm_dtype_class(t);
    return cls == 'b' || cls == 'i' || cls == 'u' || t == ANM_DT_F16 || t == ANM_DT_F32;
}

/* What stands between the parentheses of a constant. */
static void put_content(anm_buf *out, const anm_mil_type *t, const anm_blob *b)
{
    int64_t n;
    uint64_t bytes;
    bool whole =
        anm_mil_type_count(t, &n) && anm_dtype_size(t->dtype, (uint64_t)n, &bytes) && bytes == b->size;
    if (!b->data && b->size)
        anm_buf_printf(out, "@%llu", (unsigned long long)b->offset);
    else if (whole && b->size <= INLINE_BYTES && has_values(t->dtype) && bytes_are_plain(t, b, n))
        put_elements(out, t, b->data, n, ", ");
    else
        put_hex(out, b->data, b->size);
}

void anm_mil_put_inline(anm_buf *out, const anm_mil_value *v)
{
    const anm_mil_type *t = &v->type;
    const anm_blob *b = v->constant;
    bool common = t->dtype == ANM_DT_I32 || t->dtype == ANM_DT_BOOL,
         text = t->dtype == ANM_DT_STRING && !t->rank;
    int64_t n;
    if (text) {
        put_quoted(out, (const char *)b->data, (size_t)b->size);
    } else if (common && t->rank <= 1 && anm_mil_type_count(t, &n) &&
               b->size == (uint64_t)n * anm_dtype_bytes(t->dtype) && (n || t->dtype == ANM_DT_I32) &&
               bytes_are_plain(t, b, n)) {
        if (t->rank) anm_buf_puts(out, "[");
        put_elements(out, t, b->data, n, ",");
        if (t->rank) anm_buf_puts(out, "]");
    } else {
        if (t->rank)
            put_type(out, t);
        else
            anm_buf_puts(out, anm_dtype_name(t->dtype));
        anm_buf_puts(out, "(");
        put_content(out, t, b);
        anm_buf_puts(out, ")");
    }
}

/* ---- ops ---- */

typedef struct printer {
    anm_buf *out;
    bool *named; /* by value id: a constant that has, or had, a line of its own */
    bool with_data;
} printer;

bool anm_mil_is_inline(const anm_mil_value *v)
{
    const anm_blob *b = v->constant;
    bool text = v->type.dtype == ANM_DT_STRING && !v->type.rank;
    return b && !b->in_file && (b->data || !b->size) && b->size <= (text ? INLINE_TEXT : INLINE_BYTES);
}

static void put_constant_line(printer *p, const anm_mil_value *v)
{
    anm_blob b = *v->constant;
    if (p->named[v->id]) return;
    p->named[v->id] = true;
    if (!p->with_data && b.size > INLINE_BYTES) b.data = NULL;
    anm_buf_puts(p->out, "  ");
    put_name(p->out, v);
    anm_buf_puts(p->out, ": ");
    put_type(p->out, &v->type);
    anm_buf_puts(p->out, b.in_file ? " = weight(" : " = const(");
    put_content(p->out, &v->type, &b);
    anm_buf_puts(p->out, ")\n");
}

static void put_value(printer *p, const anm_mil_value *v)
{
    if (anm_mil_is_inline(v) && !p->named[v->id])
        anm_mil_put_inline(p->out, v);
    else
        put_name(p->out, v);
}

static void put_arg(printer *p, const anm_mil_arg *arg)
{
    put_word(p->out, arg->param == ANM_P_END && arg->foreign ? arg->foreign : anm_mil_param_name(arg->param));
    anm_buf_puts(p->out, arg->count == 1 ? "=" : "=(");
    for (uint32_t i = 0; i < arg->count; i++) {
        if (i) anm_buf_puts(p->out, ", ");
        put_value(p, arg->value[i]);
    }
    if (arg->count != 1) anm_buf_puts(p->out, ")");
}

static void put_op(printer *p, const anm_mil_op *op)
{
    for (uint32_t a = 0; a < op->n_args; a++)
        for (uint32_t i = 0; i < op->args[a].count; i++)
            if (op->args[a].value[i]->constant && !anm_mil_is_inline(op->args[a].value[i]))
                put_constant_line(p, op->args[a].value[i]);
    anm_buf_puts(p->out, "  ");
    for (uint32_t i = 0; i < op->n_outs; i++) {
        if (i) anm_buf_puts(p->out, ", ");
        put_name(p->out, op->outs[i]);
        anm_buf_puts(p->out, ": ");
        put_type(p->out, &op->outs[i]->type);
    }
    if (op->n_outs) anm_buf_puts(p->out, " = ");
    const char *name = op->code == ANM_OP_FOREIGN ? op->foreign : anm_mil_op_name(op->code);
    bool reserved =
        strcmp(name, "const") == 0 || strcmp(name, "weight") == 0; /* they begin a constant's line */
    if (reserved)
        put_quoted(p->out, name, strlen(name));
    else
        put_word(p->out, name);
    anm_buf_puts(p->out, "(");
    for (uint32_t a = 0; a < op->n_args; a++) {
        if (a) anm_buf_puts(p->out, ", ");
        put_arg(p, &op->args[a]);
    }
    anm_buf_puts(p->out, ")\n");
}

int anm_mil_print_function(anm_buf *out, const anm_mil_function *fn, bool with_data, anm_error *err)
{
    printer p = {
        .out = out, .with_data = with_data, .named = calloc((size_t)fn->n_values + 1, sizeof *p.named)};
    if (!p.named) return anm_fail_memory(err, "printing");
    anm_buf_puts(out, "func ");
    put_word(out, fn->name);
    anm_buf_puts(out, "(");
    for (uint32_t i = 0; i < fn->n_inputs; i++) {
        if (i) anm_buf_puts(out, ", ");
        put_name(out, fn->inputs[i]);
        anm_buf_puts(out, ": ");
        put_type(out, &fn->inputs[i]->type);
    }
    anm_buf_puts(out, ") -> (");
    for (uint32_t i = 0; i < fn->n_outputs; i++) {
        if (i) anm_buf_puts(out, ", ");
        put_name(out, fn->outputs[i]);
    }
    anm_buf_puts(out, ") opset ");
    put_quoted(out, fn->opset, strlen(fn->opset));
    anm_buf_puts(out, " {\n");
    for (uint32_t i = 0; i < fn->n_outputs; i++) /* an output has a name, so it cannot stand inline */
        if (fn->outputs[i]->constant) put_constant_line(&p, fn->outputs[i]);
    for (const anm_mil_op *op = fn->first; op; op = op->next)
        put_op(&p, op);
    anm_buf_puts(out, "}\n");
    free(p.named);
    return out->bad ? anm_fail_memory(err, "printing") : 0;
}

int anm_mil_print(anm_buf *out, const anm_mil_program *program, bool with_data, anm_error *err)
{
    for (const anm_mil_function *fn = program->functions; fn; fn = fn->next) {
        if (fn != program->functions) anm_buf_puts(out, "\n");
        int bad = anm_mil_print_function(out, fn, with_data, err);
        if (bad) return bad;
    }
    return 0;
}
