/* SPDX-License-Identifier: BSD-3-Clause */
/* What a template may call on a value: methods, filters, tests. */
#include "chat/jinja.h"

#include "base/find.h"
#include "base/utf8.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

/* ---- strings ---- */

static bool is_space(uint32_t c) /* Python's str.isspace */
{
    return (c >= 9 && c <= 13) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

static bool strips(jj_run *r, const char *p, const jj_value *set)
{
    if (!jj_charge(r, set ? set->s.n : 1)) return false;
    if (!set) return is_space(anm_utf8_at(p));
    size_t len = anm_utf8_len(*p);
    for (size_t i = 0; i < set->s.n; i += anm_utf8_len(set->s.p[i]))
        if (anm_utf8_len(set->s.p[i]) == len && memcmp(set->s.p + i, p, len) == 0) return true;
    return false;
}

static jj_value strip(jj_run *r, const jj_value *v, const jj_value *set, bool left, bool right)
{
    size_t from = 0, to = v->s.n;
    while (left && from < to && strips(r, v->s.p + from, set)) from += anm_utf8_len(v->s.p[from]);
    while (right && to > from) {
        size_t last = anm_utf8_before(v->s.p, to);
        if (!strips(r, v->s.p + last, set)) break;
        to = last;
    }
    return jj_cut(v, from, to);
}

/* What is sought is gone through four times, and slowly, to be found in one walk. */
static bool find(jj_run *r, size_t *at, const jj_value *v, size_t from, const jj_value *what)
{
    const char *is = r->work ? anm_find(v->s.p + from, v->s.n - from, what->s.p, what->s.n) : NULL;
    *at = is ? (size_t)(is - v->s.p) : v->s.n;
    return jj_charge(r, *at - from + 8 * what->s.n) && is;
}

/* upper, lower, title, capitalize: character by character, as far as one character becomes one. */
static int recase(jj_run *r, jj_value *out, const jj_value *v, const char *how)
{
    jj_text t = {0};
    bool inside = false; /* of a word (title), or past the first character (capitalize) */
    for (size_t i = 0, len; i < v->s.n; i += len) {
        len = anm_utf8_len(v->s.p[i]);
        utf8proc_int32_t c = (utf8proc_int32_t)anm_utf8_at(v->s.p + i);
        bool up = *how == 'u' || (*how != 'l' && !inside);
        char u[4];
        utf8proc_category_t k = utf8proc_category(c);
        inside = *how == 'c' || k == UTF8PROC_CATEGORY_LU || k == UTF8PROC_CATEGORY_LL || k == UTF8PROC_CATEGORY_LT;
        size_t n = anm_utf8_put(u, (uint32_t)(up ? utf8proc_toupper(c) : utf8proc_tolower(c)));
        uint8_t mark[4];
        memset(mark, v->s.mark ? v->s.mark[i] : 0, sizeof mark);
        int rc = jj_text_put(r, &t, u, mark, n);
        if (rc) return rc;
    }
    *out = jj_text_value(&t);
    return 0;
}

static int replace(jj_run *r, jj_value *out, const jj_value *v, const jj_value *from, const jj_value *to, int64_t count)
{
    jj_text t = {0};
    size_t done = 0, at;
    int rc;
    if (!from->s.n) return jj_fail(r, ANM_ERR_UNSUPPORTED, "replaces the empty text");
    while (count-- && find(r, &at, v, done, from)) {
        jj_value before = jj_cut(v, done, at);
        if ((rc = jj_text_put(r, &t, before.s.p, before.s.mark, before.s.n))) return rc;
        if ((rc = jj_text_put(r, &t, to->s.p, to->s.mark, to->s.n))) return rc;
        done = at + from->s.n;
    }
    jj_value rest = jj_cut(v, done, v->s.n);
    if ((rc = jj_text_put(r, &t, rest.s.p, rest.s.mark, rest.s.n))) return rc;
    *out = jj_text_value(&t);
    return 0;
}

/* split with a separator, or at white space; `most` cuts, from the right where `right`. */
static int split(jj_run *r, jj_value *out, const jj_value *v, const jj_value *by, int64_t most, bool right)
{
    int rc = jj_seq_new(r, out);
    size_t done = 0, at;
    if (rc) return rc;
    if (right && most >= 0) return jj_fail(r, ANM_ERR_UNSUPPORTED, "rsplit with a count is not one that we do");
    if (by) {
        if (!by->s.n) return jj_fail(r, ANM_ERR_FORMAT, "splits by the empty text");
        for (; most != 0 && find(r, &at, v, done, by); done = at + by->s.n, most -= most > 0) {
            jj_value part = jj_cut(v, done, at);
            if ((rc = jj_seq_add(r, out->seq, &part))) return rc;
        }
        jj_value rest = jj_cut(v, done, v->s.n);
        return jj_seq_add(r, out->seq, &rest);
    }
    for (;;) {
        jj_value rest = jj_cut(v, done, v->s.n);
        rest = strip(r, &rest, NULL, true, most == 0);
        if (!rest.s.n || !r->work) return 0;
        size_t end = 0;
        while (end < rest.s.n && (most == 0 || !is_space(anm_utf8_at(rest.s.p + end)))) end += anm_utf8_len(rest.s.p[end]);
        jj_charge(r, end);
        jj_value part = jj_cut(&rest, 0, end);
        if ((rc = jj_seq_add(r, out->seq, &part))) return rc;
        done = (size_t)(rest.s.p - v->s.p) + end;
        if (most > 0) most--;
    }
}

/* ---- arguments ---- */

/* The argument at `place`, or of that name; NULL when it is not given. */
static const jj_value *argument(jj_run *r, const jj_args *args, size_t place, const char *name)
{
    jj_charge(r, JJ_ITEM * args->n);
    for (size_t i = 0, at = 0; i < args->n; i++) {
        if (!args->name[i] && at++ == place) return &args->v[i];
        if (args->name[i] && strlen(name) == args->name_n[i] && memcmp(args->name[i], name, args->name_n[i]) == 0) return &args->v[i];
    }
    return NULL;
}

static int text_argument(jj_run *r, const jj_value **out, const jj_node *of, const jj_args *args, size_t place, const char *name)
{
    const jj_value *v = argument(r, args, place, name);
    *out = NULL;
    if (!v || v->type == JJ_NONE) return 0;
    if (v->type != JJ_STR) return jj_fail(r, ANM_ERR_FORMAT, "%.*s is given %s, not a text", (int)of->n, of->s, jj_type_name(v));
    *out = v;
    return 0;
}

static int must_be_text(jj_run *r, const jj_node *of, const jj_value *v)
{
    return v->type == JJ_STR ? 0 : jj_fail(r, ANM_ERR_FORMAT, "%.*s is used on %s, not on a text", (int)of->n, of->s, jj_type_name(v));
}

/* ---- methods ---- */

static int ends(jj_run *r, jj_value *out, const jj_node *name, const jj_value *v, const jj_args *args, bool start)
{
    const jj_value *what = argument(r, args, 0, "");
    jj_seq one = {.v = (jj_value *)(uintptr_t)what, .n = 1};
    const jj_seq *list = what && what->type == JJ_SEQ ? what->seq : &one;
    *out = (jj_value){.type = JJ_BOOL};
    if (!what) return jj_fail(r, ANM_ERR_FORMAT, "%.*s without an argument", (int)name->n, name->s);
    for (size_t i = 0; i < list->n; i++) {
        const jj_value *w = &list->v[i];
        if (w->type != JJ_STR) return jj_fail(r, ANM_ERR_FORMAT, "%.*s is given %s, not a text", (int)name->n, name->s, jj_type_name(w));
        jj_charge(r, JJ_ITEM);
        if (w->s.n <= v->s.n && jj_same(r, start ? v->s.p : v->s.p + v->s.n - w->s.n, w->s.p, w->s.n)) out->b = true;
    }
    return 0;
}

static int string_method(jj_run *r, jj_value *out, const jj_node *name, const jj_value *v, const jj_args *args)
{
    const jj_value *a, *b, *count = argument(r, args, 1, "maxsplit");
    int rc;
    if (jj_is(name, "startswith") || jj_is(name, "endswith")) return ends(r, out, name, v, args, name->s[0] == 's');
    if ((rc = text_argument(r, &a, name, args, 0, "sep"))) return rc;
    if (jj_is(name, "strip") || jj_is(name, "lstrip") || jj_is(name, "rstrip")) {
        *out = strip(r, v, a, name->s[0] != 'r', name->s[0] != 'l');
        return 0;
    }
    if (jj_is(name, "split") || jj_is(name, "rsplit")) {
        if (count && count->type != JJ_INTEGER) return jj_fail(r, ANM_ERR_FORMAT, "split is given %s as a count", jj_type_name(count));
        return split(r, out, v, a, count ? count->i : -1, name->s[0] == 'r');
    }
    if (jj_is(name, "upper") || jj_is(name, "lower") || jj_is(name, "title") || jj_is(name, "capitalize")) return recase(r, out, v, name->s);
    if (jj_is(name, "replace")) {
        if ((rc = text_argument(r, &b, name, args, 1, ""))) return rc;
        if (!a || !b) return jj_fail(r, ANM_ERR_FORMAT, "replace lacks an argument");
        return replace(r, out, v, a, b, -1);
    }
    if (jj_is(name, "find") && a) {
        size_t at;
        *out = (jj_value){.type = JJ_INTEGER, .i = -1};
        if (!find(r, &at, v, 0, a)) return 0;
        jj_value before = jj_cut(v, 0, at);
        out->i = (int64_t)jj_chars(r, &before);
        return 0;
    }
    if (jj_is(name, "join") && args->n == 1) {
        const jj_node filter = {.s = "join", .n = 4, .line = name->line};
        jj_args by = {.v = (jj_value *)(uintptr_t)v, .name = args->name, .name_n = args->name_n, .n = 1};
        return jj_filter(r, out, &filter, &args->v[0], &by);
    }
    return jj_fail(r, ANM_ERR_UNSUPPORTED, "the method '%.*s' of a text is not one that we do", (int)name->n, name->s);
}

static int map_method(jj_run *r, jj_value *out, const jj_node *name, const jj_value *v, const jj_args *args)
{
    int rc;
    if (jj_is(name, "get")) {
        const jj_value *key = argument(r, args, 0, ""), *otherwise = argument(r, args, 1, "");
        if (!key) return jj_fail(r, ANM_ERR_FORMAT, "get without a key");
        if ((rc = jj_item(r, out, v, key))) return rc;
        if (out->type == JJ_UNDEFINED) *out = otherwise ? *otherwise : (jj_value){.type = JJ_NONE};
        return 0;
    }
    bool items = jj_is(name, "items"), keys = jj_is(name, "keys"), values = jj_is(name, "values");
    if (!items && !keys && !values)
        return jj_fail(r, ANM_ERR_UNSUPPORTED, "the method '%.*s' of a map is not one that we do", (int)name->n, name->s);
    if ((rc = jj_seq_new(r, out))) return rc;
    for (size_t i = 0; i < v->map->n; i++) {
        jj_value pair;
        if (items) {
            if ((rc = jj_seq_new(r, &pair))) return rc;
            pair.seq->tuple = true;
            if ((rc = jj_seq_add(r, pair.seq, &v->map->key[i])) || (rc = jj_seq_add(r, pair.seq, &v->map->value[i]))) return rc;
        } else {
            pair = keys ? v->map->key[i] : v->map->value[i];
        }
        if ((rc = jj_seq_add(r, out->seq, &pair))) return rc;
    }
    return 0;
}

int jj_method(jj_run *r, jj_value *out, const jj_node *name, const jj_value *v, const jj_args *args)
{
    if (v->type == JJ_STR) return string_method(r, out, name, v, args);
    if (v->type == JJ_MAP) return map_method(r, out, name, v, args);
    if (v->type == JJ_UNDEFINED) return jj_fail(r, ANM_ERR_FORMAT, "calls '%.*s' of something that is undefined", (int)name->n, name->s);
    return jj_fail(r, ANM_ERR_UNSUPPORTED, "the method '%.*s' of %s is not one that we do", (int)name->n, name->s, jj_type_name(v));
}

/* ---- filters ---- */

static const char *const filters[] = {"trim", "length", "count", "upper", "lower", "title", "capitalize", "string", "int", "float",
                                      "default", "d", "join", "first", "last", "list", "replace", "tojson", "safe", "items",
                                      "reverse", "selectattr", "rejectattr", "select", "reject", "map", NULL};

bool jj_filter_known(const char *name, size_t n)
{
    for (int i = 0; filters[i]; i++)
        if (strlen(filters[i]) == n && memcmp(filters[i], name, n) == 0) return true;
    return false;
}

/* A list of what a value holds: a list's items, a map's keys, a text's characters; nothing of the undefined. */
static int items_of(jj_run *r, jj_value *out, const jj_value *v)
{
    int rc;
    if (v->type == JJ_SEQ) {
        *out = *v;
        return 0;
    }
    if ((rc = jj_seq_new(r, out))) return rc;
    if (v->type == JJ_UNDEFINED) return 0;
    for (size_t i = 0; v->type == JJ_MAP && i < v->map->n; i++)
        if ((rc = jj_seq_add(r, out->seq, &v->map->key[i]))) return rc;
    for (size_t i = 0, len; v->type == JJ_STR && i < v->s.n; i += len) {
        len = anm_utf8_len(v->s.p[i]);
        jj_value c = jj_cut(v, i, i + len);
        if ((rc = jj_seq_add(r, out->seq, &c))) return rc;
    }
    return v->type == JJ_MAP || v->type == JJ_STR ? 0 : jj_fail(r, ANM_ERR_FORMAT, "walks through %s", jj_type_name(v));
}

static int join(jj_run *r, jj_value *out, const jj_value *list, const jj_value *by)
{
    jj_text t = {0};
    jj_value s;
    int rc;
    for (size_t i = 0; i < list->seq->n && jj_charge(r, JJ_ITEM); i++) {
        if (i && by && (rc = jj_text_put(r, &t, by->s.p, by->s.mark, by->s.n))) return rc;
        if ((rc = jj_to_str(r, &s, &list->seq->v[i])) || (rc = jj_text_put(r, &t, s.s.p, s.s.mark, s.s.n))) return rc;
    }
    *out = jj_text_value(&t);
    return 0;
}

/* select, reject: items chosen by a test; selectattr, rejectattr: by an attribute, or a test on it; map(attribute=…):
 * items replaced by an attribute. */
static int by_attribute(jj_run *r, jj_value *out, const jj_node *name, const jj_value *list, const jj_args *args)
{
    bool map = jj_is(name, "map"), reject = name->s[0] == 'r', whole = jj_is(name, "select") || jj_is(name, "reject");
    const jj_value *key = whole ? NULL : argument(r, args, map ? SIZE_MAX : 0, "attribute"), *test = argument(r, args, !whole, "");
    size_t skip = whole ? 1 : 2;
    int rc = jj_seq_new(r, out);
    if (rc) return rc;
    if ((!whole && (!key || key->type != JJ_STR)) || (test && (test->type != JJ_STR || !jj_test_known(test->s.p, test->s.n))))
        return jj_fail(r, ANM_ERR_UNSUPPORTED, "the filter '%.*s' with these arguments is not one that we do", (int)name->n, name->s);
    if (skip > args->n) skip = args->n;
    for (size_t i = 0; i < list->seq->n && jj_charge(r, JJ_ITEM); i++) {
        jj_value v = list->seq->v[i];
        if (key && (rc = jj_item(r, &v, &list->seq->v[i], key))) return rc;
        if (map) {
            if ((rc = jj_seq_add(r, out->seq, &v))) return rc;
            continue;
        }
        bool keep = jj_truth(&v);
        if (test) {
            const jj_node n = {.s = test->s.p, .n = test->s.n, .line = name->line};
            jj_args rest = {args->v + skip, args->name + skip, args->name_n + skip, args->n - skip};
            if ((rc = jj_test(r, &keep, &n, &v, &rest))) return rc;
        }
        if (keep != reject && (rc = jj_seq_add(r, out->seq, &list->seq->v[i]))) return rc;
    }
    return 0;
}

static int list_filter(jj_run *r, jj_value *out, const jj_node *name, const jj_value *v, const jj_args *args)
{
    const jj_value *by;
    jj_value list;
    int rc = items_of(r, &list, v);
    if (rc) return rc;
    size_t n = list.seq->n;
    if (jj_is(name, "length") || jj_is(name, "count")) {
        *out = (jj_value){.type = JJ_INTEGER, .i = (int64_t)n};
    } else if (jj_is(name, "first")) {
        *out = n ? list.seq->v[0] : (jj_value){.type = JJ_UNDEFINED};
    } else if (jj_is(name, "last")) {
        *out = n ? list.seq->v[n - 1] : (jj_value){.type = JJ_UNDEFINED};
    } else if (jj_is(name, "join")) {
        if ((rc = text_argument(r, &by, name, args, 0, "d"))) return rc;
        if (argument(r, args, 1, "attribute")) return jj_fail(r, ANM_ERR_UNSUPPORTED, "join by an attribute is not one that we do");
        return join(r, out, &list, by);
    } else if (jj_is(name, "list") || jj_is(name, "reverse")) {
        bool reverse = name->s[0] == 'r';
        if ((rc = jj_seq_new(r, out))) return rc;
        for (size_t i = 0; !rc && i < n; i++) rc = jj_seq_add(r, out->seq, &list.seq->v[reverse ? n - 1 - i : i]);
        if (!rc && reverse && v->type == JJ_STR) return join(r, out, out, NULL);
        return rc;
    } else {
        return by_attribute(r, out, name, &list, args);
    }
    return 0;
}

static int number_filter(jj_value *out, const jj_node *name, const jj_value *v)
{
    double f = 0;
    if (v->type == JJ_STR && v->s.n < 64) { /* what is no number becomes 0, as in the original */
        char text[64], *end;
        memcpy(text, v->s.p, v->s.n);
        text[v->s.n] = 0;
        f = strtod(text, &end);
        if (*end) f = 0;
    } else if (v->type == JJ_INTEGER && jj_is(name, "int")) {
        *out = *v;
        return 0;
    } else if (!jj_number(v, &f)) {
        f = 0;
    }
    if (jj_is(name, "int")) *out = (jj_value){.type = JJ_INTEGER, .i = f > -9e15 && f < 9e15 ? (int64_t)f : 0};
    else *out = (jj_value){.type = JJ_REAL, .f = f};
    return 0;
}

int jj_filter(jj_run *r, jj_value *out, const jj_node *name, const jj_value *v, const jj_args *args)
{
    const jj_value *a, *b;
    int rc;
    if (jj_is(name, "default") || jj_is(name, "d")) {
        a = argument(r, args, 0, "default_value");
        b = argument(r, args, 1, "boolean");
        bool missing = v->type == JJ_UNDEFINED || (b && jj_truth(b) && !jj_truth(v));
        *out = !missing ? *v : a ? *a : jj_str("");
        return 0;
    }
    if (jj_is(name, "tojson")) {
        jj_text t = {0};
        if (args->n) return jj_fail(r, ANM_ERR_UNSUPPORTED, "tojson with arguments is not one that we do");
        if ((rc = jj_put_json(r, &t, v, 0))) return rc;
        *out = jj_text_value(&t);
        return 0;
    }
    if (jj_is(name, "int") || jj_is(name, "float")) return number_filter(out, name, v);
    if (jj_is(name, "items")) {
        if (v->type == JJ_UNDEFINED) return jj_seq_new(r, out);
        if (v->type != JJ_MAP) return jj_fail(r, ANM_ERR_FORMAT, "takes the items of %s", jj_type_name(v));
        return map_method(r, out, name, v, args);
    }
    if (jj_is(name, "string") || jj_is(name, "safe")) return jj_to_str(r, out, v);
    static const char *const of_text[] = {"trim", "upper", "lower", "title", "capitalize", "replace", NULL};
    for (int i = 0; of_text[i]; i++) {
        jj_value s;
        if (!jj_is(name, of_text[i])) continue;
        if ((rc = jj_to_str(r, &s, v)) || (rc = must_be_text(r, name, &s))) return rc;
        if (i == 0) {
            if ((rc = text_argument(r, &a, name, args, 0, "chars"))) return rc;
            *out = strip(r, &s, a, true, true);
            return 0;
        }
        return string_method(r, out, name, &s, args);
    }
    return list_filter(r, out, name, v, args);
}

/* ---- tests ---- */

static const char *const tests[] = {"defined", "undefined", "none", "string", "mapping", "iterable", "sequence", "number", "integer",
                                    "float", "boolean", "true", "false", "odd", "even", "equalto", "eq", "ne", "in", "callable", NULL};

bool jj_test_known(const char *name, size_t n)
{
    for (int i = 0; tests[i]; i++)
        if (strlen(tests[i]) == n && memcmp(tests[i], name, n) == 0) return true;
    return false;
}

/* Is v an item of `all`, a key, or a part of a text? */
static int is_in(jj_run *r, bool *out, const jj_value *v, const jj_value *all)
{
    jj_value items;
    size_t at;
    *out = false;
    if (all->type == JJ_STR) {
        *out = v->type == JJ_STR && find(r, &at, all, 0, v);
        return 0;
    }
    int rc = items_of(r, &items, all);
    for (size_t i = 0; !rc && i < items.seq->n && !*out; i++) *out = jj_equal(r, &items.seq->v[i], v, 0);
    return rc;
}

int jj_test(jj_run *r, bool *out, const jj_node *name, const jj_value *v, const jj_args *args)
{
    const jj_value *a = argument(r, args, 0, "other");
    jj_type k = v->type;
    bool list = k == JJ_SEQ || k == JJ_MAP || k == JJ_STR;
    if (jj_is(name, "defined")) *out = k != JJ_UNDEFINED;
    else if (jj_is(name, "undefined")) *out = k == JJ_UNDEFINED;
    else if (jj_is(name, "none")) *out = k == JJ_NONE;
    else if (jj_is(name, "string")) *out = k == JJ_STR;
    else if (jj_is(name, "mapping")) *out = k == JJ_MAP && !v->map->is_namespace;
    else if (jj_is(name, "iterable")) *out = list || k == JJ_UNDEFINED;
    else if (jj_is(name, "sequence")) *out = list || k == JJ_UNDEFINED;
    else if (jj_is(name, "number")) *out = k == JJ_INTEGER || k == JJ_REAL || k == JJ_BOOL;
    else if (jj_is(name, "integer")) *out = k == JJ_INTEGER;
    else if (jj_is(name, "float")) *out = k == JJ_REAL;
    else if (jj_is(name, "boolean")) *out = k == JJ_BOOL;
    else if (jj_is(name, "true")) *out = k == JJ_BOOL && v->b;
    else if (jj_is(name, "false")) *out = k == JJ_BOOL && !v->b;
    else if (jj_is(name, "callable")) *out = k == JJ_MACRO;
    else if (jj_is(name, "odd") || jj_is(name, "even")) {
        if (k != JJ_INTEGER) return jj_fail(r, ANM_ERR_FORMAT, "asks whether %s is %.*s", jj_type_name(v), (int)name->n, name->s);
        *out = (v->i % 2 != 0) == (name->s[0] == 'o');
    } else if (!a) {
        return jj_fail(r, ANM_ERR_FORMAT, "the test '%.*s' lacks what to compare with", (int)name->n, name->s);
    } else if (jj_is(name, "in")) {
        return is_in(r, out, v, a);
    } else {
        *out = jj_equal(r, v, a, 0) != jj_is(name, "ne");
    }
    return 0;
}
