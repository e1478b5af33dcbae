/* SPDX-License-Identifier: BSD-3-Clause */
/* Internal to calib/. */
#ifndef ANM_CALIB_KEY_H
#define ANM_CALIB_KEY_H

#include "calib/calibrate.h"

/* A digest of everything that a calibration's bits depend on: the weights, the tokens, the options, the arithmetic. */
void anm_calib_key(uint8_t key[16], const anm_model *m, const int32_t *tokens, const anm_calib_opts *o);

#endif
