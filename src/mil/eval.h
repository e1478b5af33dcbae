/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How the interpreter calls the ops: one function per rule of ops.def, anm_eval_RULE, which fills the
 * results. The op has been typed with every dimension known before it is called, so the functions only look
 * for what a type cannot say (an index out of range).
 *
 * Floats are fp32 and integers int32 in memory, both four bytes: what only moves elements does not ask which.
 */
#ifndef ANM_MIL_EVAL_H
#define ANM_MIL_EVAL_H

#include "base/pool.h"
#include "mil/mil.h"
#include "mil/rules.h"

typedef struct anm_eval {
    const anm_mil_op *op; /* its arguments' types are known; small computed integers look like constants */
    const anm_mil_array *have; /* by value id: what was computed so far; f is NULL elsewhere */
    anm_mil_array *out;        /* the results: typed, allocated, to be filled */
    anm_pool *pool;            /* may be NULL */
    anm_rounding linear;       /* see anm_mil_interp_opts */
    anm_mil_array *temp;       /* constants decoded for this op, freed after it */
    uint32_t n_temp;           /* at most one per argument */
    anm_error *err;
} anm_eval;

#define ANM_OP(id, name, params, rule) int anm_eval_##rule(anm_eval *e);
#include "mil/ops.def"
#undef ANM_OP

/* An argument as an array: the computed one, or the constant decoded. NULL when it is left out; when memory
 * is out, NULL with e->err set. */
const anm_mil_array *anm_eval_arg(anm_eval *e, anm_mil_param p);
const anm_mil_array *anm_eval_value(anm_eval *e, const anm_mil_value *v);

/* Elements of a value piece by piece, so that a large weight is never decoded whole. */
typedef struct anm_source {
    const anm_mil_type *type;
    const anm_mil_array *array; /* computed, or: */
    const uint8_t *data;        /* a constant's bytes, or the codes of: */
    const anm_mil_op *quant;    /* a constexpr_blockwise_shift_scale */
} anm_source;

int anm_source_of(anm_source *s, const anm_eval *e, const anm_mil_value *v);
/* Elements [first, first + n) in row-major order; 4 bytes each. */
void anm_source_read(const anm_source *s, int64_t first, int64_t n, void *out);

/* Typed, allocated and not filled; false when memory is out. Free with anm_mil_array_free. */
bool anm_array_new(anm_mil_array *a, const anm_mil_type *type);
static inline bool anm_array_is_float(const anm_mil_array *a)
{
    return anm_dtype_class(a->type.dtype) == 'f';
}

/* Softmax of `n` elements that stand `stride` apart. Where all of them are -inf (nothing may be seen) it is
 * all zeros, so that a row which nobody uses cannot spread NaN to others. */
void anm_softmax(float *out, const float *x, int64_t n, int64_t stride);

/* The product of the dimensions [from, to). */
int64_t anm_dims(const anm_mil_type *t, int from, int to);

/* A position in `rank` dimensions that moves through `n` arrays at once, last dimension fastest. */
enum { ANM_WALK_RANK = 2 * ANM_MIL_MAX_RANK, ANM_WALK_ARRAYS = 3 };
typedef struct anm_walk {
    int rank, n;
    int64_t dim[ANM_WALK_RANK], index[ANM_WALK_RANK];
    int64_t stride[ANM_WALK_ARRAYS][ANM_WALK_RANK];
    int64_t at[ANM_WALK_ARRAYS]; /* the element of each array that the position stands on */
} anm_walk;

/* A walk over `out`'s elements (but for its last `inner` dimensions), with the strides of `n` arrays that
 * broadcast to it. */
void anm_walk_broadcast(anm_walk *w, const anm_mil_type *out, int inner, int n,
                        const anm_mil_type *const in[]);
void anm_walk_next(anm_walk *w);

#endif
