/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Views: how a value of the graph, [1, rows, heads, width] or any other arrangement, lies in a buffer of the plan, which
 * holds one run of floats per row. One dimension may be the rows themselves; the others are sizes and strides within
 * a row's floats.
 */
#ifndef ANM_PLAN_VIEW_H
#define ANM_PLAN_VIEW_H

#include "mil/mil.h"

#define ANM_ROW INT64_MIN /* the stride of the dimension that counts rows */

typedef struct anm_view {
    int32_t buf;
    int32_t rank;
    int64_t off; /* the first float */
    int64_t size[ANM_MIL_MAX_RANK], stride[ANM_MIL_MAX_RANK];
} anm_view;

/* Does dimension d hold more than one thing per row? */
static inline bool anm_view_counts(const anm_view *v, int d)
{
    return v->stride[d] != ANM_ROW && v->size[d] != 1;
}

/* A value of this type with its features packed in the order of its dimensions; `row` is the row dimension or -1. */
anm_view anm_view_packed(int32_t buf, const anm_mil_type *t, int row);
/* The row dimension, or -1. */
int anm_view_row(const anm_view *v);
/* Floats per row. */
int64_t anm_view_width(const anm_view *v);

/* The same floats under other dimensions; false where that needs them moved or would mix rows. */
bool anm_view_reshape(anm_view *out, const anm_view *v, int rank, const int64_t *size);
void anm_view_permute(anm_view *out, const anm_view *v, const int64_t *perm);

bool anm_view_equal(const anm_view *a, const anm_view *b);       /* the same floats in the same dimensions */
bool anm_view_same_shape(const anm_view *a, const anm_view *b);

/* The counting dimensions before the last, as one run of `heads` steps of `stride`; false when they are no such run. */
bool anm_view_heads(const anm_view *v, int64_t *heads, int64_t *stride);
/* Is it [1…, rows, n]: the last dimension packed, and nothing else per row? */
bool anm_view_is_matrix(const anm_view *v);
/* As anm_view_heads, with the last dimension packed. */
bool anm_view_is_heads(const anm_view *v, int64_t *heads, int64_t *stride);

#endif
