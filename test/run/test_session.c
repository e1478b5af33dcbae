/* SPDX-License-Identifier: BSD-3-Clause */
#include "test.h"

#include "run/fake_engine.h"
#include "run/session.h"

#include <stdlib.h>
#include <string.h>

enum { VOCAB = 50 };

static anm_llm *open_fake(const char *path)
{
    anm_llm *m;
    const anm_llm_opts one = {.threads = 1};
    assert_int_equal(anm_llm_open(&m, path, &one, NULL), 0);
    return m;
}

static void make_prompt(int32_t *ids, int n)
{
    anm_rng r = {7};
    for (int i = 0; i < n; i++)
        ids[i] = (int32_t)(anm_rng_next(&r) % VOCAB);
}

typedef struct sink {
    int32_t id[4096];
    int n, stop_after;
} sink;

static int collect(void *ctx, int32_t id)
{
    sink *k = ctx;
    k->id[k->n++] = id;
    return k->n == k->stop_after;
}

/* Greedy text by the plainest means: for each token a new session that is fed everything so far, one by one.
 */
static int truth(int32_t *out, const char *path, const int32_t *prompt, int n, int max_new)
{
    anm_llm *m = open_fake(path);
    anm_llm_info info;
    anm_llm_get_info(&info, m);
    anm_session *s;
    assert_int_equal(anm_session_new(&s, m, NULL), 0);
    int made = 0;
    for (int i = 0; i < n; i++)
        assert_int_equal(anm_session_feed(s, &prompt[i], 1, NULL), 0);
    while (made < max_new) {
        assert_int_equal(anm_session_sample(&out[made], s, NULL), 0);
        made++;
        if (n + made > info.max_context || anm_session_feed(s, &out[made - 1], 1, NULL)) break;
    }
    anm_session_free(s);
    anm_llm_free(m);
    return made;
}

static void answer_does_not_depend_on_the_chunk_or_the_method(void **state)
{
    (void)state;
    enum { CONTEXT = 64, MAX = 100 };
    int32_t prompt[CONTEXT], want[MAX];
    make_prompt(prompt, CONTEXT);
    char wide[128], path[128];
    fake_single(wide, sizeof wide, VOCAB, CONTEXT, 1); /* one token at a time, all but the last one cached */
    const int inputs[] = {1, 2, 5, 16, 31, 32};
    const int lengths[] = {1, 2, 15, 16, 17, 21, 32, 33, 47, 48, 49, 63, 64};
    for (size_t li = 0; li < sizeof lengths / sizeof *lengths; li++) {
        int n = lengths[li], made = truth(want, wide, prompt, n, MAX);
        assert_int_equal(made, CONTEXT - n + 1); /* the last position's token included */
        for (size_t ii = 0; ii < sizeof inputs / sizeof *inputs; ii++)
            for (int kind = 0; kind < 3; kind++) {
                if (kind == 0)
                    fake_single(path, sizeof path, VOCAB, CONTEXT, inputs[ii]);
                else
                    fake_multi(path, sizeof path, VOCAB, CONTEXT, inputs[ii], kind == 1);
                for (int chunk = 1; chunk <= inputs[ii]; chunk += 1 + chunk / 2) {
                    anm_llm *m = open_fake(path);
                    anm_session *s;
                    sink got = {.n = 0};
                    anm_end end;
                    assert_int_equal(anm_session_new(&s, m, NULL), 0);
                    s->chunk = chunk;
                    assert_int_equal(anm_session_feed(s, prompt, (size_t)n, NULL), 0);
                    const anm_generation g = {.max_new = -1, .token = collect, .ctx = &got};
                    assert_int_equal(anm_session_generate(&end, s, &g, NULL), 0);
                    assert_int_equal(end, ANM_END_CONTEXT);
                    assert_int_equal(got.n, made);
                    assert_memory_equal(got.id, want, (size_t)made * sizeof *want);
                    const int32_t *fed;
                    assert_int_equal(anm_session_fed(&fed, s), CONTEXT);
                    assert_memory_equal(fed, prompt, (size_t)n * sizeof *fed);
                    assert_memory_equal(fed + n, want, (size_t)(made - 1) * sizeof *fed);
                    anm_session_free(s);
                    anm_llm_free(m);
                }
            }
    }
}

