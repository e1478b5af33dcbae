/* SPDX-License-Identifier: BSD-3-Clause */
/* The type rules, what they refuse and what they make of unknown dimensions; and each refusal of the
 * verifier. */
#include "test.h"

#include "base/buf.h"
#include "mil/mil.h"

#include <stdio.h>
#include <string.h>

/* Operands by name: their types are declared in the function's signature. */
#define INPUTS                                                                                               \
    "%s: fp16[], %a: fp16[2,3], %b: fp16[3], %u: fp16[?,3], %uu: fp16[?,?], %f: fp32[2,3], %i: int32[2,3], " \
    "%z: bool[2,3], %n: int32[2], %m: int32[?], %c: int32[], %q: fp16[1,4,5,8], %k: fp16[1,4,7,8], %v: "     \
    "fp16[1,4,7,6], "                                                                                        \
    "%h: int16[2], %r8: fp16[1,1,1,1,1,1,1,1], %d: int8[2,4]"

static const struct {
    const char *op;
    const char *type; /* of the result, or with '!' in front: why it is refused */
} rules[] = {
    {"add(x=%a, y=%b)", "fp16[2,3]"},
    {"add(x=%u, y=%a)", "fp16[2,3]"},
    {"add(x=%u, y=%b)", "fp16[?,3]"},
    {"add(x=%uu, y=fp16[1,3](1, 2, 3))", "fp16[?,3]"},
    {"add(x=%uu, y=%s)", "fp16[?,?]"},
    {"add(x=%a, y=%f)", "!add: x is fp16 but y is fp32"},
    {"add(x=%z, y=%z)", "!add: x of type bool"},
    {"add(x=%a, y=fp16[2](1, 2))", "!add: fp16[2,3] and fp16[2] do not broadcast"},
    {"add(x=%a)", "!add: y is missing"},
    {"add(x=%a, y=%a, axis=0)", "!add: it has no parameter axis"},
    {"add(x=%a, y=%a, colour=0)", "!add: it has no parameter colour"},
    {"add(x=%a, x=%a, y=%a)", "!add: x is given twice"},
    {"add(x=(%a, %a), y=%a)", "!add: x has 2 values"},
    {"add(x=(), y=%a)", "!add: x is missing"},
    {"pow(x=%i, y=%i)", "!pow: x of type int32"},
    {"real_div(x=%i, y=%i)", "!real_div: x of type int32"},
    {"less(x=%i, y=%c)", "bool[2,3]"},
    {"less(x=%z, y=%z)", "!less: x of type bool"},
    {"select(cond=%z, a=%a, b=%s)", "fp16[2,3]"},
    {"select(cond=%a, a=%a, b=%a)", "!select: cond of type fp16"},
    {"select(cond=%z, a=%a, b=%f)", "!select: a is fp16 but b is fp32"},
    {"cast(x=%u, dtype=\"int32\")", "int32[?,3]"},
    {"cast(x=%u, dtype=\"int4\")", "!cast: cast to \"int4\""},
    {"cast(x=%u, dtype=%c)", "!cast: dtype is not a constant string"},
    {"exp(x=%u)", "fp16[?,3]"},
    {"exp(x=%i)", "!exp: x of type int32"},
    {"abs(x=%i)", "int32[2,3]"},
    {"rsqrt(x=%a, epsilon=1)", "!rsqrt: epsilon is not a constant number"},
    {"rsqrt(x=%a, epsilon=%s)", "!rsqrt: epsilon is not a constant number"},
    {"gelu(x=%a, mode=\"FAST\")", "!gelu: mode \"FAST\""},
    {"softmax(x=%u)", "fp16[?,3]"},
    {"softmax(x=%a, axis=2)", "!softmax: axis 2 of a tensor of rank 2"},
    {"softmax(x=%s)", "!softmax: axis -1 of a tensor of rank 0"},
    {"softmax(x=%a, axis=%c)", "!softmax: axis is not a constant integer"},
    {"reduce_mean(x=%u, axes=[0])", "fp16[3]"},
    {"reduce_mean(x=%u, axes=[1])", "fp16[?]"},
    {"reduce_mean(x=%u, axes=[-1], keep_dims=true)", "fp16[?,1]"},
    {"reduce_mean(x=%i)", "!reduce_mean: x of type int32"},
    {"reduce_sum(x=%i, axes=[1,-1])", "!reduce_sum: axes names axis 1 twice"},
    {"reduce_sum(x=%i, axes=%n)", "!reduce_sum: axes is not a constant list of at most 8 integers"},
    {"reduce_sum(x=%i, keep_dims=1)", "!reduce_sum: keep_dims is not a constant bool"},
    {"linear(x=%q, weight=fp16[3,8](@0), bias=fp16[3](1, 2, 3))", "fp16[1,4,5,3]"},
    {"linear(x=%uu, weight=fp16[3,8](@0))", "fp16[?,3]"},
    {"linear(x=%a, weight=fp16[3,8](@0))", "!linear: x has 3 columns, weight 8"},
    {"linear(x=%a, weight=%b)", "!linear: weight has rank 1, not 2"},
    {"linear(x=%s, weight=fp16[3,8](@0))", "!linear: x is a scalar"},
    {"linear(x=%a, weight=%a, bias=%b)", "!linear: bias is not a list of the weight's 2 rows"},
    {"matmul(x=%q, y=%k, transpose_y=true)", "fp16[1,4,5,7]"},
    {"matmul(x=%uu, y=%a)", "fp16[?,3]"},
    {"matmul(x=%a, y=%b)", "fp16[2]"},
    {"matmul(x=%q, y=%k)", "!matmul: x has 8 columns but y 7 rows"},
    {"matmul(x=%s, y=%k)", "!matmul: x is a scalar"},
    {"matmul(x=%a, y=%f)", "!matmul: x is fp16 but y is fp32"},
    {"scaled_dot_product_attention(query=%q, key=%k, value=%v)", "fp16[1,4,5,6]"},
    {"scaled_dot_product_attention(query=%q, key=%k, value=%v, attn_mask=fp16[5,7](@0))", "fp16[1,4,5,6]"},
    {"scaled_dot_product_attention(query=%q, key=%k, value=%v, attn_mask=fp16[2,4,5,7](@0))",
     "!scaled_dot_product_attention: attn_mask is larger than the scores in dimension 0"},
    {"scaled_dot_product_attention(query=%q, key=%k, value=%v, attn_mask=fp16[5,8](@0))",
     "!scaled_dot_product_attention: attn_mask does not fit"},
    {"scaled_dot_product_attention(query=%q, key=%v, value=%v)",
     "!scaled_dot_product_attention: query has 8 columns, key 6"},
    {"scaled_dot_product_attention(query=%q, key=%k, value=%q)",
     "!scaled_dot_product_attention: key has 7 rows, value 5"},
    {"scaled_dot_product_attention(query=%a, key=%a, value=%a)",
     "!scaled_dot_product_attention: query, key and value have ranks 2, 2 and 2"},
    {"reshape(x=%a, shape=[3,-1])", "fp16[3,2]"},
    {"reshape(x=%u, shape=[0,-1])", "fp16[?,?]"},
    {"reshape(x=%uu, shape=[4,5])", "fp16[4,5]"},
    {"reshape(x=%a, shape=%n)", "fp16[?,?]"},
    {"reshape(x=%a, shape=%m)", "!reshape: shape has an unknown length"},
    {"reshape(x=%a, shape=[4,-1])", "!reshape: fp16[2,3] cannot become fp16[4,?]"},
    {"reshape(x=%a, shape=[7])", "!reshape: fp16[2,3] cannot become fp16[7]"},
    {"reshape(x=%a, shape=[-1,-1])", "!reshape: shape has -1 twice"},
    {"reshape(x=%a, shape=[0])", "!reshape: shape has a 0 but not the rank of x"},
    {"reshape(x=%a, shape=[-2,1])", "!reshape: shape has the dimension -2"},
    {"reshape(x=%a, shape=[2147483647,2147483647,2147483647])", "!reshape: shape is too large"},
    {"reshape(x=%a, shape=[1,1,1,1,1,1,1,1,6])", "!reshape: shape has 9 entries, more than 8"},
    {"reshape(x=%a, shape=6)", "!reshape: shape is not a list of integers"},
    {"transpose(x=%u, perm=[1,0])", "fp16[3,?]"},
    {"transpose(x=%a, perm=[1,1])", "!transpose: perm names axis 1 twice"},
    {"transpose(x=%a, perm=[1])", "!transpose: perm has 1 entries for rank 2"},
    {"squeeze(x=%q)", "fp16[4,5,8]"},
    {"squeeze(x=%u, axes=[0])", "fp16[3]"},
    {"squeeze(x=%u)", "fp16[?,3]"},
    {"squeeze(x=%a, axes=[1])", "!squeeze: dimension 1 is 3, not 1"},
    {"expand_dims(x=%u, axes=[-1])", "fp16[?,3,1]"},
    {"expand_dims(x=%a, axes=[3])", "!expand_dims: axis 3 of a tensor of rank 3"},
    {"expand_dims(x=%r8, axes=[0])", "!expand_dims: the result has more than 8 dimensions"},
    {"tile(x=%u, reps=[2,2])", "fp16[?,6]"},
    {"tile(x=%u, reps=%n)", "fp16[?,?]"},
    {"tile(x=%a, reps=[0,1])", "!tile: reps has the entry 0"},
    {"tile(x=%a, reps=[1])", "!tile: reps has 1 entries for rank 2"},
    {"concat(values=(%a, %u), axis=0)", "fp16[?,3]"},
    {"concat(values=(%a, %u), axis=1)", "fp16[2,6]"},
    {"concat(values=(%c, 1), axis=0)", "int32[2]"},
    {"concat(values=(%a, %a), axis=2)", "!concat: axis 2 of a tensor of rank 2"},
    {"concat(values=(%a, %b), axis=0)", "!concat: value 1 is fp16[3] beside fp16[2,3]"},
    {"concat(values=(%a, fp16[1,3](1, 2, 3)), axis=0)", "fp16[3,3]"},
    {"concat(values=(%a, fp16[1,3](1, 2, 3)), axis=0, interleave=true)",
     "!concat: value 1 is fp16[1,3] beside fp16[2,3]"},
    {"concat(values=(), axis=0)", "!concat: values is missing"},
    {"stack(values=(%a, %u), axis=-1)", "fp16[2,3,2]"},
    {"stack(values=(%a, %b), axis=0)", "!stack: value 1 is fp16[3] beside fp16[2,3]"},
    {"stack(values=(%a, %a), axis=3)", "!stack: axis 3 of a tensor of rank 3"},
    {"split(x=%a, axis=0, num_splits=2)", "!split: 2 parts but 1 results"},
    {"split(x=%a, axis=0)", "!split: neither num_splits nor split_sizes"},
    {"split(x=%a, axis=0, split_sizes=[1])", "!split: dimension 2 does not split as asked"},
    {"split(x=%a, axis=0, split_sizes=[-1])", "!split: split_sizes has the entry -1"},
    {"split(x=%a, axis=0, split_sizes=[2], num_splits=1)", "fp16[2,3]"},
    {"slice_by_index(x=%a, begin=[0,1], end=[1,3])", "fp16[1,2]"},
    {"slice_by_index(x=%a, begin=%n, end=[1,3])", "fp16[?,?]"},
    {"slice_by_index(x=%a, begin=%n, end=%n, begin_mask=[true,false], end_mask=[true,true])", "fp16[2,?]"},
    {"slice_by_index(x=%u, begin=[0,0], end=[0,0], begin_mask=[true,true], end_mask=[true,true])",
     "fp16[?,3]"},
    {"slice_by_index(x=%u, begin=[3,0], end=[4,1])", "fp16[1,1]"},
    {"slice_by_index(x=%u, begin=[-1,0], end=[0,1], end_mask=[true,false])", "fp16[1,1]"},
    {"slice_by_index(x=%a, begin=%n, end=[0,0], squeeze_mask=[true,false])", "fp16[?]"},
    {"slice_by_index(x=%a, begin=[2,0], end=[0,0], squeeze_mask=[true,true])",
     "!slice_by_index: index 2 in dimension 0 of size 2"},
    {"slice_by_index(x=%a, begin=[0], end=[1,3])",
     "!slice_by_index: begin, end and stride have 1, 2 and 2 entries for rank 2"},
    {"slice_by_index(x=%a, begin=[0,0], end=[1,3], stride=[0,1])",
     "!slice_by_index: stride 0 in dimension 0"},
    {"slice_by_index(x=%a, begin=[0,0], end=[1,3], end_mask=[true])",
     "!slice_by_index: end_mask is not a constant list of 2 bools"},
    {"slice_by_size(x=%u, begin=[0,1], size=[2,-1])", "fp16[2,2]"},
    {"slice_by_size(x=%u, begin=%n, size=[-1,2])", "fp16[?,2]"},
    {"slice_by_size(x=%a, begin=[1,1], size=[2,1])",
     "!slice_by_size: elements 1 and 2 more of a dimension of 2"},
    {"slice_by_size(x=%a, begin=[0,0], size=[-2,1])", "!slice_by_size: size -2 in dimension 0"},
    {"gather(x=%u, indices=%h)", "fp16[2,3]"},
    {"gather(x=%q, indices=%i, axis=2)", "fp16[1,4,2,3,8]"},
    {"gather(x=%a, indices=%n, axis=1, batch_dims=1)", "fp16[2]"},
    {"gather(x=%a, indices=%b)", "!gather: indices of type fp16"},
    {"gather(x=%a, indices=%n, axis=0, batch_dims=1)", "!gather: batch_dims 1 beside axis 0"},
    {"gather(x=%f, indices=[1,2,3], axis=1, batch_dims=1)",
     "!gather: x and indices differ in batch dimension 0"},
    {"gather(x=%r8, indices=%n)", "fp16[2,1,1,1,1,1,1,1]"},
    {"gather(x=%r8, indices=%i)", "!gather: the result has more than 8 dimensions"},
    {"shape(x=%q)", "int32[4]"},
    {"constexpr_blockwise_shift_scale(data=int4[2,6](@0), scale=fp16[1,3](1, 2, 3))", "fp16[2,6]"},
    {"constexpr_blockwise_shift_scale(data=int4[2,6](@0), scale=fp16[1,4](1, 2, 3, 4))",
     "!constexpr_blockwise_shift_scale: dimension 1: 6 values do not share 4 scales"},
    {"constexpr_blockwise_shift_scale(data=int4[2,6](@0), scale=fp16[2](1, 2))",
     "!constexpr_blockwise_shift_scale: data has rank 2, scale 1"},
    {"constexpr_blockwise_shift_scale(data=%d, scale=fp16[1,1](1))",
     "!constexpr_blockwise_shift_scale: data is not a constant"},
    {"constexpr_blockwise_shift_scale(data=int4[2,6](@0), scale=fp16[1,1](1), offset=int8[1,1](1))",
     "!constexpr_blockwise_shift_scale: offset is int8 but data is int4"},
    {"constexpr_blockwise_shift_scale(data=int4[2,6](@0), scale=fp16[1,1](1), offset=int4[1,2](1, 2))",
     "!constexpr_blockwise_shift_scale: offset has not the shape of scale"},
    {"constexpr_blockwise_shift_scale(data=int16[2](1, 2), scale=fp16[1](1))",
     "!constexpr_blockwise_shift_scale: data of type int16"},
    {"dequantise(x=%a)", "!dequantise: an op that anemone does not know"},
};

