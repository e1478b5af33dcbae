/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The interpreter against values worked out by hand, at least one case for every op of ops.def. A case is the
 * op as text with constant operands, the type of its result, and the result.
 */
#include "test.h"

#include "base/pool.h"
#include "mil/mil.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *op, *type, *want;
} cases[] = {
    /* one element at a time; shapes broadcast from the last dimension on */
    {"add(x=fp32[2](1, 2), y=fp32[2](3, 0.5))", "fp32[2]", "4, 2.5"},
    {"add(x=fp32[2,1](1, 2), y=fp32[3](10, 20, 30))", "fp32[2,3]", "11, 21, 31, 12, 22, 32"},
    {"add(x=2147483647, y=1)", "int32[]", "-2147483648"},
    {"sub(x=fp32[2](1, 2), y=fp32(3))", "fp32[2]", "-2, -1"},
    {"sub(x=[7, -7], y=[9, 9])", "int32[2]", "-2, -16"},
    {"mul(x=fp16[2](1.5, inf), y=fp16[2](-2, 2))", "fp16[2]", "-3, inf"},
    {"mul(x=[3, -4], y=5)", "int32[2]", "15, -20"},
    {"real_div(x=fp32[3](1, -1, 0), y=fp32[3](4, 0, 0))", "fp32[3]", "0.25, -inf, nan"},
    {"maximum(x=fp32[3](1, 5, nan), y=fp32[3](2, -5, 1))", "fp32[3]", "2, 5, nan"},
    {"maximum(x=[-1, 4], y=[-2, 6])", "int32[2]", "-1, 6"},
    {"minimum(x=fp32[3](1, 5, 1), y=fp32[3](2, -5, nan))", "fp32[3]", "1, -5, nan"},
    {"minimum(x=[-1, 4], y=[-2, 6])", "int32[2]", "-2, 4"},
    {"pow(x=fp32[3](2, 9, 2), y=fp32[3](10, 0.5, -1))", "fp32[3]", "1024, 3, 0.5"},
    {"greater_equal(x=[1, 2, 3], y=2)", "bool[3]", "false, true, true"},
    {"greater_equal(x=fp32[2](nan, 1), y=fp32(1))", "bool[2]", "false, true"},
    {"greater(x=[1, 2, 3], y=2)", "bool[3]", "false, false, true"},
    {"less(x=[1, 2, 3], y=2)", "bool[3]", "true, false, false"},
    {"less_equal(x=[1, 2, 3], y=2)", "bool[3]", "true, true, false"},
    {"equal(x=[1, 2, 3], y=2)", "bool[3]", "false, true, false"},
    {"not_equal(x=fp32[3](1, 2, nan), y=fp32[3](1, 3, nan))", "bool[3]", "false, true, true"},
    {"select(cond=[true, false], a=fp16[2](1, 2), b=fp16(-5))", "fp16[2]", "1, -5"},
    {"select(cond=bool[2,1](false, true), a=[1, 2], b=[3, 4])", "int32[2,2]", "3, 4, 1, 2"},
    {"cast(x=fp32[4](1.9, -1.9, nan, 1e20), dtype=\"int32\")", "int32[4]", "1, -1, 0, 2147483647"},
    {"cast(x=[65537, -1], dtype=\"int16\")", "int16[2]", "1, -1"},
    {"cast(x=[257, -1], dtype=\"uint8\")", "uint8[2]", "1, 255"},
    {"cast(x=[0, 7], dtype=\"bool\")", "bool[2]", "false, true"},
    {"cast(x=[true, false], dtype=\"fp32\")", "fp32[2]", "1, 0"},
    {"cast(x=fp32[1](0.5), dtype=\"fp16\")", "fp16[1]", "0.5"},

    {"rsqrt(x=fp32[2](4, 0.0625))", "fp32[2]", "0.5, 4"},
    {"rsqrt(x=fp16[1](3), epsilon=fp32(1))", "fp16[1]", "0.5"},
    {"rsqrt(x=fp32[1](0))", "fp32[1]", "1000000"}, /* epsilon is 1e-12 when it is left out */
    {"sqrt(x=fp32[2](9, 2))", "fp32[2]", "3, 1.41421356"},
    {"square(x=fp32[2](-3, 0.5))", "fp32[2]", "9, 0.25"},
    {"square(x=[-3, 4])", "int32[2]", "9, 16"},
    {"inverse(x=fp32[2](4, -0.5), epsilon=fp32(0))", "fp32[2]", "0.25, -2"},
    {"inverse(x=fp32[1](0))", "fp32[1]", "10000"},
    {"exp(x=fp32[3](0, 1, -inf))", "fp32[3]", "1, 2.71828183, 0"},
    {"abs(x=fp32[2](-3, 0.5))", "fp32[2]", "3, 0.5"},
    {"abs(x=[-3, 4])", "int32[2]", "3, 4"},
    {"tanh(x=fp32[3](0, 0.5, -20))", "fp32[3]", "0, 0.462117157, -1"},
    {"sigmoid(x=fp32[3](0, 2, -200))", "fp32[3]", "0.5, 0.880797078, 0"},
    {"silu(x=fp32[3](0, 2, -1))", "fp32[3]", "0, 1.76159416, -0.268941421"},
    {"relu(x=fp32[3](-1, 0, 2))", "fp32[3]", "0, 0, 2"},
    {"gelu(x=fp32[2](1, -1))", "fp32[2]", "0.841344746, -0.158655254"},
    {"gelu(x=fp32[1](1), mode=\"TANH_APPROXIMATION\")", "fp32[1]", "0.841191991"},
    {"gelu(x=fp32[1](1), mode=\"SIGMOID_APPROXIMATION\")", "fp32[1]", "0.845795766"},
    {"identity(x=fp32[2](1, 2))", "fp32[2]", "1, 2"},
    {"identity(x=[true, false])", "bool[2]", "true, false"},

    /* along axes */
    {"softmax(x=fp32[2,2](0, 0, 1000, 999))", "fp32[2,2]", "0.5, 0.5, 0.731058579, 0.268941421"},
    {"softmax(x=fp32[2,2](0, 1000, 0, 999), axis=0)", "fp32[2,2]", "0.5, 0.731058579, 0.5, 0.268941421"},
    {"softmax(x=fp32[2,2](-inf, 3, -inf, -inf))", "fp32[2,2]", "0, 1, 0, 0"}, /* nothing to see: zeros */
    {"reduce_mean(x=fp32[2,3](1, 2, 3, 4, 5, 9), axes=[-1], keep_dims=true)", "fp32[2,1]", "2, 6"},
    {"reduce_mean(x=fp32[2,3](1, 2, 3, 4, 5, 9), axes=[0])", "fp32[3]", "2.5, 3.5, 6"},
    {"reduce_mean(x=fp32[2,3](1, 2, 3, 4, 5, 9))", "fp32[]", "4"},
    {"reduce_sum(x=fp32[2,1,2](1, 2, 3, 4), axes=[2, 0])", "fp32[1]", "10"},
    {"reduce_sum(x=int32[2,2](1, 2, 3, 4), axes=[0], keep_dims=true)", "int32[1,2]", "4, 6"},
    {"reduce_max(x=fp32[2,2](-1, -2, 3, nan), axes=[1])", "fp32[2]", "-1, nan"},
    {"reduce_max(x=int32[2,2](-1, -2, 3, 4), axes=[0])", "int32[2]", "3, 4"},
    {"reduce_min(x=fp32[2,2](-1, -2, 3, 4), axes=[1])", "fp32[2]", "-2, 3"},
    {"reduce_min(x=int32[2,2](5, 7, 3, 8), axes=[0])", "int32[2]", "3, 7"},
    {"reduce_sum_square(x=fp32[3](1, -2, 3))", "fp32[]", "14"},
    {"reduce_sum_square(x=int32[3](1, -2, 3))", "int32[]", "14"},
    {"reduce_l2_norm(x=fp32[2,2](3, 4, 6, 8), axes=[-1])", "fp32[2]", "5, 10"},

    /* products */
    {"linear(x=fp32[2,2](1, 2, 3, 4), weight=fp32[3,2](1, 0, 0, 1, 1, 1))", "fp32[2,3]", "1, 2, 3, 3, 4, 7"},
    {"linear(x=fp16[2](1, 2), weight=fp16[1,2](3, 4), bias=fp16[1](-1))", "fp16[1]", "10"},
    {"matmul(x=fp32[2,2](1, 2, 3, 4), y=fp32[2,2](5, 6, 7, 8))", "fp32[2,2]", "19, 22, 43, 50"},
    {"matmul(x=fp32[2,2](1, 2, 3, 4), y=fp32[2,2](5, 6, 7, 8), transpose_y=true)", "fp32[2,2]",
     "17, 23, 39, 53"},
    {"matmul(x=fp32[2,2](1, 2, 3, 4), y=fp32[2,2](5, 6, 7, 8), transpose_x=true)", "fp32[2,2]",
     "26, 30, 38, 44"},
    {"matmul(x=fp32[2,1,2](1, 2, 3, 4), y=fp32[1,2,1](1, 10))", "fp32[2,1,1]", "21, 43"},
    {"matmul(x=fp32[2](1, 2), y=fp32[2,2](5, 6, 7, 8))", "fp32[2]", "19, 22"},
    {"matmul(x=fp32[2,2](1, 2, 3, 4), y=fp32[2](1, 10))", "fp32[2]", "21, 43"},
    {"matmul(x=fp32[2](1, 2), y=fp32[2](3, 4))", "fp32[]", "11"},
    /* scores (2 * 1, 2 * 0) / sqrt(4) */
    {"scaled_dot_product_attention(query=fp32[1,1,4](2, 0, 0, 0), key=fp32[1,2,4](1, 0, 0, 0, 0, 0, 0, 0), "
     "value=fp32[1,2,1](1, 0))",
     "fp32[1,1,1]", "0.731058579"},
    {"scaled_dot_product_attention(query=fp32[1,2,1](5, 5), key=fp32[1,2,1](1, 1), value=fp32[1,2,1](3, 8), "
     "attn_mask=bool[2,2](true, false, false, true))",
     "fp32[1,2,1]", "3, 8"},
    {"scaled_dot_product_attention(query=fp32[2,1,1](1, 1), key=fp32[2,2,1](1, 1, 1, 1), "
     "value=fp32[2,2,1](3, 8, 1, 2), "
     "attn_mask=fp32[1,2](-inf, 0))",
     "fp32[2,1,1]", "8, 2"},

    /* shapes */
    {"reshape(x=[1, 2, 3, 4, 5, 6], shape=[2, -1])", "int32[2,3]", "1, 2, 3, 4, 5, 6"},
    {"reshape(x=fp32[2,2](1, 2, 3, 4), shape=[0, 2])", "fp32[2,2]", "1, 2, 3, 4"},
    {"transpose(x=int32[2,3](1, 2, 3, 4, 5, 6), perm=[1, 0])", "int32[3,2]", "1, 4, 2, 5, 3, 6"},
    {"transpose(x=int32[1,2,3](1, 2, 3, 4, 5, 6), perm=[-1, 0, 1])", "int32[3,1,2]", "1, 4, 2, 5, 3, 6"},
    {"squeeze(x=int32[1,2,1](1, 2))", "int32[2]", "1, 2"},
    {"squeeze(x=int32[1,2,1](1, 2), axes=[-1])", "int32[1,2]", "1, 2"},
    {"expand_dims(x=[1, 2], axes=[0, -1])", "int32[1,2,1]", "1, 2"},
    {"tile(x=int32[1,2](1, 2), reps=[2, 2])", "int32[2,4]", "1, 2, 1, 2, 1, 2, 1, 2"},
    {"concat(values=([1, 2], [3]), axis=0)", "int32[3]", "1, 2, 3"},
    {"concat(values=(int32[2,1](1, 2), int32[2,2](3, 4, 5, 6)), axis=-1)", "int32[2,3]", "1, 3, 4, 2, 5, 6"},
    {"concat(values=([1, 2], [3, 4]), axis=0, interleave=true)", "int32[4]", "1, 3, 2, 4"},
    {"concat(values=(7, 8), axis=0)", "int32[2]", "7, 8"}, /* scalars make a list */
    {"stack(values=([1, 2], [3, 4]), axis=0)", "int32[2,2]", "1, 2, 3, 4"},
    {"stack(values=([1, 2], [3, 4]), axis=-1)", "int32[2,2]", "1, 3, 2, 4"},
    {"slice_by_index(x=int32[2,3](1, 2, 3, 4, 5, 6), begin=[0, 1], end=[2, 3])", "int32[2,2]", "2, 3, 5, 6"},
    {"slice_by_index(x=int32[2,3](1, 2, 3, 4, 5, 6), begin=[-1, -2], end=[0, -1], end_mask=[true, false])",
     "int32[1,1]", "5"},
    {"slice_by_index(x=[1, 2, 3, 4, 5], begin=[9], end=[4], begin_mask=[true], stride=[2])", "int32[2]",
     "1, 3"},
    {"slice_by_index(x=[1, 2, 3, 4, 5], begin=[0], end=[0], begin_mask=[true], end_mask=[true], stride=[-2])",
     "int32[3]", "5, 3, 1"},
    {"slice_by_index(x=[1, 2, 3, 4, 5], begin=[3], end=[0], stride=[-1])", "int32[3]", "4, 3, 2"},
    {"slice_by_index(x=int32[2,3](1, 2, 3, 4, 5, 6), begin=[1, -1], end=[0, 0], squeeze_mask=[true, true])",
     "int32[]", "6"},
    {"slice_by_index(x=[1, 2, 3], begin=[2], end=[99])", "int32[1]", "3"},
    {"slice_by_size(x=int32[2,3](1, 2, 3, 4, 5, 6), begin=[1, -2], size=[1, 2])", "int32[1,2]", "5, 6"},
    {"slice_by_size(x=int32[2,3](1, 2, 3, 4, 5, 6), begin=[0, 1], size=[2, -1])", "int32[2,2]", "2, 3, 5, 6"},
    {"gather(x=fp32[3,2](1, 2, 3, 4, 5, 6), indices=[2, 0])", "fp32[2,2]", "5, 6, 1, 2"},
    {"gather(x=int32[2,3](1, 2, 3, 4, 5, 6), indices=int32[1,2](-1, 0), axis=-1)", "int32[2,1,2]",
     "3, 1, 6, 4"},
    {"gather(x=int32[2,3](1, 2, 3, 4, 5, 6), indices=int32[2,1](2, 0), axis=1, batch_dims=1)", "int32[2,1]",
     "3, 4"},
    {"gather(x=[5, 6, 7], indices=1, axis=0, validate_indices=true)", "int32[]", "6"},
    {"shape(x=fp32[2,0,3]())", "int32[3]", "2, 0, 3"},

    /* weights in few bits: scale * (code - offset), a scale per block */
    {"constexpr_blockwise_shift_scale(data=int4[2,2](-8, 7, 1, 2), scale=fp32[2,1](0.5, 2))", "fp32[2,2]",
     "-4, 3.5, 2, 4"},
    {"constexpr_blockwise_shift_scale(data=uint4[1,4](15, 1, 2, 3), scale=fp32[1,2](1, 10))", "fp32[1,4]",
     "15, 1, 20, 30"},
    {"constexpr_blockwise_shift_scale(data=uint8[2,2](255, 1, 2, 3), scale=fp32[1,1](2), "
     "offset=uint8[1,1](128))",
     "fp32[2,2]", "254, -254, -252, -250"},
    {"constexpr_blockwise_shift_scale(data=int8[3](1, 2, 3), scale=fp32[3](1, 2, 3), offset=fp32[3](0.5, 0, "
     "1))",
     "fp32[3]", "0.5, 4, 6"},
    {"constexpr_blockwise_shift_scale(data=int8[4,4](1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16), "
     "scale=fp32[2,2](1, 10, 100, 1000))",
     "fp32[4,4]", "1, 2, 30, 40, 5, 6, 70, 80, 900, 1000, 11000, 12000, 1300, 1400, 15000, 16000"},
    {"constexpr_blockwise_shift_scale(data=int8[2,2,2](1, 2, 3, 4, 5, 6, 7, 8), scale=fp32[2,1,2](1, 10, "
     "100, 1000))",
     "fp32[2,2,2]", "1, 20, 3, 40, 500, 6000, 700, 8000"},
    /* 7 times the fp16 nearest to 0.1, and that rounded to fp16 */
    {"constexpr_blockwise_shift_scale(data=int8[1](7), scale=fp16[1](0.1))", "fp16[1]", "0.69970703125"},
};

