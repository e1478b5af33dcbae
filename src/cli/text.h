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

/* *tokens [*windows * window] is the caller's (free). A text that is empty, not UTF-8 or shorter than one window is
 * refused. */
int cli_text_windows(int32_t **tokens, size_t *windows, const cli_text *t, anm_error *err);

#endif
