/* SPDX-License-Identifier: BSD-3-Clause */
/* The inner loops that fit this processor. Internal to dense/. */
#ifndef ANM_DENSE_MICRO_KIND_H
#define ANM_DENSE_MICRO_KIND_H

#include <stddef.h>

typedef void anm_micro_fn(float *acc, const float *a, const float *b, size_t k);

typedef struct anm_micro_kind {
    const char *name;
    size_t mr, nr; /* the tile */
    anm_micro_fn *tile;
} anm_micro_kind;

const anm_micro_kind *anm_micro_pick(void);

#endif
