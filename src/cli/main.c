/* SPDX-License-Identifier: BSD-3-Clause */
#include "cli/cli.h"

#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    cli_command *run;
    const char *what;
} commands[] = {
    {NULL, NULL, NULL},
};

int cli_fail(const anm_error *err)
{
    fprintf(stderr, "anemone: %s\n", err->text);
    return err->code == ANM_ERR_USAGE ? EXIT_USAGE : EXIT_FAILED;
}

static void usage(FILE *to)
{
    fprintf(to, "usage: anemone COMMAND [OPTION…]\n\n");
    for (int i = 0; commands[i].name; i++) fprintf(to, "  %-10s %s\n", commands[i].name, commands[i].what);
    fprintf(to, "\n'anemone COMMAND --help' tells of each. Version %s.\n", anm_version());
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "--version") == 0) {
        printf("anemone %s\n", anm_version());
        return EXIT_OK;
    }
    if (argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
        usage(stdout);
        return EXIT_OK;
    }
    for (int i = 0; argc > 1 && commands[i].name; i++)
        if (strcmp(argv[1], commands[i].name) == 0) return commands[i].run(argc - 1, argv + 1);
    if (argc > 1) fprintf(stderr, "anemone: there is no command '%s'; 'anemone --help' lists them\n", argv[1]);
    else usage(stderr);
    return EXIT_USAGE;
}
