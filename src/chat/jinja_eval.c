/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Rendering a template's tree. Every value lies in the run's arena, which has a limit, and every step is counted, so
 * that no template takes memory or time out of proportion.
 */
#include "chat/jinja.h"

#include "base/bytes.h"
#include "base/utf8.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { DEEPEST = 600 };

/* ---- names ---- */

struct jj_var {
    const char *name;
    size_t n;
    jj_value v;
    struct jj_var *next;
};

struct jj_scope {
    struct jj_var *vars;
    struct jj_scope *parent;
};

struct jj_scope *jj_scope_new(jj_run *r, struct jj_scope *parent)
{
    struct jj_scope *s = anm_arena_alloc(&r->arena, sizeof *s);
    if (s) s->parent = parent;
    return s;
}

static struct jj_var *find_in(jj_run *r, struct jj_scope *s, const char *name, size_t n)
{
    for (struct jj_var *v = s->vars; v && jj_charge(r, JJ_ITEM); v = v->next)
        if (v->n == n && memcmp(v->name, name, n) == 0) return v;
    return NULL;
}

int jj_define(jj_run *r, struct jj_scope *s, const char *name, size_t n, const jj_value *v)
{
    struct jj_var *var = find_in(r, s, name, n);
    if (!var) {
        if (!(var = anm_arena_alloc(&r->arena, sizeof *var))) return jj_no_memory(r);
        var->name = name;
        var->n = n;
        var->next = s->vars;
        s->vars = var;
    }
    var->v = *v;
    return 0;
}

/* What a template may call without defining it: a JJ_MACRO without a body. */
static const char *const functions[] = {"raise_exception", "namespace", "dict", "range", "strftime_now"};

static jj_value look_up(jj_run *r, const char *name, size_t n)
{
    for (struct jj_scope *s = r->scope; s && jj_charge(r, JJ_ITEM); s = s->parent) {
        const struct jj_var *v = find_in(r, s, name, n);
        if (v) return v->v;
    }
    const jj_node name_node = {.s = name, .n = n};
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++)
        if (jj_is(&name_node, functions[i])) return (jj_value){.type = JJ_MACRO};
    return (jj_value){.type = JJ_UNDEFINED};
}

static int push_scope(jj_run *r, struct jj_scope *parent, struct jj_scope **before)
{
    struct jj_scope *s = jj_scope_new(r, parent);
    *before = r->scope;
    if (!s) return jj_no_memory(r);
    r->scope = s;
    return 0;
}

/* ---- expressions ---- */

static int eval(jj_run *r, jj_value *out, const jj_node *n);

static jj_value boolean(bool b)
{
    return (jj_value){.type = JJ_BOOL, .b = b};
}

static int eval_args(jj_run *r, jj_args *args, const jj_node *n)
{
    *args = (jj_args){.n = n->count};
    if (!n->count) return 0;
    args->v = anm_arena_array(&r->arena, n->count, sizeof *args->v);
    args->name = anm_arena_array(&r->arena, n->count, sizeof *args->name);
    args->name_n = anm_arena_array(&r->arena, n->count, sizeof *args->name_n);
    if (!args->v || !args->name || !args->name_n) return jj_no_memory(r);
    for (size_t i = 0; i < n->count; i++) {
        const jj_node *item = n->list[i];
        if (item->kind == JJ_N_KEYWORD) {
            args->name[i] = item->s;
            args->name_n[i] = item->n;
            item = item->a;
        }
        int rc = eval(r, &args->v[i], item);
        if (rc) return rc;
    }
    return 0;
}

/* The text that statements print. */
static int capture(jj_run *r, jj_value *out, const jj_node *body)
{
    jj_text text = {0}, *before = r->out;
    r->out = &text;
    int rc = jj_render(r, body);
    r->out = before;
    *out = jj_text_value(&text);
    return rc;
}

