/* SPDX-License-Identifier: BSD-3-Clause */
#include "test.h"

#include "run/copying.h"
#include "run/fake_engine.h"
#include "run/ngrams.h"
#include "run/session.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static anm_llm *open_fake(const char *path)
{
    anm_llm *m;
    const anm_llm_opts one = {.threads = 1};
    assert_int_equal(anm_llm_open(&m, path, &one, NULL), 0);
    return m;
}

static void make_prompt(int32_t *ids, int n, int vocab, uint64_t seed)
{
    anm_rng r = {seed};
    for (int i = 0; i < n; i++)
        ids[i] = (int32_t)(anm_rng_next(&r) % (uint64_t)vocab);
}

typedef struct sink {
    int32_t id[8192];
    int n, stop_after;
} sink;

static int collect(void *ctx, int32_t id)
{
    sink *k = ctx;
    k->id[k->n++] = id;
    return k->n == k->stop_after;
}

typedef struct job {
    const char *path;
    const int32_t *prompt;
    int n_prompt;
    anm_sampling sampling;
    anm_generation g;
} job;

static anm_end answer(sink *out, anm_session_stats *stats, const job *j)
{
    anm_llm *m = open_fake(j->path);
    anm_session *s;
    anm_end end;
    out->n = 0;
    assert_int_equal(anm_session_new(&s, m, NULL), 0);
    assert_int_equal(anm_session_set_sampling(s, &j->sampling, NULL), 0);
    assert_int_equal(anm_session_feed(s, j->prompt, (size_t)j->n_prompt, NULL), 0);
    anm_generation g = j->g;
    g.token = collect;
    g.ctx = out;
    anm_error err = {0};
    int rc = anm_session_generate(&end, s, &g, &err);
    if (rc) fail_msg("%s", err.text);
    if (stats) anm_session_get_stats(stats, s);
    /* All but the last token are fed, and the logits are those after the last one fed. */
    const int32_t *fed;
    int n_fed = (int)anm_session_fed(&fed, s);
    assert_int_equal(n_fed, j->n_prompt + out->n - 1);
    assert_memory_equal(fed + j->n_prompt, out->id, (size_t)(out->n - 1) * sizeof *fed);
    anm_session *again;
    assert_int_equal(anm_session_new(&again, m, NULL), 0);
    assert_int_equal(anm_session_feed(again, fed, (size_t)n_fed, NULL), 0);
    anm_llm_info info;
    anm_llm_get_info(&info, m);
    assert_memory_equal(anm_session_logits(s), anm_session_logits(again),
                        (size_t)info.vocab_size * sizeof(float));
    anm_session_free(again);
    anm_session_free(s);
    anm_llm_free(m);
    return end;
}

static void expect_same(const sink *a, const sink *b)
{
    assert_int_equal(a->n, b->n);
    assert_memory_equal(a->id, b->id, (size_t)a->n * sizeof *a->id);
}

static const anm_lookahead shapes[] = {
    {ANM_LOOKAHEAD_ALWAYS, 5, 4, 4},  {ANM_LOOKAHEAD_ALWAYS, 3, 4, 4}, {ANM_LOOKAHEAD_ALWAYS, 2, 1, 1},
    {ANM_LOOKAHEAD_ALWAYS, 2, 7, 9},  {ANM_LOOKAHEAD_ALWAYS, 9, 2, 2}, {ANM_LOOKAHEAD_ALWAYS, 5, 0, 8},
    {ANM_LOOKAHEAD_ALWAYS, 3, 15, 1}, {ANM_LOOKAHEAD_ALWAYS, 4, 1, 9}, {ANM_LOOKAHEAD_ALWAYS, 17, 1, 1},
    {ANM_LOOKAHEAD_ALWAYS, 2, 0, 1},  {ANM_LOOKAHEAD_AUTO, 5, 4, 4},   {ANM_LOOKAHEAD_AUTO, 3, 2, 6},
};
enum { N_SHAPES = sizeof shapes / sizeof *shapes };

/* Every answer is that without lookahead: over shapes, vocabularies, prompts, kinds of file, greedy and
 * sampled, up to the last position of the context. */
