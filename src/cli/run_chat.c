/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A conversation in the terminal. All of it is put through the chat template at every turn, and fed from the
 * first token on that differs from what the session was fed: that is the new turn alone, as long as the
 * answers' tokens are those that their text encodes to.
 *
 * With --context slide a conversation may be longer than the context. What the session still holds of it is
 *
 *     seen:  [ the first --keep | gone ........ | the rest of what the session was fed ]
 */
#include "base/outfile.h"
#include "cli/cli.h"
#include "cli/conversation.h"
#include "cli/line.h"
#include "cli/run.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct talk {
    running *r;
    conversation c;
    int32_t *seen; /* every token that was fed */
    size_t n_seen, gone;
} talk;

static bool slides(const talk *t)
{
    return strcmp(t->r->o.context, "slide") == 0;
}

static size_t n_fed(const talk *t)
{
    return anm_session_fed(NULL, t->r->session);
}

/* Takes the session back to the last point at which it had seen nothing but the beginning of ids[0 … n), short of all of
 * it; *at is where they go on. */
static int rewind_to(size_t *at, talk *t, const int32_t *ids, size_t n, anm_error *err)
{
    size_t common = 0, kept = t->gone ? (size_t)t->r->o.keep : 0;
    while (common < t->n_seen && common + 1 < n && t->seen[common] == ids[common])
        common++;
    if (common < kept + t->gone) { /* what left is not as it was: begin again behind what never leaves */
        if (common > kept) common = kept;
        t->gone = 0;
    }
    *at = common;
    size_t place = common - t->gone;
    return place < n_fed(t) ? anm_session_rewind(t->r->session, place, err) : 0;
}

/* Feeds what is new of ids[0 … n), which the talk takes over; until it is asked to stop. */
static int feed_new(talk *t, int32_t *ids, size_t n, anm_error *err)
{
    anm_session *s = t->r->session;
    size_t at = 0, capacity = (size_t)s->capacity, step = (size_t)t->r->info->input_len;
    int rc = rewind_to(&at, t, ids, n, err);
    if (rc) {
        free(ids);
        return rc;
    }
    while (!rc && at < n && !cli_stop_asked()) {
        size_t room = capacity - n_fed(t), take = n - at < step ? n - at : step;
        if (room == 0 && slides(t)) {
            rc = anm_session_slide(s, t->r->o.keep, err);
            t->gone += capacity - n_fed(t);
            continue;
        }
        if (take > room && slides(t)) take = room;
        rc = anm_session_feed(s, ids + at, take, err);
        if (!rc) at += take;
    }
    free(t->seen);
    t->seen = ids;
    t->n_seen = n_fed(t) + t->gone;
    return rc;
}

/* The answer's tokens were fed, all but the last; and perhaps some left meanwhile. */
static int see_answer(talk *t, anm_error *err)
{
    size_t made = t->r->made.size / sizeof *t->seen;
    if (made < 2) return 0;
    int32_t *more = realloc(t->seen, (t->n_seen + made - 1) * sizeof *more);
    if (!more) return anm_fail_memory(err, "the conversation");
    memcpy(more + t->n_seen, t->r->made.data, (made - 1) * sizeof *more);
    t->seen = more;
    t->n_seen += made - 1;
    t->gone = t->n_seen - n_fed(t);
    return 0;
}

static void forget(talk *t)
{
    conversation_cut(&t->c, t->r->o.system ? 1 : 0);
    anm_session_reset(t->r->session);
    t->n_seen = t->gone = 0;
}

/* One message and its answer. What the context or the template refuses is said, and is as if never written; so is a
 * message that is stopped before its answer begins. */
