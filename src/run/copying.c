/* SPDX-License-Identifier: BSD-3-Clause */
#include "run/copying.h"

#include <string.h>

#define RATE 0.1 /* of forgetting: ten times back, a token counts a third */

void anm_copying_begin(anm_copying *c)
{
    /* Before anything is known: text that goes on as it did, the more so the longer it has. */
    static const double first[ANM_COPY_MATCH + 1] = {0.2, 0.2, 0.4, 0.55, 0.65, 0.7, 0.75, 0.8, 0.85};
    memset(c, 0, sizeof *c);
    memcpy(c->hit, first, sizeof first);
}

void anm_copying_guess(anm_copying *c, const int32_t *ids, int64_t n)
{
    int64_t at = 0;
    c->matched = c->n = 0;
    for (int64_t i = n - 1; i > 0 && c->matched < ANM_COPY_MATCH; i--) {
        int32_t m = 0;
        while (m < ANM_COPY_MATCH && m < i && ids[i - 1 - m] == ids[n - 1 - m]) m++;
        if (m <= c->matched) continue;
        c->matched = m;
        at = i;
    }
    if (!c->matched) return;
    c->n = ANM_COPY_MOST;
    for (int32_t i = 0; i < c->n; i++) c->id[i] = at + i < n ? ids[at + i] : c->id[i - (n - at)];
}

void anm_copying_take(anm_copying *c, const int32_t *ids, int32_t n)
{
    c->matched = 0;
    c->n = n < ANM_COPY_MOST ? n : ANM_COPY_MOST;
    memcpy(c->id, ids, (size_t)c->n * sizeof *ids);
}

static int32_t kind(const anm_copying *c, int32_t i)
{
    return c->matched + i < ANM_COPY_MATCH ? c->matched + i : ANM_COPY_MATCH;
}

double anm_copying_chance(const anm_copying *c, int32_t i)
{
    return c->hit[kind(c, i)];
}

void anm_copying_learn(anm_copying *c, int32_t i, int right)
{
    double *hit = &c->hit[kind(c, i)];
    *hit += RATE * ((right ? 1.0 : 0.0) - *hit);
}
