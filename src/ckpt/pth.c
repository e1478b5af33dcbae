/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What torch.save writes: a zip archive with one pickle, NAME/data.pkl, a dict of tensors, whose storages are
 * the entries NAME/data/KEY; NAME/byteorder says how their elements lie. Source of the format:
 * torch/serialization.py.
 */
#include "ckpt/reader.h"

#include "base/bytes.h"
#include "ckpt/pickle.h"
#include "ckpt/text.h"
#include "ckpt/zip.h"

#include <string.h>

typedef struct archive {
    anm_zip zip;
    const char *prefix; /* "NAME/" */
    size_t prefix_len;
    anm_arena *arena;
} archive;

/* The entry PREFIX + a + b. */
static const anm_zip_entry *find(const archive *z, const char *a, const char *b, size_t nb)
{
    char name[512];
    size_t na = strlen(a), n = z->prefix_len + na + nb;
    if (z->prefix_len > sizeof name || nb > sizeof name || n > sizeof name) return NULL;
    memcpy(name, z->prefix, z->prefix_len);
    memcpy(name + z->prefix_len, a, na);
    if (nb) memcpy(name + z->prefix_len + na, b, nb);
    return anm_zip_find(&z->zip, name, n);
}

static const anm_zip_entry *find_pickle(archive *z)
{
    static const char tail[] = "/data.pkl";
    for (size_t i = 0; i < z->zip.count; i++) {
        const anm_zip_entry *e = &z->zip.entry[i];
        const char *slash = memchr(e->name, '/', e->name_len);
        if (!slash || e->name_len - (size_t)(slash - e->name) != strlen(tail) ||
            memcmp(slash, tail, strlen(tail)))
            continue;
        z->prefix = e->name;
        z->prefix_len = (size_t)(slash - e->name) + 1;
        return e;
    }
    return NULL;
}

/* The bytes from a tensor's first element to the end of its last; false when that overflows. */
static bool extent(const anm_tensor *t, uint64_t *bytes)
{
    uint64_t last = 0;
    for (int k = 0; k < t->rank; k++) {
        uint64_t way;
        if (!t->shape[k]) {
            *bytes = 0;
            return true;
        }
        if (!anm_mul_u64((uint64_t)t->shape[k] - 1, (uint64_t)t->stride[k], &way) ||
            !anm_add_u64(last, way, &last))
            return false;
    }
    return anm_add_u64(last, 1, &last) && anm_mul_u64(last, anm_dtype_bytes(t->dtype), bytes);
}

static int add_tensor(anm_tensors *out, const archive *z, const anm_pickle *name, const anm_pickle *v,
                      anm_error *err)
{
    char shown[96];
    anm_show(shown, sizeof shown, name->s.at, name->s.n);
    const anm_pickle *key = v->tensor.args[0]->storage.key, *size = v->tensor.args[2],
                     *stride = v->tensor.args[3];
    if (size->items.n > ANM_CKPT_MAX_RANK)
        return anm_fail(err, ANM_ERR_UNSUPPORTED, "tensor '%s' has %zu dimensions; at most %d are read",
                        shown, size->items.n, ANM_CKPT_MAX_RANK);
    anm_tensor *t;
    int rc = anm_tensors_add(&t, out, z->arena, name->s.at, name->s.n, err);
    if (rc) return rc;
    t->dtype = v->tensor.dtype;
    t->rank = (int)size->items.n;
    int64_t count = 1;
    for (int k = 0; k < t->rank; k++) {
        t->shape[k] = size->items.at[k]->i;
        t->stride[k] = stride->items.at[k]->i;
        if (!anm_mul_i64(count, t->shape[k], &count))
            return anm_fail(err, ANM_ERR_FORMAT, "tensor '%s' has more elements than can be counted", shown);
    }
    const anm_zip_entry *e = find(z, "data/", key->s.at, key->s.n);
    char shown_key[64];
    if (!e)
        return anm_fail(err, ANM_ERR_FORMAT, "tensor '%s' lies in storage '%s', which the archive lacks",
                        shown, anm_show(shown_key, sizeof shown_key, key->s.at, key->s.n));
    rc = anm_zip_check_stored(e, err);
    if (rc) return rc;
    uint64_t skip, bytes, end;
    if (!anm_mul_u64((uint64_t)v->tensor.args[1]->i, anm_dtype_bytes(t->dtype), &skip) ||
        !extent(t, &bytes) || !anm_add_u64(skip, bytes, &end) || end > e->size)
        return anm_fail(err, ANM_ERR_FORMAT, "tensor '%s' reaches beyond its storage of %llu bytes", shown,
                        (unsigned long long)e->size);
    t->data = e->data + skip;
    t->size = bytes;
    return 0;
}

static int check_byte_order(const archive *z, anm_error *err)
{
    const anm_zip_entry *e = find(z, "byteorder", NULL, 0);
    if (!e || (e->size == 6 && !memcmp(e->data, "little", 6))) return 0;
    if (e->size == 3 && !memcmp(e->data, "big", 3))
        return anm_fail(
            err, ANM_ERR_UNSUPPORTED,
            "its tensors are big-endian; load and save it again with PyTorch on a little-endian machine");
    return anm_fail(err, ANM_ERR_FORMAT, "its byteorder is neither little nor big");
}

int anm_pth_read(anm_tensors *out, anm_arena *arena, const uint8_t *data, uint64_t size, anm_error *err)
{
    archive z = {.arena = arena};
    anm_pickle *root;
    int rc = anm_zip_parse(&z.zip, arena, data, size, err);
    if (rc) return rc;
    const anm_zip_entry *pkl = find_pickle(&z);
    if (!pkl)
        return anm_fail(err, ANM_ERR_FORMAT,
                        "is a zip archive, but holds no data.pkl as torch.save writes it");
    if (find(&z, "constants.pkl", NULL, 0))
        return anm_fail(err, ANM_ERR_UNSUPPORTED,
                        "is a TorchScript program; save its state_dict() with torch.save instead");
    rc = anm_zip_check_stored(pkl, err);
    if (!rc) rc = check_byte_order(&z, err);
    if (!rc) rc = anm_pickle_parse(&root, arena, pkl->data, pkl->size, err);
    if (rc) return rc;

    if (root->kind != ANM_PICKLE_DICT)
        return anm_fail(err, ANM_ERR_UNSUPPORTED, "its pickle is no dict of tensors");
    const anm_pickle *model = anm_pickle_get(root, "model");
    const anm_pickle *dict = model && model->kind == ANM_PICKLE_DICT ? model : root;
    for (size_t i = 0; i + 1 < dict->items.n; i += 2) {
        const anm_pickle *k = dict->items.at[i], *v = dict->items.at[i + 1];
        if (k->kind != ANM_PICKLE_STRING || v->kind != ANM_PICKLE_TENSOR) continue;
        rc = add_tensor(out, &z, k, v, err);
        if (rc) return rc;
    }
    if (!out->n)
        return anm_fail(err, ANM_ERR_UNSUPPORTED,
                        "holds no tensors by name, neither at the top nor under 'model'");
    return 0;
}
