/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What tokenizer files mean where they do not say it in so many words: keys that are not there, types that are wrong, and
 * the files beside them. The files are made here; what is expected was computed by the PyPI package tokenizers.
 */
#include "test.h"

#include "base/buf.h"
#include "base/bytes.h"
#include "base/utf8.h"
#include "token/bytelevel.h"
#include "token/split.h"
#include "token/spm.h"
#include "token/tok.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The spellings of the ids, with bars between. */
static void spelled(char *out, size_t room, const anm_tokenizer *t, const char *text, bool special)
{
    anm_error err = {0};
    int32_t *ids;
    size_t n, at = 0;
    if (anm_tokenizer_encode(&ids, &n, t, text, strlen(text), special, &err)) fail_msg("%s", err.text);
    out[0] = 0;
    for (size_t i = 0; i < n; i++) {
        const anm_piece *p = &t->piece[ids[i]];
        at += (size_t)snprintf(out + at, room - at, "%s%.*s", i ? "|" : "", (int)p->spell_n, p->spell);
        assert_true(at < room);
    }
    free(ids);
}

static void becomes(const anm_tokenizer *t, const char *text, bool special, const char *want)
{
    char got[512];
    spelled(got, sizeof got, t, text, special);
    assert_string_equal(got, want);
}

/* ---- SentencePiece's rules ---- */

enum { NO_END = 1 << 20 };

/* What `text` becomes by one rule whose left side is one byte, and whose right side begins `at` bytes into `right`: a trie
 * of 256 units, where a byte's unit leads to the one that holds the place. NO_END: it leads back to the root instead. */
static int normal(char out[64], uint8_t left, const char *right, size_t right_n, uint32_t at, const char *text, anm_error *err)
{
    enum { VALUE_AT = 0x10 };
    anm_spm s = {0};
    anm_buf rules = {0}, got = {0};
    anm_buf_u32(&rules, 1024);
    for (uint32_t i = 0; i < 256; i++)
        anm_buf_u32(&rules, i == left && at == NO_END ? (uint32_t)left << 10 | left : i == left ? (uint32_t)(left ^ VALUE_AT) << 10 | 0x100u | left : i == VALUE_AT ? 0x80000000u | at : i ? 0x80000000u : 0);
    anm_buf_put(&rules, right, right_n);
    int rc = anm_charsmap_open(&s.charsmap, rules.data, rules.size, err);
    if (!rc) rc = anm_spm_normalize(&got, &s, text, strlen(text), err);
    if (!rc) snprintf(out, 64, "%.*s", (int)got.size, (char *)got.data);
    anm_buf_free(&got);
    anm_buf_free(&rules);
    return rc;
}

static void rules_make_whole_characters(void **state)
{
    (void)state;
    char got[64];
    anm_error err;
    assert_int_equal(normal(got, 'a', "\xc3\xa9", 3, 0, "bac", &err), 0);
    assert_string_equal(got, "b\xc3\xa9" "c");
    assert_int_equal(normal(got, 'a', "\xc3\xa9", 3, 1, "bac", &err), 0); /* from the middle of a character on */
    assert_string_equal(got, "bac");
    assert_int_equal(normal(got, 0xc3, "x", 2, 0, "b\xc3\xa9", &err), 0); /* half of one */
    assert_string_equal(got, "b\xc3\xa9");
    assert_int_equal(normal(got, 'a', "\xc3", 2, 0, "bac", &err), ANM_ERR_FORMAT);
    assert_non_null(strstr(err.text, "not valid UTF-8"));
}

/* A trie may lead back to itself: each place in a text would be a walk to its end. */
static void rules_end(void **state)
{
    (void)state;
    char got[64], text[301] = {0};
    anm_error err;
    memset(text, 'a', 300);
    assert_int_equal(normal(got, 'a', "x", 2, NO_END, text, &err), ANM_ERR_LIMIT);
    assert_non_null(strstr(err.text, "a normalizer's rule is longer than 256 bytes"));
    text[256] = 'b'; /* the walk ends where it may still */
    assert_int_equal(normal(got, 'a', "x", 2, NO_END, text, &err), 0);
    assert_int_equal(normal(got, 'a', "x", 2, NO_END, "baaaac", &err), 0);
    assert_string_equal(got, "baaaac");
}

/* ---- GGUF files ---- */

enum { U32 = 4, I32 = 5, F32 = 6, STRING = 8, ARRAY = 9 };

static void put_string(anm_buf *b, const char *s)
{
    anm_buf_u64(b, strlen(s));
    anm_buf_puts(b, s);
}

struct writer {
    anm_buf b;
    uint64_t keys;
};

static void begin(struct writer *w)
{
    *w = (struct writer){0};
    anm_buf_puts(&w->b, "GGUF");
    anm_buf_u32(&w->b, 3);
    anm_buf_u64(&w->b, 0); /* tensors */
    anm_buf_u64(&w->b, 0); /* keys, set at the end */
}

static void key(struct writer *w, const char *name, uint32_t type)
{
    put_string(&w->b, name);
    anm_buf_u32(&w->b, type);
    w->keys++;
}

