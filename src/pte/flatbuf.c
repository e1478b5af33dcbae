/* SPDX-License-Identifier: BSD-3-Clause */
/* Flatbuffers: the verifier and the writer. */
#include "pte/flatbuf.h"

#include <string.h>

/* ---- verifying ---- */

typedef struct walk {
    const uint8_t *d;
    uint64_t size;
    uint64_t budget; /* bytes that may still be looked at; what is shared counts each time */
    const anm_fb_schema *schema;
    anm_error *err;
} walk;

static int bad(const walk *w, uint64_t at, const char *type, const char *field, const char *what)
{
    return anm_fail_at(w->err, ANM_ERR_FORMAT, at, "flatbuffer: %s%s%s %s (at byte %llu)", type, field ? "." : "",
                       field ? field : "", what, (unsigned long long)at);
}

/* Takes `n` bytes at `at` from the budget after checking that they lie inside, aligned to `align`. */
static int span(walk *w, uint64_t at, uint64_t n, uint64_t align, const char *type, const char *field)
{
    if (!anm_inside(at, n, w->size)) return bad(w, at, type, field, "lies beyond the end");
    if (at % align) return bad(w, at, type, field, "is not aligned");
    if (n > w->budget) return bad(w, at, type, field, "makes the buffer refer to the same bytes too often");
    w->budget -= n;
    return 0;
}

/* Follows the reference at `at`, which was checked. */
static int follow(walk *w, uint64_t at, uint64_t *target, const char *type, const char *field)
{
    uint32_t off = anm_ld32(w->d + at);
    if (!off) return bad(w, at, type, field, "refers to itself");
    *target = at + off;
    return span(w, *target, 4, 4, type, field);
}

static int verify_table(walk *w, uint64_t at, uint8_t type);

static int verify_vector(walk *w, uint64_t at, uint64_t bytes, uint32_t *n, const char *type, const char *field)
{
    uint64_t vec = 0;
    int rc = follow(w, at, &vec, type, field);
    if (rc) return rc;
    *n = anm_ld32(w->d + vec);
    return span(w, vec + 4, *n * bytes, *n && bytes > 4 ? bytes : 1, type, field);
}

static int verify_field(walk *w, uint64_t at, const anm_fb_type *t, const anm_fb_field *f)
{
    uint32_t n = 0;
    uint64_t target = 0;
    int rc;
    switch (f->kind) {
    case ANM_FB_STRING:
        if ((rc = verify_vector(w, at, 1, &n, t->name, f->name))) return rc;
        target = at + anm_ld32(w->d + at) + 4;
        if ((rc = span(w, target + n, 1, 1, t->name, f->name))) return rc;
        if (w->d[target + n]) return bad(w, target + n, t->name, f->name, "does not end with a zero byte");
        if (memchr(w->d + target, 0, n)) return bad(w, target, t->name, f->name, "holds a zero byte");
        return 0;
    case ANM_FB_VECTOR: return verify_vector(w, at, f->arg, &n, t->name, f->name);
    case ANM_FB_TABLE:
        if ((rc = follow(w, at, &target, t->name, f->name))) return rc;
        return verify_table(w, target, f->arg);
    case ANM_FB_TABLES: {
        if ((rc = verify_vector(w, at, 4, &n, t->name, f->name))) return rc;
        uint64_t first = at + anm_ld32(w->d + at) + 4;
        for (uint32_t i = 0; i < n; i++) {
            if ((rc = follow(w, first + 4 * (uint64_t)i, &target, t->name, f->name))) return rc;
            if ((rc = verify_table(w, target, f->arg))) return rc;
        }
        return 0;
    }
    default: return 0; /* scalars were checked with their table */
    }
}

static int verify_table(walk *w, uint64_t at, uint8_t type)
{
    const anm_fb_type *t = &w->schema->type[type];
    int64_t vt = (int64_t)at - (int32_t)anm_ld32(w->d + at);
    if (vt < 0) return bad(w, at, t->name, NULL, "has its vtable before the start");
    uint64_t vtable = (uint64_t)vt;
    int rc = span(w, vtable, 4, 2, t->name, "vtable");
    if (rc) return rc;
    uint16_t vsize = anm_ld16(w->d + vtable), tsize = anm_ld16(w->d + vtable + 2);
    if (vsize < 4 || vsize % 2) return bad(w, vtable, t->name, NULL, "has a vtable of impossible size");
    if (tsize < 4) return bad(w, vtable, t->name, NULL, "has an impossible size");
    if ((rc = span(w, vtable, vsize, 2, t->name, "vtable"))) return rc;
    if ((rc = span(w, at, tsize, 4, t->name, NULL))) return rc;

    unsigned id = 0;
    for (unsigned i = 0; i < t->n_fields; i++, id++) {
        anm_fb_field f = t->field[i];
        unsigned place[2] = {0, 0}, parts = f.kind == ANM_FB_UNION ? 2 : 1;
        for (unsigned k = 0; k < parts; k++) {
            if (4 + 2 * (id + k) + 2 <= vsize) place[k] = anm_ld16(w->d + vtable + 4 + 2 * (id + k));
            if (!place[k]) continue;
            unsigned bytes = parts == 2 ? (k ? 4 : 1) : f.kind == ANM_FB_SCALAR ? f.arg : 4;
            if (place[k] < 4 || place[k] + bytes > tsize) return bad(w, at, t->name, f.name, "lies outside of its table");
            if ((at + place[k]) % bytes) return bad(w, at + place[k], t->name, f.name, "is not aligned");
        }
        if (f.kind == ANM_FB_UNION) {
            id++;
            unsigned which = place[0] ? w->d[at + place[0]] : 0;
            const anm_fb_union *u = &w->schema->unions[f.arg];
            if (which > u->n) return bad(w, at + place[0], t->name, f.name, "is of a type that is not in the schema");
            if (!which != !place[1]) return bad(w, at, t->name, f.name, "has a type and no value, or a value and no type");
            if (!which) continue;
            f.kind = ANM_FB_TABLE;
            f.arg = u->choice[which - 1];
            place[0] = place[1];
        }
        if (place[0] && (rc = verify_field(w, at + place[0], t, &f))) return rc;
    }
    return 0;
}

