/* SPDX-License-Identifier: BSD-3-Clause */
#include "base/cpu.h"

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

/* Sets of rungs: bit i stands for rung i. */
#define SET(rung) (1u << ANM_ISA_##rung)

#if defined(__x86_64__)
#include <cpuid.h>

#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>

/* Linux wants to be asked before it makes room for the tiles in what it saves for this process. */
static bool may_use_tiles(void)
{
    enum { ARCH_REQ_XCOMP_PERM = 0x1023, TILE_DATA = 18 };
    return !syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, TILE_DATA);
}
#else
static bool may_use_tiles(void) { return false; }
#endif

/* What the system saves for us on a task switch: bits of XCR0. */
static uint64_t saved_state(void)
{
    uint32_t lo, hi;
    __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    return (uint64_t)hi << 32 | lo;
}

static unsigned ask(void)
{
    enum { SSE_AVX = 0x6, AVX512_STATE = 0xe6, TILE_STATE = 0x60000 };
    unsigned set = SET(PLAIN);
    uint32_t a, b, c, d, b7, c7, d7;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c >> 27 & 1)) return set; /* OSXSAVE */
    bool fma = c >> 12 & 1, avx = c >> 28 & 1, f16c = c >> 29 & 1;
    if (!__get_cpuid_count(7, 0, &a, &b7, &c7, &d7)) return set;
    uint64_t saved = saved_state();
    if (!fma || !avx || !f16c || !(b7 >> 5 & 1) || (saved & SSE_AVX) != SSE_AVX) return set;
    set |= SET(AVX2);
    if (__get_cpuid_count(7, 1, &a, &b, &c, &d) && a >> 4 & 1) set |= SET(AVXVNNI);
    bool f = b7 >> 16 & 1, dq = b7 >> 17 & 1, bw = b7 >> 30 & 1, vl = b7 >> 31 & 1, vnni = c7 >> 11 & 1;
    if (!f || !dq || !bw || !vl || (saved & AVX512_STATE) != AVX512_STATE) return set;
    set |= SET(AVX512);
    if (!vnni) return set;
    set |= SET(AVX512VNNI);
    bool tile = d7 >> 24 & 1, int8 = d7 >> 25 & 1;
    if (tile && int8 && (saved & TILE_STATE) == TILE_STATE && may_use_tiles()) set |= SET(AMX);
    return set;
}

#elif defined(__aarch64__)

#if defined(__linux__)
#include <sys/auxv.h>

/* The kernel names only what it lets programs use. */
static bool has_dotprod(void) { return getauxval(AT_HWCAP) >> 20 & 1; } /* HWCAP_ASIMDDP */
static bool has_i8mm(void) { return getauxval(AT_HWCAP2) >> 13 & 1; }   /* HWCAP2_I8MM */

#elif defined(__APPLE__)
#include <sys/sysctl.h>

static bool says(const char *name)
{
    int value = 0;
    size_t size = sizeof value;
    return !sysctlbyname(name, &value, &size, NULL, 0) && value;
}
static bool has_dotprod(void) { return says("hw.optional.arm.FEAT_DotProd"); }
static bool has_i8mm(void) { return says("hw.optional.arm.FEAT_I8MM"); }

#else

static bool has_dotprod(void) { return false; }
static bool has_i8mm(void) { return false; }

#endif

static unsigned ask(void)
{
    unsigned set = SET(PLAIN) | SET(NEON);
    if (!has_dotprod()) return set;
    return set | SET(DOTPROD) | (has_i8mm() ? SET(I8MM) : 0);
}

#else

static unsigned ask(void)
{
    return SET(PLAIN);
}

#endif

static unsigned usable(void)
{
    static _Atomic unsigned known = 0; /* every thread that asks finds the same; the plain rung is never missing */
    unsigned set = atomic_load_explicit(&known, memory_order_relaxed);
    if (!set) {
        set = ask();
        atomic_store_explicit(&known, set, memory_order_relaxed);
    }
    return set;
}

const char *anm_isa_name(anm_isa isa)
{
    static const char *const name[ANM_ISA_COUNT] = {"plain", "avx2", "avxvnni", "avx512", "avx512vnni",
                                                    "amx",   "neon", "dotprod", "i8mm"};
    return name[isa];
}

bool anm_isa_usable(anm_isa isa)
{
    return usable() >> isa & 1;
}

anm_isa anm_isa_best(void)
{
    anm_isa best = ANM_ISA_COUNT - 1;
    while (!anm_isa_usable(best) || best == ANM_ISA_AMX) best--;
    return best;
}
