/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A file as it will be: pieces of bytes in order, some at hand, some (weights) made only when they are written. Formats
 * nest: the weight file is a part of the directory blob, which is a segment of the program; each appends its pieces.
 * All sizes are known before the first weight is made, so every piece can be written at its place in any order.
 */
#ifndef ANM_BASE_LAYOUT_H
#define ANM_BASE_LAYOUT_H

#include "base/error.h"

#include <stdbool.h>

typedef struct anm_piece {
    uint64_t offset, size;
    const uint8_t *data;  /* at hand; or NULL: */
    const void *source;   /* made by whoever knows `source` … */
    uint32_t part;        /* … and which part of what it makes; a NULL source stands for zeros */
} anm_piece;

typedef struct anm_layout {
    anm_piece *piece;
    size_t count, room;
    uint64_t size; /* bytes so far: the offset of the next piece */
    bool bad;      /* memory was out, or the size overflowed */
} anm_layout;

void anm_layout_free(anm_layout *l);
/* Appends bytes (kept by pointer, not copied), bytes made later, zeros; or zeros up to a multiple of `align`. */
void anm_layout_bytes(anm_layout *l, const void *data, uint64_t size);
void anm_layout_source(anm_layout *l, const void *source, uint32_t part, uint64_t size);
void anm_layout_zeros(anm_layout *l, uint64_t size);
void anm_layout_align(anm_layout *l, uint64_t align);
/* Appends all pieces of `m`. */
void anm_layout_append(anm_layout *l, const anm_layout *m);

#endif
