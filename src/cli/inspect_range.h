/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef ANM_CLI_INSPECT_RANGE_H
#define ANM_CLI_INSPECT_RANGE_H

#include "base/error.h"

#include <jansson.h>
#include <stdbool.h>

typedef struct cli_range {
    const char *path; /* a program, or a checkpoint … */
    bool program;     /* … which of both */
    const char *params, *tokenizer, *config; /* NULL: what is beside or inside; tokens of no text where there is no tokenizer */
} cli_range;

/* Runs it over a short text that is built in, in fp32, and adds "range" to `to`: which text, and by layer the largest
 * magnitude that each kind of op gave. Ops that only move values are left out. */
int cli_inspect_range(json_t *to, const cli_range *o, anm_error *err);

#endif
