/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Every vector form of every kernel against the plain one, bit for bit, on random data of awkward sizes. The list is
 * kernels.def itself: a kernel without a check_NAME below does not compile.
 */
#include "test.h"

#include "base/half.h"
#include "kernel/emulate.h"
#include "kernel/kernel.h"
#include "kernel/roofline.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static uint32_t seed;

static uint32_t random_bits(void)
{
    seed = seed * 1664525u + 1013904223u;
    return seed >> 8 | seed << 24;
}
/* About normal, mean 0, deviation 1; now and then a large one, as activations are. */
static float random_float(void)
{
    float s = 0;
    for (int i = 0; i < 6; i++) s += (float)(random_bits() & 0xffff) / 65536.0f - 0.5f;
    return random_bits() % 97 == 0 ? s * 50 : s * 1.4f;
}
static float *random_floats(int64_t n)
{
    float *f = malloc((size_t)(n + 1) * sizeof *f);
    assert_non_null(f);
    for (int64_t i = 0; i < n; i++) f[i] = random_float();
    return f;
}
static int64_t pick(const int64_t *from, size_t n)
{
    return from[random_bits() % n];
}
#define PICK(...) pick((int64_t[]){__VA_ARGS__}, sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t))

static void *aligned(size_t n)
{
    void *p = NULL;
    assert_int_equal(posix_memalign(&p, 64, n + 64), 0);
    memset(p, 0, n + 64);
    return p;
}

static anm_q4 random_q4(int64_t cols)
{
    anm_q4 w = {.rows = 40, .cols = cols, .tiles = 3, .groups = (cols + 31) / 32};
    w.scales = (anm_scales)(random_bits() % 3);
    w.round_f16 = random_bits() & 1;
    w.tile_bytes = anm_q4_tile_bytes(w.scales, w.groups);
    w.data = aligned(w.tile_bytes * 3);
    for (int64_t t = 0; t < 3; t++) {
        uint8_t *tile = w.data + (size_t)t * w.tile_bytes;
        for (int64_t g = 0; g < w.groups; g++) {
            for (int i = 0; i < 256; i++) tile[anm_q4_nibbles_at(w.scales, g) + (size_t)i] = (uint8_t)random_bits();
            for (int i = 0; i < 16; i++) {
                float s = (fabsf(random_float()) + 0.01f) * 0.01f;
                uint16_t h = anm_f32_to_f16(s);
                uint8_t *at = tile + anm_q4_scales_at(w.scales, g);
                if (w.scales == ANM_SCALES_GROUP_F16) memcpy(at + 2 * i, &h, 2);
                else memcpy(at + 4 * i, &s, 4);
            }
        }
    }
    return w;
}

static anm_q8 random_q8(const anm_kernels *plain, int64_t rows, int64_t cols)
{
    int64_t g = (cols + 31) / 32;
    anm_q8 x = {.groups = g, .q = aligned((size_t)(rows * g * 32)), .scale = aligned((size_t)(rows * g * 4)),
                .offset = aligned((size_t)(rows * g * 4))};
    for (int64_t r = 0; r < rows; r++) {
        float *f = random_floats(cols);
        plain->quantize(x.q + r * g * 32, x.scale + r * g, x.offset + r * g, f, cols);
        free(f);
    }
    return x;
}
static void free_q8(anm_q8 *x)
{
    free(x->q);
    free(x->scale);
    free(x->offset);
}

static void same(const void *a, const void *b, size_t n, const char *kernel, const char *isa)
{
    if (memcmp(a, b, n)) fail_msg("%s: the %s form gives other bits than the plain one", kernel, isa);
}

/* ---- one check per kernel ---- */

