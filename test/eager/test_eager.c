/* SPDX-License-Identifier: BSD-3-Clause */
#include "test.h"

#include "eager/backward.h"
#include "eager/tiny.h"

#include <string.h>

static const anm_params plain = {.dim = 24, .n_layers = 1, .n_heads = 4, .n_kv_heads = 2, .head_dim = 6, .hidden_dim = 20, .vocab_size = 40,
                                 .norm_eps = 1e-5, .rope_theta = 10000, .rope_scale_factor = 8, .high_freq_factor = 4, .partial_rotary_factor = 1};

/* The model's forms that the layer has to know. */
static anm_params form(int i)
{
    anm_params p = plain;
    p.use_hf_rope = i == 1;
    p.attention_qkv_bias = i == 2 || i == 3;
    p.use_qk_norm = i >= 3;
    p.qk_norm_before_rope = i == 3;
    return p;
}
enum { FORMS = 5, WINDOWS = 2, LEN = 5, ROWS = WINDOWS * LEN };

typedef struct set_up {
    tiny t;
    anm_eager_layer l;
    anm_windows w;
    float cos[LEN * 6], sin[LEN * 6];
    size_t size; /* of the residual stream */
} set_up;

static void begin(set_up *s, int i)
{
    anm_error err;
    int32_t tokens[ROWS];
    tiny_init(&s->t, form(i));
    for (int j = 0; j < ROWS; j++) tokens[j] = (j * 7 + i) % 40;
    assert_int_equal(anm_eager_layer_load(&s->l, &s->t.model, 0, NULL, &err), 0);
    assert_int_equal(anm_windows_new(&s->w, &s->t.model, tokens, WINDOWS, LEN, &err), 0);
    assert_int_equal(anm_rope_tables(s->cos, s->sin, &s->t.model, LEN, &err), 0);
    s->size = ROWS * (size_t)s->t.model.params.dim;
}

static void end(set_up *s)
{
    anm_windows_free(&s->w);
    anm_eager_layer_free(&s->l);
    tiny_free(&s->t);
}

/* loss = sum of g * layer(x), in fp64 */
static double loss(set_up *s, const float *x, const float *g)
{
    anm_error err;
    anm_windows w = s->w;
    w.x = malloc(s->size * sizeof *w.x);
    memcpy(w.x, x, s->size * sizeof *x);
    assert_int_equal(anm_eager_layer_run(&w, &s->l, &s->t.model.params, s->cos, s->sin, NULL, NULL, NULL, &err), 0);
    double sum = 0;
    for (size_t i = 0; i < s->size; i++) sum += (double)g[i] * w.x[i];
    free(w.x);
    return sum;
}

static void gradient_is_the_slope(void **state)
{
    (void)state;
    for (int i = 0; i < FORMS; i++) {
        anm_error err;
        set_up s;
        begin(&s, i);
        float *g = malloc(s.size * sizeof *g), *d = malloc(s.size * sizeof *d);
        for (size_t j = 0; j < s.size; j++) d[j] = g[j] = tiny_uniform();
        assert_int_equal(anm_eager_layer_backward(d, &s.w, &s.l, &s.t.model.params, s.cos, s.sin, NULL, NULL, NULL, &err), 0);
        for (size_t j = 0; j < s.size; j += 7) {
            float was = s.w.x[j], step = 1e-2f;
            s.w.x[j] = was + step;
            double up = loss(&s, s.w.x, g);
            s.w.x[j] = was - step;
            double down = loss(&s, s.w.x, g), slope = (up - down) / (2 * (double)step);
            s.w.x[j] = was;
            assert_true(fabs(slope - (double)d[j]) < 5e-3 * (1 + fabs(slope)));
        }
        free(g), free(d);
        end(&s);
    }
}

/* What a tap sees of one linear: the slope of the loss by one of its weights is the sum over rows of dy x; here by a
 * bias-like shift of one output, found by nudging y through the weights' row: y_r += e w_r . x is a scaling of the row. */
