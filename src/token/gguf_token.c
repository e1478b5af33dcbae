/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The tokenizer inside a GGUF file: keys tokenizer.ggml.* (ggml-org/ggml, docs/gguf.md). Model `gpt2` is byte-level
 * byte-pair merging, its patterns named by tokenizer.ggml.pre; model `llama` is SentencePiece's.
 */
#include "ckpt/gguf.h"
#include "token/bpe.h"
#include "token/bytelevel.h"
#include "token/spm.h"

#include <stdlib.h>
#include <string.h>

/* Types of tokens, tokenizer.ggml.token_type. */
enum { NORMAL = 1, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE };

/* ---- patterns ---- */

#define CONTRACTION "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define TAIL " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define UPPER "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define LOWER "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"

#define GPT2 "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"
#define LLAMA3 CONTRACTION "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}|" TAIL
#define QWEN2 CONTRACTION "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}|" TAIL
#define TEKKEN                                                                                                         \
    "[^\\r\\n\\p{L}\\p{N}]?" UPPER "*" LOWER "+|[^\\r\\n\\p{L}\\p{N}]?" UPPER "+" LOWER                                \
    "*|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define DIGIT "\\p{N}"
#define PUNCTUATION "[\\p{P}\\$\\+<=>\\^~\\|]+"

enum { MAX_PATTERNS = 4 };

/* Names of tokenizer.ggml.pre that Llama-like models carry (as llama.cpp's converter writes them), the patterns in
 * order, and two habits: words that are tokens are taken whole; a BOS goes first unless the file says otherwise. */
static const struct pre {
    const char *name;
    const char *pattern[MAX_PATTERNS]; /* NULL after the last */
    bool whole, bos;
} pres[] = {
    {"default", {PUNCTUATION, GPT2, "\\p{N}+", "[0-9][0-9][0-9]"}, false, false},
    {"gpt-2", {GPT2}, false, false},
    {"gpt2", {GPT2}, false, false},
    {"phi-2", {GPT2}, false, false},
    {"olmo", {GPT2}, false, false},
    {"dbrx", {LLAMA3}, false, false},
    {"smaug-bpe", {LLAMA3}, false, false},
    {"llama3", {LLAMA3}, true, true},
    {"llama-v3", {LLAMA3}, true, true},
    {"llama-bpe", {LLAMA3}, true, true},
    {"falcon3", {LLAMA3}, true, true},
    {"qwen2", {QWEN2}, false, false},
    {"deepseek-r1-qwen", {QWEN2}, false, false},
    {"stablelm2", {QWEN2}, false, false},
    {"smollm", {DIGIT, GPT2}, false, false},
    {"starcoder", {DIGIT, GPT2}, false, false},
    {"refact", {DIGIT, GPT2}, false, false},
    {"command-r", {DIGIT, GPT2}, false, false},
    {"exaone", {DIGIT, GPT2}, false, false},
    {"tekken", {TEKKEN}, true, true},
};

static const struct pre *find_pre(const char *name, size_t n)
{
    for (size_t i = 0; i < sizeof pres / sizeof *pres; i++)
        if (strlen(pres[i].name) == n && memcmp(pres[i].name, name, n) == 0) return &pres[i];
    return NULL;
}

/* ---- tokens ---- */

/* A token's id by its key: -1 where the file has none, or says so (-1, of 32 bits without a sign too). */
static int id_key(int32_t *id, const anm_gguf *g, const char *key, int32_t size, anm_error *err)
{
    int64_t v = -1;
    *id = -1;
    int rc = anm_gguf_read_int(&v, g, key, err);
    if (rc || v == -1 || v == UINT32_MAX) return rc;
    if (v < 0 || v >= size) return anm_fail(err, ANM_ERR_FORMAT, "%s is %lld, of %d tokens", key, (long long)v, size);
    *id = (int32_t)v;
    return 0;
}

/* Keys that both models have. */
static int common(anm_tokenizer *t, const anm_gguf *g, anm_error *err)
{
    static const char add_bos_key[] = "tokenizer.ggml.add_bos_token";
    const char *s = NULL;
    size_t n = 0;
    int64_t add_bos = 0, add_eos = 0;
    int32_t id;
    int rc = id_key(&t->bos, g, "tokenizer.ggml.bos_token_id", t->size, err);
    if (rc || (rc = id_key(&t->eos, g, "tokenizer.ggml.eos_token_id", t->size, err))) return rc;
    if ((rc = anm_gguf_read_int(&add_bos, g, add_bos_key, err))) return rc;
    if (anm_gguf_kind(g, add_bos_key)) t->add_bos = add_bos != 0;
    if ((rc = anm_gguf_read_int(&add_eos, g, "tokenizer.ggml.add_eos_token", err))) return rc;
    if (add_eos)
        return anm_fail(err, ANM_ERR_UNSUPPORTED, "tokenizer.ggml.add_eos_token: it would end each text before it goes on");
    static const char *const stops[] = {"tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"};
    for (int i = 0; i < 2; i++) {
        if ((rc = id_key(&id, g, stops[i], t->size, err))) return rc;
        if (id >= 0) t->piece[id].flags |= ANM_PIECE_STOP;
    }
    if ((rc = anm_gguf_read_string(&s, &n, g, "tokenizer.chat_template", err)) || !s) return rc;
    t->chat_template = anm_arena_strndup(&t->arena, s, n);
    return t->chat_template ? 0 : anm_fail_memory(err, "the chat template");
}

