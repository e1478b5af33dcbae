/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Programs of the deprecated form, against three truths: the graph as it lies in the file, driven by the interpreter
 * with the caches and the mask that the original's runner keeps; the layers of src/eager; and greedy decoding.
 */
#include "test.h"

#include "ckpt/scratch.h"
#include "eager/eager.h"
#include "pipeline.h"
#include "run/engine_internal.h"
#include "run/session.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CHECKPOINT "test/data/ckpt/mixed"

enum { PROMPT = 7, TOKENS = 22, VOCAB_MAX = 64 };

static const int32_t text[TOKENS] = {3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3, 2, 3, 8, 4, 6, 2};

static const char *program(int64_t rows, int64_t all, int64_t cache, bool list, anm_dtype type)
{
    static char path[256];
    snprintf(path, sizeof path, "%s", scratch("legacy.pte"));
    anm_recipe r = anm_recipe_default();
    r.form = ANM_FORM_DEPRECATED;
    r.cache_list = list;
    r.type = type;
    r.max_context_len = all;
    r.input_len = rows;
    r.cache_len = cache;
    r.graph_breaks = false;
    r.split_size = 0;
    r.linear_bits = r.embedding_bits = 0;
    const anm_export_output out = {path, 0};
    const anm_export_job job = {.checkpoint = CHECKPOINT, .recipe = r, .outputs = &out, .n_outputs = 1, .threads = 1};
    anm_export_report report;
    anm_error err = {0};
    if (anm_export(&report, &job, &err)) fail_msg("%s", err.text);
    return path;
}

static void near(const float *a, const float *b, size_t n, float within)
{
    for (size_t i = 0; i < n; i++)
        if (!(fabsf(a[i] - b[i]) <= within)) fail_msg("value %zu: %g and %g", i, (double)a[i], (double)b[i]);
}

/* ---- the original's InputManager over the graph as it is ---- */

typedef struct manager {
    anm_loaded l;
    anm_mil_function *fn;
    anm_mil_array in[16], out[16];
    int64_t rows, cache, heads, layers, width, input_pos, cache_pos;
    uint32_t n_caches; /* tensors of k, and as many of v */
} manager;

static void manager_open(manager *m, const char *path)
{
    anm_error err = {0};
    memset(m, 0, sizeof *m);
    anm_arena_init(&m->l.arena);
    anm_mil_program_init(&m->l.program);
    if (anm_map_open(&m->l.map, path, &err) || anm_pte_read(&m->l.pte, m->l.map.data, m->l.map.size, &err) ||
        anm_loaded_join(&m->fn, &m->l, anm_pte_find(&m->l.pte, "forward"), &err))
        fail_msg("%s", err.text);
    assert_in_range(m->fn->n_inputs, 6, 16);
    for (uint32_t i = 0; i < m->fn->n_inputs; i++) {
        int64_t n;
        m->in[i].type = m->fn->inputs[i]->type;
        assert_true(anm_mil_type_count(&m->in[i].type, &n));
        m->in[i].f = calloc((size_t)n, 4);
        assert_non_null(m->in[i].f);
    }
    const anm_mil_type *cache = &m->in[3].type;
    bool list = cache->rank == 4;
    m->rows = m->in[0].type.dim[1];
    m->n_caches = (m->fn->n_inputs - 4) / 2;
    m->layers = list ? m->n_caches : cache->dim[0];
    m->heads = cache->dim[list ? 1 : 2];
    m->cache = cache->dim[list ? 2 : 3];
    m->width = cache->dim[list ? 3 : 4];
    float *mask = m->in[m->fn->n_inputs - 1].f;
    for (int64_t i = 0; i < m->rows; i++)
        for (int64_t j = 0; j < m->cache + m->rows; j++)
            mask[i * (m->cache + m->rows) + j] = j < m->cache || j - m->cache > i ? -30000.0f : 0.0f;
}

static void free_outputs(manager *m)
{
    for (uint32_t i = 0; i < m->fn->n_outputs; i++) anm_mil_array_free(m->out + i);
    memset(m->out, 0, sizeof m->out);
}

static void manager_close(manager *m)
{
    free_outputs(m);
    for (uint32_t i = 0; i < m->fn->n_inputs; i++) anm_mil_array_free(m->in + i);
    anm_loaded_close(&m->l);
}

