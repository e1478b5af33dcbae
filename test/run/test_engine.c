/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The engine on programs that the reference exporter wrote (test/data/golden, and ../shared/golden where it is there):
 * the plan against the interpreter, and one answer whatever the chunk, the threads, the instruction set.
 */
#include "test.h"

#include "base/map.h"
#include "plan/report.h"
#include "run/engine_internal.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PROMPT = 21, TOKENS_MAX = 64 };

static const char *const program[] = {
    "test/data/golden/mha/model.pte",
    "test/data/golden/tiny_multi.pte",
    "../shared/golden/single/model.pte",
    "../shared/golden/single_fp32/model.pte",
    "../shared/golden/single_b4w_e4g32/model.pte",
    "../shared/golden/single_e8g32/model.pte",
    "../shared/golden/single_nobreak/model.pte",
    "../shared/golden/multi/model.pte",
    "../shared/golden/multi_b4w_e4g32/model.pte",
    "../shared/golden/lookahead/model.pte",
    "../shared/golden/vocab40k/model.pte",
};
enum { PROGRAMS = sizeof program / sizeof *program };

/* A run's logits: one row per token of the prompt. */
typedef struct answer {
    float *logits;
    size_t count;
    int64_t vocab;
    bool planned;
} answer;

static void free_answer(answer *a)
{
    free(a->logits);

}

static anm_engine *open_engine(const char *path, anm_engine_opts opts)
{
    anm_error err;
    anm_engine *e = NULL;
    if (anm_engine_open(&e, path, &opts, &err)) fail_msg("%s", err.text);
    return e;
}

static int32_t token_at(int i, int64_t vocab)
{
    return (int32_t)((i * 7919 + 13) % vocab);
}

/* The prompt in chunks of at most `chunk`, committed as it goes. */
static answer run(const char *path, anm_engine_opts opts, int chunk)
{
    anm_error err;
    anm_engine *e = open_engine(path, opts);
    const anm_engine_info *info = anm_engine_get_info(e);
    anm_state *s = NULL;
    if (anm_state_new(&s, e, &err)) fail_msg("%s", err.text);
    answer a = {.vocab = info->vocab_size, .count = PROMPT * (size_t)info->vocab_size,
                .planned = !anm_engine_unplanned(e) && !opts.interpret};
    a.logits = calloc(a.count, sizeof *a.logits);
    if (chunk > info->step_len) chunk = (int)info->step_len;
    for (int at = 0; at < PROMPT; at += chunk) {
        int32_t token[TOKENS_MAX], pos[TOKENS_MAX];
        uint8_t want[TOKENS_MAX];
        int n = PROMPT - at < chunk ? PROMPT - at : chunk;
        for (int i = 0; i < n; i++) {
            token[i] = token_at(at + i, a.vocab);
            pos[i] = at + i;
            want[i] = 1;
        }
        anm_step step = {n, token, pos, NULL, want};
        if (anm_state_step(a.logits + at * a.vocab, s, &step, &err)) fail_msg("%s", err.text);
        if (anm_state_commit(s, 0, n, &err)) fail_msg("%s", err.text);
        assert_int_equal(anm_state_cached(s), at + n);
    }
    anm_state_free(s);
    anm_engine_free(e);
    return a;
}

static float distance(const answer *a, const answer *b)
{
    float most = 0;
    assert_int_equal(a->count, b->count);
    for (size_t i = 0; i < a->count; i++) {
        float d = fabsf(a->logits[i] - b->logits[i]);
        if (!(d <= most)) most = d;
    }
    return most;
}