static void check_quantize(const anm_kernels *p, const anm_kernels *v)
{
    int64_t n = PICK(1, 7, 16, 31, 32, 33, 64, 100, 576), g = (n + 31) / 32;
    float *x = random_floats(n);
    const uint32_t form = random_bits() % 8;
    switch (form) {
    case 0: x[n / 2] = random_bits() & 1 ? NAN : -NAN; break;
    case 1: x[n / 2] = random_bits() & 1 ? INFINITY : -INFINITY; break;
    case 2:
        for (int64_t i = 0; i < n; i++) x[i] = 0;
        break;
    case 3:
        for (int64_t i = 0; i < n; i++) x[i] *= 1e-36f;
        break;
    default: break;
    }
    int8_t *q[2] = {calloc((size_t)g, 32), calloc((size_t)g, 32)};
    float *s[2] = {calloc((size_t)g, 4), calloc((size_t)g, 4)};
    int32_t *o[2] = {calloc((size_t)g, 4), calloc((size_t)g, 4)};
    p->quantize(q[0], s[0], o[0], x, n);
    v->quantize(q[1], s[1], o[1], x, n);
    same(q[0], q[1], (size_t)g * 32, "quantize q", v->name);
    same(s[0], s[1], (size_t)g * 4, "quantize scale", v->name);
    same(o[0], o[1], (size_t)g * 4, "quantize offset", v->name);
    for (int64_t i = 0; i < g; i++) /* what is no number stays none */
        if (!isfinite(s[0][i]) != (form < 2 && i == n / 2 / 32)) fail_msg("a scale is %g", (double)s[0][i]);
    for (int i = 0; i < 2; i++) {
        free(q[i]);
        free(s[i]);
        free(o[i]);
    }
    free(x);
}

static void check_quantize_pair(const anm_kernels *p, const anm_kernels *v)
{
    int32_t rows = (int32_t)(1 + random_bits() % ANM_ROWS_MAX);
    int64_t groups = PICK(1, 2, 3, 18), n = rows * groups;
    float *a = random_floats(rows * 16), *b = random_floats(rows * 16);
    if (random_bits() % 4 == 0) a[rows * 8] = NAN, b[0] = INFINITY;
    int8_t *q[2] = {calloc((size_t)n, 32), calloc((size_t)n, 32)};
    float *s[2] = {calloc((size_t)n, 4), calloc((size_t)n, 4)};
    int32_t *o[2] = {calloc((size_t)n, 4), calloc((size_t)n, 4)};
    p->quantize_pair(q[0], s[0], o[0], groups, a, b, rows);
    v->quantize_pair(q[1], s[1], o[1], groups, a, b, rows);
    same(q[0], q[1], (size_t)n * 32, "quantize_pair q", v->name);
    same(s[0], s[1], (size_t)n * 4, "quantize_pair scale", v->name);
    same(o[0], o[1], (size_t)n * 4, "quantize_pair offset", v->name);
    float both[32]; /* and it is what quantize makes of the two halves in a row */
    memcpy(both, a, 64);
    memcpy(both + 16, b, 64);
    v->quantize(q[0], s[0], o[0], both, 32);
    same(q[0], q[1], 32, "quantize_pair, quantize", v->name);
    for (int i = 0; i < 2; i++) {
        free(q[i]);
        free(s[i]);
        free(o[i]);
    }
    free(a);
    free(b);
}

static void check_q4_q8(const anm_kernels *p, const anm_kernels *v)
{
    int64_t cols = PICK(8, 32, 40, 64, 96, 160, 576);
    int32_t rows = (int32_t)(1 + random_bits() % ANM_ROWS_MAX), first = (int32_t)(random_bits() % 3);
    int64_t tile = random_bits() % 3;
    anm_q4 w = random_q4(cols);
    anm_q8 x = random_q8(p, first + rows, cols);
    float a[ANM_ROWS_MAX * 16], b[ANM_ROWS_MAX * 16];
    p->q4_q8(a, &w, tile, &x, first, rows);
    v->q4_q8(b, &w, tile, &x, first, rows);
    same(a, b, (size_t)rows * 64, "q4_q8", v->name);
    free(w.data);
    free_q8(&x);
}

static void check_q4_f32(const anm_kernels *p, const anm_kernels *v)
{
    int64_t cols = PICK(3, 8, 32, 40, 64, 97, 576), stride = cols + random_bits() % 5;
    int32_t rows = (int32_t)(1 + random_bits() % ANM_ROWS_MAX);
    anm_q4 w = random_q4(cols);
    float *x = random_floats(rows * stride), a[ANM_ROWS_MAX * 16], b[ANM_ROWS_MAX * 16];
    p->q4_f32(a, &w, 1, x, stride, rows);
    v->q4_f32(b, &w, 1, x, stride, rows);
    same(a, b, (size_t)rows * 64, "q4_f32", v->name);
    free(w.data);
    free(x);
}

