/* SPDX-License-Identifier: BSD-3-Clause */
#include "test.h"

#include "base/half.h"
#include "quant/quant.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS = 64, COLS = 96 };

static uint64_t fnv(const void *data, size_t n)
{
    const uint8_t *p = data;
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < n; i++) h = (h ^ p[i]) * 0x100000001b3u;
    return h;
}

/* Rows that are hard to round: from 2^-26 to 2^13, zeros, ties, one tiny value, the edge of fp16, infinities, a NaN. */
static void hard_rows(float *x)
{
    static uint32_t u[ROWS * COLS];
    uint32_t s = 12345;
    for (int i = 0; i < ROWS * COLS; i++) u[i] = s = s * 1664525u + 1013904223u;
    for (int r = 0; r < ROWS; r++)
        for (int c = 0; c < COLS; c++)
            x[r * COLS + c] = (float)ldexp((double)((int32_t)(u[r * COLS + c] >> 8) - (1 << 23)) / (1 << 23), r % 40 - 26);
    for (int c = 0; c < COLS; c++) {
        x[0 * COLS + c] = 0;
        x[1 * COLS + c] = (float)(u[1 * COLS + c] % 15) * 0.5f - 3.5f;
        x[2 * COLS + c] = (float)(u[2 * COLS + c] % 16) * 0.25f + 0.125f;
        x[3 * COLS + c] = c == 40 ? 1e-30f : 0;
        x[8 * COLS + c] = 1;
        x[9 * COLS + c] = -7.5f;
        x[10 * COLS + c] = u[10 * COLS + c] & 1 ? 6e-8f : -6e-8f;
    }
    x[4 * COLS + 7] = 65504;
    x[5 * COLS + 8] = 65520;
    x[6 * COLS + 9] = -INFINITY;
    x[7 * COLS + 10] = NAN;
}

/* Hashes of what torchao's IntxWeightOnlyConfig makes of these rows: scales as fp32, integers one a byte. */
static const struct golden {
    anm_dtype type;
    unsigned bits;
    size_t group;
    uint64_t scales, integers;
} goldens[] = {
    {ANM_DT_F16, 4, 96, 0xbec29d8777c6e0d4u, 0x268a8b69e5b9be9du},
    {ANM_DT_F16, 4, 32, 0x957a722fbff3982au, 0xdf103cbefac1e341u},
    {ANM_DT_F16, 8, 96, 0x166bfeaee2a2dcc6u, 0xe1edfe3dd8000b55u},
    {ANM_DT_F16, 8, 32, 0xcfe4085d9149f7edu, 0x82b0c0b7c5af4289u},
    {ANM_DT_F32, 4, 96, 0xa66884100d7b3431u, 0x44dea95348c84222u},
    {ANM_DT_F32, 4, 32, 0xd029d2e8f473e1c4u, 0xb1736d205d363908u},
    {ANM_DT_F32, 8, 96, 0xdb2087526e8b2a46u, 0xf6e23ad0a44e1a52u},
    {ANM_DT_F32, 8, 32, 0x59e0c7415bda03a6u, 0x974ac3a3826fc165u},
};

static void check_golden(anm_round_fn *kernel, const struct golden *g)
{
    static float x[ROWS * COLS], scale[ROWS * COLS];
    static int8_t q[ROWS * COLS];
    hard_rows(x);
    size_t groups = ROWS * COLS / g->group;
    for (size_t i = 0; i < groups; i++) {
        scale[i] = kernel(q + i * g->group, x + i * g->group, g->group, g->bits);
        if (scale[i] != scale[i]) scale[i] = anm_bits_f32(0x7fc00000u); /* one NaN for all */
    }
    assert_int_equal(fnv(scale, groups * sizeof *scale), g->scales);
    assert_int_equal(fnv(q, sizeof q), g->integers);
}

static void rounds_as_torchao(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof goldens / sizeof *goldens; i++) {
        check_golden(anm_round_plain(goldens[i].type == ANM_DT_F16), goldens + i);
        check_golden(anm_round_best(goldens[i].type == ANM_DT_F16), goldens + i);
    }
}

