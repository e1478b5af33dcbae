/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * params.json, which the reference passes to ModelArgs(**params): so every key must be one of its fields.
 * Those of features that anemone lacks must have their defaults. Source: executorch,
 * examples/models/llama/model_args.py.
 */
#include "model/params.h"
#include "base/json.h"

#include <float.h>
#include <math.h>
#include <string.h>

enum { MOST = 1 << 24 }; /* of any size or count in a model */

int anm_params_finish(anm_params *p, anm_error *err)
{
    const struct {
        const char *name;
        int64_t value;
    } size[] = {{"dim", p->dim}, {"n_layers", p->n_layers}, {"n_heads", p->n_heads}};
    for (size_t i = 0; i < sizeof size / sizeof *size; i++)
        if (size[i].value < 1 || size[i].value > MOST)
            return anm_fail(err, ANM_ERR_FORMAT, "%s is %lld", size[i].name, (long long)size[i].value);
    if (!p->n_kv_heads) p->n_kv_heads = p->n_heads;
    if (!p->head_dim) p->head_dim = p->dim / p->n_heads;
    if (p->n_kv_heads < 1 || p->n_kv_heads > p->n_heads || p->n_heads % p->n_kv_heads)
        return anm_fail(err, ANM_ERR_FORMAT, "n_heads %lld cannot share n_kv_heads %lld",
                        (long long)p->n_heads, (long long)p->n_kv_heads);
    if (p->head_dim < 2 || p->head_dim > MOST || p->head_dim % 2)
        return anm_fail(err, ANM_ERR_FORMAT, "head_dim is %lld; rotary pairs need an even one",
                        (long long)p->head_dim);
    if (p->hidden_dim < 1 || p->hidden_dim > MOST)
        return anm_fail(err, ANM_ERR_FORMAT, "hidden_dim is %lld", (long long)p->hidden_dim);
    if (p->vocab_size != -1 && (p->vocab_size < 1 || p->vocab_size > MOST))
        return anm_fail(err, ANM_ERR_FORMAT, "vocab_size is %lld", (long long)p->vocab_size);
    if (!(p->norm_eps >= 0 && p->norm_eps <= FLT_MAX))
        return anm_fail(err, ANM_ERR_FORMAT, "norm_eps is %g", p->norm_eps);
    if (!(p->rope_theta >= FLT_MIN && p->rope_theta <= FLT_MAX))
        return anm_fail(err, ANM_ERR_FORMAT, "rope_theta is %g", p->rope_theta);
    if (p->partial_rotary_factor != 1)
        return anm_fail(err, ANM_ERR_UNSUPPORTED, "partial_rotary_factor %g: only whole heads are rotated",
                        p->partial_rotary_factor);
    if (p->use_scaled_rope && (!(p->rope_scale_factor >= FLT_MIN && p->rope_scale_factor <= FLT_MAX) || !(p->high_freq_factor > 1)))
        return anm_fail(err, ANM_ERR_FORMAT, "rope_scale_factor %g and high_freq_factor %g do not make sense",
                        p->rope_scale_factor, p->high_freq_factor);
    return 0;
}

/* Each field of ModelArgs: read into a parameter, of no meaning for an export, or to be left at its default,
 * which stands as JSON. Fields whose default is null may be null. */
typedef enum use { INT, REAL, BOOL, NO_MATTER, DEFAULT } use;

struct field {
    const char *name;
    use use;
    size_t at; /* INT, REAL, BOOL: in struct args */
    bool may_be_null;
    const char *fallback; /* DEFAULT: "null", "true", "false", "0", "1", or a word */
};

typedef struct args {
    anm_params p;
    int64_t multiple_of;
    double ffn_dim_multiplier, rope_freq_base, rope_theta;
} args;

