/* SPDX-License-Identifier: BSD-3-Clause */
/* The tables of kernels, and which of them this processor can run. */
#include "kernel/kernels.h"

#include <string.h>

#if defined(__x86_64__)
#define HAVE_X86 1
#else
#define HAVE_X86 0
#endif

static const anm_kernels plain = {
    ANM_ISA_PLAIN,
    "plain",
#define ANM_KERNEL(name, args, p, avx2, avx512) anm_k_##name##_plain,
#include "kernel/kernels.def"
#undef ANM_KERNEL
};

#if HAVE_X86

/* PICK(1, own, lower) is own, PICK(0, own, lower) is lower. */
#define PICK(has, own, lower) PICK_##has(own, lower)
#define PICK_1(own, lower) own
#define PICK_0(own, lower) lower

static const anm_kernels avx2 = {
    ANM_ISA_AVX2,
    "avx2",
#define ANM_KERNEL(name, args, p, a2, a512) PICK(a2, anm_k_##name##_avx2, anm_k_##name##_plain),
#include "kernel/kernels.def"
#undef ANM_KERNEL
};

static const anm_kernels avx512 = {
    ANM_ISA_AVX512,
    "avx512",
#define ANM_KERNEL(name, args, p, a2, a512)                                                                            \
    PICK(a512, anm_k_##name##_avx512, PICK(a2, anm_k_##name##_avx2, anm_k_##name##_plain)),
#include "kernel/kernels.def"
#undef ANM_KERNEL
};

const anm_kernels *anm_kernels_of(anm_isa isa)
{
    return isa == ANM_ISA_AVX512 ? &avx512 : isa == ANM_ISA_AVX2 ? &avx2 : &plain;
}

#else

const anm_kernels *anm_kernels_of(anm_isa isa)
{
    (void)isa;
    return &plain;
}

#endif

int anm_kernels_choose(const anm_kernels **out, const char *force, anm_error *err)
{
    static const char *const name[ANM_ISA_COUNT] = {"plain", "avx2", "avx512"};
    if (!force || !*force) {
        *out = anm_kernels_of(anm_isa_best());
        return 0;
    }
    for (anm_isa i = ANM_ISA_PLAIN; i < ANM_ISA_COUNT; i++) {
        if (strcmp(force, name[i])) continue;
        if (!anm_isa_usable(i))
            return anm_fail(err, ANM_ERR_UNSUPPORTED, "ANEMONE_ISA=%s: this processor cannot run it", force);
        *out = anm_kernels_of(i);
        return 0;
    }
    return anm_fail(err, ANM_ERR_USAGE, "ANEMONE_ISA=%s: unknown; use plain, avx2 or avx512", force);
}
