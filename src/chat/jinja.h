/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The subset of Jinja, inside: template text -> tokens (jinja_lex.c) -> tree (jinja_parse.c) -> text (jinja_eval.c,
 * with strings and lists in jinja_value.c, what may be called on them in jinja_call.c). Private to src/chat/.
 */
#ifndef ANM_CHAT_JINJA_H
#define ANM_CHAT_JINJA_H

#include "base/arena.h"
#include "base/error.h"

#include <stdbool.h>
#include <string.h>

/* ---- tokens ---- */

typedef enum jj_token_kind {
    JJ_END,
    JJ_TEXT,        /* between tags, white space control done */
    JJ_PRINT,       /* {{ */
    JJ_PRINT_END,   /* }} */
    JJ_BLOCK,       /* {% */
    JJ_BLOCK_END,   /* %} */
    JJ_NAME,
    JJ_INT,
    JJ_FLOAT,
    JJ_STRING,      /* escapes resolved */
    JJ_OP,          /* an operator or a bracket: its characters */
} jj_token_kind;

typedef struct jj_token {
    jj_token_kind kind;
    const char *p;
    size_t n;
    int line;
    int64_t i;
    double f;
} jj_token;

typedef struct jj_tokens {
    jj_token *list;
    size_t n;
} jj_tokens;

/* A token is much larger than its text: more than these of n bytes of template are refused as if memory were out. */
#define JJ_MOST_TOKENS(n) ((n) / 3 + 4096)

/* The list is the caller's (free), also after a failure; what it points to is in the arena. */
int jj_lex(jj_tokens *out, const char *text, size_t n, anm_arena *a, anm_error *err);

/* ---- the tree ---- */

typedef enum jj_kind {
    /* statements; `next` leads to the following one */
    JJ_N_TEXT,   /* s */
    JJ_N_PRINT,  /* a */
    JJ_N_IF,     /* a: condition, body, other: the next branch (a list that may be one more IF) */
    JJ_N_FOR,    /* target, a: iterable, b: condition or NULL, body, other: when there was nothing */
    JJ_N_SET,    /* target, a: value, or body: the text of a block */
    JJ_N_MACRO,  /* s: name, list: parameters (NAME, or KEYWORD with the default), body */
    JJ_N_BREAK,
    JJ_N_CONTINUE,
    /* expressions */
    JJ_N_STRING, /* s */
    JJ_N_INT,
    JJ_N_FLOAT,
    JJ_N_TRUE,
    JJ_N_FALSE,
    JJ_N_NONE,
    JJ_N_NAME,   /* s */
    JJ_N_LIST,   /* list */
    JJ_N_TUPLE,  /* list */
    JJ_N_DICT,   /* list: key, value, key, value, … */
    JJ_N_ATTR,   /* a . s */
    JJ_N_ITEM,   /* a [ b ] */
    JJ_N_SLICE,  /* a [ list[0] : list[1] : list[2] ], NULL where left out */
    JJ_N_CALL,   /* a ( list ); keyword arguments are KEYWORD */
    JJ_N_KEYWORD, /* s = a */
    JJ_N_FILTER, /* a | s ( list ) */
    JJ_N_TEST,   /* a is s ( list ) */
    JJ_N_NOT,
    JJ_N_NEG,
    JJ_N_AND,
    JJ_N_OR,
    JJ_N_COMPARE, /* a op b; op in s */
    JJ_N_CHAIN,  /* a < b < c: list of COMPAREs that share their inner operands */
    JJ_N_MATH,   /* a op b; op in s */
    JJ_N_CHOOSE, /* body-less: a if b else c */
} jj_kind;

typedef struct jj_node {
    jj_kind kind;
    int line;
    const char *s;
    size_t n; /* bytes of s */
    int64_t i;
    double f;
    struct jj_node *a, *b, *c, *target, *body, *other, *next;
    struct jj_node **list;
    size_t count;
} jj_node;

int jj_parse(jj_node **out, const jj_tokens *tokens, anm_arena *a, anm_error *err);
/* Is s this name? */
static inline bool jj_is(const jj_node *n, const char *name)
{
    return n->s && strlen(name) == n->n && memcmp(n->s, name, n->n) == 0;
}

/* ---- values ---- */

typedef enum jj_type {
    JJ_UNDEFINED,
    JJ_NONE,
    JJ_BOOL,
    JJ_INTEGER,
    JJ_REAL,
    JJ_STR,
    JJ_SEQ,   /* lists and tuples */
    JJ_MAP,   /* dicts; a namespace is one that {% set ns.x %} may change */
    JJ_MACRO,
} jj_type;

