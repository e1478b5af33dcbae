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

static void gram_is_the_product_with_itself(void **state)
{
    (void)state;
    anm_error err;
    static const size_t sizes[] = {1, 5, 32, 96, 97, 200};
    anm_pool *pool;
    assert_int_equal(anm_pool_new(&pool, 3, &err), 0);
    for (size_t t = 0; t < 6; t++) {
        size_t n = sizes[t], rows = 390 + t;
        float *x = filled(rows * n), *h = filled(n * n), *was = malloc(n * n * sizeof *was);
        memcpy(was, h, n * n * sizeof *h);
        assert_int_equal(anm_gram(h, x, rows, n, pool, &err), 0);
        for (size_t i = 0; i < n; i++)
            for (size_t j = i; j < n; j++) {
                double sum = was[i * n + j];
                for (size_t r = 0; r < rows; r++) sum += (double)x[r * n + i] * x[r * n + j];
                assert_true(fabs(h[i * n + j] - sum) < 1e-4);
            }
        free(x), free(h), free(was);
    }
    anm_pool_free(pool);
}

static void cholesky_and_inverse(void **state)
{
    (void)state;
    anm_error err;
    anm_pool *pool;
    static const size_t sizes[] = {1, 3, 128, 129, 700}; /* around a block, and more than one span of the inverse */
    assert_int_equal(anm_pool_new(&pool, 2, &err), 0);
    for (size_t t = 0; t < 5; t++) {
        size_t n = sizes[t], size = n * n * sizeof(float);
        float *a = malloc(size), *l = malloc(size), *x = malloc(size), *again = malloc(size), *g = filled(n * n);
        memset(a, 0, size);
        assert_int_equal(anm_gram(a, g, n, n, NULL, &err), 0);
        for (size_t i = 0; i < n; i++) {
            a[i * n + i] += 0.1f * (float)n;
            for (size_t j = 0; j < i; j++) a[i * n + j] = a[j * n + i];
        }
        memcpy(l, a, size);
        memcpy(again, a, size);
        assert_int_equal(anm_cholesky(l, n, NULL, &err), 0);
        assert_int_equal(anm_cholesky(again, n, pool, &err), 0);
        for (size_t i = 0; i < n; i++) assert_memory_equal(l + i * n, again + i * n, (i + 1) * sizeof *l); /* threads do not matter */
        memcpy(x, l, size);
        assert_int_equal(anm_lower_inverse(x, n, NULL, &err), 0);
        assert_int_equal(anm_lower_inverse(again, n, pool, &err), 0);
        assert_memory_equal(x, again, size);
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j < n; j++) {
                double s = 0, e = 0;
                for (size_t p = 0; p <= j && j <= i; p++) s += (double)l[i * n + p] * l[j * n + p];
                for (size_t p = j; p <= i; p++) e += (double)l[i * n + p] * x[p * n + j];
                if (j <= i) assert_true(fabs(s - a[i * n + j]) < 1e-6 * (double)n + 1e-6);
                if (j > i) assert_true(x[i * n + j] == 0);
                assert_true(fabs(e - (i == j)) < 1e-4);
            }
        a[n * n - 1] = -1;
        assert_int_equal(anm_cholesky(a, n, NULL, &err), ANM_ERR_FORMAT);
        char where[64];
        snprintf(where, sizeof where, "at row %zu of %zu", n - 1, n);
        assert_non_null(strstr(err.text, where));
        free(a), free(l), free(x), free(again), free(g);
    }
    anm_pool_free(pool);
}

int main(void)
{
    printf("# micro-kernel: %s\n", anm_gemm_name());
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(product_is_the_definition),
        cmocka_unit_test(threads_do_not_change_a_bit),
        cmocka_unit_test(gram_is_the_product_with_itself),
        cmocka_unit_test(cholesky_and_inverse),
    };
    return cmocka_run_group_tests_name("dense", tests, NULL, NULL);
}
