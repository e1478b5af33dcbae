/* SPDX-License-Identifier: BSD-3-Clause */
#include "token/bpe.h"

#include "base/utf8.h"

#include <stdlib.h>
#include <string.h>

/* ---- merging ---- */

enum { SHORT = 40 }; /* up to SHORT symbols a plain search for the best pair beats the heap */
static const uint32_t none = UINT32_MAX;

void anm_merger_free(anm_merger *m)
{
    free(m->prev);
    free(m->next);
    free(m->rank);
    free(m->heap);
    m->prev = m->next = NULL;
    m->rank = NULL;
    m->heap = NULL;
    m->room = 0;
}

static uint32_t rank_of(const anm_pairmap *pairs, int32_t left, int32_t right)
{
    const anm_pair *p = left < 0 || right < 0 ? NULL : anm_pairmap_get(pairs, left, right);
    return p ? p->rank : none;
}

static int32_t join(anm_merger *m, const anm_pairmap *pairs, int32_t left, int32_t right)
{
    int32_t to = anm_pairmap_get(pairs, left, right)->to;
    if (m->made_of) {
        m->made_of[to][0] = left;
        m->made_of[to][1] = right;
    }
    return to;
}

static size_t merge_short(anm_merger *m, const anm_pairmap *pairs, int32_t *sym, size_t n)
{
    uint32_t rank[SHORT];
    for (size_t i = 0; i + 1 < n; i++) rank[i] = rank_of(pairs, sym[i], sym[i + 1]);
    while (n > 1) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < n; i++)
            if (rank[i] < rank[best]) best = i;
        if (rank[best] == none) break;
        sym[best] = join(m, pairs, sym[best], sym[best + 1]);
        n--;
        memmove(sym + best + 1, sym + best + 2, (n - best - 1) * sizeof *sym);
        memmove(rank + best + 1, rank + best + 2, (n - best - 1) * sizeof *rank);
        if (best) rank[best - 1] = rank_of(pairs, sym[best - 1], sym[best]);
        if (best + 1 < n) rank[best] = rank_of(pairs, sym[best], sym[best + 1]);
    }
    return n;
}

static bool merger_room(anm_merger *m, size_t n)
{
    if (n <= m->room) return true;
    if (n > INT32_MAX) return false; /* so that none of the sizes below overflows */
    anm_merger_free(m);
    /* Nothing is copied when it grows, so there is no need to grow ahead. */
    m->prev = malloc(n * sizeof *m->prev);
    m->next = malloc(n * sizeof *m->next);
    m->rank = malloc(n * sizeof *m->rank);
    m->heap = malloc(n * 2 * sizeof *m->heap);
    if (!m->prev || !m->next || !m->rank || !m->heap) {
        anm_merger_free(m);
        return false;
    }
    m->room = n;
    return true;
}

/* A heap of rank << 32 | position with four children per node: half the levels, and siblings share a cache line. */
static void heap_down(uint64_t *h, size_t n, size_t i)
{
    uint64_t v = h[i];
    for (;;) {
        size_t kid = i * 4 + 1, last = kid + 4 < n ? kid + 4 : n, best = kid;
        if (kid >= n) break;
        for (size_t k = kid + 1; k < last; k++)
            if (h[k] < h[best]) best = k;
        if (h[best] >= v) break;
        h[i] = h[best];
        i = best;
    }
    h[i] = v;
}

static void heap_push(anm_merger *m, uint32_t rank, size_t pos)
{
    uint64_t v = (uint64_t)rank << 32 | pos;
    size_t i = m->heap_n++;
    while (i && m->heap[(i - 1) / 4] > v) {
        m->heap[i] = m->heap[(i - 1) / 4];
        i = (i - 1) / 4;
    }
    m->heap[i] = v;
}

/* Entries of the heap go stale when a neighbour merges; they are known by a rank that is no longer the pair's. Each
 * merge takes one entry out and puts two in at most, and leaves one symbol less: 2 n entries are enough. */
