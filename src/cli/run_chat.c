/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A conversation in the terminal. All of it is put through the chat template at every turn, and fed from the
 * first token on that differs from what the session was fed: that is the new turn alone, as long as the
 * answers' tokens are those that their text encodes to.
 */
#include "base/outfile.h"
#include "cli/cli.h"
#include "cli/conversation.h"
#include "cli/run.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int feed_new(running *r, const int32_t *ids, size_t n, anm_error *err)
{
    const int32_t *fed;
    size_t n_fed = anm_session_fed(&fed, r->session), common = 0;
    while (common < n_fed && common + 1 < n && fed[common] == ids[common])
        common++;
    int rc = common < n_fed ? anm_session_rewind(r->session, common, err) : 0;
    return rc ? rc : anm_session_feed(r->session, ids + common, n - common, err);
}

/* One message and its answer. What the context or the template refuses is said, and is as if never written.
 */
static int turn(running *r, conversation *c, const char *text, size_t n, anm_error *err)
{
    size_t before = c->n, count = 0;
    int32_t *ids = NULL;
    anm_end end = ANM_END_MAX;
    int rc = conversation_say(c, "user", text, n, err);
    if (!rc) rc = conversation_tokens(&ids, &count, c, err);
    if (!rc && count > (size_t)r->session->capacity)
        rc = anm_fail(
            err, ANM_ERR_LIMIT,
            "the conversation has %zu tokens now, and the context holds %lld: /reset begins a new one", count,
            (long long)r->session->capacity);
    if (!rc) rc = feed_new(r, ids, count, err);
    free(ids);
    if (rc == ANM_ERR_LIMIT || rc == ANM_ERR_USAGE || rc == ANM_ERR_UNSUPPORTED) {
        cli_fail(err);
        conversation_cut(c, before);
        return 0;
    }
    if (rc) return rc;
    r->answer.size = r->stream.ready.size = 0;
    rc = run_answer(r, &end, err);
    if (rc) return rc;
    if (!isatty(STDOUT_FILENO)) putchar('\n');
    if (cli_stop_asked())
        fprintf(stderr, "(stopped)\n");
    else if (end == ANM_END_CONTEXT)
        fprintf(stderr, "(the context is full; /reset begins a new conversation)\n");
    else if (end == ANM_END_MAX)
        fprintf(stderr, "(--max_new_tokens %lld reached)\n", (long long)r->o.max_new_tokens);
    return conversation_say(c, "assistant", r->answer.data ? (char *)r->answer.data : "", r->answer.size,
                            err);
}

static int save(const conversation *c, const char *path, anm_error *err)
{
    anm_buf text = {0};
    anm_outfile f = {.fd = -1};
    for (size_t i = 0; i < c->n; i++) {
        anm_buf_printf(&text, "%s%s:\n", i ? "\n" : "", c->message[i].role);
        anm_buf_put(&text, c->message[i].content, c->message[i].content_n);
        anm_buf_puts(&text, "\n");
    }
    int rc = text.bad ? anm_fail_memory(err, path) : anm_outfile_open(&f, path, err);
    if (!rc) {
        rc = anm_outfile_write(&f, 0, text.data, text.size, err);
        if (!rc) rc = anm_outfile_commit(&f, true, err);
        anm_outfile_abort(&f);
    }
    anm_buf_free(&text);
    return rc;
}

static int command(running *r, conversation *c, const char *line, bool *leave, anm_error *err)
{
    const char *word = line + strcspn(line, " ");
    size_t n = (size_t)(word - line);
    while (*word == ' ')
        word++;
#define IS(name) (n == sizeof name - 1 && memcmp(line, name, n) == 0)
    if (IS("/help")) {
        fprintf(
            stderr,
            "/reset      forget the conversation\n/stats      figures\n/save FILE  write the conversation\n"
            "/quit       leave (or Ctrl-D)\nCtrl-C stops an answer\n");
    } else if (IS("/reset")) {
        conversation_cut(c, r->o.system ? 1 : 0);
        anm_session_reset(r->session);
    } else if (IS("/stats")) {
        if (run_figures(r, ANM_END_MAX, true, err)) cli_fail(err);
    } else if (IS("/save")) {
        if (!*word)
            fprintf(stderr, "/save FILE: which file?\n");
        else if (save(c, word, err))
            cli_fail(err);
        else
            fprintf(stderr, "saved in %s\n", word);
    } else if (IS("/quit") || IS("/exit")) {
        *leave = true;
    } else {
        fprintf(stderr, "there is no %.*s; /help lists what there is\n", (int)n, line);
    }
#undef IS
    return 0;
}

int run_chat(running *r, anm_error *err)
{
    conversation c;
    char *line = NULL;
    size_t room = 0;
    bool leave = false, terminal = isatty(STDIN_FILENO);
    int rc = conversation_open(&c, r->tok, r->o.template, err);
    if (!rc && r->o.system) rc = conversation_say(&c, "system", r->o.system, strlen(r->o.system), err);
    if (!rc && terminal) fprintf(stderr, "Write a message, or /help.\n");
    while (!rc && !leave) {
        if (terminal) fprintf(stderr, "> ");
        cli_handle_stop(false);
        ssize_t n = getline(&line, &room, stdin);
        if (n < 0) break;
        while (n > 0 && (line[n - 1] == '\n' || line[n - 1] == '\r'))
            line[--n] = 0;
        if (n == 0) continue;
        rc = line[0] == '/' ? command(r, &c, line, &leave, err) : turn(r, &c, line, (size_t)n, err);
    }
    if (terminal && !leave) fprintf(stderr, "\n");
    free(line);
    conversation_close(&c);
    return rc;
}