static void text_key(struct writer *w, const char *name, const char *value)
{
    key(w, name, STRING);
    put_string(&w->b, value);
}

static void number_key(struct writer *w, const char *name, uint32_t value)
{
    key(w, name, U32);
    anm_buf_u32(&w->b, value);
}

static void list_key(struct writer *w, const char *name, uint32_t type, uint64_t n)
{
    key(w, name, ARRAY);
    anm_buf_u32(&w->b, type);
    anm_buf_u64(&w->b, n);
}

static int parse(anm_tokenizer **t, struct writer *w, anm_error *err)
{
    for (int i = 0; i < 8; i++) w->b.data[16 + i] = (uint8_t)(w->keys >> 8 * i);
    assert_false(w->b.bad);
    int rc = anm_tokenizer_parse(t, w->b.data, w->b.size, "FILE", err);
    anm_buf_free(&w->b);
    return rc;
}

static anm_tokenizer *opened(struct writer *w)
{
    anm_tokenizer *t;
    anm_error err = {0};
    if (parse(&t, w, &err)) fail_msg("%s", err.text);
    return t;
}

static void refused(struct writer *w, const char *says)
{
    anm_tokenizer *t;
    anm_error err = {0};
    assert_true(parse(&t, w, &err) < 0);
    if (!strstr(err.text, says)) fail_msg("refused with: %s (wanted: %s)", err.text, says);
}

/* Of the model gpt2: the 256 bytes, what the merges make, and <|im_end|>, <|im_start|> and <end> of a type. */
enum { MARK = 262 };

static void begin_gpt2(struct writer *w, const char *pre, uint32_t type_of_marks)
{
    static const char *const made[] = {"'t", "\xC4\xA0(", "99", "999", ("\xC4\xA0" "9"), "))"};
    static const char *const merges[] = {"' t", "\xC4\xA0 (", "9 9", "99 9", "\xC4\xA0 9", ") )"};
    static const char *const marks[] = {"<|im_end|>", "<|im_start|>", "<end>"};
    begin(w);
    text_key(w, "tokenizer.ggml.model", "gpt2");
    if (pre) text_key(w, "tokenizer.ggml.pre", pre);
    list_key(w, "tokenizer.ggml.tokens", STRING, MARK + 3);
    for (int i = 0; i < 256; i++) {
        char c[8];
        c[anm_utf8_put(c, anm_bytelevel_char((uint8_t)i))] = 0;
        put_string(&w->b, c);
    }
    for (int i = 0; i < 6; i++) put_string(&w->b, made[i]);
    for (int i = 0; i < 3; i++) put_string(&w->b, marks[i]);
    list_key(w, "tokenizer.ggml.token_type", I32, MARK + 3);
    for (int i = 0; i < MARK; i++) anm_buf_u32(&w->b, 1);
    for (int i = 0; i < 3; i++) anm_buf_u32(&w->b, type_of_marks);
    list_key(w, "tokenizer.ggml.merges", STRING, 6);
    for (int i = 0; i < 6; i++) put_string(&w->b, merges[i]);
}

/* Of the model llama: <unk>, <s>, </s>, the bytes, and two letters. */
static void begin_llama(struct writer *w)
{
    static const char *const first[] = {"<unk>", "<s>", "</s>"};
    begin(w);
    text_key(w, "tokenizer.ggml.model", "llama");
    list_key(w, "tokenizer.ggml.tokens", STRING, 261);
    for (int i = 0; i < 3; i++) put_string(&w->b, first[i]);
    for (int i = 0; i < 256; i++) {
        char name[8];
        snprintf(name, sizeof name, "<0x%02X>", (unsigned)i);
        put_string(&w->b, name);
    }
    put_string(&w->b, "\xE2\x96\x81");
    put_string(&w->b, "a");
    list_key(w, "tokenizer.ggml.token_type", I32, 261);
    for (int i = 0; i < 261; i++) anm_buf_u32(&w->b, i == 0 ? 2 : i < 3 ? 3 : i < 259 ? 6 : 1);
    list_key(w, "tokenizer.ggml.scores", F32, 261);
    for (int i = 0; i < 261; i++) anm_buf_u32(&w->b, 0);
}

static void patterns_go_by_their_name(void **state)
{
    (void)state;
    struct writer w;
    begin_gpt2(&w, "default", 3);
    anm_tokenizer *t = opened(&w);
    becomes(t, "a (can't 99999)", false, "a|\xC4\xA0|(|c|a|n|'|t|\xC4\xA0|999|99|)");
    becomes(t, "x 9999 $(9) `))", false, "x|\xC4\xA0|999|9|\xC4\xA0|$|(|9|)|\xC4\xA0|`|))");
    anm_tokenizer_free(t);
    begin_gpt2(&w, "gpt-2", 3);
    t = opened(&w);
    becomes(t, "a (can't 99999)", false, "a|\xC4\xA0(|c|a|n|'t|\xC4\xA0|99|999|)");
    anm_tokenizer_free(t);
    begin_gpt2(&w, NULL, 3);
    refused(&w, "tokenizer.ggml.pre is not there");
}

