/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A method as the engine sees it: one function, and what its inputs and outputs stand for. And the memory of a
 * conversation, which both the interpreter and the plan read and write.
 */
#ifndef ANM_PLAN_METHOD_H
#define ANM_PLAN_METHOD_H

#include "mil/mil.h"

/* One layer's caches, as indices into the method's inputs and outputs. */
typedef struct anm_kv_io {
    int32_t k_in, v_in, k_out, v_out;
} anm_kv_io;

/* Which values of a key are turned together: (2i, 2i + 1), or i and half a head behind it. */
typedef enum anm_key_pairs { ANM_PAIRS_UNKNOWN, ANM_PAIRS_NEIGHBOURS, ANM_PAIRS_HALVES } anm_key_pairs;

/* A method that computes `rows` rows at once. Indices are into fn's inputs or outputs; -1 where there is none. */
typedef struct anm_method {
    anm_mil_function *fn;      /* all pieces, joined; not owned */
    int64_t rows, logits_rows; /* logits_rows is rows, or 1: the last valid row only */
    int64_t n_layers, n_kv_heads, head_dim, cache_len, vocab_size, table_width;
    int32_t tokens, mask, cos, sin, last_pos, logits;
    anm_kv_io *kv; /* [n_layers] */
    bool fp16_cache;
} anm_method;

/* Keys and values of all layers, in the type that the file declares. `cache` is [layer][k, v][head][cache_len][head_dim],
 * `fresh`, what the last step made, is [layer][k, v][head][most_rows][head_dim]. */
typedef struct anm_kv {
    bool fp16;
    int64_t layers, heads, head_dim, cache_len, most_rows;
    size_t element; /* bytes: 2 or 4 */
    void *memory; /* that the cache lies in */
    uint8_t *cache, *fresh;
    int64_t cached; /* entries in use */
    bool evicts;    /* when it is full, new entries take the places of the oldest (the deprecated form) */
    int64_t next;   /* where they go then: a place in turn */
    int32_t rows;   /* rows of the last step */
} anm_kv;

/* Memory for method `m` in steps of `rows` rows at most. */
int anm_kv_new(anm_kv *kv, const anm_method *m, int64_t rows, anm_error *err);
void anm_kv_free(anm_kv *kv);
/* Rows [row, row + n) of the last step go to the end of the cache. */
int anm_kv_commit(anm_kv *kv, int32_t row, int32_t n, anm_error *err);
/* Drops entries [first, first + n): those behind move up, and their keys, which are cached rotated, are turned back by
 * n positions in fp32. cos and sin are row n of the rotary table, `width` long: an angle for each pair, or (halves) for each
 * value of a head. ANM_ERR_UNSUPPORTED where it is not known how keys were turned. */
int anm_kv_evict(anm_kv *kv, int64_t first, int64_t n, anm_key_pairs pairs, const float *cos, const float *sin, int64_t width, anm_error *err);
/* The first element of a head's row 0. */
static inline uint8_t *anm_kv_cache_at(const anm_kv *kv, int64_t layer, int v, int64_t head)
{
    return kv->cache + (size_t)(((layer * 2 + v) * kv->heads + head) * kv->cache_len * kv->head_dim) * kv->element;
}
static inline uint8_t *anm_kv_fresh_at(const anm_kv *kv, int64_t layer, int v, int64_t head)
{
    return kv->fresh + (size_t)(((layer * 2 + v) * kv->heads + head) * kv->most_rows * kv->head_dim) * kv->element;
}

#endif
