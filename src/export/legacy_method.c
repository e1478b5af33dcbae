/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The method of the deprecated form:
 *
 *   inputs   tokens, input_pos, input_length, k caches, v caches, mask (int64 where they are integers)
 *   outputs  logits, new k, new v; a list of each with --use_cache_list, else one tensor
 *   memory   the outputs alone: the largest first, of equal ones the last first
 *
 * Source: executorch 1.5, examples/apple/coreml/llama/export.py, and its output.
 */
#include "export/method.h"
#include "base/bytes.h"

static void put_caches(anm_buf *b, const anm_graph *g)
{
    if (!g->recipe.cache_list) {
        anm_buf_puts(b, ANM_TREE_LEAF);
        return;
    }
    anm_tree_open(b, "list");
    anm_buf_puts(b, "null\", \"children_spec\": [");
    for (int64_t i = 0; i < anm_graph_caches(g); i++) anm_buf_printf(b, "%s%s", i ? ", " : "", ANM_TREE_LEAF);
    anm_buf_puts(b, "]}");
}

static void put_both_caches(anm_buf *b, const anm_graph *g)
{
    put_caches(b, g);
    anm_buf_puts(b, ", ");
    put_caches(b, g);
}

void anm_legacy_in_spec(anm_buf *b, const anm_graph *g)
{
    anm_buf_puts(b, "[1, ");
    anm_tree_tuple(b);
    anm_tree_tuple(b);
    for (int i = 0; i < 3; i++) anm_buf_puts(b, ANM_TREE_LEAF ", ");
    put_both_caches(b, g);
    anm_buf_puts(b, ", " ANM_TREE_LEAF "]}, ");
    anm_tree_open(b, "dict");
    anm_buf_puts(b, "[]\", \"children_spec\": []}]}]");
}

void anm_legacy_out_spec(anm_buf *b, const anm_graph *g)
{
    anm_buf_puts(b, "[1, ");
    anm_tree_tuple(b);
    anm_buf_puts(b, ANM_TREE_LEAF ", ");
    put_both_caches(b, g);
    anm_buf_puts(b, "]}]");
}

static uint64_t size_of(const anm_pte_value *v)
{
    uint64_t n = anm_dtype_bytes(v->dtype);
    for (int i = 0; i < v->rank; i++) n *= (uint64_t)v->size[i];
    return anm_align_up(n, ANM_METHOD_ALIGN);
}

/* Does value b go before value a? */
static bool goes_before(const anm_pte_method *m, uint32_t a, uint32_t b)
{
    uint64_t x = size_of(m->values + a), y = size_of(m->values + b);
    return x != y ? y > x : b > a;
}

uint64_t anm_legacy_place(anm_pte_method *m)
{
    uint64_t end = 0;
    for (size_t i = 0; i < m->n_outputs; i++) {
        anm_pte_value *v = m->values + m->outputs[i];
        v->planned = true;
        v->memory_id = ANM_METHOD_ARENA;
        v->memory_offset = 0;
        for (size_t k = 0; k < m->n_outputs; k++)
            if (goes_before(m, m->outputs[i], m->outputs[k])) v->memory_offset += size_of(m->values + m->outputs[k]);
        end += size_of(v);
    }
    return end;
}
