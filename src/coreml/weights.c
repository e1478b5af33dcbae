/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The weight file:
 *
 *     count, version 2, zeros                                    64 bytes
 *     sentinel, type, size, where the bytes are, unused bits     64 bytes, at a multiple of 64   } for each
 *     the bytes                                                  at a multiple of 64             } constant
 *
 * All places are relative to the file's start, wherever that lies: the file may stand at any address.
 * Format: apple/coremltools mlmodel/src/MILBlob/Blob/StorageFormat.hpp.
 */
#include "base/bytes.h"
#include "base/hash.h"
#include "coreml/fields.h"
#include "coreml/mil_pb.h"

#include <stdlib.h>

#define uthash_fatal(msg) abort() /* never reached: the non-fatal form is asked for */
#define HASH_NONFATAL_OOM 1
#define uthash_nonfatal_oom(elt) ((elt)->lost = true)
#include <uthash.h>

/* ---- reading ---- */

int anm_weights_find(anm_blob *out, const uint8_t *weights, uint64_t size, uint64_t offset, const anm_mil_type *type,
                     anm_error *err)
{
    int64_t count;
    uint64_t bytes;
    if (size < BLOB_HEADER) return anm_fail(err, ANM_ERR_FORMAT, "weight file: missing, or too short for its header");
    if (anm_ld32(weights + 4) != BLOB_VERSION) return anm_fail_at(err, ANM_ERR_FORMAT, 4, "weight file: its version is not 2");
    if (offset % BLOB_ALIGN || offset < BLOB_HEADER || !anm_inside(offset, BLOB_METADATA, size))
        return anm_fail_at(err, ANM_ERR_FORMAT, offset, "weight file: no blob can be at %llu", (unsigned long long)offset);
    const uint8_t *m = weights + offset;
    if (anm_ld32(m) != BLOB_SENTINEL) return anm_fail_at(err, ANM_ERR_FORMAT, offset, "weight file: no blob at %llu", (unsigned long long)offset);
    uint64_t n = anm_ld64(m + 8), at = anm_ld64(m + 16), unused = anm_ld64(m + 24);
    if (at % BLOB_ALIGN || !anm_inside(at, n, size))
        return anm_fail_at(err, ANM_ERR_FORMAT, offset, "weight file: the blob at %llu reaches beyond the file", (unsigned long long)offset);
    if (anm_ld32(m + 4) != anm_coreml_blob_dtype(type->dtype))
        return anm_fail_at(err, ANM_ERR_FORMAT, offset, "weight file: the blob at %llu is not of the type that the graph declares", (unsigned long long)offset);
    if (!anm_mil_type_count(type, &count) || !anm_dtype_size(type->dtype, (uint64_t)count, &bytes) || bytes != n)
        return anm_fail_at(err, ANM_ERR_FORMAT, offset, "weight file: the blob at %llu is not of the shape that the graph declares", (unsigned long long)offset);
    uint64_t odd = anm_dtype_block(type->dtype) == 2 && count % 2 ? 4 : 0;
    if (unused != odd) return anm_fail_at(err, ANM_ERR_FORMAT, offset, "weight file: the blob at %llu has the wrong number of unused bits", (unsigned long long)offset);
    *out = (anm_blob){.size = n, .data = weights + at, .in_file = true, .offset = offset};
    return 0;
}

/* ---- writing ---- */

typedef struct stored {
    UT_hash_handle hh;
    struct key { /* all of it is hashed: no padding */
        const void *source;
        uint64_t part;    /* of the source; or the hash of the bytes */
        uint64_t size;
        uint64_t dtype;
    } key;
    anm_blob blob;
    uint64_t offset, unused;
    struct stored *next; /* in the file's order */
    bool lost;
} stored;

struct anm_weights {
    anm_arena *arena;
    stored *table, *first, **last;
    uint64_t size; /* of the file so far */
    uint32_t count;
};

