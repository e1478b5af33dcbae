/* SPDX-License-Identifier: BSD-3-Clause */
/* An answer, as it is made, and what is told of it. */
#include "cli/cli.h"
#include "cli/run.h"
#include "cli/run_report.h"
#include "cli/say.h"

#include <string.h>
#include <unistd.h>

static void show(running *r)
{
    if (!r->stream.ready.size) return;
    cli_put_text((const char *)r->stream.ready.data, r->stream.ready.size);
    fflush(stdout);
    if (r->o.interactive) anm_buf_put(&r->answer, r->stream.ready.data, r->stream.ready.size);
    r->stream.ready.size = 0;
}

/* One new token: its text goes out as far as it is whole characters. */
static int on_token(void *ctx, int32_t id)
{
    running *r = ctx;
    if (r->show_ids) anm_buf_printf(&r->ids, r->ids.size ? " %d" : "%d", id);
    if (r->o.interactive) anm_buf_put(&r->made, &id, sizeof id);
    bool ends = false;
    for (size_t i = 0; i < r->n_stop; i++)
        ends |= r->stop_ids[i] == id;
    if (r->tok && !ends && id < anm_tokenizer_size(r->tok)) {
        const char *bytes;
        size_t n;
        anm_tokenizer_piece(&bytes, &n, r->tok, id, false);
        if (r->trim && n && *bytes == ' ') bytes++, n--;
        r->trim = false;
        anm_stream_push(&r->stream, bytes, n);
        if (r->show_text) show(r);
    }
    return r->stream.stopped || cli_stop_asked() || ferror(stdout);
}

int run_answer(running *r, anm_end *end, anm_error *err)
{
    /* SentencePiece marks words by the space before them, the first one too. */
    r->trim =
        (r->o.chat || r->o.interactive) && strncmp(anm_tokenizer_kind(r->tok), "sentencepiece", 13) == 0;
    if (r->show_text) show(r);
    const anm_generation g = {.max_new = r->o.max_new_tokens,
                              .stop = r->stop_ids,
                              .n_stop = r->n_stop,
                              .lookahead = r->look,
                              .keep = r->o.keep,
                              .when_full =
                                  strcmp(r->o.context, "slide") == 0 ? ANM_FULL_SLIDE : ANM_FULL_STOP,
                              .token = on_token,
                              .ctx = r};
    int rc = anm_session_generate(end, r->session, &g, err);
    anm_stream_end(&r->stream);
    if (r->show_text) {
        show(r);
        if (isatty(STDOUT_FILENO)) putchar('\n');
    }
    if (r->show_ids && (!rc || r->ids.size)) printf("%s\n", r->ids.data ? (char *)r->ids.data : "");
    fflush(stdout);
    if (r->o.interactive && cli_stop_asked()) clearerr(stdout); /* a write that the Ctrl-C broke off was of this answer */
    if (!rc && (r->ids.bad || r->stream.ready.bad || r->stream.held.bad || r->answer.bad || r->made.bad))
        rc = anm_fail_memory(err, "the answer");
    return rc ? anm_error_prefix(err, r->o.model) : 0;
}

int run_figures(const running *r, anm_end end, bool more, anm_error *err)
{
    if (r->said) r->said();
    const options *o = &r->o;
    run_report rep = {.model = o->model,
                      .seed = r->seed,
                      .end = end,
                      .stopped_by_text = r->stream.stopped,
                      .interrupted = cli_stop_asked(),
                      .multifunction = r->info->multifunction,
                      .context = r->session->capacity,
                      .lookahead = o->lookahead != NULL,
                      .greedy = o->greedy || o->temperature == 0,
                      .goes_on = o->interactive};
    anm_session_get_stats(&rep.stats, r->session);
    rep.times = anm_state_times(r->session->state);
    if (o->json) return run_report_json(stderr, &rep, err);
    run_report_text(stderr, &rep, more);
    return 0;
}
