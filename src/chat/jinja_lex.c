/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Tokens of a template. White space control as transformers sets jinja2 up: trim_blocks (a line end after a block tag
 * goes), lstrip_blocks (white space before a block tag at the start of its line goes), and '-' on either side of a tag
 * takes all white space there.
 */
#include "chat/jinja.h"

#include "base/buf.h"
#include "base/utf8.h"

#include <stdlib.h>
#include <string.h>

struct lexer {
    const char *p;
    size_t n, i;
    int line;
    bool line_start; /* the text that follows begins a line, as far as lstrip_blocks is concerned */
    jj_tokens *out;
    size_t room;
    anm_arena *arena;
    anm_error *err;
};

static bool is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static bool is_name(char c, bool first)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (!first && c >= '0' && c <= '9');
}

static bool at(const struct lexer *l, size_t i, const char *s)
{
    size_t n = strlen(s);
    return i <= l->n && l->n - i >= n && memcmp(l->p + i, s, n) == 0;
}

static jj_token *add(struct lexer *l, jj_token_kind kind, const char *p, size_t n)
{
    if (l->out->n == l->room) {
        size_t room = l->room ? l->room + l->room / 2 : 256;
        bool many = l->out->n > JJ_MOST_TOKENS(l->n);
        jj_token *list = !many ? realloc(l->out->list, room * sizeof *list) : NULL;
        if (!list) return NULL;
        l->out->list = list;
        l->room = room;
    }
    jj_token *t = &l->out->list[l->out->n++];
    *t = (jj_token){.kind = kind, .p = p, .n = n, .line = l->line};
    return t;
}

static void count_lines(struct lexer *l, size_t from, size_t to)
{
    for (; from < to; from++) l->line += l->p[from] == '\n';
}

/* Past the end of a tag; what it takes of the text after it. */
static void after_tag(struct lexer *l, bool minus, bool trim)
{
    size_t from = l->i;
    if (minus) {
        while (l->i < l->n && is_space(l->p[l->i])) l->i++;
    } else if (trim && l->i < l->n && l->p[l->i] == '\n') {
        l->i++;
    }
    l->line_start = l->i > from && l->p[l->i - 1] == '\n';
    count_lines(l, from, l->i);
}

static int string(struct lexer *l)
{
    char quote = l->p[l->i], c;
    size_t from = ++l->i;
    anm_buf b = {0};
    int line = l->line;
    while (l->i < l->n && l->p[l->i] != quote) {
        c = l->p[l->i++];
        if (c == '\\' && l->i < l->n) {
            c = l->p[l->i++];
            static const char from_to[] = "n\nt\tr\rb\bf\fv\va\a\\\\'\'\"\"";
            const char *e = c ? strchr(from_to, c) : NULL;
            while (e && (e - from_to) % 2) e = strchr(e + 1, c);
            size_t hex = c == 'x' ? 2 : c == 'u' ? 4 : 0;
            char digits[5] = {0};
            if (hex && l->n - l->i >= hex) memcpy(digits, l->p + l->i, hex);
            unsigned long code = hex ? strtoul(digits, NULL, 16) : 0;
            if (hex && strspn(digits, "0123456789abcdefABCDEF") == hex && !(code >= 0xD800 && code < 0xE000)) {
                char u[4];
                anm_buf_put(&b, u, anm_utf8_put(u, (uint32_t)code));
                l->i += hex;
                continue;
            }
            if (c == '\n') continue; /* a line that goes on */
            if (e) c = e[1];
            else anm_buf_put(&b, "\\", 1);
        }
        anm_buf_put(&b, &c, 1);
    }
    if (l->i == l->n) {
        anm_buf_free(&b);
        return anm_fail_at(l->err, ANM_ERR_FORMAT, from, "line %d: a string without its end", line);
    }
    count_lines(l, from, l->i++);
    const char *s = b.bad ? NULL : anm_arena_strndup(l->arena, b.data ? (char *)b.data : "", b.size);
    size_t n = b.size;
    anm_buf_free(&b);
    return s && add(l, JJ_STRING, s, n) ? 0 : anm_fail_memory(l->err, "a template");
}

