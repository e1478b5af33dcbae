/* SPDX-License-Identifier: BSD-3-Clause */
/* The pre-tokenizers of tokenizer.json: all of them become stages of patterns, but for what Metaspace and ByteLevel do
 * to the text before that. */
#include "token/hf.h"

#include <string.h>

#define GPT2 "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"

static int way_of(anm_split_way *way, const json_t *json, const char *otherwise, anm_error *err)
{
    static const char *const names[] = {"Isolated", "Removed", "MergedWithPrevious", "MergedWithNext", "Contiguous"};
    const char *name = json_string_value(json_object_get(json, "behavior"));
    if (!name) name = otherwise;
    for (int i = 0; i < 5; i++)
        if (strcmp(name, names[i]) == 0) {
            *way = (anm_split_way)i;
            return 0;
        }
    return anm_fail(err, ANM_ERR_UNSUPPORTED, "a pre-tokenizer's behaviour '%.40s' is not one that we know", name);
}

static int add_pattern(anm_pre *p, const char *pattern, anm_split_way way, bool invert, anm_error *err)
{
    return anm_stage_open(&p->stage[p->n_stages++], pattern, strlen(pattern), ANM_DIALECT_RUST, way, invert, err);
}

static int read_split(anm_pre *p, const json_t *json, anm_arena *a, anm_error *err)
{
    const json_t *pattern = json_object_get(json, "pattern");
    size_t n, m;
    anm_split_way way = ANM_SPLIT_ISOLATED;
    bool invert = anm_hf_bool(json, "invert", false);
    const char *regex = anm_hf_string(pattern, "Regex", &n, a), *text = anm_hf_string(pattern, "String", &m, a);
    int rc = way_of(&way, json, "?", err);
    if (rc) return rc;
    if (!regex && !(text && m)) return anm_fail(err, ANM_ERR_FORMAT, "the pre-tokenizer Split has no pattern");
    anm_stage *s = &p->stage[p->n_stages++];
    return regex ? anm_stage_open(s, regex, n, ANM_DIALECT_ONIGURUMA, way, invert, err)
                 : anm_stage_open_literal(s, text, m, way, invert, err);
}

static int read_bytelevel(anm_pre *p, const json_t *json, anm_error *err)
{
    p->bytes = true;
    if (anm_hf_bool(json, "add_prefix_space", true)) {
        if (p->n_stages || p->space)
            return anm_fail(err, ANM_ERR_UNSUPPORTED, "the pre-tokenizer ByteLevel adds a space after another one has cut");
        p->prefix = ANM_PREFIX_ALWAYS;
    }
    return anm_hf_bool(json, "use_regex", true) ? add_pattern(p, GPT2, ANM_SPLIT_ISOLATED, false, err) : 0;
}

static int read_metaspace(anm_pre *p, const json_t *json, anm_arena *a, anm_error *err)
{
    if (p->n_stages || p->space)
        return anm_fail(err, ANM_ERR_UNSUPPORTED, "the pre-tokenizer Metaspace does not come first");
    p->space = anm_hf_string(json, "replacement", &p->space_n, a);
    if (!p->space || !p->space_n) return anm_fail(err, ANM_ERR_FORMAT, "the pre-tokenizer Metaspace has no replacement");
    const char *scheme = json_string_value(json_object_get(json, "prepend_scheme"));
    if (!scheme) scheme = anm_hf_bool(json, "add_prefix_space", true) ? "always" : "never";
    if (strcmp(scheme, "always") == 0) p->prefix = ANM_PREFIX_ALWAYS;
    else if (strcmp(scheme, "first") == 0) p->prefix = ANM_PREFIX_FIRST;
    else if (strcmp(scheme, "never") == 0) p->prefix = ANM_PREFIX_NEVER;
    else return anm_fail(err, ANM_ERR_UNSUPPORTED, "Metaspace's prepend_scheme '%.40s' is not one that we know", scheme);
    if (!anm_hf_bool(json, "split", true)) return 0;
    return anm_stage_open_literal(&p->stage[p->n_stages++], p->space, p->space_n, ANM_SPLIT_WITH_NEXT, false, err);
}

static int read_one(anm_pre *p, const json_t *json, anm_arena *a, int depth, anm_error *err)
{
    const char *type = anm_hf_type(json);
    anm_split_way way = ANM_SPLIT_ISOLATED;
    size_t n;
    int rc;
    if (strcmp(type, "Sequence") == 0 && depth < 4) {
        size_t i;
        json_t *item;
        json_array_foreach(json_object_get(json, "pretokenizers"), i, item)
        {
            if ((rc = read_one(p, item, a, depth + 1, err))) return rc;
        }
        return 0;
    }
    if (p->bytes) return anm_fail(err, ANM_ERR_UNSUPPORTED, "the pre-tokenizer %s comes after ByteLevel", type);
    if (p->n_stages == ANM_MAX_STAGES) return anm_fail(err, ANM_ERR_LIMIT, "more than %d pre-tokenizers", ANM_MAX_STAGES);
    if (strcmp(type, "Split") == 0) return read_split(p, json, a, err);
    if (strcmp(type, "ByteLevel") == 0) return read_bytelevel(p, json, err);
    if (strcmp(type, "Metaspace") == 0) return read_metaspace(p, json, a, err);
    if (strcmp(type, "Digits") == 0) {
        bool each = anm_hf_bool(json, "individual_digits", false);
        return add_pattern(p, "\\p{N}", each ? ANM_SPLIT_ISOLATED : ANM_SPLIT_CONTIGUOUS, false, err);
    }
    if (strcmp(type, "Punctuation") == 0) {
        if ((rc = way_of(&way, json, "Isolated", err))) return rc;
        return add_pattern(p, "[\\p{P}!-/:-@\\[-`{-~]", way, false, err);
    }
    if (strcmp(type, "WhitespaceSplit") == 0) return add_pattern(p, "\\s", ANM_SPLIT_REMOVED, false, err);
    if (strcmp(type, "Whitespace") == 0) return add_pattern(p, "\\w+|[^\\w\\s]+", ANM_SPLIT_REMOVED, true, err);
    if (strcmp(type, "CharDelimiterSplit") == 0) {
        const char *c = anm_hf_string(json, "delimiter", &n, a);
        if (!c || !n) return anm_fail(err, ANM_ERR_FORMAT, "the pre-tokenizer CharDelimiterSplit has no delimiter");
        return anm_stage_open_literal(&p->stage[p->n_stages++], c, n, ANM_SPLIT_REMOVED, false, err);
    }
    return anm_fail(err, ANM_ERR_UNSUPPORTED, "the pre-tokenizer %s is not one that we do", type);
}

int anm_pre_read(anm_pre *p, const json_t *json, anm_arena *a, anm_error *err)
{
    return json_is_object(json) ? read_one(p, json, a, 0, err) : 0;
}
