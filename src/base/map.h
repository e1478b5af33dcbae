/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Whole files, read-only: mapped where the system can, and named in every error. A file that shrinks while it is
 * mapped raises SIGBUS; the command line installs a handler that says so (src/cli/), a library user sees the signal.
 */
#ifndef ANM_BASE_MAP_H
#define ANM_BASE_MAP_H

#include "base/error.h"

#include <stdbool.h>

typedef struct anm_map {
    const uint8_t *data; /* at least one byte: an empty file is an error */
    uint64_t size;
    bool mapped; /* else the bytes were read into memory (pipes) */
    uint64_t device, inode; /* of what is mapped: its numbers of stat */
} anm_map;

/* Maps the file at `path`. Fails (ANM_ERR_IO) on a missing file, a directory, an empty file; the text begins with the
 * path. A pipe or a device is read into memory, 1 GiB at most. */
int anm_map_open(anm_map *out, const char *path, anm_error *err);
/* The same for a file that nobody named, but that was found beside or by another: no pipe and no device is waited for. */
int anm_map_open_found(anm_map *out, const char *path, anm_error *err);
void anm_map_close(anm_map *m);

/* Tells the system that the bytes at [off, off + n) are used no more. A hint; never fails. */
void anm_map_done_with(const anm_map *m, uint64_t off, uint64_t n);

/* Is the file with these numbers (of stat) mapped now? From anm_map_remember on: was it ever, in this process? The latter is
 * for a program that does one job, whose outputs may replace nothing that it read, open or not. */
bool anm_map_uses(uint64_t device, uint64_t inode);
void anm_map_remember(void);

/* Is `p` inside a file that is mapped now? For the SIGBUS handler; gives the path or NULL. Async-signal-safe. */
const char *anm_map_path_of(const void *p);

#endif