static char *text_of(const char *op, const char *type, const char *want)
{
    static char text[4096];
    snprintf(text, sizeof text,
             "func main() -> (%%y, %%want) opset \"CoreML8\" {\n%%want: %s = const(%s)\n%%y: %s = %s\n}",
             type, want, type, op);
    return text;
}

static bool near(const anm_mil_array *a, const anm_mil_array *b)
{
    int64_t n;
    if (!anm_mil_type_equal(&a->type, &b->type) || !anm_mil_type_count(&a->type, &n)) return false;
    bool is_float = anm_dtype_class(a->type.dtype) == 'f';
    for (int64_t i = 0; i < n; i++) {
        if (!is_float && a->i[i] != b->i[i]) return false;
        if (!is_float || a->f[i] == b->f[i] || (isnan(a->f[i]) && isnan(b->f[i]))) continue;
        if (isnan(a->f[i]) || isnan(b->f[i]) || isinf(a->f[i]) || isinf(b->f[i])) return false;
        /* in the table fp16 constants are what fp16 can hold, the result need not be */
        if (fabsf(a->f[i] - b->f[i]) > (a->type.dtype == ANM_DT_F16 ? 3e-5f : 2e-7f) * fabsf(b->f[i]))
            return false;
    }
    return true;
}

static void run_case(const char *op, const char *type, const char *want)
{
    anm_mil_program p;
    anm_error err;
    anm_mil_array out[2];
    char *text = text_of(op, type, want);
    if (anm_mil_parse(&p, text, strlen(text), &err) || anm_mil_verify(&p, true, &err) ||
        anm_mil_interp(out, p.functions, NULL, NULL, &err))
        fail_msg("%s: %s", op, err.text);
    if (!near(&out[0], &out[1])) {
        int64_t n;
        bool is_float = anm_dtype_class(out[0].type.dtype) == 'f';
        anm_mil_type_count(&out[0].type, &n);
        for (int64_t i = 0; i < n; i++)
            print_error("  %.9g for %.9g\n", is_float ? (double)out[0].f[i] : out[0].i[i],
                        is_float ? (double)out[1].f[i] : out[1].i[i]);
        fail_msg("%s: not %s", op, want);
    }
    anm_mil_array_free(&out[0]);
    anm_mil_array_free(&out[1]);
    anm_mil_program_free(&p);
}

