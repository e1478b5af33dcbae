/* SPDX-License-Identifier: BSD-3-Clause */
#include "test.h"

#include "run/sample.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { VOCAB = 40 };

/* Logits with ties, a steep head and a long tail. */
static void make_logits(float *l, int n, uint64_t seed)
{
    anm_rng r = {seed};
    for (int i = 0; i < n; i++) {
        double u = anm_rng_uniform(&r);
        l[i] = (float)(floor(-2.5 * log(1 - u) * 4) / 4);
    }
}

static double *sort_weight;
static int by_weight(const void *a, const void *b)
{
    int i = *(const int *)a, j = *(const int *)b;
    if (sort_weight[i] != sort_weight[j]) return sort_weight[i] > sort_weight[j] ? -1 : 1;
    return i - j;
}

/* The same distribution in the plainest way: everything sorted, everything summed. p[n], zeros for what is
 * cut. */
static void expected(double *p, const anm_sampling *how, const float *logits, int n, const int32_t *past,
                     int n_past)
{
    double *w = calloc((size_t)n, sizeof *w), sum = 0;
    int *order = calloc((size_t)n, sizeof *order);
    for (int i = 0; i < n; i++)
        w[i] = (double)logits[i];
    for (int i = how->repeat_last && n_past > how->repeat_last ? n_past - (int)how->repeat_last : 0;
         i < n_past; i++) {
        float v = logits[past[i]], penalty = (float)how->repeat_penalty;
        w[past[i]] = (double)(v > 0 ? v / penalty : v * penalty);
    }
    double top = -INFINITY;
    for (int i = 0; i < n; i++)
        top = fmax(top, w[i]);
    for (int i = 0; i < n; i++)
        w[i] = exp((w[i] - top) / how->temperature), order[i] = i, p[i] = 0;
    sort_weight = w;
    qsort(order, (size_t)n, sizeof *order, by_weight);
    int kept = how->top_k && how->top_k < n ? (int)how->top_k : n;
    for (int i = 0; i < kept; i++)
        sum += w[order[i]];
    double before = 0, all = 0;
    for (int i = 0; i < kept; i++) {
        if (i && (before > how->top_p * sum || w[order[i]] < how->min_p * w[order[0]])) break;
        before += p[order[i]] = w[order[i]];
    }
    for (int i = 0; i < n; i++)
        all += p[i];
    for (int i = 0; i < n; i++)
        p[i] /= all;
    free(w);
    free(order);
}

static const anm_sampling settings[] = {
    /* temperature top_p min_p top_k repeat_penalty repeat_last seed */
    {1, 1, 0, 0, 1, 64, 1},         {0.6, 0.9, 0, 0, 1, 64, 2},    {1.5, 0.5, 0, 0, 1, 64, 3},
    {1, 1, 0, 7, 1, 64, 4},         {0.8, 0.95, 0, 12, 1, 64, 5},  {1, 1, 0.1, 0, 1, 64, 6},
    {1.2, 0.8, 0.05, 20, 1, 64, 7}, {0.7, 0.9, 0, 0, 1.3, 3, 8},   {0.7, 1, 0, 0, 0.8, 0, 9},
    {0.05, 1, 0, 0, 1, 64, 10},     {100, 0.99, 0, 39, 1, 64, 11}, {1, 0, 0, 0, 1, 64, 12},
};
static const int32_t past[] = {3, 3, 17, 5, 39, 0};
enum { N_PAST = 6, N_SETTINGS = sizeof settings / sizeof *settings };

