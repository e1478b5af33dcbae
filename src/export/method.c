/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The ExecuTorch program around the pieces: one method per method of the graph, then one per constant that a runner
 * wants to know. What a runner of the reference's files relies on is kept to the letter:
 *
 *   inputs   tokens, mask, cos, sin, every k cache, every v cache, last_valid_token_pos (pytree order)
 *   outputs  logits, every new k, every new v
 *   values   the inputs, then what each piece gives, in order
 *   memory   hidden states between pieces take turns in one arena: a piece reads one half and writes the other
 *
 * Source: executorch 1.5, examples/apple/coreml/llama/export_static_llm_coreml.py (_get_metadata), and its output.
 */
#include "export/method.h"
#include "base/bytes.h"
#include "base/half.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MEMORY = ANM_METHOD_ARENA, ALIGN = ANM_METHOD_ALIGN };

/* One program being made: memory is asked for once a step and checked at its end. */
typedef struct maker {
    anm_graph *g;
    anm_pte *p;
    const anm_layout *packages;
    const char *const *keys;
    bool no_memory;
} maker;

static void *take(maker *m, size_t n, size_t size)
{
    void *p = anm_arena_array(&m->p->arena, n + 1, size);
    if (!p) m->no_memory = true;
    return p;
}

/* ---- pytree strings ---- */

/* The caches by layer: a dictionary of leaves. */
static void put_caches(anm_buf *b, int64_t n)
{
    anm_tree_open(b, "dict");
    anm_buf_puts(b, "[");
    for (int64_t i = 0; i < n; i++) anm_buf_printf(b, "%s\\\"l%lld,h0\\\"", i ? ", " : "", (long long)i);
    anm_buf_puts(b, "]\", \"children_spec\": [");
    for (int64_t i = 0; i < n; i++) anm_buf_printf(b, "%s%s", i ? ", " : "", ANM_TREE_LEAF);
    anm_buf_puts(b, "]}");
}

static void put_both_caches(anm_buf *b, int64_t n)
{
    anm_tree_tuple(b);
    put_caches(b, n);
    anm_buf_puts(b, ", ");
    put_caches(b, n);
    anm_buf_puts(b, "]}");
}

static const char *finish(maker *m, anm_buf *b)
{
    const char *s = b->bad ? NULL : anm_arena_strndup(&m->p->arena, (const char *)b->data, b->size);
    if (!s) m->no_memory = true;
    anm_buf_free(b);
    return s;
}

static bool is_deprecated(const anm_graph *g)
{
    return g->recipe.form == ANM_FORM_DEPRECATED;
}

static const char *in_spec(maker *m, const anm_graph_method *gm)
{
    anm_buf b = {0};
    if (is_deprecated(m->g)) {
        anm_legacy_in_spec(&b, m->g);
        return finish(m, &b);
    }
    anm_buf_puts(&b, "[1, ");
    anm_tree_tuple(&b);
    anm_tree_tuple(&b);
    anm_buf_puts(&b, ANM_TREE_LEAF ", ");
    anm_tree_open(&b, "dict");
    anm_buf_puts(&b, "[\\\"masks\\\", \\\"freqs_cos_override\\\", \\\"freqs_sin_override\\\", \\\"in_cache_state\\\"");
    anm_buf_puts(&b, gm->last_only ? ", \\\"last_valid_token_pos\\\"]\", \"children_spec\": [" : "]\", \"children_spec\": [");
    anm_tree_open(&b, "dict");
    anm_buf_printf(&b, "[%lld]\", \"children_spec\": [" ANM_TREE_LEAF "]}, " ANM_TREE_LEAF ", " ANM_TREE_LEAF ", ", (long long)m->g->recipe.cache_len);
    put_both_caches(&b, anm_graph_caches(m->g));
    if (gm->last_only) anm_buf_puts(&b, ", " ANM_TREE_LEAF);
    anm_buf_puts(&b, "]}]}, ");
    anm_tree_open(&b, "dict");
    anm_buf_puts(&b, "[]\", \"children_spec\": []}]}]");
    return finish(m, &b);
}

