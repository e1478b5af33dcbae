/* SPDX-License-Identifier: BSD-3-Clause */
#include "token/hf.h"

#include "token/bytelevel.h"
#include "base/utf8.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* An id of the file, or -1 for what is none. */
static int64_t id_of(const json_t *v)
{
    int64_t id = json_is_integer(v) ? json_integer_value(v) : -1;
    return id >= 0 && id < INT32_MAX ? id : -1;
}

/* ---- the vocabulary ---- */

/* How many ids there are: the largest one of the vocabulary and the added tokens, and one more. */
static int count_ids(uint64_t *size, const json_t *vocab, const json_t *added, anm_error *err)
{
    const char *key;
    json_t *v;
    size_t i;
    *size = 0;
    json_object_foreach((json_t *)(uintptr_t)vocab, key, v)
    {
        if (id_of(v) < 0) return anm_fail(err, ANM_ERR_FORMAT, "the id of token '%.60s' is not a number that can be one", key);
        if ((uint64_t)id_of(v) >= *size) *size = (uint64_t)id_of(v) + 1;
    }
    json_array_foreach(added, i, v)
    {
        int64_t id = id_of(json_object_get(v, "id"));
        if (id < 0) return anm_fail(err, ANM_ERR_FORMAT, "added token %zu has no id that can be one", i);
        if ((uint64_t)id >= *size) *size = (uint64_t)id + 1;
    }
    /* Holes are allowed, but not a file of ten tokens that asks for room for a billion. */
    if (*size > 16 * (json_object_size(vocab) + json_array_size(added)) + 4096)
        return anm_fail(err, ANM_ERR_LIMIT, "ids go up to %llu, with only %zu tokens", (unsigned long long)*size - 1,
                        json_object_size(vocab) + json_array_size(added));
    return 0;
}

/* A token's text as it streams: one token at a time through the decoder, a leading space kept. */
static int set_piece(anm_tokenizer *t, const anm_hf *h, int32_t id, const char *spell, size_t n, unsigned flags, anm_error *err)
{
    anm_buf text = {0};
    anm_piece p = {.spell = spell, .spell_n = (uint32_t)n};
    const anm_piece *one = &p;
    anm_decode_step kept[ANM_HF_STEPS];
    size_t n_kept = 0;
    int byte = -1;
    for (size_t i = 0; i < h->n_steps; i++) {
        if (h->step[i].kind == ANM_DECODE_STRIP) continue;
        if (h->step[i].kind == ANM_DECODE_BYTE_FALLBACK) byte = anm_hf_byte(spell, n);
        kept[n_kept] = h->step[i];
        if (kept[n_kept].kind == ANM_DECODE_METASPACE) kept[n_kept].prefix = false;
        n_kept++;
    }
    bool literal = flags & (ANM_PIECE_SPECIAL | ANM_PIECE_USER);
    int rc = literal ? 0 : anm_decode_run(&text, kept, n_kept, &one, 1, err);
    if (!rc)
        rc = anm_tokenizer_set(t, id, spell, n, literal ? NULL : text.data ? (char *)text.data : "", text.size,
                               flags | (byte >= 0 && !literal ? ANM_PIECE_BYTE : 0), err);
    if (!rc && byte >= 0) t->piece[id].byte = (uint8_t)byte;
    anm_buf_free(&text);
    return rc;
}