static void what_ends_a_turn_is_no_word(void **state)
{
    (void)state;
    for (uint32_t type = 1; type <= 4; type++) { /* normal, unknown, control, user-defined */
        struct writer w;
        begin_gpt2(&w, "gpt-2", type);
        number_key(&w, "tokenizer.ggml.eos_token_id", MARK + 1);
        number_key(&w, "tokenizer.ggml.eot_token_id", MARK + 2);
        anm_tokenizer *t = opened(&w);
        becomes(t, "a<|im_end|>c", true, "a|<|im_end|>|c");
        becomes(t, "<|im_end|>", false, "<|||i|m|_|e|n|d|||>");
        assert_true(anm_tokenizer_is_special(t, MARK));
        for (int i = 0; i < 3; i++) assert_true(anm_tokenizer_is_stop(t, MARK + i)); /* by name, by either key */
        anm_tokenizer_free(t);
    }
}

static void ids_outside_the_vocabulary_are_refused(void **state)
{
    (void)state;
    static const char *const keys[] = {"tokenizer.ggml.bos_token_id", "tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id"};
    struct writer w;
    for (int i = 0; i < 3; i++) {
        begin_gpt2(&w, "gpt-2", 3);
        number_key(&w, keys[i], MARK + 3);
        refused(&w, "_token_id is 265, of 265 tokens");
        begin_gpt2(&w, "gpt-2", 3);
        number_key(&w, keys[i], UINT32_MAX); /* how some say that there is none */
        anm_tokenizer *t = opened(&w);
        assert_int_equal(anm_tokenizer_bos(t), -1);
        assert_int_equal(anm_tokenizer_eos(t), -1);
        anm_tokenizer_free(t);
    }
}

/* Keys of a kind that says nothing are refused by name: passed over, control tokens would be words. */
static void keys_of_another_kind_are_refused(void **state)
{
    (void)state;
    static const char *const numbers[] = {"bos_token_id", "eos_token_id", "eot_token_id", "eom_token_id", "add_bos_token", "add_eos_token"};
    struct writer w;
    char name[64], says[160];
    for (int i = 0; i < 6; i++) {
        snprintf(name, sizeof name, "tokenizer.ggml.%s", numbers[i]);
        snprintf(says, sizeof says, "%s must be a whole number below 2^63, not a value of kind f32", name);
        begin_gpt2(&w, "gpt-2", 3);
        key(&w, name, F32);
        anm_buf_u32(&w.b, 0);
        refused(&w, says);
    }
    static const char *const of_llama[] = {"add_space_prefix", "remove_extra_whitespaces", "unknown_token_id"};
    for (int i = 0; i < 3; i++) {
        snprintf(name, sizeof name, "tokenizer.ggml.%s", of_llama[i]);
        snprintf(says, sizeof says, "%s must be a whole number", name);
        begin_llama(&w);
        text_key(&w, name, "1");
        refused(&w, says);
    }
    begin_gpt2(&w, "gpt-2", 3);
    number_key(&w, "tokenizer.chat_template", 1);
    refused(&w, "tokenizer.chat_template must be a string, not a value of kind u32");
    begin_gpt2(&w, NULL, 3);
    number_key(&w, "tokenizer.ggml.pre", 1);
    refused(&w, "tokenizer.ggml.pre must be a string, not a value of kind u32");
    begin(&w);
    number_key(&w, "tokenizer.ggml.model", 1);
    refused(&w, "tokenizer.ggml.model must be a string, not a value of kind u32");
    begin(&w);
    text_key(&w, "tokenizer.ggml.model", "gpt2");
    text_key(&w, "tokenizer.ggml.tokens", "a");
    refused(&w, "tokenizer.ggml.tokens must be a list of strings, not a value of kind string");
}

/* One token and its types, of an element's kind and a count. */
static void begin_typed(struct writer *w, uint32_t type, uint64_t n)
{
    begin(w);
    text_key(w, "tokenizer.ggml.model", "gpt2");
    text_key(w, "tokenizer.ggml.pre", "gpt-2");
    list_key(w, "tokenizer.ggml.tokens", STRING, 1);
    put_string(&w->b, "a");
    list_key(w, "tokenizer.ggml.token_type", type, n);
    for (uint64_t i = 0; i < n; i++) anm_buf_u32(&w->b, 1);
}

static void types_are_one_number_for_each_token(void **state)
{
    (void)state;
    struct writer w;
    begin_typed(&w, I32, 1);
    list_key(&w, "tokenizer.ggml.merges", STRING, 0);
    anm_tokenizer_free(opened(&w));
    begin_typed(&w, I32, 1);
    text_key(&w, "tokenizer.ggml.merges", "a a");
    refused(&w, "tokenizer.ggml.merges must be a list of strings, not a value of kind string");
    begin_typed(&w, F32, 1);
    refused(&w, "tokenizer.ggml.token_type is not a list of whole numbers");
    begin_typed(&w, I32, 2);
    refused(&w, "tokenizer.ggml.token_type has 2 types for 1 tokens");
    begin_typed(&w, I32, 0);
    refused(&w, "tokenizer.ggml.token_type has 0 types for 1 tokens");
    begin(&w);
    text_key(&w, "tokenizer.ggml.model", "gpt2");
    list_key(&w, "tokenizer.ggml.tokens", STRING, 1);
    put_string(&w.b, "a");
    number_key(&w, "tokenizer.ggml.token_type", 1);
    refused(&w, "tokenizer.ggml.token_type must be a list of whole numbers, not a value of kind u32");
}

