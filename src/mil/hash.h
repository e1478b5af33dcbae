/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * uthash as this folder uses it: an element that could not be entered for lack of memory is marked `lost`
 * instead of ending the process, and the hash is seeded with an address, so that nobody can prepare a file
 * whose names collide.
 */
#ifndef ANM_MIL_HASH_H
#define ANM_MIL_HASH_H

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define uthash_fatal(msg) abort() /* never reached: the non-fatal form is asked for */
#define HASH_NONFATAL_OOM 1
#define uthash_nonfatal_oom(elt) ((elt)->lost = true)
#define HASH_FUNCTION(key, len, hash) (hash) = anm_mil_hash(key, len)

static inline uint64_t anm_mil_hash_bytes(uint64_t h, uint64_t seed, const unsigned char *s, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        h = (h ^ s[i]) * (seed | 1);
        h ^= h >> 29;
    }
    return h;
}

/* Of long keys (weights) the ends and a byte here and there: what differs elsewhere is told apart by
 * comparing. */
static inline unsigned anm_mil_hash(const void *key, size_t n)
{
    static const char here = 0;
    const unsigned char *s = key;
    uint64_t seed = (uint64_t)(uintptr_t)&here * 0x9e3779b97f4a7c15u, h = seed ^ n;
    if (n <= 4096) {
        h = anm_mil_hash_bytes(h, seed, s, n);
    } else {
        h = anm_mil_hash_bytes(h, seed, s, 1024);
        for (size_t i = 1024; i < n - 1024; i += n / 1024)
            h = anm_mil_hash_bytes(h, seed, s + i, 1);
        h = anm_mil_hash_bytes(h, seed, s + n - 1024, 1024);
    }
    return (unsigned)(h ^ h >> 32);
}

#include <uthash.h>

#endif
