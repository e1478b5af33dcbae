/* SPDX-License-Identifier: BSD-3-Clause */
/* The tree of a template, by recursive descent; the nesting is bounded. */
#include "chat/jinja.h"

#include <string.h>

enum { DEEPEST = 100, MOST_ITEMS = 4096 };

struct parser {
    const jj_token *t;
    anm_arena *arena;
    anm_error *err;
    int depth, loops;
};

static jj_node *expression(struct parser *p);
static jj_node *statements(struct parser *p, const char *const *ends);

/* ---- small help ---- */

static bool name_is(const jj_token *t, const char *name)
{
    return t->kind == JJ_NAME && strlen(name) == t->n && memcmp(t->p, name, t->n) == 0;
}

static bool op_is(const jj_token *t, const char *op)
{
    return t->kind == JJ_OP && strlen(op) == t->n && memcmp(t->p, op, t->n) == 0;
}

static bool take_op(struct parser *p, const char *op)
{
    bool is = op_is(p->t, op);
    if (is) p->t++;
    return is;
}

static bool take_name(struct parser *p, const char *name)
{
    bool is = name_is(p->t, name);
    if (is) p->t++;
    return is;
}

/* All failures give NULL; the first one says why. */
static jj_node *unexpected(struct parser *p, const char *wanted)
{
    if (p->err && p->err->code) return NULL;
    const jj_token *t = p->t;
    switch (t->kind) {
    case JJ_END: anm_fail(p->err, ANM_ERR_FORMAT, "line %d: the template ends where %s should be", t->line, wanted); break;
    case JJ_PRINT_END:
    case JJ_BLOCK_END: anm_fail(p->err, ANM_ERR_FORMAT, "line %d: the tag ends where %s should be", t->line, wanted); break;
    case JJ_NAME:
    case JJ_OP:
        anm_fail(p->err, ANM_ERR_FORMAT, "line %d: '%.*s' stands where %s should be", t->line, t->n > 40 ? 40 : (int)t->n, t->p, wanted);
        break;
    default: anm_fail(p->err, ANM_ERR_FORMAT, "line %d: %s is missing", t->line, wanted); break;
    }
    return NULL;
}

static jj_node *refuse(struct parser *p, int line, const char *what, const char *name, size_t n)
{
    if (!p->err || !p->err->code)
        anm_fail(p->err, ANM_ERR_UNSUPPORTED, "line %d: the %s '%.*s' is not one that we do", line, what, n > 40 ? 40 : (int)n, name);
    return NULL;
}

static jj_node *make(struct parser *p, jj_kind kind)
{
    jj_node *n = anm_arena_alloc(p->arena, sizeof *n);
    if (!n) {
        anm_fail_memory(p->err, "a template");
        return NULL;
    }
    n->kind = kind;
    n->line = p->t->line;
    return n;
}

static jj_node *named(struct parser *p, jj_kind kind, const jj_token *t)
{
    jj_node *n = make(p, kind);
    if (!n) return NULL;
    n->s = t->p;
    n->n = t->n;
    return n;
}

static bool append(struct parser *p, jj_node *to, jj_node *item)
{
    if ((to->count & (to->count - 1)) == 0) { /* full at every power of two */
        size_t room = to->count ? to->count * 2 : 1;
        jj_node **list = to->count < MOST_ITEMS ? anm_arena_array(p->arena, room, sizeof *list) : NULL;
        if (!list) {
            anm_fail(p->err, ANM_ERR_LIMIT, "line %d: a list of more than %d items", to->line, MOST_ITEMS);
            return false;
        }
        if (to->count) memcpy(list, to->list, to->count * sizeof *list);
        to->list = list;
    }
    to->list[to->count++] = item;
    return true;
}

/* ---- expressions, from the tightest to the loosest ---- */

