/* SPDX-License-Identifier: BSD-3-Clause */
/* Building graphs: names, order, tables, rewriting, and a builder that fails once and stays failed. */
#include "test.h"

#include "mil/mil.h"

#include <stdio.h>
#include <string.h>

static anm_mil_type f16(int rank, const int64_t *dim)
{
    return anm_mil_tensor(ANM_DT_F16, rank, dim);
}

static void tables_name_each_other(void **state)
{
    (void)state;
    for (int op = 1; op < ANM_OP_COUNT; op++) {
        const anm_mil_slot *slots;
        int n = anm_mil_op_slots((anm_mil_opcode)op, &slots);
        assert_int_equal(anm_mil_op_of_name(anm_mil_op_name((anm_mil_opcode)op)), op);
        assert_in_range(n, 1, ANM_MIL_MAX_SLOTS - 1);
        for (int i = 0; i < n; i++)
            assert_int_not_equal(slots[i].param, ANM_P_END);
    }
    for (int p = 1; p < ANM_P_COUNT; p++)
        assert_int_equal(anm_mil_param_of_name(anm_mil_param_name((anm_mil_param)p)), p);
    assert_int_equal(anm_mil_op_of_name("conv"), ANM_OP_FOREIGN);
    assert_int_equal(anm_mil_param_of_name("?"), ANM_P_END);
    assert_string_equal(anm_mil_param_name(ANM_P_END_INDEX), "end");
}

static void names_are_made_unique(void **state)
{
    (void)state;
    anm_mil_program p;
    anm_mil_program_init(&p);
    anm_mil_builder b = anm_mil_build(anm_mil_function_new(&p, "main", "CoreML8"));
    anm_mil_value *x = anm_mil_input(&b, "x", f16(2, (int64_t[]){2, 3}));
    anm_mil_value *taken = anm_mil_emit(&b, ANM_OP_ADD, "sum_1", ANM_P_X, x, ANM_P_Y, x, ANM_P_END);
    anm_mil_value *first = anm_mil_emit(&b, ANM_OP_ADD, "sum", ANM_P_X, x, ANM_P_Y, taken, ANM_P_END);
    anm_mil_value *second = anm_mil_emit(&b, ANM_OP_ADD, "sum", ANM_P_X, x, ANM_P_Y, first, ANM_P_END);
    anm_mil_value *plain = anm_mil_emit(&b, ANM_OP_SILU, NULL, ANM_P_X, second, ANM_P_END);
    assert_int_equal(b.err.code, 0);
    assert_string_equal(first->name, "sum");
    assert_string_equal(second->name, "sum_2");
    assert_string_equal(plain->name, "silu");
    for (int i = 0; i < 3000; i++)
        plain = anm_mil_emit(&b, ANM_OP_SILU, "s", ANM_P_X, plain, ANM_P_END);
    assert_string_equal(plain->name, "s_2999");
    assert_int_equal(plain->id, b.fn->n_values - 1);
    anm_mil_program_free(&p);
}

static void arguments_stand_in_their_order(void **state)
{
    (void)state;
    anm_mil_program p;
    anm_mil_program_init(&p);
    anm_mil_builder b = anm_mil_build(anm_mil_function_new(&p, "main", "CoreML8"));
    anm_mil_value *x = anm_mil_input(&b, "x", f16(2, (int64_t[]){2, 3}));
    anm_mil_value *both[2] = {x, x};
    anm_mil_value *c = anm_mil_emit_list(&b, ANM_OP_CONCAT, "c", ANM_P_VALUES, 2, both, ANM_P_INTERLEAVE,
                                         NULL, ANM_P_AXIS, anm_mil_const_i32(&b, -1), ANM_P_END);
    anm_mil_value *parts[3];
    anm_mil_emit_outs(&b, ANM_OP_SPLIT, "part", 3, parts, ANM_P_NUM_SPLITS, anm_mil_const_i32(&b, 3), ANM_P_X,
                      c, ANM_P_AXIS, anm_mil_const_i32(&b, 1), ANM_P_END);
    assert_int_equal(b.err.code, 0);
    assert_int_equal(c->type.dim[1], 6);
    assert_int_equal(c->def->n_args, 2);
    assert_int_equal(c->def->args[0].count, 2);
    assert_string_equal(parts[2]->name, "part_2");
    assert_int_equal(parts[2]->type.dim[1], 2);
    assert_int_equal(parts[0]->def->args[0].param, ANM_P_X);
    assert_int_equal(parts[0]->def->args[1].param, ANM_P_AXIS);
    assert_int_equal(parts[0]->def->args[2].param, ANM_P_NUM_SPLITS);
    anm_mil_program_free(&p);
}

static void a_builder_fails_once(void **state)
{
    (void)state;
    anm_mil_program p;
    anm_mil_program_init(&p);
    anm_mil_builder b = anm_mil_build(anm_mil_function_new(&p, "main", "CoreML8"));
    anm_mil_value *x = anm_mil_input(&b, "x", f16(2, (int64_t[]){2, 3})),
                  *w = anm_mil_input(&b, "w", f16(2, (int64_t[]){4, 5}));
    anm_mil_value *bad = anm_mil_emit(&b, ANM_OP_LINEAR, "proj", ANM_P_X, x, ANM_P_WEIGHT, w, ANM_P_END);
    assert_int_equal(b.err.code, ANM_ERR_FORMAT);
    assert_string_equal(b.err.text, "proj: linear: x has 3 columns, weight 5");
    anm_mil_value *after = anm_mil_emit(&b, ANM_OP_ADD, "after", ANM_P_X, bad, ANM_P_Y, x, ANM_P_END);
    anm_mil_output(&b, after);
    assert_non_null(after->name);
    assert_string_equal(b.err.text, "proj: linear: x has 3 columns, weight 5");
    assert_null(b.fn->first);
    assert_int_equal(b.fn->n_outputs, 0);
    anm_mil_program_free(&p);
}

