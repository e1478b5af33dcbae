/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The schema of ExecuTorch programs, as data: pytorch/executorch schema/program.fbs, identifier "ET12". Enumerators
 * number the fields of each table as the file does (a union takes two numbers).
 */
#ifndef ANM_PTE_SCHEMA_H
#define ANM_PTE_SCHEMA_H

#include "base/dtype.h"
#include "pte/flatbuf.h"

extern const anm_fb_schema anm_pte_schema;

enum { PROGRAM_VERSION, PROGRAM_PLANS, PROGRAM_CONSTANTS, PROGRAM_INLINE, PROGRAM_SEGMENTS, PROGRAM_CONSTANT_SEGMENT,
       PROGRAM_MUTABLE, PROGRAM_NAMED };
enum { PLAN_NAME, PLAN_CONTAINER, PLAN_VALUES, PLAN_INPUTS, PLAN_OUTPUTS, PLAN_CHAINS, PLAN_OPERATORS, PLAN_DELEGATES,
       PLAN_ARENAS, PLAN_DEVICES };
enum { CONTAINER_IN, CONTAINER_OUT };
enum { VALUE_KIND, VALUE_OF };
enum { TENSOR_DTYPE, TENSOR_STORAGE_OFFSET, TENSOR_SIZES, TENSOR_DIM_ORDER, TENSOR_GRAD, TENSOR_BUFFER, TENSOR_ALLOCATION,
       TENSOR_LAYOUT, TENSOR_DYNAMISM, TENSOR_EXTRA };
enum { ALLOCATION_ID, ALLOCATION_LOW, ALLOCATION_HIGH };
enum { EXTRA_MUTABLE, EXTRA_NAME, EXTRA_LOCATION };
enum { CHAIN_INPUTS, CHAIN_OUTPUTS, CHAIN_INSTRUCTIONS };
enum { INSTRUCTION_KIND, INSTRUCTION_OF };
enum { CALL_INDEX, CALL_ARGS };
enum { OPERATOR_NAME, OPERATOR_OVERLOAD };
enum { DELEGATE_ID, DELEGATE_PROCESSED, DELEGATE_SPECS };
enum { PROCESSED_LOCATION, PROCESSED_INDEX };
enum { SPEC_KEY, SPEC_VALUE };
enum { SEGMENT_OFFSET, SEGMENT_SIZE };
enum { SUBSEGMENT_INDEX, SUBSEGMENT_OFFSETS };
enum { NAMED_KEY, NAMED_SEGMENT };

/* The choices of the unions. */
enum { KIND_NONE, KIND_NULL, KIND_INT, KIND_BOOL, KIND_DOUBLE, KIND_TENSOR, KIND_STRING, KIND_INT_LIST, KIND_DOUBLE_LIST,
       KIND_BOOL_LIST, KIND_TENSOR_LIST, KIND_OPTIONAL_TENSOR_LIST };
enum { CALL_NONE, CALL_KERNEL, CALL_DELEGATE, CALL_MOVE, CALL_JUMP, CALL_FREE };
enum { LOCATION_INLINE, LOCATION_SEGMENT };

/* The extended header: behind the flatbuffer's first 8 bytes. */
enum { HEADER_AT = 8, HEADER_SIZE = 32, HEADER_LEAST = 24 };
enum { SEGMENT_ALIGN = 128, TENSOR_ALIGN = 16 };

/* ExecuTorch's number of an element type; -1 when it has none. And back; ANM_DT_NONE when we have none. */
int anm_pte_scalar_of(anm_dtype t);
anm_dtype anm_pte_dtype_of(int scalar);

#endif
