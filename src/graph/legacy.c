/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The deprecated form: the Llama of the reference's export.py (pytorch/executorch, examples/apple/coreml/llama/
 * llama_transformer.py), kept for files in use. It differs from the static form in what it is given and in attention:
 *
 *   input_pos    -> the step's rows of rotary tables that lie in the program
 *   input_length -> which row gives logits, the only one that does
 *   k and v caches as one 5-D tensor of all layers, [layers, 1, kv heads, C, d], or as a list
 *   one fused attention op; one piece
 *
 * Its lengths go by other names: --max_seq_length positions, --seq_length rows of a step, --cache_size entries.
 */
#include "graph/parts.h"
#include "base/bytes.h"
#include "base/half.h"
#include "base/limits.h"

#include <stdlib.h>

/* ---- the plan ---- */

anm_params anm_legacy_params(const anm_params *p)
{
    anm_params out = *p;
    out.use_scaled_rope |= p->scaling_unsaid;
    return out;
}

static int plan_lengths(anm_graph *g, anm_error *err)
{
    anm_recipe *r = &g->recipe;
    long long all = r->max_context_len, rows = r->input_len, table = g->model->params.table_rows;
    if (all < 1) return anm_fail(err, ANM_ERR_USAGE, "--max_seq_length: must be 1 or more, not %lld", all);
    if (rows < 1) return anm_fail(err, ANM_ERR_USAGE, "--seq_length: must be 1 or more, not %lld", rows);
    if (all > table)
        return anm_fail(err, ANM_ERR_USAGE, "--max_seq_length: %lld is more than the %lld rows of the rotary tables "
                        "(max_context_len of params.json)", all, table);
    if (rows > ANM_ROWS_LIMIT) return anm_fail(err, ANM_ERR_USAGE, "--seq_length: %lld is more than a step can have, %d", rows, ANM_ROWS_LIMIT);
    long long rest = all - rows;
    if (rest < 1)
        return anm_fail(err, ANM_ERR_USAGE, "--seq_length: %lld leaves no room for a cache within --max_seq_length %lld; take "
                        "fewer, or a longer sequence", rows, all);
    if (r->cache_len < 0) r->cache_len = rest;
    if (r->cache_len < 1) return anm_fail(err, ANM_ERR_USAGE, "--cache_size: must be 1 or more, not %lld", (long long)r->cache_len);
    if (r->cache_len > rest)
        return anm_fail(err, ANM_ERR_USAGE, "--cache_size: %lld is more than --max_seq_length %lld leaves beside a step of %lld, "
                        "which is %lld", (long long)r->cache_len, all, rows, rest);
    if (r->cache_len > ANM_CACHE_LIMIT)
        return anm_fail(err, ANM_ERR_USAGE, "--cache_size: %lld is more than a cache can have, %d; take fewer, or a shorter sequence",
                        (long long)r->cache_len, ANM_CACHE_LIMIT);
    return 0;
}

int anm_legacy_plan(anm_graph *g, anm_error *err)
{
    const anm_params *p = &g->model->params;
    const char *beyond = p->use_hf_rope ? "use_hf_rope" : p->use_qk_norm ? "use_qk_norm" : p->attention_qkv_bias ? "attention_qkv_bias" : NULL;
    if (beyond)
        return anm_fail(err, ANM_ERR_UNSUPPORTED, "%s: the deprecated form knows no %s; export it with anemone export",
                        anm_ckpt_path(g->model->ckpt), beyond);
    g->method[g->n_methods++] = (anm_graph_method){"forward", "main", g->recipe.input_len, true};
    return plan_lengths(g, err);
}

/* ---- the signature ---- */

static void add(anm_graph_io *list, int32_t *n, anm_role role, int64_t index)
{
    list[(*n)++] = (anm_graph_io){role, index};
}

/* In plain order of use: the mask stands behind the first layer's caches. */
void anm_legacy_sign(anm_graph_signature *s, const anm_graph *g)
{
    anm_graph_io *in = s->inputs, *out = s->outputs;
    bool list = g->recipe.cache_list;
    add(in, &s->n_inputs, ANM_ROLE_TOKENS, 0);
    add(in, &s->n_inputs, ANM_ROLE_POSITION, 0);
    for (int64_t i = 0; i < anm_graph_caches(g); i++) {
        add(in, &s->n_inputs, ANM_ROLE_K_CACHE, i);
        add(in, &s->n_inputs, ANM_ROLE_V_CACHE, i);
        if (i == 0) add(in, &s->n_inputs, ANM_ROLE_MASK, 0);
    }
    add(in, &s->n_inputs, ANM_ROLE_LENGTH, 0);
    if (!list) add(out, &s->n_outputs, ANM_ROLE_LOGITS, 0);
    for (int64_t i = 0; i < anm_graph_caches(g); i++) {
        add(out, &s->n_outputs, ANM_ROLE_NEW_K, i);
        add(out, &s->n_outputs, ANM_ROLE_NEW_V, i);
    }
    if (list) add(out, &s->n_outputs, ANM_ROLE_LOGITS, 0);
}