static void ops_are_put_replaced_and_removed(void **state)
{
    (void)state;
    anm_mil_program p;
    anm_mil_program_init(&p);
    anm_mil_builder b = anm_mil_build(anm_mil_function_new(&p, "main", "CoreML8"));
    anm_mil_value *x = anm_mil_input(&b, "x", f16(1, (int64_t[]){3}));
    anm_mil_value *a = anm_mil_emit(&b, ANM_OP_EXP, "a", ANM_P_X, x, ANM_P_END);
    anm_mil_value *c = anm_mil_emit(&b, ANM_OP_ABS, "c", ANM_P_X, a, ANM_P_END);
    anm_mil_output(&b, c);
    b.before = a->def;
    anm_mil_value *s = anm_mil_emit(&b, ANM_OP_SQUARE, "s", ANM_P_X, x, ANM_P_END);
    assert_ptr_equal(b.fn->first, s->def);
    assert_ptr_equal(s->def->next, a->def);
    assert_ptr_equal(a->def->prev, s->def);
    anm_mil_value *to[8] = {0};
    to[a->id] = s;
    anm_mil_replace_args(c->def, to);
    anm_mil_remove(b.fn, a->def);
    assert_ptr_equal(anm_mil_arg_of(c->def, ANM_P_X), s);
    assert_ptr_equal(s->def->next, c->def);
    anm_mil_remove(b.fn, s->def);
    assert_ptr_equal(b.fn->first, c->def);
    assert_ptr_equal(b.fn->last, c->def);
    anm_mil_remove(b.fn, c->def);
    assert_null(b.fn->first);
    assert_null(b.fn->last);
    anm_mil_program_free(&p);
}

static void constants_are_read_back(void **state)
{
    (void)state;
    anm_mil_program p;
    anm_mil_program_init(&p);
    anm_mil_builder b = anm_mil_build(anm_mil_function_new(&p, "main", "CoreML8"));
    int64_t i, is[4];
    float f;
    bool t;
    const char *s;
    size_t n;
    int count;
    assert_true(anm_mil_get_i64(anm_mil_const_i32(&b, -7), &i) && i == -7);
    assert_true(anm_mil_get_i64s(anm_mil_const_i32s(&b, 3, (int64_t[]){1, -2, 3}), is, 4, &count));
    assert_int_equal(count, 3);
    assert_int_equal(is[1], -2);
    assert_false(anm_mil_get_i64s(anm_mil_const_i32s(&b, 3, is), is, 2, &count));
    assert_true(anm_mil_get_bool(anm_mil_const_bool(&b, true), &t) && t);
    assert_true(anm_mil_get_f32(anm_mil_const_float(&b, ANM_DT_F16, 0.1f), &f) && f == 0.0999755859375f);
    assert_true(anm_mil_get_f32(anm_mil_const_float(&b, ANM_DT_F32, 0.1f), &f) && f == 0.1f);
    assert_true(anm_mil_get_string(anm_mil_const_string(&b, "int16"), &s, &n) && n == 5 &&
                !memcmp(s, "int16", 5));
    assert_false(anm_mil_get_i64(anm_mil_const_float(&b, ANM_DT_F32, 1), &i));
    static const uint8_t nibbles[] = {0x8f, 0x07};
    anm_mil_value *q = anm_mil_const_blob(&b, "q", anm_mil_tensor(ANM_DT_I4, 1, (int64_t[]){3}),
                                          (anm_blob){.size = 2, .data = nibbles});
    assert_true(anm_mil_get_i64s(q, is, 4, &count) && count == 3 && is[0] == -1 && is[1] == -8 && is[2] == 7);
    anm_mil_value *cut = anm_mil_const_blob(&b, "cut", anm_mil_tensor(ANM_DT_I32, 1, (int64_t[]){3}),
                                            (anm_blob){.size = 2, .data = nibbles});
    assert_false(anm_mil_get_i64s(cut, is, 4, &count));
    assert_int_equal(b.err.code, 0);
    anm_mil_const_i32s(&b, 1, (int64_t[]){INT64_C(1) << 40});
    assert_int_equal(b.err.code, ANM_ERR_LIMIT);
    anm_mil_program_free(&p);
}

static void types_are_printed(void **state)
{
    (void)state;
    char s[64];
    anm_mil_type t = f16(3, (int64_t[]){1, ANM_MIL_UNKNOWN_DIM, 128});
    assert_string_equal(anm_mil_type_print(&t, s, sizeof s), "fp16[1,?,128]");
    t = anm_mil_scalar(ANM_DT_I32);
    assert_string_equal(anm_mil_type_print(&t, s, sizeof s), "int32[]");
    assert_string_equal(anm_mil_type_print(&t, s, 4), "int");
    int64_t n;
    t = f16(2, (int64_t[]){INT64_C(1) << 40, INT64_C(1) << 40});
    assert_false(anm_mil_type_count(&t, &n));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tables_name_each_other),
        cmocka_unit_test(names_are_made_unique),
        cmocka_unit_test(arguments_stand_in_their_order),
        cmocka_unit_test(a_builder_fails_once),
        cmocka_unit_test(ops_are_put_replaced_and_removed),
        cmocka_unit_test(constants_are_read_back),
        cmocka_unit_test(types_are_printed),
    };
    return cmocka_run_group_tests_name("mil/build", tests, NULL, NULL);
}
