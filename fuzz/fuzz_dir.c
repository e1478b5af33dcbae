/* SPDX-License-Identifier: BSD-3-Clause */
#include "fuzz.h"

#include "coreml/coreml.h"

const bool fuzz_bounded = true;

void fuzz_one(const uint8_t *data, size_t size)
{
    anm_arena arena;
    anm_dir dir;
    anm_error err;
    anm_arena_init(&arena);
    if (anm_dir_read(&dir, data, size, &arena, &err) == 0) {
        for (size_t i = 0; i < dir.count; i++) {
            fuzz_read_string(dir.file[i].path);
            fuzz_read(dir.file[i].data, dir.file[i].size);
        }
    }
    anm_arena_free(&arena);
}
