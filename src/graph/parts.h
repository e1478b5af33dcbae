/* SPDX-License-Identifier: BSD-3-Clause */
/* The parts of the graph, and the hand that builds them. Every part takes values and gives values; names tell a person
 * who opens the package what a value is. */
#ifndef ANM_GRAPH_PARTS_H
#define ANM_GRAPH_PARTS_H

#include "graph/graph.h"

typedef struct anm_hand {
    const anm_graph *graph;
    const anm_graph_method *method;
    anm_mil_builder b;
    char prefix[32]; /* put before every name: "layers_3_" or "" */
    char name[4][96];
    int turn;
    /* The method's inputs that this piece has; NULL where it has not. The caches are by layer. */
    anm_mil_value *tokens, *mask, *cos, *sin, *last, *position, **k_cache, **v_cache;
} anm_hand;

/* "PREFIX" + the printf text; good until three more are made. */
const char *anm_name(anm_hand *h, const char *fmt, ...)
#if defined(__GNUC__)
    __attribute__((format(printf, 2, 3)))
#endif
    ;

/* Constants of the recipe's type: a scalar, or `n` values that lie in the graph's arena. */
anm_mil_value *anm_const_scalar(anm_hand *h, double v);
anm_mil_value *anm_const_vector(anm_hand *h, const char *name, const uint8_t *data, int64_t n);
anm_mil_value *anm_const_filled(anm_hand *h, const char *name, int rank, const int64_t *shape, double v); /* v everywhere */

/* A weight as a value: a dequantised constant, or a plain one. */
anm_mil_value *anm_const_weight(anm_hand *h, const char *name, const anm_weight *w);

anm_mil_value *anm_binary(anm_hand *h, anm_mil_opcode op, const char *name, anm_mil_value *x, anm_mil_value *y);
anm_mil_value *anm_reshape(anm_hand *h, const char *name, anm_mil_value *x, int rank, const int64_t *shape);

/* Rows of x, [n, d] or [1, n, d] along `axis`, by index; a negative one counts from the end, unless `counted` asks for
 * the form without that guard where there is one. */
anm_mil_value *anm_take_rows(anm_hand *h, const char *name, anm_mil_value *x, anm_mil_value *rows, int axis, bool counted);

anm_mil_value *anm_embed(anm_hand *h);                                                     /* [1, T, dim] */
anm_mil_value *anm_norm(anm_hand *h, const char *name, anm_mil_value *x, const uint8_t *weight); /* over the last axis */
anm_mil_value *anm_head_norm(anm_hand *h, const char *name, anm_mil_value *x, const uint8_t *weight);
anm_mil_value *anm_apply_linear(anm_hand *h, const char *name, anm_mil_value *x, const anm_linear *l);
anm_mil_value *anm_rotate(anm_hand *h, const char *name, anm_mil_value *x); /* x [1, heads, T, head_dim] */
/* The even and the odd values of pairs become those of the pairs turned. */
void anm_turn_pairs(anm_hand *h, const char *name, anm_mil_value **even, anm_mil_value **odd);
/* Gives the layer's new keys and values besides. */
anm_mil_value *anm_attend(anm_hand *h, anm_mil_value *x, int64_t layer, anm_mil_value **new_k, anm_mil_value **new_v);
anm_mil_value *anm_feed_forward(anm_hand *h, anm_mil_value *x, const anm_graph_layer *layer);
anm_mil_value *anm_logits(anm_hand *h, anm_mil_value *x);

/* The deprecated form (legacy.c, legacy_attention.c). */
int anm_legacy_plan(anm_graph *g, anm_error *err); /* its lengths and its method */
void anm_legacy_sign(anm_graph_signature *s, const anm_graph *g);
anm_mil_type anm_legacy_type(const anm_graph *g, anm_graph_io io);
void anm_legacy_open(anm_hand *h); /* the step's rows of the rotary tables, and each layer's part of the caches */
anm_mil_value *anm_legacy_attend(anm_hand *h, anm_mil_value *x, int64_t layer, anm_mil_value **new_k, anm_mil_value **new_v);
anm_mil_value *anm_legacy_logits(anm_hand *h, anm_mil_value *x);
void anm_legacy_close(anm_hand *h, anm_mil_value **new_k, anm_mil_value **new_v); /* one tensor of all layers' new rows */

#endif
