/* SPDX-License-Identifier: BSD-3-Clause */
/* A JSON value as a tree of text for people. */
#ifndef ANM_CLI_TREE_H
#define ANM_CLI_TREE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

/* Prints to standard output. Lists of objects whose fields are all plain become tables, one line each; integers get
 * separators. What would not show on a terminal is escaped. */
void cli_tree_print(json_t *root, bool colour);

/* Is standard output a terminal that may be coloured (and NO_COLOR not set)? */
bool cli_colour(void);

/* A string of a foreign file as a JSON string: bytes that are no UTF-8 become U+FFFD. */
json_t *cli_json_text(const char *s);
/* A number; one that JSON does not have as "nan", "inf" or "-inf". */
json_t *cli_json_real(double d);
json_t *cli_json_textn(const char *s, size_t n);

#endif
