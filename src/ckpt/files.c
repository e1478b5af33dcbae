/* SPDX-License-Identifier: BSD-3-Clause */
#include "ckpt/files.h"

#include "base/json.h"
#include "base/map.h"
#include "ckpt/text.h"

#include <dirent.h>
#include <errno.h>
#include <glob.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static int no_memory(anm_error *err)
{
    return anm_fail_memory(err, "the list of files");
}

static bool ends_with(const char *s, const char *tail)
{
    size_t n = strlen(s), t = strlen(tail);
    return n >= t && !strcmp(s + n - t, tail);
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The folder part of a path, with its slash; "" when it has none. */
static char *folder_of(anm_arena *arena, const char *path)
{
    const char *slash = strrchr(path, '/');
    return anm_arena_strndup(arena, path, slash ? (size_t)(slash - path) + 1 : 0);
}

/* Where it cannot be told, opening it will say why. */
static bool is_file(const char *path)
{
    struct stat st;
    if (stat(path, &st)) return errno != ENOENT && errno != ENOTDIR;
    return S_ISREG(st.st_mode);
}

static bool is_there(const char *path)
{
    struct stat st;
    return lstat(path, &st) == 0;
}

/* The first of two names that is a file in `folder`; else the first that is anything at all, which opening it will name. */
static int find_config(anm_files *f, anm_arena *arena, const char *folder, bool pth, anm_error *err)
{
    static const char *const name[2] = {"params.json", "config.json"};
    for (int i = 0; i < 2; i++) {
        char *p = anm_arena_printf(arena, "%s%s", folder, name[pth ? i : 1 - i]);
        if (!p) return no_memory(err);
        bool file = is_file(p);
        if (file || (!f->config && is_there(p))) f->config = p;
        if (file) return 0;
    }
    return 0;
}

/* ---- the index of a checkpoint in several files: {"weight_map": {"tensor": "file", …}} ---- */

static int files_of_map(anm_files *f, anm_arena *arena, const char *folder, json_t *map, anm_error *err)
{
    const char *tensor;
    json_t *v;
    size_t most = json_object_size(map), n = 0;
    char **name = anm_arena_array(arena, most + 1, sizeof *name);
    f->claim = anm_arena_array(arena, most + 1, sizeof *f->claim);
    if (!name || !f->claim) return no_memory(err);
    json_object_foreach(map, tensor, v)
    {
        const char *s = json_string_value(v);
        char shown[96];
        if (!s) return anm_fail(err, ANM_ERR_FORMAT, "the weight_map gives no file for '%s'", tensor);
        if (!*s || strchr(s, '/') || *s == '.')
            return anm_fail(err, ANM_ERR_FORMAT, "the weight_map names a file outside the folder: '%s'",
                            anm_show(shown, sizeof shown, s, strlen(s)));
        if (!n || strcmp(name[n - 1], s)) {
            name[n] = anm_arena_strdup(arena, s);
            if (!name[n++]) return no_memory(err);
        }
        f->claim[f->n_claims] = (anm_claim){anm_arena_strdup(arena, tensor), name[n - 1]};
        if (!f->claim[f->n_claims++].tensor) return no_memory(err);
    }
    if (!n) return anm_fail(err, ANM_ERR_FORMAT, "the weight_map is empty");
    qsort(name, n, sizeof *name, by_text);
    f->path = anm_arena_array(arena, n, sizeof *f->path);
    if (!f->path) return no_memory(err);
    for (size_t i = 0; i < n; i++) {
        if (i && !strcmp(name[i], name[i - 1])) continue;
        if (f->n == ANM_CKPT_MAX_FILES)
            return anm_fail(err, ANM_ERR_LIMIT, "names more than %d files", ANM_CKPT_MAX_FILES);
        f->path[f->n] = anm_arena_printf(arena, "%s%s", folder, name[i]);
        if (!f->path[f->n++]) return no_memory(err);
    }
    return 0;
}

static int read_index(anm_files *f, anm_arena *arena, const char *path, const anm_map *m, anm_error *err)
{
    char *folder = folder_of(arena, path);
    f->index = anm_arena_strdup(arena, path);
    if (!folder || !f->index) return no_memory(err);
    json_t *root;
    int rc = anm_json_read(&root, m->data, m->size, JSON_REJECT_DUPLICATES, "is not JSON", err);
    json_t *map = json_object_get(root, "weight_map");
    if (!rc && !json_is_object(map))
        rc = anm_fail(err, ANM_ERR_UNSUPPORTED, "is JSON without a weight_map; name the checkpoint itself");
    if (!rc)
        rc = files_of_map(f, arena, folder, map, err);
    json_decref(root);
    if (rc) anm_error_prefix(err, path);
    return rc;
}

/* ---- one file, a folder, a pattern ---- */

static int one_file(anm_files *f, anm_arena *arena, const char *path, bool found, anm_error *err)
{
    anm_map m;
    char *folder = folder_of(arena, path);
    if (!folder) return no_memory(err);
    int rc = 0;
    if (ends_with(path, ".json")) {
        rc = found ? anm_map_open_found(&m, path, err) : anm_map_open(&m, path, err);
        if (rc) return rc;
        found = true;
        rc = read_index(f, arena, path, &m, err);
        anm_map_close(&m);
    } else {
        f->path = anm_arena_array(arena, 1, sizeof *f->path);
        if (f->path) f->path[0] = anm_arena_strdup(arena, path);
        if (!f->path || !f->path[0]) return no_memory(err);
        f->n = 1;
    }
    f->found = found;
    return rc ? rc : find_config(f, arena, folder, !ends_with(f->path[0], ".safetensors"), err);
}

static bool is_shard(const char *s)
{
    return !strncmp(s, "consolidated.", 13) && ends_with(s, ".pth");
}
static bool is_index(const char *s)
{
    return ends_with(s, ".safetensors.index.json");
}
static bool is_bin_index(const char *s)
{
    return !strcmp(s, "pytorch_model.bin.index.json");
}
static bool is_safetensors(const char *s)
{
    return ends_with(s, ".safetensors");
}
static bool is_model_safetensors(const char *s)
{
    return !strcmp(s, "model.safetensors");
}
static bool is_pth(const char *s)
{
    return ends_with(s, ".pth") || ends_with(s, ".pt") || !strcmp(s, "pytorch_model.bin");
}
static bool is_gguf(const char *s)
{
    return ends_with(s, ".gguf");
}

/* What a folder may hold, the first that is there counts. Only Meta's shards belong together by their names.
 */
static const struct {
    bool (*fits)(const char *);
    bool many;
    const char *what;
} choices[] = {
    {is_index, false, "safetensors indexes"},
    {is_model_safetensors, false, ""},
    {is_safetensors, false, "safetensors files"},
    {is_shard, true, ""},
    {is_bin_index, false, ""},
    {is_pth, false, "PyTorch files"},
    {is_gguf, false, "GGUF files"},
};

static int list_folder(char ***names, size_t *count, anm_arena *arena, const char *path, anm_error *err)
{
    enum { MOST = 1 << 16 };
    size_t room = 0;
    *count = 0;
    DIR *d = opendir(path);
    if (!d) return anm_fail(err, ANM_ERR_IO, "%s: cannot be listed: %s", path, strerror(errno));
    int rc = 0;
    for (struct dirent *e; !rc && (e = readdir(d));) {
        if (e->d_name[0] == '.') continue;
        if (*count == room) {
            char **longer = anm_arena_array(arena, room = room ? room * 2 : 64, sizeof *longer);
            if (longer && *count) memcpy(longer, *names, *count * sizeof *longer);
            *names = longer;
        }
        char *s = *names ? anm_arena_strdup(arena, e->d_name) : NULL;
        if (!s)
            rc = no_memory(err);
        else if (*count == MOST)
            rc = anm_fail(err, ANM_ERR_LIMIT, "%s: holds more than %d files", path, MOST);
        else
            (*names)[(*count)++] = s;
    }
    closedir(d);
    if (!rc && *count) qsort(*names, *count, sizeof **names, by_text);
    return rc;
}

static int folder_files(anm_files *f, anm_arena *arena, const char *path, anm_error *err)
{
    char **name = NULL;
    size_t count, n = strlen(path);
    int rc = list_folder(&name, &count, arena, path, err);
    if (rc) return rc;
    const char *slash = n && path[n - 1] == '/' ? "" : "/";
    char *folder = anm_arena_printf(arena, "%s%s", path, slash);
    f->path = anm_arena_array(arena, count + 1, sizeof *f->path);
    f->found = true;
    if (!folder || !f->path) return no_memory(err);
    for (size_t c = 0; c < sizeof choices / sizeof *choices && !f->n; c++) {
        for (size_t i = 0; i < count; i++) {
            if (!choices[c].fits(name[i])) continue;
            if (f->n && !choices[c].many)
                return anm_fail(err, ANM_ERR_USAGE, "%s: holds several %s; name one of them", path,
                                choices[c].what);
            if (f->n == ANM_CKPT_MAX_FILES) return anm_fail(err, ANM_ERR_LIMIT, "%s: too many shards", path);
            f->path[f->n] = anm_arena_printf(arena, "%s%s", folder, name[i]);
            if (!f->path[f->n++]) return no_memory(err);
        }
        if (f->n && (choices[c].fits == is_index || choices[c].fits == is_bin_index)) {
            char *index = f->path[0];
            *f = (anm_files){0};
            return one_file(f, arena, index, true, err);
        }
    }
    if (!f->n)
        return anm_fail(err, ANM_ERR_FORMAT, "%s: holds no checkpoint (safetensors, .pth or .gguf)", path);
    return find_config(f, arena, folder, !is_safetensors(f->path[0]), err);
}

static int pattern_files(anm_files *f, anm_arena *arena, const char *path, anm_error *err)
{
    glob_t g;
    int rc = glob(path, 0, NULL, &g);
    if (rc == GLOB_NOSPACE) return no_memory(err);
    if (rc) return anm_fail(err, ANM_ERR_IO, "%s: matches no file", path);
    f->found = true;
    f->path = anm_arena_array(arena, g.gl_pathc, sizeof *f->path);
    rc = f->path ? 0 : no_memory(err);
    if (!rc && g.gl_pathc > ANM_CKPT_MAX_FILES)
        rc = anm_fail(err, ANM_ERR_LIMIT, "%s: matches more than %d files", path, ANM_CKPT_MAX_FILES);
    for (size_t i = 0; !rc && i < g.gl_pathc; i++) {
        f->path[f->n] = anm_arena_strdup(arena, g.gl_pathv[i]);
        if (!f->path[f->n++]) rc = no_memory(err);
    }
    globfree(&g);
    char *folder = rc ? NULL : folder_of(arena, f->path[0]);
    if (!rc && !folder) rc = no_memory(err);
    return rc ? rc : find_config(f, arena, folder, !is_safetensors(f->path[0]), err);
}

int anm_files_find(anm_files *out, anm_arena *arena, const char *path, anm_error *err)
{
    struct stat st;
    *out = (anm_files){0};
    if (!stat(path, &st))
        return S_ISDIR(st.st_mode) ? folder_files(out, arena, path, err) : one_file(out, arena, path, false, err);
    if (errno == ENOENT && strpbrk(path, "*?[")) return pattern_files(out, arena, path, err);
    return anm_fail(err, ANM_ERR_IO, "%s: cannot be opened: %s", path, strerror(errno));
}
