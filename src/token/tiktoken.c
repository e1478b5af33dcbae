/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * tiktoken's lists: a line for each token, its bytes in base64, a space and its rank, which is its id and its place in
 * the order of merging. What the list leaves out, the pattern and the special tokens, is Llama's: meta-llama's
 * llama-models, models/llama3/tokenizer.py and models/llama4/tokenizer.py (a list of 200,000 tokens is Llama 4's).
 */
#include "token/base64.h"
#include "token/bpe.h"

#include <jansson.h>
#include <string.h>

#define CONTRACTION "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define UPPER "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define LOWER "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"

static const char llama3_pattern[] = CONTRACTION "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*"
                                                 "|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
static const char llama4_pattern[] = "[^\\r\\n\\p{L}\\p{N}]?" UPPER "*" LOWER "+" CONTRACTION
                                     "?|[^\\r\\n\\p{L}\\p{N}]?" UPPER "+" LOWER "*" CONTRACTION
                                     "?|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

/* Special tokens follow the list in this order; a run stands for count names, of which %d counts from first. */
struct run {
    const char *name;
    int first, count;
};
static const struct run llama3_special[] = {
    {"<|begin_of_text|>", 0, 1},      {"<|end_of_text|>", 0, 1},
    {"<|reserved_special_token_%d|>", 0, 2}, {"<|finetune_right_pad_id|>", 0, 1},
    {"<|step_id|>", 0, 1},            {"<|start_header_id|>", 0, 1},
    {"<|end_header_id|>", 0, 1},      {"<|eom_id|>", 0, 1},
    {"<|eot_id|>", 0, 1},             {"<|python_tag|>", 0, 1},
    {"<|image|>", 0, 1},              {"<|reserved_special_token_%d|>", 2, 244},
    {NULL, 0, 0},
};
static const struct run llama4_special[] = {
    {"<|begin_of_text|>", 0, 1},
    {"<|end_of_text|>", 0, 1},
    {"<|fim_prefix|>", 0, 1},
    {"<|fim_middle|>", 0, 1},
    {"<|fim_suffix|>", 0, 1},
    {"<|header_start|>", 0, 1},
    {"<|header_end|>", 0, 1},
    {"<|eom|>", 0, 1},
    {"<|eot|>", 0, 1},
    {"<|step|>", 0, 1},
    {"<|text_post_train_reserved_special_token_%d|>", 0, 5},
    {"<|python_start|>", 0, 1},
    {"<|python_end|>", 0, 1},
    {"<|finetune_right_pad|>", 0, 1},
    {"<|text_post_train_reserved_special_token_%d|>", 8, 61},
    {"<|image_start|>", 0, 1},
    {"<|image_end|>", 0, 1},
    {"<|vision_reserved_special_token_%d|>", 0, 2},
    {"<|tile_x_separator|>", 0, 1},
    {"<|tile_y_separator|>", 0, 1},
    {"<|vision_reserved_special_token_%d|>", 2, 4},
    {"<|image|>", 0, 1},
    {"<|vision_reserved_special_token_%d|>", 6, 1},
    {"<|patch|>", 0, 1},
    {"<|vision_reserved_special_token_%d|>", 7, 1041},
    {"<|reasoning_reserved_special_token_%d|>", 0, 8},
    {"<|reasoning_thinking_start|>", 0, 1},
    {"<|reasoning_thinking_end|>", 0, 1},
    {"<|reserved_special_token_%d|>", 0, 2048 - 1143},
    {NULL, 0, 0},
};
enum { LLAMA4_TOKENS = 200000, LONGEST = 1024 };

struct line {
    const char *text;
    size_t text_n;
    uint64_t rank;
};

/* The line at data[*at]; *at moves past it. */
static int read_line(struct line *l, const uint8_t *data, uint64_t size, uint64_t *at, anm_error *err)
{
    uint64_t from = *at, i = from;
    while (i < size && data[i] != ' ' && data[i] != '\n') i++;
    l->text = (const char *)data + from;
    l->text_n = (size_t)(i - from);
    if (i == size || data[i] != ' ')
        return anm_fail_at(err, ANM_ERR_FORMAT, from, "a line without a rank at byte %llu (the list may be cut short)",
                           (unsigned long long)from);
    uint64_t digits = ++i;
    for (l->rank = 0; i < size && data[i] >= '0' && data[i] <= '9' && i - digits < 10; i++)
        l->rank = l->rank * 10 + (data[i] - '0');
    bool number = i > digits;
    if (i < size && data[i] == '\r') i++;
    if (!number || (i < size && data[i] != '\n'))
        return anm_fail_at(err, ANM_ERR_FORMAT, digits, "a rank that is not a number at byte %llu",
                           (unsigned long long)digits);
    *at = i < size ? i + 1 : i;
    return 0;
}

static int add_specials(anm_tokenizer *t, const struct run *run, int32_t id, anm_error *err)
{
    for (; run->name; run++) {
        const char *cut = strchr(run->name, '%');
        for (int i = 0; i < run->count; i++, id++) {
            anm_buf name = {0};
            if (cut) anm_buf_printf(&name, "%.*s%d%s", (int)(cut - run->name), run->name, run->first + i, cut + 2);
            else anm_buf_puts(&name, run->name);
            int rc = name.bad ? anm_fail_memory(err, "the special tokens")
                              : anm_tokenizer_set(t, id, (char *)name.data, name.size, NULL, 0, ANM_PIECE_SPECIAL, err);
            anm_buf_free(&name);
            if (rc) return rc;
        }
    }
    return 0;
}

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

/* The model common to tiktoken's lists and tekken's: ranked tokens at ids [base, base + n). */
static int ranked_model(anm_tokenizer *t, int32_t base, int32_t n, const char *pattern, size_t pattern_n, anm_error *err)
{
    anm_bpe *b = t->format = anm_arena_alloc(&t->arena, sizeof *b);
    anm_stage *stage = anm_arena_array(&t->arena, 1, sizeof *stage);
    if (!b || !stage) return anm_fail_memory(err, "the tokenizer");
    t->close = close_format;
    t->settle = settle;
    t->encode_text = encode_text;
    b->stage = stage;
    int rc = anm_stage_open(stage, pattern, pattern_n, ANM_DIALECT_RUST, ANM_SPLIT_ISOLATED, false, err);
    if (rc) return rc;
    b->n_stages = 1;
    return anm_bpe_from_ranks(b, t, base, n, err);
}

/* Sets token base + rank from base64; bytes that are no text are spelled as they are. */
static int set_ranked(anm_tokenizer *t, int32_t id, const char *base64, size_t n, anm_error *err)
{
    uint8_t bytes[LONGEST + 3];
    size_t size;
    if (n > LONGEST / 3 * 4)
        return anm_fail(err, ANM_ERR_LIMIT, "token %d has more than %d bytes", id, LONGEST / 3 * 3);
    if (!anm_base64_decode(bytes, &size, base64, n) || !size)
        return anm_fail(err, ANM_ERR_FORMAT, "the bytes of token %d are not base64", id);
    return anm_tokenizer_set(t, id, (char *)bytes, size, NULL, 0, 0, err);
}

int anm_tiktoken_open(anm_tokenizer **out, const uint8_t *data, uint64_t size, anm_error *err)
{
    struct line l;
    uint64_t n = 0;
    anm_tokenizer *t = NULL;
    int rc;
    *out = NULL;
    while (size && (data[size - 1] == '\n' || data[size - 1] == '\r')) size--;
    for (uint64_t at = 0; at < size; n++)
        if ((rc = read_line(&l, data, size, &at, err))) return rc;
    const struct run *special = n == LLAMA4_TOKENS ? llama4_special : llama3_special;
    uint64_t specials = 0;
    for (const struct run *r = special; r->name; r++) specials += (uint64_t)r->count;
    if ((rc = anm_tokenizer_new(&t, "tiktoken", n + specials, size * 96 + (1 << 20), err))) return rc;
    for (uint64_t at = 0; at < size;) {
        if ((rc = read_line(&l, data, size, &at, err))) goto done;
        if (l.rank >= n) {
            rc = anm_fail(err, ANM_ERR_FORMAT, "rank %llu in a list of %llu tokens (the list may be cut short)",
                          (unsigned long long)l.rank, (unsigned long long)n);
            goto done;
        }
        if ((rc = set_ranked(t, (int32_t)l.rank, l.text, l.text_n, err))) goto done;
    }
    if ((rc = add_specials(t, special, (int32_t)n, err))) goto done;
    t->bos = (int32_t)n;
    t->eos = (int32_t)n + 1;
    if (n == LLAMA4_TOKENS)
        rc = ranked_model(t, 0, (int32_t)n, llama4_pattern, sizeof llama4_pattern - 1, err);
    else rc = ranked_model(t, 0, (int32_t)n, llama3_pattern, sizeof llama3_pattern - 1, err);
done:
    if (rc) anm_tokenizer_free(t);
    else *out = t;
    return rc;
}

/* ---- tekken.json: the same kind of list as JSON, with its pattern, special tokens first (mistral-common) ---- */

/* The names that special tokens have in files without a list of them. */
static const char *const tekken_special[] = {
    "<unk>",      "<s>",          "</s>",           "[INST]",          "[/INST]",
    "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_RESULTS]", "[/TOOL_RESULTS]", "[TOOL_CALLS]",
    "[IMG]",      "<pad>",        "[IMG_BREAK]",    "[IMG_END]",       "[PREFIX]",
    "[MIDDLE]",   "[SUFFIX]",     "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[TOOL_CONTENT]",
};

static int tekken_specials(anm_tokenizer *t, const json_t *list, int32_t count, anm_error *err)
{
    size_t named = sizeof tekken_special / sizeof *tekken_special, i;
    json_t *v;
    int rc;
    json_array_foreach(list, i, v)
    {
        const json_t *name = json_object_get(v, "token_str"), *rank = json_object_get(v, "rank");
        json_int_t id = json_is_integer(rank) ? json_integer_value(rank) : -1;
        if (!json_is_string(name) || id < 0 || id >= count)
            return anm_fail(err, ANM_ERR_FORMAT, "special token %zu has no name or no rank below %d", i, count);
        rc = anm_tokenizer_set(t, (int32_t)id, json_string_value(name), json_string_length(name), NULL, 0,
                               ANM_PIECE_SPECIAL, err);
        if (rc) return rc;
    }
    for (int32_t id = 0; id < count; id++) {
        anm_buf name = {0};
        if (t->piece[id].spell) continue;
        if (!list && (size_t)id < named) anm_buf_puts(&name, tekken_special[id]);
        else anm_buf_printf(&name, "<SPECIAL_%d>", id);
        rc = name.bad ? anm_fail_memory(err, "the special tokens")
                      : anm_tokenizer_set(t, id, (char *)name.data, name.size, NULL, 0, ANM_PIECE_SPECIAL, err);
        anm_buf_free(&name);
        if (rc) return rc;
    }
    return 0;
}

int anm_tekken_open(anm_tokenizer **out, const json_t *root, uint64_t size, anm_error *err)
{
    const json_t *config = json_object_get(root, "config"), *vocab = json_object_get(root, "vocab");
    const json_t *pattern = json_object_get(config, "pattern");
    json_int_t all = json_integer_value(json_object_get(config, "default_vocab_size"));
    json_int_t special = json_integer_value(json_object_get(config, "default_num_special_tokens"));
    anm_tokenizer *t = NULL;
    size_t i;
    json_t *v;
    *out = NULL;
    if (!json_is_string(pattern)) return anm_fail(err, ANM_ERR_FORMAT, "config.pattern is not a text");
    if (special < 0 || all <= special || (uint64_t)(all - special) > json_array_size(vocab) || (uint64_t)special > size)
        return anm_fail(err, ANM_ERR_FORMAT, "%lld ids, %lld of them special, do not fit %zu tokens", (long long)all,
                        (long long)special, json_array_size(vocab));
    int rc = anm_tokenizer_new(&t, "tekken", (uint64_t)all, size * 96 + (1 << 20), err);
    if (rc) return rc;
    if ((rc = tekken_specials(t, json_object_get(root, "special_tokens"), (int32_t)special, err))) goto done;
    json_array_foreach(vocab, i, v)
    {
        const json_t *bytes = json_object_get(v, "token_bytes"), *rank = json_object_get(v, "rank");
        if (!json_is_string(bytes) || !json_is_integer(rank)) {
            rc = anm_fail(err, ANM_ERR_FORMAT, "token %zu of the vocabulary has no bytes or no rank", i);
            goto done;
        }
        json_int_t id = json_integer_value(rank);
        if (id >= all - special) continue; /* the list may be longer than the model's vocabulary */
        if (id < 0) rc = anm_fail(err, ANM_ERR_FORMAT, "token %zu of the vocabulary has the rank %lld", i, (long long)id);
        else rc = set_ranked(t, (int32_t)(special + id), json_string_value(bytes), json_string_length(bytes), err);
        if (rc) goto done;
    }
    for (int32_t id = 0; id < t->size; id++)
        if (!t->piece[id].spell) {
            rc = anm_fail(err, ANM_ERR_FORMAT, "no token of the vocabulary has the rank %d", id - (int32_t)special);
            goto done;
        }
    t->bos = anm_strmap_get(&t->by_spell, "<s>", 3);
    t->eos = anm_strmap_get(&t->by_spell, "</s>", 4);
    rc = ranked_model(t, (int32_t)special, (int32_t)(all - special), json_string_value(pattern),
                      json_string_length(pattern), err);
done:
    if (rc) anm_tokenizer_free(t);
    else *out = t;
    return rc;
}
