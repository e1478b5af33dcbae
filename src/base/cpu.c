/* SPDX-License-Identifier: BSD-3-Clause */
#include "base/cpu.h"

#include <stdatomic.h>
#include <stdint.h>

#if defined(__x86_64__)
#include <cpuid.h>

/* What the system saves for us on a task switch: bits of XCR0. */
static uint64_t saved_state(void)
{
    uint32_t lo, hi;
    __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    return (uint64_t)hi << 32 | lo;
}

static anm_isa ask(void)
{
    enum { SSE_AVX = 0x6, AVX512_STATE = 0xe6 };
    uint32_t a, b, c, d, b7, c7, d7;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c >> 27 & 1)) return ANM_ISA_PLAIN; /* OSXSAVE */
    bool fma = c >> 12 & 1, avx = c >> 28 & 1, f16c = c >> 29 & 1;
    if (!__get_cpuid_count(7, 0, &a, &b7, &c7, &d7)) return ANM_ISA_PLAIN;
    uint64_t saved = saved_state();
    if (!fma || !avx || !f16c || !(b7 >> 5 & 1) || (saved & SSE_AVX) != SSE_AVX) return ANM_ISA_PLAIN;
    bool f = b7 >> 16 & 1, dq = b7 >> 17 & 1, bw = b7 >> 30 & 1, vl = b7 >> 31 & 1, vnni = c7 >> 11 & 1;
    return f && dq && bw && vl && vnni && (saved & AVX512_STATE) == AVX512_STATE ? ANM_ISA_AVX512 : ANM_ISA_AVX2;
}

#else

static anm_isa ask(void)
{
    return ANM_ISA_PLAIN;
}

#endif

anm_isa anm_isa_best(void)
{
    static _Atomic int known = -1; /* every thread that asks finds the same */
    int best = atomic_load_explicit(&known, memory_order_relaxed);
    if (best < 0) {
        best = (int)ask();
        atomic_store_explicit(&known, best, memory_order_relaxed);
    }
    return (anm_isa)best;
}

bool anm_isa_usable(anm_isa isa)
{
    return isa <= anm_isa_best();
}
