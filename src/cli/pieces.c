/* SPDX-License-Identifier: BSD-3-Clause */
/* Opening a program with all its packages. */
#include "cli/pieces.h"
#include "cli/not_program.h"

#include <string.h>

const anm_dir_file *cli_dir_find(const anm_dir *dir, const char *name)
{
    size_t k = strlen(name);
    for (size_t i = 0; i < dir->count; i++) {
        size_t n = strlen(dir->file[i].path);
        if (n > k && dir->file[i].path[n - k - 1] == '/' && strcmp(dir->file[i].path + n - k, name) == 0) return &dir->file[i];
    }
    return NULL;
}

/* The package in these bytes, opened now unless it is open. */
static int open_package(cli_pieces *p, const uint8_t *data, uint64_t size, const char *key, uint32_t *index, anm_error *err)
{
    for (size_t i = 0; i < p->n_packages; i++) {
        if (p->packages[i].data != data) continue;
        *index = (uint32_t)i;
        return 0;
    }
    cli_package *k = &p->packages[p->n_packages];
    *k = (cli_package){.data = data, .size = size, .key = key};
    int rc = anm_dir_read(&k->dir, data, size, &p->arena, err);
    if (rc) return rc;
    *index = (uint32_t)p->n_packages++;
    return anm_package_read(&k->package, &k->dir, err);
}

static int open_piece(cli_pieces *p, cli_piece *piece, const anm_pte_delegate *g, anm_error *err)
{
    const uint8_t *data = g->data;
    uint64_t size = g->size;
    anm_reference ref;
    if (strcmp(g->id, "CoreMLBackend")) return anm_fail(err, ANM_ERR_UNSUPPORTED, "a delegate is for '%.60s', not for CoreMLBackend", g->id);
    int rc = anm_reference_read(&ref, data, size, &p->arena, err);
    if (rc) return rc;
    if (ref.key) {
        const anm_pte_named *named = anm_pte_named_find(&p->pte, ref.key);
        if (!named) return anm_fail(err, ANM_ERR_FORMAT, "a delegate refers to '%.100s', which is not there", ref.key);
        data = named->data;
        size = named->size;
    }
    if ((rc = open_package(p, data, size, ref.key, &piece->package, err))) return rc;
    const anm_package *k = &p->packages[piece->package].package;
    piece->named = ref.function;
    piece->function = ref.function ? anm_mil_function_find(&k->program, ref.function) : k->program.functions;
    if (!piece->function) return anm_fail(err, ANM_ERR_FORMAT, "a delegate refers to function '%.100s', which its package does not have", ref.function);
    if (!ref.function && piece->function->next) return anm_fail(err, ANM_ERR_FORMAT, "a delegate's package has several functions, and the delegate names none");
    return 0;
}

static int open_all(cli_pieces *p, anm_error *err)
{
    size_t n = 0;
    int rc = 0;
    for (size_t m = 0; m < p->pte.n_methods; m++) n += p->pte.methods[m].n_delegates;
    p->packages = anm_arena_array(&p->arena, n + 1, sizeof *p->packages);
    p->of = anm_arena_array(&p->arena, p->pte.n_methods, sizeof *p->of);
    if (!p->packages || !p->of) return anm_fail_memory(err, "a program");
    for (size_t m = 0; m < p->pte.n_methods && !rc; m++) {
        const anm_pte_method *method = &p->pte.methods[m];
        p->of[m] = anm_arena_array(&p->arena, method->n_delegates + 1, sizeof **p->of);
        if (!p->of[m]) return anm_fail_memory(err, "a program");
        for (size_t i = 0; i < method->n_delegates && !rc; i++) rc = open_piece(p, &p->of[m][i], &method->delegates[i], err);
    }
    return rc;
}

int cli_pieces_open(cli_pieces *out, const char *path, anm_error *err)
{
    *out = (cli_pieces){0};
    anm_arena_init(&out->arena);
    int rc = anm_map_open(&out->map, path, err);
    if (rc) return rc;
    rc = anm_pte_read(&out->pte, out->map.data, out->map.size, err);
    if (!rc) rc = open_all(out, err);
    if (rc) anm_error_prefix(err, path);
    return rc == ANM_ERR_FORMAT ? cli_not_program(path, err) : rc;
}

void cli_pieces_close(cli_pieces *p)
{
    for (size_t i = 0; i < p->n_packages; i++) anm_package_free(&p->packages[i].package);
    anm_pte_free(&p->pte);
    anm_arena_free(&p->arena);
    anm_map_close(&p->map);
}
