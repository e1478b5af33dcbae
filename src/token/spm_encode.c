/* SPDX-License-Identifier: BSD-3-Clause */
/* SentencePiece's two models: merging by score, and the likeliest sequence of pieces. */
#include "token/bpe.h"
#include "token/spm.h"
#include "base/utf8.h"

#include <float.h>
#include <stdlib.h>
#include <string.h>

/* ---- byte-pair merging ---- */

/* Can it come out of merging, or be a symbol of its own? A special one can where it is a word that no text makes. */
static bool is_plain(const anm_piece *p)
{
    return !(p->flags & (ANM_PIECE_BYTE | ANM_PIECE_UNKNOWN)) && (!(p->flags & ANM_PIECE_SPECIAL) || p->flags & ANM_PIECE_UNUSED);
}

static int by_falling_score(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return x < y ? 1 : x > y ? -1 : 0;
}

/* The place of a score among the n distinct ones in falling order: the rank of the merges that lead to it. */
static uint32_t rank_of(const float *scores, size_t n, float score)
{
    size_t low = 0, high = n;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (scores[mid] > score) low = mid + 1;
        else high = mid;
    }
    return (uint32_t)low;
}

/* Symbols: the pieces, and characters that are no pieces but stand inside some. */
static int add_symbols(anm_tokenizer *t, anm_spm *s, anm_error *err)
{
    size_t chars = 0;
    for (int32_t i = 0; i < t->size; i++)
        if (is_plain(&t->piece[i]))
            for (size_t k = 0; k < t->piece[i].spell_n; k += anm_utf8_len(t->piece[i].spell[k])) chars++;
    /* A first map of the characters alone shows how many there are; it is small beside the pieces. */
    anm_strmap seen;
    if (!anm_strmap_init(&seen, &t->arena, chars)) return anm_fail_memory(err, "the pieces");
    size_t distinct = 0;
    for (int32_t i = 0; i < t->size; i++) {
        const anm_piece *p = &t->piece[i];
        for (size_t k = 0, len; is_plain(p) && k < p->spell_n; k += len) {
            len = anm_utf8_len(p->spell[k]);
            distinct += anm_strmap_add(&seen, p->spell + k, len, 0);
        }
    }
    s->extra = anm_arena_array(&t->arena, distinct + 1, sizeof *s->extra);
    if (!s->extra || !anm_strmap_init(&s->symbol, &t->arena, (size_t)t->size + distinct))
        return anm_fail_memory(err, "the pieces");
    for (int32_t i = 0; i < t->size; i++)
        if (is_plain(&t->piece[i])) anm_strmap_add(&s->symbol, t->piece[i].spell, t->piece[i].spell_n, i);
    for (int32_t i = 0; i < t->size; i++) {
        const anm_piece *p = &t->piece[i];
        for (size_t k = 0, len; is_plain(p) && k < p->spell_n; k += len) {
            len = anm_utf8_len(p->spell[k]);
            if (anm_strmap_add(&s->symbol, p->spell + k, len, t->size + (int32_t)s->n_extra))
                s->extra[s->n_extra++] = p->spell + k;
        }
    }
    return 0;
}

int anm_spm_build_bpe(anm_tokenizer *t, anm_spm *s, anm_error *err)
{
    const char *space = s->o.escape_spaces ? ANM_SPM_SPACE : " ";
    size_t space_n = strlen(space), n = 0;
    int rc = add_symbols(t, s, err);
    if (rc) return rc;
    float *scores = anm_arena_array(&t->arena, (size_t)t->size, sizeof *scores);
    if (!scores) return anm_fail_memory(err, "the scores");
    for (int32_t i = 0; i < t->size; i++) scores[n++] = s->score[i];
    qsort(scores, n, sizeof *scores, by_falling_score);
    size_t distinct = 1;
    for (size_t i = 1; i < n; i++)
        if (scores[i] < scores[distinct - 1]) scores[distinct++] = scores[i];

    s->words_apart = true;
    for (int fill = 0; fill < 2; fill++) {
        size_t count = 0;
        for (int32_t i = 0; i < t->size; i++) {
            const anm_piece *p = &t->piece[i];
            if (!is_plain(p) || anm_strmap_get(&s->symbol, p->spell, p->spell_n) != i) continue;
            bool other = false; /* a character that is no space came before */
            for (size_t k = 0, len; k < p->spell_n; k += len) {
                len = anm_utf8_len(p->spell[k]);
                bool is_space = len == space_n && memcmp(p->spell + k, space, len) == 0;
                if (is_space && other && !(p->flags & ANM_PIECE_USER)) s->words_apart = false;
                if (!is_space) other = true;
                int32_t left = k ? anm_strmap_get(&s->symbol, p->spell, k) : -1;
                int32_t right = left < 0 ? -1 : anm_strmap_get(&s->symbol, p->spell + k, p->spell_n - k);
                if (right < 0) continue;
                count++;
                if (fill) anm_pairmap_set(&s->pairs, left, right, rank_of(scores, distinct, s->score[i]), i);
            }
        }
        if (!fill && !anm_pairmap_init(&s->pairs, &t->arena, count)) return anm_fail_memory(err, "the merges");
    }
    return 0;
}

