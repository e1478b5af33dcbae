/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * From a planned graph to a file: the ExecuTorch program around the pieces, and the writer that makes the weights while
 * they are written.
 */
#ifndef ANM_EXPORT_EXPORT_H
#define ANM_EXPORT_EXPORT_H

#include "base/layout.h"
#include "base/outfile.h"
#include "base/pool.h"
#include "graph/graph.h"
#include "pte/pte.h"

/* ---- the program (method.c) ---- */

/* Fills the methods of `out`: the graph's own and the constant ones, as the reference's exporter writes them: value
 * order, pytree strings, planned memory. `packages[i]` is piece i's package: the delegates of a single-method program
 * point to these layouts, those of a multifunction one refer to named data, `keys[i]`. All that `out` points to lives in its
 * arena or the graph's; free it with anm_pte_free also after a failure. */
int anm_program_make(anm_pte *out, anm_graph *g, const anm_layout *packages, const char *const *keys, anm_error *err);

/* ---- writing (stream.c) ---- */

/* A rotary table too large to be held: the source of two parts of a layout. */
typedef struct anm_table_source {
    const anm_model *model;
    int64_t rows, cols;
    anm_dtype type; /* ANM_DT_F16 or ANM_DT_F32 */
} anm_table_source;
enum { ANM_TABLE_COS = ANM_WEIGHT_PARTS, ANM_TABLE_SIN }; /* parts: those of weights come before */

/* One of the files of an export: what lies where in it. Sources in the layout are anm_weights, by the parts of
 * anm_weight_part, and anm_table_sources. */
typedef struct anm_stream_target {
    anm_outfile *file;
    const anm_layout *layout;
    uint8_t digest[16]; /* of the content, once written: the same for the same layout and weights */
} anm_stream_target;

typedef struct anm_stream_opts {
    anm_pool *pool; /* NULL: one thread */
    /* Called now and then on the calling thread with the bytes written so far; may be NULL. */
    void (*progress)(void *ctx, uint64_t done, uint64_t total);
    void *ctx;
} anm_stream_opts;

/* Writes all targets at once: a weight that several of them hold is read and rounded once. Memory: some hundred KiB a
 * thread, whatever the model. */
int anm_stream_write(anm_stream_target *targets, int n_targets, const anm_stream_opts *opts, anm_error *err);

/* ---- the residual's range (range.c) ---- */

typedef struct anm_range {
    int64_t layer; /* the last one that was run; -1: none */
    float largest; /* |x| after it */
} anm_range;

/* Runs the model in full precision on `n` tokens, layer by layer, until a value of the residual reaches `limit`. A model
 * whose layers are large is not run (layer stays -1): this is for a warning, and the export's memory is bounded. */
int anm_export_range(anm_range *out, const anm_model *m, const int32_t *tokens, size_t n, float limit, anm_pool *pool,
                     anm_error *err);

#endif
