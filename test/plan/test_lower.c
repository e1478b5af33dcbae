/* SPDX-License-Identifier: BSD-3-Clause */
/* Lowering of graphs that no exporter writes: refused in words or planned, in time and memory in proportion. */
#include "test.h"

#include "base/buf.h"
#include "kernel/kernel.h"
#include "plan/plan.h"

#include <stdio.h>
#include <string.h>

#define EYE "fp32[4,4](1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1)"

/* A method without layers: tokens, their embedding %x [1, 2, 4], `ops`, and %y into the logits. */
static int plan_of(anm_plan **out, anm_mil_program *p, const char *ops, anm_error *err)
{
    anm_buf b = {0};
    anm_buf_puts(&b, "func main(%t: int32[1,2]) -> (%l) opset \"o\" {\n%x: fp32[1,2,4] = gather(x=" EYE ", indices=%t, axis=0)\n");
    anm_buf_puts(&b, ops);
    anm_buf_puts(&b, "%l: fp32[1,2,4] = linear(x=%y, weight=" EYE ")\n}");
    assert_false(b.bad);
    int rc = anm_mil_parse(p, (const char *)b.data, b.size, err);
    anm_buf_free(&b);
    if (!rc) rc = anm_mil_verify(p, true, err);
    if (rc) fail_msg("%s", err->text);
    const anm_method m = {.fn = p->functions, .rows = 2, .logits_rows = 2, .vocab_size = 4, .mask = -1, .cos = -1, .sin = -1, .last_pos = -1};
    anm_plan_opts opts = {.activations = ANM_ACT_F32};
    assert_int_equal(anm_kernels_choose(&opts.kernels, NULL, err), 0);
    return anm_plan_new(out, &m, &opts, err);
}

static void refused(const char *ops, const char *why)
{
    anm_plan *plan;
    anm_mil_program p;
    anm_error err = {0};
    assert_int_equal(plan_of(&plan, &p, ops, &err), ANM_ERR_UNSUPPORTED);
    if (!strstr(err.text, why)) fail_msg("%s", err.text);
    anm_mil_program_free(&p);
}

static void planned(const char *ops)
{
    anm_plan *plan;
    anm_mil_program p;
    anm_error err = {0};
    if (plan_of(&plan, &p, ops, &err)) fail_msg("%s", err.text);
    anm_plan_free(plan);
    anm_mil_program_free(&p);
}

static void what_is_not_known_has_no_plan(void **state)
{
    (void)state;
    planned("%y: fp32[1,2,4] = reshape(x=%x, shape=[1, 2, 4])\n");
    refused("%a: fp32[1,2,4] = linear(x=%x, weight=" EYE ")\n%b: fp32[1,2,8] = concat(axis=-1, values=(%x, %a))\n"
            "%y: fp32[1,2,4] = slice_by_index(x=%b, begin=[0, 0, 0], end=[1, 2, 4])\n", "do not belong together");
    refused("%r: fp32[1,2,?,2] = reshape(x=%x, shape=[1, 2, 2, 2])\n%y: fp32[1,2,4] = reshape(x=%r, shape=[1, 2, 4])\n", "unknown shape");
}

#define EIGHT "0, 0, 0, 0, 0, 0, 0, 0"
#define WIDE "fp32[4,8](" EIGHT ", " EIGHT ", " EIGHT ", " EIGHT ")"

/* As many heads as rows, and one fused attention op with the mask %m that `ops` make of %mask. */
static int plan_of_attention(anm_plan **out, anm_mil_program *p, const char *ops, anm_error *err)
{
    anm_buf b = {0};
    anm_buf_puts(&b, "func main(%t: int32[1,4], %mask: fp32[4,32], %kc: fp32[1,4,28,2], %vc: fp32[1,4,28,2]) -> (%l, %k, %k) opset \"o\" {\n"
                     "%x: fp32[1,4,8] = gather(x=" WIDE ", indices=%t, axis=0)\n"
                     "%r: fp32[1,4,4,2] = reshape(x=%x, shape=[1, 4, 4, 2])\n"
                     "%k: fp32[1,4,4,2] = transpose(x=%r, perm=[0, 2, 1, 3])\n"
                     "%ks: fp32[1,4,32,2] = concat(values=(%kc, %k), axis=2)\n"
                     "%vs: fp32[1,4,32,2] = concat(values=(%vc, %k), axis=2)\n");
    anm_buf_puts(&b, ops);
    anm_buf_puts(&b, "%a: fp32[1,4,4,2] = scaled_dot_product_attention(query=%k, key=%ks, value=%vs, attn_mask=%m)\n"
                     "%b: fp32[1,4,4,2] = transpose(x=%a, perm=[0, 2, 1, 3])\n"
                     "%y: fp32[1,4,8] = reshape(x=%b, shape=[1, 4, 8])\n"
                     "%l: fp32[1,4,4] = linear(x=%y, weight=" WIDE ")\n}");
    assert_false(b.bad);
    int rc = anm_mil_parse(p, (const char *)b.data, b.size, err);
    anm_buf_free(&b);
    if (!rc) rc = anm_mil_verify(p, true, err);
    if (rc) fail_msg("%s", err->text);
    anm_kv_io kv = {2, 3, 1, 2};
    const anm_method m = {.fn = p->functions, .rows = 4, .logits_rows = 4, .vocab_size = 4, .n_layers = 1, .n_kv_heads = 4, .head_dim = 2,
                          .cache_len = 28, .mask = 1, .cos = -1, .sin = -1, .last_pos = -1, .kv = &kv};
    anm_plan_opts opts = {.activations = ANM_ACT_F32};
    assert_int_equal(anm_kernels_choose(&opts.kernels, NULL, err), 0);
    return anm_plan_new(out, &m, &opts, err);
}

