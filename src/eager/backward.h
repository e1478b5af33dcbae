/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The gradient of a loss through one layer: what calibration asks for to learn which tokens and which outputs matter to
 * the model's answer. Activations inside the layer are computed again from its input, so that only the residual stream
 * has to be kept between layers.
 */
#ifndef ANM_EAGER_BACKWARD_H
#define ANM_EAGER_BACKWARD_H

#include "eager/eager.h"

/* Linears of a layer, by role. */
typedef enum anm_linear { ANM_LINEAR_Q, ANM_LINEAR_K, ANM_LINEAR_V, ANM_LINEAR_O, ANM_LINEAR_GATE, ANM_LINEAR_UP, ANM_LINEAR_DOWN, ANM_LINEAR_COUNT } anm_linear;

/* Sees, for each linear of the layer, its output y and the loss's gradient by it, both [rows, cols] and before any
 * bias is added. */
typedef int anm_gradient_tap(void *ctx, anm_linear which, const float *y, const float *dy, size_t rows, size_t cols, anm_error *err);

/* x holds the layer's input (its residual stream is not changed); d [rows, dim] is the gradient by the layer's output on
 * entry and by its input on return. `tap` may be NULL. */
int anm_eager_layer_backward(float *d, const anm_windows *x, const anm_eager_layer *l, const anm_params *p, const float *cos,
                             const float *sin, anm_gradient_tap *tap, void *ctx, anm_pool *pool, anm_error *err);

/* d [rows, cols] in place: the gradient by y = x * weight / sqrt(mean(x^2) + eps) becomes the gradient by x. */
void anm_eager_norm_backward(float *d, const float *x, const float *weight, size_t rows, size_t cols, double eps);

#endif