static void check_wf_f32(const anm_kernels *p, const anm_kernels *v)
{
    int64_t cols = PICK(1, 5, 32, 33, 64, 100), stride = cols + 3;
    int32_t rows = (int32_t)(1 + random_bits() % ANM_ROWS_MAX);
    anm_wf w = {.rows = 32, .cols = cols, .tiles = 2, .f16 = random_bits() & 1};
    w.tile_bytes = (size_t)cols * (w.f16 ? 32 : 64);
    w.data = aligned(w.tile_bytes * 2);
    for (int64_t i = 0; i < 2 * cols * 16; i++) {
        float f = random_float();
        uint16_t h = anm_f32_to_f16(f);
        if (w.f16) memcpy(w.data + 2 * i, &h, 2);
        else memcpy(w.data + 4 * i, &f, 4);
    }
    float *x = random_floats(rows * stride), a[ANM_ROWS_MAX * 16], b[ANM_ROWS_MAX * 16];
    p->wf_f32(a, &w, 1, x, stride, rows);
    v->wf_f32(b, &w, 1, x, stride, rows);
    same(a, b, (size_t)rows * 64, "wf_f32", v->name);
    free(w.data);
    free(x);
}

static void check_norm(const anm_kernels *p, const anm_kernels *v)
{
    int64_t n = PICK(1, 8, 15, 16, 17, 64, 100, 576);
    float *x = random_floats(n), *w = random_floats(n), *a = random_floats(n), *b = random_floats(n);
    anm_norm k = {n, 1.0f / (float)n, 1e-5f, random_bits() & 1 ? 1e-3f : 0, random_bits() & 1 ? 0.01f : 0, random_bits() & 1 ? 0.5f : 0, 1.5f,
                  random_bits() & 1 ? w : NULL};
    p->norm(a, x, &k);
    v->norm(b, x, &k);
    same(a, b, (size_t)n * 4, "norm", v->name);
    free(x);
    free(w);
    free(a);
    free(b);
}

static void check_attend(const anm_kernels *p, const anm_kernels *v)
{
    int32_t heads = (int32_t)(1 + random_bits() % ANM_HEADS_MAX), d = (int32_t)PICK(8, 16, 20, 32, 64, 80, 128);
    int64_t cached = PICK(0, 1, 15, 16, 33, 70);
    enum { FRESH = 9 };
    bool f16 = random_bits() & 1;
    size_t bytes = (size_t)d * (f16 ? 2 : 4);
    int32_t fresh[FRESH], n_fresh = 0;
    for (int32_t i = 0; i < FRESH; i++)
        if (random_bits() & 1) fresh[n_fresh++] = i;
    if (cached + n_fresh == 0) fresh[n_fresh++] = 3;
    uint8_t *kv[4];
    for (int i = 0; i < 4; i++) {
        int64_t n = (i < 2 ? cached : FRESH) * d;
        kv[i] = malloc(bytes * FRESH + bytes * (size_t)cached + 1);
        for (int64_t k = 0; k < n; k++) {
            float f = random_float();
            uint16_t h = anm_f32_to_f16(f);
            if (f16) memcpy(kv[i] + 2 * k, &h, 2);
            else memcpy(kv[i] + 4 * k, &f, 4);
        }
    }
    int64_t room = (cached + FRESH + 31) / 16 * 16;
    float *q = random_floats(heads * d), *out[2] = {random_floats(heads * d), random_floats(heads * d)},
          *scores = malloc((size_t)(room * heads) * sizeof *scores);
    anm_ahead ahead = {kv[0], kv[0] + 100}; /* asking changes nothing */
    for (int i = 0; i < 2; i++) {
        anm_attend a = {heads, d, f16, 0.125f, {0}, {0}, kv[0], kv[1], kv[2], kv[3], cached, fresh, n_fresh, scores, i ? &ahead : NULL};
        for (int32_t h = 0; h < heads; h++) {
            a.q[h] = q + h * d;
            a.out[h] = out[i] + h * d;
        }
        (i ? v : p)->attend(&a);
    }
    same(out[0], out[1], (size_t)(heads * d) * 4, "attend", v->name);
    for (int i = 0; i < 4; i++) free(kv[i]);
    free(q);
    free(out[0]);
    free(out[1]);
    free(scores);
}

static void check_silu_mul(const anm_kernels *p, const anm_kernels *v)
{
    int64_t n = PICK(1, 8, 15, 16, 17, 100);
    float *g = random_floats(n), *u = random_floats(n), *a = random_floats(n), *b = random_floats(n);
    if (random_bits() % 4 == 0) g[0] = -1000;
    if (random_bits() % 4 == 0) g[n - 1] = 1000;
    p->silu_mul(a, g, u, n);
    v->silu_mul(b, g, u, n);
    same(a, b, (size_t)n * 4, "silu_mul", v->name);
    free(g);
    free(u);
    free(a);
    free(b);
}

