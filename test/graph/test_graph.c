/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The graph builder, by what its graphs compute: the lean graph against the reference's, the safe norm in fp16 against
 * the true one. That the reference's graph is the reference's is held elsewhere, against files that it wrote.
 */
#include "test.h"

#include "eager/tiny.h"
#include "base/half.h"
#include "graph/parts.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS = 5, CACHED = 6, MOST_OUTPUTS = 16 };

/* Gives every constant that is still a source its bytes. */
static void make_weights(anm_mil_program *p)
{
    for (anm_mil_function *fn = p->functions; fn; fn = fn->next)
        for (anm_mil_op *op = fn->first; op; op = op->next)
            for (uint32_t a = 0; a < op->n_args; a++)
                for (uint32_t i = 0; i < op->args[a].count; i++) {
                    anm_blob *c = (anm_blob *)(uintptr_t)op->args[a].value[i]->constant;
                    if (!c || c->data) continue;
                    const anm_weight *w = c->source;
                    uint8_t *part[ANM_WEIGHT_PARTS];
                    for (int k = 0; k < ANM_WEIGHT_PARTS; k++)
                        part[k] = anm_arena_alloc(&p->arena, anm_weight_size(w, (anm_weight_part)k) + 1);
                    assert_int_equal(anm_weight_make(part[0], part[1], w, 0, w->rows, NULL), 0);
                    c->data = part[c->part];
                }
}

static float *tiny_floats(anm_mil_type t, float spread)
{
    int64_t n;
    assert_true(anm_mil_type_count(&t, &n));
    float *f = malloc((size_t)n * sizeof *f);
    for (int64_t i = 0; i < n; i++) f[i] = spread * tiny_uniform();
    return f;
}

typedef struct answer {
    anm_mil_array out[MOST_OUTPUTS];
    uint32_t n;
    size_t ops;
    int highest_rank;
} answer;

/* Builds the model in one piece and runs it on inputs that depend on their role alone. */
static answer run_graph(const anm_model *m, const anm_recipe *recipe)
{
    anm_graph g;
    anm_mil_program p;
    anm_graph_signature s;
    anm_error err = {0};
    answer r = {0};
    if (anm_graph_plan(&g, m, recipe, &err)) fail_msg("%s", err.text);
    assert_int_equal(g.n_pieces, 1);
    if (anm_graph_build(&p, &g, 0, &err)) fail_msg("%s", err.text);
    if (anm_mil_verify(&p, true, &err)) fail_msg("%s", err.text);
    make_weights(&p);
    assert_int_equal(anm_graph_sign(&s, &g, 0, 0, &err), 0);
    anm_mil_array in[MOST_OUTPUTS];
    for (int32_t i = 0; i < s.n_inputs; i++) {
        anm_mil_type t = anm_graph_type(&g, 0, s.inputs[i]);
        tiny_seed = 1000 + 16 * (uint64_t)s.inputs[i].role + (uint64_t)s.inputs[i].index;
        in[i] = (anm_mil_array){.type = t};
        if (s.inputs[i].role != ANM_ROLE_TOKENS) {
            in[i].f = tiny_floats(t, 1);
            continue;
        }
        in[i].i = malloc(ROWS * sizeof(int32_t));
        for (int k = 0; k < ROWS; k++) in[i].i[k] = (int32_t)((k * 7 + 3) % m->params.vocab_size) - (k == 2 ? (int32_t)m->params.vocab_size : 0);
    }
    r.n = p.functions->n_outputs;
    assert_true(r.n <= MOST_OUTPUTS);
    const anm_mil_interp_opts opts = {0};
    if (anm_mil_interp(r.out, p.functions, in, &opts, &err)) fail_msg("%s", err.text);
    for (const anm_mil_op *op = p.functions->first; op; op = op->next, r.ops++)
        if (op->outs[0]->type.rank > r.highest_rank) r.highest_rank = op->outs[0]->type.rank;
    for (int32_t i = 0; i < s.n_inputs; i++) anm_mil_array_free(in + i);
    anm_mil_program_free(&p);
    anm_graph_free(&g);
    return r;
}

static void free_answer(answer *a)
{
    for (uint32_t i = 0; i < a->n; i++) anm_mil_array_free(a->out + i);
}

static void check_same_output(const anm_mil_array *a, const anm_mil_array *b)
{
    int64_t n;
    assert_true(anm_mil_type_equal(&a->type, &b->type));
    assert_true(anm_mil_type_count(&a->type, &n));
    for (int64_t i = 0; i < n; i++)
        if (!(fabsf(a->f[i] - b->f[i]) <= 1e-4f)) fail_msg("value %lld: %g and %g", (long long)i, (double)a->f[i], (double)b->f[i]);
}