/* Rows [from, from + n) of every new k and v go to the caches from cache_pos on. */
static void copy_rows(manager *m, int64_t from, int64_t n)
{
    int64_t blocks = m->heads * m->layers / m->n_caches;
    for (uint32_t c = 0; c < 2 * m->n_caches; c++)
        for (int64_t b = 0; b < blocks; b++)
            memcpy(m->in[3 + c].f + (b * m->cache + m->cache_pos) * m->width, m->out[1 + c].f + (b * m->rows + from) * m->width,
                   (size_t)(n * m->width) * sizeof(float));
    m->cache_pos = (m->cache_pos + n) % m->cache;
}

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* The original's update, but that the mask's columns of the step's own rows stay as they are: where a step begins with
 * the cache just full, the original's range runs on into them, and rows would see those after them. */
static void manager_update(manager *m, int64_t n)
{
    int64_t some = least(n, m->cache - m->cache_pos);
    copy_rows(m, 0, some);
    float *mask = m->in[m->fn->n_inputs - 1].f;
    for (int64_t i = 0; i < m->rows && m->input_pos <= m->cache; i++)
        for (int64_t j = m->input_pos; j < least(m->input_pos + some, m->cache); j++) mask[i * (m->cache + m->rows) + j] = 0;
    int64_t rest = least(n - some, m->cache - m->cache_pos);
    if (rest > 0) copy_rows(m, some, rest);
    m->input_pos += n;
}

/* The logits of the last of n tokens. */
static const float *manager_feed(manager *m, const int32_t *token, int64_t n)
{
    anm_error err = {0};
    free_outputs(m);
    for (int64_t i = 0; i < m->rows; i++) m->in[0].i[i] = i < n ? token[i] : 0;
    m->in[1].i[0] = (int32_t)m->input_pos;
    m->in[2].i[0] = (int32_t)n;
    if (anm_mil_interp(m->out, m->fn, m->in, &(anm_mil_interp_opts){0}, &err)) fail_msg("%s", err.text);
    manager_update(m, n);
    return m->out[0].f;
}

static void follow(const char *path, bool interpret)
{
    manager m;
    anm_llm llm = {0};
    anm_session *s;
    anm_error err = {0};
    const anm_engine_opts how = {.precision = ANM_PRECISION_EXACT, .interpret = interpret};
    manager_open(&m, path);
    if (anm_engine_open(&llm.engine, path, &how, &err) || anm_session_new(&s, &llm, &err)) fail_msg("%s", err.text);
    const anm_engine_info *info = anm_engine_get_info(llm.engine);
    assert_true(info->deprecated && info->evicts && info->all_logits);
    assert_int_equal(info->cache_len, m.cache);
    assert_int_equal(info->max_context, 2048);
    for (int64_t at = 0; at < TOKENS;) {
        int64_t n = at < PROMPT ? least(PROMPT - at, m.rows) : 1;
        const float *should = manager_feed(&m, text + at, n);
        if (anm_session_feed(s, text + at, (size_t)n, &err)) fail_msg("%s", err.text);
        near(anm_session_logits(s), should, (size_t)info->vocab_size, 1e-4f);
        at += n;
    }
    anm_session_free(s);
    anm_engine_free(llm.engine);
    manager_close(&m);
}

/* Caches that hold all, that hold just what comes before the last token, less, a step, and less than a step. */
static void test_eviction(void **state)
{
    static const int64_t caches[] = {28, TOKENS - 1, 9, PROMPT, 5, 4, 3};
    (void)state;
    for (size_t i = 0; i < sizeof caches / sizeof *caches; i++)
        for (int list = 0; list < 2; list++)
            for (int interpret = 0; interpret < 2; interpret++)
                follow(program(4, 32, caches[i], list, ANM_DT_F32), interpret);
}

static void test_one_row(void **state)
{
    (void)state;
    follow(program(1, 16, 6, false, ANM_DT_F32), false);
}

/* ---- the checkpoint itself ---- */

static void open_model(anm_ckpt **ckpt, anm_model **model)
{
    anm_error err = {0};
    if (anm_ckpt_open(ckpt, CHECKPOINT, &err) || anm_model_open(model, *ckpt, NULL, &err)) fail_msg("%s", err.text);
}

