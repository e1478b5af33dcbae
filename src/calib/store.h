/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The work file of a calibration: what each stage has made, in a mapped file, so that it costs no memory and outlives the
 * process. A stage counts as done once its record is written, and a record holds digests of all that belongs to it, itself
 * included; so whatever a kill or a crash leaves behind is either a stage's whole work or not counted. Little-endian:
 *
 *   head (a page)   magic, version, key, sizes, digest
 *   records         per stage: number, digests of its bytes and of the carried state, figures
 *   stages          the bytes that each makes, from a page's start on
 *   carried, twice  the state that one stage hands on to the next: stages write to the two in turns
 */
#ifndef ANM_CALIB_STORE_H
#define ANM_CALIB_STORE_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>

typedef struct anm_store anm_store;

enum { ANM_STORE_NOTE = 1536 }; /* bytes of figures that a stage may keep with its record */

typedef struct anm_store_plan {
    const char *path;       /* NULL: a temporary file without a name, beside the file `beside` (or NULL) */
    const char *beside;
    bool resume;            /* go on with what is at `path`, if something is; else begin anew */
    uint8_t key[16];        /* all that the work depends on: a file with another key is refused */
    size_t stages;
    const uint64_t *size;   /* [stages] bytes that each makes */
    uint64_t carried;       /* bytes of state */
} anm_store_plan;

/* *done: stages that need not be done again. ANM_ERR_USAGE for a file that belongs to other work. */
int anm_store_open(anm_store **out, const anm_store_plan *plan, size_t *done, anm_error *err);
void anm_store_close(anm_store *s);  /* NULL is fine; a file with a name stays */
void anm_store_remove(anm_store *s); /* the work is done and used: the file's name goes */

void *anm_store_stage(const anm_store *s, size_t i);   /* where stage i puts what it makes; aligned to a page */
void *anm_store_carried(const anm_store *s, size_t i); /* the state after stage i */
void *anm_store_note(const anm_store *s, size_t i);    /* [ANM_STORE_NOTE] */

/* Stage i has written its bytes, the carried state and its note. */
void anm_store_commit(anm_store *s, size_t i);

#endif
