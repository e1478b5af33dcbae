/* SPDX-License-Identifier: BSD-3-Clause */
/* The type rules of arithmetic: of each element, along axes, of products, and of constants in few bits. */
#include "mil/infer.h"

static bool broadcast_dim(int64_t a, int64_t b, int64_t *out)
{
    if (a == 1 || b == 1) {
        *out = a == 1 ? b : a;
        return true;
    }
    return same_dim(a, b, out);
}

/* The shape of `t` and `u` broadcast from their last dimensions on; `t` and `out` may be the same. */
static int broadcast(anm_rule *r, anm_mil_type *out, const anm_mil_type *t, const anm_mil_type *u)
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

/* ---- elementwise ---- */

int anm_infer_binary(anm_rule *r)
{
    bool real = r->op->code == ANM_OP_REAL_DIV || r->op->code == ANM_OP_POW;
    if (want(r, ANM_P_X, real ? floats : numbers) || want_same(r, ANM_P_X, ANM_P_Y)) return -1;
    r->out->dtype = type_of(r, ANM_P_X)->dtype;
    return broadcast(r, r->out, type_of(r, ANM_P_X), type_of(r, ANM_P_Y));
}

int anm_infer_compare(anm_rule *r)
{
    if (want(r, ANM_P_X, numbers) || want_same(r, ANM_P_X, ANM_P_Y)) return -1;
    r->out->dtype = ANM_DT_BOOL;
    return broadcast(r, r->out, type_of(r, ANM_P_X), type_of(r, ANM_P_Y));
}

int anm_infer_select(anm_rule *r)
{
    static const anm_dtype flag[] = {ANM_DT_BOOL, ANM_DT_NONE};
    if (want(r, ANM_P_COND, flag) || want(r, ANM_P_A, plain) || want_same(r, ANM_P_A, ANM_P_B)) return -1;
    r->out->dtype = type_of(r, ANM_P_A)->dtype;
    if (broadcast(r, r->out, type_of(r, ANM_P_A), type_of(r, ANM_P_B))) return -1;
    return broadcast(r, r->out, r->out, type_of(r, ANM_P_COND));
}

int anm_infer_cast(anm_rule *r)
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

int anm_infer_unary(anm_rule *r)
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

int anm_infer_softmax(anm_rule *r)
{
    int64_t axis = -1;
    if (want(r, ANM_P_X, floats) || const_int(r, ANM_P_AXIS, &axis)) return -1;
    *r->out = *type_of(r, ANM_P_X);
    return fix_axis(r, &axis, r->out->rank);
}

int anm_infer_reduce(anm_rule *r)
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

int anm_infer_linear(anm_rule *r)
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
int anm_infer_matmul(anm_rule *r)
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
int anm_infer_attention(anm_rule *r)
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

/* ---- constants in few bits ---- */

int anm_infer_blockwise(anm_rule *r)
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