static void rows_of_the_prompt_have_their_logits(void **state)
{
    (void)state;
    int32_t prompt[40];
    float rows[40 * VOCAB];
    make_prompt(prompt, 40);
    char path[128];
    fake_single(path, sizeof path, VOCAB, 40,
                9); /* to the last position: the tail is as long as the window */
    anm_llm *m = open_fake(path);
    anm_session *s, *one;
    assert_int_equal(anm_session_new(&s, m, NULL), 0);
    assert_int_equal(anm_session_new(&one, m, NULL), 0);
    assert_int_equal(anm_session_feed_rows(rows, s, prompt, 40, NULL), 0);
    for (int i = 0; i < 40; i++) {
        assert_int_equal(anm_session_feed(one, &prompt[i], 1, NULL), 0);
        assert_memory_equal(anm_session_logits(one), rows + i * VOCAB, VOCAB * sizeof *rows);
    }
    assert_memory_equal(anm_session_logits(s), rows + 39 * VOCAB, VOCAB * sizeof *rows);
    anm_session_free(s);
    anm_session_free(one);
    anm_llm_free(m);
}

static void what_does_not_fit_is_refused_and_changes_nothing(void **state)
{
    (void)state;
    int32_t prompt[65], bad[] = {1, VOCAB, 2}, negative[] = {-1};
    make_prompt(prompt, 65);
    char path[128];
    fake_single(path, sizeof path, VOCAB, 64, 16);
    anm_llm *m = open_fake(path);
    anm_session *s;
    anm_error err;
    int32_t id;
    anm_end end;
    assert_int_equal(anm_session_new(&s, m, NULL), 0);
    assert_null(anm_session_logits(s));
    assert_int_equal(anm_session_sample(&id, s, &err), ANM_ERR_USAGE);
    const anm_generation g = {.max_new = 5};
    assert_int_equal(anm_session_generate(&end, s, &g, &err), ANM_ERR_USAGE);
    assert_int_equal(anm_session_feed(s, prompt, 65, &err), ANM_ERR_LIMIT);
    assert_non_null(strstr(err.text, "65 tokens"));
    assert_non_null(strstr(err.text, "64"));
    assert_int_equal(anm_session_feed(s, bad, 3, &err), ANM_ERR_LIMIT);
    assert_non_null(strstr(err.text, "token 50 is outside the vocabulary of 50"));
    assert_int_equal(anm_session_feed(s, negative, 1, &err), ANM_ERR_LIMIT);
    assert_int_equal(anm_session_fed(NULL, s), 0);
    assert_int_equal(anm_session_feed(s, prompt, 60, &err), 0);
    float before[VOCAB];
    memcpy(before, anm_session_logits(s), sizeof before);
    assert_int_equal(anm_session_feed(s, prompt, 5, &err), ANM_ERR_LIMIT);
    assert_memory_equal(anm_session_logits(s), before, sizeof before);
    assert_int_equal(anm_session_feed(s, prompt, 4, &err), 0);
    assert_int_equal(anm_session_rewind(s, 64, &err), ANM_ERR_USAGE);
    anm_session_free(s);
    anm_llm_free(m);
}

static void rewinding_goes_back_to_any_token(void **state)
{
    (void)state;
    int32_t prompt[64];
    make_prompt(prompt, 64);
    char path[128];
    fake_single(path, sizeof path, VOCAB, 64, 16);
    anm_llm *m = open_fake(path);
    anm_session *s, *fresh;
    assert_int_equal(anm_session_new(&s, m, NULL), 0);
    assert_int_equal(anm_session_new(&fresh, m, NULL), 0);
    for (int keep = 0; keep < 64; keep++) { /* from a full context, into the cache and into the tail */
        anm_session_reset(s);
        anm_session_reset(fresh);
        assert_int_equal(anm_session_feed(s, prompt, 64, NULL), 0);
        assert_int_equal(anm_session_rewind(s, (size_t)keep, NULL), 0);
        assert_null(anm_session_logits(s));
        assert_int_equal(anm_session_fed(NULL, s), keep);
        assert_int_equal(anm_session_feed(s, prompt + 64 - 3 - (keep > 61), 64 - keep < 3 ? 1 : 3, NULL), 0);
        assert_int_equal(anm_session_feed(fresh, prompt, (size_t)keep, NULL), 0);
        assert_int_equal(anm_session_feed(fresh, prompt + 64 - 3 - (keep > 61), 64 - keep < 3 ? 1 : 3, NULL),
                         0);
        assert_memory_equal(anm_session_logits(s), anm_session_logits(fresh), VOCAB * sizeof(float));
    }
    anm_session_free(s);
    anm_session_free(fresh);
    anm_llm_free(m);
}