/* A symbol that merging left: an unused piece falls apart again into what it was made of. */
static void put_symbol(anm_encoding *e, const anm_spm *s, int32_t sym, int depth, bool *unk)
{
    enum { DEEPEST = 100 };
    if (sym >= e->t->size) {
        const char *c = s->extra[sym - e->t->size];
        anm_spm_unknown(e, s, c, anm_utf8_len(*c), unk);
        return;
    }
    const anm_piece *p = &e->t->piece[sym];
    const anm_merger *m = anm_words_merger(e);
    if (!(p->flags & ANM_PIECE_UNUSED) || depth > DEEPEST) {
        anm_ids_add(e->out, sym);
        *unk = false;
    } else if (m->made_of && m->made_of[sym][0] >= 0) {
        int32_t left = m->made_of[sym][0], right = m->made_of[sym][1];
        put_symbol(e, s, left, depth + 1, unk);
        put_symbol(e, s, right, depth + 1, unk);
    } else {
        anm_spm_unknown(e, s, p->spell, p->spell_n, unk);
    }
}

/* Merges the run of symbols gathered so far; text[0 … n) is what they stand for. */
static int flush(anm_encoding *e, const anm_spm *s, const char *text, size_t n, bool *unk)
{
    anm_ids *sym = anm_words_symbols(e);
    if (!n) return 0;
    bool keep = s->o.byte_fallback; /* else an unknown token may join the one before it */
    size_t from = e->out->n;
    if (keep && anm_words_recall(e, text, n)) {
        *unk = false;
        return 0;
    }
    sym->n = 0;
    anm_ids_reserve(sym, n);
    if (sym->bad) return anm_fail_memory(e->err, "the symbols of a word");
    for (size_t i = 0, len; i < n; i += len) {
        len = anm_utf8_len(text[i]);
        anm_ids_add(sym, anm_strmap_get(&s->symbol, text + i, len));
    }
    size_t count = anm_bpe_merge(anm_words_merger(e), &s->pairs, sym->p, sym->n);
    if (count == SIZE_MAX) return anm_fail_memory(e->err, "the merging of a word");
    for (size_t i = 0; i < count; i++) put_symbol(e, s, sym->p[i], 0, unk);
    if (keep) anm_words_keep(e, text, n, from);
    return 0;
}

int anm_spm_encode_bpe(anm_encoding *e, const anm_spm *s, const char *text, size_t n)
{
    const char *space = s->o.escape_spaces ? ANM_SPM_SPACE : " ";
    size_t space_n = strlen(space), start = 0, len = 0;
    bool unk = false, after_space = false;
    int rc;
    anm_merger *m = anm_words_merger(e);
    if (s->has_unused && !m->made_of) {
        size_t symbols = (size_t)e->t->size + s->n_extra;
        m->made_of = malloc(symbols * sizeof *m->made_of);
        if (!m->made_of) return anm_fail_memory(e->err, "encoding");
        for (size_t i = 0; i < symbols; i++) m->made_of[i][0] = m->made_of[i][1] = -1;
    }
    for (size_t i = 0; i < n; i += len) {
        int32_t id = s->has_user ? anm_trie_longest(&s->user, text + i, n - i, &len) : -1;
        if (id < 0) len = anm_utf8_len(text[i]);
        bool is_space = id < 0 && len == space_n && memcmp(text + i, space, len) == 0;
        bool known = id < 0 && anm_strmap_get(&s->symbol, text + i, len) >= 0;
        if (!known || (s->words_apart && is_space && !after_space)) {
            if ((rc = flush(e, s, text + start, i - start, &unk))) return rc;
            start = i;
        }
        after_space = is_space;
        if (known) continue;
        start = i + len;
        if (id < 0) {
            anm_spm_unknown(e, s, text + i, len, &unk);
        } else {
            anm_ids_add(e->out, id);
            unk = false;
        }
    }
    return flush(e, s, text + start, n - start, &unk);
}

