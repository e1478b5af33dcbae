/* SPDX-License-Identifier: BSD-3-Clause */
#include "cli/line.h"
#include "cli/cli.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifdef ANM_LIBEDIT
#include <histedit.h>
#include <langinfo.h>
#include <locale.h>
#endif

struct cli_line {
    bool terminal;
    char *plain; /* getline's */
    size_t room;
#ifdef ANM_LIBEDIT
    EditLine *edit; /* NULL: lines as they come */
    History *past;
    bool dropped; /* Ctrl-C */
#endif
};

#ifdef ANM_LIBEDIT
enum { PAST_LINES = 1000 };

static char *prompt(EditLine *e)
{
    static char text[] = "> ";
    (void)e;
    return text;
}

static unsigned char drop(EditLine *e, int key)
{
    cli_line *l = NULL;
    (void)key;
    el_get(e, EL_CLIENTDATA, &l);
    l->dropped = true;
    return CC_EOF;
}

static unsigned char suspend(EditLine *e, int key)
{
    (void)e;
    (void)key;
    raise(SIGTSTP);
    return CC_REDISPLAY;
}

/* Characters are what the terminal sends, which is UTF-8 wherever the environment does not say otherwise. */
static void know_characters(void)
{
    static const char *const names[] = {"", "C.UTF-8", "en_US.UTF-8"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (setlocale(LC_CTYPE, names[i]) && strcmp(nl_langinfo(CODESET), "UTF-8") == 0) return;
}

static int open_edit(cli_line *l, anm_error *err)
{
    HistEvent ev;
    know_characters();
    l->past = history_init();
    l->edit = el_init("anemone", stdin, stderr, stderr);
    if (!l->past || !l->edit) return anm_fail_memory(err, "line editing");
    history(l->past, &ev, H_SETSIZE, PAST_LINES);
    history(l->past, &ev, H_SETUNIQUE, 1);
    el_set(l->edit, EL_CLIENTDATA, l);
    el_set(l->edit, EL_PROMPT, prompt);
    el_set(l->edit, EL_EDITOR, "emacs");
    el_set(l->edit, EL_HIST, history, l->past);
    el_set(l->edit, EL_SIGNAL, 1); /* the terminal is put right before a signal ends the program */
    el_set(l->edit, EL_ADDFN, "drop-line", "forget what was typed", drop);
    el_set(l->edit, EL_ADDFN, "suspend", "stop until fg", suspend);
    el_set(l->edit, EL_SETTY, "-d", "-isig", NULL); /* while a line is edited Ctrl-C and Ctrl-Z are keys */
    static const char *const keys[][2] = {
        {"^C", "drop-line"}, {"^Z", "suspend"},          {"^R", "em-inc-search-prev"},  {"^W", "ed-delete-prev-word"},
        {"\\e[3~", "ed-delete-next-char"}, {"\\e[1~", "ed-move-to-beg"}, {"\\e[4~", "ed-move-to-end"},
        {"\\e[1;5C", "em-next-word"},  {"\\e[1;5D", "ed-prev-word"},
    };
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        el_set(l->edit, EL_BIND, keys[i][0], keys[i][1], NULL);
    return 0;
}

static bool read_edited(const char **text, size_t *n, cli_line *l)
{
    for (;;) {
        int count = 0;
        HistEvent ev;
        l->dropped = false;
        const char *line = el_gets(l->edit, &count);
        if (l->dropped) {
            fprintf(stderr, "^C\n");
            continue;
        }
        if (!line || count <= 0) return false;
        *text = line;
        *n = (size_t)count;
        if (*n > 1) history(l->past, &ev, H_ENTER, line);
        return true;
    }
}
#endif

int cli_line_open(cli_line **out, anm_error *err)
{
    int rc = 0;
    cli_line *l = *out = calloc(1, sizeof *l);
    if (!l) return anm_fail_memory(err, "standard input");
    l->terminal = isatty(STDIN_FILENO) == 1;
#ifdef ANM_LIBEDIT
    if (l->terminal && isatty(STDERR_FILENO)) rc = open_edit(l, err);
#endif
    return rc;
}

void cli_line_close(cli_line *l)
{
    if (!l) return;
#ifdef ANM_LIBEDIT
    if (l->edit) el_end(l->edit);
    if (l->past) history_end(l->past);
#endif
    free(l->plain);
    free(l);
}

bool cli_line_terminal(const cli_line *l)
{
    return l->terminal;
}

static bool read_plain(const char **text, size_t *n, cli_line *l)
{
    for (;;) {
        if (l->terminal) fprintf(stderr, "> ");
        cli_handle_stop(l->terminal);
        ssize_t got = getline(&l->plain, &l->room, stdin);
        bool stopped = got < 0 && errno == EINTR && cli_stop_asked();
        cli_handle_stop(false);
        if (!stopped) {
            *text = l->plain;
            *n = got < 0 ? 0 : (size_t)got;
            return got >= 0;
        }
        clearerr(stdin);
        fprintf(stderr, "\n");
    }
}

bool cli_line_read(const char **text, size_t *n, cli_line *l)
{
    bool got;
#ifdef ANM_LIBEDIT
    if (l->edit)
        got = read_edited(text, n, l);
    else
#endif
        got = read_plain(text, n, l);
    while (got && *n && ((*text)[*n - 1] == '\n' || (*text)[*n - 1] == '\r'))
        --*n;
    return got;
}
