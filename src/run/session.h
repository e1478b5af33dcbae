/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A session's inside (its public face is in anemone.h): the tokens fed, which of them the cache holds, and
 * the step that all ways of decoding share.
 *
 *     ids:  [ cached by the engine ............ | tail ]  next: one step's new rows
 *            0                          cached     fed
 *
 * A method takes cache_len cached entries and input_len rows, max_context of them together in a single-method
 * file. Once the cache is full, the tokens after it stay in the window of rows: they are the tail, computed
 * again in every step, and nothing is evicted until the last position is used.
 */
#ifndef ANM_RUN_SESSION_H
#define ANM_RUN_SESSION_H

#include "run/engine.h"
#include "run/sample.h"

#include <stdbool.h>

struct anm_llm {
    anm_engine *engine;
    anm_pool *pool;
};

/* The checkpoint itself as a model: see engine.h. `model` must outlive the call alone. */
int anm_llm_of_model(anm_llm **out, const anm_model *model, const anm_model_form *form, const anm_llm_opts *opts,
                     anm_error *err);

/* The positions that a session can use: max_context, unless the cache is shorter. */
static inline int64_t anm_positions(const anm_engine_info *info)
{
    int64_t reach = info->cache_len + info->input_len;
    return info->evicts || info->max_context < reach ? info->max_context : reach;
}

typedef struct anm_look anm_look; /* run/lookahead.h */

struct anm_session {
    anm_llm *llm;
    const anm_engine_info *info;
    anm_state *state;
    anm_sampler *sampler;
    int64_t capacity; /* anm_positions */
    int32_t chunk;    /* the most tokens of one step when feeding; step_len */
    int32_t *ids; /* [capacity + step_len] the tokens fed; a lookahead step writes its guesses behind them */
    int64_t fed;
    float *logits; /* [vocab_size] after the last token fed */
    bool have_logits;
    /* One step's rows: */
    int32_t *token, *pos; /* [step_len] */
    uint8_t *want;        /* [step_len] */
    int32_t widest;       /* rows of the widest step so far, and what the fastest of that width took */
    double widest_seconds;
    anm_look *look; /* NULL until lookahead is first asked for */
    anm_session_stats stats;
};

double anm_seconds(void); /* a clock that never goes back */

/* How many tokens fed lie behind the cache. */
int32_t anm_session_tail(const anm_session *s);

/* Puts the tail's tokens and positions into the first rows of the next step; returns how many they are. */
int32_t anm_session_put_tail(anm_session *s);

/* Runs rows [0, n) of token, pos and want (see: as anm_step's); timed. */
int anm_session_run(float *logits, anm_session *s, int32_t n, const uint8_t *see, anm_error *err);

/* Rows [row, row + n) of the last step were the next tokens in order: caches as many as fit. */
int anm_session_keep(anm_session *s, int32_t row, int32_t n, anm_error *err);

/* As anm_session_feed; and where `rows` is not NULL, [n][vocab_size] logits of every token fed (the file must
 * give all of them). */
int anm_session_feed_rows(float *rows, anm_session *s, const int32_t *ids, size_t n, anm_error *err);

/* What generate carries from step to step. */
typedef struct anm_making {
    const anm_generation *how;
    int64_t made;
    anm_end end;
} anm_making;

/* Hands a new token out; true when it ends the answer (m->end says why). */
bool anm_making_give(anm_making *m, int32_t id);

#endif
