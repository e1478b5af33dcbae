/* SPDX-License-Identifier: BSD-3-Clause */
/* The ops whose results come element by element, or from all elements along some axes. */
#include "mil/eval.h"

#include <math.h>
#include <string.h>

/* ---- one element ---- */

static float binary_float(anm_mil_opcode op, float x, float y)
{
    switch (op) {
    case ANM_OP_ADD: return x + y;
    case ANM_OP_SUB: return x - y;
    case ANM_OP_MUL: return x * y;
    case ANM_OP_REAL_DIV: return x / y;
    case ANM_OP_MAXIMUM: return isnan(x) || x > y ? x : y; /* a NaN on either side stays */
    case ANM_OP_MINIMUM: return isnan(x) || x < y ? x : y;
    default: return (float)pow((double)x, (double)y);
    }
}

static int32_t binary_int(anm_mil_opcode op, int32_t x, int32_t y)
{
    uint32_t a = (uint32_t)x, b = (uint32_t)y; /* int32 arithmetic wraps */
    switch (op) {
    case ANM_OP_ADD: return (int32_t)(a + b);
    case ANM_OP_SUB: return (int32_t)(a - b);
    case ANM_OP_MUL: return (int32_t)(a * b);
    case ANM_OP_MAXIMUM: return x > y ? x : y;
    default: return x < y ? x : y;
    }
}

static bool compare(anm_mil_opcode op, bool less, bool equal, bool greater)
{
    switch (op) { /* none of the three holds beside a NaN */
    case ANM_OP_LESS: return less;
    case ANM_OP_LESS_EQUAL: return less || equal;
    case ANM_OP_GREATER: return greater;
    case ANM_OP_GREATER_EQUAL: return greater || equal;
    case ANM_OP_EQUAL: return equal;
    default: return !equal;
    }
}

static double sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}

static double gelu(double x, char mode)
{
    switch (mode) {
    case 'T': return 0.5 * x * (1 + tanh(0.7978845608028654 * (x + 0.044715 * x * x * x))); /* sqrt(2 / pi) */
    case 'S': return x * sigmoid(1.702 * x);
    default: return 0.5 * x * (1 + erf(x * 0.7071067811865476));
    }
}

static float unary_float(anm_mil_opcode op, float f, double epsilon, char mode)
{
    double x = (double)f, y;
    switch (op) {
    case ANM_OP_RSQRT: y = 1 / sqrt(x + epsilon); break;
    case ANM_OP_SQRT: y = sqrt(x); break;
    case ANM_OP_SQUARE: y = x * x; break;
    case ANM_OP_INVERSE: y = 1 / (x + epsilon); break;
    case ANM_OP_EXP: y = exp(x); break;
    case ANM_OP_ABS: y = fabs(x); break;
    case ANM_OP_TANH: y = tanh(x); break;
    case ANM_OP_SIGMOID: y = sigmoid(x); break;
    case ANM_OP_SILU: y = x * sigmoid(x); break;
    case ANM_OP_RELU: y = x < 0 ? 0 : x; break;
    default: y = gelu(x, mode); break;
    }
    return (float)y;
}

/* ---- elementwise ops ---- */

int anm_eval_binary(anm_eval *e)
{
    const anm_mil_array *x = anm_eval_arg(e, ANM_P_X), *y = anm_eval_arg(e, ANM_P_Y);
    if (!x || !y) return -1;
    anm_mil_opcode op = e->op->code;
    anm_mil_array *out = e->out;
    int64_t n = anm_dims(&out->type, 0, out->type.rank);
    anm_walk w;
    anm_walk_broadcast(&w, &out->type, 0, 2, (const anm_mil_type *[]){&x->type, &y->type});
    for (int64_t i = 0; i < n; i++, anm_walk_next(&w)) {
        if (anm_array_is_float(out))
            out->f[i] = binary_float(op, x->f[w.at[0]], y->f[w.at[1]]);
        else
            out->i[i] = binary_int(op, x->i[w.at[0]], y->i[w.at[1]]);
    }
    return 0;
}

int anm_eval_compare(anm_eval *e)
{
    const anm_mil_array *x = anm_eval_arg(e, ANM_P_X), *y = anm_eval_arg(e, ANM_P_Y);
    if (!x || !y) return -1;
    int64_t n = anm_dims(&e->out->type, 0, e->out->type.rank);
    anm_walk w;
    anm_walk_broadcast(&w, &e->out->type, 0, 2, (const anm_mil_type *[]){&x->type, &y->type});
    for (int64_t i = 0; i < n; i++, anm_walk_next(&w)) {
        if (anm_array_is_float(x)) {
            float a = x->f[w.at[0]], b = y->f[w.at[1]];
            e->out->i[i] = compare(e->op->code, a<b, a == b, a> b);
        } else {
            int32_t a = x->i[w.at[0]], b = y->i[w.at[1]];
            e->out->i[i] = compare(e->op->code, a<b, a == b, a> b);
        }
    }
    return 0;
}