static void rows_of(float *out, anm_engine *engine)
{
    anm_llm llm = {.engine = engine};
    anm_session *s;
    anm_error err = {0};
    if (anm_session_new(&s, &llm, &err) || anm_session_feed_rows(out, s, text, TOKENS, &err)) fail_msg("%s", err.text);
    anm_session_free(s);
}

static void test_checkpoint(void **state)
{
    static float of_model[TOKENS * VOCAB_MAX], of_file[TOKENS * VOCAB_MAX], of_layers[TOKENS * VOCAB_MAX];
    anm_ckpt *ckpt;
    anm_model *model;
    anm_engine *e;
    anm_windows w;
    anm_error err = {0};
    (void)state;
    open_model(&ckpt, &model);
    size_t vocab = (size_t)model->params.vocab_size;
    assert_true(vocab <= VOCAB_MAX);
    const anm_engine_opts exact = {.precision = ANM_PRECISION_EXACT};
    if (anm_engine_of_model(&e, model, &(anm_model_form){4, 28, false}, &exact, &err)) fail_msg("%s", err.text);
    rows_of(of_model, e);
    anm_engine_free(e);
    if (anm_engine_open(&e, program(4, 32, 28, true, ANM_DT_F32), &exact, &err)) fail_msg("%s", err.text);
    rows_of(of_file, e);
    anm_engine_free(e);
    float *head = calloc(vocab * (size_t)model->params.dim, sizeof *head);
    if (!head || anm_windows_new(&w, model, text, 1, TOKENS, &err) || anm_eager_run(&w, model, NULL, NULL, NULL, &err) ||
        anm_eager_read(head, &model->output, NULL, &err) || anm_eager_logits(of_layers, w.x, TOKENS, head, &model->params, NULL, &err))
        fail_msg("%s", err.text);
    near(of_model, of_layers, TOKENS * vocab, 1e-4f);
    near(of_file, of_layers, TOKENS * vocab, 1e-4f);
    free(head);
    anm_windows_free(&w);
    anm_model_free(model);
    anm_ckpt_close(ckpt);
}

/* ---- what is refused ---- */

static void share_refused(anm_loaded *l, int code, const char *why)
{
    anm_error err = {0};
    assert_int_equal(anm_loaded_share(l, &err), code);
    if (!strstr(err.text, why)) fail_msg("%s", err.text);
}

/* The engine writes floats into these inputs and reads floats out of the logits, in programs of either form. */
static void test_types(void **state)
{
    (void)state;
    for (int form = 0; form < 2; form++) {
        anm_loaded l;
        anm_error err = {0};
        if (anm_loaded_open(&l, form ? program(4, 32, 28, true, ANM_DT_F32) : "test/data/golden/mha/model.pte", &err)) fail_msg("%s", err.text);
        const anm_method *m = &l.method[ANM_METHOD_DECODE];
        anm_mil_value *const v[] = {m->fn->inputs[m->mask], m->fn->inputs[m->cos], m->fn->inputs[m->sin], m->fn->outputs[m->logits]};
        static const char *const name[] = {"mask", "cosines", "sines", "logits"};
        for (int i = 0; i < 4; i++) {
            const anm_dtype was = v[i]->type.dtype, other[] = {ANM_DT_BOOL, ANM_DT_U8};
            for (int k = 0; k < 2; k++) {
                v[i]->type.dtype = other[k];
                share_refused(&l, ANM_ERR_UNSUPPORTED, name[i]);
            }
            v[i]->type.dtype = was;
        }
        assert_int_equal(anm_loaded_share(&l, &err), 0);
        anm_loaded_close(&l);
    }
}

/* Products of sizes must not wrap, in programs of either form. */
static void test_sizes(void **state)
{
    (void)state;
    for (int form = 0; form < 2; form++) {
        anm_loaded l;
        anm_error err = {0};
        if (anm_loaded_open(&l, form ? program(4, 32, 28, false, ANM_DT_F32) : "test/data/golden/mha/model.pte", &err)) fail_msg("%s", err.text);
        int64_t *const size[] = {&l.info.cache_len, &l.info.head_dim, &l.info.n_kv_heads, &l.info.n_layers, &l.method[ANM_METHOD_DECODE].rows};
        static const int64_t most[] = {1 << 24, 1 << 16, 1 << 16, 4096, 1 << 16};
        for (int i = 0; i < 5; i++) {
            const int64_t was = *size[i];
            *size[i] = most[i] + 1;
            share_refused(&l, ANM_ERR_FORMAT, "out of range");
            *size[i] = was;
        }
        assert_int_equal(anm_loaded_share(&l, &err), 0);
        anm_loaded_close(&l);
    }
}

