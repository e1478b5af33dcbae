/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The directory blob in which ExecuTorch's Core ML backend keeps a package: file contents back to back, then a listing
 * as JSON, reversed byte by byte, so that it is read from the blob's last byte backwards.
 *
 *     weight.bin | model.mlmodel | Manifest.json | metadata.json | }]}"eludom_derewol":"eman",…,}…{[:"sedon"{
 *
 * The listing is {"nodes": [{"name", "kind" (0 file, 1 folder), "dataRegion": {"offset", "size"}, "children": {name:
 * index}}]}; a folder stands behind its children, the root comes last.
 * Format: pytorch/executorch backends/apple/coreml/runtime/inmemoryfs/.
 */
#include "base/buf.h"
#include "base/bytes.h"
#include "base/json.h"
#include "coreml/dir.h"

#include <stdlib.h>

/* A listing of a package has some ten entries, 1.2 KB. The bounds keep what a hostile one can cost small. */
enum { MAX_LISTING = 256 << 10, MAX_DEPTH = 8, MAX_NAME = 255 };

typedef struct node {
    const char *name;
    bool folder, used;
    uint64_t at, size;
    json_t *children;
} node;

typedef struct reader {
    const uint8_t *data;
    uint64_t size, content; /* the blob's bytes; those before the listing */
    node *nodes;
    size_t n_nodes;
    anm_dir *out;
    size_t room;
    anm_arena *arena;
    anm_error *err;
} reader;

static int format(const reader *r, const char *what)
{
    return anm_fail(r->err, ANM_ERR_FORMAT, "directory: %s", what);
}

/* The listing, turned around: from the blob's end to the brace that closes the first one. */
static int find_listing(reader *r, char **text, size_t *n)
{
    size_t max = r->size < MAX_LISTING ? (size_t)r->size : MAX_LISTING, depth = 0;
    char *out = anm_arena_alloc(r->arena, max + 1);
    if (!out) return anm_fail_memory(r->err, "a directory's listing");
    bool quoted = false, escaped = false;
    for (size_t i = 0; i < max; i++) {
        char c = out[i] = (char)r->data[r->size - 1 - i];
        if (i == 0 && c != '{') return format(r, "no listing at its end");
        if (escaped) escaped = false;
        else if (quoted && c == '\\') escaped = true;
        else if (c == '"') quoted = !quoted;
        else if (!quoted && c == '{') depth++;
        else if (!quoted && c == '}' && --depth == 0) {
            out[i + 1] = 0;
            *text = out;
            *n = i + 1;
            return 0;
        }
    }
    return format(r, "its listing has no end");
}

/* Can `s` be the name of a file or folder, and nothing but that? */
static bool plain_name(const char *s, size_t n)
{
    if (!n || n > MAX_NAME || strlen(s) != n || strcmp(s, ".") == 0 || strcmp(s, "..") == 0) return false;
    for (size_t i = 0; i < n; i++)
        if (s[i] == '/' || s[i] == '\\' || s[i] == ':' || (unsigned char)s[i] < ' ' || s[i] == 127) return false;
    return true;
}

static int read_node(reader *r, node *n, json_t *j)
{
    json_t *name = json_object_get(j, "name"), *kind = json_object_get(j, "kind");
    json_t *region = json_object_get(j, "dataRegion"), *children = json_object_get(j, "children");
    if (!json_is_string(name) || !json_is_integer(kind)) return format(r, "an entry has no name or no kind");
    if (!plain_name(json_string_value(name), json_string_length(name))) return format(r, "an entry's name is no plain file name");
    n->name = json_string_value(name);
    json_int_t k = json_integer_value(kind);
    if (k != 0 && k != 1) return format(r, "an entry is neither a file nor a folder");
    n->folder = k == 1;
    if (n->folder) {
        if (children && !json_is_object(children)) return format(r, "a folder's children are no table");
        n->children = children;
        return 0;
    }
    json_t *at = json_object_get(region, "offset"), *size = json_object_get(region, "size");
    if (!json_is_integer(at) || !json_is_integer(size) || json_integer_value(at) < 0 || json_integer_value(size) < 0)
        return format(r, "a file has no place");
    n->at = (uint64_t)json_integer_value(at);
    n->size = (uint64_t)json_integer_value(size);
    if (!anm_inside(n->at, n->size, r->content)) return anm_fail(r->err, ANM_ERR_FORMAT, "directory: '%s' lies beyond the end", n->name);
    return 0;
}

static int by_place(const void *a, const void *b)
{
    const node *x = *(node *const *)a, *y = *(node *const *)b;
    return x->at != y->at ? (x->at < y->at ? -1 : 1) : x->size < y->size ? -1 : x->size > y->size;
}

static int check_overlap(reader *r)
{
    node **file = anm_arena_array(r->arena, r->n_nodes, sizeof *file);
    size_t n = 0;
    if (!file) return anm_fail_memory(r->err, "a directory");
    for (size_t i = 0; i < r->n_nodes; i++)
        if (!r->nodes[i].folder) file[n++] = &r->nodes[i];
    if (n) qsort(file, n, sizeof *file, by_place);
    for (size_t i = 1; i < n; i++)
        if (file[i]->at < file[i - 1]->at + file[i - 1]->size) return format(r, "two files overlap");
    return 0;
}

/* Lists the files below node `index`, whose path is `path`. */
static int walk(reader *r, size_t index, const char *path, int depth)
{
    node *n = &r->nodes[index];
    if (n->used) return format(r, "an entry stands in two folders");
    n->used = true;
    if (!n->folder) {
        r->out->file[r->out->count++] = (anm_dir_file){path, r->data + n->at, n->size};
        return 0;
    }
    if (depth == MAX_DEPTH) return format(r, "folders are nested too deeply");
    const char *name;
    json_t *child;
    json_object_foreach(n->children, name, child) {
        if (!json_is_integer(child) || json_integer_value(child) < 0 || json_integer_value(child) >= (json_int_t)index)
            return format(r, "a folder names a child that does not stand before it");
        size_t at = (size_t)json_integer_value(child);
        if (strcmp(r->nodes[at].name, name)) return format(r, "a folder calls its child by another name");
        char *below = anm_arena_printf(r->arena, "%s/%s", path, name);
        if (!below) return anm_fail_memory(r->err, "a directory");
        int rc = walk(r, at, below, depth + 1);
        if (rc) return rc;
    }
    return 0;
}

int anm_dir_read(anm_dir *out, const uint8_t *data, uint64_t size, anm_arena *arena, anm_error *err)
{
    *out = (anm_dir){0};
    reader r = {.data = data, .size = size, .out = out, .arena = arena, .err = err};
    char *text = NULL;
    size_t n = 0;
    json_t *root = NULL;
    int rc;
    if (!size) return format(&r, "it is empty");
    if ((rc = find_listing(&r, &text, &n))) return rc;
    r.content = size - n;
    if ((rc = anm_json_read(&root, text, n, JSON_REJECT_DUPLICATES, "directory: its listing is no JSON", err))) return rc;
    json_t *nodes = json_object_get(root, "nodes");
    r.n_nodes = json_array_size(nodes);
    if (!r.n_nodes) {
        rc = format(&r, "its listing has no entries");
        goto done;
    }
    r.nodes = anm_arena_array(arena, r.n_nodes, sizeof *r.nodes);
    out->file = anm_arena_array(arena, r.n_nodes, sizeof *out->file);
    if (!r.nodes || !out->file) {
        rc = anm_fail_memory(err, "a directory");
        goto done;
    }
    for (size_t i = 0; i < r.n_nodes; i++)
        if ((rc = read_node(&r, &r.nodes[i], json_array_get(nodes, i)))) goto done;
    if ((rc = check_overlap(&r))) goto done;
    if (!r.nodes[r.n_nodes - 1].folder) {
        rc = format(&r, "its last entry is no folder");
        goto done;
    }
    char *top = anm_arena_strdup(arena, r.nodes[r.n_nodes - 1].name);
    rc = top ? walk(&r, r.n_nodes - 1, top, 0) : anm_fail_memory(err, "a directory");
done:
    json_decref(root);
    return rc;
}

/* ---- writing ---- */

/* One entry of the listing, in the order of the original's keys. */
static void put_entry(anm_buf *b, const char *name, int kind, uint64_t at, uint64_t size, const char *children)
{
    anm_buf_printf(b, "%s{\"children\":{%s},\"dataRegion\":{\"offset\":%llu,\"size\":%llu},\"kind\":%d,\"name\":\"%s\"}",
                   b->data && b->data[b->size - 1] == '}' ? "," : "", children, (unsigned long long)at,
                   (unsigned long long)size, kind, name);
}

int anm_dir_write_listing(anm_layout *out, const char *folder, const anm_dir_region *weights, const anm_dir_region *model,
                          const anm_dir_region *manifest, const anm_dir_region *metadata, anm_arena *arena, anm_error *err)
{
    anm_buf b = {0};
    anm_buf_puts(&b, "{\"nodes\":[");
    put_entry(&b, "weight.bin", 0, weights->at, weights->size, "");
    put_entry(&b, "weights", 1, 0, 0, "\"weight.bin\":0");
    put_entry(&b, "model.mlmodel", 0, model->at, model->size, "");
    put_entry(&b, "com.apple.CoreML", 1, 0, 0, "\"model.mlmodel\":2,\"weights\":1");
    put_entry(&b, "Data", 1, 0, 0, "\"com.apple.CoreML\":3");
    put_entry(&b, "Manifest.json", 0, manifest->at, manifest->size, "");
    put_entry(&b, "model.mlpackage", 1, 0, 0, "\"Data\":4,\"Manifest.json\":5");
    put_entry(&b, "metadata.json", 0, metadata->at, metadata->size, "");
    put_entry(&b, folder, 1, 0, 0, "\"metadata.json\":7,\"model.mlpackage\":6");
    anm_buf_puts(&b, "]}");
    uint8_t *text = b.bad ? NULL : anm_arena_alloc(arena, b.size);
    for (size_t i = 0; text && i < b.size; i++) text[i] = b.data[b.size - 1 - i];
    size_t n = b.size;
    anm_buf_free(&b);
    if (!text) return anm_fail_memory(err, "a directory's listing");
    anm_layout_bytes(out, text, n);
    return 0;
}
