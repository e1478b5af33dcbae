/* SPDX-License-Identifier: BSD-3-Clause */
#include "kernel/roofline.h"
#include "base/bytes.h"
#include "base/large.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { LINE = 64, PRODUCTS = 65536, OPERANDS = 8192, TIMES = 256 };

struct anm_roof {
    const anm_kernels *k;
    anm_pool *pool;
    unsigned threads;
    size_t lines;
    void *memory, *operand_memory;
    uint8_t *data, *operands; /* [lines * LINE]; [threads][OPERANDS]: the kernel's sum, w, x */
    uint64_t *seen;           /* [threads * 8], a cache line apart: what reading came to, so that it is not left out */
};

static double seconds_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

int anm_roof_new(anm_roof **out, size_t bytes, const anm_kernels *kernels, anm_pool *pool, anm_error *err)
{
    anm_roof *r = *out = calloc(1, sizeof *r);
    if (!r) return anm_fail_memory(err, "the measurement");
    r->k = kernels;
    r->pool = pool;
    r->threads = anm_pool_threads(pool);
    r->lines = bytes / LINE + 1;
    r->memory = r->lines < SIZE_MAX / LINE ? anm_large_new(r->lines * LINE, &r->data) : NULL;
    r->operand_memory = anm_large_new((size_t)r->threads * OPERANDS, &r->operands);
    r->seen = calloc((size_t)r->threads * 8, sizeof *r->seen);
    if (!r->memory || !r->operand_memory || !r->seen) {
        anm_roof_free(r);
        *out = NULL;
        return anm_fail_memory(err, "the measurement");
    }
    for (size_t i = 0; i < r->lines * LINE; i += LINE) r->data[i] = (uint8_t)i; /* real memory, not one page of zeros */
    for (size_t i = 0; i < (size_t)r->threads * OPERANDS; i++) r->operands[i] = i * 7 & 15;
    return 0;
}

void anm_roof_free(anm_roof *r)
{
    if (!r) return;
    free(r->memory);
    free(r->operand_memory);
    free(r->seen);
    free(r);
}

static void read_share(void *ctx, uint32_t i, unsigned thread)
{
    const anm_roof *r = ctx;
    size_t from = r->lines * i / r->threads, to = r->lines * (i + 1) / r->threads;
    uint64_t sum[8] = {0};
    for (size_t line = from; line < to; line++) {
        const uint8_t *p = r->data + line * LINE;
        for (int k = 0; k < 8; k++) {
            uint64_t v;
            memcpy(&v, p + 8 * k, 8);
            sum[k] += v;
        }
    }
    for (int k = 0; k < 8; k++) r->seen[thread * 8] += sum[k];
}

static void multiply_share(void *ctx, uint32_t i, unsigned thread)
{
    const anm_roof *r = ctx;
    uint8_t *own = r->operands + (size_t)thread * OPERANDS;
    (void)i;
    r->k->peak((int32_t *)(void *)own, own + 4096, (int8_t *)own + 6144, TIMES);
}

/* Repetitions a second. */
static double rate(anm_roof *r, anm_pool_fn *fn, double seconds)
{
    anm_pool_run(r->pool, fn, r, r->threads);
    double start = seconds_now(), now;
    int64_t n = 0;
    do {
        anm_pool_run(r->pool, fn, r, r->threads);
        n++;
        now = seconds_now();
    } while (now - start < seconds);
    return (double)n / (now - start);
}

double anm_roof_read(anm_roof *r, double seconds)
{
    return rate(r, read_share, seconds) * (double)(r->lines * LINE);
}

double anm_roof_multiply(anm_roof *r, double seconds)
{
    return rate(r, multiply_share, seconds) * PRODUCTS * TIMES * r->threads;
}
