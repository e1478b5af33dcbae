/* SPDX-License-Identifier: BSD-3-Clause */
/* The engine's outside: opening a file, states, steps. See engine.h; the ways to run a step are elsewhere. */
#include "plan/plan.h"
#include "run/engine_internal.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* Rows of a step where a plan runs it, though the graph has fewer: what a step costs besides its rows (the weights that it
 * reads, the threads' meetings) is shared by more of them; beyond this there is little left to share. */
enum { STEP_ROWS = 128 };

struct anm_engine {
    anm_loaded l;
    anm_precision precision;
    anm_pool *pool; /* not owned */
    anm_rounding linear; /* for the interpreter */
    atomic_flag pool_taken; /* one state at a time uses the pool; others then run on their own thread, no less right */
    uint8_t *masked[ANM_METHOD_COUNT]; /* [value id]: may hold minus infinity; where ranges are kept */
    int32_t *layer[ANM_METHOD_COUNT];  /* [value id]: see anm_range_mark_layers; likewise */
    anm_plan *plan[ANM_METHOD_COUNT];  /* NULL: the interpreter runs it; usually both are one */
    anm_error why;                     /* … because of this */
    const anm_kernels *kernels;
};

struct anm_state {
    anm_engine *e;
    anm_kv kv;
    anm_range range;
    anm_plan_work *work[ANM_METHOD_COUNT];
    anm_plan_times times; /* now is NULL: nothing is measured */
    double *stage[ANM_METHOD_COUNT];
};

static int mark_ranges(anm_engine *e, anm_error *err)
{
    int rc = 0;
    for (int i = 0; i < ANM_METHOD_COUNT && !rc; i++) {
        const anm_method *m = &e->l.method[i];
        size_t n = (size_t)m->fn->n_values + 1;
        e->masked[i] = calloc(n, 1);
        e->layer[i] = calloc(n, sizeof *e->layer[i]);
        if (!e->masked[i] || !e->layer[i]) return anm_fail_memory(err, "program");
        anm_range_mark_masked(e->masked[i], m->fn, m->fn->inputs[m->mask]);
        rc = anm_range_mark_layers(e->layer[i], m, err);
    }
    return rc;
}

/* The map's pages of what is packed leave the process, so that it never holds the file and the packed weights together. */
static void done_with(void *ctx, const uint8_t *data, size_t n)
{
    const anm_map *map = ctx;
    uintptr_t at = (uintptr_t)data, base = (uintptr_t)map->data;
    if (map->data && at >= base && at - base < map->size) anm_map_done_with(map, at - base, n);
}

/* The wide method's plan computes the narrow one too where both are the same but for their rows, as they should be. */
static int make_plans(anm_engine *e, anm_error *err)
{
    const anm_method *wide = &e->l.method[ANM_METHOD_WIDE], *narrow = &e->l.method[ANM_METHOD_DECODE];
    anm_plan_opts opts = {.activations = e->precision == ANM_PRECISION_DEFAULT   ? ANM_ACT_INT8
                                         : e->precision == ANM_PRECISION_PRECISE ? ANM_ACT_INT8X2
                                                                                 : ANM_ACT_F32,
                          .kernels = e->kernels,
                          .pool = e->pool,
                          .rows = e->l.info.evicts ? 0 : STEP_ROWS, /* evicting goes by the graph's rows */
                          .done_with = done_with,
                          .ctx = &e->l.map};
    int rc = anm_plan_new(&e->plan[ANM_METHOD_WIDE], wide, &opts, &e->why);
    if (!rc && (e->l.n_methods == 1 || anm_plan_fits(e->plan[ANM_METHOD_WIDE], narrow)))
        e->plan[ANM_METHOD_DECODE] = e->plan[ANM_METHOD_WIDE];
    else if (!rc) rc = anm_plan_new(&e->plan[ANM_METHOD_DECODE], narrow, &opts, &e->why);
    /* The weights are packed now; of the file only embedding rows are still read, a few at a time. */
    if (!rc) anm_map_done_with(&e->l.map, 0, e->l.map.size);
    if (rc == ANM_ERR_UNSUPPORTED && e->why.code) return 0; /* no plan fits: the interpreter runs anything */
    if (rc && e->why.code) *err = e->why;
    if (!rc) e->l.info.step_len = anm_plan_most_rows(e->plan[ANM_METHOD_WIDE]);
    return rc;
}

