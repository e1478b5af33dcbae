/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Changes that keep a file's outer shape: no length, no offset and no checksum has to be mended, and yet what they hit is a
 * number, a name or a list deep inside. A program is followed down to the packages in it, a package to its model, and the
 * model, being protobuf, to its leaves; a leaf becomes another value of as many bytes, most often one that stands elsewhere.
 */
#include "fuzz.h"

#include "coreml/coreml.h"
#include "pte/pte.h"

#include <string.h>

enum { DEPTH = 24, LEAVES = 1 << 14 };

typedef struct leaf {
    size_t at, n;
    bool number; /* a varint */
} leaf;

static leaf leaves[LEAVES];
static size_t n_leaves;

static uint64_t pick(uint64_t *state, uint64_t n)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return n ? (*state >> 11) % n : 0;
}

/* ---- plain bytes ---- */

/* Sizes, counts and offsets are where readers break: most changes write numbers that lie on an edge. */
void fuzz_spoil_bytes(uint8_t *data, size_t n, uint64_t *state)
{
    static const uint64_t edges[] = {0, 1, 0x7f, 0x80, 0xff, 0x7fff, 0xffff, 0x7fffffff, 0x80000000, 0xffffffff,
                                     0x7fffffffffffffff, 0x8000000000000000, 0xffffffffffffffff, 0xfffffffffffffff8};
    for (uint64_t k = 1 + pick(state, 3); k && n; k--) {
        size_t at = pick(state, n);
        uint64_t how = pick(state, 4);
        if (how == 0) {
            data[at] ^= (uint8_t)(1u << pick(state, 8));
        } else if (how == 1) {
            data[at] = (uint8_t)pick(state, 256);
        } else {
            uint64_t v = edges[pick(state, sizeof edges / sizeof *edges)];
            size_t width = (size_t)1 << pick(state, 4);
            for (size_t i = 0; i < width && at + i < n; i++) data[at + i] = (uint8_t)(v >> 8 * i);
        }
    }
}

/* ---- protobuf ---- */

static bool varint(uint64_t *v, const uint8_t *p, size_t n, size_t *at)
{
    *v = 0;
    for (unsigned shift = 0; *at < n && shift < 64; shift += 7) {
        uint8_t b = p[(*at)++];
        *v |= (uint64_t)(b & 0x7f) << shift;
        if (!(b & 0x80)) return true;
    }
    return false;
}

static void keep_leaf(size_t at, size_t n, bool number)
{
    if (n && n_leaves < LEAVES) leaves[n_leaves++] = (leaf){at, n, number};
}

/* Notes the leaves of p[0 … n), which lies at `base`; false when it is no message. What could be both is one. */
static bool find_leaves(const uint8_t *p, size_t n, size_t base, int depth)
{
    size_t at = 0;
    while (at < n) {
        uint64_t tag, v;
        if (!varint(&tag, p, n, &at) || tag < 8 || tag >> 3 > 4096) return false;
        size_t from = at;
        switch (tag & 7) {
        case 0:
            if (!varint(&v, p, n, &at)) return false;
            keep_leaf(base + from, at - from, true);
            break;
        case 1:
        case 5:
            v = (tag & 7) == 1 ? 8 : 4;
            if (v > n - at) return false;
            keep_leaf(base + at, (size_t)v, false);
            at += (size_t)v;
            break;
        case 2: {
            size_t known;
            if (!varint(&v, p, n, &at) || v > n - at) return false;
            known = n_leaves;
            if (depth >= DEPTH || !find_leaves(p + at, (size_t)v, base + at, depth + 1)) {
                n_leaves = known;
                keep_leaf(base + at, (size_t)v, false);
            }
            at += (size_t)v;
            break;
        }
        default: return false;
        }
    }
    return true;
}

static void spoil_leaf(uint8_t *data, const leaf *l, uint64_t *state)
{
    uint8_t *p = data + l->at;
    const leaf *like = NULL;
    for (int i = 0; i < 64 && !like; i++) {
        const leaf *other = &leaves[pick(state, n_leaves)];
        if (other->n == l->n && other->number == l->number && memcmp(data + other->at, p, l->n)) like = other;
    }
    if (like && pick(state, 4)) {
        memcpy(p, data + like->at, l->n);
    } else if (l->number) { /* as many bytes, whatever the number */
        static const uint64_t edges[] = {0, 1, 2, 3, 4, 8, 0x7f, 0x3fff, 0x7fffffff, 0xffffffffffffffff};
        uint64_t v = pick(state, 3) ? edges[pick(state, 10)] : pick(state, 1000);
        for (size_t i = 0; i < l->n; i++, v >>= 7) p[i] = (uint8_t)((v & 0x7f) | (i + 1 < l->n ? 0x80 : 0));
    } else {
        fuzz_spoil_bytes(p, l->n, state);
    }
}

void fuzz_spoil_protobuf(uint8_t *data, size_t n, uint64_t *state)
{
    n_leaves = 0;
    find_leaves(data, n, 0, 0);
    if (!n_leaves) {
        fuzz_spoil_bytes(data, n, state);
        return;
    }
    for (uint64_t k = 1 + pick(state, 3); k; k--) spoil_leaf(data, &leaves[pick(state, n_leaves)], state);
}

/* ---- what they lie in ---- */

