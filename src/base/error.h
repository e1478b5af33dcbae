/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Errors are values. A function that can fail returns 0 or a negative code from enum anm_code (see
 * include/anemone.h) and says why in the caller's anm_error. The text is one line, without a full stop and
 * without the program's name: "FILE: what is wrong, and what to do". Only src/cli/ prints it.
 */
#ifndef ANM_BASE_ERROR_H
#define ANM_BASE_ERROR_H

#include "anemone.h"

#if defined(__GNUC__)
#define ANM_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#else
#define ANM_PRINTF(fmt, args)
#endif

/* Sets `err` (which may be NULL) and returns `code`, so that a failure is one statement: return anm_fail(...). */
int anm_fail(anm_error *err, int code, const char *fmt, ...) ANM_PRINTF(3, 4);

/* As anm_fail, and says where in the file: `offset` bytes from its start. */
int anm_fail_at(anm_error *err, int code, uint64_t offset, const char *fmt, ...) ANM_PRINTF(4, 5);

/* Out of memory: the one message for it. `what` names what the memory was for. */
int anm_fail_memory(anm_error *err, const char *what);

/* Puts "PREFIX: " before the text of `err`, e.g. the file's name on the way up. Returns err's code. */
int anm_error_prefix(anm_error *err, const char *prefix);

/* Static analysis sees one source at a time: what these return has to be said where they are called (tools/analyze.sh). */
#ifdef ANM_ANALYZE
#define anm_fail(err, code, ...) (anm_fail(err, code, __VA_ARGS__), (code))
#define anm_fail_at(err, code, offset, ...) (anm_fail_at(err, code, offset, __VA_ARGS__), (code))
#define anm_fail_memory(err, what) (anm_fail_memory(err, what), (int)ANM_ERR_MEMORY)
#endif

#endif
