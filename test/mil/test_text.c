/* SPDX-License-Identifier: BSD-3-Clause */
/* Programs as text and back; what the parser refuses, and where; pictures; comparing two graphs. */
#include "test.h"

#include "base/buf.h"
#include "mil/mil.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void parse(anm_mil_program *p, const char *text)
{
    anm_error err;
    if (anm_mil_parse(p, text, strlen(text), &err)) fail_msg("%s", err.text);
}

static char *print(const anm_mil_program *p, bool with_data)
{
    anm_buf out = {0};
    anm_error err;
    assert_int_equal(anm_mil_print(&out, p, with_data, &err), 0);
    return (char *)out.data;
}

static bool equal(const anm_mil_function *a, const anm_mil_function *b, anm_buf *where)
{
    bool same = false;
    anm_error err;
    assert_int_equal(anm_mil_equal(&same, where, a, b, &err), 0);
    return same;
}

/* ---- round trips ---- */

/* Everything that has a form of its own. This is the printer's own way to write it. */
static const char everything[] =
    "func main(%x: fp16[1,16], %odd: int32[]) -> (%h, %k) opset \"CoreML8\" {\n"
    "  %k: int32[2] = const(1, -2)\n"
    "  %w: int8[66] = const(0x00050a0f14191e23282d32373c41464b50555a5f64696e73787d82878c91"
    "969ba0a5aaafb4b9bec3c8cdd2d7dce1e6ebf0f5faff04090e13181d22272c31363b4045)\n"
    "  %y: fp16[1,2] = linear(x=%x, weight=%w)\n"
    "  %b: fp16[2] = weight(0.5, -1)\n"
    "  %z: fp16[1,2] = add(x=%y, y=%b)\n"
    "  %\"a name\\x0a\\\"\\\\\": fp16[1,2] = mul(x=%z, y=fp16(1e-05))\n"
    "  %e: fp32[8] = add(x=fp32[8](0.1, -0, inf, -inf, nan, 1e-45, 3.4028235e+38, 16777216), y=fp32(2))\n"
    "  %i: fp16[1,1], %j: int32[?,3] = strange()\n"
    "  %h: fp16[1,2] = \"foreign op\"(x=%z, pad=(), mode=\"va\\\"lïd\\x01\\xc2\\x9b\\xff\", axes=[], flags=[true,false], "
    "on=true, "
    "t=int8[2,2](1, -128, 127, 0), n=uint64(18446744073709551615), q=int4[3](-8, 7, 1), u=uint4[2](15, 0), "
    "d=fp64(0x"
    "000000000000f03f), s=string[2](0x6162), nan=fp16(0x017e), big=bool[2](0x0207), none=fp32[0](), "
    "two=(%odd, 5))\n"
    "}\n"
    "\n"
    "func \"other one\"() -> () opset \"CoreML7\" {\n"
    "  forget()\n"
    "  \"weight\"(x=1)\n"
    "}\n";

static void text_round_trips(void **state)
{
    (void)state;
    anm_mil_program p, q;
    anm_buf where = {0};
    parse(&p, everything);
    char *first = print(&p, true);
    assert_string_equal(first, everything);
    parse(&q, first);
    assert_true(equal(p.functions, q.functions, &where));
    assert_int_equal(anm_mil_value_find(p.functions, "w")->constant->size, 66);
    assert_false(anm_mil_value_find(p.functions, "w")->constant->in_file);
    assert_true(anm_mil_value_find(p.functions, "b")->constant->in_file);
    anm_mil_program_free(&p);
    anm_mil_program_free(&q);
    anm_buf_free(&where);
    free(first);
}

