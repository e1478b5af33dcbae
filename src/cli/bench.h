/* SPDX-License-Identifier: BSD-3-Clause */
/* What anemone bench finds out (cmd_bench.c), and the three forms in which it is told (bench_report.c, bench_plot.c). */
#ifndef ANM_CLI_BENCH_H
#define ANM_CLI_BENCH_H

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum { BENCH_POINTS = 64, BENCH_OPS = 64, BENCH_NAME = 120 };

typedef struct bench_point {
    int64_t tokens; /* cached; fed */
    double value;   /* seconds a token; tokens per second */
} bench_point;

typedef struct bench_op {
    char name[BENCH_NAME];
    int64_t count;          /* how often a pass does it */
    double prefill, decode; /* seconds a token */
} bench_op;

typedef struct bench {
    const char *model, *precision, *isa, *unplanned; /* unplanned: why the interpreter runs it, or NULL */
    const char *form;                                /* "single", "multifunction", "deprecated" */
    unsigned threads;
    int64_t layers, context, cache_len, input_len, prompt_len, decode_len, rounds;
    double load;            /* seconds */
    double prefill, decode; /* tokens per second, the middle round's */
    /* The machine's best, the middle round's; 0 where it was not measured. A token reads `bytes` and multiplies
     * `products` numbers; a share is what was reached of the best of its own round. */
    double read, multiply, bytes, products, decode_share, prefill_share;
    bench_point decode_at[BENCH_POINTS], prefill_at[BENCH_POINTS];
    int n_decode, n_prefill;
    bench_op op[BENCH_OPS];
    int n_ops;
} bench;

void bench_table(FILE *to, const bench *b);
int bench_json(FILE *to, const bench *b, anm_error *err);
/* A picture of its own: what a token costs, and how fast prompts are read, by length. */
int bench_plot(const char *path, const bench *b, anm_error *err);

#endif