int anm_weights_new(anm_weights **out, anm_arena *arena, anm_error *err)
{
    anm_weights *w = *out = anm_arena_alloc(arena, sizeof *w);
    if (!w) return anm_fail_memory(err, "a weight file");
    w->arena = arena;
    w->last = &w->first;
    w->size = BLOB_HEADER;
    return 0;
}

void anm_weights_free(anm_weights *w)
{
    if (w) HASH_CLEAR(hh, w->table);
}

/* The blob with equal content, if it is there. Hashes that collide are told apart by stepping to the next number. */
static stored *find(anm_weights *w, struct key *key, const anm_blob *blob)
{
    stored *s;
    for (;; key->part++) {
        HASH_FIND(hh, w->table, key, sizeof *key, s);
        if (!s || blob->source || memcmp(s->blob.data, blob->data, blob->size) == 0) return s;
    }
}

int anm_weights_add(uint64_t *offset, anm_weights *w, const anm_mil_type *type, const anm_blob *blob, anm_error *err)
{
    struct key key = {.source = blob->source, .part = blob->part, .size = blob->size, .dtype = type->dtype};
    int64_t count;
    if (!blob->source) {
        if (!blob->data) return anm_fail(err, ANM_ERR_USAGE, "weight file: a constant has neither bytes nor a source");
        key.part = anm_hash(blob->data, blob->size, 1);
    }
    if (!anm_coreml_blob_dtype(type->dtype) || !anm_mil_type_count(type, &count))
        return anm_fail(err, ANM_ERR_USAGE, "weight file: a constant of type %s cannot be stored", anm_dtype_name(type->dtype));
    stored *s = find(w, &key, blob);
    if (!s) {
        if (!(s = anm_arena_alloc(w->arena, sizeof *s))) return anm_fail_memory(err, "a weight file");
        s->key = key;
        s->blob = *blob;
        s->unused = anm_dtype_block(type->dtype) == 2 && count % 2 ? 4 : 0;
        s->offset = w->size;
        uint64_t end;
        if (!anm_add_u64(w->size + BLOB_METADATA, blob->size, &end) || end > INT64_MAX)
            return anm_fail(err, ANM_ERR_LIMIT, "weight file: larger than a file can be");
        w->size = anm_align_up(end, BLOB_ALIGN);
        HASH_ADD(hh, w->table, key, sizeof s->key, s);
        if (s->lost) return anm_fail_memory(err, "a weight file");
        *w->last = s;
        w->last = &s->next;
        w->count++;
    }
    *offset = s->offset;
    return 0;
}

int anm_weights_finish(anm_layout *out, anm_weights *w, anm_error *err)
{
    uint64_t start = out->size, end = BLOB_HEADER;
    uint8_t *header = anm_arena_alloc(w->arena, BLOB_HEADER);
    if (!header) return anm_fail_memory(err, "a weight file");
    anm_st32(header, w->count);
    anm_st32(header + 4, BLOB_VERSION);
    anm_layout_bytes(out, header, BLOB_HEADER);
    for (stored *s = w->first; s; s = s->next) {
        uint8_t *m = anm_arena_alloc(w->arena, BLOB_METADATA);
        if (!m) return anm_fail_memory(err, "a weight file");
        anm_st32(m, BLOB_SENTINEL);
        anm_st32(m + 4, anm_coreml_blob_dtype((anm_dtype)s->key.dtype));
        anm_st64(m + 8, s->blob.size);
        anm_st64(m + 16, s->offset + BLOB_METADATA);
        anm_st64(m + 24, s->unused);
        anm_layout_zeros(out, s->offset - end); /* up to the multiple of 64 */
        anm_layout_bytes(out, m, BLOB_METADATA);
        if (s->blob.source) anm_layout_source(out, s->blob.source, s->blob.part, s->blob.size);
        else anm_layout_bytes(out, s->blob.data, s->blob.size);
        end = s->offset + BLOB_METADATA + s->blob.size;
    }
    return out->bad || out->size - start != end ? anm_fail_memory(err, "a weight file") : 0;
}
