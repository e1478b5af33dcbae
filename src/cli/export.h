/* SPDX-License-Identifier: BSD-3-Clause */
/* What the exporting commands share: the words of their command lines, and what is done with them. */
#ifndef ANM_CLI_EXPORT_H
#define ANM_CLI_EXPORT_H

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct export_words {
    const char *checkpoint, *params, *output, *contexts, *dtype, *embedding, *linear, *logits, *norm, *graph, *dump;
    const char *calibrate, *effort, *report, *tokenizer, *tokenizer_config;
    int64_t calibrate_windows, seed;
    int64_t input_len, cache_len, split_size, max_splits, max_piece_mb, threads;
    bool multifunction, no_breaks, split_fit, dot, json, quiet, no_sync, cache_given, split_given, splits_given, calibrated, resume;
    /* The deprecated form: `linear` may be NULL (floats), `split_size` 0 (whole linears). */
    bool deprecated, cache_list;
} export_words;

/* Exports, with progress, notes and a summary on standard error. */
int cli_export(const export_words *w, anm_error *err);

#endif
