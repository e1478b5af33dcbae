/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Lines that a person types: edited with arrows and the keys of a shell, earlier lines to be had back (libedit), where
 * standard input and error are a terminal and the library was there at build time; else lines as they come. Earlier
 * lines are kept in memory only, and no configuration is read.
 */
#ifndef ANM_CLI_LINE_H
#define ANM_CLI_LINE_H

#include "base/error.h"

#include <stdbool.h>

typedef struct cli_line cli_line;

int cli_line_open(cli_line **out, anm_error *err);
void cli_line_close(cli_line *l);

/* Is there a person, to be prompted? */
bool cli_line_terminal(const cli_line *l);

/* The next line, without its end; points into `l` until the next call. A person's Ctrl-C drops the line and asks again.
 * False at the end of the input (Ctrl-D). */
bool cli_line_read(const char **text, size_t *n, cli_line *l);

#endif