static const anm_params shapes[] = {
    {.dim = 16, .n_layers = 2, .n_heads = 4, .n_kv_heads = 2, .head_dim = 4, .hidden_dim = 24, .vocab_size = 30, .norm_eps = 1e-5},
    {.dim = 12, .n_layers = 1, .n_heads = 3, .n_kv_heads = 1, .head_dim = 6, .hidden_dim = 12, .vocab_size = 10, .norm_eps = 1e-6,
     .use_qk_norm = true, .qk_norm_before_rope = true},
    {.dim = 8, .n_layers = 1, .n_heads = 1, .n_kv_heads = 1, .head_dim = 8, .hidden_dim = 8, .vocab_size = 9, .norm_eps = 1e-5,
     .attention_qkv_bias = true},
    {.dim = 16, .n_layers = 1, .n_heads = 2, .n_kv_heads = 2, .head_dim = 8, .hidden_dim = 16, .vocab_size = 12, .norm_eps = 1e-5,
     .use_hf_rope = true, .use_qk_norm = true},
};

static anm_recipe small_recipe(void)
{
    anm_recipe r = anm_recipe_default();
    r.type = ANM_DT_F32; /* so that what the graphs mean is compared, and not how fp16 rounds it */
    r.max_context_len = ROWS + CACHED;
    r.input_len = ROWS;
    r.graph_breaks = false;
    r.split_size = 4;
    r.max_splits = 3;
    r.split_fit = true;
    return r;
}

/* Without caches: those of the two graphs hold keys in different orders, and random ones would be different questions. */
static void lean_graph_means_the_same(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        tiny t;
        tiny_seed = 42 + i;
        tiny_init(&t, shapes[i]);
        anm_recipe r = small_recipe();
        r.max_context_len = ROWS;
        r.linear_bits = i % 2 ? 0 : 4;
        answer a = run_graph(&t.model, &r);
        r.lean = true;
        answer b = run_graph(&t.model, &r);
        assert_int_equal(a.n, b.n);
        check_same_output(a.out + a.n - 1, b.out + b.n - 1);
        assert_true(b.ops + (shapes[i].use_hf_rope ? 0 : 1) <= a.ops); /* halves are turned without a stack already */
        assert_true(b.highest_rank <= 4);
        free_answer(&a);
        free_answer(&b);
        tiny_free(&t);
    }
}

static void safe_norm_means_the_same(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        tiny t;
        tiny_seed = 142 + i;
        tiny_init(&t, shapes[i]);
        anm_recipe r = small_recipe();
        answer a = run_graph(&t.model, &r);
        r.norm = ANM_NORM_SAFE;
        answer b = run_graph(&t.model, &r);
        assert_int_equal(a.n, b.n);
        for (uint32_t k = 0; k < a.n; k++) check_same_output(a.out + k, b.out + k);
        free_answer(&a);
        free_answer(&b);
        tiny_free(&t);
    }
}

/* One norm in fp16, every op rounded: the largest error relative to the largest true value. */
static double norm_error(anm_norm_form form, int64_t dim, double eps, double size, double outlier)
{
    anm_model m = {.params = {.dim = dim, .norm_eps = eps}};
    anm_graph g = {.model = &m, .recipe = anm_recipe_default()};
    g.recipe.norm = form;
    anm_mil_program p;
    anm_mil_program_init(&p);
    anm_graph_method method = {"forward", "main", 1, false};
    anm_mil_function *fn = anm_mil_function_new(&p, "main", "CoreML8");
    anm_hand h = {.graph = &g, .method = &method, .b = anm_mil_build(fn)};
    uint8_t *ones = calloc((size_t)dim, 2);
    for (int64_t i = 0; i < dim; i++) ones[2 * i + 1] = 0x3c;
    anm_mil_type t = anm_mil_tensor(ANM_DT_F16, 3, (const int64_t[]){1, 1, dim});
    anm_mil_output(&h.b, anm_norm(&h, "norm", anm_mil_input(&h.b, "x", t), ones));
    if (h.b.err.code) fail_msg("%s", h.b.err.text);

    tiny_seed = 7;
    anm_mil_array in = {.type = t, .f = tiny_floats(t, (float)size)}, out;
    if (outlier > 0) in.f[dim / 2] = (float)outlier;
    double sum = 0, most = 0, worst = 0;
    for (int64_t i = 0; i < dim; i++) in.f[i] = anm_round_f16(in.f[i]), sum += (double)in.f[i] * in.f[i];
    double by = 1 / sqrt(sum / (double)dim + eps);
    const anm_mil_interp_opts opts = {.round_fp16 = true};
    anm_error err = {0};
    if (anm_mil_interp(&out, fn, &in, &opts, &err)) fail_msg("%s", err.text);
    for (int64_t i = 0; i < dim; i++) {
        double want = in.f[i] * by, error = fabs(out.f[i] - want);
        most = fmax(most, fabs(want));
        worst = error == error ? fmax(worst, error) : INFINITY;
    }
    anm_mil_array_free(&in);
    anm_mil_array_free(&out);
    anm_mil_program_free(&p);
    free(ones);
    return worst / most;
}

