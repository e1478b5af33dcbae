/* SPDX-License-Identifier: BSD-3-Clause */
/* The normalizers of tokenizer.json. Unicode's normal forms come from utf8proc's tables. */
#include "token/hf.h"

#include "base/find.h"
#include "base/utf8.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

/* ---- reading ---- */

static int read_replace(anm_norm *s, const json_t *json, anm_arena *a, anm_error *err)
{
    const json_t *pattern = json_object_get(json, "pattern");
    size_t n;
    s->kind = ANM_NORM_REPLACE;
    s->to = anm_hf_string(json, "content", &s->to_n, a);
    s->from = anm_hf_string(pattern, "String", &s->from_n, a);
    const char *regex = anm_hf_string(pattern, "Regex", &n, a);
    if (!s->to || (!regex && (!s->from || !s->from_n)))
        return anm_fail(err, ANM_ERR_FORMAT, "the normalizer Replace lacks its pattern or content");
    return regex ? anm_stage_open(&s->stage, regex, n, ANM_DIALECT_ONIGURUMA, ANM_SPLIT_ISOLATED, false, err) : 0;
}

static int read_one(anm_norm *list, size_t *n, const json_t *json, anm_arena *a, int depth, anm_error *err)
{
    static const struct {
        const char *name;
        anm_norm_kind kind;
    } plain[] = {
        {"NFC", ANM_NORM_NFC},   {"NFD", ANM_NORM_NFD},             {"NFKC", ANM_NORM_NFKC},
        {"NFKD", ANM_NORM_NFKD}, {"Lowercase", ANM_NORM_LOWERCASE}, {"Strip", ANM_NORM_STRIP},
    };
    const char *type = anm_hf_type(json);
    if (strcmp(type, "Sequence") == 0 && depth < 4) {
        size_t i;
        json_t *item;
        json_array_foreach(json_object_get(json, "normalizers"), i, item)
        {
            int rc = read_one(list, n, item, a, depth + 1, err);
            if (rc) return rc;
        }
        return 0;
    }
    if (*n == ANM_HF_STEPS) return anm_fail(err, ANM_ERR_LIMIT, "more than %d normalizers", ANM_HF_STEPS);
    anm_norm *s = &list[(*n)++];
    if (strcmp(type, "Replace") == 0) return read_replace(s, json, a, err);
    if (strcmp(type, "Prepend") == 0) {
        s->kind = ANM_NORM_PREPEND;
        s->to = anm_hf_string(json, "prepend", &s->to_n, a);
        return s->to ? 0 : anm_fail(err, ANM_ERR_FORMAT, "the normalizer Prepend lacks its text");
    }
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++) {
        if (strcmp(type, plain[i].name) != 0) continue;
        s->kind = plain[i].kind;
        s->left = anm_hf_bool(json, "strip_left", true);
        s->right = anm_hf_bool(json, "strip_right", true);
        return 0;
    }
    (*n)--;
    return anm_fail(err, ANM_ERR_UNSUPPORTED, "the normalizer %s is not one that we do", type);
}

int anm_norm_read(anm_norm *list, size_t *n, const json_t *json, anm_arena *a, anm_error *err)
{
    *n = 0;
    return json_is_object(json) ? read_one(list, n, json, a, 0, err) : 0;
}

/* ---- normal forms ---- */

static bool put_char(anm_buf *out, int32_t c)
{
    char u[4];
    size_t n = anm_utf8_put(u, (uint32_t)c);
    anm_buf_put(out, u, n);
    return !out->bad;
}

static int by_class(const void *a, const void *b)
{
    const int32_t *x = a, *y = b;
    return x[0] != y[0] ? (x[0] < y[0] ? -1 : 1) : (x[1] < y[1] ? -1 : x[1] > y[1]);
}