static void test_plan_is_the_interpreter(void **state)
{
    (void)state;
    for (int i = 0; i < PROGRAMS; i++) {
        if (access(program[i], R_OK)) continue;
        answer slow = run(program[i], (anm_engine_opts){.precision = ANM_PRECISION_EXACT, .interpret = true}, 32);
        answer plan = run(program[i], (anm_engine_opts){.precision = ANM_PRECISION_EXACT}, 32);
        answer fast = run(program[i], (anm_engine_opts){.precision = ANM_PRECISION_DEFAULT}, 32);
        assert_true(plan.planned && fast.planned);
        /* The interpreter does not round fresh keys and values to the cache's fp16 before it uses them. */
        float d = distance(&slow, &plan), f = distance(&slow, &fast);
        if (!(d < 0.02f)) fail_msg("%s: exact plan and interpreter differ by %g", program[i], (double)d);
        if (strstr(program[i], "fp32") && !(d < 1e-4f)) fail_msg("%s: differ by %g", program[i], (double)d);
        if (!(f < 1.0f)) fail_msg("%s: int8 activations differ by %g", program[i], (double)f);
        free_answer(&slow);
        free_answer(&plan);
        free_answer(&fast);
    }
}

static double mean_square(const answer *a, const answer *b)
{
    double sum = 0;
    assert_int_equal(a->count, b->count);
    for (size_t i = 0; i < a->count; i++) {
        double d = (double)a->logits[i] - (double)b->logits[i];
        sum += d * d;
    }
    return sum / (double)a->count;
}

/* The default arithmetic is the rounding of what linears take to int8 with a scale for every 32, and nothing else to speak of. */
static void test_rounding(void **state)
{
    (void)state;
    const anm_engine_opts coarse = {.precision = ANM_PRECISION_EXACT, .linear = {8, 32}},
                          fine = {.precision = ANM_PRECISION_EXACT, .linear = {12, 32}};
    for (int i = 0; i < PROGRAMS; i++) {
        if (access(program[i], R_OK)) continue;
        answer exact = run(program[i], (anm_engine_opts){.precision = ANM_PRECISION_EXACT, .interpret = true}, 32);
        answer fast = run(program[i], (anm_engine_opts){.precision = ANM_PRECISION_DEFAULT}, 32);
        answer a = run(program[i], coarse, 32), b = run(program[i], fine, 32);
        double away = mean_square(&fast, &exact), rounded = mean_square(&a, &exact), same = mean_square(&fast, &a);
        /* Two that have nothing to do with each other were twice `away` apart. An fp16 cache is rounded by the plan alone,
         * and moves some numbers over the middle between two integers; in an fp32 file all are the same. */
        assert_true(same < away);
        if (strstr(program[i], "fp32")) assert_true(same < 1e-6 * away);
        assert_true(away < 1.2 * rounded && rounded < 1.2 * away);
        assert_true(mean_square(&b, &exact) < 0.1 * rounded);
        free_answer(&exact);
        free_answer(&fast);
        free_answer(&a);
        free_answer(&b);
    }
}

static double ticks;
static double tick(void)
{
    return ticks += 1;
}

/* Times by stage are those by kind, split; every stage that takes time has a name. */
static void test_stages(void **state)
{
    (void)state;
    anm_error err;
    anm_engine *e = open_engine(program[0], (anm_engine_opts){.precision = ANM_PRECISION_DEFAULT});
    const anm_plan *p = anm_engine_plan(e, true);
    const anm_engine_info *info = anm_engine_get_info(e);
    anm_state *s = NULL;
    assert_non_null(p);
    assert_int_equal(anm_state_new(&s, e, &err), 0);
    int32_t n = anm_plan_stages(p), token = 1, pos = 0, linears = 0;
    double *took = calloc((size_t)n, sizeof *took), sum = 0, kinds = 0;
    float *y = malloc((size_t)info->vocab_size * sizeof *y);
    anm_state_measure_stages(s, tick, took, took);
    for (int i = 0; i < 3; i++) assert_int_equal(anm_state_step(y, s, &(anm_step){1, &token, &pos, NULL, NULL}, &err), 0);
    const anm_plan_times *t = anm_state_times(s);
    assert_non_null(t);
    for (int i = 0; i < ANM_TIME_COUNT; i++) kinds += t->seconds[i];
    for (int32_t i = 0; i < n; i++) {
        char name[120], shorter[6];
        if (took[i] == 0) continue;
        sum += took[i];
        assert_true(*anm_plan_stage_name(name, sizeof name, p, i));
        linears += !strncmp(name, "linear ", 7);
        assert_true(strlen(anm_plan_stage_name(shorter, sizeof shorter, p, i)) < sizeof shorter);
        assert_memory_equal(name, shorter, strlen(shorter));
    }
    assert_true(sum == kinds && sum > 0);
    assert_true(linears >= 4 * info->n_layers + 1);
    anm_plan_cost cost;
    anm_plan_get_cost(&cost, p);
    assert_true(cost.int8 && cost.weight_bytes > 0 && cost.layer_products > 0 && cost.head_products > 0);
    assert_int_equal(cost.cache_bytes, info->n_layers * 2 * info->n_kv_heads * info->head_dim * 2);
    free(took);
    free(y);
    anm_state_free(s);
    anm_engine_free(e);
}

