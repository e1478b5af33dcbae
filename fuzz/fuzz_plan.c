/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The optimised engine against the interpreter: the bytes choose a method (graphs.c) and the steps of a conversation; where
 * a plan fits the method, the plan must give what the interpreter gives, and the same bits however the rows are cut into
 * steps.
 *
 * What "gives" means: the plan may sum in another order and fuse products into sums, so it may be off by rounding. How
 * much rounding matters to this very graph is found out by moving all its floats a little and asking the interpreter
 * again. In fp16 the plan besides rounds new keys and values before it uses them, as they will be in the cache.
 */
#include "fuzz.h"

#include "base/buf.h"
#include "base/half.h"
#include "graphs.h"
#include "plan/plan.h"
#include "run/engine_internal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_ROWS = 12, MOST_VOCAB = 32, MOST_STEPS = MOST_ROWS };

const bool fuzz_bounded = false;

typedef struct talk {
    int32_t token[MOST_ROWS], n;
    int32_t step[MOST_STEPS]; /* rows of each step; they sum up to n */
    uint8_t see[MOST_STEPS][MOST_ROWS * MOST_ROWS];
    bool sees; /* `see` counts; else rows are causal */
} talk;

typedef struct answer {
    float logits[MOST_ROWS][MOST_VOCAB];
    anm_kv kv;
    bool complete; /* every step was defined */
} answer;

static void make_talk(talk *t, fuzz_dice *d, const anm_method *m)
{
    memset(t, 0, sizeof *t);
    int32_t most = (int32_t)(m->cache_len < MOST_ROWS ? m->cache_len : MOST_ROWS);
    t->n = most - (int32_t)fuzz_pick(d, (unsigned)most);
    t->sees = fuzz_pick(d, 4) == 3;
    for (int32_t i = 0; i < t->n; i++) t->token[i] = (int32_t)((unsigned)(i * 7 + 3) % (unsigned)m->vocab_size);
    for (int32_t i = 0, at = 0; at < t->n; i++) {
        int32_t rows = (int32_t)m->rows - (int32_t)fuzz_pick(d, (unsigned)m->rows);
        t->step[i] = rows < t->n - at ? rows : t->n - at;
        for (int32_t k = 0; k < t->step[i] * t->step[i]; k++) t->see[i][k] = k % (t->step[i] + 1) == 0 || fuzz_pick(d, 2);
        at += t->step[i];
    }
}

typedef struct way {
    const anm_plan *plan; /* NULL: the interpreter */
    anm_plan_work *work;
    anm_pool *pool;       /* NULL: one thread */
    const anm_loaded *l;
} way;

/* The whole conversation. One row at a time if `singly`. */
static void speak(answer *out, const way *w, const talk *t, bool singly)
{
    const anm_method *m = &w->l->method[ANM_METHOD_WIDE];
    static const uint8_t all[MOST_ROWS] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
    static float logits[MOST_ROWS * MOST_VOCAB];
    int32_t pos[MOST_ROWS];
    anm_error err;
    memset(out, 0, sizeof *out);
    if (anm_kv_new(&out->kv, m, m->rows, &err)) abort();
    for (int32_t i = 0, at = 0; at < t->n; i++) {
        int32_t rows = singly ? 1 : t->step[i];
        for (int32_t k = 0; k < rows; k++) pos[k] = at + k;
        const anm_step step = {rows, t->token + at, pos, t->sees && !singly ? t->see[i] : NULL, all};
        if (w->plan) {
            const anm_plan_rows r = {rows, step.token, step.pos, step.see, step.want, w->l->cos, w->l->sin, NULL};
            anm_plan_run(logits, w->plan, w->work, &out->kv, &r, w->pool);
        } else if (anm_interp_step(logits, &out->kv, w->l, m, &step, &(anm_interp_how){0}, &err)) {
            return; /* such as an index that is outside of what it indexes: the program says nothing */
        }
        for (int32_t k = 0; k < rows; k++)
            memcpy(out->logits[at + k], logits + k * m->vocab_size, (size_t)m->vocab_size * sizeof *logits);
        if (anm_kv_commit(&out->kv, 0, rows, &err)) abort();
        at += rows;
    }
    out->complete = true;
}

static float element(const anm_kv *kv, size_t i)
{
    float f;
    if (kv->fp16) return anm_f16_to_f32(anm_ld16(kv->cache + 2 * i));
    memcpy(&f, kv->cache + 4 * i, 4);
    return f;
}

