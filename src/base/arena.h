/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * An arena: memory that is taken piece by piece and given back all at once. One per program (a graph, a parsed
 * file). Not thread-safe. Every call may return NULL when memory is out; the caller then says so (anm_fail_memory).
 */
#ifndef ANM_BASE_ARENA_H
#define ANM_BASE_ARENA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct anm_arena {
    struct anm_arena_block *head;
    size_t total; /* bytes taken from the system */
    size_t limit; /* the most that may be taken; 0: no limit. Readers of foreign files set it. */
    bool over;    /* more than that was asked for */
} anm_arena;

void anm_arena_init(anm_arena *a);
void anm_arena_free(anm_arena *a);

/* `size` bytes aligned for any type, zeroed. NULL when memory is out or the limit is reached. */
void *anm_arena_alloc(anm_arena *a, size_t size);

/* An array of `n` elements of `size` bytes, zeroed; NULL also when n * size overflows. */
void *anm_arena_array(anm_arena *a, size_t n, size_t size);

/* Copies of bytes and strings; the result always ends with a 0 byte that is not counted in n. */
char *anm_arena_strdup(anm_arena *a, const char *s);
char *anm_arena_strndup(anm_arena *a, const char *s, size_t n);

/* A string made as by printf. */
char *anm_arena_printf(anm_arena *a, const char *fmt, ...)
#if defined(__GNUC__)
    __attribute__((format(printf, 2, 3)))
#endif
    ;

#endif
