/* SPDX-License-Identifier: BSD-3-Clause */
/* Values of templates: strings that know which of their bytes a message said, lists, maps; what they are, and their JSON. */
#include "chat/jinja.h"

#include "base/utf8.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- failures ---- */

int jj_fail(jj_run *r, int code, const char *fmt, ...)
{
    char text[400];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    return anm_fail(r->err, code, "the chat template, line %d: %s", r->line, text);
}

int jj_no_memory(jj_run *r)
{
    return jj_fail(r, ANM_ERR_LIMIT, "takes more memory than a conversation of this size should");
}

int jj_no_work(jj_run *r)
{
    return jj_fail(r, ANM_ERR_LIMIT, "takes too many steps");
}

bool jj_same(jj_run *r, const char *p, const char *q, size_t n)
{
    return jj_charge(r, n) && memcmp(p, q, n) == 0;
}

/* ---- strings ---- */

jj_value jj_str(const char *p)
{
    return (jj_value){.type = JJ_STR, .s = {p, NULL, strlen(p)}};
}

int jj_text_put(jj_run *r, jj_text *t, const char *p, const uint8_t *mark, size_t n)
{
    if (n > t->room - t->n) {
        size_t room = t->room * 2 + n + 64;
        char *q = anm_arena_alloc(&r->arena, room + 1);
        uint8_t *m = anm_arena_alloc(&r->arena, room);
        if (!q || !m) return jj_no_memory(r);
        if (t->n) {
            memcpy(q, t->p, t->n);
            memcpy(m, t->mark, t->n);
        }
        t->p = q;
        t->mark = m;
        t->room = room;
    }
    if (!n) return 0;
    memcpy(t->p + t->n, p, n);
    if (mark) memcpy(t->mark + t->n, mark, n);
    else memset(t->mark + t->n, 0, n);
    t->n += n;
    return 0;
}

jj_value jj_text_value(const jj_text *t)
{
    return (jj_value){.type = JJ_STR, .s = {t->p ? t->p : "", t->mark, t->n}};
}

jj_value jj_cut(const jj_value *v, size_t from, size_t to)
{
    return (jj_value){.type = JJ_STR, .s = {v->s.p + from, v->s.mark ? v->s.mark + from : NULL, to - from}};
}

size_t jj_chars(jj_run *r, const jj_value *v)
{
    size_t n = 0;
    if (!jj_charge(r, v->s.n)) return 0;
    for (size_t i = 0; i < v->s.n; i += anm_utf8_len(v->s.p[i])) n++;
    return n;
}

/* ---- lists and maps ---- */

int jj_seq_new(jj_run *r, jj_value *out)
{
    *out = (jj_value){.type = JJ_SEQ};
    out->seq = anm_arena_alloc(&r->arena, sizeof *out->seq);
    return out->seq ? 0 : jj_no_memory(r);
}

int jj_seq_add(jj_run *r, jj_seq *s, const jj_value *v)
{
    if (s->n == s->room) {
        size_t room = s->room * 2 + 4;
        jj_value *list = anm_arena_array(&r->arena, room, sizeof *list);
        if (!list) return jj_no_memory(r);
        if (s->n) memcpy(list, s->v, s->n * sizeof *list);
        s->v = list;
        s->room = room;
    }
    s->v[s->n++] = *v;
    return 0;
}

int jj_map_new(jj_run *r, jj_value *out)
{
    *out = (jj_value){.type = JJ_MAP};
    out->map = anm_arena_alloc(&r->arena, sizeof *out->map);
    return out->map ? 0 : jj_no_memory(r);
}

int jj_map_set(jj_run *r, jj_map *m, const jj_value *key, const jj_value *v)
{
    for (size_t i = 0; i < m->n; i++)
        if (jj_equal(r, &m->key[i], key, 0)) {
            m->value[i] = *v;
            return 0;
        }
    if (m->n == m->room) {
        size_t room = m->room * 2 + 4;
        jj_value *list = anm_arena_array(&r->arena, room * 2, sizeof *list);
        if (!list) return jj_no_memory(r);
        if (m->n) {
            memcpy(list, m->key, m->n * sizeof *list);
            memcpy(list + room, m->value, m->n * sizeof *list);
        }
        m->key = list;
        m->value = list + room;
        m->room = room;
    }
    m->key[m->n] = *key;
    m->value[m->n++] = *v;
    return 0;
}

