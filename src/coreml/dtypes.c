/* SPDX-License-Identifier: BSD-3-Clause */
/* Core ML's numbers of element types. */
#include "coreml/fields.h"

static const struct {
    anm_dtype dtype;
    uint8_t mil, blob;
} table[] = {
    {ANM_DT_BOOL, 1, 0}, {ANM_DT_STRING, 2, 0}, {ANM_DT_F16, 10, 1}, {ANM_DT_F32, 11, 2}, {ANM_DT_F64, 12, 0},
    {ANM_DT_BF16, 13, 5}, {ANM_DT_I8, 21, 4},   {ANM_DT_I16, 22, 6}, {ANM_DT_I32, 23, 14}, {ANM_DT_I64, 24, 0},
    {ANM_DT_I4, 25, 8},  {ANM_DT_U8, 31, 3},    {ANM_DT_U16, 32, 7}, {ANM_DT_U32, 33, 15}, {ANM_DT_U64, 34, 0},
    {ANM_DT_U4, 35, 11},
};
enum { COUNT = sizeof table / sizeof table[0] };

uint32_t anm_coreml_dtype(anm_dtype t)
{
    for (unsigned i = 0; i < COUNT; i++)
        if (table[i].dtype == t) return table[i].mil;
    return 0;
}

uint32_t anm_coreml_blob_dtype(anm_dtype t)
{
    for (unsigned i = 0; i < COUNT; i++)
        if (table[i].dtype == t) return table[i].blob;
    return 0;
}

anm_dtype anm_coreml_dtype_of(uint64_t number)
{
    for (unsigned i = 0; i < COUNT; i++)
        if (table[i].mil == number) return table[i].dtype;
    return ANM_DT_NONE;
}

uint32_t anm_coreml_array_dtype(anm_dtype t)
{
    switch (t) {
    case ANM_DT_F16: return ARRAY_FLOAT16;
    case ANM_DT_F32: return ARRAY_FLOAT32;
    case ANM_DT_I32: return ARRAY_INT32;
    case ANM_DT_I8: return ARRAY_INT8;
    default: return 0;
    }
}
