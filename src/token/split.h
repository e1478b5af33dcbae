/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Patterns that cut text into words, by PCRE2. The patterns come from tokenizer files written for other engines
 * (Rust's regex, Oniguruma), so they are translated where the dialects differ, and all matches together have a limit:
 * a pattern that runs away is an error, never a hang.
 */
#ifndef ANM_TOKEN_SPLIT_H
#define ANM_TOKEN_SPLIT_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>

/* What becomes of a match (Hugging Face's names): a word of its own; dropped; joined to the text before or after it;
 * or one word with the matches next to it. */
typedef enum anm_split_way {
    ANM_SPLIT_ISOLATED,
    ANM_SPLIT_REMOVED,
    ANM_SPLIT_WITH_PREVIOUS,
    ANM_SPLIT_WITH_NEXT,
    ANM_SPLIT_CONTIGUOUS,
} anm_split_way;

/* Whose words and marks a pattern is written in: Rust's regex (tiktoken's lists, and the patterns that tokenizers has of its
 * own), or Oniguruma with Ruby's syntax (those in a tokenizer.json). */
typedef enum anm_dialect { ANM_DIALECT_RUST, ANM_DIALECT_ONIGURUMA } anm_dialect;

typedef struct anm_stage {
    struct pcre2_real_code_8 *code;
    anm_split_way way;
    bool invert; /* the pattern describes what is between the words */
} anm_stage;

enum { ANM_MAX_STAGES = 16 };

/* Compiles `pattern` (n bytes). Errors name the pattern and where it goes wrong. */
int anm_stage_open(anm_stage *s, const char *pattern, size_t n, anm_dialect dialect, anm_split_way way, bool invert,
                   anm_error *err);
/* A literal text in place of a pattern. */
int anm_stage_open_literal(anm_stage *s, const char *text, size_t n, anm_split_way way, bool invert, anm_error *err);
void anm_stage_close(anm_stage *s);

/* What matching needs, for all matches of one call of the tokenizer's. {0} is one that was not used yet. */
typedef struct anm_matcher {
    struct pcre2_real_match_context_8 *context;
    struct pcre2_real_jit_stack_8 *stack;
    struct pcre2_real_match_data_8 *data[ANM_MAX_STAGES];
    uint64_t budget;     /* steps that matches may still take beyond the small limit that each one has */
    uint64_t until;      /* the processor time of this thread at which matching must end, ns */
    uint64_t now, asked; /* by the clock on the wall, which costs less: last looked at, last asked for processor time */
    unsigned matches;    /* made since the last look, each counted by the text that it may run over */
    size_t reach;        /* how many places at most a search tries before the time is looked at */
} anm_matcher;

/* Before a text of so many bytes is matched: adds what it may take to the matcher's limits. */
int anm_matcher_allow(anm_matcher *m, size_t text_bytes, anm_error *err);
void anm_matcher_close(anm_matcher *m);

/* Finds the next match of `code` in text[0 … n) at or after `from`; 1 and [*start, *end), 0 when there is none, or an
 * error. `depth` in [0, ANM_MAX_STAGES) separates matches that are under way at once. */
int anm_match(anm_matcher *m, unsigned depth, const struct pcre2_real_code_8 *code, const char *text, size_t n,
              size_t from, size_t *start, size_t *end, anm_error *err);

/* Cuts text[0 … n) by stages [at, n_stages) and gives every word to `word`. */
typedef int anm_word_fn(void *ctx, const char *text, size_t n);
int anm_split(anm_matcher *m, const anm_stage *stage, unsigned n_stages, unsigned at, const char *text, size_t n,
              anm_word_fn *word, void *ctx, anm_error *err);

#endif