/* What ends a turn: a control token whatever the file says, as some converters gave them the type of a word. */
static bool ends_turn(const char *s, size_t n)
{
    static const char *const names[] = {"<|eot_id|>", "<|eom_id|>", "<|im_end|>", "<|end|>", "<|endoftext|>", "<end_of_turn>", "<EOT>"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strlen(names[i]) == n && memcmp(names[i], s, n) == 0) return true;
    return false;
}

static const char types_key[] = "tokenizer.ggml.token_type";

/* Without types all tokens are words; types that cannot be read, or are some other tokens', are not passed over. */
static int check_types(const anm_tokenizer *t, const anm_gguf *g, anm_error *err)
{
    size_t n;
    int64_t v;
    if (!anm_gguf_array(g, types_key, &n)) return anm_gguf_absent(g, types_key, "a list of whole numbers", err);
    if (n != (size_t)t->size) return anm_fail(err, ANM_ERR_FORMAT, "%s has %zu types for %d tokens", types_key, n, t->size);
    if (anm_gguf_array_int(g, types_key, 0, &v)) return 0;
    return anm_fail(err, ANM_ERR_FORMAT, "%s is not a list of whole numbers", types_key);
}

/* The type of token i, which is spelled s[0 … n). */
static int type_of(const anm_gguf *g, size_t i, const char *s, size_t n)
{
    int64_t v;
    if (ends_turn(s, n)) return CONTROL;
    return anm_gguf_array_int(g, types_key, i, &v) && v >= NORMAL && v <= BYTE ? (int)v : NORMAL;
}

static unsigned flags_of_type(int type)
{
    switch (type) {
    case UNKNOWN: return ANM_PIECE_UNKNOWN | ANM_PIECE_SPECIAL;
    case CONTROL: return ANM_PIECE_SPECIAL;
    case USER_DEFINED: return ANM_PIECE_USER;
    case UNUSED: return ANM_PIECE_UNUSED;
    case BYTE: return ANM_PIECE_BYTE;
    default: return 0;
    }
}

static int token(const anm_gguf *g, size_t i, const char **s, size_t *n, anm_error *err)
{
    if (!anm_gguf_array_string(g, "tokenizer.ggml.tokens", i, s, n))
        return anm_fail(err, ANM_ERR_FORMAT, "tokenizer.ggml.tokens is not a list of strings");
    if (anm_utf8_valid(*s, *n) != *n) return anm_fail(err, ANM_ERR_FORMAT, "token %zu is not valid UTF-8", i);
    return 0;
}

static int set_bytelevel(anm_tokenizer *t, const anm_gguf *g, size_t i, anm_error *err)
{
    const char *s;
    size_t n, size = 0;
    int rc = token(g, i, &s, &n, err);
    if (rc) return rc;
    unsigned flags = flags_of_type(type_of(g, i, s, n)) & ~(unsigned)ANM_PIECE_BYTE;
    char *bytes = flags & (ANM_PIECE_SPECIAL | ANM_PIECE_USER) ? NULL : malloc(n + 1);
    bool spelled = bytes && anm_bytelevel_decode(bytes, &size, s, n);
    rc = anm_tokenizer_set(t, (int32_t)i, s, n, spelled ? bytes : NULL, size, flags, err);
    free(bytes);
    return rc;
}

/* ---- merges ---- */