/* A stack of layers with a shared weight, names asked for again and again, constants of all sizes. */
static void build_layers(anm_mil_program *p, int layers)
{
    enum { DIM = 32 };
    static uint8_t codes[DIM * DIM / 2], scales[DIM * 2];
    for (size_t i = 0; i < sizeof codes; i++)
        codes[i] = (uint8_t)(i * 37);
    for (size_t i = 0; i < sizeof scales; i++)
        scales[i] = (uint8_t)(i % 2 ? 0x2c : i);
    anm_mil_program_init(p);
    anm_mil_builder b = anm_mil_build(anm_mil_function_new(p, "main", "CoreML8"));
    anm_mil_value *x = anm_mil_input(&b, "x", anm_mil_tensor(ANM_DT_F16, 3, (int64_t[]){1, 4, DIM}));
    for (int l = 0; l < layers; l++) {
        anm_mil_value *data = anm_mil_const_blob(
            &b, "codes", anm_mil_tensor(ANM_DT_I4, 2, (int64_t[]){DIM, DIM}),
            (anm_blob){.size = sizeof codes, .data = codes, .in_file = true, .offset = 64});
        anm_mil_value *scale = anm_mil_const_blob(
            &b, "scale", anm_mil_tensor(ANM_DT_F16, 2, (int64_t[]){DIM, 1}),
            (anm_blob){.size = sizeof scales, .data = scales, .in_file = true, .offset = 640});
        anm_mil_value *w = anm_mil_emit(&b, ANM_OP_CONSTEXPR_BLOCKWISE_SHIFT_SCALE, "w", ANM_P_DATA, data,
                                        ANM_P_SCALE, scale, ANM_P_END);
        anm_mil_value *square = anm_mil_emit(&b, ANM_OP_MUL, "square", ANM_P_X, x, ANM_P_Y, x, ANM_P_END);
        anm_mil_value *mean = anm_mil_emit(&b, ANM_OP_REDUCE_MEAN, "mean", ANM_P_X, square, ANM_P_AXES,
                                           anm_mil_const_i32s(&b, 1, (int64_t[]){-1}), ANM_P_KEEP_DIMS,
                                           anm_mil_const_bool(&b, true), ANM_P_END);
        anm_mil_value *inv = anm_mil_emit(&b, ANM_OP_RSQRT, "inv", ANM_P_X, mean, ANM_P_EPSILON,
                                          anm_mil_const_float(&b, ANM_DT_F32, 1e-5f), ANM_P_END);
        anm_mil_value *norm = anm_mil_emit(&b, ANM_OP_MUL, "norm", ANM_P_X, x, ANM_P_Y, inv, ANM_P_END);
        anm_mil_value *y = anm_mil_emit(&b, ANM_OP_LINEAR, "y", ANM_P_X, norm, ANM_P_WEIGHT, w, ANM_P_END);
        anm_mil_value *half[2];
        anm_mil_emit_outs(&b, ANM_OP_SPLIT, "half", 2, half, ANM_P_X, y, ANM_P_AXIS, anm_mil_const_i32(&b, 2),
                          ANM_P_NUM_SPLITS, anm_mil_const_i32(&b, 2), ANM_P_END);
        anm_mil_value *back[2] = {half[1], half[0]};
        anm_mil_value *c = anm_mil_emit_list(&b, ANM_OP_CONCAT, "c", ANM_P_VALUES, 2, back, ANM_P_AXIS,
                                             anm_mil_const_i32(&b, -1), ANM_P_END);
        x = anm_mil_emit(&b, ANM_OP_ADD, "x", ANM_P_X, x, ANM_P_Y, c, ANM_P_END);
    }
    anm_mil_output(&b, x);
    if (b.err.code) fail_msg("%s", b.err.text);
}

static void a_large_graph_round_trips(void **state)
{
    (void)state;
    anm_mil_program p, q;
    anm_buf where = {0};
    anm_error err;
    build_layers(&p, 60);
    assert_int_equal(anm_mil_verify(&p, true, &err), 0);
    char *first = print(&p, true);
    parse(&q, first);
    if (anm_mil_verify(&q, true, &err)) fail_msg("%s", err.text);
    char *second = print(&q, true);
    assert_string_equal(first, second);
    assert_true(equal(p.functions, q.functions, &where));

    char *bare = print(&p, false); /* weights by reference: types and structure are all there */
    assert_true(strlen(bare) + 60 * 1000 < strlen(first));
    anm_mil_program_free(&q);
    parse(&q, bare);
    if (anm_mil_verify(&q, true, &err)) fail_msg("%s", err.text);
    const anm_blob *codes = anm_mil_value_find(q.functions, "codes")->constant;
    assert_null(codes->data);
    assert_int_equal(codes->size, 512);
    assert_int_equal(codes->offset, 64);
    assert_false(equal(p.functions, q.functions, &where));
    anm_buf_free(&where);
    anm_mil_program_free(&p);
    anm_mil_program_free(&q);
    free(first);
    free(second);
    free(bare);
}

/* An inline constant must not take the name that the text gives to another value further down. */
static void inline_constants_get_out_of_the_way(void **state)
{
    (void)state;
    anm_mil_program p;
    anm_error err;
    parse(&p,
          "func f(%x: fp32[1]) -> (%v1) opset \"o\" { %v2: fp32[1] = add(x=%x, y=fp32(1)) # v1 by its id\n"
          "%v1: fp32[1] = exp(x=%v2) }");
    if (anm_mil_verify(&p, true, &err)) fail_msg("%s", err.text);
    anm_mil_program_free(&p);
}

