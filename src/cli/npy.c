/* SPDX-License-Identifier: BSD-3-Clause */
#include "cli/npy.h"
#include "base/bytes.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* Format: numpy.lib.format. A magic, the version, the length of the text that follows, and the text: a Python
 * dict, padded with spaces and ended by a line feed so that the data begins at a multiple of 64. */
int cli_npy_open(cli_npy *f, const char *path, uint64_t rows, uint64_t cols, anm_error *err)
{
    enum { SIZE = 128, FIXED = 10 };
    uint8_t head[SIZE + 1];
    memcpy(head, "\x93NUMPY\x01\x00", 8);
    anm_st16(head + 8, SIZE - FIXED);
    memset(head + FIXED, ' ', SIZE - FIXED);
    char text[SIZE - FIXED];
    int n = snprintf(text, sizeof text,
                     "{'descr': '<f4', 'fortran_order': False, 'shape': (%" PRIu64 ", %" PRIu64 "), }", rows,
                     cols);
    memcpy(head + FIXED, text, (size_t)n);
    head[SIZE - 1] = '\n';
    int rc = anm_outfile_open(&f->file, path, err);
    if (!rc) rc = anm_outfile_write(&f->file, 0, head, SIZE, err);
    f->at = SIZE;
    return rc;
}

int cli_npy_write(cli_npy *f, const float *values, size_t n, anm_error *err)
{
    int rc = anm_outfile_write(&f->file, f->at, values, n * sizeof *values,
                               err); /* machines here are little-endian */
    f->at += n * sizeof *values;
    return rc;
}

int cli_npy_commit(cli_npy *f, anm_error *err)
{
    return anm_outfile_commit(&f->file, false, err);
}

void cli_npy_abort(cli_npy *f)
{
    anm_outfile_abort(&f->file);
}
