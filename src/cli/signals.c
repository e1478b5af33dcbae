/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the process does when it is interrupted, or when a file that it has mapped shrinks under it: unfinished output
 * is removed, and one line says why. Only async-signal-safe calls in the handlers.
 */
#include "cli/cli.h"
#include "base/map.h"
#include "base/outfile.h"
#include "base/stops.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void say(const char *s)
{
    ssize_t ignored = write(STDERR_FILENO, s, strlen(s));
    (void)ignored;
}

/* Which signal asked, where the command has its own way to stop (an answer in a chat, a generation with a summary to print). */
static volatile sig_atomic_t asked_to_stop;
static volatile sig_atomic_t handled; /* 0 none, 1 SIGINT, 2 every one */

void cli_handle_stop(bool on)
{
    handled = on; /* first: what comes between them is not lost */
    asked_to_stop = 0;
}

void cli_handle_all_stops(void)
{
    cli_handle_stop(true);
    handled = 2;
}

bool cli_stop_asked(void)
{
    return asked_to_stop != 0;
}

void cli_die_if_stopped(void)
{
    int sig = asked_to_stop;
    if (!sig) return;
    fflush(stdout);
    signal(sig, SIG_DFL);
    raise(sig);
}

/* What is still to be said when the process is stopped. */
static const char *volatile last_words;

void cli_say_at_stop(const char *line)
{
    last_words = line;
}

static void on_interrupt(int sig)
{
    if (handled >= (sig == SIGINT ? 1 : 2) && !asked_to_stop) { /* a second one does not wait */
        asked_to_stop = sig;
        return;
    }
    anm_outfile_abort_all();
    if (last_words) say(last_words);
    signal(sig, SIG_DFL); /* die of it, so that the caller's shell knows */
    raise(sig);
}

static void on_bus_error(int sig, siginfo_t *info, void *context)
{
    (void)context;
    const char *path = anm_map_path_of(info->si_addr);
    anm_outfile_abort_all();
    if (!path) {
        signal(sig, SIG_DFL);
        raise(sig);
        return;
    }
    say("anemone: ");
    say(path);
    say(": became shorter while it was read; try again when nothing writes to it\n");
    _exit(EXIT_FAILED);
}

void cli_install_signals(void)
{
    struct sigaction a;
    memset(&a, 0, sizeof a);
    sigemptyset(&a.sa_mask);
    a.sa_handler = on_interrupt;
    for (int i = 0; i < ANM_N_STOPS; i++) {
        struct sigaction was;
        if (sigaction(anm_stops[i], NULL, &was) || was.sa_handler == SIG_IGN) continue; /* nohup, or a job in the background */
        sigaction(anm_stops[i], &a, NULL);
    }
    a.sa_flags = SA_SIGINFO;
    a.sa_handler = NULL;
    a.sa_sigaction = on_bus_error;
    sigaction(SIGBUS, &a, NULL);
    signal(SIGPIPE, SIG_IGN); /* a reader that goes away is a write error, and is said as one */
    signal(SIGXFSZ, SIG_IGN); /* so is a file that grows beyond the limit on its size */
}