/* A merge may lead to a control token, but not in text. */
static void special_tokens_are_not_merged(void **state)
{
    (void)state;
    for (uint32_t type = 1; type <= 3; type += 2) {
        struct writer w;
        begin(&w);
        text_key(&w, "tokenizer.ggml.model", "gpt2");
        text_key(&w, "tokenizer.ggml.pre", "gpt-2");
        list_key(&w, "tokenizer.ggml.tokens", STRING, 4);
        put_string(&w.b, "a");
        put_string(&w.b, "aa");
        put_string(&w.b, "aaa");
        put_string(&w.b, "b");
        list_key(&w, "tokenizer.ggml.token_type", I32, 4);
        anm_buf_u32(&w.b, 1);
        anm_buf_u32(&w.b, 1);
        anm_buf_u32(&w.b, type);
        anm_buf_u32(&w.b, 1);
        list_key(&w, "tokenizer.ggml.merges", STRING, 2);
        put_string(&w.b, "a a");
        put_string(&w.b, "aa a");
        anm_tokenizer *t = opened(&w);
        becomes(t, "aaab", false, type == 3 ? "aa|a|b" : "aaa|b");
        becomes(t, "aaab", true, "aaa|b");
        anm_tokenizer_free(t);
    }
}

static void a_text_that_is_to_end_is_refused(void **state)
{
    (void)state;
    struct writer w;
    begin_gpt2(&w, "gpt-2", 3);
    number_key(&w, "tokenizer.ggml.add_eos_token", 0);
    anm_tokenizer_free(opened(&w));
    begin_gpt2(&w, "gpt-2", 3);
    number_key(&w, "tokenizer.ggml.add_eos_token", 1);
    refused(&w, "tokenizer.ggml.add_eos_token");
}

static void llama_has_its_own_ids(void **state)
{
    (void)state;
    struct writer w;
    begin_llama(&w);
    anm_tokenizer *t = opened(&w);
    assert_int_equal(anm_tokenizer_bos(t), 1);
    assert_int_equal(anm_tokenizer_eos(t), 2);
    assert_int_equal(anm_tokenizer_add_bos(t), 1);
    assert_true(anm_tokenizer_is_stop(t, 2));
    becomes(t, "a", false, "\xE2\x96\x81|a");
    anm_tokenizer_free(t);
    begin_llama(&w);
    number_key(&w, "tokenizer.ggml.bos_token_id", 2);
    number_key(&w, "tokenizer.ggml.eos_token_id", 1);
    t = opened(&w);
    assert_int_equal(anm_tokenizer_bos(t), 2);
    assert_int_equal(anm_tokenizer_eos(t), 1);
    anm_tokenizer_free(t);
}

/* ---- tokenizer.json ---- */

static int parse_json(anm_tokenizer **t, const char *more, anm_error *err)
{
    char text[1024];
    int n = snprintf(text, sizeof text, "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"<s>\":1,\"</s>\":2},\"merges\":[]},%s}", more);
    assert_true(n > 0 && (size_t)n < sizeof text);
    return anm_tokenizer_parse(t, (const uint8_t *)text, (size_t)n, "FILE", err);
}

/* Merges and whole words make words, and added tokens that are not special, but no special ones. */
static void special_tokens_are_not_made_by_the_model(void **state)
{
    (void)state;
#define MODEL(more) "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"<\":0,\"s\":1,\">\":2,\"<s\":3,\"<s>\":4,\"!\":5,\"<0x21>\":6}," more "}"
#define MERGES "\"merges\":[\"< s\",\"<s >\"]"
#define ADDS(id, text, special) ",\"added_tokens\":[{\"id\":" id ",\"content\":\"" text "\",\"special\":" special ",\"single_word\":true}]"
#define BYTES ",\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":false}"
    static const struct {
        const char *json, *text;
        bool special;
        const char *want;
    } cases[] = {
        {MODEL("\"ignore_merges\":true,\"merges\":[]") ADDS("4", "<s>", "true") "}", "<s>", false, "<|s|>"},
        {MODEL("\"ignore_merges\":true,\"merges\":[]") ADDS("4", "<s>", "true") "}", "<s>", true, "<s>"},
        {MODEL("\"ignore_merges\":true,\"merges\":[]") ADDS("4", "<s>", "true") BYTES "}", "<s>", false, "<|s|>"},
        {MODEL(MERGES) ADDS("4", "<s>", "true") "}", "<s>", false, "<s|>"},
        {MODEL(MERGES) ADDS("4", "<s>", "true") "}", "<s>", true, "<s>"},
        {MODEL(MERGES) ADDS("4", "<s>", "true") BYTES "}", "<s>", false, "<s|>"},
        {MODEL(MERGES) ADDS("4", "<s>", "false") "}", "s<s>", false, "s|<s>"}, /* stands not alone, so that merges make it */
        {MODEL("\"ignore_merges\":true,\"merges\":[]") ADDS("4", "<s>", "false") "}", "<s>", false, "<s>"},
        {MODEL("\"byte_fallback\":true,\"merges\":[]") ADDS("5", "!", "true") "}", "!", false, "<0x21>"},
        {MODEL("\"merges\":[]") ADDS("5", "!", "true") BYTES "}", "!", false, "!"}, /* nothing else spells a byte */
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        anm_tokenizer *t;
        anm_error err = {0};
        if (anm_tokenizer_parse(&t, (const uint8_t *)cases[i].json, strlen(cases[i].json), "FILE", &err)) fail_msg("%s", err.text);
        char got[512];
        spelled(got, sizeof got, t, cases[i].text, cases[i].special);
        if (strcmp(got, cases[i].want)) fail_msg("case %zu: %s and not %s", i, got, cases[i].want);
        anm_tokenizer_free(t);
    }
}

