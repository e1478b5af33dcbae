/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A Llama model: its parameters and, by role, its weights, wherever they lie and however the checkpoint names, splits
 * or orders them. The graph and the quantisers see this and not the checkpoint.
 */
#ifndef ANM_MODEL_MODEL_H
#define ANM_MODEL_MODEL_H

#include "ckpt/ckpt.h"

/* As pytorch/executorch's ModelArgs (examples/models/llama/model_args.py), after its defaults are worked out. */
typedef struct anm_params {
    int64_t dim, n_layers, n_heads, n_kv_heads, head_dim, hidden_dim, vocab_size;
    double norm_eps, rope_theta;
    bool use_scaled_rope;
    double rope_scale_factor, high_freq_factor; /* low is 1, the old context 8192, as in the reference */
    bool use_hf_rope;                           /* halves rotate, not neighbouring pairs */
    bool use_qk_norm, qk_norm_before_rope, attention_qkv_bias;
    double partial_rotary_factor;
    bool scaling_unsaid; /* params.json leaves use_scaled_rope out: no scaling, but the deprecated form's default is scaling */
    int64_t table_rows;  /* of the deprecated form's rotary tables: max_context_len, doubled where ffn_dim_multiplier is given */
} anm_params;

/* Integers and scales that calibration has chosen for a matrix: row r, column c is scale[r * groups + c / (cols / groups)]
 * times q[r * cols + c], rounded to fp16 where the file is of that type. The exporter writes these and rounds nothing. */
typedef struct anm_made {
    int64_t rows, cols, groups;
    bool fp16;
    int8_t *q;    /* [rows, cols] */
    float *scale; /* [rows, groups] */
} anm_made;

/* A weight matrix (or, with rows == 1, a vector), as the graph wants it: pieces of tensors put together, rows in the
 * order of interleaved rotary pairs. Read it by rows; it is never held whole. */
typedef struct anm_matrix {
    int64_t rows, cols; /* 0, 0: this model has none (a bias, a query norm) */
    const anm_tensor *part[16]; /* shards */
    uint8_t n_parts, split_dim; /* along which the shards lie: 0 rows, 1 columns */
    int64_t unpermute_heads;    /* > 0: rows are in Hugging Face's order (two halves per head): re-order to pairs */
    const anm_made *made;       /* NULL, or what calibration made of it: the parts are then of no use */
} anm_matrix;

/* Row `row` of a made matrix as fp32 into out[cols]: the values that the file will stand for. */
void anm_made_row(float *out, const anm_made *m, int64_t row);

/* Rows [row, row + rows) as fp32 into out[rows * cols], made ones where there are such. A NaN or an infinity is refused, named
 * with its tensor and place. */
int anm_matrix_rows_f32(float *out, const anm_matrix *m, int64_t row, int64_t rows, anm_error *err);
/* The same for who will see NaNs and infinities for himself: they are passed on. */
int anm_matrix_rows_unchecked(float *out, const anm_matrix *m, int64_t row, int64_t rows, anm_error *err);
/* The tensor whose rows are the matrix's, in their order; NULL where they are put together from several or reordered. */
const anm_tensor *anm_matrix_tensor(const anm_matrix *m);
/* The *n bytes of these rows where they lie in one run in the checkpoint, to be fetched ahead of use; or else NULL. */
const uint8_t *anm_matrix_bytes(const anm_matrix *m, int64_t row, int64_t rows, size_t *n);

typedef struct anm_layer {
    anm_matrix attention_norm, wq, wk, wv, wo, bq, bk, bv, q_norm, k_norm, ffn_norm, w1, w2, w3;
} anm_layer;

typedef struct anm_model {
    anm_params params;
    anm_matrix tok_embeddings, norm, output;
    anm_layer *layers;            /* params.n_layers */
    const float *rope_freqs;      /* head_dim / 2 factors by which frequencies are divided (GGUF's rope_freqs), or NULL */
    const anm_ckpt *ckpt;         /* not owned */
    char **unexpected;            /* names in the checkpoint that no role takes */
    size_t n_unexpected;
    char **note;                  /* what the user should know: one line each */
    size_t n_notes;
} anm_model;

/* Parameters from `params_path` (params.json or config.json), or when NULL from what lies beside the tensors or inside
 * the GGUF; then every weight found and its shape checked. Unknown model features are refused by name. */
int anm_model_open(anm_model **out, const anm_ckpt *ckpt, const char *params_path, anm_error *err);
void anm_model_free(anm_model *m);

/* params.json's text alone (the reference's -p). */
int anm_params_parse(anm_params *out, const char *json, size_t n, anm_error *err);

/* The rotary tables of the reference for `rows` positions: cos and sin, [rows, head_dim / 2] (or [rows, head_dim] for
 * use_hf_rope), in fp32, by the reference's formula (examples/models/llama/rope.py). */
int anm_rope_tables(float *cos, float *sin, const anm_model *m, int64_t rows, anm_error *err);
/* Rows [first, first + rows) of them. An angle that is not finite is refused. */
int anm_rope_rows(float *cos, float *sin, const anm_model *m, int64_t first, int64_t rows, anm_error *err);

#endif