/* Arguments up to ")": values, and name=value. */
static bool arguments(struct parser *p, jj_node *call)
{
    while (!take_op(p, ")")) {
        jj_node *item;
        if (p->t->kind == JJ_NAME && op_is(p->t + 1, "=")) {
            if (!(item = named(p, JJ_N_KEYWORD, p->t))) return false;
            p->t += 2;
            if (!(item->a = expression(p))) return false;
        } else if (op_is(p->t, "*") || op_is(p->t, "**")) {
            refuse(p, p->t->line, "argument", p->t->p, p->t->n);
            return false;
        } else if (!(item = expression(p))) {
            return false;
        }
        if (!append(p, call, item)) return false;
        if (!take_op(p, ",") && !op_is(p->t, ")")) {
            unexpected(p, "a comma or a closing bracket");
            return false;
        }
    }
    return true;
}

/* Items up to `close`. */
static jj_node *items(struct parser *p, jj_node *n, const char *close)
{
    while (!take_op(p, close)) {
        jj_node *item = expression(p);
        if (!item || !append(p, n, item)) return NULL;
        if (n->kind == JJ_N_DICT) {
            if (!take_op(p, ":")) return unexpected(p, "a colon");
            if (!(item = expression(p)) || !append(p, n, item)) return NULL;
        }
        if (!take_op(p, ",") && !op_is(p->t, close)) return unexpected(p, "a comma or a closing bracket");
    }
    return n;
}

/* "(" stands before: an expression in brackets, or a tuple. */
static jj_node *brackets(struct parser *p)
{
    jj_node *tuple = make(p, JJ_N_TUPLE);
    if (!tuple) return NULL;
    if (take_op(p, ")")) return tuple;
    jj_node *first = expression(p);
    if (!first || take_op(p, ")")) return first;
    if (!take_op(p, ",")) return unexpected(p, "a closing bracket");
    return append(p, tuple, first) ? items(p, tuple, ")") : NULL;
}

static jj_node *atom(struct parser *p)
{
    static const struct {
        const char *name;
        jj_kind kind;
    } constants[] = {{"true", JJ_N_TRUE}, {"True", JJ_N_TRUE}, {"false", JJ_N_FALSE}, {"False", JJ_N_FALSE}, {"none", JJ_N_NONE}, {"None", JJ_N_NONE}};
    const jj_token *t = p->t;
    jj_node *n;
    switch (t->kind) {
    case JJ_STRING: {
        if (!(n = named(p, JJ_N_STRING, t))) return NULL;
        p->t++;
        while (p->t->kind == JJ_STRING) { /* neighbours are one string */
            char *joined = anm_arena_alloc(p->arena, n->n + p->t->n + 1);
            if (!joined) {
                anm_fail_memory(p->err, "a template");
                return NULL;
            }
            memcpy(joined, n->s, n->n);
            memcpy(joined + n->n, p->t->p, p->t->n);
            n->s = joined;
            n->n += p->t->n;
            p->t++;
        }
        return n;
    }
    case JJ_INT:
    case JJ_FLOAT:
        if (!(n = make(p, t->kind == JJ_INT ? JJ_N_INT : JJ_N_FLOAT))) return NULL;
        n->i = t->i;
        n->f = t->f;
        p->t++;
        return n;
    case JJ_NAME:
        p->t++;
        for (size_t i = 0; i < sizeof constants / sizeof *constants; i++)
            if (name_is(t, constants[i].name)) return make(p, constants[i].kind);
        return named(p, JJ_N_NAME, t);
    default: break;
    }
    if (take_op(p, "(")) return brackets(p);
    if (take_op(p, "[")) return (n = make(p, JJ_N_LIST)) ? items(p, n, "]") : NULL;
    if (take_op(p, "{")) return (n = make(p, JJ_N_DICT)) ? items(p, n, "}") : NULL;
    return unexpected(p, "an expression");
}