static void what_a_post_processor_adds(void **state)
{
    (void)state;
#define BOS "{\"SpecialToken\":{\"id\":\"<s>\",\"type_id\":0}}"
#define EOS "{\"SpecialToken\":{\"id\":\"</s>\",\"type_id\":0}}"
#define TEXT "{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}"
#define TEMPLATE(items)                                                                                                \
    "{\"type\":\"TemplateProcessing\",\"single\":[" items "],\"special_tokens\":{"                                    \
    "\"<s>\":{\"id\":\"<s>\",\"ids\":[1]},\"</s>\":{\"id\":\"</s>\",\"ids\":[2]}}}"
#define POST(one) "\"post_processor\":" one
#define SEQUENCE(all) "{\"type\":\"Sequence\",\"processors\":[" all "]}"
    static const struct {
        const char *json, *says; /* NULL: it is read */
        int bos;                 /* that goes first, -1: none does */
    } cases[] = {
        {POST("null"), NULL, -1},
        {POST("{\"type\":\"ByteLevel\"}"), NULL, -1},
        {POST(TEMPLATE(TEXT)), NULL, -1},
        {POST(TEMPLATE(BOS "," TEXT)), NULL, 1},
        {POST(TEMPLATE(EOS "," TEXT)), NULL, 2},
        {POST(SEQUENCE("{\"type\":\"ByteLevel\"}," TEMPLATE(BOS "," TEXT))), NULL, 1},
        {POST(TEMPLATE(BOS "," TEXT "," EOS)), "the post-processor adds '</s>' after the text", 0},
        {POST(TEMPLATE(TEXT "," EOS)), "the post-processor adds '</s>' after the text", 0},
        {POST(TEMPLATE(BOS "," EOS "," TEXT)), "adds '</s>' as a second token before the text", 0},
        {POST(SEQUENCE(TEMPLATE(BOS "," TEXT) "," TEMPLATE(EOS "," TEXT))), "adds '</s>' as a second token", 0},
        {POST(TEMPLATE("{\"SpecialToken\":{\"id\":\"x\"}}," TEXT)), "'x' is not one token of the vocabulary", 0},
        {POST(TEMPLATE(BOS)), "has no text", 0},
        {POST("{\"type\":\"RobertaProcessing\",\"cls\":[\"<s>\",1],\"sep\":[\"</s>\",2]}"), "post-processor RobertaProcessing", 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        anm_tokenizer *t;
        anm_error err = {0};
        int rc = parse_json(&t, cases[i].json, &err);
        if (cases[i].says) {
            assert_true(rc < 0);
            if (!strstr(err.text, cases[i].says)) fail_msg("refused with: %s (wanted: %s)", err.text, cases[i].says);
            continue;
        }
        if (rc) fail_msg("%s", err.text);
        assert_int_equal(anm_tokenizer_add_bos(t), cases[i].bos >= 0);
        assert_int_equal(anm_tokenizer_bos(t), cases[i].bos);
        anm_tokenizer_free(t);
    }
}

static int add_word(void *ctx, const char *text, size_t n)
{
    anm_buf *b = ctx;
    if (b->size) anm_buf_puts(b, "/");
    anm_buf_put(b, text, n);
    return 0;
}

/* The words that a pattern cuts out of a text, each match and what is between two. */
static void cuts(anm_dialect dialect, const char *pattern, const char *text, const char *want)
{
    anm_error err = {0};
    anm_stage stage;
    anm_matcher m = {0};
    anm_buf got = {0};
    if (anm_stage_open(&stage, pattern, strlen(pattern), dialect, ANM_SPLIT_ISOLATED, false, &err)) fail_msg("%s: %s", pattern, err.text);
    assert_int_equal(anm_matcher_allow(&m, strlen(text), &err), 0);
    if (anm_split(&m, &stage, 1, 0, text, strlen(text), add_word, &got, &err)) fail_msg("%s: %s", pattern, err.text);
    anm_buf_u8(&got, 0);
    assert_false(got.bad);
    if (strcmp((char *)got.data, want)) fail_msg("%s cuts '%s' into '%s' and not '%s'", pattern, text, (char *)got.data, want);
    anm_buf_free(&got);
    anm_matcher_close(&m);
    anm_stage_close(&stage);
}

/* As tokenizers' Split cuts. */
static void patterns_are_read_in_their_dialect(void **state)
{
    (void)state;
    static const struct {
        const char *pattern, *text, *want;
    } cases[] = {
        {"\\w+", "a\xC2\xBD" "b\xC2\xB2" "c-d\xE2\x80\x8D" "e\xE2\x92\xB6", "a\xC2\xBD" "b\xC2\xB2" "c/-/d/\xE2\x80\x8D" "/e\xE2\x92\xB6"},
        {"[\\w]+", "a\xC2\xBD" "b\xC2\xB2" "c-d\xE2\x80\x8D" "e\xE2\x92\xB6", "a/\xC2\xBD" "/b/\xC2\xB2" "/c/-/d/\xE2\x80\x8D" "/e\xE2\x92\xB6"},
        {"\\W", "\xC2\xBD" "\xE2\x80\x8D" "-a", "\xC2\xBD" "/\xE2\x80\x8D" "/-/a"},
        {"[^\\w]", "\xC2\xBD" "-a", "\xC2\xBD" "/-/a"},
        {"\\b", "ab \xC2\xBD" "c\xE2\x80\x8D" "d", "ab/ /\xC2\xBD" "c/\xE2\x80\x8D" "/d"},
        {"\\Ba", "aa\xC2\xBD" "a-a", "a/a/\xC2\xBD" "/a/-a"},
        {"a\\b", "a\xC2\xBD" "a\xE2\x80\x8D" "a-a", "a\xC2\xBD" "/a/\xE2\x80\x8D" "/a/-/a"},
        {"^b", "a\nb", "a\n/b"},
        {"a$", "a\nb", "a/\nb"},
        {"\\s+$", "a \n\nb \n", "a/ \n/\nb/ \n"},
        {"(?m)a.b", "a\nb-a\n", "a\nb/-a\n"},
        {"(?i-m:A.)", "ab-a\n", "ab/-a\n"},
        {"a.", "a\nab", "a\n/ab"},
        {"\\v", "a\x0B" "b\nc", "a/\x0B" "/b\nc"},
        {"a{,2}", "aaa-", "aa/a/-"},
        {"[$^{,2}]", "a$^{", "a/$/^/{"},
        {"a{1,2}?", "aaa", "a/a/a"},
        {"(?<=b)a", "aba", "ab/a"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        cuts(ANM_DIALECT_ONIGURUMA, cases[i].pattern, cases[i].text, cases[i].want);
    cuts(ANM_DIALECT_RUST, "\\w+|[^\\w\\s]+", "a\xC2\xBD" "b", "a/\xC2\xBD/b"); /* its pre-tokenizer Whitespace */
    cuts(ANM_DIALECT_RUST, "\\w+|[^\\w\\s]+", "d\xE2\x80\x8D" "e", "d\xE2\x80\x8D" "e");
    cuts(ANM_DIALECT_RUST, "a{1,2}+a?", "aaaa", "aaa/a"); /* possessive in one, in the other more of the same */
    static const char *const odd[] = {"a{1,2}+", "a{1}+", "a{2}?"};
    for (int i = 0; i < 3; i++) {
        anm_stage stage;
        anm_error err = {0};
        assert_int_equal(anm_stage_open(&stage, odd[i], strlen(odd[i]), ANM_DIALECT_ONIGURUMA, ANM_SPLIT_ISOLATED, false, &err),
                         ANM_ERR_UNSUPPORTED);
        assert_non_null(strstr(err.text, "after an interval"));
    }
}

/* ---- tokenizer_config.json and chat_template.jinja ---- */

static char folder[] = "/tmp/anemone-meaning-XXXXXX", config[64], template[64];

static int make_folder(void **state)
{
    (void)state;
    if (!mkdtemp(folder)) return -1;
    snprintf(config, sizeof config, "%s/tokenizer_config.json", folder);
    snprintf(template, sizeof template, "%s/chat_template.jinja", folder);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    remove(config);
    return rmdir(folder);
}

static void write_file(const char *path, const char *text)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, strlen(text), f), strlen(text));
    assert_int_equal(fclose(f), 0);
}

