/* SPDX-License-Identifier: BSD-3-Clause */
#include "ckpt/zip.h"

#include "base/bytes.h"
#include "ckpt/text.h"

#include <stdlib.h>
#include <string.h>

enum {
    LOCAL_SIG = 0x04034b50,
    CENTRAL_SIG = 0x02014b50,
    END_SIG = 0x06054b50,
    END64_SIG = 0x06064b50,
    END64_LOCATOR_SIG = 0x07064b50,
    LOCAL_SIZE = 30,
    CENTRAL_SIZE = 46,
    END_SIZE = 22,
    END64_SIZE = 56,
    LOCATOR_SIZE = 20,
    MAX_COMMENT = 0xffff,
    EXTRA_ZIP64 = 1,
    FLAG_ENCRYPTED = 1,
};

bool anm_zip_sniff(const uint8_t *data, uint64_t size)
{
    return size >= 4 && (anm_ld32(data) == LOCAL_SIG || anm_ld32(data) == END_SIG);
}

static int order(const char *a, size_t na, const char *b, size_t nb)
{
    int c = memcmp(a, b, na < nb ? na : nb);
    return c ? c : (na > nb) - (na < nb);
}

static int by_name(const void *pa, const void *pb)
{
    const anm_zip_entry *a = pa, *b = pb;
    return order(a->name, a->name_len, b->name, b->name_len);
}

/* The record that ends the archive: the last one whose comment reaches exactly to the end of the file. */
static bool find_end(const uint8_t *data, uint64_t size, uint64_t *at)
{
    if (size < END_SIZE) return false;
    uint64_t low = size > END_SIZE + MAX_COMMENT ? size - END_SIZE - MAX_COMMENT : 0;
    for (uint64_t p = size - END_SIZE + 1; p-- > low;) {
        if (anm_ld32(data + p) != END_SIG || anm_ld16(data + p + 20) != size - END_SIZE - p) continue;
        *at = p;
        return true;
    }
    return false;
}

/* Where the directory lies and how many entries it has, from the end record or its zip64 form. */
static int directory(const uint8_t *data, uint64_t size, uint64_t *off, uint64_t *len, uint64_t *count,
                     anm_error *err)
{
    uint64_t end;
    if (!find_end(data, size, &end))
        return anm_fail_at(err, ANM_ERR_FORMAT, size,
                           "is cut short, or something follows it: the zip archive has no end record at its end; fetch it again");
    const uint8_t *e = data + end;
    uint64_t limit = end;
    *count = anm_ld16(e + 10);
    *len = anm_ld32(e + 12);
    *off = anm_ld32(e + 16);
    bool multi = anm_ld16(e + 4) || anm_ld16(e + 6) || anm_ld16(e + 8) != anm_ld16(e + 10);
    if (end >= LOCATOR_SIZE && anm_ld32(e - LOCATOR_SIZE) == END64_LOCATOR_SIG) {
        uint64_t at = anm_ld64(e - LOCATOR_SIZE + 8);
        if (!anm_inside(at, END64_SIZE, end - LOCATOR_SIZE) || anm_ld32(data + at) != END64_SIG)
            return anm_fail_at(err, ANM_ERR_FORMAT, end - LOCATOR_SIZE,
                               "the zip64 locator points to no zip64 end record");
        const uint8_t *e64 = data + at;
        multi = anm_ld32(e64 + 16) || anm_ld32(e64 + 20) || anm_ld64(e64 + 24) != anm_ld64(e64 + 32);
        *count = anm_ld64(e64 + 32);
        *len = anm_ld64(e64 + 40);
        *off = anm_ld64(e64 + 48);
        limit = at;
    }
    if (multi)
        return anm_fail_at(err, ANM_ERR_UNSUPPORTED, end, "is one part of a zip archive in several files");
    if (!anm_inside(*off, *len, limit))
        return anm_fail_at(err, ANM_ERR_FORMAT, end,
                           "the zip directory lies outside the file; is it cut short?");
    if (*count > *len / CENTRAL_SIZE)
        return anm_fail_at(err, ANM_ERR_FORMAT, end, "the zip directory is too small for its %llu entries",
                           (unsigned long long)*count);
    return 0;
}

/* The 64-bit values of an entry whose 32-bit fields are all ones: they follow one another in the extra field.
 */
static bool zip64_values(anm_rd extra, uint64_t *size, uint64_t *packed, uint64_t *local)
{
    while (anm_rd_left(&extra) >= 4) {
        uint16_t id = anm_rd_u16(&extra), n = anm_rd_u16(&extra);
        const uint8_t *body = anm_rd_bytes(&extra, n);
        if (!body) return false;
        if (id != EXTRA_ZIP64) continue;
        anm_rd v = anm_rd_of(body, n);
        if (*size == UINT32_MAX) *size = anm_rd_u64(&v);
        if (*packed == UINT32_MAX) *packed = anm_rd_u64(&v);
        if (*local == UINT32_MAX) *local = anm_rd_u64(&v);
        return anm_rd_ok(&v);
    }
    return false;
}