static int new_engine(anm_engine **out, const anm_engine_opts *opts, anm_error *err)
{
    anm_engine *e = *out = calloc(1, sizeof *e);
    if (!e) return anm_fail_memory(err, "engine");
    atomic_flag_clear(&e->pool_taken);
    e->precision = opts ? opts->precision : ANM_PRECISION_DEFAULT;
    e->pool = opts ? opts->pool : NULL;
    if (opts) e->linear = opts->linear;
    return 0;
}

/* What follows once a program is loaded (`rc` 0); else, or when it fails, *out is freed. */
static int finish(anm_engine **out, int rc, const anm_engine_opts *opts, anm_error *err)
{
    anm_engine *e = *out;
    if (!rc) rc = anm_kernels_choose(&e->kernels, getenv("ANEMONE_ISA"), err);
    if (!rc && (e->precision == ANM_PRECISION_FP16 || (opts && opts->ranges))) rc = mark_ranges(e, err);
    else if (!rc && !(opts && (opts->interpret || opts->linear.bits))) rc = make_plans(e, err);
    if (!rc) return 0;
    anm_engine_free(e);
    *out = NULL;
    return rc;
}

int anm_engine_open(anm_engine **out, const char *path, const anm_engine_opts *opts, anm_error *err)
{
    int rc = new_engine(out, opts, err);
    if (!rc) rc = anm_loaded_open(&(*out)->l, path, err);
    return finish(out, rc, opts, err);
}

int anm_engine_of_model(anm_engine **out, const anm_model *model, const anm_model_form *form, const anm_engine_opts *opts,
                        anm_error *err)
{
    int rc = new_engine(out, opts, err);
    if (!rc) rc = anm_loaded_of_model(&(*out)->l, model, form, err);
    return finish(out, rc, opts, err);
}

void anm_engine_free(anm_engine *e)
{
    if (!e) return;
    for (int i = 0; i < ANM_METHOD_COUNT; i++) {
        free(e->masked[i]);
        free(e->layer[i]);
    }
    if (e->plan[0] != e->plan[1]) anm_plan_free(e->plan[0]);
    anm_plan_free(e->plan[1]);
    anm_loaded_close(&e->l);
    free(e);
}

const char *anm_engine_unplanned(const anm_engine *e)
{
    if (e->plan[ANM_METHOD_WIDE]) return NULL;
    return e->why.code ? e->why.text : "the interpreter was asked for";
}

const anm_plan *anm_engine_plan(const anm_engine *e, bool wide)
{
    return e->plan[wide ? ANM_METHOD_WIDE : ANM_METHOD_DECODE];
}

const anm_kernels *anm_engine_kernels(const anm_engine *e)
{
    return e->kernels;
}

const anm_engine_info *anm_engine_get_info(const anm_engine *e)
{
    return &e->l.info;
}

int anm_state_new(anm_state **out, anm_engine *e, anm_error *err)
{
    *out = NULL;
    anm_state *s = calloc(1, sizeof *s);
    if (!s) return anm_fail_memory(err, "state");
    s->e = e;
    int rc = anm_kv_new(&s->kv, &e->l.method[ANM_METHOD_WIDE], e->l.info.step_len, err);
    s->kv.evicts = e->l.info.evicts;
    if (!rc && e->layer[0]) {
        s->range.by_layer = calloc((size_t)e->l.info.n_layers + 2, sizeof *s->range.by_layer);
        if (!s->range.by_layer) rc = anm_fail_memory(err, "state");
    }
    for (int i = 0; i < ANM_METHOD_COUNT && !rc; i++) {
        bool shared = i > 0 && e->plan[i] == e->plan[0];
        if (shared) s->work[i] = s->work[0];
        else if (e->plan[i]) rc = anm_plan_work_new(&s->work[i], e->plan[i], e->pool, err);
    }
    if (rc) {
        anm_state_free(s);
        return rc;
    }
    *out = s;
    return 0;
}

void anm_state_free(anm_state *s)
{
    if (!s) return;
    anm_kv_free(&s->kv);
    if (s->work[0] != s->work[1]) anm_plan_work_free(s->work[0]);
    anm_plan_work_free(s->work[1]);
    free(s->range.by_layer);
    free(s);
}

void anm_state_reset(anm_state *s)
{
    s->kv.cached = s->kv.next = 0;
    s->kv.rows = 0;
    s->times = (anm_plan_times){.now = s->times.now};
}

void anm_state_measure(anm_state *s, double (*now)(void))
{
    s->times = (anm_plan_times){.now = now};
}