/* The merge "left right": ids of both and of what they become. */
static int set_merge(anm_bpe *b, const anm_tokenizer *t, const char *s, size_t n, size_t rank, char *joined, anm_error *err)
{
    const char *space = n > 1 ? memchr(s + 1, ' ', n - 1) : NULL; /* a token may itself be a space */
    if (!space || space + 1 == s + n)
        return anm_fail(err, ANM_ERR_FORMAT, "merge %zu is not two tokens with a space between: '%.*s'", rank,
                        n > 80 ? 80 : (int)n, s);
    size_t left_n = (size_t)(space - s), right_n = n - left_n - 1;
    memcpy(joined, s, left_n);
    memcpy(joined + left_n, space + 1, right_n);
    int32_t left = anm_strmap_get(&t->by_spell, s, left_n), right = anm_strmap_get(&t->by_spell, space + 1, right_n);
    int32_t to = anm_strmap_get(&t->by_spell, joined, left_n + right_n);
    if (left < 0 || right < 0 || to < 0)
        return anm_fail(err, ANM_ERR_FORMAT, "merge %zu names '%.*s', which is not a token", rank,
                        (int)(left < 0    ? (left_n > 80 ? 80 : left_n)
                              : right < 0 ? (right_n > 80 ? 80 : right_n)
                                          : (left_n + right_n > 80 ? 80 : left_n + right_n)),
                        left < 0 ? s : right < 0 ? space + 1 : joined);
    anm_pairmap_set(&b->pairs, left, right, (uint32_t)rank, to);
    return 0;
}

static int read_merges(anm_bpe *b, anm_tokenizer *t, const anm_gguf *g, anm_error *err)
{
    static const char key[] = "tokenizer.ggml.merges";
    const char *s;
    size_t n, count, longest = 0;
    if (!anm_gguf_array(g, key, &count)) {
        int rc = anm_gguf_absent(g, key, "a list of strings", err);
        return rc ? rc : anm_fail(err, ANM_ERR_FORMAT, "%s is not there", key);
    }
    if (count >= UINT32_MAX || !anm_pairmap_init(&b->pairs, &t->arena, count)) return anm_fail_memory(err, "the merges");
    for (size_t i = 0; i < count; i++) {
        if (!anm_gguf_array_string(g, key, i, &s, &n)) return anm_fail(err, ANM_ERR_FORMAT, "%s is not a list of strings", key);
        if (n > longest) longest = n;
    }
    char *joined = malloc(longest + 1);
    int rc = joined ? 0 : anm_fail_memory(err, "the merges");
    for (size_t i = 0; !rc && i < count; i++) {
        anm_gguf_array_string(g, key, i, &s, &n);
        rc = set_merge(b, t, s, n, i, joined, err);
    }
    free(joined);
    return rc;
}

/* ---- model gpt2 ---- */

static int encode_text(anm_encoding *e, const char *text, size_t n)
{
    return anm_bpe_encode(e, e->t->format, text, n);
}

static int settle(anm_tokenizer *t, anm_error *err)
{
    (void)err;
    anm_bpe_settle(t->format, t);
    return 0;
}

static void close_format(anm_tokenizer *t)
{
    if (t->format) anm_bpe_close(t->format);
}

static int read_gpt2(anm_tokenizer *t, const anm_gguf *g, anm_error *err)
{
    const char *name = NULL;
    size_t name_n;
    int rc = anm_gguf_read_string(&name, &name_n, g, "tokenizer.ggml.pre", err);
    if (rc) return rc;
    if (!name)
        return anm_fail(err, ANM_ERR_UNSUPPORTED, "tokenizer.ggml.pre is not there, so nobody can tell by which patterns "
                                                  "words are cut: give the model's own tokenizer file");
    const struct pre *pre = find_pre(name, name_n);
    if (!pre)
        return anm_fail(err, ANM_ERR_UNSUPPORTED, "tokenizer.ggml.pre is '%.*s', which no Llama-like model that we know has",
                        name_n > 60 ? 60 : (int)name_n, name);
    for (int32_t i = 0; i < t->size; i++)
        if ((rc = set_bytelevel(t, g, (size_t)i, err))) return rc;

    anm_bpe *b = t->format = anm_arena_alloc(&t->arena, sizeof *b);
    if (!b || !(b->stage = anm_arena_array(&t->arena, MAX_PATTERNS, sizeof *b->stage))) return anm_fail_memory(err, "the tokenizer");
    t->close = close_format;
    t->settle = settle;
    t->encode_text = encode_text;
    for (; b->n_stages < MAX_PATTERNS && pre->pattern[b->n_stages]; b->n_stages++) {
        const char *p = pre->pattern[b->n_stages];
        if ((rc = anm_stage_open(&b->stage[b->n_stages], p, strlen(p), ANM_DIALECT_RUST, ANM_SPLIT_ISOLATED, false, err))) return rc;
    }
    b->bytes = true;
    b->unk = -1;
    for (int i = 0; i < 256; i++) {
        char c[4];
        b->of_byte[i] = anm_strmap_get(&t->by_spell, c, anm_utf8_put(c, anm_bytelevel_char((uint8_t)i)));
    }
    if (pre->whole) {
        b->has_whole = true;
        if (!anm_strmap_init(&b->whole, &t->arena, (size_t)t->size)) return anm_fail_memory(err, "the tokenizer's tokens");
        for (int32_t i = 0; i < t->size; i++)
            if (!(t->piece[i].flags & (ANM_PIECE_SPECIAL | ANM_PIECE_USER | ANM_PIECE_UNUSED)))
                anm_strmap_add(&b->whole, t->piece[i].text, t->piece[i].text_n, i);
    }
    if ((rc = read_merges(b, t, g, err))) return rc;
    if (t->add_bos < 0) t->add_bos = pre->bos;
    return 0;
}