int anm_fb_verify(const uint8_t *data, uint64_t size, const anm_fb_schema *schema, anm_error *err)
{
    walk w = {data, size, 0, schema, err};
    const anm_fb_type *root = &schema->type[schema->root];
    if (size < 8) return bad(&w, 0, root->name, NULL, "is cut short");
    if (size > INT32_MAX) return bad(&w, 0, root->name, NULL, "is larger than a flatbuffer can be");
    if (memcmp(data + 4, schema->identifier, 4)) return bad(&w, 4, root->name, NULL, "has another identifier");
    w.budget = 8 * size + 1024;
    uint64_t target = 0;
    int rc = follow(&w, 0, &target, root->name, NULL);
    return rc ? rc : verify_table(&w, target, schema->root);
}

/* ---- writing ---- */

void anm_fb_begin(anm_fb_out *o, const char *identifier, size_t header)
{
    anm_buf_u32(&o->buf, 0);
    anm_buf_put(&o->buf, identifier, 4);
    anm_buf_zeros(&o->buf, header);
}

/* The place of a vtable with these bytes, written now unless there is one. */
static uint32_t share_vtable(anm_fb_out *o, const uint8_t *v, uint16_t n)
{
    for (unsigned i = 0; i < o->n_vtables; i++) {
        const uint8_t *have = o->buf.data + o->vtable[i];
        if (anm_ld16(have) == n && memcmp(have, v, n) == 0) return o->vtable[i];
    }
    anm_buf_align(&o->buf, 2);
    uint32_t at = (uint32_t)o->buf.size;
    anm_buf_put(&o->buf, v, n);
    if (!o->buf.bad && o->n_vtables < sizeof o->vtable / sizeof o->vtable[0]) o->vtable[o->n_vtables++] = at;
    return at;
}

uint32_t anm_fb_put_table(anm_fb_out *o, const anm_fb_put *put, unsigned n, uint32_t *at)
{
    uint8_t v[4 + 2 * ANM_FB_MAX_FIELDS] = {0};
    unsigned fields = 0, pos = 4, align = 4;
    uint16_t place[ANM_FB_MAX_FIELDS];
    /* the widest first, so that nothing needs padding but an 8-byte field behind the table's first 4 bytes */
    for (unsigned bytes = 8; bytes; bytes /= 2) {
        for (unsigned i = 0; i < n; i++) {
            unsigned have = put[i].bytes ? put[i].bytes : 4;
            if (have != bytes) continue;
            pos = (unsigned)anm_align_up(pos, bytes);
            if (bytes == 8) align = 8;
            place[i] = (uint16_t)pos;
            anm_st16(v + 4 + 2 * put[i].id, place[i]);
            if (put[i].id + 1u > fields) fields = put[i].id + 1u;
            pos += bytes;
        }
    }
    uint16_t vsize = (uint16_t)(4 + 2 * fields);
    anm_st16(v, vsize);
    anm_st16(v + 2, (uint16_t)pos);
    uint32_t vtable = share_vtable(o, v, vsize);
    anm_buf_align(&o->buf, align);
    uint32_t table = (uint32_t)o->buf.size;
    uint8_t *p = anm_buf_grow(&o->buf, pos);
    if (!p) return 0;
    anm_st32(p, table - vtable);
    for (unsigned i = 0; i < n; i++) {
        if (at) at[i] = table + place[i];
        for (unsigned k = 0; k < put[i].bytes; k++) p[place[i] + k] = (uint8_t)(put[i].value >> 8 * k);
    }
    return table;
}

uint32_t anm_fb_put_refs(anm_fb_out *o, uint32_t n)
{
    anm_buf_align(&o->buf, 4);
    uint32_t at = (uint32_t)o->buf.size;
    anm_buf_u32(&o->buf, n);
    anm_buf_zeros(&o->buf, 4 * (size_t)n);
    return at;
}

uint32_t anm_fb_put_vector(anm_fb_out *o, const void *data, uint32_t n, unsigned bytes)
{
    anm_buf_align(&o->buf, 4);
    if (bytes == 8 && o->buf.size % 8 == 0) anm_buf_zeros(&o->buf, 4); /* the elements, not the count, are aligned */
    uint32_t at = (uint32_t)o->buf.size;
    anm_buf_u32(&o->buf, n);
    for (uint32_t i = 0; i < n && bytes > 1; i++) {
        const uint8_t *p = (const uint8_t *)data + (size_t)i * bytes;
        uint64_t v = 0;
        uint32_t u;
        if (bytes == 8) memcpy(&v, p, 8);
        else memcpy(&u, p, 4), v = u;
        if (bytes == 8) anm_buf_u64(&o->buf, v);
        else anm_buf_u32(&o->buf, (uint32_t)v);
    }
    if (bytes == 1) anm_buf_put(&o->buf, data, n);
    return at;
}

uint32_t anm_fb_put_string(anm_fb_out *o, const char *s)
{
    uint32_t at = anm_fb_put_vector(o, s, (uint32_t)strlen(s), 1);
    anm_buf_u8(&o->buf, 0);
    return at;
}

void anm_fb_set(anm_fb_out *o, uint32_t at, uint32_t target)
{
    if (!o->buf.bad) anm_st32(o->buf.data + at, target - at);
}
