/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The root-mean-square norms.
 *
 * The reference's:  y = w * (x * rsqrt(mean(x * x) + eps))
 *   In fp16 the square overflows where |x| passes 255; SmolLM2's residual reaches 24,000.
 *
 * The safe one:     y = w * (x * (s c sqrt(d) / ||c x, c sqrt(d eps)||) / s)
 *   c is the power of two that keeps the length of d values of 60,000 within fp16, from 2^-5 for 576 values to 2^-7 for
 *   8,192; 0.01 times that is still a normal number. x itself is multiplied last, so that no small value is lost. The
 *   epsilon is one more coordinate, as the square under the reference's root has it, in a length of two: ||r, c sqrt(d eps)||.
 *   s, 8 with the usual epsilons, keeps the factor a normal number where the rms is 60,000, and finite where it is 0.
 *   reduce_l2_norm gives a length without handing out squares.
 *
 * The norm of queries and keys (per head) is as coremltools makes it of torch.rms_norm: scaled by the largest
 * magnitude first, so that the square cannot overflow.
 */
#include "graph/parts.h"
#include "base/half.h"

#include <math.h>

static anm_mil_value *last_axis(anm_hand *h)
{
    return anm_mil_const_i32s(&h->b, 1, (const int64_t[]){-1});
}

static anm_mil_value *reduce(anm_hand *h, anm_mil_opcode op, const char *name, anm_mil_value *x)
{
    return anm_mil_emit(&h->b, op, name, ANM_P_X, x, ANM_P_AXES, last_axis(h), ANM_P_KEEP_DIMS,
                        anm_mil_const_bool(&h->b, true), ANM_P_END);
}

/* The epsilon as the program holds it: one that fp16 would round to zero becomes the smallest fp16 number instead
 * (coremltools' fp16 casts), but a true zero stays one and its addition vanishes. */
static anm_mil_value *epsilon(anm_hand *h)
{
    float eps = (float)h->graph->model->params.norm_eps;
    if (h->graph->recipe.type == ANM_DT_F16 && eps > 0 && eps < 0x1p-24f) eps = 0x1p-24f;
    return anm_const_scalar(h, eps);
}

/* x + eps. An epsilon beyond fp16 is added in fp32, as coremltools leaves such an op alone. */
static anm_mil_value *plus_epsilon(anm_hand *h, const char *name, anm_mil_value *x)
{
    double eps = h->graph->model->params.norm_eps;
    if (h->graph->recipe.type != ANM_DT_F16 || (float)eps <= 65504)
        return anm_binary(h, ANM_OP_ADD, anm_name(h, "%s_mean_eps", name), x, epsilon(h));
    anm_mil_builder *b = &h->b;
    x = anm_mil_emit(b, ANM_OP_CAST, anm_name(h, "%s_mean_fp32", name), ANM_P_X, x, ANM_P_DTYPE, anm_mil_const_string(b, "fp32"), ANM_P_END);
    x = anm_binary(h, ANM_OP_ADD, anm_name(h, "%s_mean_eps_fp32", name), x, anm_mil_const_float(b, ANM_DT_F32, (float)eps));
    return anm_mil_emit(b, ANM_OP_CAST, anm_name(h, "%s_mean_eps", name), ANM_P_X, x, ANM_P_DTYPE, anm_mil_const_string(b, "fp16"), ANM_P_END);
}

static anm_mil_value *weighted(anm_hand *h, const char *name, anm_mil_value *x, const uint8_t *weight, int64_t n)
{
    anm_mil_value *w = anm_const_vector(h, anm_name(h, "%s_weight", name), weight, n);
    return anm_binary(h, ANM_OP_MUL, anm_name(h, "%s", name), x, w);
}

static anm_mil_value *reference_norm(anm_hand *h, const char *name, anm_mil_value *x)
{
    anm_mil_value *square = anm_binary(h, ANM_OP_MUL, anm_name(h, "%s_square", name), x, x);
    anm_mil_value *mean = reduce(h, ANM_OP_REDUCE_MEAN, anm_name(h, "%s_mean", name), square);
    anm_mil_value *sum = plus_epsilon(h, name, mean);
    anm_mil_value *inverse = anm_mil_emit(&h->b, ANM_OP_RSQRT, anm_name(h, "%s_rsqrt", name), ANM_P_X, sum, ANM_P_EPSILON,
                                          anm_mil_const_float(&h->b, ANM_DT_F32, 1e-12f), ANM_P_END);
    return anm_binary(h, ANM_OP_MUL, anm_name(h, "%s_unit", name), x, inverse);
}

