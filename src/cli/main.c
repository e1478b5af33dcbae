/* SPDX-License-Identifier: BSD-3-Clause */
#include "base/map.h"
#include "cli/cli.h"
#include "cli/say.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *what;
} commands[] = {
#define COMMAND(name, function, what) {name, function, what},
#include "cli/commands.def"
#undef COMMAND
    {NULL, NULL, NULL},
};

/* Names under which the program is installed besides its own: the original's scripts. */
static const struct {
    const char *name, *command;
} aliases[] = {
    {"export_static_llm_coreml", "export"},
    {"run_static_llm", "run"},
    {"run_static_llm_multifunction", "run"},
};

int cli_fail(const anm_error *err)
{
    fflush(stdout);
    cli_say(stderr, "anemone", "%s", err->text);
    return err->code == ANM_ERR_USAGE ? EXIT_USAGE : EXIT_FAILED;
}

int cli_finish(int code, int lost)
{
    bool before = ferror(stdout); /* an earlier write failed: closing does not say so again */
    int why = fclose(stdout) ? errno : 0;
    if ((!before && !why) || code != EXIT_OK) return code;
    fprintf(stderr, "anemone: standard output: %s\n", why ? strerror(why) : "not all of it could be written");
    return lost;
}

static void usage(FILE *to)
{
    fprintf(to, "usage: anemone COMMAND [OPTION…]\n\n");
    for (int i = 0; commands[i].name; i++) fprintf(to, "  %-10s %s\n", commands[i].name, commands[i].what);
    fprintf(to, "\n'anemone COMMAND --help' tells of each. Version %s.\n", anm_version());
}

static int run(const char *name, int argc, char **argv)
{
    for (int i = 0; commands[i].name; i++)
        if (strcmp(name, commands[i].name) == 0)
            return cli_finish(commands[i].run(argc, argv), commands[i].run == cmd_compare ? EXIT_TROUBLE : EXIT_FAILED);
    fprintf(stderr, "anemone: there is no command '%s'; 'anemone --help' lists them\n", name);
    return EXIT_USAGE;
}

int main(int argc, char **argv)
{
    cli_install_signals();
    anm_map_remember();
    const char *self = argc > 0 ? argv[0] : "", *slash = strrchr(self, '/');
    if (slash) self = slash + 1;
    for (size_t i = 0; i < sizeof aliases / sizeof *aliases; i++)
        if (strcmp(self, aliases[i].name) == 0) return run(aliases[i].command, argc, argv);
    if (argc < 2) {
        usage(stderr);
        return EXIT_USAGE;
    }
    if (strcmp(argv[1], "--version") == 0) {
        printf("anemone %s\n", anm_version());
        return cli_finish(EXIT_OK, EXIT_FAILED);
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || (strcmp(argv[1], "help") == 0 && argc == 2)) {
        usage(stdout);
        return cli_finish(EXIT_OK, EXIT_FAILED);
    }
    if (strcmp(argv[1], "help") == 0 && argc == 3) { /* as others have it: of a command */
        char option[] = "--help", *words[] = {argv[2], option, NULL};
        return run(argv[2], 2, words);
    }
    return run(argv[1], argc - 1, argv + 1);
}
