/* SPDX-License-Identifier: BSD-3-Clause */
/* anemone compare: two functions, and how far their weights are apart. */
#include "base/buf.h"
#include "base/bytes.h"
#include "cli/compare.h"
#include "cli/say.h"
#include "mil/element.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- tables ---- */

enum { TABLE_LEAST = 64 }; /* bytes */

/* A float's place among all floats of its type, so that neighbours differ by one. */
static int64_t ordinal(anm_dtype t, const uint8_t *p)
{
    int64_t bits = t == ANM_DT_F16 ? anm_ld16(p) : anm_ld32(p), sign = t == ANM_DT_F16 ? 0x8000 : 0x80000000;
    return bits & sign ? -(bits & (sign - 1)) : bits;
}

/* Looks like cosines or sines from position 0 on: within [-1, 1], beginning with 0 or 1, and not all small. */
static bool is_table(anm_dtype t, const uint8_t *p, uint64_t size)
{
    if ((t != ANM_DT_F16 && t != ANM_DT_F32) || size < TABLE_LEAST) return false;
    unsigned w = anm_dtype_bytes(t);
    float first = anm_mil_float_at(t, p, 0), most = 0;
    if (first != 0 && first != 1) return false;
    for (uint64_t i = 0; i < size; i += w) {
        float x = fabsf(anm_mil_float_at(t, p + i, 0));
        if (!(x <= 1)) return false;
        if (x > most) most = x;
    }
    return most > 0.8f;
}

/* Is each float of `a` that of `b`, or the next to it? */
static bool within_unit(anm_dtype t, const uint8_t *a, const uint8_t *b, uint64_t size)
{
    unsigned w = anm_dtype_bytes(t);
    for (uint64_t i = 0; i < size; i += w) {
        int64_t apart = ordinal(t, a + i) - ordinal(t, b + i);
        if (apart < -1 || apart > 1) return false;
    }
    return true;
}

cmp_bytes cmp_compare_bytes(anm_dtype t, const uint8_t *a, const uint8_t *b, uint64_t size)
{
    if (!size || memcmp(a, b, size) == 0) return CMP_SAME;
    if (!is_table(t, a, size) || !is_table(t, b, size)) return CMP_OTHER;
    return within_unit(t, a, b, size) ? CMP_ULP : CMP_OTHER;
}

/* Orders constants so that those of a size and type stand together, and among them those of the same bytes in the file. */
static int by_kind(const anm_mil_value *x, const anm_mil_value *y)
{
    const anm_blob *a = x->constant, *b = y->constant;
    if (a->size != b->size) return a->size < b->size ? -1 : 1;
    return x->type.dtype != y->type.dtype ? (x->type.dtype < y->type.dtype ? -1 : 1) : 0;
}

static int by_place(const void *a, const void *b)
{
    const anm_mil_value *x = *(anm_mil_value *const *)a, *y = *(anm_mil_value *const *)b;
    uintptr_t p = (uintptr_t)x->constant->data, q = (uintptr_t)y->constant->data;
    int kind = by_kind(x, y);
    return kind ? kind : p < q ? -1 : p > q;
}

/* How many from table[i] on are the same bytes of the file. */
static size_t run_of(anm_mil_value *const *table, size_t i, size_t n)
{
    size_t end = i + 1;
    while (end < n && by_place(&table[i], &table[end]) == 0) end++;
    return end - i;
}

