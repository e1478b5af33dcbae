/* SPDX-License-Identifier: BSD-3-Clause */
#include "ckpt/ckpt.h"

#include "base/bytes.h"
#include "base/lfs.h"
#include "ckpt/files.h"
#include "ckpt/gguf.h"
#include "ckpt/reader.h"
#include "ckpt/text.h"
#include "ckpt/zip.h"

#include <stdlib.h>
#include <string.h>

typedef struct shard {
    anm_tensors list;
    const anm_tensor **by_name;
} shard;

struct anm_ckpt {
    anm_arena arena;
    anm_files files;
    char *path;
    anm_ckpt_kind kind;
    anm_map *map; /* one per file; those not opened are zero */
    shard *shard;
    unsigned shards;
    anm_gguf *gguf;
};

/* ---- opening ---- */

/* PyTorch's format before 1.6 begins with its magic number, pickled as an integer of ten bytes. */
static bool is_legacy_pth(const uint8_t *p, uint64_t size)
{
    static const uint8_t magic[] = {0x80, 0x02, 0x8a, 0x0a, 0x6c, 0xfc, 0x9c,
                                    0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19};
    return size >= sizeof magic && !memcmp(p, magic, sizeof magic);
}

/* The header's length, then a JSON object. */
static bool is_safetensors(const uint8_t *p, uint64_t size)
{
    return size >= 9 && p[8] == '{';
}

static int kind_of(anm_ckpt_kind *out, const anm_map *m, anm_error *err)
{
    const uint8_t *p = m->data;
    uint64_t size = m->size;
    if (anm_zip_sniff(p, size)) {
        *out = ANM_CKPT_PTH;
    } else if (size >= 4 && !memcmp(p, "GGUF", 4)) {
        *out = ANM_CKPT_GGUF;
    } else if (is_safetensors(p, size)) {
        *out = ANM_CKPT_SAFETENSORS;
    } else if (is_legacy_pth(p, size)) {
        return anm_fail(err, ANM_ERR_UNSUPPORTED,
                        "is in PyTorch's old format without a zip archive; load it with torch.load and save "
                        "it again with "
                        "torch.save");
    } else if (anm_is_lfs_pointer(p, size)) {
        return anm_fail(err, ANM_ERR_FORMAT, ANM_LFS_POINTER);
    } else if (size >= 8 && !memcmp(p + 4, "ET", 2)) {
        return anm_fail(err, ANM_ERR_FORMAT, "is a program, which an export makes, and no checkpoint");
    } else {
        return anm_fail(err, ANM_ERR_FORMAT, "is no checkpoint that anemone knows (.pth, safetensors, GGUF)");
    }
    return 0;
}

static int read_gguf(anm_ckpt *c, shard *s, const anm_map *m, const char *file, anm_error *err)
{
    int rc = anm_gguf_parse(&c->gguf, m->data, m->size, file, err);
    if (rc) return rc;
    for (size_t i = 0; i < anm_gguf_tensor_count(c->gguf); i++) {
        const anm_tensor *g = anm_gguf_tensor(c->gguf, i);
        anm_tensor *t;
        rc = anm_tensors_add(&t, &s->list, &c->arena, g->name, strlen(g->name), err);
        if (rc) return rc;
        *t = *g;
    }
    return 0;
}

/* The file's tensors join their shard: each .pth is one of its own, unless an index says that they are one
 * whole, as safetensors files always are. */
static int read_file(anm_ckpt *c, size_t i, anm_error *err)
{
    const char *file = c->files.path[i];
    anm_ckpt_kind kind = ANM_CKPT_PTH;
    anm_map *m = &c->map[i];
    int rc = c->files.found ? anm_map_open_found(m, file, err) : anm_map_open(m, file, err);
    if (rc) return rc;
    rc = kind_of(&kind, m, err);
    if (rc) return anm_error_prefix(err, file);
    if (i == 0) c->kind = kind;
    if (kind != c->kind)
        return anm_fail(err, ANM_ERR_FORMAT, "%s: is of another format than %s", file, c->files.path[0]);
    if (i > 0 && kind == ANM_CKPT_GGUF)
        return anm_fail(err, ANM_ERR_UNSUPPORTED,
                        "%s: GGUF files in several parts are not read; merge them first", file);
    if (i == 0 || (kind == ANM_CKPT_PTH && !c->files.index)) c->shards++;
    shard *s = &c->shard[c->shards - 1];
    size_t before = s->list.n;

    /* What a hostile file can make the tables take is bounded by its size. */
    c->arena.limit = m->size < SIZE_MAX / 128 ? c->arena.total + ((size_t)1 << 20) + (size_t)m->size * 64 : 0;
    if (kind == ANM_CKPT_GGUF) {
        rc = read_gguf(c, s, m, file, err);
    } else {
        rc = kind == ANM_CKPT_PTH ? anm_pth_read(&s->list, &c->arena, m->data, m->size, err)
                                  : anm_safetensors_read(&s->list, &c->arena, m->data, m->size, err);
        if (rc) anm_error_prefix(err, file);
    }
    c->arena.limit = 0;
    if (!rc && (rc = anm_tensors_check_sharing(&s->list, before, m->size, err))) anm_error_prefix(err, file);
    for (size_t k = before; k < s->list.n; k++)
        s->list.at[k].file = file;
    return rc;
}