static void every_op_gives_the_values_worked_by_hand(void **state)
{
    (void)state;
    bool seen[ANM_OP_COUNT] = {false};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char name[64] = {0};
        memcpy(name, cases[i].op, strcspn(cases[i].op, "("));
        seen[anm_mil_op_of_name(name)] = true;
        run_case(cases[i].op, cases[i].type, cases[i].want);
    }
    seen[ANM_OP_SPLIT] = true; /* several results: below */
    for (int op = 1; op < ANM_OP_COUNT; op++)
        if (!seen[op]) fail_msg("no case for %s", anm_mil_op_name((anm_mil_opcode)op));
}

/* Runs the one function of `text`; the program stays in `p`. */
static int run_text(anm_mil_program *p, const char *text, anm_mil_array *out, const anm_mil_array *in,
                    const anm_mil_interp_opts *opts, anm_error *err)
{
    int bad = anm_mil_parse(p, text, strlen(text), err);
    if (!bad) bad = anm_mil_verify(p, true, err);
    return bad ? bad : anm_mil_interp(out, p->functions, in, opts, err);
}

/* A slice may begin where a narrow integer says, computed or not. */
static void narrow_integers_say_where_a_slice_is(void **state)
{
    (void)state;
    static const char *const types[] = {"int8", "uint8", "int16", "uint16", "int32"};
    static const char form[] = "func main(%%b: int32[2]) -> (%%y, %%z) opset \"o\" {\n"
                               "%%n: %s[2] = cast(x=%%b, dtype=\"%s\")\n"
                               "%%y: int32[1,2] = slice_by_size(x=int32[2,3](1, 2, 3, 4, 5, 6), begin=%%n, size=[1, 2])\n"
                               "%%z: int32[?,?] = slice_by_index(x=int32[2,3](1, 2, 3, 4, 5, 6), begin=%%n, end=[2, 3])\n}";
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        anm_mil_program p;
        anm_error err;
        anm_mil_array out[2];
        int32_t at[2] = {1, 1};
        const anm_mil_array in = {.type = {ANM_DT_I32, 1, {2}}, .i = at};
        char text[512];
        snprintf(text, sizeof text, form, types[i], types[i]);
        if (run_text(&p, text, out, &in, NULL, &err)) fail_msg("%s: %s", types[i], err.text);
        for (int k = 0; k < 2; k++) {
            assert_memory_equal(out[k].i, ((int32_t[]){5, 6}), 8);
            anm_mil_array_free(&out[k]);
        }
        anm_mil_program_free(&p);
    }
}