static int number(struct lexer *l)
{
    char text[64];
    size_t n = 0;
    bool real = false;
    while (l->i < l->n && n < sizeof text - 1) {
        char c = l->p[l->i];
        if (c == '.' && !real && l->i + 1 < l->n && l->p[l->i + 1] >= '0' && l->p[l->i + 1] <= '9') real = true;
        else if (c != '_' && (c < '0' || c > '9')) break;
        if (c != '_') text[n++] = c;
        l->i++;
    }
    size_t e = l->i + 1;
    if (e < l->n && (l->p[e] == '+' || l->p[e] == '-')) e++;
    if (e < l->n && (l->p[l->i] == 'e' || l->p[l->i] == 'E') && l->p[e] >= '0' && l->p[e] <= '9') {
        real = true;
        while (e < l->n && l->p[e] >= '0' && l->p[e] <= '9') e++;
        if (e - l->i < sizeof text - 1 - n) {
            memcpy(text + n, l->p + l->i, e - l->i);
            n += e - l->i;
        }
        l->i = e;
    }
    text[n] = 0;
    if (n > 18 && !real) return anm_fail(l->err, ANM_ERR_UNSUPPORTED, "line %d: a number of %zu digits", l->line, n);
    jj_token *t = add(l, real ? JJ_FLOAT : JJ_INT, NULL, 0);
    if (!t) return anm_fail_memory(l->err, "a template");
    if (real) t->f = strtod(text, NULL);
    else t->i = strtoll(text, NULL, 10);
    return 0;
}

/* The inside of a {{ or {% tag, to its end. */
static int inside(struct lexer *l, bool print)
{
    static const char *const ops[] = {"==", "!=", "<=", ">=", "//", "**", "+", "-", "*", "/", "%", "~", "<", ">", "=",
                                      "(",  ")",  "[",  "]",  "{",  "}",  ".", ",", ":", "|", NULL};
    const char *end = print ? "}}" : "%}";
    int braces = 0, line = l->line;
    while (l->i < l->n) {
        char c = l->p[l->i];
        int rc = 0;
        if (is_space(c)) {
            l->line += c == '\n';
            l->i++;
            continue;
        }
        bool minus = c == '-' || (c == '+' && !print);
        if ((!braces || !print) && (at(l, l->i, end) || (minus && at(l, l->i + 1, end)))) {
            if (!add(l, print ? JJ_PRINT_END : JJ_BLOCK_END, NULL, 0)) return anm_fail_memory(l->err, "a template");
            l->i += minus ? 3 : 2;
            after_tag(l, minus && c == '-', !print && !(minus && c == '+'));
            return 0;
        }
        if (c == '\'' || c == '"') {
            rc = string(l);
        } else if (c >= '0' && c <= '9') {
            rc = number(l);
        } else if (is_name(c, true)) {
            size_t from = l->i;
            while (l->i < l->n && is_name(l->p[l->i], false)) l->i++;
            if (!add(l, JJ_NAME, l->p + from, l->i - from)) return anm_fail_memory(l->err, "a template");
        } else {
            int k = 0;
            while (ops[k] && !at(l, l->i, ops[k])) k++;
            if (!ops[k])
                return anm_fail_at(l->err, ANM_ERR_FORMAT, l->i, "line %d: the character '%.*s' has no meaning in a tag", l->line,
                                   (int)anm_utf8_len(c), l->p + l->i);
            if (c == '{') braces++;
            if (c == '}') braces--;
            if (!add(l, JJ_OP, ops[k], strlen(ops[k]))) return anm_fail_memory(l->err, "a template");
            l->i += strlen(ops[k]);
        }
        if (rc) return rc;
    }
    return anm_fail(l->err, ANM_ERR_FORMAT, "line %d: a tag without its %s", line, end);
}

