/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The type rules: what an op's results are, from its arguments' types and its constant arguments. They follow
 * the op definitions of coremltools (converters/mil/mil/ops/defs, up to iOS18), and are stricter where those
 * leave a case open: no axis twice, squeezed dimensions are 1, arithmetic on types that match.
 *
 * Unknown dimensions: a rule says what it can and leaves the rest unknown; a known dimension wins over an
 * unknown one where both must agree. The interpreter runs the same rules with everything known.
 */
#include "mil/mil.h"
#include "mil/rules.h"
#include "base/bytes.h"

#include <stdint.h>
#include <string.h>

enum { UNKNOWN = ANM_MIL_UNKNOWN_DIM, MAX_RANK = ANM_MIL_MAX_RANK, MAX_SPLITS = 4096 };

typedef struct rule {
    const anm_mil_op *op;
    anm_mil_type *out;
    anm_error *err;
} rule;

#define FAIL(r, ...) anm_fail((r)->err, ANM_ERR_FORMAT, __VA_ARGS__)

/* ---- helpers ---- */

/* Of a parameter that ops.def wants: anm_mil_infer has seen that it is there. */
static const anm_mil_type *type_of(const rule *r, anm_mil_param p)
{
    return &anm_mil_arg_of(r->op, p)->type;
}

/* Of one that may be left out: then NULL. */
static const anm_mil_type *type_if(const rule *r, anm_mil_param p)
{
    return anm_mil_arg_of(r->op, p) ? type_of(r, p) : NULL;
}

static bool one_of(anm_dtype t, const anm_dtype *set)
{
    for (; *set; set++)
        if (t == *set) return true;
    return false;
}

static const anm_dtype floats[] = {ANM_DT_F16, ANM_DT_F32, ANM_DT_NONE};
static const anm_dtype numbers[] = {ANM_DT_F16, ANM_DT_F32, ANM_DT_I32, ANM_DT_NONE};
static const anm_dtype indices[] = {ANM_DT_I32, ANM_DT_I16, ANM_DT_U16, ANM_DT_I8, ANM_DT_U8, ANM_DT_NONE};
static const anm_dtype plain[] = {ANM_DT_F16, ANM_DT_F32, ANM_DT_I32,  ANM_DT_I16, ANM_DT_U16,
                                  ANM_DT_I8,  ANM_DT_U8,  ANM_DT_BOOL, ANM_DT_NONE};

/* Is the argument's type one of `set`? */
static int want(rule *r, anm_mil_param p, const anm_dtype *set)
{
    const anm_mil_type *t = type_of(r, p);
    if (one_of(t->dtype, set)) return 0;
    return FAIL(r, "%s of type %s", anm_mil_param_name(p), anm_dtype_name(t->dtype));
}

static int want_same(rule *r, anm_mil_param p, anm_mil_param q)
{
    anm_dtype a = type_of(r, p)->dtype, b = type_of(r, q)->dtype;
    if (a == b) return 0;
    return FAIL(r, "%s is %s but %s is %s", anm_mil_param_name(p), anm_dtype_name(a), anm_mil_param_name(q),
                anm_dtype_name(b));
}

/* A constant integer scalar; `*v` keeps its value (the default) when the argument is left out. */
static int const_int(rule *r, anm_mil_param p, int64_t *v)
{
    const anm_mil_value *arg = anm_mil_arg_of(r->op, p);
    if (!arg || anm_mil_get_i64(arg, v)) return 0;
    return FAIL(r, "%s is not a constant integer", anm_mil_param_name(p));
}

static int const_bool(rule *r, anm_mil_param p, bool *v)
{
    const anm_mil_value *arg = anm_mil_arg_of(r->op, p);
    if (!arg || anm_mil_get_bool(arg, v)) return 0;
    return FAIL(r, "%s is not a constant bool", anm_mil_param_name(p));
}

/* A constant list of integers; `*n` is set to -1 when it is left out. */
static int const_ints(rule *r, anm_mil_param p, int64_t *v, int max, int *n)
{
    const anm_mil_value *arg = anm_mil_arg_of(r->op, p);
    *n = -1;
    if (!arg || (arg->type.rank <= 1 && anm_mil_get_i64s(arg, v, max, n))) return 0;
    return FAIL(r, "%s is not a constant list of at most %d integers", anm_mil_param_name(p), max);
}

/* A constant list of one bool per dimension; all false when it is left out. */
static int const_mask(rule *r, anm_mil_param p, int rank, bool *v)
{
    const anm_mil_value *arg = anm_mil_arg_of(r->op, p);
    for (int i = 0; i < rank; i++)
        v[i] = false;
    if (!arg) return 0;
    if (arg->type.dtype != ANM_DT_BOOL || arg->type.rank != 1 || arg->type.dim[0] != rank || !arg->constant ||
        !arg->constant->data || arg->constant->size < (uint64_t)rank)
        return FAIL(r, "%s is not a constant list of %d bools", anm_mil_param_name(p), rank);
    for (int i = 0; i < rank; i++)
        v[i] = arg->constant->data[i] != 0;
    return 0;
}

