/* SPDX-License-Identifier: BSD-3-Clause */
/* The tables of kernels, and which of them this processor can run. */
#include "kernel/kernels.h"

#include <stdio.h>
#include <string.h>

/* A table takes its forms by what VECTOR and DOT stand for at the time. */
#define JOIN(name, rung) anm_k_##name##_##rung,
#define FORM(name, rung) JOIN(name, rung)
#define ANM_KERNEL(kind, name, args) FORM(name, kind)

#define VECTOR plain
#define DOT plain
static const anm_kernels plain = {
    ANM_ISA_PLAIN,
    "plain",
#include "kernel/kernels.def"
};
#undef VECTOR
#undef DOT

#if defined(__x86_64__)

#define VECTOR avx2
#define DOT avx2
static const anm_kernels avx2 = {
    ANM_ISA_AVX2,
    "avx2",
#include "kernel/kernels.def"
};
#undef VECTOR
#undef DOT

#define VECTOR avx2
#define DOT avxvnni
static const anm_kernels avxvnni = {
    ANM_ISA_AVXVNNI,
    "avxvnni",
#include "kernel/kernels.def"
};
#undef VECTOR
#undef DOT

#define VECTOR avx512
#define DOT avx512
static const anm_kernels avx512 = {
    ANM_ISA_AVX512,
    "avx512",
#include "kernel/kernels.def"
};
#undef VECTOR
#undef DOT

#define VECTOR avx512
#define DOT avx512vnni
static const anm_kernels avx512vnni = {
    ANM_ISA_AVX512VNNI,
    "avx512vnni",
#include "kernel/kernels.def"
};
#undef VECTOR
#undef DOT

#define VECTOR avx512
#define DOT amx
static const anm_kernels amx = {
    ANM_ISA_AMX,
    "amx",
#include "kernel/kernels.def"
};
#undef VECTOR
#undef DOT

#elif defined(__aarch64__)

#define VECTOR neon
#define DOT neon
static const anm_kernels neon = {
    ANM_ISA_NEON,
    "neon",
#include "kernel/kernels.def"
};
#undef VECTOR
#undef DOT

#define VECTOR neon
#define DOT dotprod
static const anm_kernels dotprod = {
    ANM_ISA_DOTPROD,
    "dotprod",
#include "kernel/kernels.def"
};
#undef VECTOR
#undef DOT

#define VECTOR neon
#define DOT i8mm
static const anm_kernels i8mm = {
    ANM_ISA_I8MM,
    "i8mm",
#include "kernel/kernels.def"
};
#undef VECTOR
#undef DOT

#endif

const anm_kernels *anm_kernels_of(anm_isa isa)
{
    switch (isa) {
    case ANM_ISA_PLAIN: return &plain;
#if defined(__x86_64__)
    case ANM_ISA_AVX2: return &avx2;
    case ANM_ISA_AVXVNNI: return &avxvnni;
    case ANM_ISA_AVX512: return &avx512;
    case ANM_ISA_AVX512VNNI: return &avx512vnni;
    case ANM_ISA_AMX: return &amx;
#elif defined(__aarch64__)
    case ANM_ISA_NEON: return &neon;
    case ANM_ISA_DOTPROD: return &dotprod;
    case ANM_ISA_I8MM: return &i8mm;
#endif
    default: return NULL;
    }
}

int anm_kernels_choose(const anm_kernels **out, const char *force, anm_error *err)
{
    if (!force || !*force) {
        *out = anm_kernels_of(anm_isa_best());
        return 0;
    }
    char known[128] = "";
    for (anm_isa i = ANM_ISA_PLAIN; i < ANM_ISA_COUNT; i++) {
        if (!anm_kernels_of(i)) continue;
        if (!strcmp(force, anm_isa_name(i))) {
            if (!anm_isa_usable(i))
                return anm_fail(err, ANM_ERR_UNSUPPORTED, "ANEMONE_ISA=%s: this processor cannot run it", force);
            *out = anm_kernels_of(i);
            return 0;
        }
        snprintf(known + strlen(known), sizeof known - strlen(known), "%s%s", *known ? ", " : "", anm_isa_name(i));
    }
    return anm_fail(err, ANM_ERR_USAGE, "ANEMONE_ISA=%s: unknown; use one of %s", force, known);
}