/* The function's tables in that order, each value once, however often ops refer to it; NULL: no memory. */
static anm_mil_value **tables_of(const anm_mil_function *fn, size_t *n)
{
    anm_mil_value **table = calloc((size_t)fn->n_values + 1, sizeof *table);
    bool *seen = calloc((size_t)fn->n_values + 1, sizeof *seen);
    size_t found = 0;
    *n = 0;
    for (const anm_mil_op *op = fn->first; op && table && seen; op = op->next)
        for (uint32_t a = 0; a < op->n_args; a++)
            for (uint32_t i = 0; i < op->args[a].count; i++) {
                anm_mil_value *v = op->args[a].value[i];
                if (seen[v->id] || !v->constant || !v->constant->in_file || !v->constant->data) continue;
                seen[v->id] = true;
                table[found++] = v;
            }
    if (!table || !seen) {
        free(table);
        table = NULL;
    } else {
        qsort(table, found, sizeof *table, by_place);
        for (size_t i = 0, same; i < found; i += same) { /* a run is looked at once */
            same = run_of(table, i, found);
            const anm_mil_value *v = table[i];
            if (!is_table(v->type.dtype, v->constant->data, v->constant->size)) continue;
            memmove(table + *n, table + i, same * sizeof *table);
            *n += same;
        }
    }
    free(seen);
    return table;
}

/* The table of a[0 … n), all of the kind of b, that b stands for: its own bytes, or else the first that is a unit or less
 * away. NULL: none. Programs have a handful of a kind; no more than ALIKE are looked at. */
static const anm_mil_value *counterpart(anm_mil_value *const *a, size_t n, const anm_mil_value *b)
{
    enum { ALIKE = 64 };
    const anm_mil_value *near = NULL;
    const anm_blob *y = b->constant;
    for (size_t i = 0, looked = 0; i < n && looked < ALIKE; i += run_of(a, i, n), looked++) {
        const uint8_t *x = a[i]->constant->data;
        if (memcmp(x, y->data, y->size) == 0) return a[i];
        if (!near && within_unit(b->type.dtype, x, y->data, y->size)) near = a[i];
    }
    return near;
}

/* Where a table of B is one unit or less from one of A, B gets A's: what is then compared are the graphs. */
static int exchange_tables(anm_mil_function *fn_a, anm_mil_function *fn_b)
{
    size_t na, nb, from = 0, to = 0;
    anm_mil_value **a = tables_of(fn_a, &na), **b = tables_of(fn_b, &nb);
    int rc = a && b ? 0 : ANM_ERR_MEMORY;
    for (size_t i = 0, same; i < nb && !rc; i += same) {
        same = run_of(b, i, nb);
        while (from < na && by_kind(a[from], b[i]) < 0) from++;
        for (to = to < from ? from : to; to < na && by_kind(a[to], b[i]) == 0;) to++;
        const anm_mil_value *other = counterpart(a + from, to - from, b[i]);
        anm_blob *copy = other ? anm_arena_alloc(&fn_b->program->arena, sizeof *copy) : NULL;
        if (!other) continue;
        if (!copy) {
            rc = ANM_ERR_MEMORY;
            break;
        }
        *copy = *b[i]->constant;
        copy->data = other->constant->data;
        for (size_t k = 0; k < same; k++) b[i + k]->constant = copy;
    }
    free(a);
    free(b);
    return rc;
}

/* ---- weights ---- */

/* Element i of a constant as a number. */
static double element(anm_dtype t, const uint8_t *p, uint64_t i)
{
    return anm_dtype_class(t) == 'f' ? anm_mil_float_at(t, p, (int64_t)i) : (double)anm_mil_int_at(t, p, (int64_t)i);
}

typedef struct distance {
    double apart, norm; /* sums of squares: of the differences, of A's values */
} distance;

static double relative(distance d)
{
    return d.norm > 0 ? sqrt(d.apart / d.norm) : d.apart > 0 ? INFINITY : 0;
}

/* Notes a constant that differs and says how. */
static void differ_constant(cmp_report *r, const char *where, const anm_mil_op *op, const anm_mil_arg *arg,
                            const anm_mil_value *a, const anm_mil_value *b)
{
    char type[120];
    int64_t n = 0, apart = 0;
    double most = 0;
    distance d = {0};
    if (!anm_mil_type_equal(&a->type, &b->type) || a->type.dtype == ANM_DT_STRING) return; /* the graph's difference says so */
    anm_mil_type_count(&a->type, &n);
    for (int64_t i = 0; i < n; i++) {
        double x = element(a->type.dtype, a->constant->data, (uint64_t)i), y = element(b->type.dtype, b->constant->data, (uint64_t)i);
        d.norm += x * x;
        if (x == y) continue;
        apart++;
        d.apart += (x - y) * (x - y);
        if (fabs(x - y) > most) most = fabs(x - y);
    }
    const char *param = arg->param ? anm_mil_param_name(arg->param) : arg->foreign;
    cmp_explain(r, where, "%s of %s: %s: %lld of %lld values differ, by %g at most, %.3g in relation", param,
               op->n_outs ? op->outs[0]->name : "?", anm_mil_type_print(&a->type, type, sizeof type), (long long)apart,
               (long long)n, most, relative(d));
}

