/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Which tokens matter where: for every linear's input row, how strongly the model's answer depends on that linear's
 * output there. The loss is the model's own (a label drawn from its own prediction at every token), so that the squared
 * gradients are an estimate of the Fisher information; error-compensated rounding then weighs each token by it
 * (as in GuidedQuant, arXiv 2505.07004, with one group for all outputs).
 */
#ifndef ANM_CALIB_FISHER_H
#define ANM_CALIB_FISHER_H

#include "eager/eager.h"

enum { ANM_POINTS = 4 }; /* of anm_eager_point */

/* weight [n_layers][ANM_POINTS][windows * len]: for each point of each layer the sum, over the outputs of the linears that
 * read there, of the squared gradient; each point's mean is 1. Weights of a token are the same for the rotated model.
 * The model is run as it is, in fp32, `batch` windows at a time. */
int anm_fisher(float *weight, const anm_model *m, const int32_t *tokens, size_t windows, size_t len, size_t batch, uint64_t seed,
               anm_pool *pool, anm_error *err);

#endif