/* ---- refusals ---- */

static const struct {
    const char *text, *why;
} malformed[] = {
    {"fun", "line 1, column 1: func should stand here"},
    {"func f", "line 1, column 7: the text ends where '(' should stand"},
    {"func f(x", "line 1, column 8: '%' should stand here"},
    {"func f(%x: fp17[1]) ", "line 1, column 12: fp17 is not a type"},
    {"func f(%x: q4_0[32]) ", "line 1, column 12: q4_0 is not a type"},
    {"func f(%x: fp16[-1]) ", "line 1, column 17: -1 is not an integer from 0 to 9223372036854775807"},
    {"func f(%x: fp16[1,1,1,1,1,1,1,1,1]) ", "line 1, column 33: more than 8 dimensions"},
    {"func f(%x: fp16[1], %x: fp16[1])", "line 1, column 21: %x is defined twice"},
    {"func f() -> (%y) opset \"o\" {\n}", "line 1, column 14: the output %y is not defined"},
    {"func f() -> () {", "line 1, column 16: opset should stand here"},
    {"func f() -> () opset \"o\" {\n  %y: int32[] = add(x=%z)",
     "line 2, column 23: %z is not defined before it is used"},
    {"func f() -> () opset \"o\" {\n\n  %y: int32[1] = const(1, 2) }",
     "line 3, column 24: 2 values where the type has 1"},
    {"func f() -> () opset \"o\" { %y: int32[1] = const(0x010203) }",
     "line 1, column 49: 3 bytes where the type has 4"},
    {"func f() -> () opset \"o\" { %y: int32[1] = const(0x012) }", "line 1, column 53: half a byte of hex"},
    {"func f() -> () opset \"o\" { %y: int32[?] = const() }",
     "line 1, column 49: a constant with an unknown or too large shape"},
    {"func f() -> () opset \"o\" { %y: int8[] = const(128) }",
     "line 1, column 47: 128 is not an integer from -128 to 127"},
    {"func f() -> () opset \"o\" { g(x=uint64(-1)) }", "line 1, column 39: -1 does not fit uint64"},
    {"func f() -> () opset \"o\" { g(x=fp32(1e99)) }", "line 1, column 37: 1e99 is not a number"},
    {"func f() -> () opset \"o\" { g(x=fp32(0x1p3)) }", "line 1, column 39: half a byte of hex"},
    {"func f() -> () opset \"o\" { g(x=bool(1)) }", "line 1, column 37: true or false should stand here"},
    {"func f() -> () opset \"o\" { g(x=fp64(1)) }",
     "line 1, column 37: values of type fp64 are written as hex"},
    {"func f() -> () opset \"o\" { g(x=\"a", "line 1, column 32: a quote that is not closed"},
    {"func f() -> () opset \"o\" { g(x=\"\\n\") }",
     "line 1, column 33: an escape other than \\\", \\\\ and \\xNN"},
    {"func f() -> () opset \"o\" { %\"\": int32[] = g() }",
     "line 1, column 29: a name that is empty or has a zero byte"},
    {"func f() -> () opset \"o\" { %a: int32[], %b: int32[] = const(1) }",
     "line 1, column 60: a constant has one name"},
    {"func f() -> () opset \"o\" {} func f() -> () opset \"o\" {}",
     "line 1, column 34: the function f is defined twice"},
    {"func f() -> () opset \"o\" { g(x=int32[4294967296,4294967296](@0)) }",
     "line 1, column 61: a constant with an unknown or too large shape"},
    {"func f() -> () opset \"o\" { g(x=--1) }",
     "line 1, column 32: - is not an integer from -2147483648 to 2147483647"},
};

static void malformed_text_is_refused_at_its_place(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof malformed / sizeof *malformed; i++) {
        anm_mil_program p;
        anm_error err = {0};
        if (!anm_mil_parse(&p, malformed[i].text, strlen(malformed[i].text), &err))
            fail_msg("taken: %s", malformed[i].text);
        if (strcmp(err.text, malformed[i].why) != 0)
            fail_msg("%s\n  gives %s\n  not %s", malformed[i].text, err.text, malformed[i].why);
        anm_mil_program_free(&p);
    }
}

