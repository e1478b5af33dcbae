/* SPDX-License-Identifier: BSD-3-Clause */
#include "base/shown.h"
#include "base/utf8.h"

#include <string.h>

/* A character of three bytes: a line's or paragraph's separator, or one of the bidirectional embeddings, overrides and isolates. */
static bool reorders(const char *s)
{
    uint32_t c = anm_utf8_at(s);
    return (c >= 0x2028 && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069);
}

size_t anm_shown_next(const char *s, size_t n, bool *hidden)
{
    int bad;
    size_t len = anm_utf8_check(s, n, &bad);
    const unsigned char *c = (const unsigned char *)s;
    *hidden = bad || *c < 0x20 || *c == 0x7f || (*c == 0xc2 && c[1] < 0xa0) || (len == 3 && reorders(s));
    return len;
}

void anm_shown_put(anm_buf *to, const char *s, size_t n)
{
    bool hidden;
    for (size_t len; n; s += len, n -= len) {
        len = anm_shown_next(s, n, &hidden);
        if (!hidden) anm_buf_put(to, s, len);
        else
            for (size_t i = 0; i < len; i++) anm_buf_printf(to, "\\x%02x", (unsigned char)s[i]);
    }
}

void anm_shown_write(FILE *to, const char *s, size_t n, const char *keep)
{
    bool hidden;
    for (size_t len; n; s += len, n -= len) {
        len = anm_shown_next(s, n, &hidden);
        if (!hidden || (*s && strchr(keep, *s))) fwrite(s, 1, len, to);
        else
            for (size_t i = 0; i < len; i++) fprintf(to, "\\x%02x", (unsigned char)s[i]);
    }
}