/* Text up to the next tag (or the end), less the white space that the tag takes. */
static int text(struct lexer *l, size_t tag, bool at_tag)
{
    size_t from = l->i, to = tag;
    if (at_tag && tag + 2 < l->n && l->p[tag + 2] == '-') {
        while (to > from && is_space(l->p[to - 1])) to--;
    } else if (at_tag && l->p[tag + 1] != '{' && !(tag + 2 < l->n && l->p[tag + 2] == '+')) {
        size_t start = to;
        while (start > from && is_space(l->p[start - 1]) && l->p[start - 1] != '\n') start--;
        if (start > from ? l->p[start - 1] == '\n' : l->line_start) to = start;
    }
    if (to > from && !add(l, JJ_TEXT, l->p + from, to - from)) return anm_fail_memory(l->err, "a template");
    count_lines(l, from, tag);
    l->i = tag;
    return 0;
}

/* {% raw %} … {% endraw %}: the text between is no template. Only called after "{%". */
static bool opens_raw(const struct lexer *l, size_t *body)
{
    size_t i = l->i + 2;
    if (i < l->n && (l->p[i] == '-' || l->p[i] == '+')) i++;
    while (i < l->n && is_space(l->p[i])) i++;
    if (!at(l, i, "raw")) return false;
    i += 3;
    while (i < l->n && is_space(l->p[i])) i++;
    if (i < l->n && l->p[i] == '-') i++;
    if (!at(l, i, "%}")) return false;
    *body = i + 2;
    return true;
}

static int tags(struct lexer *l)
{
    int rc;
    while (l->i < l->n) {
        size_t tag = l->i, raw;
        while (tag < l->n && !(l->p[tag] == '{' && (at(l, tag, "{{") || at(l, tag, "{%") || at(l, tag, "{#")))) tag++;
        if ((rc = text(l, tag, tag < l->n))) return rc;
        if (tag == l->n) break;
        if (l->p[tag + 1] == '#') {
            size_t end = tag + 2;
            while (end < l->n && !at(l, end, "#}")) end++;
            if (end == l->n) return anm_fail(l->err, ANM_ERR_FORMAT, "line %d: a comment without its end", l->line);
            count_lines(l, tag, end);
            bool minus = end > tag + 2 && l->p[end - 1] == '-', plus = end > tag + 2 && l->p[end - 1] == '+';
            l->i = end + 2;
            after_tag(l, minus, !plus);
            continue;
        }
        bool print = l->p[tag + 1] == '{';
        if (!print && opens_raw(l, &raw))
            return anm_fail(l->err, ANM_ERR_UNSUPPORTED, "line %d: the block 'raw' is not one that we do", l->line);
        if (!add(l, print ? JJ_PRINT : JJ_BLOCK, NULL, 0)) return anm_fail_memory(l->err, "a template");
        l->i += 2;
        if (l->i < l->n && (l->p[l->i] == '-' || (l->p[l->i] == '+' && !print))) l->i++;
        if ((rc = inside(l, print))) return rc;
    }
    return add(l, JJ_END, NULL, 0) ? 0 : anm_fail_memory(l->err, "a template");
}

int jj_lex(jj_tokens *out, const char *text_in, size_t n, anm_arena *a, anm_error *err)
{
    char *p = anm_arena_alloc(a, n + 1);
    size_t m = 0;
    *out = (jj_tokens){0};
    if (!p) return anm_fail_memory(err, "a template");
    for (size_t i = 0; i < n; i++) { /* every kind of line end is one line feed, and the last one goes */
        if (text_in[i] == '\r' && i + 1 < n && text_in[i + 1] == '\n') continue;
        p[m++] = text_in[i] == '\r' ? '\n' : text_in[i];
    }
    if (m && p[m - 1] == '\n') m--;
    if (anm_utf8_valid(p, m) != m) return anm_fail(err, ANM_ERR_FORMAT, "the template is not valid UTF-8");
    struct lexer l = {.p = p, .n = m, .line = 1, .line_start = true, .out = out, .arena = a, .err = err};
    return tags(&l);
}
