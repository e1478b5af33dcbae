/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * SentencePiece: text is normalized, spaces become U+2581, and the whole is cut into pieces, by byte-pair merging (the
 * pieces' scores say in which order) or as the likeliest sequence (unigram). Source: google/sentencepiece 0.2.
 */
#ifndef ANM_TOKEN_SPM_H
#define ANM_TOKEN_SPM_H

#include "token/tok.h"

#define ANM_SPM_SPACE "\xE2\x96\x81" /* U+2581 */

typedef struct anm_spm_options {
    bool bpe;                 /* else unigram */
    bool escape_spaces;       /* a space becomes U+2581 */
    bool dummy_prefix;        /* the text gets one more space in front … */
    bool suffix;              /* … or at its end */
    bool remove_extra_spaces; /* at both ends, and of several only one */
    bool byte_fallback;       /* a character without a piece becomes its bytes */
    const char *unk_surface;  /* what the unknown token decodes to; NULL: the default */
    const uint8_t *charsmap;  /* rules of normalization (nmt_nfkc, …), or NULL */
    size_t charsmap_n;
} anm_spm_options;

/* Sets one piece of a tokenizer in the making; flags as in anm_piece_flag. */
int anm_spm_set(anm_tokenizer *t, int32_t id, const char *piece, size_t n, unsigned flags, anm_error *err);
/* After all pieces: how the format encodes; its tables are built when it is settled which pieces are special. score[size]
 * and what the options point to must live in the tokenizer's arena. */
int anm_spm_prepare(anm_tokenizer *t, const anm_spm_options *o, const float *score, anm_error *err);

/* ---- inside (spm*.c) ---- */

/* Rules of normalization: a double-array trie over the left sides, whose values are offsets of the right sides. */
typedef struct anm_charsmap {
    const uint8_t *unit; /* n_units of four bytes */
    size_t n_units;
    const char *text;    /* the right sides, each ending with a 0 byte */
    size_t text_n;
} anm_charsmap;

int anm_charsmap_open(anm_charsmap *m, const uint8_t *data, size_t n, anm_error *err);

typedef struct anm_spm {
    anm_spm_options o;
    anm_charsmap charsmap;
    const float *score;
    float min_score;
    anm_trie user;        /* user-defined symbols: cut out whole, also by the normalizer */
    bool has_user;
    int32_t of_byte[256];
    /* byte-pair merging: symbols are ids, then characters that only stand inside pieces */
    anm_strmap symbol;    /* a piece or one of those characters */
    anm_pairmap pairs;
    const char **extra;   /* the characters of symbols size, size + 1, … */
    size_t n_extra;
    bool words_apart;     /* no piece has a space after another character: words merge apart from each other */
    bool has_unused;
    /* unigram */
    anm_trie pieces;
} anm_spm;

/* The normalized form of a fragment. */
int anm_spm_normalize(anm_buf *out, const anm_spm *s, const char *text, size_t n, anm_error *err);
int anm_spm_build_bpe(anm_tokenizer *t, anm_spm *s, anm_error *err);
int anm_spm_build_unigram(anm_tokenizer *t, anm_spm *s, anm_error *err);
int anm_spm_encode_bpe(anm_encoding *e, const anm_spm *s, const char *text, size_t n);
int anm_spm_encode_unigram(anm_encoding *e, const anm_spm *s, const char *text, size_t n);
/* A character that no piece covers: its bytes, or the unknown token, once for several in a row (*unk). */
void anm_spm_unknown(anm_encoding *e, const anm_spm *s, const char *text, size_t n, bool *unk);

#endif
