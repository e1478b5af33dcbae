/* SPDX-License-Identifier: BSD-3-Clause */
/* The tables of kernels, and which of them this processor can run. */
#include "kernel/kernels.h"

#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>
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

/* What the system saves for us on a task switch: bits of XCR0. */
static uint64_t saved_state(void)
{
    uint32_t lo, hi;
    __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    return (uint64_t)hi << 32 | lo;
}

bool anm_isa_usable(anm_isa isa)
{
    enum { SSE_AVX = 0x6, AVX512_STATE = 0xe6 };
    uint32_t a, b, c, d, b7, c7, d7;
    if (isa == ANM_ISA_PLAIN) return true;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c >> 27 & 1)) return false; /* OSXSAVE */
    bool fma = c >> 12 & 1, avx = c >> 28 & 1, f16c = c >> 29 & 1;
    if (!__get_cpuid_count(7, 0, &a, &b7, &c7, &d7)) return false;
    uint64_t saved = saved_state();
    bool is_avx2 = fma && avx && f16c && (b7 >> 5 & 1) && (saved & SSE_AVX) == SSE_AVX;
    if (isa == ANM_ISA_AVX2) return is_avx2;
    bool f = b7 >> 16 & 1, dq = b7 >> 17 & 1, bw = b7 >> 30 & 1, vl = b7 >> 31 & 1, vnni = c7 >> 11 & 1;
    return isa == ANM_ISA_AVX512 && is_avx2 && f && dq && bw && vl && vnni && (saved & AVX512_STATE) == AVX512_STATE;
}

const anm_kernels *anm_kernels_of(anm_isa isa)
{
    return isa == ANM_ISA_AVX512 ? &avx512 : isa == ANM_ISA_AVX2 ? &avx2 : &plain;
}

#else

bool anm_isa_usable(anm_isa isa)
{
    return isa == ANM_ISA_PLAIN;
}

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
        anm_isa best = ANM_ISA_PLAIN;
        for (anm_isa i = ANM_ISA_PLAIN; i < ANM_ISA_COUNT; i++)
            if (anm_isa_usable(i)) best = i;
        *out = anm_kernels_of(best);
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
