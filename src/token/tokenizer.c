/* SPDX-License-Identifier: BSD-3-Clause */
/* What all tokenizers do alike: their table of pieces, cutting out added tokens, and the public functions. */
#include "token/bpe.h"
#include "token/tok.h"
#include "base/utf8.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

/* ---- building ---- */

static const uint64_t most_ids = (uint64_t)1 << 24;

int anm_tokenizer_new(anm_tokenizer **out, const char *kind, uint64_t size, uint64_t limit, anm_error *err)
{
    *out = NULL;
    if (!size) return anm_fail(err, ANM_ERR_FORMAT, "the tokenizer has no tokens");
    if (size > most_ids)
        return anm_fail(err, ANM_ERR_LIMIT, "the tokenizer has ids up to %llu; at most %llu are read",
                        (unsigned long long)size - 1, (unsigned long long)most_ids);
    anm_tokenizer *t = calloc(1, sizeof *t);
    if (!t) return anm_fail_memory(err, "the tokenizer");
    anm_arena_init(&t->arena);
    t->arena.limit = limit < SIZE_MAX ? (size_t)limit : SIZE_MAX;
    t->kind = kind;
    t->size = (int32_t)size;
    t->bos = t->eos = t->unk = t->add_bos = -1;
    t->decode = anm_decode_bytes;
    t->piece = anm_arena_array(&t->arena, (size_t)size, sizeof *t->piece);
    if (!t->piece || !anm_strmap_init(&t->by_spell, &t->arena, (size_t)size)) {
        anm_tokenizer_free(t);
        return anm_fail_memory(err, "the tokenizer's tokens");
    }
    *out = t;
    return 0;
}

int anm_tokenizer_set(anm_tokenizer *t, int32_t id, const char *spell, size_t spell_n, const char *text, size_t text_n,
                      unsigned flags, anm_error *err)
{
    if (id < 0 || id >= t->size) return anm_fail(err, ANM_ERR_FORMAT, "token id %d is outside [0, %d)", id, t->size);
    anm_piece *p = &t->piece[id];
    if (p->spell) return anm_fail(err, ANM_ERR_FORMAT, "token id %d is given twice", id);
    if (spell_n > UINT32_MAX || text_n > UINT32_MAX)
        return anm_fail(err, ANM_ERR_LIMIT, "token %d is longer than 4 GiB", id);
    p->spell = anm_arena_strndup(&t->arena, spell, spell_n);
    p->text = text ? anm_arena_strndup(&t->arena, text, text_n) : p->spell;
    if (!p->spell || !p->text) return anm_fail_memory(err, "the tokenizer's tokens");
    p->spell_n = (uint32_t)spell_n;
    p->text_n = (uint32_t)(text ? text_n : spell_n);
    p->flags |= (uint8_t)flags; /* that it is a stop may be known already */
    anm_strmap_add(&t->by_spell, p->spell, spell_n, id); /* of equal spellings the first id stays */
    return 0;
}

bool anm_addeds_index(anm_addeds *s, anm_arena *a)
{
    size_t bytes = 0;
    for (size_t i = 0; i < s->n; i++) bytes += s->list[i].n;
    if (!anm_trie_init(&s->trie, a, bytes)) return false;
    for (size_t i = 0; i < s->n; i++) anm_trie_add(&s->trie, s->list[i].text, s->list[i].n, (int32_t)i);
    return true;
}

/* Spellings of special tokens that end an answer, over the models of the family. */
static const char *const stops[] = {
    "<|eot_id|>", "<|eom_id|>", "<|end_of_text|>", "<|endoftext|>", "<|im_end|>",      "<|end|>",
    "<|eot|>",    "<|eom|>",    "</s>",            "<EOT>",         "<end_of_turn>",   "<|return|>",
};

/* Is it cut out of text, and by no list yet? */
static bool is_left(const anm_piece *p)
{
    return p->flags & (ANM_PIECE_SPECIAL | ANM_PIECE_USER) && !(p->flags & ANM_PIECE_LISTED) && p->text_n;
}