/* Puts runs of combining marks in their canonical order. utf8proc's own sorting takes quadratic time on long runs. */
static bool sort_marks(int32_t *c, size_t n)
{
    for (size_t i = 0; i < n;) {
        size_t end = i;
        bool sorted = true;
        utf8proc_propval_t last = 0;
        for (; end < n; end++) {
            utf8proc_propval_t class = utf8proc_get_property(c[end])->combining_class;
            if (!class) break;
            if (class < last) sorted = false;
            last = class;
        }
        if (!sorted) { /* (class, place, character), so that equal classes keep their order */
            int32_t(*mark)[3] = malloc((end - i) * sizeof *mark);
            if (!mark) return false;
            for (size_t k = i; k < end; k++) {
                mark[k - i][0] = utf8proc_get_property(c[k])->combining_class;
                mark[k - i][1] = (int32_t)(k - i);
                mark[k - i][2] = c[k];
            }
            qsort(mark, end - i, sizeof *mark, by_class);
            for (size_t k = i; k < end; k++) c[k] = mark[k - i][2];
            free(mark);
        }
        i = end + (end == i);
    }
    return true;
}

/* Decomposes, sorts and perhaps composes a stretch that its neighbours cannot change. */
static bool normal_stretch(anm_buf *out, anm_buf *chars, const char *text, size_t n, bool compose, bool compat)
{
    enum { MOST = 32 }; /* the longest decomposition has 18 characters */
    utf8proc_option_t how = UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | (compat ? UTF8PROC_COMPAT : 0);
    chars->size = 0;
    for (size_t i = 0; i < n; i += anm_utf8_len(text[i])) {
        utf8proc_int32_t part[MOST];
        int boundary = 0;
        utf8proc_ssize_t count = utf8proc_decompose_char((utf8proc_int32_t)anm_utf8_at(text + i), part, MOST, how, &boundary);
        if (count < 0 || count > MOST) return false;
        anm_buf_put(chars, part, (size_t)count * sizeof *part);
    }
    if (chars->bad || !chars->size) return !chars->bad;
    int32_t *c = (int32_t *)(void *)chars->data;
    size_t count = chars->size / sizeof *c;
    if (!sort_marks(c, count)) return false;
    if (compose) {
        utf8proc_ssize_t left = utf8proc_normalize_utf32(c, (utf8proc_ssize_t)count, UTF8PROC_STABLE | UTF8PROC_COMPOSE);
        if (left < 0) return false;
        count = (size_t)left;
    }
    for (size_t i = 0; i < count; i++)
        if (!put_char(out, c[i])) return false;
    return true;
}

/* ASCII is its own normal form, and nothing before an ASCII character joins with it: stretches begin there. */
static bool normal_form(anm_buf *out, const char *text, size_t n, bool compose, bool compat)
{
    anm_buf chars = {0};
    bool good = true;
    for (size_t i = 0; good && i < n;) {
        size_t plain = i, end;
        while (plain < n && (uint8_t)text[plain] < 0x80) plain++;
        size_t keep = plain == n ? n : plain > i ? plain - 1 : i; /* the last one may take marks */
        anm_buf_put(out, text + i, keep - i);
        for (end = plain; end < n && (uint8_t)text[end] >= 0x80;) end++;
        if (end > keep) good = normal_stretch(out, &chars, text + keep, end - keep, compose, compat);
        i = end;
    }
    anm_buf_free(&chars);
    return good && !out->bad;
}

/* ---- the other steps ---- */

static void lowercase(anm_buf *out, const char *text, size_t n)
{
    for (size_t i = 0; i < n; i += anm_utf8_len(text[i])) {
        uint32_t c = anm_utf8_at(text + i);
        put_char(out, c == 0x130 ? 'i' : utf8proc_tolower((utf8proc_int32_t)c));
        if (c == 0x130) put_char(out, 0x307); /* the one lower case of two characters */
    }
}

