/* SPDX-License-Identifier: BSD-3-Clause */
#include "base/layout.h"
#include "base/bytes.h"

#include <stdlib.h>

void anm_layout_free(anm_layout *l)
{
    free(l->piece);
    *l = (anm_layout){0};
}

static void add(anm_layout *l, anm_piece p)
{
    if (!p.size || l->bad) return;
    if (l->count == l->room) {
        size_t room = l->room ? l->room * 2 : 64;
        anm_piece *grown = realloc(l->piece, room * sizeof *grown);
        if (!grown) {
            l->bad = true;
            return;
        }
        l->piece = grown;
        l->room = room;
    }
    p.offset = l->size;
    if (!anm_add_u64(l->size, p.size, &l->size)) l->bad = true;
    l->piece[l->count++] = p;
}

void anm_layout_bytes(anm_layout *l, const void *data, uint64_t size)
{
    add(l, (anm_piece){.size = size, .data = data});
}

void anm_layout_source(anm_layout *l, const void *source, uint32_t part, uint64_t size)
{
    add(l, (anm_piece){.size = size, .source = source, .part = part});
}

void anm_layout_zeros(anm_layout *l, uint64_t size)
{
    add(l, (anm_piece){.size = size});
}

void anm_layout_align(anm_layout *l, uint64_t align)
{
    uint64_t over = l->size % align;
    if (over) anm_layout_zeros(l, align - over);
}

void anm_layout_append(anm_layout *l, const anm_layout *m)
{
    if (m->bad) l->bad = true;
    for (size_t i = 0; i < m->count; i++) add(l, m->piece[i]);
}
