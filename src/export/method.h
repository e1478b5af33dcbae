/* SPDX-License-Identifier: BSD-3-Clause */
/* What the makers of methods share: pytree strings, the arena, and the deprecated form's own ways. For src/export/ alone. */
#ifndef ANM_EXPORT_METHOD_H
#define ANM_EXPORT_METHOD_H

#include "base/buf.h"
#include "export/export.h"

enum { ANM_METHOD_ARENA = 1, ANM_METHOD_ALIGN = 16 }; /* of planned values: the arena's number, bytes */

#define ANM_TREE_LEAF "{\"type\": null, \"context\": null, \"children_spec\": []}"
void anm_tree_open(anm_buf *b, const char *type); /* a node up to its context, which follows with its quote */
void anm_tree_tuple(anm_buf *b);                  /* a tuple up to its children; close with ]} */

/* ---- the deprecated form (legacy_method.c) ---- */

void anm_legacy_in_spec(anm_buf *b, const anm_graph *g);
void anm_legacy_out_spec(anm_buf *b, const anm_graph *g);
/* Plans the outputs' memory; returns the arena's size. */
uint64_t anm_legacy_place(anm_pte_method *m);

#endif
