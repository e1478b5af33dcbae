/* SPDX-License-Identifier: BSD-3-Clause */
#include "test.h"

#include "base/half.h"
#include "calib/gptq.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static uint64_t seed = 7;
static float uniform(void)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (float)(int32_t)(seed >> 32) * 0x1p-31f;
}

/* H = X^T X of correlated inputs, some of them large. */
static void statistics(double *h, size_t n, size_t samples)
{
    memset(h, 0, n * n * sizeof *h);
    double *x = malloc(n * sizeof *x);
    for (size_t t = 0; t < samples; t++) {
        float common = uniform();
        for (size_t i = 0; i < n; i++) x[i] = (double)(uniform() + common) * (i % 5 == 2 ? 6 : 1);
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j < n; j++) h[i * n + j] += x[i] * x[j];
    }
    free(x);
}

static double row_error(const float *w, const signed char *q, const float *scale, size_t group, size_t n, const double *h)
{
    double e = 0;
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++)
            e += ((double)w[i] - (double)scale[i / group] * q[i]) * h[i * n + j] * ((double)w[j] - (double)scale[j / group] * q[j]);
    return e;
}

/* Gauss-Jordan inverse of the k x k matrix in a. */
static void invert(double *a, size_t k)
{
    for (size_t p = 0; p < k; p++) {
        double d = 1 / a[p * k + p];
        a[p * k + p] = 1;
        for (size_t j = 0; j < k; j++) a[p * k + j] *= d;
        for (size_t i = 0; i < k; i++) {
            if (i == p) continue;
            double f = a[i * k + p];
            a[i * k + p] = 0;
            for (size_t j = 0; j < k; j++) a[i * k + j] -= f * a[p * k + j];
        }
    }
}

/* The whole of it: H as floats, its basis, the rounding. */
static int round_with(signed char *q, float *scale, const float *w, size_t rows, size_t n, const double *h, double damp,
                      const anm_gptq_opts *o, anm_gptq_report *rep, size_t *dead, anm_pool *pool, anm_error *err)
{
    anm_gptq_basis b;
    float *hf = malloc(n * n * sizeof *hf);
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++) hf[i * n + j] = j < i ? 1e9f : (float)h[i * n + j]; /* the lower triangle is not read */
    int rc = anm_gptq_basis_new(&b, hf, n, damp, pool, err);
    if (rc) return rc;
    *dead = b.dead;
    rc = anm_gptq(q, scale, w, rows, &b, o, rep, pool, err);
    anm_gptq_basis_free(&b);
    return rc;
}

/* The method worked out densely: round one column, then move all later ones to the least-squares optimum given its
 * error, with a fresh inverse of what is left of H at every step. */
static void dense_solution(signed char *q, const float *w, float scale, size_t n, const double *h, double damp)
{
    double mean = 0, *left = malloc(n * sizeof *left), *inv = malloc(n * n * sizeof *inv);
    size_t *order = malloc(n * sizeof *order);
    for (size_t i = 0; i < n; i++) mean += h[i * n + i] / (double)n, order[i] = i;
    for (size_t i = 0; i < n; i++) /* by falling diagonal, ties by index */
        for (size_t j = i + 1; j < n; j++)
            if (h[order[j] * n + order[j]] > h[order[i] * n + order[i]]) {
                size_t t = order[i];
                order[i] = order[j], order[j] = t;
            }
    for (size_t i = 0; i < n; i++) left[i] = w[order[i]];
    for (size_t c = 0; c < n; c++) {
        size_t k = n - c;
        for (size_t i = 0; i < k; i++)
            for (size_t j = 0; j < k; j++)
                inv[i * k + j] = h[order[c + i] * n + order[c + j]] + (i == j ? damp * mean : 0);
        invert(inv, k);
        double r = nearbyint(left[c] / scale);
        r = r < -8 ? -8 : r > 7 ? 7 : r;
        q[order[c]] = (signed char)r;
        double e = (left[c] - r * scale) / inv[0];
        for (size_t j = 0; j < k; j++) left[c + j] -= e * inv[j];
    }
    free(left), free(inv), free(order);
}

