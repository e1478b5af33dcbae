/* SPDX-License-Identifier: BSD-3-Clause */
#undef ANM_ANALYZE /* these are functions here */
#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void set(anm_error *err, int code, uint64_t offset, const char *fmt, va_list ap)
{
    if (!err) return;
    err->code = code;
    err->offset = offset;
    vsnprintf(err->text, sizeof err->text, fmt, ap);
}

int anm_fail(anm_error *err, int code, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    set(err, code, ANM_NO_OFFSET, fmt, ap);
    va_end(ap);
    return code;
}

int anm_fail_at(anm_error *err, int code, uint64_t offset, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    set(err, code, offset, fmt, ap);
    va_end(ap);
    return code;
}

int anm_fail_memory(anm_error *err, const char *what)
{
    return anm_fail(err, ANM_ERR_MEMORY, "out of memory (%s)", what);
}

int anm_error_prefix(anm_error *err, const char *prefix)
{
    if (!err) return ANM_ERR_FORMAT;
    char *t = err->text;
    size_t room = sizeof err->text - 1, n = strlen(prefix), len = strlen(t);
    if (n > room - 2) n = room - 2;
    if (len > room - 2 - n) len = room - 2 - n; /* the end of the text gives way, never the file's name */
    memmove(t + n + 2, t, len);
    memcpy(t, prefix, n);
    memcpy(t + n, ": ", 2);
    t[n + 2 + len] = 0;
    return err->code;
}
