/* SPDX-License-Identifier: BSD-3-Clause */
#include "base/dtype.h"
#include "base/bytes.h"

#include <string.h>

static const struct {
    const char *name;
    uint16_t block, bytes;
    char cls;
} table[ANM_DT_COUNT] = {
    {"?", 1, 0, 0},
#define X(id, name, block, bytes, cls) {name, block, bytes, cls},
    ANM_DTYPES(X)
#undef X
};

static unsigned row(anm_dtype t)
{
    return (unsigned)t < ANM_DT_COUNT ? (unsigned)t : 0;
}

const char *anm_dtype_name(anm_dtype t)
{
    return table[row(t)].name;
}

anm_dtype anm_dtype_of_name(const char *name)
{
    for (unsigned t = 1; t < ANM_DT_COUNT; t++)
        if (strcmp(table[t].name, name) == 0) return (anm_dtype)t;
    return ANM_DT_NONE;
}

char anm_dtype_class(anm_dtype t)
{
    return table[row(t)].cls;
}

unsigned anm_dtype_block(anm_dtype t)
{
    return table[row(t)].block;
}

unsigned anm_dtype_bytes(anm_dtype t)
{
    return table[row(t)].bytes;
}

bool anm_dtype_size(anm_dtype t, uint64_t n, uint64_t *bytes)
{
    unsigned block = anm_dtype_block(t), size = anm_dtype_bytes(t);
    if (!size) return false;
    if (block == 1) return anm_mul_u64(n, size, bytes);
    if (anm_dtype_class(t) == 'q' && n % block) return false;
    return anm_mul_u64(n / block + (n % block != 0), size, bytes);
}
