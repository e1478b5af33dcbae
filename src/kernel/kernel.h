/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Kernels: the inner loops of the engine, each in plain C (ref/) and in vector forms (x86/, arm/). kernels.def lists
 * them; a table for each rung of base/cpu.h holds the best form of each.
 *
 * Every form of a kernel gives the same bits: sums run in the same order in each (16 lanes, then a fixed tree), and
 * products are fused into sums (fma) everywhere. So a result depends neither on the processor nor on how many rows are
 * computed together.
 */
#ifndef ANM_KERNEL_KERNEL_H
#define ANM_KERNEL_KERNEL_H

#include "base/ahead.h"
#include "base/cpu.h"
#include "base/error.h"

#include <stdbool.h>

enum {
    ANM_TILE = 16,     /* output rows of a weight tile */
    ANM_GROUP = 32,    /* inputs that share an activation scale (and, in b4w, a weight scale) */
    ANM_ROWS_MAX = 32, /* activation rows that one kernel call takes */
    ANM_HEADS_MAX = 8, /* query heads of one attention call */
};

/* ---- weights ---- */

typedef enum anm_scales {
    ANM_SCALES_ROW,       /* one fp32 per row */
    ANM_SCALES_GROUP_F16, /* one fp16 per row and group */
    ANM_SCALES_GROUP_F32,
} anm_scales;

/*
 * A matrix of 4-bit integers, packed in tiles of 16 rows so that a vector lane is a row. A tile is read from its start
 * to its end and nowhere else, so that the processor reads ahead at full speed:
 *   ROW:       16 fp32 scales (64 bytes), then the groups
 *   GROUP_F16: for two groups their 2 * 16 fp16 scales (64 bytes), then the two (the last may be alone)
 *   GROUP_F32: for each group its 16 fp32 scales, then the group
 * A group of 32 inputs is 256 bytes: 4 vectors of 16 lanes of 4 bytes; the 8 nibbles of lane r of vector j, low first,
 * are inputs 8j … 8j + 7 of row r, each with 8 added. Rows and inputs beyond the matrix hold zero weights. The order of
 * nibbles is that of the file, so packing moves whole 4-byte words.
 */
typedef struct anm_q4 {
    int64_t rows, cols;    /* as the matrix is */
    int64_t tiles, groups; /* rows / 16 and cols / 32, rounded up */
    anm_scales scales;
    bool round_f16;    /* weights are declared fp16: scale times integer is rounded to it (exact forms) */
    size_t tile_bytes;
    uint8_t *data; /* tiles * tile_bytes, 64-byte aligned */
} anm_q4;

static inline size_t anm_q4_tile_bytes(anm_scales scales, int64_t groups)
{
    size_t n = (size_t)groups * 256;
    return n + (scales == ANM_SCALES_ROW ? 64 : scales == ANM_SCALES_GROUP_F16 ? ((size_t)groups + 1) / 2 * 64 : (size_t)groups * 64);
}
/* Where in a tile a group's nibbles begin, and its scales. */
static inline size_t anm_q4_nibbles_at(anm_scales scales, int64_t g)
{
    size_t n = (size_t)g * 256 + 64;
    return n + (scales == ANM_SCALES_ROW ? 0 : scales == ANM_SCALES_GROUP_F16 ? (size_t)g / 2 * 64 : (size_t)g * 64);
}
static inline size_t anm_q4_scales_at(anm_scales scales, int64_t g)
{
    if (scales == ANM_SCALES_ROW) return 0;
    return scales == ANM_SCALES_GROUP_F16 ? (size_t)g / 2 * 576 + (size_t)(g & 1) * 32 : (size_t)g * 320;
}

/* A matrix of floats, packed likewise: tile, then input, then 16 rows. */
typedef struct anm_wf {
    int64_t rows, cols, tiles;
    bool f16; /* else fp32 */
    size_t tile_bytes;
    uint8_t *data;
} anm_wf;

/* ---- activations ---- */

/*
 * Rows of activations as int8 with a scale for every 32 inputs: x ~ scale * q. In a group the 8 inputs of a weight
 * word stand as 4 even ones, then 4 odd ones, as the nibbles' halves want them. `offset` is -8 times the sum of q in a
 * group: it takes back the 8 added to the weights.
 */
typedef struct anm_q8 {
    int64_t groups;
    int8_t *q;       /* [rows][groups * 32] */
    float *scale;    /* [rows][groups] */
    int32_t *offset; /* [rows][groups] */
} anm_q8;

/* ---- attention ---- */

/* One row's attention for the query heads that share a key head. Visible entries are the first `cached` ones of the
 * cache, then the fresh ones listed. Entries are contiguous rows of head_dim values, fp16 or fp32. */
typedef struct anm_attend {
    int32_t heads, head_dim; /* head_dim is at most 512 */
    bool f16;
    float scale;
    const float *q[ANM_HEADS_MAX];
    float *out[ANM_HEADS_MAX];
    const uint8_t *k_cache, *v_cache, *k_fresh, *v_fresh;
    int64_t cached;
    const int32_t *fresh; /* n_fresh indices, ascending */
    int32_t n_fresh;
    float *scores; /* scratch: heads * (cached + n_fresh rounded up to 16) */
    /* Where keys and values come from memory, and are not multiplied by many rows: what else may be asked for on the way.
     * Else NULL. */
    anm_ahead *ahead;
} anm_attend;

/* out = x * mul / (sqrt(max(sum_scale * sum(x^2) + inner + peak * max(x^2), floor)) + outer) * weight, over n values. */
typedef struct anm_norm {
    int64_t n;
    float sum_scale, inner, peak, outer, floor, mul;
    const float *weight; /* or NULL: ones */
} anm_norm;

/* ---- the tables ---- */

typedef struct anm_kernels {
    anm_isa isa;
    const char *name; /* anm_isa_name's */
#define ANM_KERNEL(kind, name, args) void(*name) args;
#include "kernel/kernels.def"
#undef ANM_KERNEL
} anm_kernels;

/* The table of a rung; kernels that it has no own form of are a lower rung's. NULL: a rung of another family. */
const anm_kernels *anm_kernels_of(anm_isa isa);
/* The best usable table, or the one named by `force` (may be NULL; ANEMONE_ISA's value). */
int anm_kernels_choose(const anm_kernels **out, const char *force, anm_error *err);

#endif