/* The i-th added token: a piece, and where the text is searched for it. */
static int read_one_added(anm_tokenizer *t, anm_hf *h, size_t i, const json_t *v, anm_matcher *m, anm_error *err)
{
    anm_added a = {.id = (int32_t)id_of(json_object_get(v, "id"))};
    size_t n;
    const char *text = anm_hf_string(v, "content", &n, &t->arena);
    if (!text) return anm_fail(err, ANM_ERR_FORMAT, "added token %zu has no content", i);
    if (!n) return 0; /* nothing can spell it */
    const bool special = anm_hf_bool(v, "special", false);
    a.single_word = anm_hf_bool(v, "single_word", false);
    a.lstrip = anm_hf_bool(v, "lstrip", false);
    a.rstrip = anm_hf_bool(v, "rstrip", false);
    unsigned flag = (special ? ANM_PIECE_SPECIAL : ANM_PIECE_USER) | ANM_PIECE_LISTED;
    anm_piece *p = &t->piece[a.id];
    int rc = 0;
    if (!p->spell) {
        rc = set_piece(t, h, a.id, text, n, flag, err);
    } else if (p->spell_n != n || memcmp(p->spell, text, n) != 0) {
        rc = anm_fail(err, ANM_ERR_FORMAT, "added token '%.60s' has the id of '%.60s'", text, p->spell);
    } else {
        p->flags |= (uint8_t)flag;
        p->text = p->spell;
        p->text_n = p->spell_n;
    }
    if (rc) return rc;
    bool normalized = anm_hf_bool(v, "normalized", !special) && h->n_norms;
    if (normalized && (rc = anm_norm_run(&text, &n, h->norm, h->n_norms, text, n, m, &t->arena, err))) return rc;
    if (n > ANM_TOKEN_LONGEST)
        return anm_fail(err, ANM_ERR_LIMIT, "added token %zu is %zu bytes long; at most %d are read", i, n, ANM_TOKEN_LONGEST);
    if (!n) return 0;
    if (normalized) { /* and it is decoded from that form */
        p->spell = text;
        p->spell_n = (uint32_t)n;
    }
    a.text = text;
    a.n = (uint32_t)n;
    anm_addeds *to = normalized ? &h->normalized : &t->added;
    to->list[to->n++] = a;
    return 0;
}

static int read_added(anm_tokenizer *t, anm_hf *h, const json_t *added, anm_error *err)
{
    size_t i;
    json_t *v;
    anm_matcher m = {0};
    int rc = 0;
    t->added.list = anm_arena_array(&t->arena, json_array_size(added) + 1, sizeof *t->added.list);
    h->normalized.list = anm_arena_array(&t->arena, json_array_size(added) + 1, sizeof *t->added.list);
    if (!t->added.list || !h->normalized.list) return anm_fail_memory(err, "the added tokens");
    json_array_foreach(added, i, v)
    {
        if ((rc = read_one_added(t, h, i, v, &m, err))) break;
    }
    anm_matcher_close(&m);
    if (rc) return rc;
    return anm_addeds_index(&h->normalized, &t->arena) ? 0 : anm_fail_memory(err, "the added tokens");
}

/* ---- the model ---- */

static int32_t token_id(const json_t *vocab, const char *p, size_t n)
{
    return (int32_t)id_of(json_object_getn(vocab, p, n));
}

/* Both sides of a merge: "left right", or ["left", "right"]. */
static bool merge_sides(const json_t *m, const char *side[2], size_t n[2])
{
    if (json_is_array(m)) {
        for (size_t i = 0; i < 2; i++) {
            const json_t *s = json_array_get(m, i);
            if (json_array_size(m) != 2 || !json_is_string(s)) return false;
            side[i] = json_string_value(s);
            n[i] = json_string_length(s);
        }
        return n[0] && n[1];
    }
    const char *s = json_string_value(m), *cut = s ? memchr(s, ' ', json_string_length(m)) : NULL;
    if (!cut) return false;
    side[0] = s;
    n[0] = (size_t)(cut - s);
    side[1] = cut + 1;
    n[1] = json_string_length(m) - n[0] - 1;
    return n[0] && n[1] && !memchr(side[1], ' ', n[1]);
}

static int read_merges(anm_tokenizer *t, anm_bpe *b, const json_t *vocab, const json_t *merges, anm_error *err)
{
    size_t i;
    json_t *m;
    anm_buf joined = {0};
    int rc = 0;
    if (!json_is_array(merges)) return anm_fail(err, ANM_ERR_FORMAT, "the model has no list of merges");
    if (!anm_pairmap_init(&b->pairs, &t->arena, json_array_size(merges))) return anm_fail_memory(err, "the merges");
    json_array_foreach(merges, i, m)
    {
        const char *side[2];
        size_t n[2];
        if (!merge_sides(m, side, n)) {
            rc = anm_fail(err, ANM_ERR_FORMAT, "merge %zu is not two tokens", i);
            break;
        }
        joined.size = 0;
        anm_buf_put(&joined, side[0], n[0]);
        anm_buf_put(&joined, side[1], n[1]);
        if (joined.bad) {
            rc = anm_fail_memory(err, "the merges");
            break;
        }
        int32_t left = token_id(vocab, side[0], n[0]), right = token_id(vocab, side[1], n[1]);
        int32_t to = token_id(vocab, (char *)joined.data, joined.size);
        if (left < 0 || right < 0 || to < 0) {
            const char *which = left < 0 ? side[0] : right < 0 ? side[1] : (char *)joined.data;
            size_t len = left < 0 ? n[0] : right < 0 ? n[1] : joined.size;
            rc = anm_fail(err, ANM_ERR_FORMAT, "merge %zu names '%.*s', which is not a token", i, len > 80 ? 80 : (int)len,
                          which);
            break;
        }
        anm_pairmap_set(&b->pairs, left, right, (uint32_t)i, to);
    }
    anm_buf_free(&joined);
    return rc;
}

