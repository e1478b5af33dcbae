/* SPDX-License-Identifier: BSD-3-Clause */
#include "run/session.h"
#include "run/lookahead.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

double anm_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

int anm_session_new(anm_session **out, anm_llm *m, anm_error *err)
{
    *out = NULL;
    anm_session *s = calloc(1, sizeof *s);
    if (!s) return anm_fail_memory(err, "the session");
    s->llm = m;
    s->info = anm_engine_get_info(m->engine);
    const anm_engine_info *info = s->info;
    s->capacity = anm_positions(info);
    s->chunk = (int32_t)info->step_len;
    size_t rows = (size_t)info->step_len;
    s->ids = calloc((size_t)s->capacity + rows, sizeof *s->ids);
    s->logits = calloc((size_t)info->vocab_size, sizeof *s->logits);
    s->token = calloc(rows, sizeof *s->token);
    s->pos = calloc(rows, sizeof *s->pos);
    s->want = calloc(rows, sizeof *s->want);
    int rc = 0;
    if (!s->ids || !s->logits || !s->token || !s->pos || !s->want) rc = anm_fail_memory(err, "the session");
    if (!rc) rc = anm_sampler_new(&s->sampler, info->vocab_size, err);
    if (!rc) rc = anm_state_new(&s->state, m->engine, err);
    if (rc)
        anm_session_free(s);
    else
        *out = s;
    return rc;
}

void anm_session_free(anm_session *s)
{
    if (!s) return;
    anm_look_free(s->look);
    anm_state_free(s->state);
    anm_sampler_free(s->sampler);
    free(s->ids);
    free(s->logits);
    free(s->token);
    free(s->pos);
    free(s->want);
    free(s);
}

int anm_session_set_sampling(anm_session *s, const anm_sampling *how, anm_error *err)
{
    return anm_sampler_set(s->sampler, how, err);
}

void anm_session_reset(anm_session *s)
{
    anm_state_reset(s->state);
    s->fed = 0;
    s->have_logits = false;
    anm_look_forget(s->look);
    s->stats = (anm_session_stats){0};
}

size_t anm_session_fed(const int32_t **ids, const anm_session *s)
{
    if (ids) *ids = s->ids;
    return (size_t)s->fed;
}

const float *anm_session_logits(const anm_session *s)
{
    return s->have_logits ? s->logits : NULL;
}

void anm_session_get_stats(anm_session_stats *out, const anm_session *s)
{
    *out = s->stats;
}

int anm_session_rewind(anm_session *s, size_t keep, anm_error *err)
{
    if (keep >= (size_t)s->fed)
        return anm_fail(err, ANM_ERR_USAGE, "rewind to %zu tokens: only %lld were fed", keep,
                        (long long)s->fed);
    if (s->info->evicts && s->fed > s->info->cache_len)
        return anm_fail(err, ANM_ERR_LIMIT, "rewind: the cache of %lld has lost the tokens before", (long long)s->info->cache_len);
    if ((int64_t)keep < anm_state_cached(s->state)) anm_state_truncate(s->state, (int64_t)keep);
    s->fed = (int64_t)keep;
    s->have_logits = false;
    anm_look_rewind(s->look, s->fed);
    return 0;
}

int32_t anm_session_tail(const anm_session *s)
{
    return s->info->evicts ? 0 : (int32_t)(s->fed - anm_state_cached(s->state));
}

int32_t anm_session_put_tail(anm_session *s)
{
    int32_t n = anm_session_tail(s);
    for (int32_t i = 0; i < n; i++) {
        s->pos[i] = (int32_t)(s->fed - n + i);
        s->token[i] = s->ids[s->pos[i]];
        s->want[i] = 0;
    }
    return n;
}

int anm_session_run(float *logits, anm_session *s, int32_t n, const uint8_t *see, anm_error *err)
{
    const anm_step step = {.n = n, .token = s->token, .pos = s->pos, .see = see, .want = s->want};
    double start = anm_seconds();
    int rc = anm_state_step(logits, s->state, &step, err);
    double took = anm_seconds() - start;
    anm_method_stats *m = s->info->multifunction && n > 1 ? &s->stats.prefill : &s->stats.forward;
    m->calls++;
    m->rows += n;
    m->seconds += took;
    if (n > s->widest || (n == s->widest && took < s->widest_seconds)) {
        s->widest = n;
        s->widest_seconds = took;
    }
    return rc;
}

int anm_session_keep(anm_session *s, int32_t row, int32_t n, anm_error *err)
{
    int64_t room = s->info->cache_len - anm_state_cached(s->state);
    if (n > room && !s->info->evicts) n = (int32_t)room;
    return n > 0 ? anm_state_commit(s->state, row, n, err) : 0;
}

static int check_feed(const anm_session *s, const int32_t *ids, size_t n, anm_error *err)
{
    for (size_t i = 0; i < n; i++)
        if (ids[i] < 0 || ids[i] >= s->info->vocab_size)
            return anm_fail(err, ANM_ERR_LIMIT, "token %ld is outside the vocabulary of %lld tokens",
                            (long)ids[i], (long long)s->info->vocab_size);
    if (n > (size_t)(s->capacity - s->fed))
        return anm_fail(err, ANM_ERR_LIMIT,
                        "%zu tokens do not fit: the context holds %lld and %lld of it are used", n,
                        (long long)s->capacity, (long long)s->fed);
    return 0;
}

