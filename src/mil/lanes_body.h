/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The inner loop of the interpreter's linear: four rows of a weight by eight rows of x, every sum by itself and in order,
 * in fp64. Compiled once for each set of instructions (lanes_*.c); products are not fused, so all give the same bits.
 */
#include "mil/lanes.h"

void ANM_LANES_PRODUCT(double *restrict sum, const double *restrict x, const float *restrict w, int64_t k)
{
    double a[ANM_LANES] = {0}, b[ANM_LANES] = {0}, c[ANM_LANES] = {0}, d[ANM_LANES] = {0};
    for (int64_t i = 0; i < k; i++, x += ANM_LANES) {
        double p = (double)w[i], q = (double)w[k + i], r = (double)w[2 * k + i], s = (double)w[3 * k + i];
        for (int l = 0; l < ANM_LANES; l++) a[l] += p * x[l];
        for (int l = 0; l < ANM_LANES; l++) b[l] += q * x[l];
        for (int l = 0; l < ANM_LANES; l++) c[l] += r * x[l];
        for (int l = 0; l < ANM_LANES; l++) d[l] += s * x[l];
    }
    for (int l = 0; l < ANM_LANES; l++) sum[l] = a[l];
    for (int l = 0; l < ANM_LANES; l++) sum[ANM_LANES + l] = b[l];
    for (int l = 0; l < ANM_LANES; l++) sum[2 * ANM_LANES + l] = c[l];
    for (int l = 0; l < ANM_LANES; l++) sum[3 * ANM_LANES + l] = d[l];
}
