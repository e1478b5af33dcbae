/* SPDX-License-Identifier: BSD-3-Clause */
#include "run/ngrams.h"
#include "base/bytes.h"

#include <stdlib.h>
#include <string.h>

typedef struct queue {
    int32_t first, count; /* a ring of per_key places */
} queue;

struct anm_ngrams {
    int64_t vocab;
    int32_t len, per_key;
    queue *queue;   /* [vocab_size] */
    int32_t *token; /* [vocab_size][per_key][len] */
};

int anm_ngrams_new(anm_ngrams **out, int64_t vocab_size, int32_t len, int32_t per_key, anm_error *err)
{
    *out = NULL;
    size_t tokens;
    if (!anm_mul_size((size_t)vocab_size, (size_t)per_key, &tokens) ||
        !anm_mul_size(tokens, (size_t)len, &tokens))
        return anm_fail_memory(err, "the n-gram pool");
    anm_ngrams *g = calloc(1, sizeof *g);
    if (!g) return anm_fail_memory(err, "the n-gram pool");
    g->vocab = vocab_size;
    g->len = len;
    g->per_key = per_key;
    g->queue = calloc((size_t)vocab_size, sizeof *g->queue);
    g->token = calloc(tokens, sizeof *g->token);
    if (!g->queue || !g->token) {
        anm_ngrams_free(g);
        return anm_fail_memory(err, "the n-gram pool");
    }
    *out = g;
    return 0;
}

void anm_ngrams_free(anm_ngrams *g)
{
    if (!g) return;
    free(g->queue);
    free(g->token);
    free(g);
}

void anm_ngrams_clear(anm_ngrams *g)
{
    memset(g->queue, 0, (size_t)g->vocab * sizeof *g->queue);
}

static int32_t *place(const anm_ngrams *g, int32_t key, int32_t i)
{
    const queue *q = &g->queue[key];
    return g->token +
           ((size_t)key * (size_t)g->per_key + (size_t)((q->first + i) % g->per_key)) * (size_t)g->len;
}

void anm_ngrams_add(anm_ngrams *g, int32_t key, const int32_t *next)
{
    queue *q = &g->queue[key];
    size_t bytes = (size_t)g->len * sizeof *next;
    for (int32_t i = 0; i < q->count; i++)
        if (memcmp(place(g, key, i), next, bytes) == 0) return;
    if (q->count == g->per_key) {
        q->first = (q->first + 1) % g->per_key;
        q->count--;
    }
    memcpy(place(g, key, q->count), next, bytes);
    q->count++;
}

int32_t anm_ngrams_count(const anm_ngrams *g, int32_t key)
{
    return g->queue[key].count;
}

const int32_t *anm_ngrams_get(const anm_ngrams *g, int32_t key, int32_t i)
{
    return place(g, key, i);
}
