/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The command line: one table of commands (commands.def), one cmd_*.c each, one option parser (opt.c). Only this
 * folder prints and exits. A failure is one line on standard error, "anemone: FILE: what is wrong, and what to do"; exit
 * code 1, or 2 for wrong usage.
 */
#ifndef ANM_CLI_CLI_H
#define ANM_CLI_CLI_H

#include "base/error.h"

#include <stdbool.h>

enum { EXIT_OK = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_TROUBLE = 2 /* of compare, whose 1 is a difference */ };

/* Prints "anemone: TEXT", escaped (say.h), and gives the exit code that fits err->code. */
int cli_fail(const anm_error *err);

/* Closes standard output and says so when what was written there did not arrive. Returns `code`, or `lost` then. */
int cli_finish(int code, int lost);

/* Each command: argv[0] is the command's name. Returns the exit code. */
#define COMMAND(name, function, what) int function(int argc, char **argv);
#include "cli/commands.def"
#undef COMMAND

/* Handlers for interrupts and for files that shrink while they are mapped (signals.c). */
void cli_install_signals(void);

/* While on, the first Ctrl-C does not end the program: cli_stop_asked turns true and the command winds up. */
void cli_handle_stop(bool on);
/* As on, and so for every signal that ends a program politely (base/stops.h), where what was made must be undone. */
void cli_handle_all_stops(void);
bool cli_stop_asked(void);
/* Where a Ctrl-C (or what else was handled) was answered by winding up: ends the process as it would have, so that the caller's
 * shell knows. What stands in stdout goes out first. */
void cli_die_if_stopped(void);

/* What the signals of base/stops.h say before they end the program; NULL: nothing. `line` is kept by pointer. */
void cli_say_at_stop(const char *line);

#endif
