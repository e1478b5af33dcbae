/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The root-mean-square norms.
 *
 * The reference's:  y = w * (x * rsqrt(mean(x * x) + eps))
 *   In fp16 the square overflows where |x| passes 255; SmolLM2's residual reaches 24,000.
 *
 * The safe one:     y = w * (x * (sqrt(d) / ||x||))
 *   by reduce_l2_norm, which processors compute without squaring in fp16's range; see the picture below for what keeps
 *   its own intermediates in range.
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

static anm_mil_value *binary(anm_hand *h, anm_mil_opcode op, const char *name, anm_mil_value *x, anm_mil_value *y)
{
    return anm_mil_emit(&h->b, op, name, ANM_P_X, x, ANM_P_Y, y, ANM_P_END);
}

/* The epsilon as the program holds it: one that fp16 would round to zero becomes the smallest fp16 number instead
 * (coremltools' fp16 casts), but a true zero stays one and its addition vanishes. */
static anm_mil_value *epsilon(anm_hand *h)
{
    float eps = (float)h->graph->model->params.norm_eps;
    if (h->graph->recipe.type == ANM_DT_F16 && eps > 0 && eps < 0x1p-24f) eps = 0x1p-24f;
    return anm_const_scalar(h, eps);
}

static anm_mil_value *weighted(anm_hand *h, const char *name, anm_mil_value *x, const uint8_t *weight, int64_t n)
{
    anm_mil_value *w = anm_const_vector(h, anm_name(h, "%s_weight", name), weight, n);
    return binary(h, ANM_OP_MUL, anm_name(h, "%s", name), x, w);
}

static anm_mil_value *reference_norm(anm_hand *h, const char *name, anm_mil_value *x)
{
    anm_mil_value *square = binary(h, ANM_OP_MUL, anm_name(h, "%s_square", name), x, x);
    anm_mil_value *mean = reduce(h, ANM_OP_REDUCE_MEAN, anm_name(h, "%s_mean", name), square);
    anm_mil_value *sum = binary(h, ANM_OP_ADD, anm_name(h, "%s_mean_eps", name), mean, epsilon(h));
    anm_mil_value *inverse = anm_mil_emit(&h->b, ANM_OP_RSQRT, anm_name(h, "%s_rsqrt", name), ANM_P_X, sum, ANM_P_EPSILON,
                                          anm_mil_const_float(&h->b, ANM_DT_F32, 1e-12f), ANM_P_END);
    return binary(h, ANM_OP_MUL, anm_name(h, "%s_unit", name), x, inverse);
}

anm_mil_value *anm_norm(anm_hand *h, const char *name, anm_mil_value *x, const uint8_t *weight)
{
    return weighted(h, name, reference_norm(h, name, x), weight, h->graph->model->params.dim);
}

/*
 *   m = max|x|;  r = sqrt(mean((x / m)^2) + eps) * m;  y = w * (x / r)
 */
anm_mil_value *anm_head_norm(anm_hand *h, const char *name, anm_mil_value *x, const uint8_t *weight)
{
    anm_mil_value *size = anm_mil_emit(&h->b, ANM_OP_ABS, anm_name(h, "%s_abs", name), ANM_P_X, x, ANM_P_END);
    anm_mil_value *most = reduce(h, ANM_OP_REDUCE_MAX, anm_name(h, "%s_max", name), size);
    anm_mil_value *scaled = binary(h, ANM_OP_REAL_DIV, anm_name(h, "%s_scaled", name), x, most);
    anm_mil_value *square = anm_mil_emit(&h->b, ANM_OP_SQUARE, anm_name(h, "%s_square", name), ANM_P_X, scaled, ANM_P_END);
    anm_mil_value *mean = reduce(h, ANM_OP_REDUCE_MEAN, anm_name(h, "%s_mean", name), square);
    anm_mil_value *sum = binary(h, ANM_OP_ADD, anm_name(h, "%s_mean_eps", name), mean, epsilon(h));
    anm_mil_value *root = anm_mil_emit(&h->b, ANM_OP_SQRT, anm_name(h, "%s_sqrt", name), ANM_P_X, sum, ANM_P_END);
    anm_mil_value *rms = binary(h, ANM_OP_MUL, anm_name(h, "%s_rms", name), root, most);
    anm_mil_value *unit = binary(h, ANM_OP_REAL_DIV, anm_name(h, "%s_unit", name), x, rms);
    return weighted(h, name, unit, weight, h->graph->model->params.head_dim);
}