static void answer_is_the_one_without_lookahead(void **state)
{
    (void)state;
    static sink plain, look;
    int32_t prompt[64];
    char path[128];
    int64_t tokens = 0, steps = 0;
    for (int v = 0; v < 3; v++)
        for (int kind = 0; kind < 2; kind++)
            for (int warm = 0; warm < 3; warm++)
                for (uint64_t seed = 0; seed < 3; seed++) {
                    int vocab = v == 0 ? 5 : v == 1 ? 48 : 300, n = 1 + (int)seed * 20;
                    make_prompt(prompt, n, vocab, seed + 10);
                    if (kind)
                        fake_multi(path, sizeof path, vocab, 300, 32, 1);
                    else
                        fake_single(path, sizeof path, vocab, 300, 32);
                    job j = {.path = path,
                             .prompt = prompt,
                             .n_prompt = n,
                             .sampling = ANM_SAMPLING_GREEDY,
                             .g = {.max_new = -1}};
                    if (warm)
                        j.sampling = (anm_sampling){.temperature = 0.3 * warm,
                                                    .top_p = 0.95,
                                                    .repeat_penalty = warm == 2 ? 1.1 : 1,
                                                    .repeat_last = 20,
                                                    .seed = seed};
                    assert_int_equal(answer(&plain, NULL, &j), ANM_END_CONTEXT);
                    assert_int_equal(plain.n, 300 - n + 1);
                    for (int i = 0; i < N_SHAPES; i++) {
                        anm_session_stats st;
                        j.g.lookahead = shapes[i];
                        assert_int_equal(answer(&look, &st, &j), ANM_END_CONTEXT);
                        expect_same(&look, &plain);
                        tokens += look.n;
                        steps += st.steps;
                    }
                }
    assert_true(tokens > 100000);
    assert_true(steps * 4 < tokens * 3); /* and guesses do come true */
}

/* Also while the context slides, four times its length. */
static void answer_is_the_same_while_the_context_slides(void **state)
{
    (void)state;
    int32_t prompt[20];
    char path[128];
    for (int kind = 0; kind < 2; kind++) {
        if (kind)
            fake_multi(path, sizeof path, 48, 100, 32, 1);
        else
            fake_single(path, sizeof path, 48, 100, 32);
        make_prompt(prompt, 20, 48, 8);
        anm_llm *m = open_fake(path);
        static sink plain, look;
        for (int i = -1; i < N_SHAPES; i++) {
            sink *out = i < 0 ? &plain : &look;
            anm_session *s;
            anm_end end;
            out->n = 0;
            anm_generation g = {
                .max_new = 400, .when_full = ANM_FULL_SLIDE, .keep = 4, .token = collect, .ctx = out};
            if (i >= 0) g.lookahead = shapes[i];
            assert_int_equal(anm_session_new(&s, m, NULL), 0);
            assert_int_equal(anm_session_feed(s, prompt, 20, NULL), 0);
            assert_int_equal(anm_session_generate(&end, s, &g, NULL), 0);
            assert_int_equal(end, ANM_END_MAX);
            if (i >= 0) expect_same(&look, &plain);
            anm_session_free(s);
        }
        anm_llm_free(m);
    }
}

/* Stop tokens, callbacks and limits end the answer at the same token, wherever in a branch they fall. */
static void answer_ends_at_the_same_token(void **state)
{
    (void)state;
    static sink plain, look;
    int32_t prompt[20];
    char path[128];
    fake_single(path, sizeof path, 48, 200, 32);
    make_prompt(prompt, 20, 48, 3);
    job j = {.path = path,
             .prompt = prompt,
             .n_prompt = 20,
             .sampling = ANM_SAMPLING_GREEDY,
             .g = {.max_new = 150}};
    for (int32_t stop = 0; stop < 48; stop++) {
        j.g.stop = &stop;
        j.g.n_stop = 1;
        j.g.lookahead.mode = ANM_LOOKAHEAD_OFF;
        anm_end end = answer(&plain, NULL, &j);
        for (int i = 0; i < N_SHAPES; i++) {
            j.g.lookahead = shapes[i];
            assert_int_equal(answer(&look, NULL, &j), end);
            expect_same(&look, &plain);
        }
    }
    j.g.n_stop = 0;
    j.g.lookahead.mode = ANM_LOOKAHEAD_OFF;
    answer(&plain, NULL, &j);
    for (int n = 1; n < 60; n++)
        for (int by_callback = 0; by_callback < 2; by_callback++) {
            j.g.lookahead = shapes[n % N_SHAPES];
            j.g.max_new = by_callback ? 150 : n;
            look.stop_after = by_callback ? n : 0;
            assert_int_equal(answer(&look, NULL, &j), by_callback ? ANM_END_CALLER : ANM_END_MAX);
            assert_int_equal(look.n, n);
            assert_memory_equal(look.id, plain.id, (size_t)n * sizeof *plain.id);
        }
    look.stop_after = 0;
}

