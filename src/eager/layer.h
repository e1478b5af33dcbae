/* SPDX-License-Identifier: BSD-3-Clause */
/* One layer in work: what its forward and backward passes share. Internal to eager/. */
#ifndef ANM_EAGER_LAYER_H
#define ANM_EAGER_LAYER_H

#include "eager/eager.h"

typedef struct layer_work {
    const anm_params *p;
    const anm_eager_layer *l;
    const float *cos, *sin;
    size_t windows, len, rows, nq, nk; /* nq, nk: columns of q and of k and v */
    anm_pool *pool;
    float *q, *k, *v, *o; /* [rows, nq or nk], heads side by side */
    _Atomic int code;     /* the first failure inside a loop */
} layer_work;

layer_work anm_layer_work(const anm_windows *w, const anm_eager_layer *l, const anm_params *p, const float *cos,
                          const float *sin, anm_pool *pool);

/* h = norm(x) * weight, all rows. */
void anm_layer_norm(const layer_work *w, float *h, const float *x, const float *weight);
/* q, k, v [rows, …] from h: products, biases, head norms, rotation. With `raw`, stops after the products. */
int anm_layer_qkv(layer_work *w, const float *h, bool raw, anm_error *err);
void anm_layer_finish_qkv(layer_work *w);
/* o = softmax(q k^T / sqrt(d)) v for every head of every window. */
int anm_layer_attend(layer_work *w, anm_error *err);
/* The probabilities of one head: [len, len], rows are queries; zero above the diagonal. */
int anm_layer_probabilities(float *out, const layer_work *w, size_t window, size_t head);
/* x [half pairs] of one head, rotated by the angle of `pos` (direction 1), or back (-1). */
void anm_layer_rotate(float *x, const layer_work *w, size_t pos, float direction);
/* y [rows, out] (+)= x [rows, in] w^T */
int anm_layer_product(float *y, const float *x, const float *wt, const layer_work *w, size_t in, size_t out, bool add, anm_error *err);

#endif