/* An axis into `rank` dimensions, counted from the end when negative. */
static int fix_axis(rule *r, int64_t *axis, int rank)
{
    if (*axis < -rank || *axis >= rank)
        return FAIL(r, "axis %lld of a tensor of rank %d", (long long)*axis, rank);
    if (*axis < 0) *axis += rank;
    return 0;
}

/* A list of different axes as a set; no list: all when `all`, else none. */
static int const_axes(rule *r, anm_mil_param p, int rank, bool all, bool set[MAX_RANK])
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
static bool same_dim(int64_t a, int64_t b, int64_t *out)
{
    *out = a == UNKNOWN ? b : a;
    return a == b || a == UNKNOWN || b == UNKNOWN;
}

static bool broadcast_dim(int64_t a, int64_t b, int64_t *out)
{
    if (a == 1 || b == 1) {
        *out = a == 1 ? b : a;
        return true;
    }
    return same_dim(a, b, out);
}

/* The shape of `t` and `u` broadcast from their last dimensions on; `t` and `out` may be the same. */
static int broadcast(rule *r, anm_mil_type *out, const anm_mil_type *t, const anm_mil_type *u)
{
    anm_mil_type made = {.dtype = out->dtype, .rank = t->rank > u->rank ? t->rank : u->rank};
    if (t->rank == u->rank && !memcmp(t->dim, u->dim, (size_t)t->rank * sizeof *t->dim)) { /* as they nearly always are */
        memcpy(made.dim, t->dim, (size_t)t->rank * sizeof *t->dim);
        *out = made;
        return 0;
    }
    for (int i = 0; i < made.rank; i++) {
        int it = i - (made.rank - t->rank), iu = i - (made.rank - u->rank);
        int64_t a = it < 0 ? 1 : t->dim[it], b = iu < 0 ? 1 : u->dim[iu];
        if (!broadcast_dim(a, b, &made.dim[i])) {
            char x[160], y[160];
            return FAIL(r, "%s and %s do not broadcast", anm_mil_type_print(t, x, sizeof x),
                        anm_mil_type_print(u, y, sizeof y));
        }
    }
    *out = made;
    return 0;
}

static int insert_dim(rule *r, anm_mil_type *t, int at, int64_t dim)
{
    if (t->rank == MAX_RANK) return FAIL(r, "the result has more than %d dimensions", MAX_RANK);
    for (int i = t->rank++; i > at; i--)
        t->dim[i] = t->dim[i - 1];
    t->dim[at] = dim;
    return 0;
}

static void drop_dim(anm_mil_type *t, int at)
{
    t->rank--;
    for (int i = at; i < t->rank; i++)
        t->dim[i] = t->dim[i + 1];
    t->dim[t->rank] = 0;
}

/* ---- elementwise ---- */

static int infer_binary(rule *r)
{
    bool real = r->op->code == ANM_OP_REAL_DIV || r->op->code == ANM_OP_POW;
    if (want(r, ANM_P_X, real ? floats : numbers) || want_same(r, ANM_P_X, ANM_P_Y)) return -1;
    r->out->dtype = type_of(r, ANM_P_X)->dtype;
    return broadcast(r, r->out, type_of(r, ANM_P_X), type_of(r, ANM_P_Y));
}

static int infer_compare(rule *r)
{
    if (want(r, ANM_P_X, numbers) || want_same(r, ANM_P_X, ANM_P_Y)) return -1;
    r->out->dtype = ANM_DT_BOOL;
    return broadcast(r, r->out, type_of(r, ANM_P_X), type_of(r, ANM_P_Y));
}

static int infer_select(rule *r)
{
    static const anm_dtype flag[] = {ANM_DT_BOOL, ANM_DT_NONE};
    if (want(r, ANM_P_COND, flag) || want(r, ANM_P_A, plain) || want_same(r, ANM_P_A, ANM_P_B)) return -1;
    r->out->dtype = type_of(r, ANM_P_A)->dtype;
    if (broadcast(r, r->out, type_of(r, ANM_P_A), type_of(r, ANM_P_B))) return -1;
    return broadcast(r, r->out, r->out, type_of(r, ANM_P_COND));
}

static int infer_cast(rule *r)
{
    const char *s;
    size_t n;
    if (want(r, ANM_P_X, plain)) return -1;
    if (!anm_mil_get_string(anm_mil_arg_of(r->op, ANM_P_DTYPE), &s, &n))
        return FAIL(r, "dtype is not a constant string");
    *r->out = *type_of(r, ANM_P_X);
    for (const anm_dtype *t = plain; *t; t++) {
        const char *name = anm_dtype_name(*t);
        if (strlen(name) != n || memcmp(name, s, n) != 0) continue;
        r->out->dtype = *t;
        return 0;
    }
    return FAIL(r, "cast to \"%.*s\"", n > 32 ? 32 : (int)n, s);
}