static int open_with(anm_tokenizer **t, const char *name, const char *json, anm_error *err)
{
    char path[64];
    snprintf(path, sizeof path, "test/data/token/%s", name);
    write_file(config, json);
    return anm_tokenizer_open(t, path, config, err);
}

static void the_file_of_a_template_goes_first(void **state)
{
    (void)state;
    static const char *const files[] = {"spm_bpe.model", "hf_llama3.json", "gguf_smollm.gguf"};
    anm_tokenizer *t;
    anm_error err = {0};
    for (int i = 0; i < 3; i++) {
        if (open_with(&t, files[i], "{\"chat_template\":\"old\"}", &err)) fail_msg("%s", err.text);
        assert_string_equal(anm_tokenizer_chat_template(t), "old");
        anm_tokenizer_free(t);
        write_file(template, "new");
        int rc = open_with(&t, files[i], "{\"chat_template\":\"old\"}", &err);
        remove(template);
        if (rc) fail_msg("%s", err.text);
        assert_string_equal(anm_tokenizer_chat_template(t), "new");
        anm_tokenizer_free(t);
    }
}

static void tokens_that_the_config_adds(void **state)
{
    (void)state;
#define ADDED(id, text, more) "{\"added_tokens_decoder\":{\"" id "\":{\"content\":\"" text "\"" more "}}}"
    static const struct {
        const char *file, *json, *says;
    } cases[] = {
        {"spm_bpe.model", ADDED("800", "<|im_start|>", ",\"special\":true"), "added_tokens_decoder adds the token '<|im_start|>'"},
        {"hf_llama3.json", ADDED("9999", "<|new|>", ",\"special\":true"), "added_tokens_decoder adds the token '<|new|>'"},
        {"spm_bpe.model", ADDED("264", "he", ""), "adds the token 'he', which is a piece like others"},
        {"spm_bpe.model", "{\"eos_token\":\"<|im_end|>\"}", "eos_token adds the token '<|im_end|>'"},
        {"spm_bpe.model", "{\"bos_token\":{\"content\":\"<bos>\"}}", "bos_token adds the token '<bos>'"},
        {"spm_bpe.model", "{\"additional_special_tokens\":[\"<s>\",\"<|x|>\"]}", "additional_special_tokens adds the token '<|x|>'"},
    };
    anm_tokenizer *t;
    anm_error err = {0};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(open_with(&t, cases[i].file, cases[i].json, &err), ANM_ERR_UNSUPPORTED);
        assert_null(t);
        if (!strstr(err.text, cases[i].says)) fail_msg("refused with: %s (wanted: %s)", err.text, cases[i].says);
    }
    if (open_with(&t, "tiktoken.model", ADDED("9999", "<|reserved_special_token_999|>", ",\"special\":true"), &err)) fail_msg("%s", err.text);
    anm_tokenizer_free(t);

    if (open_with(&t, "spm_bpe.model", "{\"pad_token\":\"<p>\",\"added_tokens_decoder\":{\"800\":{\"content\":\"<p>\",\"special\":true}}}", &err)) fail_msg("%s", err.text);
    anm_tokenizer_free(t);
    if (open_with(&t, "spm_bpe.model", ADDED("1", "<s>", ",\"special\":true"), &err)) fail_msg("%s", err.text);
    becomes(t, "o the her", true, "\xE2\x96\x81o|\xE2\x96\x81the|\xE2\x96\x81|her");
    anm_tokenizer_free(t);
    if (open_with(&t, "spm_bpe.model", ADDED("264", "he", ",\"special\":true,\"lstrip\":true"), &err)) fail_msg("%s", err.text);
    becomes(t, "o the her", false, "\xE2\x96\x81o|\xE2\x96\x81the|\xE2\x96\x81|her");
    becomes(t, "o  he", true, "\xE2\x96\x81o|he");
    becomes(t, "o he", false, "\xE2\x96\x81o|\xE2\x96\x81|h|e");
    assert_true(anm_tokenizer_is_special(t, 264));
    anm_tokenizer_free(t);
}

