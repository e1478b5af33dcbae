/* SPDX-License-Identifier: BSD-3-Clause */
#include "cli/export_report.h"
#include "base/outfile.h"
#include "calib/report.h"
#include "eval/eval.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { HELD_OUT = 8 }; /* windows */

cli_text cli_calibration_text(const export_words *w)
{
    cli_text t = {.path = w->calibrate, .config = w->tokenizer_config, .window = CLI_CALIBRATION_WINDOW, .most = (size_t)w->calibrate_windows, .spread = true};
    if (!*w->calibrate) {
        t.path = NULL;
        t.data = (const char *)anm_calibration_text;
        t.size = anm_calibration_text_size;
    }
    t.tokenizer = w->tokenizer ? w->tokenizer : w->checkpoint; /* a GGUF holds its own */
    return t;
}

/* ---- perplexities ---- */

typedef struct scoring {
    const anm_export_job *job;
    anm_pool *pool;
    cli_windows text;
    anm_ckpt *ckpt;
    anm_model *model;
    anm_scorer *full;
    anm_report_score score[3];
    size_t n;
} scoring;

static int score_file(scoring *s, const char *name, const char *path, char *temporary, anm_error *err)
{
    anm_engine *engine = NULL;
    anm_scorer *scorer = NULL;
    anm_evaluation e;
    const anm_engine_opts how = {.pool = s->pool, .precision = ANM_PRECISION_PRECISE};
    int rc = anm_engine_open(&engine, path, &how, err);
    if (temporary) { /* it is mapped */
        unlink(temporary);
        anm_outfile_forget(temporary);
    }
    if (!rc) rc = anm_scorer_engine(&scorer, engine, s->text.token, s->text.n, CLI_CALIBRATION_WINDOW, err);
    if (!rc) rc = anm_evaluate(&e, scorer, s->full, NULL, NULL, err);
    if (!rc && !s->n) s->score[s->n++] = (anm_report_score){.name = "full precision", .perplexity = e.other_perplexity, .perplexity_se = e.other_perplexity_se};
    if (!rc)
        s->score[s->n++] = (anm_report_score){.name = name, .perplexity = e.perplexity, .perplexity_se = e.perplexity_se, .ratio = e.ratio,
                                              .ratio_se = e.ratio_se, .kl = e.kl, .top1 = e.top1};
    anm_scorer_free(scorer);
    anm_engine_free(engine);
    return rc;
}

/* The same export without calibration, under a name that goes when it is measured. */
static int score_rounded(scoring *s, anm_error *err)
{
    const size_t size = strlen(s->job->outputs[0].path) + sizeof ".rounded";
    char *path = malloc(size);
    if (!path) return anm_fail_memory(err, "a file's name");
    snprintf(path, size, "%s.rounded", s->job->outputs[0].path);
    anm_export_output output = {path, s->job->outputs[0].max_context_len};
    anm_export_job job = *s->job;
    anm_export_report ignored;
    job.calibration = NULL;
    job.calibrated = NULL;
    job.model = NULL;
    job.look = NULL;
    job.progress = NULL;
    job.outputs = &output;
    job.n_outputs = 1;
    job.sync = false;
    int rc = access(path, F_OK) ? 0 : anm_fail(err, ANM_ERR_IO, "%s: is in the way", path);
    if (!rc) anm_outfile_note(path);
    if (!rc) rc = anm_export(&ignored, &job, err);
    if (!rc) rc = score_file(s, "rounded to nearest", path, path, err);
    anm_outfile_forget(path);
    free(path);
    return rc;
}

static int score_all(scoring *s, const export_words *w, anm_error *err)
{
    cli_text text = cli_calibration_text(w);
    text.most = s->job->calibration->how.windows;
    text.held_out = HELD_OUT;
    int rc = cli_text_windows(&s->text, &text, err);
    if (!rc) rc = anm_pool_new(&s->pool, s->job->threads, err);
    if (!rc) rc = anm_ckpt_open(&s->ckpt, s->job->checkpoint, err);
    if (!rc) rc = anm_model_open(&s->model, s->ckpt, s->job->params, err);
    if (!rc) rc = anm_scorer_checkpoint(&s->full, s->model, s->text.token, s->text.n, CLI_CALIBRATION_WINDOW, NULL, NULL, s->pool, err);
    if (!rc) rc = score_rounded(s, err);
    if (!rc) rc = score_file(s, "calibrated", s->job->outputs[0].path, NULL, err);
    return rc;
}

static void free_scoring(scoring *s)
{
    anm_scorer_free(s->full);
    anm_model_free(s->model);
    anm_ckpt_close(s->ckpt);
    anm_pool_free(s->pool);
    free(s->text.token);
}

/* ---- the page ---- */

static void show_facts(anm_report *r, anm_report_fact *fact, char (*value)[160], const export_words *w, const anm_export_job *job,
                       const anm_export_report *report)
{
    enum { SIZE = sizeof *value };
    const anm_calib_opts *how = &job->calibration->how;
    size_t n = 0;
#define FACT(what, ...) snprintf(value[n], SIZE, __VA_ARGS__), fact[n].name = what, fact[n].value = value[n], n++
    FACT("checkpoint", "%s", w->checkpoint);
    FACT("program", "%s", job->outputs[0].path);
    FACT("weights", "%s, embedding %u bits", w->linear, job->recipe.embedding_bits);
    FACT("text", "%s, %zu windows of %zu tokens, seed %llu", *w->calibrate ? w->calibrate : "the one that ships", how->windows, how->len, (unsigned long long)how->seed);
    FACT("size", "%.1f MB: weights %.1f, scales %.1f, rotary tables %.1f", (double)report->size[0].file / 1e6, (double)report->size[0].weights / 1e6,
         (double)report->size[0].scales / 1e6, (double)report->size[0].tables / 1e6);
    double stages = 0;
    for (size_t i = 0; i < r->n_layers + 3; i++) stages += r->notes[i].seconds;
    FACT("time", "%.0f s to calibrate, %.1f s to write", stages, report->seconds[ANM_STAGE_WRITE]);
#undef FACT
    r->facts = fact;
    r->n_facts = n;
}

int cli_export_report(const export_words *w, const anm_export_job *job, const anm_export_report *report, const anm_calib_note *notes,
                      size_t n_layers, anm_error *err)
{
    enum { FACTS = 8 };
    scoring s = {.job = job};
    anm_report_fact fact[FACTS];
    char value[FACTS][160];
    anm_buf page = {0};
    anm_outfile file = {.fd = -1};
    anm_error why = {0};
    anm_report r = {.title = "Calibrated 4-bit weights", .fp16 = job->recipe.type == ANM_DT_F16, .notes = notes, .n_layers = n_layers};
    int rc = score_all(&s, w, &why);
    if (rc) r.no_scores = why.text;
    else {
        r.scores = s.score;
        r.n_scores = s.n;
        r.score_tokens = s.text.n * (CLI_CALIBRATION_WINDOW - 1);
    }
    show_facts(&r, fact, value, w, job, report);
    anm_report_page(&page, &r);
    rc = page.bad ? anm_fail_memory(err, "the report") : anm_outfile_open(&file, w->report, err);
    if (!rc) rc = anm_outfile_write(&file, 0, page.data, page.size, err);
    if (!rc) rc = anm_outfile_commit(&file, false, err);
    anm_outfile_abort(&file);
    anm_buf_free(&page);
    free_scoring(&s);
    return rc;
}
