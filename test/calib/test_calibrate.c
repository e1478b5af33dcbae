/* SPDX-License-Identifier: BSD-3-Clause */
#include "test.h"

#include "base/half.h"
#include "calib/calibrate.h"
#include "calib/tune.h"
#include "eager/eager.h"
#include "eager/tiny.h"
#include "quant/quant.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { WINDOWS = 6, LEN = 16, VOCAB = 64, DIM = 32 };

static anm_params form(bool bias)
{
    return (anm_params){.dim = DIM, .n_layers = 2, .n_heads = 4, .n_kv_heads = 2, .head_dim = 8, .hidden_dim = 64, .vocab_size = VOCAB,
                        .norm_eps = 1e-5, .rope_theta = 10000, .rope_scale_factor = 8, .high_freq_factor = 4, .partial_rotary_factor = 1,
                        .attention_qkv_bias = bias};
}

static anm_calib_opts options(void)
{
    return (anm_calib_opts){.linear_bits = 4, .embed_bits = 8, .fp16 = true, .windows = WINDOWS, .len = LEN, .seed = 3, .rotate = true,
                            .damp = 0.01, .ridge = 0.05, .tries = 2, .rounds = 1};
}

static void text(int32_t *tokens)
{
    for (int i = 0; i < WINDOWS * LEN; i++) tokens[i] = (i * i * 7 + i / 3) % VOCAB;
}

static float value(const anm_made *m, int64_t r, int64_t c)
{
    return anm_round_f16(m->scale[r * m->groups + c / (m->cols / m->groups)] * (float)m->q[r * m->cols + c]);
}

/* The model that the exporter sees, run in fp32 with the values it will write. */
static void run(anm_windows *w, const anm_model *m)
{
    anm_error err;
    const anm_params *p = &m->params;
    float cos[LEN * 4], sin[LEN * 4], norm[DIM];
    assert_int_equal(anm_rope_tables(cos, sin, m, LEN, &err), 0);
    for (int r = 0; r < WINDOWS * LEN && m->tok_embeddings.made; r++)
        for (int c = 0; c < DIM; c++) w->x[r * DIM + c] = value(m->tok_embeddings.made, w->token[r], c);
    for (int64_t i = 0; i < p->n_layers; i++) {
        anm_eager_layer l;
        const anm_layer *s = &m->layers[i];
        anm_model plain = *m;
        anm_layer layers[2] = {*s, *s}, *w0 = &layers[i];
        anm_matrix *linear[] = {&w0->wq, &w0->wk, &w0->wv, &w0->wo, &w0->w1, &w0->w2, &w0->w3};
        for (int j = 0; j < ANM_LINEARS; j++) linear[j]->made = NULL;
        plain.layers = layers;
        assert_int_equal(anm_eager_layer_load(&l, &plain, (size_t)i, NULL, &err), 0);
        float *to[] = {l.wq, l.wk, l.wv, l.wo, l.w1, l.w2, l.w3};
        const anm_matrix *from[] = {&s->wq, &s->wk, &s->wv, &s->wo, &s->w1, &s->w2, &s->w3};
        for (int j = 0; j < ANM_LINEARS; j++)
            for (int64_t r = 0; from[j]->made && r < from[j]->rows; r++)
                for (int64_t c = 0; c < from[j]->cols; c++) to[j][r * from[j]->cols + c] = value(from[j]->made, r, c);
        assert_int_equal(anm_eager_layer_run(w, &l, p, cos, sin, NULL, NULL, NULL, &err), 0);
        anm_eager_layer_free(&l);
    }
    assert_int_equal(anm_matrix_rows_f32(norm, &m->norm, 0, 1, &err), 0);
    anm_eager_norm(w->x, w->x, norm, WINDOWS * LEN, DIM, p->norm_eps);
}

