/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ExecuTorch programs (.pte): a flatbuffer ("ET12") with an extended header ("eh00"), then segments for delegates and
 * named data. Written and read by the schema in pytorch/executorch schema/program.fbs; what is not in these structs is
 * not in files of this kind.
 */
#ifndef ANM_PTE_PTE_H
#define ANM_PTE_PTE_H

#include "base/arena.h"
#include "base/dtype.h"
#include "base/layout.h"

#include <stdbool.h>

typedef enum anm_pte_kind { ANM_PTE_NULL, ANM_PTE_INT, ANM_PTE_BOOL, ANM_PTE_DOUBLE, ANM_PTE_STRING, ANM_PTE_TENSOR, ANM_PTE_OTHER } anm_pte_kind;

typedef struct anm_pte_value {
    anm_pte_kind kind;
    int64_t i;      /* INT, BOOL */
    double d;       /* DOUBLE */
    const char *s;  /* STRING; for OTHER the name of the schema's type */
    /* TENSOR: */
    anm_dtype dtype;
    int rank;
    int32_t size[8];
    bool dynamic;          /* shape_dynamism is not static */
    const uint8_t *data;   /* a constant's bytes, or NULL; reading, of OTHER: its list's */
    uint64_t data_size;
    const void *source;    /* writing: the bytes of a constant are made by whoever knows `source` (base/layout.h); data is NULL */
    uint32_t part;
    bool planned;          /* lies in an arena: */
    uint32_t memory_id;
    uint64_t memory_offset;
} anm_pte_value;

typedef struct anm_pte_spec { /* a delegate's compile spec */
    const char *key;
    const uint8_t *value;
    uint64_t size;
} anm_pte_spec;

typedef struct anm_pte_delegate {
    const char *id; /* "CoreMLBackend" */
    anm_pte_spec *specs;
    size_t n_specs;
    /* Writing: the processed bytes, either inline in the flatbuffer (bytes) or as a segment (layout).
     * Reading: data and size, wherever they lie. */
    const uint8_t *data;
    uint64_t size;
    const anm_layout *layout;
} anm_pte_delegate;

typedef struct anm_pte_call {
    uint32_t delegate;
    uint32_t *args; /* indices into the method's values */
    size_t n_args;
    const char *other; /* reading: the name of an instruction that is not a delegate call, else NULL */
    uint64_t operands; /* reading: of one that is no call at all, its one or two numbers of 32 bits */
} anm_pte_call;

typedef struct anm_pte_method {
    const char *name;
    const char *in_spec, *out_spec; /* pytree strings; "" where there is none */
    anm_pte_value *values;
    size_t n_values;
    uint32_t *inputs, *outputs;
    size_t n_inputs, n_outputs;
    anm_pte_delegate *delegates;
    size_t n_delegates;
    anm_pte_call *calls;
    size_t n_calls;
    uint64_t *arena_sizes; /* non_const_buffer_sizes, with the leading 0 */
    size_t n_arenas;
} anm_pte_method;

typedef struct anm_pte_named {
    const char *key;
    const uint8_t *data;
    uint64_t size;
    const anm_layout *layout; /* writing */
} anm_pte_named;

typedef struct anm_pte {
    anm_arena arena;
    anm_pte_method *methods;
    size_t n_methods;
    anm_pte_named *named;
    size_t n_named;
    const anm_pte_named **by_key;    /* what a reader gives: the same, sorted by key, … */
    const anm_pte_method **by_name; /* … and the methods by name */
} anm_pte;

/* Appends the whole file to `out`; what it points to lives in `arena`. Constants of equal bytes share a buffer.
 * `delegate_at[i]` / `named_at[i]`, where not NULL, receive the file offset at which the i-th segment's layout begins
 * (delegates counted over all methods, in order), and `key_at[i]` that of the i-th named key's characters. */
int anm_pte_write(anm_layout *out, const anm_pte *p, anm_arena *arena, uint64_t *delegate_at, uint64_t *named_at,
                  uint64_t *key_at, anm_error *err);

/* Verifies the whole flatbuffer and every segment, then fills `out` (initialised by the call; free it also after a
 * failure). `data` must outlive it. */
int anm_pte_read(anm_pte *out, const uint8_t *data, uint64_t size, anm_error *err);
void anm_pte_free(anm_pte *p);

/* Of a program that was read: the method of that name, or NULL. */
const anm_pte_method *anm_pte_find(const anm_pte *p, const char *name);
/* Of a program that was read: the named data of that key, or NULL. */
const anm_pte_named *anm_pte_named_find(const anm_pte *p, const char *key);

#endif
