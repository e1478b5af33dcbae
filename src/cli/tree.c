/* SPDX-License-Identifier: BSD-3-Clause */
/* JSON as a tree of text. */
#include "cli/tree.h"
#include "base/shown.h"
#include "base/utf8.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_COLUMN = 64, INDENT = 2, HEADLESS = 2 /* tables of so few columns need no heading */ };

#define BOLD "\033[1m"
#define DIM "\033[2m"
#define CYAN "\033[36m"
#define PLAIN "\033[0m"

bool cli_colour(void)
{
    const char *no = getenv("NO_COLOR"), *term = getenv("TERM");
    return isatty(STDOUT_FILENO) && !(no && *no) && !(term && strcmp(term, "dumb") == 0);
}

json_t *cli_json_textn(const char *s, size_t n)
{
    static const char unknown[] = "\xef\xbf\xbd";
    char *clean = malloc(3 * n + 1);
    size_t out = 0;
    if (!clean) return NULL;
    for (size_t i = 0; i < n;) {
        int bad;
        size_t len = anm_utf8_check(s + i, n - i, &bad);
        memcpy(clean + out, bad ? unknown : s + i, bad ? 3 : len);
        out += bad ? 3 : len;
        i += len;
    }
    json_t *text = json_stringn(clean, out);
    free(clean);
    return text;
}

json_t *cli_json_real(double d)
{
    return isfinite(d) ? json_real(d) : json_string(isnan(d) ? "nan" : d < 0 ? "-inf" : "inf");
}

json_t *cli_json_text(const char *s)
{
    return cli_json_textn(s, strlen(s));
}

static bool is_plain(const json_t *j)
{
    return !json_is_object(j) && !json_is_array(j);
}

/* An integer with separators from five digits on. */
static void format_integer(char out[48], json_int_t v)
{
    char digits[24];
    int n = snprintf(digits, sizeof digits, "%lld", (long long)v), at = 0;
    int sign = v < 0, count = n - sign;
    for (int i = 0; i < n; i++) {
        if (count > 4 && i > sign && (n - i) % 3 == 0) out[at++] = ',';
        out[at++] = digits[i];
    }
    out[at] = 0;
}

/* A text, escaped; its width in characters. With to == NULL only the width. */
static size_t put_text(FILE *to, const char *s)
{
    size_t width = 0, n = strlen(s);
    bool hidden;
    if (to) anm_shown_write(to, s, n, "");
    for (size_t len; n; s += len, n -= len) {
        len = anm_shown_next(s, n, &hidden);
        width += hidden ? 4 * len : 1;
    }
    return width;
}

/* As put_text, for a plain value. */
static size_t put_plain(FILE *to, const json_t *j)
{
    char number[48];
    const char *s = number;
    if (json_is_string(j)) s = json_string_value(j);
    else if (json_is_integer(j)) format_integer(number, json_integer_value(j));
    else if (json_is_real(j)) snprintf(number, sizeof number, "%.9g", json_real_value(j));
    else snprintf(number, sizeof number, "%s", json_is_true(j) ? "yes" : json_is_false(j) ? "no" : "null");
    return put_text(to, s);
}

static void pad(size_t n)
{
    for (size_t i = 0; i < n; i++) putchar(' ');
}

static bool is_row(json_t *j)
{
    const char *key;
    json_t *v;
    if (!json_is_object(j)) return false;
    json_object_foreach(j, key, v)
        if (!is_plain(v)) return false;
    return true;
}

static void put_key(const char *key, int depth, bool colour, const char *end)
{
    pad((size_t)depth * INDENT);
    if (colour) fputs(DIM, stdout);
    put_text(stdout, key);
    if (colour) fputs(PLAIN, stdout);
    fputs(end, stdout);
}

/* The names of the columns, as wide as these; numbers stand to the right. */
static void put_head(json_t *row, const size_t width[16], int depth, bool colour)
{
    const char *key;
    json_t *v;
    size_t column = 0, last = json_object_size(row);
    pad((size_t)depth * INDENT);
    if (colour) fputs(DIM, stdout);
    json_object_foreach(row, key, v) {
        size_t w = put_text(NULL, key), want = column < 16 && width[column] > w ? width[column] : w;
        bool right = json_is_integer(v) && column;
        if (right) pad(want - w);
        put_text(stdout, key);
        if (++column < last) pad((right ? 0 : want - w) + 2);
    }
    puts(colour ? PLAIN : "");
}

static void put_table(json_t *list, int depth, bool colour)
{
    size_t width[16] = {0}, i, column;
    json_t *row, *v;
    const char *key;
    json_t *first = json_array_get(list, 0);
    bool head = json_object_size(first) > HEADLESS;
    column = 0;
    json_object_foreach(first, key, v) {
        if (head && column < 16) width[column] = put_text(NULL, key);
        column++;
    }
    json_array_foreach(list, i, row) {
        column = 0;
        json_object_foreach(row, key, v) {
            size_t w = put_plain(NULL, v);
            if (column < 16 && w > width[column] && w <= MAX_COLUMN) width[column] = w;
            column++;
        }
    }
    if (head) put_head(first, width, depth, colour);
    json_array_foreach(list, i, row) {
        size_t last = json_object_size(row);
        pad((size_t)depth * INDENT);
        column = 0;
        json_object_foreach(row, key, v) {
            size_t want = column < 16 ? width[column] : 0, w = put_plain(NULL, v);
            bool right = json_is_integer(v) && column;
            if (right && w < want) pad(want - w);
            if (colour && !column) fputs(CYAN, stdout);
            put_plain(stdout, v);
            if (colour && !column) fputs(PLAIN, stdout);
            if (++column < last) pad((!right && w < want ? want - w : 0) + 2);
        }
        putchar('\n');
    }
}

static void put_fields(json_t *object, bool skip_first, int depth, bool colour);

static void put_field(const char *key, json_t *v, int depth, bool colour)
{
    size_t i;
    json_t *e;
    if (is_plain(v)) {
        put_key(key, depth, colour, ": ");
        put_plain(stdout, v);
        putchar('\n');
        return;
    }
    if (json_is_object(v)) {
        if (!json_object_size(v)) return;
        put_key(key, depth, colour, "\n");
        put_fields(v, false, depth + 1, colour);
        return;
    }
    if (!json_array_size(v)) return;
    bool rows = true, plain = true;
    json_array_foreach(v, i, e) {
        rows = rows && is_row(e);
        plain = plain && is_plain(e);
    }
    if (plain) {
        put_key(key, depth, colour, ":");
        json_array_foreach(v, i, e) {
            putchar(' ');
            put_plain(stdout, e);
        }
        putchar('\n');
    } else if (rows) {
        put_key(key, depth, colour, "\n");
        put_table(v, depth + 1, colour);
    } else {
        json_array_foreach(v, i, e) { /* each under the value of its first field */
            json_t *title = json_object_iter_value(json_object_iter(e));
            put_key(key, depth, colour, " ");
            if (colour) fputs(BOLD, stdout);
            if (title && is_plain(title)) put_plain(stdout, title);
            if (colour) fputs(PLAIN, stdout);
            putchar('\n');
            put_fields(e, title && is_plain(title), depth + 1, colour);
        }
    }
}

static void put_fields(json_t *object, bool skip_first, int depth, bool colour)
{
    const char *key;
    json_t *v;
    json_object_foreach(object, key, v) {
        if (!skip_first) put_field(key, v, depth, colour);
        skip_first = false;
    }
}

void cli_tree_print(json_t *root, bool colour)
{
    put_fields(root, false, 0, colour);
}