static void distribution_is_the_exact_one(void **state)
{
    (void)state;
    float logits[VOCAB];
    double want[VOCAB], got[VOCAB];
    for (int k = 0; k < N_SETTINGS; k++)
        for (uint64_t seed = 0; seed < 50; seed++) {
            make_logits(logits, VOCAB, seed);
            if (seed % 3 == 0) logits[seed % VOCAB] = -INFINITY;
            anm_sampler *s;
            const anm_candidate *c;
            int64_t n;
            assert_int_equal(anm_sampler_new(&s, VOCAB, NULL), 0);
            assert_int_equal(anm_sampler_set(s, &settings[k], NULL), 0);
            assert_int_equal(anm_sampler_dist(&c, &n, s, logits, past, N_PAST, NULL), 0);
            expected(want, &settings[k], logits, VOCAB, past, N_PAST);
            memset(got, 0, sizeof got);
            for (int64_t i = 0; i < n; i++) {
                assert_true(c[i].p > 0 && got[c[i].id] == 0);
                got[c[i].id] = c[i].p;
            }
            for (int i = 0; i < VOCAB; i++)
                assert_true(fabs(got[i] - want[i]) < 1e-14);
            anm_sampler_free(s);
        }
}

/* Pearson's statistic of `draws` tokens against p, over the outcomes that are expected at least 5 times (the
 * others together are one). It exceeds `limit` once in a million runs; the seeds are fixed, so it never does.
 */
static void draws_follow_the_distribution(void **state)
{
    (void)state;
    enum { DRAWS = 200000 };
    float logits[VOCAB];
    double p[VOCAB];
    for (int k = 0; k < N_SETTINGS; k++) {
        int64_t seen[VOCAB] = {0};
        make_logits(logits, VOCAB, (uint64_t)k + 100);
        anm_sampler *s;
        assert_int_equal(anm_sampler_new(&s, VOCAB, NULL), 0);
        assert_int_equal(anm_sampler_set(s, &settings[k], NULL), 0);
        for (int i = 0; i < DRAWS; i++) {
            int32_t id;
            assert_int_equal(anm_sampler_pick(&id, s, logits, past, N_PAST, NULL), 0);
            seen[id]++;
        }
        anm_sampler_free(s);
        expected(p, &settings[k], logits, VOCAB, past, N_PAST);
        double chi = 0, rest_p = 0, rest_seen = 0;
        int cells = 0;
        for (int i = 0; i < VOCAB; i++) {
            if (p[i] == 0) assert_int_equal(seen[i], 0);
            double e = p[i] * DRAWS, d = (double)seen[i] - e;
            if (e < 5)
                rest_p += e, rest_seen += (double)seen[i];
            else
                chi += d * d / e, cells++;
        }
        if (rest_p >= 5) chi += (rest_seen - rest_p) * (rest_seen - rest_p) / rest_p, cells++;
        double free_cells =
            cells - 1; /* Wilson and Hilferty's cube: the quantile of 4.75 standard deviations */
        double limit =
            cells > 1 ? free_cells * pow(1 - 2 / (9 * free_cells) + 4.75 * sqrt(2 / (9 * free_cells)), 3) : 0;
        assert_true(chi <= limit);
    }
}

static void random_numbers_are_the_same_everywhere(void **state)
{
    (void)state;
    anm_rng r = {1234567};
    const uint64_t first[] = {6457827717110365317u, 3203168211198807973u, 9817491932198370423u};
    for (int i = 0; i < 3; i++)
        assert_true(anm_rng_next(&r) == first[i]);
    double sum = 0;
    for (int i = 0; i < 100000; i++) {
        double u = anm_rng_uniform(&r);
        assert_true(u >= 0 && u < 1);
        sum += u;
    }
    assert_true(fabs(sum / 100000 - 0.5) < 0.005);
}

static void seeds_repeat_and_differ(void **state)
{
    (void)state;
    float logits[VOCAB];
    make_logits(logits, VOCAB, 9);
    int32_t a[64], b[64], c[64];
    anm_sampler *s;
    assert_int_equal(anm_sampler_new(&s, VOCAB, NULL), 0);
    anm_sampling how = {.temperature = 1, .top_p = 1, .repeat_penalty = 1, .seed = 5};
    int32_t *runs[] = {a, b, c};
    for (int r = 0; r < 3; r++) {
        how.seed = r == 2 ? 6 : 5;
        assert_int_equal(anm_sampler_set(s, &how, NULL), 0);
        for (int i = 0; i < 64; i++)
            assert_int_equal(anm_sampler_pick(&runs[r][i], s, logits, NULL, 0, NULL), 0);
    }
    assert_memory_equal(a, b, sizeof a);
    assert_memory_not_equal(a, c, sizeof a);
    anm_sampler_free(s);
}

