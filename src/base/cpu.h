/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What this processor can run. Vector code comes in rungs of a ladder, each with all of a set of extensions, and a rung
 * counts only where the system saves its registers too.
 */
#ifndef ANM_BASE_CPU_H
#define ANM_BASE_CPU_H

#include <stdbool.h>

/* Within a family of processors a later rung is the better one. */
typedef enum anm_isa {
    ANM_ISA_PLAIN, /* what every processor of the family has */
    /* x86-64 */
    ANM_ISA_AVX2,       /* AVX2, FMA, F16C */
    ANM_ISA_AVXVNNI,    /* those, and AVX-VNNI */
    ANM_ISA_AVX512,     /* those of AVX2, and AVX-512 F, DQ, BW, VL */
    ANM_ISA_AVX512VNNI, /* those, and AVX-512 VNNI */
    ANM_ISA_AMX,        /* those, and AMX TILE, INT8 */
    /* 64-bit Arm */
    ANM_ISA_NEON,    /* all have it, FMA and conversions of fp16 with it */
    ANM_ISA_DOTPROD, /* FEAT_DotProd */
    ANM_ISA_I8MM,    /* and FEAT_I8MM */
    ANM_ISA_COUNT
} anm_isa;

/* "plain", "avx2" …, as the user may force one. */
const char *anm_isa_name(anm_isa isa);

/* Asked of the processor once, and then remembered: under a hypervisor the question costs microseconds. */
bool anm_isa_usable(anm_isa isa);

/* The highest rung that is usable; AMX is never chosen so, since its speed is not known: it has to be asked for. */
anm_isa anm_isa_best(void);

#endif
