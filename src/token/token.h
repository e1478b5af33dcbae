/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Tokenizers of the Llama family: text to ids and back. The format is found by looking into the file: tiktoken's list,
 * SentencePiece's protobuf, Hugging Face's tokenizer.json, or the tokens in a GGUF's metadata.
 */
#ifndef ANM_TOKEN_TOKEN_H
#define ANM_TOKEN_TOKEN_H

#include "base/error.h"

#include <stdbool.h>

/* Opening, encoding and decoding stand in the public header (anemone.h); this is what only the project itself uses. */

const char *anm_tokenizer_kind(const anm_tokenizer *t); /* "tiktoken", "sentencepiece bpe", "hugging face bpe", "gguf gpt2", … */
int32_t anm_tokenizer_id(const anm_tokenizer *t, const char *piece); /* of a token or special token's spelling; -1 */
bool anm_tokenizer_is_special(const anm_tokenizer *t, int32_t id);
/* The model's chat template (Jinja), or NULL. */
const char *anm_tokenizer_chat_template(const anm_tokenizer *t);
/* The file that it stands in, for messages; NULL where there is none. */
const char *anm_tokenizer_chat_template_file(const anm_tokenizer *t);

/* As anm_tokenizer_open, of `size` bytes in memory that need not outlive the call; `file` names them in messages. No
 * file beside them is looked for. */
int anm_tokenizer_parse(anm_tokenizer **out, const uint8_t *data, uint64_t size, const char *file, anm_error *err);

/* A text in parts, of which some may spell special tokens (a chat template's) and some not (what a user wrote). They
 * are encoded as the one text that they make: words and merges cross the borders; a special token is made only of
 * text that all lies in parts with parse_special. As anm_tokenizer_encode otherwise. */
typedef struct anm_text_part {
    const char *text;
    size_t n;
    bool parse_special;
} anm_text_part;
int anm_tokenizer_encode_parts(int32_t **ids, size_t *count, const anm_tokenizer *t, const anm_text_part *parts,
                               size_t n_parts, anm_error *err);

#endif