const jj_value *jj_map_get(jj_run *r, const jj_map *m, const char *key, size_t n)
{
    for (size_t i = 0; i < m->n && jj_charge(r, JJ_ITEM); i++)
        if (m->key[i].type == JJ_STR && m->key[i].s.n == n && jj_same(r, m->key[i].s.p, key, n)) return &m->value[i];
    return NULL;
}

int jj_item(jj_run *r, jj_value *out, const jj_value *v, const jj_value *key)
{
    *out = (jj_value){.type = JJ_UNDEFINED};
    if (v->type == JJ_UNDEFINED) return jj_fail(r, ANM_ERR_FORMAT, "takes an item of something that is undefined");
    if (v->type == JJ_MAP) {
        for (size_t i = 0; i < v->map->n; i++)
            if (jj_equal(r, &v->map->key[i], key, 0)) *out = v->map->value[i];
        return 0;
    }
    if (key->type != JJ_INTEGER) return 0;
    int64_t n = v->type == JJ_SEQ ? (int64_t)v->seq->n : v->type == JJ_STR ? (int64_t)jj_chars(r, v) : 0;
    int64_t i = key->i < 0 ? key->i + n : key->i;
    if (i < 0 || i >= n) return 0;
    if (v->type == JJ_SEQ) {
        *out = v->seq->v[i];
        return 0;
    }
    size_t at = 0;
    jj_charge(r, (uint64_t)i);
    while (i--) at += anm_utf8_len(v->s.p[at]);
    *out = jj_cut(v, at, at + anm_utf8_len(v->s.p[at]));
    return 0;
}

/* ---- what values are ---- */

const char *jj_type_name(const jj_value *v)
{
    static const char *const names[] = {"undefined", "none", "a boolean", "an integer", "a number", "a text", "a list", "a map", "a macro"};
    return names[v->type];
}

bool jj_truth(const jj_value *v)
{
    switch (v->type) {
    case JJ_UNDEFINED:
    case JJ_NONE: return false;
    case JJ_BOOL: return v->b;
    case JJ_INTEGER: return v->i != 0;
    case JJ_REAL: return v->f < 0 || v->f > 0;
    case JJ_STR: return v->s.n > 0;
    case JJ_SEQ: return v->seq->n > 0;
    case JJ_MAP: return v->map->n > 0 || v->map->is_namespace;
    case JJ_MACRO: return true;
    }
    return false;
}

bool jj_number(const jj_value *v, double *f)
{
    if (v->type == JJ_BOOL) *f = v->b;
    else if (v->type == JJ_INTEGER) *f = (double)v->i;
    else if (v->type == JJ_REAL) *f = v->f;
    else return false;
    return true;
}

bool jj_equal(jj_run *r, const jj_value *x, const jj_value *y, int depth)
{
    double a, b;
    if (!jj_charge(r, JJ_VALUE)) return false;
    if (jj_number(x, &a) && jj_number(y, &b)) {
        if (x->type == JJ_INTEGER && y->type == JJ_INTEGER) return x->i == y->i;
        return !(a < b) && !(a > b);
    }
    if (x->type != y->type || depth > 50) return false;
    switch (x->type) {
    case JJ_STR: return x->s.n == y->s.n && jj_same(r, x->s.p, y->s.p, x->s.n);
    case JJ_SEQ:
        if (x->seq == y->seq) return true;
        if (x->seq->n != y->seq->n || x->seq->tuple != y->seq->tuple) return false;
        for (size_t i = 0; i < x->seq->n; i++)
            if (!jj_equal(r, &x->seq->v[i], &y->seq->v[i], depth + 1)) return false;
        return true;
    case JJ_MAP:
        if (x->map == y->map) return true;
        if (x->map->n != y->map->n) return false;
        for (size_t i = 0; i < x->map->n; i++) {
            const jj_value *k = &x->map->key[i], *v = k->type == JJ_STR ? jj_map_get(r, y->map, k->s.p, k->s.n) : NULL;
            if (!v || !jj_equal(r, &x->map->value[i], v, depth + 1)) return false;
        }
        return true;
    case JJ_MACRO: return x->macro == y->macro;
    default: return true; /* none is none, undefined is undefined */
    }
}