static void greedy_takes_the_first_greatest(void **state)
{
    (void)state;
    const float ties[] = {-1, 4, NAN, 4, -INFINITY}, nan_first[] = {NAN, -3, -2}, none[] = {NAN, NAN},
                infinite[] = {1, INFINITY, 2}, lowest[] = {-INFINITY, -INFINITY};
    assert_int_equal(anm_argmax(ties, 5), 1);
    assert_int_equal(anm_argmax(nan_first, 3), 2);
    assert_int_equal(anm_argmax(none, 2), -1);
    assert_int_equal(anm_argmax(infinite, 3), 1);
    assert_int_equal(anm_argmax(lowest, 2), 0);
    anm_sampler *s;
    anm_error err;
    int32_t id;
    assert_int_equal(anm_sampler_new(&s, 2, NULL), 0);
    assert_int_equal(anm_sampler_pick(&id, s, none, NULL, 0, &err), ANM_ERR_LIMIT);
    anm_sampler_free(s);
    assert_int_equal(anm_sampler_new(&s, 3, NULL), 0);
    const anm_sampling warm = {.temperature = 1, .top_p = 1, .repeat_penalty = 1};
    assert_int_equal(anm_sampler_set(s, &warm, NULL), 0);
    for (int i = 0; i < 20; i++) { /* an infinite logit takes all, one that is no number takes nothing */
        assert_int_equal(anm_sampler_pick(&id, s, infinite, NULL, 0, &err), 0);
        assert_int_equal(id, 1);
        assert_int_equal(anm_sampler_pick(&id, s, nan_first, NULL, 0, &err), 0);
        assert_int_not_equal(id, 0);
    }
    /* The repeat penalty moves the greedy choice too. */
    const float close[] = {2, 1.9f, 0};
    const int32_t zero[] = {0};
    const anm_sampling push = {.temperature = 0, .top_p = 1, .repeat_penalty = 1.2};
    assert_int_equal(anm_sampler_set(s, &push, NULL), 0);
    assert_int_equal(anm_sampler_pick(&id, s, close, zero, 1, &err), 0);
    assert_int_equal(id, 1);
    anm_sampler_free(s);
}

static void settings_out_of_range_are_named(void **state)
{
    (void)state;
    const struct {
        anm_sampling how;
        const char *says;
    } bad[] = {
        {{.temperature = -0.1, .top_p = 1, .repeat_penalty = 1}, "temperature"},
        {{.temperature = NAN, .top_p = 1, .repeat_penalty = 1}, "temperature"},
        {{.temperature = INFINITY, .top_p = 1, .repeat_penalty = 1}, "temperature"},
        {{.top_p = -1, .repeat_penalty = 1}, "top_p"},
        {{.top_p = NAN, .repeat_penalty = 1}, "top_p"},
        {{.top_p = 1, .min_p = 1.5, .repeat_penalty = 1}, "min_p"},
        {{.top_p = 1, .top_k = -1, .repeat_penalty = 1}, "top_k"},
        {{.top_p = 1, .repeat_penalty = 0}, "repeat_penalty"},
        {{.top_p = 1, .repeat_penalty = 1, .repeat_last = -1}, "repeat_last"},
    };
    anm_sampler *s;
    assert_int_equal(anm_sampler_new(&s, 4, NULL), 0);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        anm_error err;
        assert_int_equal(anm_sampler_set(s, &bad[i].how, &err), ANM_ERR_USAGE);
        assert_non_null(strstr(err.text, bad[i].says));
    }
    anm_sampler_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_numbers_are_the_same_everywhere),
        cmocka_unit_test(distribution_is_the_exact_one),
        cmocka_unit_test(draws_follow_the_distribution),
        cmocka_unit_test(seeds_repeat_and_differ),
        cmocka_unit_test(greedy_takes_the_first_greatest),
        cmocka_unit_test(settings_out_of_range_are_named),
    };
    return cmocka_run_group_tests_name("sample", tests, NULL, NULL);
}
