/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Every form of graph that the exporter writes, of small models of every kind: a plan must fit it, and give what the
 * interpreter gives.
 */
#include "test.h"

#include "pipeline.h"
#include "run/engine.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { ROWS = 11, VOCAB_MAX = 64 };

static const char *const checkpoint[] = {
    "test/data/ckpt/mixed", "test/data/ckpt/by_cols", "test/data/ckpt/hf",
    "test/data/ckpt/qwen2", "test/data/ckpt/qwen3",   "test/data/ckpt/qwen3_meta",
};

/* Logits of all rows, in chunks of at most `chunk`. */
static size_t run(float *out, const char *path, anm_precision p, bool interpret, int chunk)
{
    anm_error err;
    anm_engine *e;
    anm_state *s;
    if (anm_engine_open(&e, path, &(anm_engine_opts){.precision = p, .interpret = interpret}, &err)) fail_msg("%s", err.text);
    if (!interpret && anm_engine_unplanned(e)) fail_msg("no plan: %s", anm_engine_unplanned(e));
    if (anm_state_new(&s, e, &err)) fail_msg("%s", err.text);
    int64_t vocab = anm_engine_get_info(e)->vocab_size;
    assert_true(vocab <= VOCAB_MAX);
    if (chunk > anm_engine_get_info(e)->step_len) chunk = (int)anm_engine_get_info(e)->step_len;
    for (int at = 0; at < ROWS; at += chunk) {
        int32_t token[ROWS], pos[ROWS];
        uint8_t want[ROWS];
        int n = ROWS - at < chunk ? ROWS - at : chunk;
        for (int i = 0; i < n; i++) {
            token[i] = (int32_t)(((at + i) * 7 + 3) % vocab);
            pos[i] = at + i;
            want[i] = 1;
        }
        if (anm_state_step(out + at * vocab, s, &(anm_step){n, token, pos, NULL, want}, &err)) fail_msg("%s", err.text);
        if (anm_state_commit(s, 0, n, &err)) fail_msg("%s", err.text);
    }
    anm_state_free(s);
    anm_engine_free(e);
    return (size_t)(ROWS * vocab);
}

static float distance(const float *a, const float *b, size_t n)
{
    float most = 0;
    for (size_t i = 0; i < n; i++) {
        float d = fabsf(a[i] - b[i]);
        if (!(d <= most)) most = d;
    }
    return most;
}

static bool try(const char *ckpt, const anm_recipe *recipe, const char *path)
{
    anm_error err;
    anm_export_output to = {.path = path};
    anm_export_job job = {.checkpoint = ckpt, .recipe = *recipe, .outputs = &to, .n_outputs = 1, .threads = 1};
    if (anm_export(&(anm_export_report){0}, &job, &err)) {
        if (err.code == ANM_ERR_UNSUPPORTED || err.code == ANM_ERR_USAGE) return false; /* groups that do not divide */
        fail_msg("%s: %s", ckpt, err.text);
    }
    static float slow[ROWS * VOCAB_MAX], plan[ROWS * VOCAB_MAX], one[ROWS * VOCAB_MAX];
    size_t n = run(slow, path, ANM_PRECISION_EXACT, true, 1);
    run(plan, path, ANM_PRECISION_EXACT, false, 5);
    run(one, path, ANM_PRECISION_EXACT, false, 1);
    float d = distance(slow, plan, n), size = distance(slow, (float[ROWS * VOCAB_MAX]){0}, n);
    /* fp16: the interpreter does not round fresh keys and values to the cache's type before it uses them; row by row,
     * only a row's own are meant. */
    float most = (recipe->type == ANM_DT_F32 ? 1e-5f : 4e-3f) * (size + 1);
    if (!(d <= most)) fail_msg("%s: plan and interpreter differ by %g of %g (lean %d safe %d multi %d %s bits %u group %d emb %u logits %d)", ckpt, (double)d, (double)size, recipe->lean, recipe->norm, recipe->multifunction, anm_dtype_name(recipe->type), recipe->linear_bits, (int)recipe->linear_group, recipe->embedding_bits, recipe->logits);
    assert_memory_equal(plan, one, n * sizeof *plan);
    /* These models are of random numbers: what int8 activations make of them says nothing, but it is one answer. */
    run(plan, path, ANM_PRECISION_DEFAULT, false, 4);
    run(one, path, ANM_PRECISION_DEFAULT, false, 1);
    assert_memory_equal(plan, one, n * sizeof *plan);
    return true;
}

static void test_forms(void **state)
{
    (void)state;
    char path[] = "/tmp/anemone_test_XXXXXX";
    int fd = mkstemp(path), done = 0;
    assert_true(fd >= 0);
    close(fd);
    for (size_t c = 0; c < sizeof checkpoint / sizeof *checkpoint; c++)
        for (int form = 0; form < 32; form++) {
            anm_recipe r = anm_recipe_default();
            r.max_context_len = 24;
            r.input_len = 6;
            r.lean = form & 1;
            r.norm = form & 2 ? ANM_NORM_SAFE : ANM_NORM_REFERENCE;
            r.multifunction = form & 4;
            r.type = form & 8 ? ANM_DT_F32 : ANM_DT_F16;
            r.linear_bits = form & 16 ? 8 : 4;
            r.linear_group = (form ^ form >> 2) & 1 ? 8 : 0;
            r.embedding_bits = form % 3 == 0 ? 0 : form % 3 == 1 ? 4 : 8;
            r.graph_breaks = form % 5 != 0;
            r.split_size = 8;
            r.split_fit = true;
            if (form % 7 == 6) r.linear_bits = 0;
            if (form % 7 == 5) r.logits = ANM_LOGITS_ALL;
            if (form % 7 == 4) r.logits = ANM_LOGITS_LAST;
            done += try(checkpoint[c], &r, path);
        }
    unlink(path);
    print_message("%d programs\n", done);
    assert_int_equal(done, 192); /* a form that is refused would be one less */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forms),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
