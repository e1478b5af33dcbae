/* SPDX-License-Identifier: BSD-3-Clause */
#include "base/json.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/*
 * Where memory is out, jansson's lexer goes on with what it could keep of a string, which then is shorter, or is read
 * beyond its end. It keeps tokens in one buffer that grows and never shrinks. So the text is handed over in an envelope,
 *
 *     ["xxxxxxxx",TEXT]
 *
 * whose first string is longer than any token of the text: if the buffer cannot grow, that shows there, before the
 * string ends. What else may fail leaves ENOMEM in errno, as every allocation that fails does.
 */
typedef struct envelope {
    size_t pad;       /* x that are still to come */
    const char *data; /* and of the text */
    size_t size;
    enum { HEAD, PAD, COMMA, TEXT, TAIL, END } part;
} envelope;

static size_t next_part(void *buffer, size_t room, void *ctx)
{
    envelope *e = ctx;
    size_t n;
    if (errno == ENOMEM) return (size_t)-1;
    if (e->part == PAD && !e->pad) e->part = COMMA;
    if (e->part == TEXT && !e->size) e->part = TAIL;
    switch (e->part) {
    case HEAD:
        memcpy(buffer, "[\"", 2);
        e->part = PAD;
        return 2;
    case PAD:
        n = e->pad < room ? e->pad : room;
        memset(buffer, 'x', n);
        e->pad -= n;
        return n;
    case COMMA:
        memcpy(buffer, "\",", 2);
        e->part = TEXT;
        return 2;
    case TEXT:
        n = e->size < room ? e->size : room;
        memcpy(buffer, e->data, n);
        e->data += n;
        e->size -= n;
        return n;
    case TAIL:
        memcpy(buffer, "]", 1);
        e->part = END;
        return 1;
    case END:
    default:
        return 0;
    }
}

/* A length that no token of the text exceeds, its quotes included. */
static size_t longest_token(const char *p, size_t size)
{
    size_t longest = 0, from = 0;
    bool quoted = false;
    for (size_t i = 0; i < size; i++) {
        bool goes_on = quoted || p[i] == '+' || p[i] == '-' || p[i] == '.' || (p[i] >= '0' && p[i] <= '9');
        if (quoted && p[i] == '\\') i++;
        else if (p[i] == '"') {
            if (!quoted) from = i;
            quoted = !quoted;
            goes_on = true;
        } else if (!quoted && ((p[i] | 32) >= 'a' && (p[i] | 32) <= 'z')) goes_on = true;
        if (!goes_on) from = i + 1;
        else if (i + 1 - from > longest) longest = i + 1 - from;
    }
    return longest;
}

/* Empty lists and objects are a few bytes of text and many of memory: may a text of that size have as many as it has? */
static bool is_plausible(const char *p, size_t size)
{
    enum { OBJECT = 208, LIST = 144, MOST = 48, FREE = 1 << 18 }; /* bytes; jansson's own, their tables and malloc's */
    uint64_t cost = 0;
    bool quoted = false;
    for (size_t i = 0; i < size; i++) {
        if (quoted && p[i] == '\\') i++;
        else if (p[i] == '"') quoted = !quoted;
        else if (!quoted && p[i] == '{') cost += OBJECT;
        else if (!quoted && p[i] == '[') cost += LIST;
    }
    return cost <= FREE + (uint64_t)MOST * size;
}

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* Where the first object or list of the text ends: its size where there is none, or it has no end. */
static size_t end_of_value(const char *p, size_t size)
{
    size_t depth = 0;
    bool quoted = false;
    for (size_t i = 0; i < size; i++) {
        if (quoted && p[i] == '\\') i++;
        else if (p[i] == '"') quoted = !quoted;
        else if (!quoted && (p[i] == '{' || p[i] == '[')) depth++;
        else if (!quoted && (p[i] == '}' || p[i] == ']') && depth && !--depth) return i + 1;
        if (!depth && !is_space(p[i])) return size;
    }
    return size;
}

/* Of a text that is no JSON: does something follow its first value, before which nothing is wrong? `at` is where the fault
 * was seen. */
static bool has_more(size_t *more, int *line, const char *p, size_t size, uint64_t at)
{
    size_t end = end_of_value(p, size);
    for (*more = end; *more < size && is_space(p[*more]);) ++*more;
    *line = 1;
    for (size_t i = 0; i < *more; i++) *line += p[i] == '\n';
    return *more < size && at > end;
}

int anm_json_read(json_t **out, const void *data, uint64_t size, size_t flags, const char *what, anm_error *err)
{
    json_error_t why;
    *out = NULL;
    if (!is_plausible(data, (size_t)size))
        return anm_fail(err, ANM_ERR_LIMIT, "%s: more lists and objects than a text of its size should hold", what);
    size_t pad = longest_token(data, (size_t)size) + 16;
    if (!((pad + 2) & (pad + 1))) pad++; /* the buffer doubles from 16; it shall not do so at the last quote */
    envelope e = {.pad = pad, .data = data, .size = (size_t)size};
    int was = errno;
    errno = 0;
    json_t *whole = json_load_callback(next_part, &e, flags, &why);
    bool no_memory = errno == ENOMEM;
    errno = was;
    if (!no_memory && json_array_size(whole) == 2) *out = json_incref(json_array_get(whole, 1));
    json_decref(whole);
    if (no_memory) return anm_fail_memory(err, "JSON");
    if (json_is_object(*out) || json_is_array(*out)) return 0;
    json_decref(*out);
    *out = NULL;
    size_t more;
    int line;
    uint64_t at = (uint64_t)why.position > pad + 4 ? (uint64_t)why.position - pad - 4 : 0;
    if (has_more(&more, &line, data, (size_t)size, whole ? size : at))
        return anm_fail_at(err, ANM_ERR_FORMAT, more, "%s: line %d: something follows after its end", what, line);
    if (whole) return anm_fail_at(err, ANM_ERR_FORMAT, 0, "%s: neither one object nor one list", what);
    if (at >= size) return anm_fail_at(err, ANM_ERR_FORMAT, size, "%s: line %d: it ends too early", what, why.line);
    return anm_fail_at(err, ANM_ERR_FORMAT, at, "%s: line %d: %s", what, why.line, why.text);
}

int anm_json_write(char **out, const json_t *j, size_t flags, anm_error *err)
{
    int was = errno;
    errno = 0;
    *out = j ? json_dumps(j, flags) : NULL;
    if (errno == ENOMEM) {
        free(*out);
        *out = NULL;
    }
    errno = was;
    return *out ? 0 : anm_fail_memory(err, "JSON");
}
