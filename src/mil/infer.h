/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The type rules: what an op's results are, from its arguments' types and its constant arguments. They follow
 * the op definitions of coremltools (converters/mil/mil/ops/defs, up to iOS18), and are stricter where those
 * leave a case open: no axis twice, squeezed dimensions are 1, arithmetic on types that match.
 *
 * Unknown dimensions: a rule says what it can and leaves the rest unknown; a known dimension wins over an
 * unknown one where both must agree. The interpreter runs the same rules with everything known.
 *
 * Here is what they share. infer_math.c has the rules of arithmetic, infer_shape.c those that move elements.
 */
#ifndef ANM_MIL_INFER_H
#define ANM_MIL_INFER_H

#include "mil/mil.h"
#include "mil/rules.h"
#include "base/bytes.h"

#include <stdint.h>
#include <string.h>

enum { UNKNOWN = ANM_MIL_UNKNOWN_DIM, MAX_RANK = ANM_MIL_MAX_RANK };

typedef struct anm_rule {
    const anm_mil_op *op;
    anm_mil_type *out;
    anm_error *err;
} anm_rule;

#define FAIL(r, ...) anm_fail((r)->err, ANM_ERR_FORMAT, __VA_ARGS__)

/* A rule sets the types of r->out, which come without a dtype, or fails. What ops.def wants is there. */
#define ANM_OP(id, name, params, rule) int anm_infer_##rule(anm_rule *r);
#include "mil/ops.def"
#undef ANM_OP

/* Of a parameter that ops.def wants: anm_mil_infer has seen that it is there. */
static inline const anm_mil_type *type_of(const anm_rule *r, anm_mil_param p)
{
    return &anm_mil_arg_of(r->op, p)->type;
}

/* Of one that may be left out: then NULL. */
static inline const anm_mil_type *type_if(const anm_rule *r, anm_mil_param p)
{
    return anm_mil_arg_of(r->op, p) ? type_of(r, p) : NULL;
}

static inline bool one_of(anm_dtype t, const anm_dtype *set)
{
    for (; *set; set++)
        if (t == *set) return true;
    return false;
}

static const anm_dtype floats[] = {ANM_DT_F16, ANM_DT_F32, ANM_DT_NONE};
static const anm_dtype numbers[] = {ANM_DT_F16, ANM_DT_F32, ANM_DT_I32, ANM_DT_NONE};
static const anm_dtype plain[] = {ANM_DT_F16, ANM_DT_F32, ANM_DT_I32,  ANM_DT_I16, ANM_DT_U16,
                                  ANM_DT_I8,  ANM_DT_U8,  ANM_DT_BOOL, ANM_DT_NONE};

/* Is the argument's type one of `set`? */
static inline int want(anm_rule *r, anm_mil_param p, const anm_dtype *set)
{
    const anm_mil_type *t = type_of(r, p);
    if (one_of(t->dtype, set)) return 0;
    return FAIL(r, "%s of type %s", anm_mil_param_name(p), anm_dtype_name(t->dtype));
}

static inline int want_same(anm_rule *r, anm_mil_param p, anm_mil_param q)
{
    anm_dtype a = type_of(r, p)->dtype, b = type_of(r, q)->dtype;
    if (a == b) return 0;
    return FAIL(r, "%s is %s but %s is %s", anm_mil_param_name(p), anm_dtype_name(a), anm_mil_param_name(q),
                anm_dtype_name(b));
}

/* A constant integer scalar; `*v` keeps its value (the default) when the argument is left out. */
static inline int const_int(anm_rule *r, anm_mil_param p, int64_t *v)
{
    const anm_mil_value *arg = anm_mil_arg_of(r->op, p);
    if (!arg || anm_mil_get_i64(arg, v)) return 0;
    return FAIL(r, "%s is not a constant integer", anm_mil_param_name(p));
}

static inline int const_bool(anm_rule *r, anm_mil_param p, bool *v)
{
    const anm_mil_value *arg = anm_mil_arg_of(r->op, p);
    if (!arg || anm_mil_get_bool(arg, v)) return 0;
    return FAIL(r, "%s is not a constant bool", anm_mil_param_name(p));
}

/* A constant list of integers; `*n` is set to -1 when it is left out. */
static inline int const_ints(anm_rule *r, anm_mil_param p, int64_t *v, int max, int *n)
{
    const anm_mil_value *arg = anm_mil_arg_of(r->op, p);
    *n = -1;
    if (!arg || (arg->type.rank <= 1 && anm_mil_get_i64s(arg, v, max, n))) return 0;
    return FAIL(r, "%s is not a constant list of at most %d integers", anm_mil_param_name(p), max);
}

/* An axis into `rank` dimensions, counted from the end when negative. */
static inline int fix_axis(anm_rule *r, int64_t *axis, int rank)
{
    if (*axis < -rank || *axis >= rank)
        return FAIL(r, "axis %lld of a tensor of rank %d", (long long)*axis, rank);
    if (*axis < 0) *axis += rank;
    return 0;
}

/* A list of different axes as a set; no list: all when `all`, else none. */
static inline int const_axes(anm_rule *r, anm_mil_param p, int rank, bool all, bool set[MAX_RANK])
{
    int64_t axes[MAX_RANK];
    int n;
    for (int i = 0; i < MAX_RANK; i++)
        set[i] = false;
    if (const_ints(r, p, axes, MAX_RANK, &n)) return -1;
    for (int i = 0; n < 0 && all && i < rank; i++)
        set[i] = true;
    for (int i = 0; i < n; i++) {
        if (fix_axis(r, &axes[i], rank)) return -1;
        if (set[axes[i]])
            return FAIL(r, "%s names axis %lld twice", anm_mil_param_name(p), (long long)axes[i]);
        set[axes[i]] = true;
    }
    return 0;
}

/* Two dimensions that must be equal: the known one of them. */
static inline bool same_dim(int64_t a, int64_t b, int64_t *out)
{
    *out = a == UNKNOWN ? b : a;
    return a == b || a == UNKNOWN || b == UNKNOWN;
}

static inline int insert_dim(anm_rule *r, anm_mil_type *t, int at, int64_t dim)
{
    if (t->rank == MAX_RANK) return FAIL(r, "the result has more than %d dimensions", MAX_RANK);
    for (int i = t->rank++; i > at; i--)
        t->dim[i] = t->dim[i - 1];
    t->dim[at] = dim;
    return 0;
}

static inline void drop_dim(anm_mil_type *t, int at)
{
    t->rank--;
    for (int i = at; i < t->rank; i++)
        t->dim[i] = t->dim[i + 1];
    t->dim[t->rank] = 0;
}

#endif
