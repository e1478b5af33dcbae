/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * exp(x) for fp32, the steps that every vector form repeats: x = n ln 2 + r, exp(r) by a polynomial of degree 6 on
 * |r| <= ln 2 / 2, the result scaled by 2^n in two steps so that it runs out to 0 and infinity smoothly. The largest
 * relative error is about 1e-7. NaN gives NaN; minus infinity gives 0.
 */
#ifndef ANM_KERNEL_VEXP_H
#define ANM_KERNEL_VEXP_H

#include "base/half.h"

#include <math.h>

#define ANM_EXP_LOG2E 1.44269504088896341f
#define ANM_EXP_LN2_HI 0.693145751953125f /* ln 2 in two parts; n times the first is exact */
#define ANM_EXP_LN2_LO 1.42860682030941723212e-6f
#define ANM_EXP_MIN -104.0f
#define ANM_EXP_MAX 89.0f
/* Coefficients of r^2 … r^6, fitted so that the largest relative error on the interval is least. */
#define ANM_EXP_C2 0.4999999403953552f
#define ANM_EXP_C3 0.1666651964187622f
#define ANM_EXP_C4 0.04166839271783829f
#define ANM_EXP_C5 0.008368780836462975f
#define ANM_EXP_C6 0.0013814466074109077f

static inline float anm_exp(float x)
{
    if (!(x > ANM_EXP_MIN)) x = x != x ? x : ANM_EXP_MIN;
    if (x > ANM_EXP_MAX) x = ANM_EXP_MAX;
    float n = nearbyintf(x * ANM_EXP_LOG2E);
    float r = fmaf(-n, ANM_EXP_LN2_LO, fmaf(-n, ANM_EXP_LN2_HI, x));
    float p = fmaf(ANM_EXP_C6, r, ANM_EXP_C5);
    p = fmaf(p, r, ANM_EXP_C4);
    p = fmaf(p, r, ANM_EXP_C3);
    p = fmaf(p, r, ANM_EXP_C2);
    p = fmaf(p, r, 1.0f);
    p = fmaf(p, r, 1.0f);
    if (n != n) return n;
    int32_t k = (int32_t)n, half = k >> 1; /* 2^n as two factors, each a normal number */
    return p * anm_bits_f32((uint32_t)(half + 127) << 23) * anm_bits_f32((uint32_t)(k - half + 127) << 23);
}

#endif