static void rules_give_types_or_reasons(void **state)
{
    (void)state;
    bool seen[ANM_OP_COUNT] = {false};
    int wrong = 0;
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++) {
        anm_mil_program p;
        anm_error err;
        char text[2048], got[600];
        snprintf(text, sizeof text, "func f(%s) -> (%%y) opset \"o\" { %%y: fp16[] = %s }", INPUTS,
                 rules[i].op);
        if (anm_mil_parse(&p, text, strlen(text), &err)) fail_msg("%s: %s", rules[i].op, err.text);
        anm_mil_type type;
        if (anm_mil_infer(&type, p.functions->first, &err))
            snprintf(got, sizeof got, "!%s", err.text);
        else
            anm_mil_type_print(&type, got, sizeof got);
        seen[p.functions->first->code] = true;
        if (strcmp(got, rules[i].type) != 0)
            fail_msg("%s\n  gives %s\n  not %s", rules[i].op, got, rules[i].type);
        anm_mil_program_free(&p);
    }
    assert_int_equal(wrong, 0);
    for (int op = 1; op < ANM_OP_COUNT; op++) { /* the elementwise ops share rules; every other has a line */
        const anm_mil_slot *slots;
        int n = anm_mil_op_slots((anm_mil_opcode)op, &slots);
        bool shared = n <= 2 || strncmp(anm_mil_op_name((anm_mil_opcode)op), "reduce", 6) == 0;
        if (!seen[op] && !shared) fail_msg("no rule tried for %s", anm_mil_op_name((anm_mil_opcode)op));
    }
}

