/* SPDX-License-Identifier: BSD-3-Clause */
#include "cli/say.h"
#include "base/shown.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

bool cli_vsay(FILE *to, const char *where, const char *fmt, va_list ap)
{
    char few[512], *text = few;
    va_list again;
    va_copy(again, ap);
    int n = vsnprintf(few, sizeof few, fmt, ap);
    bool whole = n >= 0;
    if (n >= (int)sizeof few) {
        text = malloc((size_t)n + 1);
        whole = text != NULL;
        if (whole) vsnprintf(text, (size_t)n + 1, fmt, again);
        else text = few;
    }
    va_end(again);
    if (where) {
        anm_shown_write(to, where, strlen(where), "");
        fputs(": ", to);
    }
    if (n >= 0) anm_shown_write(to, text, strlen(text), "");
    putc('\n', to);
    if (text != few) free(text);
    return whole;
}

bool cli_say(FILE *to, const char *where, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    bool whole = cli_vsay(to, where, fmt, ap);
    va_end(ap);
    return whole;
}

void cli_note(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    cli_vsay(stderr, "anemone: note", fmt, ap);
    va_end(ap);
}

void cli_put_text(const char *s, size_t n)
{
    if (isatty(STDOUT_FILENO)) anm_shown_write(stdout, s, n, "\n\t");
    else fwrite(s, 1, n, stdout);
}