/* "[" stands before: an item or a slice of `of`. */
static jj_node *subscript(struct parser *p, jj_node *of)
{
    jj_node *part[3] = {NULL, NULL, NULL}, *n;
    int colons = 0;
    while (!op_is(p->t, "]")) {
        if (take_op(p, ":")) {
            if (++colons > 2) return unexpected(p, "a closing bracket");
            continue;
        }
        if (part[colons] || !(part[colons] = expression(p))) return unexpected(p, "a closing bracket");
    }
    p->t++;
    if (!(n = make(p, colons ? JJ_N_SLICE : JJ_N_ITEM))) return NULL;
    n->a = of;
    n->b = part[0];
    if (!colons) return n->b ? n : unexpected(p, "an index");
    for (int i = 0; i < 3; i++)
        if (!append(p, n, part[i])) return NULL;
    return n;
}

/* What follows an expression: .name, [item], (arguments), and with `filters` | name and is name. */
static jj_node *postfix(struct parser *p, jj_node *n)
{
    while (n) {
        jj_node *outer;
        if (take_op(p, ".")) {
            if (p->t->kind != JJ_NAME) return unexpected(p, "a name after the dot");
            outer = named(p, JJ_N_ATTR, p->t++);
        } else if (take_op(p, "[")) {
            n = subscript(p, n);
            continue;
        } else if (take_op(p, "(")) {
            outer = make(p, JJ_N_CALL);
            if (outer && !arguments(p, outer)) return NULL;
        } else {
            return n;
        }
        if (!outer) return NULL;
        outer->a = n;
        n = outer;
    }
    return NULL;
}

static jj_node *filters_and_tests(struct parser *p, jj_node *n)
{
    while (n) {
        if (take_op(p, "|")) {
            const jj_token *t = p->t;
            if (t->kind != JJ_NAME) return unexpected(p, "the name of a filter");
            if (!jj_filter_known(t->p, t->n)) return refuse(p, t->line, "filter", t->p, t->n);
            jj_node *f = named(p, JJ_N_FILTER, p->t++);
            if (!f || (take_op(p, "(") && !arguments(p, f))) return NULL;
            f->a = n;
            n = f;
        } else if (take_name(p, "is")) {
            bool negated = take_name(p, "not");
            const jj_token *t = p->t;
            if (t->kind != JJ_NAME) return unexpected(p, "the name of a test");
            if (!jj_test_known(t->p, t->n)) return refuse(p, t->line, "test", t->p, t->n);
            jj_node *f = named(p, JJ_N_TEST, p->t++);
            if (!f) return NULL;
            f->a = n;
            if (take_op(p, "(")) {
                if (!arguments(p, f)) return NULL;
            } else if (p->t->kind == JJ_STRING || p->t->kind == JJ_INT || (op_is(p->t, "[") && jj_is(f, "in")) ||
                       (p->t->kind == JJ_NAME && (jj_is(f, "in") || jj_is(f, "equalto") || jj_is(f, "eq")))) {
                jj_node *argument = postfix(p, atom(p)); /* one argument may do without brackets */
                if (!argument || !append(p, f, argument)) return NULL;
            }
            n = f;
            if (negated) {
                if (!(n = make(p, JJ_N_NOT))) return NULL;
                n->a = f;
            }
        } else {
            return n;
        }
    }
    return NULL;
}

static jj_node *unary(struct parser *p, bool filters)
{
    jj_node *n;
    if (++p->depth > DEEPEST) {
        if (!p->err || !p->err->code)
            anm_fail(p->err, ANM_ERR_LIMIT, "line %d: more than %d brackets or blocks inside each other", p->t->line, DEEPEST);
        return NULL;
    }
    if (take_op(p, "-")) {
        if ((n = make(p, JJ_N_NEG)) && !(n->a = unary(p, false))) n = NULL;
    } else if (take_op(p, "+")) {
        n = unary(p, false);
    } else {
        n = postfix(p, atom(p));
    }
    p->depth--;
    return filters ? filters_and_tests(p, n) : n;
}

/* Binary operators, tightest first. */
static const char *const power[] = {"**", NULL}, *const product[] = {"*", "/", "//", "%", NULL}, *const joined[] = {"~", NULL},
                         *const sum[] = {"+", "-", NULL};
static const char *const *const levels[] = {sum, joined, product, power};

