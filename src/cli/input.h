/* SPDX-License-Identifier: BSD-3-Clause */
/* What commands read besides models: texts and lists of token ids. */
#ifndef ANM_CLI_INPUT_H
#define ANM_CLI_INPUT_H

#include "base/buf.h"
#include "base/error.h"

/* The whole of a file, or of standard input for "-"; an empty one is an empty text. */
int cli_read_text(anm_buf *out, const char *path, anm_error *err);

/* How a file begins: at most n bytes; how many there are, 0 where it cannot be read. Allocates nothing, so that a file is
 * never taken for another kind because memory is out. */
size_t cli_read_head(void *out, size_t n, const char *path);

/* Numbers with spaces, commas or line ends between them. *ids is the caller's (free). `name` says in errors
 * where the n bytes of `text` come from. */
int cli_read_ids(int32_t **ids, size_t *count, const char *text, size_t n, const char *name, anm_error *err);

#endif
