/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * From a model to MIL: the static-attention Llama of the reference exporter (pytorch/executorch
 * examples/models/llama/static_attention.py, llama_transformer.py), one file per part of the model.
 *
 *   tokens -> embedding -> | -> layers (norm, attention, norm, mlp) -> | -> norm, output -> logits
 *                      graph break                                graph break
 *
 * A program has one method (`forward`) or two (`forward` for one token, `prefill` for many); each method is cut at the graph
 * breaks into pieces, and every piece is one Core ML program with one function per method. Keys and values come in and
 * go out: the caller keeps the cache.
 */
#ifndef ANM_GRAPH_GRAPH_H
#define ANM_GRAPH_GRAPH_H

#include "mil/mil.h"
#include "model/model.h"
#include "quant/quant.h"

/* ---- what is wanted ---- */

typedef enum anm_norm_form {
    ANM_NORM_REFERENCE, /* x * rsqrt(mean(x * x) + eps): overflows fp16 where |x| passes 256 */
    ANM_NORM_SAFE,      /* no intermediate that fp16 cannot hold; see norm.c */
} anm_norm_form;

/* Which rows of a step give logits. */
typedef enum anm_logits_form {
    ANM_LOGITS_REFERENCE, /* all in a single-method program; the one at last_valid_token_pos in a multifunction one */
    ANM_LOGITS_ALL,       /* all but in a multifunction program's `forward`, which has one row */
    ANM_LOGITS_LAST,
} anm_logits_form;

/* The deprecated form is that of the reference's export.py (examples/apple/coreml/llama/llama_transformer.py): see legacy.c. */
typedef enum anm_form { ANM_FORM_STATIC, ANM_FORM_DEPRECATED } anm_form;

typedef struct anm_recipe {
    anm_form form;
    bool cache_list;         /* deprecated form: a cache per layer, not one 5-D tensor of all */
    anm_dtype type;          /* ANM_DT_F16 or ANM_DT_F32: of activations, scales and plain weights */
    int64_t max_context_len; /* positions in all: rows of the rotary tables */
    int64_t input_len;       /* rows of a step: of `forward`, or of `prefill` in a multifunction program */
    int64_t cache_len;       /* cached positions; -1: what the longest step of `forward` leaves of the context */
    bool multifunction;
    anm_logits_form logits;
    bool graph_breaks;       /* embedding | layers | head; else all in one piece */
    int64_t max_piece_bytes; /* with graph breaks: no piece of layers larger than this; 0: all layers in one */
    int64_t split_size, max_splits; /* rows of a linear that are wanted together, and the most parts it is cut in; a
                              * split_size of 0 leaves linears whole and without a concat (deprecated form alone) */
    bool split_fit;          /* a count that leaves a remainder gives way to the next smaller one that fits */
    unsigned linear_bits;    /* 4 or 8; 0: floats */
    int64_t linear_group;    /* columns that share a scale; 0: all */
    unsigned embedding_bits; /* 4 or 8; 0: floats */
    int64_t embedding_group;
    anm_norm_form norm;
    bool lean;               /* a leaner graph than the reference's: no 5-D tensor (rope.c), no bias of zeros and no
                              * concat of one part (linear.c) */
} anm_recipe;

/* The reference's defaults. */
anm_recipe anm_recipe_default(void);

/* ---- the plan: weights in the parts that the graph uses, pieces, methods ---- */

typedef struct anm_linear {
    const anm_matrix *matrix;
    const uint8_t *bias; /* matrix->rows values of the recipe's type; NULL: none */
    anm_weight *part;    /* rows in order */
    int32_t n_parts;
} anm_linear;

typedef struct anm_graph_layer {
    anm_linear wq, wk, wv, wo, w1, w2, w3;
    const uint8_t *attention_norm, *ffn_norm, *q_norm, *k_norm; /* in the recipe's type; the last two may be NULL */
} anm_graph_layer;

typedef struct anm_graph_piece {
    bool embeds, gives_logits;
    int64_t first, end; /* layers [first, end) */
} anm_graph_piece;

typedef struct anm_graph_method {
    const char *name;     /* "forward", "prefill" */
    const char *function; /* its function in each piece: "main" in single-method programs */
    int64_t rows;         /* tokens of a step */
    bool last_only;       /* logits at last_valid_token_pos alone */
} anm_graph_method;

typedef struct anm_graph {
    const anm_model *model;
    anm_recipe recipe; /* with cache_len worked out */
    anm_arena arena;   /* holds all that hangs here */
    anm_weight embedding;
    anm_linear output;
    const uint8_t *norm;
    anm_graph_layer *layers;
    anm_graph_piece *pieces;
    int32_t n_pieces;
    anm_graph_method method[2];
    int32_t n_methods;
    const char *fitted; /* with split_fit: the first linear that is cut otherwise than asked, as a sentence; or NULL */
} anm_graph;

/* Checks the recipe against the model (splits that leave a remainder, groups that do not divide, lengths), reads the
 * small weights (norms, biases), and cuts the large ones into parts; nothing large is read. Every failure is named by
 * the option that mends it. Free also after a failure. */
int anm_graph_plan(anm_graph *g, const anm_model *model, const anm_recipe *recipe, anm_error *err);
void anm_graph_free(anm_graph *g);

/* ---- signatures ---- */

typedef enum anm_role {
    ANM_ROLE_TOKENS, ANM_ROLE_MASK, ANM_ROLE_COS, ANM_ROLE_SIN, ANM_ROLE_K_CACHE, ANM_ROLE_V_CACHE, ANM_ROLE_LAST,
    ANM_ROLE_HIDDEN, ANM_ROLE_NEW_K, ANM_ROLE_NEW_V, ANM_ROLE_LOGITS,
    ANM_ROLE_POSITION, ANM_ROLE_LENGTH, /* deprecated form: of the first token, and how many there are */
} anm_role;

/* One input or output: `index` is the layer of a cache (0 where all layers share one), or the piece that makes a hidden
 * state. */
typedef struct anm_graph_io {
    anm_role role;
    int64_t index;
} anm_graph_io;

/* The inputs and outputs of a piece, in order. The inputs stand as the reference's partitioner finds them: as its
 * breadth-first walk of the piece needs them, or in plain order of use when there are no breaks. Each array is in the
 * graph's arena. */
typedef struct anm_graph_signature {
    anm_graph_io *inputs, *outputs;
    int32_t n_inputs, n_outputs;
} anm_graph_signature;
int anm_graph_sign(anm_graph_signature *out, anm_graph *g, int32_t piece, int32_t method, anm_error *err);

/* How many k caches (and v caches) a method takes. */
static inline int64_t anm_graph_caches(const anm_graph *g)
{
    bool one = g->recipe.form == ANM_FORM_DEPRECATED && !g->recipe.cache_list;
    return !g->recipe.cache_len ? 0 : one ? 1 : g->model->params.n_layers;
}

/* The type of an input or output in a method. */
anm_mil_type anm_graph_type(const anm_graph *g, int32_t method, anm_graph_io io);

/* ---- building ---- */

/* The MIL of a piece: `program` (initialised by the call; free it also after a failure) gets a function per method.
 * Weights stay sources (anm_weight) that live in the graph. */
int anm_graph_build(anm_mil_program *program, anm_graph *g, int32_t piece, anm_error *err);

/* The parameters as the deprecated form takes them: rotary positions are scaled unless params.json says no. */
anm_params anm_legacy_params(const anm_params *p);

#endif