static int infer_unary(rule *r)
{
    anm_mil_opcode code = r->op->code;
    bool any = code == ANM_OP_IDENTITY, ints = code == ANM_OP_ABS || code == ANM_OP_SQUARE;
    if (want(r, ANM_P_X, any ? plain : ints ? numbers : floats)) return -1;
    const anm_mil_value *epsilon = anm_mil_arg_of(r->op, ANM_P_EPSILON),
                        *mode = anm_mil_arg_of(r->op, ANM_P_MODE);
    float e;
    if (epsilon && !anm_mil_get_f32(epsilon, &e)) return FAIL(r, "epsilon is not a constant number");
    if (mode) {
        static const char *const modes[] = {"EXACT", "TANH_APPROXIMATION", "SIGMOID_APPROXIMATION"};
        const char *s;
        size_t n;
        bool ok = false;
        if (!anm_mil_get_string(mode, &s, &n)) return FAIL(r, "mode is not a constant string");
        for (int i = 0; i < 3; i++)
            ok = ok || (strlen(modes[i]) == n && memcmp(modes[i], s, n) == 0);
        if (!ok) return FAIL(r, "mode \"%.*s\"", n > 32 ? 32 : (int)n, s);
    }
    *r->out = *type_of(r, ANM_P_X);
    return 0;
}

static int infer_softmax(rule *r)
{
    int64_t axis = -1;
    if (want(r, ANM_P_X, floats) || const_int(r, ANM_P_AXIS, &axis)) return -1;
    *r->out = *type_of(r, ANM_P_X);
    return fix_axis(r, &axis, r->out->rank);
}

static int infer_reduce(rule *r)
{
    anm_mil_opcode code = r->op->code;
    bool keep = false, set[MAX_RANK], real = code == ANM_OP_REDUCE_MEAN || code == ANM_OP_REDUCE_L2_NORM;
    if (want(r, ANM_P_X, real ? floats : numbers) || const_bool(r, ANM_P_KEEP_DIMS, &keep)) return -1;
    *r->out = *type_of(r, ANM_P_X);
    if (const_axes(r, ANM_P_AXES, r->out->rank, true, set)) return -1;
    for (int i = r->out->rank - 1; i >= 0; i--) {
        if (!set[i]) continue;
        if (keep)
            r->out->dim[i] = 1;
        else
            drop_dim(r->out, i);
    }
    return 0;
}

/* ---- products ---- */

static int infer_linear(rule *r)
{
    const anm_mil_type *x = type_of(r, ANM_P_X), *w = type_of(r, ANM_P_WEIGHT), *b = type_if(r, ANM_P_BIAS);
    int64_t k;
    if (want(r, ANM_P_X, floats) || want(r, ANM_P_WEIGHT, floats) || (b && want(r, ANM_P_BIAS, floats)))
        return -1;
    if (x->rank < 1) return FAIL(r, "x is a scalar");
    if (w->rank != 2) return FAIL(r, "weight has rank %d, not 2", (int)w->rank);
    if (!same_dim(x->dim[x->rank - 1], w->dim[1], &k))
        return FAIL(r, "x has %lld columns, weight %lld", (long long)x->dim[x->rank - 1],
                    (long long)w->dim[1]);
    if (b && (b->rank != 1 || !same_dim(b->dim[0], w->dim[0], &k)))
        return FAIL(r, "bias is not a list of the weight's %lld rows", (long long)w->dim[0]);
    *r->out = *x;
    r->out->dim[x->rank - 1] = w->dim[0];
    return 0;
}

/* The shape of matmul: a 1-D operand counts as a row (x) or a column (y) that the result loses again. */
static int infer_matmul(rule *r)
{
    anm_mil_type x = *type_of(r, ANM_P_X), y = *type_of(r, ANM_P_Y);
    bool tx = false, ty = false, row = x.rank == 1, column = y.rank == 1;
    int64_t k;
    if (want(r, ANM_P_X, floats) || want_same(r, ANM_P_X, ANM_P_Y)) return -1;
    if (const_bool(r, ANM_P_TRANSPOSE_X, &tx) || const_bool(r, ANM_P_TRANSPOSE_Y, &ty)) return -1;
    if (!x.rank || !y.rank) return FAIL(r, "%s is a scalar", x.rank ? "y" : "x");
    if (row && insert_dim(r, &x, 0, 1)) return -1;
    if (column && insert_dim(r, &y, 1, 1)) return -1;
    int64_t *m = &x.dim[x.rank - 2], *n = &y.dim[y.rank - 1], *kx = &x.dim[x.rank - 1],
            *ky = &y.dim[y.rank - 2];
    if (tx && !row) {
        kx = &x.dim[x.rank - 2];
        m = &x.dim[x.rank - 1];
    }
    if (ty && !column) {
        ky = &y.dim[y.rank - 1];
        n = &y.dim[y.rank - 2];
    }
    if (!same_dim(*kx, *ky, &k))
        return FAIL(r, "x has %lld columns but y %lld rows", (long long)*kx, (long long)*ky);
    anm_mil_type bx = x, by = y;
    bx.rank -= 2;
    by.rank -= 2;
    r->out->dtype = x.dtype;
    if (broadcast(r, r->out, &bx, &by)) return -1;
    if (!row && insert_dim(r, r->out, r->out->rank, *m)) return -1;
    if (!column && insert_dim(r, r->out, r->out->rank, *n)) return -1;
    return 0;
}

