/* SPDX-License-Identifier: BSD-3-Clause */
/* The forms of the kernels, by instruction set: for the files that define them and the one that lists them. */
#ifndef ANM_KERNEL_KERNELS_H
#define ANM_KERNEL_KERNELS_H

#include "kernel/kernel.h"

#define ANM_TINY 1e-30f /* activations of a smaller magnitude are 0 when they are quantised */

#define ANM_KERNEL(kind, name, args)                                                                                   \
    void anm_k_##name##_plain args;                                                                                    \
    void anm_k_##name##_avx2 args;                                                                                     \
    void anm_k_##name##_avxvnni args;                                                                                  \
    void anm_k_##name##_avx512 args;                                                                                   \
    void anm_k_##name##_avx512vnni args;                                                                               \
    void anm_k_##name##_amx args;                                                                                      \
    void anm_k_##name##_neon args;                                                                                     \
    void anm_k_##name##_dotprod args;                                                                                  \
    void anm_k_##name##_i8mm args;
#include "kernel/kernels.def"
#undef ANM_KERNEL

#endif
