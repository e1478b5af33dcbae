/* SPDX-License-Identifier: BSD-3-Clause */
/* anemone export: a checkpoint becomes a program. The options of the original's export_static_llm_coreml.py, and more. */
#include "base/buf.h"
#include "base/json.h"
#include "base/pool.h"
#include "base/shown.h"
#include "cli/cli.h"
#include "cli/export.h"
#include "cli/export_report.h"
#include "cli/opt.h"
#include "cli/say.h"
#include "cli/text.h"
#include "cli/tree.h"
#include "export/export.h"
#include "pipeline.h"
#include "token/token.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

typedef export_words words;

/* ---- words into a job ---- */

/* "BITS,GROUP", or nothing for floats. */
static int parse_embedding(anm_recipe *r, const char *s, anm_error *err)
{
    r->embedding_bits = 0;
    r->embedding_group = 0;
    if (!*s) return 0;
    const char *comma = strchr(s, ',');
    char bits[8] = "";
    int64_t n;
    if (comma && (size_t)(comma - s) < sizeof bits) memcpy(bits, s, (size_t)(comma - s));
    if (!cli_int(bits, &n) || !cli_int(comma ? comma + 1 : "", &r->embedding_group) || r->embedding_group < 0)
        return anm_fail(err, ANM_ERR_USAGE, "--embedding_quantize: '%s' is not BITS,GROUP, such as 8,0 or 4,32", s);
    if (n != 4 && n != 8) return anm_fail(err, ANM_ERR_USAGE, "--embedding_quantize: %s bits are not possible; Core ML takes 4 or 8", bits);
    r->embedding_bits = (unsigned)n;
    return 0;
}

static int parse_contexts(int64_t *out, int *n, const words *w, anm_error *err)
{
    const char *s = w->contexts, *option = w->deprecated ? "--max_seq_length" : "--max_context_len";
    char one[32];
    for (*n = 0;; s++) {
        size_t len = strcspn(s, ",");
        if (*n == ANM_EXPORT_MAX_OUTPUTS) return anm_fail(err, ANM_ERR_USAGE, "%s: %d lengths at most", option, ANM_EXPORT_MAX_OUTPUTS);
        if (len >= sizeof one) return anm_fail(err, ANM_ERR_USAGE, "%s: '%s' is not a number", option, s);
        memcpy(one, s, len);
        one[len] = 0;
        if (!cli_int(one, &out[*n]) || out[*n] < 1)
            return anm_fail(err, ANM_ERR_USAGE, "%s: '%s' is not a number of positions, 1 or more", option, one);
        for (int i = 0; i < *n; i++)
            if (out[i] == out[*n]) return anm_fail(err, ANM_ERR_USAGE, "%s: %s stands there twice", option, one);
        ++*n;
        s += len;
        if (!*s) return 0;
    }
}