/* Sampled with lookahead, the third new token's distribution is the exact one (all paths to it added up).
 * Every draw is a whole answer with its own seed, after a prompt whose n-grams are drafts for it. */
static void sampling_with_lookahead_is_lossless(void **state)
{
    (void)state;
    enum { VOCAB = 5, DRAWS = 20000 };
    char path[128];
    fake_single(path, sizeof path, VOCAB, 64, 16);
    int32_t prompt[24];
    for (int i = 0; i < 24; i++)
        prompt[i] = i ? (prompt[i - 1] * 3 + 1) % VOCAB : 2;
    anm_llm *m = open_fake(path);
    anm_session *s;
    assert_int_equal(anm_session_new(&s, m, NULL), 0);
    anm_sampling how = {.temperature = 1.3, .top_p = 1, .repeat_penalty = 1};
    double p[VOCAB][VOCAB][VOCAB], first[VOCAB];
    for (int a = -1; a < VOCAB; a++) /* the exact probabilities of all answers of three tokens */
        for (int b = -1; b < VOCAB; b++) {
            if (a < 0 && b >= 0) break;
            int32_t more[] = {a, b};
            anm_session_reset(s);
            assert_int_equal(anm_session_feed(s, prompt, 24, NULL), 0);
            if (a >= 0) assert_int_equal(anm_session_feed(s, more, b >= 0 ? 2 : 1, NULL), 0);
            const float *l = anm_session_logits(s);
            double sum = 0, w[VOCAB];
            for (int i = 0; i < VOCAB; i++)
                sum += w[i] = exp((double)l[i] / how.temperature);
            for (int i = 0; i < VOCAB; i++) {
                if (a < 0)
                    first[i] = w[i] / sum;
                else if (b < 0)
                    p[a][i][0] = w[i] / sum; /* of b, for now */
            }
            if (b >= 0) {
                double before = first[a] * p[a][b][0];
                for (int i = VOCAB - 1; i >= 0; i--)
                    p[a][b][i] = before * w[i] / sum;
            }
        }
    int64_t seen[VOCAB][VOCAB][VOCAB] = {0}, steps = 0, made = 0;
    for (int k = 0; k < DRAWS; k++) {
        sink got = {.n = 0};
        anm_end end;
        anm_session_stats st;
        how.seed = 77000 + (uint64_t)k;
        anm_session_reset(s);
        assert_int_equal(anm_session_set_sampling(s, &how, NULL), 0);
        assert_int_equal(anm_session_feed(s, prompt, 24, NULL), 0);
        const anm_generation g = {
            .max_new = 3, .lookahead = {ANM_LOOKAHEAD_ALWAYS, 3, 2, 4}, .token = collect, .ctx = &got};
        assert_int_equal(anm_session_generate(&end, s, &g, NULL), 0);
        assert_int_equal(got.n, 3);
        anm_session_get_stats(&st, s);
        steps += st.steps;
        made += 2;
        seen[got.id[0]][got.id[1]][got.id[2]]++;
    }
    assert_true(steps < made); /* drafts were accepted at all */
    double chi = 0, rest = 0, rest_seen = 0;
    int cells = 0;
    for (int i = 0; i < VOCAB * VOCAB * VOCAB; i++) {
        double e = (&p[0][0][0])[i] * DRAWS, o = (double)(&seen[0][0][0])[i];
        if (e < 5)
            rest += e, rest_seen += o;
        else
            chi += (o - e) * (o - e) / e, cells++;
    }
    if (rest >= 5) chi += (rest_seen - rest) * (rest_seen - rest) / rest, cells++;
    double f = cells - 1, limit = f * pow(1 - 2 / (9 * f) + 4.75 * sqrt(2 / (9 * f)), 3);
    assert_true(cells > 20);
    assert_true(chi < limit);
    anm_session_free(s);
    anm_llm_free(m);
}

