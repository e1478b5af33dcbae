/* SPDX-License-Identifier: BSD-3-Clause */
/* anemone eval: perplexity on a text, and the distance to another file or to the checkpoint itself. */
#include "base/json.h"
#include "base/pool.h"
#include "cli/cli.h"
#include "cli/input.h"
#include "cli/opt.h"
#include "cli/text.h"
#include "cli/tree.h"
#include "eval/eval.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

typedef struct options {
    const char *model, *tokenizer, *config, *text, *against, *params, *precision, *against_precision, *activations;
    int64_t window, max_windows, skip, threads;
    bool bos, json, exact, precise, quiet;
} options;

/* One of the two sides: a program or a checkpoint, open. */
typedef struct side {
    const char *path;
    anm_engine_opts how; /* of a program */
    anm_engine *engine;
    anm_ckpt *ckpt;
    anm_model *model;
    anm_scorer *scorer;
} side;

static void close_side(side *s)
{
    anm_scorer_free(s->scorer);
    anm_engine_free(s->engine);
    anm_model_free(s->model);
    anm_ckpt_close(s->ckpt);
}

/* What is read once, as a pipe is, is taken for a program: checkpoints are files. */
static bool is_program(const char *path)
{
    uint8_t head[8] = {0};
    struct stat st;
    if (stat(path, &st) == 0 && !S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode)) return true;
    return cli_read_head(head, sizeof head, path) == sizeof head && memcmp(head + 4, "ET12", 4) == 0;
}

static anm_precision precision_named(const char *name)
{
    return strcmp(name, "exact") == 0     ? ANM_PRECISION_EXACT
           : strcmp(name, "precise") == 0 ? ANM_PRECISION_PRECISE
           : strcmp(name, "fp16") == 0    ? ANM_PRECISION_FP16
                                          : ANM_PRECISION_DEFAULT;
}

/* "8,32": 8 bits, a scale for every 32. */
static int read_rounding(anm_rounding *out, const char *text, anm_error *err)
{
    char *end;
    long bits = strtol(text, &end, 10), block = *end == ',' ? strtol(end + 1, &end, 10) : 0;
    if (!*end && bits >= 2 && bits <= 24 && block >= 1 && block <= INT32_MAX) {
        *out = (anm_rounding){(int32_t)bits, (int32_t)block};
        return 0;
    }
    return anm_fail(err, ANM_ERR_USAGE, "--activations %s: bits (2 to 24) and how many share a scale, as in 8,32", text);
}

/* How each of the two sides is computed. */
static int choose_ways(side *a, side *b, const options *o, anm_pool *pool, anm_error *err)
{
    const char *own = o->exact ? "exact" : o->precise ? "precise" : o->precision;
    a->how = (anm_engine_opts){.precision = precision_named(own), .pool = pool};
    b->how = (anm_engine_opts){.precision = precision_named(o->against_precision ? o->against_precision : own), .pool = pool};
    if (!o->activations) return 0;
    a->how.precision = ANM_PRECISION_EXACT;
    return read_rounding(&a->how.linear, o->activations, err);
}

static void say_layer(void *ctx, size_t layer)
{
    const side *s = ctx;
    fprintf(stderr, "\r%s: layer %zu of %lld ", s->path, layer + 1, (long long)s->model->params.n_layers);
    if (layer + 1 == (size_t)s->model->params.n_layers) fprintf(stderr, "\r\033[K");
}

static int open_side(side *s, const options *o, const cli_windows *w, anm_pool *pool, anm_error *err)
{
    int rc;
    bool tell = !o->quiet && isatty(STDERR_FILENO);
    if (is_program(s->path)) {
        rc = anm_engine_open(&s->engine, s->path, &s->how, err);
        if (!rc) rc = cli_tokenizer_fits(o->tokenizer, w->vocabulary, s->path, anm_engine_get_info(s->engine)->vocab_size, err);
        if (!rc) rc = anm_scorer_engine(&s->scorer, s->engine, w->token, w->n, (size_t)o->window, err);
        if (rc && !strstr(err->text, s->path)) anm_error_prefix(err, s->path);
        return rc;
    }
    rc = anm_ckpt_open(&s->ckpt, s->path, err);
    if (!rc) rc = anm_model_open(&s->model, s->ckpt, o->params, err);
    if (!rc) rc = cli_tokenizer_fits(o->tokenizer, w->vocabulary, s->path, s->model->params.vocab_size, err);
    if (!rc)
        rc = anm_scorer_checkpoint(&s->scorer, s->model, w->token, w->n, (size_t)o->window, tell ? say_layer : NULL, s, pool, err);
    return rc;
}