static const char *out_spec(maker *m)
{
    anm_buf b = {0};
    if (is_deprecated(m->g)) {
        anm_legacy_out_spec(&b, m->g);
        return finish(m, &b);
    }
    anm_buf_puts(&b, "[1, ");
    anm_tree_tuple(&b);
    anm_buf_puts(&b, ANM_TREE_LEAF ", ");
    anm_tree_open(&b, "dict");
    anm_buf_puts(&b, "[\\\"out_cache_state\\\"]\", \"children_spec\": [");
    if (anm_graph_caches(m->g)) put_both_caches(&b, anm_graph_caches(m->g));
    else anm_buf_puts(&b, ANM_TREE_LEAF);
    anm_buf_puts(&b, "]}]}]");
    return finish(m, &b);
}

/* ---- the graph's methods ---- */

/* The index of each value by its role; caches and new keys and values by layer, hidden states by piece. */
typedef struct places {
    uint32_t tokens, mask, cos, sin, last, position, logits, *k_cache, *v_cache, *new_k, *new_v, *hidden;
} places;

static uint32_t *place_of(places *p, anm_graph_io io)
{
    switch (io.role) {
    case ANM_ROLE_TOKENS: return &p->tokens;
    case ANM_ROLE_MASK: return &p->mask;
    case ANM_ROLE_COS: return &p->cos;
    case ANM_ROLE_SIN: return &p->sin;
    case ANM_ROLE_LAST:
    case ANM_ROLE_LENGTH: return &p->last;
    case ANM_ROLE_POSITION: return &p->position;
    case ANM_ROLE_LOGITS: return &p->logits;
    case ANM_ROLE_K_CACHE: return p->k_cache + io.index;
    case ANM_ROLE_V_CACHE: return p->v_cache + io.index;
    case ANM_ROLE_NEW_K: return p->new_k + io.index;
    case ANM_ROLE_NEW_V: return p->new_v + io.index;
    case ANM_ROLE_HIDDEN: break;
    }
    return p->hidden + io.index;
}

/* Where the hidden state after piece `i` lies: the last one at 0, the one before it behind, and so on in turns. */
static uint64_t hidden_offset(const anm_graph *g, int64_t i, uint64_t size)
{
    return (g->n_pieces - 2 - i) % 2 ? size : 0;
}

static uint64_t hidden_size(const anm_graph *g, int32_t method)
{
    return anm_align_up((uint64_t)(g->method[method].rows * g->model->params.dim) * anm_dtype_bytes(g->recipe.type), ALIGN);
}

static uint32_t add_value(maker *m, anm_pte_method *pm, int32_t method, anm_graph_io io)
{
    anm_mil_type t = anm_graph_type(m->g, method, io);
    bool wide = io.role == ANM_ROLE_LAST || (is_deprecated(m->g) && t.dtype == ANM_DT_I32);
    anm_pte_value v = {.kind = ANM_PTE_TENSOR, .dtype = wide ? ANM_DT_I64 : t.dtype, .rank = t.rank};
    for (int i = 0; i < t.rank; i++) v.size[i] = (int32_t)t.dim[i];
    if (io.role == ANM_ROLE_HIDDEN) {
        v.planned = true;
        v.memory_id = MEMORY;
        v.memory_offset = hidden_offset(m->g, io.index, hidden_size(m->g, method));
    }
    pm->values[pm->n_values] = v;
    return (uint32_t)pm->n_values++;
}

static void add_input(maker *m, anm_pte_method *pm, int32_t method, places *at, anm_role role, int64_t index)
{
    anm_graph_io io = {role, index};
    pm->inputs[pm->n_inputs++] = *place_of(at, io) = add_value(m, pm, method, io);
}

static void add_inputs(maker *m, anm_pte_method *pm, int32_t method, places *at)
{
    int64_t n = anm_graph_caches(m->g);
    bool deprecated = is_deprecated(m->g);
    add_input(m, pm, method, at, ANM_ROLE_TOKENS, 0);
    if (!deprecated) add_input(m, pm, method, at, ANM_ROLE_MASK, 0);
    add_input(m, pm, method, at, deprecated ? ANM_ROLE_POSITION : ANM_ROLE_COS, 0);
    add_input(m, pm, method, at, deprecated ? ANM_ROLE_LENGTH : ANM_ROLE_SIN, 0);
    for (int64_t i = 0; i < n; i++) add_input(m, pm, method, at, ANM_ROLE_K_CACHE, i);
    for (int64_t i = 0; i < n; i++) add_input(m, pm, method, at, ANM_ROLE_V_CACHE, i);
    if (deprecated) add_input(m, pm, method, at, ANM_ROLE_MASK, 0);
    else if (m->g->method[method].last_only) add_input(m, pm, method, at, ANM_ROLE_LAST, 0);
}

