/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How good is a file? Perplexity on a text, and against another file (or the checkpoint itself) the mean
 * Kullback-Leibler divergence and how often both choose the same token. The text is cut into windows of equal length,
 * each run from an empty cache; every token of a window but its first is predicted.
 */
#ifndef ANM_EVAL_EVAL_H
#define ANM_EVAL_EVAL_H

#include "eager/eager.h"
#include "run/engine.h"

/* Something that gives logits for the windows of a text: a program run by the engine, or a checkpoint run in full
 * precision. Made by one of the two calls below. */
typedef struct anm_scorer anm_scorer;

/* The windows: tokens[windows * len], kept by pointer. `engine` must hold `len` tokens in its context. */
int anm_scorer_engine(anm_scorer **out, anm_engine *engine, const int32_t *tokens, size_t windows, size_t len,
                      anm_error *err);
/* Runs the whole text through the model here, layer by layer; `progress` (may be NULL) hears of each layer. */
int anm_scorer_checkpoint(anm_scorer **out, const anm_model *m, const int32_t *tokens, size_t windows, size_t len,
                          void (*progress)(void *ctx, size_t layer), void *ctx, anm_pool *pool, anm_error *err);
void anm_scorer_free(anm_scorer *s);

typedef struct anm_evaluation {
    size_t tokens;     /* predicted: windows * (len - 1) */
    double nll, nll_se; /* mean negative log-likelihood in nats, and its standard error over windows */
    double perplexity, perplexity_se;
    /* against the other one, where there is one: */
    double kl, kl_se;  /* mean of KL(other || this), nats */
    double top1;       /* the share of rows where both choose the same token */
    double other_perplexity, other_perplexity_se;
    double ratio, ratio_se; /* perplexity over the other's; its standard error from the windows' paired differences */
} anm_evaluation;

/* `against` may be NULL. Both must have the same windows and vocabulary. `progress` (may be NULL) hears of each window
 * with the figures so far. */
int anm_evaluate(anm_evaluation *out, anm_scorer *s, anm_scorer *against,
                 void (*progress)(void *ctx, size_t done, size_t windows, const anm_evaluation *so_far), void *ctx,
                 anm_error *err);

#endif
