/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What every fuzz target shares. A target is one file that defines fuzz_one and fuzz_bounded; libFuzzer drives it under
 * clang (make fuzz), driver.c under any compiler (make check): the same seeds, cut short and spoilt in fixed ways.
 */
#ifndef ANM_FUZZ_H
#define ANM_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The target: reads these bytes. */
void fuzz_one(const uint8_t *data, size_t size);
/* Is all that fuzz_one does subject to fuzz_limit? If not it may call that itself. */
extern const bool fuzz_bounded;

/* What a driver calls (common.c). */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Changes that a driver makes to its inputs, some bytes at a time, their number kept (spoil.c): anywhere; or where the
 * parts of a file of that kind are. `state` is the random numbers', never 0. A target's is FUZZ_SPOIL (meson.build). */
void fuzz_spoil_bytes(uint8_t *data, size_t n, uint64_t *state);
void fuzz_spoil_protobuf(uint8_t *data, size_t n, uint64_t *state);
void fuzz_spoil_model(uint8_t *data, size_t n, uint64_t *state); /* as fuzz_mlmodel.c has it */
void fuzz_spoil_dir(uint8_t *data, size_t n, uint64_t *state);
void fuzz_spoil_pte(uint8_t *data, size_t n, uint64_t *state);

/* For readers that want a file: its path, with these bytes in it. One file per process, whose name has always the same
 * ending; gone when the process ends. */
const char *fuzz_file(const uint8_t *data, size_t size, const char *ending);

/* Reads what a reader promised: n bytes, or the characters of a string. A sanitizer sees it when they are not there. */
void fuzz_read(const void *data, uint64_t n);
void fuzz_read_string(const char *s);

/* Between these two, memory that is held beyond 64 times `size` (and a megabyte) ends the program: limit.c. */
void fuzz_limit(size_t size);
void fuzz_limit_end(void);

struct anm_mil_program;
/* Reads every name, type and constant of a program that was accepted. */
void fuzz_read_program(const struct anm_mil_program *p);

#endif