#define AT(member) offsetof(args, member)
static const struct field fields[] = {
    {"dim", INT, AT(p.dim), false, NULL},
    {"n_layers", INT, AT(p.n_layers), false, NULL},
    {"n_heads", INT, AT(p.n_heads), false, NULL},
    {"n_kv_heads", INT, AT(p.n_kv_heads), true, NULL},
    {"vocab_size", INT, AT(p.vocab_size), false, NULL},
    {"hidden_dim", INT, AT(p.hidden_dim), true, NULL},
    {"head_dim", INT, AT(p.head_dim), true, NULL},
    {"multiple_of", INT, AT(multiple_of), false, NULL},
    {"ffn_dim_multiplier", REAL, AT(ffn_dim_multiplier), true, NULL},
    {"norm_eps", REAL, AT(p.norm_eps), false, NULL},
    {"rope_theta", REAL, AT(rope_theta), true, NULL},
    {"rope_freq_base", REAL, AT(rope_freq_base), false, NULL},
    {"use_scaled_rope", BOOL, AT(p.use_scaled_rope), false, NULL},
    {"rope_scale_factor", REAL, AT(p.rope_scale_factor), true, NULL},
    {"high_freq_factor", REAL, AT(p.high_freq_factor), false, NULL},
    {"use_hf_rope", BOOL, AT(p.use_hf_rope), false, NULL},
    {"use_qk_norm", BOOL, AT(p.use_qk_norm), false, NULL},
    {"qk_norm_before_rope", BOOL, AT(p.qk_norm_before_rope), false, NULL},
    {"attention_qkv_bias", BOOL, AT(p.attention_qkv_bias), false, NULL},
    {"partial_rotary_factor", REAL, AT(p.partial_rotary_factor), false, NULL},

    {"attention_kwargs", NO_MATTER, 0, true, NULL}, /* the exporter sets these two itself */
    {"attention_type", NO_MATTER, 0, true, NULL},
    {"base_model_name_or_path", NO_MATTER, 0, true, NULL},
    {"bos_count", NO_MATTER, 0, true, NULL},
    {"bos_idx", NO_MATTER, 0, true, NULL},
    {"device", NO_MATTER, 0, true, NULL},
    {"enable_dynamic_shape", NO_MATTER, 0, true, NULL},
    {"eos_count", NO_MATTER, 0, true, NULL},
    {"eos_idx", NO_MATTER, 0, true, NULL},
    {"generate_full_logits", NO_MATTER, 0, true, NULL},
    {"kv_io_bit_width", NO_MATTER, 0, true, NULL},
    {"linear_conv_kernel_dim", NO_MATTER, 0, true, NULL}, /* sizes of features that are off */
    {"linear_key_head_dim", NO_MATTER, 0, true, NULL},
    {"linear_num_key_heads", NO_MATTER, 0, true, NULL},
    {"linear_num_value_heads", NO_MATTER, 0, true, NULL},
    {"linear_value_head_dim", NO_MATTER, 0, true, NULL},
    {"lora_alpha", NO_MATTER, 0, true, NULL},
    {"max_batch_size", NO_MATTER, 0, true, NULL},
    {"max_context_len", NO_MATTER, 0, true, NULL},
    {"max_position_embeddings", NO_MATTER, 0, true, NULL},
    {"max_seq_len", NO_MATTER, 0, true, NULL},
    {"model_architecture", NO_MATTER, 0, true, NULL},
    {"moe_hidden_dim", NO_MATTER, 0, true, NULL},
    {"moe_route_scale", NO_MATTER, 0, true, NULL},
    {"moe_score_func", NO_MATTER, 0, true, NULL},
    {"moe_shared_expert_hidden_dim", NO_MATTER, 0, true, NULL},
    {"moe_use_expert_bias", NO_MATTER, 0, true, NULL},
    {"num_activated_experts", NO_MATTER, 0, true, NULL},
    {"num_experts", NO_MATTER, 0, true, NULL},
    {"original_max_position_embeddings", NO_MATTER, 0, true, NULL},
    {"peft_type", NO_MATTER, 0, true, NULL},
    {"use_kv_cache", NO_MATTER, 0, true, NULL},
    {"use_sdpa_with_kv_cache_op", NO_MATTER, 0, true, NULL},

    {"act_fn", DEFAULT, 0, false, "silu"},
    {"apply_embedding", DEFAULT, 0, false, "true"},
    {"apply_output", DEFAULT, 0, false, "true"},
    {"attention_multiplier", DEFAULT, 0, true, "null"},
    {"attn_logit_softcapping", DEFAULT, 0, true, "null"},
    {"embedding_scale_factor", DEFAULT, 0, false, "1"},
    {"final_logit_softcapping", DEFAULT, 0, true, "null"},
    {"input_prune_map", DEFAULT, 0, true, "null"},
    {"layer_types", DEFAULT, 0, true, "null"},
    {"local_rope_theta", DEFAULT, 0, true, "null"},
    {"logits_scaling", DEFAULT, 0, true, "null"},
    {"lora_args", DEFAULT, 0, true, "null"},
    {"mlp_type", DEFAULT, 0, true, "null"},
    {"moe", DEFAULT, 0, false, "false"},
    {"no_rope_layer_interval", DEFAULT, 0, true, "null"},
    {"norm_type", DEFAULT, 0, false, "rmsnorm"},
    {"normalize_tok_embeddings", DEFAULT, 0, false, "false"},
    {"num_kv_shared_layers", DEFAULT, 0, false, "0"},
    {"output_bias", DEFAULT, 0, false, "false"},
    {"output_linear_intermediate_dim", DEFAULT, 0, false, "0"},
    {"output_prune_map", DEFAULT, 0, true, "null"},
    {"output_soft_cap_temp", DEFAULT, 0, true, "null"},
    {"post_attention_norm", DEFAULT, 0, false, "false"},
    {"post_ffn_norm", DEFAULT, 0, false, "false"},
    {"qk_norm_affine", DEFAULT, 0, false, "true"},
    {"quantization_args", DEFAULT, 0, true, "null"},
    {"r", DEFAULT, 0, true, "null"},
    {"residual_multiplier", DEFAULT, 0, true, "null"},
    {"rms_norm_add_unit_offset", DEFAULT, 0, false, "false"},
    {"rope_scaling_attention_factor", DEFAULT, 0, true, "null"},
    {"rope_scaling_long_factor", DEFAULT, 0, true, "null"},
    {"rope_scaling_short_factor", DEFAULT, 0, true, "null"},
    {"scale_query_by", DEFAULT, 0, false, "1"},
    {"sliding_window", DEFAULT, 0, true, "null"},
    {"target_modules", DEFAULT, 0, true, "null"},
    {"use_attn_o_gate", DEFAULT, 0, false, "false"},
    {"use_attn_o_norm", DEFAULT, 0, false, "false"},
    {"use_ffn_learnable_scales", DEFAULT, 0, false, "false"},
    {"use_ffn_norm", DEFAULT, 0, false, "true"},
    {"use_q_gate", DEFAULT, 0, false, "false"},
    {"use_residual_gate", DEFAULT, 0, false, "false"},
};
#undef AT

