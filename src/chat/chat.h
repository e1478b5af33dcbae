/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Chat templates: messages become the text that the model was trained on. Templates are Jinja, as tokenizer_config.json
 * and GGUF files carry them; the part of Jinja that such templates use is rendered here as Python's jinja2 renders it
 * under Hugging Face's transformers, and anything beyond is refused by its name.
 *
 * What a message says and what the template says are told apart to the last byte, through every filter and slice: a
 * user who writes "<|eot_id|>" gets these characters, never the token.
 */
#ifndef ANM_CHAT_CHAT_H
#define ANM_CHAT_CHAT_H

#include "token/token.h"

typedef struct anm_chat_message {
    const char *role; /* "system", "user", "assistant" */
    const char *content;
    size_t content_n;
} anm_chat_message;

typedef struct anm_chat_opts {
    bool add_generation_prompt; /* end with the head of the assistant's next message */
    const char *bos_token, *eos_token; /* their spellings; NULL: "" */
    int64_t now; /* seconds since 1970, for templates that tell the date; 0: the clock */
} anm_chat_opts;

/* The rendered text, in parts for anm_tokenizer_encode_parts: parse_special marks what the template said. */
typedef struct anm_chat_text {
    char *text; /* n bytes, then a 0 byte */
    size_t n;
    anm_text_part *parts; /* they point into text, in order, and cover it */
    size_t n_parts;
} anm_chat_text;

typedef struct anm_chat_template anm_chat_template; /* parsed: immutable, any number of threads may render it */

/* Parses a template. Errors name the line and the construct. */
int anm_chat_template_parse(anm_chat_template **out, const char *text, size_t n, anm_error *err);
/* One that is always there: "llama2", "llama3", "chatml", or "none" (the contents alone, a line end between two). */
int anm_chat_template_builtin(anm_chat_template **out, const char *name, anm_error *err);
void anm_chat_template_free(anm_chat_template *t);

/* Renders. ANM_ERR_USAGE with the template's own words where it refuses the messages (raise_exception). Free *out
 * with anm_chat_text_free. */
int anm_chat_render(anm_chat_text *out, const anm_chat_template *t, const anm_chat_message *messages, size_t n,
                    const anm_chat_opts *opts, anm_error *err);
void anm_chat_text_free(anm_chat_text *t);

#endif
