/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Element types, one list for checkpoints, graphs and programs. Blocked types (GGML's) hold `block` values in `bytes`
 * bytes; 4-bit types hold two values in a byte, the first in the low half.
 */
#ifndef ANM_BASE_DTYPE_H
#define ANM_BASE_DTYPE_H

#include <stdbool.h>
#include <stdint.h>

/*       id      name      block bytes class (f float, i signed, u unsigned, b bool, s string, q blocked float) */
#define ANM_DTYPES(X)                                                                                                  \
    X(BOOL, "bool", 1, 1, 'b')                                                                                         \
    X(STRING, "string", 1, 1, 's')                                                                                     \
    X(F16, "fp16", 1, 2, 'f')                                                                                          \
    X(BF16, "bf16", 1, 2, 'f')                                                                                         \
    X(F32, "fp32", 1, 4, 'f')                                                                                          \
    X(F64, "fp64", 1, 8, 'f')                                                                                          \
    X(I4, "int4", 2, 1, 'i')                                                                                           \
    X(U4, "uint4", 2, 1, 'u')                                                                                          \
    X(I8, "int8", 1, 1, 'i')                                                                                           \
    X(U8, "uint8", 1, 1, 'u')                                                                                          \
    X(I16, "int16", 1, 2, 'i')                                                                                         \
    X(U16, "uint16", 1, 2, 'u')                                                                                        \
    X(I32, "int32", 1, 4, 'i')                                                                                         \
    X(U32, "uint32", 1, 4, 'u')                                                                                        \
    X(I64, "int64", 1, 8, 'i')                                                                                         \
    X(U64, "uint64", 1, 8, 'u')                                                                                        \
    X(Q4_0, "q4_0", 32, 18, 'q')                                                                                       \
    X(Q4_1, "q4_1", 32, 20, 'q')                                                                                       \
    X(Q5_0, "q5_0", 32, 22, 'q')                                                                                       \
    X(Q5_1, "q5_1", 32, 24, 'q')                                                                                       \
    X(Q8_0, "q8_0", 32, 34, 'q')                                                                                       \
    X(Q2_K, "q2_k", 256, 84, 'q')                                                                                      \
    X(Q3_K, "q3_k", 256, 110, 'q')                                                                                     \
    X(Q4_K, "q4_k", 256, 144, 'q')                                                                                     \
    X(Q5_K, "q5_k", 256, 176, 'q')                                                                                     \
    X(Q6_K, "q6_k", 256, 210, 'q')

typedef enum anm_dtype {
    ANM_DT_NONE = 0,
#define X(id, name, block, bytes, cls) ANM_DT_##id,
    ANM_DTYPES(X)
#undef X
        ANM_DT_COUNT
} anm_dtype;

/* "fp16", "int4", …; "?" for a value that is none of them. */
const char *anm_dtype_name(anm_dtype t);

/* The type of that name, or ANM_DT_NONE. */
anm_dtype anm_dtype_of_name(const char *name);

char anm_dtype_class(anm_dtype t);    /* 'f' 'i' 'u' 'b' 's' 'q', as in the table; 0 for none */
unsigned anm_dtype_block(anm_dtype t); /* values in a block */
unsigned anm_dtype_bytes(anm_dtype t); /* bytes of a block */

/* Bytes of `n` values (4-bit types round up to a whole byte); false when that overflows or n does not fill blocks. */
bool anm_dtype_size(anm_dtype t, uint64_t n, uint64_t *bytes);

#endif