/* What the full model says: its windows, run through, and their logits [WINDOWS * LEN * VOCAB]. Free the windows. */
static anm_windows answers(float *full, const anm_model *m, const int32_t *tokens)
{
    anm_error err;
    anm_windows w;
    float head[VOCAB * DIM];
    assert_int_equal(anm_windows_new(&w, m, tokens, WINDOWS, LEN, &err), 0);
    run(&w, m);
    assert_int_equal(anm_eager_read(head, &m->output, NULL, &err), 0);
    assert_int_equal(anm_eager_logits(full, w.x, WINDOWS * LEN, head, &m->params, NULL, &err), 0);
    return w;
}

/* Logits through the head as it will be written. */
static double distance(const float *full, const anm_windows *w, const anm_made *head)
{
    double sum = 0;
    for (int r = 0; r < WINDOWS * LEN; r++)
        for (int v = 0; v < VOCAB; v++) {
            double dot = 0;
            for (int c = 0; c < DIM; c++) dot += (double)w->x[r * DIM + c] * value(head, v, c);
            sum += (dot - (double)full[r * VOCAB + v]) * (dot - (double)full[r * VOCAB + v]);
        }
    return sqrt(sum / (WINDOWS * LEN * VOCAB));
}

static double worst_rounding, worst_reached;
static void hear(void *ctx, const anm_calib_event *e)
{
    (void)ctx;
    if (!e->figure) return;
    assert_true(e->figure->reached <= e->figure->rounding);
    worst_rounding += e->figure->rounding;
    worst_reached += e->figure->reached;
}

static void logits_stay_nearer_than_by_rounding(void **state)
{
    (void)state;
    static float full[WINDOWS * LEN * VOCAB];
    int32_t tokens[WINDOWS * LEN];
    text(tokens);
    for (int bias = 0; bias < 2; bias++) {
        anm_error err;
        tiny t;
        tiny_init(&t, form(bias));
        anm_windows w;
        w = answers(full, &t.model, tokens);
        anm_windows_free(&w);

        double d[2];
        for (int how = 0; how < 2; how++) { /* 0: rounding, with the same code: no rotation, no error compensation to speak of */
            anm_calibrated c;
            anm_calib_opts o = options();
            o.progress = how ? hear : NULL;
            if (!how) o.rotate = false, o.ridge = -1, o.rounds = 0, o.tries = 0;
            assert_int_equal(anm_calibrate(&c, &t.model, tokens, &o, NULL, &err), 0);
            assert_int_equal(anm_windows_new(&w, &t.model, tokens, WINDOWS, LEN, &err), 0);
            run(&w, &c.model);
            d[how] = distance(full, &w, c.model.output.made);
            anm_windows_free(&w);
            anm_calibrated_free(&c, false);
        }
        assert_true(d[1] < 0.75 * d[0]);
        tiny_free(&t);
    }
    assert_true(worst_reached < 0.7 * worst_rounding);
}

static void written_bytes_are_the_chosen_integers(void **state)
{
    (void)state;
    anm_error err;
    tiny t;
    anm_calibrated c, again;
    anm_calib_opts o = options();
    anm_pool *pool;
    int32_t tokens[WINDOWS * LEN];
    text(tokens);
    tiny_init(&t, form(false));
    o.linear_group = 16;
    assert_int_equal(anm_calibrate(&c, &t.model, tokens, &o, NULL, &err), 0);
    assert_int_equal(anm_pool_new(&pool, 3, &err), 0);
    assert_int_equal(anm_calibrate(&again, &t.model, tokens, &o, pool, &err), 0);
    const anm_matrix *m = &c.model.layers[1].w2;
    assert_memory_equal(m->made->q, again.model.layers[1].w2.made->q, (size_t)(m->rows * m->cols)); /* threads do not matter */
    assert_memory_equal(c.embedding.q, again.embedding.q, VOCAB * DIM);

    anm_weight w = {.matrix = m, .row = 4, .rows = 8, .bits = 4, .group = 16, .type = ANM_DT_F16};
    uint8_t data[8 * 32], scale[8 * 4 * 2];
    assert_int_equal(anm_weight_size(&w, ANM_WEIGHT_DATA), sizeof data);
    assert_int_equal(anm_weight_make(data, scale, &w, 0, 8, &err), 0);
    for (int r = 0; r < 8; r++)
        for (int col = 0; col < 64; col++) {
            int nibble = data[r * 32 + col / 2] >> (col % 2 * 4) & 15, q = nibble > 7 ? nibble - 16 : nibble;
            assert_int_equal(q, m->made->q[(r + 4) * 64 + col]);
            uint16_t half = (uint16_t)(scale[(r * 4 + col / 16) * 2] | scale[(r * 4 + col / 16) * 2 + 1] << 8);
            assert_true(anm_f16_to_f32(half) == m->made->scale[(r + 4) * 4 + col / 16]);
        }
    w.group = 64; /* calibrated for groups of 16 */
    assert_int_equal(anm_weight_make(data, scale, &w, 0, 8, &err), ANM_ERR_USAGE);
    anm_pool_free(pool);
    anm_calibrated_free(&c, false);
    anm_calibrated_free(&again, false);
    tiny_free(&t);
}

