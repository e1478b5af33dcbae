/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Tokenizers against the originals' stored answers (tools/token_oracle.py asked them): tiny ones of every format in
 * test/data/token, and real ones in the folder that the environment's ANEMONE_TOKENIZERS names, where there is one.
 */
#include "test.h"

#include "base/buf.h"
#include "base/map.h"
#include "token/split.h"
#include "token/tok.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- answers ---- */

static uint32_t hash(const void *data, size_t n)
{
    const uint8_t *p = data;
    uint64_t h = 0xCBF29CE484222325u;
    for (size_t i = 0; i < n; i++) h = (h ^ p[i]) * 0x100000001B3u;
    return (uint32_t)(h >> 32);
}

static uint32_t hash_ids(const int32_t *ids, size_t n)
{
    anm_buf b = {0};
    for (size_t i = 0; i < n; i++) anm_buf_u32(&b, (uint32_t)ids[i]);
    uint32_t h = hash(b.data, b.size);
    anm_buf_free(&b);
    return h;
}

static uint32_t stored(const json_t *list, size_t i)
{
    return (uint32_t)strtoul(json_string_value(json_array_get(list, i)), NULL, 16);
}

static uint32_t stored_at(const json_t *object, const char *key)
{
    return (uint32_t)strtoul(json_string_value(json_object_get(object, key)), NULL, 16);
}

struct asked {
    const json_t *texts, *invalid, *atoms;
    const char *folder, *file;
    const anm_tokenizer *t;
    int wrong;
};

static void wrong(struct asked *a, const char *what, size_t i)
{
    if (a->wrong++ < 20) print_error("%s: %s %zu differs from the original's\n", a->file, what, i);
}

static void encode(int32_t **ids, size_t *n, const struct asked *a, const char *text, size_t size, bool special)
{
    anm_error err = {0};
    if (anm_tokenizer_encode(ids, n, a->t, text, size, special, &err)) fail_msg("%s: %s", a->file, err.text);
}

static uint32_t encode_hash(const struct asked *a, const char *text, size_t size, bool special)
{
    int32_t *ids;
    size_t n;
    encode(&ids, &n, a, text, size, special);
    uint32_t h = hash_ids(ids, n);
    free(ids);
    return h;
}

static void decode(anm_buf *out, const struct asked *a, const int32_t *ids, size_t n)
{
    anm_error err = {0};
    char *text;
    size_t size;
    if (anm_tokenizer_decode(&text, &size, a->t, ids, n, false, &err)) fail_msg("%s: %s", a->file, err.text);
    assert_int_equal(text[size], 0);
    anm_buf_put(out, text, size);
    free(text);
}

static uint32_t decode_hash(const struct asked *a, const int32_t *ids, size_t n)
{
    anm_buf out = {0};
    decode(&out, a, ids, n);
    uint32_t h = hash(out.data, out.size);
    anm_buf_free(&out);
    return h;
}

static void compare_texts(struct asked *a, const json_t *answers)
{
    const json_t *special = json_object_get(answers, "special");
    size_t i;
    json_t *v;
    json_array_foreach((json_t *)(uintptr_t)a->texts, i, v)
    {
        const char *text = json_string_value(v);
        size_t n = json_string_length(v);
        if (encode_hash(a, text, n, false) != stored(json_object_get(answers, "plain"), i)) wrong(a, "text", i);
        if (special && encode_hash(a, text, n, true) != stored(special, i)) wrong(a, "text with special tokens", i);
    }
    json_array_foreach((json_t *)(uintptr_t)a->invalid, i, v)
    {
        const char *hex = json_string_value(v);
        char bytes[64];
        size_t n = 0;
        for (unsigned byte; sscanf(hex + 2 * n, "%2x", &byte) == 1;) bytes[n++] = (char)byte;
        if (encode_hash(a, bytes, n, false) != stored(json_object_get(answers, "invalid"), i)) wrong(a, "invalid text", i);
    }
}

