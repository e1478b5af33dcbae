/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * safetensors: the header's length (u64), a JSON object of {"name": {"dtype", "shape", "data_offsets"}}, then
 * the tensors' bytes, contiguous and little-endian. Source of the format: huggingface/safetensors, README.md,
 * "Format".
 */
#include "ckpt/reader.h"

#include "base/bytes.h"
#include "base/json.h"
#include "ckpt/text.h"

#include <string.h>

enum { MAX_HEADER = 100000000 }; /* as the original's reader has it */

static const struct {
    const char *name;
    anm_dtype dtype;
} dtypes[] = {
    {"F64", ANM_DT_F64},   {"F32", ANM_DT_F32}, {"F16", ANM_DT_F16}, {"BF16", ANM_DT_BF16},
    {"I64", ANM_DT_I64},   {"I32", ANM_DT_I32}, {"I16", ANM_DT_I16}, {"I8", ANM_DT_I8},
    {"U64", ANM_DT_U64},   {"U32", ANM_DT_U32}, {"U16", ANM_DT_U16}, {"U8", ANM_DT_U8},
    {"BOOL", ANM_DT_BOOL},
};

static int read_dtype(anm_dtype *out, json_t *v, const char *name, anm_error *err)
{
    const char *s = json_string_value(v);
    if (!s) return anm_fail(err, ANM_ERR_FORMAT, "tensor '%s' has no dtype", name);
    for (size_t i = 0; i < sizeof dtypes / sizeof *dtypes; i++) {
        if (strcmp(dtypes[i].name, s)) continue;
        *out = dtypes[i].dtype;
        return 0;
    }
    char shown[40];
    return anm_fail(err, ANM_ERR_UNSUPPORTED, "tensor '%s' is of type %s, which anemone cannot read", name,
                    anm_show(shown, sizeof shown, s, strlen(s)));
}

static int read_tensor(anm_tensors *out, anm_arena *arena, const char *key, json_t *v, const uint8_t *data,
                       uint64_t size, anm_error *err)
{
    char name[96];
    anm_show(name, sizeof name, key, strlen(key));
    json_t *shape = json_object_get(v, "shape"), *off = json_object_get(v, "data_offsets");
    anm_tensor *t;
    int rc = anm_tensors_add(&t, out, arena, key, strlen(key), err);
    if (!rc) rc = read_dtype(&t->dtype, json_object_get(v, "dtype"), name, err);
    if (rc) return rc;
    if (!json_is_array(shape)) return anm_fail(err, ANM_ERR_FORMAT, "tensor '%s' has no shape", name);
    if (json_array_size(shape) > ANM_CKPT_MAX_RANK)
        return anm_fail(err, ANM_ERR_UNSUPPORTED, "tensor '%s' has %zu dimensions; at most %d are read", name,
                        json_array_size(shape), ANM_CKPT_MAX_RANK);
    t->rank = (int)json_array_size(shape);
    for (int k = 0; k < t->rank; k++) {
        json_t *d = json_array_get(shape, (size_t)k);
        if (!json_is_integer(d) || json_integer_value(d) < 0)
            return anm_fail(err, ANM_ERR_FORMAT, "tensor '%s' has a shape that is not made of sizes", name);
        t->shape[k] = json_integer_value(d);
    }
    json_t *b = json_array_get(off, 0), *e = json_array_get(off, 1);
    if (json_array_size(off) != 2 || !json_is_integer(b) || !json_is_integer(e))
        return anm_fail(err, ANM_ERR_FORMAT, "tensor '%s' has no data_offsets", name);
    int64_t from = json_integer_value(b), to = json_integer_value(e);
    if (from < 0 || to < from || (uint64_t)to > size)
        return anm_fail(err, ANM_ERR_FORMAT, "tensor '%s' lies outside the file; is it cut short?", name);
    if (!anm_tensor_pack(t) || t->size != (uint64_t)(to - from))
        return anm_fail(err, ANM_ERR_FORMAT, "tensor '%s' has %lld bytes, which is not what its shape needs",
                        name, (long long)(to - from));
    t->data = data + from;
    return 0;
}

/* The format wants every byte to belong to one tensor, and the original's reader refuses what is otherwise. */
static int check_cover(const anm_tensors *l, size_t first, anm_arena *arena, const uint8_t *data, uint64_t size, anm_error *err)
{
    uint64_t end = 0;
    char name[96];
    const anm_tensor **at = anm_tensors_by_place(l, first, arena);
    if (!at) return anm_fail_memory(err, "the table of tensors");
    for (size_t i = 0; i < l->n - first; i++) {
        uint64_t from = (uint64_t)(at[i]->data - data);
        anm_show(name, sizeof name, at[i]->name, strlen(at[i]->name));
        if (from < end) return anm_fail(err, ANM_ERR_FORMAT, "its tensors overlap: '%s' begins inside another", name);
        if (from > end)
            return anm_fail(err, ANM_ERR_FORMAT, "%llu bytes before tensor '%s' belong to none", (unsigned long long)(from - end), name);
        end += at[i]->size;
    }
    if (end == size) return 0;
    return anm_fail(err, ANM_ERR_FORMAT, "%llu bytes after its last tensor belong to none", (unsigned long long)(size - end));
}

int anm_safetensors_read(anm_tensors *out, anm_arena *arena, const uint8_t *data, uint64_t size,
                         anm_error *err)
{
    if (size < 8) return anm_fail(err, ANM_ERR_FORMAT, "is cut short: it has no header");
    uint64_t n = anm_ld64(data);
    if (n > MAX_HEADER) return anm_fail(err, ANM_ERR_LIMIT, "its header claims more than 100 MB");
    if (n > size - 8)
        return anm_fail(err, ANM_ERR_FORMAT, "is cut short: its header has %llu bytes",
                        (unsigned long long)n);
    json_t *root;
    int rc = anm_json_read(&root, data + 8, n, JSON_REJECT_DUPLICATES, "its header is not JSON", err);
    if (rc) {
        if (rc == ANM_ERR_FORMAT && err) err->offset += 8;
        return rc;
    }
    const char *key;
    json_t *v;
    size_t before = out->n;
    if (!json_is_object(root)) rc = anm_fail(err, ANM_ERR_FORMAT, "its header is no JSON object");
    json_object_foreach(root, key, v)
    {
        if (!rc && strcmp(key, "__metadata__"))
            rc = read_tensor(out, arena, key, v, data + 8 + n, size - 8 - n, err);
    }
    if (!rc && !out->n) rc = anm_fail(err, ANM_ERR_FORMAT, "holds no tensors");
    if (!rc) rc = check_cover(out, before, arena, data + 8 + n, size - 8 - n, err);
    json_decref(root);
    return rc;
}