/* query [B…, L, E], key [B…, S, E], value [B…, S, F], attn_mask broadcast to [B…, L, S] -> [B…, L, F] */
static int infer_attention(rule *r)
{
    static const anm_dtype masks[] = {ANM_DT_BOOL, ANM_DT_F16, ANM_DT_F32, ANM_DT_NONE};
    const anm_mil_type *q = type_of(r, ANM_P_QUERY), *k = type_of(r, ANM_P_KEY), *v = type_of(r, ANM_P_VALUE),
                       *mask = type_if(r, ANM_P_ATTN_MASK);
    int64_t embed, keys;
    if (want(r, ANM_P_QUERY, floats) || want_same(r, ANM_P_QUERY, ANM_P_KEY) ||
        want_same(r, ANM_P_QUERY, ANM_P_VALUE))
        return -1;
    if (q->rank < 3 || q->rank != k->rank || q->rank != v->rank)
        return FAIL(r, "query, key and value have ranks %d, %d and %d", (int)q->rank, (int)k->rank,
                    (int)v->rank);
    int n = q->rank;
    *r->out = *q;
    for (int i = 0; i < n - 2; i++) {
        int64_t *d = &r->out->dim[i];
        if (!same_dim(*d, k->dim[i], d) || !same_dim(*d, v->dim[i], d))
            return FAIL(r, "query, key and value differ in dimension %d", i);
    }
    if (!same_dim(q->dim[n - 1], k->dim[n - 1], &embed))
        return FAIL(r, "query has %lld columns, key %lld", (long long)q->dim[n - 1],
                    (long long)k->dim[n - 1]);
    if (!same_dim(k->dim[n - 2], v->dim[n - 2], &keys))
        return FAIL(r, "key has %lld rows, value %lld", (long long)k->dim[n - 2], (long long)v->dim[n - 2]);
    if (mask) {
        if (want(r, ANM_P_ATTN_MASK, masks)) return -1;
        anm_mil_type scores = *r->out, both;
        scores.dim[n - 1] = keys;
        both = scores;
        if (mask->rank > n || broadcast(r, &both, &scores, mask)) return FAIL(r, "attn_mask does not fit");
        for (int i = 0; i < n; i++)
            if (scores.dim[i] != UNKNOWN && both.dim[i] != scores.dim[i])
                return FAIL(r, "attn_mask is larger than the scores in dimension %d", i);
    }
    r->out->dim[n - 1] = v->dim[n - 1];
    return 0;
}

/* ---- shapes ---- */

/* A list argument that gives one number per dimension of the result, constant or computed: its length, and
 * its values when they are constant (`*known`). */
static int dim_list(rule *r, anm_mil_param p, int64_t *v, int *n, bool *known)
{
    const anm_mil_value *arg = anm_mil_arg_of(r->op, p);
    const char *name = anm_mil_param_name(p);
    if (!one_of(arg->type.dtype, indices) || arg->type.rank != 1)
        return FAIL(r, "%s is not a list of integers", name);
    if (arg->type.dim[0] == UNKNOWN) return FAIL(r, "%s has an unknown length", name);
    if (arg->type.dim[0] < 0 || arg->type.dim[0] > MAX_RANK)
        return FAIL(r, "%s has %lld entries, more than %d", name, (long long)arg->type.dim[0], MAX_RANK);
    *n = (int)arg->type.dim[0];
    *known = anm_mil_get_i64s(arg, v, MAX_RANK, n);
    if (!*known && arg->constant) return FAIL(r, "%s is a constant whose values are not at hand", name);
    return 0;
}

/* In `shape`, 0 copies x's dimension, and one -1 takes what is left. */
static int infer_reshape(rule *r)
{
    const anm_mil_type *x = type_of(r, ANM_P_X);
    int64_t dim[MAX_RANK], rest = 1, total;
    int n, open = -1;
    bool known, sure = true;
    if (want(r, ANM_P_X, plain) || dim_list(r, ANM_P_SHAPE, dim, &n, &known)) return -1;
    *r->out = (anm_mil_type){.dtype = x->dtype, .rank = n};
    for (int i = 0; i < n; i++) {
        int64_t d = known ? dim[i] : UNKNOWN;
        if (known && d == 0) {
            if (n != x->rank) return FAIL(r, "shape has a 0 but not the rank of x");
            d = x->dim[i];
        } else if (known && d == -1) {
            if (open >= 0) return FAIL(r, "shape has -1 twice");
            open = i;
        } else if (known && d < 0) {
            return FAIL(r, "shape has the dimension %lld", (long long)d);
        }
        r->out->dim[i] = d;
        if (i == open) continue;
        if (d == UNKNOWN)
            sure = false;
        else if (!anm_mul_i64(rest, d, &rest))
            return FAIL(r, "shape is too large");
    }
    if (!sure || !anm_mil_type_count(x, &total)) return 0;
    if (open >= 0 && rest > 0 && total % rest == 0) {
        r->out->dim[open] = total / rest;
        return 0;
    }
    if (open >= 0 || rest != total) {
        char a[160], b[160];
        return FAIL(r, "%s cannot become %s", anm_mil_type_print(x, a, sizeof a),
                    anm_mil_type_print(r->out, b, sizeof b));
    }
    return 0;
}

