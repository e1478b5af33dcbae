/* SPDX-License-Identifier: BSD-3-Clause */
/* Every pass on graphs small enough to read: the text before, and the text that must come out. */
#include "test.h"

#include "base/buf.h"
#include "mil/mil.h"
#include "pass/pass.h"
#include "quant/quant.h"

#include <stdlib.h>
#include <string.h>

static void parse(anm_mil_program *p, const char *body)
{
    anm_error err = {0};
    anm_buf text = {0};
    anm_buf_printf(&text, "func main(%%x: fp16[1,2,3,4], %%y: fp16[1,2,3,4]) -> (%%out) opset \"CoreML8\" {\n%s}\n", body);
    if (anm_mil_parse(p, (const char *)text.data, text.size, &err)) fail_msg("%s", err.text);
    if (anm_mil_verify(p, true, &err)) fail_msg("%s", err.text);
    anm_buf_free(&text);
}

static void becomes(anm_pass_fn *pass, const char *before, const char *after)
{
    anm_mil_program p, q;
    anm_error err = {0};
    anm_buf where = {0};
    bool same = false;
    parse(&p, before);
    parse(&q, after);
    assert_int_equal(pass(p.functions, &err), 0);
    if (anm_mil_verify(&p, true, &err)) fail_msg("%s", err.text);
    assert_int_equal(anm_mil_equal(&same, &where, p.functions, q.functions, &err), 0);
    if (!same) fail_msg("%s", where.data);
    size_t n = 0, m = 0; /* equal graphs may differ in ops that nothing uses, or in ops that are computed twice */
    for (const anm_mil_op *op = p.functions->first; op; op = op->next) n++;
    for (const anm_mil_op *op = q.functions->first; op; op = op->next) m++;
    assert_int_equal(n, m);
    anm_buf_free(&where);
    anm_mil_program_free(&p);
    anm_mil_program_free(&q);
}

static void unchanged(anm_pass_fn *pass, const char *body)
{
    becomes(pass, body, body);
}

static void noops_go(void **state)
{
    (void)state;
    const char *sum = "  %out: fp16[1,2,3,4] = add(x=%x, y=%y)\n";
    becomes(anm_pass_remove_noops,
            "  %a: fp16[1,2,3,4] = reshape(x=%x, shape=[1,2,-1,4])\n"
            "  %b: fp16[1,2,3,4] = mul(x=%a, y=fp16[4](1, 1, 1, 1))\n"
            "  %c: fp16[1,2,3,4] = add(x=fp16(0), y=%b)\n"
            "  %d: fp16[1,2,3,4] = transpose(x=%c, perm=[0,1,2,-1])\n"
            "  %e: fp16[1,2,3,4] = slice_by_index(x=%d, begin=[0,0,0,0], end=[1,2,3,4])\n"
            "  %out: fp16[1,2,3,4] = add(x=%e, y=%y)\n",
            sum);
}

static void what_changes_something_stays(void **state)
{
    (void)state;
    unchanged(anm_pass_remove_noops, "  %a: fp16[1,2,3,4] = mul(x=%x, y=fp16[4](1, 1, 1, 2))\n"
                                     "  %out: fp16[1,2,3,4] = add(x=%a, y=%y)\n");
    unchanged(anm_pass_remove_noops, "  %a: fp16[1,2,4,3] = transpose(x=%x, perm=[0,1,3,2])\n"
                                     "  %b: fp16[1,2,4,3] = transpose(x=%y, perm=[0,1,3,2])\n"
                                     "  %out: fp16[1,2,4,3] = add(x=%a, y=%b)\n");
    /* a neutral element that broadcasts its operand changes the shape */
    unchanged(anm_pass_remove_noops, "  %a: fp16[1,2,3,1] = reduce_mean(x=%x, axes=[-1], keep_dims=true)\n"
                                     "  %b: fp16[1,2,3,4] = add(x=%a, y=fp16[4](0, 0, 0, 0))\n"
                                     "  %out: fp16[1,2,3,4] = add(x=%b, y=%y)\n");
    /* an output of the function is made by an op */
    unchanged(anm_pass_remove_noops, "  %out: fp16[1,2,3,4] = mul(x=%x, y=fp16(1))\n");
}

static void reshapes_merge(void **state)
{
    (void)state;
    becomes(anm_pass_merge_reshapes,
            "  %a: fp16[2,3,4] = reshape(x=%x, shape=[2,3,4])\n"
            "  %b: fp16[6,4] = reshape(x=%a, shape=[6,4])\n"
            "  %c: fp16[4,6] = reshape(x=%b, shape=[4,6])\n"
            "  %out: fp16[4,6] = silu(x=%c)\n",
            "  %c: fp16[4,6] = reshape(x=%x, shape=[4,6])\n"
            "  %out: fp16[4,6] = silu(x=%c)\n");
    /* a reshape that has another use stays */
    unchanged(anm_pass_merge_reshapes, "  %a: fp16[6,4] = reshape(x=%x, shape=[6,4])\n"
                                       "  %b: fp16[4,6] = reshape(x=%a, shape=[4,6])\n"
                                       "  %c: fp16[6,6] = matmul(x=%a, y=%b)\n"
                                       "  %out: fp16[6,6] = silu(x=%c)\n");
}

