/* SPDX-License-Identifier: BSD-3-Clause */
/* Within the room: the writer of the directory blob's listing (its reader is in coreml.h). */
#ifndef ANM_COREML_DIR_H
#define ANM_COREML_DIR_H

#include "coreml/coreml.h"

typedef struct anm_dir_region {
    uint64_t at, size; /* within the blob */
} anm_dir_region;

/* Appends the listing of a package's four files, which stand before it. `folder` is the root's name. */
int anm_dir_write_listing(anm_layout *out, const char *folder, const anm_dir_region *weights, const anm_dir_region *model,
                          const anm_dir_region *manifest, const anm_dir_region *metadata, anm_arena *arena, anm_error *err);

#endif