int anm_eval_select(anm_eval *e)
{
    const anm_mil_array *cond = anm_eval_arg(e, ANM_P_COND), *a = anm_eval_arg(e, ANM_P_A),
                        *b = anm_eval_arg(e, ANM_P_B);
    if (!cond || !a || !b) return -1;
    int64_t n = anm_dims(&e->out->type, 0, e->out->type.rank);
    anm_walk w;
    anm_walk_broadcast(&w, &e->out->type, 0, 3, (const anm_mil_type *[]){&cond->type, &a->type, &b->type});
    for (int64_t i = 0; i < n; i++, anm_walk_next(&w))
        e->out->i[i] = cond->i[w.at[0]] ? a->i[w.at[1]] : b->i[w.at[2]];
    return 0;
}

/* The integer that `v` is in type `t`: its low bits. */
static int32_t wrapped(anm_dtype t, int32_t v)
{
    switch (t) {
    case ANM_DT_I8: return (int8_t)v;
    case ANM_DT_U8: return (uint8_t)v;
    case ANM_DT_I16: return (int16_t)v;
    case ANM_DT_U16: return (uint16_t)v;
    case ANM_DT_BOOL: return v != 0;
    default: return v;
    }
}

/* Towards zero; what no int32 can hold becomes the nearest one, NaN becomes 0. */
static int32_t truncated(float f)
{
    if (isnan(f)) return 0;
    if (f >= 0x1p31f) return INT32_MAX;
    if (f < -0x1p31f) return INT32_MIN;
    return (int32_t)f;
}

int anm_eval_cast(anm_eval *e)
{
    const anm_mil_array *x = anm_eval_arg(e, ANM_P_X);
    if (!x) return -1;
    anm_mil_array *out = e->out;
    int64_t n = anm_dims(&out->type, 0, out->type.rank);
    bool from = anm_array_is_float(x), to = anm_array_is_float(out);
    for (int64_t i = 0; i < n; i++) {
        if (from && to)
            out->f[i] = x->f[i];
        else if (to)
            out->f[i] = (float)x->i[i];
        else if (from && out->type.dtype == ANM_DT_BOOL)
            out->i[i] = x->f[i] != 0;
        else
            out->i[i] = wrapped(out->type.dtype, from ? truncated(x->f[i]) : x->i[i]);
    }
    return 0;
}

int anm_eval_unary(anm_eval *e)
{
    const anm_mil_array *x = anm_eval_arg(e, ANM_P_X);
    if (!x) return -1;
    anm_mil_opcode op = e->op->code;
    anm_mil_array *out = e->out;
    int64_t n = anm_dims(&out->type, 0, out->type.rank);
    float epsilon = op == ANM_OP_RSQRT     ? 1e-12f
                    : op == ANM_OP_INVERSE ? 1e-4f
                                           : 0; /* defaults of the format */
    const char *mode = "EXACT";
    size_t length;
    anm_mil_get_f32(anm_mil_arg_of(e->op, ANM_P_EPSILON), &epsilon);
    anm_mil_get_string(anm_mil_arg_of(e->op, ANM_P_MODE), &mode, &length);
    if (op == ANM_OP_IDENTITY) {
        memcpy(out->f, x->f, (size_t)n * 4);
    } else if (anm_array_is_float(out)) {
        for (int64_t i = 0; i < n; i++)
            out->f[i] = unary_float(op, x->f[i], (double)epsilon, mode[0]);
    } else {
        for (int64_t i = 0; i < n; i++) {
            int32_t v = x->i[i], times = op == ANM_OP_SQUARE ? v : v < 0 ? -1 : 1;
            out->i[i] = binary_int(ANM_OP_MUL, v, times);
        }
    }
    return 0;
}

/* ---- along axes ---- */

int anm_eval_softmax(anm_eval *e)
{
    const anm_mil_array *x = anm_eval_arg(e, ANM_P_X);
    int64_t axis = -1;
    if (!x) return -1;
    anm_mil_get_i64(anm_mil_arg_of(e->op, ANM_P_AXIS), &axis);
    int rank = x->type.rank, at = (int)(axis < 0 ? axis + rank : axis);
    int64_t n = x->type.dim[at], outer = anm_dims(&x->type, 0, at), inner = anm_dims(&x->type, at + 1, rank);
    for (int64_t o = 0; o < outer; o++)
        for (int64_t i = 0; i < inner; i++)
            anm_softmax(e->out->f + o * n * inner + i, x->f + o * n * inner + i, n, inner);
    return 0;
}

