/* SPDX-License-Identifier: BSD-3-Clause */
/* 4-bit weights by int8 activations with the dot products of ARMv8.2 (FEAT_DotProd). */
#include "kernel/arm/dotprod.h"

void anm_k_q4_q8_dotprod(float *out, const anm_q4 *w, int64_t tile, const anm_q8 *x, int32_t row, int32_t rows)
{
    anm_neon_q4_q8(out, w, tile, x, row, rows, anm_sdot32);
}