/* A graph that no plan fits, here one with an op that no rule knows in the place of a softmax, is told as it is. */
static void test_unfused(void **state)
{
    (void)state;
    anm_loaded l;
    anm_error err;
    anm_buf text = {0};
    assert_int_equal(anm_loaded_open(&l, program[0], &err), 0);
    const anm_method *m = &l.method[ANM_METHOD_WIDE];
    assert_int_equal(anm_plan_report(&text, m, &err), 0);
    assert_non_null(strstr((char *)text.data, "unfused: 0\n"));
    anm_mil_op *op = m->fn->first;
    while (op && op->code != ANM_OP_SOFTMAX) op = op->next;
    assert_non_null(op);
    op->code = ANM_OP_EXP;
    text.size = 0;
    assert_int_equal(anm_plan_report(&text, m, &err), 0);
    assert_non_null(strstr((char *)text.data, "no plan: exp "));
    assert_non_null(strstr((char *)text.data, "unfused: all "));
    assert_non_null(strstr((char *)text.data, "1 exp"));
    text.size = 0;
    assert_int_equal(anm_plan_dump(&text, m, ANM_PLAN_LOWER, &err), 0);
    assert_non_null(strstr((char *)text.data, "scores, not computed\nexp "));
    assert_non_null(strstr((char *)text.data, "\nno plan: exp "));
    anm_buf_free(&text);
    anm_loaded_close(&l);
}

static void same_answer(const answer *a, const answer *b, const char *path, const char *what)
{
    assert_int_equal(a->count, b->count);
    if (memcmp(a->logits, b->logits, a->count * sizeof *a->logits)) fail_msg("%s: %s changes the answer", path, what);
}

static void test_one_answer(void **state)
{
    (void)state;
    for (int i = 0; i < PROGRAMS; i++) {
        if (access(program[i], R_OK)) continue;
        for (anm_precision p = ANM_PRECISION_DEFAULT; p <= ANM_PRECISION_EXACT; p++) {
            anm_pool *pool;
            assert_int_equal(anm_pool_new(&pool, 3, NULL), 0);
            anm_engine_opts alone = {.precision = p}, many = {.precision = p, .pool = pool};
            answer a = run(program[i], alone, 1), b = run(program[i], alone, 4), c = run(program[i], many, 32);
            same_answer(&a, &b, program[i], "the chunk");
            same_answer(&a, &c, program[i], "the number of threads");
            free_answer(&c);
            c = run(program[i], many, 1);
            same_answer(&a, &c, program[i], "the number of threads for one row");
            setenv("ANEMONE_ISA", "plain", 1);
            answer d = run(program[i], alone, 7);
            unsetenv("ANEMONE_ISA");
            same_answer(&a, &d, program[i], "the instruction set");
            free_answer(&a);
            free_answer(&b);
            free_answer(&c);
            free_answer(&d);
            anm_pool_free(pool);
        }
    }
}