/* ---- the verifier ---- */

#define F(body) "func f(%x: fp16[2], %n: int32[1]) -> (%y) opset \"o\" {\n" body "\n}"

static const struct {
    const char *text, *why; /* NULL: it verifies */
} programs[] = {
    {F("%y: fp16[2] = exp(x=%x)"), NULL},
    {F("%y: fp16[?] = exp(x=%x)"), NULL},
    {F("%y: fp16[3] = exp(x=%x)"), "function f: at %y: declared fp16[3] but it gives fp16[2]"},
    {F("%y: fp32[2] = exp(x=%x)"), "function f: at %y: declared fp32[2] but it gives fp16[2]"},
    {F("%y: fp16[2,1] = exp(x=%x)"), "function f: at %y: declared fp16[2,1] but it gives fp16[2]"},
    {F("%s: fp16[?] = slice_by_index(x=%x, begin=[0], end=%n)\n%y: fp16[2] = exp(x=%s)"),
     "function f: at %y: declared fp16[2] but it gives fp16[?]"},
    {F("%y: fp16[2] = exp(x=%x, y=%x)"), "function f: at %y: exp: it has no parameter y"},
    {F("%y: fp16[2] = magic(x=%x, y=%x)"), NULL},
    {F("%y: fp16[3000000000,3000000000,3000000000] = magic(x=%x)"),
     "function f: at %y: %y: its dimensions multiply to more than 2^63"},
    {F("%y: fp16[3000000000,3000000000] = magic(x=%x)"), "function f: at %y: %y: too large"},
    {F("%y: fp16[2], %z: fp16[2] = exp(x=%x)"), "function f: at %y: exp: 2 results, not one"},
    {F("%y: fp16[1,?] = constexpr_blockwise_shift_scale(data=int8[1,2](1, 2), scale=fp16[1,1](1))"),
     "function f: at %y: declared fp16[1,?] but it gives fp16[1,2]"},
};

