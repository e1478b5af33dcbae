/* SPDX-License-Identifier: BSD-3-Clause */
#include "run/stream.h"

#include <string.h>

/* How many bytes the character that begins with `b` has; 0: none begins so. */
static unsigned length_of(uint8_t b)
{
    return b < 0x80 ? 1 : b < 0xc2 ? 0 : b < 0xe0 ? 2 : b < 0xf0 ? 3 : b < 0xf5 ? 4 : 0;
}

/* May `b` follow the n bytes of `part`? The second byte is where overlong forms, surrogates and what lies
 * beyond U+10FFFF are ruled out (Unicode 15, table 3-7). */
static bool continues(const uint8_t *part, unsigned n, uint8_t b)
{
    uint8_t low = 0x80, high = 0xbf;
    if (n == 1 && part[0] == 0xe0) low = 0xa0;
    if (n == 1 && part[0] == 0xed) high = 0x9f;
    if (n == 1 && part[0] == 0xf0) low = 0x90;
    if (n == 1 && part[0] == 0xf4) high = 0x8f;
    return b >= low && b <= high;
}

/* The longest end of what is held that begins `stop`. */
static size_t begun(const anm_stream *s, const char *stop, size_t size)
{
    size_t n = s->held.size < size ? s->held.size : size;
    while (n && memcmp(s->held.data + s->held.size - n, stop, n) != 0)
        n--;
    return n;
}

/* A whole character: it may complete a stop text, go on with some, or show that what was held is only text. */
static void character(anm_stream *s, const void *c, size_t n)
{
    size_t keep = 0, whole = 0;
    if (s->stopped) return;
    if (!s->n_stop) {
        anm_buf_put(&s->ready, c, n);
        return;
    }
    anm_buf_put(&s->held, c, n);
    if (s->held.bad) return;
    for (size_t i = 0; i < s->n_stop; i++) {
        size_t size = strlen(s->stop[i]), part = begun(s, s->stop[i], size);
        if (part > keep) keep = part;
        if (part == size && size > whole) whole = size;
    }
    if (whole) keep = whole; /* and what another had begun before it is only text */
    size_t free_now = s->held.size - keep;
    anm_buf_put(&s->ready, s->held.data, free_now);
    memmove(s->held.data, s->held.data + free_now, keep);
    s->held.size = whole ? 0 : keep;
    s->stopped = whole != 0;
}

static void replacement(anm_stream *s)
{
    s->n_part = 0;
    character(s, "\xEF\xBF\xBD", 3);
}

void anm_stream_push(anm_stream *s, const char *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint8_t b = (uint8_t)bytes[i];
        if (s->n_part && !continues(s->part, s->n_part, b)) replacement(s);
        if (!s->n_part && length_of(b) == 0) {
            replacement(s);
            continue;
        }
        s->part[s->n_part++] = b;
        if (s->n_part < length_of(s->part[0])) continue;
        character(s, s->part, s->n_part);
        s->n_part = 0;
    }
}

void anm_stream_end(anm_stream *s)
{
    if (s->n_part) replacement(s);
    if (!s->stopped && s->held.size) anm_buf_put(&s->ready, s->held.data, s->held.size);
    s->held.size = 0;
}

void anm_stream_restart(anm_stream *s)
{
    s->ready.size = s->held.size = 0;
    s->n_part = 0;
    s->stopped = false;
}

void anm_stream_free(anm_stream *s)
{
    anm_buf_free(&s->ready);
    anm_buf_free(&s->held);
}
