/* SPDX-License-Identifier: BSD-3-Clause */
/* A program from its file: read, joined, and its roles found. */
#include "run/engine_internal.h"

#include <string.h>

int anm_loaded_open(anm_loaded *out, const char *path, anm_error *err)
{
    memset(out, 0, sizeof *out);
    anm_arena_init(&out->arena);
    anm_arena_init(&out->graph_arena);
    anm_mil_program_init(&out->program);
    int rc = anm_map_open(&out->map, path, err);
    if (rc) {
        anm_loaded_close(out);
        return rc;
    }
    rc = anm_pte_read(&out->pte, out->map.data, out->map.size, err);
    if (!rc) rc = anm_loaded_find_roles(out, err);
    if (rc) {
        anm_error_prefix(err, path);
        anm_loaded_close(out);
    }
    return rc;
}

void anm_loaded_close(anm_loaded *l)
{
    for (anm_opened *o = l->packages; o; o = o->next) anm_package_free(&o->package);
    anm_mil_program_free(&l->program);
    anm_pte_free(&l->pte);
    anm_arena_free(&l->arena);
    anm_arena_free(&l->graph_arena);
    anm_map_close(&l->map);
    memset(l, 0, sizeof *l);
}