/* Every prefix, and thousands of texts with a byte or two changed: an error or a program, never a crash. */
static void any_text_is_safe(void **state)
{
    (void)state;
    size_t n = strlen(everything);
    char *text = malloc(n);
    anm_mil_program p;
    anm_error err;
    unsigned r = 7;
    for (size_t cut = 0; cut < n; cut++) {
        memcpy(text, everything, n);
        if (!anm_mil_parse(&p, text, cut, &err)) anm_mil_verify(&p, false, &err);
        anm_mil_program_free(&p);
    }
    for (int i = 0; i < 20000; i++) {
        memcpy(text, everything, n);
        for (int k = 0; k < 2; k++) {
            r = r * 1103515245u + 12345u;
            size_t at = (r >> 8) % n;
            r = r * 1103515245u + 12345u;
            text[at] = i % 2 ? (char)(r >> 16) : everything[(r >> 8) % n];
        }
        if (!anm_mil_parse(&p, text, n, &err)) {
            anm_buf out = {0};
            anm_mil_verify(&p, false, &err);
            anm_mil_print(&out, &p, true, &err);
            anm_buf_free(&out);
        }
        anm_mil_program_free(&p);
    }
    free(text);
}

/* ---- pictures ---- */

static void a_picture_has_all_ops(void **state)
{
    (void)state;
    anm_mil_program p;
    anm_buf out = {0};
    anm_error err;
    parse(&p, "func main(%x: fp16[2]) -> (%y) opset \"CoreML8\" {\n"
              "%w: fp16[2] = weight(1, 2)\n%s: fp16[2] = add(x=%x, y=%w)\n%y: fp16[2] = rsqrt(x=%s, "
              "epsilon=fp32(1e-05))\n}");
    assert_int_equal(anm_mil_dot(&out, p.functions, &err), 0);
    const char *dot = (const char *)out.data;
    assert_non_null(strstr(dot, "digraph \"main\" {"));
    assert_non_null(strstr(dot, "label=\"x\\nfp16[2]\""));
    assert_non_null(strstr(dot, "shape=note"));
    assert_non_null(strstr(dot, "label=\"rsqrt\\nepsilon = fp32(1e-05)\\ny\\nfp16[2]\""));
    assert_non_null(strstr(dot, "v0 -> v2 [label=\"x\"]"));
    assert_non_null(strstr(dot, "v3 -> out0"));
    anm_buf_free(&out);
    anm_mil_program_free(&p);
}

/* ---- comparing ---- */

#define HEAD "func f(%x: fp16[2], %y: fp16[2]) -> (%o, %n) opset \"CoreML8\" {\n"
#define GRAPH                                                                                                \
    HEAD "%a: fp16[2] = add(x=%x, y=fp16(1))\n%m: fp16[2] = mul(x=%a, y=%y)\n%k: fp16[2] = weight(1, 2)\n"   \
         "%o: fp16[2] = sub(x=%m, y=%k)\n%n: fp16[2] = exp(x=%a)\n}"