static int list_added(anm_tokenizer *t, anm_error *err)
{
    size_t had = t->added.n, n = had;
    for (int32_t i = 0; i < t->size; i++) n += is_left(&t->piece[i]);
    anm_added *list = anm_arena_array(&t->arena, n + 1, sizeof *list);
    if (!list) return anm_fail_memory(err, "the special tokens");
    if (had) memcpy(list, t->added.list, had * sizeof *list);
    t->added.list = list;
    for (int32_t i = 0; i < t->size; i++) {
        const anm_piece *p = &t->piece[i];
        if (is_left(p)) list[t->added.n++] = (anm_added){.text = p->text, .n = p->text_n, .id = i};
    }
    if (!anm_addeds_index(&t->added, &t->arena)) return anm_fail_memory(err, "the special tokens");
    if (t->added.trie.longest <= ANM_TOKEN_LONGEST) return 0;
    return anm_fail(err, ANM_ERR_LIMIT, "a special token is %u bytes long; at most %d are read", t->added.trie.longest,
                    ANM_TOKEN_LONGEST);
}

int anm_tokenizer_finish(anm_tokenizer *t, anm_error *err)
{
    int rc = t->settle(t, err);
    if (!rc) rc = list_added(t, err);
    if (rc) return rc;
    if (t->eos >= 0) t->piece[t->eos].flags |= ANM_PIECE_STOP;
    for (size_t i = 0; i < sizeof stops / sizeof *stops; i++) {
        int32_t id = anm_strmap_get(&t->by_spell, stops[i], strlen(stops[i]));
        if (id >= 0 && t->piece[id].flags & (ANM_PIECE_SPECIAL | ANM_PIECE_USER)) t->piece[id].flags |= ANM_PIECE_STOP;
    }
    return 0;
}

void anm_tokenizer_free(anm_tokenizer *t)
{
    if (!t) return;
    if (t->close) t->close(t);
    anm_arena_free(&t->arena);
    free(t);
}

/* ---- asking ---- */

static const anm_piece *piece_of(const anm_tokenizer *t, int32_t id)
{
    return id >= 0 && id < t->size && t->piece[id].spell ? &t->piece[id] : NULL;
}

const char *anm_tokenizer_kind(const anm_tokenizer *t)
{
    return t->kind;
}

int32_t anm_tokenizer_size(const anm_tokenizer *t)
{
    return t->size;
}

int32_t anm_tokenizer_bos(const anm_tokenizer *t)
{
    return t->bos;
}

int32_t anm_tokenizer_eos(const anm_tokenizer *t)
{
    return t->eos;
}

int anm_tokenizer_add_bos(const anm_tokenizer *t)
{
    return t->add_bos;
}

bool anm_tokenizer_is_stop(const anm_tokenizer *t, int32_t id)
{
    const anm_piece *p = piece_of(t, id);
    return p && p->flags & ANM_PIECE_STOP;
}

int32_t anm_tokenizer_id(const anm_tokenizer *t, const char *piece)
{
    return anm_strmap_get(&t->by_spell, piece, strlen(piece));
}

bool anm_tokenizer_is_special(const anm_tokenizer *t, int32_t id)
{
    const anm_piece *p = piece_of(t, id);
    return p && p->flags & ANM_PIECE_SPECIAL;
}

const char *anm_tokenizer_chat_template(const anm_tokenizer *t)
{
    return t->chat_template;
}

const char *anm_tokenizer_chat_template_file(const anm_tokenizer *t)
{
    return t->chat_template_file;
}

void anm_tokenizer_piece(const char **bytes, size_t *n, const anm_tokenizer *t, int32_t id, bool special)
{
    const anm_piece *p = piece_of(t, id);
    bool silent = !p || (p->flags & ANM_PIECE_SPECIAL && !special);
    *bytes = silent ? "" : p->flags & ANM_PIECE_BYTE ? (const char *)&p->byte : p->text;
    *n = silent ? 0 : p->flags & ANM_PIECE_BYTE ? 1 : p->text_n;
}