static int call_macro(jj_run *r, jj_value *out, const jj_node *macro, const jj_args *args)
{
    struct jj_scope *before;
    int rc = push_scope(r, r->global, &before);
    size_t place = 0;
    if (rc) return rc;
    for (size_t i = 0; !rc && i < macro->count; i++) {
        const jj_node *p = macro->list[i];
        jj_value v = {.type = JJ_UNDEFINED};
        jj_charge(r, JJ_ITEM * args->n);
        if (p->a) rc = eval(r, &v, p->a);
        while (place < args->n && args->name[place]) place++;
        if (place < args->n) v = args->v[place++];
        for (size_t k = 0; k < args->n; k++)
            if (args->name[k] && args->name_n[k] == p->n && memcmp(args->name[k], p->s, p->n) == 0) v = args->v[k];
        if (!rc) rc = jj_define(r, r->scope, p->s, p->n, &v);
    }
    if (!rc) rc = capture(r, out, macro->body);
    r->scope = before;
    return rc;
}

static int make_range(jj_run *r, jj_value *out, const jj_args *args)
{
    int64_t part[3] = {0, 0, 1};
    int rc = jj_seq_new(r, out);
    for (size_t i = 0; i < args->n; i++) {
        if (i > 2 || args->v[i].type != JJ_INTEGER) return jj_fail(r, ANM_ERR_FORMAT, "range is given something else than up to three integers");
        part[i] = args->v[i].i;
    }
    if (args->n == 1) {
        part[1] = part[0];
        part[0] = 0;
    }
    if (!args->n || !part[2]) return jj_fail(r, ANM_ERR_FORMAT, "range without a count, or with a step of 0");
    for (int64_t i = part[0]; !rc && (part[2] > 0 ? i < part[1] : i > part[1]);) {
        jj_value v = {.type = JJ_INTEGER, .i = i};
        if (out->seq->n >= 100000) return jj_fail(r, ANM_ERR_LIMIT, "a range of more than 100000 items");
        rc = jj_seq_add(r, out->seq, &v);
        if (__builtin_add_overflow(i, part[2], &i)) break;
    }
    return rc;
}

static int make_map(jj_run *r, jj_value *out, const jj_args *args, bool is_namespace)
{
    int rc = jj_map_new(r, out);
    if (!rc) out->map->is_namespace = is_namespace;
    for (size_t i = 0; !rc && i < args->n; i++) {
        if (!args->name[i]) return jj_fail(r, ANM_ERR_UNSUPPORTED, "dict and namespace are only done with name=value");
        jj_value key = {.type = JJ_STR, .s = {args->name[i], NULL, args->name_n[i]}};
        rc = jj_map_set(r, out->map, &key, &args->v[i]);
    }
    return rc;
}

static int tell_time(jj_run *r, jj_value *out, const jj_args *args)
{
    char format[128], text[256];
    struct tm tm;
    time_t now = (time_t)r->now;
    if (args->n != 1 || args->v[0].type != JJ_STR || args->v[0].s.n >= sizeof format) return jj_fail(r, ANM_ERR_FORMAT, "strftime_now without a format");
    memcpy(format, args->v[0].s.p, args->v[0].s.n);
    format[args->v[0].s.n] = 0;
    if (!localtime_r(&now, &tm)) return jj_fail(r, ANM_ERR_FORMAT, "the time is not one that this machine can tell");
#if defined(__GNUC__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
#endif
    size_t n = strftime(text, sizeof text, format, &tm);
#if defined(__GNUC__)
#pragma GCC diagnostic pop
#endif
    const char *copy = anm_arena_strndup(&r->arena, text, n);
    if (!copy) return jj_no_memory(r);
    *out = jj_str(copy);
    return 0;
}

