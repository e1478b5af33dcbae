/* SPDX-License-Identifier: BSD-3-Clause */
/* The way into the type rules (infer.h): the arguments that ops.def allows, then the rule of the op. */
#include "mil/infer.h"

/* The arguments are as ops.def says and in its order, as they nearly always are: then nothing else has to be looked for. */
static bool in_order(const anm_mil_op *op, const anm_mil_slot *slots, int n)
{
    uint32_t a = 0;
    for (int s = 0; s < n; s++) {
        const anm_mil_arg *arg = a < op->n_args ? &op->args[a] : NULL;
        if (!arg || arg->param != slots[s].param) {
            if (!slots[s].optional) return false;
            continue;
        }
        if (!arg->count || (arg->count > 1 && !slots[s].list)) return false;
        for (uint32_t i = 0; i < arg->count; i++)
            if (!anm_mil_type_sane(&arg->value[i]->type)) return false;
        a++;
    }
    return a == op->n_args;
}

/* What is wrong with the arguments, if anything. */
static int check_arguments(const anm_mil_op *op, const anm_mil_slot *slots, int n, anm_error *err)
{
    const char *name = anm_mil_op_name(op->code);
    for (int s = 0; s < n; s++)
        if (!slots[s].optional && !anm_mil_arg_of(op, slots[s].param))
            return anm_fail(err, ANM_ERR_FORMAT, "%s: %s is missing", name,
                            anm_mil_param_name(slots[s].param));
    for (uint32_t a = 0; a < op->n_args; a++) {
        const anm_mil_arg *arg = &op->args[a];
        int s = 0;
        while (s < n && slots[s].param != arg->param)
            s++;
        const char *p =
            arg->param == ANM_P_END && arg->foreign ? arg->foreign : anm_mil_param_name(arg->param);
        if (s == n) return anm_fail(err, ANM_ERR_FORMAT, "%s: it has no parameter %s", name, p);
        if (anm_mil_args_of(op, arg->param) != arg)
            return anm_fail(err, ANM_ERR_FORMAT, "%s: %s is given twice", name, p);
        if (!arg->count || (arg->count > 1 && !slots[s].list))
            return anm_fail(err, ANM_ERR_FORMAT, "%s: %s has %lu values", name, p, (unsigned long)arg->count);
        for (uint32_t i = 0; i < arg->count; i++)
            if (!anm_mil_type_sane(&arg->value[i]->type))
                return anm_fail(err, ANM_ERR_FORMAT, "%s: the type of %s is malformed", name, p);
    }
    return 0;
}

int anm_mil_infer(anm_mil_type *outs, const anm_mil_op *op, anm_error *err)
{
    static int (*const rules[ANM_OP_COUNT])(anm_rule *) = {
        NULL,
#define ANM_OP(id, name, params, rule) anm_infer_##rule,
#include "mil/ops.def"
#undef ANM_OP
    };
    const anm_mil_slot *slots;
    const char *name = anm_mil_op_name(op->code);
    anm_error why; /* what a rule says of itself, if one fails */
    anm_rule r = {.op = op, .out = outs, .err = &why};

    if (op->code == ANM_OP_FOREIGN || (unsigned)op->code >= ANM_OP_COUNT)
        return anm_fail(err, ANM_ERR_UNSUPPORTED, "%s: an op that anemone does not know",
                        op->foreign ? op->foreign : "?");
    int rc, n = anm_mil_op_slots(op->code, &slots);
    if (!in_order(op, slots, n) && (rc = check_arguments(op, slots, n, err))) return rc;
    if (op->n_outs != 1 && op->code != ANM_OP_SPLIT)
        return anm_fail(err, ANM_ERR_FORMAT, "%s: %lu results, not one", name, (unsigned long)op->n_outs);
    for (uint32_t i = 0; i < op->n_outs; i++)
        outs[i] = (anm_mil_type){.dtype = ANM_DT_NONE};
    if (rules[op->code](&r)) return anm_fail(err, why.code, "%s: %s", name, why.text);
    return 0;
}
