/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A program of the deprecated form beside the checkpoint that it was made of: both read the prompt, in steps of the
 * program's length and with its cache, and their logits are held against each other row by row.
 */
#include "cli/cli.h"
#include "cli/legacy.h"
#include "cli/sandbox.h"
#include "graph/graph.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

int cli_legacy_open_eager(anm_llm **out, const legacy_eager *from, const anm_llm_opts *how, anm_error *err)
{
    anm_ckpt *ckpt = NULL;
    anm_model *model = NULL;
    int rc = anm_ckpt_open(&ckpt, from->checkpoint, err);
    if (!rc) rc = anm_model_open(&model, ckpt, from->params, err);
    if (!rc) {
        anm_model deprecated = *model;
        deprecated.params = anm_legacy_params(&model->params);
        rc = anm_llm_of_model(out, &deprecated, &from->form, how, err);
    }
    anm_model_free(model);
    anm_ckpt_close(ckpt);
    return rc;
}

typedef struct distance {
    size_t rows, same; /* rows of logits; those with the same likeliest token */
    double largest, sum, divergence; /* of |a - b|; Kullback-Leibler, in nats */
} distance;

/* log of the sum of exp */
static double log_total(const float *x, size_t n)
{
    double most = -INFINITY, sum = 0;
    for (size_t i = 0; i < n; i++) most = x[i] > most ? x[i] : most;
    for (size_t i = 0; i < n; i++) sum += exp(x[i] - most);
    return most + log(sum);
}

static void measure(distance *d, const float *is, const float *should, size_t vocab)
{
    double a = log_total(is, vocab), b = log_total(should, vocab), kl = 0;
    for (size_t i = 0; i < vocab; i++) {
        double apart = fabs((double)is[i] - (double)should[i]), log_p = should[i] - b;
        if (!(apart <= d->largest)) d->largest = apart;
        d->sum += apart;
        kl += exp(log_p) * (log_p - (is[i] - a));
    }
    d->divergence += kl;
    d->same += anm_argmax(is, (int64_t)vocab) == anm_argmax(should, (int64_t)vocab);
    d->rows++;
}

static int feed_both(distance *d, running *r, anm_session *eager, anm_error *err)
{
    size_t vocab = (size_t)r->info->vocab_size, step = (size_t)r->info->input_len;
    float *is = malloc(step * vocab * sizeof *is), *should = malloc(step * vocab * sizeof *should);
    int rc = is && should ? 0 : anm_fail_memory(err, "the logits");
    for (size_t i = 0; i < r->n_prompt && !rc; i += step) {
        size_t n = r->n_prompt - i < step ? r->n_prompt - i : step;
        rc = anm_session_feed_rows(is, r->session, r->prompt + i, n, err);
        if (!rc) rc = anm_session_feed_rows(should, eager, r->prompt + i, n, err);
        for (size_t k = 0; k < n && !rc; k++) measure(d, is + k * vocab, should + k * vocab, vocab);
    }
    free(is);
    free(should);
    return rc;
}

int cli_legacy_compare(running *r, const legacy_eager *with, anm_error *err)
{
    anm_llm *llm = NULL;
    anm_session *eager = NULL;
    legacy_eager from = *with;
    const anm_llm_opts how = {.precision = ANM_PRECISION_EXACT, .threads = (unsigned)r->o.threads};
    distance d = {0};
    int rc = run_check_words(&r->o, err);
    if (!rc) rc = cli_sandbox_run(&r->o, err);
    if (!rc) rc = run_open(r, err);
    if (!rc) rc = run_read_prompt(r, err);
    if (!rc) {
        from.form = (anm_model_form){r->info->input_len, r->info->cache_len, r->info->fp16_cache};
        rc = cli_legacy_open_eager(&llm, &from, &how, err);
    }
    if (!rc && anm_engine_get_info(llm->engine)->vocab_size != r->info->vocab_size)
        rc = anm_fail(err, ANM_ERR_LIMIT, "%s: its vocabulary of %lld tokens is not the program's of %lld", from.checkpoint,
                      (long long)anm_engine_get_info(llm->engine)->vocab_size, (long long)r->info->vocab_size);
    if (!rc) rc = anm_session_new(&eager, llm, err);
    if (!rc) rc = feed_both(&d, r, eager, err);
    if (!rc)
        printf("rows                  %zu\nlargest difference    %.6g\nmean difference       %.6g\n"
               "mean divergence       %.6g nats\nsame likeliest token  %zu of %zu\n",
               d.rows, d.largest, d.sum / ((double)d.rows * (double)r->info->vocab_size), d.divergence / (double)d.rows, d.same, d.rows);
    if (!rc && r->said) r->said();
    anm_session_free(eager);
    anm_llm_free(llm);
    run_close(r);
    return rc;
}
