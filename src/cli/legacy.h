/* SPDX-License-Identifier: BSD-3-Clause */
/* anemone legacy: the original's deprecated scripts, under the options that they had. argv[0] is the subcommand's name. */
#ifndef ANM_CLI_LEGACY_H
#define ANM_CLI_LEGACY_H

#include <stdbool.h>

int cli_legacy_export(int argc, char **argv);

/* Says on standard error, once, what takes the command's place. */
void cli_legacy_say(const char *command, const char *instead);

#endif