/* Nothing is done for results without elements, however long their other dimensions are. */
static void emptiness_takes_no_time(void **state)
{
    (void)state;
    static const char text[] = "func main(%x: fp32[1152921504606846976,0]) -> (%s, %c, %l) opset \"o\" {\n"
                               "%s: fp32[1152921504606846976,0] = softmax(x=%x, axis=0)\n"
                               "%c: fp32[1152921504606846976,0] = concat(values=(%x, %x), axis=1)\n"
                               "%l: fp32[0,1152921504606846976] = transpose(x=%x, perm=[1, 0])\n}";
    anm_mil_program p;
    anm_error err;
    anm_mil_array out[3];
    float none = 0;
    const anm_mil_array in = {.type = {ANM_DT_F32, 2, {1152921504606846976, 0}}, .f = &none};
    if (run_text(&p, text, out, &in, NULL, &err)) fail_msg("%s", err.text);
    for (int k = 0; k < 3; k++) anm_mil_array_free(&out[k]);
    anm_mil_program_free(&p);
}

/* A 0 hides no product of the other dimensions that overflows: strides are made of those. */
static void emptiness_hides_nothing(void **state)
{
    (void)state;
    static const char text[] = "func main(%x: fp32[0,1099511627776,1099511627776]) -> (%s) opset \"o\" {\n"
                               "%s: fp32[1] = reduce_sum(x=%x, axes=[0, 1, 2], keep_dims=false)\n}";
    anm_mil_program p;
    anm_error err;
    if (!anm_mil_parse(&p, text, strlen(text), &err)) assert_int_equal(anm_mil_verify(&p, true, &err), ANM_ERR_FORMAT);
    assert_non_null(strstr(err.text, "%x: its dimensions multiply to more than 2^63"));
    anm_mil_program_free(&p);
}