static void embeddings_that_a_type_cannot_hold_are_refused(void **state)
{
    (void)state;
    enum { ROW = 11 }; /* which the text does not have */
    static const struct {
        float times;
        bool fp16;
        unsigned bits;
        int64_t group;
        int want;
    } each[] = {
        {1e4f, true, 8, 0, 0},     {1e5f, true, 8, 0, ANM_ERR_LIMIT}, {1e5f, true, 4, 16, ANM_ERR_LIMIT}, {1e6f, true, 8, 0, ANM_ERR_LIMIT},
        {1e5f, false, 8, 0, 0},    {3e20f, false, 4, 16, 0}, /* whose squares are infinite */
        {5e-45f, false, 8, 0, 0},  {5e-45f, false, 4, 16, 0}, /* too small for a scale of its own */
        {1e-9f, true, 8, 0, 0},
    };
    int32_t tokens[WINDOWS * LEN];
    text(tokens);
    for (size_t i = 0; i < sizeof each / sizeof *each; i++) {
        tiny t;
        anm_error err;
        anm_calibrated c;
        anm_calib_opts o = options();
        tiny_init(&t, form(false));
        float *row = (float *)(uintptr_t)t.model.tok_embeddings.part[0]->data + ROW * DIM;
        for (int j = 0; j < DIM; j++) row[j] = each[i].times * (j % 3 ? 1.f : -0.7f) * (j % 5 ? 1 : 0);
        o.rotate = false;
        o.fp16 = each[i].fp16;
        o.embed_bits = each[i].bits;
        o.embed_group = each[i].group;
        int rc = anm_calibrate(&c, &t.model, tokens, &o, NULL, &err);
        assert_int_equal(rc, each[i].want);
        float made[DIM];
        if (!rc) anm_made_row(made, &c.embedding, ROW);
        for (int j = 0; j < DIM && !rc; j++)
            assert_true(fabsf(made[j] - row[j]) <= fmaxf(0.1f * each[i].times, each[i].fp16 ? 1e-7f : 1e-37f));
        if (!rc) anm_calibrated_free(&c, false);
        else assert_non_null(strstr(err.text, "row 11 of the embedding has values that fp16 cannot hold"));
        tiny_free(&t);
    }
}

static void count_linears(void *ctx, const anm_calib_event *e)
{
    if (e->figure) ++*(int *)ctx;
}

/* What a work file holds is taken from there, and not made again. */
static void what_is_done_is_not_done_again(void **state)
{
    (void)state;
    char path[] = "/tmp/anemone_test_XXXXXX";
    int fd = mkstemp(path), linears[2] = {0};
    int32_t tokens[WINDOWS * LEN];
    anm_calibrated c[2];
    tiny t;
    assert_true(fd >= 0);
    close(fd);
    unlink(path);
    text(tokens);
    tiny_init(&t, form(false));
    for (int again = 0; again < 2; again++) {
        anm_error err;
        anm_calib_opts o = options();
        o.work = path;
        o.resume = again;
        o.progress = count_linears;
        o.ctx = &linears[again];
        assert_int_equal(anm_calibrate(&c[again], &t.model, tokens, &o, NULL, &err), 0);
        if (!again) anm_calibrated_free(&c[0], false);
    }
    assert_int_equal(linears[0], 2 * ANM_LINEARS + 1);
    assert_int_equal(linears[1], 0);
    anm_calibrated_free(&c[1], true);
    assert_int_not_equal(access(path, F_OK), 0);
    tiny_free(&t);
}

