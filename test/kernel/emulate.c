/* SPDX-License-Identifier: BSD-3-Clause */
#if defined(__linux__) && !defined(_GNU_SOURCE)
#define _GNU_SOURCE /* for the registers' names */
#endif
#include "kernel/emulate.h"

#if defined(__x86_64__) && defined(__linux__)

#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <ucontext.h>

enum { TILES = 8, ROWS = 16, ROW_BYTES = 64 };

static struct sigaction before;
static volatile unsigned long count;
static struct {
    bool configured;
    uint8_t rows[16];
    uint16_t row_bytes[16];
    uint8_t data[TILES][ROWS][ROW_BYTES];
} tiles;

/* An instruction with a three-byte VEX prefix, map 0F38, W0. */
typedef struct instruction {
    const uint8_t *next;
    unsigned pp, wide, opcode, mod, reg, rm, vvvv; /* pp: 0 none, 1 66, 2 F3, 3 F2 */
    uint64_t base, index; /* a memory operand: base with its displacement, and the index, scaled */
} instruction;

static int64_t displaced(const uint8_t *p, int bytes)
{
    int32_t four;
    if (bytes == 1) return (int8_t)*p;
    memcpy(&four, p, 4);
    return four;
}

static uint64_t general(const ucontext_t *u, unsigned n)
{
    static const int place[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                                  REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
    return (uint64_t)u->uc_mcontext.gregs[place[n]];
}

static bool decode(instruction *in, const ucontext_t *u)
{
    const uint8_t *p = (const uint8_t *)(uintptr_t)u->uc_mcontext.gregs[REG_RIP];
    if (p[0] != 0xc4 || (p[1] & 31) != 2 || p[2] >> 7) return false;
    unsigned r = !(p[1] >> 7) * 8u, x = !(p[1] >> 6 & 1) * 8u, b = !(p[1] >> 5 & 1) * 8u;
    *in = (instruction){.pp = p[2] & 3, .wide = p[2] >> 2 & 1, .vvvv = ~(unsigned)p[2] >> 3 & 15, .opcode = p[3],
                        .mod = p[4] >> 6, .reg = (p[4] >> 3 & 7) + r, .rm = (p[4] & 7) + b};
    unsigned low = p[4] & 7;
    p += 5;
    if (in->mod != 3) {
        int displacement = in->mod == 1 ? 1 : in->mod == 2 ? 4 : 0;
        bool from_next = false, has_base = true;
        unsigned base = in->rm;
        if (low == 4) {
            unsigned index = (*p >> 3 & 7) + x;
            base = (*p & 7) + b;
            if (index != 4) in->index = general(u, index) << (*p >> 6);
            if ((*p & 7) == 5 && in->mod == 0) displacement = 4, has_base = false;
            p++;
        } else if (low == 5 && in->mod == 0) {
            displacement = 4, has_base = false, from_next = true;
        }
        if (has_base) in->base = general(u, base);
        if (displacement) in->base += (uint64_t)displaced(p, displacement);
        p += displacement;
        if (from_next) in->base += (uint64_t)(uintptr_t)p;
    }
    in->next = p;
    return true;
}

/* ---- AVX-VNNI ---- */

/* A vector register in the frame: its low half is in the old area, its upper half 576 bytes on (the layout that XSAVE
 * has without compaction). */
static uint8_t *half_of(const ucontext_t *u, unsigned reg, int upper)
{
    uint8_t *area = (uint8_t *)u->uc_mcontext.fpregs;
    return upper ? area + 576 + 16 * reg : (uint8_t *)&u->uc_mcontext.fpregs->_xmm[reg];
}

static void read_vector(const ucontext_t *u, unsigned reg, uint8_t v[32])
{
    uint64_t present; /* components that are not in their first state, which is zero */
    memcpy(&present, (const uint8_t *)u->uc_mcontext.fpregs + 512, 8);
    memset(v, 0, 32);
    for (int upper = 0; upper < 2; upper++)
        if (present >> (1 + upper) & 1) memcpy(v + 16 * upper, half_of(u, reg, upper), 16);
}

static bool vpdpbusd(const instruction *in, ucontext_t *u)
{
    uint8_t sum[32], a[32], b[32];
    read_vector(u, in->reg, sum);
    read_vector(u, in->vvvv, a);
    if (in->mod == 3) read_vector(u, in->rm, b);
    else memcpy(b, (const void *)(uintptr_t)(in->base + in->index), in->wide ? 32 : 16);
    if (!in->wide) return false; /* nobody uses the short one */
    for (int i = 0; i < 8; i++) {
        uint32_t s;
        memcpy(&s, sum + 4 * i, 4);
        for (int k = 0; k < 4; k++) s += (uint32_t)(a[4 * i + k] * (int8_t)b[4 * i + k]);
        memcpy(sum + 4 * i, &s, 4);
    }
    uint64_t present;
    uint8_t *header = (uint8_t *)u->uc_mcontext.fpregs + 512;
    memcpy(&present, header, 8);
    if ((present & 6) != 6) return false; /* not after vector code */
    for (int upper = 0; upper < 2; upper++) memcpy(half_of(u, in->reg, upper), sum + 16 * upper, 16);
    return true;
}

/* ---- AMX ---- */

static bool configure(const uint8_t *from)
{
    if (from[0] != 1 || from[1] != 0) return false;
    for (int i = 2; i < 16; i++)
        if (from[i]) return false;
    memcpy(tiles.row_bytes, from + 16, 32);
    memcpy(tiles.rows, from + 48, 16);
    for (int i = 0; i < 16; i++) /* what the processor would refuse */
        if (i < TILES ? tiles.row_bytes[i] > ROW_BYTES || tiles.rows[i] > ROWS || !tiles.rows[i] != !tiles.row_bytes[i]
                      : tiles.row_bytes[i] || tiles.rows[i])
            return false;
    memset(tiles.data, 0, sizeof tiles.data);
    return tiles.configured = true;
}

static bool is_tile(unsigned t)
{
    return tiles.configured && t < TILES && tiles.rows[t];
}

/* c += a * b: rows of a by fours of bytes, against rows of fours. */
static bool multiply(unsigned c, unsigned a, unsigned b, bool a_signed, bool b_signed)
{
    if (!is_tile(a) || !is_tile(b) || !is_tile(c) || a == b || a == c || b == c) return false;
    int steps = tiles.row_bytes[a] / 4, lanes = tiles.row_bytes[b] / 4;
    if (tiles.rows[a] != tiles.rows[c] || tiles.rows[b] != steps || tiles.row_bytes[b] != tiles.row_bytes[c]) return false;
    for (int m = 0; m < tiles.rows[c]; m++)
        for (int n = 0; n < lanes; n++) {
            uint32_t s;
            memcpy(&s, tiles.data[c][m] + 4 * n, 4);
            for (int k = 0; k < 4 * steps; k++) {
                uint8_t x = tiles.data[a][m][k], y = tiles.data[b][k / 4][4 * n + k % 4];
                s += (uint32_t)((a_signed ? (int8_t)x : x) * (b_signed ? (int8_t)y : y));
            }
            memcpy(tiles.data[c][m] + 4 * n, &s, 4);
        }
    for (int m = tiles.rows[c]; m < ROWS; m++) memset(tiles.data[c][m], 0, ROW_BYTES);
    return true;
}

/* Rows `stride` bytes apart, the stride being the index. */
static bool move(const instruction *in, bool load)
{
    if (in->mod == 3 || in->rm % 8 != 4 || !is_tile(in->reg)) return false;
    for (unsigned m = 0; m < ROWS; m++) {
        uint8_t *at = (uint8_t *)(uintptr_t)(in->base + m * in->index), *row = tiles.data[in->reg][m];
        size_t n = m < tiles.rows[in->reg] ? tiles.row_bytes[in->reg] : 0;
        if (!load) {
            memcpy(at, row, n);
            continue;
        }
        memset(row, 0, ROW_BYTES);
        memcpy(row, at, n);
    }
    return true;
}

static bool tile_instruction(const instruction *in)
{
    if (in->wide) return false;
    switch (in->opcode << 4 | in->pp) {
    case 0x490: /* LDTILECFG, TILERELEASE */
        if (in->mod != 3) return configure((const uint8_t *)(uintptr_t)(in->base + in->index));
        memset(&tiles, 0, sizeof tiles);
        return true;
    case 0x493: /* TILEZERO */
        if (in->mod != 3 || !is_tile(in->reg)) return false;
        memset(tiles.data[in->reg], 0, sizeof tiles.data[in->reg]);
        return true;
    case 0x4b3: return move(in, true);  /* TILELOADD */
    case 0x4b2: return move(in, false); /* TILESTORED */
    case 0x5e3: return multiply(in->reg, in->rm, in->vvvv, true, true);   /* TDPBSSD */
    case 0x5e2: return multiply(in->reg, in->rm, in->vvvv, true, false);  /* TDPBSUD */
    case 0x5e1: return multiply(in->reg, in->rm, in->vvvv, false, true);  /* TDPBUSD */
    case 0x5e0: return multiply(in->reg, in->rm, in->vvvv, false, false); /* TDPBUUD */
    default: return false;
    }
}

/* ---- the handler ---- */

static void refused(int signal_number, siginfo_t *info, void *context)
{
    (void)info;
    ucontext_t *u = context;
    instruction in;
    if (decode(&in, u) && (in.opcode == 0x50 && in.pp == 1 ? vpdpbusd(&in, u) : tile_instruction(&in))) {
        u->uc_mcontext.gregs[REG_RIP] = (greg_t)(uintptr_t)in.next;
        count++;
        return;
    }
    sigaction(signal_number, &before, NULL); /* none of ours: it happens again, and as it would have */
}

bool emulate_begin(anm_isa isa)
{
    anm_isa needs = isa == ANM_ISA_AVXVNNI ? ANM_ISA_AVX2 : isa == ANM_ISA_AMX ? ANM_ISA_AVX512VNNI : ANM_ISA_COUNT;
    if (needs == ANM_ISA_COUNT || !anm_isa_usable(needs)) return false;
    struct sigaction action = {.sa_sigaction = refused, .sa_flags = SA_SIGINFO};
    count = 0;
    return !sigaction(SIGILL, &action, &before);
}

unsigned long emulate_end(void)
{
    sigaction(SIGILL, &before, NULL);
    return count;
}

#else

bool emulate_begin(anm_isa isa)
{
    (void)isa;
    return false;
}

unsigned long emulate_end(void)
{
    return 0;
}

#endif
