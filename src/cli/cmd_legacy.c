/* SPDX-License-Identifier: BSD-3-Clause */
/* anemone legacy export | run | run_lookahead: one word more, then each is a command of its own. */
#include "cli/cli.h"
#include "cli/legacy.h"

#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *what;
} commands[] = {
    {"export", cli_legacy_export, "turn a checkpoint into a program of the deprecated form (export.py)"},
    {"run", cli_legacy_run, "let such a program, or the checkpoint itself, answer a prompt (run.py)"},
    {"run_lookahead", cli_legacy_lookahead, "the same with lookahead decoding (run_lookahead.py)"},
};

enum { COMMANDS = sizeof commands / sizeof *commands };

void cli_legacy_say(const char *command, const char *instead)
{
    fprintf(stderr, "anemone: note: legacy %s is deprecated; use %s\n", command, instead);
}

static void usage(FILE *to)
{
    fprintf(to, "usage: anemone legacy COMMAND [OPTION…]\n\n");
    for (int i = 0; i < COMMANDS; i++) fprintf(to, "  %-14s %s\n", commands[i].name, commands[i].what);
    fprintf(to, "\nAll are deprecated: anemone export and anemone run take their place.\n");
}

int cmd_legacy(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "";
    for (int i = 0; i < COMMANDS; i++)
        if (!strcmp(name, commands[i].name)) return commands[i].run(argc - 1, argv + 1);
    bool help = !strcmp(name, "--help") || !strcmp(name, "-h");
    if (argc > 1 && !help) fprintf(stderr, "anemone: legacy: there is no command '%s'; 'anemone legacy --help' lists them\n", name);
    else usage(help ? stdout : stderr);
    return help ? EXIT_OK : EXIT_USAGE;
}