/* The products are what a device multiplies with. */
static void made_weights_stay_in_fp16(void **state)
{
    (void)state;
    int8_t q[2 * 32] = {0};
    float scale[4] = {1, 9000, 1, 1};
    uint8_t data[32], out[8];
    anm_error err;
    const anm_made made = {2, 32, 2, true, q, scale};
    const anm_tensor tensor = {.name = "w", .file = "memory"};
    const anm_matrix m = {.rows = 2, .cols = 32, .n_parts = 1, .part = {&tensor}, .made = &made};
    anm_weight w = {.matrix = &m, .rows = 2, .bits = 4, .group = 16, .type = ANM_DT_F16};
    q[20] = 7;
    assert_int_equal(anm_weight_make(data, out, &w, 0, 2, &err), 0);
    q[21] = -8;
    assert_int_equal(anm_weight_make(data, out, &w, 0, 2, &err), ANM_ERR_LIMIT);
    assert_non_null(strstr(err.text, "memory: tensor 'w' has a value in row 0 that is too large for fp16"));
    w.type = ANM_DT_F32;
    uint8_t wide[16];
    assert_int_equal(anm_weight_make(data, wide, &w, 0, 2, &err), 0);
}

/* KL of the model with these weights from the full logits, nats a token, worked out from their definition. */
static double divergence(const float *full, const anm_calibrated *c, const int32_t *tokens, int windows)
{
    static float own[WINDOWS * LEN * VOCAB];
    anm_error err;
    anm_windows w;
    const anm_made *head = c->model.output.made;
    double sum = 0;
    assert_int_equal(anm_windows_new(&w, &c->model, tokens, WINDOWS, LEN, &err), 0);
    run(&w, &c->model);
    for (int r = 0; r < windows * LEN; r++) {
        double of = 0, by = 0;
        for (int v = 0; v < VOCAB; v++) {
            double dot = 0;
            for (int i = 0; i < DIM; i++) dot += (double)w.x[r * DIM + i] * value(head, v, i);
            own[r * VOCAB + v] = (float)dot;
            of += exp((double)full[r * VOCAB + v]);
            by += exp(dot);
        }
        for (int v = 0; v < VOCAB; v++) {
            double f = (double)full[r * VOCAB + v] - log(of), s = (double)own[r * VOCAB + v] - log(by);
            sum += exp(f) * (f - s);
        }
    }
    anm_windows_free(&w);
    return sum / (windows * LEN);
}

static int plain_head(void *ctx, float *w, size_t row, size_t rows, anm_error *err)
{
    return anm_eager_read_rows(w, ctx, (int64_t)row, (int64_t)rows, NULL, err);
}

/* The first step goes against the sign of each factor's gradient: for the rows of each linear that matter, that is the sign
 * of what the loss loses when the row's scale is made a little larger and a little smaller. */
