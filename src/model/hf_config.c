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

static bool is_true(json_t *o, const char *key)
{
    return json_is_true(json_object_get(o, key));
}

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

/* "rope_scaling", or in newer files "rope_parameters", which holds theta as well. */
static int read_rope(anm_params *p, json_t *o, anm_error *err)
{
    json_t *s = given(o, "rope_parameters");
    if (!s) s = given(o, "rope_scaling");
    if (!s) return 0;
    if (!json_is_object(s)) return anm_fail(err, ANM_ERR_FORMAT, "rope_scaling is no object");
    int rc = read_real(&p->rope_theta, s, "rope_theta", err);
    if (rc) return rc;
    const char *type = json_string_value(json_object_get(s, "rope_type"));
    if (!type) type = json_string_value(json_object_get(s, "type"));
    if (!type || !strcmp(type, "default")) return 0;
    if (strcmp(type, "llama3"))
        return anm_fail(err, ANM_ERR_UNSUPPORTED, "rope_scaling of type %.32s is not exported; llama3 is",
                        type);
    double low = 1, context = 8192;
    p->use_scaled_rope = true;
    rc = read_real(&p->rope_scale_factor, s, "factor", err);
    if (!rc) rc = read_real(&p->high_freq_factor, s, "high_freq_factor", err);
    if (!rc) rc = read_real(&low, s, "low_freq_factor", err);
    if (!rc) rc = read_real(&context, s, "original_max_position_embeddings", err);
    if (rc) return rc;
    if (low != 1 || context != 8192)
        return anm_fail(err, ANM_ERR_UNSUPPORTED,
                        "rope_scaling with low_freq_factor %g and original_max_position_embeddings %g; only "
                        "1 and 8192 are "
                        "exported",
                        low, context);
    return 0;
}

static int refuse_features(json_t *o, const char *type, anm_error *err)
{
    bool qwen2 = !strcmp(type, "qwen2"), qwen3 = !strcmp(type, "qwen3");
    json_t *window = given(o, "sliding_window");
    bool slides = window && !((qwen2 || qwen3) && !is_true(o, "use_sliding_window"));
    json_t *layers = given(o, "layer_types"), *kind;
    size_t k;
    json_array_foreach(layers, k, kind)
    {
        const char *s = json_string_value(kind);
        if (!s || strcmp(s, "full_attention"))
            return anm_fail(err, ANM_ERR_UNSUPPORTED,
                            "layer_types: only full_attention is exported, layer %zu is %.32s", k,
                            s ? s : "?");
    }
    const char *act = json_string_value(json_object_get(o, "hidden_act"));
    if (slides)
        return anm_fail(err, ANM_ERR_UNSUPPORTED, "sliding_window: attention over a window is not exported");
    if (act && strcmp(act, "silu"))
        return anm_fail(err, ANM_ERR_UNSUPPORTED, "hidden_act %.32s: only silu is exported", act);
    if (is_true(o, "attention_bias")) /* in these families it gives the output projection a bias as well */
        return anm_fail(err, ANM_ERR_UNSUPPORTED, "attention_bias: a bias of o_proj is not exported");
    if (is_true(o, "mlp_bias")) return anm_fail(err, ANM_ERR_UNSUPPORTED, "mlp_bias is not exported");
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
    if (rc) return rc;
    p.attention_qkv_bias = !strcmp(type, "qwen2");
    p.use_qk_norm = p.qk_norm_before_rope = !strcmp(type, "qwen3");
    from->tied = is_true(o, "tie_word_embeddings");
    from->untied = json_is_false(json_object_get(o, "tie_word_embeddings"));
    *out = p;
    return 0;
}
