/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * anemone extract: the packages inside a program as .mlpackage folders. Every folder is made here, anew, and files are
 * created only in these: names are checked where the listing is read, so no path leads out and no link is followed.
 */
#include "base/hash.h"
#include "base/outfile.h"
#include "base/shown.h"
#include "cli/cli.h"
#include "cli/opt.h"
#include "cli/pieces.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Seeded with an address: nobody can prepare names that collide. */
#define HASH_FUNCTION(key, len, hash) (hash) = (unsigned)anm_hash(key, len, (uintptr_t)&cmd_extract)
#define uthash_fatal(msg) abort() /* never reached: the non-fatal form is asked for */
#define HASH_NONFATAL_OOM 1
#include <uthash.h>

static const char inside[] = "/model.mlpackage/";

/* What was made so far, so that a failure leaves nothing behind. */
typedef struct made {
    anm_arena arena;
    struct entry {
        const char *path;
        bool folder;
        struct entry *before;
        UT_hash_handle hh;
    } *last, *folders; /* all of it; the folders by path */
} made;

static int note(made *m, const char *path, bool folder, anm_error *err)
{
    struct entry *e = anm_arena_alloc(&m->arena, sizeof *e);
    if (!e) return anm_fail_memory(err, path);
    *e = (struct entry){.path = path, .folder = folder, .before = m->last};
    if (folder) {
        size_t before = HASH_COUNT(m->folders);
        HASH_ADD_KEYPTR(hh, m->folders, path, strlen(path), e);
        if (HASH_COUNT(m->folders) == before) return anm_fail_memory(err, path);
    }
    m->last = e;
    return 0;
}

static void undo(made *m)
{
    for (; m->last; m->last = m->last->before) {
        if (m->last->folder) rmdir(m->last->path);
        else unlink(m->last->path);
    }
}

/* Makes a folder that must not exist yet. */
static int make_folder(made *m, const char *path, anm_error *err)
{
    if (mkdir(path, 0777) == 0) {
        int rc = note(m, path, true, err);
        if (rc) rmdir(path);
        return rc;
    }
    if (errno == EEXIST) return anm_fail(err, ANM_ERR_IO, "%s: exists already; remove it or choose another folder", path);
    return anm_fail(err, ANM_ERR_IO, "%s: %s", path, strerror(errno));
}

static bool is_made(const made *m, const char *path, size_t n)
{
    struct entry *e;
    HASH_FIND(hh, m->folders, path, n, e);
    return e;
}

/* Makes the folders above a file that are not there yet; one that was made here is among them, the package's. */
static int make_folders_above(made *m, const char *path, anm_error *err)
{
    const size_t n = (size_t)(strrchr(path, '/') - path);
    size_t at = n;
    int rc = 0;
    while (!is_made(m, path, at))
        do at--;
        while (path[at] != '/');
    while (at < n && !rc) {
        do at++;
        while (path[at] != '/');
        const char *folder = anm_arena_strndup(&m->arena, path, at);
        rc = folder ? make_folder(m, folder, err) : anm_fail_memory(err, "a path");
    }
    return rc;
}

/* Writes one file of a package at `root`/`relative`, after the folders between. The disk is not waited for: there may be
 * thousands of files, and after a power cut they can be extracted again. */
static int put_file(made *m, const char *root, const char *relative, const anm_dir_file *file, anm_error *err)
{
    anm_outfile out = {0};
    char *path = anm_arena_printf(&m->arena, "%s/%s", root, relative);
    int rc = path ? make_folders_above(m, path, err) : anm_fail_memory(err, "a path");
    if (!rc) rc = anm_outfile_open(&out, path, err);
    if (!rc) rc = anm_outfile_write(&out, 0, file->data, (size_t)file->size, err);
    if (!rc) rc = anm_outfile_commit(&out, false, err);
    if (!rc && (rc = note(m, path, false, err))) unlink(path);
    anm_outfile_abort(&out);
    return rc;
}

static int put_package(made *m, const char *root, const cli_package *k, anm_error *err)
{
    int rc = make_folder(m, root, err);
    for (size_t i = 0; i < k->dir.count && !rc; i++) {
        const char *at = strstr(k->dir.file[i].path, inside);
        if (at) rc = put_file(m, root, at + sizeof inside - 1, &k->dir.file[i], err);
        if (!rc && cli_stop_asked()) rc = anm_fail(err, ANM_ERR_STOPPED, "%s: interrupted", root);
    }
    return rc;
}

static int extract(made *m, const cli_pieces *p, const char *target, anm_error *err)
{
    struct stat st;
    int rc = 0;
    if (stat(target, &st)) rc = make_folder(m, target, err);
    else if (!S_ISDIR(st.st_mode)) rc = anm_fail(err, ANM_ERR_IO, "%s: not a folder", target);
    for (size_t i = 0; i < p->n_packages && !rc; i++) {
        char *root = anm_arena_printf(&m->arena, "%s/piece_%zu.mlpackage", target, i);
        rc = root ? put_package(m, root, &p->packages[i], err) : anm_fail_memory(err, "a path");
    }
    return rc;
}

/* Which folder is which piece of which method. */
static void print_pieces(const cli_pieces *p, const char *target)
{
    for (size_t i = 0; i < p->n_packages; i++) {
        printf("%s/piece_%zu.mlpackage:", target, i);
        for (size_t m = 0; m < p->pte.n_methods; m++)
            for (size_t k = 0; k < p->pte.methods[m].n_delegates; k++)
                if (p->of[m][k].package == i) {
                    putchar(' ');
                    anm_shown_write(stdout, p->pte.methods[m].name, strlen(p->pte.methods[m].name), "");
                    printf(" (piece %zu)", k);
                }
        putchar('\n');
    }
}

int cmd_extract(int argc, char **argv)
{
    const char *target = NULL, *path;
    const cli_opt table[] = {
        {'o', "output", CLI_STRING, &target, "DIR", "where the folders piece_0.mlpackage, piece_1.mlpackage, … go", NULL},
        {0},
    };
    int n = 0;
    anm_error err = {0};
    int rc = cli_parse(table, "anemone extract MODEL.pte -o DIR", argc, argv, &path, 1, &n, &err);
    if (rc == CLI_HELPED) return EXIT_OK;
    if (!rc && (n != 1 || !target || !*target)) rc = anm_fail(&err, ANM_ERR_USAGE, "extract: a program and a folder are needed: anemone extract MODEL.pte -o DIR");
    if (rc) return cli_fail(&err);

    cli_pieces p;
    made m = {0};
    anm_arena_init(&m.arena);
    rc = cli_pieces_open(&p, path, &err);
    cli_handle_all_stops();
    if (!rc && !p.n_packages) rc = anm_fail(&err, ANM_ERR_UNSUPPORTED, "%s: no Core ML package in it", path);
    if (!rc) rc = extract(&m, &p, target, &err);
    if (rc) undo(&m);
    else print_pieces(&p, target);
    HASH_CLEAR(hh, m.folders);
    anm_arena_free(&m.arena);
    cli_pieces_close(&p);
    int code = rc ? cli_fail(&err) : EXIT_OK;
    cli_die_if_stopped();
    return code;
}
