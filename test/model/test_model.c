/* SPDX-License-Identifier: BSD-3-Clause */
/* Parameters, weights by role and rotary tables, on the checkpoints that tools/make_ckpt_tests.py writes. */
#include "../ckpt/scratch.h"

#include "base/half.h"
#include "model/model.h"

#include <math.h>

#define DATA "test/data/ckpt/"

typedef struct opened {
    anm_ckpt *ckpt;
    anm_model *model;
} opened;

static opened open_ok(const char *path, const char *params)
{
    opened o = {0};
    anm_error err = {0};
    if (anm_ckpt_open(&o.ckpt, path, &err) || anm_model_open(&o.model, o.ckpt, params, &err)) fail_msg("%s", err.text);
    return o;
}

static void shut(opened o)
{
    anm_model_free(o.model);
    anm_ckpt_close(o.ckpt);
}

/* The model is refused, by a message that holds both texts. */
static void refused(const char *path, const char *params, const char *a, const char *b)
{
    anm_ckpt *c;
    anm_model *m = NULL;
    anm_error err = {0};
    if (anm_ckpt_open(&c, path, &err)) fail_msg("%s", err.text);
    if (!anm_model_open(&m, c, params, &err)) fail_msg("%s was read, though %s", path, a);
    assert_null(m);
    if (!strstr(err.text, a) || !strstr(err.text, b)) fail_msg("'%s' should say '%s' and '%s'", err.text, a, b);
    anm_ckpt_close(c);
}

/* ---- weights ---- */

/* Compares a weight with the next values of `want`: whole, and in steps of three rows. */
static void same(const anm_matrix *m, bytes *want, size_t *at, const char *what)
{
    size_t n = (size_t)(m->rows * m->cols);
    if (!n) return;
    float *got = malloc(n * sizeof *got);
    anm_error err = {0};
    assert_true(*at + n * 4 <= want->size);
    for (int64_t step = m->rows; step; step = step > 3 ? 3 : 0) {
        memset(got, 0xff, n * sizeof *got);
        for (int64_t r = 0; r < m->rows; r += step) {
            int64_t take = step < m->rows - r ? step : m->rows - r;
            if (anm_matrix_rows_f32(got + r * m->cols, m, r, take, &err)) fail_msg("%s: %s", what, err.text);
        }
        if (memcmp(got, want->data + *at, n * 4)) fail_msg("%s differs", what);
    }
    assert_int_equal(anm_matrix_rows_f32(got, m, m->rows, 1, &err), ANM_ERR_USAGE);
    *at += n * 4;
    free(got);
}

static void same_weights(const anm_model *m, const char *values)
{
    bytes want = read_bytes(values);
    size_t at = 0;
    same(&m->tok_embeddings, &want, &at, "tok_embeddings");
    same(&m->norm, &want, &at, "norm");
    same(&m->output, &want, &at, "output");
    for (int64_t k = 0; k < m->params.n_layers; k++) {
        const anm_layer *l = &m->layers[k];
        same(&l->attention_norm, &want, &at, "attention_norm");
        same(&l->wq, &want, &at, "wq");
        same(&l->wk, &want, &at, "wk");
        same(&l->wv, &want, &at, "wv");
        same(&l->wo, &want, &at, "wo");
        same(&l->bq, &want, &at, "bq");
        same(&l->bk, &want, &at, "bk");
        same(&l->bv, &want, &at, "bv");
        same(&l->q_norm, &want, &at, "q_norm");
        same(&l->k_norm, &want, &at, "k_norm");
        same(&l->ffn_norm, &want, &at, "ffn_norm");
        same(&l->w1, &want, &at, "w1");
        same(&l->w2, &want, &at, "w2");
        same(&l->w3, &want, &at, "w3");
    }
    assert_int_equal(at, want.size);
    free(want.data);
}

