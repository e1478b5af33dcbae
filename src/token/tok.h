/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the tokenizers share: the table of pieces, the vector of ids, hash tables, the trie, and the shape of a
 * tokenizer. Private to src/token/.
 *
 *     text -> [added tokens cut out] -> fragments -> encode_text of the format -> ids
 */
#ifndef ANM_TOKEN_TOK_H
#define ANM_TOKEN_TOK_H

#include "base/arena.h"
#include "base/buf.h"
#include "token/token.h"

/* ---- ids ---- */

/* A growing list of ids; a failed allocation is remembered, as in anm_buf. */
typedef struct anm_ids {
    int32_t *p;
    size_t n, room;
    bool bad;
} anm_ids;

void anm_ids_reserve(anm_ids *v, size_t more);

static inline void anm_ids_add(anm_ids *v, int32_t id)
{
    if (v->n == v->room) anm_ids_reserve(v, 1);
    if (!v->bad) v->p[v->n++] = id;
}

/* ---- tables (table.c). All are built once, inside an arena, and only read afterwards. Their hashes are keyed with a
 * number that nobody knows who prepares a file, and chosen so that no keys collide whatever that number is. What is found
 * does not depend on it. ---- */

/* Strings to values >= 0. Keys are not copied: they must live as long as the map. */
typedef struct anm_strslot {
    const char *p;
    uint32_t n, hash;
    int32_t value; /* stored as value + 1, so that a zeroed slot is empty */
} anm_strslot;

typedef struct anm_strmap {
    anm_strslot *slot;
    size_t mask, room;
    uint64_t secret;
    unsigned shift;
} anm_strmap;

bool anm_strmap_init(anm_strmap *m, anm_arena *a, size_t count); /* for at most `count` keys; false: no memory */
bool anm_strmap_add(anm_strmap *m, const char *p, size_t n, int32_t value); /* false: the key is there already */
void anm_strmap_drop(anm_strmap *m, const char *p, size_t n);               /* the key is found no more */
int32_t anm_strmap_get(const anm_strmap *m, const char *p, size_t n);       /* -1: not there */

/* A merge: two neighbouring symbols become one. The lowest rank goes first, among equals the leftmost. */
typedef struct anm_pair {
    int32_t left, right; /* symbols; left < 0: an empty slot */
    uint32_t rank;
    int32_t to;
} anm_pair;

typedef struct anm_pairmap {
    anm_pair *slot;
    size_t mask, room;
    uint64_t by_left, by_right; /* the hash: left times the one and right times the other, its upper bits */
    unsigned shift;
} anm_pairmap;

bool anm_pairmap_init(anm_pairmap *m, anm_arena *a, size_t count);
void anm_pairmap_set(anm_pairmap *m, int32_t left, int32_t right, uint32_t rank, int32_t to); /* replaces */

static inline size_t anm_pairmap_home(const anm_pairmap *m, int32_t left, int32_t right)
{
    return (size_t)(((uint32_t)left * m->by_left + (uint32_t)right * m->by_right) >> m->shift);
}

static inline const anm_pair *anm_pairmap_get(const anm_pairmap *m, int32_t left, int32_t right)
{
    for (size_t i = anm_pairmap_home(m, left, right);; i++) {
        const anm_pair *s = &m->slot[i & m->mask];
        if (s->left < 0) return NULL;
        if (s->left == left && s->right == right) return s;
    }
}

/* A set of byte strings, walked byte by byte. Node 0 is the root; a child is found by hashing (node, byte). */
typedef struct anm_trieslot {
    uint32_t node;  /* the parent */
    uint32_t child; /* 0: an empty slot */
    uint8_t byte;
} anm_trieslot;

typedef struct anm_trie {
    anm_trieslot *slot;
    int32_t *value; /* per node; -1: no string ends here */
    size_t mask, nodes, room;
    uint64_t by; /* the hash: node and byte times this, bits from 32 on */
    uint32_t longest; /* bytes of the longest string */
    uint32_t first[256]; /* the root's children; 0: no string begins with this byte */
} anm_trie;

bool anm_trie_init(anm_trie *t, anm_arena *a, size_t bytes); /* room for strings of `bytes` bytes in all */
void anm_trie_add(anm_trie *t, const char *p, size_t n, int32_t value); /* of equal strings the first stays */

static inline size_t anm_trie_slot(const anm_trie *t, uint32_t node, uint8_t byte)
{
    uint64_t key = ((uint64_t)node << 8 | byte) * t->by;
    size_t i = (size_t)(key >> 32) & t->mask;
    while (t->slot[i].child && (t->slot[i].node != node || t->slot[i].byte != byte)) i = (i + 1) & t->mask;
    return i;
}

/* The child of a node by the next byte; 0: there is none. */
static inline uint32_t anm_trie_step(const anm_trie *t, uint32_t node, uint8_t byte)
{
    return node ? t->slot[anm_trie_slot(t, node, byte)].child : t->first[byte];
}

/* The longest string that begins text[0 … n): its value and length, or -1. */
int32_t anm_trie_longest(const anm_trie *t, const char *text, size_t n, size_t *length);

/* ---- characters ---- */

/* Unicode's White_Space. */
static inline bool anm_is_space(uint32_t c)
{
    return (c >= 9 && c <= 13) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) ||
           c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

/* ---- pieces ---- */

/* The longest token that may be sought in a text: for each byte of it the search may go so far, and each token is cut
 * in two in as many ways. */
enum { ANM_TOKEN_LONGEST = 1024 };

