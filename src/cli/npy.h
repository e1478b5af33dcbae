/* SPDX-License-Identifier: BSD-3-Clause */
/* NumPy's .npy files, version 1.0, of fp32 matrices in row order, written a few rows at a time. */
#ifndef ANM_CLI_NPY_H
#define ANM_CLI_NPY_H

#include "base/outfile.h"

typedef struct cli_npy {
    anm_outfile file;
    uint64_t at; /* where the next row goes */
} cli_npy;

/* Begins the file of `rows` rows, each of `cols` values; whole or not there, as all output. */
int cli_npy_open(cli_npy *f, const char *path, uint64_t rows, uint64_t cols, anm_error *err);
/* The next n values. */
int cli_npy_write(cli_npy *f, const float *values, size_t n, anm_error *err);
int cli_npy_commit(cli_npy *f, anm_error *err);
/* Removes what is not committed. Safe on a zeroed struct. */
void cli_npy_abort(cli_npy *f);

#endif
