/* SPDX-License-Identifier: BSD-3-Clause */
/* See view.h. */
#include "plan/view.h"

#include <string.h>

anm_view anm_view_packed(int32_t buf, const anm_mil_type *t, int row)
{
    anm_view v = {.buf = buf, .rank = t->rank};
    int64_t stride = 1;
    for (int d = t->rank - 1; d >= 0; d--) {
        v.size[d] = t->dim[d];
        v.stride[d] = d == row ? ANM_ROW : stride;
        if (d != row) stride *= t->dim[d];
    }
    return v;
}

int anm_view_row(const anm_view *v)
{
    for (int d = 0; d < v->rank; d++)
        if (v->stride[d] == ANM_ROW) return d;
    return -1;
}

int64_t anm_view_width(const anm_view *v)
{
    int64_t n = 1;
    for (int d = 0; d < v->rank; d++)
        if (v->stride[d] != ANM_ROW) n *= v->size[d];
    return n;
}

bool anm_view_reshape(anm_view *out, const anm_view *v, int rank, const int64_t *size)
{
    anm_view r = {.buf = v->buf, .off = v->off, .rank = rank};
    int i = 0, j = 0;
    for (; j < rank; j++) r.size[j] = size[j];
    j = 0;
    /* Groups of dimensions of equal product on both sides; the row dimension stands alone in its group. */
    while (i < v->rank || j < rank) {
        if (i < v->rank && v->size[i] == 1 && v->stride[i] != ANM_ROW) {
            i++;
            continue;
        }
        if (j < rank && size[j] == 1 && !(i < v->rank && v->stride[i] == ANM_ROW && v->size[i] == 1)) {
            r.stride[j++] = 0;
            continue;
        }
        if (i >= v->rank || j >= rank) return false;
        if (v->stride[i] == ANM_ROW) {
            if (v->size[i] != size[j]) return false;
            r.stride[j] = ANM_ROW;
            i++;
            j++;
            continue;
        }
        int i0 = i, j0 = j;
        int64_t a = v->size[i++], b = size[j++];
        while (a != b) {
            if (a < b) {
                if (i >= v->rank || v->stride[i] == ANM_ROW) return false;
                a *= v->size[i++];
            } else {
                if (j >= rank) return false;
                b *= size[j++];
            }
        }
        /* The group must be one run of equal steps. */
        int64_t step = 0, run = 1;
        for (int k = i - 1; k >= i0; k--) {
            if (v->size[k] == 1) continue;
            if (run == 1) step = v->stride[k];
            else if (v->stride[k] != step * run) return false;
            run *= v->size[k];
        }
        for (int k = j - 1; k >= j0; k--) {
            r.stride[k] = step;
            step *= size[k];
        }
    }
    *out = r;
    return true;
}

void anm_view_permute(anm_view *out, const anm_view *v, const int64_t *perm)
{
    anm_view r = *v;
    for (int d = 0; d < v->rank; d++) {
        r.size[d] = v->size[perm[d]];
        r.stride[d] = v->stride[perm[d]];
    }
    *out = r;
}

bool anm_view_same_shape(const anm_view *a, const anm_view *b)
{
    if (a->rank != b->rank) return false;
    for (int d = 0; d < a->rank; d++)
        if (a->size[d] != b->size[d] || (a->size[d] != 1 && (a->stride[d] == ANM_ROW) != (b->stride[d] == ANM_ROW)))
            return false;
    return true;
}

bool anm_view_equal(const anm_view *a, const anm_view *b)
{
    if (a->buf != b->buf || a->off != b->off || !anm_view_same_shape(a, b)) return false;
    for (int d = 0; d < a->rank; d++)
        if (a->size[d] != 1 && a->stride[d] != b->stride[d]) return false;
    return true;
}

bool anm_view_heads(const anm_view *v, int64_t *heads, int64_t *stride)
{
    *heads = 1;
    *stride = 0;
    for (int d = 0; d < v->rank - 1; d++) {
        if (!anm_view_counts(v, d)) continue;
        if (*heads > 1 && *stride != v->stride[d] * v->size[d]) return false;
        *stride = v->stride[d];
        *heads *= v->size[d];
    }
    return v->rank >= 1 && v->stride[v->rank - 1] != ANM_ROW;
}

bool anm_view_is_heads(const anm_view *v, int64_t *heads, int64_t *stride)
{
    int last = v->rank - 1;
    return anm_view_heads(v, heads, stride) && (v->size[last] == 1 || v->stride[last] == 1);
}

bool anm_view_is_matrix(const anm_view *v)
{
    int64_t heads, stride;
    return anm_view_is_heads(v, &heads, &stride) && heads == 1;
}
