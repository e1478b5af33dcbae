/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The inner loops of dense/, compiled once per instruction set: the including file says the vector's width VW (floats),
 * the tile MR x NR, NR a multiple of VW, and the names. GNU vector extensions keep it one text for all of them.
 *
 *   acc[MR][NR] = sum over p < k of a[p][MR] (broadcast) * b[p][NR]
 *
 * a and b are packed: MR (NR) values for each p, one after the other.
 */
#include <stddef.h>

/* Loaded and stored by element, at any address: an array copied whole would be kept in memory, not in registers. */
typedef float vec __attribute__((vector_size(VW * 4), aligned(4), may_alias));

void MICRO(float *acc, const float *a, const float *b, size_t k);
void MICRO(float *acc, const float *a, const float *b, size_t k)
{
    vec sum[MR][NR / VW] = {{{0}}};
    for (size_t p = 0; p < k; p++, a += MR, b += NR) {
        const vec *y = (const vec *)b;
#pragma GCC unroll 16
        for (int i = 0; i < MR; i++)
#pragma GCC unroll 4
            for (int j = 0; j < NR / VW; j++) sum[i][j] += y[j] * a[i];
    }
#pragma GCC unroll 16
    for (int i = 0; i < MR; i++)
#pragma GCC unroll 4
        for (int j = 0; j < NR / VW; j++) *(vec *)(acc + i * NR + j * VW) = sum[i][j];
}