/* Rows in a tree, as lookahead takes them: a branch's answer is what the branch alone would get. */
static void test_branches(void **state)
{
    (void)state;
    for (int i = 0; i < PROGRAMS; i++) {
        anm_engine *e;
        anm_error err;
        anm_state *s;
        if (access(program[i], R_OK)) continue;
        e = open_engine(program[i], (anm_engine_opts){.precision = ANM_PRECISION_DEFAULT});
        int64_t vocab = anm_engine_get_info(e)->vocab_size;
        assert_int_equal(anm_state_new(&s, e, &err), 0);
        float *y = malloc((size_t)vocab * 5 * sizeof *y), *z = malloc((size_t)vocab * 3 * sizeof *z);
        /* Row 0, and from it two branches: 1 2 and 3 4. */
        int32_t token[5] = {1, 2, 3, 4, 5}, pos[5] = {0, 1, 2, 1, 2};
        uint8_t see[25] = {1, 0, 0, 0, 0, 1, 1, 0, 0, 0, 1, 1, 1, 0, 0, 1, 0, 0, 1, 0, 1, 0, 0, 1, 1}, want[5] = {1, 1, 1, 1, 1};
        anm_step tree = {5, token, pos, see, want};
        if (anm_state_step(y, s, &tree, &err)) fail_msg("%s", err.text);
        int32_t line[3] = {1, 4, 5}, line_pos[3] = {0, 1, 2};
        anm_step alone = {3, line, line_pos, NULL, want};
        if (anm_state_step(z, s, &alone, &err)) fail_msg("%s", err.text);
        assert_memory_equal(y, z, (size_t)vocab * sizeof *y);
        assert_memory_equal(y + 3 * vocab, z + vocab, (size_t)vocab * 2 * sizeof *y);
        /* Rows 0, then 3 and 4, committed from the tree, give what the line would have left in the cache. */
        if (anm_state_step(y, s, &tree, &err)) fail_msg("%s", err.text);
        assert_int_equal(anm_state_commit(s, 0, 1, &err), 0);
        assert_int_equal(anm_state_commit(s, 3, 2, &err), 0);
        assert_int_equal(anm_state_commit(s, 3, 3, &err), ANM_ERR_USAGE);
        int32_t next = 7, at = 3;
        anm_step one = {1, &next, &at, NULL, NULL};
        assert_int_equal(anm_state_step(y, s, &one, &err), 0);
        anm_state_truncate(s, 0);
        assert_int_equal(anm_state_step(z, s, &alone, &err), 0);
        assert_int_equal(anm_state_commit(s, 0, 3, &err), 0);
        assert_int_equal(anm_state_step(z, s, &one, &err), 0);
        assert_memory_equal(y, z, (size_t)vocab * sizeof *y);
        free(y);
        free(z);
        anm_state_free(s);
        anm_engine_free(e);
    }
}

/* Several conversations at once on one engine and one pool: each gives what it gives alone. */
enum { TALKS = 4, TALK = 30 };

typedef struct talk {
    anm_engine *e;
    int32_t said[TALK];
    bool ok;
} talk;

static void *hold(void *arg)
{
    talk *t = arg;
    anm_state *s;
    int64_t vocab = anm_engine_get_info(t->e)->vocab_size;
    float *y = malloc((size_t)vocab * sizeof *y);
    t->ok = y && !anm_state_new(&s, t->e, NULL);
    if (!t->ok) return NULL;
    for (int32_t i = 0, token = 5; i < TALK; i++) {
        anm_step step = {1, &token, &i, NULL, NULL};
        t->ok = t->ok && !anm_state_step(y, s, &step, NULL) && !anm_state_commit(s, 0, 1, NULL);
        token = 0;
        for (int32_t k = 1; k < vocab; k++)
            if (y[k] > y[token]) token = k;
        t->said[i] = token;
    }
    anm_state_free(s);
    free(y);
    return NULL;
}

static void test_many_states(void **state)
{
    (void)state;
    anm_pool *pool;
    assert_int_equal(anm_pool_new(&pool, 2, NULL), 0);
    talk t[TALKS + 1];
    pthread_t thread[TALKS];
    anm_engine *e = open_engine(program[0], (anm_engine_opts){.pool = pool});
    for (int i = 0; i <= TALKS; i++) t[i].e = e;
    hold(&t[TALKS]);
    for (int i = 0; i < TALKS; i++) assert_int_equal(pthread_create(&thread[i], NULL, hold, &t[i]), 0);
    for (int i = 0; i < TALKS; i++) assert_int_equal(pthread_join(thread[i], NULL), 0);
    for (int i = 0; i < TALKS; i++) {
        assert_true(t[i].ok);
        assert_memory_equal(t[i].said, t[TALKS].said, sizeof t[i].said);
    }
    anm_engine_free(e);
    anm_pool_free(pool);
}