/* ---- encoding ---- */

/* For single_word: what \w is (letters, marks, digits, connectors). */
static bool is_word(uint32_t c)
{
    switch (utf8proc_category((utf8proc_int32_t)c)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC: return true;
    default: return c == 0x200C || c == 0x200D;
    }
}

static bool stands_alone(const char *text, size_t n, size_t start, size_t end)
{
    if (start && is_word(anm_utf8_at(text + anm_utf8_before(text, start)))) return false;
    return end == n || !is_word(anm_utf8_at(text + end));
}

static bool space_before(const char *text, size_t at)
{
    return anm_is_space(anm_utf8_at(text + anm_utf8_before(text, at)));
}

/* Does all of [start, end) lie where special tokens are parsed? Asked from left to right. */
static bool may_be_special(anm_encoding *e, size_t start, size_t end)
{
    while (e->at_span < e->n_spans && e->span[e->at_span].end < end) e->at_span++;
    return e->at_span < e->n_spans && e->span[e->at_span].start <= start;
}

int anm_addeds_cut(const anm_addeds *s, anm_encoding *e, const char *text, size_t n, bool raw,
                   int (*rest)(anm_encoding *e, const char *text, size_t n))
{
    size_t done = 0, length = 0;
    bool at_start = e->at_start;
    int rc;
    for (size_t i = 0; i < n;) {
        int32_t k = s->trie.first[(uint8_t)text[i]] ? anm_trie_longest(&s->trie, text + i, n - i, &length) : -1;
        if (k < 0) {
            i++;
            continue;
        }
        const anm_added *a = &s->list[k];
        size_t start = i, end = i + length;
        i = end; /* also when it is not taken: it hides shorter ones that begin inside it */
        bool special = e->t->piece[a->id].flags & ANM_PIECE_SPECIAL;
        if (special && !(raw ? may_be_special(e, start, end) : e->parse_special)) continue;
        if (a->single_word && !stands_alone(text, n, start, end)) continue;
        while (a->lstrip && start > done && space_before(text, start)) start = anm_utf8_before(text, start);
        while (a->rstrip && end < n && anm_is_space(anm_utf8_at(text + end))) end += anm_utf8_len(text[end]);
        e->at_start = at_start && done == 0;
        if (start > done) {
            if (raw) e->parse_special = may_be_special(e, done, start);
            if ((rc = rest(e, text + done, start - done))) return rc;
        }
        anm_ids_add(e->out, a->id);
        done = end;
        if (i < end) i = end;
    }
    e->at_start = at_start && done == 0;
    if (done == n) return 0;
    if (raw) e->parse_special = may_be_special(e, done, n);
    return rest(e, text + done, n - done);
}

/* Invalid bytes become U+FFFD, one for each maximal subpart, as the originals' languages do when they decode. */
static int make_valid(anm_buf *out, const char *text, size_t n, anm_error *err)
{
    for (size_t i = 0; i < n;) {
        size_t good = anm_utf8_valid(text + i, n - i);
        anm_buf_put(out, text + i, good);
        i += good;
        if (i == n) break;
        int bad;
        i += anm_utf8_check(text + i, n - i, &bad);
        anm_buf_puts(out, ANM_UTF8_REPLACEMENT);
    }
    return out->bad ? anm_fail_memory(err, "the text") : 0;
}