/* The generator of tools/token_oracle.py, mixed(). */
static void compare_mixes(struct asked *a, const json_t *answers)
{
    size_t i;
    json_t *v;
    json_array_foreach(json_object_get(answers, "mixes"), i, v)
    {
        anm_buf text = {0};
        uint64_t state = (uint64_t)json_integer_value(json_object_get(v, "seed"));
        for (json_int_t k = json_integer_value(json_object_get(v, "atoms")); k > 0; k--) {
            state = state * 6364136223846793005u + 1442695040888963407u;
            const json_t *atom = json_array_get(a->atoms, (size_t)(state >> 33) % json_array_size(a->atoms));
            anm_buf_put(&text, json_string_value(atom), json_string_length(atom));
        }
        if (encode_hash(a, (char *)text.data, text.size, false) != stored_at(v, "ids")) wrong(a, "mix", i);
        anm_buf_free(&text);
    }
}

static void compare_decoding(struct asked *a, const json_t *answers)
{
    const json_t *decoded = json_object_get(answers, "decoded");
    int32_t size = anm_tokenizer_size(a->t), odd[40], first[300], last[3] = {size - 1, size - 1, size - 1};
    for (int32_t i = 0; i < 40; i++) odd[i] = (int32_t)((int64_t)i * 7919 % size);
    for (int32_t i = 0; i < 300; i++) first[i] = i;
    if (decode_hash(a, odd, 5) != stored(decoded, 0)) wrong(a, "decoding of sequence", 0);
    if (decode_hash(a, odd + 5, 7) != stored(decoded, 1)) wrong(a, "decoding of sequence", 1);
    if (decode_hash(a, odd + 12, 28) != stored(decoded, 2)) wrong(a, "decoding of sequence", 2);
    if (decode_hash(a, first, size < 300 ? (size_t)size : 300) != stored(decoded, 3)) wrong(a, "decoding of sequence", 3);
    if (decode_hash(a, last, 3) != stored(decoded, 4)) wrong(a, "decoding of sequence", 4);
    size_t i;
    json_t *v;
    json_array_foreach((json_t *)(uintptr_t)a->texts, i, v)
    {
        int32_t *ids;
        size_t n;
        encode(&ids, &n, a, json_string_value(v), json_string_length(v), false);
        if (decode_hash(a, ids, n) != stored(decoded, i + 5)) wrong(a, "decoding of text", i);
        free(ids);
    }
    anm_buf each = {0};
    for (int32_t id = 0; id < size; id++) {
        decode(&each, a, &id, 1);
        anm_buf_u8(&each, '\n');
    }
    if (hash(each.data, each.size) != stored_at(answers, "each")) wrong(a, "decoding of every id alone", 0);
    anm_buf_free(&each);
}

static void compare_long(struct asked *a, const json_t *answers)
{
    const json_t *v = json_object_get(answers, "long");
    char path[1024];
    anm_map map;
    anm_error err = {0};
    int32_t *ids;
    size_t n;
    if (!v) return;
    snprintf(path, sizeof path, "%s/%s", a->folder, json_string_value(json_object_get(v, "file")));
    if (anm_map_open(&map, path, &err)) fail_msg("%s", err.text);
    encode(&ids, &n, a, (const char *)map.data, (size_t)map.size, false);
    if ((json_int_t)n != json_integer_value(json_object_get(v, "n")) || hash_ids(ids, n) != stored_at(v, "ids"))
        wrong(a, "the long text", 0);
    free(ids);
    anm_map_close(&map);
}