void anm_state_measure_stages(anm_state *s, double (*now)(void), double *wide, double *narrow)
{
    anm_state_measure(s, now);
    s->stage[ANM_METHOD_WIDE] = wide;
    s->stage[ANM_METHOD_DECODE] = narrow;
}

const anm_plan_times *anm_state_times(const anm_state *s)
{
    return s->times.now && s->e->plan[ANM_METHOD_WIDE] ? &s->times : NULL;
}

int64_t anm_state_cached(const anm_state *s)
{
    return s->kv.cached;
}

static int check_step(const anm_engine_info *info, const anm_step *step, anm_error *err)
{
    if (step->n < 1 || step->n > info->step_len)
        return anm_fail(err, ANM_ERR_USAGE, "a step of %d rows; the program takes 1 to %lld", step->n,
                        (long long)info->step_len);
    for (int32_t i = 0; i < step->n; i++) {
        if (step->token[i] < 0 || step->token[i] >= info->vocab_size)
            return anm_fail(err, ANM_ERR_LIMIT, "token id %d is outside the vocabulary of %lld", step->token[i],
                            (long long)info->vocab_size);
        if (step->pos[i] < 0 || step->pos[i] >= info->max_context)
            return anm_fail(err, ANM_ERR_LIMIT, "position %d is beyond the context of %lld", step->pos[i],
                            (long long)info->max_context);
        if (step->see && !step->see[(int64_t)i * step->n + i])
            return anm_fail(err, ANM_ERR_USAGE, "row %d does not see itself", i);
    }
    return 0;
}

int anm_state_step(float *logits, anm_state *s, const anm_step *step, anm_error *err)
{
    anm_engine *e = s->e;
    int rc = check_step(&e->l.info, step, err);
    if (rc) return rc;
    int which = step->n <= e->l.info.decode_len ? ANM_METHOD_DECODE : ANM_METHOD_WIDE;
    bool mine = e->pool && !atomic_flag_test_and_set(&e->pool_taken);
    anm_pool *pool = mine ? e->pool : NULL;
    s->times.stage = s->stage[which];
    if (e->plan[which]) {
        anm_plan_rows rows = {step->n, step->token, step->pos, step->see, step->want, e->l.cos, e->l.sin,
                              s->times.now ? &s->times : NULL};
        anm_plan_run(logits, e->plan[which], s->work[which], &s->kv, &rows, pool);
    } else {
        bool fp16 = e->precision == ANM_PRECISION_FP16;
        const anm_interp_how how = {fp16, e->linear, e->layer[which] ? &s->range : NULL, e->masked[which], e->layer[which], pool};
        rc = anm_interp_step(logits, &s->kv, &e->l, &e->l.method[which], step, &how, err);
    }
    if (mine) atomic_flag_clear(&e->pool_taken);
    return rc;
}

int anm_state_commit(anm_state *s, int32_t row, int32_t n, anm_error *err)
{
    return anm_kv_commit(&s->kv, row, n, err);
}

void anm_state_truncate(anm_state *s, int64_t keep)
{
    if (keep >= 0 && keep < s->kv.cached) s->kv.cached = s->kv.next = keep;
}

int anm_state_evict(anm_state *s, int64_t first, int64_t n, anm_error *err)
{
    const anm_loaded *l = &s->e->l;
    if (s->kv.evicts) return anm_fail(err, ANM_ERR_UNSUPPORTED, "a program of the deprecated form forgets its oldest tokens by itself");
    if (n < 0 || n >= l->info.max_context) return anm_fail(err, ANM_ERR_USAGE, "%lld entries to drop", (long long)n);
    /* Tables that scale as they turn (position 0 is not 1 and 0) cannot be undone by their own rows. */
    anm_key_pairs turned = l->cos[0] == 1 && l->sin[0] == 0 ? anm_method_pairs(&l->method[ANM_METHOD_WIDE]) : ANM_PAIRS_UNKNOWN;
    return anm_kv_evict(&s->kv, first, n, turned, l->cos + n * l->table_width,
                        l->sin + n * l->table_width, l->table_width, err);
}

void anm_state_print_range(FILE *to, const anm_state *s)
{
    anm_range_print(to, &s->range);
}

float anm_state_largest(const anm_state *s, int64_t layer, anm_mil_opcode code)
{
    if (!s->range.by_layer || layer < -1 || layer > s->e->l.info.n_layers) return 0;
    return s->range.by_layer[layer + 1][code];
}
