/* SPDX-License-Identifier: BSD-3-Clause */
/* anemone compare, the parts: a report of differences, tables that may differ by one unit in the last place, graphs. */
#ifndef ANM_CLI_COMPARE_H
#define ANM_CLI_COMPARE_H

#include "base/arena.h"
#include "base/error.h"
#include "mil/mil.h"

typedef struct cmp_report {
    uint64_t found, details;
    uint64_t max; /* lines to print of each */
    bool cut;     /* memory was out for one of them */
} cmp_report;

/* One difference: a line "WHERE: TEXT" on standard output, unless enough were printed. */
void cmp_differ(cmp_report *r, const char *where, const char *fmt, ...) ANM_PRINTF(3, 4);

/* As cmp_differ, for what explains a difference that was counted already. */
void cmp_explain(cmp_report *r, const char *where, const char *fmt, ...) ANM_PRINTF(3, 4);

/* Cosine and sine tables come from a closed math library in the original: they may differ by one unit in the last place. */
typedef enum cmp_bytes { CMP_SAME, CMP_ULP, CMP_OTHER } cmp_bytes;
/* Compares two constants of one type and size. */
cmp_bytes cmp_compare_bytes(anm_dtype t, const uint8_t *a, const uint8_t *b, uint64_t size);

/* Compares two functions: opset, inputs, op counts, the dataflow graph and, where that differs, how far the weights
 * are apart. `names`: inputs and outputs must be called the same. May exchange B's tables by A's. */
int cmp_functions(cmp_report *r, const char *where, anm_mil_function *a, anm_mil_function *b, bool names, anm_error *err);

#endif