static int infer_transpose(rule *r)
{
    const anm_mil_type *x = type_of(r, ANM_P_X);
    int64_t perm[MAX_RANK];
    int n;
    bool set[MAX_RANK] = {false};
    if (want(r, ANM_P_X, plain) || const_ints(r, ANM_P_PERM, perm, MAX_RANK, &n)) return -1;
    if (n != x->rank) return FAIL(r, "perm has %d entries for rank %d", n, (int)x->rank);
    *r->out = *x;
    for (int i = 0; i < n; i++) {
        if (fix_axis(r, &perm[i], n)) return -1;
        if (set[perm[i]]) return FAIL(r, "perm names axis %lld twice", (long long)perm[i]);
        set[perm[i]] = true;
        r->out->dim[i] = x->dim[perm[i]];
    }
    return 0;
}

/* Without axes every dimension that is known to be 1 goes. */
static int infer_squeeze(rule *r)
{
    bool set[MAX_RANK], all = !anm_mil_arg_of(r->op, ANM_P_AXES);
    if (want(r, ANM_P_X, plain)) return -1;
    *r->out = *type_of(r, ANM_P_X);
    if (const_axes(r, ANM_P_AXES, r->out->rank, false, set)) return -1;
    for (int i = r->out->rank - 1; i >= 0; i--) {
        int64_t d = r->out->dim[i];
        if (all ? d != 1 : !set[i]) continue;
        if (d != 1 && d != UNKNOWN) return FAIL(r, "dimension %d is %lld, not 1", i, (long long)d);
        drop_dim(r->out, i);
    }
    return 0;
}

/* The axes count in the result. */
static int infer_expand_dims(rule *r)
{
    int64_t axes[MAX_RANK];
    int n;
    bool set[MAX_RANK];
    if (want(r, ANM_P_X, plain) || const_ints(r, ANM_P_AXES, axes, MAX_RANK, &n)) return -1;
    *r->out = *type_of(r, ANM_P_X);
    int rank = r->out->rank + n;
    if (rank > MAX_RANK) return FAIL(r, "the result has more than %d dimensions", MAX_RANK);
    if (const_axes(r, ANM_P_AXES, rank, false, set)) return -1;
    for (int i = 0; i < rank; i++)
        if (set[i] && insert_dim(r, r->out, i, 1)) return -1;
    return 0;
}

static int infer_tile(rule *r)
{
    int64_t reps[MAX_RANK];
    int n;
    bool known;
    if (want(r, ANM_P_X, plain) || dim_list(r, ANM_P_REPS, reps, &n, &known)) return -1;
    *r->out = *type_of(r, ANM_P_X);
    if (n != r->out->rank) return FAIL(r, "reps has %d entries for rank %d", n, (int)r->out->rank);
    for (int i = 0; i < n; i++) {
        int64_t *d = &r->out->dim[i];
        if (!known) {
            *d = UNKNOWN;
            continue;
        }
        if (reps[i] < 1) return FAIL(r, "reps has the entry %lld", (long long)reps[i]);
        if (*d != UNKNOWN && !anm_mul_i64(*d, reps[i], d)) return FAIL(r, "the result is too large");
    }
    return 0;
}

/* Do all `values` have the type and rank of the first, and its dimensions but for `axis`? `out` is their
 * common type. */
static int list_type(rule *r, const anm_mil_arg *values, int64_t axis, anm_mil_type *out)
{
    *out = values->value[0]->type;
    for (uint32_t v = 0; v < values->count; v++) {
        const anm_mil_type *t = &values->value[v]->type;
        bool fits = t->dtype == out->dtype && t->rank == out->rank && one_of(t->dtype, plain);
        for (int i = 0; fits && i < t->rank; i++)
            if (i != axis && !same_dim(out->dim[i], t->dim[i], &out->dim[i])) fits = false;
        if (!fits) {
            char a[160], b[160];
            return FAIL(r, "value %lu is %s beside %s", (unsigned long)v, anm_mil_type_print(t, a, sizeof a),
                        anm_mil_type_print(out, b, sizeof b));
        }
    }
    return 0;
}

/* Scalars make a list. */
static int infer_concat(rule *r)
{
    const anm_mil_arg *values = anm_mil_args_of(r->op, ANM_P_VALUES);
    int64_t axis = 0, sum = 0;
    bool interleave = false;
    int rank = values->value[0]->type.rank;
    if (const_int(r, ANM_P_AXIS, &axis) || fix_axis(r, &axis, rank ? rank : 1)) return -1;
    if (const_bool(r, ANM_P_INTERLEAVE, &interleave)) return -1;
    if (list_type(r, values, interleave ? -1 : axis, r->out)) return -1;
    for (uint32_t v = 0; v < values->count && sum != UNKNOWN; v++) {
        int64_t d = rank ? values->value[v]->type.dim[axis] : 1;
        if (d == UNKNOWN)
            sum = UNKNOWN;
        else if (__builtin_add_overflow(sum, d, &sum))
            return FAIL(r, "the result is too large");
    }
    if (!rank) r->out->rank = 1;
    r->out->dim[axis] = sum;
    return 0;
}