static jj_node *math(struct parser *p, size_t level)
{
    if (level == sizeof levels / sizeof *levels) return unary(p, true);
    jj_node *n = math(p, level + 1);
    for (int i = 0; n && levels[level][i]; i++) {
        if (!op_is(p->t, levels[level][i])) continue;
        jj_node *outer = named(p, JJ_N_MATH, p->t++);
        if (!outer || !(outer->b = math(p, level + 1))) return NULL;
        outer->a = n;
        n = outer;
        i = -1; /* the same level again */
    }
    return n;
}

static jj_node *comparison(struct parser *p)
{
    static const char *const ops[] = {"==", "!=", "<", "<=", ">", ">=", NULL};
    jj_node *left = math(p, 0), *chain = NULL, *last = NULL;
    while (left) {
        const jj_token *t = p->t;
        jj_node *n = NULL;
        for (int i = 0; ops[i] && !n; i++)
            if (op_is(t, ops[i]) && !(n = named(p, JJ_N_COMPARE, p->t++))) return NULL;
        if (!n && name_is(t, "in")) {
            if (!(n = named(p, JJ_N_COMPARE, p->t++))) return NULL;
        } else if (!n && name_is(t, "not") && name_is(t + 1, "in")) {
            if (!(n = named(p, JJ_N_COMPARE, t))) return NULL;
            p->t += 2;
        }
        if (!n) return chain ? chain : last ? last : left;
        if (!(n->b = math(p, 0))) return NULL;
        n->a = last ? last->b : left;
        if (last && !chain) { /* a < b < c is a < b and b < c */
            if (!(chain = make(p, JJ_N_CHAIN)) || !append(p, chain, last)) return NULL;
        }
        if (chain && !append(p, chain, n)) return NULL;
        last = n;
    }
    return NULL;
}

static jj_node *negation(struct parser *p)
{
    if (!name_is(p->t, "not")) return comparison(p);
    jj_node *n = make(p, JJ_N_NOT);
    p->t++;
    if (++p->depth > DEEPEST) return unexpected(p, "an end to the negations");
    if (n && !(n->a = negation(p))) n = NULL;
    p->depth--;
    return n;
}

static jj_node *junction(struct parser *p, bool either)
{
    jj_node *n = either ? junction(p, false) : negation(p);
    while (n && take_name(p, either ? "or" : "and")) {
        jj_node *outer = make(p, either ? JJ_N_OR : JJ_N_AND);
        if (!outer || !(outer->b = either ? junction(p, false) : negation(p))) return NULL;
        outer->a = n;
        n = outer;
    }
    return n;
}

static jj_node *expression(struct parser *p)
{
    if (++p->depth > DEEPEST) {
        if (!p->err || !p->err->code)
            anm_fail(p->err, ANM_ERR_LIMIT, "line %d: more than %d brackets or blocks inside each other", p->t->line, DEEPEST);
        return NULL;
    }
    jj_node *n = junction(p, true);
    while (n && take_name(p, "if")) {
        jj_node *outer = make(p, JJ_N_CHOOSE);
        if (!outer || !(outer->b = junction(p, true))) return NULL;
        outer->a = n;
        if (take_name(p, "else") && !(outer->c = expression(p))) return NULL;
        n = outer;
    }
    p->depth--;
    return n;
}

/* Expressions with commas between, outside brackets, are a tuple. */
static jj_node *tuple_or_one(struct parser *p)
{
    jj_node *n = expression(p);
    if (!n || !op_is(p->t, ",")) return n;
    jj_node *tuple = make(p, JJ_N_TUPLE);
    if (!tuple || !append(p, tuple, n)) return NULL;
    while (take_op(p, ",")) {
        if (p->t->kind == JJ_BLOCK_END || p->t->kind == JJ_PRINT_END) break;
        if (!(n = expression(p)) || !append(p, tuple, n)) return NULL;
    }
    return tuple;
}

/* ---- statements ---- */

static bool block_end(struct parser *p)
{
    if (p->t->kind == JJ_BLOCK_END) {
        p->t++;
        return true;
    }
    unexpected(p, "the end of the tag");
    return false;
}

