/* SPDX-License-Identifier: BSD-3-Clause */
#include "calib/key.h"
#include "dense/dense.h"

#include <stdio.h>
#include <string.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

enum { ARITHMETIC = 6 }; /* one more whenever the same work would come out otherwise */

static void add_matrix(XXH3_state_t *h, const anm_matrix *m)
{
    for (int i = 0; i < m->n_parts; i++) {
        const anm_tensor *t = m->part[i];
        const int64_t how[] = {t->dtype, t->rank, m->split_dim, m->unpermute_heads};
        XXH3_128bits_update(h, how, sizeof how);
        XXH3_128bits_update(h, t->shape, (size_t)t->rank * sizeof *t->shape);
        XXH3_128bits_update(h, t->stride, (size_t)t->rank * sizeof *t->stride);
        XXH3_128bits_update(h, t->data, (size_t)t->size);
    }
}

void anm_calib_key(uint8_t key[16], const anm_model *m, const int32_t *tokens, const anm_calib_opts *o)
{
    const anm_params *p = &m->params;
    XXH3_state_t h;
    char text[512];
    XXH3_INITSTATE(&h);
    XXH3_128bits_reset(&h);
    int n = snprintf(text, sizeof text, "%d %s %s|%u %u %lld %lld %d %zu %zu %llu %d %a %a %a %d %d %d|%lld %lld %lld %lld %lld %lld %lld %a %a %d %a %a %d %d %d %d %a",
                     ARITHMETIC, ANM_VERSION, anm_gemm_name(), o->linear_bits, o->embed_bits, (long long)o->linear_group, (long long)o->embed_group,
                     o->fp16, o->windows, o->len, (unsigned long long)o->seed, o->rotate, o->damp, o->ridge, o->drift, o->tune, o->tries, o->rounds,
                     (long long)p->dim, (long long)p->n_layers, (long long)p->n_heads, (long long)p->n_kv_heads, (long long)p->head_dim,
                     (long long)p->hidden_dim, (long long)p->vocab_size, p->norm_eps, p->rope_theta, p->use_scaled_rope, p->rope_scale_factor,
                     p->high_freq_factor, p->use_hf_rope, p->use_qk_norm, p->qk_norm_before_rope, p->attention_qkv_bias, p->partial_rotary_factor);
    XXH3_128bits_update(&h, text, (size_t)n);
    XXH3_128bits_update(&h, tokens, o->windows * o->len * sizeof *tokens);
    if (m->rope_freqs) XXH3_128bits_update(&h, m->rope_freqs, (size_t)p->head_dim / 2 * sizeof *m->rope_freqs);
    add_matrix(&h, &m->tok_embeddings);
    add_matrix(&h, &m->norm);
    add_matrix(&h, &m->output);
    for (int64_t i = 0; i < p->n_layers; i++) {
        const anm_layer *l = &m->layers[i];
        const anm_matrix *all[] = {&l->attention_norm, &l->wq, &l->wk, &l->wv, &l->wo, &l->bq, &l->bk, &l->bv, &l->q_norm, &l->k_norm,
                                   &l->ffn_norm, &l->w1, &l->w2, &l->w3};
        for (size_t j = 0; j < sizeof all / sizeof *all; j++) add_matrix(&h, all[j]);
    }
    XXH128_canonical_t c;
    XXH128_canonicalFromHash(&c, XXH3_128bits_digest(&h));
    memcpy(key, c.digest, 16);
}
