/* SPDX-License-Identifier: BSD-3-Clause */
#include "plan/report.h"
#include "plan/internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static int64_t products(const anm_linear_part *part)
{
    return part->spec.rows * part->spec.cols * (part->spec.n_up ? 2 : 1);
}

void anm_plan_get_cost(anm_plan_cost *out, const anm_plan *p)
{
    const anm_method *m = p->m;
    *out = (anm_plan_cost){.int8 = p->activations == ANM_ACT_INT8,
                           .cache_bytes = m->n_layers * 2 * m->n_kv_heads * m->head_dim * (m->fp16_cache ? 2 : 4)};
    for (int32_t i = 0; i < p->n_steps; i++)
        for (uint32_t k = 0; k < p->step[i].n_parts; k++) {
            const anm_linear_part *part = &p->step[i].part[k];
            out->weight_bytes += (int64_t)part->packed.size;
            *(i < p->tail ? &out->layer_products : &out->head_products) += products(part);
            out->int8 = out->int8 && part->packed.is_q4;
        }
}

int32_t anm_plan_stages(const anm_plan *p)
{
    return 2 * p->n_steps;
}

/* Text that ends where the room does. */
typedef struct line {
    char *at;
    size_t left;
} line;

static void put(line *l, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int n = vsnprintf(l->at, l->left, format, args);
    va_end(args);
    size_t went = n < 0 ? 0 : (size_t)n < l->left ? (size_t)n : l->left - 1;
    l->at += went;
    l->left -= went;
}

static void put_linear(line *l, const anm_plan_step *s)
{
    bool gated = false, added = false, logits = false;
    put(l, "linear %lld ->", (long long)s->part[0].spec.cols);
    for (uint32_t k = 0; k < s->n_parts; k++) {
        const anm_linear_part *part = &s->part[k];
        put(l, "%s %lld", k ? " +" : "", (long long)part->spec.rows);
        gated |= part->spec.n_up > 0;
        added |= part->add >= 0;
        logits |= part->out == ANM_BUF_LOGITS;
    }
    put(l, "%s%s%s", gated ? ", gated" : "", added ? ", added" : "", logits ? ", logits" : "");
}

static bool alone(const anm_plan_step *s)
{
    return s->kind != ANM_STEP_LINEAR && s->kind != ANM_STEP_ATTEND;
}

static bool rounds(const anm_plan *p, const anm_plan_step *s)
{
    bool yes = false;
    for (uint32_t k = 0; k < s->n_parts; k++) yes |= s->part[k].packed.is_q4 && p->activations != ANM_ACT_F32;
    return yes;
}

const char *anm_plan_stage_name(char *out, size_t n, const anm_plan *p, int32_t i)
{
    line l = {out, n};
    const anm_plan_step *s = &p->step[i / 2], *end = p->step + p->n_steps;
    *out = 0;
    if (i % 2) {
        if (s->kind == ANM_STEP_LINEAR) put_linear(&l, s);
        else put(&l, "%s", s->kind == ANM_STEP_ATTEND ? "attention" : "");
        return out;
    }
    if (s->kind == ANM_STEP_EMBED) {
        put(&l, "embedding");
        return out;
    }
    const anm_plan_step *first = s;
    for (; s < end && alone(s) && (s == first || s - p->step != p->tail); s++)
        if (s == first || s->kind != s[-1].kind) put(&l, "%s%s", s == first ? "" : ", ", anm_plan_kind_name(s->kind));
    if (s < end && (s == first || s - p->step != p->tail) && rounds(p, s)) put(&l, "%sto int8", s == first ? "" : ", ");
    return out;
}