typedef struct seen {
    double scale[ANM_LINEAR_COUNT]; /* sum over rows of dy * y for output 3: the slope by that row's scale */
} seen;

static int tap(void *ctx, anm_linear which, const float *y, const float *dy, size_t rows, size_t cols, anm_error *err)
{
    (void)err;
    seen *s = ctx;
    s->scale[which] = 0;
    for (size_t r = 0; r < rows; r++) s->scale[which] += (double)y[r * cols + 3] * dy[r * cols + 3];
    return 0;
}

static void taps_give_each_linears_gradient(void **state)
{
    (void)state;
    for (int i = 0; i < FORMS; i++) {
        anm_error err;
        set_up s;
        begin(&s, i);
        const anm_params *p = &s.t.model.params;
        float *g = malloc(s.size * sizeof *g), *d = malloc(s.size * sizeof *d);
        for (size_t j = 0; j < s.size; j++) d[j] = g[j] = tiny_uniform();
        seen got = {{0}};
        assert_int_equal(anm_eager_layer_backward(d, &s.w, &s.l, p, s.cos, s.sin, tap, &got, NULL, &err), 0);
        const struct {
            float *w;
            int64_t cols;
        } linear[ANM_LINEAR_COUNT] = {{s.l.wq, p->dim}, {s.l.wk, p->dim}, {s.l.wv, p->dim}, {s.l.wo, p->n_heads * p->head_dim},
                                      {s.l.w1, p->dim}, {s.l.w3, p->dim}, {s.l.w2, p->hidden_dim}};
        for (int k = 0; k < ANM_LINEAR_COUNT; k++) {
            double at[2], step = 1e-2;
            for (int side = 0; side < 2; side++) {
                float *row = linear[k].w + 3 * linear[k].cols, factor = (float)(side ? 1 - step : 1 + step), was[64];
                memcpy(was, row, (size_t)linear[k].cols * sizeof *row);
                for (int64_t j = 0; j < linear[k].cols; j++) row[j] *= factor;
                at[side] = loss(&s, s.w.x, g);
                memcpy(row, was, (size_t)linear[k].cols * sizeof *row);
            }
            double slope = (at[0] - at[1]) / (2 * step);
            assert_true(fabs(slope - got.scale[k]) < 5e-3 * (1 + fabs(slope)));
        }
        free(g), free(d);
        end(&s);
    }
}

/* A window's rows depend on nothing beside the window, and not on threads. */
static void windows_do_not_touch_each_other(void **state)
{
    (void)state;
    anm_error err;
    anm_pool *pool;
    set_up s;
    begin(&s, 2);
    assert_int_equal(anm_pool_new(&pool, 3, &err), 0);
    size_t half = s.size / 2;
    float *both = malloc(s.size * sizeof *both), *x = malloc(s.size * sizeof *x);
    memcpy(x, s.w.x, s.size * sizeof *x);
    assert_int_equal(anm_eager_layer_run(&s.w, &s.l, &s.t.model.params, s.cos, s.sin, NULL, NULL, pool, &err), 0);
    memcpy(both, s.w.x, s.size * sizeof *x);
    for (size_t w = 0; w < 2; w++) {
        anm_windows one = {.windows = 1, .len = LEN, .x = x + w * half};
        assert_int_equal(anm_eager_layer_run(&one, &s.l, &s.t.model.params, s.cos, s.sin, NULL, NULL, NULL, &err), 0);
    }
    assert_memory_equal(both, x, s.size * sizeof *x);
    free(both), free(x);
    anm_pool_free(pool);
    end(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradient_is_the_slope),
        cmocka_unit_test(taps_give_each_linears_gradient),
        cmocka_unit_test(windows_do_not_touch_each_other),
    };
    return cmocka_run_group_tests_name("eager", tests, NULL, NULL);
}