typedef struct jj_value {
    jj_type type;
    union {
        bool b;
        int64_t i;
        double f;
        struct {
            const char *p;
            const uint8_t *mark; /* for each byte: 1 where a message said it; NULL: nowhere */
            size_t n;
        } s;
        struct jj_seq *seq;
        struct jj_map *map;
        const jj_node *macro;
    };
} jj_value;

typedef struct jj_seq {
    jj_value *v;
    size_t n, room;
    bool tuple;
} jj_seq;

typedef struct jj_map {
    jj_value *key, *value;
    size_t n, room;
    bool is_namespace;
} jj_map;

typedef struct jj_text { /* text being put together */
    char *p;
    uint8_t *mark;
    size_t n, room;
} jj_text;

/* A rendering under way. */
typedef struct jj_run {
    anm_arena arena; /* every value; limited */
    anm_error *err;
    struct jj_scope *scope, *global;
    jj_text *out;
    uint64_t work;   /* left; see jj_charge */
    int depth;
    bool breaking, continuing;
    int64_t now;
    int line;        /* of the statement that runs */
} jj_run;

/* Arguments of a call, a filter or a test. */
typedef struct jj_args {
    jj_value *v;
    const char **name; /* keyword arguments: their names; NULL for the others */
    size_t *name_n;
    size_t n;
} jj_args;

/* What a template does is counted, so that none takes time out of proportion: JJ_STEP for a statement or an expression,
 * JJ_VALUE for each value that is compared, JJ_ITEM for each item or name that is looked at, 1 for each byte. Whoever walks
 * through something charges for it. False once nothing is left: what is found out then does not count, and the next step, or
 * the end, fails with jj_no_work. */
enum { JJ_STEP = 64, JJ_VALUE = 32, JJ_ITEM = 8 };

static inline bool jj_charge(jj_run *r, uint64_t cost)
{
    r->work -= cost < r->work ? cost : r->work;
    return r->work > 0;
}

int jj_no_work(jj_run *r);
int jj_fail(jj_run *r, int code, const char *fmt, ...) ANM_PRINTF(3, 4);
int jj_no_memory(jj_run *r);

int jj_text_put(jj_run *r, jj_text *t, const char *p, const uint8_t *mark, size_t n);
jj_value jj_text_value(const jj_text *t);
jj_value jj_str(const char *p); /* of the template's own */
jj_value jj_cut(const jj_value *v, size_t from, size_t to);              /* bytes of a string, with whose they are */
size_t jj_chars(jj_run *r, const jj_value *v);                           /* characters of a string */
bool jj_same(jj_run *r, const char *p, const char *q, size_t n);         /* are n bytes the same? */
/* As Python's json.dumps(…, ensure_ascii=False); depth 0 from outside. */
int jj_put_json(jj_run *r, jj_text *t, const jj_value *v, int depth);

bool jj_truth(const jj_value *v);
bool jj_equal(jj_run *r, const jj_value *x, const jj_value *y, int depth);
const char *jj_type_name(const jj_value *v);
bool jj_number(const jj_value *v, double *f); /* the number that it counts as, if it does */
/* How a value prints, as a string value. */
int jj_to_str(jj_run *r, jj_value *out, const jj_value *v);
int jj_seq_add(jj_run *r, jj_seq *s, const jj_value *v);
int jj_seq_new(jj_run *r, jj_value *out);
int jj_map_new(jj_run *r, jj_value *out);
int jj_map_set(jj_run *r, jj_map *m, const jj_value *key, const jj_value *v);
const jj_value *jj_map_get(jj_run *r, const jj_map *m, const char *key, size_t n);

/* Filters, tests and methods by name: known when parsing, so that what is beyond them is refused before anything is
 * rendered. */
bool jj_filter_known(const char *name, size_t n);
bool jj_test_known(const char *name, size_t n);
int jj_filter(jj_run *r, jj_value *out, const jj_node *name, const jj_value *v, const jj_args *args);
int jj_test(jj_run *r, bool *out, const jj_node *name, const jj_value *v, const jj_args *args);
int jj_method(jj_run *r, jj_value *out, const jj_node *name, const jj_value *v, const jj_args *args);
/* An item by key or index; undefined where there is none. */
int jj_item(jj_run *r, jj_value *out, const jj_value *v, const jj_value *key);

/* Renders the tree into r->out; the caller has set up the scope. */
int jj_render(jj_run *r, const jj_node *tree);
int jj_define(jj_run *r, struct jj_scope *s, const char *name, size_t n, const jj_value *v);
struct jj_scope *jj_scope_new(jj_run *r, struct jj_scope *parent);

#endif
