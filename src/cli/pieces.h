/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A program's pieces, for the commands that look into files: every package that a delegate holds or refers to, opened
 * once, and which function of which package each delegate runs.
 */
#ifndef ANM_CLI_PIECES_H
#define ANM_CLI_PIECES_H

#include "base/map.h"
#include "coreml/coreml.h"
#include "pte/pte.h"

typedef struct cli_package {
    const uint8_t *data; /* the directory blob, or NULL for a folder on disk */
    uint64_t size;
    const char *key; /* of the named data that holds it, or NULL */
    anm_dir dir;
    anm_package package;
} cli_package;

/* What one delegate runs. */
typedef struct cli_piece {
    uint32_t package;             /* index */
    const anm_mil_function *function;
    const char *named;            /* the function's name in a reference, or NULL when the delegate holds its package */
} cli_piece;

typedef struct cli_pieces {
    anm_map map;
    anm_pte pte;
    anm_arena arena;
    cli_package *packages;
    size_t n_packages;
    cli_piece **of; /* [method][delegate] */
} cli_pieces;

/* Maps and opens the file at `path`, whole. Messages begin with the path. Close it also after a failure. */
int cli_pieces_open(cli_pieces *out, const char *path, anm_error *err);
void cli_pieces_close(cli_pieces *p);

/* A file inside a directory blob by the end of its path ("metadata.json"), or NULL. */
const anm_dir_file *cli_dir_find(const anm_dir *dir, const char *name);

#endif
