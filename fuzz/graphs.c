/* SPDX-License-Identifier: BSD-3-Clause */
#include "graphs.h"

#include "base/bytes.h"
#include "base/half.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* What a graph is made with. */
typedef struct hand {
    fuzz_graph *g;
    fuzz_dice *d;
    anm_mil_builder b;
    uint64_t random; /* weights */
    int64_t dim;
    anm_mil_value *tokens, *mask, *cos, *sin, *last_pos;
    bool halves;     /* pairs lie half a head apart, and tables are as wide as a head */
} hand;

unsigned fuzz_pick(fuzz_dice *d, unsigned n)
{
    if (!d->left) return 0;
    d->left--;
    return *d->at++ % n;
}

static unsigned pick(hand *h, unsigned n)
{
    return fuzz_pick(h->d, n);
}

static float weight(hand *h)
{
    h->random = h->random * 6364136223846793005u + 1442695040888963407u;
    return (float)(int32_t)(h->random >> 32) * 0x1p-31f;
}

/* ---- constants ---- */

static anm_mil_value *constant(hand *h, anm_dtype type, int rank, const int64_t *dim, uint64_t bytes, uint8_t **data)
{
    *data = anm_arena_alloc(&h->g->program.arena, (size_t)bytes + 1);
    if (!*data) abort();
    return anm_mil_const_blob(&h->b, NULL, anm_mil_tensor(type, rank, dim), (anm_blob){.size = bytes, .data = *data, .in_file = true});
}

static void put_float(uint8_t *at, anm_dtype type, float f)
{
    if (type == ANM_DT_F16) anm_st16(at, anm_f32_to_f16(f));
    else memcpy(at, &f, 4);
}

/* Numbers in [base - spread, base + spread]. */
static anm_mil_value *floats(hand *h, int rank, const int64_t *dim, float base, float spread)
{
    fuzz_graph *g = h->g;
    size_t size = g->type == ANM_DT_F16 ? 2 : 4;
    uint64_t n = 1;
    uint8_t *data;
    for (int i = 0; i < rank; i++) n *= (uint64_t)dim[i];
    anm_mil_value *v = constant(h, g->type, rank, dim, n * size, &data);
    for (uint64_t i = 0; i < n; i++) put_float(data + i * size, g->type, base + spread * weight(h));
    if (g->n_floats < FUZZ_FLOATS) {
        g->floats[g->n_floats].data = data;
        g->floats[g->n_floats++].count = n;
    }
    return v;
}

/* A number as a scalar, or as a tensor of one element. */
static anm_mil_value *number(hand *h, float f)
{
    unsigned form = pick(h, 8);
    static const int64_t ones[] = {1, 1, 1, 1, 1};
    return form < 3 ? anm_mil_const_float(&h->b, h->g->type, f) : floats(h, (int)form - 2, ones, f, 0);
}

static anm_mil_value *ints(hand *h, int n, const int64_t *v)
{
    return anm_mil_const_i32s(&h->b, n, v);
}

static anm_mil_value *one_int(hand *h, int64_t v)
{
    return anm_mil_const_i32(&h->b, (int32_t)v);
}

/* A matrix of weights: floats, or integers with a scale for each row or block. */
static anm_mil_value *matrix(hand *h, int64_t rows, int64_t cols)
{
    unsigned form = pick(h, 6);
    const int64_t dim[] = {rows, cols};
    float spread = 1.5f / sqrtf((float)cols);
    if (form < 2) return floats(h, 2, dim, 0, spread);
    bool four = form != 3;
    int64_t block = form < 4 ? cols : form == 4 ? 4 : 8, blocks = cols % block ? 1 : cols / block;
    uint64_t n = (uint64_t)(rows * cols);
    uint8_t *data;
    anm_mil_value *q = constant(h, four ? ANM_DT_I4 : ANM_DT_I8, 2, dim, four ? (n + 1) / 2 : n, &data);
    for (uint64_t i = 0; i < n; i++) {
        int v = (int)(weight(h) * (four ? 7.9f : 127));
        if (four) data[i / 2] |= (uint8_t)((v & 15) << (i % 2 ? 4 : 0));
        else data[i] = (uint8_t)v;
    }
    anm_mil_value *scale = floats(h, 2, (const int64_t[]){rows, blocks}, spread / (four ? 6 : 100), spread / (four ? 20 : 400));
    return anm_mil_emit(&h->b, ANM_OP_CONSTEXPR_BLOCKWISE_SHIFT_SCALE, NULL, ANM_P_DATA, q, ANM_P_SCALE, scale, ANM_P_END);
}

/* ---- small ops ---- */

static anm_mil_value *unary(hand *h, anm_mil_opcode op, anm_mil_value *x)
{
    return anm_mil_emit(&h->b, op, NULL, ANM_P_X, x, ANM_P_END);
}

