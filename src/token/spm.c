/* SPDX-License-Identifier: BSD-3-Clause */
/* SentencePiece: reading .model files (a protobuf message, sentencepiece_model.proto), normalizing, decoding. */
#include "token/spm.h"

#include "base/bytes.h"
#include "base/utf8.h"

#include <math.h>
#include <string.h>

static const char space[] = ANM_SPM_SPACE;
enum { SPACE_N = sizeof space - 1 };

/* ---- the protobuf message ---- */

struct field {
    uint32_t number, wire;
    uint64_t value;      /* wire types 0 (a varint), 1 and 5 (fixed) */
    const uint8_t *data; /* wire type 2 */
    uint64_t n;
};

static bool varint(anm_rd *r, uint64_t *v)
{
    *v = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        uint8_t b = anm_rd_u8(r);
        *v |= (uint64_t)(b & 0x7F) << shift;
        if (!(b & 0x80)) return anm_rd_ok(r);
    }
    r->bad = true;
    return false;
}

/* The next field; false at the end, or with r->bad set when the message is malformed. */
static bool next_field(struct field *f, anm_rd *r)
{
    uint64_t key;
    if (!anm_rd_left(r)) return false;
    if (!varint(r, &key) || key >> 3 == 0 || key >> 32) goto bad;
    *f = (struct field){.number = (uint32_t)(key >> 3), .wire = key & 7};
    switch (f->wire) {
    case 0:
        if (!varint(r, &f->value)) goto bad;
        return true;
    case 1: f->value = anm_rd_u64(r); return anm_rd_ok(r);
    case 5: f->value = anm_rd_u32(r); return anm_rd_ok(r);
    case 2:
        if (!varint(r, &f->n) || !(f->data = anm_rd_bytes(r, f->n))) goto bad;
        return true;
    default: break;
    }
bad:
    r->bad = true;
    return false;
}

static int malformed(const anm_rd *r, const char *what, anm_error *err)
{
    return anm_fail_at(err, ANM_ERR_FORMAT, r->pos,
                       "is no tokenizer that we know; read as SentencePiece's, %s is cut short or malformed", what);
}

struct piece {
    const char *text;
    uint64_t n;
    float score;
    uint64_t type;
};

enum { NORMAL = 1, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE };

static int read_piece(struct piece *p, const struct field *from, anm_error *err)
{
    anm_rd r = anm_rd_of(from->data, from->n);
    struct field f;
    *p = (struct piece){.type = NORMAL};
    while (next_field(&f, &r)) {
        if (f.number == 1 && f.wire == 2) {
            p->text = (const char *)f.data;
            p->n = f.n;
        } else if (f.number == 2 && f.wire == 5) {
            uint32_t bits = (uint32_t)f.value;
            memcpy(&p->score, &bits, 4);
        } else if (f.number == 3 && f.wire == 0) {
            p->type = f.value;
        }
    }
    return r.bad ? malformed(&r, "a piece", err) : 0;
}

static unsigned flags_of_type(uint64_t type)
{
    switch (type) {
    case UNKNOWN: return ANM_PIECE_UNKNOWN;
    case CONTROL: return ANM_PIECE_SPECIAL;
    case USER_DEFINED: return ANM_PIECE_USER;
    case UNUSED: return ANM_PIECE_UNUSED;
    case BYTE: return ANM_PIECE_BYTE;
    default: return 0;
    }
}

struct names {
    const uint8_t *bos, *eos, *unk_surface;
    size_t bos_n, eos_n, unk_surface_n;
};

static int read_trainer(anm_spm_options *o, struct names *names, const struct field *from, anm_error *err)
{
    anm_rd r = anm_rd_of(from->data, from->n);
    struct field f;
    while (next_field(&f, &r)) {
        if (f.number == 3 && f.wire == 0) {
            if (f.value != 1 && f.value != 2)
                return anm_fail(err, ANM_ERR_UNSUPPORTED, "a SentencePiece model by %s; BPE and unigram are read",
                                f.value == 3 ? "words" : "characters");
            o->bpe = f.value == 2;
        } else if (f.number == 24 && f.wire == 0) {
            o->suffix = f.value != 0;
        } else if (f.number == 35 && f.wire == 0) {
            o->byte_fallback = f.value != 0;
        } else if (f.number == 46 && f.wire == 2) {
            names->bos = f.data;
            names->bos_n = (size_t)f.n;
        } else if (f.number == 47 && f.wire == 2) {
            names->eos = f.data;
            names->eos_n = (size_t)f.n;
        } else if (f.number == 44 && f.wire == 2) {
            names->unk_surface = f.data;
            names->unk_surface_n = (size_t)f.n;
        }
    }
    return r.bad ? malformed(&r, "the trainer's specification", err) : 0;
}