static void add_outputs(maker *m, anm_pte_method *pm, const places *at)
{
    int64_t n = anm_graph_caches(m->g);
    pm->outputs[pm->n_outputs++] = at->logits;
    for (int64_t i = 0; i < n; i++) pm->outputs[pm->n_outputs++] = at->new_k[i];
    for (int64_t i = 0; i < n; i++) pm->outputs[pm->n_outputs++] = at->new_v[i];
    if (n) return;
    pm->values[pm->n_values] = (anm_pte_value){.kind = ANM_PTE_NULL}; /* what the reference gives where no cache is */
    pm->outputs[pm->n_outputs++] = (uint32_t)pm->n_values++;
}

static int add_call(maker *m, anm_pte_method *pm, int32_t method, int32_t piece, places *at, anm_error *err)
{
    anm_graph_signature s;
    int rc = anm_graph_sign(&s, m->g, piece, method, err);
    if (rc) return rc;
    uint32_t *args = take(m, (size_t)(s.n_inputs + s.n_outputs), sizeof *args);
    if (!args) return 0;
    anm_pte_call call = {.delegate = (uint32_t)piece, .args = args};
    for (int32_t i = 0; i < s.n_inputs; i++) args[call.n_args++] = *place_of(at, s.inputs[i]);
    for (int32_t i = 0; i < s.n_outputs; i++)
        args[call.n_args++] = *place_of(at, s.outputs[i]) = add_value(m, pm, method, s.outputs[i]);
    pm->calls[pm->n_calls++] = call;
    return 0;
}

static void add_delegate(maker *m, anm_pte_method *pm, int32_t method, int32_t piece)
{
    const anm_recipe *r = &m->g->recipe;
    const char *specs[][2] = {
        {"compute_units", "cpu_and_ne"},
        {"min_deployment_target", "9"},
        {"model_compute_precision", r->type == ANM_DT_F16 ? "float16" : "float32"},
        {"model_type", "model"},
        {"multimethod_weight_sharing_strategy", "positional"},
    };
    anm_pte_delegate *d = pm->delegates + pm->n_delegates++;
    d->id = "CoreMLBackend";
    d->n_specs = sizeof specs / sizeof *specs - (r->multifunction ? 0 : 1);
    d->specs = take(m, d->n_specs, sizeof *d->specs);
    for (size_t i = 0; i < d->n_specs && d->specs; i++)
        d->specs[i] = (anm_pte_spec){specs[i][0], (const uint8_t *)specs[i][1], strlen(specs[i][1])};
    if (!r->multifunction) {
        d->layout = m->packages + piece;
        return;
    }
    const char *reference = anm_arena_printf(&m->p->arena, "CMJR{\"version\": 1, \"key\": \"%s\", \"functionName\": \"%s\"}",
                                             m->keys[piece], m->g->method[method].function);
    if (!reference) m->no_memory = true;
    else *d = (anm_pte_delegate){.id = d->id, .specs = d->specs, .n_specs = d->n_specs, .data = (const uint8_t *)reference,
                                 .size = strlen(reference)};
}

static int make_method(maker *m, int32_t method, anm_error *err)
{
    anm_graph *g = m->g;
    anm_pte_method *pm = m->p->methods + m->p->n_methods++;
    size_t layers = (size_t)g->model->params.n_layers, pieces = (size_t)g->n_pieces, most = 4 * layers + pieces + 8;
    uint32_t *at = take(m, 4 * layers + pieces, sizeof *at);
    *pm = (anm_pte_method){.name = g->method[method].name,
                           .in_spec = in_spec(m, g->method + method),
                           .out_spec = out_spec(m),
                           .values = take(m, most, sizeof *pm->values),
                           .inputs = take(m, most, sizeof *pm->inputs),
                           .outputs = take(m, most, sizeof *pm->outputs),
                           .delegates = take(m, pieces, sizeof *pm->delegates),
                           .calls = take(m, pieces, sizeof *pm->calls),
                           .arena_sizes = take(m, 2, sizeof *pm->arena_sizes),
                           .n_arenas = 2};
    if (m->no_memory) return 0;
    places p = {.k_cache = at, .v_cache = at + layers, .new_k = at + 2 * layers, .new_v = at + 3 * layers, .hidden = at + 4 * layers};
    add_inputs(m, pm, method, &p);
    int rc = 0;
    for (int32_t i = 0; i < g->n_pieces && !rc && !m->no_memory; i++) {
        rc = add_call(m, pm, method, i, &p, err);
        add_delegate(m, pm, method, i);
    }
    add_outputs(m, pm, &p);
    if (is_deprecated(g)) {
        pm->arena_sizes[1] = anm_legacy_place(pm);
        return rc;
    }
    uint64_t states = (uint64_t)g->n_pieces - 1;
    pm->arena_sizes[1] = hidden_size(g, method) * (states < 2 ? states : 2);
    return rc;
}