static void compare_folder(const char *folder)
{
    char path[1024];
    json_error_t why;
    size_t i;
    json_t *answers;
    snprintf(path, sizeof path, "%s/answers.json", folder);
    json_t *root = json_load_file(path, JSON_ALLOW_NUL, &why);
    if (!root) fail_msg("%s: %s", path, why.text);
    int bad = 0;
    json_array_foreach(json_object_get(root, "tokenizers"), i, answers)
    {
        anm_tokenizer *t;
        anm_error err = {0};
        struct asked a = {json_object_get(root, "texts"), json_object_get(root, "invalid"), json_object_get(root, "atoms"),
                          folder, json_string_value(json_object_get(answers, "file")), NULL, 0};
        snprintf(path, sizeof path, "%s/%s", folder, a.file);
        if (anm_tokenizer_open(&t, path, NULL, &err)) fail_msg("%s", err.text);
        a.t = t;
        if (anm_tokenizer_size(t) != json_integer_value(json_object_get(answers, "size"))) wrong(&a, "size", 0);
        if (anm_tokenizer_bos(t) != json_integer_value(json_object_get(answers, "bos"))) wrong(&a, "bos", 0);
        if (anm_tokenizer_eos(t) != json_integer_value(json_object_get(answers, "eos"))) wrong(&a, "eos", 0);
        if (anm_tokenizer_add_bos(t) != json_integer_value(json_object_get(answers, "add_bos"))) wrong(&a, "add_bos", 0);
        compare_texts(&a, answers);
        compare_mixes(&a, answers);
        compare_decoding(&a, answers);
        compare_long(&a, answers);
        bad += a.wrong;
        anm_tokenizer_free(t);
    }
    assert_true(i > 0);
    json_decref(root);
    assert_int_equal(bad, 0);
}

static void tiny_tokenizers_answer_as_their_originals(void **state)
{
    (void)state;
    compare_folder("test/data/token");
}

static void real_tokenizers_answer_as_their_originals(void **state)
{
    (void)state;
    const char *folder = getenv("ANEMONE_TOKENIZERS");
    if (!folder || !*folder) skip();
    compare_folder(folder);
}

/* ---- bad input ---- */

static const char *const files[] = {"tiktoken.model",   "tekken.json",      "spm_bpe.model",      "spm_bpe_rules.model", "spm_unigram.model",
                                    "hf_legacy.json",   "hf_splits.json",   "gguf_smollm.gguf",   "gguf_llama.gguf"};

static void open_file(anm_map *map, const char *name)
{
    char path[256];
    anm_error err = {0};
    snprintf(path, sizeof path, "test/data/token/%s", name);
    if (anm_map_open(map, path, &err)) fail_msg("%s", err.text);
}

/* Opens; what opens must also encode and decode. */
static void try_bytes(const uint8_t *data, size_t n)
{
    static const char text[] = "Hello  w\xC3\xB6rld 123 <s>\n\xE2\x96\x81 the the";
    anm_tokenizer *t;
    anm_error err = {0};
    int32_t *ids;
    size_t count, size;
    char *back;
    if (anm_tokenizer_parse(&t, data, n, "FILE", &err)) {
        assert_null(t);
        assert_memory_equal(err.text, "FILE: ", 6);
        assert_null(strchr(err.text, '\n'));
        return;
    }
    if (anm_tokenizer_encode(&ids, &count, t, text, sizeof text - 1, true, &err) == 0) {
        for (size_t i = 0; i < count; i++) assert_in_range(ids[i], 0, anm_tokenizer_size(t) - 1);
        if (anm_tokenizer_decode(&back, &size, t, ids, count, true, &err) == 0) free(back);
        free(ids);
    }
    anm_tokenizer_free(t);
}

static void files_cut_short_or_spoilt_never_crash(void **state)
{
    (void)state;
    uint64_t random = 7;
    for (size_t f = 0; f < sizeof files / sizeof *files; f++) {
        anm_map map;
        open_file(&map, files[f]);
        size_t n = (size_t)map.size;
        uint8_t *copy = malloc(n);
        assert_non_null(copy);
        for (size_t cut = 1; cut < n; cut += n / 60 + 1) try_bytes(map.data, cut);
        for (int k = 0; k < 150; k++) {
            memcpy(copy, map.data, n);
            for (int flips = 1 + k % 4; flips; flips--) {
                random = random * 6364136223846793005u + 1442695040888963407u;
                size_t at = (size_t)(random >> 33) % (k % 2 ? n : n < 400 ? n : 400); /* every other time in the head */
                copy[at] = (uint8_t)(k % 3 ? copy[at] ^ 1u << (random >> 20) % 8 : random >> 24);
            }
            try_bytes(copy, n);
        }
        free(copy);
        anm_map_close(&map);
    }
}