/* Adds a quantised weight, multiplied out, to the distance: data [d0, d1, …] times scale [s0, s1, …], blocks of d/s. */
static void add_blockwise(distance *d, const anm_mil_op *a, const anm_mil_op *b)
{
    const anm_mil_value *da = anm_mil_arg_of(a, ANM_P_DATA), *sa = anm_mil_arg_of(a, ANM_P_SCALE);
    const anm_mil_value *db = anm_mil_arg_of(b, ANM_P_DATA), *sb = anm_mil_arg_of(b, ANM_P_SCALE);
    if (!da || !sa || !db || !sb || !da->constant || !sa->constant || !db->constant || !sb->constant) return;
    if (!anm_mil_type_equal(&da->type, &db->type) || !anm_mil_type_equal(&sa->type, &sb->type)) return;
    int64_t n = 0, at[ANM_MIL_MAX_RANK] = {0};
    int rank = da->type.rank;
    if (rank != sa->type.rank || !anm_mil_type_count(&da->type, &n)) return;
    for (int64_t i = 0; i < n; i++) {
        uint64_t s = 0;
        for (int k = 0; k < rank; k++) s = s * (uint64_t)sa->type.dim[k] + (uint64_t)(at[k] / (da->type.dim[k] / sa->type.dim[k]));
        double x = element(da->type.dtype, da->constant->data, (uint64_t)i) * element(sa->type.dtype, sa->constant->data, s);
        double y = element(db->type.dtype, db->constant->data, (uint64_t)i) * element(sb->type.dtype, sb->constant->data, s);
        d->norm += x * x;
        d->apart += (x - y) * (x - y);
        for (int k = rank - 1; k >= 0 && ++at[k] == da->type.dim[k]; k--) at[k] = 0;
    }
}

/* Walks both graphs from their outputs as far as they have the same shape, and says of each constant that stands at the
 * same place and differs how far it is apart. Ops are in order, so going back each is met after all its uses. */
static int compare_weights(cmp_report *r, const char *where, anm_mil_function *a, anm_mil_function *b, anm_error *err)
{
    const anm_mil_value **pair = calloc((size_t)a->n_values + 1, sizeof *pair);
    if (!pair) return anm_fail_memory(err, "a comparison");
    distance all = {0};
    for (uint32_t i = 0; i < a->n_outputs && i < b->n_outputs; i++) pair[a->outputs[i]->id] = b->outputs[i];
    for (const anm_mil_op *op = a->last; op; op = op->prev) {
        const anm_mil_op *other = NULL;
        for (uint32_t i = 0; i < op->n_outs && !other; i++)
            if (pair[op->outs[i]->id]) other = pair[op->outs[i]->id]->def;
        if (!other || other->code != op->code || other->n_args != op->n_args) continue;
        for (uint32_t k = 0; k < op->n_args; k++) {
            const anm_mil_arg *x = &op->args[k], *y = &other->args[k];
            if (x->param != y->param || x->count != y->count) break;
            for (uint32_t i = 0; i < x->count; i++) {
                const anm_mil_value *v = x->value[i], *w = y->value[i];
                if (pair[v->id]) continue;
                pair[v->id] = w;
                if (!v->constant || !w->constant || !v->constant->data || !w->constant->data) continue;
                if (v->constant->size != w->constant->size || memcmp(v->constant->data, w->constant->data, v->constant->size))
                    differ_constant(r, where, op, x, v, w);
            }
        }
        if (op->code == ANM_OP_CONSTEXPR_BLOCKWISE_SHIFT_SCALE) add_blockwise(&all, op, other);
    }
    if (all.apart > 0) cmp_explain(r, where, "quantised weights, multiplied out: %.3g apart in relation", relative(all));
    free(pair);
    return 0;
}

