/* SPDX-License-Identifier: BSD-3-Clause */
/* What the plan's files share: steps, buffers, weights. Not for others. */
#ifndef ANM_PLAN_INTERNAL_H
#define ANM_PLAN_INTERNAL_H

#include "base/buf.h"
#include "base/bytes.h"
#include "plan/plan.h"
#include "plan/view.h"

enum { ANM_BUF_LOGITS = -2, ANM_BUF_NONE = -1 };

/* ---- weights ---- */

/* Some rows of a matrix as the file has them: floats, or integers with a scale per row or per block of columns. */
typedef struct anm_rows_spec {
    const anm_mil_value *data, *scale; /* scale is NULL for floats */
    anm_dtype declared;                /* the type that the product is rounded to */
    int64_t rows, cols;
} anm_rows_spec;

/* A matrix made of weights below each other. For a gated one (silu(gate x) * up x) the tiles of both alternate. */
typedef struct anm_matrix_spec {
    anm_rows_spec *part, *up;
    uint32_t n_parts, n_up; /* n_up > 0: gated */
    int64_t rows, cols;     /* rows of `part` alone */
    const float *bias;      /* [rows], or NULL; gated ones have none */
} anm_matrix_spec;

/* A matrix packed: one of the two. Tiles of a gated one: gate 0, up 0, gate 1, up 1, … */
typedef struct anm_packed {
    bool is_q4;
    anm_q4 q4;
    anm_wf wf;
    size_t size; /* bytes */
} anm_packed;

/* How a matrix will be packed, and its size; false when that overflows. */
bool anm_pack_layout(anm_packed *out, const anm_matrix_spec *m);
/* Packs it into `size` zeroed bytes, 64-byte aligned. */
void anm_pack(anm_packed *p, const anm_matrix_spec *m, uint8_t *memory, anm_pool *pool);

/* Row `row` of a weight as fp32, for embeddings: out[cols]. */
void anm_weight_row(float *out, const anm_rows_spec *w, int64_t row);
/* Can anm_weight_row and anm_pack read it? */
bool anm_weight_readable(const anm_rows_spec *w);

/* ---- steps ---- */

typedef enum anm_step_kind {
    ANM_STEP_EMBED,  /* out = the row of weight[token] */
    ANM_STEP_NORM,   /* out = norm of each head of in */
    ANM_STEP_LINEAR, /* parts: each a matrix times in */
    ANM_STEP_ROPE,   /* out = in, pairs turned by the row's angles */
    ANM_STEP_KEEP,   /* in goes to the fresh keys or values, in the cache's type */
    ANM_STEP_ATTEND, /* out = attention of in's heads */
    ANM_STEP_COPY,   /* out = in, moved together, times factor */
    ANM_STEP_ADD,    /* out = in + other */
    ANM_STEP_MUL,    /* out = in * other */
    ANM_STEP_SILU,   /* out = silu(in) */
} anm_step_kind;

/* One matrix of a LINEAR step. */
typedef struct anm_linear_part {
    anm_matrix_spec spec;
    anm_packed packed;
    int32_t out;      /* buffer, or ANM_BUF_LOGITS */
    int32_t add;      /* a buffer whose floats at add_off are added, or ANM_BUF_NONE */
    int64_t add_off;
} anm_linear_part;

typedef struct anm_plan_step {
    anm_step_kind kind;
    const char *name; /* of the graph's value that it makes */
    const anm_mil_op *op; /* during whose lowering it was made; NULL: for an output */
    int32_t in, other, out;
    int64_t in_off, other_off, width; /* width: floats that it makes per row */
    /* NORM, ROPE, KEEP: heads of `size` floats each, `stride` apart; the output is packed. */
    int64_t heads, size, stride;
    anm_norm norm;
    float factor;            /* COPY; ATTEND: the scale of scores */
    anm_view view;           /* COPY: what to move together */
    anm_rows_spec embedding;
    /* LINEAR */
    anm_linear_part *part;
    uint32_t n_parts;
    bool feeds_q8; /* LINEAR, ATTEND: what it makes is wanted by the linear behind alone, as int8 */
    const struct anm_plan_step *after; /* LINEAR: the next one; the last one's is the first */
    /* ROPE: the first and second of pair i lie at first + i * pair, second + i * pair of a head, and likewise in the
     * output; the second one's angle is in column i + column2. */
    int64_t first, second, pair, out_second, out_pair, column2;
    /* KEEP */
    int32_t layer, v;
    /* ATTEND: per query head, in the order of the output: its offset in `in`, the key head. */
    int64_t *q_off;
    int32_t *kv_head;
    int32_t k_layer, v_layer;
    int32_t *group; /* [n_groups + 1]: first query heads of the runs that share a key head */
    int32_t n_groups;
} anm_plan_step;

typedef struct anm_plan_buf {
    int64_t width;
    int32_t first, last; /* steps that make it first, use it last */
    int64_t off;         /* its place, in floats per row, in the arena of activations; or that of one with which it
                            takes turns */
    int64_t stride;      /* floats from row to row: the place's, so that a row never shares memory with another row of a
                            buffer that takes turns: threads are at different steps of different rows */
} anm_plan_buf;

struct anm_plan {
    anm_arena arena;
    const anm_method *m;
    anm_activations activations;
    const anm_kernels *k;
    anm_plan_step *step;
    int32_t n_steps, room_steps;
    anm_plan_buf *buf;
    int32_t n_bufs, room_bufs;
    int32_t tail;       /* the first step that only wanted rows need */
    int64_t rows;       /* that a run takes at most */
    int64_t row_floats; /* floats of the arena per row */
    void *weights;      /* all packed matrices */
    int64_t widest_in;  /* the most inputs that a linear takes */
};

/* A plan of nothing, or NULL: no memory. */
anm_plan *anm_plan_empty(const anm_method *m);
const char *anm_plan_kind_name(anm_step_kind kind);

/* What is to be printed while a plan is made, and behind which stage. */
typedef struct anm_plan_look {
    anm_buf *to;
    anm_plan_stage after;
} anm_plan_look;

/* Meaning to steps; fills step, buf and tail. `why` holds the reason when it fails (ANM_ERR_UNSUPPORTED). `look` may be
 * NULL. */
int anm_plan_lower(anm_plan *p, const anm_method *m, const anm_plan_look *look, anm_error *why);

#endif