static void verify_text(const char *text, bool strict, int code, const char *why)
{
    anm_mil_program p;
    anm_error err = {0};
    if (anm_mil_parse(&p, text, strlen(text), &err)) fail_msg("%s: %s", text, err.text);
    assert_int_equal(anm_mil_verify(&p, strict, &err), code);
    if (code && strcmp(err.text, why) != 0) fail_msg("%s\n  gives %s\n  not %s", text, err.text, why);
    anm_mil_program_free(&p);
}

static void programs_that_text_can_say(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof programs / sizeof *programs; i++)
        verify_text(programs[i].text, false, programs[i].why ? ANM_ERR_FORMAT : 0, programs[i].why);
    verify_text(F("%y: fp16[2] = magic(x=%x)"), true, ANM_ERR_UNSUPPORTED,
                "function f: at %y: magic: an op that anemone does not know");
}

/* A sound program, and hands on its parts, to be broken one at a time. */
typedef struct sound {
    anm_mil_program p;
    anm_mil_function *f, *g;
    anm_mil_op *exp, *add, *slice;
    anm_mil_value *x, *e, *a, *s, *w;
} sound;

static void make(sound *t)
{
    static const char text[] =
        "func f(%x: fp16[2], %z: fp16[2]) -> (%s) opset \"o\" {\n"
        "%e: fp16[2] = exp(x=%x)\n%w: fp16[2] = weight(1, 2)\n%a: fp16[2] = add(x=%e, y=%w)\n"
        "%s: fp16[1] = slice_by_index(x=%a, begin=[0], end=[1])\n}\n"
        "func g() -> () opset \"o\" {}";
    anm_error err;
    if (anm_mil_parse(&t->p, text, strlen(text), &err)) fail_msg("%s", err.text);
    t->f = t->p.functions;
    t->g = t->f->next;
    t->exp = t->f->first;
    t->add = t->exp->next;
    t->slice = t->add->next;
    t->x = anm_mil_value_find(t->f, "x");
    t->e = anm_mil_value_find(t->f, "e");
    t->a = anm_mil_value_find(t->f, "a");
    t->s = anm_mil_value_find(t->f, "s");
    t->w = anm_mil_value_find(t->f, "w");
}