static int feed(float *rows, anm_session *s, const int32_t *ids, size_t n, anm_error *err)
{
    int rc = check_feed(s, ids, n, err);
    if (rc || n == 0) return rc;
    size_t vocab = (size_t)s->info->vocab_size;
    s->have_logits = false;
    while (n) {
        int32_t tail = anm_session_put_tail(s), take = (int32_t)s->info->step_len - tail;
        if (take > s->chunk) take = s->chunk;
        if ((size_t)take > n) take = (int32_t)n;
        for (int32_t i = 0; i < take; i++) {
            s->token[tail + i] = ids[i];
            s->pos[tail + i] = (int32_t)(s->fed + i);
            s->want[tail + i] = rows != NULL;
        }
        s->want[tail + take - 1] = rows || (size_t)take == n;
        rc = anm_session_run(rows ? rows : s->logits, s, tail + take, NULL, err);
        if (!rc) rc = anm_session_keep(s, 0, tail + take, err);
        if (rc) return rc;
        memcpy(s->ids + s->fed, ids, (size_t)take * sizeof *ids);
        s->fed += take;
        ids += take;
        n -= (size_t)take;
        if (rows) rows += (size_t)take * vocab;
    }
    if (rows) memcpy(s->logits, rows - vocab, vocab * sizeof *rows);
    s->have_logits = true;
    return 0;
}

int anm_session_feed_rows(float *rows, anm_session *s, const int32_t *ids, size_t n, anm_error *err)
{
    double start = anm_seconds();
    int64_t before = s->fed;
    int rc = feed(rows, s, ids, n, err);
    s->stats.feed_seconds += anm_seconds() - start;
    s->stats.fed_tokens += s->fed - before;
    return rc;
}

int anm_session_feed(anm_session *s, const int32_t *ids, size_t n, anm_error *err)
{
    return anm_session_feed_rows(NULL, s, ids, n, err);
}

int anm_session_sample(int32_t *id, anm_session *s, anm_error *err)
{
    if (!s->have_logits) return anm_fail(err, ANM_ERR_USAGE, "feed tokens before you sample");
    return anm_sampler_pick(id, s->sampler, s->logits, s->ids, s->fed, err);
}

/* How many tokens leave at once. */
static int64_t slide_block(const anm_session *s)
{
    return (s->info->cache_len + 3) / 4;
}

static int check_keep(const anm_session *s, int64_t keep, anm_error *err)
{
    int64_t most = s->info->cache_len - slide_block(s);
    if (keep >= 0 && keep <= most) return 0;
    return anm_fail(err, ANM_ERR_LIMIT,
                    "keep %lld: between 0 and %lld of the cache's %lld tokens can be kept", (long long)keep,
                    (long long)most, (long long)s->info->cache_len);
}

int anm_session_slide(anm_session *s, int64_t keep, anm_error *err)
{
    int64_t block = slide_block(s);
    int rc = check_keep(s, keep, err);
    if (rc || s->fed < s->capacity) return rc;
    rc = anm_state_evict(s->state, keep, block, err);
    if (rc) return rc;
    s->fed -= block;
    memmove(s->ids + keep, s->ids + keep + block, (size_t)(s->fed - keep) * sizeof *s->ids);
    anm_look_slide(s->look, block);
    /* The tail moves into the cache, as far as there is room now. */
    int32_t tail = anm_session_put_tail(s);
    if (tail == 0) return 0;
    rc = anm_session_run(NULL, s, tail, NULL, err);
    return rc ? rc : anm_session_keep(s, 0, tail, err);
}

bool anm_making_give(anm_making *m, int32_t id)
{
    const anm_generation *how = m->how;
    m->made++;
    int stopped = how->token ? how->token(how->ctx, id) : 0;
    for (size_t i = 0; i < how->n_stop; i++)
        if (how->stop[i] == id) {
            m->end = ANM_END_STOP;
            return true;
        }
    if (stopped)
        m->end = ANM_END_CALLER;
    else if (m->made == how->max_new)
        m->end = ANM_END_MAX;
    else
        return false;
    return true;
}

int anm_session_generate(anm_end *end, anm_session *s, const anm_generation *g, anm_error *err)
{
    anm_making m = {.how = g, .end = ANM_END_MAX};
    *end = ANM_END_MAX;
    if (g->max_new == 0) return 0;
    bool look = g->lookahead.mode != ANM_LOOKAHEAD_OFF;
    int rc = look ? anm_look_prepare(s, &g->lookahead, err) : 0;
    if (!rc && g->when_full == ANM_FULL_SLIDE) rc = check_keep(s, g->keep, err);
    if (rc) return rc;
    int32_t id;
    double start = anm_seconds();
    if ((rc = anm_session_sample(&id, s, err)) == 0) {
        bool done = anm_making_give(&m, id);
        while (!done && !rc) {
            if (s->fed == s->capacity) {
                m.end = ANM_END_CONTEXT;
                if (g->when_full == ANM_FULL_STOP || (rc = anm_session_slide(s, g->keep, err))) break;
            }
            s->stats.steps++;
            if (look) {
                rc = anm_look_step(&id, &done, s, &m, err);
            } else {
                rc = feed(NULL, s, &id, 1, err);
                if (!rc && (rc = anm_session_sample(&id, s, err)) == 0) done = anm_making_give(&m, id);
            }
        }
    }
    s->stats.generate_seconds += anm_seconds() - start;
    s->stats.new_tokens += m.made;
    *end = m.end;
    return rc;
}
