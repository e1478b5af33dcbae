/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * An output file that is whole or not there: written beside its target under a temporary name, synced, renamed over
 * the target at the end. Until then the old file stays as it was. Positions may be written in any order and from
 * several threads (pwrite).
 */
#ifndef ANM_BASE_OUTFILE_H
#define ANM_BASE_OUTFILE_H

#include "base/error.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <sys/types.h>

typedef struct anm_outfile {
    int fd;
    char *path, *temp; /* the target, and the temporary name in the same folder */
    bool early;        /* the disk begins while the file is still being written */
    _Atomic uint64_t written;
} anm_outfile;

/* What may not be an output, before anything is made: a directory, what is no regular file (a device, a pipe), a link that leads
 * nowhere, a file that anm_map_uses tells of, a new one in a folder that is not there or not to be written to. ANM_ERR_IO. */
int anm_outfile_check(const char *path, anm_error *err);

/* What a link leads to is replaced, not the link: a copy (free it) of the path to the file itself. NULL: no memory. */
char *anm_outfile_behind(const char *path);

/* Are both there, and one file, by whatever names? NULL is no file. */
bool anm_outfile_same(const char *a, const char *b);

/* As the check, for who reads read[0 … n) (NULL is no file): the output may be none of these. */
int anm_outfile_check_beside(const char *path, const char *const *read, size_t n, anm_error *err);

/* Makes the temporary file. `path` must pass the check and lie in a folder that exists; where it is a link, the file that the
 * link leads to is what will be replaced. */
int anm_outfile_open(anm_outfile *out, const char *path, anm_error *err);

/* Writes all of `n` bytes at `off`. Thread-safe. */
int anm_outfile_write(anm_outfile *f, uint64_t off, const void *data, size_t n, anm_error *err);

/* From now on the system is asked, every 32 MiB, to begin to bring to the disk what was written, so that the sync at the
 * end finds little left to do. Only a hint, where the system takes it. */
void anm_outfile_write_early(anm_outfile *f);

/* Makes the file `size` bytes long and takes the disk space where the system can say so early (ENOSPC). */
int anm_outfile_resize(anm_outfile *f, uint64_t size, anm_error *err);

/* Syncs (unless `sync` is false), renames over the target, syncs the folder. On failure the temporary file is removed. */
int anm_outfile_commit(anm_outfile *f, bool sync, anm_error *err);

/* Removes the temporary file, if it is still there. Safe after a commit and on a zeroed struct. */
void anm_outfile_abort(anm_outfile *f);

/* Makes a file of its own, named `stem` and more: *temp (malloc, noted), *fd. -1 and errno where it cannot be made. */
int anm_outfile_temp(char **temp, int *fd, const char *stem, mode_t mode);

/* What has a name on disk and is not to outlive an interrupt; `temp` stays where it is until it is forgotten. */
void anm_outfile_note(char *temp);
void anm_outfile_forget(char *temp);

/* Removes all that is noted: the temporary files of every open output among it. Async-signal-safe; for signal handlers. */
void anm_outfile_abort_all(void);

#endif
