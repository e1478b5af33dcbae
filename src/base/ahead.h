/* SPDX-License-Identifier: BSD-3-Clause */
/* Memory that a thread will read soon, so that it can be asked for while there is time. */
#ifndef ANM_BASE_AHEAD_H
#define ANM_BASE_AHEAD_H

#include <stdint.h>

typedef struct anm_ahead {
    const uint8_t *at, *end; /* what is still to be asked for; at >= end: nothing */
} anm_ahead;

/* Asks for the next lines of 64 bytes, if any are left, to come into the second-level cache. */
static inline void anm_ahead_ask(anm_ahead *a, int lines)
{
    if (a->at >= a->end) return;
#if defined(__GNUC__)
    for (int i = 0; i < lines; i++) __builtin_prefetch(a->at + 64 * i, 0, 2);
#endif
    a->at += 64 * lines;
}

#endif