static void answers_end_for_the_right_reason(void **state)
{
    (void)state;
    int32_t prompt[10], want[50];
    make_prompt(prompt, 10);
    char path[128];
    fake_single(path, sizeof path, VOCAB, 64, 16);
    assert_int_equal(truth(want, path, prompt, 10, 50), 50);
    int first = 0; /* the first token that did not occur before it, late enough */
    for (int i = 5; i < 50 && !first; i++) {
        first = i;
        for (int j = 0; j < i; j++)
            if (want[j] == want[i]) first = 0;
    }
    assert_true(first);
    anm_llm *m = open_fake(path);
    for (int by = 0; by < 4; by++) {
        anm_session *s;
        sink got = {.stop_after = by == 2 ? 7 : 0};
        anm_end end;
        int32_t stop[] = {-1, want[first]};
        anm_generation g = {.max_new = by == 0 ? 20 : by == 3 ? 0 : -1, .token = collect, .ctx = &got};
        if (by == 1) g.stop = stop, g.n_stop = 2;
        assert_int_equal(anm_session_new(&s, m, NULL), 0);
        assert_int_equal(anm_session_feed(s, prompt, 10, NULL), 0);
        assert_int_equal(anm_session_generate(&end, s, &g, NULL), 0);
        int made = by == 0 ? 20 : by == 1 ? first + 1 : by == 2 ? 7 : 0;
        assert_int_equal(end, by == 1 ? ANM_END_STOP : by == 2 ? ANM_END_CALLER : ANM_END_MAX);
        assert_int_equal(got.n, made);
        assert_memory_equal(got.id, want, (size_t)made * sizeof *want);
        assert_int_equal(anm_session_fed(NULL, s), 10 + (made ? made - 1 : 0)); /* the last one is not fed */
        anm_session_stats st;
        anm_session_get_stats(&st, s);
        assert_int_equal(st.fed_tokens, 10);
        assert_int_equal(st.new_tokens, made);
        assert_int_equal(st.steps, made ? made - 1 : 0);
        assert_int_equal(st.forward.calls, 1 + (made ? made - 1 : 0));
        assert_int_equal(st.forward.rows, 10 + (made ? made - 1 : 0));
        /* It goes on where it stood. */
        if (made) {
            assert_int_equal(anm_session_feed(s, &got.id[made - 1], 1, NULL), 0);
            int32_t next;
            assert_int_equal(anm_session_sample(&next, s, NULL), 0);
            assert_int_equal(next, want[made]);
        }
        anm_session_free(s);
    }
    anm_llm_free(m);
}

static void methods_are_timed_apart(void **state)
{
    (void)state;
    int32_t prompt[33];
    make_prompt(prompt, 33);
    char path[128];
    fake_multi(path, sizeof path, VOCAB, 64, 16, 0);
    anm_llm *m = open_fake(path);
    anm_session *s;
    anm_end end;
    anm_session_stats st;
    assert_int_equal(anm_session_new(&s, m, NULL), 0);
    assert_int_equal(anm_session_feed(s, prompt, 33, NULL),
                     0); /* 16 + 16 by prefill, the last one by forward */
    const anm_generation g = {.max_new = 5};
    assert_int_equal(anm_session_generate(&end, s, &g, NULL), 0);
    anm_session_get_stats(&st, s);
    assert_int_equal(st.prefill.calls, 2);
    assert_int_equal(st.prefill.rows, 32);
    assert_int_equal(st.forward.calls, 1 + 4);
    assert_int_equal(st.forward.rows, 1 + 4);
    anm_session_free(s);
    anm_llm_free(m);
}

/* A context that slides holds what it says: in a model of one layer, where a token's part depends only on
 * itself and its position, the logits are those of a fresh session that is fed the same tokens. */
