/* SPDX-License-Identifier: BSD-3-Clause */
/* The list that readers fill. */
#include "ckpt/reader.h"
#include "base/bytes.h"

#include <stdlib.h>
#include <string.h>

enum { SHARED_MOST = 64 };

int anm_tensors_add(anm_tensor **out, anm_tensors *l, anm_arena *arena, const char *name, size_t name_len, anm_error *err)
{
    *out = NULL;
    if (!name_len || memchr(name, 0, name_len)) return anm_fail(err, ANM_ERR_FORMAT, "a tensor has an empty or broken name");
    if (l->n == l->room) {
        size_t room = l->room ? l->room * 2 : 64;
        anm_tensor *longer = anm_arena_array(arena, room, sizeof *longer);
        if (!longer) return anm_fail_memory(err, "the table of tensors");
        if (l->n) memcpy(longer, l->at, l->n * sizeof *longer);
        l->at = longer;
        l->room = room;
    }
    anm_tensor *t = &l->at[l->n];
    *t = (anm_tensor){.name = anm_arena_strndup(arena, name, name_len)};
    if (!t->name) return anm_fail_memory(err, "the table of tensors");
    l->n++;
    *out = t;
    return 0;
}

/* All its values, be some of them the same bytes by a stride of 0. */
static bool bytes_of(const anm_tensor *t, uint64_t *bytes)
{
    uint64_t count = 1;
    for (int k = 0; k < t->rank; k++)
        if (!anm_mul_u64(count, (uint64_t)t->shape[k], &count)) return false;
    return anm_dtype_size(t->dtype, count, bytes);
}

int anm_tensors_check_sharing(const anm_tensors *l, size_t first, uint64_t size, anm_error *err)
{
    uint64_t claimed = 0, bytes;
    for (size_t i = first; i < l->n; i++)
        if (!bytes_of(&l->at[i], &bytes) || !anm_add_u64(claimed, bytes, &claimed) || claimed / SHARED_MOST > size)
            return anm_fail(err, ANM_ERR_FORMAT, "its tensors share their bytes more than %d times", SHARED_MOST);
    return 0;
}

static int by_place(const void *pa, const void *pb)
{
    const anm_tensor *a = *(const anm_tensor *const *)pa, *b = *(const anm_tensor *const *)pb;
    if (a->data != b->data) return a->data < b->data ? -1 : 1;
    return (a->size > b->size) - (a->size < b->size);
}

const anm_tensor **anm_tensors_by_place(const anm_tensors *l, size_t first, anm_arena *arena)
{
    size_t n = l->n - first;
    const anm_tensor **at = anm_arena_array(arena, n + 1, sizeof *at);
    for (size_t i = 0; at && i < n; i++) at[i] = &l->at[first + i];
    if (at && n) qsort(at, n, sizeof *at, by_place);
    return at;
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
