/* SPDX-License-Identifier: BSD-3-Clause */
#include "test.h"

#include "dense/dense.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t seed = 1;
static float uniform(void) /* in [-1, 1) */
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (float)(int32_t)(seed >> 32) * 0x1p-31f;
}

static float *filled(size_t n)
{
    float *p = malloc((n ? n : 1) * sizeof *p);
    for (size_t i = 0; i < n; i++) p[i] = uniform();
    return p;
}

/* The product against its definition, in fp64, for shapes around every tile's edge; all four ways to view the operands. */
static void product_is_the_definition(void **state)
{
    (void)state;
    static const size_t sizes[] = {1, 2, 5, 6, 12, 13, 31, 33, 97, 100};
    anm_error err;
    enum { COUNT = sizeof sizes / sizeof *sizes };
    for (size_t s = 0; s < 120; s++) {
        size_t m = sizes[s % COUNT], n = sizes[s / COUNT % COUNT], k = s % 3 == 0 ? 1 : s % 3 == 1 ? 70 : 400;
        bool ta = s & 1, tb = s & 2, add = s & 4;
        float *a = filled(m * k), *b = filled(n * k), *c = filled(m * n), *was = malloc(m * n * sizeof *was);
        memcpy(was, c, m * n * sizeof *c);
        anm_view va = ta ? anm_transposed(a, m) : anm_rows(a, k), vb = tb ? anm_transposed(b, n) : anm_rows(b, k);
        assert_int_equal(anm_gemm(c, n, va, vb, m, n, k, add, NULL, &err), 0);
        for (size_t i = 0; i < m; i++)
            for (size_t j = 0; j < n; j++) {
                double sum = add ? was[i * n + j] : 0;
                for (size_t p = 0; p < k; p++)
                    sum += (double)va.data[i * va.row + p * va.col] * vb.data[j * vb.row + p * vb.col];
                assert_true(fabs(c[i * n + j] - sum) < 1e-4);
            }
        free(a), free(b), free(c), free(was);
    }
}

static void threads_do_not_change_a_bit(void **state)
{
    (void)state;
    enum { M = 301, N = 211, K = 900 };
    anm_error err;
    float *a = filled(M * K), *b = filled(N * K), *one = filled(M * N), *many = filled(M * N);
    assert_int_equal(anm_gemm(one, N, anm_rows(a, K), anm_rows(b, K), M, N, K, false, NULL, &err), 0);
    for (unsigned t = 2; t < 5; t++) {
        anm_pool *p;
        assert_int_equal(anm_pool_new(&p, t, &err), 0);
        assert_int_equal(anm_gemm(many, N, anm_rows(a, K), anm_rows(b, K), M, N, K, false, p, &err), 0);
        assert_memory_equal(one, many, M * N * sizeof *one);
        anm_pool_free(p);
    }
    free(a), free(b), free(one), free(many);
}

static void cholesky_and_inverse(void **state)
{
    (void)state;
    anm_error err;
    static const size_t sizes[] = {1, 3, 64, 65, 150};
    for (size_t t = 0; t < 5; t++) {
        size_t n = sizes[t];
        double *a = malloc(n * n * sizeof *a), *l = malloc(n * n * sizeof *l), *x = malloc(n * n * sizeof *x);
        float *g = filled(n * n);
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j < n; j++) {
                double s = i == j ? 0.5 : 0;
                for (size_t p = 0; p < n; p++) s += (double)g[i * n + p] * g[j * n + p];
                a[i * n + j] = s;
            }
        memcpy(l, a, n * n * sizeof *a);
        assert_int_equal(anm_cholesky(l, n, NULL, &err), 0);
        memcpy(x, l, n * n * sizeof *l);
        anm_lower_inverse(x, n, NULL);
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j <= i; j++) {
                double s = 0, e = 0;
                for (size_t p = 0; p <= j; p++) s += l[i * n + p] * l[j * n + p];
                for (size_t p = j; p <= i; p++) e += l[i * n + p] * x[p * n + j];
                assert_true(fabs(s - a[i * n + j]) < 1e-9 * (double)(n + 1));
                assert_true(fabs(e - (i == j)) < 1e-9 * (double)(n + 1));
            }
        a[n * n - 1] = -1;
        assert_int_equal(anm_cholesky(a, n, NULL, &err), ANM_ERR_FORMAT);
        free(a), free(l), free(x), free(g);
    }
}

int main(void)
{
    printf("# micro-kernel: %s\n", anm_gemm_name());
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(product_is_the_definition),
        cmocka_unit_test(threads_do_not_change_a_bit),
        cmocka_unit_test(cholesky_and_inverse),
    };
    return cmocka_run_group_tests_name("dense", tests, NULL, NULL);
}