static void every_format_gives_the_weights(void **state)
{
    (void)state;
    static const struct {
        const char *path, *values;
    } cases[] = {
        {"mixed", "llama.f32"},           {"by_cols", "llama.f32"},
        {"by_rows", "llama.f32"},         {"by_rows/consolidated.0?.pth", "llama.f32"},
        {"hf", "llama.f32"},              {"llama.gguf", "llama.f32"},
        {"qwen2", "qwen2.f32"},           {"qwen2.gguf", "qwen2.f32"},
        {"qwen3", "qwen3.f32"},           {"qwen3.gguf", "qwen3.f32"},
        {"qwen3_meta", "qwen3_meta.f32"}, {"bin", "qwen2.f32"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char path[100], values[100];
        snprintf(path, sizeof path, DATA "%s", cases[i].path);
        snprintf(values, sizeof values, DATA "%s", cases[i].values);
        opened o = open_ok(path, NULL);
        same_weights(o.model, values);
        shut(o);
    }
    /* Hugging Face's rows are left in halves for parameters that rotate halves. */
    opened o = open_ok(DATA "qwen3", DATA "qwen3_meta/params.json");
    same_weights(o.model, DATA "qwen3_meta.f32");
    shut(o);
    o = open_ok(DATA "qwen3.gguf", DATA "qwen3_meta/params.json");
    same_weights(o.model, DATA "qwen3_meta.f32");
    shut(o);
}

static void unexpected_names_are_listed(void **state)
{
    (void)state;
    opened o = open_ok(DATA "mixed/model.pth", NULL);
    assert_int_equal(o.model->n_unexpected, 2);
    assert_string_equal(o.model->unexpected[0], "rope.freqs");
    assert_string_equal(o.model->unexpected[1], "layers.0.attention.mask");
    shut(o);
    o = open_ok(DATA "llama.gguf", NULL);
    assert_int_equal(o.model->n_unexpected, 0);
    assert_non_null(o.model->rope_freqs);
    assert_float_equal(o.model->rope_freqs[1], 8, 0);
    shut(o);
}

/* ---- parameters ---- */

static void parameters_are_read(void **state)
{
    (void)state;
    opened o = open_ok(DATA "by_cols", NULL);
    const anm_params *p = &o.model->params;
    assert_int_equal(p->vocab_size, 10); /* -1 in the file */
    assert_int_equal(p->head_dim, 4);
    assert_float_equal(p->rope_theta, 10000, 0);
    assert_false(p->use_scaled_rope);
    shut(o);

    o = open_ok(DATA "hf", NULL);
    p = &o.model->params;
    assert_true(p->use_scaled_rope);
    assert_float_equal(p->rope_scale_factor, 32, 0);
    assert_float_equal(p->rope_theta, 500000, 0);
    assert_float_equal(p->norm_eps, 1e-6, 0);
    shut(o);

    o = open_ok(DATA "qwen3.gguf", NULL);
    p = &o.model->params;
    assert_int_equal(p->head_dim, 12);
    assert_int_equal(p->vocab_size, 10);
    assert_true(p->use_qk_norm && p->qk_norm_before_rope && !p->attention_qkv_bias && !p->use_hf_rope);
    shut(o);

    /* Llama 3.2 1B as Meta ships it: the hidden size follows from the multiplier. */
    static const char llama32[] = "{\"dim\": 2048, \"ffn_dim_multiplier\": 1.5, \"multiple_of\": 256, \"n_heads\": 32, "
                                  "\"n_kv_heads\": 8, \"n_layers\": 16, \"norm_eps\": 1e-05, \"rope_theta\": 500000.0, "
                                  "\"use_scaled_rope\": true, \"vocab_size\": 128256}";
    anm_params q;
    anm_error err = {0};
    assert_int_equal(anm_params_parse(&q, llama32, sizeof llama32 - 1, &err), 0);
    assert_int_equal(q.hidden_dim, 8192);
    assert_int_equal(q.head_dim, 64);
    assert_float_equal(q.rope_scale_factor, 8, 0);
    static const char mha[] = "{\"dim\": 4096, \"n_heads\": 32, \"n_layers\": 2, \"vocab_size\": 9, \"n_kv_heads\": null, "
                              "\"max_seq_len\": 7, \"moe\": false, \"sliding_window\": null, \"act_fn\": \"silu\", "
                              "\"rope_freq_base\": 5, \"embedding_scale_factor\": 1.0}";
    assert_int_equal(anm_params_parse(&q, mha, sizeof mha - 1, &err), 0);
    assert_int_equal(q.n_kv_heads, 32);
    assert_int_equal(q.hidden_dim, 11008);
    assert_float_equal(q.rope_theta, 5, 0);
    assert_float_equal(q.norm_eps, 1e-5, 0);
}

static void params_refused(const char *json, const char *text)
{
    anm_params p;
    anm_error err = {0};
    if (!anm_params_parse(&p, json, strlen(json), &err)) fail_msg("read: %s", json);
    if (!strstr(err.text, text)) fail_msg("'%s' should say '%s'", err.text, text);
}

static void parameters_are_checked(void **state)
{
    (void)state;
    params_refused("", "is not JSON");
    params_refused("{\"dim\": 1,}", "is not JSON: line 1");
    params_refused("[]", "no object");
    params_refused("{\"dim\": 1, \"dim\": 2}", "is not JSON");
    params_refused("{\"n_layers\": 1, \"n_heads\": 1, \"vocab_size\": 1}", "lacks dim");
    params_refused("{\"dim\": 8, \"n_layers\": 1, \"n_heads\": 1}", "lacks vocab_size");
#define WITH(text) "{\"dim\": 64, \"n_layers\": 1, \"n_heads\": 4, \"vocab_size\": 10, " text "}"
    params_refused(WITH("\"n_kv_heads\": 3"), "n_heads 4 cannot share n_kv_heads 3");
    params_refused(WITH("\"n_kv_heads\": 2.0"), "n_kv_heads is no whole number");
    params_refused(WITH("\"head_dim\": 7"), "head_dim is 7");
    params_refused(WITH("\"hidden_dim\": -1"), "hidden_dim is -1");
    params_refused(WITH("\"norm_eps\": \"small\""), "norm_eps is no number");
    params_refused(WITH("\"norm_eps\": -3"), "norm_eps is -3");
    params_refused(WITH("\"norm_eps\": 1e39"), "norm_eps is 1e+39"); /* beyond fp32 */
    params_refused(WITH("\"use_qk_norm\": 1"), "use_qk_norm is neither true nor false");
    params_refused(WITH("\"rope_theta\": -5"), "rope_theta is -5");
    params_refused(WITH("\"multiple_of\": 0"), "multiple_of is 0");
    params_refused(WITH("\"ffn_dim_multiplier\": 1e300"), "ffn_dim_multiplier is 1e+300");
    params_refused(WITH("\"partial_rotary_factor\": 0.5"), "partial_rotary_factor 0.5");
    params_refused(WITH("\"moe\": true"), "moe");
    params_refused(WITH("\"lora_args\": {\"rank\": 16}"), "lora_args");
    params_refused(WITH("\"quantization_args\": {\"group_size\": 32}"), "quantization_args");
    params_refused(WITH("\"sliding_window\": 4096"), "sliding_window");
    params_refused(WITH("\"norm_type\": \"layernorm\""), "norm_type");
    params_refused(WITH("\"act_fn\": \"gelu\""), "act_fn");
    params_refused(WITH("\"final_logit_softcapping\": 30.0"), "final_logit_softcapping");
    params_refused(WITH("\"num_kv_shared_layers\": 2"), "num_kv_shared_layers");
    params_refused(WITH("\"layer_types\": [\"conv\"]"), "layer_types");
    params_refused(WITH("\"dimension\": 4"), "has the key 'dimension'");
#undef WITH
    params_refused("{\"dim\": 16777217, \"n_layers\": 1, \"n_heads\": 1, \"vocab_size\": 1}", "dim is 16777217");
    params_refused("{\"dim\": 4, \"n_layers\": 0, \"n_heads\": 1, \"vocab_size\": 1}", "n_layers is 0");
    params_refused("{\"dim\": 4, \"n_layers\": 1, \"n_heads\": 0, \"vocab_size\": 1}", "n_heads is 0");
    params_refused("{\"dim\": 4, \"n_layers\": 1, \"n_heads\": 2, \"vocab_size\": 0}", "vocab_size is 0");
#define HF(text) \
    "{\"hidden_size\": 64, \"num_hidden_layers\": 1, \"num_attention_heads\": 4, \"intermediate_size\": 8, \"vocab_size\": 9, " text "}"
    params_refused(HF("\"model_type\": \"gemma\""), "model_type gemma");
    params_refused(HF("\"model_type\": \"mistral\", \"sliding_window\": 4096"), "sliding_window");
    params_refused(HF("\"model_type\": \"qwen2\", \"sliding_window\": 4096, \"use_sliding_window\": true"), "sliding_window");
    params_refused(HF("\"model_type\": \"qwen3\", \"layer_types\": [\"full_attention\", \"sliding_attention\"]"), "layer_types");
    params_refused(HF("\"model_type\": \"llama\", \"hidden_act\": \"gelu\""), "hidden_act gelu");
    params_refused(HF("\"model_type\": \"llama\", \"attention_bias\": true"), "attention_bias");
    params_refused(HF("\"model_type\": \"llama\", \"mlp_bias\": true"), "mlp_bias");
    params_refused(HF("\"model_type\": \"llama\", \"quantization_config\": {}"), "quantization_config");
    params_refused(HF("\"model_type\": \"llama\", \"rope_scaling\": {\"type\": \"yarn\"}"), "type yarn");
    params_refused(HF("\"model_type\": \"llama\", \"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 8, \"high_freq_factor\": 4, "
                      "\"low_freq_factor\": 2, \"original_max_position_embeddings\": 8192}"), "low_freq_factor 2");
    params_refused(HF("\"model_type\": \"llama\", \"attention_bias\": 1"), "attention_bias is neither true nor false");
    params_refused(HF("\"model_type\": \"llama\", \"hidden_act\": 1"), "hidden_act is no string");
    params_refused(HF("\"model_type\": \"qwen3\", \"layer_types\": \"sliding_attention\""), "layer_types is no list");
    params_refused("{\"model_type\": \"llama\"}", "lacks hidden_size");
}

#define LLAMA3(factor, context) \
    "{\"rope_type\": \"llama3\", " factor "\"low_freq_factor\": 1.0, \"high_freq_factor\": 4.0" context "}"
#define WHOLE LLAMA3("\"factor\": 32.0, ", ", \"original_max_position_embeddings\": 8192")

/* What transformers takes scaling and windows to be, when it is not simply said. */
static void unsaid_is_not_guessed(void **state)
{
    (void)state;
    params_refused(HF("\"model_type\": \"mistral\""), "sliding_window is not given, which means 4096");
    params_refused(HF("\"model_type\": \"qwen2\", \"use_sliding_window\": true"), "sliding_window is not given");
    params_refused(HF("\"model_type\": \"qwen2\", \"sliding_window\": 8, \"use_sliding_window\": 1"), "use_sliding_window");
#define ROPE(text) HF("\"model_type\": \"llama\", \"rope_theta\": 5e5, " text)
    params_refused(ROPE("\"rope_scaling\": " LLAMA3("", ", \"original_max_position_embeddings\": 8192")), "lacks factor");
    params_refused(ROPE("\"rope_scaling\": " LLAMA3("\"factor\": 8, ", "")), "lacks original_max_position_embeddings");
    params_refused(ROPE("\"original_max_position_embeddings\": 4096, \"rope_scaling\": " WHOLE), "original_max_position_embeddings 4096");
    params_refused(ROPE("\"rope_scaling\": {\"rope_type\": 3, \"factor\": 2.0}"), "rope_type is no string");
    params_refused(ROPE("\"rope_scaling\": {\"factor\": 2.0}"), "rope_scaling has a factor and no rope_type");
    params_refused(ROPE("\"rope_scaling\": {\"type\": \"linear\", \"factor\": 2.0}, \"rope_parameters\": {\"rope_theta\": 5e5}"),
                   "rope_scaling of type linear");
    params_refused(ROPE("\"rope_scaling\": {\"type\": \"default\"}, \"rope_parameters\": {\"rope_type\": \"yarn\"}"),
                   "rope_parameters of type yarn");
    params_refused(ROPE("\"rope_scaling\": " WHOLE ", \"rope_parameters\": {\"rope_theta\": 5e5}"), "both there and differ");
    params_refused(ROPE("\"rope_scaling\": {\"type\": \"default\"}, \"rope_parameters\": {\"rope_theta\": 1e6}"), "both there and differ");
    params_refused(ROPE("\"rope_parameters\": {\"full_attention\": {\"rope_theta\": 1e6}}"), "by kind of layer (full_attention)");
    params_refused(ROPE("\"rope_parameters\": {\"rope_theta\": 1e6, \"partial_rotary_factor\": 0.5}"), "partial_rotary_factor 0.5");
    params_refused(ROPE("\"rope_parameters\": [1]"), "rope_parameters is no object");

    static const struct {
        const char *json;
        double theta, factor; /* factor 0: no scaling */
    } cases[] = {
        {ROPE("\"rope_scaling\": " WHOLE), 5e5, 32},
        {ROPE("\"rope_scaling\": " WHOLE ", \"rope_parameters\": {}"), 5e5, 32},
        {ROPE("\"rope_scaling\": {}, \"rope_parameters\": " WHOLE), 5e5, 32},
        {ROPE("\"rope_scaling\": " WHOLE ", \"rope_parameters\": " WHOLE), 5e5, 32},
        {ROPE("\"rope_scaling\": null, \"rope_parameters\": {\"rope_type\": \"default\", \"rope_theta\": 1e6}"), 1e6, 0},
        {ROPE("\"rope_scaling\": {\"type\": \"default\"}"), 5e5, 0},
        {HF("\"model_type\": \"mistral\", \"sliding_window\": null"), 10000, 0},
        {HF("\"model_type\": \"qwen2\", \"use_sliding_window\": false"), 10000, 0},
        {HF("\"model_type\": \"qwen3\", \"use_sliding_window\": true, \"sliding_window\": null"), 10000, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        anm_params p;
        anm_error err = {0};
        if (anm_params_parse(&p, cases[i].json, strlen(cases[i].json), &err)) fail_msg("%s: %s", cases[i].json, err.text);
        assert_float_equal(p.rope_theta, cases[i].theta, 0);
        assert_int_equal(p.use_scaled_rope, cases[i].factor > 0);
        if (p.use_scaled_rope) assert_float_equal(p.rope_scale_factor, cases[i].factor, 0);
    }
#undef ROPE
#undef HF
}

/* ---- a GGUF file with other metadata ---- */

enum { U32 = 4, F32 = 6, STRING = 8 }; /* kinds of values, by GGUF's numbers */

static size_t put(uint8_t *at, const void *data, size_t n)
{
    memcpy(at, data, n);
    return n;
}

static size_t put_text(uint8_t *at, const char *text)
{
    uint64_t n = strlen(text);
    put(at, &n, 8);
    return 8 + put(at + 8, text, n);
}

static size_t put_key(uint8_t *at, const char *key, uint32_t kind)
{
    size_t n = put_text(at, key);
    return n + put(at + n, &kind, 4);
}

/* llama.gguf with a further value: a text, or four bytes of another kind. One more key fills up to whole blocks of 32
 * bytes, so that the tensors stay aligned. */
static const char *gguf_with(const char *key, uint32_t kind, const void *value)
{
    enum { FIRST = 24, ROOM = 256 }; /* where the pairs begin */
    static const char spaces[] = "                               ";
    bytes f = read_bytes(DATA "llama.gguf");
    uint8_t *out = malloc(f.size + ROOM);
    size_t n = put(out, f.data, FIRST);
    uint64_t pairs;
    memcpy(&pairs, out + 16, 8);
    pairs += 2;
    put(out + 16, &pairs, 8);
    n += put_key(out + n, key, kind);
    n += kind == STRING ? put_text(out + n, value) : put(out + n, value, 4);
    n += put_key(out + n, "fill", STRING);
    n += put_text(out + n, spaces + sizeof spaces - 1 - (FIRST - (n + 8)) % 32);
    assert_int_equal((n - FIRST) % 32, 0);
    n += put(out + n, f.data + FIRST, f.size - FIRST);
    write_bytes(scratch("edited.gguf"), out, n);
    free(out);
    free(f.data);
    return scratch("edited.gguf");
}

/* As llama.cpp reads the keys, a factor alone scales linearly. */
static void scaling_in_metadata_is_seen(void **state)
{
    (void)state;
    const float none = 0, one = 1, two = 2;
    const uint32_t whole = 2;
    refused(gguf_with("llama.rope.scaling.factor", F32, &two), NULL, "rope.scaling.factor 2", "linear RoPE scaling");
    refused(gguf_with("llama.rope.scale_linear", F32, &two), NULL, "linear RoPE scaling is not exported", "");
    refused(gguf_with("llama.rope.scaling.attn_factor", F32, &two), NULL, "rope.scaling.attn_factor 2", "");
    refused(gguf_with("llama.rope.scaling.type", STRING, "yarn"), NULL, "RoPE scaling of type yarn", "");
    refused(gguf_with("llama.rope.dimension_count", U32, &whole), NULL, "rotates 2 of each head's 4 values", "");
    const char *const same[][2] = {{"none", NULL}, {"linear", NULL}, {NULL, "llama.rope.scaling.factor"},
                                   {NULL, "llama.rope.scaling.attn_factor"}, {NULL, "llama.rope.scale_linear"}};
    for (size_t i = 0; i < sizeof same / sizeof *same; i++) {
        bool text = same[i][0] != NULL;
        shut(open_ok(gguf_with(text ? "llama.rope.scaling.type" : same[i][1], text ? STRING : F32, text ? (const void *)same[i][0] : &one), NULL));
    }
    shut(open_ok(gguf_with("llama.rope.scaling.factor", F32, &none), NULL));
}

/* A value of another kind is not taken for one that is absent. */
static void kinds_of_metadata_are_checked(void **state)
{
    (void)state;
    const float two = 2;
    const uint32_t theta = 500000;
    refused(gguf_with("llama.expert_count", F32, &two), NULL, "llama.expert_count must be a whole number below 2^63", "f32");
    refused(gguf_with("llama.attention.sliding_window", STRING, "wide"), NULL, "sliding_window must be", "string");
    refused(gguf_with("llama.rope.scaling.factor", U32, &theta), NULL, "rope.scaling.factor must be a float", "u32");
    refused(gguf_with("llama.rope.scaling.type", U32, &theta), NULL, "rope.scaling.type must be a string", "u32");
    refused(gguf_with("llama.logit_scale", U32, &theta), NULL, "logit_scale must be a float", "u32");
    bytes f = read_bytes(DATA "llama.gguf");
    static const char key[] = "llama.rope.freq_base";
    for (size_t i = 0; i + sizeof key + 8 < f.size; i++) {
        if (memcmp(f.data + i, key, sizeof key - 1)) continue;
        put(f.data + i + sizeof key - 1, &(uint32_t){U32}, 4);
        put(f.data + i + sizeof key + 3, &theta, 4);
    }
    write_bytes(scratch("edited.gguf"), f.data, f.size);
    refused(scratch("edited.gguf"), NULL, "llama.rope.freq_base must be a float, not a value of kind u32", "edited.gguf");
    free(f.data);
}

/* ---- what does not fit ---- */

static void other_params(const char *path, const char *json, const char *a, const char *b)
{
    write_bytes(scratch("params.json"), json, strlen(json));
    refused(path, scratch("params.json"), a, b);
}

static void misfits_are_named(void **state)
{
    (void)state;
    const char *m = DATA "mixed/model.pth", *s = DATA "by_cols";
#define PARAMS(layers, vocab, more) \
    "{\"dim\": 16, \"n_layers\": " layers ", \"n_heads\": 4, \"n_kv_heads\": 2, \"vocab_size\": " vocab ", \"hidden_dim\": 16" more "}"
    other_params(m, PARAMS("3", "10", ""), "tensor 'layers.2.attention_norm.weight' is missing", m);
    other_params(m, PARAMS("9999999", "10", ""), "tensor 'layers.2.attention_norm.weight' is missing", m);
    other_params(m, PARAMS("2", "11", ""), "tensor 'tok_embeddings.weight' has the shape [10, 16]", "ask for [11, 16]");
    other_params(m, PARAMS("2", "10", ", \"head_dim\": 8"), "'layers.0.attention.wq.weight' has the shape [16, 16]", "[32, 16]");
    other_params(m, PARAMS("2", "10", ", \"attention_qkv_bias\": true"), "'layers.0.attention.wq.bias' is missing", "");
    other_params(m, PARAMS("2", "10", ", \"use_qk_norm\": true"), "'layers.0.attention.q_norm_fn.weight' is missing", "");
    other_params(m, PARAMS("2", "10", ", \"moe\": true"), "params.json: the model has moe set", "");
    other_params(s, PARAMS("2", "12", ""), "'tok_embeddings.weight' has the shape [10, 8]", "[12, 8]");
    other_params(s, PARAMS("2", "10", ", \"head_dim\": 5"), "head_dim is 5", "");
    other_params(DATA "llama.gguf", PARAMS("2", "10", ", \"use_hf_rope\": true"), "use_hf_rope", "order of pairs");
#undef PARAMS
    other_params(m, "{", "params.json: is not JSON", "");
    refused(m, "no/such.json", "no/such.json: cannot be opened", "");
    refused(DATA "odd/module.pth", NULL, "no params.json or config.json lies beside it", "-p");
    refused(DATA "odd/module.pth", DATA "mixed/params.json", "no Llama model", "token_embd.weight");
    refused(DATA "blocks.gguf", NULL, "lacks llama.embedding_length", "blocks.gguf");
}

/* A weight of integers is refused when the model is opened. */
static void unreadable_types_are_named(void **state)
{
    (void)state;
    bytes f = read_bytes(DATA "qwen3/model.safetensors");
    char *at = strstr((char *)f.data + 8, "\"dtype\":\"BF16\"");
    assert_non_null(at);
    memcpy(at, "\"dtype\":\"I16\" ", 14);
    write_bytes(scratch("ints.safetensors"), f.data, f.size);
    refused(scratch("ints.safetensors"), DATA "qwen3/config.json", "is of type int16, which is not read as a", "tensor '");
    free(f.data);
}

/* Biases that the parameters are silent about would be lost. */
static void lost_biases_are_named(void **state)
{
    (void)state;
    other_params(DATA "qwen2", "{\"dim\": 16, \"n_layers\": 1, \"n_heads\": 2, \"n_kv_heads\": 1, \"vocab_size\": 10, \"hidden_dim\": 16}",
                 "is a bias that is not exported", "self_attn");
}

/* A checkpoint without the head: tied where the kind of file or its configuration says so, else refused. */
static void missing_heads(void **state)
{
    (void)state;
    opened o = open_ok(DATA "qwen2", NULL);
    assert_ptr_equal(o.model->output.part[0], o.model->tok_embeddings.part[0]);
    shut(o);
    bytes f = read_bytes(DATA "qwen2/config.json");
    char *at = strstr((char *)f.data, "\"tie_word_embeddings\": true");
    assert_non_null(at);
    memcpy(at, "\"tie_word_embeddings\":false", 27 - 1);
    write_bytes(scratch("params.json"), f.data, f.size);
    refused(DATA "qwen2", scratch("params.json"), "tensor 'lm_head.weight' is missing", "");
    free(f.data);
}

static void odd_scaling_is_noted(void **state)
{
    (void)state;
    opened o = open_ok(DATA "qwen3_meta", NULL);
    assert_int_equal(o.model->n_notes, 0);
    shut(o);
    bytes f = read_bytes(DATA "qwen3_meta/params.json");
    char *text = malloc(f.size + 40), *end = strrchr((char *)f.data, '}');
    assert_non_null(end);
    int n = sprintf(text, "%.*s, \"use_scaled_rope\": true}", (int)(end - (char *)f.data), (char *)f.data);
    write_bytes(scratch("params.json"), text, (size_t)n);
    o = open_ok(DATA "qwen3_meta", scratch("params.json"));
    assert_int_equal(o.model->n_notes, 1);
    assert_non_null(strstr(o.model->note[0], "use_scaled_rope has no effect"));
    shut(o);
    free(text);
    free(f.data);
}

/* The reference's converters give Qwen's tensors Meta's names and leave their rows in halves. */
static void renamed_rows_stay_halves(void **state)
{
    (void)state;
    opened o = open_ok(DATA "qwen3_meta", DATA "qwen3/config.json");
    assert_false(o.model->params.use_hf_rope);
    same_weights(o.model, DATA "qwen3.f32");
    shut(o);
}

/* A GGUF that holds its scaling is scaled by that and once, whatever the parameters beside it say. */
static void scaling_is_done_once(void **state)
{
    (void)state;
#define PARAMS(more) \
    "{\"dim\": 16, \"n_layers\": 2, \"n_heads\": 4, \"n_kv_heads\": 2, \"vocab_size\": 10, \"hidden_dim\": 16, \"rope_theta\": 500000" more "}"
    static const char *const more[] = {PARAMS(""), PARAMS(", \"use_scaled_rope\": false"), PARAMS(", \"use_scaled_rope\": true")};
#undef PARAMS
    enum { ROWS = 4, WIDTH = 2 };
    float want[2][ROWS * WIDTH], got[2][ROWS * WIDTH];
    anm_error err = {0};
    opened o = open_ok(DATA "llama.gguf", NULL);
    assert_int_equal(anm_rope_tables(want[0], want[1], o.model, ROWS, &err), 0);
    shut(o);
    for (size_t i = 0; i < 4; i++) {
        const char *params = i < 3 ? scratch("params.json") : DATA "hf/config.json";
        if (i < 3) write_bytes(params, more[i], strlen(more[i]));
        o = open_ok(DATA "llama.gguf", params);
        assert_int_equal(anm_rope_tables(got[0], got[1], o.model, ROWS, &err), 0);
        if (memcmp(got, want, sizeof got)) fail_msg("case %zu is scaled otherwise", i);
        assert_false(o.model->params.use_scaled_rope || o.model->params.scaling_unsaid);
        assert_int_equal(o.model->n_notes, i >= 2);
        if (i >= 2) assert_non_null(strstr(o.model->note[0], "rope_freqs.weight"));
        shut(o);
    }
}

/* ---- rotary tables ---- */

static int64_t ulps(float a, float b)
{
    int32_t x = (int32_t)anm_f32_bits(a), y = (int32_t)anm_f32_bits(b);
    if ((x < 0) != (y < 0)) return fabsf(a - b) < 1e-30f ? 0 : INT32_MAX;
    return llabs((int64_t)x - y);
}

/* Within one unit in the last place of the reference, whose cosines come from another library. */
static void rotary_tables_are_the_reference_s(void **state)
{
    (void)state;
    static const struct {
        int64_t head_dim;
        double theta;
        bool scaled, halves;
        double factor;
    } cases[] = {{32, 10000, 0, 0, 8}, {24, 500000, 1, 0, 8}, {64, 500000, 1, 0, 32}, {16, 1e6, 0, 1, 8}, {96, 500000, 0, 0, 8}};
    static const int rows[] = {0, 1, 2, 3, 100, 1023};
    bytes want = read_bytes(DATA "rope.f32");
    const uint8_t *at = want.data;
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        anm_model m = {.params = {.head_dim = cases[c].head_dim, .rope_theta = cases[c].theta, .use_scaled_rope = cases[c].scaled,
                                  .rope_scale_factor = cases[c].factor, .high_freq_factor = 4, .use_hf_rope = cases[c].halves}};
        size_t width = (size_t)(cases[c].halves ? cases[c].head_dim : cases[c].head_dim / 2);
        float *table[2] = {malloc(1024 * width * sizeof(float)), malloc(1024 * width * sizeof(float))};
        anm_error err;
        assert_int_equal(anm_rope_tables(table[0], table[1], &m, 1024, &err), 0);
        for (int t = 0; t < 2; t++) {
            for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
                for (size_t i = 0; i < width; i++, at += 4) {
                    float w, got = table[t][(size_t)rows[r] * width + i];
                    memcpy(&w, at, 4);
                    if (ulps(got, w) > 1) fail_msg("case %zu row %d column %zu: %.9g, not %.9g", c, rows[r], i, (double)got, (double)w);
                }
            }
            free(table[t]);
        }
    }
    assert_ptr_equal(at, want.data + want.size);
    free(want.data);
}

