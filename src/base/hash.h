/* SPDX-License-Identifier: BSD-3-Clause */
/* A hash of bytes for tables, seeded: with a seed that nobody outside knows, no file can be prepared whose names all
 * collide. Not for content that must be told apart without looking at it. */
#ifndef ANM_BASE_HASH_H
#define ANM_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline uint64_t anm_hash(const void *data, size_t n, uint64_t seed)
{
    const uint8_t *p = data;
    uint64_t h = (seed | 1) * 0x9e3779b97f4a7c15u, mul = h | 1;
    for (; n >= 8; n -= 8, p += 8) {
        uint64_t w;
        memcpy(&w, p, 8);
        h = (h ^ w) * mul;
        h ^= h >> 32;
    }
    for (size_t i = 0; i < n; i++) h = (h ^ p[i]) * mul;
    h ^= n;
    h *= 0xd6e8feb86659fd93u;
    return h ^ h >> 32;
}

#endif