/* ---- model llama ---- */

static int read_llama(anm_tokenizer *t, const anm_gguf *g, anm_error *err)
{
    anm_spm_options o = {.bpe = true, .escape_spaces = true, .byte_fallback = true, .dummy_prefix = true};
    int64_t prefix = o.dummy_prefix, remove = o.remove_extra_spaces;
    const char *s;
    size_t n, scores;
    int rc = anm_gguf_read_int(&prefix, g, "tokenizer.ggml.add_space_prefix", err);
    if (!rc) rc = anm_gguf_read_int(&remove, g, "tokenizer.ggml.remove_extra_whitespaces", err);
    if (rc) return rc;
    o.dummy_prefix = prefix != 0;
    o.remove_extra_spaces = remove != 0;
    if (!anm_gguf_array(g, "tokenizer.ggml.scores", &scores) || scores != (size_t)t->size)
        return anm_fail(err, ANM_ERR_FORMAT, "tokenizer.ggml.scores does not have one score for each token");
    float *score = anm_arena_array(&t->arena, (size_t)t->size, sizeof *score);
    if (!score) return anm_fail_memory(err, "the tokenizer's scores");
    for (int32_t i = 0; i < t->size; i++) {
        double d = 0;
        if ((rc = token(g, (size_t)i, &s, &n, err))) return rc;
        if (!anm_gguf_array_float(g, "tokenizer.ggml.scores", (size_t)i, &d) || d != d)
            return anm_fail(err, ANM_ERR_FORMAT, "tokenizer.ggml.scores is not a list of numbers");
        score[i] = (float)d;
        int type = type_of(g, (size_t)i, s, n);
        unsigned flags = type == UNKNOWN ? ANM_PIECE_UNKNOWN : flags_of_type(type); /* it has a text of its own here */
        if ((rc = anm_spm_set(t, i, s, n, flags, err))) return rc;
    }
    if ((rc = id_key(&t->unk, g, "tokenizer.ggml.unknown_token_id", t->size, err))) return rc;
    if (t->bos < 0 && t->size > 1) t->bos = 1; /* where Llama's own vocabulary has them */
    if (t->eos < 0 && t->size > 2) t->eos = 2;
    if (t->add_bos < 0) t->add_bos = 1;
    return anm_spm_prepare(t, &o, score, err);
}

/* Which of the two models is it, and of how many tokens? */
static int look(bool *gpt2, size_t *n, const anm_gguf *g, anm_error *err)
{
    static const char tokens_key[] = "tokenizer.ggml.tokens";
    const char *model = NULL;
    size_t model_n = 0;
    int rc = anm_gguf_read_string(&model, &model_n, g, "tokenizer.ggml.model", err);
    if (rc) return rc;
    *gpt2 = model && model_n == 4 && memcmp(model, "gpt2", 4) == 0;
    if (model && !*gpt2 && !(model_n == 5 && memcmp(model, "llama", 5) == 0))
        return anm_fail(err, ANM_ERR_UNSUPPORTED, "its tokenizer is of the kind '%.*s'; gpt2 and llama are read",
                        model_n > 60 ? 60 : (int)model_n, model);
    if (model && anm_gguf_array(g, tokens_key, n)) return 0;
    rc = model ? anm_gguf_absent(g, tokens_key, "a list of strings", err) : 0;
    return rc ? rc : anm_fail(err, ANM_ERR_FORMAT, "there is no tokenizer in this GGUF file");
}

int anm_gguf_tokenizer_open(anm_tokenizer **out, const uint8_t *data, uint64_t size, const char *file, anm_error *err)
{
    anm_gguf *g;
    anm_tokenizer *t = NULL;
    bool gpt2;
    size_t n;
    *out = NULL;
    int rc = anm_gguf_parse(&g, data, size, file, err);
    if (rc) return rc;
    if ((rc = look(&gpt2, &n, g, err))) goto done;
    if ((rc = anm_tokenizer_new(&t, gpt2 ? "gguf gpt2" : "gguf llama", n, size * 64 + (1 << 20), err))) goto done;
    if ((rc = common(t, g, err))) goto done;
    if ((rc = check_types(t, g, err))) goto done;
    rc = gpt2 ? read_gpt2(t, g, err) : read_llama(t, g, err);
done:
    anm_gguf_free(g);
    if (rc) anm_tokenizer_free(t);
    else *out = t;
    return rc ? anm_error_prefix(err, file) : 0;
}
