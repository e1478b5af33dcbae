/* SPDX-License-Identifier: BSD-3-Clause */
/* The tables of ops.def, and types. */
#include "mil/mil.h"
#include "base/bytes.h"

#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    int n;
    anm_mil_slot slots[ANM_MIL_MAX_SLOTS];
} op_table[ANM_OP_COUNT] = {
    {"", 0, {{0}}},
#define ONE(id) {ANM_P_##id, false, false},
#define MAY(id) {ANM_P_##id, true, false},
#define LIST(id) {ANM_P_##id, false, true},
#define ANM_OP(id, name, params, rule) {name, sizeof((anm_mil_slot[]){params}) / sizeof(anm_mil_slot), {params}},
#include "mil/ops.def"
#undef ANM_OP
#undef ONE
#undef MAY
#undef LIST
};

static const struct {
    const char *name;
    size_t n;
} param_table[ANM_P_COUNT] = {
    {"?", 1},
#define ANM_PARAM(id, name) {name, sizeof name - 1},
#include "mil/ops.def"
#undef ANM_PARAM
};

const char *anm_mil_op_name(anm_mil_opcode op)
{
    return (unsigned)op < ANM_OP_COUNT && op != ANM_OP_FOREIGN ? op_table[op].name : "?";
}

anm_mil_opcode anm_mil_op_of_name(const char *name)
{
    for (unsigned op = 1; op < ANM_OP_COUNT; op++)
        if (strcmp(op_table[op].name, name) == 0) return (anm_mil_opcode)op;
    return ANM_OP_FOREIGN;
}

const char *anm_mil_param_name(anm_mil_param p)
{
    return param_table[(unsigned)p < ANM_P_COUNT ? p : ANM_P_END].name;
}

anm_mil_param anm_mil_param_of_name(const char *name)
{
    size_t n = strlen(name);
    for (unsigned p = 1; p < ANM_P_COUNT; p++)
        if (param_table[p].n == n && memcmp(param_table[p].name, name, n) == 0) return (anm_mil_param)p;
    return ANM_P_END;
}

int anm_mil_op_slots(anm_mil_opcode op, const anm_mil_slot **slots)
{
    unsigned k = (unsigned)op < ANM_OP_COUNT ? op : ANM_OP_FOREIGN;
    *slots = op_table[k].slots;
    return op_table[k].n;
}

/* ---- types ---- */

anm_mil_type anm_mil_scalar(anm_dtype t)
{
    return (anm_mil_type){.dtype = t};
}

anm_mil_type anm_mil_tensor(anm_dtype t, int rank, const int64_t *dim)
{
    anm_mil_type type = {.dtype = t, .rank = rank};
    for (int i = 0; i < rank && i < ANM_MIL_MAX_RANK; i++)
        type.dim[i] = dim[i];
    return type;
}

bool anm_mil_type_equal(const anm_mil_type *a, const anm_mil_type *b)
{
    if (a->dtype != b->dtype || a->rank != b->rank) return false;
    for (int i = 0; i < a->rank; i++)
        if (a->dim[i] != b->dim[i]) return false;
    return true;
}

bool anm_mil_type_known(const anm_mil_type *t)
{
    for (int i = 0; i < t->rank; i++)
        if (t->dim[i] == ANM_MIL_UNKNOWN_DIM) return false;
    return true;
}

bool anm_mil_type_count(const anm_mil_type *t, int64_t *count)
{
    int64_t n = 1;
    bool empty = false; /* a 0 hides nothing: strides are made of the other dimensions */
    for (int i = 0; i < t->rank; i++) {
        if (t->dim[i] < 0 || !anm_mul_i64(n, t->dim[i] ? t->dim[i] : 1, &n)) return false;
        empty = empty || !t->dim[i];
    }
    *count = empty ? 0 : n;
    return true;
}

const char *anm_mil_type_print(const anm_mil_type *t, char *out, size_t n)
{
    if (!n) return out;
    int at = snprintf(out, n, "%s[", anm_dtype_name(t->dtype));
    for (int i = 0; i < t->rank && at >= 0 && (size_t)at < n; i++) {
        const char *comma = i ? "," : "";
        if (t->dim[i] == ANM_MIL_UNKNOWN_DIM)
            at += snprintf(out + at, n - (size_t)at, "%s?", comma);
        else
            at += snprintf(out + at, n - (size_t)at, "%s%lld", comma, (long long)t->dim[i]);
    }
    if (at >= 0 && (size_t)at < n) snprintf(out + at, n - (size_t)at, "]");
    return out;
}