/* Keys or values: of one layer, or of all in one tensor. */
static anm_mil_type entries_type(const anm_graph *g, int64_t rows)
{
    const anm_params *p = &g->model->params;
    const int64_t dim[5] = {p->n_layers, 1, p->n_kv_heads, rows, p->head_dim};
    bool list = g->recipe.cache_list;
    return anm_mil_tensor(g->recipe.type, list ? 4 : 5, list ? dim + 1 : dim);
}

anm_mil_type anm_legacy_type(const anm_graph *g, anm_graph_io io)
{
    const anm_params *p = &g->model->params;
    const int64_t rows = g->recipe.input_len, cached = g->recipe.cache_len;
    anm_dtype t = g->recipe.type;
    switch (io.role) {
    case ANM_ROLE_TOKENS: return anm_mil_tensor(ANM_DT_I32, 2, (const int64_t[]){1, rows});
    case ANM_ROLE_POSITION:
    case ANM_ROLE_LENGTH: return anm_mil_tensor(ANM_DT_I32, 1, (const int64_t[]){1});
    case ANM_ROLE_MASK: return anm_mil_tensor(t, 2, (const int64_t[]){rows, cached + rows});
    case ANM_ROLE_K_CACHE:
    case ANM_ROLE_V_CACHE: return entries_type(g, cached);
    case ANM_ROLE_NEW_K:
    case ANM_ROLE_NEW_V: return entries_type(g, rows);
    default: return anm_mil_tensor(t, 2, (const int64_t[]){1, p->vocab_size});
    }
}

/* ---- what stands around the layers ---- */

static void no_memory(anm_hand *h)
{
    if (!h->b.err.code) anm_fail_memory(&h->b.err, "a graph");
}

/* Row 0 of each table is the angles of position 0; the tables are made once for both. */
static void make_tables(anm_hand *h, anm_mil_value **cos, anm_mil_value **sin)
{
    const anm_graph *g = h->graph;
    anm_model m = *g->model;
    m.params = anm_legacy_params(&g->model->params);
    const int64_t shape[2] = {m.params.table_rows, m.params.head_dim / 2};
    size_t n = (size_t)(shape[0] * shape[1]), width = anm_dtype_bytes(g->recipe.type);
    float *x = calloc(n, 2 * sizeof *x);
    uint8_t *data = anm_arena_array(&h->b.fn->program->arena, 2 * n, width);
    anm_error err = {0};
    *cos = *sin = NULL;
    if (!x || !data) no_memory(h);
    else if (anm_rope_tables(x, x + n, &m, shape[0], &err) && !h->b.err.code) h->b.err = err;
    for (size_t i = 0; x && data && i < 2 * n; i++) {
        if (width == 2) anm_st16(data + 2 * i, anm_f32_to_f16(x[i]));
        else anm_stf32(data + 4 * i, x[i]);
    }
    free(x);
    if (!data) return;
    anm_mil_type t = anm_mil_tensor(g->recipe.type, 2, shape);
    *cos = anm_mil_const_blob(&h->b, "freqs_cos", t, (anm_blob){.size = n * width, .data = data, .in_file = true});
    *sin = anm_mil_const_blob(&h->b, "freqs_sin", t, (anm_blob){.size = n * width, .data = data + n * width, .in_file = true});
}

static anm_mil_value *pair(anm_hand *h, const char *name, anm_mil_value *a, anm_mil_value *b)
{
    return anm_mil_emit_list(&h->b, ANM_OP_CONCAT, name, ANM_P_VALUES, 2, (anm_mil_value *const[]){a, b}, ANM_P_AXIS,
                             anm_mil_const_i32(&h->b, 0), ANM_P_INTERLEAVE, anm_mil_const_bool(&h->b, false), ANM_P_END);
}

/* Rows begin … end of a table, as [1, T, 1, angles]. */
static anm_mil_value *rows_of(anm_hand *h, const char *name, anm_mil_value *table, anm_mil_value *begin, anm_mil_value *end)
{
    anm_mil_builder *b = &h->b;
    int64_t angles = h->graph->model->params.head_dim / 2;
    anm_mil_value *rows = anm_mil_emit(b, ANM_OP_SLICE_BY_INDEX, anm_name(h, "%s_of_step", name), ANM_P_X, table, ANM_P_BEGIN, begin,
                                       ANM_P_END_INDEX, end, ANM_P_END_MASK,
                                       anm_mil_const_bools(b, 2, (const bool[]){false, true}), ANM_P_END);
    return anm_reshape(h, name, rows, 4, (const int64_t[]){1, h->method->rows, 1, angles});
}