/* A digit becomes another one, or a letter another letter. */
static void spoil_text(uint8_t *data, size_t n, uint64_t *state)
{
    for (int i = 0; i < 64; i++) {
        uint8_t *p = data + pick(state, n);
        if (*p >= '0' && *p <= '9') *p = (uint8_t)('0' + pick(state, 10));
        else if (*p >= 'a' && *p <= 'z' && i > 48) *p = (uint8_t)('a' + pick(state, 26));
        else continue;
        if (!pick(state, 2)) return;
    }
}

static bool ends_with(const char *s, const char *tail)
{
    size_t n = strlen(s), t = strlen(tail);
    return n >= t && !strcmp(s + n - t, tail);
}

void fuzz_spoil_dir(uint8_t *data, size_t n, uint64_t *state)
{
    anm_arena arena;
    anm_dir dir;
    anm_error err;
    anm_arena_init(&arena);
    if (!pick(state, 8) || anm_dir_read(&dir, data, n, &arena, &err) || !dir.count) {
        fuzz_spoil_bytes(data, n, state);
    } else {
        const anm_dir_file *f = &dir.file[pick(state, dir.count)];
        for (size_t i = 0; i < dir.count && pick(state, 2); i++)
            if (ends_with(dir.file[i].path, ".mlmodel")) f = &dir.file[i];
        uint8_t *p = data + (f->data - data);
        if (ends_with(f->path, ".mlmodel")) fuzz_spoil_protobuf(p, (size_t)f->size, state);
        else if (ends_with(f->path, ".json") && f->size) spoil_text(p, (size_t)f->size, state);
        else fuzz_spoil_bytes(p, (size_t)f->size, state);
    }
    anm_arena_free(&arena);
}

/* Small numbers, as counts, indices and sizes are: a word of the flatbuffer that is no text. */
static void spoil_count(uint8_t *data, uint64_t n, uint64_t *state)
{
    for (int i = 0; i < 64 && n >= 4; i++) {
        uint8_t *at = data + pick(state, n / 4) * 4;
        if (at[1] || at[2] || at[3]) continue;
        at[0] = (uint8_t)(pick(state, 4) ? at[0] + (pick(state, 2) ? 1u : 255u) : pick(state, 16));
        return;
    }
}

/* A method's name, a constant's numbers, what a delegate is for, or the name of a function or of data in a reference. */
static void spoil_method(uint8_t *data, const anm_pte *p, uint64_t *state)
{
    const anm_pte_method *m = &p->methods[pick(state, p->n_methods)];
    for (int i = 0; i < 8 && !m->n_delegates && pick(state, 2); i++) m = &p->methods[pick(state, p->n_methods)];
    const anm_pte_value *v = m->n_values ? &m->values[pick(state, m->n_values)] : NULL;
    const anm_pte_delegate *d = m->n_delegates ? &m->delegates[pick(state, m->n_delegates)] : NULL;
    const char *text = pick(state, 2) || !d ? m->name : pick(state, 4) == 0 && d->n_specs ? d->specs[0].key : d->id;
    if (v && v->kind == ANM_PTE_TENSOR && v->data && v->data_size >= 4 && pick(state, 4)) {
        spoil_count(data + (v->data - data), v->data_size, state);
    } else if (d && d->size > 4 && !memcmp(d->data, "CMJR", 4) && pick(state, 2)) {
        spoil_text(data + (d->data - data) + 4, (size_t)d->size - 4, state);
    } else if (text && *text) {
        data[(const uint8_t *)text - data + (ptrdiff_t)pick(state, strlen(text))] = (uint8_t)('a' + pick(state, 26));
    }
}

void fuzz_spoil_pte(uint8_t *data, size_t n, uint64_t *state)
{
    anm_pte p;
    anm_error err;
    const anm_pte_delegate *found = NULL;
    uint64_t count = 0, flat = n;
    bool reads = anm_pte_read(&p, data, n, &err) == 0;
    if (reads)
        for (size_t i = 0; i < p.n_methods; i++)
            for (size_t k = 0; k < p.methods[i].n_delegates; k++) {
                const anm_pte_delegate *d = &p.methods[i].delegates[k];
                if ((uint64_t)(d->data - data) < flat) flat = (uint64_t)(d->data - data);
                if (pick(state, ++count) == 0) found = d;
            }
    if (reads && p.n_methods && !pick(state, 4)) {
        spoil_method(data, &p, state);
    } else if (!pick(state, 4)) {
        spoil_count(data, flat, state);
    } else if (!found || !pick(state, 3)) { /* the flatbuffer's numbers are aligned */
        for (uint64_t k = 1 + pick(state, 2); k && flat >= 4; k--) {
            uint8_t *at = data + pick(state, flat / 4) * 4;
            if (pick(state, 2)) fuzz_spoil_bytes(at, 4, state);
            else at[0] = (uint8_t)(at[0] + (pick(state, 2) ? 1 : 255));
        }
    } else {
        fuzz_spoil_dir(data + (found->data - data), (size_t)found->size, state);
    }
    anm_pte_free(&p);
}

void fuzz_spoil_model(uint8_t *data, size_t n, uint64_t *state)
{
    if (n < 4 || !pick(state, 16)) {
        fuzz_spoil_bytes(data, n, state);
        return;
    }
    size_t model = (size_t)data[0] | (size_t)data[1] << 8 | (size_t)data[2] << 16 | (size_t)data[3] << 24;
    fuzz_spoil_protobuf(data + 4, model < n - 4 ? model : n - 4, state);
}