static int infer_stack(rule *r)
{
    const anm_mil_arg *values = anm_mil_args_of(r->op, ANM_P_VALUES);
    int64_t axis = 0;
    if (list_type(r, values, -1, r->out)) return -1;
    if (const_int(r, ANM_P_AXIS, &axis) || fix_axis(r, &axis, r->out->rank + 1)) return -1;
    return insert_dim(r, r->out, (int)axis, values->count);
}

static int infer_split(rule *r)
{
    const anm_mil_type *x = type_of(r, ANM_P_X);
    const anm_mil_value *list = anm_mil_arg_of(r->op, ANM_P_SPLIT_SIZES);
    int64_t axis = 0, parts = -1, sum = 0;
    if (want(r, ANM_P_X, plain) || const_int(r, ANM_P_AXIS, &axis) || fix_axis(r, &axis, x->rank)) return -1;
    if (const_int(r, ANM_P_NUM_SPLITS, &parts)) return -1;
    if (list && list->type.rank == 1 && parts < 0) parts = list->type.dim[0];
    if (parts < 1) return FAIL(r, "neither num_splits nor split_sizes");
    if (parts > MAX_SPLITS) return FAIL(r, "more than %d parts", MAX_SPLITS);
    if (parts != r->op->n_outs)
        return FAIL(r, "%lld parts but %lu results", (long long)parts, (unsigned long)r->op->n_outs);
    int64_t whole = x->dim[axis], sizes[MAX_SPLITS];
    if (list) {
        int n;
        if (const_ints(r, ANM_P_SPLIT_SIZES, sizes, MAX_SPLITS, &n)) return -1;
        if (n != parts) return FAIL(r, "%d split_sizes for %lld parts", n, (long long)parts);
    }
    for (int64_t i = 0; i < parts; i++) {
        int64_t part = list ? sizes[i] : whole == UNKNOWN ? UNKNOWN : whole / parts;
        if (list && (part < 0 || __builtin_add_overflow(sum, part, &sum)))
            return FAIL(r, "split_sizes has the entry %lld", (long long)part);
        r->out[i] = *x;
        r->out[i].dim[axis] = part;
    }
    if (whole != UNKNOWN && (list ? sum != whole : whole % parts != 0))
        return FAIL(r, "dimension %lld does not split as asked", (long long)whole);
    return 0;
}

bool anm_mil_slice_dim(const anm_mil_slice *s, int64_t dim, int64_t *first, int64_t *count)
{
    int64_t step = s->squeeze ? 1 : s->stride;
    bool up = step > 0;
    int64_t begin = s->begin, end = s->end;
    if (begin < 0) begin += dim;
    if (s->begin_mask) begin = up ? 0 : dim - 1;
    if (s->squeeze) {
        *first = begin;
        *count = 1;
        return begin >= 0 && begin < dim;
    }
    if (end < 0) end = end + dim < 0 ? 0 : end + dim;
    if (s->end_mask) end = up ? dim : -1;
    if (begin < 0) begin = 0;
    if (up && end > dim) end = dim;
    if (!up && begin > dim - 1) begin = dim - 1;
    int64_t span = up ? end - begin : begin - end, size = up ? step : -step;
    *first = begin;
    *count = span > 0 ? (span - 1) / size + 1 : 0;
    return true;
}

/* What is known of one sliced dimension when x's dimension, begin or end may not be. */
static int64_t slice_unknown(const anm_mil_slice *s, bool begin_known, bool end_known, int64_t dim)
{
    if (s->begin_mask && s->end_mask && (s->stride == 1 || s->stride == -1)) return dim;
    if (dim == 1) return 1;
    if (!s->begin_mask && !s->end_mask && begin_known && end_known && (s->begin < 0) == (s->end < 0)) {
        if (s->stride == 1 && s->end - s->begin == 1) return 1;
        if (s->stride == -1 && s->begin - s->end == 1) return 1;
    }
    if (!s->begin_mask && begin_known && s->end_mask && s->begin == -1 && s->stride > 0) return 1;
    if (!s->begin_mask && begin_known && s->end_mask && s->begin == 0 && s->stride < 0) return 1;
    return UNKNOWN;
}