/* Every length around a vector's, and any bit pattern. */
static void vector_equals_plain(void **state)
{
    (void)state;
    enum { MOST = 150 };
    uint32_t s = 99;
    for (int turn = 0; turn < 4000; turn++) {
        size_t n = 1 + (size_t)turn % MOST;
        float x[MOST], a[MOST], b[MOST];
        int8_t p[MOST], q[MOST];
        for (size_t i = 0; i < n; i++) {
            s = s * 1664525u + 1013904223u;
            /* exponents within 2^±16 of a centre that wanders; every 64th turn any pattern at all */
            uint32_t e = 127u + (uint32_t)(turn / 37 % 60) - 40u + (s >> 20 & 15u);
            x[i] = anm_bits_f32(turn % 64 ? (s & 0x807fffffu) | e << 23 : s ^ s << 13);
        }
        for (unsigned bits = 4; bits <= 8; bits += 4)
            for (int fp16 = 0; fp16 < 2; fp16++) {
                memcpy(a, x, sizeof a);
                memcpy(b, x, sizeof b);
                float u = anm_round_plain(fp16)(p, a, n, bits), v = anm_round_best(fp16)(q, b, n, bits);
                assert_true(u == v || (u != u && v != v));
                assert_memory_equal(p, q, n);
            }
        uint8_t h[2 * MOST];
        anm_floats_to_f16(h, x, n);
        for (size_t i = 0; i < n; i++) {
            uint16_t want = anm_f32_to_f16(x[i]), got = (uint16_t)(h[2 * i] | h[2 * i + 1] << 8);
            assert_true(want == got || ((want & 0x7fff) > 0x7c00 && (got & 0x7fff) > 0x7c00));
        }
    }
}

/* Levels rounded once each are their values rounded one by one, in plain and in vector form. */
static void levels_round_as_values(void **state)
{
    (void)state;
    enum { RUNS = 5, MOST = RUNS * ANM_LEVEL_RUN };
    uint32_t s = 7;
    for (int turn = 0; turn < 6000; turn++) {
        size_t runs = 1 + (size_t)turn % RUNS, n = runs * ANM_LEVEL_RUN;
        anm_levels l[RUNS];
        float x[MOST];
        int8_t a[MOST], b[MOST], c[MOST];
        for (size_t k = 0; k < runs; k++) {
            uint16_t half[2];
            for (int i = 0; i < 2; i++) {
                s = s * 1664525u + 1013904223u;
                uint32_t e = (uint32_t)(turn / 41 % 24) + (s >> 20 & 7u); /* exponents near one that wanders; now and then any half at all */
                half[i] = (uint16_t)(turn % 64 ? (s >> 8 & 0x83ffu) | e << 10 : s >> 16);
            }
            l[k].step = anm_f16_to_f32(half[0]);
            l[k].base = turn % 3 ? anm_f16_to_f32(half[1]) : -8 * l[k].step;
            for (int i = 0; i < ANM_LEVEL_RUN; i++) {
                s = s * 1664525u + 1013904223u;
                uint8_t first = (uint8_t)(turn / 7 % ANM_LEVELS), span = (uint8_t)(1 + turn / 113 % ANM_LEVELS);
                l[k].index[i] = (uint8_t)((first + (s >> 24) % span) % ANM_LEVELS);
                float product = l[k].step * (float)l[k].index[i];
                x[k * ANM_LEVEL_RUN + (size_t)i] = product + l[k].base;
            }
        }
        for (unsigned bits = 4; bits <= 8; bits += 4)
            for (int fp16 = 0; fp16 < 2; fp16++) {
                float u = anm_round_plain(fp16)(a, x, n, bits), v = anm_round_levels_plain(fp16)(b, l, runs, bits);
                float w = anm_round_levels_best(fp16)(c, l, runs, bits);
                assert_true((u == v || (u != u && v != v)) && (u == w || (u != u && w != w)));
                assert_memory_equal(a, b, n);
                assert_memory_equal(a, c, n);
            }
    }
}

static void packs_low_half_first(void **state)
{
    (void)state;
    const int8_t q[] = {1, -1, -8, 7, 5};
    uint8_t out[3];
    anm_pack_int4(out, q, 5);
    assert_int_equal(out[0], 0xf1);
    assert_int_equal(out[1], 0x78);
    assert_int_equal(out[2], 0x05);
    int8_t many[199];
    uint8_t packed[100];
    for (int i = 0; i < 199; i++) many[i] = (int8_t)(i * 7 % 16 - 8);
    anm_pack_int4(packed, many, 199);
    for (int i = 0; i < 199; i++) assert_int_equal(packed[i / 2] >> i % 2 * 4 & 15, many[i] & 15);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rounds_as_torchao),
        cmocka_unit_test(vector_equals_plain),
        cmocka_unit_test(levels_round_as_values),
        cmocka_unit_test(packs_low_half_first),
    };
    return cmocka_run_group_tests_name("quant", tests, NULL, NULL);
}
