/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Lookahead decoding (Fu et al., arXiv 2402.02057), with the window and pool rules of the original
 * (pytorch/executorch, StaticAttentionIOManager.lookahead_decode). One step computes, beside the current
 * token's row,
 *
 *     window   ngram_size - 1 levels of window_size columns: level l, column c is a guess for position c + l,
 *              made by the step before from level l - 1's row (a Jacobi iteration). A level-by-level diagonal
 *              is an n-gram that the model would write, and goes into the pool under its first token
 *     branches continuations that the pool holds for the current token, each a chain of guesses
 *
 * and the tokens of a branch are accepted as long as they are those that are chosen anyway, row by row: the
 * answer is that of plain decoding, whether the likeliest is taken or a sample is drawn (one random number a
 * token, in order).
 *
 * Where it is asked to measure (ANM_LOOKAHEAD_AUTO), each step is what is expected to give the most tokens a second: the
 * current token alone, with a guess copied from the text (run/copying.h) as long as pays, or the whole window with its
 * branches. What steps cost is measured by their rows; how good guesses are is learned from every token, tried or not.
 */
#ifndef ANM_RUN_LOOKAHEAD_H
#define ANM_RUN_LOOKAHEAD_H

#include "run/session.h"

/* Makes s->look fit `how`, or says why it cannot; starts a new window. */
int anm_look_prepare(anm_session *s, const anm_lookahead *how, anm_error *err);

/* Feeds *id, and as many tokens after it as guesses were right; each goes to anm_making_give. *id becomes the
 * next token, not fed; *done that the answer has ended. */
int anm_look_step(int32_t *id, bool *done, anm_session *s, anm_making *m, anm_error *err);

void anm_look_free(anm_look *l);                 /* NULL is fine, as for the next three */
void anm_look_forget(anm_look *l);               /* an empty pool */
void anm_look_rewind(anm_look *l, int64_t keep); /* only `keep` tokens are fed now */
void anm_look_slide(anm_look *l, int64_t n);     /* n tokens that were fed long ago have left */

#endif
