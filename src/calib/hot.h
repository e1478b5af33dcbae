/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The inner loops of rounding, compiled once per instruction set (the including file gives the names). Plain C that
 * compilers turn into vectors; the variants differ in nothing but width.
 */
#include "calib/hot_kind.h"

#include <math.h>

double GRID_ERROR(const float *w, const float *weight, size_t n, float scale, float low, float high);
double GRID_ERROR(const float *w, const float *weight, size_t n, float scale, float low, float high)
{
    float inv = 1 / scale, sum[16] = {0};
    size_t i = 0;
    for (; i + 16 <= n; i += 16)
        for (size_t l = 0; l < 16; l++) {
            float r = rintf(w[i + l] * inv);
            r = r < low ? low : r;
            r = r > high ? high : r;
            float d = w[i + l] - scale * r;
            sum[l] += d * d * weight[i + l];
        }
    for (; i < n; i++) {
        float r = rintf(w[i] * inv);
        r = r < low ? low : r > high ? high : r;
        sum[0] += (w[i] - scale * r) * (w[i] - scale * r) * weight[i];
    }
    double total = 0;
    for (int l = 0; l < 16; l++) total += (double)sum[l];
    return total;
}

void COLUMN(float *restrict e, float *restrict q, const float *restrict w, const float *restrict scale, float inv, float low, float high);
void COLUMN(float *restrict e, float *restrict q, const float *restrict w, const float *restrict scale, float inv, float low, float high)
{
    for (int l = 0; l < ANM_LANES; l++) {
        float r = rintf(w[l] / scale[l]);
        r = r < low ? low : r;
        r = r > high ? high : r;
        q[l] = r;
        e[l] = (w[l] - r * scale[l]) * inv;
    }
}

void PUSH(float *restrict w, const float *restrict e, const float *restrict u, size_t n);
void PUSH(float *restrict w, const float *restrict e, const float *restrict u, size_t n)
{
    for (size_t c = 0; c < n; c++)
        for (int l = 0; l < ANM_LANES; l++) w[c * ANM_LANES + l] -= e[l] * u[c];
}