enum anm_piece_flag {
    ANM_PIECE_SPECIAL = 1, /* control: made of text only with parse_special; no text of its own */
    ANM_PIECE_USER = 2,    /* an added or user-defined token: cut out of text always */
    ANM_PIECE_BYTE = 4,    /* stands for one byte, `byte` */
    ANM_PIECE_UNKNOWN = 8,
    ANM_PIECE_UNUSED = 16, /* never made of text, but SentencePiece merges it on to longer pieces */
    ANM_PIECE_STOP = 32,
    ANM_PIECE_LISTED = 64, /* a list of the format's, or `added`, says where it is cut out of text */
};

typedef struct anm_piece {
    const char *spell; /* as the file spells it ("Ġthe", "▁the", "<0x0A>"); NULL: no token has this id */
    const char *text;  /* its bytes in running text (" the") */
    uint32_t spell_n, text_n;
    uint8_t flags, byte;
} anm_piece;

/* A token that is cut out of the text before anything else. */
typedef struct anm_added {
    const char *text;
    uint32_t n;
    int32_t id;
    bool single_word, lstrip, rstrip;
} anm_added;

typedef struct anm_addeds {
    anm_added *list;
    size_t n;
    anm_trie trie; /* values are indices into list */
} anm_addeds;

bool anm_addeds_index(anm_addeds *s, anm_arena *a); /* after list and n are set; false: no memory */

/* ---- a tokenizer ---- */

/* The most bytes that normalizing or decoding may make of n. Steps multiply: sixteen that each make ten letters of one would
 * fill any memory. The most that Unicode does is 33 bytes of 3 (U+FDFA by NFKC), and a space among them may become 3. */
static inline size_t anm_most_of(size_t n)
{
    return n < SIZE_MAX / 64 ? n * 32 + 256 : SIZE_MAX / 2;
}

typedef struct anm_span {
    size_t start, end;
} anm_span;

/* One call of encode: scratch that all fragments share. */
typedef struct anm_encoding {
    const anm_tokenizer *t;
    anm_ids *out;
    const char *text;  /* the whole text */
    anm_span *span;    /* where special tokens are parsed: n_spans stretches of it, in order and apart */
    size_t n_spans, at_span;
    bool parse_special; /* may all of the fragment spell special tokens? */
    bool at_start;      /* the fragment begins where the text begins */
    anm_error *err;
    struct anm_words *words; /* see bpe.h */
    anm_arena scratch;       /* texts that a normalizer made; words point into them until the call ends */
} anm_encoding;

struct anm_tokenizer {
    anm_arena arena;
    const char *kind;
    anm_piece *piece;
    int32_t size, bos, eos, unk;
    int add_bos;
    const char *file; /* its name, for messages */
    const char *chat_template, *chat_template_file;
    anm_strmap by_spell;
    anm_addeds added;

    /* The format's own part: makes its tables of the pieces, or takes out of them what no text may become, once it is
     * settled which are special; encodes one fragment, valid UTF-8; decodes ids to bytes. */
    int (*settle)(anm_tokenizer *t, anm_error *err);
    int (*encode_text)(anm_encoding *e, const char *text, size_t n);
    int (*decode)(anm_buf *out, const anm_tokenizer *t, const int32_t *ids, size_t count, bool special, anm_error *err);
    void (*close)(anm_tokenizer *t); /* what is not in the arena; may be NULL */
    void *format;
};

/* Makes the tables for ids in [0, size), in an arena of at most `limit` bytes. */
int anm_tokenizer_new(anm_tokenizer **out, const char *kind, uint64_t size, uint64_t limit, anm_error *err);
/* Gives `id` its spelling (copied) and its text (copied; NULL: the spelling). Fails when the id has one already. */
int anm_tokenizer_set(anm_tokenizer *t, int32_t id, const char *spell, size_t spell_n, const char *text, size_t text_n,
                      unsigned flags, anm_error *err);
/* After all pieces are set, and what is beside the file was read: the format's tables, the added tokens that are not
 * listed yet by the pieces' flags, stop tokens. Text encoded from then on spells no special token, but where it may. */
int anm_tokenizer_finish(anm_tokenizer *t, anm_error *err);
/* Cuts the added tokens out of a text; what is between them goes to `rest`. Special ones are cut only where e->span
 * allows (`raw`: the text lies inside e->text), or where e->parse_special holds for all of it. */
int anm_addeds_cut(const anm_addeds *s, anm_encoding *e, const char *text, size_t n, bool raw,
                   int (*rest)(anm_encoding *e, const char *text, size_t n));
/* The plain decode: the pieces' bytes one after the other. */
int anm_decode_bytes(anm_buf *out, const anm_tokenizer *t, const int32_t *ids, size_t count, bool special,
                     anm_error *err);

/* ---- the formats: each looks at a whole file, and leaves the tokenizer to be finished ---- */

int anm_tiktoken_open(anm_tokenizer **out, const uint8_t *data, uint64_t size, anm_error *err);
int anm_spm_open(anm_tokenizer **out, const uint8_t *data, uint64_t size, anm_error *err);
struct json_t; /* parsed by open.c; `size` is that of the text */
int anm_hf_open(anm_tokenizer **out, const struct json_t *root, uint64_t size, anm_error *err);
int anm_tekken_open(anm_tokenizer **out, const struct json_t *root, uint64_t size, anm_error *err);
int anm_gguf_tokenizer_open(anm_tokenizer **out, const uint8_t *data, uint64_t size, const char *file, anm_error *err);

#endif
