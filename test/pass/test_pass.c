/* SPDX-License-Identifier: BSD-3-Clause */
/* Every pass on graphs small enough to read: the text before, and the text that must come out. */
#include "test.h"

#include "base/buf.h"
#include "mil/mil.h"
#include "pass/pass.h"

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(noops_go),       cmocka_unit_test(what_changes_something_stays), cmocka_unit_test(reshapes_merge),
        cmocka_unit_test(repeated_ops_are_one), cmocka_unit_test(unused_ops_go),
    };
    return cmocka_run_group_tests_name("pass", tests, NULL, NULL);
}