static int infer_slice_by_index(rule *r)
{
    const anm_mil_type *x = type_of(r, ANM_P_X);
    int64_t begin[MAX_RANK], end[MAX_RANK], stride[MAX_RANK];
    bool bm[MAX_RANK], em[MAX_RANK], sm[MAX_RANK], has_begin, has_end;
    int rank = x->rank, nb, ne, ns;
    if (want(r, ANM_P_X, plain)) return -1;
    if (dim_list(r, ANM_P_BEGIN, begin, &nb, &has_begin) || dim_list(r, ANM_P_END_INDEX, end, &ne, &has_end))
        return -1;
    if (const_ints(r, ANM_P_STRIDE, stride, MAX_RANK, &ns)) return -1;
    if (nb != rank || ne != rank || (ns >= 0 && ns != rank))
        return FAIL(r, "begin, end and stride have %d, %d and %d entries for rank %d", nb, ne,
                    ns < 0 ? rank : ns, rank);
    if (const_mask(r, ANM_P_BEGIN_MASK, rank, bm) || const_mask(r, ANM_P_END_MASK, rank, em) ||
        const_mask(r, ANM_P_SQUEEZE_MASK, rank, sm))
        return -1;
    *r->out = (anm_mil_type){.dtype = x->dtype};
    for (int i = 0; i < rank; i++) {
        anm_mil_slice s = {.begin = has_begin ? begin[i] : 0,
                           .end = has_end ? end[i] : 0,
                           .stride = ns < 0 ? 1 : stride[i],
                           .begin_mask = bm[i],
                           .end_mask = em[i],
                           .squeeze = sm[i]};
        bool sure = x->dim[i] != UNKNOWN && (has_begin || bm[i]) && (has_end || em[i] || sm[i]);
        int64_t first, count = UNKNOWN;
        if (s.stride == 0 || s.stride < -INT32_MAX || s.stride > INT32_MAX)
            return FAIL(r, "stride %lld in dimension %d", (long long)s.stride, i);
        if (sure && !anm_mil_slice_dim(&s, x->dim[i], &first, &count))
            return FAIL(r, "index %lld in dimension %d of size %lld", (long long)s.begin, i,
                        (long long)x->dim[i]);
        if (!sure) count = slice_unknown(&s, has_begin, has_end, x->dim[i]);
        if (!sm[i]) r->out->dim[r->out->rank++] = count;
    }
    return 0;
}

/* A size of -1 takes all from `begin` on. */
static int infer_slice_by_size(rule *r)
{
    const anm_mil_type *x = type_of(r, ANM_P_X);
    int64_t begin[MAX_RANK], size[MAX_RANK];
    int nb, ns;
    bool has_begin, has_size;
    if (want(r, ANM_P_X, plain)) return -1;
    if (dim_list(r, ANM_P_BEGIN, begin, &nb, &has_begin) || dim_list(r, ANM_P_SIZE, size, &ns, &has_size))
        return -1;
    if (nb != x->rank || ns != x->rank)
        return FAIL(r, "begin and size have %d and %d entries for rank %d", nb, ns, (int)x->rank);
    *r->out = *x;
    for (int i = 0; i < x->rank; i++) {
        int64_t dim = x->dim[i], b = has_begin ? begin[i] : 0, n = has_size ? size[i] : UNKNOWN;
        if (has_size && n < -1) return FAIL(r, "size %lld in dimension %d", (long long)n, i);
        if (has_begin && b < 0 && dim != UNKNOWN) b += dim;
        if (has_begin && dim != UNKNOWN && (b < 0 || b > dim || n > dim - b))
            return FAIL(r, "elements %lld and %lld more of a dimension of %lld", (long long)b, (long long)n,
                        (long long)dim);
        if (has_size && n == -1 && has_begin && dim != UNKNOWN) n = dim - b;
        r->out->dim[i] = n;
    }
    return 0;
}

/* x [A…, axis, Z…] by indices [I…] -> [A…, I…, Z…]; with batch_dims, the first of A… and of I… run side by
 * side. */
static int infer_gather(rule *r)
{
    const anm_mil_type *x = type_of(r, ANM_P_X), *ids = type_of(r, ANM_P_INDICES);
    int64_t axis = 0, batch = 0;
    bool validate = false;
    if (want(r, ANM_P_X, plain) || want(r, ANM_P_INDICES, indices)) return -1;
    if (const_int(r, ANM_P_AXIS, &axis) || fix_axis(r, &axis, x->rank)) return -1;
    if (const_int(r, ANM_P_BATCH_DIMS, &batch) || const_bool(r, ANM_P_VALIDATE_INDICES, &validate)) return -1;
    if (batch < 0 || batch > axis || batch > ids->rank)
        return FAIL(r, "batch_dims %lld beside axis %lld", (long long)batch, (long long)axis);
    if (x->rank - 1 + ids->rank - batch > MAX_RANK)
        return FAIL(r, "the result has more than %d dimensions", MAX_RANK);
    *r->out = (anm_mil_type){.dtype = x->dtype};
    for (int i = 0; i < axis; i++) {
        int64_t d = x->dim[i];
        if (i < batch && !same_dim(d, ids->dim[i], &d))
            return FAIL(r, "x and indices differ in batch dimension %d", i);
        r->out->dim[r->out->rank++] = d;
    }
    for (int i = (int)batch; i < ids->rank; i++)
        r->out->dim[r->out->rank++] = ids->dim[i];
    for (int i = (int)axis + 1; i < x->rank; i++)
        r->out->dim[r->out->rank++] = x->dim[i];
    return 0;
}

static int infer_shape(rule *r)
{
    if (want(r, ANM_P_X, plain)) return -1;
    *r->out = (anm_mil_type){.dtype = ANM_DT_I32, .rank = 1, .dim = {type_of(r, ANM_P_X)->rank}};
    return 0;
}

/* ---- constants in few bits ---- */