static void equals_the_dense_solution(void **state)
{
    (void)state;
    enum { N = 70, ROWS = 19 }; /* more than one block of columns, more than one group of rows */
    double *h = malloc(N * N * sizeof *h);
    float *w = malloc(ROWS * N * sizeof *w), scale[ROWS];
    signed char *q = malloc(ROWS * N), want[N];
    statistics(h, N, 400);
    for (int i = 0; i < ROWS * N; i++) w[i] = uniform();
    anm_gptq_opts o = {.low = -8, .high = 7, .tries = 1};
    anm_gptq_report rep;
    size_t dead;
    anm_error err;
    assert_int_equal(round_with(q, scale, w, ROWS, N, h, 0.01, &o, &rep, &dead, NULL, &err), 0);
    int differ = 0;
    for (size_t r = 0; r < ROWS; r++) {
        dense_solution(want, w + r * N, scale[r], N, h, 0.01);
        for (int j = 0; j < N; j++) differ += want[j] != q[r * N + (size_t)j];
    }
    assert_true(differ <= 2); /* fp32 against fp64: a value on the edge of two integers may fall to either */
    assert_true(rep.reached < 0.6 * rep.rounding);
    free(h), free(w), free(q);
}

static void never_worse_than_rounding_and_threads_do_not_matter(void **state)
{
    (void)state;
    enum { N = 96, ROWS = 33 };
    double *h = malloc(N * N * sizeof *h);
    float *w = malloc(ROWS * N * sizeof *w), *scale = malloc(ROWS * 3 * sizeof *scale), *scale2 = malloc(ROWS * 3 * sizeof *scale);
    signed char *q = malloc(ROWS * N), *q2 = malloc(ROWS * N);
    anm_error err;
    anm_pool *pool;
    size_t dead;
    assert_int_equal(anm_pool_new(&pool, 3, &err), 0);
    for (int t = 0; t < 6; t++) {
        size_t group = t & 1 ? 32 : 0, groups = group ? N / group : 1;
        statistics(h, N, t < 2 ? 5 : 300); /* with 5 samples H is singular */
        if (t == 3)
            for (int i = 0; i < N; i++) h[i * N + 7] = h[7 * N + i] = 0; /* a dead input */
        for (int i = 0; i < ROWS * N; i++) w[i] = uniform() * (i % 41 == 0 ? 9 : 1);
        if (t == 4) memset(w, 0, N * sizeof *w); /* a row of zeros */
        anm_gptq_opts o = {.low = -8, .high = 7, .group = group, .tries = 3, .rounds = 2, .fp16_scales = true};
        anm_gptq_report rep, rep2;
        assert_int_equal(round_with(q, scale, w, ROWS, N, h, 0.01, &o, &rep, &dead, NULL, &err), 0);
        assert_int_equal(round_with(q2, scale2, w, ROWS, N, h, 0.01, &o, &rep2, &dead, pool, &err), 0);
        assert_memory_equal(q, q2, ROWS * N);
        assert_memory_equal(scale, scale2, ROWS * groups * sizeof *scale);
        assert_int_equal(dead, t == 3);
        double sum = 0;
        for (size_t r = 0; r < ROWS; r++) {
            float naive[3];
            signed char nq[N];
            size_t g = group ? group : N;
            for (size_t k = 0; k < groups; k++) {
                float most = 0;
                for (size_t j = k * g; j < (k + 1) * g; j++) most = fmaxf(most, fabsf(w[r * N + j]));
                naive[k] = anm_round_f16(most / 7.5f);
                if (!(naive[k] > 0)) naive[k] = 1;
                for (size_t j = k * g; j < (k + 1) * g; j++)
                    nq[j] = (signed char)fminf(fmaxf(nearbyintf(w[r * N + j] / naive[k]), -8), 7);
            }
            double base = row_error(w + r * N, nq, naive, g, N, h), got = row_error(w + r * N, q + r * N, scale + r * groups, g, N, h);
            assert_true(got <= base * 1.02 + 1e-6); /* damping weighs a little beside the statistics themselves */
            for (size_t k = 0; k < groups; k++) assert_true(anm_round_f16(scale[r * groups + k]) == scale[r * groups + k]);
            sum += got;
        }
        assert_true(rep.reached <= rep.rounding);
        assert_true(sum <= rep.reached * 1.001 + 1e-6); /* the report counts damping too */
    }
    anm_pool_free(pool);
    free(h), free(w), free(scale), free(scale2), free(q), free(q2);
}