/* "{% NAME %}", when it stands here. */
static bool take_block(struct parser *p, const char *name)
{
    if (p->t->kind != JJ_BLOCK || !name_is(p->t + 1, name)) return false;
    p->t += 2;
    return block_end(p);
}

/* A body cannot be told from a failure by NULL alone, as it may be empty. */
static bool body(struct parser *p, jj_node **out, const char *const *ends)
{
    *out = statements(p, ends);
    return !p->err->code;
}

static jj_node *if_block(struct parser *p)
{
    static const char *const ends[] = {"elif", "else", "endif", NULL}, *const end[] = {"endif", NULL};
    jj_node *first = make(p, JJ_N_IF), *n = first;
    while (n) {
        if (!(n->a = expression(p)) || !block_end(p) || !body(p, &n->body, ends)) return NULL;
        if (p->t->kind == JJ_BLOCK && name_is(p->t + 1, "elif")) {
            p->t += 2;
            n = n->other = make(p, JJ_N_IF);
            continue;
        }
        if (take_block(p, "else") && !body(p, &n->other, end)) return NULL;
        if (take_block(p, "endif")) return first;
        return unexpected(p, "endif");
    }
    return NULL;
}

/* What a loop or a set gives values to: a name, several, or (set) a namespace's attribute. */
static jj_node *target(struct parser *p, bool attribute)
{
    jj_node *tuple = make(p, JJ_N_TUPLE), *n;
    bool brackets_too = take_op(p, "(");
    do {
        if (!tuple || p->t->kind != JJ_NAME) return unexpected(p, "a name");
        if (!(n = named(p, JJ_N_NAME, p->t++)) || !append(p, tuple, n)) return NULL;
    } while (take_op(p, ","));
    if (brackets_too && !take_op(p, ")")) return unexpected(p, "a closing bracket");
    if (tuple->count > 1 || brackets_too) return tuple;
    if (!attribute || !take_op(p, ".")) return n;
    if (p->t->kind != JJ_NAME) return unexpected(p, "a name after the dot");
    jj_node *outer = named(p, JJ_N_ATTR, p->t++);
    if (outer) outer->a = n;
    return outer;
}

static jj_node *for_block(struct parser *p)
{
    static const char *const ends[] = {"else", "endfor", NULL}, *const end[] = {"endfor", NULL};
    jj_node *n = make(p, JJ_N_FOR);
    if (!n || !(n->target = target(p, false))) return NULL;
    if (!take_name(p, "in")) return unexpected(p, "'in'");
    if (!(n->a = junction(p, true))) return NULL; /* no a if b else c here: the if is the loop's */
    if (take_name(p, "if") && !(n->b = expression(p))) return NULL;
    if (name_is(p->t, "recursive")) return refuse(p, p->t->line, "loop option", p->t->p, p->t->n);
    if (!block_end(p)) return NULL;
    p->loops++;
    bool good = body(p, &n->body, ends);
    p->loops--;
    if (!good) return NULL;
    if (take_block(p, "else") && !body(p, &n->other, end)) return NULL;
    return take_block(p, "endfor") ? n : unexpected(p, "endfor");
}

static jj_node *set_block(struct parser *p)
{
    static const char *const end[] = {"endset", NULL};
    jj_node *n = make(p, JJ_N_SET);
    if (!n || !(n->target = target(p, true))) return NULL;
    if (take_op(p, "=")) return (n->a = tuple_or_one(p)) && block_end(p) ? n : NULL;
    if (op_is(p->t, "|")) return refuse(p, p->t->line, "filter on a block", p->t[1].p ? p->t[1].p : "", p->t[1].n);
    if (!block_end(p) || !body(p, &n->body, end)) return NULL;
    n->i = 1; /* the text of a block, even of an empty one */
    return take_block(p, "endset") ? n : unexpected(p, "endset");
}

