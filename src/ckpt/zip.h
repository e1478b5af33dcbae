/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Zip archives as torch.save writes them: entries stored, not compressed, so that tensors can be used in
 * place; zip64 beyond 4 GiB. Source of the format: PKWARE's APPNOTE.TXT, sections 4.3 and 4.5.
 */
#ifndef ANM_CKPT_ZIP_H
#define ANM_CKPT_ZIP_H

#include "base/arena.h"
#include "base/error.h"

#include <stdbool.h>

typedef struct anm_zip_entry {
    const char *name; /* in the archive, not 0-terminated */
    size_t name_len;
    const uint8_t *data;
    uint64_t size;   /* of the bytes at data */
    uint16_t method; /* 0: stored as they are */
    bool encrypted;
} anm_zip_entry;

typedef struct anm_zip {
    anm_zip_entry *entry; /* sorted by name; no name twice */
    size_t count;
} anm_zip;

/* Does `data` begin as a zip archive does? */
bool anm_zip_sniff(const uint8_t *data, uint64_t size);

/* Verifies the directory and every entry's place; all of it lies inside `data`, which must outlive the table.
 * Messages do not name the file. */
int anm_zip_parse(anm_zip *out, anm_arena *arena, const uint8_t *data, uint64_t size, anm_error *err);

/* Refuses an entry whose bytes cannot be used in place: a compressed or encrypted one. */
int anm_zip_check_stored(const anm_zip_entry *e, anm_error *err);

/* The entry of that name, or NULL. */
const anm_zip_entry *anm_zip_find(const anm_zip *z, const char *name, size_t name_len);

#endif