/* A message of SentencePiece's, shorter than 128 bytes, in field `number` of another. */
static void put_message(anm_buf *to, uint8_t number, anm_buf *m)
{
    assert_true(m->size < 128);
    anm_buf_u8(to, (uint8_t)(number << 3 | 2));
    anm_buf_u8(to, (uint8_t)m->size);
    anm_buf_put(to, m->data, m->size);
    anm_buf_free(m);
}

static void put_piece(anm_buf *to, const char *text, uint8_t type, float score)
{
    anm_buf m = {0}, name = {0};
    uint32_t bits;
    memcpy(&bits, &score, 4);
    anm_buf_puts(&name, text);
    put_message(&m, 1, &name);
    anm_buf_u8(&m, 2 << 3 | 5);
    anm_buf_u32(&m, bits);
    anm_buf_u8(&m, 3 << 3);
    anm_buf_u8(&m, type);
    put_message(to, 1, &m);
}

/* A model of letters, by unigram (1) or BPE (2), that knows <|im_end|> by a type, and can merge it. */
static void write_model(const char *path, uint8_t algorithm, uint8_t type)
{
    static const char *const pieces[] = {"\xE2\x96\x81", "a", "<", "|", "i", "m", "_", "e", "n", "d", ">", "<|", "<|i", "<|im", "<|im_", "<|im_e", "<|im_en", "<|im_end", "<|im_end|"};
    anm_buf b = {0}, trainer = {0};
    put_piece(&b, "<unk>", 2, 0);
    put_piece(&b, "<s>", 3, 0);
    put_piece(&b, "<e>", 3, 0);
    put_piece(&b, "<|im_end|>", type, -3);
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++) put_piece(&b, pieces[i], 1, -2);
    anm_buf_u8(&trainer, 3 << 3);
    anm_buf_u8(&trainer, algorithm);
    anm_buf_put(&trainer, "\xFA\x02\x03<e>", 6); /* field 47: the end's name */
    put_message(&b, 2, &trainer);
    FILE *f = fopen(path, "wb");
    assert_true(f && !b.bad);
    assert_int_equal(fwrite(b.data, 1, b.size, f), b.size);
    assert_int_equal(fclose(f), 0);
    anm_buf_free(&b);
}

