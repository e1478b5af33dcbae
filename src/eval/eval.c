/* SPDX-License-Identifier: BSD-3-Clause */
#include "eval/eval.h"

#include <math.h>
#include <stdlib.h>

enum { MOST_ROWS = 32 }; /* rows of logits at hand at a time */

struct anm_scorer {
    const int32_t *tokens;
    size_t windows, len, rows; /* rows: how many it gives at a time */
    int64_t vocab;
    /* a program: */
    anm_state *state;
    int32_t *pos; /* [rows], as is … */
    uint8_t *want;
    /* a checkpoint: */
    const anm_model *model;
    anm_pool *pool;
    anm_windows hidden;
    float *head;
};

int anm_scorer_engine(anm_scorer **out, anm_engine *engine, const int32_t *tokens, size_t windows, size_t len, anm_error *err)
{
    const anm_engine_info *info = anm_engine_get_info(engine);
    if ((int64_t)len > info->max_context)
        return anm_fail(err, ANM_ERR_LIMIT, "a window of %zu tokens is longer than the file's context of %lld", len,
                        (long long)info->max_context);
    if (info->deprecated && (int64_t)len > info->cache_len + info->input_len)
        return anm_fail(err, ANM_ERR_LIMIT, "a window of %zu tokens is longer than the %lld that the file's cache and a step hold; later ones "
                        "would forget the first", len, (long long)(info->cache_len + info->input_len));
    anm_scorer *s = calloc(1, sizeof *s);
    if (!s) return anm_fail_memory(err, "evaluation");
    *s = (anm_scorer){.tokens = tokens, .windows = windows, .len = len, .vocab = info->vocab_size};
    s->rows = info->all_logits ? (size_t)info->input_len : 1;
    /* The last step has beside it what the cache holds, so it must take the rest of a window. */
    size_t last = (int64_t)len - 1 > info->cache_len ? len - 1 - (size_t)info->cache_len : 1;
    if (s->rows > MOST_ROWS && s->rows > last) s->rows = last > MOST_ROWS ? last : MOST_ROWS;
    s->pos = malloc(s->rows * sizeof *s->pos);
    s->want = malloc(s->rows);
    int rc = s->pos && s->want ? anm_state_new(&s->state, engine, err) : anm_fail_memory(err, "evaluation");
    if (rc) {
        anm_scorer_free(s);
        return rc;
    }
    *out = s;
    return 0;
}

int anm_scorer_checkpoint(anm_scorer **out, const anm_model *m, const int32_t *tokens, size_t windows, size_t len,
                          void (*progress)(void *ctx, size_t layer), void *ctx, anm_pool *pool, anm_error *err)
{
    anm_scorer *s = calloc(1, sizeof *s);
    if (!s) return anm_fail_memory(err, "evaluation");
    *s = (anm_scorer){.tokens = tokens, .windows = windows, .len = len, .rows = MOST_ROWS, .vocab = m->params.vocab_size, .model = m, .pool = pool};
    s->head = malloc((size_t)(m->output.rows * m->output.cols) * sizeof *s->head);
    int rc = s->head ? anm_eager_read(s->head, &m->output, pool, err) : anm_fail_memory(err, "the head's weights");
    if (!rc) rc = anm_windows_new(&s->hidden, m, tokens, windows, len, err);
    if (!rc) rc = anm_eager_run(&s->hidden, m, progress, ctx, pool, err);
    if (rc) {
        anm_scorer_free(s);
        return rc;
    }
    *out = s;
    return 0;
}

void anm_scorer_free(anm_scorer *s)
{
    if (!s) return;
    anm_state_free(s->state);
    free(s->pos);
    free(s->want);
    anm_windows_free(&s->hidden);
    free(s->head);
    free(s);
}

/* Of n rows in steps of `most`: the first may be short, so that the last is a whole one. */
static size_t first_step(size_t n, size_t most)
{
    while (n > most) n -= most;
    return n;
}

/* Logits of rows [row, row + n) of window w; rows come in order, from 0. */
static int score(float *logits, anm_scorer *s, size_t w, size_t row, size_t n, anm_error *err)
{
    if (s->model) {
        const float *x = s->hidden.x + (w * s->len + row) * (size_t)s->model->params.dim;
        return anm_eager_logits(logits, x, n, s->head, &s->model->params, s->pool, err);
    }
    if (!row) anm_state_reset(s->state);
    for (size_t at = 0; at < n;) {
        size_t c = at ? s->rows : first_step(n, s->rows);
        for (size_t i = 0; i < c; i++) {
            s->pos[i] = (int32_t)(row + at + i);
            s->want[i] = 1;
        }
        anm_step step = {.n = (int32_t)c, .token = s->tokens + w * s->len + row + at, .pos = s->pos, .want = s->want};
        int rc = anm_state_step(logits + at * (size_t)s->vocab, s->state, &step, err);
        if (!rc && row + at + c + 1 < s->len) rc = anm_state_commit(s->state, 0, step.n, err);
        if (rc) return rc;
        at += c;
    }
    return 0;
}