static int call_function(jj_run *r, jj_value *out, const jj_node *name, const jj_args *args)
{
    jj_value s;
    int rc;
    if (jj_is(name, "raise_exception")) {
        if ((rc = args->n ? jj_to_str(r, &s, &args->v[0]) : 0)) return rc;
        return anm_fail(r->err, ANM_ERR_USAGE, "the chat template refuses this conversation: %.*s",
                        args->n ? s.s.n > 300 ? 300 : (int)s.s.n : 0, args->n ? s.s.p : "");
    }
    if (jj_is(name, "namespace")) return make_map(r, out, args, true);
    if (jj_is(name, "dict")) return make_map(r, out, args, false);
    if (jj_is(name, "range")) return make_range(r, out, args);
    if (jj_is(name, "strftime_now")) return tell_time(r, out, args);
    return jj_fail(r, ANM_ERR_UNSUPPORTED, "the function '%.*s' is not one that we do", name->n > 40 ? 40 : (int)name->n, name->s);
}

static int call(jj_run *r, jj_value *out, const jj_node *n)
{
    const jj_node *callee = n->a;
    jj_value v;
    jj_args args;
    int rc = eval_args(r, &args, n);
    if (rc) return rc;
    if (callee->kind == JJ_N_ATTR) {
        if ((rc = eval(r, &v, callee->a))) return rc;
        return jj_method(r, out, callee, &v, &args);
    }
    if (callee->kind != JJ_N_NAME) return jj_fail(r, ANM_ERR_UNSUPPORTED, "calls something that has no name");
    v = look_up(r, callee->s, callee->n);
    if (v.type == JJ_MACRO && v.macro) return call_macro(r, out, v.macro, &args);
    if (v.type != JJ_UNDEFINED && v.type != JJ_MACRO) return jj_fail(r, ANM_ERR_FORMAT, "calls '%.*s', which is %s", (int)callee->n, callee->s, jj_type_name(&v));
    return call_function(r, out, callee, &args);
}

static int attribute(jj_run *r, jj_value *out, const jj_node *n)
{
    jj_value v;
    int rc = eval(r, &v, n->a);
    if (rc) return rc;
    if (v.type == JJ_UNDEFINED) return jj_fail(r, ANM_ERR_FORMAT, "takes '%.*s' of something that is undefined", (int)n->n, n->s);
    const jj_value *found = v.type == JJ_MAP ? jj_map_get(r, v.map, n->s, n->n) : NULL;
    *out = found ? *found : (jj_value){.type = JJ_UNDEFINED};
    return 0;
}

/* Python's rules for x[from:to:step]. */
static int slice(jj_run *r, jj_value *out, const jj_node *n)
{
    jj_value v, part[3];
    int rc = eval(r, &v, n->a);
    if (rc) return rc;
    for (int i = 0; i < 3; i++) {
        part[i] = (jj_value){.type = JJ_NONE};
        if (n->list[i] && (rc = eval(r, &part[i], n->list[i]))) return rc;
        if (part[i].type != JJ_NONE && part[i].type != JJ_INTEGER) return jj_fail(r, ANM_ERR_FORMAT, "slices by %s", jj_type_name(&part[i]));
    }
    int64_t step = part[2].type == JJ_NONE ? 1 : part[2].i, size = 0, at[2];
    if (!step || step > INT32_MAX || step < -INT32_MAX) return jj_fail(r, ANM_ERR_FORMAT, "slices by a step of %lld", (long long)step);
    size_t *offset = NULL; /* where each character of a text begins */
    if (v.type == JJ_SEQ) {
        size = (int64_t)v.seq->n;
    } else if (v.type == JJ_STR) {
        if (!(offset = anm_arena_array(&r->arena, v.s.n + 1, sizeof *offset))) return jj_no_memory(r);
        for (size_t i = 0; i < v.s.n; i += anm_utf8_len(v.s.p[i])) offset[size++] = i;
        offset[size] = v.s.n;
    } else {
        return jj_fail(r, ANM_ERR_FORMAT, "slices %s", jj_type_name(&v));
    }
    for (int i = 0; i < 2; i++) {
        int64_t low = step > 0 ? 0 : -1, high = step > 0 ? size : size - 1;
        if (part[i].type == JJ_NONE) {
            at[i] = (i == 0) == (step > 0) ? low : high;
            continue;
        }
        at[i] = part[i].i < 0 ? (part[i].i < -size ? low : part[i].i + size) : part[i].i;
        if (at[i] < low) at[i] = low;
        if (at[i] > high) at[i] = high;
    }
    jj_text text = {0};
    if (v.type == JJ_SEQ) {
        if ((rc = jj_seq_new(r, out))) return rc;
        out->seq->tuple = v.seq->tuple;
    }
    for (int64_t i = at[0]; !rc && (step > 0 ? i < at[1] : i > at[1]); i += step) {
        if (v.type == JJ_SEQ) rc = jj_seq_add(r, out->seq, &v.seq->v[i]);
        else rc = jj_text_put(r, &text, v.s.p + offset[i], v.s.mark ? v.s.mark + offset[i] : NULL, offset[i + 1] - offset[i]);
    }
    if (v.type == JJ_STR) *out = jj_text_value(&text);
    return rc;
}