static size_t merge_long(anm_merger *m, const anm_pairmap *pairs, int32_t *sym, size_t n)
{
    if (!merger_room(m, n)) return SIZE_MAX;
    m->heap_n = 0;
    for (size_t i = 0; i < n; i++) {
        m->prev[i] = (int32_t)i - 1;
        m->next[i] = i + 1 < n ? (int32_t)i + 1 : -1;
        m->rank[i] = i + 1 < n ? rank_of(pairs, sym[i], sym[i + 1]) : none;
        if (m->rank[i] != none) m->heap[m->heap_n++] = (uint64_t)m->rank[i] << 32 | i;
    }
    for (size_t i = m->heap_n / 4 + 1; i-- > 0;)
        if (i < m->heap_n) heap_down(m->heap, m->heap_n, i);
    while (m->heap_n) {
        uint64_t top = m->heap[0];
        m->heap[0] = m->heap[--m->heap_n];
        if (m->heap_n) heap_down(m->heap, m->heap_n, 0);
        int32_t at = (int32_t)(top & UINT32_MAX), right = m->next[at], before = m->prev[at];
        if (m->rank[at] != (uint32_t)(top >> 32)) continue;
        sym[at] = join(m, pairs, sym[at], sym[right]);
        int32_t after = m->next[at] = m->next[right];
        if (after >= 0) m->prev[after] = at;
        m->rank[right] = none; /* gone */
        m->rank[at] = after >= 0 ? rank_of(pairs, sym[at], sym[after]) : none;
        if (m->rank[at] != none) heap_push(m, m->rank[at], (size_t)at);
        if (before < 0) continue;
        uint32_t r = rank_of(pairs, sym[before], sym[at]);
        if (r != m->rank[before] && r != none) heap_push(m, r, (size_t)before);
        m->rank[before] = r;
    }
    size_t count = 0;
    for (int32_t i = 0; i >= 0; i = m->next[i]) sym[count++] = sym[i];
    return count;
}

size_t anm_bpe_merge(anm_merger *m, const anm_pairmap *pairs, int32_t *sym, size_t n)
{
    return n <= SHORT ? merge_short(m, pairs, sym, n) : merge_long(m, pairs, sym, n);
}

/* ---- words ---- */

/* A word seen earlier in this call: where it stands, and where its ids stand in the output. */
struct seen {
    const char *text; /* NULL: empty */
    size_t out;
    uint32_t n, count;
};

struct anm_words {
    anm_merger merger;
    anm_matcher matcher;
    anm_ids sym;
    struct seen *seen;
    size_t mask;
};

enum { CACHE_MOST = 1 << 14, CACHED_WORD = 64 };

anm_words *anm_words_new(size_t text_bytes)
{
    anm_words *w = calloc(1, sizeof *w);
    size_t n = 16;
    while (n < CACHE_MOST && n < text_bytes / 4) n *= 2;
    if (!w) return NULL;
    w->mask = n - 1;
    w->seen = calloc(n, sizeof *w->seen);
    if (w->seen) return w;
    free(w);
    return NULL;
}

void anm_words_free(anm_words *w)
{
    if (!w) return;
    anm_merger_free(&w->merger);
    free(w->merger.made_of);
    anm_matcher_close(&w->matcher);
    free(w->sym.p);
    free(w->seen);
    free(w);
}

static size_t hash_word(const char *p, size_t n)
{
    uint64_t h = n;
    while (n >= 8) {
        uint64_t v;
        memcpy(&v, p, 8);
        h = (h ^ v) * 0x9E3779B97F4A7C15u;
        h ^= h >> 29;
        p += 8;
        n -= 8;
    }
    uint64_t v = 0;
    memcpy(&v, p, n);
    h = (h ^ v) * 0x9E3779B97F4A7C15u;
    return (size_t)(h >> 40);
}