static void pool_keeps_the_latest_once(void **state)
{
    (void)state;
    anm_ngrams *g;
    assert_int_equal(anm_ngrams_new(&g, 10, 2, 3, NULL), 0);
    const int32_t a[] = {1, 2}, b[] = {1, 3}, c[] = {4, 5}, d[] = {6, 7};
    anm_ngrams_add(g, 9, a);
    anm_ngrams_add(g, 9, b);
    anm_ngrams_add(g, 9, a); /* none twice, and its place stays */
    assert_int_equal(anm_ngrams_count(g, 9), 2);
    anm_ngrams_add(g, 9, c);
    anm_ngrams_add(g, 9, d); /* the first one in goes out */
    assert_int_equal(anm_ngrams_count(g, 9), 3);
    assert_memory_equal(anm_ngrams_get(g, 9, 0), b, sizeof b);
    assert_memory_equal(anm_ngrams_get(g, 9, 1), c, sizeof c);
    assert_memory_equal(anm_ngrams_get(g, 9, 2), d, sizeof d);
    assert_int_equal(anm_ngrams_count(g, 0), 0);
    anm_ngrams_clear(g);
    assert_int_equal(anm_ngrams_count(g, 9), 0);
    anm_ngrams_free(g);
}

/* A guess follows the longest match, and of equally long ones the latest; at the text's end it goes round. */
static void guesses_are_copied_from_the_longest_match(void **state)
{
    (void)state;
    static anm_copying c;
    anm_copying_begin(&c);
    const int32_t text[] = {7, 1, 2, 3, 40, 5, 2, 3, 50, 6, 1, 2, 3, 41, 5, 9, 2, 3, 60, 1, 2, 3};
    const int n = sizeof text / sizeof *text;
    anm_copying_guess(&c, text, n); /* 1 2 3: twice before, the latest at 10 */
    assert_int_equal(c.matched, 3);
    assert_int_equal(c.n, ANM_COPY_MOST);
    const int32_t next[] = {41, 5, 9, 2, 3, 60, 1, 2, 3, 41, 5, 9}; /* from 13 to the end, then from 13 again */
    assert_memory_equal(c.id, next, sizeof next);
    anm_copying_guess(&c, text, n - 1); /* 1 2: the latest at 10 */
    assert_int_equal(c.matched, 2);
    assert_int_equal(c.id[0], 3);
    assert_int_equal(c.id[1], 41);
    anm_copying_guess(&c, text, 5); /* 40 is new */
    assert_int_equal(c.n, 0);
    anm_copying_guess(&c, text, 1);
    assert_int_equal(c.n, 0);
    const int32_t same[] = {3, 3, 3};
    anm_copying_guess(&c, same, 3);
    assert_int_equal(c.matched, 2);
    assert_int_equal(c.n, ANM_COPY_MOST);
    for (int i = 0; i < c.n; i++) assert_int_equal(c.id[i], 3);
    int32_t many[300];
    for (int i = 0; i < 300; i++) many[i] = i % 100;
    anm_copying_guess(&c, many, 300);
    assert_int_equal(c.matched, ANM_COPY_MATCH);
    assert_int_equal(c.n, ANM_COPY_MOST);
    for (int i = 0; i < c.n; i++) assert_int_equal(c.id[i], i);
    anm_copying_take(&c, many, 4);
    assert_int_equal(c.n, 4);
    assert_int_equal(c.matched, 0);
}

/* What was right comes to be trusted, what was wrong does not; matches of each length are judged by themselves. */
static void guesses_are_trusted_as_they_come_true(void **state)
{
    (void)state;
    static anm_copying c;
    anm_copying_begin(&c);
    const int32_t text[] = {1, 2, 9, 2}; /* a match of one token */
    anm_copying_guess(&c, text, 4);
    assert_int_equal(c.matched, 1);
    double first = anm_copying_chance(&c, 0), second = anm_copying_chance(&c, 1);
    for (int i = 0; i < 50; i++) anm_copying_learn(&c, 0, 1);
    assert_true(anm_copying_chance(&c, 0) > 0.98 && anm_copying_chance(&c, 0) > first);
    assert_true(anm_copying_chance(&c, 1) == second);
    for (int i = 0; i < 50; i++) anm_copying_learn(&c, 0, 0);
    assert_true(anm_copying_chance(&c, 0) < 0.02);
    for (int i = 0; i < ANM_COPY_MOST; i++) assert_true(anm_copying_chance(&c, i) >= 0 && anm_copying_chance(&c, i) <= 1);
    anm_copying_begin(&c);
    assert_true(anm_copying_chance(&c, 0) != anm_copying_chance(&c, 7));
}

