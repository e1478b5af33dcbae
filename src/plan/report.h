/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a plan is made of, for people and benchmarks: what a row costs, and the stages that a run is timed by. A stage is
 * a linear, an attention, or the steps between two of these that treat each row alone. Stage 2 i + 1 is the linear or
 * attention that is step i of the plan, stage 2 i the row by row steps from step i on (and, at the end of these, rounding to the
 * integers that the linear behind them takes).
 */
#ifndef ANM_PLAN_REPORT_H
#define ANM_PLAN_REPORT_H

#include "plan/plan.h"

typedef struct anm_plan_cost {
    int64_t weight_bytes;              /* of the linears as they lie in memory: read once in every pass, whatever its rows */
    int64_t cache_bytes;               /* keys and values of one cached entry: read for every row */
    int64_t layer_products, head_products; /* multiplications by weights for a row; for a row whose logits are wanted */
    bool int8;                         /* all of them int8 by 4 bits, one for each weight */
} anm_plan_cost;

void anm_plan_get_cost(anm_plan_cost *out, const anm_plan *p);

/* A plan's stages are [0, this); many of them stand for nothing, and take no time. */
int32_t anm_plan_stages(const anm_plan *p);
/* What stage `i` does: "linear 576 -> 1536, gated". The same words for the same work in another layer. Writes at most n
 * bytes, the last one 0; returns `out`. */
const char *anm_plan_stage_name(char *out, size_t n, const anm_plan *p, int32_t i);

#endif
