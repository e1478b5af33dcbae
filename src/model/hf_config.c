/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * config.json as Hugging Face's transformers writes it for the Llama family: LlamaConfig, MistralConfig,
 * Qwen2Config, Qwen3Config. It describes much that does not touch the numbers, so unknown keys are no error;
 * known features that anemone lacks are refused. Source: huggingface/transformers,
 * src/transformers/models/.../configuration_*.py.
 */
#include "model/params.h"

#include <jansson.h>
#include <string.h>

/* The value under a key, or NULL when it is absent or null. */
static json_t *given(json_t *o, const char *key)
{
    json_t *v = json_object_get(o, key);
    return json_is_null(v) ? NULL : v;
}

static int read_size(int64_t *out, json_t *o, const char *key, bool needed, anm_error *err)
{
    json_t *v = given(o, key);
    if (!v && needed) return anm_fail(err, ANM_ERR_FORMAT, "lacks %s", key);
    if (v && !json_is_integer(v)) return anm_fail(err, ANM_ERR_FORMAT, "%s is no whole number", key);
    if (v) *out = json_integer_value(v);
    return 0;
}

static int read_real(double *out, json_t *o, const char *key, anm_error *err)
{
    json_t *v = given(o, key);
    if (v && !json_is_number(v)) return anm_fail(err, ANM_ERR_FORMAT, "%s is no number", key);
    if (v) *out = json_number_value(v);
    return 0;
}

static int read_bool(bool *out, json_t *o, const char *key, anm_error *err)
{
    json_t *v = given(o, key);
    if (v && !json_is_boolean(v)) return anm_fail(err, ANM_ERR_FORMAT, "%s is neither true nor false", key);
    if (v) *out = json_is_true(v);
    return 0;
}

static int read_word(const char **out, json_t *o, const char *key, anm_error *err)
{
    json_t *v = given(o, key);
    if (v && !json_is_string(v)) return anm_fail(err, ANM_ERR_FORMAT, "%s is no string", key);
    if (v) *out = json_string_value(v);
    return 0;
}

/* transformers has no defaults for llama3's four numbers (of the last, newer versions take the whole context,
 * older ones stop). */
static int read_llama3(anm_params *p, json_t *o, json_t *s, const char *name, anm_error *err)
{
    static const char old_context[] = "original_max_position_embeddings";
    static const char *const needed[] = {"factor", "low_freq_factor", "high_freq_factor", old_context};
    for (size_t i = 0; i < sizeof needed / sizeof *needed; i++)
        if (!given(s, needed[i]))
            return anm_fail(err, ANM_ERR_FORMAT, "%s of type llama3 lacks %s", name, needed[i]);
    double low = 0, context = 0, outer = 8192;
    p->use_scaled_rope = true;
    int rc = read_real(&p->rope_scale_factor, s, "factor", err);
    if (!rc) rc = read_real(&p->high_freq_factor, s, "high_freq_factor", err);
    if (!rc) rc = read_real(&low, s, "low_freq_factor", err);
    if (!rc) rc = read_real(&context, s, old_context, err);
    if (!rc) rc = read_real(&outer, o, old_context, err); /* in newer versions it counts, and the inner one does not */
    if (rc) return rc;
    if (low != 1 || context != 8192 || outer != 8192)
        return anm_fail(err, ANM_ERR_UNSUPPORTED,
                        "%s with low_freq_factor %g and %s %g; only 1 and 8192 are exported", name, low,
                        old_context, context != 8192 ? context : outer);
    return 0;
}

/* The object under either name; an empty one says nothing. */
static int read_rope_object(anm_params *p, json_t *o, const char *name, anm_error *err)
{
    json_t *s = given(o, name), *v;
    const char *type = NULL, *key;
    if (!s) return 0;
    if (!json_is_object(s)) return anm_fail(err, ANM_ERR_FORMAT, "%s is no object", name);
    json_object_foreach(s, key, v)
    {
        if (json_is_object(v))
            return anm_fail(err, ANM_ERR_UNSUPPORTED, "%s by kind of layer (%.32s) is not exported", name, key);
    }
    int rc = read_real(&p->rope_theta, s, "rope_theta", err);
    if (!rc) rc = read_real(&p->partial_rotary_factor, s, "partial_rotary_factor", err);
    if (!rc) rc = read_word(&type, s, "type", err);
    if (!rc) rc = read_word(&type, s, "rope_type", err);
    if (rc) return rc;
    if (!type && given(s, "factor")) return anm_fail(err, ANM_ERR_FORMAT, "%s has a factor and no rope_type", name);
    if (!type || !strcmp(type, "default")) return 0;
    if (!strcmp(type, "llama3")) return read_llama3(p, o, s, name, err);
    return anm_fail(err, ANM_ERR_UNSUPPORTED, "%s of type %.32s is not exported; llama3 is", name, type);
}

/* "rope_scaling", or in newer files "rope_parameters", which holds theta as well. Where both are there, versions of
 * transformers do not agree on which counts: they must mean the same. */
