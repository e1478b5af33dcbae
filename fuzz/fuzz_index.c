/* SPDX-License-Identifier: BSD-3-Clause */
/* The index of a checkpoint in several files, none of which is there; or, where it begins as a zip does, one whole checkpoint. */
#include "fuzz.h"

#include "ckpt/files.h"

#include <stdlib.h>
#include <string.h>

const bool fuzz_bounded = true;

void fuzz_one(const uint8_t *data, size_t size)
{
    anm_arena arena;
    anm_files files;
    anm_error err;
    if (!size) return;
    anm_arena_init(&arena);
    const char *path = fuzz_file(data, size, *data == 'P' ? ".pth" : ".json"), *slash = strrchr(path, '/');
    if (anm_files_find(&files, &arena, path, &err) == 0)
        for (size_t i = 0; i < files.n; i++) /* they lie beside it, whatever it says */
            if (strncmp(files.path[i], path, (size_t)(slash - path) + 1) || strrchr(files.path[i], '/') != files.path[i] + (slash - path))
                abort();
    anm_arena_free(&arena);
}