static void sliding_keeps_tokens_and_positions_together(void **state)
{
    (void)state;
    int32_t prompt[30];
    make_prompt(prompt, 30);
    const char *const paths[] = {
        "vocab=50 context=64 cache=48 input=16 multi=0 all=1 layers=1",
        "vocab=50 context=64 cache=63 input=16 multi=1 all=0 layers=1",
        "vocab=50 context=64 cache=63 input=1 multi=1 all=0 layers=1",
        "vocab=50 context=64 cache=60 input=4 multi=0 all=1 layers=1",
        "vocab=50 context=64 cache=8 input=56 multi=0 all=1 layers=1",
        "vocab=50 context=9 cache=4 input=5 multi=0 all=1 layers=1",
    };
    for (size_t p = 0; p < sizeof paths / sizeof *paths; p++)
        for (int keep = 0; keep < 6; keep++) {
            anm_llm *m = open_fake(paths[p]);
            anm_session *s, *fresh;
            anm_end end;
            anm_error err;
            sink got = {.n = 0};
            assert_int_equal(anm_session_new(&s, m, NULL), 0);
            assert_int_equal(anm_session_new(&fresh, m, NULL), 0);
            int n = s->capacity < 30 ? 5 : 30;
            assert_int_equal(anm_session_feed(s, prompt, (size_t)n, NULL), 0);
            const anm_generation g = {
                .max_new = 260, .when_full = ANM_FULL_SLIDE, .keep = keep, .token = collect, .ctx = &got};
            int rc = anm_session_generate(&end, s, &g, &err);
            if (keep > s->info->cache_len - (s->info->cache_len + 3) / 4) {
                assert_int_equal(rc, ANM_ERR_LIMIT);
                assert_non_null(strstr(err.text, "can be kept"));
            } else {
                assert_int_equal(rc, 0);
                assert_int_equal(end, ANM_END_MAX);
                assert_int_equal(got.n, 260);
                const int32_t *ids;
                size_t fed = anm_session_fed(&ids, s), recent = fed - (size_t)keep;
                assert_memory_equal(ids, prompt,
                                    (size_t)keep * sizeof *ids); /* the first stay, the latest are there */
                assert_memory_equal(ids + keep, got.id + 259 - recent, recent * sizeof *ids);
                assert_int_equal(anm_session_feed(fresh, ids, fed, NULL), 0);
                assert_memory_equal(anm_session_logits(s), anm_session_logits(fresh), VOCAB * sizeof(float));
            }
            anm_session_free(s);
            anm_session_free(fresh);
            anm_llm_free(m);
        }
}

static void sessions_know_nothing_of_each_other(void **state)
{
    (void)state;
    int32_t prompt[20], a[40], b[40];
    make_prompt(prompt, 20);
    char small[128], large[128];
    fake_single(small, sizeof small, VOCAB, 64, 16);
    fake_multi(large, sizeof large, VOCAB + 11, 100, 8, 0);
    int na = truth(a, small, prompt, 20, 40), nb = truth(b, large, prompt + 5, 15, 40);
    assert_true(na == 40 && nb == 40);
    anm_llm *m[] = {open_fake(small), open_fake(large)};
    anm_session *s[3];
    assert_int_equal(anm_session_new(&s[0], m[0], NULL), 0);
    assert_int_equal(anm_session_new(&s[1], m[1], NULL), 0);
    assert_int_equal(anm_session_new(&s[2], m[0], NULL), 0);
    assert_int_equal(anm_session_feed(s[0], prompt, 20, NULL), 0);
    assert_int_equal(anm_session_feed(s[1], prompt + 5, 15, NULL), 0);
    assert_int_equal(anm_session_feed(s[2], prompt, 20, NULL), 0);
    for (int i = 0; i < 40; i++) {
        int32_t id[3];
        for (int k = 0; k < 3; k++) {
            assert_int_equal(anm_session_sample(&id[k], s[k], NULL), 0);
            assert_int_equal(anm_session_feed(s[k], &id[k], 1, NULL), 0);
        }
        assert_int_equal(id[0], a[i]);
        assert_int_equal(id[1], b[i]);
        assert_int_equal(id[2], a[i]);
    }
    for (int k = 0; k < 3; k++)
        anm_session_free(s[k]);
    anm_llm_free(m[0]);
    anm_llm_free(m[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answer_does_not_depend_on_the_chunk_or_the_method),
        cmocka_unit_test(rows_of_the_prompt_have_their_logits),
        cmocka_unit_test(what_does_not_fit_is_refused_and_changes_nothing),
        cmocka_unit_test(rewinding_goes_back_to_any_token),
        cmocka_unit_test(answers_end_for_the_right_reason),
        cmocka_unit_test(methods_are_timed_apart),
        cmocka_unit_test(sliding_keeps_tokens_and_positions_together),
        cmocka_unit_test(sessions_know_nothing_of_each_other),
    };
    return cmocka_run_group_tests_name("session", tests, NULL, NULL);
}
