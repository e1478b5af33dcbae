/* SPDX-License-Identifier: BSD-3-Clause */
/* What a run says of itself at its end, on standard error. */
#ifndef ANM_CLI_RUN_REPORT_H
#define ANM_CLI_RUN_REPORT_H

#include "anemone.h"
#include "plan/times.h"

#include <stdio.h>

typedef struct run_report {
    const char *model;
    anm_session_stats stats;
    anm_end end;
    uint64_t seed;
    int64_t context; /* tokens that it holds */
    const anm_plan_times *times; /* NULL: not measured */
    bool stopped_by_text, interrupted, multifunction, lookahead, greedy;
    bool goes_on; /* a conversation: nothing has ended */
} run_report;

void run_report_text(FILE *to, const run_report *r, bool more);

/* One line: {"prompt_tokens": …, "new_tokens": …, "steps": …, …}. */
int run_report_json(FILE *to, const run_report *r, anm_error *err);

#endif
