/* SPDX-License-Identifier: BSD-3-Clause */
/* Git LFS leaves a few lines of text in place of a large file that was not fetched. Source of the format: git-lfs/git-lfs,
 * docs/spec.md, "The Pointer". */
#ifndef ANM_BASE_LFS_H
#define ANM_BASE_LFS_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define ANM_LFS_POINTER "is a pointer of Git LFS and not the file itself; fetch it with git lfs pull"

/* Do these bytes begin as a pointer does? 16 of them are enough to tell. */
static inline bool anm_is_lfs_pointer(const uint8_t *p, uint64_t n)
{
    return n >= 16 && !memcmp(p, "version https://", 16);
}

#endif
