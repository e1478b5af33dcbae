/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A growing byte buffer for writers and text. A failed allocation is remembered (bad), so that a writer checks once
 * at its end. Owned by the caller; anm_buf_free gives it back.
 */
#ifndef ANM_BASE_BUF_H
#define ANM_BASE_BUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct anm_buf {
    uint8_t *data; /* size bytes, then a 0 byte once anything was written */
    size_t size, room;
    size_t limit; /* the most that it may hold; 0: no limit. Set before the first byte, where the content is a stranger's */
    bool bad;     /* an allocation failed, or the limit was met (`over`): the content is not whole */
    bool over;
} anm_buf;

void anm_buf_free(anm_buf *b);

/* Room for `n` more bytes at the end, zeroed and counted in size; NULL when memory is out. */
void *anm_buf_grow(anm_buf *b, size_t n);

void anm_buf_put(anm_buf *b, const void *data, size_t n);
void anm_buf_puts(anm_buf *b, const char *s);
void anm_buf_u8(anm_buf *b, uint8_t v);
void anm_buf_u16(anm_buf *b, uint16_t v); /* little-endian, as all of these */
void anm_buf_u32(anm_buf *b, uint32_t v);
void anm_buf_u64(anm_buf *b, uint64_t v);
void anm_buf_zeros(anm_buf *b, size_t n);
void anm_buf_align(anm_buf *b, size_t align); /* zeros up to a multiple of align */
void anm_buf_printf(anm_buf *b, const char *fmt, ...)
#if defined(__GNUC__)
    __attribute__((format(printf, 2, 3)))
#endif
    ;

#endif