/* The log of the sum of exponentials, and the place of the largest. */
static double log_sum(const float *x, int64_t n, int64_t *top)
{
    float most = x[0];
    *top = 0;
    for (int64_t i = 1; i < n; i++)
        if (x[i] > most) {
            most = x[i];
            *top = i;
        }
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += (double)expf(x[i] - most);
    return log(sum) + (double)most;
}

/* KL(p || q) of two rows of logits with their log-sums. */
static double divergence(const float *p, double lp, const float *q, double lq, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        double l = (double)p[i] - lp;
        if (l > -80) sum += exp(l) * (l - ((double)q[i] - lq));
    }
    return sum;
}

/* Means over windows and, from their spread, standard errors. */
typedef struct spread {
    double sum, squares;
    size_t n;
} spread;

static void add(spread *s, double v)
{
    s->sum += v;
    s->squares += v * v;
    s->n++;
}

static double mean(const spread *s)
{
    return s->n ? s->sum / (double)s->n : 0;
}

static double standard_error(const spread *s)
{
    if (s->n < 2) return 0;
    double m = mean(s), var = (s->squares - (double)s->n * m * m) / (double)(s->n - 1);
    return var > 0 ? sqrt(var / (double)s->n) : 0;
}

/* The last token of a window is never fed, so no engine has looked at it. */
static int check_tokens(const anm_scorer *s, anm_error *err)
{
    for (size_t i = 0; i < s->windows * s->len; i++)
        if (s->tokens[i] < 0 || s->tokens[i] >= s->vocab)
            return anm_fail(err, ANM_ERR_LIMIT, "token id %d of the text is outside the model's vocabulary of %lld: the tokenizer does not fit",
                            (int)s->tokens[i], (long long)s->vocab);
    return 0;
}

int anm_evaluate(anm_evaluation *out, anm_scorer *s, anm_scorer *against,
                 void (*progress)(void *ctx, size_t done, size_t windows, const anm_evaluation *so_far), void *ctx,
                 anm_error *err)
{
    size_t vocab = (size_t)s->vocab, step = s->rows;
    if (against && against->vocab != s->vocab)
        return anm_fail(err, ANM_ERR_FORMAT, "the vocabularies differ: %lld against %lld tokens", (long long)s->vocab, (long long)against->vocab);
    int rc = check_tokens(s, err);
    if (rc) return rc;
    if (against && against->rows > step) step = against->rows;
    float *a = malloc(step * vocab * sizeof *a), *b = against ? malloc(step * vocab * sizeof *b) : NULL;
    rc = a && (b || !against) ? 0 : anm_fail_memory(err, "logits");
    spread nll = {0}, other = {0}, both = {0}, kl = {0};
    size_t same = 0;
    *out = (anm_evaluation){0};
    for (size_t w = 0; w < s->windows && !rc; w++) {
        double sum = 0, other_sum = 0, kl_sum = 0;
        size_t n = first_step(s->len - 1, step);
        for (size_t row = 0; row + 1 < s->len && !rc; row += n, n = step) {
            rc = score(a, s, w, row, n, err);
            if (!rc && against) rc = score(b, against, w, row, n, err);
            for (size_t i = 0; i < n && !rc; i++) {
                int32_t next = s->tokens[w * s->len + row + i + 1];
                const float *x = a + i * vocab;
                int64_t top, other_top;
                double l = log_sum(x, s->vocab, &top);
                if (!isfinite(l)) {
                    rc = anm_fail(err, ANM_ERR_FORMAT, "the logits at window %zu, token %zu are not finite", w, row + i);
                    break;
                }
                sum += l - (double)x[next];
                if (!against) continue;
                const float *y = b + i * vocab;
                double m = log_sum(y, s->vocab, &other_top);
                if (!isfinite(m)) {
                    rc = anm_fail(err, ANM_ERR_FORMAT, "the logits to compare with, at window %zu, token %zu, are not finite", w, row + i);
                    break;
                }
                other_sum += m - (double)y[next];
                kl_sum += divergence(y, m, x, l, s->vocab);
                same += top == other_top;
            }
        }
        if (rc) break;
        double each = (double)(s->len - 1);
        add(&nll, sum / each);
        add(&other, other_sum / each);
        add(&both, (sum - other_sum) / each);
        add(&kl, kl_sum / each);
        *out = (anm_evaluation){.tokens = (w + 1) * (s->len - 1), .nll = mean(&nll), .nll_se = standard_error(&nll)};
        out->perplexity = exp(out->nll);
        out->perplexity_se = out->perplexity * out->nll_se;
        if (against) {
            out->kl = mean(&kl);
            out->kl_se = standard_error(&kl);
            out->top1 = (double)same / (double)out->tokens;
            out->other_perplexity = exp(mean(&other));
            out->other_perplexity_se = out->other_perplexity * standard_error(&other);
            out->ratio = exp(mean(&both));
            out->ratio_se = out->ratio * standard_error(&both);
        }
        if (progress) progress(ctx, w + 1, s->windows, out);
    }
    free(a);
    free(b);
    return rc;
}
