/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Bytes of foreign files: little-endian loads and stores at any address, arithmetic that cannot wrap, and a bounded
 * cursor. The cursor fails once and stays failed: read a whole record, then ask anm_rd_ok.
 */
#ifndef ANM_BASE_BYTES_H
#define ANM_BASE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* true and *out = a op b, or false when the result does not fit. */
static inline bool anm_add_u64(uint64_t a, uint64_t b, uint64_t *out) { return !__builtin_add_overflow(a, b, out); }
static inline bool anm_mul_u64(uint64_t a, uint64_t b, uint64_t *out) { return !__builtin_mul_overflow(a, b, out); }
static inline bool anm_add_size(size_t a, size_t b, size_t *out) { return !__builtin_add_overflow(a, b, out); }
static inline bool anm_mul_size(size_t a, size_t b, size_t *out) { return !__builtin_mul_overflow(a, b, out); }
static inline bool anm_mul_i64(int64_t a, int64_t b, int64_t *out) { return !__builtin_mul_overflow(a, b, out); }

/* Is [off, off + n) inside [0, size)? Never wraps. */
static inline bool anm_inside(uint64_t off, uint64_t n, uint64_t size) { return off <= size && n <= size - off; }

/* `n` rounded up to a multiple of `align` (a power of two). The caller knows that it cannot wrap. */
static inline uint64_t anm_align_up(uint64_t n, uint64_t align) { return (n + align - 1) & ~(align - 1); }

/* Little-endian loads and stores, any alignment, any host. */
static inline uint16_t anm_ld16(const void *p)
{
    const uint8_t *b = p;
    return (uint16_t)(b[0] | (unsigned)b[1] << 8);
}
static inline uint32_t anm_ld32(const void *p)
{
    const uint8_t *b = p;
    return (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}
static inline uint64_t anm_ld64(const void *p)
{
    const uint8_t *b = p;
    return (uint64_t)anm_ld32(b) | (uint64_t)anm_ld32(b + 4) << 32;
}
static inline void anm_st16(void *p, uint16_t v)
{
    uint8_t *b = p;
    b[0] = (uint8_t)v;
    b[1] = (uint8_t)(v >> 8);
}
static inline void anm_st32(void *p, uint32_t v)
{
    uint8_t *b = p;
    anm_st16(b, (uint16_t)v);
    anm_st16(b + 2, (uint16_t)(v >> 16));
}
static inline void anm_st64(void *p, uint64_t v)
{
    uint8_t *b = p;
    anm_st32(b, (uint32_t)v);
    anm_st32(b + 4, (uint32_t)(v >> 32));
}
static inline float anm_ldf32(const void *p)
{
    uint32_t u = anm_ld32(p);
    float f;
    memcpy(&f, &u, 4);
    return f;
}
static inline double anm_ldf64(const void *p)
{
    uint64_t u = anm_ld64(p);
    double f;
    memcpy(&f, &u, 8);
    return f;
}
static inline void anm_stf32(void *p, float f)
{
    uint32_t u;
    memcpy(&u, &f, 4);
    anm_st32(p, u);
}

/* A bounded cursor over bytes that are not to be trusted. */
typedef struct anm_rd {
    const uint8_t *data;
    uint64_t size, pos;
    bool bad; /* a read went past the end; every later read gives zeros */
} anm_rd;

static inline anm_rd anm_rd_of(const void *data, uint64_t size) { return (anm_rd){data, size, 0, false}; }
static inline bool anm_rd_ok(const anm_rd *r) { return !r->bad; }
static inline uint64_t anm_rd_left(const anm_rd *r) { return r->bad ? 0 : r->size - r->pos; }

/* The next `n` bytes, in place, or NULL. */
static inline const uint8_t *anm_rd_bytes(anm_rd *r, uint64_t n)
{
    if (r->bad || n > r->size - r->pos) {
        r->bad = true;
        return NULL;
    }
    const uint8_t *p = r->data + r->pos;
    r->pos += n;
    return p;
}
static inline uint8_t anm_rd_u8(anm_rd *r)
{
    const uint8_t *p = anm_rd_bytes(r, 1);
    return p ? p[0] : 0;
}
static inline uint16_t anm_rd_u16(anm_rd *r)
{
    const uint8_t *p = anm_rd_bytes(r, 2);
    return p ? anm_ld16(p) : 0;
}
static inline uint32_t anm_rd_u32(anm_rd *r)
{
    const uint8_t *p = anm_rd_bytes(r, 4);
    return p ? anm_ld32(p) : 0;
}
static inline uint64_t anm_rd_u64(anm_rd *r)
{
    const uint8_t *p = anm_rd_bytes(r, 8);
    return p ? anm_ld64(p) : 0;
}

#endif