static bool is_number(const jj_value *v)
{
    return v->type == JJ_INTEGER || v->type == JJ_REAL || v->type == JJ_BOOL;
}

static double as_real(const jj_value *v)
{
    return v->type == JJ_REAL ? v->f : v->type == JJ_BOOL ? (double)v->b : (double)v->i;
}

static int bad_operands(jj_run *r, const jj_node *n, const jj_value *x, const jj_value *y)
{
    return jj_fail(r, ANM_ERR_FORMAT, "'%.*s' between %s and %s", (int)n->n, n->s, jj_type_name(x), jj_type_name(y));
}

static int int_math(jj_run *r, jj_value *out, const jj_node *n, int64_t x, int64_t y)
{
    bool over = false;
    *out = (jj_value){.type = JJ_INTEGER};
    if ((jj_is(n, "//") || jj_is(n, "%")) && (!y || (y == -1 && x == INT64_MIN))) return jj_fail(r, ANM_ERR_FORMAT, "divides by 0");
    if (jj_is(n, "+")) over = __builtin_add_overflow(x, y, &out->i);
    else if (jj_is(n, "-")) over = __builtin_sub_overflow(x, y, &out->i);
    else if (jj_is(n, "*")) over = !anm_mul_i64(x, y, &out->i);
    else if (jj_is(n, "//")) out->i = x / y - (x % y != 0 && (x % y < 0) != (y < 0)); /* towards minus infinity */
    else if (jj_is(n, "%")) out->i = x % y + (x % y != 0 && (x % y < 0) != (y < 0) ? y : 0);
    else { /* ** */
        if (y < 0) {
            *out = (jj_value){.type = JJ_REAL, .f = pow((double)x, (double)y)};
            return 0;
        }
        out->i = 1;
        for (int64_t i = 0; i < y && !over; i++) {
            over = !anm_mul_i64(out->i, x, &out->i);
            if (x == 0 || x == 1) break;
            if (x == -1) {
                out->i = y % 2 ? -1 : 1;
                break;
            }
        }
    }
    return over ? jj_fail(r, ANM_ERR_LIMIT, "a number of more than 64 bits") : 0;
}

