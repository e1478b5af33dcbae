/* SPDX-License-Identifier: BSD-3-Clause */
#include "cli/opt.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

bool cli_int(const char *s, int64_t *out)
{
    char *end;
    errno = 0;
    long long v = strtoll(s, &end, 10);
    if (end == s || *end || errno) return false;
    *out = v;
    return true;
}

bool cli_float(const char *s, double *out)
{
    char *end;
    errno = 0;
    double v = strtod(s, &end);
    if (end == s || *end || (errno && (v > 1 || v < -1))) return false; /* an underflow is a fine zero */
    *out = v;
    return true;
}

static char fold(char c)
{
    return c == '-' ? '_' : c;
}

/* Do the first n characters of `word` spell the beginning of `name`? */
static bool begins(const char *name, const char *word, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!name[i] || fold(name[i]) != fold(word[i])) return false;
    return true;
}

static const cli_opt *find_long(const cli_opt *table, const char *word, size_t n, anm_error *err)
{
    const cli_opt *found = NULL, *other = NULL;
    for (const cli_opt *o = table; o->name || o->kind == CLI_HEADING; o++) {
        if (!o->name || !begins(o->name, word, n)) continue;
        if (!o->name[n]) return o; /* the whole name wins over longer ones */
        if (found) other = o;
        else found = o;
    }
    if (other) {
        anm_fail(err, ANM_ERR_USAGE, "--%.*s is short for both --%s and --%s; write more of it", (int)n, word, found->name,
                 other->name);
        return NULL;
    }
    if (!found) anm_fail(err, ANM_ERR_USAGE, "there is no option --%.*s; --help lists them", (int)n, word);
    return found;
}

static int store(const cli_opt *o, const char *value, anm_error *err)
{
    if (o->given) *o->given = true;
    switch (o->kind) {
    case CLI_STRING:
    case CLI_OPTIONAL:
    case CLI_MAYBE: *(const char **)o->to = value; return 0;
    case CLI_LIST: {
        cli_list *l = o->to;
        if (l->n == CLI_LIST_MOST)
            return anm_fail(err, ANM_ERR_USAGE, "--%s can be given %d times at most", o->name, CLI_LIST_MOST);
        l->item[l->n++] = value;
        return 0;
    }
    case CLI_INT:
        if (cli_int(value, o->to)) return 0;
        return anm_fail(err, ANM_ERR_USAGE, "--%s takes a whole number, not '%s'", o->name, value);
    case CLI_FLOAT:
        if (cli_float(value, o->to)) return 0;
        return anm_fail(err, ANM_ERR_USAGE, "--%s takes a number, not '%s'", o->name, value);
    case CLI_CHOICE: break;
    case CLI_FLAG:
    case CLI_HEADING: return 0;
    }
    size_t n = strlen(value);
    for (const char *p = o->arg;; p++) {
        size_t len = strcspn(p, "|");
        if (len == n && memcmp(p, value, n) == 0) {
            *(const char **)o->to = value;
            return 0;
        }
        p += len;
        if (!*p) return anm_fail(err, ANM_ERR_USAGE, "--%s takes one of %s, not '%s'", o->name, o->arg, value);
    }
}

static void help(const cli_opt *table, const char *usage)
{
    printf("usage: %s\n", usage);
    for (const cli_opt *o = table; o->name || o->kind == CLI_HEADING; o++) {
        if (!o->help) continue;
        if (o->kind == CLI_HEADING) {
            printf("\n%s\n", o->help);
            continue;
        }
        char left[96], letter[8] = "    ";
        if (o->letter) snprintf(letter, sizeof letter, "-%c, ", o->letter);
        if (o->kind == CLI_MAYBE) snprintf(left, sizeof left, "%s--%s [%s]", letter, o->name, o->arg);
        else if (o->kind == CLI_OPTIONAL) snprintf(left, sizeof left, "%s--%s[=%s]", letter, o->name, o->arg);
        else snprintf(left, sizeof left, "%s--%s %s", letter, o->name, o->arg ? o->arg : "");
        printf("  %-36s %s\n", left, o->help);
    }
    printf("  %-36s %s\n", "-h, --help", "this text");
}

/* "-n value", "-nvalue", "-n=value", or flags run together, "-ab". `*i` moves past a value that is a word of its own. */
static int short_options(const cli_opt *table, int argc, char **argv, int *i, anm_error *err)
{
    for (const char *p = argv[*i] + 1; *p; p++) {
        const cli_opt *o = table;
        while ((o->name || o->kind == CLI_HEADING) && (!o->letter || o->letter != *p)) o++;
        if (!o->name) return anm_fail(err, ANM_ERR_USAGE, "there is no option -%c; --help lists them", *p);
        if (o->kind == CLI_FLAG) {
            *(bool *)o->to = true;
            if (o->given) *o->given = true;
            continue;
        }
        if (p[1]) return store(o, p[1] == '=' ? p + 2 : p + 1, err);
        if (*i + 1 >= argc) return anm_fail(err, ANM_ERR_USAGE, "-%c needs a value (%s)", *p, o->arg);
        return store(o, argv[++*i], err);
    }
    return 0;
}

static int long_option(const cli_opt *table, int argc, char **argv, int *i, anm_error *err)
{
    const char *word = argv[*i] + 2;
    size_t n = strcspn(word, "=");
    const cli_opt *o = find_long(table, word, n, err);
    if (!o) return ANM_ERR_USAGE;
    if (o->kind == CLI_FLAG) {
        if (word[n]) return anm_fail(err, ANM_ERR_USAGE, "--%s takes no value", o->name);
        *(bool *)o->to = true;
        if (o->given) *o->given = true;
        return 0;
    }
    if (word[n]) return store(o, word + n + 1, err);
    bool more = *i + 1 < argc;
    if (o->kind == CLI_OPTIONAL || (o->kind == CLI_MAYBE && (!more || argv[*i + 1][0] == '-'))) return store(o, "", err);
    if (!more) return anm_fail(err, ANM_ERR_USAGE, "--%s needs a value (%s)", o->name, o->arg);
    return store(o, argv[++*i], err);
}

int cli_parse(const cli_opt *table, const char *usage, int argc, char **argv, const char **words, int max_words,
              int *n_words, anm_error *err)
{
    bool options = true;
    int found = 0;
    for (int i = 1; i < argc; i++) {
        const char *w = argv[i];
        int rc = 0;
        if (!options || w[0] != '-' || !w[1]) { /* "-" alone is standard input, a word */
            if (found >= max_words) return anm_fail(err, ANM_ERR_USAGE, "'%s' is one word too many; --help tells", w);
            words[found++] = w;
        } else if (strcmp(w, "--") == 0) {
            options = false;
        } else if (strcmp(w, "-h") == 0 || strcmp(w, "--help") == 0) {
            help(table, usage);
            return CLI_HELPED;
        } else {
            rc = w[1] == '-' ? long_option(table, argc, argv, &i, err) : short_options(table, argc, argv, &i, err);
        }
        if (rc) return rc;
    }
    if (n_words) *n_words = found;
    return 0;
}