static int read_rope(anm_params *p, json_t *o, anm_error *err)
{
    anm_params older = *p;
    int rc = read_rope_object(&older, o, "rope_scaling", err);
    if (!rc) rc = read_rope_object(p, o, "rope_parameters", err);
    if (rc || !json_object_size(given(o, "rope_scaling"))) return rc;
    bool same = older.rope_theta == p->rope_theta && older.use_scaled_rope == p->use_scaled_rope &&
                older.rope_scale_factor == p->rope_scale_factor && older.high_freq_factor == p->high_freq_factor &&
                older.partial_rotary_factor == p->partial_rotary_factor;
    if (json_object_size(given(o, "rope_parameters")) && !same)
        return anm_fail(err, ANM_ERR_FORMAT, "rope_scaling and rope_parameters are both there and differ");
    *p = older;
    return 0;
}

/* A window is on unless null is said for it, in Mistral's configuration (where none is said, it is 4096 wide), and off
 * unless it is asked for besides in Qwen's. */
static int refuse_window(json_t *o, const char *type, anm_error *err)
{
    bool qwen = !strcmp(type, "qwen2") || !strcmp(type, "qwen3"), asked = false;
    int rc = read_bool(&asked, o, "use_sliding_window", err);
    if (rc) return rc;
    json_t *window = json_object_get(o, "sliding_window");
    if (!window && (qwen ? asked : !strcmp(type, "mistral")))
        return anm_fail(err, ANM_ERR_UNSUPPORTED,
                        "sliding_window is not given, which means 4096 for %s: attention over a window is not exported", type);
    if (window && !json_is_null(window) && (asked || !qwen))
        return anm_fail(err, ANM_ERR_UNSUPPORTED, "sliding_window: attention over a window is not exported");
    json_t *layers = given(o, "layer_types"), *kind;
    if (layers && !json_is_array(layers)) return anm_fail(err, ANM_ERR_FORMAT, "layer_types is no list");
    size_t k;
    json_array_foreach(layers, k, kind)
    {
        const char *s = json_string_value(kind);
        if (!s || strcmp(s, "full_attention"))
            return anm_fail(err, ANM_ERR_UNSUPPORTED,
                            "layer_types: only full_attention is exported, layer %zu is %.32s", k,
                            s ? s : "?");
    }
    return 0;
}

static int refuse_features(json_t *o, const char *type, anm_error *err)
{
    const char *act = "silu";
    bool attention_bias = false, mlp_bias = false;
    int rc = refuse_window(o, type, err);
    if (!rc) rc = read_word(&act, o, "hidden_act", err);
    if (!rc) rc = read_bool(&attention_bias, o, "attention_bias", err);
    if (!rc) rc = read_bool(&mlp_bias, o, "mlp_bias", err);
    if (rc) return rc;
    if (strcmp(act, "silu"))
        return anm_fail(err, ANM_ERR_UNSUPPORTED, "hidden_act %.32s: only silu is exported", act);
    if (attention_bias) /* in these families it gives the output projection a bias as well */
        return anm_fail(err, ANM_ERR_UNSUPPORTED, "attention_bias: a bias of o_proj is not exported");
    if (mlp_bias) return anm_fail(err, ANM_ERR_UNSUPPORTED, "mlp_bias is not exported");
    if (given(o, "quantization_config"))
        return anm_fail(err, ANM_ERR_UNSUPPORTED,
                        "quantization_config: weights quantised by other tools are not read");
    return 0;
}

int anm_params_of_hf(anm_params *out, anm_origin *from, const void *json_object, anm_error *err)
{
    json_t *o = (json_t *)(uintptr_t)json_object;
    static const char *const known[] = {"llama", "mistral", "qwen2", "qwen3"};
    const char *type = json_string_value(json_object_get(o, "model_type"));
    size_t k = 0;
    while (k < 4 && type && strcmp(known[k], type))
        k++;
    if (!type || k == 4)
        return anm_fail(err, ANM_ERR_UNSUPPORTED,
                        "model_type %.64s is not exported; llama, mistral, qwen2 and qwen3 are",
                        type ? type : "(none)");
    anm_params p = anm_params_default();
    p.norm_eps = 1e-6;
    int rc = refuse_features(o, type, err);
    if (!rc) rc = read_size(&p.dim, o, "hidden_size", true, err);
    if (!rc) rc = read_size(&p.n_layers, o, "num_hidden_layers", true, err);
    if (!rc) rc = read_size(&p.n_heads, o, "num_attention_heads", true, err);
    if (!rc) rc = read_size(&p.hidden_dim, o, "intermediate_size", true, err);
    if (!rc) rc = read_size(&p.vocab_size, o, "vocab_size", true, err);
    if (!rc) rc = read_size(&p.n_kv_heads, o, "num_key_value_heads", false, err);
    if (!rc) rc = read_size(&p.head_dim, o, "head_dim", false, err);
    if (!rc) rc = read_real(&p.norm_eps, o, "rms_norm_eps", err);
    if (!rc) rc = read_real(&p.rope_theta, o, "rope_theta", err);
    if (!rc) rc = read_real(&p.partial_rotary_factor, o, "partial_rotary_factor", err);
    if (!rc) rc = read_rope(&p, o, err);
    bool tied = false;
    if (!rc) rc = read_bool(&tied, o, "tie_word_embeddings", err);
    if (rc) return rc;
    p.attention_qkv_bias = !strcmp(type, "qwen2");
    p.use_qk_norm = p.qk_norm_before_rope = !strcmp(type, "qwen3");
    from->tied = tied;
    from->untied = !tied && given(o, "tie_word_embeddings");
    from->halves = strcmp(type, "llama") && strcmp(type, "mistral");
    *out = p;
    return 0;
}
