/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The n-gram pool of lookahead decoding: for each token, the few continuations that were last seen after it.
 * The original's rules (pytorch/executorch, StaticAttentionIOManager.NGramCache): first in, first out; none
 * twice; at most so many per token.
 */
#ifndef ANM_RUN_NGRAMS_H
#define ANM_RUN_NGRAMS_H

#include "base/error.h"

typedef struct anm_ngrams anm_ngrams;

/* Continuations of `len` tokens, `per_key` of them for each of vocab_size tokens. Memory for all of them is
 * reserved here; the system provides what is touched. */
int anm_ngrams_new(anm_ngrams **out, int64_t vocab_size, int32_t len, int32_t per_key, anm_error *err);
void anm_ngrams_free(anm_ngrams *g);
void anm_ngrams_clear(anm_ngrams *g);

/* Token `key` was followed by the `len` tokens of `next`. */
void anm_ngrams_add(anm_ngrams *g, int32_t key, const int32_t *next);

/* How many continuations `key` has, and the i-th of them, oldest first. */
int32_t anm_ngrams_count(const anm_ngrams *g, int32_t key);
const int32_t *anm_ngrams_get(const anm_ngrams *g, int32_t key, int32_t i);

#endif