/* The largest number, and the largest distance of two answers, of logits or of the cache; infinite where one is no number. */
static void measure(float *size, float *distance, const answer *a, const answer *b, const anm_method *m, const talk *t, bool cache)
{
    size_t n = cache ? (size_t)(m->n_layers * 2 * m->n_kv_heads * m->cache_len * m->head_dim) : (size_t)(t->n * m->vocab_size);
    *size = *distance = 0;
    for (size_t i = 0; i < n; i++) {
        size_t row = cache ? 0 : i / (size_t)m->vocab_size, column = cache ? 0 : i % (size_t)m->vocab_size;
        float x = cache ? element(&a->kv, i) : a->logits[row][column], y = cache ? element(&b->kv, i) : b->logits[row][column];
        if (!(fabsf(x) <= *size)) *size = isfinite(x) ? fabsf(x) : INFINITY;
        if (!(fabsf(x - y) <= *distance)) *distance = isfinite(x - y) ? fabsf(x - y) : INFINITY;
    }
}

static void show(const fuzz_graph *g, const anm_plan *plan, const char *what)
{
    anm_buf text = {0};
    anm_error err;
    if (anm_mil_print(&text, &g->program, false, &err) == 0) anm_plan_print(&text, plan);
    if (text.size) fwrite(text.data, 1, text.size, stderr);
    anm_buf_free(&text);
    fprintf(stderr, "%s\n", what);
    abort();
}

static void compare(const fuzz_graph *g, const anm_plan *plan, const answer *truth, const answer *moved, const answer *other,
                    const talk *t)
{
    float base = g->type == ANM_DT_F16 ? 4e-3f : 1e-5f;
    for (int cache = 0; cache < 2; cache++) {
        float size, doubt, distance, most;
        char what[160];
        measure(&size, &doubt, truth, moved, &g->method, t, cache);
        measure(&size, &distance, truth, other, &g->method, t, cache);
        if (!isfinite(size) || !isfinite(doubt)) return; /* nothing follows from infinities */
        most = base * (size + 1) + 4 * doubt;
        if (distance <= most) continue;
        snprintf(what, sizeof what, "plan and interpreter differ by %g in %s up to %g; %g is what rounding may do", (double)distance,
                 cache ? "keys or values" : "logits", (double)size, (double)most);
        show(g, plan, what);
    }
}

static void try_plan(fuzz_graph *g, const talk *t, const anm_loaded *l, const anm_kernels *kernels, anm_activations act,
                     anm_pool *pool)
{
    static answer truth, moved, other, single;
    const anm_plan_opts opts = {.activations = act, .kernels = kernels};
    way w = {.l = l, .pool = pool};
    anm_plan *plan;
    anm_error err;
    if (anm_plan_new(&plan, &g->method, &opts, &err)) {
        if (err.code != ANM_ERR_UNSUPPORTED) abort();
        return;
    }
    if (anm_plan_work_new(&w.work, plan, pool, &err)) abort();
    w.plan = plan;
    speak(&other, &w, t, false);
    if (!t->sees) {
        speak(&single, &w, t, true);
        if (memcmp(single.logits, other.logits, sizeof other.logits)) show(g, plan, "other logits row by row");
        anm_kv_free(&single.kv);
    }
    w.plan = NULL;
    if (act == ANM_ACT_F32) {
        speak(&truth, &w, t, false);
        fuzz_graph_shake(g);
        speak(&moved, &w, t, false);
        if (truth.complete && moved.complete) compare(g, plan, &truth, &moved, &other, t);
        anm_kv_free(&truth.kv);
        anm_kv_free(&moved.kv);
    }
    anm_kv_free(&other.kv);
    anm_plan_work_free(w.work);
    anm_plan_free(plan);
}

/* Heads are dealt out to three otherwise than done by one. */
static anm_pool *threads(void)
{
    static anm_pool *pool;
    anm_error err;
    if (!pool && anm_pool_new(&pool, 3, &err)) abort();
    return pool;
}

void fuzz_one(const uint8_t *data, size_t size)
{
    static const char *const isa[] = {NULL, "plain", "avx2"};
    fuzz_dice dice = {data, size};
    fuzz_graph g;
    talk t;
    anm_loaded l = {0};
    const anm_kernels *kernels;
    anm_error err;
    const char *force = isa[fuzz_pick(&dice, 3)];
    unsigned how = fuzz_pick(&dice, 8);
    anm_activations act = how == 7 ? ANM_ACT_INT8 : how == 6 ? ANM_ACT_INT8X2 : ANM_ACT_F32;
    if (anm_kernels_choose(&kernels, force, &err) && anm_kernels_choose(&kernels, NULL, &err)) abort();
    if (fuzz_graph_make(&g, &dice) && g.method.cache_len <= MOST_ROWS && g.method.vocab_size <= MOST_VOCAB) {
        make_talk(&t, &dice, &g.method);
        l.method[ANM_METHOD_WIDE] = g.method;
        l.info.vocab_size = g.method.vocab_size;
        l.cos = g.cos;
        l.sin = g.sin;
        l.table_width = g.method.table_width;
        try_plan(&g, &t, &l, kernels, act, fuzz_pick(&dice, 4) == 3 ? threads() : NULL);
    }
    fuzz_graph_free(&g);
}