static anm_mil_value *safe_norm(anm_hand *h, const char *name, anm_mil_value *x)
{
    const anm_params *p = &h->graph->model->params;
    double root = sqrt((double)p->dim), c = 1, s = 8, root_eps = sqrt(p->norm_eps);
    while (60000 * root * c > 65504) c /= 2;
    while (s > 1 && s > 65504 / 2 * root_eps) s /= 2;
    anm_mil_value *small = anm_binary(h, ANM_OP_MUL, anm_name(h, "%s_small", name), x, anm_const_scalar(h, c));
    anm_mil_value *length = reduce(h, ANM_OP_REDUCE_L2_NORM, anm_name(h, "%s_length", name), small);
    int64_t rows = length->type.rank == 3 ? length->type.dim[1] : 1;
    anm_mil_value *eps = anm_const_filled(h, anm_name(h, "%s_eps", name), 3, (const int64_t[]){1, rows, 1}, root * c * root_eps);
    length = anm_mil_emit_list(&h->b, ANM_OP_CONCAT, anm_name(h, "%s_length_and_eps", name), ANM_P_VALUES, 2,
                               (anm_mil_value *const[]){length, eps}, ANM_P_AXIS, anm_mil_const_i32(&h->b, -1),
                               ANM_P_INTERLEAVE, anm_mil_const_bool(&h->b, false), ANM_P_END);
    length = reduce(h, ANM_OP_REDUCE_L2_NORM, anm_name(h, "%s_length_eps", name), length);
    anm_mil_value *by = anm_binary(h, ANM_OP_REAL_DIV, anm_name(h, "%s_by", name), anm_const_scalar(h, root * c * s), length);
    anm_mil_value *unit = anm_binary(h, ANM_OP_MUL, anm_name(h, "%s_times_%d", name, (int)s), x, by);
    return anm_binary(h, ANM_OP_MUL, anm_name(h, "%s_unit", name), unit, anm_const_scalar(h, 1 / s));
}

anm_mil_value *anm_norm(anm_hand *h, const char *name, anm_mil_value *x, const uint8_t *weight)
{
    bool safe = h->graph->recipe.norm == ANM_NORM_SAFE;
    return weighted(h, name, safe ? safe_norm(h, name, x) : reference_norm(h, name, x), weight, h->graph->model->params.dim);
}

/*
 *   m = max|x|;  r = sqrt(mean((x / m)^2) + eps) * m;  y = w * (x / r)
 */
anm_mil_value *anm_head_norm(anm_hand *h, const char *name, anm_mil_value *x, const uint8_t *weight)
{
    anm_mil_value *size = anm_mil_emit(&h->b, ANM_OP_ABS, anm_name(h, "%s_abs", name), ANM_P_X, x, ANM_P_END);
    anm_mil_value *most = reduce(h, ANM_OP_REDUCE_MAX, anm_name(h, "%s_max", name), size);
    anm_mil_value *scaled = anm_binary(h, ANM_OP_REAL_DIV, anm_name(h, "%s_scaled", name), x, most);
    anm_mil_value *square = anm_mil_emit(&h->b, ANM_OP_SQUARE, anm_name(h, "%s_square", name), ANM_P_X, scaled, ANM_P_END);
    anm_mil_value *mean = reduce(h, ANM_OP_REDUCE_MEAN, anm_name(h, "%s_mean", name), square);
    anm_mil_value *sum = plus_epsilon(h, name, mean);
    anm_mil_value *root = anm_mil_emit(&h->b, ANM_OP_SQRT, anm_name(h, "%s_sqrt", name), ANM_P_X, sum, ANM_P_END);
    anm_mil_value *rms = anm_binary(h, ANM_OP_MUL, anm_name(h, "%s_rms", name), root, most);
    anm_mil_value *unit = anm_binary(h, ANM_OP_REAL_DIV, anm_name(h, "%s_unit", name), x, rms);
    return weighted(h, name, unit, weight, h->graph->model->params.head_dim);
}