void anm_softmax(float *out, const float *x, int64_t n, int64_t stride)
{
    float top = -INFINITY;
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        if (x[i * stride] > top) top = x[i * stride];
    if (top == -INFINITY) { /* every element is masked out, or some are NaN */
        for (int64_t i = 0; i < n; i++)
            out[i * stride] = isnan(x[i * stride]) ? NAN : 0;
        return;
    }
    for (int64_t i = 0; i < n; i++)
        sum += exp((double)x[i * stride] - (double)top);
    for (int64_t i = 0; i < n; i++)
        out[i * stride] = (float)(exp((double)x[i * stride] - (double)top) / sum);
}

/* Where a reduction of one result stands. Sums of int32 wrap at the end, as int64 sums of them cannot. */
typedef struct tally {
    double sum, top;
    int64_t whole;
    bool nan;
} tally;

static void tally_float(tally *t, anm_mil_opcode op, double v, bool first)
{
    if (op == ANM_OP_REDUCE_MAX || op == ANM_OP_REDUCE_MIN) {
        if (isnan(v)) t->nan = true;
        if (first || (op == ANM_OP_REDUCE_MAX ? v > t->top : v < t->top)) t->top = v;
    } else {
        t->sum += op == ANM_OP_REDUCE_SUM || op == ANM_OP_REDUCE_MEAN ? v : v * v;
    }
}

static void tally_int(tally *t, anm_mil_opcode op, int32_t v, bool first)
{
    switch (op) {
    case ANM_OP_REDUCE_MAX:
        if (first || v > t->whole) t->whole = v;
        break;
    case ANM_OP_REDUCE_MIN:
        if (first || v < t->whole) t->whole = v;
        break;
    default: t->whole += op == ANM_OP_REDUCE_SUM ? v : binary_int(ANM_OP_MUL, v, v);
    }
}

static float tally_result(const tally *t, anm_mil_opcode op, int64_t n)
{
    switch (op) {
    case ANM_OP_REDUCE_MEAN: return (float)(t->sum / (double)n);
    case ANM_OP_REDUCE_L2_NORM: return (float)sqrt(t->sum);
    case ANM_OP_REDUCE_MAX:
    case ANM_OP_REDUCE_MIN: return t->nan ? NAN : (float)t->top;
    default: return (float)t->sum;
    }
}

int anm_eval_reduce(anm_eval *e)
{
    const anm_mil_array *x = anm_eval_arg(e, ANM_P_X);
    if (!x) return -1;
    int64_t axes[ANM_MIL_MAX_RANK], stride[ANM_MIL_MAX_RANK + 1] = {1};
    int rank = x->type.rank, n_axes = rank;
    for (int i = 0; i < rank; i++)
        axes[i] = i;
    anm_mil_get_i64s(anm_mil_arg_of(e->op, ANM_P_AXES), axes, ANM_MIL_MAX_RANK, &n_axes);
    bool reduced[ANM_MIL_MAX_RANK] = {false};
    for (int i = 0; i < n_axes; i++)
        reduced[axes[i] < 0 ? axes[i] + rank : axes[i]] = true;
    for (int i = rank - 1; i > 0; i--)
        stride[rank - i] = stride[rank - 1 - i] * x->type.dim[i];

    /* two walks over x: one through the results, and at each of them one through what it is made of */
    anm_walk results = {.n = 1}, parts = {.n = 1};
    int64_t n_results = 1, n_parts = 1;
    for (int i = 0; i < rank; i++) {
        anm_walk *w = reduced[i] ? &parts : &results;
        w->dim[w->rank] = x->type.dim[i];
        w->stride[0][w->rank++] = stride[rank - 1 - i];
        *(reduced[i] ? &n_parts : &n_results) *= x->type.dim[i];
    }
    for (int64_t r = 0; r < n_results; r++, anm_walk_next(&results)) {
        tally t = {0};
        for (int64_t p = 0; p < n_parts; p++, anm_walk_next(&parts)) {
            int64_t at = results.at[0] + parts.at[0];
            if (anm_array_is_float(x))
                tally_float(&t, e->op->code, (double)x->f[at], p == 0);
            else
                tally_int(&t, e->op->code, x->i[at], p == 0);
        }
        if (anm_array_is_float(x))
            e->out->f[r] = tally_result(&t, e->op->code, n_parts);
        else
            e->out->i[r] = (int32_t)(uint32_t)(uint64_t)t.whole;
    }
    return 0;
}
