/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The command line: one table of commands (main.c), one cmd_*.c each, one option parser (opt.c). Only this folder
 * prints and exits. A failure is one line on standard error, "anemone: FILE: what is wrong, and what to do"; exit
 * code 1, or 2 for wrong usage.
 */
#ifndef ANM_CLI_CLI_H
#define ANM_CLI_CLI_H

#include "base/error.h"

enum { EXIT_OK = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

/* Prints "anemone: TEXT" and gives the exit code that fits err->code. */
int cli_fail(const anm_error *err);

/* Each command: argv[0] is the command's name. Returns the exit code. */
typedef int cli_command(int argc, char **argv);

#endif