static void test_wrong_steps(void **state)
{
    (void)state;
    anm_error err;
    anm_state *s;
    anm_engine *e = open_engine(program[0], (anm_engine_opts){0});
    const anm_engine_info *info = anm_engine_get_info(e);
    assert_int_equal(info->vocab_size, 300);
    assert_int_equal(info->input_len, 5);
    assert_true(info->step_len >= 5);
    assert_int_equal(info->cache_len, 59);
    assert_int_equal(info->max_context, 64);
    assert_true(info->all_logits && info->fp16_cache && !info->multifunction);
    assert_int_equal(anm_state_new(&s, e, &err), 0);
    float y[300];
    int32_t token[6] = {0}, pos[6] = {0};
    uint8_t see[4] = {1, 1, 1, 0};
    anm_step step = {(int32_t)info->step_len + 1, token, pos, NULL, NULL};
    assert_int_equal(anm_state_step(y, s, &step, &err), ANM_ERR_USAGE);
    step.n = 1;
    token[0] = 300;
    assert_int_equal(anm_state_step(y, s, &step, &err), ANM_ERR_LIMIT);
    token[0] = -1;
    assert_int_equal(anm_state_step(y, s, &step, &err), ANM_ERR_LIMIT);
    token[0] = 299;
    pos[0] = 64;
    assert_int_equal(anm_state_step(y, s, &step, &err), ANM_ERR_LIMIT);
    pos[0] = 63;
    step.n = 2;
    step.see = see;
    assert_int_equal(anm_state_step(y, s, &step, &err), ANM_ERR_USAGE);
    step.n = 1;
    for (int i = 0; i < 59; i++) {
        assert_int_equal(anm_state_step(y, s, &step, &err), 0);
        assert_int_equal(anm_state_commit(s, 0, 1, &err), 0);
    }
    assert_int_equal(anm_state_step(y, s, &step, &err), 0);
    assert_int_equal(anm_state_commit(s, 0, 1, &err), ANM_ERR_LIMIT);
    anm_state_free(s);
    anm_engine_free(e);
}

/* fp16, op by op: another answer, near the exact one; and its range is told. */
static void test_fp16(void **state)
{
    (void)state;
    anm_error err;
    answer exact = run(program[0], (anm_engine_opts){.precision = ANM_PRECISION_EXACT}, 5);
    answer fp16 = run(program[0], (anm_engine_opts){.precision = ANM_PRECISION_FP16}, 5);
    float d = distance(&exact, &fp16);
    assert_true(d > 0 && d < 0.1f);
    free_answer(&exact);
    free_answer(&fp16);
    anm_engine *e = open_engine(program[0], (anm_engine_opts){.precision = ANM_PRECISION_FP16});
    anm_state *s;
    assert_int_equal(anm_state_new(&s, e, &err), 0);
    float y[300];
    int32_t token = 3, pos = 0;
    anm_step step = {1, &token, &pos, NULL, NULL};
    assert_int_equal(anm_state_step(y, s, &step, &err), 0);
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);
    anm_state_print_range(f, s);
    fclose(f);
    assert_non_null(strstr(text, "nothing overflowed"));
    assert_non_null(strstr(text, " linear "));
    free(text);
    anm_state_free(s);
    anm_engine_free(e);
}

/* A program cut short at any place, or with bytes changed, is refused or runs; nothing else. */
static void test_damaged(void **state)
{
    (void)state;
    anm_map map;
    anm_error err;
    assert_int_equal(anm_map_open(&map, program[0], &err), 0);
    char path[] = "/tmp/anemone_test_XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    uint8_t *copy = malloc((size_t)map.size);
    uint32_t bits = 1;
    for (int i = 0; i < 60; i++) {
        size_t size = (size_t)map.size;
        memcpy(copy, map.data, size);
        if (i < 30) {
            size = size * (size_t)i / 30;
        } else {
            for (int k = 0; k < 20; k++) {
                bits = bits * 1664525u + 1013904223u;
                copy[bits % (i & 1 ? 65536 : size)] ^= (uint8_t)(1u << (bits >> 29));
            }
        }
        assert_int_equal(ftruncate(fd, 0), 0);
        assert_int_equal(pwrite(fd, copy, size, 0), (ssize_t)size);
        anm_engine *e = NULL;
        if (anm_engine_open(&e, path, NULL, &err)) {
            assert_null(e);
            assert_true(err.code < 0 && err.text[0]);
            continue;
        }
        anm_state *s;
        if (!anm_state_new(&s, e, &err)) {
            float *y = malloc((size_t)anm_engine_get_info(e)->vocab_size * sizeof *y);
            int32_t token = 0, pos = 0;
            anm_step step = {1, &token, &pos, NULL, NULL};
            (void)anm_state_step(y, s, &step, &err);
            free(y);
            anm_state_free(s);
        }
        anm_engine_free(e);
    }
    free(copy);
    close(fd);
    unlink(path);
    anm_map_close(&map);
}

