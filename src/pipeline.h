/* SPDX-License-Identifier: BSD-3-Clause */
/* The roads through the house, end to end. pipeline.c reads as their table of contents. */
#ifndef ANM_PIPELINE_H
#define ANM_PIPELINE_H

#include "base/pool.h"
#include "calib/calibrate.h"
#include "graph/graph.h"

#include <stdbool.h>

/* ---- export ---- */

typedef struct anm_export_output {
    const char *path;
    int64_t max_context_len; /* 0: the recipe's */
} anm_export_output;

/* Stages as a caller sees them: times in the report, places at which a graph can be looked at. */
#define ANM_EXPORT_STAGES(X) X(OPEN, "open") X(CALIBRATE, "calibrate") X(BUILD, "build") X(PASSES, "passes") X(PACKAGE, "package") X(WRITE, "write") X(SYNC, "sync")
typedef enum anm_export_stage {
#define X(id, name) ANM_STAGE_##id,
    ANM_EXPORT_STAGES(X)
#undef X
        ANM_STAGE_COUNT
} anm_export_stage;

/* Weights chosen by what they do to a text instead of rounded: see calib/calibrate.h. Bits, groups and types are the
 * recipe's, whatever `how` says of them. */
typedef struct anm_export_calibration {
    const int32_t *tokens; /* [how.windows * how.len] */
    anm_calib_opts how;
} anm_export_calibration;

enum { ANM_EXPORT_MAX_OUTPUTS = 16 };

typedef struct anm_export_job {
    const char *checkpoint;
    const char *params; /* NULL: what lies beside or inside the checkpoint */
    anm_recipe recipe;
    const anm_export_output *outputs; /* several: the same but for the context, all written in one go */
    int n_outputs; /* at most ANM_EXPORT_MAX_OUTPUTS */
    bool sync;        /* wait until the disk has it */
    unsigned threads; /* 0: one per processor */
    const anm_export_calibration *calibration; /* or NULL: round */
    /* All may be NULL. `model`: once it is open, for its notes. `look`: after a pass ("build" is the first), with each
     * piece's program. `progress`: bytes of weights written, on the calling thread. */
    int (*model)(void *ctx, const anm_model *m, anm_error *err);
    int (*look)(void *ctx, const char *after, int32_t piece, const anm_mil_program *p, anm_error *err);
    void (*progress)(void *ctx, uint64_t done, uint64_t total);
    int (*calibrated)(void *ctx, const anm_calibrated *c, anm_error *err); /* what calibration came to, before it is forgotten */
    void *ctx;
} anm_export_job;

/* The names that `look` is called with: "build", then those of the passes in order. */
bool anm_export_has_pass(const char *name);
const char *anm_export_last_pass(void);

/* What came out. Outputs differ by their context alone, so whatever is not in `size` is so of each. */
typedef struct anm_export_report {
    int32_t pieces, functions;
    uint64_t ops;          /* in all functions */
    uint64_t reference_ops; /* of the reference's graph; counted where a leaner one is written, else 0 */
    char fitted[160];      /* what split_fit changed, or "" */
    struct {
        uint64_t file, weights, scales, tables; /* bytes: in all; integers and floats; scales; rotary tables */
    } size[ANM_EXPORT_MAX_OUTPUTS]; /* in the job's order */
    double seconds[ANM_STAGE_COUNT];
} anm_export_report;

/* Exports; every output is whole or as it was before. */
int anm_export(anm_export_report *report, const anm_export_job *job, anm_error *err);

#endif
