/* SPDX-License-Identifier: BSD-3-Clause */
/* Meanings of values while a graph is lowered. For lower*.c. */
#ifndef ANM_PLAN_LOWER_H
#define ANM_PLAN_LOWER_H

#include "plan/internal.h"

typedef enum anm_meaning {
    MEANS_NOTHING = 0, /* not known: using it ends the attempt */
    MEANS_CONST,       /* value */
    MEANS_WEIGHT,      /* weight: integers times scales */
    MEANS_TOKENS,      /* the tokens, or last_valid_token_pos: */
    MEANS_LAST_POS,
    MEANS_NOT_NEGATIVE, /* of: … is it >= 0? */
    MEANS_WRAPPED,      /* of: … plus the size of what it indexes */
    MEANS_TABLE,        /* cos or sin rows; view is that of the input, buf says which */
    MEANS_MASK,         /* view */
    MEANS_CACHE,        /* layer, v; view's dimensions are the input's */
    MEANS_ROWS,         /* floats in a buffer: view */
    MEANS_LINEAR,       /* not yet computed: x times weights; view has the shape only */
    MEANS_SILU,         /* of, not yet computed */
    MEANS_SCALED,       /* of (ROWS) times factor */
    MEANS_SQUARE,       /* of (ROWS), times factor */
    MEANS_SIZE,         /* the magnitudes of `of` (ROWS) */
    MEANS_PEAK,         /* the largest of them in the last dimension */
    MEANS_LEVELLED,     /* `of` divided by that: SQUARE, SUM and ROOT of it are `levelled` */
    MEANS_SUM,          /* norm.sum_scale * sum of squares + inner … of `of` */
    MEANS_ROOT,         /* its square root (+ outer) */
    MEANS_LEGS,         /* a root and a constant side by side, whose squares norm.inner has summed already */
    MEANS_INVERSE_ROOT, /* norm.mul / that */
    MEANS_NORMED,       /* of (ROWS) times that */
    MEANS_TURNED,       /* of (ROWS) times a table */
    MEANS_FIRST,        /* a cos - b sin: the first of each pair */
    MEANS_SECOND,       /* a sin + b cos */
    MEANS_HALVES,       /* (-second half, first half) of `of` */
    MEANS_ENTRIES,      /* cached and fresh keys or values: layer, v, heads */
    MEANS_SCORES,       /* queries times keys */
    MEANS_PROBS,        /* softmax of the scores */
} anm_meaning;

typedef struct anm_sym {
    anm_meaning kind;
    const anm_mil_value *value; /* the graph's value (for names and shapes) */
    anm_view view;
    const struct anm_sym *of, *other; /* other: FIRST, SECOND: b; NORMED: the weight */
    struct anm_sym *made;             /* once computed: the ROWS */
    anm_rows_spec weight;
    anm_matrix_spec matrix; /* LINEAR */
    float factor;
    anm_norm norm;
    int32_t layer, v;
    int32_t n_heads;   /* ENTRIES: of the product of leading dimensions; SCORES, PROBS: query heads */
    int32_t *kv_head;  /* [n_heads] */
    int64_t *q_off;    /* SCORES */
    bool masked;
    bool levelled; /* SQUARE, SUM, ROOT: of rows that were divided by their peak */
    int rank;          /* ENTRIES, SCORES, PROBS: dimensions (their last two are entries, width or rows, entries) */
    int64_t dim[ANM_MIL_MAX_RANK];
} anm_sym;

typedef struct anm_lower {
    anm_plan *p;
    const anm_method *m;
    anm_arena *arena;
    anm_sym **at; /* [fn->n_values] */
    anm_view *kept; /* [n_layers * 2]: what was put into each layer's fresh keys and values */
    bool *is_kept;
    int32_t selected_at; /* the step at which the last row was picked; -1 */
    anm_error *err;
    const anm_mil_op *op; /* being lowered */
} anm_lower;

#define ANM_ROW_FLOATS_MAX ((int64_t)1 << 36) /* far beyond any model; so that sizes in bytes cannot wrap */

/* End the attempt; give NULL. */
anm_sym *anm_lower_no(anm_lower *l, const char *why);
void *anm_lower_no_memory(anm_lower *l);

anm_sym *anm_lower_new(anm_lower *l, anm_meaning kind, const anm_mil_value *v);
/* The meaning of a value, or of an argument, or NULL (and the attempt ends). */
anm_sym *anm_lower_meaning(anm_lower *l, const anm_mil_value *v);
anm_sym *anm_lower_arg(anm_lower *l, anm_mil_param p);
bool anm_lower_scalar(const anm_sym *s, float *out); /* a constant of one element */
/* A root and a constant that is the same everywhere, side by side: what a length of the two adds an epsilon by. */
anm_sym *anm_lower_legs(anm_lower *l, const anm_sym *root, const anm_sym *constant);

/* The rows that `s` stands for, computed now if they are not yet: NULL when it stands for none. */
anm_sym *anm_lower_force(anm_lower *l, anm_sym *s);
/* The same, moved together if need be so that it is a matrix. */
anm_sym *anm_lower_matrix(anm_lower *l, anm_sym *s);

int32_t anm_lower_buffer(anm_lower *l, int64_t width);       /* -1: no memory */
anm_plan_step *anm_lower_step(anm_lower *l, anm_step_kind kind); /* NULL: no memory */

/* Prints the ops in order, each with the meaning of its results and the steps made for it; as far as the walk came. */
void anm_lower_print(anm_buf *to, const anm_lower *l);

/* The row dimension of a value by its type: for results whose operands do not tell. */
anm_view anm_lower_packed(anm_lower *l, int32_t buf, const anm_mil_value *v, int row);

/* Ops that only rearrange (lower_move.c); split gives several results their meanings itself. */
anm_sym *anm_lower_reshape(anm_lower *l, const anm_mil_op *op); /* squeeze and expand_dims too */
anm_sym *anm_lower_transpose(anm_lower *l, const anm_mil_op *op);
anm_sym *anm_lower_slice(anm_lower *l, const anm_mil_op *op);
anm_sym *anm_lower_slice_by_size(anm_lower *l, const anm_mil_op *op);
bool anm_lower_split(anm_lower *l, const anm_mil_op *op);

/* Rules of whole families (lower_*.c); NULL ends the attempt. */
anm_sym *anm_lower_norm_rule(anm_lower *l, const anm_mil_op *op);      /* reduce_*, rsqrt, sqrt, inverse, maximum */
anm_sym *anm_lower_attention_rule(anm_lower *l, const anm_mil_op *op); /* matmul, softmax, tile, sdpa */
anm_sym *anm_lower_binary(anm_lower *l, const anm_mil_op *op);         /* mul, add, sub, real_div */
anm_sym *anm_lower_concat(anm_lower *l, const anm_mil_op *op);         /* concat, stack */
/* Pairs turned: both halves joined by stack or concat. */
anm_sym *anm_lower_rope(anm_lower *l, const anm_sym *first, const anm_sym *second, bool halves,
                        const anm_mil_value *out);
anm_sym *anm_lower_scores(anm_lower *l, const anm_sym *like, const anm_mil_value *v);
/* The scores with the mask added, as `out`: the mask must be that of all rows and entries, the same for every head. */
anm_sym *anm_lower_masked(anm_lower *l, const anm_sym *scores, const anm_sym *mask, const anm_mil_value *out);

#endif