static void say_window(void *ctx, size_t done, size_t windows, const anm_evaluation *e)
{
    (void)ctx;
    fprintf(stderr, "\rwindow %zu of %zu, perplexity %.3f ", done, windows, e->perplexity);
    if (done == windows) fprintf(stderr, "\r\033[K");
}

static int print(const anm_evaluation *e, bool compared, const options *o, size_t windows, double seconds, anm_error *err)
{
    double rate = (double)e->tokens / seconds;
    if (o->json) {
        json_t *j = json_pack("{s:o, s:o, s:I, s:I, s:I, s:f, s:f}", "perplexity", cli_json_real(e->perplexity), "perplexity_se", cli_json_real(e->perplexity_se),
                              "tokens", (json_int_t)e->tokens, "windows", (json_int_t)windows, "window", (json_int_t)o->window,
                              "seconds", seconds, "tok_s", rate);
        char *text = NULL;
        int rc = 0;
        if (compared && j)
            rc = json_object_update_new(j, json_pack("{s:o, s:o, s:f, s:o, s:o, s:o}", "kl", cli_json_real(e->kl), "kl_se",
                                                     cli_json_real(e->kl_se), "top1", e->top1, "against_perplexity",
                                                     cli_json_real(e->other_perplexity), "ratio", cli_json_real(e->ratio), "ratio_se",
                                                     cli_json_real(e->ratio_se)));
        rc = rc ? anm_fail_memory(err, "JSON") : anm_json_write(&text, j, JSON_REAL_PRECISION(9), err);
        if (!rc) puts(text);
        free(text);
        json_decref(j);
        return rc;
    }
    printf("perplexity %.4f ± %.4f (%zu tokens, %zu window%s of %lld, %.1f tokens/s)\n", e->perplexity, e->perplexity_se, e->tokens,
           windows, windows == 1 ? "" : "s", (long long)o->window, rate);
    if (!compared) return 0;
    printf("against    %.4f: %.4f ± %.4f times as high\n", e->other_perplexity, e->ratio, e->ratio_se);
    printf("mean KL    %.6f ± %.6f nats\ntop-1      %.2f %% the same\n", e->kl, e->kl_se, 100 * e->top1);
    return 0;
}

/* A GGUF file does. */
static bool holds_tokenizer(const char *path)
{
    char head[4];
    return !is_program(path) && cli_read_head(head, 4, path) == 4 && !memcmp(head, "GGUF", 4);
}

