/* SPDX-License-Identifier: BSD-3-Clause */
/* tokens [1, T] -> hidden states [1, T, dim] */
#include "graph/parts.h"

anm_mil_value *anm_embed(anm_hand *h)
{
    anm_mil_value *table = anm_const_weight(h, "tok_embeddings_weight", &h->graph->embedding);
    return anm_take_rows(h, "tok_embeddings", table, h->tokens, 0, false);
}