static int infer_blockwise(rule *r)
{
    static const anm_dtype codes[] = {ANM_DT_I4, ANM_DT_U4, ANM_DT_I8, ANM_DT_U8, ANM_DT_NONE};
    const anm_mil_type *data = type_of(r, ANM_P_DATA), *scale = type_of(r, ANM_P_SCALE),
                       *offset = type_if(r, ANM_P_OFFSET);
    if (want(r, ANM_P_DATA, codes) || want(r, ANM_P_SCALE, floats)) return -1;
    for (uint32_t a = 0; a < r->op->n_args; a++)
        if (!r->op->args[a].value[0]->constant)
            return FAIL(r, "%s is not a constant", anm_mil_param_name(r->op->args[a].param));
    if (!data->rank || data->rank != scale->rank)
        return FAIL(r, "data has rank %d, scale %d", (int)data->rank, (int)scale->rank);
    for (int i = 0; i < data->rank; i++)
        if (data->dim[i] < 1 || scale->dim[i] < 1 || data->dim[i] % scale->dim[i] != 0)
            return FAIL(r, "dimension %d: %lld values do not share %lld scales", i, (long long)data->dim[i],
                        (long long)scale->dim[i]);
    if (offset) {
        if (!one_of(offset->dtype, floats) && want_same(r, ANM_P_OFFSET, ANM_P_DATA)) return -1;
        anm_mil_type as_scale = *offset;
        as_scale.dtype = scale->dtype;
        if (!anm_mil_type_equal(&as_scale, scale)) return FAIL(r, "offset has not the shape of scale");
    }
    *r->out = *data;
    r->out->dtype = scale->dtype;
    return 0;
}

/* ---- the way in ---- */

/* The arguments are as ops.def says and in its order, as they nearly always are: then nothing else has to be looked for. */
static bool in_order(const anm_mil_op *op, const anm_mil_slot *slots, int n)
{
    uint32_t a = 0;
    for (int s = 0; s < n; s++) {
        const anm_mil_arg *arg = a < op->n_args ? &op->args[a] : NULL;
        if (!arg || arg->param != slots[s].param) {
            if (!slots[s].optional) return false;
            continue;
        }
        if (!arg->count || (arg->count > 1 && !slots[s].list)) return false;
        for (uint32_t i = 0; i < arg->count; i++)
            if (!anm_mil_type_sane(&arg->value[i]->type)) return false;
        a++;
    }
    return a == op->n_args;
}

/* What is wrong with the arguments, if anything. */
static int check_arguments(const anm_mil_op *op, const anm_mil_slot *slots, int n, anm_error *err)
{
    const char *name = anm_mil_op_name(op->code);
    for (int s = 0; s < n; s++)
        if (!slots[s].optional && !anm_mil_arg_of(op, slots[s].param))
            return anm_fail(err, ANM_ERR_FORMAT, "%s: %s is missing", name,
                            anm_mil_param_name(slots[s].param));
    for (uint32_t a = 0; a < op->n_args; a++) {
        const anm_mil_arg *arg = &op->args[a];
        int s = 0;
        while (s < n && slots[s].param != arg->param)
            s++;
        const char *p =
            arg->param == ANM_P_END && arg->foreign ? arg->foreign : anm_mil_param_name(arg->param);
        if (s == n) return anm_fail(err, ANM_ERR_FORMAT, "%s: it has no parameter %s", name, p);
        if (anm_mil_args_of(op, arg->param) != arg)
            return anm_fail(err, ANM_ERR_FORMAT, "%s: %s is given twice", name, p);
        if (!arg->count || (arg->count > 1 && !slots[s].list))
            return anm_fail(err, ANM_ERR_FORMAT, "%s: %s has %lu values", name, p, (unsigned long)arg->count);
        for (uint32_t i = 0; i < arg->count; i++)
            if (!anm_mil_type_sane(&arg->value[i]->type))
                return anm_fail(err, ANM_ERR_FORMAT, "%s: the type of %s is malformed", name, p);
    }
    return 0;
}

int anm_mil_infer(anm_mil_type *outs, const anm_mil_op *op, anm_error *err)
{
    static int (*const rules[ANM_OP_COUNT])(rule *) = {
        NULL,
#define ANM_OP(id, name, params, rule) infer_##rule,
#include "mil/ops.def"
#undef ANM_OP
    };
    const anm_mil_slot *slots;
    const char *name = anm_mil_op_name(op->code);
    anm_error why; /* what a rule says of itself, if one fails */
    rule r = {.op = op, .out = outs, .err = &why};

    if (op->code == ANM_OP_FOREIGN || (unsigned)op->code >= ANM_OP_COUNT)
        return anm_fail(err, ANM_ERR_UNSUPPORTED, "%s: an op that anemone does not know",
                        op->foreign ? op->foreign : "?");
    int rc, n = anm_mil_op_slots(op->code, &slots);
    if (!in_order(op, slots, n) && (rc = check_arguments(op, slots, n, err))) return rc;
    if (op->n_outs != 1 && op->code != ANM_OP_SPLIT)
        return anm_fail(err, ANM_ERR_FORMAT, "%s: %lu results, not one", name, (unsigned long)op->n_outs);
    for (uint32_t i = 0; i < op->n_outs; i++)
        outs[i] = (anm_mil_type){.dtype = ANM_DT_NONE};
    if (rules[op->code](&r)) return anm_fail(err, why.code, "%s: %s", name, why.text);
    return 0;
}
