/* SPDX-License-Identifier: BSD-3-Clause */
/* What a command that reads strangers' files keeps when it locks itself in. */
#ifndef ANM_CLI_SANDBOX_H
#define ANM_CLI_SANDBOX_H

#include "cli/run.h"

/* For anemone run and chat, before anything is opened: as --sandbox says. Says in o->locked whether it is so. */
int cli_sandbox_run(options *o, anm_error *err);

#endif