bool anm_words_recall(anm_encoding *e, const char *text, size_t n)
{
    if (n > CACHED_WORD) return false;
    const struct seen *s = &e->words->seen[hash_word(text, n) & e->words->mask];
    anm_ids *out = e->out;
    if (!s->text || s->n != n || memcmp(s->text, text, n) != 0) return false;
    anm_ids_reserve(out, s->count);
    if (out->bad) return true;
    memcpy(out->p + out->n, out->p + s->out, s->count * sizeof *out->p);
    out->n += s->count;
    return true;
}

void anm_words_keep(anm_encoding *e, const char *text, size_t n, size_t from)
{
    if (n > CACHED_WORD || e->out->bad) return;
    e->words->seen[hash_word(text, n) & e->words->mask] =
        (struct seen){text, from, (uint32_t)n, (uint32_t)(e->out->n - from)};
}

anm_ids *anm_words_symbols(anm_encoding *e)
{
    return &e->words->sym;
}

anm_matcher *anm_words_matcher(anm_encoding *e)
{
    return &e->words->matcher;
}

anm_merger *anm_words_merger(anm_encoding *e)
{
    return &e->words->merger;
}

/* The symbols of a word's characters. What has none becomes bytes, or the unknown token, or nothing. */
static void symbols_of_chars(anm_ids *sym, const anm_bpe *b, const char *text, size_t n)
{
    bool unk = false; /* an unknown token that the next unknown character may join */
    for (size_t i = 0, len; i < n; i += len) {
        len = anm_utf8_len(text[i]);
        int32_t id = anm_strmap_get(&b->chars, text + i, len);
        if (id >= 0) {
            anm_ids_add(sym, id);
            unk = false;
            continue;
        }
        bool all = b->byte_fallback;
        for (size_t k = 0; k < len; k++) all = all && b->of_byte[(uint8_t)text[i + k]] >= 0;
        if (all) {
            for (size_t k = 0; k < len; k++) anm_ids_add(sym, b->of_byte[(uint8_t)text[i + k]]);
            unk = false;
        } else if (b->unk >= 0 && !(unk && b->fuse_unk)) {
            anm_ids_add(sym, b->unk);
            unk = true;
        }
    }
}

struct word_ctx {
    anm_encoding *e;
    const anm_bpe *b;
};

static int encode_word(void *ctx, const char *text, size_t n)
{
    const struct word_ctx *c = ctx;
    const anm_bpe *b = c->b;
    anm_words *w = c->e->words;
    anm_ids *out = c->e->out;
    if (b->has_whole) {
        int32_t id = anm_strmap_get(&b->whole, text, n);
        if (id >= 0) {
            anm_ids_add(out, id);
            return 0;
        }
    }
    if (anm_words_recall(c->e, text, n)) return 0;
    w->sym.n = 0;
    anm_ids_reserve(&w->sym, n);
    if (b->bytes) {
        bool unk = false;
        for (size_t i = 0; i < n; i++) {
            int32_t id = b->of_byte[(uint8_t)text[i]];
            if (id >= 0) anm_ids_add(&w->sym, id);
            else if (b->unk >= 0 && !(unk && b->fuse_unk)) anm_ids_add(&w->sym, b->unk);
            unk = id < 0;
        }
    } else {
        symbols_of_chars(&w->sym, b, text, n);
    }
    if (w->sym.bad) return anm_fail_memory(c->e->err, "the symbols of a word");
    size_t count = anm_bpe_merge(&w->merger, &b->pairs, w->sym.p, w->sym.n);
    if (count == SIZE_MAX) return anm_fail_memory(c->e->err, "the merging of a word");
    size_t from = out->n;
    anm_ids_reserve(out, count);
    if (out->bad) return 0;
    if (count) memcpy(out->p + from, w->sym.p, count * sizeof *out->p);
    out->n += count;
    anm_words_keep(c->e, text, n, from);
    return 0;
}

