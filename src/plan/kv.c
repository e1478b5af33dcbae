/* SPDX-License-Identifier: BSD-3-Clause */
/* A conversation's keys and values. The type is the file's, so a value is rounded once, whichever way it is used. */
#include "base/bytes.h"
#include "base/half.h"
#include "base/large.h"
#include "plan/method.h"

#include <stdlib.h>
#include <string.h>

int anm_kv_new(anm_kv *kv, const anm_method *m, int64_t rows, anm_error *err)
{
    *kv = (anm_kv){.fp16 = m->fp16_cache,
                   .layers = m->n_layers,
                   .heads = m->n_kv_heads,
                   .head_dim = m->head_dim,
                   .cache_len = m->cache_len,
                   .most_rows = rows,
                   .element = m->fp16_cache ? 2 : 4};
    size_t per_row = 0, cache = 0, fresh = 0;
    bool fits = anm_mul_size((size_t)kv->layers * 2, (size_t)kv->heads, &per_row) &&
                anm_mul_size(per_row, (size_t)kv->head_dim * kv->element, &per_row) &&
                anm_mul_size(per_row, (size_t)kv->cache_len, &cache) &&
                anm_mul_size(per_row, (size_t)kv->most_rows, &fresh);
    if (fits) {
        kv->memory = anm_large_new(cache ? cache : 1, &kv->cache);
        kv->fresh = calloc(fresh ? fresh : 1, 1);
    }
    if (kv->memory && kv->fresh) return 0;
    anm_kv_free(kv);
    return anm_fail_memory(err, "key-value cache");
}

void anm_kv_free(anm_kv *kv)
{
    free(kv->memory);
    free(kv->fresh);
    kv->memory = NULL;
    kv->cache = kv->fresh = NULL;
}

/* Rows [row, row + n) go to entries [at, at + n). */
static void put_rows(anm_kv *kv, int64_t at, int32_t row, int32_t n)
{
    size_t entry = (size_t)kv->head_dim * kv->element;
    for (int64_t i = 0; i < kv->layers; i++)
        for (int v = 0; v < 2; v++)
            for (int64_t h = 0; h < kv->heads; h++)
                memcpy(anm_kv_cache_at(kv, i, v, h) + (size_t)at * entry,
                       anm_kv_fresh_at(kv, i, v, h) + (size_t)row * entry, (size_t)n * entry);
}

/* The entries are a ring: their order does not matter to attention, since keys are cached rotated. */
static void put_in_turn(anm_kv *kv, int32_t row, int32_t n)
{
    if (n > kv->cache_len) { /* the others would be overwritten at once */
        row += n - (int32_t)kv->cache_len;
        n = (int32_t)kv->cache_len;
    }
    while (n) {
        int64_t room = kv->cache_len - kv->next;
        int32_t some = n < room ? n : (int32_t)room;
        put_rows(kv, kv->next, row, some);
        kv->next = (kv->next + some) % kv->cache_len;
        kv->cached = kv->cached + some < kv->cache_len ? kv->cached + some : kv->cache_len;
        row += some;
        n -= some;
    }
}

int anm_kv_commit(anm_kv *kv, int32_t row, int32_t n, anm_error *err)
{
    if (n < 0 || row < 0 || row > kv->rows - n)
        return anm_fail(err, ANM_ERR_USAGE, "rows %d to %d are not all of the last step", row, row + n - 1);
    if (kv->evicts) {
        put_in_turn(kv, row, n);
        return 0;
    }
    if (n > kv->cache_len - kv->cached)
        return anm_fail(err, ANM_ERR_LIMIT, "the cache is full: %lld entries, %lld in use, %d more wanted",
                        (long long)kv->cache_len, (long long)kv->cached, n);
    put_rows(kv, kv->cached, row, n);
    kv->cached += n;
    return 0;
}

static float load(const anm_kv *kv, const uint8_t *at)
{
    return kv->fp16 ? anm_f16_to_f32(anm_ld16(at)) : anm_ldf32(at);
}

static void store(const anm_kv *kv, uint8_t *at, float v)
{
    if (kv->fp16) anm_st16(at, anm_f32_to_f16(v));
    else anm_stf32(at, v);
}

/* The rotation by an angle's negative, for `pairs` pairs: (2i, 2i + 1), or where `halves` (i, i + pairs). */
static void turn_back(const anm_kv *kv, uint8_t *key, const float *cos, const float *sin, int64_t pairs, bool halves)
{
    for (int64_t i = 0; i < pairs; i++) {
        uint8_t *a = key + (size_t)(halves ? i : 2 * i) * kv->element;
        uint8_t *b = key + (size_t)(halves ? i + pairs : 2 * i + 1) * kv->element;
        float x = load(kv, a), y = load(kv, b);
        store(kv, a, x * cos[i] + y * sin[i]);
        store(kv, b, y * cos[i] - x * sin[i]);
    }
}

int anm_kv_evict(anm_kv *kv, int64_t first, int64_t n, anm_key_pairs turned, const float *cos, const float *sin, int64_t width, anm_error *err)
{
    if (first < 0 || n < 0 || first > kv->cached || n > kv->cached - first)
        return anm_fail(err, ANM_ERR_USAGE, "entries %lld to %lld are not all in the cache of %lld", (long long)first,
                        (long long)(first + n - 1), (long long)kv->cached);
    if (turned == ANM_PAIRS_UNKNOWN)
        return anm_fail(err, ANM_ERR_UNSUPPORTED, "this program's keys are not turned in a way that can be turned back, so its oldest tokens cannot be forgotten");
    bool halves = turned == ANM_PAIRS_HALVES;
    int64_t pairs = halves && width == kv->head_dim ? width / 2 : width; /* tables of whole heads hold each angle twice */
    if (2 * pairs > kv->head_dim) return anm_fail(err, ANM_ERR_FORMAT, "the rotary table is wider than a head");
    size_t entry = (size_t)kv->head_dim * kv->element;
    int64_t left = kv->cached - first - n;
    for (int64_t i = 0; i < kv->layers; i++)
        for (int v = 0; v < 2; v++)
            for (int64_t h = 0; h < kv->heads; h++) {
                uint8_t *to = anm_kv_cache_at(kv, i, v, h) + (size_t)first * entry;
                memmove(to, to + (size_t)n * entry, (size_t)left * entry);
                for (int64_t k = 0; k < left && v == 0; k++) turn_back(kv, to + (size_t)k * entry, cos, sin, pairs, halves);
            }
    kv->cached -= n;
    return 0;
}