static int math(jj_run *r, jj_value *out, const jj_node *n)
{
    jj_value x, y, s[2];
    int rc;
    if ((rc = eval(r, &x, n->a)) || (rc = eval(r, &y, n->b))) return rc;
    bool tilde = jj_is(n, "~"), plus = jj_is(n, "+");
    if (tilde || (plus && x.type == JJ_STR && y.type == JJ_STR)) {
        jj_text t = {0};
        if ((rc = jj_to_str(r, &s[0], &x)) || (rc = jj_to_str(r, &s[1], &y))) return rc;
        for (int i = 0; i < 2; i++)
            if ((rc = jj_text_put(r, &t, s[i].s.p, s[i].s.mark, s[i].s.n))) return rc;
        *out = jj_text_value(&t);
        return 0;
    }
    if (plus && x.type == JJ_SEQ && y.type == JJ_SEQ) {
        rc = jj_seq_new(r, out);
        for (size_t i = 0; !rc && i < x.seq->n; i++) rc = jj_seq_add(r, out->seq, &x.seq->v[i]);
        for (size_t i = 0; !rc && i < y.seq->n; i++) rc = jj_seq_add(r, out->seq, &y.seq->v[i]);
        return rc;
    }
    if (!is_number(&x) || !is_number(&y)) {
        if (jj_is(n, "%") && x.type == JJ_STR) return jj_fail(r, ANM_ERR_UNSUPPORTED, "formatting by '%%' is not done");
        if (jj_is(n, "*") && (x.type == JJ_STR || y.type == JJ_STR)) return jj_fail(r, ANM_ERR_UNSUPPORTED, "repeating a text by '*' is not done");
        return bad_operands(r, n, &x, &y);
    }
    if (x.type != JJ_REAL && y.type != JJ_REAL && !jj_is(n, "/"))
        return int_math(r, out, n, x.type == JJ_BOOL ? x.b : x.i, y.type == JJ_BOOL ? y.b : y.i);
    double a = as_real(&x), b = as_real(&y), f;
    if ((jj_is(n, "/") || jj_is(n, "//") || jj_is(n, "%")) && !(b < 0) && !(b > 0)) return jj_fail(r, ANM_ERR_FORMAT, "divides by 0");
    if (plus) f = a + b;
    else if (jj_is(n, "-")) f = a - b;
    else if (jj_is(n, "*")) f = a * b;
    else if (jj_is(n, "/")) f = a / b;
    else if (jj_is(n, "//")) f = floor(a / b);
    else if (jj_is(n, "%")) f = a - b * floor(a / b);
    else f = pow(a, b);
    *out = (jj_value){.type = JJ_REAL, .f = f};
    return 0;
}

static int compare(jj_run *r, bool *out, const jj_node *n, const jj_value *x, const jj_value *y)
{
    if (jj_is(n, "==") || jj_is(n, "!=")) {
        *out = jj_equal(r, x, y, 0) == (n->s[0] == '=');
        return 0;
    }
    if (jj_is(n, "in") || jj_is(n, "not")) {
        static const jj_node in = {.s = "in", .n = 2};
        jj_args args = {(jj_value *)(uintptr_t)y, &(const char *){NULL}, &(size_t){0}, 1};
        if (y->type == JJ_STR && x->type != JJ_STR) return bad_operands(r, &in, x, y);
        int rc = jj_test(r, out, &in, x, &args);
        if (n->s[0] == 'n') *out = !*out;
        return rc;
    }
    int order;
    if (is_number(x) && is_number(y)) {
        double a = as_real(x), b = as_real(y);
        order = a < b ? -1 : a > b;
    } else if (x->type == JJ_STR && y->type == JJ_STR) {
        size_t least = x->s.n < y->s.n ? x->s.n : y->s.n;
        jj_charge(r, least);
        order = memcmp(x->s.p, y->s.p, least);
        if (!order) order = x->s.n < y->s.n ? -1 : x->s.n > y->s.n;
    } else {
        return bad_operands(r, n, x, y);
    }
    if (jj_is(n, "<")) *out = order < 0;
    else if (jj_is(n, "<=")) *out = order <= 0;
    else if (jj_is(n, ">")) *out = order > 0;
    else *out = order >= 0;
    return 0;
}

