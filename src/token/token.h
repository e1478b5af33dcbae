/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Tokenizers of the Llama family: text to ids and back. The format is found by looking into the file: tiktoken's list,
 * SentencePiece's protobuf, Hugging Face's tokenizer.json, or the tokens in a GGUF's metadata.
 */
#ifndef ANM_TOKEN_TOKEN_H
#define ANM_TOKEN_TOKEN_H

#include "base/error.h"

#include <stdbool.h>

typedef struct anm_tokenizer anm_tokenizer;

/* `config` is tokenizer_config.json, or NULL (then the one beside `path` is used where there is one). Immutable once
 * open: any number of threads may use it. */
int anm_tokenizer_open(anm_tokenizer **out, const char *path, const char *config, anm_error *err);
void anm_tokenizer_free(anm_tokenizer *t);

const char *anm_tokenizer_kind(const anm_tokenizer *t); /* "tiktoken", "sentencepiece bpe", "hugging face bpe", "gguf gpt2", … */
int32_t anm_tokenizer_size(const anm_tokenizer *t);     /* ids are in [0, size) */
int32_t anm_tokenizer_bos(const anm_tokenizer *t);      /* -1 where there is none */
int32_t anm_tokenizer_eos(const anm_tokenizer *t);
/* Does the tokenizer's own data say whether a BOS goes first? 1 yes, 0 no, -1 it does not say. */
int anm_tokenizer_add_bos(const anm_tokenizer *t);
bool anm_tokenizer_is_stop(const anm_tokenizer *t, int32_t id); /* ends an answer: EOS, <|eot_id|>, <|im_end|>, … */
int32_t anm_tokenizer_id(const anm_tokenizer *t, const char *piece); /* of a token or special token's spelling; -1 */
bool anm_tokenizer_is_special(const anm_tokenizer *t, int32_t id);
/* The model's chat template (Jinja), or NULL. */
const char *anm_tokenizer_chat_template(const anm_tokenizer *t);

/* Encodes n bytes of UTF-8 (invalid bytes become what the format's original makes of U+FFFD). With parse_special,
 * spelled-out special tokens become their ids; without, they are text. No BOS is added. *ids is allocated (free). */
int anm_tokenizer_encode(int32_t **ids, size_t *count, const anm_tokenizer *t, const char *text, size_t n,
                         bool parse_special, anm_error *err);

/* The bytes of one token as they stand in running text, perhaps part of a UTF-8 character; special tokens give their
 * spelling when `special`, else nothing. Points into the tokenizer. */
void anm_tokenizer_piece(const char **bytes, size_t *n, const anm_tokenizer *t, int32_t id, bool special);

/* Text of `count` ids, as the original's decode gives it (SentencePiece drops the leading space). Allocated (free). */
int anm_tokenizer_decode(char **text, size_t *n, const anm_tokenizer *t, const int32_t *ids, size_t count,
                         bool special, anm_error *err);

#endif
