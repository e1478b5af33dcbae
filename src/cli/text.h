/* SPDX-License-Identifier: BSD-3-Clause */
/* A text file as windows of tokens: what eval scores and calibration learns from. */
#ifndef ANM_CLI_TEXT_H
#define ANM_CLI_TEXT_H

#include "base/error.h"

#include <stdbool.h>

typedef struct cli_text {
    const char *path;              /* the text … */
    const char *data;              /* … or, when path is NULL, its bytes */
    size_t size;
    const char *tokenizer, *config; /* config: tokenizer_config.json, or NULL */
    size_t window, skip, most;     /* tokens in a window; windows left out at the start; windows at the most (0: all) */
    bool spread;                   /* where the text has more than `most`, take them evenly over all of it */
    size_t held_out;               /* with spread: at most that many of the others instead, evenly */
    bool bos;                      /* begin each window with the BOS token, which counts as one of its tokens */
} cli_text;

typedef struct cli_windows {
    int32_t *token; /* [n * cli_text.window]; the caller's (free) */
    size_t n;
    int64_t vocabulary; /* of the tokenizer: cli_tokenizer_fits */
} cli_windows;

/* A text that is empty, not UTF-8 or shorter than one window is refused; *out is zero then. */
int cli_text_windows(cli_windows *out, const cli_text *t, anm_error *err);

/* Is a tokenizer of `vocabulary` tokens one for `model`, whose vocabulary is of `rows`? A model's may be padded, but not by much, and
 * a tokenizer's never. */
int cli_tokenizer_fits(const char *tokenizer, int64_t vocabulary, const char *model, int64_t rows, anm_error *err);

#endif
