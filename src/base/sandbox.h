/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Locking oneself in, for a process that is about to read a stranger's files: what it has no use for is given up first,
 * for all its threads and for good. On Linux, by Landlock (5.13 and later; kernel: Documentation/userspace-api/landlock.rst)
 *
 *   - no file can be opened but those named, those below folders named, and a few of the system's (random numbers, time
 *     zones, locales, terminals); none can be made, changed, renamed or removed but in folders named for that
 *   - nothing of a network (6.7), no abstract socket, no signal to others (6.12)
 *
 * and by a seccomp filter
 *
 *   - no program started, no process forked, no other process traced, read, signalled or given other limits or priorities;
 *     no memory, semaphores or messages in common with one
 *   - no file's mode, owner, times or attributes changed, be it named or open; none watched (Landlock guards none of these)
 *   - no socket, no mount, no namespace, no key, no kernel module, no io_uring; no keystroke put into the terminal
 *
 * Calls that are refused fail with EPERM or EACCES, calls younger than this list with ENOSYS. Files that are open stay open; threads can still be made.
 */
#ifndef ANM_BASE_SANDBOX_H
#define ANM_BASE_SANDBOX_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>

typedef struct anm_sandbox_path {
    const char *path; /* a file, or a folder with all that is below it; one that is not there gives no right */
    bool write;       /* a folder in which files may be made, written, replaced and removed, too */
} anm_sandbox_path;

/* Call it before there are other threads. ANM_ERR_UNSUPPORTED where the system (or its settings) has only a part of this,
 * or none: what there is holds nevertheless. In programs built with sanitizers, which do at their end what is given up
 * here, there is none. */
int anm_sandbox_enter(const anm_sandbox_path *path, size_t n, anm_error *err);

#endif