static void check_to_f16(const anm_kernels *p, const anm_kernels *v)
{
    int64_t n = PICK(1, 7, 8, 16, 19, 64);
    float *x = random_floats(n);
    for (int64_t i = 0; i < n; i++) x[i] *= ldexpf(1, (int)(random_bits() % 40) - 24);
    uint16_t a[64] = {0}, b[64] = {0};
    p->to_f16(a, x, n);
    v->to_f16(b, x, n);
    same(a, b, sizeof a, "to_f16", v->name);
    free(x);
}

static void check_peak(const anm_kernels *p, const anm_kernels *v)
{
    int32_t *a = aligned(4096), *b = aligned(4096);
    uint8_t *w = aligned(2048);
    int8_t *x = aligned(2048);
    for (int i = 0; i < 2048; i++) {
        w[i] = random_bits() & 15;
        x[i] = (int8_t)((int)(random_bits() % 255) - 127);
    }
    if (random_bits() % 4 == 0) { /* the largest sums */
        memset(w, 15, 2048);
        memset(x, 127, 2048);
    }
    for (int i = 0; i < 1024; i++) a[i] = b[i] = (int32_t)random_bits();
    int64_t times = PICK(0, 1, 2, 7);
    p->peak(a, w, x, times);
    v->peak(b, w, x, times);
    same(a, b, 4096, "peak", v->name);
    free(a), free(b), free(w), free(x);
}

/* ---- the walk ---- */

static void test_forms_agree(void **state)
{
    (void)state;
    enum { ROUNDS = 300 };
    const anm_kernels *p = anm_kernels_of(ANM_ISA_PLAIN);
    for (anm_isa isa = ANM_ISA_PLAIN + 1; isa < ANM_ISA_COUNT; isa++) {
        const anm_kernels *v = anm_kernels_of(isa);
        if (!v) continue; /* another family's */
        bool emulated = !anm_isa_usable(isa) && emulate_begin(isa);
        if (!emulated && !anm_isa_usable(isa)) {
            print_message("%s: not usable here\n", v->name);
            continue;
        }
        int rounds = emulated ? ROUNDS / 10 : ROUNDS;
#define ANM_KERNEL(kind, name, args)                                                                                   \
    seed = 1;                                                                                                          \
    for (int i = 0; i < rounds; i++) check_##name(p, v);
#include "kernel/kernels.def"
#undef ANM_KERNEL
        if (!emulated) continue;
        unsigned long instructions = emulate_end();
        print_message("%s: %lu instructions emulated\n", v->name, instructions);
        assert_true(instructions > 0);
    }
}

/* A row's result does not depend on the rows computed with it. */
static void test_rows_alone(void **state)
{
    (void)state;
    for (anm_isa isa = ANM_ISA_PLAIN; isa < ANM_ISA_COUNT; isa++) {
        bool emulated = !anm_isa_usable(isa) && emulate_begin(isa);
        if (!emulated && !anm_isa_usable(isa)) continue;
        const anm_kernels *k = anm_kernels_of(isa);
        seed = 5;
        anm_q4 w = random_q4(160);
        anm_q8 x = random_q8(k, ANM_ROWS_MAX, 160);
        float *f = random_floats(ANM_ROWS_MAX * 160), all[ANM_ROWS_MAX * 16], one[16];
        for (int32_t rows = 1; rows <= ANM_ROWS_MAX; rows++) {
            k->q4_q8(all, &w, 2, &x, 0, rows);
            k->q4_q8(one, &w, 2, &x, rows - 1, 1);
            assert_memory_equal(all + (rows - 1) * 16, one, sizeof one);
            k->q4_f32(all, &w, 2, f, 160, rows);
            k->q4_f32(one, &w, 2, f + (rows - 1) * 160, 160, 1);
            assert_memory_equal(all + (rows - 1) * 16, one, sizeof one);
        }
        free(w.data);
        free_q8(&x);
        free(f);
        if (emulated) emulate_end();
    }
}

