/* SPDX-License-Identifier: BSD-3-Clause */
#include "cli/conversation.h"

#include <stdlib.h>
#include <string.h>

int conversation_open(conversation *c, const anm_tokenizer *tok, const char *name, anm_error *err)
{
    *c = (conversation){.tok = tok};
    if (name) return anm_chat_template_builtin(&c->template, name, err);
    const char *own = anm_tokenizer_chat_template(tok);
    if (!own)
        return anm_fail(
            err, ANM_ERR_USAGE,
            "the tokenizer brings no chat template: choose one, --template llama2, llama3, chatml or none");
    c->file = anm_tokenizer_chat_template_file(tok);
    int rc = anm_chat_template_parse(&c->template, own, strlen(own), err);
    return rc ? anm_error_prefix(err, c->file) : 0;
}

void conversation_close(conversation *c)
{
    conversation_cut(c, 0);
    free(c->message);
    anm_chat_template_free(c->template);
    *c = (conversation){0};
}

int conversation_say(conversation *c, const char *role, const char *content, size_t n, anm_error *err)
{
    if (c->n == c->room) {
        size_t room = c->room ? 2 * c->room : 8;
        anm_chat_message *more = realloc(c->message, room * sizeof *more);
        if (!more) return anm_fail_memory(err, "the conversation");
        c->message = more;
        c->room = room;
    }
    char *copy = malloc(n + 1);
    if (!copy) return anm_fail_memory(err, "the conversation");
    memcpy(copy, content, n);
    copy[n] = 0;
    c->message[c->n++] = (anm_chat_message){role, copy, n};
    return 0;
}

void conversation_cut(conversation *c, size_t keep)
{
    while (c->n > keep)
        free((void *)(uintptr_t)c->message[--c->n].content);
}

/* The text of a special token, as a string of its own; NULL where there is none. */
static int text_of(char **out, const anm_tokenizer *tok, int32_t id, anm_error *err)
{
    const char *bytes;
    size_t n;
    *out = NULL;
    if (id < 0) return 0;
    anm_tokenizer_piece(&bytes, &n, tok, id, true);
    *out = malloc(n + 1);
    if (!*out) return anm_fail_memory(err, "the conversation");
    memcpy(*out, bytes, n);
    (*out)[n] = 0;
    return 0;
}

static int render(anm_chat_text *text, const conversation *c, const anm_chat_opts *opts, anm_error *err)
{
    int rc = anm_chat_render(text, c->template, c->message, c->n, opts, err);
    if (!rc && !text->n && c->file) rc = anm_fail(err, ANM_ERR_FORMAT, "the chat template makes nothing of this conversation");
    return rc && c->file ? anm_error_prefix(err, c->file) : rc;
}

int conversation_tokens(int32_t **ids, size_t *count, const conversation *c, anm_error *err)
{
    char *bos, *eos = NULL;
    anm_chat_text text = {0};
    int rc = text_of(&bos, c->tok, anm_tokenizer_bos(c->tok), err);
    if (!rc) rc = text_of(&eos, c->tok, anm_tokenizer_eos(c->tok), err);
    const anm_chat_opts opts = {.add_generation_prompt = true, .bos_token = bos, .eos_token = eos};
    if (!rc) rc = render(&text, c, &opts, err);
    if (!rc) rc = anm_tokenizer_encode_parts(ids, count, c->tok, text.parts, text.n_parts, err);
    anm_chat_text_free(&text);
    free(bos);
    free(eos);
    return rc;
}