/* ---- functions ---- */

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The types of all ops, sorted; NULL: no memory. */
static const char **op_names(const anm_mil_function *fn, size_t *n)
{
    size_t count = 0;
    for (const anm_mil_op *op = fn->first; op; op = op->next) count++;
    const char **name = calloc(count + 1, sizeof *name);
    *n = 0;
    for (const anm_mil_op *op = fn->first; op && name; op = op->next)
        name[(*n)++] = op->code ? anm_mil_op_name(op->code) : op->foreign;
    if (name) qsort(name, count, sizeof *name, by_text);
    return name;
}

static int compare_counts(cmp_report *r, const char *where, const anm_mil_function *a, const anm_mil_function *b, anm_error *err)
{
    size_t na, nb, i = 0, k = 0;
    const char **x = op_names(a, &na), **y = op_names(b, &nb);
    int rc = x && y ? 0 : anm_fail_memory(err, "a comparison");
    while (!rc && (i < na || k < nb)) {
        const char *name = i == na ? y[k] : k == nb || strcmp(x[i], y[k]) < 0 ? x[i] : y[k];
        size_t i0 = i, k0 = k;
        while (i < na && strcmp(x[i], name) == 0) i++;
        while (k < nb && strcmp(y[k], name) == 0) k++;
        if (i - i0 != k - k0) cmp_differ(r, where, "%zu / %zu ops are %s", i - i0, k - k0, name);
    }
    free(x);
    free(y);
    return rc;
}

static void compare_signature(cmp_report *r, const char *where, const char *what, uint32_t na, anm_mil_value *const *a,
                              uint32_t nb, anm_mil_value *const *b, bool names)
{
    char x[120], y[120];
    if (na != nb) cmp_differ(r, where, "%u / %u %s", na, nb, what);
    for (uint32_t i = 0; i < na && i < nb; i++) {
        if (!anm_mil_type_equal(&a[i]->type, &b[i]->type))
            cmp_differ(r, where, "%s %u, %s / %s: %s / %s", what, i, a[i]->name, b[i]->name,
                       anm_mil_type_print(&a[i]->type, x, sizeof x), anm_mil_type_print(&b[i]->type, y, sizeof y));
        if (names && strcmp(a[i]->name, b[i]->name)) cmp_differ(r, where, "%s %u is called %s / %s", what, i, a[i]->name, b[i]->name);
    }
}

int cmp_functions(cmp_report *r, const char *where, anm_mil_function *a, anm_mil_function *b, bool names, anm_error *err)
{
    bool same = true;
    anm_buf text = {0};
    uint64_t before = r->found;
    if (strcmp(a->opset, b->opset)) cmp_differ(r, where, "opset %s / %s", a->opset, b->opset);
    compare_signature(r, where, "inputs", a->n_inputs, a->inputs, b->n_inputs, b->inputs, names);
    compare_signature(r, where, "outputs", a->n_outputs, a->outputs, b->n_outputs, b->outputs, names);
    int rc = compare_counts(r, where, a, b, err);
    if (rc) return rc;
    if (exchange_tables(a, b)) return anm_fail_memory(err, "a comparison");
    rc = anm_mil_equal(&same, &text, a, b, err);
    if (!rc && text.bad) rc = anm_fail_memory(err, "a comparison");
    if (!rc && !same) {
        cmp_differ(r, where, "%s", text.data ? (const char *)text.data : "the graphs differ");
        rc = compare_weights(r, where, a, b, err);
    } else if (!rc && r->found == before) {
        size_t ops = 0;
        for (const anm_mil_op *op = a->first; op; op = op->next) ops++;
        if (!cli_say(stdout, where, "the same %zu ops", ops)) r->cut = true;
    }
    anm_buf_free(&text);
    return rc;
}
