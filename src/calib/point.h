/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One point of a layer, from which one or more linears read: statistics of what flows there, and from them each linear's
 * integers. Internal to calib/.
 */
#ifndef ANM_CALIB_POINT_H
#define ANM_CALIB_POINT_H

#include "calib/calibrate.h"
#include "calib/gptq.h"

typedef struct anm_point {
    const anm_calib_opts *o;
    size_t n, out;  /* inputs; outputs of the linear that writes to the residual stream, 0: of those that do not */
    const float *w; /* [out, n] the full weights of the one that does */
    float *h;       /* [n, n] x^T x, until it is solved; then the basis has it */
    float *cross;   /* [n, n] (seen - x)^T x; once solved, what the weights are multiplied by to be moved */
    float *pull;    /* instead, for a writer: [out, n] (w (seen - x) + drift)^T x; once solved, what is added to its weights */
    anm_gptq_basis basis;
} anm_point;

/* For the linears that read n values here; `w` [out, n], not owned: of one that writes to the residual stream, where it alone
 * reads. Which of the two forms is used only makes a difference in work: a writer's w has few rows. */
int anm_point_new(anm_point *p, const anm_calib_opts *o, size_t n, const float *w, size_t out, anm_error *err);
void anm_point_free(anm_point *p); /* a zeroed one is fine */

/* Some rows more. x [rows, n]: the quantised stream's input; `seen`: the full stream's, of use only where the
 * options ask for it; `drift` [rows, out]: what the residual streams differ by, for a writer. */
int anm_point_add(anm_point *p, const float *x, const float *seen, const float *drift, size_t rows, anm_pool *pool, anm_error *err);
/* All rows came by. */
int anm_point_solve(anm_point *p, anm_pool *pool, anm_error *err);

/* Integers for some rows of a linear; w [rows, n] becomes what they stand for. Adds to the figure. `first`: the number of the
 * first of these rows. */
int anm_point_round(const anm_point *p, const anm_made *to, float *w, size_t first, size_t rows, anm_calib_figure *figure,
                    anm_pool *pool, anm_error *err);

#endif
