/* SPDX-License-Identifier: BSD-3-Clause */
#include "cli/not_program.h"
#include "base/lfs.h"
#include "cli/input.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static bool holds(const char *folder, const char *name)
{
    char path[4096];
    struct stat s;
    int n = snprintf(path, sizeof path, "%s/%s", folder, name);
    return n > 0 && (size_t)n < sizeof path && stat(path, &s) == 0;
}

static int folder(const char *path, anm_error *err)
{
    if (holds(path, "Manifest.json"))
        return anm_fail(err, ANM_ERR_FORMAT,
                        "%s: is a Core ML package, not a program; the .pte that it was taken from is needed", path);
    if (holds(path, "config.json") || holds(path, "params.json"))
        return anm_fail(err, ANM_ERR_FORMAT,
                        "%s: is the folder of a checkpoint, not a program; export it first: anemone export -c %s -o "
                        "MODEL.pte",
                        path, path);
    return anm_fail(err, ANM_ERR_FORMAT, "%s: is a directory, not a program; a .pte file is needed", path);
}

int cli_not_program(const char *path, anm_error *err)
{
    struct stat s;
    if (stat(path, &s)) return err->code;
    if (S_ISDIR(s.st_mode)) return folder(path, err);
    if (!S_ISREG(s.st_mode)) return err->code;
    uint8_t head[16] = {0};
    size_t n = cli_read_head(head, sizeof head, path);
    if (anm_is_lfs_pointer(head, n)) return anm_fail(err, ANM_ERR_FORMAT, "%s: " ANM_LFS_POINTER, path);
    const char *kind = NULL, *params = "";
    if (n < sizeof head || memcmp(head + 4, "ET", 2) == 0) return err->code; /* a program, but a bad one */
    if (memcmp(head, "GGUF", 4) == 0) kind = "GGUF";
    /* PyTorch: a zip, or before 1.6 a bare pickle of protocol 2. */
    else if (memcmp(head, "PK\3\4", 4) == 0 || (head[0] == 0x80 && head[1] == 2)) kind = "PyTorch", params = " -p params.json";
    /* safetensors: the header's length in 8 bytes, of which the last ones are 0, and a JSON object. */
    else if (head[8] == '{' && memcmp(head + 5, "\0\0\0", 3) == 0) kind = "safetensors";
    if (!kind) return err->code;
    return anm_fail(err, ANM_ERR_FORMAT,
                    "%s: is a checkpoint (%s), not a program; export it first: anemone export -c %s%s -o MODEL.pte", path,
                    kind, path, params);
}
