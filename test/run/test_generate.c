/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Generation with the real engine, on programs that the reference exporter wrote (test/data/golden, and
 * ../shared/golden where it is there): the tokens of eager PyTorch, the same ones whatever the way, up to the
 * last position of the context.
 */
#include "test.h"

#include "base/map.h"
#include "run/session.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct sink {
    int32_t id[512];
    int n;
} sink;

static int collect(void *ctx, int32_t id)
{
    sink *k = ctx;
    if (k->n < (int)(sizeof k->id / sizeof *k->id)) k->id[k->n++] = id;
    return 0;
}

/* The answer to a prompt; a sampled one where `seed` is not 0. */
static void answer(sink *out, anm_session_stats *st, anm_llm *m, const int32_t *prompt, size_t n,
                   int32_t chunk, int64_t max_new, anm_lookahead look, uint64_t seed)
{
    anm_session *s;
    anm_error err;
    anm_end end;
    out->n = 0;
    if (anm_session_new(&s, m, &err)) fail_msg("%s", err.text);
    if (chunk && chunk < s->chunk) s->chunk = chunk;
    const anm_sampling how = {
        .temperature = seed ? 0.9 : 0, .top_p = 0.95, .repeat_penalty = 1, .seed = seed};
    const anm_generation g = {.max_new = max_new, .lookahead = look, .token = collect, .ctx = out};
    int rc = anm_session_set_sampling(s, &how, &err);
    if (!rc) rc = anm_session_feed(s, prompt, n, &err);
    if (!rc) rc = anm_session_generate(&end, s, &g, &err);
    if (rc) fail_msg("%s", err.text);
    if (st) anm_session_get_stats(st, s);
    anm_session_free(s);
}

static anm_llm *open_program(const char *path, anm_precision precision, unsigned threads)
{
    anm_llm *m;
    anm_error err;
    const anm_llm_opts opts = {.precision = precision, .threads = threads};
    if (anm_llm_open(&m, path, &opts, &err)) fail_msg("%s", err.text);
    return m;
}

static const char *const program[] = {
    "test/data/golden/mha/model.pte",
    "../shared/golden/single/model.pte",
    "../shared/golden/single_fp32/model.pte",
    "../shared/golden/single_b4w_e4g32/model.pte",
    "../shared/golden/lookahead/model.pte",
    "../shared/golden/multi/model.pte",
    "../shared/golden/multi_b4w_e4g32/model.pte",
};

/* Chunks, threads, lookahead of many shapes: always the tokens of one thread that feeds and makes them one by
 * one, down to the context's last position. */
static void one_answer_whatever_the_way(void **state)
{
    (void)state;
    static const anm_lookahead shapes[] = {
        {ANM_LOOKAHEAD_OFF, 0, 0, 0},    {ANM_LOOKAHEAD_ALWAYS, 5, 4, 4}, {ANM_LOOKAHEAD_ALWAYS, 3, 2, 3},
        {ANM_LOOKAHEAD_ALWAYS, 2, 1, 1}, {ANM_LOOKAHEAD_ALWAYS, 2, 0, 4}, {ANM_LOOKAHEAD_ALWAYS, 4, 3, 2},
        {ANM_LOOKAHEAD_AUTO, 3, 1, 1},
    };
    int64_t compared = 0;
    for (size_t p = 0; p < sizeof program / sizeof *program; p++) {
        if (access(program[p], R_OK)) continue;
        for (int precision = 0; precision <= ANM_PRECISION_EXACT; precision += ANM_PRECISION_EXACT)
            for (uint64_t seed = 0; seed < 2; seed++) {
                anm_llm *one = open_program(program[p], (anm_precision)precision, 1);
                anm_llm *three = open_program(program[p], (anm_precision)precision, 3);
                const anm_engine_info *info = anm_engine_get_info(one->engine);
                int32_t prompt[23];
                for (int i = 0; i < 23; i++)
                    prompt[i] = (int32_t)((i * 7919 + 13) % info->vocab_size);
                sink want, got;
                answer(&want, NULL, one, prompt, 23, 1, -1, shapes[0], seed);
                assert_int_equal(want.n, info->max_context - 23 + 1);
                for (size_t k = 0; k < sizeof shapes / sizeof *shapes; k++) {
                    const anm_lookahead *h = &shapes[k];
                    bool fits =
                        (h->ngram_size - 1) * (h->window_size + h->n_verifications) <= info->input_len &&
                        info->all_logits;
                    if (h->mode != ANM_LOOKAHEAD_OFF && !fits) continue;
                    answer(&got, NULL, three, prompt, 23, (int32_t)(k * 3), -1, *h, seed);
                    assert_int_equal(got.n, want.n);
                    for (int i = 0; i < want.n; i++)
                        assert_int_equal(got.id[i], want.id[i]);
                    compared += want.n;
                }
                anm_llm_free(one);
                anm_llm_free(three);
            }
    }
    if (!compared) skip();
}

/* Keys that are turned back when the context slides are those of their new positions: in a program of one
 * layer the logits then are those of a fresh session that is fed the same tokens, but for the keys' rounding
 * to the cache's type. */
