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

#include <stdlib.h>
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

static int find_pickle(const anm_zip_entry **out, archive *z, anm_error *err)
{
    static const char tail[] = "/data.pkl";
    *out = NULL;
    for (size_t i = 0; i < z->zip.count; i++) {
        const anm_zip_entry *e = &z->zip.entry[i];
        const char *slash = memchr(e->name, '/', e->name_len);
        if (!slash || e->name_len - (size_t)(slash - e->name) != strlen(tail) ||
            memcmp(slash, tail, strlen(tail)))
            continue;
        if (*out) {
            char a[64], b[64];
            return anm_fail(err, ANM_ERR_FORMAT, "holds several models: '%s' and '%s'",
                            anm_show(a, sizeof a, (*out)->name, (*out)->name_len), anm_show(b, sizeof b, e->name, e->name_len));
        }
        z->prefix = e->name;
        z->prefix_len = (size_t)(slash - e->name) + 1;
        *out = e;
    }
    if (*out) return 0;
    return anm_fail(err, ANM_ERR_FORMAT, "is a zip archive, but holds no data.pkl as torch.save writes it");
}

static int by_place(const void *pa, const void *pb)
{
    const anm_pickle *a = *(const anm_pickle *const *)pa, *b = *(const anm_pickle *const *)pb;
    return (a->s.at > b->s.at) - (a->s.at < b->s.at);
}

static int by_text(const void *pa, const void *pb)
{
    const anm_pickle *a = *(const anm_pickle *const *)pa, *b = *(const anm_pickle *const *)pb;
    int c = memcmp(a->s.at, b->s.at, a->s.n < b->s.n ? a->s.n : b->s.n);
    return c ? c : (a->s.n > b->s.n) - (a->s.n < b->s.n);
}

/* Of a key that is there twice, Python would take the last; no writer means that. By place first, so that long keys that a
 * pickle says again and again are not compared as often: after that, all of them together are no longer than it. */
static int refuse_twins(const archive *z, const anm_pickle *dict, anm_error *err)
{
    size_t n = 0;
    const anm_pickle **key = anm_arena_array(z->arena, dict->items.n / 2 + 1, sizeof *key);
    if (!key) return anm_fail_memory(err, "the table of tensors");
    for (size_t i = 0; i + 1 < dict->items.n; i += 2)
        if (dict->items.at[i]->kind == ANM_PICKLE_STRING) key[n++] = dict->items.at[i];
    for (int pass = 0; pass < 2; pass++) {
        int (*order)(const void *, const void *) = pass ? by_text : by_place;
        qsort(key, n, sizeof *key, order);
        for (size_t i = 1; i < n; i++) {
            char shown[96];
            if (!order(&key[i - 1], &key[i]))
                return anm_fail(err, ANM_ERR_FORMAT, "its pickle has '%s' twice in one dict",
                                anm_show(shown, sizeof shown, key[i]->s.at, key[i]->s.n));
        }
    }
    return 0;
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
    if (v->tensor.changed)
        return anm_fail(err, ANM_ERR_UNSUPPORTED,
                        "tensor '%s' is a view whose values are negated or conjugated when they are read; save it with "
                        "torch.save after resolve_neg() and resolve_conj()",
                        shown);
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
    const anm_zip_entry *pkl;
    rc = find_pickle(&pkl, &z, err);
    if (rc) return rc;
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
    rc = refuse_twins(&z, root, err);
    if (!rc && dict != root) rc = refuse_twins(&z, dict, err);
    if (rc) return rc;
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
