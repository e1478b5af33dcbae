/* SPDX-License-Identifier: BSD-3-Clause */
/* hidden states [1, T, dim] -> logits [1, T, vocab], or [1, 1, vocab] at last_valid_token_pos alone */
#include "graph/parts.h"

anm_mil_value *anm_logits(anm_hand *h, anm_mil_value *x)
{
    /* Where the embedding's gather came before in the same piece, the original's tools cast this one's index otherwise. */
    if (h->last) x = anm_take_rows(h, "last_hidden", x, h->last, 1, h->tokens != NULL);
    x = anm_norm(h, "norm", x, h->graph->norm);
    return anm_apply_linear(h, "output", x, &h->graph->output);
}
