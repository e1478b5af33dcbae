/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Byte-pair merging, one engine for every format: symbols are ids, a table says which neighbours merge and in which
 * order. And the way from a fragment to words: stages of patterns, then a cache of the words seen in this call.
 *
 *     fragment -> stage 0 -> … -> stage n-1 -> word -> (cache) -> symbols -> merges -> ids
 */
#ifndef ANM_TOKEN_BPE_H
#define ANM_TOKEN_BPE_H

#include "token/split.h"
#include "token/tok.h"

/* Scratch of the merging, kept over the words of one call. */
typedef struct anm_merger {
    int32_t *prev, *next;
    uint32_t *rank;
    uint64_t *heap;
    size_t room, heap_n;
    int32_t (*made_of)[2]; /* where not NULL: for each symbol the two that it was last made of */
} anm_merger;

void anm_merger_free(anm_merger *m);

/* Merges sym[0 … n) in place until no pair of neighbours is in the table; gives the new count, SIZE_MAX when memory is
 * out. Negative symbols never merge. At most n log n steps. */
size_t anm_bpe_merge(anm_merger *m, const anm_pairmap *pairs, int32_t *sym, size_t n);

/* A byte-pair model over words. */
typedef struct anm_bpe {
    anm_pairmap pairs;
    anm_strmap whole;          /* bytes of words that are taken whole, before any merging */
    bool has_whole;
    bool bytes;                /* symbols are bytes; else characters, found in `chars` */
    int32_t of_byte[256];      /* the symbol of a byte, -1: none (bytes), or of <0xNN> (characters) */
    anm_strmap chars;
    bool byte_fallback, fuse_unk;
    int32_t unk;               /* for what has no symbol; -1: it is dropped, as the originals do */
    anm_stage *stage;
    size_t n_stages;
    const char *cut_before; /* without stages: words may be cut where this character follows another one; or NULL */
    size_t cut_before_n;
} anm_bpe;

/* One call's cache of words and its scratch. */
typedef struct anm_words anm_words;
anm_words *anm_words_new(size_t text_bytes);
void anm_words_free(anm_words *w);

/* Formats with words of their own: copies the ids that the same bytes had earlier in this call (false: not seen yet),
 * or keeps those at out[from …) for the next time. The bytes must stay where they are until the call ends. */
bool anm_words_recall(anm_encoding *e, const char *text, size_t n);
void anm_words_keep(anm_encoding *e, const char *text, size_t n, size_t from);
/* What matches patterns, for as long as the call lasts. */
anm_matcher *anm_words_matcher(anm_encoding *e);
/* Their symbols and the merging of these. */
anm_ids *anm_words_symbols(anm_encoding *e);
anm_merger *anm_words_merger(anm_encoding *e);

/* Encodes a fragment: all stages, then every word. */
int anm_bpe_encode(anm_encoding *e, const anm_bpe *b, const char *text, size_t n);

/* For lists of tokens whose order is the order of merging (tiktoken): every way in which a token is made of two others.
 * text of token i is t->piece[i + base], rank i; n tokens. Also fills `whole` and of_byte. */
int anm_bpe_from_ranks(anm_bpe *b, anm_tokenizer *t, int32_t base, int32_t n, anm_error *err);

/* Takes out of the tables what would make special tokens of text: the merges to one, the words and characters that are
 * one. Only a byte that is one stays, since nothing else spells it. */
void anm_bpe_settle(anm_bpe *b, const anm_tokenizer *t);

/* Closes the stages. */
void anm_bpe_close(anm_bpe *b);

#endif