/* The answer's own n-grams, given beforehand, save steps. */
static void seeded_ngrams_save_steps(void **state)
{
    (void)state;
    static sink plain, look;
    int32_t prompt[8];
    char path[128];
    fake_single(path, sizeof path, 1000, 300, 32);
    make_prompt(prompt, 8, 1000, 5);
    job j = {.path = path,
             .prompt = prompt,
             .n_prompt = 8,
             .sampling = ANM_SAMPLING_GREEDY,
             .g = {.max_new = 200}};
    answer(&plain, NULL, &j);
    anm_llm *m = open_fake(path);
    int64_t steps[2];
    for (int seeded = 0; seeded < 2; seeded++) {
        anm_session *s;
        anm_end end;
        anm_session_stats st;
        anm_generation g = {
            .max_new = 200, .lookahead = {ANM_LOOKAHEAD_ALWAYS, 5, 4, 4}, .token = collect, .ctx = &look};
        look.n = 0;
        assert_int_equal(anm_session_new(&s, m, NULL), 0);
        assert_int_equal(anm_session_feed(s, prompt, 8, NULL), 0);
        if (seeded)
            assert_int_equal(anm_session_seed_ngrams(s, &g.lookahead, plain.id, (size_t)plain.n, NULL), 0);
        assert_int_equal(anm_session_generate(&end, s, &g, NULL), 0);
        expect_same(&look, &plain);
        anm_session_get_stats(&st, s);
        steps[seeded] = st.steps;
        anm_session_free(s);
    }
    assert_true(steps[1] < 70); /* nearly 4 guesses a step come true */
    assert_true(steps[0] > 2 * steps[1]);
    anm_llm_free(m);
}

static void settings_that_do_not_fit_are_named(void **state)
{
    (void)state;
    const struct {
        anm_lookahead how;
        int code;
        const char *says;
    } bad[] = {
        {{ANM_LOOKAHEAD_ALWAYS, 1, 4, 4}, ANM_ERR_USAGE, "ngram_size 1"},
        {{ANM_LOOKAHEAD_AUTO, 5, -1, 4}, ANM_ERR_USAGE, "window_size -1"},
        {{ANM_LOOKAHEAD_AUTO, 5, 4, 0}, ANM_ERR_USAGE, "n_verifications 0"},
        {{ANM_LOOKAHEAD_ALWAYS, 5, 5, 4}, ANM_ERR_LIMIT, "36 rows are more than the 32 of a step"},
        {{ANM_LOOKAHEAD_ALWAYS, INT32_MAX, INT32_MAX, INT32_MAX}, ANM_ERR_LIMIT, "the 32 of a step"},
    };
    char path[128];
    fake_single(path, sizeof path, 48, 200, 32);
    anm_llm *m = open_fake(path);
    anm_session *s;
    anm_end end;
    anm_error err;
    const int32_t one = 1;
    assert_int_equal(anm_session_new(&s, m, NULL), 0);
    assert_int_equal(anm_session_feed(s, &one, 1, NULL), 0);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        const anm_generation g = {.max_new = 5, .lookahead = bad[i].how};
        assert_int_equal(anm_session_generate(&end, s, &g, &err), bad[i].code);
        assert_non_null(strstr(err.text, bad[i].says));
    }
    anm_session_free(s);
    anm_llm_free(m);
    fake_multi(path, sizeof path, 48, 200, 32, 0); /* a file that gives the last token's logits only */
    m = open_fake(path);
    assert_int_equal(anm_session_new(&s, m, NULL), 0);
    assert_int_equal(anm_session_feed(s, &one, 1, NULL), 0);
    const anm_generation g = {.max_new = 5, .lookahead = ANM_LOOKAHEAD_DEFAULT};
    assert_int_equal(anm_session_generate(&end, s, &g, &err), ANM_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.text, "last token"));
    anm_session_free(s);
    anm_llm_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pool_keeps_the_latest_once),
        cmocka_unit_test(guesses_are_copied_from_the_longest_match),
        cmocka_unit_test(guesses_are_trusted_as_they_come_true),
        cmocka_unit_test(answer_is_the_one_without_lookahead),
        cmocka_unit_test(answer_is_the_same_while_the_context_slides),
        cmocka_unit_test(answer_ends_at_the_same_token),
        cmocka_unit_test(sampling_with_lookahead_is_lossless),
        cmocka_unit_test(seeded_ngrams_save_steps),
        cmocka_unit_test(settings_that_do_not_fit_are_named),
    };
    return cmocka_run_group_tests_name("lookahead", tests, NULL, NULL);
}
