/* SPDX-License-Identifier: BSD-3-Clause */
/* y = w2(silu(w1 x) * w3 x) */
#include "graph/parts.h"

anm_mil_value *anm_feed_forward(anm_hand *h, anm_mil_value *x, const anm_graph_layer *layer)
{
    anm_mil_value *gate = anm_apply_linear(h, anm_name(h, "w1"), x, &layer->w1);
    anm_mil_value *up = anm_apply_linear(h, anm_name(h, "w3"), x, &layer->w3);
    gate = anm_mil_emit(&h->b, ANM_OP_SILU, anm_name(h, "gate"), ANM_P_X, gate, ANM_P_END);
    up = anm_mil_emit(&h->b, ANM_OP_MUL, anm_name(h, "gated"), ANM_P_X, gate, ANM_P_Y, up, ANM_P_END);
    return anm_apply_linear(h, anm_name(h, "w2"), up, &layer->w2);
}
