/* SPDX-License-Identifier: BSD-3-Clause */
/* A conversation: what was said, and the tokens that a model is to see of it. */
#ifndef ANM_CLI_CONVERSATION_H
#define ANM_CLI_CONVERSATION_H

#include "chat/chat.h"

typedef struct conversation {
    const anm_tokenizer *tok; /* not owned */
    const char *file;         /* that the template comes from, the tokenizer's; NULL: it is one that is always there */
    anm_chat_template *template;
    anm_chat_message *message;
    size_t n, room;
} conversation;

/* With the template named `name` (llama2, llama3, chatml, none), or where that is NULL with the tokenizer's
 * own. */
int conversation_open(conversation *c, const anm_tokenizer *tok, const char *name, anm_error *err);
void conversation_close(conversation *c);

/* `role` is a literal; the content is copied. */
int conversation_say(conversation *c, const char *role, const char *content, size_t n, anm_error *err);
/* Forgets all but the first `keep` messages. */
void conversation_cut(conversation *c, size_t keep);

/* The tokens of all of it and of the head of the assistant's next message. *ids is the caller's (free). */
int conversation_tokens(int32_t **ids, size_t *count, const conversation *c, anm_error *err);

#endif
