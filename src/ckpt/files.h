/* SPDX-License-Identifier: BSD-3-Clause */
/* Which files make up a checkpoint, and which configuration lies beside them. For src/ckpt/ alone. */
#ifndef ANM_CKPT_FILES_H
#define ANM_CKPT_FILES_H

#include "base/arena.h"
#include "base/error.h"

#include <stdbool.h>

enum { ANM_CKPT_MAX_FILES = 1024 };

/* What an index says: the tensor lies in the file of that name, beside the index. */
typedef struct anm_claim {
    const char *tensor, *file;
} anm_claim;

typedef struct anm_files {
    char **path; /* in the order of the shards */
    size_t n;
    char *config; /* params.json or config.json, be it one that cannot be opened; or NULL */
    char *index;  /* the index that named the files, which then make up one whole, or NULL */
    bool found;   /* the user named none of them himself */
    anm_claim *claim;
    size_t n_claims;
} anm_files;

/* `path` is a file, a folder or a shell pattern; an index (*.json) names its files. Strings lie in the arena.
 * Messages name the file. */
int anm_files_find(anm_files *out, anm_arena *arena, const char *path, anm_error *err);

#endif
