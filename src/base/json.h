/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef ANM_BASE_JSON_H
#define ANM_BASE_JSON_H

#include "base/error.h"

#include <jansson.h>

/* Parses `size` bytes of JSON (flags: jansson's, as JSON_REJECT_DUPLICATES); *out is the caller's (json_decref). The
 * error is "WHAT: line L: reason"; or that memory is out, which jansson itself reports as a fault of the text. */
int anm_json_read(json_t **out, const void *data, uint64_t size, size_t flags, const char *what, anm_error *err);

/* The text of `j` (flags: jansson's), the caller's (free). Where memory is out, jansson's own functions may leave
 * parts out and report success; this one fails. So it does where `j` is NULL, which building it gives then. */
int anm_json_write(char **out, const json_t *j, size_t flags, anm_error *err);

#endif