/* ---- unigram ---- */

int anm_spm_build_unigram(anm_tokenizer *t, anm_spm *s, anm_error *err)
{
    size_t bytes = 0;
    s->min_score = FLT_MAX;
    for (int32_t i = 0; i < t->size; i++) {
        const anm_piece *p = &t->piece[i];
        if (is_plain(p)) bytes += p->spell_n;
        if (is_plain(p) && !(p->flags & (ANM_PIECE_USER | ANM_PIECE_UNUSED)) && s->score[i] < s->min_score)
            s->min_score = s->score[i];
    }
    if (!anm_trie_init(&s->pieces, &t->arena, bytes)) return anm_fail_memory(err, "the pieces");
    for (int32_t i = 0; i < t->size; i++)
        if (is_plain(&t->piece[i])) anm_trie_add(&s->pieces, t->piece[i].spell, t->piece[i].spell_n, i);
    return 0;
}

/* The best way to reach a place in the text: its score, the last piece, and where that begins. */
struct best {
    union {
        float score;
        int32_t next; /* once the best path is known: where its next piece ends */
    };
    int32_t id;
    int32_t start; /* -1: not reached */
};

static void offer(struct best *b, float score, int32_t id, size_t start)
{
    if (b->start >= 0 && !(score > b->score)) return;
    *b = (struct best){.score = score, .id = id, .start = (int32_t)start};
}

/* Sums of scores lose precision as they grow; the original sets them back now and then, and so must we: the best path
 * hangs on their rounding. */
static void reset_scores(struct best *best, size_t at, size_t frontier)
{
    static const float threshold = 100000.0f;
    float offset = best[at].score;
    if (offset >= -threshold && offset <= threshold) return;
    for (size_t i = at; i <= frontier; i++)
        if (i == at || best[i].start >= 0) best[i].score -= offset;
}

int anm_spm_encode_unigram(anm_encoding *e, const anm_spm *s, const char *text, size_t n)
{
    static const float unk_penalty = 10.0f;
    const float unk_score = s->min_score - unk_penalty;
    struct best *best = n < INT32_MAX ? malloc((n + 1) * sizeof *best) : NULL;
    if (!best) return anm_fail_memory(e->err, "the paths through a text");
    for (size_t i = 0; i <= n; i++) best[i] = (struct best){.id = -1, .start = -1};
    size_t frontier = 0;
    for (size_t at = 0, len; at < n; at += len) {
        reset_scores(best, at, frontier);
        float here = best[at].score;
        bool single = false;
        len = anm_utf8_len(text[at]);
        uint32_t node = 0;
        for (size_t end = at; end < n;) {
            node = anm_trie_step(&s->pieces, node, (uint8_t)text[end++]);
            if (!node) break;
            int32_t id = s->pieces.value[node];
            if (id < 0 || e->t->piece[id].flags & ANM_PIECE_UNUSED) continue;
            if (end > frontier) frontier = end;
            size_t length = end - at; /* user-defined symbols win over everything that they cover */
            float score = e->t->piece[id].flags & ANM_PIECE_USER ? (float)(0.1 * (double)(length - 1)) : s->score[id];
            offer(&best[end], score + here, id, at);
            if (length == len) single = true;
        }
        if (single) continue;
        if (at + len > frontier) frontier = at + len;
        offer(&best[at + len], unk_score + here, e->t->unk, at);
    }
    for (size_t end = n; end > 0; end = (size_t)best[end].start) best[best[end].start].next = (int32_t)end;
    bool unk = false;
    for (size_t at = 0, end; at < n; at = end) {
        end = (size_t)best[at].next;
        if (best[end].id == e->t->unk) {
            anm_spm_unknown(e, s, text + at, end - at, &unk);
        } else {
            anm_ids_add(e->out, best[end].id);
            unk = false;
        }
    }
    free(best);
    return 0;
}
