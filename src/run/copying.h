/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Guesses copied from the text itself: what followed the last time that the text's last tokens stood there. A match of m
 * tokens is as good as such matches were so far in this conversation, and that is known without trying: every token
 * that is made shows whether the guess for it would have been right.
 */
#ifndef ANM_RUN_COPYING_H
#define ANM_RUN_COPYING_H

#include <stdint.h>

enum {
    ANM_COPY_MATCH = 8, /* longer matches are not told apart */
    ANM_COPY_MOST = 16, /* tokens of a guess */
};

typedef struct anm_copying {
    double hit[ANM_COPY_MATCH + 1]; /* how often the token after a match of m is the right one; 0: a guess of the pool */
    /* The guess at hand: */
    int32_t matched; /* m of its first token; each further one has one more, being right only if those before were */
    int32_t n;       /* tokens; 0: nothing matches */
    int32_t id[ANM_COPY_MOST];
} anm_copying;

void anm_copying_begin(anm_copying *c);

/* A new guess at what follows ids[0 … n): after the longest match, and of equally long ones the latest. Where it runs
 * into the end of the text, it goes on as if the text went round. */
void anm_copying_guess(anm_copying *c, const int32_t *ids, int64_t n);
/* A guess from elsewhere, `n` tokens (at most ANM_COPY_MOST of them count), where the text had none. */
void anm_copying_take(anm_copying *c, const int32_t *ids, int32_t n);

/* How likely the guess's token `i` is right if those before it were. */
double anm_copying_chance(const anm_copying *c, int32_t i);
/* Learns whether token `i` of the guess was right. */
void anm_copying_learn(anm_copying *c, int32_t i, int right);

#endif