static void print_real(char *text, size_t room, double f)
{
    for (int digits = 1; digits <= 17; digits++) { /* the fewest that read back as the same number */
        snprintf(text, room, "%.*g", digits, f);
        double again = strtod(text, NULL);
        if (!(again < f) && !(again > f)) break;
    }
    if (strchr(text, 'e') && fabs(f) < 1e16 && fabs(f) >= 1) snprintf(text, room, "%.1f", f); /* as Python writes it */
    if (!strpbrk(text, ".en")) strncat(text, ".0", room - strlen(text) - 1);
}

int jj_to_str(jj_run *r, jj_value *out, const jj_value *v)
{
    char text[64];
    switch (v->type) {
    case JJ_STR: *out = *v; return 0;
    case JJ_UNDEFINED: *out = jj_str(""); return 0;
    case JJ_NONE: *out = jj_str("None"); return 0;
    case JJ_BOOL: *out = jj_str(v->b ? "True" : "False"); return 0;
    case JJ_INTEGER: snprintf(text, sizeof text, "%lld", (long long)v->i); break;
    case JJ_REAL: print_real(text, sizeof text, v->f); break;
    default: return jj_fail(r, ANM_ERR_UNSUPPORTED, "prints %s", jj_type_name(v));
    }
    const char *copy = anm_arena_strdup(&r->arena, text);
    if (!copy) return jj_no_memory(r);
    *out = jj_str(copy);
    return 0;
}

/* ---- JSON, as Python's json.dumps(…, ensure_ascii=False) ---- */

static int put(jj_run *r, jj_text *t, const char *s)
{
    return jj_text_put(r, t, s, NULL, strlen(s));
}

static int put_json_string(jj_run *r, jj_text *t, const jj_value *v)
{
    int rc = put(r, t, "\"");
    for (size_t i = 0; !rc && i < v->s.n; i++) {
        unsigned char c = (unsigned char)v->s.p[i];
        char text[8];
        uint8_t mark[8];
        static const char plain[] = "\"\"\\\\\bb\ff\nn\rr\tt";
        const char *e = NULL;
        for (size_t k = 0; !e && k + 1 < sizeof plain; k += 2)
            if ((unsigned char)plain[k] == c) e = plain + k + 1;
        if (e) snprintf(text, sizeof text, "\\%c", *e);
        else if (c < 0x20) snprintf(text, sizeof text, "\\u%04x", c);
        else snprintf(text, sizeof text, "%c", c);
        memset(mark, v->s.mark ? v->s.mark[i] : 0, sizeof mark);
        rc = jj_text_put(r, t, text, mark, strlen(text));
    }
    return rc ? rc : put(r, t, "\"");
}

int jj_put_json(jj_run *r, jj_text *t, const jj_value *v, int depth)
{
    int rc = 0;
    jj_value s;
    if (depth > 50) return jj_fail(r, ANM_ERR_LIMIT, "makes JSON of a list that is too deep");
    switch (v->type) {
    case JJ_STR: return put_json_string(r, t, v);
    case JJ_NONE: return put(r, t, "null");
    case JJ_BOOL: return put(r, t, v->b ? "true" : "false");
    case JJ_INTEGER:
    case JJ_REAL: return (rc = jj_to_str(r, &s, v)) ? rc : jj_text_put(r, t, s.s.p, NULL, s.s.n);
    case JJ_SEQ:
        rc = put(r, t, "[");
        for (size_t i = 0; !rc && i < v->seq->n; i++) {
            if (i) rc = put(r, t, ", ");
            if (!rc) rc = jj_put_json(r, t, &v->seq->v[i], depth + 1);
        }
        return rc ? rc : put(r, t, "]");
    case JJ_MAP:
        rc = put(r, t, "{");
        for (size_t i = 0; !rc && i < v->map->n; i++) {
            if (i) rc = put(r, t, ", ");
            if (!rc && v->map->key[i].type != JJ_STR) return jj_fail(r, ANM_ERR_UNSUPPORTED, "makes JSON of a map whose keys are no texts");
            if (!rc) rc = put_json_string(r, t, &v->map->key[i]);
            if (!rc) rc = put(r, t, ": ");
            if (!rc) rc = jj_put_json(r, t, &v->map->value[i], depth + 1);
        }
        return rc ? rc : put(r, t, "}");
    default: return jj_fail(r, ANM_ERR_FORMAT, "makes JSON of %s", jj_type_name(v));
    }
}