/* One record of the directory and the local header that it points to. */
static int read_entry(anm_zip_entry *out, anm_rd *dir, uint64_t dir_off, const uint8_t *data, anm_error *err)
{
    uint64_t at = dir_off + dir->pos;
    const uint8_t *c = anm_rd_bytes(dir, CENTRAL_SIZE);
    if (!c || anm_ld32(c) != CENTRAL_SIG)
        return anm_fail_at(err, ANM_ERR_FORMAT, at, "the zip directory is damaged at byte %llu",
                           (unsigned long long)at);
    uint16_t flags = anm_ld16(c + 8), method = anm_ld16(c + 10);
    uint64_t packed = anm_ld32(c + 20), size = anm_ld32(c + 24), local = anm_ld32(c + 42);
    uint16_t name_len = anm_ld16(c + 28), extra_len = anm_ld16(c + 30), comment_len = anm_ld16(c + 32);
    const uint8_t *name = anm_rd_bytes(dir, name_len), *extra = anm_rd_bytes(dir, extra_len);
    anm_rd_bytes(dir, comment_len);
    if (!anm_rd_ok(dir))
        return anm_fail_at(err, ANM_ERR_FORMAT, at, "the zip directory ends inside an entry");

    char shown[96];
    anm_show(shown, sizeof shown, name, name_len);
    if ((size == UINT32_MAX || packed == UINT32_MAX || local == UINT32_MAX) &&
        !zip64_values(anm_rd_of(extra, extra_len), &size, &packed, &local))
        return anm_fail_at(err, ANM_ERR_FORMAT, at, "zip entry '%s' lacks its zip64 sizes", shown);
    if (!method && !(flags & FLAG_ENCRYPTED) && size != packed)
        return anm_fail_at(err, ANM_ERR_FORMAT, at, "zip entry '%s' is stored, but its two sizes differ",
                           shown);

    /* Entries lie before the directory. */
    if (!anm_inside(local, LOCAL_SIZE, dir_off) || anm_ld32(data + local) != LOCAL_SIG)
        return anm_fail_at(err, ANM_ERR_FORMAT, at, "zip entry '%s' lies outside the file; is it cut short?",
                           shown);
    uint64_t header = (uint64_t)LOCAL_SIZE + anm_ld16(data + local + 26) + anm_ld16(data + local + 28);
    if (anm_ld16(data + local + 26) != name_len || !anm_inside(local, header, dir_off) ||
        memcmp(data + local + LOCAL_SIZE, name, name_len))
        return anm_fail_at(err, ANM_ERR_FORMAT, local, "zip entry '%s' has another name in its own header",
                           shown);
    if (!anm_inside(local + header, packed, dir_off))
        return anm_fail_at(err, ANM_ERR_FORMAT, at, "zip entry '%s' lies outside the file; is it cut short?",
                           shown);
    *out = (anm_zip_entry){(const char *)name,           name_len, data + local + header, packed, method,
                           (flags & FLAG_ENCRYPTED) != 0};
    return 0;
}

int anm_zip_check_stored(const anm_zip_entry *e, anm_error *err)
{
    char shown[96];
    anm_show(shown, sizeof shown, e->name, e->name_len);
    if (e->encrypted) return anm_fail(err, ANM_ERR_UNSUPPORTED, "zip entry '%s' is encrypted", shown);
    if (e->method)
        return anm_fail(err, ANM_ERR_UNSUPPORTED,
                        "zip entry '%s' is compressed (method %u); save the checkpoint with torch.save, "
                        "which stores entries "
                        "as they are",
                        shown, e->method);
    return 0;
}

int anm_zip_parse(anm_zip *out, anm_arena *arena, const uint8_t *data, uint64_t size, anm_error *err)
{
    uint64_t off = 0, len = 0, count = 0;
    *out = (anm_zip){0};
    int rc = directory(data, size, &off, &len, &count, err);
    if (rc) return rc;
    if (count > SIZE_MAX / sizeof *out->entry) return anm_fail_memory(err, "the zip directory");
    out->entry = anm_arena_array(arena, (size_t)count, sizeof *out->entry);
    if (!out->entry) return anm_fail_memory(err, "the zip directory");
    anm_rd dir = anm_rd_of(data + off, len);
    for (; out->count < count; out->count++) {
        rc = read_entry(&out->entry[out->count], &dir, off, data, err);
        if (rc) return rc;
    }
    qsort(out->entry, out->count, sizeof *out->entry, by_name);
    for (size_t i = 1; i < out->count; i++) {
        if (by_name(&out->entry[i - 1], &out->entry[i])) continue;
        char shown[96];
        anm_show(shown, sizeof shown, out->entry[i].name, out->entry[i].name_len);
        return anm_fail(err, ANM_ERR_FORMAT, "the zip archive holds '%s' twice", shown);
    }
    return 0;
}

const anm_zip_entry *anm_zip_find(const anm_zip *z, const char *name, size_t name_len)
{
    anm_zip_entry key = {.name = name, .name_len = name_len};
    return z->count ? bsearch(&key, z->entry, z->count, sizeof key, by_name) : NULL;
}
