/* SPDX-License-Identifier: BSD-3-Clause */
#include "base/arena.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK = 64 * 1024, ALIGN = 16 };

struct anm_arena_block {
    struct anm_arena_block *next;
    size_t size, used;
    _Alignas(ALIGN) unsigned char data[];
};

void anm_arena_init(anm_arena *a)
{
    *a = (anm_arena){0};
}

void anm_arena_free(anm_arena *a)
{
    for (struct anm_arena_block *b = a->head, *next; b; b = next) {
        next = b->next;
        free(b);
    }
    a->head = NULL;
    a->total = 0;
}

void *anm_arena_alloc(anm_arena *a, size_t size)
{
    if (size > SIZE_MAX / 2) return NULL;
    size = (size + ALIGN - 1) & ~(size_t)(ALIGN - 1);
    struct anm_arena_block *b = a->head;
    if (!b || b->size - b->used < size) {
        size_t room = size > BLOCK / 4 ? size : BLOCK;
        if (a->limit && (room > a->limit || a->total > a->limit - room)) {
            a->over = true;
            return NULL;
        }
        struct anm_arena_block *fresh = malloc(sizeof *fresh + room);
        if (!fresh) return NULL;
        fresh->size = room;
        fresh->used = 0;
        a->total += room;
        if (b && room == size) { /* a block of its own: keep filling the current one */
            fresh->next = b->next;
            b->next = fresh;
        } else {
            fresh->next = b;
            a->head = fresh;
        }
        b = fresh;
    }
    void *p = b->data + b->used;
    b->used += size;
    memset(p, 0, size);
    return p;
}

void *anm_arena_array(anm_arena *a, size_t n, size_t size)
{
    if (size && n > SIZE_MAX / size) return NULL;
    return anm_arena_alloc(a, n * size);
}

char *anm_arena_strndup(anm_arena *a, const char *s, size_t n)
{
    if (n == SIZE_MAX) return NULL;
    char *p = anm_arena_alloc(a, n + 1);
    if (p && n) memcpy(p, s, n);
    return p;
}

char *anm_arena_strdup(anm_arena *a, const char *s)
{
    return anm_arena_strndup(a, s, strlen(s));
}

char *anm_arena_printf(anm_arena *a, const char *fmt, ...)
{
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    char *p = n < 0 ? NULL : anm_arena_alloc(a, (size_t)n + 1);
    if (p) vsnprintf(p, (size_t)n + 1, fmt, again);
    va_end(again);
    return p;
}