/* Rows of the mask that stand where heads do are for heads; the plan knows a mask by row alone. */
static void a_mask_by_head_has_no_plan(void **state)
{
    (void)state;
    static const char *const ops[] = {"%m: fp32[4,32] = identity(x=%mask)\n", "%m: fp32[1,4,32] = expand_dims(x=%mask, axes=[0])\n",
                                      "%m: fp32[4,1,32] = expand_dims(x=%mask, axes=[1])\n"};
    for (int i = 0; i < 3; i++) {
        anm_plan *plan = NULL;
        anm_mil_program p;
        anm_error err = {0};
        int rc = plan_of_attention(&plan, &p, ops[i], &err);
        if (rc != (i < 2 ? 0 : ANM_ERR_UNSUPPORTED)) fail_msg("%s: %d %s", ops[i], rc, err.text);
        if (rc && !strstr(err.text, "a mask of another shape")) fail_msg("%s", err.text);
        if (!rc) anm_plan_free(plan);
        anm_mil_program_free(&p);
    }
}

/* `count` ops, each of what the one before gave. */
static void chain(anm_buf *b, int count, const char *op, const char *more)
{
    for (int i = 0; i < count; i++) {
        char from[16];
        snprintf(from, sizeof from, i ? "a%d" : "x", i - 1);
        anm_buf_printf(b, "%%a%d: fp32[1,2,4] = %s(x=%%%s%s)\n", i, op, from, more);
    }
    anm_buf_printf(b, "%%y: fp32[1,2,4] = identity(x=%%a%d)\n", count - 1);
    anm_buf_put(b, "", 1);
    assert_false(b->bad);
}

static void long_chains_are_walked_once(void **state)
{
    (void)state;
    anm_buf b = {0};
    chain(&b, 60000, "silu", "");
    planned((char *)b.data);
    b.size = 0;
    chain(&b, 60000, "add", ", y=%x");
    planned((char *)b.data);
    anm_buf_free(&b);
}

static void many_linears_are_one_step(void **state)
{
    (void)state;
    anm_buf b = {0};
    for (int i = 0; i < 5000; i++) anm_buf_printf(&b, "%%a%d: fp32[1,2,4] = linear(x=%%x, weight=" EYE ")\n", i);
    for (int i = 0; i < 5000; i++) anm_buf_printf(&b, "%%b%d: fp32[1,2,4] = add(x=%%%s%d, y=%%a%d)\n", i, i ? "b" : "a", i ? i - 1 : 0, i);
    anm_buf_puts(&b, "%y: fp32[1,2,4] = identity(x=%b4999)\n");
    anm_buf_put(&b, "", 1);
    assert_false(b.bad);
    planned((char *)b.data);
    anm_buf_free(&b);
}

/* 32-bit counts of parts would come out small again. */
static void a_matrix_of_too_many_parts(void **state)
{
    (void)state;
    anm_buf b = {0};
    anm_buf_puts(&b, "%a: fp32[1,2,4] = linear(x=%x, weight=" EYE ")\n%b: fp32[1,2,262144] = concat(axis=-1, values=(%a");
    for (int i = 1; i < 65536; i++) anm_buf_puts(&b, ", %a");
    anm_buf_puts(&b, "))\n%c: fp32[1,2,524288] = concat(values=(%b, %b), axis=-1)\n"
                     "%y: fp32[1,2,4] = slice_by_index(x=%c, begin=[0, 0, 0], end=[1, 2, 4])\n");
    anm_buf_put(&b, "", 1);
    assert_false(b.bad);
    refused((char *)b.data, "too many parts");
    anm_buf_free(&b);
}

/* Each join lists its parts anew: what is noted of them grows with the square of the program. */
static void joins_of_joins_have_a_limit(void **state)
{
    (void)state;
    anm_buf b = {0};
    anm_buf_puts(&b, "%a: fp32[1,2,4] = linear(x=%x, weight=" EYE ")\n%b0: fp32[1,2,131072] = concat(axis=-1, values=(%a");
    for (int i = 1; i < 32768; i++) anm_buf_puts(&b, ", %a");
    anm_buf_puts(&b, "))\n");
    for (int i = 1; i < 400; i++) anm_buf_printf(&b, "%%b%d: fp32[1,2,131076] = concat(axis=-1, values=(%%b0, %%a))\n", i);
    anm_buf_puts(&b, "%y: fp32[1,2,4] = slice_by_index(x=%b0, begin=[0, 0, 0], end=[1, 2, 4])\n");
    anm_buf_put(&b, "", 1);
    assert_false(b.bad);
    refused((char *)b.data, "more memory than a program of this size needs");
    anm_buf_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_not_known_has_no_plan),
        cmocka_unit_test(a_mask_by_head_has_no_plan),
        cmocka_unit_test(long_chains_are_walked_once),
        cmocka_unit_test(many_linears_are_one_step),
        cmocka_unit_test(a_matrix_of_too_many_parts),
        cmocka_unit_test(joins_of_joins_have_a_limit),
    };
    return cmocka_run_group_tests_name("plan/lower", tests, NULL, NULL);
}