static void sliding_turns_keys_to_their_new_positions(void **state)
{
    (void)state;
    anm_llm *m = open_program("test/data/golden/mha/model.pte", ANM_PRECISION_EXACT, 1);
    const anm_engine_info *info = anm_engine_get_info(m->engine);
    assert_int_equal(info->n_layers, 1);
    anm_session *s, *fresh;
    anm_end end;
    assert_int_equal(anm_session_new(&s, m, NULL), 0);
    assert_int_equal(anm_session_new(&fresh, m, NULL), 0);
    int32_t prompt[23];
    for (int i = 0; i < 23; i++)
        prompt[i] = (int32_t)((i * 7919 + 13) % info->vocab_size);
    const anm_sampling how = {.temperature = 1, .top_p = 1, .repeat_penalty = 1, .seed = 3};
    const anm_generation g = {.max_new = 4 * info->max_context, .when_full = ANM_FULL_SLIDE, .keep = 4};
    assert_int_equal(anm_session_set_sampling(s, &how, NULL), 0);
    assert_int_equal(anm_session_feed(s, prompt, 23, NULL), 0);
    assert_int_equal(anm_session_generate(&end, s, &g, NULL), 0);
    const int32_t *ids;
    size_t fed = anm_session_fed(&ids, s);
    assert_int_equal(anm_session_feed(fresh, ids, fed, NULL), 0);
    const float *a = anm_session_logits(s), *b = anm_session_logits(fresh);
    float most = 0, range = 0;
    for (int64_t i = 0; i < info->vocab_size; i++) {
        most = fmaxf(most, fabsf(a[i] - b[i]));
        range = fmaxf(range, fabsf(b[i]));
    }
    assert_true(range > 1);
    assert_true(most < range / 500);
    anm_session_free(s);
    anm_session_free(fresh);
    anm_llm_free(m);
}

/* Tables that scale as they turn cannot be undone by their own rows: here position 0 doubles. */
static void keys_that_were_scaled_are_not_turned_back(void **state)
{
    (void)state;
    static const uint8_t row[] = {0, 0x3c, 0, 0x3c, 0, 0x3c, 0, 0x3c, 0, 0x3c, 0, 0x3c, 0, 0x3c, 0, 0x3c, 0x53, 0x38}; /* eight times cos 0, cos 1 */
    anm_map map;
    anm_error err;
    assert_int_equal(anm_map_open(&map, program[0], &err), 0);
    size_t size = (size_t)map.size, at = 0;
    uint8_t *copy = malloc(size);
    memcpy(copy, map.data, size);
    anm_map_close(&map);
    while (at < size - sizeof row && memcmp(copy + at, row, sizeof row)) at++;
    assert_true(at < size - sizeof row);
    for (int scaled = 0; scaled < 2; scaled++) {
        char path[] = "/tmp/anemone_test_XXXXXX";
        int fd = mkstemp(path);
        if (scaled)
            for (size_t i = 1; i < 16; i += 2) copy[at + i] = 0x40;
        assert_int_equal(pwrite(fd, copy, size, 0), (ssize_t)size);
        close(fd);
        anm_llm *m = open_program(path, ANM_PRECISION_EXACT, 1);
        unlink(path);
        anm_session *s;
        assert_int_equal(anm_session_new(&s, m, &err), 0);
        for (int32_t i = 0; i < (int32_t)s->capacity; i++)
            if (anm_session_feed(s, &i, 1, &err)) fail_msg("%s", err.text);
        int rc = anm_session_slide(s, 4, &err);
        assert_int_equal(rc, scaled ? ANM_ERR_UNSUPPORTED : 0);
        if (scaled) assert_non_null(strstr(err.text, "keys are not turned in a way that can be turned back"));
        anm_session_free(s);
        anm_llm_free(m);
    }
    free(copy);
}

static int read_ids(int32_t *out, int room, const json_t *list)
{
    int n = (int)json_array_size(list);
    assert_in_range(n, 1, room);
    for (int i = 0; i < n; i++)
        out[i] = (int32_t)json_integer_value(json_array_get(list, (size_t)i));
    return n;
}

/* Eager PyTorch's greedy tokens; with lookahead the same, in no more steps than the original took (and 2,
 * since its rows are rounded otherwise). */
static void tokens_are_those_of_eager_pytorch(void **state)
{
    (void)state;
    static const char *const cases[] = {"single",       "single_fp32", "single_b4w_e4g32", "single_nobreak",
                                        "single_e8g32", "multi",       "multi_b4w_e4g32",  "mha",
                                        "vocab40k",     "vocab70k",    "lookahead"};
    int held = 0;
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        char model[160], eager[160];
        snprintf(model, sizeof model, "../shared/golden/%s/model.pte", cases[c]);
        snprintf(eager, sizeof eager, "../shared/golden/%s/eager.json", cases[c]);
        json_t *j = json_load_file(eager, 0, NULL);
        if (!j) continue;
        int32_t prompt[64], want[256];
        int n = read_ids(prompt, 64, json_object_get(j, "prompt"));
        int made = read_ids(want, 256, json_object_get(j, "greedy_fp32"));
        anm_llm *m = open_program(model, ANM_PRECISION_EXACT, 2);
        const json_t *steps = json_object_get(j, "lookahead_steps_fp32");
        for (int look = 0; look <= (steps != NULL); look++) {
            sink got;
            anm_session_stats st;
            const anm_lookahead how = {look ? ANM_LOOKAHEAD_ALWAYS : ANM_LOOKAHEAD_OFF, 5, 4, 4};
            answer(&got, &st, m, prompt, (size_t)n, 0, made, how, 0);
            assert_int_equal(got.n, made);
            assert_memory_equal(got.id, want, (size_t)made * sizeof *want);
            if (look) assert_true(st.steps <= json_integer_value(steps) + 2);
        }
        anm_llm_free(m);
        json_decref(j);
        held++;
    }
    if (!held) skip();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_answer_whatever_the_way),
        cmocka_unit_test(sliding_turns_keys_to_their_new_positions),
        cmocka_unit_test(keys_that_were_scaled_are_not_turned_back),
        cmocka_unit_test(tokens_are_those_of_eager_pytorch),
    };
    return cmocka_run_group_tests_name("generate", tests, NULL, NULL);
}
