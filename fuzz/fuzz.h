/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What every fuzz target shares. A target is one file that defines LLVMFuzzerTestOneInput; libFuzzer drives it under
 * clang (make fuzz), driver.c under any compiler (make check): the same seeds, cut short and spoilt in fixed ways.
 */
#ifndef ANM_FUZZ_H
#define ANM_FUZZ_H

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* For readers that want a file: its path, with these bytes in it. One file per process; gone when the process ends. */
const char *fuzz_file(const uint8_t *data, size_t size);

/* Reads what a reader promised: n bytes, or the characters of a string. A sanitizer sees it when they are not there. */
void fuzz_read(const void *data, uint64_t n);
void fuzz_read_string(const char *s);

struct anm_mil_program;
/* Reads every name, type and constant of a program that was accepted. */
void fuzz_read_program(const struct anm_mil_program *p);

#endif
