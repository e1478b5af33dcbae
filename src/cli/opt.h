/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The option parser: a table in, values out. It takes what the original's parser takes: "--name value",
 * "--name=value", "-n value", "-nvalue", "--" to end the options, any unambiguous prefix of a long name, and the last
 * of an option given twice (but for lists); besides, '-' and '_' are the same inside a long name.
 */
#ifndef ANM_CLI_OPT_H
#define ANM_CLI_OPT_H

#include "base/error.h"

#include <stdbool.h>
#include <stdio.h>

typedef enum cli_kind {
    CLI_FLAG,     /* bool *: set to true */
    CLI_STRING,   /* const char ** */
    CLI_LIST,     /* cli_list *: every one given, in order */
    CLI_INT,      /* int64_t * */
    CLI_FLOAT,    /* double * */
    CLI_CHOICE,   /* const char **: one of the words of `arg`, "fp16|fp32"; stored as it stands in `arg`'s spelling */
    CLI_OPTIONAL, /* const char **: "--name" alone stores "", "--name=value" the value; the next word is never taken */
    CLI_MAYBE,    /* const char **: as CLI_OPTIONAL, but the next word is the value if it does not begin with '-' */
    CLI_HEADING,  /* no option: `help` is a heading in the help text */
} cli_kind;

enum { CLI_LIST_MOST = 32 };
typedef struct cli_list {
    const char *item[CLI_LIST_MOST];
    size_t n;
} cli_list;

typedef struct cli_opt {
    char letter;      /* 'c' for -c; 0: none */
    const char *name; /* "max_context_len" */
    cli_kind kind;
    void *to;         /* where the value goes; holds the default before the call */
    const char *arg;  /* the value's name in the help ("FILE", "N"), or the choices */
    const char *help; /* what it does, default included; NULL keeps it out of the help text */
    bool *given;      /* set to true when the option stands on the command line; may be NULL */
} cli_opt;

/* A table ends with {0}. Words that are no options are gathered into words[0 … *n_words), `max_words` at most (one
 * more is an error that names it). Returns 0; ANM_ERR_USAGE with a text that names the option; or CLI_HELPED after
 * printing the help text to standard output for -h or --help (`usage` is its first line, without "usage: "). */
enum { CLI_HELPED = 1 };
int cli_parse(const cli_opt *table, const char *usage, int argc, char **argv, const char **words, int max_words,
              int *n_words, anm_error *err);

/* Whole-string numbers; false when `s` is none, or out of range. */
bool cli_int(const char *s, int64_t *out);
bool cli_float(const char *s, double *out);

#endif