/* What the engine does not take is not written either; the option is named. */
static void test_lengths(void **state)
{
    static const struct {
        anm_form form;
        int64_t all, rows, cache;
        const char *why;
    } of[] = {
        {ANM_FORM_STATIC, 80000, 70000, -1, "--input_len: 70000"},
        {ANM_FORM_STATIC, 1 << 25, 32, -1, "--cache_len: 33554400"},
        {ANM_FORM_STATIC, 1 << 25, 32, 1000, NULL},
        {ANM_FORM_DEPRECATED, 80000, 70000, -1, "--seq_length: 70000"},
        {ANM_FORM_DEPRECATED, 1 << 25, 32, -1, "--cache_size: 33554400"},
        {ANM_FORM_DEPRECATED, 80000, 32, -1, NULL},
    };
    anm_ckpt *ckpt;
    anm_model *model;
    (void)state;
    open_model(&ckpt, &model);
    model->params.table_rows = 1 << 25;
    for (size_t i = 0; i < sizeof of / sizeof *of; i++) {
        anm_graph g;
        anm_error err = {0};
        anm_recipe r = anm_recipe_default();
        r.form = of[i].form;
        r.max_context_len = of[i].all;
        r.input_len = of[i].rows;
        r.cache_len = of[i].cache;
        r.linear_bits = r.embedding_bits = 0;
        r.split_fit = true;
        assert_int_equal(anm_graph_plan(&g, model, &r, &err), of[i].why ? ANM_ERR_USAGE : 0);
        if (of[i].why && !strstr(err.text, of[i].why)) fail_msg("%s", err.text);
        anm_graph_free(&g);
    }
    anm_model_free(model);
    anm_ckpt_close(ckpt);
}

/* ---- lookahead ---- */

typedef struct made {
    int32_t id[256];
    size_t n;
} made;

static int keep(void *ctx, int32_t id)
{
    made *m = ctx;
    m->id[m->n++] = id;
    return 0;
}

static void generate(made *out, const char *path, anm_lookahead look, int64_t max_new, int64_t *steps)
{
    anm_llm *llm = NULL;
    anm_session *s = NULL;
    anm_error err = {0};
    anm_end end;
    *out = (made){.n = 0};
    const anm_llm_opts how = {.precision = ANM_PRECISION_EXACT, .threads = 1};
    if (anm_llm_open(&llm, path, &how, &err) || anm_session_new(&s, llm, &err) || anm_session_feed(s, text, PROMPT, &err)) fail_msg("%s", err.text);
    const anm_generation g = {.max_new = max_new, .lookahead = look, .token = keep, .ctx = out};
    if (anm_session_generate(&end, s, &g, &err)) fail_msg("%s", err.text);
    anm_session_stats stats;
    anm_session_get_stats(&stats, s);
    *steps = (int64_t)stats.steps;
    anm_session_free(s);
    anm_llm_free(llm);
}

static void test_lookahead(void **state)
{
    static const int64_t caches[] = {120, 40, 12};
    (void)state;
    for (size_t i = 0; i < sizeof caches / sizeof *caches; i++) {
        made plain, ahead;
        int64_t plain_steps, ahead_steps;
        const char *path = program(8, 128, caches[i], i % 2, ANM_DT_F16);
        generate(&plain, path, (anm_lookahead){ANM_LOOKAHEAD_OFF, 0, 0, 0}, 100, &plain_steps);
        generate(&ahead, path, (anm_lookahead){ANM_LOOKAHEAD_ALWAYS, 3, 2, 2}, 100, &ahead_steps);
        assert_int_equal(plain.n, 100);
        assert_int_equal(ahead.n, 100);
        assert_memory_equal(plain.id, ahead.id, 100 * sizeof *plain.id);
        if (i == 0) assert_true(ahead_steps < plain_steps); /* so small a model repeats itself */
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_eviction),
        cmocka_unit_test(test_one_row),
        cmocka_unit_test(test_checkpoint),
        cmocka_unit_test(test_types),
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_lengths),
        cmocka_unit_test(test_lookahead),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