/* Whatever type a word of the vocabulary has: once the configuration calls it special, text that may not spell special
 * tokens does not make it, and it ends an answer where its name says so. */
static void what_the_config_calls_special_is_no_text(void **state)
{
    (void)state;
    static const char *const configs[] = {
        ADDED("3", "<|im_end|>", ",\"special\":true"),
        "{\"additional_special_tokens\":[\"<|im_end|>\"]}",
        "{\"eos_token\":\"<|im_end|>\"}",
        "{\"bos_token\":{\"content\":\"<|im_end|>\"}}",
        "{\"pad_token\":\"<|im_end|>\",\"added_tokens_decoder\":{\"3\":{\"content\":\"<|im_end|>\",\"special\":true}}}",
    };
    static const uint8_t types[] = {1, 3, 4}; /* normal, control, user-defined */
    char model[64];
    snprintf(model, sizeof model, "%s/tokenizer.model", folder);
    for (size_t k = 0; k < 2 * 3 * (sizeof configs / sizeof *configs); k++) {
        const bool bpe = k % 2;
        const uint8_t type = types[k / 2 % 3];
        anm_tokenizer *t;
        anm_error err = {0};
        write_model(model, bpe ? 2 : 1, type);
        write_file(config, configs[k / 6]);
        int rc = anm_tokenizer_open(&t, model, NULL, &err);
        remove(model);
        if (rc) fail_msg("%s", err.text);
        char got[512];
        spelled(got, sizeof got, t, "a<|im_end|>a", false);
        if (strstr(got, "|<|im_end|>|") || !strstr(got, "<|im_end||>")) fail_msg("%zu: type %d: %s", k, type, got);
        becomes(t, "a<|im_end|>a", true, "\xE2\x96\x81|a|<|im_end|>|\xE2\x96\x81|a");
        assert_true(anm_tokenizer_is_special(t, 3));
        assert_true(anm_tokenizer_is_stop(t, 3));
        assert_true(anm_tokenizer_is_stop(t, 2)); /* the file's own end, whatever the configuration names */
        anm_tokenizer_free(t);
    }
    write_model(model, 1, 4);
    write_file(config, ADDED("3", "<|im_end|>", ""));
    anm_tokenizer *t;
    anm_error err = {0};
    int rc = anm_tokenizer_open(&t, model, NULL, &err);
    remove(model);
    if (rc) fail_msg("%s", err.text);
    becomes(t, "a<|im_end|>a", false, "\xE2\x96\x81|a|<|im_end|>|a"); /* not called special, it is cut out of all text */
    anm_tokenizer_free(t);
}

static void copy_file(const char *to, const char *from)
{
    char data[4096];
    FILE *in = fopen(from, "rb"), *out = fopen(to, "wb");
    assert_true(in && out);
    for (size_t n; (n = fread(data, 1, sizeof data, in)) > 0;) assert_int_equal(fwrite(data, 1, n, out), n);
    fclose(in);
    assert_int_equal(fclose(out), 0);
}

static void tokens_that_an_older_list_adds(void **state)
{
    (void)state;
    char model[64], list[64];
    anm_tokenizer *t;
    anm_error err = {0};
    snprintf(model, sizeof model, "%s/tokenizer.model", folder);
    snprintf(list, sizeof list, "%s/added_tokens.json", folder);
    remove(config);
    copy_file(model, "test/data/token/spm_bpe.model");
    write_file(list, "{\"<s>\":1,\"[PAD]\":800}");
    int good = anm_tokenizer_open(&t, model, NULL, &err);
    if (!good) anm_tokenizer_free(t);
    write_file(list, "{\"<s>\":1,\"<|im_end|>\":800}");
    int bad = anm_tokenizer_open(&t, model, NULL, &err);
    if (!bad) anm_tokenizer_free(t);
    remove(model);
    remove(list);
    assert_int_equal(good, 0);
    assert_int_equal(bad, ANM_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.text, "added_tokens.json: it adds the token '<|im_end|>'"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rules_make_whole_characters),
        cmocka_unit_test(rules_end),
        cmocka_unit_test(patterns_go_by_their_name),
        cmocka_unit_test(what_ends_a_turn_is_no_word),
        cmocka_unit_test(ids_outside_the_vocabulary_are_refused),
        cmocka_unit_test(a_text_that_is_to_end_is_refused),
        cmocka_unit_test(special_tokens_are_not_merged),
        cmocka_unit_test(keys_of_another_kind_are_refused),
        cmocka_unit_test(types_are_one_number_for_each_token),
        cmocka_unit_test(llama_has_its_own_ids),
        cmocka_unit_test(what_a_post_processor_adds),
        cmocka_unit_test(special_tokens_are_not_made_by_the_model),
        cmocka_unit_test(patterns_are_read_in_their_dialect),
        cmocka_unit_test(the_file_of_a_template_goes_first),
        cmocka_unit_test(tokens_that_the_config_adds),
        cmocka_unit_test(what_the_config_calls_special_is_no_text),
        cmocka_unit_test(tokens_that_an_older_list_adds),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
