/* SPDX-License-Identifier: BSD-3-Clause */
#include "base/buf.h"
#include "base/bytes.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void anm_buf_free(anm_buf *b)
{
    free(b->data);
    *b = (anm_buf){0};
}

/* Where `n` more bytes go; they and the 0 behind them have room. NULL when memory is out. */
static uint8_t *reserve(anm_buf *b, size_t n)
{
    if (b->bad) return NULL;
    if (n > SIZE_MAX / 4 || b->size > SIZE_MAX / 4) {
        b->bad = true;
        return NULL;
    }
    if (b->limit && b->size + n > b->limit) {
        b->bad = b->over = true;
        return NULL;
    }
    if (b->room < b->size + n + 1) {
        size_t room = b->room ? b->room * 2 : 256;
        if (b->limit && room > b->limit + 1) room = b->limit + 1;
        if (room < b->size + n + 1) room = b->size + n + 1;
        uint8_t *p = realloc(b->data, room);
        if (!p) {
            b->bad = true;
            return NULL;
        }
        b->data = p;
        b->room = room;
    }
    uint8_t *at = b->data + b->size;
    b->size += n;
    return at;
}

void *anm_buf_grow(anm_buf *b, size_t n)
{
    uint8_t *at = reserve(b, n);
    return at ? memset(at, 0, n + 1) : NULL;
}

void anm_buf_put(anm_buf *b, const void *data, size_t n)
{
    uint8_t *at = reserve(b, n);
    if (!at) return;
    if (n) memcpy(at, data, n);
    at[n] = 0;
}

void anm_buf_puts(anm_buf *b, const char *s)
{
    anm_buf_put(b, s, strlen(s));
}

void anm_buf_u8(anm_buf *b, uint8_t v)
{
    anm_buf_put(b, &v, 1);
}

void anm_buf_u16(anm_buf *b, uint16_t v)
{
    void *p = anm_buf_grow(b, 2);
    if (p) anm_st16(p, v);
}

void anm_buf_u32(anm_buf *b, uint32_t v)
{
    void *p = anm_buf_grow(b, 4);
    if (p) anm_st32(p, v);
}

void anm_buf_u64(anm_buf *b, uint64_t v)
{
    void *p = anm_buf_grow(b, 8);
    if (p) anm_st64(p, v);
}

void anm_buf_zeros(anm_buf *b, size_t n)
{
    anm_buf_grow(b, n);
}

void anm_buf_align(anm_buf *b, size_t align)
{
    size_t over = b->size % align;
    if (over) anm_buf_grow(b, align - over);
}

void anm_buf_printf(anm_buf *b, const char *fmt, ...)
{
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    char *p = n < 0 ? NULL : anm_buf_grow(b, (size_t)n);
    if (p) vsnprintf(p, (size_t)n + 1, fmt, again);
    va_end(again);
}