static void refused(const char *text, size_t n, const char *says)
{
    anm_tokenizer *t;
    anm_error err = {0};
    assert_true(anm_tokenizer_parse(&t, (const uint8_t *)text, n, "FILE", &err) < 0);
    if (!strstr(err.text, says)) fail_msg("refused with: %s (wanted: %s)", err.text, says);
}

static void each_malformation_is_named(void **state)
{
    (void)state;
#define MODEL(vocab, merges) "{\"model\":{\"type\":\"BPE\",\"vocab\":{" vocab "},\"merges\":[" merges "]}"
#define AB "\"a\":0,\"b\":1,\"ab\":2"
#define TENFOLD "{\"type\":\"Replace\",\"pattern\":{\"String\":\"a\"},\"content\":\"aaaaaaaaaa\"}"
    static const struct {
        const char *text, *says;
    } cases[] = {
        {MODEL(AB, "\"a c\"") "}", "merge 0 names 'c', which is not a token"},
        {MODEL(AB, "\"b a\"") "}", "merge 0 names 'ba'"},
        {MODEL(AB, "\"ab\"") "}", "merge 0 is not two tokens"},
        {MODEL(AB, "[\"a\"]") "}", "merge 0 is not two tokens"},
        {MODEL("\"a\":0,\"b\":0", "") "}", "given twice"},
        {MODEL("\"a\":-1", "") "}", "not a number that can be one"},
        {MODEL("\"a\":99999999", "") "}", "only 1 tokens"},
        {MODEL(AB, "") ",\"normalizer\":{\"type\":\"BertNormalizer\"}}", "normalizer BertNormalizer"},
        {MODEL(AB, "") ",\"pre_tokenizer\":{\"type\":\"UnicodeScripts\"}}", "pre-tokenizer UnicodeScripts"},
        {MODEL(AB, "") ",\"decoder\":{\"type\":\"CTC\"}}", "decoder CTC"},
        {MODEL(AB, "") ",\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(a\"},\"behavior\":\"Isolated\"}}", "PCRE2 refuses"},
        {MODEL(AB, "") ",\"added_tokens\":[{\"id\":1,\"content\":\"x\"}]}", "has the id of"},
        {MODEL(AB, "") ",\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[" TENFOLD "," TENFOLD "," TENFOLD "]},"
                       "\"added_tokens\":[{\"id\":3,\"content\":\"aa\"}]}", "the normalizers make more than 320 bytes of 2"},
        {MODEL(AB, "") ",\"decoder\":{\"type\":\"Sequence\",\"decoders\":[" TENFOLD "," TENFOLD "," TENFOLD "]}}",
         "the decoders make more than 288 bytes of 1"},
        {MODEL(AB, "") ",\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"\\\\Ga\"},\"behavior\":\"Isolated\"}}", "escape \\G"},
        {"{\"model\":{\"type\":\"Unigram\",\"vocab\":{}}}", "type Unigram"},
        {"{\"model\":{}}", "no model with a vocabulary"},
        {"{\"a\":1}", "neither a tokenizer.json nor a tekken.json"},
        {"{\"a\":", "not valid JSON"},
        {"YQ== 0\nYg== 0\n", "given twice"},
        {"YQ== 0\nYg== 7\n", "rank 7 in a list of 2"},
        {"YQ== 0\nY 1\n", "not base64"},
        {"YQ== 0\nYg==\n", "without a rank"},
        {"YQ== 0\nYg== 1\n", "byte 0x00 alone"},
        {"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "FILE: is a pointer of Git LFS"},
        {"\x0a\x05hello", "SentencePiece's"},
        {"\x12\x02\x18\x03\x0a\x03\x0a\x01x", "by words"},
        {"\x12\x02\x18\x02\x0a\x03\x0a\x01x", "stands for the unknown"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) refused(cases[i].text, strlen(cases[i].text), cases[i].says);
    char longest[ANM_TOKEN_LONGEST + 200];
    snprintf(longest, sizeof longest, MODEL(AB, "") ",\"normalizer\":{\"type\":\"NFC\"},\"added_tokens\":[{\"id\":3,\"content\":\"%0*d\"}]}",
             ANM_TOKEN_LONGEST + 1, 0);
    refused(longest, strlen(longest), "1025 bytes long; at most 1024");
    refused("GGUF\3\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 24, "no tokenizer");
}

static void a_pattern_that_runs_away_is_stopped(void **state)
{
    (void)state;
    static const char file[] = MODEL(AB, "") ",\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(a+)+$\"},"
                                             "\"behavior\":\"Isolated\"}}";
    anm_tokenizer *t;
    anm_error err = {0};
    int32_t *ids;
    size_t n;
    char text[60];
    memset(text, 'a', sizeof text);
    text[59] = 'b';
    if (anm_tokenizer_parse(&t, (const uint8_t *)file, sizeof file - 1, "FILE", &err)) fail_msg("%s", err.text);
    assert_int_equal(anm_tokenizer_encode(&ids, &n, t, text, sizeof text, false, &err), ANM_ERR_LIMIT);
    assert_memory_equal(err.text, "FILE: the tokenizer", 19);
    assert_non_null(strstr(err.text, "pattern"));
    assert_null(ids);
    assert_int_equal(anm_tokenizer_encode(&ids, &n, t, text, 10, false, &err), 0);
    assert_int_equal(n, 10);
    free(ids);
    anm_tokenizer_free(t);
}

/* PCRE2 counts neither the characters that a loop goes through nor the places where a search begins in vain: time is what
 * is measured. Here it is over from the start, so that the first look at it must be the last. */
static void a_search_that_takes_too_long_is_stopped(void **state)
{
    (void)state;
    enum { LETTERS = 100000 };
    static const char pattern[] = "(?<=a)a*[cd]|e"; /* quadratic: a step at every place, and each goes to the end */
    char *text = malloc(LETTERS);
    anm_stage stage;
    anm_matcher m = {0};
    anm_error err = {0};
    size_t start, end;
    assert_non_null(text);
    memset(text, 'a', LETTERS);
    text[LETTERS - 1] = 'e';
    if (anm_stage_open(&stage, pattern, sizeof pattern - 1, ANM_DIALECT_RUST, ANM_SPLIT_ISOLATED, false, &err)) fail_msg("%s", err.text);
    assert_int_equal(anm_matcher_allow(&m, LETTERS, &err), 0);
    const uint64_t until = m.until;
    m.until = m.asked = 0;
    assert_int_equal(anm_match(&m, 0, stage.code, text, LETTERS, 0, &start, &end, &err), ANM_ERR_LIMIT);
    assert_non_null(strstr(err.text, "too long"));
    m.until = until; /* and the parts of a search that had the time find what one would */
    assert_int_equal(anm_match(&m, 0, stage.code, text, LETTERS, LETTERS - 10000, &start, &end, &err), 1);
    assert_true(start == LETTERS - 1 && end == LETTERS);
    anm_matcher_close(&m);
    anm_stage_close(&stage);
    free(text);
}

/* A search in parts, from character to character: the first match, what stands before it, and the end. */
static void searches_in_parts_find_the_same(void **state)
{
    (void)state;
    enum { CHARS = 3000 };
    static const struct {
        const char *pattern;
        size_t at, end; /* in characters of three bytes; an x stands at 2000, a y is the last */
    } cases[] = {{"x", 2000, 2001}, {"(?<=x)\\S", 2001, 2002}, {"\\S(?=y)", CHARS - 1, CHARS}, {"$", CHARS + 1, CHARS + 1}, {"^x|y", CHARS, CHARS + 1}};
    anm_buf text = {0};
    anm_error err = {0};
    for (size_t i = 0; i < CHARS; i++) anm_buf_puts(&text, i == 2000 ? "x" : "\xE2\x96\x81");
    anm_buf_puts(&text, "y");
    assert_false(text.bad);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        anm_stage stage;
        anm_matcher m = {0};
        size_t start, end, want[2] = {cases[i].at, cases[i].end};
        for (int k = 0; k < 2; k++) /* bytes */
            want[k] = want[k] * 3 - (want[k] > 2000 ? 2 : 0) - (want[k] > CHARS ? 2 : 0);
        if (anm_stage_open(&stage, cases[i].pattern, strlen(cases[i].pattern), ANM_DIALECT_RUST, ANM_SPLIT_ISOLATED, false, &err)) fail_msg("%s", err.text);
        assert_int_equal(anm_matcher_allow(&m, text.size, &err), 0);
        m.reach = 1;
        assert_int_equal(anm_match(&m, 0, stage.code, (const char *)text.data, text.size, 0, &start, &end, &err), 1);
        assert_int_equal(start, want[0]);
        assert_int_equal(end, want[1]);
        anm_matcher_close(&m);
        anm_stage_close(&stage);
    }
    anm_buf_free(&text);
}

/* Such a match is the last one, and no failure. */
static void a_pattern_may_match_nothing_at_the_end(void **state)
{
    (void)state;
    static const char *const files_of[] = {
        MODEL(AB, "\"a b\"") ",\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"b*\"},\"behavior\":\"Isolated\"}}",
        MODEL(AB, "\"a b\"") ",\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"$\"},\"content\":\"b\"}}",
    };
    for (int i = 0; i < 2; i++) {
        anm_tokenizer *t;
        anm_error err = {0};
        int32_t *ids;
        size_t n;
        if (anm_tokenizer_parse(&t, (const uint8_t *)files_of[i], strlen(files_of[i]), "FILE", &err)) fail_msg("%s", err.text);
        assert_int_equal(anm_tokenizer_encode(&ids, &n, t, "ba", 2, false, &err), 0);
        assert_int_equal(n, 2);
        assert_int_equal(ids[0], 1);
        assert_int_equal(ids[1], i ? 2 : 0);
        free(ids);
        anm_tokenizer_free(t);
    }
}

/* A word as long as the text: merging must not take quadratic time (this test would not end). */
static void a_megabyte_of_one_letter(void **state)
{
    (void)state;
    size_t size = 1 << 20;
    char *text = malloc(size);
    assert_non_null(text);
    for (size_t f = 0; f < sizeof files / sizeof *files; f++) {
        anm_map map;
        anm_tokenizer *t;
        anm_error err = {0};
        int32_t *ids;
        size_t n, back_n;
        char *back;
        open_file(&map, files[f]);
        if (anm_tokenizer_parse(&t, map.data, map.size, files[f], &err)) fail_msg("%s", err.text);
        memset(text, f % 2 ? 'e' : ' ', size);
        if (anm_tokenizer_encode(&ids, &n, t, text, size, false, &err)) fail_msg("%s", err.text);
        if (anm_tokenizer_decode(&back, &back_n, t, ids, n, false, &err)) fail_msg("%s", err.text);
        if (f % 2) assert_true(back_n == size && memcmp(back, text, size) == 0);
        free(back);
        free(ids);
        anm_tokenizer_free(t);
        anm_map_close(&map);
    }
    free(text);
}

/* ---- tables ---- */

/* Keys that all fell into one place while the hashes were the same in every process: these products were their hashes. */
static uint64_t prepared(uint64_t i)
{
    static const uint64_t by = 0xf1de83e19937733du; /* the inverse of 0x9e3779b97f4a7c15 */
    return i * by;
}

static uint64_t prepared_string(uint64_t i)
{
    static const uint64_t by = 0xcfee444d8b59a89bu; /* the inverse of 0xd6e8feb86659fd93 */
    uint64_t h = (0x12345678ull << 32 | i) * by;
    h = (h ^ h >> 32) * by;
    h = (h ^ h >> 32) * by;
    return h ^ 0xf1bbcdcbfa53e0a8u;
}

/* The most slots that follow each other and are taken: what a search may have to walk through. */
static size_t longest_run(const bool *taken, size_t n)
{
    size_t longest = 0, run = 0;
    for (size_t i = 0; i < 2 * n && run < n; i++) {
        run = taken[i % n] ? run + 1 : 0;
        if (run > longest) longest = run;
    }
    return longest;
}

static void tables_cannot_be_prepared_for(void **state)
{
    (void)state;
    enum { KEYS = 10000, MOST = 1000 };
    anm_arena a;
    anm_strmap strings;
    anm_pairmap pairs;
    static uint64_t key[KEYS];
    anm_arena_init(&a);
    assert_true(anm_strmap_init(&strings, &a, KEYS) && anm_pairmap_init(&pairs, &a, KEYS));
    for (int i = 0; i < KEYS; i++) {
        key[i] = prepared_string((uint64_t)i);
        assert_true(anm_strmap_add(&strings, (const char *)&key[i], sizeof key[i], i));
    }
    uint32_t rank = 0;
    for (uint64_t i = 0; rank < KEYS; i++)
        if (!(prepared(i) >> 63 || prepared(i) >> 31 & 1))
            anm_pairmap_set(&pairs, (int32_t)(prepared(i) >> 32), (int32_t)(prepared(i) & UINT32_MAX), rank++, 0);
    for (int i = 0; i < KEYS; i++) assert_int_equal(anm_strmap_get(&strings, (const char *)&key[i], sizeof key[i]), i);

    bool *taken = calloc(strings.mask + pairs.mask + 2, sizeof *taken);
    assert_non_null(taken);
    for (size_t i = 0; i <= strings.mask; i++) taken[i] = strings.slot[i].value;
    assert_true(longest_run(taken, strings.mask + 1) < MOST);
    for (size_t i = 0; i <= pairs.mask; i++) taken[i] = pairs.slot[i].left >= 0;
    assert_true(longest_run(taken, pairs.mask + 1) < MOST);
    free(taken);
    anm_arena_free(&a);
}

static void what_a_tokenizer_says_of_itself(void **state)
{
    (void)state;
    anm_tokenizer *t;
    anm_error err = {0};
    const char *p;
    size_t n;
    if (anm_tokenizer_open(&t, "test/data/token/tiktoken.model", NULL, &err)) fail_msg("%s", err.text);
    int32_t eot = anm_tokenizer_id(t, "<|eot_id|>");
    assert_string_equal(anm_tokenizer_kind(t), "tiktoken");
    assert_true(anm_tokenizer_is_stop(t, eot) && anm_tokenizer_is_special(t, eot));
    assert_false(anm_tokenizer_is_stop(t, 5));
    assert_false(anm_tokenizer_is_stop(t, -1));
    assert_int_equal(anm_tokenizer_id(t, "no such token"), -1);
    anm_tokenizer_piece(&p, &n, t, eot, false);
    assert_int_equal(n, 0);
    anm_tokenizer_piece(&p, &n, t, eot, true);
    assert_true(n == 10 && memcmp(p, "<|eot_id|>", 10) == 0);
    char *text;
    const int32_t bad = anm_tokenizer_size(t);
    assert_int_equal(anm_tokenizer_decode(&text, &n, t, &bad, 1, true, &err), ANM_ERR_LIMIT);
    assert_null(text);
    anm_tokenizer_free(t);
    assert_int_equal(anm_tokenizer_open(&t, "test/data/token/no-such-file", NULL, &err), ANM_ERR_IO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tiny_tokenizers_answer_as_their_originals),
        cmocka_unit_test(real_tokenizers_answer_as_their_originals),
        cmocka_unit_test(files_cut_short_or_spoilt_never_crash),
        cmocka_unit_test(each_malformation_is_named),
        cmocka_unit_test(a_pattern_that_runs_away_is_stopped),
        cmocka_unit_test(a_pattern_may_match_nothing_at_the_end),
        cmocka_unit_test(a_search_that_takes_too_long_is_stopped),
        cmocka_unit_test(searches_in_parts_find_the_same),
        cmocka_unit_test(a_megabyte_of_one_letter),
        cmocka_unit_test(tables_cannot_be_prepared_for),
        cmocka_unit_test(what_a_tokenizer_says_of_itself),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