static bool is_default(const json_t *v, const char *fallback)
{
    switch (json_typeof(v)) {
    case JSON_TRUE: return !strcmp(fallback, "true");
    case JSON_FALSE: return !strcmp(fallback, "false");
    case JSON_INTEGER:
    case JSON_REAL:
        return (fallback[0] == '0' || fallback[0] == '1') &&
               json_number_value(v) == (double)(fallback[0] - '0');
    case JSON_STRING: return !strcmp(json_string_value(v), fallback);
    default: return false;
    }
}

static int read_field(args *a, const struct field *f, const json_t *v, anm_error *err)
{
    void *at = (char *)a + f->at;
    if (f->use == NO_MATTER || (f->may_be_null && json_is_null(v))) return 0;
    switch (f->use) {
    case INT:
        if (!json_is_integer(v)) return anm_fail(err, ANM_ERR_FORMAT, "%s is no whole number", f->name);
        *(int64_t *)at = json_integer_value(v);
        return 0;
    case REAL:
        if (!json_is_number(v)) return anm_fail(err, ANM_ERR_FORMAT, "%s is no number", f->name);
        *(double *)at = json_number_value(v);
        return 0;
    case BOOL:
        if (!json_is_boolean(v))
            return anm_fail(err, ANM_ERR_FORMAT, "%s is neither true nor false", f->name);
        *(bool *)at = json_is_true(v);
        return 0;
    default:
        if (is_default(v, f->fallback)) return 0;
        return anm_fail(err, ANM_ERR_UNSUPPORTED, "the model has %s set, which anemone does not export",
                        f->name);
    }
}