/* position -> slice -> begin, and begin + T -> end */
static void take_rotary_rows(anm_hand *h)
{
    anm_mil_builder *b = &h->b;
    const int64_t last = -1, one = 1;
    anm_mil_value *cos, *sin;
    make_tables(h, &cos, &sin);
    if (!cos || !sin) return;
    anm_mil_value *first = anm_mil_emit(b, ANM_OP_SLICE_BY_INDEX, "first_position", ANM_P_X, h->position, ANM_P_BEGIN,
                                        anm_mil_const_i32s(b, 1, &last), ANM_P_END_INDEX, anm_mil_const_i32s(b, 1, &one),
                                        ANM_P_END_MASK, anm_mil_const_bools(b, 1, (const bool[]){true}), ANM_P_SQUEEZE_MASK,
                                        anm_mil_const_bools(b, 1, (const bool[]){true}), ANM_P_END);
    anm_mil_value *behind = anm_mil_emit(b, ANM_OP_ADD, "position_behind", ANM_P_X, first, ANM_P_Y,
                                         anm_mil_const_i32(b, (int32_t)h->method->rows), ANM_P_END);
    anm_mil_value *begin = pair(h, "table_begin", first, anm_mil_const_i32(b, 0));
    anm_mil_value *end = pair(h, "table_end", behind, anm_mil_const_i32(b, (int32_t)(h->graph->model->params.head_dim / 2)));
    h->cos = rows_of(h, "cos", cos, begin, end);
    h->sin = rows_of(h, "sin", sin, begin, end);
}

/* Layer `i` of a tensor of all. */
static anm_mil_value *layer_of(anm_hand *h, const char *name, anm_mil_value *all, int64_t i)
{
    anm_mil_builder *b = &h->b;
    const int64_t *d = all->type.dim;
    return anm_mil_emit(b, ANM_OP_SLICE_BY_INDEX, name, ANM_P_X, all, ANM_P_BEGIN,
                        anm_mil_const_i32s(b, 5, (const int64_t[]){i, 0, 0, 0, 0}), ANM_P_END_INDEX,
                        anm_mil_const_i32s(b, 5, (const int64_t[]){i + 1, d[1], d[2], d[3], d[4]}), ANM_P_END_MASK,
                        anm_mil_const_bools(b, 5, (const bool[]){false, true, true, true, true}), ANM_P_SQUEEZE_MASK,
                        anm_mil_const_bools(b, 5, (const bool[]){true, false, false, false, false}), ANM_P_END);
}

void anm_legacy_open(anm_hand *h)
{
    take_rotary_rows(h);
    if (h->graph->recipe.cache_list) return;
    anm_mil_value *k = h->k_cache[0], *v = h->v_cache[0];
    for (int64_t i = 0; i < h->graph->model->params.n_layers; i++) {
        h->k_cache[i] = layer_of(h, anm_name(h, "k_cache_%d", (int)i), k, i);
        h->v_cache[i] = layer_of(h, anm_name(h, "v_cache_%d", (int)i), v, i);
    }
}

anm_mil_value *anm_legacy_logits(anm_hand *h, anm_mil_value *x)
{
    const int64_t rows = 1;
    anm_mil_value *last = anm_mil_emit(&h->b, ANM_OP_SUB, "last_row", ANM_P_X, h->last, ANM_P_Y, anm_mil_const_i32(&h->b, 1), ANM_P_END);
    x = anm_take_rows(h, "last_hidden", x, last, 1, true);
    x = anm_mil_emit(&h->b, ANM_OP_SQUEEZE, "last_hidden_row", ANM_P_X, x, ANM_P_AXES, anm_mil_const_i32s(&h->b, 1, &rows), ANM_P_END);
    x = anm_norm(h, "norm", x, h->graph->norm);
    return anm_apply_linear(h, "output", x, &h->graph->output);
}

void anm_legacy_close(anm_hand *h, anm_mil_value **new_k, anm_mil_value **new_v)
{
    if (h->graph->recipe.cache_list) return;
    const uint32_t n = (uint32_t)h->graph->model->params.n_layers;
    const int64_t first = 0;
    anm_mil_value **of[2] = {new_k, new_v};
    for (int i = 0; i < 2; i++) {
        const char *name = i ? "new_v" : "new_k";
        of[i][0] = n == 1 ? anm_mil_emit(&h->b, ANM_OP_EXPAND_DIMS, name, ANM_P_X, of[i][0], ANM_P_AXES, /* coremltools' way */
                                         anm_mil_const_i32s(&h->b, 1, &first), ANM_P_END)
                          : anm_mil_emit_list(&h->b, ANM_OP_STACK, name, ANM_P_VALUES, n, of[i], ANM_P_AXIS,
                                              anm_mil_const_i32(&h->b, 0), ANM_P_END);
    }
}