/* Tables that name one input twice leave another without a role. */
static void test_two_roles(void **state)
{
    (void)state;
    anm_loaded l;
    anm_error err;
    if (anm_loaded_open(&l, program[0], &err)) fail_msg("%s", err.text);
    const uint8_t *at[2];
    const char *const name[] = {"freqs_cos_input_index", "freqs_sin_input_index"};
    for (int i = 0; i < 2; i++) {
        const anm_pte_method *m = anm_pte_find(&l.pte, name[i]);
        assert_non_null(m);
        at[i] = m->values[m->outputs[0]].data;
        assert_non_null(at[i]);
    }
    assert_memory_not_equal(at[0], at[1], 8);
    char path[] = "/tmp/anemone_test_XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, l.map.data, (size_t)l.map.size, 0), (ssize_t)l.map.size);
    assert_int_equal(pwrite(fd, at[0], 8, (off_t)(at[1] - l.map.data)), 8);
    close(fd);
    anm_loaded_close(&l);
    anm_engine *e;
    assert_int_equal(anm_engine_open(&e, path, NULL, &err), ANM_ERR_FORMAT);
    if (!strstr(err.text, "two roles")) fail_msg("%s", err.text);
    unlink(path);
}

/* What lies in the cache behind the entries in use may be anything, infinities among it: it counts for nothing. */
static void test_behind_the_cache(void **state)
{
    (void)state;
    anm_loaded l;
    anm_error err;
    if (anm_loaded_open(&l, "test/data/golden/mha/model.pte", &err)) fail_msg("%s", err.text);
    const anm_method *m = &l.method[ANM_METHOD_DECODE];
    size_t vocab = (size_t)l.info.vocab_size;
    float *clean = calloc(vocab, sizeof *clean), *after = calloc(vocab, sizeof *after);
    for (int dirty = 0; dirty < 2; dirty++) {
        anm_kv kv;
        assert_int_equal(anm_kv_new(&kv, m, m->rows, &err), 0);
        assert_true(kv.fp16);
        for (int64_t i = 0; i < kv.layers * 2 * kv.heads * kv.cache_len * kv.head_dim && dirty; i++) anm_st16(kv.cache + 2 * i, 0x7c00);
        for (int32_t at = 0; at < 2; at++) {
            const int32_t token = 5 + at;
            if (anm_interp_step(dirty ? after : clean, &kv, &l, m, &(anm_step){1, &token, &at, NULL, NULL}, &(anm_interp_how){0}, &err))
                fail_msg("%s", err.text);
            assert_int_equal(anm_kv_commit(&kv, 0, 1, &err), 0);
        }
        anm_kv_free(&kv);
    }
    assert_memory_equal(clean, after, vocab * sizeof *clean);
    free(clean);
    free(after);
    anm_loaded_close(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_two_roles),
        cmocka_unit_test(test_behind_the_cache),
        cmocka_unit_test(test_plan_is_the_interpreter), cmocka_unit_test(test_one_answer),
        cmocka_unit_test(test_rounding),                cmocka_unit_test(test_stages),
        cmocka_unit_test(test_unfused),
        cmocka_unit_test(test_branches),                cmocka_unit_test(test_many_states),
        cmocka_unit_test(test_wrong_steps),
        cmocka_unit_test(test_fp16),                    cmocka_unit_test(test_damaged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
