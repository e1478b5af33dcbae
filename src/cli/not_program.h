/* SPDX-License-Identifier: BSD-3-Clause */
/* A program was asked for, and something else was given. */
#ifndef ANM_CLI_NOT_PROGRAM_H
#define ANM_CLI_NOT_PROGRAM_H

#include "base/error.h"

/* After opening `path` as a program failed: where it is plainly something else, a checkpoint or a folder, the message
 * becomes one that says so and what to do. Returns err's code. */
int cli_not_program(const char *path, anm_error *err);

#endif
