/* SPDX-License-Identifier: BSD-3-Clause */
/* Internal to calib/. */
#ifndef ANM_CALIB_DERIVE_H
#define ANM_CALIB_DERIVE_H

#include "calib/calibrate.h"

/* Fills c->model from `m` and from what the stages made. */
int anm_calibrated_derive(anm_calibrated *c, const anm_model *m, anm_error *err);

#endif