static int read_normalizer(anm_spm_options *o, const struct field *from, anm_error *err)
{
    anm_rd r = anm_rd_of(from->data, from->n);
    struct field f;
    while (next_field(&f, &r)) {
        if (f.number == 2 && f.wire == 2) {
            o->charsmap = f.data;
            o->charsmap_n = (size_t)f.n;
        } else if (f.number == 3 && f.wire == 0) {
            o->dummy_prefix = f.value != 0;
        } else if (f.number == 4 && f.wire == 0) {
            o->remove_extra_spaces = f.value != 0;
        } else if (f.number == 5 && f.wire == 0) {
            o->escape_spaces = f.value != 0;
        }
    }
    return r.bad ? malformed(&r, "the normalizer's specification", err) : 0;
}

static int read_pieces(anm_tokenizer *t, float *score, const uint8_t *data, uint64_t size, anm_error *err)
{
    anm_rd r = anm_rd_of(data, size);
    struct field f;
    int32_t id = 0;
    while (next_field(&f, &r)) {
        struct piece p;
        if (f.number != 1 || f.wire != 2) continue;
        int rc = read_piece(&p, &f, err);
        if (rc) return rc;
        if (!isfinite(p.score)) return anm_fail(err, ANM_ERR_FORMAT, "the score of piece %d is not a number", id);
        score[id] = p.score;
        if ((rc = anm_spm_set(t, id++, p.text ? p.text : "", (size_t)p.n, flags_of_type(p.type), err))) return rc;
    }
    return 0;
}

int anm_spm_open(anm_tokenizer **out, const uint8_t *data, uint64_t size, anm_error *err)
{
    anm_spm_options o = {.escape_spaces = true, .dummy_prefix = true, .remove_extra_spaces = true};
    struct names names = {.bos = (const uint8_t *)"<s>", .eos = (const uint8_t *)"</s>", .bos_n = 3, .eos_n = 4};
    anm_rd r = anm_rd_of(data, size);
    struct field f;
    uint64_t n = 0;
    anm_tokenizer *t;
    int rc = 0;
    *out = NULL;
    while (next_field(&f, &r)) {
        if (f.wire != 2) continue;
        if (f.number == 1) n++;
        if (f.number == 2 && (rc = read_trainer(&o, &names, &f, err))) return rc;
        if (f.number == 3 && (rc = read_normalizer(&o, &f, err))) return rc;
        if (f.number == 5 && f.n) {
            anm_spm_options back = {0};
            if ((rc = read_normalizer(&back, &f, err))) return rc;
            if (back.charsmap_n) return anm_fail(err, ANM_ERR_UNSUPPORTED, "a SentencePiece model with a denormalizer");
        }
    }
    if (r.bad) return malformed(&r, "the model", err);
    if (!n) return anm_fail(err, ANM_ERR_FORMAT, "is no tokenizer that we know; read as SentencePiece's, it has no pieces");
    rc = anm_tokenizer_new(&t, o.bpe ? "sentencepiece bpe" : "sentencepiece unigram", n, size * 64 + (1 << 20), err);
    if (rc) return rc;
    float *score = anm_arena_array(&t->arena, (size_t)n, sizeof *score);
    if (!score) rc = anm_fail_memory(err, "the scores");
    if (!rc) rc = read_pieces(t, score, data, size, err);
    if (!rc && names.unk_surface_n > ANM_TOKEN_LONGEST)
        rc = anm_fail(err, ANM_ERR_LIMIT, "the unknown token's text is %zu bytes long; at most %d are read", names.unk_surface_n,
                      ANM_TOKEN_LONGEST);
    if (!rc && names.unk_surface) {
        o.unk_surface = anm_arena_strndup(&t->arena, (const char *)names.unk_surface, names.unk_surface_n);
        if (!o.unk_surface) rc = anm_fail_memory(err, "the tokenizer");
    }
    if (!rc && o.charsmap) {
        const uint8_t *copy = (const uint8_t *)anm_arena_strndup(&t->arena, (const char *)o.charsmap, o.charsmap_n);
        if (!copy) rc = anm_fail_memory(err, "the normalizer's rules");
        o.charsmap = copy;
    }
    if (!rc) {
        t->bos = anm_strmap_get(&t->by_spell, (const char *)names.bos, names.bos_n);
        t->eos = anm_strmap_get(&t->by_spell, (const char *)names.eos, names.eos_n);
        rc = anm_spm_prepare(t, &o, score, err);
    }
    if (rc) anm_tokenizer_free(t);
    else *out = t;
    return rc;
}