/* ---- constant methods ---- */

static anm_pte_value *make_constant(maker *m, const char *name)
{
    anm_pte_method *pm = m->p->methods + m->p->n_methods++;
    *pm = (anm_pte_method){.name = name, .in_spec = "", .out_spec = "[1, " ANM_TREE_LEAF "]", .values = take(m, 1, sizeof *pm->values),
                           .n_values = 1, .outputs = take(m, 1, sizeof *pm->outputs), .n_outputs = 1,
                           .arena_sizes = take(m, 1, sizeof *pm->arena_sizes), .n_arenas = 1};
    return pm->values;
}

static void make_int(maker *m, const char *name, int64_t i)
{
    anm_pte_value *v = make_constant(m, name);
    if (v) *v = (anm_pte_value){.kind = ANM_PTE_INT, .i = i};
}

/* An int64 tensor of `rank` dimensions. */
static void make_ints(maker *m, const char *name, const int64_t *x, int rank, int64_t rows, int64_t cols)
{
    anm_pte_value *v = make_constant(m, name);
    size_t n = (size_t)(rank == 2 ? rows * cols : rows);
    uint8_t *data = take(m, n, 8);
    if (!v || !data) return;
    for (size_t i = 0; i < n; i++) anm_st64(data + 8 * i, (uint64_t)x[i]);
    *v = (anm_pte_value){.kind = ANM_PTE_TENSOR, .dtype = ANM_DT_I64, .rank = rank, .size = {(int32_t)rows, (int32_t)cols},
                         .data = data, .data_size = 8 * n};
}

static void make_table(maker *m, const char *name, const float *x, int64_t rows, int64_t cols)
{
    anm_dtype t = m->g->recipe.type;
    anm_pte_value *v = make_constant(m, name);
    size_t n = (size_t)(rows * cols), width = anm_dtype_bytes(t);
    uint8_t *data = take(m, n, width);
    if (!v || !data) return;
    if (t == ANM_DT_F16) anm_floats_to_f16(data, x, n);
    else
        for (size_t i = 0; i < n; i++) anm_stf32(data + 4 * i, x[i]);
    *v = (anm_pte_value){.kind = ANM_PTE_TENSOR, .dtype = t, .rank = 2, .size = {(int32_t)rows, (int32_t)cols}, .data = data,
                         .data_size = n * width};
}

/* A table that is made when it is written. */
static void promise_table(maker *m, const char *name, const anm_table_source *t, uint32_t part)
{
    anm_pte_value *v = make_constant(m, name);
    if (v)
        *v = (anm_pte_value){.kind = ANM_PTE_TENSOR, .dtype = t->type, .rank = 2, .size = {(int32_t)t->rows, (int32_t)t->cols},
                             .data_size = (uint64_t)(t->rows * t->cols) * anm_dtype_bytes(t->type), .source = t, .part = part};
}

static int make_tables(maker *m, anm_error *err)
{
    enum { HELD = 1 << 18 }; /* values of a table that are no burden; small tables are compared with other constants */
    const anm_params *p = &m->g->model->params;
    int64_t rows = m->g->recipe.max_context_len, cols = p->use_hf_rope ? p->head_dim : p->head_dim / 2;
    if (rows > HELD / cols) {
        anm_table_source *t = take(m, 1, sizeof *t);
        if (!t) return 0; /* noted */
        *t = (anm_table_source){m->g->model, rows, cols, m->g->recipe.type};
        promise_table(m, "freqs_cos", t, ANM_TABLE_COS);
        promise_table(m, "freqs_sin", t, ANM_TABLE_SIN);
        return 0;
    }
    float *x = calloc((size_t)(rows * cols), 2 * sizeof *x);
    if (!x) return anm_fail_memory(err, "the rotary tables");
    int rc = anm_rope_tables(x, x + rows * cols, m->g->model, rows, err);
    if (!rc) {
        make_table(m, "freqs_cos", x, rows, cols);
        make_table(m, "freqs_sin", x + rows * cols, rows, cols);
    }
    free(x);
    return rc;
}