static int by_name(const void *a, const void *b)
{
    return strcmp((*(const anm_tensor *const *)a)->name, (*(const anm_tensor *const *)b)->name);
}

static int index_names(anm_ckpt *c, shard *s, anm_error *err)
{
    s->by_name = anm_arena_array(&c->arena, s->list.n, sizeof *s->by_name);
    if (!s->by_name) return anm_fail_memory(err, "the table of tensors");
    for (size_t i = 0; i < s->list.n; i++)
        s->by_name[i] = &s->list.at[i];
    qsort(s->by_name, s->list.n, sizeof *s->by_name, by_name);
    for (size_t i = 1; i < s->list.n; i++) {
        const anm_tensor *a = s->by_name[i - 1], *b = s->by_name[i];
        if (!strcmp(a->name, b->name))
            return anm_fail(err, ANM_ERR_FORMAT, "%s: tensor '%.100s' is there twice%s%s", a->file, a->name,
                            a->file == b->file ? "" : ", also in ", a->file == b->file ? "" : b->file);
    }
    return 0;
}

/* Each tensor that an index names is in the file that it names, or someone mixed two checkpoints. */
static int check_claims(const anm_ckpt *c, anm_error *err)
{
    for (size_t i = 0; i < c->files.n_claims; i++) {
        const anm_claim *claim = &c->files.claim[i];
        const anm_tensor *t = anm_ckpt_find(c, 0, claim->tensor);
        if (t && !strcmp(strrchr(t->file, '/') ? strrchr(t->file, '/') + 1 : t->file, claim->file)) continue;
        char name[96], file[96];
        anm_show(name, sizeof name, claim->tensor, strlen(claim->tensor));
        anm_show(file, sizeof file, claim->file, strlen(claim->file));
        return anm_fail(err, ANM_ERR_FORMAT, "%s: names '%s' for tensor '%s', which that file does not hold", c->files.index, file, name);
    }
    return 0;
}

int anm_ckpt_open(anm_ckpt **out, const char *path, anm_error *err)
{
    *out = NULL;
    anm_ckpt *c = calloc(1, sizeof *c);
    if (!c) return anm_fail_memory(err, "a checkpoint");
    anm_arena_init(&c->arena);
    c->path = anm_arena_strdup(&c->arena, path);
    int rc = c->path ? anm_files_find(&c->files, &c->arena, path, err) : anm_fail_memory(err, "a checkpoint");
    if (rc) goto done;
    c->map = anm_arena_array(&c->arena, c->files.n, sizeof *c->map);
    c->shard = anm_arena_array(&c->arena, c->files.n, sizeof *c->shard);
    rc = c->map && c->shard ? 0 : anm_fail_memory(err, "a checkpoint");
    for (size_t i = 0; !rc && i < c->files.n; i++)
        rc = read_file(c, i, err);
    for (unsigned i = 0; !rc && i < c->shards; i++)
        rc = index_names(c, &c->shard[i], err);
    if (!rc) rc = check_claims(c, err);
done:
    if (rc)
        anm_ckpt_close(c);
    else
        *out = c;
    return rc;
}

void anm_ckpt_close(anm_ckpt *c)
{
    if (!c) return;
    for (size_t i = 0; c->map && i < c->files.n; i++)
        if (c->map[i].data) anm_map_close(&c->map[i]);
    anm_gguf_free(c->gguf);
    anm_arena_free(&c->arena);
    free(c);
}

/* ---- asking ---- */

anm_ckpt_kind anm_ckpt_kind_of(const anm_ckpt *c)
{
    return c->kind;
}

const char *anm_ckpt_path(const anm_ckpt *c)
{
    return c->path;
}

unsigned anm_ckpt_shards(const anm_ckpt *c)
{
    return c->shards;
}

size_t anm_ckpt_count(const anm_ckpt *c, unsigned s)
{
    return c->shard[s].list.n;
}

const anm_tensor *anm_ckpt_at(const anm_ckpt *c, unsigned s, size_t i)
{
    return &c->shard[s].list.at[i];
}

const anm_tensor *anm_ckpt_find(const anm_ckpt *c, unsigned s, const char *name)
{
    const anm_tensor key = {.name = name}, *p = &key;
    const anm_tensor **at =
        c->shard[s].list.n ? bsearch(&p, c->shard[s].by_name, c->shard[s].list.n, sizeof p, by_name) : NULL;
    return at ? *at : NULL;
}

const char *anm_ckpt_config_path(const anm_ckpt *c)
{
    return c->files.config;
}

const anm_gguf *anm_ckpt_gguf(const anm_ckpt *c)
{
    return c->gguf;
}