int cmd_eval(int argc, char **argv)
{
    options o = {.window = 512, .precision = "default"};
    bool gave_precision = false;
    const cli_opt table[] = {
        {'m', "model", CLI_STRING, &o.model, "FILE", "a .pte, or a checkpoint (evaluated in full precision)", NULL},
        {'t', "tokenizer", CLI_STRING, &o.tokenizer, "FILE", "tokenizer (default: the one inside a GGUF checkpoint)", NULL},
        {0, "tokenizer_config", CLI_STRING, &o.config, "FILE", "tokenizer_config.json, where it is not beside the tokenizer", NULL},
        {0, "text", CLI_STRING, &o.text, "FILE", "the text", NULL},
        {0, "against", CLI_STRING, &o.against, "FILE", "a .pte or checkpoint to compare with: KL divergence, top-1 agreement", NULL},
        {'p', "params", CLI_STRING, &o.params, "FILE", "params.json of the checkpoint, where it is not beside it", NULL},
        {0, "window", CLI_INT, &o.window, "N", "tokens in a window, each run from an empty cache (512)", NULL},
        {0, "max_windows", CLI_INT, &o.max_windows, "N", "no more windows than this (all)", NULL},
        {0, "skip_windows", CLI_INT, &o.skip, "N", "leave out the text's first windows (0)", NULL},
        {0, "bos", CLI_FLAG, &o.bos, NULL, "begin each window with the BOS token, which is one of its tokens", NULL},
        {0, "exact", CLI_FLAG, &o.exact, NULL, "fp32 activations", NULL},
        {0, "precise", CLI_FLAG, &o.precise, NULL, "finer activations than the default's", NULL},
        {0, "precision", CLI_CHOICE, &o.precision, "default|precise|exact|fp16", "the same by name; fp16: as an fp16 device", &gave_precision},
        {0, "against_precision", CLI_CHOICE, &o.against_precision, "default|precise|exact|fp16",
         "that of what is compared with, where it is another; alone: the same file", NULL},
        {0, "activations", CLI_STRING, &o.activations, "B,G",
         "what linears take rounded to B bits with a scale for every G, by the interpreter: slow", NULL},
        {'j', "threads", CLI_INT, &o.threads, "N", "threads (all processors)", NULL},
        {0, "json", CLI_FLAG, &o.json, NULL, "print JSON", NULL},
        {0, "quiet", CLI_FLAG, &o.quiet, NULL, "no progress", NULL},
        {0},
    };
    anm_error err;
    cli_windows windows = {0};
    anm_pool *pool = NULL;
    side a = {0}, b = {0};
    anm_evaluation e;
    struct timespec t0, t1;
    int n, rc = cli_parse(table, "anemone eval -m FILE -t TOKENIZER --text FILE [OPTION…]", argc, argv, NULL, 0, &n, &err);
    if (rc == CLI_HELPED) return EXIT_OK;
    if (!rc && !o.model) rc = anm_fail(&err, ANM_ERR_USAGE, "eval: -m FILE says which program or checkpoint; it is missing");
    if (!o.tokenizer && o.model && holds_tokenizer(o.model)) o.tokenizer = o.model;
    if (!rc && !o.tokenizer) rc = anm_fail(&err, ANM_ERR_USAGE, "eval: -t FILE says which tokenizer; it is missing");
    if (!rc && !o.text) rc = anm_fail(&err, ANM_ERR_USAGE, "eval: --text FILE says which text; it is missing");
    if (!rc && o.exact + o.precise + gave_precision + (o.activations != NULL) > 1)
        rc = anm_fail(&err, ANM_ERR_USAGE, "eval: only one of --exact, --precise, --precision and --activations can be given");
    if (!rc && (o.window < 2 || o.window > 1 << 20 || o.max_windows < 0 || o.skip < 0 || o.threads < 0 || o.threads > ANM_THREADS_MAX))
        rc = anm_fail(&err, ANM_ERR_USAGE, "--window takes 2 or more; --max_windows, --skip_windows and -j nothing negative");
    if (rc) return cli_fail(&err);

    a.path = o.model;
    b.path = o.against ? o.against : o.against_precision ? o.model : NULL;
    rc = anm_pool_new(&pool, (unsigned)o.threads, &err);
    if (!rc) rc = choose_ways(&a, &b, &o, pool, &err);
    const cli_text text = {.path = o.text, .tokenizer = o.tokenizer, .config = o.config, .window = (size_t)o.window, .skip = (size_t)o.skip,
                           .most = (size_t)o.max_windows, .bos = o.bos};
    if (!rc) rc = cli_text_windows(&windows, &text, &err);
    clock_gettime(CLOCK_MONOTONIC, &t0);
    if (!rc) rc = open_side(&a, &o, &windows, pool, &err);
    if (!rc && b.path) rc = open_side(&b, &o, &windows, pool, &err);
    if (!rc) rc = anm_evaluate(&e, a.scorer, b.scorer, !o.quiet && isatty(STDERR_FILENO) ? say_window : NULL, NULL, &err);
    clock_gettime(CLOCK_MONOTONIC, &t1);
    if (!rc) rc = print(&e, b.path != NULL, &o, windows.n, (double)(t1.tv_sec - t0.tv_sec) + 1e-9 * (double)(t1.tv_nsec - t0.tv_nsec), &err);
    close_side(&a);
    close_side(&b);
    free(windows.token);
    anm_pool_free(pool);
    return rc ? cli_fail(&err) : EXIT_OK;
}
