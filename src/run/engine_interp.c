/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A step by the plain interpreter: the method's inputs are laid out in full (mask, whole caches), the function is run
 * as it stands, its outputs are taken apart. Slow and simple: the truth, the way of graphs that no plan fits, and the
 * way to see what an fp16 device makes of a program.
 */
#include "base/half.h"
#include "run/engine_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct run {
    const anm_loaded *l;
    const anm_method *m;
    const anm_step *step;
    anm_kv *kv;
    anm_mil_array *in, *out;
    anm_range *range;
    const uint8_t *masked;
    const int32_t *layer;
} run;

static int new_inputs(run *r, anm_error *err)
{
    const anm_mil_function *fn = r->m->fn;
    r->in = calloc(fn->n_inputs, sizeof *r->in);
    r->out = calloc(fn->n_outputs ? fn->n_outputs : 1, sizeof *r->out);
    if (!r->in || !r->out) return anm_fail_memory(err, "a step");
    for (uint32_t i = 0; i < fn->n_inputs; i++) {
        int64_t count;
        r->in[i].type = fn->inputs[i]->type;
        if (!anm_mil_type_count(&r->in[i].type, &count) || (uint64_t)count > SIZE_MAX / 4)
            return anm_fail(err, ANM_ERR_FORMAT, "input %u has no size", (unsigned)i);
        r->in[i].f = calloc((size_t)count + 1, 4);
        if (!r->in[i].f) return anm_fail_memory(err, "a step");
    }
    return 0;
}

/* The mask of all rows, 0 where a row sees an entry and minus infinity elsewhere; rows not in use see themselves. */
static void fill_mask(run *r)
{
    const anm_step *s = r->step;
    int64_t cache = r->kv->cache_len, width = cache + r->m->rows;
    for (int64_t i = 0; i < r->m->rows; i++) {
        float *row = r->in[r->m->mask].f + i * width;
        for (int64_t j = 0; j < width; j++) row[j] = -INFINITY;
        if (i >= s->n) {
            row[cache + i] = 0;
            continue;
        }
        for (int64_t j = 0; j < r->kv->cached; j++) row[j] = 0;
        for (int64_t j = 0; j < s->n; j++)
            if (s->see ? s->see[i * s->n + j] : j <= i) row[cache + j] = 0;
    }
}

static void fill_inputs(run *r)
{
    const anm_method *m = r->m;
    const anm_step *s = r->step;
    size_t w = (size_t)r->l->table_width;
    for (int32_t i = 0; i < s->n; i++) {
        r->in[m->tokens].i[i] = s->token[i];
        memcpy(r->in[m->cos].f + (size_t)i * w, r->l->cos + (size_t)s->pos[i] * w, w * sizeof(float));
        memcpy(r->in[m->sin].f + (size_t)i * w, r->l->sin + (size_t)s->pos[i] * w, w * sizeof(float));
    }
    fill_mask(r);
    /* Entries in use alone: what lies behind them may be infinite, and 0 times that is no 0. */
    const anm_kv *kv = r->kv;
    size_t n = (size_t)(kv->cached * kv->head_dim), head = (size_t)(kv->cache_len * kv->head_dim);
    for (int64_t layer = 0; layer < kv->layers; layer++)
        for (int v = 0; v < 2; v++)
            for (int64_t h = 0; h < kv->heads; h++) {
                float *to = r->in[v ? m->kv[layer].v_in : m->kv[layer].k_in].f + (size_t)h * head;
                const uint8_t *from = anm_kv_cache_at(kv, layer, v, h);
                if (!kv->fp16) memcpy(to, from, n * sizeof(float));
                else
                    for (size_t i = 0; i < n; i++) to[i] = anm_f16_to_f32(anm_ld16(from + 2 * i));
            }
}

static void keep_fresh(run *r)
{
    anm_kv *kv = r->kv;
    size_t d = (size_t)kv->head_dim, rows = (size_t)r->m->rows;
    for (int64_t layer = 0; layer < kv->layers; layer++)
        for (int v = 0; v < 2; v++)
            for (int64_t h = 0; h < kv->heads; h++) {
                const float *from =
                    r->out[v ? r->m->kv[layer].v_out : r->m->kv[layer].k_out].f + (size_t)h * rows * d;
                uint8_t *to = anm_kv_fresh_at(kv, layer, v, h);
                size_t n = (size_t)r->step->n * d;
                if (!kv->fp16) memcpy(to, from, n * sizeof(float));
                else
                    for (size_t i = 0; i < n; i++) anm_st16(to + 2 * i, anm_f32_to_f16(from[i]));
            }
    kv->rows = r->step->n;
}

static void note(void *ctx, const anm_mil_op *op, const anm_mil_array *result)
{
    run *r = ctx;
    anm_range_note(r->range, r->masked, r->layer, op, result);
}

static void free_outputs(run *r)
{
    for (uint32_t i = 0; r->out && i < r->m->fn->n_outputs; i++) anm_mil_array_free(&r->out[i]);
}

static bool wanted(const anm_step *s, int32_t row)
{
    return s->want ? s->want[row] : row == s->n - 1;
}

int anm_interp_step(float *logits, anm_kv *kv, const anm_loaded *l, const anm_method *m, const anm_step *step,
                    const anm_interp_how *how, anm_error *err)
{
    run r = {.l = l, .m = m, .step = step, .kv = kv, .range = how->range, .masked = how->masked, .layer = how->layer};
    anm_mil_interp_opts opts = {
        .round_fp16 = how->round_fp16, .after = how->range ? note : NULL, .ctx = &r, .pool = how->pool, .linear = how->linear};
    size_t vocab = (size_t)l->info.vocab_size, count = 0;
    int rc = new_inputs(&r, err);
    if (!rc) fill_inputs(&r);
    /* A method with the last row's logits only is run once for each row that is wanted, and at least once. */
    int32_t runs = 0;
    for (int32_t i = 0; i < step->n && !rc; i++) {
        bool all = m->logits_rows == m->rows && m->last_pos < 0;
        if (all ? i > 0 : !wanted(step, i) && !(i == step->n - 1 && runs == 0)) continue;
        if (m->last_pos >= 0) r.in[m->last_pos].i[0] = i;
        free_outputs(&r);
        memset(r.out, 0, m->fn->n_outputs * sizeof *r.out);
        rc = anm_mil_interp(r.out, m->fn, r.in, &opts, err);
        if (rc) break;
        runs++;
        for (int32_t k = 0; k < step->n; k++)
            if ((all || k == i) && wanted(step, k))
                memcpy(logits + vocab * count++, r.out[m->logits].f + (m->logits_rows == 1 ? 0 : vocab * (size_t)k),
                       vocab * sizeof(float));
    }
    if (!rc) keep_fresh(&r);
    free_outputs(&r);
    for (uint32_t i = 0; r.in && i < m->fn->n_inputs; i++) anm_mil_array_free(&r.in[i]);
    free(r.in);
    free(r.out);
    return rc;
}