static int turn(talk *t, const char *text, size_t n, anm_error *err)
{
    running *r = t->r;
    conversation *c = &t->c;
    size_t before = c->n, count = 0;
    int32_t *ids = NULL;
    anm_end end = ANM_END_MAX;
    cli_handle_stop(true); /* and so it stays: while a line is edited, Ctrl-C is a key */
    int rc = conversation_say(c, "user", text, n, err);
    if (!rc) rc = conversation_tokens(&ids, &count, c, err);
    if (!rc && !slides(t) && count > (size_t)r->session->capacity) {
        rc = anm_fail(err, ANM_ERR_LIMIT,
                      "the conversation has %zu tokens now, and the context holds %lld: /reset begins a new one, or "
                      "start with --context slide to forget the oldest",
                      count, (long long)r->session->capacity);
        free(ids);
    } else if (!rc) {
        rc = feed_new(t, ids, count, err);
    }
    if (rc == ANM_ERR_LIMIT || rc == ANM_ERR_USAGE || rc == ANM_ERR_UNSUPPORTED) {
        cli_fail(err);
        conversation_cut(c, before);
        return 0;
    }
    if (rc) return rc;
    if (cli_stop_asked()) {
        fprintf(stderr, "(stopped before the answer began)\n");
        conversation_cut(c, before);
        return 0;
    }
    r->answer.size = r->made.size = 0;
    anm_stream_restart(&r->stream);
    rc = run_answer(r, &end, err);
    if (!rc) rc = see_answer(t, err);
    if (rc) return rc;
    if (!isatty(STDOUT_FILENO)) putchar('\n');
    if (cli_stop_asked())
        fprintf(stderr, "(stopped)\n");
    else if (end == ANM_END_CONTEXT)
        fprintf(stderr, "(the context is full; /reset begins a new conversation, or start with --context slide)\n");
    else if (end == ANM_END_MAX)
        fprintf(stderr, "(--max_new_tokens %lld reached)\n", (long long)r->o.max_new_tokens);
    return conversation_say(c, "assistant", r->answer.data ? (char *)r->answer.data : "", r->answer.size,
                            err);
}

static int save(const talk *t, const char *path, anm_error *err)
{
    const conversation *c = &t->c;
    anm_buf text = {0};
    anm_outfile f = {.fd = -1};
    for (size_t i = 0; i < c->n; i++) {
        anm_buf_printf(&text, "%s%s:\n", i ? "\n" : "", c->message[i].role);
        anm_buf_put(&text, c->message[i].content, c->message[i].content_n);
        anm_buf_puts(&text, "\n");
    }
    int rc = text.bad ? anm_fail_memory(err, path) : run_check_output(&t->r->o, path, err);
    if (!rc) rc = anm_outfile_open(&f, path, err);
    if (!rc) {
        rc = anm_outfile_write(&f, 0, text.data, text.size, err);
        if (!rc) rc = anm_outfile_commit(&f, true, err);
        anm_outfile_abort(&f);
    }
    anm_buf_free(&text);
    return rc;
}

static void command(talk *t, const char *line, bool *leave)
{
    const char *word = line + strcspn(line, " ");
    size_t n = (size_t)(word - line);
    anm_error err = {0};
    while (*word == ' ')
        word++;
#define IS(name) (n == sizeof name - 1 && memcmp(line, name, n) == 0)
    if (IS("/help")) {
        fprintf(
            stderr,
            "/reset      forget the conversation\n/stats      figures\n/save FILE  write the conversation\n"
            "/quit       leave (or Ctrl-D)\nCtrl-C stops an answer, or drops the line being written\n");
    } else if (IS("/reset")) {
        forget(t);
    } else if (IS("/stats")) {
        if (run_figures(t->r, ANM_END_MAX, true, &err)) cli_fail(&err);
    } else if (IS("/save")) {
        if (!*word)
            fprintf(stderr, "/save FILE: which file?\n");
        else if (save(t, word, &err)) {
            cli_fail(&err);
            if (t->r->o.locked && err.code == ANM_ERR_IO && strchr(word, '/'))
                fprintf(stderr, "in the sandbox files can be written in the current folder only; --no_sandbox is the way out\n");
        } else
            fprintf(stderr, "saved in %s\n", word);
    } else if (IS("/quit") || IS("/exit")) {
        *leave = true;
    } else {
        fprintf(stderr, "there is no %.*s; /help lists what there is\n", (int)n, line);
    }
#undef IS
}

int run_chat(running *r, anm_error *err)
{
    talk t = {.r = r};
    cli_line *lines = NULL;
    const char *line = NULL;
    size_t n = 0;
    bool leave = false;
    anm_buf text = {0}; /* the line, ended by a 0 */
    int rc = conversation_open(&t.c, r->tok, r->o.template, err);
    if (!rc && r->o.system) rc = conversation_say(&t.c, "system", r->o.system, strlen(r->o.system), err);
    if (!rc) rc = cli_line_open(&lines, err);
    bool person = lines && cli_line_terminal(lines);
    if (!rc && person) fprintf(stderr, "Write a message, or /help.\n");
    while (!rc && !leave && cli_line_read(&line, &n, lines)) {
        if (n == 0) continue;
        text.size = 0;
        anm_buf_put(&text, line, n);
        if (text.bad)
            rc = anm_fail_memory(err, "a line");
        else if (*line == '/')
            command(&t, (char *)text.data, &leave);
        else
            rc = turn(&t, (char *)text.data, n, err);
    }
    if (!rc && person && !leave) fprintf(stderr, "\n");
    anm_buf_free(&text);
    cli_line_close(lines);
    free(t.seen);
    conversation_close(&t.c);
    return rc;
}
