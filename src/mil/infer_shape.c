/* SPDX-License-Identifier: BSD-3-Clause */
/* The type rules of what moves elements and does not compute with them. */
#include "mil/infer.h"

enum { MAX_SPLITS = 4096 };

static const anm_dtype indices[] = {ANM_DT_I32, ANM_DT_I16, ANM_DT_U16, ANM_DT_I8, ANM_DT_U8, ANM_DT_NONE};

/* A constant list of one bool per dimension; all false when it is left out. */
static int const_mask(anm_rule *r, anm_mil_param p, int rank, bool *v)
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

/* A list argument that gives one number per dimension of the result, constant or computed: its length, and
 * its values when they are constant (`*known`). */
static int dim_list(anm_rule *r, anm_mil_param p, int64_t *v, int *n, bool *known)
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
int anm_infer_reshape(anm_rule *r)
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

int anm_infer_transpose(anm_rule *r)
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
int anm_infer_squeeze(anm_rule *r)
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
int anm_infer_expand_dims(anm_rule *r)
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

int anm_infer_tile(anm_rule *r)
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
static int list_type(anm_rule *r, const anm_mil_arg *values, int64_t axis, anm_mil_type *out)
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
int anm_infer_concat(anm_rule *r)
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

int anm_infer_stack(anm_rule *r)
{
    const anm_mil_arg *values = anm_mil_args_of(r->op, ANM_P_VALUES);
    int64_t axis = 0;
    if (list_type(r, values, -1, r->out)) return -1;
    if (const_int(r, ANM_P_AXIS, &axis) || fix_axis(r, &axis, r->out->rank + 1)) return -1;
    return insert_dim(r, r->out, (int)axis, values->count);
}

int anm_infer_split(anm_rule *r)
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

int anm_infer_slice_by_index(anm_rule *r)
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
int anm_infer_slice_by_size(anm_rule *r)
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
int anm_infer_gather(anm_rule *r)
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

int anm_infer_shape(anm_rule *r)
{
    if (want(r, ANM_P_X, plain)) return -1;
    *r->out = (anm_mil_type){.dtype = ANM_DT_I32, .rank = 1, .dim = {type_of(r, ANM_P_X)->rank}};
    return 0;
}