static jj_node *macro_block(struct parser *p)
{
    static const char *const end[] = {"endmacro", NULL};
    if (p->t->kind != JJ_NAME) return unexpected(p, "the macro's name");
    jj_node *n = named(p, JJ_N_MACRO, p->t++);
    if (!n) return NULL;
    if (!take_op(p, "(")) return unexpected(p, "an opening bracket");
    while (!take_op(p, ")")) {
        if (p->t->kind != JJ_NAME) return unexpected(p, "a parameter's name");
        jj_node *one = named(p, JJ_N_KEYWORD, p->t++);
        if (!one || (take_op(p, "=") && !(one->a = expression(p))) || !append(p, n, one)) return NULL;
        if (!take_op(p, ",") && !op_is(p->t, ")")) return unexpected(p, "a comma or a closing bracket");
    }
    int loops = p->loops;
    p->loops = 0;
    bool good = block_end(p) && body(p, &n->body, end);
    p->loops = loops;
    if (!good) return NULL;
    if (take_block(p, "endmacro")) return n;
    if (p->t->kind == JJ_BLOCK && name_is(p->t + 1, "endmacro")) { /* it may repeat the name */
        p->t += 3;
        return block_end(p) ? n : NULL;
    }
    return unexpected(p, "endmacro");
}

/* A block after "{%"; *is_end for one that ends the statements around it. */
static jj_node *block(struct parser *p)
{
    static const char *const generation_end[] = {"endgeneration", NULL};
    const jj_token *t = p->t;
    if (t->kind != JJ_NAME) return unexpected(p, "the name of a block");
    p->t++;
    if (name_is(t, "if")) return if_block(p);
    if (name_is(t, "for")) return for_block(p);
    if (name_is(t, "set")) return set_block(p);
    if (name_is(t, "macro")) return macro_block(p);
    if (name_is(t, "break") || name_is(t, "continue")) {
        if (!p->loops) {
            p->t--;
            return unexpected(p, "a statement for outside of loops");
        }
        jj_node *n = make(p, name_is(t, "break") ? JJ_N_BREAK : JJ_N_CONTINUE);
        return n && block_end(p) ? n : NULL;
    }
    if (name_is(t, "generation")) { /* marks what the model says, for training: its inside is what it is */
        jj_node *n = make(p, JJ_N_IF);
        if (!n || !(n->a = make(p, JJ_N_TRUE)) || !block_end(p) || !body(p, &n->body, generation_end)) return NULL;
        return take_block(p, "endgeneration") ? n : unexpected(p, "endgeneration");
    }
    return refuse(p, t->line, "block", t->p, t->n);
}

static jj_node *statements(struct parser *p, const char *const *ends)
{
    jj_node *first = NULL, **last = &first;
    if (++p->depth > DEEPEST) {
        if (!p->err->code)
            anm_fail(p->err, ANM_ERR_LIMIT, "line %d: more than %d brackets or blocks inside each other", p->t->line, DEEPEST);
        return NULL;
    }
    while (p->t->kind != JJ_END) {
        jj_node *n;
        if (p->t->kind == JJ_TEXT) {
            n = named(p, JJ_N_TEXT, p->t++);
        } else if (p->t->kind == JJ_PRINT) {
            p->t++;
            if ((n = make(p, JJ_N_PRINT)) && !(n->a = tuple_or_one(p))) return NULL;
            if (p->t->kind != JJ_PRINT_END) return unexpected(p, "the end of the tag");
            p->t++;
        } else {
            for (int i = 0; ends && ends[i]; i++)
                if (name_is(p->t + 1, ends[i])) {
                    p->depth--;
                    return first;
                }
            p->t++;
            n = block(p);
        }
        if (!n) return NULL;
        *last = n;
        last = &n->next;
    }
    p->depth--;
    for (; ends && *ends; ends++)
        if (!ends[1]) return unexpected(p, ends[0]); /* the last one is the end proper */
    return first;
}

int jj_parse(jj_node **out, const jj_tokens *tokens, anm_arena *a, anm_error *err)
{
    struct parser p = {.t = tokens->list, .arena = a, .err = err};
    err->code = 0;
    *out = statements(&p, NULL);
    return err->code;
}
