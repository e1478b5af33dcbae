/* SPDX-License-Identifier: BSD-3-Clause */
#include "test.h"

#include "calib/rotate.h"
#include "eager/tiny.h"

#include <string.h>

/* A rotation keeps lengths and angles: R R^T = 1, rows one by one; for sizes that are powers of two, odd, and between. */
static void rotations_are_orthogonal(void **state)
{
    (void)state;
    static const size_t sizes[] = {1, 2, 64, 9, 15, 24, 576};
    anm_error err;
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
        size_t n = sizes[k];
        anm_rotation r;
        float *e = calloc(n * n, sizeof *e), *w = malloc(n * 3 * sizeof *w), *was = malloc(n * 3 * sizeof *w);
        for (size_t i = 0; i < n; i++) e[i * n + i] = 1;
        assert_int_equal(anm_rotation_new(&r, n, 5, false, &err), 0);
        assert_int_equal(anm_rotate_rows(e, n, n, &r, NULL, &err), 0); /* e is R now */
        double most_off = 0, largest = 0;
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j < n; j++) {
                double dot = 0;
                for (size_t c = 0; c < n; c++) dot += (double)e[i * n + c] * e[j * n + c];
                most_off = fmax(most_off, fabs(dot - (i == j)));
                largest = fmax(largest, fabs((double)e[i * n + j]));
            }
        assert_true(most_off < 1e-5);
        if (n >= 24) assert_true(largest < 0.9); /* it does mix */
        /* columns: w becomes R^T w */
        for (size_t i = 0; i < n * 3; i++) was[i] = w[i] = tiny_uniform();
        assert_int_equal(anm_rotate_columns(w, 3, &r, NULL, &err), 0);
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j < 3; j++) {
                double want = 0;
                for (size_t c = 0; c < n; c++) want += (double)e[c * n + i] * was[c * 3 + j];
                assert_true(fabs(want - (double)w[i * 3 + j]) < 1e-5 * sqrt((double)n));
            }
        free(e), free(w), free(was);
        anm_rotation_free(&r);
    }
}

/* Final logits of the model as it is, or rotated by hand. */
static void logits(float *out, tiny *t, bool rotate, const int32_t *tokens, size_t len)
{
    anm_error err;
    const anm_params *p = &t->model.params;
    size_t dim = (size_t)p->dim, vocab = (size_t)p->vocab_size;
    anm_windows w;
    anm_rotation stream, value;
    float *cos = malloc(2 * len * (size_t)p->head_dim * sizeof *cos), *sin = cos + len * (size_t)p->head_dim;
    float *head = malloc(vocab * dim * sizeof *head), *norm = malloc(dim * sizeof *norm);
    assert_int_equal(anm_rope_tables(cos, sin, &t->model, (int64_t)len, &err), 0);
    assert_int_equal(anm_rotation_new(&stream, dim, 11, !rotate, &err), 0);
    assert_int_equal(anm_rotation_new(&value, (size_t)p->head_dim, 12, !rotate, &err), 0);
    assert_int_equal(anm_windows_new(&w, &t->model, tokens, 1, len, &err), 0);
    assert_int_equal(anm_rotate_rows(w.x, len, dim, &stream, NULL, &err), 0);
    for (int64_t i = 0; i < p->n_layers; i++) {
        anm_eager_layer l;
        assert_int_equal(anm_eager_layer_load(&l, &t->model, (size_t)i, NULL, &err), 0);
        if (rotate) assert_int_equal(anm_rotate_layer(&l, p, &stream, &value, NULL, &err), 0);
        assert_int_equal(anm_eager_layer_run(&w, &l, p, cos, sin, NULL, NULL, NULL, &err), 0);
        anm_eager_layer_free(&l);
    }
    assert_int_equal(anm_eager_read(head, &t->model.output, NULL, &err), 0);
    assert_int_equal(anm_matrix_rows_f32(norm, &t->model.norm, 0, 1, &err), 0);
    anm_eager_norm(w.x, w.x, rotate ? NULL : norm, len, dim, p->norm_eps);
    if (rotate) assert_int_equal(anm_rotate_head(head, vocab, norm, &stream, NULL, &err), 0);
    assert_int_equal(anm_eager_logits(out, w.x, len, head, p, NULL, &err), 0);
    free(cos), free(head), free(norm);
    anm_windows_free(&w);
    anm_rotation_free(&stream);
    anm_rotation_free(&value);
}

static void a_rotated_model_gives_the_same_logits(void **state)
{
    (void)state;
    enum { LEN = 9, VOCAB = 50 };
    int32_t tokens[LEN];
    static float was[LEN * VOCAB], now[LEN * VOCAB];
    for (int i = 0; i < LEN; i++) tokens[i] = i * 11 % VOCAB;
    for (int form = 0; form < 3; form++) {
        tiny t;
        tiny_init(&t, (anm_params){.dim = 48, .n_layers = 2, .n_heads = 4, .n_kv_heads = form == 1 ? 4 : 2, .head_dim = 12, .hidden_dim = 40,
                                   .vocab_size = VOCAB, .norm_eps = 1e-5, .rope_theta = 10000, .rope_scale_factor = 8, .high_freq_factor = 4,
                                   .partial_rotary_factor = 1, .attention_qkv_bias = form == 2, .use_hf_rope = form == 2});
        logits(was, &t, false, tokens, LEN);
        logits(now, &t, true, tokens, LEN);
        for (int i = 0; i < LEN * VOCAB; i++) assert_true(fabsf(was[i] - now[i]) < 1e-4f);
        tiny_free(&t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rotations_are_orthogonal),
        cmocka_unit_test(a_rotated_model_gives_the_same_logits),
    };
    return cmocka_run_group_tests_name("rotate", tests, NULL, NULL);
}
