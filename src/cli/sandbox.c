/* SPDX-License-Identifier: BSD-3-Clause */
#include "cli/sandbox.h"

#include "base/sandbox.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { MOST_PATHS = 16, MOST_PATH = 4096 };

typedef struct list {
    anm_sandbox_path path[MOST_PATHS];
    char made[7][MOST_PATH]; /* names that are put together here */
    size_t n, n_made;
} list;

static void read_only(list *l, const char *path)
{
    if (path) l->path[l->n++] = (anm_sandbox_path){path, false};
}

/* `name` in a folder: that of the file `path`, or `path` itself. */
static const char *in_folder(list *l, const char *path, bool of_file, const char *name)
{
    const char *slash = strrchr(path, '/');
    size_t n = !of_file ? strlen(path) : slash ? (size_t)(slash - path) + 1 : 0;
    char *to = l->made[l->n_made++];
    int wrote = snprintf(to, MOST_PATH, "%.*s%s%s", (int)n, path, of_file ? "" : "/", name);
    return wrote >= 0 && wrote < MOST_PATH ? to : NULL;
}

int cli_sandbox_run(options *o, anm_error *err)
{
    list l = {.n = 0};
    const char *home = getenv("HOME");
    if (o->no_sandbox || (o->sandbox && strcmp(o->sandbox, "off") == 0)) return 0;
    read_only(&l, o->model);
    read_only(&l, o->params);
    read_only(&l, o->prompt_file);
    read_only(&l, o->tokenizer);
    read_only(&l, o->tokenizer_config);
    if (o->tokenizer) {
        read_only(&l, in_folder(&l, o->tokenizer, true, "tokenizer_config.json"));
        read_only(&l, in_folder(&l, o->tokenizer, true, "chat_template.jinja"));
        read_only(&l, in_folder(&l, o->tokenizer, true, "added_tokens.json"));
    }
    if (o->checkpoint) { /* its parts and its parameters lie beside it, or in it */
        struct stat st;
        bool is_folder = !stat(o->checkpoint, &st) && S_ISDIR(st.st_mode);
        read_only(&l, is_folder ? o->checkpoint : in_folder(&l, o->checkpoint, true, "."));
        read_only(&l, o->checkpoint_params);
    }
    if (o->tokenizer_config) read_only(&l, in_folder(&l, o->tokenizer_config, true, "chat_template.jinja"));
    if (o->logits) { /* a new file takes its place, beside what a link leads to */
        struct stat st;
        char *real = !lstat(o->logits, &st) && S_ISLNK(st.st_mode) ? realpath(o->logits, NULL) : NULL;
        const char *folder = in_folder(&l, real ? real : o->logits, true, ".");
        if (folder) l.path[l.n++] = (anm_sandbox_path){folder, true};
        free(real);
    }
    if (o->interactive) {
        l.path[l.n++] = (anm_sandbox_path){".", true}; /* /save */
        read_only(&l, getenv("TERMINFO"));
        if (home) read_only(&l, in_folder(&l, home, false, ".terminfo"));
    }
    int rc = anm_sandbox_enter(l.path, l.n, err);
    o->locked = rc == 0;
    bool must = o->sandbox && strcmp(o->sandbox, "auto") != 0;
    return rc == ANM_ERR_UNSUPPORTED && !must ? 0 : rc;
}
