/* SPDX-License-Identifier: BSD-3-Clause */
/* The decoders of tokenizer.json: a list of strings, made into another one by every step, and joined at the end. */
#include "token/bytelevel.h"
#include "token/hf.h"
#include "base/utf8.h"

#include <stdlib.h>
#include <string.h>

/* ---- reading ---- */

static int read_replace(anm_decode_step *s, const json_t *json, anm_arena *a, anm_error *err)
{
    s->kind = ANM_DECODE_REPLACE;
    s->from = anm_hf_string(json_object_get(json, "pattern"), "String", &s->from_n, a);
    s->to = anm_hf_string(json, "content", &s->to_n, a);
    if (!s->from || !s->from_n || !s->to)
        return anm_fail(err, ANM_ERR_UNSUPPORTED, "the decoder Replace is not of one text by another");
    return 0;
}

static int read_strip(anm_decode_step *s, const json_t *json, anm_arena *a, anm_error *err)
{
    s->kind = ANM_DECODE_STRIP;
    s->from = anm_hf_string(json, "content", &s->from_n, a);
    s->start = json_integer_value(json_object_get(json, "start"));
    s->stop = json_integer_value(json_object_get(json, "stop"));
    if (!s->from || !s->from_n || s->start < 0 || s->stop < 0)
        return anm_fail(err, ANM_ERR_FORMAT, "the decoder Strip lacks its character or counts");
    return 0;
}

static int read_metaspace(anm_decode_step *s, const json_t *json, anm_arena *a, anm_error *err)
{
    const char *scheme = json_string_value(json_object_get(json, "prepend_scheme"));
    s->kind = ANM_DECODE_METASPACE;
    s->from = anm_hf_string(json, "replacement", &s->from_n, a);
    if (!s->from || !s->from_n) return anm_fail(err, ANM_ERR_FORMAT, "the decoder Metaspace has no replacement");
    s->prefix = scheme ? strcmp(scheme, "never") != 0 : anm_hf_bool(json, "add_prefix_space", true);
    return 0;
}

static int read_one(anm_decode_step *list, size_t *n, const json_t *json, anm_arena *a, int depth, anm_error *err)
{
    const char *type = anm_hf_type(json);
    int rc;
    if (strcmp(type, "Sequence") == 0 && depth < 4) {
        size_t i;
        json_t *item;
        json_array_foreach(json_object_get(json, "decoders"), i, item)
        {
            if ((rc = read_one(list, n, item, a, depth + 1, err))) return rc;
        }
        return 0;
    }
    if (*n == ANM_HF_STEPS) return anm_fail(err, ANM_ERR_LIMIT, "more than %d decoders", ANM_HF_STEPS);
    anm_decode_step *s = &list[(*n)++];
    if (strcmp(type, "Replace") == 0) return read_replace(s, json, a, err);
    if (strcmp(type, "Strip") == 0) return read_strip(s, json, a, err);
    if (strcmp(type, "Metaspace") == 0) return read_metaspace(s, json, a, err);
    if (strcmp(type, "ByteLevel") == 0) s->kind = ANM_DECODE_BYTELEVEL;
    else if (strcmp(type, "ByteFallback") == 0) s->kind = ANM_DECODE_BYTE_FALLBACK;
    else if (strcmp(type, "Fuse") == 0) s->kind = ANM_DECODE_FUSE;
    else return anm_fail(err, ANM_ERR_UNSUPPORTED, "the decoder %s is not one that we do", type);
    return 0;
}

int anm_decode_read(anm_decode_step *list, size_t *n, const json_t *json, anm_arena *a, anm_error *err)
{
    *n = 0;
    return json_is_object(json) ? read_one(list, n, json, a, 0, err) : 0;
}

/* ---- running ---- */

/* Strings, one after the other; end[i] is where the i-th ends. */
struct strings {
    anm_buf text;
    size_t *end, n;
};

static const char *at(const struct strings *s, size_t i, size_t *n)
{
    size_t start = i ? s->end[i - 1] : 0;
    *n = s->end[i] - start;
    return *n ? (const char *)s->text.data + start : "";
}

static void end_string(struct strings *s)
{
    s->end[s->n++] = s->text.size;
}

int anm_hf_byte(const char *p, size_t n)
{
    if (n != 6 || memcmp(p, "<0x", 3) != 0 || p[5] != '>') return -1;
    int v = 0;
    for (int i = 3; i < 5; i++) {
        int d = p[i] >= '0' && p[i] <= '9' ? p[i] - '0' : p[i] >= 'A' && p[i] <= 'F' ? p[i] - 'A' + 10
                : p[i] >= 'a' && p[i] <= 'f' ? p[i] - 'a' + 10 : -1;
        if (d < 0) return -1;
        v = v * 16 + d;
    }
    return v;
}