static void strip(anm_buf *out, const anm_norm *s, const char *text, size_t n)
{
    size_t start = 0;
    while (s->left && start < n && anm_is_space(anm_utf8_at(text + start))) start += anm_utf8_len(text[start]);
    while (s->right && n > start) {
        size_t at = anm_utf8_before(text, n);
        if (!anm_is_space(anm_utf8_at(text + at))) break;
        n = at;
    }
    anm_buf_put(out, text + start, n - start);
}

void anm_hf_replace(anm_buf *out, const char *text, size_t n, const char *from, size_t from_n, const char *to, size_t to_n)
{
    const char *at, *end = text + n;
    while (!out->bad && (at = anm_find(text, (size_t)(end - text), from, from_n))) {
        anm_buf_put(out, text, (size_t)(at - text));
        anm_buf_put(out, to, to_n);
        text = at + from_n;
    }
    anm_buf_put(out, text, (size_t)(end - text));
}

static int replace_matches(anm_buf *out, const anm_norm *s, const char *text, size_t n, anm_matcher *m, anm_error *err)
{
    size_t done = 0, from = 0, start, end;
    int rc = anm_matcher_allow(m, n, err);
    if (rc) return rc;
    while (from <= n && (rc = anm_match(m, 0, s->stage.code, text, n, from, &start, &end, err)) == 1) {
        from = end > start ? end : end < n ? end + anm_utf8_len(text[end]) : n + 1;
        anm_buf_put(out, text + done, start - done);
        anm_buf_put(out, s->to, s->to_n);
        done = end;
    }
    anm_buf_put(out, text + done, n - done);
    return rc < 0 ? rc : 0; /* 1: an empty match at the end */
}

static int run_step(anm_buf *out, const anm_norm *s, const char *text, size_t n, anm_matcher *m, anm_error *err)
{
    bool good = true;
    switch (s->kind) {
    case ANM_NORM_PREPEND:
        if (n) anm_buf_put(out, s->to, s->to_n);
        anm_buf_put(out, text, n);
        break;
    case ANM_NORM_REPLACE:
        if (!s->from) return replace_matches(out, s, text, n, m, err);
        anm_hf_replace(out, text, n, s->from, s->from_n, s->to, s->to_n);
        break;
    case ANM_NORM_NFC: good = normal_form(out, text, n, true, false); break;
    case ANM_NORM_NFD: good = normal_form(out, text, n, false, false); break;
    case ANM_NORM_NFKC: good = normal_form(out, text, n, true, true); break;
    case ANM_NORM_NFKD: good = normal_form(out, text, n, false, true); break;
    case ANM_NORM_LOWERCASE: lowercase(out, text, n); break;
    case ANM_NORM_STRIP: strip(out, s, text, n); break;
    }
    return good ? 0 : anm_fail_memory(err, "the normalized text");
}

int anm_norm_run(const char **out, size_t *out_n, const anm_norm *list, size_t n_steps, const char *text, size_t n,
                 anm_matcher *m, anm_arena *a, anm_error *err)
{
    const size_t given = n, most = anm_most_of(n);
    anm_buf buf[2] = {{.limit = most}, {.limit = most}};
    int rc = 0;
    const char *at = text;
    for (size_t i = 0; !rc && i < n_steps; i++) {
        anm_buf *to = &buf[i % 2];
        to->size = 0;
        rc = run_step(to, &list[i], at, n, m, err);
        if (to->over) rc = anm_fail(err, ANM_ERR_LIMIT, "the normalizers make more than %zu bytes of %zu", most, given);
        else if (!rc && to->bad) rc = anm_fail_memory(err, "the normalized text");
        at = to->data ? (const char *)to->data : "";
        n = to->size;
    }
    if (!rc && at != text && !(at = anm_arena_strndup(a, at, n))) rc = anm_fail_memory(err, "the normalized text");
    anm_buf_free(&buf[0]);
    anm_buf_free(&buf[1]);
    *out = at;
    *out_n = n;
    return rc;
}