/* The plain forms themselves, against what they say in double precision. */
static void test_plain_is_right(void **state)
{
    (void)state;
    const anm_kernels *k = anm_kernels_of(ANM_ISA_PLAIN);
    seed = 9;
    for (int round = 0; round < 50; round++) {
        anm_q4 w = random_q4(64);
        float *x = random_floats(64), y[16], exact[16];
        anm_q8 q = {.groups = 2, .q = calloc(64, 1), .scale = calloc(2, 4), .offset = calloc(2, 4)};
        k->quantize(q.q, q.scale, q.offset, x, 64);
        k->q4_q8(y, &w, 0, &q, 0, 1);
        w.round_f16 = false;
        k->q4_f32(exact, &w, 0, x, 64, 1);
        for (int i = 0; i < 16; i++) {
            double sum = 0, coarse = 0, size = 0;
            for (int c = 0; c < 64; c++) {
                const uint8_t *tile = w.data, *nib = tile + anm_q4_nibbles_at(w.scales, c / 32);
                const uint8_t *at = tile + anm_q4_scales_at(w.scales, c / 32);
                uint8_t b = nib[c % 32 / 8 * 64 + i * 4 + c % 8 / 2];
                float s;
                uint16_t h;
                memcpy(&s, at + 4 * i, 4);
                memcpy(&h, at + 2 * i, 2);
                if (w.scales == ANM_SCALES_GROUP_F16) s = anm_f16_to_f32(h);
                double weight = (double)s * ((c & 1 ? b >> 4 : b & 15) - 8);
                int8_t v = q.q[c / 32 * 32 + c % 32 / 8 * 8 + (c & 1) * 4 + c % 8 / 2];
                assert_true(fabs((double)v * (double)q.scale[c / 32] - (double)x[c]) <= (double)q.scale[c / 32] * 0.5001);
                sum += weight * (double)x[c];
                coarse += weight * (double)v * (double)q.scale[c / 32];
                size += fabs(weight * (double)x[c]);
            }
            assert_true(fabs((double)exact[i] - sum) <= 1e-6 * size + 1e-12);
            assert_true(fabs((double)y[i] - coarse) <= 1e-5 * size + 1e-9);
        }
        free(w.data);
        free(x);
        free_q8(&q);
    }
}

static void test_choice(void **state)
{
    (void)state;
    const anm_kernels *k = NULL;
    anm_error err;
    assert_int_equal(anm_kernels_choose(&k, "plain", &err), 0);
    assert_string_equal(k->name, "plain");
    assert_int_equal(anm_kernels_choose(&k, "sse9", &err), ANM_ERR_USAGE);
    assert_int_equal(anm_kernels_choose(&k, NULL, &err), 0);
    assert_true(anm_isa_usable(k->isa));
    for (anm_isa isa = ANM_ISA_PLAIN; isa < ANM_ISA_COUNT; isa++) {
        const anm_kernels *table = anm_kernels_of(isa);
        if (table) assert_string_equal(table->name, anm_isa_name(isa));
        int rc = anm_kernels_choose(&k, anm_isa_name(isa), &err);
        assert_int_equal(rc, anm_isa_usable(isa) ? 0 : table ? ANM_ERR_UNSUPPORTED : ANM_ERR_USAGE);
        if (!rc) assert_ptr_equal(k, table);
    }
#if defined(__x86_64__) /* were none usable, nothing above would have been compared */
    assert_int_equal(anm_isa_usable(ANM_ISA_AVX2), __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c"));
#elif defined(__aarch64__)
    assert_true(anm_isa_usable(ANM_ISA_NEON));
#endif
}

/* Measuring ends, and gives rates; how high they are is the machine's affair. */
static void test_roofline(void **state)
{
    (void)state;
    const anm_kernels *k = NULL;
    anm_error err;
    assert_int_equal(anm_kernels_choose(&k, NULL, &err), 0);
    for (unsigned threads = 1; threads <= 3; threads += 2) {
        anm_pool *pool = NULL;
        anm_roof *r = NULL;
        assert_int_equal(anm_pool_new(&pool, threads, &err), 0);
        assert_int_equal(anm_roof_new(&r, 100003, k, pool, &err), 0);
        assert_true(anm_roof_read(r, 0.001) > 0);
        assert_true(anm_roof_multiply(r, 0.001) > 0);
        anm_roof_free(r);
        anm_pool_free(pool);
    }
    anm_roof_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forms_agree),
        cmocka_unit_test(test_rows_alone),
        cmocka_unit_test(test_plain_is_right),
        cmocka_unit_test(test_choice),
        cmocka_unit_test(test_roofline),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