/* A folder as it comes from a hub is taken without more options: its linears split as they can. */
static bool is_folder(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* What is known to go wrong with an output at the end is said before the work. */
static int check_output(const char *path, const words *w, anm_error *err)
{
    const char *const read[] = {w->checkpoint, w->params, w->tokenizer, w->tokenizer_config, w->calibrate};
    return anm_outfile_check_beside(path, read, sizeof read / sizeof *read, err);
}

/* Before the work, and again when the outputs are there. */
static int check_report(const words *w, int n, const anm_export_output *outputs, anm_error *err)
{
    for (int i = 0; i < n; i++)
        if (!strcmp(w->report, outputs[i].path) || anm_outfile_same(w->report, outputs[i].path))
            return anm_fail(err, ANM_ERR_IO, "%s: is the program itself; name another file for the report", w->report);
    return check_output(w->report, w, err);
}

/* "dir/name.pte" for 256 positions -> "dir/name_256.pte". */
static char *path_with_length(const char *path, int64_t length)
{
    const char *slash = strrchr(path, '/'), *dot = strrchr(path, '.');
    if (!dot || (slash && dot < slash)) dot = path + strlen(path);
    size_t n = strlen(path) + 32;
    char *out = malloc(n);
    if (out) snprintf(out, n, "%.*s_%lld%s", (int)(dot - path), path, (long long)length, dot);
    return out;
}

static int make_recipe(anm_recipe *r, const words *w, anm_error *err)
{
    *r = anm_recipe_default();
    r->form = w->deprecated ? ANM_FORM_DEPRECATED : ANM_FORM_STATIC;
    r->cache_list = w->cache_list;
    r->type = strcmp(w->dtype, "fp32") ? ANM_DT_F16 : ANM_DT_F32;
    r->input_len = w->input_len;
    r->multifunction = w->multifunction;
    r->graph_breaks = !w->no_breaks;
    r->split_size = w->split_size;
    r->max_splits = w->max_splits;
    r->split_fit = w->split_fit || (is_folder(w->checkpoint) && !w->split_given && !w->splits_given);
    if (!w->linear) r->linear_bits = 0;
    r->linear_group = w->linear && !strcmp(w->linear, "b4w") ? 32 : 0;
    r->cache_len = w->cache_len;
    if (w->deprecated && w->split_given && w->split_size < 1) /* 0 stands for whole linears there */
        return anm_fail(err, ANM_ERR_USAGE, "--target_split_size: must be 1 or more, not %lld", (long long)w->split_size);
    if (w->cache_given && w->cache_len < 1 && !w->deprecated) return anm_fail(err, ANM_ERR_USAGE, "--cache_len: must be 1 or more, not %lld", (long long)w->cache_len);
    if (w->logits) r->logits = strcmp(w->logits, "all") ? ANM_LOGITS_LAST : ANM_LOGITS_ALL;
    if (w->max_piece_mb < 0 || w->max_piece_mb > 1 << 20)
        return anm_fail(err, ANM_ERR_USAGE, "--max_piece_mb: %lld is no size in megabytes", (long long)w->max_piece_mb);
    if (w->max_piece_mb && w->no_breaks) return anm_fail(err, ANM_ERR_USAGE, "--max_piece_mb: needs the graph breaks that --no_graph_breaks takes away");
    r->max_piece_bytes = w->max_piece_mb * 1000000;
    r->norm = strcmp(w->norm, "safe") ? ANM_NORM_REFERENCE : ANM_NORM_SAFE;
    r->lean = !strcmp(w->graph, "lean");
    return parse_embedding(r, w->embedding, err);
}

/* ---- what the user sees ---- */

typedef struct view {
    const words *w;
    const anm_export_job *job;
    const char *work, *tokenizer; /* of a calibration, or NULL */
    int64_t vocabulary;           /* the tokenizer's */
    bool terminal; /* progress is drawn there */
    double began, writes; /* seconds: the whole, and its last part */
    bool drawn;
    size_t layers; /* what a calibration came to: */
    anm_calib_note *notes;
} view;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Says when the norms that were asked for would overflow in fp16: seen on a short text, where a tokenizer is at hand. */
static void warn_of_overflow(const words *w, const anm_model *m)
{
    static const char text[] = "The capital of France is Paris, and";
    enum { FEW = 8 };
    anm_tokenizer *t = NULL;
    anm_pool *pool = NULL;
    anm_range range = {.layer = -1};
    int32_t *ids = NULL;
    size_t n = 0;
    anm_error ignored; /* no warning, then */
    const char *file = w->tokenizer ? w->tokenizer : anm_ckpt_kind_of(m->ckpt) == ANM_CKPT_GGUF ? anm_ckpt_path(m->ckpt) : NULL;
    if (!file || strcmp(w->norm, "reference") || strcmp(w->dtype, "fp16")) return;
    int rc = anm_tokenizer_open(&t, file, w->tokenizer_config, &ignored);
    if (!rc) rc = anm_tokenizer_encode(&ids, &n, t, text, sizeof text - 1, false, &ignored);
    for (size_t i = 0; i < n && !rc; i++)
        if (ids[i] < 0 || ids[i] >= m->params.vocab_size) rc = ANM_ERR_LIMIT;
    if (!rc) rc = anm_pool_new(&pool, (unsigned)w->threads, &ignored);
    if (!rc) rc = anm_export_range(&range, m, ids, n < FEW ? n : FEW, 256, pool, &ignored);
    if (!rc && range.largest >= 256)
        fprintf(stderr, "anemone: warning: after layer %lld of %lld a value reaches %.0f, whose square fp16 cannot hold: on fp16 "
                "devices the norms overflow; %s--norm safe avoids it\n", (long long)range.layer + 1, (long long)m->params.n_layers,
                (double)range.largest, w->deprecated ? "anemone export " : "");
    anm_pool_free(pool);
    free(ids);
    anm_tokenizer_free(t);
}

/* The model is open, nothing is made of it yet. */
static int look_at_model(void *ctx, const anm_model *m, anm_error *err)
{
    view *v = ctx;
    const words *w = v->w;
    int rc = 0;
    if (w->report) rc = check_report(w, v->job->n_outputs, v->job->outputs, err); /* now that all is known that is read */
    if (!rc && v->work) rc = check_output(v->work, w, err);
    if (!rc && v->work) rc = cli_tokenizer_fits(v->tokenizer, v->vocabulary, w->checkpoint, m->params.vocab_size, err);
    if (rc || w->quiet) return rc;
    for (size_t i = 0; i < m->n_notes; i++) cli_note("%s", m->note[i]);
    if (m->n_unexpected)
        cli_note("%zu tensors that this model has no use for are left out, such as %s", m->n_unexpected, m->unexpected[0]);
    warn_of_overflow(v->w, m);
    return 0;
}

static void show_progress(void *ctx, uint64_t done, uint64_t total)
{
    view *v = ctx;
    if (!v->terminal || !total) return;
    if (!(v->writes > 0)) v->writes = now(); /* what came before, a calibration perhaps, is no measure */
    double seconds = now() - v->writes, rate = seconds > 0 ? (double)done / seconds : 0;
    fprintf(stderr, "\rwriting weights: %3.0f %%  %.1f of %.1f MB  %.0f MB/s  %.0f s left ", 100.0 * (double)done / (double)total,
            (double)done / 1e6, (double)total / 1e6, rate / 1e6, rate > 0 ? (double)(total - done) / rate : 0);
    v->drawn = true;
}

#define INTERRUPTED "anemone: interrupted; the same command with --resume goes on with the layer that was in work\n"

static void show_layer(void *ctx, const anm_calib_event *e)
{
    enum { BAR = 24 };
    view *v = ctx;
    cli_say_at_stop(v->terminal ? "\r\033[K" INTERRUPTED : INTERRUPTED); /* there is something to go on with */
    if (!v->terminal) return;
    double seconds = now() - v->began, worked = e->done - e->resumed;
    int full = (int)(BAR * e->done);
    fprintf(stderr, "\rcalibrating [%.*s%*s] ", full, "########################", BAR - full, "");
    if (e->layer < e->layers) fprintf(stderr, "layer %zu of %zu", e->layer + 1, e->layers);
    else fputs(e->layer == e->layers ? "head" : "tuning across layers", stderr);
    if (worked > 0) fprintf(stderr, ", %.0f s left", seconds / worked * (1 - e->done));
    if (e->figure && e->figure->rounding > 0)
        fprintf(stderr, ", %s's error %.0f %% of rounding's", e->layer < e->layers ? anm_linear_names[e->which] : "the head",
                100 * e->figure->reached / e->figure->rounding);
    fprintf(stderr, "\033[K");
    v->drawn = true;
}

/* Keeps what the report tells. */
static int keep_notes(void *ctx, const anm_calibrated *c, anm_error *err)
{
    view *v = ctx;
    v->layers = c->n_layers;
    v->notes = calloc(v->layers + 3, sizeof *v->notes); /* without tuning the last stays empty */
    if (!v->notes) return anm_fail_memory(err, "the report");
    for (size_t i = 0; i < v->layers + 2 + c->tuned; i++) v->notes[i] = *anm_calibrated_note(c, i);
    return 0;
}

/* ---- pictures of the graph ---- */

static const char *wanted_pass(const words *w)
{
    return w->dump ? w->dump + strlen("after:") : anm_export_last_pass();
}

static int show_graph(void *ctx, const char *after, int32_t piece, const anm_mil_program *p, anm_error *err)
{
    const words *w = ((const view *)ctx)->w;
    if ((!w->dump && !w->dot) || strcmp(after, wanted_pass(w))) return 0;
    anm_buf text = {0};
    int rc = 0;
    if (!w->dot) {
        printf("# piece %d, after %s\n", (int)piece, after);
        rc = anm_mil_print(&text, p, false, err);
    }
    for (const anm_mil_function *fn = p->functions; fn && w->dot && !rc; fn = fn->next) rc = anm_mil_dot(&text, fn, err);
    if (!rc && text.bad) rc = anm_fail_memory(err, "a graph's text");
    if (!rc) anm_shown_write(stdout, (const char *)text.data, text.size, "\n\t");
    anm_buf_free(&text);
    return rc;
}

static int check_dump(const words *w, anm_error *err)
{
    if (!w->dump || (!strncmp(w->dump, "after:", 6) && anm_export_has_pass(w->dump + 6))) return 0;
    return anm_fail(err, ANM_ERR_USAGE, "--dump: '%s' is not after:PASS; --help lists the passes", w->dump);
}

static const char *stage_names[] = {
#define X(id, name) name,
    ANM_EXPORT_STAGES(X)
#undef X
};

static void show_summary(const anm_export_report *r, const anm_export_job *job)
{
    if (r->fitted[0]) cli_note("%s", r->fitted);
    if (r->reference_ops)
        fprintf(stderr, "anemone: note: %llu ops, where the reference's graph has %llu\n", (unsigned long long)r->ops,
                (unsigned long long)r->reference_ops);
    double all = 0;
    for (int i = 0; i < ANM_STAGE_COUNT; i++) all += r->seconds[i];
    for (int i = 0; i < job->n_outputs; i++)
        fprintf(stderr, "%s%s: %.1f MB (weights %.1f, scales %.1f, rotary tables %.1f)", i ? "\n" : "", job->outputs[i].path,
                (double)r->size[i].file / 1e6, (double)r->size[i].weights / 1e6, (double)r->size[i].scales / 1e6,
                (double)r->size[i].tables / 1e6);
    fprintf(stderr, "%s%d piece%s, %d function%s, %llu ops%s, %.2f s (", job->n_outputs > 1 ? "\nin each " : ", ", (int)r->pieces,
            r->pieces == 1 ? "" : "s", (int)r->functions, r->functions == 1 ? "" : "s", (unsigned long long)r->ops, job->n_outputs > 1 ? "; in all" : "", all);
    for (int i = 0; i < ANM_STAGE_COUNT; i++) fprintf(stderr, "%s%s %.2f", i ? ", " : "", stage_names[i], r->seconds[i]);
    fprintf(stderr, ")\n");
}

static void show_calibration(const view *v)
{
    double rounding = 0, reached = 0, residual = 0;
    float low = 0, high = 0;
    for (size_t i = 1; i < v->layers + 2; i++) {
        const anm_calib_note *n = &v->notes[i];
        if (i <= v->layers && n->largest > residual) residual = n->largest;
        for (int j = 0; j < (i > v->layers ? 1 : ANM_LINEARS); j++) {
            const anm_calib_figure *f = &n->linear[j];
            if (f->rounding > 0) {
                rounding += 1;
                reached += f->reached / f->rounding;
            }
            low = low > 0 && low < f->low ? low : f->low;
            high = high > f->high ? high : f->high;
        }
    }
    fprintf(stderr, "anemone: note: calibrated: the linears keep %.0f %% of rounding's error in the mean; scales from %.2g to %.2g, residual up to %.4g\n",
            rounding > 0 ? 100 * reached / rounding : 100, (double)low, (double)high, residual);
    const double *loss = v->notes[v->layers + 2].loss;
    if (loss[0] > 0) fprintf(stderr, "anemone: note: tuned: on its text, %.4f nats from the full model, at first %.4f\n", loss[1], loss[0]);
}

static int print_json(const anm_export_report *r, const anm_export_job *job, anm_error *err)
{
    json_t *outputs = json_array(), *seconds = json_object();
    bool bad = false;
    for (int i = 0; i < job->n_outputs; i++)
        bad |= json_array_append_new(outputs, json_pack("{s:o, s:I, s:I, s:I, s:I}", "path", cli_json_text(job->outputs[i].path), "size",
                                                        (json_int_t)r->size[i].file, "weights", (json_int_t)r->size[i].weights, "scales",
                                                        (json_int_t)r->size[i].scales, "tables", (json_int_t)r->size[i].tables));
    for (int i = 0; i < ANM_STAGE_COUNT; i++) bad |= json_object_set_new(seconds, stage_names[i], json_real(r->seconds[i]));
    json_t *o = json_pack("{s:o, s:i, s:i, s:I, s:o}", "outputs", outputs, "pieces", (int)r->pieces, "functions", (int)r->functions,
                          "ops", (json_int_t)r->ops, "seconds", seconds);
    char *text = NULL;
    int rc = bad ? anm_fail_memory(err, "JSON") : anm_json_write(&text, o, JSON_COMPACT, err);
    if (!rc) puts(text);
    free(text);
    json_decref(o);
    return rc;
}

/* ---- the command ---- */

/* OUTPUT.calib, or what it is a link to: what an interrupted calibration leaves behind. */
static int name_work(char **out, const words *w, const char *output, anm_error *err)
{
    size_t n = strlen(output) + sizeof ".calib";
    char *path = malloc(n);
    if (!path) return anm_fail_memory(err, "a file's name");
    snprintf(path, n, "%s.calib", output);
    int rc = check_output(path, w, err);
    if (!rc && !(*out = anm_outfile_behind(path))) rc = anm_fail_memory(err, "a file's name");
    free(path);
    return rc;
}

static void tell_of_work(const char *path, bool resume)
{
    bool there = access(path, F_OK) == 0;
    if (there && !resume)
        fprintf(stderr, "anemone: note: %s is begun anew; --resume goes on with what an interrupted calibration left there\n", path);
    if (!there && resume) fprintf(stderr, "anemone: note: there is no %s to go on with; beginning anew\n", path);
}

static int read_calibration(anm_export_calibration *c, cli_windows *read, const words *w, view *v, anm_error *err)
{
    cli_text text = cli_calibration_text(w);
    *c = (anm_export_calibration){.how = anm_calib_defaults()};
    c->how.len = text.window;
    c->how.seed = (uint64_t)w->seed;
    c->how.tune = !strcmp(w->effort, "high");
    c->how.progress = show_layer;
    c->how.ctx = v;
    c->how.resume = w->resume;
    int rc = cli_text_windows(read, &text, err);
    c->tokens = read->token;
    c->how.windows = read->n;
    v->tokenizer = text.tokenizer;
    v->vocabulary = read->vocabulary;
    return rc;
}

int cli_export(const export_words *w, anm_error *err)
{
    view v = {.w = w, .terminal = !w->quiet && isatty(STDERR_FILENO), .began = now()};
    anm_export_job job = {.checkpoint = w->checkpoint, .params = w->params, .sync = !w->no_sync, .threads = (unsigned)w->threads,
                          .model = look_at_model, .look = show_graph, .progress = show_progress, .ctx = &v};
    anm_export_output outputs[ANM_EXPORT_MAX_OUTPUTS] = {{0}};
    int64_t contexts[ANM_EXPORT_MAX_OUTPUTS];
    char *paths[ANM_EXPORT_MAX_OUTPUTS] = {0};
    anm_export_report report;
    int rc = check_dump(w, err);
    if (!rc) rc = make_recipe(&job.recipe, w, err);
    if (!rc) rc = parse_contexts(contexts, &job.n_outputs, w, err);
    for (int i = 0; i < job.n_outputs && !rc; i++) {
        if (job.n_outputs > 1 && !(paths[i] = path_with_length(w->output, contexts[i]))) rc = anm_fail_memory(err, "a file's name");
        outputs[i] = (anm_export_output){job.n_outputs > 1 ? paths[i] : w->output, contexts[i]};
        if (!rc) rc = check_output(outputs[i].path, w, err);
        for (int k = 0; k < i && !rc; k++)
            if (anm_outfile_same(outputs[i].path, outputs[k].path))
                rc = anm_fail(err, ANM_ERR_IO, "%s and %s are one file; name another output", outputs[k].path, outputs[i].path);
    }
    if (!rc && w->report) rc = check_report(w, job.n_outputs, outputs, err);
    job.outputs = outputs;
    v.job = &job;
    anm_export_calibration calibration;
    cli_windows read = {0};
    char *work = NULL;
    if (!rc && w->calibrated) {
        rc = name_work(&work, w, outputs[0].path, err);
        if (!rc) rc = read_calibration(&calibration, &read, w, &v, err);
        if (!rc && !w->quiet) tell_of_work(work, w->resume);
        calibration.how.work = v.work = work;
        job.calibrated = keep_notes;
        job.calibration = &calibration;
    }
    bool begun = !rc;
    if (!rc) rc = anm_export(&report, &job, err);
    cli_say_at_stop(NULL);
    if (v.drawn) fprintf(stderr, "\r\033[K");
    if (rc && begun && rc != ANM_ERR_USAGE && work && !w->quiet && access(work, F_OK) == 0)
        fprintf(stderr, "anemone: note: %s keeps what the calibration made so far; --resume goes on with it\n", work);
    if (!rc && work && access(work, F_OK) == 0) cli_note("%s is of no more use, and could not be removed", work);
    if (!rc && !w->quiet && v.notes) show_calibration(&v);
    if (!rc && !w->quiet) show_summary(&report, &job);
    if (!rc && w->report) rc = check_report(w, job.n_outputs, outputs, err);
    if (!rc && w->report) rc = cli_export_report(w, &job, &report, v.notes, v.layers, err);
    if (!rc && w->json) rc = print_json(&report, &job, err);
    for (int i = 0; i < job.n_outputs; i++) free(paths[i]);
    free(read.token);
    free(work);
    free(v.notes);
    return rc;
}

int cmd_export(int argc, char **argv)
{
    words w = {.effort = "normal", .seed = 1, .output = "model.pte", .contexts = "1024", .dtype = "fp16", .norm = "reference",
               .graph = "reference", .embedding = "8,0", .linear = "c4w", .input_len = 32,
               .cache_len = -1, .split_size = 1024, .max_splits = 8};
    bool given[7] = {0}; /* what goes with --calibrate alone */
    const cli_opt table[] = {
        {'c', "checkpoint", CLI_STRING, &w.checkpoint, "FILE", "checkpoint: .pth, .safetensors, .gguf, or a folder (then splits fit, see --split_fit)", NULL},
        {'p', "params", CLI_STRING, &w.params, "FILE", "params.json or config.json (default: what lies beside or inside the checkpoint)", NULL},
        {'o', "output", CLI_STRING, &w.output, "FILE", "program to write (default: model.pte)", NULL},
        {0, NULL, CLI_HEADING, NULL, NULL, "The program", NULL},
        {0, "max_context_len", CLI_STRING, &w.contexts, "N", "positions in all (default: 1024); several, 256,512: a file each, NAME_256.pte", NULL},
        {0, "input_len", CLI_INT, &w.input_len, "N", "tokens of a step; with --multifunction of a prefill step (default: 32)", NULL},
        {0, "multifunction", CLI_FLAG, &w.multifunction, NULL, "two methods over one set of weights: forward for one token, prefill for many", NULL},
        {0, "dtype", CLI_CHOICE, &w.dtype, "fp16|fp32", "type of activations (default: fp16, which the Neural Engine requires)", NULL},
        {0, "cache_len", CLI_INT, &w.cache_len, "N", "cached positions (default: what a step of forward leaves of the context)", &w.cache_given},
        {0, "logits", CLI_CHOICE, &w.logits, "all|last", "rows of a step with logits (default: all; with --multifunction the last)", NULL},
        {0, "norm", CLI_CHOICE, &w.norm, "reference|safe", "safe: norms that fp16 can hold whatever the model (default: reference)", NULL},
        {0, "graph", CLI_CHOICE, &w.graph, "reference|lean", "lean: fewer ops, no 5-D tensor, the same weights (default: reference)", NULL},
        {0, "no_graph_breaks", CLI_FLAG, &w.no_breaks, NULL, "one Core ML program, not embedding, layers and head apart", NULL},
        {0, "max_piece_mb", CLI_INT, &w.max_piece_mb, "N", "more graph breaks: no Core ML program of layers larger than N MB", NULL},
        {0, NULL, CLI_HEADING, NULL, NULL, "Weights", NULL},
        {'E', "embedding_quantize", CLI_STRING, &w.embedding, "B,G", "bits and group of the embedding: 8,0 per row (default), 4,32; '' for floats", NULL},
        {0, "linear_quantize", CLI_CHOICE, &w.linear, "b4w|c4w", "4 bits, a scale per 32 columns, or per row (default: c4w, for the Neural Engine)", NULL},
        {0, "target_split_size", CLI_INT, &w.split_size, "N", "rows of a linear layer that stay together (default: 1024)", &w.split_given},
        {0, "max_splits", CLI_INT, &w.max_splits, "N", "most parts of a linear layer (default: 8)", &w.splits_given},
        {0, "split_fit", CLI_FLAG, &w.split_fit, NULL, "where a split leaves a remainder, take the next smaller count that fits (default for a folder)", NULL},
        {0, "calibrate", CLI_MAYBE, &w.calibrate, "TEXT", "choose the 4-bit weights by what they do to a text (default: one that ships inside), not by rounding", &w.calibrated},
        {'t', "tokenizer", CLI_STRING, &w.tokenizer, "FILE", "tokenizer of the text (default: the one inside a GGUF checkpoint)", &given[0]},
        {0, "tokenizer_config", CLI_STRING, &w.tokenizer_config, "FILE", "tokenizer_config.json, where it is not beside the tokenizer", &given[1]},
        {0, "calibrate_windows", CLI_INT, &w.calibrate_windows, "N", "windows of 512 tokens, taken evenly from the text, at most (default: by the effort)", &given[6]},
        {0, "calibrate_effort", CLI_CHOICE, &w.effort, "normal|high", "high: 128 windows, and scales tuned across layers, for the last percents in seven times the time (default: normal, 32)", &given[2]},
        {0, "resume", CLI_FLAG, &w.resume, NULL, "go on with a calibration that was interrupted, from OUTPUT.calib", &given[3]},
        {0, "report", CLI_STRING, &w.report, "FILE", "write a page (HTML) with what the calibration did, and perplexities", &given[4]},
        {0, "seed", CLI_INT, &w.seed, "N", "of the calibration's rotation (default: 1)", &given[5]},
        {0, NULL, CLI_HEADING, NULL, NULL, "Work", NULL},
        {'j', "threads", CLI_INT, &w.threads, "N", "threads (default: one per processor)", NULL},
        {0, "no_sync", CLI_FLAG, &w.no_sync, NULL, "do not wait until the disk has the file", NULL},
        {0, "dump", CLI_STRING, &w.dump, "after:PASS", "print the graph as text after a pass: build, remove_noops, merge_reshapes, remove_noops_again, "
                                                      "remove_repeated, remove_unused", NULL},
        {0, "dot", CLI_FLAG, &w.dot, NULL, "print the graph as a picture for Graphviz instead, after that pass or the last", NULL},
        {'q', "quiet", CLI_FLAG, &w.quiet, NULL, "no progress, notes or summary", NULL},
        {0, "json", CLI_FLAG, &w.json, NULL, "the summary as JSON on standard output", NULL},
        {0},
    };
    anm_error err = {0};
    int n_words, rc = cli_parse(table, "anemone export -c CHECKPOINT [-p PARAMS] [-o OUTPUT] [options]", argc, argv, NULL, 0, &n_words, &err);
    if (rc == CLI_HELPED) return EXIT_OK;
    if (!rc && !w.checkpoint) rc = anm_fail(&err, ANM_ERR_USAGE, "export: no checkpoint is given; name one with -c");
    if (!rc && (w.threads < 0 || w.threads > ANM_THREADS_MAX)) rc = anm_fail(&err, ANM_ERR_USAGE, "--threads: must be 1 to %d, or 0 for one per processor", ANM_THREADS_MAX);
    if (!given[6]) w.calibrate_windows = strcmp(w.effort, "high") ? 32 : 128;
    if (!rc && w.calibrate_windows < 1) rc = anm_fail(&err, ANM_ERR_USAGE, "--calibrate_windows: must be 1 or more");
    static const char *const names[] = {"--tokenizer", "--tokenizer_config", "--calibrate_effort", "--resume", "--report", "--seed", "--calibrate_windows"};
    for (size_t i = 0; i < sizeof names / sizeof *names && !rc && !w.calibrated; i++)
        if (given[i]) rc = anm_fail(&err, ANM_ERR_USAGE, "%s: goes with --calibrate", names[i]);
    if (!rc && w.json && (w.dot || w.dump)) rc = anm_fail(&err, ANM_ERR_USAGE, "--json: does not go with --dot and --dump, which print the graph");
    if (!rc) rc = cli_export(&w, &err);
    return rc ? cli_fail(&err) : EXIT_OK;
}