static const struct {
    const char *other, *where; /* NULL: the same graph */
} comparisons[] = {
    {GRAPH, NULL},
    {"func g(%y: fp16[2], %x: fp16[2]) -> (%s, %e) opset \"CoreML7\" {\n" /* other names, other order, a
                                                                             constant twice */
     "%one: fp16[] = weight(1)\n%t: fp16[2] = add(x=%y, y=%one)\n%e: fp16[2] = exp(x=%t)\n%k: fp16[2] = "
     "const(1, 2)\n"
     "%m: fp16[2] = mul(x=%t, y=%x)\n%s: fp16[2] = sub(x=%m, y=%k)\n}",
     NULL},
    {HEAD "%a: fp16[2] = add(x=%x, y=fp16(2))\n%m: fp16[2] = mul(x=%a, y=%y)\n%o: fp16[2] = sub(x=%m, "
          "y=fp16[2](1, 2))\n"
          "%n: fp16[2] = exp(x=%a)\n}",
     "%a, %a: y of add: fp16(1), fp16(2)"},
    {HEAD "%a: fp16[2] = add(x=%x, y=fp16[1](1))\n%m: fp16[2] = mul(x=%a, y=%y)\n%o: fp16[2] = sub(x=%m, "
          "y=fp16[2](1, 2))\n"
          "%n: fp16[2] = exp(x=%a)\n}",
     "%a, %a: y of add: fp16(1), fp16[1](1)"},
    {HEAD "%a: fp16[2] = add(x=%x, y=fp16(1))\n%m: fp16[2] = mul(x=%y, y=%a)\n%o: fp16[2] = sub(x=%m, "
          "y=fp16[2](1, 2))\n"
          "%n: fp16[2] = exp(x=%a)\n}",
     "%m, %m: x of mul: add giving fp16[2], the input %y, fp16[2]"},
    {HEAD "%a: fp16[2] = add(x=%x, y=fp16(1))\n%m: fp16[2] = mul(x=%a, y=%y)\n%k: fp16[2] = weight(1, 3)\n"
          "%o: fp16[2] = sub(x=%m, y=%k)\n%n: fp16[2] = exp(x=%a)\n}",
     "%o, %o: y of sub: a constant fp16[2], a constant fp16[2]; element 1 is 2, 3"},
    {HEAD "%a: fp16[2] = add(x=%x, y=fp16(1))\n%m: fp16[2] = mul(x=%a, y=%y)\n%o: fp16[2] = sub(x=%m, "
          "y=fp16[2](1, 2))\n"
          "%n: fp16[2] = tanh(x=%a)\n}",
     "output 1: exp giving fp16[2], tanh giving fp16[2]"},
    {HEAD "%a: fp16[2] = add(x=%x, y=fp16(1))\n%a2: fp16[2] = add(x=%x, y=fp16(1))\n%m: fp16[2] = mul(x=%a, "
          "y=%y)\n"
          "%o: fp16[2] = sub(x=%m, y=fp16[2](1, 2))\n%n: fp16[2] = exp(x=%a2)\n}",
     "the outputs are the same, but the op add of %a2 occurs 1 times, 2 times"},
    {HEAD "%a: fp16[2] = add(x=%x, y=fp16(1))\n%m: fp16[2] = mul(x=%a, y=%y)\n%o: fp16[2] = sub(x=%m, "
          "y=fp16[2](1, 2))\n"
          "%n: fp16[?] = exp(x=%a)\n}",
     "output 1: exp giving fp16[2], exp giving fp16[?]"},
    {"func f(%x: fp16[2], %y: fp16[3]) -> (%x, %x) opset \"o\" {}",
     "input 1: the input %y, fp16[2], the input %y, fp16[3]"},
    {"func f(%x: fp16[2]) -> (%x, %x) opset \"o\" {}", "2 inputs and 2 outputs, 1 and 2"},
};

static void graphs_are_the_same_or_part_somewhere(void **state)
{
    (void)state;
    anm_mil_program p, q;
    anm_buf where = {0};
    parse(&p, GRAPH);
    for (size_t i = 0; i < sizeof comparisons / sizeof *comparisons; i++) {
        parse(&q, comparisons[i].other);
        bool same = equal(p.functions, q.functions, &where);
        if (!comparisons[i].where != same) fail_msg("%s\n%s", comparisons[i].other, (char *)where.data);
        assert_string_equal((char *)where.data, same ? "" : comparisons[i].where);
        anm_mil_program_free(&q);
    }
    anm_buf_free(&where);
    anm_mil_program_free(&p);
}

/* Many paths lead to one difference: it is found at once all the same. */
static void deep_graphs_compare_in_no_time(void **state)
{
    (void)state;
    anm_mil_program p[2];
    anm_buf where = {0};
    for (int i = 0; i < 2; i++) {
        anm_mil_program_init(&p[i]);
        anm_mil_builder b = anm_mil_build(anm_mil_function_new(&p[i], "f", "o"));
        anm_mil_value *x = anm_mil_input(&b, "x", anm_mil_scalar(ANM_DT_F32));
        x = anm_mil_emit(&b, ANM_OP_ADD, "start", ANM_P_X, x, ANM_P_Y,
                         anm_mil_const_float(&b, ANM_DT_F32, (float)i), ANM_P_END);
        for (int l = 0; l < 20000; l++)
            x = anm_mil_emit(&b, ANM_OP_ADD, "a", ANM_P_X, x, ANM_P_Y, x, ANM_P_END);
        anm_mil_output(&b, x);
        assert_int_equal(b.err.code, 0);
    }
    assert_false(equal(p[0].functions, p[1].functions, &where));
    assert_string_equal((char *)where.data, "%start, %start: y of add: fp32(0), fp32(1)");
    anm_buf_free(&where);
    anm_mil_program_free(&p[0]);
    anm_mil_program_free(&p[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_round_trips),
        cmocka_unit_test(a_large_graph_round_trips),
        cmocka_unit_test(inline_constants_get_out_of_the_way),
        cmocka_unit_test(malformed_text_is_refused_at_its_place),
        cmocka_unit_test(any_text_is_safe),
        cmocka_unit_test(a_picture_has_all_ops),
        cmocka_unit_test(graphs_are_the_same_or_part_somewhere),
        cmocka_unit_test(deep_graphs_compare_in_no_time),
    };
    return cmocka_run_group_tests_name("mil/text", tests, NULL, NULL);
}