/* Where the model sees characters: does every merge keep to one word, that is, does no token have the space character
 * after another one? */
static bool words_apart(const anm_tokenizer *t, const anm_bpe *b, const char *space, size_t space_n)
{
    for (size_t i = 0; i <= b->pairs.mask; i++) {
        if (b->pairs.slot[i].left < 0) continue;
        const anm_piece *p = &t->piece[b->pairs.slot[i].to];
        bool other = false;
        for (size_t k = 0, len; k < p->spell_n; k += len) {
            len = anm_utf8_len(p->spell[k]);
            bool is_space = len == space_n && memcmp(p->spell + k, space, len) == 0;
            if (is_space && other) return false;
            if (!is_space) other = true;
        }
    }
    return anm_strmap_get(&b->chars, space, space_n) >= 0;
}

/* Options of the model that change what it does, and that none of the family has. */
static int refuse_options(const json_t *model, anm_error *err)
{
    static const char *const texts[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    for (int i = 0; i < 2; i++)
        if (json_string_length(json_object_get(model, texts[i])))
            return anm_fail(err, ANM_ERR_UNSUPPORTED, "a model with %s", texts[i]);
    if (json_number_value(json_object_get(model, "dropout")) > 0)
        return anm_fail(err, ANM_ERR_UNSUPPORTED, "a model with dropout, which makes the ids random");
    return 0;
}

static int read_model(anm_tokenizer *t, anm_hf *h, const json_t *model, const json_t *vocab, anm_error *err)
{
    anm_bpe *b = &h->bpe;
    const char *key;
    json_t *v;
    int rc = refuse_options(model, err);
    if (rc) return rc;
    b->bytes = h->pre.bytes;
    b->stage = h->pre.stage;
    b->byte_fallback = anm_hf_bool(model, "byte_fallback", false);
    b->fuse_unk = anm_hf_bool(model, "fuse_unk", false);
    b->unk = -1;
    const json_t *unk = json_object_get(model, "unk_token");
    if (json_is_string(unk)) b->unk = token_id(vocab, json_string_value(unk), json_string_length(unk));
    t->unk = b->unk;
    for (int i = 0; i < 256; i++) {
        char name[8];
        if (b->bytes) b->of_byte[i] = token_id(vocab, name, anm_utf8_put(name, anm_bytelevel_char((uint8_t)i)));
        else b->of_byte[i] = token_id(vocab, name, (size_t)snprintf(name, sizeof name, "<0x%02X>", (unsigned)i));
    }
    b->has_whole = anm_hf_bool(model, "ignore_merges", false);
    const size_t entries = json_object_size(vocab); /* not the ids, which may have gaps */
    if (!anm_strmap_init(&b->chars, &t->arena, entries) || !anm_strmap_init(&b->whole, &t->arena, b->has_whole ? entries : 0))
        return anm_fail_memory(err, "the tokens");
    json_object_foreach((json_t *)(uintptr_t)vocab, key, v)
    {
        int32_t id = (int32_t)id_of(v);
        const anm_piece *p = &t->piece[id];
        if (p->spell_n && anm_utf8_len(p->spell[0]) == p->spell_n) anm_strmap_add(&b->chars, p->spell, p->spell_n, id);
        if (!b->has_whole || !p->spell_n) continue;
        if (!b->bytes) {
            anm_strmap_add(&b->whole, p->spell, p->spell_n, id);
            continue;
        }
        char *bytes = anm_arena_alloc(&t->arena, p->spell_n);
        size_t n;
        if (!bytes) return anm_fail_memory(err, "the tokens");
        if (anm_bytelevel_decode(bytes, &n, p->spell, p->spell_n)) anm_strmap_add(&b->whole, bytes, n, id);
    }
    if ((rc = read_merges(t, b, vocab, json_object_get(model, "merges"), err))) return rc;
    static const char space[] = "\xE2\x96\x81"; /* U+2581 */
    b->n_stages = h->pre.n_stages;
    if (!b->n_stages && !b->bytes && !b->has_whole && words_apart(t, b, space, 3)) {
        b->cut_before = space;
        b->cut_before_n = 3;
    }
    return 0;
}

/* ---- encoding and decoding ---- */

static int encode_part(anm_encoding *e, const char *text, size_t n)
{
    const anm_hf *h = e->t->format;
    const anm_pre *p = &h->pre;
    bool first = p->prefix == ANM_PREFIX_ALWAYS || (p->prefix == ANM_PREFIX_FIRST && e->at_start);
    const char *space = p->space ? p->space : " ";
    size_t space_n = p->space ? p->space_n : 1;
    if (p->space) {
        anm_norm replace = {.kind = ANM_NORM_REPLACE, .from = " ", .from_n = 1, .to = p->space, .to_n = p->space_n};
        int rc = anm_norm_run(&text, &n, &replace, 1, text, n, NULL, &e->scratch, e->err);
        if (rc) return rc;
    }
    if (first && !(n >= space_n && memcmp(text, space, space_n) == 0)) {
        anm_norm prepend = {.kind = ANM_NORM_PREPEND, .to = space, .to_n = space_n};
        int rc = anm_norm_run(&text, &n, &prepend, 1, text, n, NULL, &e->scratch, e->err);
        if (rc) return rc;
    }
    return anm_bpe_encode(e, &h->bpe, text, n);
}

static int encode_text(anm_encoding *e, const char *text, size_t n)
{
    const anm_hf *h = e->t->format;
    int rc = anm_norm_run(&text, &n, h->norm, h->n_norms, text, n, anm_words_matcher(e), &e->scratch, e->err);
    if (rc || !n) return rc;
    return h->normalized.n ? anm_addeds_cut(&h->normalized, e, text, n, false, encode_part) : encode_part(e, text, n);
}

static int decode(anm_buf *out, const anm_tokenizer *t, const int32_t *ids, size_t count, bool special, anm_error *err)
{
    const anm_hf *h = t->format;
    const anm_piece **list = malloc((count + 1) * sizeof *list);
    size_t n = 0;
    if (!list) return anm_fail_memory(err, "the text");
    for (size_t i = 0; i < count; i++)
        if (special || !(t->piece[ids[i]].flags & ANM_PIECE_SPECIAL)) list[n++] = &t->piece[ids[i]];
    int rc = anm_decode_run(out, h->step, h->n_steps, list, n, err);
    free(list);
    return rc;
}

static int settle(anm_tokenizer *t, anm_error *err)
{
    (void)err;
    anm_bpe_settle(&((anm_hf *)t->format)->bpe, t);
    return 0;
}

static void close_format(anm_tokenizer *t)
{
    anm_hf *h = t->format;
    if (!h) return;
    for (size_t i = 0; i < h->n_norms; i++) anm_stage_close(&h->norm[i].stage);
    for (size_t i = 0; i < h->pre.n_stages; i++) anm_stage_close(&h->pre.stage[i]);
}

/* ---- the post-processor: does a BOS go first? ---- */

/* The template of a single text: the text, and at most one token before it. */
static int read_template(anm_tokenizer *t, const json_t *json, anm_error *err)
{
    const json_t *single = json_object_get(json, "single");
    bool text = false;
    size_t i;
    json_t *item;
    if (!json_is_array(single)) return anm_fail(err, ANM_ERR_FORMAT, "the post-processor TemplateProcessing has no template");
    json_array_foreach(single, i, item)
    {
        const char *name = json_string_value(json_object_get(json_object_get(item, "SpecialToken"), "id"));
        if (!name && json_is_object(json_object_get(item, "Sequence")) && !text) {
            text = true;
            continue;
        }
        if (!name) return anm_fail(err, ANM_ERR_FORMAT, "item %zu of the post-processor's template is not one that we know", i);
        if (text || t->add_bos)
            return anm_fail(err, ANM_ERR_UNSUPPORTED, "the post-processor adds '%.60s' %s", name,
                            text ? "after the text" : "as a second token before the text");
        const json_t *ids = json_object_get(json_object_get(json_object_get(json, "special_tokens"), name), "ids");
        int64_t id = id_of(json_array_get(ids, 0));
        if (json_array_size(ids) != 1 || id < 0 || id >= t->size)
            return anm_fail(err, ANM_ERR_FORMAT, "the post-processor's '%.60s' is not one token of the vocabulary", name);
        t->add_bos = 1;
        t->bos = (int32_t)id;
    }
    return text ? 0 : anm_fail(err, ANM_ERR_FORMAT, "the post-processor's template has no text");
}

static int read_post(anm_tokenizer *t, const json_t *json, int depth, anm_error *err)
{
    if (!json_is_object(json)) return 0;
    const char *type = anm_hf_type(json);
    size_t i;
    json_t *item;
    if (strcmp(type, "Sequence") == 0 && depth < 4) {
        json_array_foreach(json_object_get(json, "processors"), i, item)
        {
            int rc = read_post(t, item, depth + 1, err);
            if (rc) return rc;
        }
        return 0;
    }
    if (strcmp(type, "ByteLevel") == 0) return 0; /* about offsets, not ids */
    if (strcmp(type, "TemplateProcessing") == 0) return read_template(t, json, err);
    return anm_fail(err, ANM_ERR_UNSUPPORTED, "the post-processor %.40s is not one that we do", type);
}

/* ---- the file ---- */

static int read_all(anm_tokenizer *t, const json_t *root, const json_t *model, const json_t *vocab, anm_error *err)
{
    anm_hf *h = t->format = anm_arena_alloc(&t->arena, sizeof *h);
    const char *key;
    json_t *v;
    int rc;
    if (!h) return anm_fail_memory(err, "the tokenizer");
    t->close = close_format;
    t->settle = settle;
    t->encode_text = encode_text;
    t->decode = decode;
    if ((rc = anm_norm_read(h->norm, &h->n_norms, json_object_get(root, "normalizer"), &t->arena, err))) return rc;
    if ((rc = anm_pre_read(&h->pre, json_object_get(root, "pre_tokenizer"), &t->arena, err))) return rc;
    if ((rc = anm_decode_read(h->step, &h->n_steps, json_object_get(root, "decoder"), &t->arena, err))) return rc;
    json_object_foreach((json_t *)(uintptr_t)vocab, key, v)
    {
        if ((rc = set_piece(t, h, (int32_t)id_of(v), key, strlen(key), 0, err))) return rc;
    }
    if ((rc = read_model(t, h, model, vocab, err))) return rc;
    if ((rc = read_added(t, h, json_object_get(root, "added_tokens"), err))) return rc;
    t->add_bos = 0;
    return read_post(t, json_object_get(root, "post_processor"), 0, err);
}

int anm_hf_open(anm_tokenizer **out, const json_t *root, uint64_t size, anm_error *err)
{
    const json_t *model = json_object_get(root, "model"), *vocab = json_object_get(model, "vocab");
    anm_tokenizer *t;
    uint64_t ids;
    *out = NULL;
    const char *type = json_string_value(json_object_get(model, "type"));
    if (type && strcmp(type, "BPE") != 0)
        return anm_fail(err, ANM_ERR_UNSUPPORTED, "its model is of the type %.40s; BPE is read", type);
    if (!json_is_object(vocab)) return anm_fail(err, ANM_ERR_FORMAT, "it has no model with a vocabulary");
    int rc = count_ids(&ids, vocab, json_object_get(root, "added_tokens"), err);
    if (!rc) rc = anm_tokenizer_new(&t, "hugging face bpe", ids, size * 96 + (1 << 20), err);
    if (rc) return rc;
    if ((rc = read_all(t, root, model, vocab, err))) anm_tokenizer_free(t);
    else *out = t;
    return rc;
}