/* The hidden size when it is not given: two thirds of 4 dim, times the multiplier, up to a multiple. */
static int64_t hidden_of(const args *a)
{
    int64_t hidden = 8 * a->p.dim / 3;
    if (a->ffn_dim_multiplier > 0) hidden = (int64_t)(a->ffn_dim_multiplier * (double)hidden);
    return (hidden + a->multiple_of - 1) / a->multiple_of * a->multiple_of;
}

static int of_model_args(anm_params *out, anm_origin *from, json_t *root, anm_error *err)
{
    static const char *const needed[] = {"dim", "n_layers", "n_heads", "vocab_size"};
    args a = {.p = anm_params_default(), .multiple_of = 256, .rope_freq_base = 10000};
    const char *key;
    json_t *v;
    json_object_foreach(root, key, v)
    {
        const struct field *f = fields, *end = fields + sizeof fields / sizeof *fields;
        while (f < end && strcmp(f->name, key))
            f++;
        if (f == end)
            return anm_fail(err, ANM_ERR_UNSUPPORTED,
                            "has the key '%.64s', which is no parameter that the reference knows", key);
        int rc = read_field(&a, f, v, err);
        if (rc) return rc;
    }
    for (size_t i = 0; i < sizeof needed / sizeof *needed; i++)
        if (!json_object_get(root, needed[i])) return anm_fail(err, ANM_ERR_FORMAT, "lacks %s", needed[i]);
    if (a.p.dim < 1 || a.p.dim > MOST)
        return anm_fail(err, ANM_ERR_FORMAT, "dim is %lld", (long long)a.p.dim);
    if (a.multiple_of < 1 || a.multiple_of > MOST)
        return anm_fail(err, ANM_ERR_FORMAT, "multiple_of is %lld", (long long)a.multiple_of);
    if (a.ffn_dim_multiplier < 0 || a.ffn_dim_multiplier > 1024)
        return anm_fail(err, ANM_ERR_FORMAT, "ffn_dim_multiplier is %g", a.ffn_dim_multiplier);
    if (!a.p.hidden_dim) a.p.hidden_dim = hidden_of(&a);
    a.p.rope_theta = a.rope_theta != 0 ? a.rope_theta : a.rope_freq_base;
    a.p.scaling_unsaid = !json_object_get(root, "use_scaled_rope");
    json_t *rows = json_object_get(root, "max_context_len"), *multiplier = json_object_get(root, "ffn_dim_multiplier");
    if (json_is_integer(rows)) a.p.table_rows = json_integer_value(rows);
    if (a.p.table_rows < 1 || a.p.table_rows > MOST)
        return anm_fail(err, ANM_ERR_FORMAT, "max_context_len is %lld", (long long)a.p.table_rows);
    if (multiplier && !json_is_null(multiplier)) a.p.table_rows *= 2;
    json_t *factor = json_object_get(root, "rope_scale_factor");
    from->factor_assumed = a.p.use_scaled_rope && (!factor || json_is_null(factor));
    *out = a.p;
    return 0;
}

int anm_params_read(anm_params *out, anm_origin *from, const char *json, size_t n, anm_error *err)
{
    json_t *root;
    *from = (anm_origin){0};
    int rc = anm_json_read(&root, json, n, JSON_REJECT_DUPLICATES, "is not JSON", err);
    if (rc) return rc;
    if (!json_is_object(root))
        rc = anm_fail(err, ANM_ERR_FORMAT, "is JSON, but no object with parameters");
    else if (json_object_get(root, "model_type"))
        rc = anm_params_of_hf(out, from, root, err);
    else
        rc = of_model_args(out, from, root, err);
    json_decref(root);
    return rc ? rc : anm_params_finish(out, err);
}

int anm_params_parse(anm_params *out, const char *json, size_t n, anm_error *err)
{
    anm_origin from;
    return anm_params_read(out, &from, json, n, err);
}
