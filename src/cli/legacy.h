/* SPDX-License-Identifier: BSD-3-Clause */
/* anemone legacy: the original's deprecated scripts, under the options that they had. argv[0] is the subcommand's name. */
#ifndef ANM_CLI_LEGACY_H
#define ANM_CLI_LEGACY_H

#include "cli/run.h"

int cli_legacy_export(int argc, char **argv);
int cli_legacy_run(int argc, char **argv);
int cli_legacy_lookahead(int argc, char **argv);

/* Says on standard error what takes the command's place: once, when all went well (a failure is one line alone). */
void cli_legacy_say(const char *command, const char *instead);

/* The checkpoint in a program's place (--use_eager). */
typedef struct legacy_eager {
    const char *checkpoint, *params; /* params: NULL for what lies beside or inside the checkpoint */
    anm_model_form form;
} legacy_eager;
int cli_legacy_open_eager(anm_llm **out, const legacy_eager *from, const anm_llm_opts *how, anm_error *err);

/* How far the program r->o.model and the checkpoint are apart on the prompt, on standard output (legacy_compare.c). */
int cli_legacy_compare(running *r, const legacy_eager *with, anm_error *err);

#endif