/* GGUF's factors divide the frequencies. */
static void rotary_factors_divide(void **state)
{
    (void)state;
    const float factor[2] = {1, 8};
    anm_model m = {.params = {.head_dim = 4, .rope_theta = 10000}, .rope_freqs = factor};
    float c[4], s[4];
    anm_error err;
    assert_int_equal(anm_rope_tables(c, s, &m, 2, &err), 0);
    assert_float_equal(c[0], 1, 0);
    assert_float_equal(s[2], sin(1), 1e-7);
    assert_float_equal(s[3], sin(0.01 / 8), 1e-9);
}

/* Divisors that a file brings along make a table of numbers, or are refused. */
static void rotary_factors_are_checked(void **state)
{
    (void)state;
    const float bad[] = {1e-45f, INFINITY, NAN, 0, -1};
    opened o = open_ok(DATA "llama.gguf", NULL);
    bytes f = read_bytes(DATA "llama.gguf"); /* the same bytes as the checkpoint's map */
    const anm_tensor *t = anm_ckpt_find(o.ckpt, 0, "rope_freqs.weight"), *first = anm_ckpt_find(o.ckpt, 0, "token_embd.weight");
    ptrdiff_t from_first = t->data - first->data;
    size_t at = 0;
    while (at + first->size <= f.size && memcmp(f.data + at, first->data, first->size)) at++;
    shut(o);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        memcpy(f.data + (ptrdiff_t)at + from_first + 4, &bad[i], 4);
        write_bytes(scratch("edited.gguf"), f.data, f.size);
        refused(scratch("edited.gguf"), NULL, "tensor 'rope_freqs.weight' holds", "edited.gguf: ");
    }
    free(f.data);
    /* an angle that is finite at first */
    const float factor[2] = {1, 1e-40f};
    anm_model m = {.params = {.head_dim = 4, .rope_theta = 10000}, .rope_freqs = factor};
    float c[40], s[40];
    anm_error err;
    assert_int_equal(anm_rope_rows(c, s, &m, 1, 1, &err), 0);
    assert_int_equal(anm_rope_rows(c, s, &m, 1 << 20, 1, &err), ANM_ERR_FORMAT);
    assert_non_null(strstr(err.text, "rope_freqs.weight"));
}