/* Runs of byte tokens become characters when the whole run is valid UTF-8, else a U+FFFD for each byte. */
static void byte_fallback(struct strings *to, const struct strings *from)
{
    size_t n = 0;
    for (size_t i = 0; i < from->n;) {
        size_t start = to->text.size, run = 0;
        for (; i + run < from->n; run++) {
            const char *p = at(from, i + run, &n);
            int byte = anm_hf_byte(p, n);
            if (byte < 0) break;
            anm_buf_u8(&to->text, (uint8_t)byte);
        }
        if (run) {
            if (!to->text.bad && anm_utf8_valid((char *)to->text.data + start, run) != run) {
                to->text.size = start;
                for (size_t k = 0; k < run; k++) anm_buf_puts(&to->text, ANM_UTF8_REPLACEMENT);
            }
            i += run;
        } else {
            const char *p = at(from, i++, &n);
            anm_buf_put(&to->text, p, n);
        }
        end_string(to);
    }
}

static void put_stripped(anm_buf *out, const anm_decode_step *s, const char *p, size_t n)
{
    size_t start = 0;
    for (int64_t k = 0; k < s->start && n - start >= s->from_n && memcmp(p + start, s->from, s->from_n) == 0; k++)
        start += s->from_n;
    for (int64_t k = 0; k < s->stop && n - start >= s->from_n && memcmp(p + n - s->from_n, s->from, s->from_n) == 0; k++)
        n -= s->from_n;
    anm_buf_put(out, p + start, n - start);
}

/* A token whose characters all spell bytes becomes these; any other stays as it is, as do bytes that another step made. */
static void put_bytelevel(anm_buf *out, const char *p, size_t n)
{
    size_t size = 0, before = out->size;
    char *room = anm_buf_grow(out, n);
    if (!room) return;
    if (anm_utf8_valid(p, n) == n && anm_bytelevel_decode(room, &size, p, n)) out->size = before + size;
    else memcpy(room, p, n);
}

static void run_step(struct strings *to, const struct strings *from, const anm_decode_step *s)
{
    if (s->kind == ANM_DECODE_BYTE_FALLBACK) {
        byte_fallback(to, from);
        return;
    }
    for (size_t i = 0; i < from->n; i++) {
        size_t n;
        const char *p = at(from, i, &n);
        switch (s->kind) {
        case ANM_DECODE_REPLACE: anm_hf_replace(&to->text, p, n, s->from, s->from_n, s->to, s->to_n); break;
        case ANM_DECODE_METASPACE: anm_hf_replace(&to->text, p, n, s->from, s->from_n, " ", !(i == 0 && s->prefix)); break;
        case ANM_DECODE_STRIP: put_stripped(&to->text, s, p, n); break;
        case ANM_DECODE_BYTELEVEL: put_bytelevel(&to->text, p, n); break;
        default: anm_buf_put(&to->text, p, n); break;
        }
        bool joins = s->kind == ANM_DECODE_FUSE || s->kind == ANM_DECODE_BYTELEVEL;
        if (!joins) end_string(to);
    }
    if (s->kind == ANM_DECODE_FUSE || s->kind == ANM_DECODE_BYTELEVEL) end_string(to);
}

int anm_decode_run(anm_buf *out, const anm_decode_step *list, size_t n_steps, const anm_piece *const *tokens,
                   size_t count, anm_error *err)
{
    struct strings s[2] = {{{0}, NULL, 0}, {{0}, NULL, 0}};
    for (int i = 0; i < 2; i++) s[i].end = malloc((count + 1) * sizeof *s[i].end);
    bool bad = !s[0].end || !s[1].end, over = false;
    size_t given = 0;
    for (size_t i = 0; i < count; i++) given += tokens[i]->spell_n;
    const size_t most = anm_most_of(given);
    s[0].text.limit = s[1].text.limit = most;
    for (size_t i = 0; !bad && i < count; i++) {
        if (!n_steps && i) anm_buf_puts(&s[0].text, " "); /* without a decoder words stand apart */
        anm_buf_put(&s[0].text, tokens[i]->spell, tokens[i]->spell_n);
        end_string(&s[0]);
    }
    const struct strings *last = &s[0];
    for (size_t i = 0; !bad && i < n_steps; i++) {
        struct strings *to = &s[(i + 1) % 2];
        to->n = to->text.size = 0;
        run_step(to, last, &list[i]);
        bad = to->text.bad;
        over = to->text.over;
        last = to;
    }
    if (!bad) anm_buf_put(out, last->text.data ? (char *)last->text.data : "", last->text.size);
    bad = bad || last->text.bad || out->bad;
    for (int i = 0; i < 2; i++) {
        anm_buf_free(&s[i].text);
        free(s[i].end);
    }
    if (over) return anm_fail(err, ANM_ERR_LIMIT, "the decoders make more than %zu bytes of %zu", most, given);
    return bad ? anm_fail_memory(err, "the text") : 0;
}
