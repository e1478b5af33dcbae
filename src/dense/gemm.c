/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Blocked matrix product. Both operands are packed into panels that the inner tile reads in order; k is cut into blocks
 * of KC, so that a panel of B stays in the second-level cache while all of A passes by it.
 *
 *   for each block of k: pack B (all of it, in parallel), then per task a band of rows: pack A's band, all tiles of it
 */
#include "dense/dense.h"
#include "base/cpu.h"
#include "dense/micro_kind.h"

#include <stdlib.h>
#include <string.h>

anm_micro_fn anm_micro_plain, anm_micro_avx2, anm_micro_avx512, anm_micro_neon;

const anm_micro_kind *anm_micro_pick(void)
{
    static const anm_micro_kind plain = {"plain", 4, 8, anm_micro_plain};
#if defined(__x86_64__)
    static const anm_micro_kind avx2 = {"avx2", 6, 16, anm_micro_avx2};
    static const anm_micro_kind avx512 = {"avx512", 12, 32, anm_micro_avx512};
    if (anm_isa_usable(ANM_ISA_AVX512)) return &avx512;
    if (anm_isa_usable(ANM_ISA_AVX2)) return &avx2;
#elif defined(__aarch64__)
    static const anm_micro_kind neon = {"neon", 6, 12, anm_micro_neon};
    if (anm_isa_usable(ANM_ISA_NEON)) return &neon;
#endif
    return &plain;
}

const char *anm_gemm_name(void)
{
    return anm_micro_pick()->name;
}

enum { KC = 384, BAND = 96, MOST_MR = 16, MOST_NR = 32 }; /* BAND: rows of A per task, a multiple of 4, 6 and 12 */

typedef struct job {
    const anm_micro_kind *kind;
    float *c, *b_packed, *a_packed; /* a_packed: one band for each thread */
    anm_view a, b;
    size_t ldc, m, n, k0, k; /* the block of k in work: [k0, k0 + k) */
    bool add;
    bool upper; /* c is symmetric: only tiles that reach the diagonal or lie right of it are made */
} job;

/* out[panel][p][r] = v(panel * width + r, k0 + p), zeros behind row `rows`. The ways differ in the order of reading: along
 * whichever side lies together in memory. */
static void pack(float *out, anm_view v, size_t first, size_t rows, size_t width, size_t k0, size_t k)
{
    enum { RUN = 16 }; /* of p: what is written meanwhile stays in the first-level cache */
    const float *d = v.data + first * v.row + k0 * v.col;
    if (rows < width)
        for (size_t p = 0; p < k; p++)
            for (size_t r = rows; r < width; r++) out[p * width + r] = 0;
    if (v.row == 1) {
        for (size_t p = 0; p < k; p++) memcpy(out + p * width, d + p * v.col, rows * sizeof *out);
        return;
    }
    for (size_t p0 = 0; p0 < k; p0 += RUN) {
        size_t n = k - p0 < RUN ? k - p0 : RUN;
        for (size_t r = 0; r < rows; r++) {
            const float *s = d + r * v.row + p0 * v.col;
            float *o = out + p0 * width + r;
            for (size_t p = 0; p < n; p++) o[p * width] = s[p * v.col];
        }
    }
}

static void pack_b(void *ctx, uint32_t i, unsigned thread)
{
    (void)thread;
    job *j = ctx;
    size_t nr = j->kind->nr, at = i * nr, left = j->n - at;
    pack(j->b_packed + at * j->k, j->b, at, left < nr ? left : nr, nr, j->k0, j->k);
}

static void band(void *ctx, uint32_t i, unsigned thread)
{
    const job *j = ctx;
    const anm_micro_kind *kd = j->kind;
    size_t mr = kd->mr, nr = kd->nr, first = (size_t)i * BAND, rows = j->m - first < BAND ? j->m - first : BAND;
    float *a = j->a_packed + (size_t)thread * BAND * KC;
    for (size_t r = 0; r < rows; r += mr)
        pack(a + r * j->k, j->a, first + r, rows - r < mr ? rows - r : mr, mr, j->k0, j->k);
    for (size_t col = j->upper ? first / nr * nr : 0; col < j->n; col += nr) {
        size_t w = j->n - col < nr ? j->n - col : nr;
        for (size_t r = 0; r < rows; r += mr) {
            float acc[MOST_MR * MOST_NR];
            size_t h = rows - r < mr ? rows - r : mr;
            for (size_t y = 0; y < h; y++) /* what the tile is added to is on its way while the tile is made */
                for (size_t x = 0; x < w; x += 16) __builtin_prefetch(j->c + (first + r + y) * j->ldc + col + x, 1);
            kd->tile(acc, a + r * j->k, j->b_packed + col * j->k, j->k);
            for (size_t y = 0; y < h; y++) {
                float *c = j->c + (first + r + y) * j->ldc + col;
                const float *s = acc + y * nr;
                if (j->add || j->k0)
                    for (size_t x = 0; x < w; x++) c[x] += s[x];
                else
                    memcpy(c, s, w * sizeof *c);
            }
        }
    }
}

static int multiply(job j, size_t k, anm_pool *pool, anm_error *err)
{
    size_t panels = (j.n + j.kind->nr - 1) / j.kind->nr;
    j.b_packed = aligned_alloc(64, panels * j.kind->nr * KC * sizeof(float));
    j.a_packed = aligned_alloc(64, (size_t)anm_pool_threads(pool) * BAND * KC * sizeof(float));
    if (!j.b_packed || !j.a_packed) {
        free(j.b_packed);
        free(j.a_packed);
        return anm_fail_memory(err, "matrix product");
    }
    for (; j.k0 < k; j.k0 += KC) {
        j.k = k - j.k0 < KC ? k - j.k0 : KC;
        anm_pool_run(pool, pack_b, &j, (uint32_t)panels);
        anm_pool_run(pool, band, &j, (uint32_t)((j.m + BAND - 1) / BAND));
    }
    free(j.b_packed);
    free(j.a_packed);
    return 0;
}

int anm_gemm(float *c, size_t ldc, anm_view a, anm_view b, size_t m, size_t n, size_t k, bool add, anm_pool *pool,
             anm_error *err)
{
    if (!m || !n) return 0;
    if (!k) {
        if (!add)
            for (size_t i = 0; i < m; i++) memset(c + i * ldc, 0, n * sizeof *c);
        return 0;
    }
    return multiply((job){.kind = anm_micro_pick(), .c = c, .a = a, .b = b, .ldc = ldc, .m = m, .n = n, .add = add}, k, pool, err);
}

int anm_gram(float *h, const float *x, size_t rows, size_t n, anm_pool *pool, anm_error *err)
{
    anm_view t = anm_transposed(x, n);
    if (!rows || !n) return 0;
    return multiply((job){.kind = anm_micro_pick(), .c = h, .a = t, .b = t, .ldc = n, .m = n, .n = n, .add = true, .upper = true}, rows, pool, err);
}