/* ---- building ---- */

int anm_spm_set(anm_tokenizer *t, int32_t id, const char *piece, size_t n, unsigned flags, anm_error *err)
{
    char text[ANM_TOKEN_LONGEST];
    size_t m = 0;
    if (!n) return anm_fail(err, ANM_ERR_FORMAT, "piece %d is empty", id);
    if (n > ANM_TOKEN_LONGEST)
        return anm_fail(err, ANM_ERR_LIMIT, "piece %d is %zu bytes long; at most %d are read", id, n, ANM_TOKEN_LONGEST);
    if (anm_utf8_valid(piece, n) != n) return anm_fail(err, ANM_ERR_FORMAT, "piece %d is not valid UTF-8", id);
    for (size_t i = 0; i < n;) { /* its text: U+2581 is a space */
        if (n - i >= SPACE_N && memcmp(piece + i, space, SPACE_N) == 0) {
            text[m++] = ' ';
            i += SPACE_N;
        } else {
            text[m++] = piece[i++];
        }
    }
    bool literal = flags & (ANM_PIECE_SPECIAL | ANM_PIECE_BYTE | ANM_PIECE_UNKNOWN);
    int rc = anm_tokenizer_set(t, id, piece, n, literal ? NULL : text, m, flags, err);
    if (rc || !(flags & ANM_PIECE_BYTE)) return rc;
    int byte = -1;
    if (n == 6 && memcmp(piece, "<0x", 3) == 0 && piece[5] == '>') {
        static const char hex[] = "0123456789ABCDEF";
        const char *high = piece[3] ? strchr(hex, piece[3]) : NULL, *low = piece[4] ? strchr(hex, piece[4]) : NULL;
        if (high && low) byte = (int)(high - hex) * 16 + (int)(low - hex);
    }
    if (byte < 0) return anm_fail(err, ANM_ERR_FORMAT, "piece %d is of the type for bytes, but is not <0xNN>", id);
    t->piece[id].byte = (uint8_t)byte;
    return 0;
}

/* ---- encoding and decoding ---- */

void anm_spm_unknown(anm_encoding *e, const anm_spm *s, const char *text, size_t n, bool *unk)
{
    if (s->o.byte_fallback) {
        for (size_t i = 0; i < n; i++) anm_ids_add(e->out, s->of_byte[(uint8_t)text[i]]);
    } else {
        if (!*unk) anm_ids_add(e->out, e->t->unk);
        *unk = true;
    }
}

static int encode_text(anm_encoding *e, const char *text, size_t n)
{
    const anm_spm *s = e->t->format;
    anm_buf normal = {0};
    int rc = anm_spm_normalize(&normal, s, text, n, e->err);
    if (!rc && normal.size) {
        const char *kept = anm_arena_strndup(&e->scratch, (char *)normal.data, normal.size);
        size_t kept_n = normal.size;
        anm_buf_free(&normal);
        if (!kept) rc = anm_fail_memory(e->err, "the normalized text");
        else rc = (s->o.bpe ? anm_spm_encode_bpe : anm_spm_encode_unigram)(e, s, kept, kept_n);
    }
    anm_buf_free(&normal);
    return rc;
}

/* Bytes become characters where they spell some; every byte that does not is one U+FFFD. */
static void put_bytes(anm_buf *out, anm_buf *bytes)
{
    for (size_t i = 0, len; i < bytes->size; i += len) {
        int bad;
        const char *p = (const char *)bytes->data + i;
        len = anm_utf8_check(p, bytes->size - i, &bad);
        if (bad) len = 1;
        anm_buf_put(out, bad ? ANM_UTF8_REPLACEMENT : p, bad ? 3 : len);
    }
    bytes->size = 0;
}

