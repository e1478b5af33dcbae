/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the files of this folder share: inline constants, and the arithmetic of shapes that the type rules and the
 * interpreter must agree on.
 */
#ifndef ANM_MIL_RULES_H
#define ANM_MIL_RULES_H

#include "mil/mil.h"

/* Has the type a dtype, at most ANM_MIL_MAX_RANK dimensions, and none below -1? */
static inline bool anm_mil_type_sane(const anm_mil_type *t)
{
    if ((unsigned)t->dtype - 1 >= ANM_DT_COUNT - 1 || t->rank < 0 || t->rank > ANM_MIL_MAX_RANK) return false;
    for (int i = 0; i < t->rank; i++)
        if (t->dim[i] < ANM_MIL_UNKNOWN_DIM) return false;
    return true;
}

struct anm_buf;

/* Does the constant stand inline in the program's text (print.c)? And that text of it. */
bool anm_mil_is_inline(const anm_mil_value *v);
void anm_mil_put_inline(struct anm_buf *out, const anm_mil_value *v);

/* One dimension of slice_by_index, of which `dim` is known. */
typedef struct anm_mil_slice {
    int64_t begin, end, stride;
    bool begin_mask, end_mask, squeeze;
} anm_mil_slice;

/* The first element taken and how many (one where squeezed); false when that leaves the dimension. */
bool anm_mil_slice_dim(const anm_mil_slice *s, int64_t dim, int64_t *first, int64_t *count);

#endif