static void repeated_ops_are_one(void **state)
{
    (void)state;
    becomes(anm_pass_remove_repeated,
            "  %a: fp16[1,2,3,4] = mul(x=%x, y=fp16[4](1, 2, 3, 4))\n"
            "  %b: fp16[1,2,3,4] = mul(x=%x, y=fp16[4](1, 2, 3, 4))\n"
            "  %c: fp16[1,2,3,4] = silu(x=%a)\n"
            "  %d: fp16[1,2,3,4] = silu(x=%b)\n"
            "  %out: fp16[1,2,3,4] = add(x=%c, y=%d)\n",
            "  %a: fp16[1,2,3,4] = mul(x=%x, y=fp16[4](1, 2, 3, 4))\n"
            "  %c: fp16[1,2,3,4] = silu(x=%a)\n"
            "  %out: fp16[1,2,3,4] = add(x=%c, y=%c)\n");
    unchanged(anm_pass_remove_repeated, "  %a: fp16[1,2,3,4] = mul(x=%x, y=fp16[4](1, 2, 3, 4))\n"
                                        "  %b: fp16[1,2,3,4] = mul(x=%x, y=fp16[4](1, 2, 3, 5))\n"
                                        "  %out: fp16[1,2,3,4] = sub(x=%a, y=%b)\n");
}

static void unused_ops_go(void **state)
{
    (void)state;
    becomes(anm_pass_remove_unused,
            "  %a: fp16[1,2,3,4] = silu(x=%x)\n"
            "  %b: fp16[1,2,3,4] = add(x=%a, y=%y)\n"
            "  %c: fp16[1,2,3,4] = mul(x=%b, y=%b)\n"
            "  %out: fp16[1,2,3,4] = add(x=%x, y=%y)\n",
            "  %out: fp16[1,2,3,4] = add(x=%x, y=%y)\n");
}

/* ---- long functions: whole walks for each op that goes, or a comparison with every other op, would not end in time ---- */

enum { MANY = 250000 };

/* `first`, then `line` for each number from 1 and the one before it, then the output's `last` of the last number. */
static void lines(anm_buf *b, const char *first, const char *line, const char *last)
{
    anm_buf_puts(b, first);
    for (int i = 1; i < MANY; i++) anm_buf_printf(b, line, i, i - 1, i, i - 1);
    anm_buf_printf(b, last, MANY - 1, MANY - 1);
    anm_buf_put(b, "", 1);
    assert_false(b->bad);
}

static void many_noops_go_in_one_walk(void **state)
{
    (void)state;
    anm_buf b = {0};
    lines(&b, "  %a0: fp16[1,2,3,4] = identity(x=%x)\n", "  %%a%d: fp16[1,2,3,4] = identity(x=%%a%d)\n",
          "  %%out: fp16[1,2,3,4] = add(x=%%a%d, y=%%y)\n");
    becomes(anm_pass_remove_noops, (const char *)b.data, "  %out: fp16[1,2,3,4] = add(x=%x, y=%y)\n");
    anm_buf_free(&b);
}

static void many_repeated_ops_go_in_one_walk(void **state)
{
    (void)state;
    anm_buf b = {0}, once = {0};
    lines(&b, "  %a0: fp16[1,2,3,4] = silu(x=%x)\n  %b0: fp16[1,2,3,4] = silu(x=%x)\n",
          "  %%a%d: fp16[1,2,3,4] = silu(x=%%b%d)\n  %%b%d: fp16[1,2,3,4] = silu(x=%%a%d)\n",
          "  %%out: fp16[1,2,3,4] = add(x=%%a%d, y=%%b%d)\n");
    lines(&once, "  %a0: fp16[1,2,3,4] = silu(x=%x)\n", "  %%a%d: fp16[1,2,3,4] = silu(x=%%a%d)\n",
          "  %%out: fp16[1,2,3,4] = add(x=%%a%d, y=%%a%d)\n");
    becomes(anm_pass_remove_repeated, (const char *)b.data, (const char *)once.data);
    anm_buf_free(&once);
    anm_buf_free(&b);
}

static void many_constants_of_one_size_are_told_apart(void **state)
{
    (void)state;
    anm_buf b = {0};
    for (int i = 0; i < MANY; i++)
        anm_buf_printf(&b, "  %%a%d: fp16[1,2,3,4] = mul(x=%%x, y=fp16[4](%d, %d, 1, 1))\n", i, i / 1000, i % 1000);
    anm_buf_puts(&b, "  %out: fp16[1,2,3,4] = add(x=%x, y=%y)\n");
    anm_buf_put(&b, "", 1);
    assert_false(b.bad);
    unchanged(anm_pass_remove_repeated, (const char *)b.data);
    anm_buf_free(&b);
}

/* ---- weights of equal bytes ---- */

enum { HEIGHT = 6, WIDTH = 40000 }; /* more than a tile */

