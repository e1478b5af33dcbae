/* SPDX-License-Identifier: BSD-3-Clause */
/* The largest sizes of a program that is written or run: far beyond any model, and small enough that products of them
 * cannot wrap. What writes programs and what reads them hold to the same, so that nothing is written that is not read. */
#ifndef ANM_BASE_LIMITS_H
#define ANM_BASE_LIMITS_H

enum {
    ANM_LAYERS_LIMIT = 4096,
    ANM_ROWS_LIMIT = 1 << 16,  /* of a step */
    ANM_CACHE_LIMIT = 1 << 24, /* positions */
    ANM_HEADS_LIMIT = 1 << 16, /* of keys */
    ANM_HEAD_LIMIT = 1 << 16,  /* values of a head */
};

#endif