static void factors_go_downhill(void **state)
{
    (void)state;
    enum { FEW = 2 };
    static float full[WINDOWS * LEN * VOCAB];
    static const int rows_of[] = {32, 16, 16, 32, 64, 32, 64};
    int32_t tokens[WINDOWS * LEN];
    text(tokens);
    for (int how = 0; how < 2; how++) {
        anm_error err;
        tiny t;
        anm_windows w;
        anm_calibrated c;
        float factor[2 * 256 + VOCAB];
        double loss[2];
        anm_calib_opts o = options();
        tiny_init(&t, form(how));
        w = answers(full, &t.model, tokens);
        assert_int_equal(anm_calibrate(&c, &t.model, tokens, &o, NULL, &err), 0);
        o.windows = FEW;
        o.tune = 1;
        const anm_tune tune = {.made = &c, .o = &o, .tokens = tokens, .full = w.x, .head = plain_head, .ctx = &t.model.output};
        assert_int_equal(anm_tune_count(&t.model.params), sizeof factor / sizeof *factor);
        assert_int_equal(anm_tune_factors(factor, loss, &tune, NULL, &err), 0);
        assert_true(fabs(loss[0] - divergence(full, &c, tokens, FEW)) < 1e-3 * loss[0]);
        const float *at = factor;
        for (int i = 0; i < 2 * ANM_LINEARS + 1; i++) {
            anm_made *m = &c.layer[i / ANM_LINEARS][i % ANM_LINEARS];
            int rows = i < 2 * ANM_LINEARS ? rows_of[i % ANM_LINEARS] : VOCAB;
            double slope[VOCAB];
            assert_int_equal(m->rows, rows);
            for (int r = 0; r < rows; r++) {
                float was = m->scale[r];
                m->scale[r] = was * 1.03f;
                slope[r] = divergence(full, &c, tokens, FEW);
                m->scale[r] = was * 0.97f;
                slope[r] -= divergence(full, &c, tokens, FEW);
                m->scale[r] = was;
            }
            double most = 0;
            for (int r = 0; r < rows; r++) most = fmax(most, fabs(slope[r]));
            for (int r = 0; r < rows; r++)
                if (fabs(slope[r]) > 0.1 * most) assert_true(slope[r] > 0 ? at[r] < 1 : at[r] > 1);
            at += rows;
        }
        anm_windows_free(&w);
        anm_calibrated_free(&c, false);
        tiny_free(&t);
    }
}

static void tuning_brings_the_whole_nearer(void **state)
{
    (void)state;
    static float full[WINDOWS * LEN * VOCAB];
    int32_t tokens[WINDOWS * LEN];
    text(tokens);
    for (int how = 0; how < 2; how++) {
        anm_error err;
        anm_calibrated c[3];
        anm_pool *pool;
        tiny t;
        anm_windows w;
        double kl[2];
        tiny_init(&t, form(how));
        w = answers(full, &t.model, tokens);
        anm_windows_free(&w);
        assert_int_equal(anm_pool_new(&pool, 3, &err), 0);
        for (int i = 0; i < 3; i++) { /* without, with, and with other threads */
            anm_calib_opts o = options();
            o.linear_group = how ? 16 : 0;
            o.embed_bits = how ? 0 : 8;
            o.tune = i ? 12 : 0;
            assert_int_equal(anm_calibrate(&c[i], &t.model, tokens, &o, i == 2 ? pool : NULL, &err), 0);
            if (i < 2) kl[i] = divergence(full, &c[i], tokens, WINDOWS);
        }
        const anm_made *was = c[0].model.layers[1].w2.made, *is = c[1].model.layers[1].w2.made, *again = c[2].model.layers[1].w2.made;
        assert_memory_equal(was->q, is->q, (size_t)(was->rows * was->cols));
        assert_memory_not_equal(was->scale, is->scale, (size_t)(was->rows * was->groups) * sizeof *was->scale);
        assert_memory_equal(again->scale, is->scale, (size_t)(was->rows * was->groups) * sizeof *was->scale);
        const double *loss = anm_calibrated_note(&c[1], 4)->loss;
        assert_true(loss[1] < loss[0] && loss[0] < 1.05 * kl[0] && loss[1] > 0.9 * kl[1]);
        assert_true(kl[1] < 0.9 * kl[0]);
        for (int i = 0; i < 3; i++) anm_calibrated_free(&c[i], false);
        anm_pool_free(pool);
        tiny_free(&t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(logits_stay_nearer_than_by_rounding),
        cmocka_unit_test(written_bytes_are_the_chosen_integers),
        cmocka_unit_test(embeddings_that_a_type_cannot_hold_are_refused),
        cmocka_unit_test(made_weights_stay_in_fp16),
        cmocka_unit_test(what_is_done_is_not_done_again),
        cmocka_unit_test(factors_go_downhill),
        cmocka_unit_test(tuning_brings_the_whole_nearer),
    };
    return cmocka_run_group_tests_name("calibrate", tests, NULL, NULL);
}