static anm_mil_value *binary(hand *h, anm_mil_opcode op, anm_mil_value *x, anm_mil_value *y)
{
    return anm_mil_emit(&h->b, op, NULL, ANM_P_X, x, ANM_P_Y, y, ANM_P_END);
}

/* Of operands that may change places. */
static anm_mil_value *either(hand *h, anm_mil_opcode op, anm_mil_value *x, anm_mil_value *y)
{
    return pick(h, 4) == 3 ? binary(h, op, y, x) : binary(h, op, x, y);
}

static anm_mil_value *reshape(hand *h, anm_mil_value *x, int rank, const int64_t *dim)
{
    return anm_mil_emit(&h->b, ANM_OP_RESHAPE, NULL, ANM_P_X, x, ANM_P_SHAPE, ints(h, rank, dim), ANM_P_END);
}
#define RESHAPE(h, x, ...) \
    reshape(h, x, (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (int64_t[]){__VA_ARGS__})

static anm_mil_value *transpose(hand *h, anm_mil_value *x, int a, int b)
{
    int64_t perm[ANM_MIL_MAX_RANK];
    int rank = x->type.rank;
    for (int i = 0; i < rank; i++) perm[i] = i == a ? b : i == b ? a : i;
    return anm_mil_emit(&h->b, ANM_OP_TRANSPOSE, NULL, ANM_P_X, x, ANM_P_PERM, ints(h, rank, perm), ANM_P_END);
}

static anm_mil_value *concat(hand *h, uint32_t n, anm_mil_value *const *x, int64_t axis)
{
    return anm_mil_emit_list(&h->b, ANM_OP_CONCAT, NULL, ANM_P_VALUES, n, x, ANM_P_AXIS, one_int(h, axis), ANM_P_INTERLEAVE,
                             anm_mil_const_bool(&h->b, false), ANM_P_END);
}

static anm_mil_value *reduce(hand *h, anm_mil_opcode op, anm_mil_value *x)
{
    int64_t axis = pick(h, 4) == 3 ? x->type.rank - 1 : -1;
    return anm_mil_emit(&h->b, op, NULL, ANM_P_X, x, ANM_P_AXES, ints(h, 1, &axis), ANM_P_KEEP_DIMS, anm_mil_const_bool(&h->b, true),
                        ANM_P_END);
}

/* Elements [begin, end) of the last dimension, every step-th. */
static anm_mil_value *last_slice(hand *h, anm_mil_value *x, int64_t begin, int64_t end, int64_t step)
{
    anm_mil_builder *b = &h->b;
    int rank = x->type.rank;
    if (!rank) return x; /* what stands for an op that could not be made has no shape */
    int64_t lo[ANM_MIL_MAX_RANK] = {0}, hi[ANM_MIL_MAX_RANK], by[ANM_MIL_MAX_RANK];
    bool open[ANM_MIL_MAX_RANK];
    for (int i = 0; i < rank; i++) {
        hi[i] = x->type.dim[i];
        by[i] = 1;
        open[i] = true;
    }
    lo[rank - 1] = begin;
    hi[rank - 1] = end;
    by[rank - 1] = step;
    open[rank - 1] = false;
    if (step == 1 && pick(h, 3) == 2) {
        for (int i = 0; i < rank; i++) hi[i] -= lo[i];
        return anm_mil_emit(b, ANM_OP_SLICE_BY_SIZE, NULL, ANM_P_X, x, ANM_P_BEGIN, ints(h, rank, lo), ANM_P_SIZE, ints(h, rank, hi),
                            ANM_P_END);
    }
    return anm_mil_emit(b, ANM_OP_SLICE_BY_INDEX, NULL, ANM_P_X, x, ANM_P_BEGIN, ints(h, rank, lo), ANM_P_END_INDEX,
                        ints(h, rank, hi), ANM_P_STRIDE, ints(h, rank, by), ANM_P_END_MASK, anm_mil_const_bools(b, rank, open),
                        ANM_P_END);
}

/* Mostly nothing; else something that means little, or something that means much but keeps the shape. */
static anm_mil_value *wobble(hand *h, anm_mil_value *x)
{
    anm_mil_builder *b = &h->b;
    int rank = x->type.rank;
    const int64_t *dim = x->type.dim;
    switch (pick(h, 24)) {
    case 1: return unary(h, ANM_OP_IDENTITY, x);
    case 2: {
        anm_mil_value *y = anm_mil_emit(b, ANM_OP_CAST, NULL, ANM_P_X, x, ANM_P_DTYPE, anm_mil_const_string(b, "fp32"), ANM_P_END);
        return anm_mil_emit(b, ANM_OP_CAST, NULL, ANM_P_X, y, ANM_P_DTYPE,
                            anm_mil_const_string(b, h->g->type == ANM_DT_F16 ? "fp16" : "fp32"), ANM_P_END);
    }
    case 3: return reshape(h, RESHAPE(h, x, -1, dim[rank - 1]), rank, dim);
    case 4: return transpose(h, transpose(h, x, rank - 1, rank - 2), rank - 1, rank - 2);
    case 5: return either(h, ANM_OP_MUL, x, number(h, 0.75f));
    case 6: return binary(h, ANM_OP_REAL_DIV, x, number(h, 2));
    case 7: {
        int64_t axis = pick(h, (unsigned)rank + 1);
        anm_mil_value *y = anm_mil_emit(b, ANM_OP_EXPAND_DIMS, NULL, ANM_P_X, x, ANM_P_AXES, ints(h, 1, &axis), ANM_P_END);
        return anm_mil_emit(b, ANM_OP_SQUEEZE, NULL, ANM_P_X, y, ANM_P_AXES, ints(h, 1, &axis), ANM_P_END);
    }
    case 8: return last_slice(h, x, 0, dim[rank - 1], 1);
    case 9: return binary(h, ANM_OP_ADD, x, x);
    case 10: return binary(h, ANM_OP_MUL, x, x);
    case 11: return unary(h, ANM_OP_SILU, x);
    case 12: return binary(h, ANM_OP_SUB, number(h, 0), x);
    case 13: return binary(h, ANM_OP_MUL, unary(h, ANM_OP_SILU, x), x);
    default: return x;
    }
}

/* ---- parts of a decoder ---- */

/* What stands for an op that could not be made has no shape: 1. */
static int64_t last_dim(const anm_mil_value *x)
{
    return x->type.rank ? x->type.dim[x->type.rank - 1] : 1;
}

static anm_mil_value *linear(hand *h, anm_mil_value *x, int64_t rows)
{
    anm_mil_value *part[3];
    int64_t cols = last_dim(x);
    uint32_t n = 1 + (rows > 3 ? pick(h, 6) % 3 : 0);
    for (uint32_t i = 0; i < n; i++) {
        int64_t some = i + 1 < n ? rows / n : rows - rows / n * (n - 1);
        anm_mil_value *w = matrix(h, some, cols);
        if (pick(h, 4) == 3)
            part[i] = anm_mil_emit(&h->b, ANM_OP_LINEAR, NULL, ANM_P_X, x, ANM_P_WEIGHT, w, ANM_P_BIAS,
                                   floats(h, 1, &some, 0, 0.5f), ANM_P_END);
        else part[i] = anm_mil_emit(&h->b, ANM_OP_LINEAR, NULL, ANM_P_X, x, ANM_P_WEIGHT, w, ANM_P_END);
    }
    return n == 1 ? part[0] : concat(h, n, part, pick(h, 2) ? x->type.rank - 1 : -1);
}

static anm_mil_value *norm(hand *h, anm_mil_value *x)
{
    anm_mil_builder *b = &h->b;
    int64_t n = last_dim(x), one[ANM_MIL_MAX_RANK];
    anm_mil_value *y, *s, *by = x;
    float least = pick(h, 3) == 2 ? 1.5f : 1e-3f; /* one that counts, or one as norms have it */
    anm_mil_value *small = number(h, least);
    switch (pick(h, 7)) {
    default:
        s = pick(h, 2) ? unary(h, ANM_OP_SQUARE, x) : binary(h, ANM_OP_MUL, x, x);
        s = either(h, ANM_OP_ADD, reduce(h, ANM_OP_REDUCE_MEAN, s), small);
        y = either(h, ANM_OP_MUL, x, unary(h, ANM_OP_RSQRT, s));
        break;
    case 1:
        s = either(h, ANM_OP_MUL, reduce(h, ANM_OP_REDUCE_SUM_SQUARE, x), number(h, 1 / (float)n));
        s = unary(h, ANM_OP_SQRT, either(h, ANM_OP_ADD, s, small));
        if (pick(h, 2)) s = either(h, ANM_OP_ADD, s, number(h, 0.25f));
        if (pick(h, 2)) s = either(h, ANM_OP_MUL, s, number(h, 1.5f));
        y = either(h, ANM_OP_MUL, x, unary(h, ANM_OP_INVERSE, s));
        break;
    case 2:
        s = binary(h, ANM_OP_MAXIMUM, reduce(h, ANM_OP_REDUCE_L2_NORM, x), small);
        y = binary(h, ANM_OP_MUL, binary(h, ANM_OP_REAL_DIV, x, s), number(h, sqrtf((float)n)));
        break;
    case 3:
        by = pick(h, 2) ? x : binary(h, ANM_OP_MUL, x, number(h, 0.125f));
        s = reduce(h, ANM_OP_REDUCE_L2_NORM, by);
        memcpy(one, s->type.dim, sizeof one);
        s = concat(h, 2, (anm_mil_value *const[]){s, floats(h, s->type.rank, one, 0.25f, 0)}, -1);
        s = reduce(h, ANM_OP_REDUCE_L2_NORM, s);
        y = pick(h, 2) ? binary(h, ANM_OP_REAL_DIV, x, s) : binary(h, ANM_OP_MUL, x, binary(h, ANM_OP_REAL_DIV, number(h, 2), s));
        break;
    case 4:
        by = reduce(h, ANM_OP_REDUCE_MAX, unary(h, ANM_OP_ABS, x));
        s = unary(h, ANM_OP_SQUARE, binary(h, ANM_OP_REAL_DIV, x, by));
        s = unary(h, ANM_OP_SQRT, either(h, ANM_OP_ADD, reduce(h, ANM_OP_REDUCE_MEAN, s), small));
        y = binary(h, ANM_OP_REAL_DIV, x, either(h, ANM_OP_MUL, s, by));
        break;
    case 5:
        s = reduce(h, ANM_OP_REDUCE_SUM, binary(h, ANM_OP_MUL, x, x));
        s = binary(h, ANM_OP_MAXIMUM, s, small);
        if (pick(h, 2)) s = either(h, ANM_OP_MUL, s, number(h, 0.5f));
        y = binary(h, ANM_OP_MUL, x, anm_mil_emit(b, ANM_OP_RSQRT, NULL, ANM_P_X, s, ANM_P_EPSILON,
                                                  anm_mil_const_float(b, h->g->type, least), ANM_P_END));
        break;
    }
    if (pick(h, 4) == 3) return y;
    return either(h, ANM_OP_MUL, y, floats(h, 1, &n, 1, 0.5f));
}

/* The table as it is, or with other dimensions of one in front of it or before its last. */
static anm_mil_value *table(hand *h, anm_mil_value *t, bool by_row)
{
    int64_t rows = t->type.dim[0], w = t->type.dim[1];
    if (by_row) return pick(h, 2) ? RESHAPE(h, t, 1, rows, 1, w) : RESHAPE(h, t, rows, 1, w);
    return pick(h, 3) == 2 ? RESHAPE(h, t, 1, rows, w) : t;
}

/* x [1, rows, heads, d] when `by_row`, else [1, heads, rows, d]. */
static anm_mil_value *turn(hand *h, anm_mil_value *x, bool by_row)
{
    anm_mil_builder *b = &h->b;
    int64_t d = x->type.dim[3];
    anm_mil_value *cos = table(h, h->cos, by_row), *sin = table(h, h->sin, by_row), *part[2];
    if (h->halves) {
        part[0] = last_slice(h, x, d / 2, d, 1);
        part[0] = pick(h, 2) ? binary(h, ANM_OP_SUB, number(h, 0), part[0]) : either(h, ANM_OP_MUL, part[0], number(h, -1));
        part[1] = last_slice(h, x, 0, d / 2, 1);
        anm_mil_value *swapped = concat(h, 2, part, -1);
        return either(h, ANM_OP_ADD, either(h, ANM_OP_MUL, x, cos), either(h, ANM_OP_MUL, swapped, sin));
    }
    bool neighbours = pick(h, 2) == 0;
    anm_mil_value *v[2];
    if (neighbours) {
        v[0] = last_slice(h, x, 0, d, 2);
        v[1] = last_slice(h, x, 1, d, 2);
    } else if (pick(h, 3) == 2) {
        anm_mil_emit_outs(b, ANM_OP_SPLIT, NULL, 2, v, ANM_P_X, x, ANM_P_AXIS, one_int(h, -1), ANM_P_NUM_SPLITS, one_int(h, 2),
                          ANM_P_END);
    } else {
        v[0] = last_slice(h, x, 0, d / 2, 1);
        v[1] = last_slice(h, x, d / 2, d, 1);
    }
    part[0] = binary(h, ANM_OP_SUB, either(h, ANM_OP_MUL, v[0], cos), either(h, ANM_OP_MUL, v[1], sin));
    part[1] = either(h, ANM_OP_ADD, either(h, ANM_OP_MUL, v[0], sin), either(h, ANM_OP_MUL, v[1], cos));
    if (pick(h, 2)) return concat(h, 2, part, -1);
    anm_mil_value *pairs = anm_mil_emit_list(b, ANM_OP_STACK, NULL, ANM_P_VALUES, 2, part, ANM_P_AXIS, one_int(h, -1), ANM_P_END);
    return reshape(h, pairs, 4, x->type.dim);
}

/* [1, rows, heads * d] -> [1, heads, rows, d], turned, normed. */
static anm_mil_value *heads_of(hand *h, anm_mil_value *x, int64_t heads, bool turned)
{
    const anm_method *m = &h->g->method;
    bool by_row = pick(h, 2), normed = turned && pick(h, 4) == 3;
    x = RESHAPE(h, x, 1, m->rows, heads, m->head_dim);
    if (normed) x = norm(h, x);
    if (turned && by_row) x = turn(h, x, true);
    x = transpose(h, x, 1, 2);
    return turned && !by_row ? turn(h, x, false) : x;
}

static anm_mil_value *matmul(hand *h, anm_mil_value *x, anm_mil_value *y, bool transpose_y)
{
    return anm_mil_emit(&h->b, ANM_OP_MATMUL, NULL, ANM_P_X, x, ANM_P_Y, y, ANM_P_TRANSPOSE_X, anm_mil_const_bool(&h->b, false),
                        ANM_P_TRANSPOSE_Y, anm_mil_const_bool(&h->b, transpose_y), ANM_P_END);
}

static anm_mil_value *softmax(hand *h, anm_mil_value *x)
{
    int64_t axis = pick(h, 3) == 2 ? x->type.rank - 1 : -1;
    return anm_mil_emit(&h->b, ANM_OP_SOFTMAX, NULL, ANM_P_X, x, ANM_P_AXIS, one_int(h, axis), ANM_P_END);
}

/* Keys or values [1, kv, all, d], each head as often as queries share it: [1, kv * per, all, d]. */
static anm_mil_value *repeated(hand *h, anm_mil_value *x, int64_t per, bool in_turn)
{
    const int64_t *dim = x->type.dim, axis = 2, outer[] = {1, per, 1, 1}, inner[] = {1, 1, per, 1, 1};
    if (in_turn) return anm_mil_emit(&h->b, ANM_OP_TILE, NULL, ANM_P_X, x, ANM_P_REPS, ints(h, 4, outer), ANM_P_END);
    int64_t kv = dim[1], all = dim[2], d = dim[3];
    x = anm_mil_emit(&h->b, ANM_OP_EXPAND_DIMS, NULL, ANM_P_X, x, ANM_P_AXES, ints(h, 1, &axis), ANM_P_END);
    x = anm_mil_emit(&h->b, ANM_OP_TILE, NULL, ANM_P_X, x, ANM_P_REPS, ints(h, 5, inner), ANM_P_END);
    return RESHAPE(h, x, 1, kv * per, all, d);
}

static anm_mil_value *attend(hand *h, anm_mil_value *q, anm_mil_value *k, anm_mil_value *v, int64_t per)
{
    const anm_method *m = &h->g->method;
    int64_t kv = m->n_kv_heads, d = m->head_dim, rows = m->rows, all = m->cache_len + rows, heads = kv * per;
    float factor = 1 / sqrtf((float)d);
    bool early = pick(h, 2), grouped = pick(h, 2), in_turn = pick(h, 3) == 2;
    anm_mil_value *s, *y, *mask = pick(h, 2) ? RESHAPE(h, h->mask, 1, 1, rows, all) : h->mask;
    if (pick(h, 6) == 5) {
        k = repeated(h, k, per, in_turn);
        v = repeated(h, v, per, in_turn);
        return anm_mil_emit(&h->b, ANM_OP_ATTENTION, NULL, ANM_P_QUERY, q, ANM_P_KEY, k, ANM_P_VALUE, v, ANM_P_ATTN_MASK, mask, ANM_P_END);
    }
    if (early) q = either(h, ANM_OP_MUL, q, number(h, factor));
    if (grouped) {
        bool five = pick(h, 3) == 2;
        q = five ? RESHAPE(h, q, 1, kv, per, rows, d) : RESHAPE(h, q, kv, per, rows, d);
        k = five ? RESHAPE(h, k, 1, kv, 1, all, d) : RESHAPE(h, k, kv, 1, all, d);
        v = five ? RESHAPE(h, v, 1, kv, 1, all, d) : RESHAPE(h, v, kv, 1, all, d);
    } else if (per > 1) {
        k = repeated(h, k, per, in_turn);
        v = repeated(h, v, per, in_turn);
    }
    s = matmul(h, q, k, true);
    if (!early) s = pick(h, 2) ? binary(h, ANM_OP_REAL_DIV, s, number(h, sqrtf((float)d))) : either(h, ANM_OP_MUL, s, number(h, factor));
    bool flat = grouped && pick(h, 2);
    int rank = s->type.rank;
    int64_t dim[ANM_MIL_MAX_RANK];
    memcpy(dim, s->type.dim, sizeof dim);
    if (flat) s = RESHAPE(h, s, 1, heads, rows, all);
    s = softmax(h, either(h, ANM_OP_ADD, s, mask));
    if (flat) s = reshape(h, s, rank, dim);
    y = matmul(h, s, v, false);
    return RESHAPE(h, y, 1, heads, rows, d);
}

static anm_mil_value *layer(hand *h, anm_mil_value *x, int64_t i, int64_t per, anm_mil_value *cache[2], anm_mil_value *fresh[2])
{
    const anm_method *m = &h->g->method;
    int64_t kv = m->n_kv_heads, d = m->head_dim, width = kv * per * d, hidden = 8 + 4 * (int64_t)pick(h, 4);
    anm_mil_value *n = wobble(h, norm(h, x)), *y;
    (void)i;
    anm_mil_value *q = heads_of(h, wobble(h, linear(h, n, width)), kv * per, true);
    fresh[0] = heads_of(h, linear(h, n, kv * d), kv, true);
    fresh[1] = wobble(h, heads_of(h, wobble(h, linear(h, n, kv * d)), kv, false));
    anm_mil_value *k = concat(h, 2, (anm_mil_value *const[]){cache[0], fresh[0]}, pick(h, 2) ? 2 : -2);
    anm_mil_value *v = concat(h, 2, (anm_mil_value *const[]){cache[1], fresh[1]}, pick(h, 2) ? 2 : -2);
    y = transpose(h, attend(h, wobble(h, q), k, v, per), 1, 2);
    y = linear(h, wobble(h, RESHAPE(h, y, 1, m->rows, width)), h->dim);
    x = either(h, ANM_OP_ADD, wobble(h, x), wobble(h, y));
    n = norm(h, x);
    y = unary(h, ANM_OP_SILU, linear(h, n, hidden));
    y = either(h, ANM_OP_MUL, y, wobble(h, linear(h, n, hidden)));
    return either(h, ANM_OP_ADD, x, linear(h, wobble(h, y), h->dim));
}

/* Ids as they are, or as programs write them that allow for negative ones. */
static anm_mil_value *embedding(hand *h)
{
    anm_mil_builder *b = &h->b;
    anm_mil_value *ids = h->tokens;
    int64_t vocab = h->g->method.vocab_size;
    if (pick(h, 2)) {
        anm_mil_value *ge = binary(h, ANM_OP_GREATER_EQUAL, ids, one_int(h, 0)), *up = binary(h, ANM_OP_ADD, ids, one_int(h, vocab));
        ids = anm_mil_emit(b, ANM_OP_SELECT, NULL, ANM_P_COND, ge, ANM_P_A, ids, ANM_P_B, up, ANM_P_END);
    }
    if (pick(h, 2)) ids = anm_mil_emit(b, ANM_OP_CAST, NULL, ANM_P_X, ids, ANM_P_DTYPE, anm_mil_const_string(b, "int16"), ANM_P_END);
    return anm_mil_emit(b, ANM_OP_GATHER, NULL, ANM_P_X, matrix(h, vocab, h->dim), ANM_P_INDICES, ids, ANM_P_AXIS, one_int(h, 0), ANM_P_END);
}

static anm_mil_value *input(hand *h, const char *name, anm_dtype type, int rank, const int64_t *dim, int32_t *index)
{
    *index = (int32_t)h->b.fn->n_inputs;
    return anm_mil_input(&h->b, name, anm_mil_tensor(type, rank, dim));
}
#define INPUT(h, name, type, index, ...) \
    input(h, name, type, (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (int64_t[]){__VA_ARGS__}, index)

static bool build(hand *h)
{
    static const int64_t rows_of[] = {3, 1, 2, 5}, width_of[] = {4, 8, 2, 16}, dim_of[] = {8, 16, 12, 33};
    fuzz_graph *g = h->g;
    anm_method *m = &g->method;
    g->type = pick(h, 4) == 3 ? ANM_DT_F16 : ANM_DT_F32;
    m->rows = rows_of[pick(h, 4)];
    m->n_layers = 1 + (pick(h, 3) == 2);
    m->n_kv_heads = 1 + pick(h, 3);
    m->head_dim = width_of[pick(h, 4)];
    m->cache_len = 4 + pick(h, 6);
    m->vocab_size = 5 + pick(h, 20);
    m->fp16_cache = g->type == ANM_DT_F16;
    m->last_pos = -1;
    m->kv = g->kv;
    h->dim = dim_of[pick(h, 4)];
    h->halves = pick(h, 3) == 2;
    h->random = pick(h, 256);
    m->table_width = h->halves ? m->head_dim : m->head_dim / 2;
    int64_t per = 1 + pick(h, 3), rows = m->rows, all = m->cache_len + rows;
    bool one = pick(h, 3) == 2;
    h->tokens = INPUT(h, "tokens", ANM_DT_I32, &m->tokens, 1, rows);
    h->mask = INPUT(h, "mask", g->type, &m->mask, 1, rows, all);
    h->cos = INPUT(h, "cos", g->type, &m->cos, rows, m->table_width);
    h->sin = INPUT(h, "sin", g->type, &m->sin, rows, m->table_width);
    if (one) h->last_pos = INPUT(h, "last_pos", ANM_DT_I32, &m->last_pos, 1);
    anm_mil_value *cache[FUZZ_LAYERS][2], *fresh[FUZZ_LAYERS][2];
    for (int64_t i = 0; i < m->n_layers; i++) {
        cache[i][0] = INPUT(h, "k_cache", g->type, &g->kv[i].k_in, 1, m->n_kv_heads, m->cache_len, m->head_dim);
        cache[i][1] = INPUT(h, "v_cache", g->type, &g->kv[i].v_in, 1, m->n_kv_heads, m->cache_len, m->head_dim);
    }
    anm_mil_value *x = wobble(h, embedding(h));
    for (int64_t i = 0; i < m->n_layers; i++) x = layer(h, x, i, per, cache[i], fresh[i]);
    if (one)
        x = anm_mil_emit(&h->b, ANM_OP_GATHER, NULL, ANM_P_X, x, ANM_P_INDICES, h->last_pos, ANM_P_AXIS, one_int(h, 1), ANM_P_END);
    x = wobble(h, linear(h, wobble(h, norm(h, x)), m->vocab_size));
    m->logits_rows = one ? 1 : rows;
    m->logits = 0;
    anm_mil_output(&h->b, x);
    for (int64_t i = 0; i < m->n_layers; i++) {
        g->kv[i].k_out = 1 + 2 * (int32_t)i;
        g->kv[i].v_out = 2 + 2 * (int32_t)i;
        anm_mil_output(&h->b, fresh[i][0]);
        anm_mil_output(&h->b, fresh[i][1]);
    }
    return h->b.err.code == 0;
}

/* ---- changes ---- */

enum { MOST_OPS = 1024, MOST_VALUES = 4096 };

static const anm_mil_opcode pairs[] = {ANM_OP_ADD, ANM_OP_SUB, ANM_OP_MUL, ANM_OP_REAL_DIV, ANM_OP_MAXIMUM, ANM_OP_MINIMUM};
static const anm_mil_opcode singles[] = {ANM_OP_SILU, ANM_OP_SQUARE, ANM_OP_ABS, ANM_OP_IDENTITY, ANM_OP_SQRT, ANM_OP_RSQRT,
                                         ANM_OP_INVERSE, ANM_OP_TANH, ANM_OP_SIGMOID, ANM_OP_RELU, ANM_OP_EXP};
static const anm_mil_opcode sums[] = {ANM_OP_REDUCE_MEAN, ANM_OP_REDUCE_SUM, ANM_OP_REDUCE_MAX, ANM_OP_REDUCE_MIN,
                                      ANM_OP_REDUCE_SUM_SQUARE, ANM_OP_REDUCE_L2_NORM};
static const struct {
    const anm_mil_opcode *op;
    unsigned n;
} families[] = {{pairs, sizeof pairs / sizeof *pairs}, {singles, sizeof singles / sizeof *singles}, {sums, sizeof sums / sizeof *sums}};

static void change_code(hand *h, anm_mil_op *op)
{
    for (size_t f = 0; f < sizeof families / sizeof *families; f++)
        for (unsigned i = 0; i < families[f].n; i++)
            if (families[f].op[i] == op->code) {
                op->code = families[f].op[pick(h, families[f].n)];
                return;
            }
}

/* Another constant of the same type: a number moved, a flag turned. */
static void change_constant(hand *h, anm_mil_arg *a)
{
    anm_mil_value *v = a->value[0];
    int64_t list[ANM_MIL_MAX_RANK];
    bool flag;
    float f;
    int n;
    if (anm_mil_get_bool(v, &flag)) {
        a->value[0] = anm_mil_const_bool(&h->b, !flag);
    } else if (v->type.dtype == ANM_DT_I32 && anm_mil_get_i64s(v, list, ANM_MIL_MAX_RANK, &n) && n) {
        list[pick(h, (unsigned)n)] += (int64_t)pick(h, 9) - 4;
        a->value[0] = v->type.rank ? ints(h, n, list) : one_int(h, list[0]);
    } else if (v->type.dtype == ANM_DT_BOOL && v->constant->size) {
        bool flags[ANM_MIL_MAX_RANK];
        n = v->constant->size < ANM_MIL_MAX_RANK ? (int)v->constant->size : ANM_MIL_MAX_RANK;
        for (int i = 0; i < n; i++) flags[i] = v->constant->data[i];
        flags[pick(h, (unsigned)n)] ^= true;
        a->value[0] = anm_mil_const_bools(&h->b, n, flags);
    } else if (anm_mil_get_f32(v, &f)) {
        a->value[0] = number(h, f * (float)((int)pick(h, 7) - 3));
    }
}

/* One operand becomes another value that is there before this op; one of the same type if `same`. */
static void change_operand(hand *h, const anm_mil_op *op, anm_mil_value **slot, bool same)
{
    anm_mil_value *fit[MOST_VALUES];
    unsigned n = 0;
    anm_mil_function *fn = h->b.fn;
    for (uint32_t i = 0; i < fn->n_inputs && n < MOST_VALUES; i++)
        if (!same || anm_mil_type_equal(&fn->inputs[i]->type, &(*slot)->type)) fit[n++] = fn->inputs[i];
    for (const anm_mil_op *p = fn->first; p && p != op; p = p->next)
        for (uint32_t i = 0; i < p->n_outs && n < MOST_VALUES; i++)
            if (!same || anm_mil_type_equal(&p->outs[i]->type, &(*slot)->type)) fit[n++] = p->outs[i];
    if (n) *slot = fit[(pick(h, 256) << 8 | pick(h, 256)) % n];
}

static void change(hand *h)
{
    anm_mil_op *ops[MOST_OPS];
    unsigned n = 0;
    for (anm_mil_op *op = h->b.fn->first; op && n < MOST_OPS; op = op->next) ops[n++] = op;
    anm_mil_op *op = ops[(pick(h, 256) << 8 | pick(h, 256)) % n];
    if (!op->n_args) return;
    anm_mil_arg *a = &op->args[pick(h, op->n_args)];
    anm_mil_value **slot = &a->value[a->count > 1 ? pick(h, a->count) : 0];
    switch (pick(h, 5)) {
    case 0:
        if ((*slot)->constant) change_constant(h, a);
        else change_operand(h, op, slot, true);
        break;
    case 1: change_operand(h, op, slot, false); break;
    case 2: change_code(h, op); break;
    case 3: { /* two operands change places */
        anm_mil_arg *other = &op->args[pick(h, op->n_args)];
        anm_mil_value *v = *slot;
        *slot = other->value[0];
        other->value[0] = v;
        break;
    }
    default: /* something else than the last values are given out */
        if (h->b.fn->n_outputs) change_operand(h, NULL, &h->b.fn->outputs[pick(h, h->b.fn->n_outputs)], true);
    }
}

/* Types follow from what the ops now are. */
static bool infer(anm_mil_function *fn)
{
    anm_mil_type out[ANM_MIL_MAX_RANK];
    anm_error err;
    for (anm_mil_op *op = fn->first; op; op = op->next) {
        if (op->n_outs > ANM_MIL_MAX_RANK || anm_mil_infer(out, op, &err)) return false;
        for (uint32_t i = 0; i < op->n_outs; i++) op->outs[i]->type = out[i];
    }
    return true;
}

static bool is_shape(const anm_mil_value *v, anm_dtype type, const int64_t *dim, int rank)
{
    const anm_mil_type want = anm_mil_tensor(type, rank, dim);
    return anm_mil_type_equal(&v->type, &want);
}

/* What the engine has seen to before it makes a plan: the outputs are what the roles say. */
static bool keeps_signature(const fuzz_graph *g)
{
    const anm_method *m = &g->method;
    anm_mil_value *const *out = m->fn->outputs;
    if (!is_shape(out[m->logits], g->type, (const int64_t[]){1, m->logits_rows, m->vocab_size}, 3)) return false;
    for (int64_t i = 0; i < m->n_layers; i++)
        for (int v = 0; v < 2; v++)
            if (!is_shape(out[v ? g->kv[i].v_out : g->kv[i].k_out], g->type,
                          (const int64_t[]){1, m->n_kv_heads, m->rows, m->head_dim}, 4))
                return false;
    return true;
}

bool fuzz_graph_make(fuzz_graph *g, fuzz_dice *d)
{
    hand h = {.g = g, .d = d};
    anm_error err;
    memset(g, 0, sizeof *g);
    anm_mil_program_init(&g->program);
    anm_mil_function *fn = g->method.fn = anm_mil_function_new(&g->program, "forward", "CoreML8");
    if (!fn) abort();
    h.b = anm_mil_build(fn);
    unsigned changes = pick(&h, 4);
    if (!build(&h)) return false;
    for (unsigned i = 0; i < changes; i++) change(&h);
    if (!infer(fn) || anm_mil_verify(&g->program, true, &err) || !keeps_signature(g)) return false;
    size_t n = (size_t)(FUZZ_POSITIONS * g->method.table_width);
    g->cos = anm_arena_array(&g->program.arena, n, sizeof *g->cos);
    g->sin = anm_arena_array(&g->program.arena, n, sizeof *g->sin);
    if (!g->cos || !g->sin) abort();
    for (size_t i = 0; i < n; i++) {
        g->cos[i] = cosf((float)i);
        g->sin[i] = sinf((float)i);
    }
    return true;
}

void fuzz_graph_shake(fuzz_graph *g)
{
    uint64_t random = 1;
    for (size_t i = 0; i < g->n_floats; i++)
        for (uint64_t k = 0; k < g->floats[i].count; k++) {
            uint8_t *at = g->floats[i].data + k * (g->type == ANM_DT_F16 ? 2 : 4);
            random = random * 6364136223846793005u + 1442695040888963407u;
            if (g->type == ANM_DT_F16) {
                anm_st16(at, (uint16_t)(anm_ld16(at) ^ (random >> 63)));
            } else {
                float f;
                memcpy(&f, at, 4);
                f += f * (float)(int32_t)(random >> 32) * 0x1p-48f;
                memcpy(at, &f, 4);
            }
        }
    for (size_t i = 0; i < (size_t)(FUZZ_POSITIONS * g->method.table_width); i++) {
        g->cos[i] += 0x1p-17f * g->cos[i];
        g->sin[i] -= 0x1p-17f * g->sin[i];
    }
}

void fuzz_graph_free(fuzz_graph *g)
{
    anm_mil_program_free(&g->program);
}
