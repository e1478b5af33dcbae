/* SPDX-License-Identifier: BSD-3-Clause */
#include "cli/run_report.h"
#include "base/json.h"

#include <stdlib.h>

static double rate(double n, double seconds)
{
    return seconds > 0 && n > 0 ? n / seconds : 0;
}

/* Tokens that generate's steps made; the first new token comes with the prompt. */
static int64_t stepped(const run_report *r)
{
    return r->stats.new_tokens > 0 ? r->stats.new_tokens - 1 : 0;
}

static const char *why(const run_report *r)
{
    if (r->interrupted) return "interrupted";
    if (r->stopped_by_text) return "stop_text";
    switch (r->end) {
    case ANM_END_STOP: return "stop_token";
    case ANM_END_CALLER: return "output_closed";
    case ANM_END_CONTEXT: return "context_full";
    case ANM_END_MAX: break;
    }
    return "max_new_tokens";
}

static void method(FILE *to, const char *name, const anm_method_stats *m, bool more)
{
    if (!m->calls) return;
    fprintf(to, "  %-8s %6lld calls, mean %.3f ms", name, (long long)m->calls,
            m->seconds / (double)m->calls * 1e3);
    if (more) fprintf(to, "; %lld rows, %.3f s in all", (long long)m->rows, m->seconds);
    fprintf(to, "\n");
}

static const char *const piece_name[ANM_TIME_COUNT] = {
    [ANM_TIME_EMBEDDING] = "embedding", [ANM_TIME_LINEARS] = "linears", [ANM_TIME_ATTENTION] = "attention",
    [ANM_TIME_ROWS] = "norms_and_rest", [ANM_TIME_HEAD] = "head"};

/* The layers are what is neither embedding nor head. */
static void pieces(FILE *to, const anm_plan_times *t)
{
    const double *s = t->seconds, layers = s[ANM_TIME_LINEARS] + s[ANM_TIME_ATTENTION] + s[ANM_TIME_ROWS],
                 all = s[ANM_TIME_EMBEDDING] + layers + s[ANM_TIME_HEAD], percent = all > 0 ? 100 / all : 0;
    fprintf(to, "  embedding %.3f s (%.1f %%), layers %.3f s (%.1f %%), head %.3f s (%.1f %%)\n",
            s[ANM_TIME_EMBEDDING], s[ANM_TIME_EMBEDDING] * percent, layers, layers * percent, s[ANM_TIME_HEAD],
            s[ANM_TIME_HEAD] * percent);
    fprintf(to, "  in layers: linears %.3f s (%.1f %%), attention %.3f s (%.1f %%), norms and the rest %.3f s (%.1f %%)\n",
            s[ANM_TIME_LINEARS], s[ANM_TIME_LINEARS] * percent, s[ANM_TIME_ATTENTION],
            s[ANM_TIME_ATTENTION] * percent, s[ANM_TIME_ROWS], s[ANM_TIME_ROWS] * percent);
}

static json_t *pieces_json(const anm_plan_times *t)
{
    json_t *o = json_object();
    for (int i = 0; o && i < ANM_TIME_COUNT; i++)
        json_object_set_new(o, piece_name[i], json_real(t->seconds[i]));
    return o;
}

void run_report_text(FILE *to, const run_report *r, bool more)
{
    const anm_session_stats *s = &r->stats;
    if (r->end == ANM_END_CONTEXT)
        fprintf(to,
                "anemone: %s: the context of %lld tokens is full, so the text ends here (--context slide "
                "goes on)\n",
                r->model, (long long)r->context);
    fprintf(to, "prefill  %6lld tokens in %.2f s (%.1f tokens/s)\n", (long long)s->fed_tokens,
            s->feed_seconds, rate((double)s->fed_tokens, s->feed_seconds));
    fprintf(to, "decode   %6lld tokens in %.2f s (%.1f tokens/s)", (long long)stepped(r), s->generate_seconds,
            rate((double)stepped(r), s->generate_seconds));
    if (r->lookahead && s->steps)
        fprintf(to, ", %lld steps, %.2f tokens a step", (long long)s->steps,
                (double)stepped(r) / (double)s->steps);
    fprintf(to, "\n");
    if (!r->multifunction && !more) return;
    method(to, "prefill", &s->prefill, more);
    method(to, "forward", &s->forward, more);
    if (!more) return;
    if (r->times) pieces(to, r->times);
    double methods = s->prefill.seconds + s->forward.seconds, all = s->feed_seconds + s->generate_seconds;
    fprintf(to, "  sampling and the rest %.3f s (%.1f %%)\n", all - methods,
            all > 0 ? (all - methods) / all * 100 : 0);
    if (!r->greedy) fprintf(to, "  seed %llu\n", (unsigned long long)r->seed);
    if (!r->goes_on) fprintf(to, "  ended by: %s\n", why(r));
}

static json_t *method_json(const anm_method_stats *m)
{
    return json_pack("{s:I,s:I,s:f,s:f}", "calls", (json_int_t)m->calls, "rows", (json_int_t)m->rows,
                     "seconds", m->seconds, "mean_ms", m->calls ? m->seconds / (double)m->calls * 1e3 : 0.0);
}

int run_report_json(FILE *to, const run_report *r, anm_error *err)
{
    const anm_session_stats *s = &r->stats;
    json_t *methods = json_object();
    bool bad = s->prefill.calls && json_object_set_new(methods, "prefill", method_json(&s->prefill));
    bad |= json_object_set_new(methods, "forward", method_json(&s->forward));
    json_t *o = json_pack(
        "{s:I,s:I,s:I,s:f,s:f,s:f,s:f,s:f,s:s,s:o}", "prompt_tokens", (json_int_t)s->fed_tokens, "new_tokens",
        (json_int_t)s->new_tokens, "steps", (json_int_t)s->steps, "tokens_per_step",
        s->steps ? (double)stepped(r) / (double)s->steps : 0.0, "prefill_s", s->feed_seconds, "decode_s",
        s->generate_seconds, "prefill_tok_s", rate((double)s->fed_tokens, s->feed_seconds), "decode_tok_s",
        rate((double)stepped(r), s->generate_seconds), "end", why(r), "methods", methods);
    /* The seed may need all 64 bits, more than a JSON number of many readers holds: a string. */
    char seed[24];
    snprintf(seed, sizeof seed, "%llu", (unsigned long long)r->seed);
    bad |= o && !r->greedy && json_object_set_new(o, "seed", json_string(seed));
    bad |= o && r->times && json_object_set_new(o, "pieces", pieces_json(r->times));
    char *text = NULL;
    int rc = bad ? anm_fail_memory(err, "JSON") : anm_json_write(&text, o, JSON_COMPACT | JSON_REAL_PRECISION(6), err);
    if (!rc) fprintf(to, "%s\n", text);
    free(text);
    json_decref(o);
    return rc;
}