/* With rounds enough that integers stand still, no scale can be made better for the integers that it has: moving any
 * group's by the least-squares step would gain next to nothing of the row's error. */
static void scales_fit_their_integers(void **state)
{
    (void)state;
    enum { N = 96, ROWS = 20 };
    static double h[N * N];
    static float w[ROWS * N], scale[ROWS * 3];
    static signed char q[ROWS * N];
    anm_error err;
    for (size_t group = 32; group <= N; group += 64) {
        statistics(h, N, 300);
        for (int i = 0; i < ROWS * N; i++) w[i] = uniform();
        anm_gptq_opts o = {.low = -8, .high = 7, .group = group, .tries = 1, .rounds = 12};
        anm_gptq_report rep;
        size_t dead, groups = N / group;
        assert_int_equal(round_with(q, scale, w, ROWS, N, h, 1e-6, &o, &rep, &dead, NULL, &err), 0);
        for (size_t r = 0; r < ROWS; r++)
            for (size_t g = 0; g < groups; g++) {
                double qr = 0, qq = 0; /* q_g H (w - s q), q_g H q_g */
                for (size_t i = g * group; i < (g + 1) * group; i++)
                    for (size_t j = 0; j < N; j++) {
                        double left = (double)w[r * N + j] - (double)scale[r * groups + j / group] * q[r * N + j];
                        qr += q[r * N + i] * h[i * N + j] * left;
                        if (j / group == g) qq += q[r * N + i] * h[i * N + j] * q[r * N + j];
                    }
                double gain = qr * qr / qq, error = row_error(w + r * N, q + r * N, scale + r * groups, group, N, h);
                assert_true(gain <= 0.002 * error);
            }
    }
}

static void refuses_what_is_not_finite(void **state)
{
    (void)state;
    double h[4] = {1, 0, 0, 1};
    float w[4] = {1, 2, NAN, 4}, scale[2];
    signed char q[4];
    anm_gptq_opts o = {.low = -8, .high = 7, .tries = 1};
    anm_gptq_report rep;
    size_t dead;
    anm_error err;
    assert_int_equal(round_with(q, scale, w, 2, 2, h, 0.01, &o, &rep, &dead, NULL, &err), ANM_ERR_FORMAT);
    assert_non_null(strstr(err.text, "row 1, column 0 is NaN"));
    w[2] = INFINITY;
    assert_int_equal(round_with(q, scale, w, 2, 2, h, 0.01, &o, &rep, &dead, NULL, &err), ANM_ERR_FORMAT);
    w[2] = 3;
    h[1] = NAN;
    assert_int_equal(round_with(q, scale, w, 2, 2, h, 0.01, &o, &rep, &dead, NULL, &err), ANM_ERR_FORMAT);
    h[1] = 3; /* indefinite: damping grows until the factor exists */
    h[2] = 3;
    assert_int_equal(round_with(q, scale, w, 2, 2, h, 0.01, &o, &rep, &dead, NULL, &err), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equals_the_dense_solution),
        cmocka_unit_test(never_worse_than_rounding_and_threads_do_not_matter),
        cmocka_unit_test(scales_fit_their_integers),
        cmocka_unit_test(refuses_what_is_not_finite),
    };
    return cmocka_run_group_tests_name("calib", tests, NULL, NULL);
}