static void safe_norm_survives_fp16(void **state)
{
    (void)state;
    const int64_t dims[] = {64, 576, 2048, 8192};
    for (size_t d = 0; d < sizeof dims / sizeof *dims; d++)
        for (double eps = 1e-6; eps < 2e-5; eps *= 10) {
            for (double size = 0.01; size < 60001; size *= 6000000.0 / 1000000.0)
                assert_true(norm_error(ANM_NORM_SAFE, dims[d], eps, size, 0) < 4e-3);
            assert_true(norm_error(ANM_NORM_SAFE, dims[d], eps, 60000, 0) < 4e-3);
            assert_true(norm_error(ANM_NORM_SAFE, dims[d], eps, 1, 60000) < 4e-3);
            assert_true(norm_error(ANM_NORM_SAFE, dims[d], eps, 0.01, 24000) < 4e-3);
        }
    /* the reference's does not, where a residual is large */
    assert_true(norm_error(ANM_NORM_REFERENCE, 576, 1e-5, 1, 0) < 4e-3);
    assert_true(norm_error(ANM_NORM_REFERENCE, 576, 1e-5, 1, 24000) > 0.1);
}

static void zero_rows_stay_zero(void **state)
{
    (void)state;
    for (double eps = 1e-12; eps < 1; eps *= 10) {
        anm_model m = {.params = {.dim = 8, .norm_eps = eps}};
        anm_graph g = {.model = &m, .recipe = anm_recipe_default()};
        g.recipe.norm = ANM_NORM_SAFE;
        g.recipe.type = ANM_DT_F32;
        anm_mil_program p;
        anm_mil_program_init(&p);
        anm_mil_function *fn = anm_mil_function_new(&p, "main", "CoreML8");
        anm_hand h = {.graph = &g, .b = anm_mil_build(fn)};
        float ones[8] = {1, 1, 1, 1, 1, 1, 1, 1};
        anm_mil_type t = anm_mil_tensor(ANM_DT_F32, 3, (const int64_t[]){1, 1, 8});
        anm_mil_output(&h.b, anm_norm(&h, "norm", anm_mil_input(&h.b, "x", t), (const uint8_t *)ones));
        anm_mil_array in = {.type = t, .f = calloc(8, sizeof(float))}, out;
        const anm_mil_interp_opts opts = {0};
        anm_error err = {0};
        if (anm_mil_interp(&out, fn, &in, &opts, &err)) fail_msg("%s", err.text);
        for (int i = 0; i < 8; i++) assert_true(out.f[i] == 0);
        anm_mil_array_free(&in);
        anm_mil_array_free(&out);
        anm_mil_program_free(&p);
    }
}

static void pieces_keep_within_a_size(void **state)
{
    (void)state;
    tiny t;
    anm_params p = shapes[0];
    p.n_layers = 3;
    tiny_init(&t, p);
    anm_recipe r = small_recipe();
    r.graph_breaks = true;
    anm_graph g;
    anm_error err = {0};
    assert_int_equal(anm_graph_plan(&g, &t.model, &r, &err), 0);
    assert_int_equal(g.n_pieces, 3);
    anm_graph_free(&g);
    r.max_piece_bytes = 1; /* less than a layer: a piece for each */
    assert_int_equal(anm_graph_plan(&g, &t.model, &r, &err), 0);
    assert_int_equal(g.n_pieces, 5);
    for (int32_t i = 1; i <= 3; i++) assert_int_equal(g.pieces[i].end - g.pieces[i].first, 1);
    anm_graph_free(&g);
    tiny_free(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lean_graph_means_the_same), cmocka_unit_test(safe_norm_means_the_same),
        cmocka_unit_test(safe_norm_survives_fp16),   cmocka_unit_test(zero_rows_stay_zero),
        cmocka_unit_test(pieces_keep_within_a_size),
    };
    return cmocka_run_group_tests_name("graph", tests, NULL, NULL);
}