static void broken(sound *t, const char *why)
{
    anm_error err = {0};
    assert_int_equal(anm_mil_verify(&t->p, true, &err), ANM_ERR_FORMAT);
    assert_string_equal(err.text, why);
    anm_mil_program_free(&t->p);
    make(t);
}

static void a_broken_graph_is_named(void **state)
{
    (void)state;
    sound t;
    anm_error err;
    make(&t);
    assert_int_equal(anm_mil_verify(&t.p, true, &err), 0);

    t.g->name = "f";
    broken(&t, "two functions are named f");
    t.g->name = "";
    broken(&t, "a function has no name");
    t.g->opset = NULL;
    broken(&t, "function g has no opset");
    t.a->name = "e";
    broken(&t, "function f: two values are named %e");
    t.w->name = "x";
    broken(&t, "function f: two values are named %x");
    t.a->name = NULL;
    broken(&t, "function f: at %?: a value has no name");
    t.a->name = "";
    broken(&t, "function f: a value has no name");
    t.a->id = t.e->id;
    broken(&t, "function f: at %a: %e and %a have one id");
    t.a->id = 4000000000u;
    broken(&t, "function f: at %a: %a: its id is out of range");
    t.a->def = t.exp;
    broken(&t, "function f: at %a: %a: its definition does not lead to where it is defined");
    t.x->def = t.exp;
    broken(&t, "function f: %x: its definition does not lead to where it is defined");
    t.e->constant = t.w->constant;
    broken(&t, "function f: at %e: %e: both a constant and an op's result");
    t.x->constant = t.w->constant;
    broken(&t, "function f: %x: a constant where a value is defined");
    t.add->outs[0] = t.e;
    broken(&t, "function f: at %e: %e: its definition does not lead to where it is defined");
    t.f->inputs[1] = t.x;
    broken(&t, "function f: %x is defined twice");
    t.add->args[0].value[0] = t.s;
    broken(&t, "function f: at %a: %s is used before it is defined");
    t.add->args[0].value[0] = NULL;
    broken(&t, "function f: at %a: a value is missing");
    t.f->outputs[0] = NULL;
    broken(&t, "function f: a value is missing");
    anm_mil_remove(t.f, t.slice);
    broken(&t, "function f: %s is used before it is defined");

    t.add->prev = NULL;
    broken(&t, "function f: the list of ops is broken");
    t.f->last = t.add;
    broken(&t, "function f: the list of ops is broken");
    t.add->code = ANM_OP_COUNT;
    broken(&t, "function f: at %a: no such op");
    t.exp->code = ANM_OP_FOREIGN;
    broken(&t, "function f: at %e: an op without a name");
    t.exp->code = ANM_OP_FOREIGN;
    t.exp->foreign = "exp";
    broken(&t, "function f: at %e: exp is not a foreign op");
    anm_mil_arg first = t.add->args[0];
    t.add->args[0] = t.add->args[1];
    t.add->args[1] = first;
    broken(&t, "function f: at %a: x stands out of order");

    t.a->type.rank = 9;
    broken(&t, "function f: at %a: %a: a malformed type");
    t.a->type.dim[0] = -2;
    broken(&t, "function f: at %a: %a: a malformed type");
    t.a->type.dtype = ANM_DT_NONE;
    broken(&t, "function f: at %a: %a: a malformed type");
    t.w->type.dim[0] = ANM_MIL_UNKNOWN_DIM;
    broken(&t, "function f: at %a: %w: a constant of unknown shape");
    t.w->type.dim[0] = 3;
    broken(&t, "function f: at %a: %w: 4 bytes of data for fp16[3]");
    anm_mil_program_free(&t.p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rules_give_types_or_reasons),
        cmocka_unit_test(programs_that_text_can_say),
        cmocka_unit_test(a_broken_graph_is_named),
    };
    return cmocka_run_group_tests_name("mil/types", tests, NULL, NULL);
}