typedef struct tall {
    float *x;
    anm_tensor tensor;
    anm_matrix matrix;
    anm_weight weight;
} tall;

static void make_tall(tall *t, float by, int64_t rows)
{
    t->x = malloc(sizeof *t->x * HEIGHT * WIDTH);
    assert_non_null(t->x);
    for (int i = 0; i < HEIGHT * WIDTH; i++) t->x[i] = by * (float)(i * 7919 % 31 - 15);
    t->tensor = (anm_tensor){.name = "t", .dtype = ANM_DT_F32, .rank = 2, .shape = {HEIGHT, WIDTH}, .stride = {WIDTH, 1},
                             .data = (const uint8_t *)t->x, .size = sizeof *t->x * HEIGHT * WIDTH, .file = "f"};
    t->matrix = (anm_matrix){.rows = HEIGHT, .cols = WIDTH, .part = {&t->tensor}, .n_parts = 1};
    t->weight = (anm_weight){.matrix = &t->matrix, .rows = rows, .bits = 4, .group = WIDTH, .type = ANM_DT_F16};
}

/* y = (x * w0) + (x * w1) + …, each weight with its integers and scales; how many of each are left after the pass? */
static void shared_are(tall *t, int n, int integers, int scales)
{
    anm_mil_program p;
    anm_error err = {0};
    anm_mil_program_init(&p);
    anm_mil_builder b = anm_mil_build(anm_mil_function_new(&p, "main", "CoreML8"));
    anm_mil_value *x = anm_mil_input(&b, "x", anm_mil_tensor(ANM_DT_F16, 2, (const int64_t[]){1, WIDTH})), *q[8], *s[8];
    for (int i = 0; i < n; i++) {
        const anm_weight *w = &t[i].weight;
        q[i] = anm_mil_const_blob(&b, NULL, anm_mil_tensor(ANM_DT_I4, 2, (const int64_t[]){w->rows, WIDTH}),
                                  (anm_blob){.size = anm_weight_size(w, ANM_WEIGHT_DATA), .source = w, .part = ANM_WEIGHT_DATA, .in_file = true});
        s[i] = anm_mil_const_blob(&b, NULL, anm_mil_tensor(ANM_DT_F16, 2, (const int64_t[]){w->rows, 1}),
                                  (anm_blob){.size = anm_weight_size(w, ANM_WEIGHT_SCALE), .source = w, .part = ANM_WEIGHT_SCALE, .in_file = true});
        anm_mil_value *whole = anm_mil_emit(&b, ANM_OP_CONSTEXPR_BLOCKWISE_SHIFT_SCALE, "w", ANM_P_DATA, q[i], ANM_P_SCALE, s[i], ANM_P_END);
        anm_mil_output(&b, anm_mil_emit(&b, ANM_OP_LINEAR, "y", ANM_P_X, x, ANM_P_WEIGHT, whole, ANM_P_END));
    }
    if (b.err.code) fail_msg("%s", b.err.text);
    if (anm_pass_share_weights(&p, &err)) fail_msg("%s", err.text);
    for (int i = 0; i < n; i++)
        for (int k = 0; k < i; k++) {
            if (q[i]->constant->source == q[k]->constant->source) integers--, k = i;
        }
    for (int i = 0; i < n; i++)
        for (int k = 0; k < i; k++) {
            if (s[i]->constant->source == s[k]->constant->source) scales--, k = i;
        }
    assert_int_equal(integers, 0);
    assert_int_equal(scales, 0);
    anm_mil_program_free(&p);
}

static void equal_weights_are_one(void **state)
{
    (void)state;
    tall t[4];
    make_tall(&t[0], 0.125f, HEIGHT);
    make_tall(&t[1], 0.125f, HEIGHT);
    make_tall(&t[2], 0.25f, HEIGHT); /* twice as much: the same integers */
    make_tall(&t[3], 0.125f, 4);     /* fewer rows */
    shared_are(t, 4, 2, 1);
    float *late = t[1].x + (HEIGHT - 1) * WIDTH + 3;
    *late = *late > 0.5f ? 0 : 1; /* in the last tile: other integers */
    shared_are(t, 4, 1, 0);
    t[2].x[5 * WIDTH + 11] *= 32; 
    shared_are(t, 4, 0, 0);
    free(t[1].x);
    free(t[2].x);
    make_tall(&t[1], 0.5f, HEIGHT);
    make_tall(&t[2], 0.5f, HEIGHT); /* all of the second is there, whose integers are the first's */
    shared_are(t, 4, 2, 1);
    for (int i = 0; i < 4; i++) free(t[i].x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(noops_go),       cmocka_unit_test(what_changes_something_stays), cmocka_unit_test(reshapes_merge),
        cmocka_unit_test(repeated_ops_are_one), cmocka_unit_test(unused_ops_go), cmocka_unit_test(equal_weights_are_one),
        cmocka_unit_test(many_noops_go_in_one_walk), cmocka_unit_test(many_repeated_ops_go_in_one_walk),
        cmocka_unit_test(many_constants_of_one_size_are_told_apart),
    };
    return cmocka_run_group_tests_name("pass", tests, NULL, NULL);
}
