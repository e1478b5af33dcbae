/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Choosing the next token from logits. The same numbers come out on every machine: the random bits, the
 * exponential and the order of ties are ours, and nothing is summed in an order that could vary.
 */
#ifndef ANM_RUN_SAMPLE_H
#define ANM_RUN_SAMPLE_H

#include "base/error.h"

/* SplitMix64 (Steele, Lea, Flood 2014): a counter and a bijective mix of it. */
typedef struct anm_rng {
    uint64_t state;
} anm_rng;

uint64_t anm_rng_next(anm_rng *r);
double anm_rng_uniform(anm_rng *r); /* in [0, 1), 53 random bits */

/* The likeliest of n logits, the first of equal ones; -1 when none of them is a number. */
int32_t anm_argmax(const float *logits, int64_t n);

typedef struct anm_candidate {
    double p;
    int32_t id;
} anm_candidate;

typedef struct anm_sampler anm_sampler; /* settings, random state, and scratch for one vocabulary */

/* Greedy until set. */
int anm_sampler_new(anm_sampler **out, int64_t vocab_size, anm_error *err);
void anm_sampler_free(anm_sampler *s);
/* Checks and takes the settings, and seeds. */
int anm_sampler_set(anm_sampler *s, const anm_sampling *how, anm_error *err);

/* The distribution from which pick draws: `*count` candidates, their p adding up to 1, valid until the next
 * call. logits[vocab_size] and the n_past tokens before (for the repeat penalty) are only read. At
 * temperature 0 the one candidate is the likeliest. Fails when no logit is a number. */
int anm_sampler_dist(const anm_candidate **cand, int64_t *count, anm_sampler *s, const float *logits,
                     const int32_t *past, int64_t n_past, anm_error *err);

/* Draws one token. One number of the random sequence is used for each call at a temperature, none for greedy
 * ones. */
int anm_sampler_pick(int32_t *id, anm_sampler *s, const float *logits, const int32_t *past, int64_t n_past,
                     anm_error *err);

#endif
