/* SPDX-License-Identifier: BSD-3-Clause */
#include "calib/hot_kind.h"
#include "base/cpu.h"

#define DECLARE(isa)                                                                                                   \
    double anm_grid_error_##isa(const float *, const float *, size_t, float, float, float);                            \
    void anm_column_##isa(float *restrict, float *restrict, const float *restrict, const float *restrict, float, float, float); \
    void anm_push_##isa(float *restrict, const float *restrict, const float *restrict, size_t);                        \
    static const anm_hot isa = {anm_grid_error_##isa, anm_column_##isa, anm_push_##isa}

DECLARE(plain);
#if defined(__x86_64__)
DECLARE(avx2);
DECLARE(avx512);
#endif

const anm_hot *anm_hot_pick(void)
{
#if defined(__x86_64__)
    if (anm_isa_usable(ANM_ISA_AVX512)) return &avx512;
    if (anm_isa_usable(ANM_ISA_AVX2)) return &avx2;
#endif
    return &plain;
}