/* Heads in halves, cut over two shards: each head comes from its own. */
static void halves_of_shards_are_joined(void **state)
{
    (void)state;
    static const float part[2][4] = {{1, 2, 10, 20}, {3, 4, 30, 40}};
    anm_tensor t[2];
    anm_matrix m = {.rows = 1, .cols = 8, .n_parts = 2, .split_dim = 1, .unpermute_heads = 2};
    for (int i = 0; i < 2; i++) {
        t[i] = (anm_tensor){.name = "b", .file = "f", .dtype = ANM_DT_F32, .rank = 1, .shape = {4}, .stride = {1},
                            .data = (const uint8_t *)part[i], .size = sizeof part[i]};
        m.part[i] = &t[i];
    }
    float out[8];
    anm_error err;
    assert_int_equal(anm_matrix_rows_f32(out, &m, 0, 1, &err), 0);
    assert_memory_equal(out, ((const float[]){1, 10, 2, 20, 3, 30, 4, 40}), sizeof out);
}

static int tidy(void **state)
{
    static const char *const names[] = {"params.json", "ints.safetensors", "edited.gguf"};
    (void)state;
    drop_scratch(names, sizeof names / sizeof *names);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_format_gives_the_weights),
        cmocka_unit_test(unexpected_names_are_listed),
        cmocka_unit_test(parameters_are_read),
        cmocka_unit_test(parameters_are_checked),
        cmocka_unit_test(unsaid_is_not_guessed),
        cmocka_unit_test(scaling_in_metadata_is_seen),
        cmocka_unit_test(kinds_of_metadata_are_checked),
        cmocka_unit_test(renamed_rows_stay_halves),
        cmocka_unit_test(scaling_is_done_once),
        cmocka_unit_test(misfits_are_named),
        cmocka_unit_test(unreadable_types_are_named),
        cmocka_unit_test(lost_biases_are_named),
        cmocka_unit_test(missing_heads),
        cmocka_unit_test(odd_scaling_is_noted),
        cmocka_unit_test(rotary_tables_are_the_reference_s),
        cmocka_unit_test(halves_of_shards_are_joined),
        cmocka_unit_test(rotary_factors_divide),
        cmocka_unit_test(rotary_factors_are_checked),
    };
    return cmocka_run_group_tests_name("model", tests, NULL, tidy);
}
