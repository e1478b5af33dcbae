/* SPDX-License-Identifier: BSD-3-Clause */
/* Element `i` of packed little-endian data of type `t`, of which the caller knows that it is there. */
#ifndef ANM_MIL_ELEMENT_H
#define ANM_MIL_ELEMENT_H

#include "base/bytes.h"
#include "base/dtype.h"
#include "base/half.h"

/* Integers of up to 64 bits, bools. */
static inline int64_t anm_mil_int_at(anm_dtype t, const uint8_t *data, int64_t i)
{
    switch (t) {
    case ANM_DT_BOOL: return data[i] != 0;
    case ANM_DT_U4: return data[i / 2] >> (i % 2 * 4) & 15;
    case ANM_DT_I4: return ((data[i / 2] >> (i % 2 * 4) & 15) ^ 8) - 8;
    case ANM_DT_U8: return data[i];
    case ANM_DT_I8: return (int8_t)data[i];
    case ANM_DT_U16: return anm_ld16(data + 2 * i);
    case ANM_DT_I16: return (int16_t)anm_ld16(data + 2 * i);
    case ANM_DT_U32: return anm_ld32(data + 4 * i);
    case ANM_DT_I32: return (int32_t)anm_ld32(data + 4 * i);
    default: return (int64_t)anm_ld64(data + 8 * i);
    }
}

/* fp16, bf16, fp32; fp64 rounded. */
static inline float anm_mil_float_at(anm_dtype t, const uint8_t *data, int64_t i)
{
    switch (t) {
    case ANM_DT_F16: return anm_f16_to_f32(anm_ld16(data + 2 * i));
    case ANM_DT_BF16: return anm_bf16_to_f32(anm_ld16(data + 2 * i));
    case ANM_DT_F64: return (float)anm_ldf64(data + 8 * i);
    default: return anm_ldf32(data + 4 * i);
    }
}

#endif