static int compare_nodes(jj_run *r, jj_value *out, const jj_node *n)
{
    jj_value x, y;
    bool is = false;
    int rc;
    if ((rc = eval(r, &x, n->a)) || (rc = eval(r, &y, n->b)) || (rc = compare(r, &is, n, &x, &y))) return rc;
    *out = boolean(is);
    return 0;
}

static int make_list(jj_run *r, jj_value *out, const jj_node *n)
{
    int rc = jj_seq_new(r, out);
    if (!rc) out->seq->tuple = n->kind == JJ_N_TUPLE;
    for (size_t i = 0; !rc && i < n->count; i++) {
        jj_value v;
        if (!(rc = eval(r, &v, n->list[i]))) rc = jj_seq_add(r, out->seq, &v);
    }
    return rc;
}

static int make_dict(jj_run *r, jj_value *out, const jj_node *n)
{
    int rc = jj_map_new(r, out);
    for (size_t i = 0; !rc && i + 1 < n->count; i += 2) {
        jj_value key, v;
        if ((rc = eval(r, &key, n->list[i])) || (rc = eval(r, &v, n->list[i + 1]))) break;
        rc = jj_map_set(r, out->map, &key, &v);
    }
    return rc;
}

static int apply(jj_run *r, jj_value *out, const jj_node *n) /* a filter or a test */
{
    jj_value v;
    jj_args args;
    bool is = false;
    int rc;
    if ((rc = eval(r, &v, n->a)) || (rc = eval_args(r, &args, n))) return rc;
    if (n->kind == JJ_N_FILTER) return jj_filter(r, out, n, &v, &args);
    rc = jj_test(r, &is, n, &v, &args);
    *out = boolean(is);
    return rc;
}

static int eval_inner(jj_run *r, jj_value *out, const jj_node *n)
{
    jj_value v, w;
    int rc = 0;
    switch (n->kind) {
    case JJ_N_STRING: *out = (jj_value){.type = JJ_STR, .s = {n->s, NULL, n->n}}; return 0;
    case JJ_N_INT: *out = (jj_value){.type = JJ_INTEGER, .i = n->i}; return 0;
    case JJ_N_FLOAT: *out = (jj_value){.type = JJ_REAL, .f = n->f}; return 0;
    case JJ_N_TRUE:
    case JJ_N_FALSE: *out = boolean(n->kind == JJ_N_TRUE); return 0;
    case JJ_N_NONE: *out = (jj_value){.type = JJ_NONE}; return 0;
    case JJ_N_NAME: *out = look_up(r, n->s, n->n); return 0;
    case JJ_N_LIST:
    case JJ_N_TUPLE: return make_list(r, out, n);
    case JJ_N_DICT: return make_dict(r, out, n);
    case JJ_N_ATTR: return attribute(r, out, n);
    case JJ_N_ITEM: return (rc = eval(r, &v, n->a)) || (rc = eval(r, &w, n->b)) ? rc : jj_item(r, out, &v, &w);
    case JJ_N_SLICE: return slice(r, out, n);
    case JJ_N_CALL: return call(r, out, n);
    case JJ_N_FILTER:
    case JJ_N_TEST: return apply(r, out, n);
    case JJ_N_NOT:
        rc = eval(r, &v, n->a);
        if (!rc) *out = boolean(!jj_truth(&v));
        return rc;
    case JJ_N_NEG:
        if ((rc = eval(r, &v, n->a))) return rc;
        if (v.type == JJ_INTEGER && v.i != INT64_MIN) *out = (jj_value){.type = JJ_INTEGER, .i = -v.i};
        else if (v.type == JJ_REAL) *out = (jj_value){.type = JJ_REAL, .f = -v.f};
        else return jj_fail(r, ANM_ERR_FORMAT, "'-' before %s", jj_type_name(&v));
        return 0;
    case JJ_N_AND:
    case JJ_N_OR:
        if ((rc = eval(r, out, n->a))) return rc;
        return jj_truth(out) == (n->kind == JJ_N_AND) ? eval(r, out, n->b) : 0;
    case JJ_N_COMPARE: return compare_nodes(r, out, n);
    case JJ_N_CHAIN:
        for (size_t i = 0; i < n->count; i++)
            if ((rc = compare_nodes(r, out, n->list[i])) || !out->b) return rc;
        return 0;
    case JJ_N_MATH: return math(r, out, n);
    case JJ_N_CHOOSE:
        if ((rc = eval(r, &v, n->b))) return rc;
        if (jj_truth(&v)) return eval(r, out, n->a);
        *out = (jj_value){.type = JJ_UNDEFINED};
        return n->c ? eval(r, out, n->c) : 0;
    default: return jj_fail(r, ANM_ERR_UNSUPPORTED, "a statement where a value should be");
    }
}

