/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Hugging Face's tokenizer.json (huggingface/tokenizers): a pipeline that the file spells out.
 *
 *     text -> added tokens cut out -> normalizer -> more added tokens -> pre-tokenizer -> model (BPE) -> ids -> decoder
 *
 * What a step of the file says that is not done here is refused by its name.
 */
#ifndef ANM_TOKEN_HF_H
#define ANM_TOKEN_HF_H

#include "token/bpe.h"
#include "token/tok.h"

#include <jansson.h>

enum { ANM_HF_STEPS = 16 };

/* Every `from` in a text becomes `to`. */
void anm_hf_replace(anm_buf *out, const char *text, size_t n, const char *from, size_t from_n, const char *to, size_t to_n);

/* ---- normalizer (hf_norm.c) ---- */

typedef enum anm_norm_kind {
    ANM_NORM_PREPEND, /* `to` in front of a text that is not empty */
    ANM_NORM_REPLACE, /* every match of `stage`, or every `from`, becomes `to` */
    ANM_NORM_NFC,
    ANM_NORM_NFD,
    ANM_NORM_NFKC,
    ANM_NORM_NFKD,
    ANM_NORM_LOWERCASE,
    ANM_NORM_STRIP, /* white space at the sides */
} anm_norm_kind;

typedef struct anm_norm {
    anm_norm_kind kind;
    const char *from, *to;
    size_t from_n, to_n;
    anm_stage stage; /* REPLACE with a pattern: from is NULL */
    bool left, right; /* STRIP */
} anm_norm;

int anm_norm_read(anm_norm *list, size_t *n, const json_t *json, anm_arena *a, anm_error *err);
/* Runs the steps, patterns by the matcher; *out is the text itself or a copy in the arena. */
int anm_norm_run(const char **out, size_t *out_n, const anm_norm *list, size_t n_steps, const char *text, size_t n,
                 anm_matcher *m, anm_arena *a, anm_error *err);

/* ---- pre-tokenizer (hf_pre.c) ---- */

typedef enum anm_prefix { ANM_PREFIX_NEVER, ANM_PREFIX_FIRST, ANM_PREFIX_ALWAYS } anm_prefix;

typedef struct anm_pre {
    anm_stage stage[ANM_MAX_STAGES];
    size_t n_stages;
    bool bytes;             /* ends with ByteLevel: the model sees bytes */
    const char *space;      /* Metaspace: what a space becomes, and what goes in front; NULL: no Metaspace */
    size_t space_n;
    anm_prefix prefix;      /* Metaspace's, or ByteLevel's add_prefix_space with a plain space */
} anm_pre;

int anm_pre_read(anm_pre *p, const json_t *json, anm_arena *a, anm_error *err);

/* ---- decoder (hf_decode.c) ---- */

int anm_hf_byte(const char *spell, size_t n); /* the value of "<0xNN>", or -1 */

typedef enum anm_decode_kind {
    ANM_DECODE_BYTELEVEL,
    ANM_DECODE_REPLACE,
    ANM_DECODE_BYTE_FALLBACK,
    ANM_DECODE_FUSE,
    ANM_DECODE_STRIP,
    ANM_DECODE_METASPACE,
} anm_decode_kind;

typedef struct anm_decode_step {
    anm_decode_kind kind;
    const char *from, *to;
    size_t from_n, to_n;
    int64_t start, stop; /* STRIP: at most so many at each end */
    bool prefix;         /* METASPACE: a prefix was added */
} anm_decode_step;

int anm_decode_read(anm_decode_step *list, size_t *n, const json_t *json, anm_arena *a, anm_error *err);
/* The text of tokens[0 … count), spelled as in the vocabulary, joined as the steps say. */
int anm_decode_run(anm_buf *out, const anm_decode_step *list, size_t n_steps, const anm_piece *const *tokens,
                   size_t count, anm_error *err);

/* ---- the whole ---- */

typedef struct anm_hf {
    anm_bpe bpe;
    anm_norm norm[ANM_HF_STEPS];
    size_t n_norms;
    anm_pre pre;
    anm_decode_step step[ANM_HF_STEPS];
    size_t n_steps;
    anm_addeds normalized; /* added tokens that are sought in the normalized text */
} anm_hf;

/* Strings of a JSON object, copied into the arena; NULL where the key is not there or no string. */
static inline const char *anm_hf_string(const json_t *object, const char *key, size_t *n, anm_arena *a)
{
    const json_t *s = json_object_get(object, key);
    *n = json_string_length(s); /* 0 for what is none */
    if (!json_is_string(s)) return NULL;
    return anm_arena_strndup(a, json_string_value(s), *n);
}

/* The "type" of a step, "?" where it has none. */
static inline const char *anm_hf_type(const json_t *object)
{
    const char *type = json_string_value(json_object_get(object, "type"));
    return type ? type : "?";
}

static inline bool anm_hf_bool(const json_t *object, const char *key, bool otherwise)
{
    const json_t *v = json_object_get(object, key);
    return json_is_boolean(v) ? json_is_true(v) : otherwise;
}

#endif
