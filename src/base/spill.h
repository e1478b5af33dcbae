/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Files that stand for memory: mapped and writable, so that the system can put on disk what does not fit. Their disk space is
 * taken when they are made, where the system can, so that a full disk is an error then and no signal later.
 */
#ifndef ANM_BASE_SPILL_H
#define ANM_BASE_SPILL_H

#include "base/error.h"

#include <stdbool.h>

typedef struct anm_spill {
    uint8_t *data; /* `size` bytes; of a file: aligned to a page, and zeros where it is new */
    uint64_t size;
    bool in_memory; /* of malloc, and no file */
    int lock;       /* of a file with a name, the descriptor that holds its lock, and one more; 0: none */
} anm_spill;

/* Room for `what`: half a gigabyte at most is taken from memory, and is of any content; for more, a file as the next one. */
int anm_spill_room(anm_spill *out, const char *what, const char *beside, uint64_t size, anm_error *err);

/* Without a name, gone when it is closed or the process ends: in the folder of TMPDIR, else in the one of the file `beside`
 * (NULL: /tmp). */
int anm_spill_temp(anm_spill *out, const char *beside, uint64_t size, anm_error *err);

/* At `path`. A new one comes into its place whole, over whatever was there. Locked as long as it is open, as far as the file system
 * has locks: one that another process has open is ANM_ERR_USAGE, here as in the next one. */
int anm_spill_new(anm_spill *out, const char *path, uint64_t size, anm_error *err);

/* The file that is at `path`; *there turns false, without an error, when there is none. Of any size. */
int anm_spill_open(anm_spill *out, const char *path, bool *there, anm_error *err);

/* Takes the name `path` away, unless it is known to be another file's by now. */
void anm_spill_remove(const anm_spill *s, const char *path);

void anm_spill_close(anm_spill *s); /* a zeroed one is fine; a file with a name stays */

#endif
