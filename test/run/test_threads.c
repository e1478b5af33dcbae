/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Two models in one process, eight sessions of each, a thread for every session: each gives the answer that it gives
 * alone. With ThreadSanitizer (make check-tsan) this also finds what they share without saying so.
 */
#include "anemone.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

enum { MODELS = 2, SESSIONS = 8, NEW = 12, ROUNDS = 3 };

typedef struct talk {
    anm_llm *llm;
    int number; /* which session: its prompt, its sampling, its lookahead */
    int32_t answer[NEW];
    int n, rc;
} talk;

static int take(void *ctx, int32_t id)
{
    talk *t = ctx;
    if (t->n < NEW) t->answer[t->n++] = id;
    return 0;
}

/* One whole conversation, from a session's beginning to its end. */
static void *have(void *arg)
{
    talk *t = arg;
    anm_session *s = NULL;
    anm_error err = {0};
    anm_llm_info info;
    anm_end end;
    anm_llm_get_info(&info, t->llm);
    const int32_t prompt[] = {1, (int32_t)(t->number % info.vocab_size), 2, (int32_t)(3 * t->number % info.vocab_size), 5};
    const anm_sampling how = {.temperature = t->number % 2 ? 0.8 : 0, .top_p = 0.95, .repeat_penalty = 1, .seed = (uint64_t)t->number};
    anm_generation g = {.max_new = NEW, .token = take, .ctx = t};
    if (t->number % 4 == 3) g.lookahead = (anm_lookahead){ANM_LOOKAHEAD_ALWAYS, 2, 2, 1};
    t->n = 0;
    t->rc = anm_session_new(&s, t->llm, &err);
    if (!t->rc) t->rc = anm_session_set_sampling(s, &how, &err);
    if (!t->rc) t->rc = anm_session_feed(s, prompt, sizeof prompt / sizeof *prompt, &err);
    if (!t->rc) t->rc = anm_session_generate(&end, s, &g, &err);
    if (t->rc) print_message("%s\n", err.text);
    anm_session_free(s);
    return NULL;
}

static void sessions_in_threads_answer_as_alone(void **state)
{
    static const char path[] = "test/data/golden/mha/model.pte";
    static const anm_llm_opts opts[MODELS] = {{ANM_PRECISION_DEFAULT, 2}, {ANM_PRECISION_EXACT, 3}};
    anm_llm *llm[MODELS] = {NULL};
    static talk alone[MODELS][SESSIONS], together[MODELS][SESSIONS];
    anm_error err = {0};
    (void)state;
    for (int m = 0; m < MODELS; m++) {
        assert_int_equal(anm_llm_open(&llm[m], path, &opts[m], &err), 0);
        for (int i = 0; i < SESSIONS; i++) {
            alone[m][i] = (talk){.llm = llm[m], .number = i};
            have(&alone[m][i]);
            assert_int_equal(alone[m][i].rc, 0);
            assert_int_equal(alone[m][i].n, NEW);
        }
    }
    for (int round = 0; round < ROUNDS; round++) {
        pthread_t thread[MODELS][SESSIONS];
        for (int m = 0; m < MODELS; m++)
            for (int i = 0; i < SESSIONS; i++) {
                together[m][i] = (talk){.llm = llm[m], .number = i};
                assert_int_equal(pthread_create(&thread[m][i], NULL, have, &together[m][i]), 0);
            }
        for (int m = 0; m < MODELS; m++)
            for (int i = 0; i < SESSIONS; i++) assert_int_equal(pthread_join(thread[m][i], NULL), 0);
        for (int m = 0; m < MODELS; m++)
            for (int i = 0; i < SESSIONS; i++) {
                assert_int_equal(together[m][i].rc, 0);
                assert_int_equal(together[m][i].n, NEW);
                assert_memory_equal(together[m][i].answer, alone[m][i].answer, sizeof alone[m][i].answer);
            }
    }
    for (int m = 0; m < MODELS; m++) anm_llm_free(llm[m]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(sessions_in_threads_answer_as_alone)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
