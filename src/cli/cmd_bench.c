/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * anemone bench: how fast a program runs on this machine, and what of the machine's best that is. Rounds of all
 * measurements follow each other, so that a machine which is slower for a while is so for all of them; the middle round
 * counts. What a stage takes is measured apart, since reading the clock takes time too.
 */
#include "base/outfile.h"
#include "base/pool.h"
#include "cli/bench.h"
#include "cli/cli.h"
#include "cli/not_program.h"
#include "cli/opt.h"
#include "kernel/roofline.h"
#include "plan/report.h"
#include "run/session.h"

#include <stdlib.h>
#include <string.h>

enum { MOST_ROUNDS = 99, AGAIN = 7 }; /* AGAIN: how often a single step is timed */
#define ROOF_SECONDS 0.1

typedef struct options {
    const char *model, *plot, *precision;
    int64_t threads, prompt_len, decode_len, rounds;
    bool json, rates;
} options;

typedef struct benching {
    bench b;
    anm_llm *llm;
    anm_engine *engine;
    const anm_engine_info *info;
    anm_session *session;
    anm_state *state;
    anm_roof *roof;
    int32_t *ids, *pos; /* [context] what is fed: any tokens do; 0, 1, 2, … */
    float *logits;
    double *stage; /* [stages]: of the plan at hand */
} benching;

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double middle(double *v, int64_t n)
{
    qsort(v, (size_t)n, sizeof *v, compare_doubles);
    return n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

/* ---- opening ---- */

static int check_lengths(benching *g, const options *o, anm_error *err)
{
    const anm_engine_info *i = g->info;
    int64_t reach = g->session->capacity;
    if (o->prompt_len > i->cache_len || o->prompt_len + o->decode_len > reach)
        return anm_fail(err, ANM_ERR_LIMIT,
                        "%s: --prompt_len %lld and --decode_len %lld do not fit: the cache holds %lld tokens, the context %lld",
                        o->model, (long long)o->prompt_len, (long long)o->decode_len, (long long)i->cache_len, (long long)reach);
    g->b.layers = i->n_layers;
    g->b.context = i->max_context;
    g->b.cache_len = i->cache_len;
    g->b.input_len = i->input_len;
    g->b.form = i->deprecated ? "deprecated" : i->multifunction ? "multifunction" : "single";
    return 0;
}

/* What a token of the decoding reads, one of the prompt multiplies; and room to measure the same in. */
static int set_roof(benching *g, anm_error *err)
{
    bench *b = &g->b;
    const anm_plan *narrow = anm_engine_plan(g->engine, false), *wide = anm_engine_plan(g->engine, true);
    if (!narrow) return 0;
    anm_plan_cost cost;
    anm_plan_get_cost(&cost, narrow);
    b->bytes = (double)cost.weight_bytes + (double)cost.cache_bytes * ((double)b->prompt_len + (double)b->decode_len / 2);
    anm_plan_get_cost(&cost, wide);
    if (cost.int8) b->products = (double)cost.layer_products + (double)cost.head_products / (double)b->prompt_len;
    return anm_roof_new(&g->roof, (size_t)b->bytes, anm_engine_kernels(g->engine), g->llm->pool, err);
}

static int open_all(benching *g, const options *o, anm_error *err)
{
    bench *b = &g->b;
    b->model = o->model;
    b->precision = o->precision;
    b->prompt_len = o->prompt_len;
    b->decode_len = o->decode_len;
    b->rounds = o->rounds;
    const anm_llm_opts how = {.precision = strcmp(o->precision, "exact") == 0     ? ANM_PRECISION_EXACT
                                           : strcmp(o->precision, "precise") == 0 ? ANM_PRECISION_PRECISE
                                                                                  : ANM_PRECISION_DEFAULT,
                              .threads = (unsigned)o->threads};
    double start = anm_seconds();
    int rc = anm_llm_open(&g->llm, o->model, &how, err);
    if (rc == ANM_ERR_FORMAT || rc == ANM_ERR_IO) return cli_not_program(o->model, err);
    if (rc) return rc;
    b->load = anm_seconds() - start;
    b->threads = anm_pool_threads(g->llm->pool);
    g->engine = g->llm->engine;
    g->info = anm_engine_get_info(g->engine);
    b->unplanned = anm_engine_unplanned(g->engine);
    b->isa = b->unplanned ? "interpreter" : anm_engine_kernels(g->engine)->name;
    rc = anm_session_new(&g->session, g->llm, err);
    if (!rc) rc = check_lengths(g, o, err);
    if (!rc) rc = anm_state_new(&g->state, g->engine, err);
    if (!rc) rc = set_roof(g, err);
    if (rc) return rc;
    g->ids = calloc((size_t)g->info->max_context, sizeof *g->ids);
    g->logits = calloc((size_t)g->info->vocab_size, sizeof *g->logits);
    g->pos = calloc((size_t)g->info->max_context, sizeof *g->pos);
    if (!g->ids || !g->pos || !g->logits) return anm_fail_memory(err, "the benchmark");
    uint32_t seed = 1;
    for (int64_t i = 0; i < g->info->max_context; i++) {
        seed = seed * 1664525u + 1013904223u;
        g->ids[i] = (int32_t)(((uint64_t)seed * (uint64_t)g->info->vocab_size) >> 32);
        g->pos[i] = (int32_t)i;
    }
    return 0;
}

static void close_all(benching *g)
{
    anm_roof_free(g->roof);
    anm_state_free(g->state);
    anm_session_free(g->session);
    anm_llm_free(g->llm);
    free(g->ids);
    free(g->pos);
    free(g->logits);
    free(g->stage);
}

/* ---- rates ---- */

/* A prompt, and an answer to it, as anemone run does it. */
static int one_run(double *prefill, double *decode, benching *g, anm_error *err)
{
    const bench *b = &g->b;
    anm_session_stats s;
    anm_end end;
    anm_session_reset(g->session);
    int rc = anm_session_feed(g->session, g->ids, (size_t)b->prompt_len, err);
    /* The first new token comes of the prompt, so decode_len steps make one more. */
    const anm_generation how = {.max_new = b->decode_len + 1};
    if (!rc) rc = anm_session_generate(&end, g->session, &how, err);
    if (rc) return rc;
    anm_session_get_stats(&s, g->session);
    *prefill = (double)s.fed_tokens / s.feed_seconds;
    *decode = (double)s.steps / s.generate_seconds;
    return 0;
}

static int measure_rates(benching *g, anm_error *err)
{
    bench *b = &g->b;
    double prefill[MOST_ROUNDS], decode[MOST_ROUNDS], read[MOST_ROUNDS], multiply[MOST_ROUNDS], of_read[MOST_ROUNDS],
        of_multiply[MOST_ROUNDS];
    int rc = 0;
    for (int64_t i = -1; i < b->rounds && !rc; i++) {
        if (cli_stop_asked()) return anm_fail(err, ANM_ERR_STOPPED, "interrupted");
        int64_t at = i < 0 ? 0 : i; /* the first of all only warms up */
        if (i < 0 && b->unplanned) continue;
        rc = one_run(&prefill[at], &decode[at], g, err);
        if (rc || !g->roof) continue;
        read[at] = anm_roof_read(g->roof, ROOF_SECONDS);
        multiply[at] = anm_roof_multiply(g->roof, ROOF_SECONDS / 2);
        of_read[at] = decode[at] * b->bytes / read[at];
        of_multiply[at] = prefill[at] * b->products / multiply[at];
    }
    if (rc) return rc;
    b->prefill = middle(prefill, b->rounds);
    b->decode = middle(decode, b->rounds);
    if (!g->roof) return 0;
    b->read = middle(read, b->rounds);
    b->multiply = middle(multiply, b->rounds);
    b->decode_share = middle(of_read, b->rounds);
    b->prefill_share = middle(of_multiply, b->rounds);
    return 0;
}

/* ---- by length ---- */

/* Tokens [cached, cached + n) in one step; committed where asked for. */
static int step(double *took, benching *g, int32_t n, bool commit, anm_error *err)
{
    int64_t at = anm_state_cached(g->state);
    const anm_step s = {.n = n, .token = g->ids + at, .pos = g->pos + at};
    double start = anm_seconds();
    int rc = anm_state_step(g->logits, g->state, &s, err);
    *took = anm_seconds() - start;
    return !rc && commit ? anm_state_commit(g->state, 0, n, err) : rc;
}

/* Fills the cache up to `tokens` entries; adds what that took. */
static int fill(double *took, benching *g, int64_t tokens, anm_error *err)
{
    int64_t most = g->info->input_len;
    int rc = 0;
    for (int64_t left; !rc && (left = tokens - anm_state_cached(g->state)) > 0;) {
        double t;
        if (cli_stop_asked()) return anm_fail(err, ANM_ERR_STOPPED, "interrupted");
        rc = step(&t, g, (int32_t)(left < most ? left : most), true, err);
        *took += t;
    }
    return rc;
}

/* At 1, 2, 4, … tokens, and at the cache's end: what the prompt so far took, and what one token more takes. */
static int measure_lengths(benching *g, anm_error *err)
{
    bench *b = &g->b;
    int64_t end = b->cache_len < b->context - 1 ? b->cache_len : b->context - 1;
    if (b->unplanned && end > b->prompt_len + b->decode_len) end = b->prompt_len + b->decode_len;
    double all = 0, took[AGAIN];
    int rc = 0;
    anm_state_reset(g->state);
    for (int64_t n = 1; n <= end && !rc && b->n_decode < BENCH_POINTS; n = n == end ? end + 1 : 2 * n < end ? 2 * n : end) {
        if (cli_stop_asked()) return anm_fail(err, ANM_ERR_STOPPED, "interrupted");
        rc = fill(&all, g, n, err);
        int again = b->unplanned ? 1 : AGAIN;
        for (int i = 0; i < again && !rc; i++) rc = step(&took[i], g, 1, false, err);
        if (rc) break;
        b->decode_at[b->n_decode++] = (bench_point){n, middle(took, again)};
        if (n >= b->input_len) b->prefill_at[b->n_prefill++] = (bench_point){n, (double)n / all};
    }
    return rc;
}

/* ---- by op ---- */

static bench_op *op_named(bench *b, const char *name)
{
    for (int i = 0; i < b->n_ops; i++)
        if (!strcmp(b->op[i].name, name)) return &b->op[i];
    if (b->n_ops == BENCH_OPS) return &b->op[BENCH_OPS - 1]; /* far more kinds than any model has: the last one gathers */
    bench_op *o = &b->op[b->n_ops++];
    snprintf(o->name, sizeof o->name, "%s", name);
    return o;
}

static int measure_stages(benching *g, bool wide, anm_error *err)
{
    bench *b = &g->b;
    const anm_plan *p = anm_engine_plan(g->engine, wide);
    if (!p) return 0;
    int32_t n = anm_plan_stages(p);
    double took = 0, tokens = (double)(wide ? b->prompt_len : b->decode_len);
    free(g->stage);
    g->stage = calloc((size_t)n + 1, sizeof *g->stage);
    if (!g->stage) return anm_fail_memory(err, "the benchmark");
    anm_state_reset(g->state);
    int rc = 0;
    if (!wide) rc = fill(&took, g, b->prompt_len, err);
    anm_state_measure_stages(g->state, anm_seconds, wide ? g->stage : NULL, wide ? NULL : g->stage);
    if (anm_engine_plan(g->engine, true) == anm_engine_plan(g->engine, false))
        anm_state_measure_stages(g->state, anm_seconds, g->stage, g->stage);
    if (wide) rc = fill(&took, g, b->prompt_len, err);
    for (int64_t i = 0; !wide && !rc && i < b->decode_len && !cli_stop_asked(); i++)
        rc = step(&took, g, 1, anm_state_cached(g->state) < b->cache_len, err);
    anm_state_measure_stages(g->state, NULL, NULL, NULL);
    for (int32_t i = 0; i < n && !rc; i++) {
        if (g->stage[i] <= 0) continue;
        char name[BENCH_NAME];
        bench_op *o = op_named(b, anm_plan_stage_name(name, sizeof name, p, i));
        if (wide) {
            o->prefill += g->stage[i] / tokens;
        } else {
            o->decode += g->stage[i] / tokens;
            o->count++;
        }
    }
    return rc;
}

static int by_cost(const void *a, const void *b)
{
    double x = ((const bench_op *)a)->decode, y = ((const bench_op *)b)->decode;
    return (x < y) - (x > y);
}

static int measure(benching *g, bool rates_only, anm_error *err)
{
    cli_handle_stop(true);
    int rc = measure_rates(g, err);
    if (!rates_only) {
        if (!rc) rc = measure_lengths(g, err);
        if (!rc) rc = measure_stages(g, false, err);
        if (!rc) rc = measure_stages(g, true, err);
    }
    if (!rc && cli_stop_asked()) rc = anm_fail(err, ANM_ERR_STOPPED, "interrupted");
    qsort(g->b.op, (size_t)g->b.n_ops, sizeof *g->b.op, by_cost);
    return rc;
}

int cmd_bench(int argc, char **argv)
{
    options o = {.precision = "default", .prompt_len = 256, .decode_len = 64, .rounds = 5};
    const cli_opt table[] = {
        {'m', "model", CLI_STRING, &o.model, "FILE", "the program (.pte)", NULL},
        {'j', "threads", CLI_INT, &o.threads, "N", "threads (0: one per processor)", NULL},
        {0, "prompt_len", CLI_INT, &o.prompt_len, "N", "tokens fed (256)", NULL},
        {0, "decode_len", CLI_INT, &o.decode_len, "N", "steps of one token each after them (64)", NULL},
        {0, "rounds", CLI_INT, &o.rounds, "N", "how often; the middle one counts (5)", NULL},
        {0, "precision", CLI_CHOICE, &o.precision, "default|precise|exact", "see anemone run", NULL},
        {0, "rates", CLI_FLAG, &o.rates, NULL, "the two rates alone: no other lengths, no time by op", NULL},
        {0, "json", CLI_FLAG, &o.json, NULL, "print JSON", NULL},
        {0, "plot", CLI_STRING, &o.plot, "FILE.svg", "draw the speeds by length, too", NULL},
        {0},
    };
    anm_error err = {0};
    benching g = {0};
    int rc = cli_parse(table, "anemone bench -m MODEL.pte [OPTION…]", argc, argv, NULL, 0, NULL, &err);
    if (rc == CLI_HELPED) return EXIT_OK;
    if (!rc && !o.model) rc = anm_fail(&err, ANM_ERR_USAGE, "bench: -m FILE says which program; it is missing");
    if (!rc && (o.threads < 0 || o.threads > ANM_THREADS_MAX)) rc = anm_fail(&err, ANM_ERR_USAGE, "bench: -j must be between 0 and %d", ANM_THREADS_MAX);
    if (!rc && (o.prompt_len < 1 || o.decode_len < 1 || o.prompt_len > INT32_MAX || o.decode_len > INT32_MAX))
        rc = anm_fail(&err, ANM_ERR_USAGE, "bench: --prompt_len and --decode_len must be at least 1");
    if (!rc && (o.rounds < 1 || o.rounds > MOST_ROUNDS))
        rc = anm_fail(&err, ANM_ERR_USAGE, "bench: --rounds must be between 1 and %d", MOST_ROUNDS);
    if (!rc && o.rates && o.plot) rc = anm_fail(&err, ANM_ERR_USAGE, "bench: --plot draws speeds by length, which --rates leaves out");
    if (!rc && o.plot) rc = anm_outfile_check_beside(o.plot, &o.model, 1, &err); /* said before the work */
    if (!rc) rc = open_all(&g, &o, &err);
    if (!rc && (rc = measure(&g, o.rates, &err)) && !strstr(err.text, o.model)) anm_error_prefix(&err, o.model);
    if (!rc && o.plot) rc = bench_plot(o.plot, &g.b, &err);
    if (!rc && o.json) rc = bench_json(stdout, &g.b, &err);
    else if (!rc) bench_table(stdout, &g.b);
    close_all(&g);
    int code = rc ? cli_fail(&err) : EXIT_OK;
    cli_die_if_stopped();
    return code;
}