/* The parts as one valid text, and where special tokens are parsed in it. One part that is valid is not copied. */
static int join_parts(anm_encoding *e, anm_buf *text, const anm_text_part *parts, size_t n_parts, size_t *n)
{
    e->span = anm_arena_array(&e->scratch, n_parts + 1, sizeof *e->span);
    if (!e->span) return anm_fail_memory(e->err, "encoding");
    bool copy = n_parts != 1 || anm_utf8_valid(parts[0].text, parts[0].n) != parts[0].n;
    for (size_t i = 0; i < n_parts; i++) {
        size_t start = text->size;
        int rc = copy ? make_valid(text, parts[i].text, parts[i].n, e->err) : 0;
        if (rc) return rc;
        size_t end = copy ? text->size : parts[i].n;
        if (!parts[i].parse_special || start == end) continue;
        anm_span *last = e->n_spans ? &e->span[e->n_spans - 1] : NULL;
        if (last && last->end == start) last->end = end;
        else e->span[e->n_spans++] = (anm_span){start, end};
    }
    e->text = copy ? (const char *)text->data : parts[0].text;
    *n = copy ? text->size : parts[0].n;
    return 0;
}

int anm_tokenizer_encode_parts(int32_t **ids, size_t *count, const anm_tokenizer *t, const anm_text_part *parts,
                               size_t n_parts, anm_error *err)
{
    anm_buf joined = {0};
    anm_ids out = {0};
    anm_encoding e = {.t = t, .out = &out, .at_start = true, .err = err};
    size_t n = 0;
    *ids = NULL;
    *count = 0;
    anm_arena_init(&e.scratch);
    int rc = join_parts(&e, &joined, parts, n_parts, &n);
    if (!rc && !(e.words = anm_words_new(n))) rc = anm_fail_memory(err, "encoding");
    anm_ids_reserve(&out, n / 4 + 16);
    if (!rc && n) rc = anm_addeds_cut(&t->added, &e, e.text, n, true, t->encode_text);
    if (rc && rc != ANM_ERR_MEMORY && t->file) anm_error_prefix(err, t->file); /* a text may be any: its tokenizer is what fails */
    if (!rc && out.bad) rc = anm_fail_memory(err, "the ids of the text");
    anm_arena_free(&e.scratch);
    anm_words_free(e.words);
    anm_buf_free(&joined);
    if (rc) {
        free(out.p);
    } else {
        *ids = out.p;
        *count = out.n;
    }
    return rc;
}

int anm_tokenizer_encode(int32_t **ids, size_t *count, const anm_tokenizer *t, const char *text, size_t n,
                         bool parse_special, anm_error *err)
{
    const anm_text_part part = {text, n, parse_special};
    return anm_tokenizer_encode_parts(ids, count, t, &part, 1, err);
}

/* ---- decoding ---- */

int anm_decode_bytes(anm_buf *out, const anm_tokenizer *t, const int32_t *ids, size_t count, bool special,
                     anm_error *err)
{
    for (size_t i = 0; i < count; i++) {
        const char *p;
        size_t n;
        anm_tokenizer_piece(&p, &n, t, ids[i], special);
        anm_buf_put(out, p, n);
    }
    return out->bad ? anm_fail_memory(err, "the text") : 0;
}

int anm_tokenizer_decode(char **text, size_t *n, const anm_tokenizer *t, const int32_t *ids, size_t count,
                         bool special, anm_error *err)
{
    anm_buf raw = {0}, valid = {0};
    *text = NULL;
    *n = 0;
    int rc = 0;
    for (size_t i = 0; i < count; i++)
        if (!piece_of(t, ids[i])) {
            rc = anm_fail(err, ANM_ERR_LIMIT, "token id %d is not one of the tokenizer's (%d of them)", ids[i], t->size);
            goto done;
        }
    if ((rc = t->decode(&raw, t, ids, count, special, err))) goto done;
    anm_buf_put(&raw, "", 0); /* so that empty text is a string too */
    if (anm_utf8_valid((const char *)raw.data, raw.size) != raw.size) {
        rc = make_valid(&valid, (const char *)raw.data, raw.size, err);
        anm_buf_free(&raw);
        raw = valid;
        valid = (anm_buf){0};
    }
    if (!rc && raw.bad) rc = anm_fail_memory(err, "the text");
done:
    if (rc) {
        anm_buf_free(&raw);
    } else {
        *text = (char *)raw.data;
        *n = raw.size;
    }
    return rc;
}
