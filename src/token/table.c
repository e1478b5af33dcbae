/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Hash tables of the tokenizers: open addressing, linear probing, built once inside an arena. Own code and not
 * uthash, because a lookup here is the inner loop of encoding: one cache line, no pointers to follow.
 */
#include "token/tok.h"

#include "base/bytes.h"

#include <stdlib.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

void anm_ids_reserve(anm_ids *v, size_t more)
{
    if (v->bad || more <= v->room - v->n) return;
    size_t room = v->room ? v->room * 2 : 64;
    if (room < v->n + more) room = v->n + more;
    int32_t *p = more > SIZE_MAX / 16 || room > SIZE_MAX / 16 ? NULL : realloc(v->p, room * sizeof *p);
    if (!p) {
        v->bad = true;
        return;
    }
    v->p = p;
    v->room = room;
}

/* Slots for `count` keys, two thirds full at most; 0: too many. */
static size_t slots_for(size_t count)
{
    size_t n = 8;
    if (count > SIZE_MAX / 64) return 0;
    while (n * 2 / 3 < count + 1) n *= 2;
    return n;
}

/* Where the system has put a table and the program: an odd number that no file can be prepared for. */
static uint64_t secret(const void *table, unsigned which)
{
    static const char here = 0;
    const uint64_t places[] = {(uintptr_t)table, (uintptr_t)&here};
    return XXH3_64bits_withSeed(places, sizeof places, which) | 1;
}

/* ---- strings ---- */

/* Most keys are short; one multiplication spreads them over the upper bits, as with pairs. */
static inline uint32_t hash_of(const anm_strmap *m, const char *p, size_t n)
{
    if (n > 8) return (uint32_t)(XXH3_64bits_withSeed(p, n, m->secret) >> 32);
    uint64_t v = 0;
    if (n >= 4) v = anm_ld32(p) | (uint64_t)anm_ld32(p + n - 4) << 32;
    else if (n) v = (uint8_t)p[0] | (uint64_t)(uint8_t)p[n / 2] << 8 | (uint64_t)(uint8_t)p[n - 1] << 16;
    return (uint32_t)(v * m->secret >> 32);
}

bool anm_strmap_init(anm_strmap *m, anm_arena *a, size_t count)
{
    size_t n = slots_for(count);
    m->slot = n ? anm_arena_array(a, n, sizeof *m->slot) : NULL;
    m->mask = n - 1;
    m->room = count;
    m->secret = secret(m->slot, 0);
    for (m->shift = 32; n > 1 && m->shift; n >>= 1) m->shift--;
    return m->slot != NULL;
}

bool anm_strmap_add(anm_strmap *m, const char *p, size_t n, int32_t value)
{
    uint32_t hash = hash_of(m, p, n);
    size_t i = hash >> m->shift;
    for (; m->slot[i].value; i = (i + 1) & m->mask)
        if (m->slot[i].hash == hash && m->slot[i].n == n && memcmp(m->slot[i].p, p, n) == 0) return false;
    if (!m->room) return false;
    m->room--;
    m->slot[i] = (anm_strslot){p, (uint32_t)n, hash, value + 1};
    return true;
}

void anm_strmap_drop(anm_strmap *m, const char *p, size_t n)
{
    uint32_t hash = hash_of(m, p, n);
    for (size_t i = hash >> m->shift; m->slot[i].value; i = (i + 1) & m->mask) {
        anm_strslot *s = &m->slot[i];
        if (s->hash != hash || s->n != n || memcmp(s->p, p, n) != 0) continue;
        *s = (anm_strslot){.p = "", .hash = 1, .value = s->value}; /* taken, by what no key has: that of "" is 0 */
        return;
    }
}

int32_t anm_strmap_get(const anm_strmap *m, const char *p, size_t n)
{
    uint32_t hash = hash_of(m, p, n);
    for (size_t i = hash >> m->shift; m->slot[i].value; i = (i + 1) & m->mask)
        if (m->slot[i].hash == hash && m->slot[i].n == n && memcmp(m->slot[i].p, p, n) == 0)
            return m->slot[i].value - 1;
    return -1;
}

/* ---- pairs ---- */

bool anm_pairmap_init(anm_pairmap *m, anm_arena *a, size_t count)
{
    size_t n = slots_for(count);
    m->slot = n ? anm_arena_array(a, n, sizeof *m->slot) : NULL;
    if (!m->slot) return false;
    for (size_t i = 0; i < n; i++) m->slot[i].left = -1;
    m->mask = n - 1;
    m->room = count;
    m->by_left = secret(m->slot, 0);
    m->by_right = secret(m->slot, 1);
    m->shift = 64;
    for (; n > 1; n >>= 1) m->shift--;
    return true;
}

void anm_pairmap_set(anm_pairmap *m, int32_t left, int32_t right, uint32_t rank, int32_t to)
{
    anm_pair *s = (anm_pair *)(uintptr_t)anm_pairmap_get(m, left, right);
    if (!s) {
        if (!m->room) return;
        m->room--;
        size_t i = anm_pairmap_home(m, left, right);
        while (m->slot[i & m->mask].left >= 0) i++;
        s = &m->slot[i & m->mask];
    }
    *s = (anm_pair){left, right, rank, to};
}

/* ---- the trie ---- */

bool anm_trie_init(anm_trie *t, anm_arena *a, size_t bytes)
{
    size_t n = slots_for(bytes);
    if (!n || bytes > UINT32_MAX - 2) return false;
    t->slot = anm_arena_array(a, n, sizeof *t->slot);
    t->value = anm_arena_array(a, bytes + 1, sizeof *t->value);
    if (!t->slot || !t->value) return false;
    t->mask = n - 1;
    t->by = secret(t->slot, 0);
    t->nodes = 1;
    t->room = bytes + 1;
    t->value[0] = -1;
    return true;
}

void anm_trie_add(anm_trie *t, const char *p, size_t n, int32_t value)
{
    uint32_t node = 0;
    if (!n) return;
    for (size_t i = 0; i < n; i++) {
        size_t s = anm_trie_slot(t, node, (uint8_t)p[i]);
        if (!t->slot[s].child) {
            if (t->nodes == t->room) return; /* the caller asked for too little room */
            t->value[t->nodes] = -1;
            t->slot[s] = (anm_trieslot){node, (uint32_t)t->nodes++, (uint8_t)p[i]};
        }
        node = t->slot[s].child;
        if (i == 0) t->first[(uint8_t)p[0]] = node;
    }
    if (t->value[node] < 0) t->value[node] = value;
    if (n > t->longest) t->longest = (uint32_t)n;
}

int32_t anm_trie_longest(const anm_trie *t, const char *text, size_t n, size_t *length)
{
    int32_t best = -1;
    uint32_t node = 0;
    if (!n || !t->first[(uint8_t)text[0]]) return -1;
    for (size_t i = 0; i < n; i++) {
        node = anm_trie_step(t, node, (uint8_t)text[i]);
        if (!node) break;
        if (t->value[node] < 0) continue;
        best = t->value[node];
        *length = i + 1;
    }
    return best;
}
