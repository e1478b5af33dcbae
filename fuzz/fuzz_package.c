/* SPDX-License-Identifier: BSD-3-Clause */
/* A whole package in its directory blob: manifest, model specification, MIL program, weight file. */
#include "fuzz.h"

#include "coreml/coreml.h"

const bool fuzz_bounded = true;

void fuzz_one(const uint8_t *data, size_t size)
{
    anm_arena arena;
    anm_dir dir;
    anm_package package;
    anm_error err;
    anm_arena_init(&arena);
    if (anm_dir_read(&dir, data, size, &arena, &err) == 0) {
        if (anm_package_read(&package, &dir, &err) == 0) fuzz_read_program(&package.program);
        anm_package_free(&package);
    }
    anm_arena_free(&arena);
}
