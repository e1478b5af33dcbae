/* SPDX-License-Identifier: BSD-3-Clause */
/* The list that readers fill. */
#include "ckpt/reader.h"
#include "base/bytes.h"

#include <string.h>

anm_tensor *anm_tensors_add(anm_tensors *l, anm_arena *arena, const char *name, size_t name_len)
{
    if (l->n == l->room) {
        size_t room = l->room ? l->room * 2 : 64;
        anm_tensor *longer = anm_arena_array(arena, room, sizeof *longer);
        if (!longer) return NULL;
        if (l->n) memcpy(longer, l->at, l->n * sizeof *longer);
        l->at = longer;
        l->room = room;
    }
    anm_tensor *t = &l->at[l->n];
    *t = (anm_tensor){.name = anm_arena_strndup(arena, name, name_len)};
    if (!t->name) return NULL;
    l->n++;
    return t;
}

bool anm_tensor_pack(anm_tensor *t)
{
    int64_t count = 1;
    for (int k = t->rank; k-- > 0;) {
        t->stride[k] = count;
        if (t->shape[k] < 0 || !anm_mul_i64(count, t->shape[k], &count)) return false;
    }
    unsigned block = anm_dtype_block(t->dtype);
    if (block > 1 && (!t->rank || t->shape[t->rank - 1] % block)) return false;
    return anm_dtype_size(t->dtype, (uint64_t)count, &t->size);
}