static int decode(anm_buf *out, const anm_tokenizer *t, const int32_t *ids, size_t count, bool special, anm_error *err)
{
    const anm_spm *s = t->format;
    anm_buf bytes = {0};
    bool start = s->o.dummy_prefix || s->o.remove_extra_spaces; /* a space may still have to be dropped */
    for (size_t i = 0; i < count; i++) {
        const anm_piece *p = &t->piece[ids[i]];
        if (p->flags & ANM_PIECE_BYTE) {
            anm_buf_u8(&bytes, p->byte);
            continue;
        }
        put_bytes(out, &bytes);
        if (out->size) start = false;
        if (p->flags & ANM_PIECE_SPECIAL && !special) continue;
        bool drop = start && p->text_n && p->text[0] == ' ' &&
                    !(p->flags & (ANM_PIECE_SPECIAL | ANM_PIECE_UNKNOWN)) && p->spell[0] != ' ';
        anm_buf_put(out, p->text + drop, p->text_n - drop);
        if ((drop && !s->o.remove_extra_spaces) || out->size) start = false;
    }
    put_bytes(out, &bytes);
    bool bad = bytes.bad || out->bad;
    anm_buf_free(&bytes);
    return bad ? anm_fail_memory(err, "the text") : 0;
}

/* The unknown token, the bytes, and the user-defined symbols: these are cut out of the normalized text. */
static int index_pieces(anm_tokenizer *t, anm_spm *s, anm_error *err)
{
    size_t user_bytes = 0;
    for (int i = 0; i < 256; i++) s->of_byte[i] = -1;
    for (int32_t i = 0; i < t->size; i++) {
        anm_piece *p = &t->piece[i];
        if (p->flags & ANM_PIECE_USER) user_bytes += p->spell_n;
        if (p->flags & ANM_PIECE_BYTE) s->of_byte[p->byte] = i;
        if (p->flags & ANM_PIECE_UNUSED) s->has_unused = true;
        if (p->flags & ANM_PIECE_UNKNOWN) {
            if (t->unk >= 0 && t->unk != i) return anm_fail(err, ANM_ERR_FORMAT, "two pieces stand for the unknown");
            t->unk = i;
            p->text = s->o.unk_surface ? s->o.unk_surface : " \xE2\x81\x87 ";
            p->text_n = (uint32_t)strlen(p->text);
        }
    }
    for (int i = 0; s->o.byte_fallback && i < 256; i++)
        if (s->of_byte[i] < 0) {
            if (t->unk < 0) return anm_fail(err, ANM_ERR_FORMAT, "no piece stands for the byte 0x%02X", i);
            s->o.byte_fallback = false; /* as if it were not asked for */
        }
    if (!s->o.byte_fallback && t->unk < 0) return anm_fail(err, ANM_ERR_FORMAT, "no piece stands for the unknown");
    s->has_user = user_bytes > 0;
    if (s->has_user && !anm_trie_init(&s->user, &t->arena, user_bytes)) return anm_fail_memory(err, "the pieces");
    for (int32_t i = 0; i < t->size; i++) {
        anm_piece *p = &t->piece[i];
        if (!(p->flags & ANM_PIECE_USER)) continue;
        anm_trie_add(&s->user, p->spell, p->spell_n, i);
        p->flags |= ANM_PIECE_LISTED;
    }
    return 0;
}

static int settle(anm_tokenizer *t, anm_error *err)
{
    anm_spm *s = t->format;
    int rc = index_pieces(t, s, err);
    return rc ? rc : (s->o.bpe ? anm_spm_build_bpe : anm_spm_build_unigram)(t, s, err);
}

int anm_spm_prepare(anm_tokenizer *t, const anm_spm_options *o, const float *score, anm_error *err)
{
    anm_spm *s = t->format = anm_arena_alloc(&t->arena, sizeof *s);
    if (!s) return anm_fail_memory(err, "the tokenizer");
    s->o = *o;
    s->score = score;
    t->settle = settle;
    t->encode_text = encode_text;
    t->decode = decode;
    return o->charsmap_n ? anm_charsmap_open(&s->charsmap, o->charsmap, o->charsmap_n, err) : 0;
}
