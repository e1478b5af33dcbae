/* SPDX-License-Identifier: BSD-3-Clause */
/* A conversation's keys and values. The type is the file's, so a value is rounded once, whichever way it is used. */
#include "base/bytes.h"
#include "plan/method.h"

#include <stdlib.h>
#include <string.h>

int anm_kv_new(anm_kv *kv, const anm_method *m, anm_error *err)
{
    *kv = (anm_kv){.fp16 = m->fp16_cache,
                   .layers = m->n_layers,
                   .heads = m->n_kv_heads,
                   .head_dim = m->head_dim,
                   .cache_len = m->cache_len,
                   .input_len = m->rows,
                   .element = m->fp16_cache ? 2 : 4};
    size_t per_row = 0, cache = 0, fresh = 0;
    bool fits = anm_mul_size((size_t)kv->layers * 2, (size_t)kv->heads, &per_row) &&
                anm_mul_size(per_row, (size_t)kv->head_dim * kv->element, &per_row) &&
                anm_mul_size(per_row, (size_t)kv->cache_len, &cache) &&
                anm_mul_size(per_row, (size_t)kv->input_len, &fresh);
    if (fits) {
        kv->cache = calloc(cache ? cache : 1, 1);
        kv->fresh = calloc(fresh ? fresh : 1, 1);
    }
    if (kv->cache && kv->fresh) return 0;
    anm_kv_free(kv);
    return anm_fail_memory(err, "key-value cache");
}

void anm_kv_free(anm_kv *kv)
{
    free(kv->cache);
    free(kv->fresh);
    kv->cache = kv->fresh = NULL;
}

int anm_kv_commit(anm_kv *kv, int32_t row, int32_t n, anm_error *err)
{
    if (n < 0 || row < 0 || row > kv->rows - n)
        return anm_fail(err, ANM_ERR_USAGE, "rows %d to %d are not all of the last step", row, row + n - 1);
    if (n > kv->cache_len - kv->cached)
        return anm_fail(err, ANM_ERR_LIMIT, "the cache is full: %lld entries, %lld in use, %d more wanted",
                        (long long)kv->cache_len, (long long)kv->cached, n);
    size_t entry = (size_t)kv->head_dim * kv->element;
    for (int64_t i = 0; i < kv->layers; i++)
        for (int v = 0; v < 2; v++)
            for (int64_t h = 0; h < kv->heads; h++)
                memcpy(anm_kv_cache_at(kv, i, v, h) + (size_t)kv->cached * entry,
                       anm_kv_fresh_at(kv, i, v, h) + (size_t)row * entry, (size_t)n * entry);
    kv->cached += n;
    return 0;
}