/* Words that begin with the cut_before character; what merges never crosses is encoded apart, and remembered. */
static int encode_cut(struct word_ctx *c, const char *text, size_t n)
{
    const anm_bpe *b = c->b;
    size_t start = 0;
    bool after = true; /* the character before was it, or there is none */
    for (size_t i = 0, len; i < n; i += len) {
        len = anm_utf8_len(text[i]);
        bool cut = len == b->cut_before_n && memcmp(text + i, b->cut_before, len) == 0;
        if (cut && !after) {
            int rc = encode_word(c, text + start, i - start);
            if (rc) return rc;
            start = i;
        }
        after = cut;
    }
    return encode_word(c, text + start, n - start);
}

int anm_bpe_encode(anm_encoding *e, const anm_bpe *b, const char *text, size_t n)
{
    struct word_ctx ctx = {e, b};
    anm_words *w = e->words;
    if (!n) return 0;
    if (!b->n_stages && b->cut_before) return encode_cut(&ctx, text, n);
    int rc = b->n_stages ? anm_matcher_allow(&w->matcher, n, e->err) : 0;
    if (rc) return rc;
    return anm_split(&w->matcher, b->stage, (unsigned)b->n_stages, 0, text, n, encode_word, &ctx, e->err);
}

/* ---- tables from ranked tokens ---- */

int anm_bpe_from_ranks(anm_bpe *b, anm_tokenizer *t, int32_t base, int32_t n, anm_error *err)
{
    if (!anm_strmap_init(&b->whole, &t->arena, (size_t)n)) return anm_fail_memory(err, "the tokenizer's tokens");
    for (int i = 0; i < 256; i++) b->of_byte[i] = -1;
    for (int32_t i = base; i < base + n; i++) {
        const anm_piece *p = &t->piece[i];
        if (!anm_strmap_add(&b->whole, p->text, p->text_n, i))
            return anm_fail(err, ANM_ERR_FORMAT, "the tokens of rank %d and %d are the same bytes",
                            anm_strmap_get(&b->whole, p->text, p->text_n) - base, i - base);
        if (p->text_n == 1) b->of_byte[(uint8_t)p->text[0]] = i;
    }
    b->has_whole = b->bytes = true;
    b->unk = -1;
    for (int i = 0; i < 256; i++)
        if (b->of_byte[i] < 0) return anm_fail(err, ANM_ERR_FORMAT, "no token stands for the byte 0x%02X alone", i);

    /* Two passes over every way to cut every token in two: count, then fill. */
    for (int fill = 0; fill < 2; fill++) {
        size_t count = 0;
        for (int32_t i = base; i < base + n; i++) {
            const anm_piece *p = &t->piece[i];
            for (uint32_t cut = 1; cut < p->text_n; cut++) {
                int32_t left = anm_strmap_get(&b->whole, p->text, cut);
                if (left < 0) continue;
                int32_t right = anm_strmap_get(&b->whole, p->text + cut, p->text_n - cut);
                if (right < 0) continue;
                count++;
                if (fill) anm_pairmap_set(&b->pairs, left, right, (uint32_t)(i - base), i);
            }
        }
        if (!fill && !anm_pairmap_init(&b->pairs, &t->arena, count)) return anm_fail_memory(err, "the merges");
    }
    return 0;
}

static bool is_special(const anm_tokenizer *t, int32_t id)
{
    return t->piece[id].flags & ANM_PIECE_SPECIAL;
}

static void drop_special(anm_strmap *m, const anm_tokenizer *t)
{
    for (size_t i = 0; m->slot && i <= m->mask; i++) {
        const anm_strslot *s = &m->slot[i];
        if (s->value && is_special(t, s->value - 1)) anm_strmap_drop(m, s->p, s->n);
    }
}

void anm_bpe_settle(anm_bpe *b, const anm_tokenizer *t)
{
    for (size_t i = 0; i <= b->pairs.mask; i++) {
        anm_pair *p = &b->pairs.slot[i];
        if (p->left >= 0 && is_special(t, p->to)) p->rank = none; /* as if it were none */
    }
    drop_special(&b->whole, t);
    drop_special(&b->chars, t);
}

void anm_bpe_close(anm_bpe *b)
{
    for (size_t i = 0; i < b->n_stages; i++) anm_stage_close(&b->stage[i]);
    b->n_stages = 0;
}