/* Layers in the order of their caches' names as text: l0, l1, l10, l11, l2, … */
static int by_name(const void *a, const void *b)
{
    char x[32], y[32];
    snprintf(x, sizeof x, "l%lld,h0", (long long)*(const int64_t *)a);
    snprintf(y, sizeof y, "l%lld,h0", (long long)*(const int64_t *)b);
    return strcmp(x, y);
}

/* Per layer: where its k cache goes in, its new k comes out, the same for v, and the cache's length. The reference
 * sorts the layers by name but numbers the outputs in that order, so from layer 10 on the outputs named here are not
 * those of the layer; files are compared with its, so this stays. Runners do better to go by position. */
static void make_cache_specs(maker *m, const char *name)
{
    int64_t n = anm_graph_caches(m->g), *layer = take(m, (size_t)n, sizeof *layer), *spec = take(m, (size_t)n * 5, sizeof *spec);
    if (!layer || !spec) return;
    for (int64_t i = 0; i < n; i++) layer[i] = i;
    qsort(layer, (size_t)n, sizeof *layer, by_name);
    for (int64_t i = 0; i < n; i++) {
        const int64_t row[5] = {4 + layer[i], 1 + i, 4 + n + layer[i], 1 + n + i, m->g->recipe.cache_len};
        memcpy(spec + 5 * i, row, sizeof row);
    }
    make_ints(m, name, spec, n ? 2 : 1, n, 5);
}

/* The constants that tell a runner how to call a method, their names after `prefix`. */
static void make_method_constants(maker *m, const char *prefix)
{
    anm_arena *a = &m->p->arena;
    const int64_t mask[2] = {1, m->g->recipe.cache_len}, cos = 2, sin = 3;
    const char *names[4] = {anm_arena_printf(a, "%sfreqs_cos_input_index", prefix), anm_arena_printf(a, "%sfreqs_sin_input_index", prefix),
                            anm_arena_printf(a, "%smask_specs", prefix), anm_arena_printf(a, "%skv_cache_specs", prefix)};
    for (int i = 0; i < 4; i++) m->no_memory |= !names[i];
    make_ints(m, names[0], &cos, 1, 1, 0);
    make_ints(m, names[1], &sin, 1, 1, 0);
    make_ints(m, names[2], mask, 2, 1, 2);
    make_cache_specs(m, names[3]);
}

static int make_constants(maker *m, anm_error *err)
{
    const anm_params *p = &m->g->model->params;
    make_int(m, "vocab_size", p->vocab_size);
    make_int(m, "head_dim", p->head_dim);
    make_int(m, "n_heads_per_cache", p->n_kv_heads);
    int rc = make_tables(m, err);
    if (rc) return rc;
    if (!m->g->recipe.multifunction) {
        make_method_constants(m, "");
        make_int(m, "forward_input_len", m->g->method[0].rows);
        return 0;
    }
    make_int(m, "decode_input_len", m->g->method[0].rows);
    make_method_constants(m, "decode_");
    make_int(m, "prefill_input_len", m->g->method[1].rows);
    make_method_constants(m, "prefill_");
    return 0;
}

int anm_program_make(anm_pte *out, anm_graph *g, const anm_layout *packages, const char *const *keys, anm_error *err)
{
    enum { CONSTANTS = 16 };
    *out = (anm_pte){0};
    anm_arena_init(&out->arena);
    maker m = {.g = g, .p = out, .packages = packages, .keys = keys};
    out->methods = take(&m, (size_t)g->n_methods + CONSTANTS, sizeof *out->methods);
    int rc = 0;
    for (int32_t i = 0; i < g->n_methods && !rc && !m.no_memory; i++) rc = make_method(&m, i, err);
    if (!rc && !m.no_memory && !is_deprecated(g)) rc = make_constants(&m, err);
    if (!rc && g->recipe.multifunction) {
        out->named = take(&m, (size_t)g->n_pieces, sizeof *out->named);
        for (int32_t i = 0; i < g->n_pieces && out->named; i++)
            out->named[out->n_named++] = (anm_pte_named){.key = keys[i], .layout = packages + i};
    }
    return rc ? rc : m.no_memory ? anm_fail_memory(err, "a program") : 0;
}