static void split_gives_its_parts(void **state)
{
    (void)state;
    anm_mil_program p;
    anm_error err;
    anm_mil_array out[4];
    const char *text =
        "func main() -> (%a, %b, %c, %d) opset \"CoreML8\" {\n"
        "%a: int32[2,1], %b: int32[2,2] = split(x=int32[2,3](1, 2, 3, 4, 5, 6), axis=-1, split_sizes=[1, "
        "2])\n"
        "%c: int32[1,2], %d: int32[1,2] = split(x=int32[2,2](1, 2, 3, 4), axis=0, num_splits=2)\n}";
    if (run_text(&p, text, out, NULL, NULL, &err)) fail_msg("%s", err.text);
    assert_memory_equal(out[0].i, ((int32_t[]){1, 4}), 8);
    assert_memory_equal(out[1].i, ((int32_t[]){2, 3, 5, 6}), 16);
    assert_memory_equal(out[2].i, ((int32_t[]){1, 2}), 8);
    assert_memory_equal(out[3].i, ((int32_t[]){3, 4}), 8);
    for (int i = 0; i < 4; i++)
        anm_mil_array_free(&out[i]);
    anm_mil_program_free(&p);
}

/* Inputs, a computed slice, an input and a constant given straight back, one value given twice. */
static void computed_shapes_and_all_kinds_of_outputs(void **state)
{
    (void)state;
    anm_mil_program p;
    anm_error err;
    anm_mil_array out[5];
    float table[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    int32_t at[1] = {1};
    const anm_mil_array in[2] = {{.type = {ANM_DT_F32, 2, {4, 2}}, .f = table},
                                 {.type = {ANM_DT_I32, 1, {1}}, .i = at}};
    const char *text =
        "func main(%t: fp32[4,2], %pos: int32[1]) -> (%rows, %sum, %sum, %t, %k) opset \"CoreML8\" {\n"
        "%k: int32[2] = const(5, 6)\n"
        "%from: int32[] = squeeze(x=%pos)\n"
        "%to: int32[] = add(x=%from, y=2)\n"
        "%begin: int32[2] = concat(values=(%from, 0), axis=0)\n"
        "%end: int32[2] = concat(values=(%to, 2), axis=0)\n"
        "%rows: fp32[?,?] = slice_by_index(x=%t, begin=%begin, end=%end)\n"
        "%sum: fp32[2,1] = reshape(x=%s, shape=[2,1])\n}";
    char whole[2048]; /* put the reduction before the reshape that uses it */
    snprintf(whole, sizeof whole, "%.*s%%s: fp32[?] = reduce_sum(x=%%rows, axes=[1])\n%s",
             (int)(strstr(text, "%sum: ") - text), text, strstr(text, "%sum: "));
    if (run_text(&p, whole, out, in, NULL, &err)) fail_msg("%s", err.text);
    assert_int_equal(out[0].type.dim[0], 2);
    assert_memory_equal(out[0].f, ((float[]){3, 4, 5, 6}), 16);
    assert_memory_equal(out[1].f, ((float[]){7, 11}), 8);
    assert_memory_equal(out[2].f, ((float[]){7, 11}), 8);
    assert_memory_equal(out[3].f, table, sizeof table);
    assert_memory_equal(out[4].i, ((int32_t[]){5, 6}), 8);
    for (int i = 0; i < 5; i++)
        anm_mil_array_free(&out[i]);

    at[0] = 3; /* only one row is left, and the reshape wants two */
    assert_int_equal(anm_mil_interp(out, p.functions, in, NULL, &err), ANM_ERR_FORMAT);
    assert_string_equal(err.text, "%sum: reshape: fp32[1] cannot become fp32[2,1]");
    anm_mil_program_free(&p);
}

static void collect(void *ctx, const anm_mil_op *op, const anm_mil_array *result)
{
    char *names = ctx;
    snprintf(names + strlen(names), 256 - strlen(names), "%s=%g ", anm_mil_op_name(op->code),
             (double)result->f[0]);
}

static void fp16_rounds_every_result(void **state)
{
    (void)state;
    anm_mil_program p;
    anm_error err;
    anm_mil_array out[1];
    char seen[256] = "";
    float x[1] = {300.1f};
    const anm_mil_array in[1] = {{.type = {ANM_DT_F16, 1, {1}}, .f = x}};
    const anm_mil_interp_opts rounds = {.round_fp16 = true, .after = collect, .ctx = seen};
    const char *text = "func main(%x: fp16[1]) -> (%m) opset \"CoreML8\" {\n"
                       "%s: fp16[1] = mul(x=%x, y=%x)\n%c: fp32[1] = cast(x=%x, dtype=\"fp32\")\n"
                       "%h: fp16[1] = cast(x=%c, dtype=\"fp16\")\n%m: fp16[1] = rsqrt(x=%s)\n}";
    if (run_text(&p, text, out, in, &rounds, &err)) fail_msg("%s", err.text);
    assert_string_equal(
        seen, "mul=inf cast=300 cast=300 rsqrt=0 "); /* 90,000 is more than fp16 holds; 300.1 is 300 there */
    anm_mil_array_free(&out[0]);
    if (anm_mil_interp(out, p.functions, in, NULL, &err)) fail_msg("%s", err.text);
    assert_true(fabsf(out[0].f[0] - 1 / 300.1f) < 1e-8f);
    assert_true(x[0] == 300.1f);
    anm_mil_array_free(&out[0]);
    anm_mil_program_free(&p);
}

/* A weight of 19 rows and a scale per block of 32: each row of the answer is the same alone, beside others,
 * and with threads; and the same as with the weight given as plain numbers. */
static void a_row_does_not_depend_on_its_neighbours(void **state)
{
    (void)state;
    enum { ROWS = 11, K = 64, N = 19 };
    anm_mil_program p;
    anm_error err;
    anm_mil_program_init(&p);
    anm_mil_builder b = anm_mil_build(anm_mil_function_new(&p, "main", "CoreML8"));
    static uint8_t codes[N * K / 2], scales[N * 2 * 4];
    static float x[ROWS * K], plain[N * K];
    unsigned r = 1;
    for (size_t i = 0; i < sizeof codes; i++)
        codes[i] = (uint8_t)((r = r * 1103515245u + 12345u) >> 16);
    for (int i = 0; i < N * 2; i++)
        memcpy(scales + 4 * i, &(float){(float)(i + 1) * 0.01f}, 4);
    for (int i = 0; i < ROWS * K; i++)
        x[i] = (float)((r = r * 1103515245u + 12345u) >> 16 & 0xff) * 0.013f - 1.5f;
    for (int i = 0; i < N * K; i++) {
        int code = codes[i / 2] >> (i % 2 * 4) & 15;
        plain[i] = (float)(i / 32 + 1) * 0.01f * (float)(code < 8 ? code : code - 16);
    }
    anm_mil_value *in =
        anm_mil_input(&b, "x", anm_mil_tensor(ANM_DT_F32, 2, (int64_t[]){ANM_MIL_UNKNOWN_DIM, K}));
    anm_mil_value *w = anm_mil_const_blob(&b, "w", anm_mil_tensor(ANM_DT_I4, 2, (int64_t[]){N, K}),
                                          (anm_blob){.size = sizeof codes, .data = codes});
    anm_mil_value *s = anm_mil_const_blob(&b, "s", anm_mil_tensor(ANM_DT_F32, 2, (int64_t[]){N, 2}),
                                          (anm_blob){.size = sizeof scales, .data = scales});
    anm_mil_value *f = anm_mil_const_blob(&b, "f", anm_mil_tensor(ANM_DT_F32, 2, (int64_t[]){N, K}),
                                          (anm_blob){.size = sizeof plain, .data = (const uint8_t *)plain});
    anm_mil_value *q = anm_mil_emit(&b, ANM_OP_CONSTEXPR_BLOCKWISE_SHIFT_SCALE, "q", ANM_P_DATA, w,
                                    ANM_P_SCALE, s, ANM_P_END);
    anm_mil_output(&b, anm_mil_emit(&b, ANM_OP_LINEAR, "a", ANM_P_X, in, ANM_P_WEIGHT, q, ANM_P_END));
    anm_mil_output(&b, anm_mil_emit(&b, ANM_OP_LINEAR, "b", ANM_P_X, in, ANM_P_WEIGHT, f, ANM_P_END));
    assert_int_equal(b.err.code, 0);
    assert_int_equal(anm_mil_verify(&p, true, &err), 0);

    anm_pool *pool;
    assert_int_equal(anm_pool_new(&pool, 3, &err), 0);
    anm_mil_array all[2], one[2];
    anm_mil_interp_opts opts = {.pool = pool};
    anm_mil_array inputs = {.type = {ANM_DT_F32, 2, {ROWS, K}}, .f = x};
    assert_int_equal(anm_mil_interp(all, b.fn, &inputs, &opts, &err), 0);
    assert_memory_equal(all[0].f, all[1].f, ROWS * N * 4);
    for (int row = 0; row < ROWS; row++) {
        inputs = (anm_mil_array){.type = {ANM_DT_F32, 2, {1, K}}, .f = x + row * K};
        assert_int_equal(anm_mil_interp(one, b.fn, &inputs, NULL, &err), 0);
        assert_memory_equal(one[0].f, all[0].f + row * N, N * 4);
        anm_mil_array_free(&one[0]);
        anm_mil_array_free(&one[1]);
    }
    double sum = 0;
    for (int k = 0; k < K; k++)
        sum += (double)x[5 * K + k] * (double)plain[7 * K + k];
    assert_true(all[0].f[5 * N + 7] == (float)sum);
    anm_mil_array_free(&all[0]);
    anm_mil_array_free(&all[1]);
    anm_pool_free(pool);
    anm_mil_program_free(&p);
}

static void refuses(const char *text, const anm_mil_array *in, int code, const char *why)
{
    anm_mil_program p;
    anm_error err;
    anm_mil_array out[4];
    if (anm_mil_parse(&p, text, strlen(text), &err) || anm_mil_verify(&p, false, &err))
        fail_msg("%s", err.text);
    assert_int_equal(anm_mil_interp(out, p.functions, in, NULL, &err), code);
    assert_string_equal(err.text, why);
    anm_mil_program_free(&p);
}

/* 3 bits are -3 … 3: a block of 3 and 1.4 has the scale 1, one of 0.6 and -0.31 has 0.2, a third of nothing none. */
static void linear_takes_what_its_inputs_are_rounded_to(void **state)
{
    (void)state;
    static const char text[] = "func f(%x: fp32[1, 5]) -> (%y) opset \"o\" { %y: fp32[1, 1] = linear(x=%x, "
                               "weight=fp32[1,5](1, 10, 100, 1000, 10000)) }";
    anm_mil_program p;
    anm_error err;
    anm_mil_array out = {0};
    float x[5] = {3, 1.4f, 0.6f, -0.31f, 0};
    const anm_mil_array in = {.type = {ANM_DT_F32, 2, {1, 5}}, .f = x};
    anm_mil_interp_opts opts = {.linear = {3, 2}};
    if (anm_mil_parse(&p, text, strlen(text), &err) || anm_mil_verify(&p, false, &err)) fail_msg("%s", err.text);
    assert_int_equal(anm_mil_interp(&out, p.functions, &in, &opts, &err), 0);
    assert_true(fabsf(out.f[0] - (3 + 10 + 60 - 400)) < 1e-3f);
    anm_mil_array_free(&out);
    assert_int_equal(anm_mil_interp(&out, p.functions, &in, NULL, &err), 0);
    assert_true(fabsf(out.f[0] - (3 + 14 + 60 - 310)) < 1e-3f);
    anm_mil_array_free(&out);
    anm_mil_program_free(&p);
}

static void what_cannot_run_says_why(void **state)
{
    (void)state;
    float x[4] = {0};
    const anm_mil_array two = {.type = {ANM_DT_F32, 1, {2}}, .f = x}, none = {.type = {ANM_DT_F32, 1, {2}}};
    refuses("func f(%x: fp32[3]) -> (%x) opset \"o\" {}", &two, ANM_ERR_USAGE,
            "%x is fp32[2], declared fp32[3]");
    refuses("func f(%x: fp32[2]) -> (%x) opset \"o\" {}", &none, ANM_ERR_USAGE,
            "%x is fp32[2], declared fp32[2]");
    refuses("func f() -> (%y) opset \"o\" { %y: int32[] = gather(x=[1,2], indices=2) }", NULL, ANM_ERR_LIMIT,
            "%y: gather: index 2 of a dimension of 2");
    refuses("func f() -> (%y) opset \"o\" { %y: int32[] = gather(x=[1,2], indices=-3) }", NULL, ANM_ERR_LIMIT,
            "%y: gather: index -3 of a dimension of 2");
    refuses("func f() -> (%y) opset \"o\" { %y: int32[] = conv(x=[1,2]) }", NULL, ANM_ERR_UNSUPPORTED,
            "%y: conv: an op that anemone does not know");
    refuses("func f() -> (%y) opset \"o\" { %w: fp32[2] = weight(@64) %y: fp32[2] = exp(x=%w) }", NULL,
            ANM_ERR_USAGE, "%y: %w: its bytes are not at hand");
    const anm_mil_array single = {.type = {ANM_DT_F32, 1, {1}}, .f = x};
    refuses("func f(%x: fp32[?]) -> (%y) opset \"o\" { %y: fp32[?] = squeeze(x=%x) }", &single, ANM_ERR_USAGE,
            "%y: %y is fp32[], declared fp32[?]");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_op_gives_the_values_worked_by_hand),
        cmocka_unit_test(narrow_integers_say_where_a_slice_is), cmocka_unit_test(emptiness_takes_no_time),
        cmocka_unit_test(emptiness_hides_nothing),
        cmocka_unit_test(split_gives_its_parts),
        cmocka_unit_test(computed_shapes_and_all_kinds_of_outputs),
        cmocka_unit_test(fp16_rounds_every_result),
        cmocka_unit_test(a_row_does_not_depend_on_its_neighbours),
        cmocka_unit_test(linear_takes_what_its_inputs_are_rounded_to),
        cmocka_unit_test(what_cannot_run_says_why),
    };
    return cmocka_run_group_tests_name("mil/interp", tests, NULL, NULL);
}
