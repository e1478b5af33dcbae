/* SPDX-License-Identifier: BSD-3-Clause */
#include "cli/compare.h"
#include "cli/say.h"

#include <stdarg.h>

void cmp_differ(cmp_report *r, const char *where, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    if (r->found++ < r->max && !cli_vsay(stdout, where, fmt, ap)) r->cut = true;
    va_end(ap);
}

void cmp_explain(cmp_report *r, const char *where, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    if (r->details++ < r->max && !cli_vsay(stdout, where, fmt, ap)) r->cut = true;
    va_end(ap);
}
