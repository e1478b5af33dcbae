/* SPDX-License-Identifier: BSD-3-Clause */
#include "fuzz.h"

#include "ckpt/zip.h"

const bool fuzz_bounded = true;

void fuzz_one(const uint8_t *data, size_t size)
{
    anm_arena arena;
    anm_zip zip;
    anm_error err;
    anm_arena_init(&arena);
    if (anm_zip_parse(&zip, &arena, data, size, &err) == 0) {
        for (size_t i = 0; i < zip.count; i++) {
            fuzz_read(zip.entry[i].name, zip.entry[i].name_len);
            fuzz_read(zip.entry[i].data, zip.entry[i].size);
            anm_zip_find(&zip, zip.entry[i].name, zip.entry[i].name_len);
        }
    }
    anm_arena_free(&arena);
}
