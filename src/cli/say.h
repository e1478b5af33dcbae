/* SPDX-License-Identifier: BSD-3-Clause */
/* Lines for people. What would act on a terminal rather than show on it is escaped (base/shown.h). */
#ifndef ANM_CLI_SAY_H
#define ANM_CLI_SAY_H

#include "base/error.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>

/* Prints "WHERE: TEXT" (where may be NULL) and ends the line. false: for so long a line there is no memory, and not all
 * of it was printed. */
bool cli_vsay(FILE *to, const char *where, const char *fmt, va_list ap);
bool cli_say(FILE *to, const char *where, const char *fmt, ...) ANM_PRINTF(3, 4);

/* "anemone: note: TEXT" on standard error. */
void cli_note(const char *fmt, ...) ANM_PRINTF(1, 2);

/* What a model or a tokenizer made, on standard output: byte for byte, but where that is a terminal. There line ends and
 * tabs are kept, and the rest is escaped. */
void cli_put_text(const char *s, size_t n);

#endif