static int eval(jj_run *r, jj_value *out, const jj_node *n)
{
    if (!jj_charge(r, JJ_STEP)) return jj_no_work(r);
    if (++r->depth > DEEPEST) return jj_fail(r, ANM_ERR_LIMIT, "nests more than %d deep", DEEPEST);
    int rc = eval_inner(r, out, n);
    r->depth--;
    return rc;
}

/* ---- statements ---- */

static int assign(jj_run *r, const jj_node *target, const jj_value *v)
{
    if (target->kind == JJ_N_NAME) return jj_define(r, r->scope, target->s, target->n, v);
    if (target->kind == JJ_N_ATTR) {
        jj_value ns = look_up(r, target->a->s, target->a->n);
        if (ns.type != JJ_MAP || !ns.map->is_namespace)
            return jj_fail(r, ANM_ERR_FORMAT, "sets '%.*s' of '%.*s', which is no namespace", (int)target->n, target->s, (int)target->a->n, target->a->s);
        jj_value key = {.type = JJ_STR, .s = {target->s, NULL, target->n}};
        return jj_map_set(r, ns.map, &key, v);
    }
    if (v->type != JJ_SEQ || v->seq->n != target->count)
        return jj_fail(r, ANM_ERR_FORMAT, "gives %s to %zu names", jj_type_name(v), target->count);
    for (size_t i = 0; i < target->count; i++) {
        int rc = assign(r, target->list[i], &v->seq->v[i]);
        if (rc) return rc;
    }
    return 0;
}

/* What a loop goes through, after its condition has chosen. */
static int loop_items(jj_run *r, jj_value *out, const jj_node *n)
{
    static const jj_node as_list = {.s = "list", .n = 4};
    jj_value v, all;
    const jj_args none = {0};
    struct jj_scope *before;
    int rc;
    if ((rc = eval(r, &v, n->a)) || (rc = jj_filter(r, &all, &as_list, &v, &none))) return rc;
    *out = all;
    if (!n->b) return 0;
    if ((rc = jj_seq_new(r, out)) || (rc = push_scope(r, r->scope, &before))) return rc;
    for (size_t i = 0; !rc && i < all.seq->n; i++) {
        jj_value keep;
        if ((rc = assign(r, n->target, &all.seq->v[i])) || (rc = eval(r, &keep, n->b))) break;
        if (jj_truth(&keep)) rc = jj_seq_add(r, out->seq, &all.seq->v[i]);
    }
    r->scope = before;
    return rc;
}

