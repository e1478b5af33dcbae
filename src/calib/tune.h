/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The last step of calibration, across layers: a factor for each output of each linear, by which its scales are multiplied,
 * so that the whole model's answers come nearer to the full model's. Integers stay as they are.
 *
 * The loss is the KL divergence of the full model's predictions from the quantised model's, in the mean over the text's tokens;
 * its gradient goes back through the whole model (eager/backward.h), and Adam (Kingma and Ba, arXiv 1412.6980) takes a step for
 * every two windows. Tuning nothing but continuous parameters after rounding is what EfficientQAT's second phase does
 * (arXiv 2407.11062); here there are so few of them, one a row, that a short text does not lead astray.
 */
#ifndef ANM_CALIB_TUNE_H
#define ANM_CALIB_TUNE_H

#include "calib/calibrate.h"

typedef struct anm_tune {
    const anm_calibrated *made; /* derived: it has its model */
    const anm_calib_opts *o;    /* tune: passes over the text; seed: of the windows' order */
    const int32_t *tokens;      /* [windows * len] */
    const float *full;          /* [windows * len, dim] what flows into the full model's head … */
    int (*head)(void *ctx, float *w, size_t row, size_t rows, anm_error *err); /* … and rows of that head, over the same basis */
    void (*step)(void *ctx, size_t done, size_t of);
    void *ctx;
} anm_tune;

/* Factors are those of each layer's linears, row by row, and then the head's. */
size_t anm_tune_count(const anm_params *p);

/* factor[anm_tune_count] and the loss in nats, in the means over the first and the last quarter of the steps. */
int anm_tune_factors(float *factor, double loss[2], const anm_tune *t, anm_pool *pool, anm_error *err);

/* Gives `c` scales of its own, multiplied by the factors. */
int anm_tune_apply(anm_calibrated *c, const float *factor, bool fp16, anm_error *err);

#endif