static int loop_variable(jj_run *r, const jj_seq *items, size_t i)
{
    const struct {
        const char *name;
        jj_value v;
    } fields[] = {
        {"index", {.type = JJ_INTEGER, .i = (int64_t)i + 1}},
        {"index0", {.type = JJ_INTEGER, .i = (int64_t)i}},
        {"revindex", {.type = JJ_INTEGER, .i = (int64_t)(items->n - i)}},
        {"revindex0", {.type = JJ_INTEGER, .i = (int64_t)(items->n - i) - 1}},
        {"length", {.type = JJ_INTEGER, .i = (int64_t)items->n}},
        {"first", boolean(i == 0)},
        {"last", boolean(i + 1 == items->n)},
        {"previtem", i ? items->v[i - 1] : (jj_value){.type = JJ_UNDEFINED}},
        {"nextitem", i + 1 < items->n ? items->v[i + 1] : (jj_value){.type = JJ_UNDEFINED}},
    };
    jj_value loop;
    int rc = jj_map_new(r, &loop);
    for (size_t k = 0; !rc && k < sizeof fields / sizeof *fields; k++) {
        jj_value key = jj_str(fields[k].name);
        if (fields[k].v.type != JJ_UNDEFINED) rc = jj_map_set(r, loop.map, &key, &fields[k].v);
    }
    return rc ? rc : jj_define(r, r->scope, "loop", 4, &loop);
}

static int run_for(jj_run *r, const jj_node *n)
{
    jj_value items;
    int rc = loop_items(r, &items, n);
    if (rc) return rc;
    bool whole = false; /* did one round come to its end? jinja2's else asks for that, not for items */
    for (size_t i = 0; !rc && i < items.seq->n; i++) {
        struct jj_scope *before;
        if ((rc = push_scope(r, r->scope, &before))) break;
        if (!(rc = loop_variable(r, items.seq, i)) && !(rc = assign(r, n->target, &items.seq->v[i]))) rc = jj_render(r, n->body);
        r->scope = before;
        bool breaking = r->breaking;
        whole = whole || !(breaking || r->continuing);
        r->breaking = r->continuing = false;
        if (breaking) break;
    }
    return rc || whole || !n->other ? rc : jj_render(r, n->other);
}

static int run_if(jj_run *r, const jj_node *n)
{
    for (;;) {
        jj_value v;
        int rc = eval(r, &v, n->a);
        if (rc) return rc;
        if (jj_truth(&v)) return jj_render(r, n->body);
        if (!n->other) return 0;
        if (n->other->kind != JJ_N_IF || n->other->next) return jj_render(r, n->other);
        n = n->other; /* elif */
        r->line = n->line;
    }
}

static int run_set(jj_run *r, const jj_node *n)
{
    jj_value v;
    int rc = n->a ? eval(r, &v, n->a) : capture(r, &v, n->body);
    return rc ? rc : assign(r, n->target, &v);
}

static int run_one(jj_run *r, const jj_node *n)
{
    jj_value v, s;
    int rc;
    switch (n->kind) {
    case JJ_N_TEXT: return jj_text_put(r, r->out, n->s, NULL, n->n);
    case JJ_N_PRINT:
        if ((rc = eval(r, &v, n->a)) || (rc = jj_to_str(r, &s, &v))) return rc;
        return jj_text_put(r, r->out, s.s.p, s.s.mark, s.s.n);
    case JJ_N_IF: return run_if(r, n);
    case JJ_N_FOR: return run_for(r, n);
    case JJ_N_SET: return run_set(r, n);
    case JJ_N_MACRO:
        v = (jj_value){.type = JJ_MACRO, .macro = n};
        return jj_define(r, r->scope, n->s, n->n, &v);
    case JJ_N_BREAK: r->breaking = true; return 0;
    case JJ_N_CONTINUE: r->continuing = true; return 0;
    default: return jj_fail(r, ANM_ERR_UNSUPPORTED, "a value where a statement should be");
    }
}

int jj_render(jj_run *r, const jj_node *tree)
{
    if (++r->depth > DEEPEST) return jj_fail(r, ANM_ERR_LIMIT, "nests more than %d deep", DEEPEST);
    for (const jj_node *n = tree; n && !r->breaking && !r->continuing; n = n->next) {
        r->line = n->line;
        if (!jj_charge(r, JJ_STEP)) return jj_no_work(r);
        int rc = run_one(r, n);
        if (rc) return rc;
    }
    r->depth--;
    return 0;
}
