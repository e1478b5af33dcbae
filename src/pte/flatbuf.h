/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Flatbuffers, as much as a .pte needs: a verifier driven by a table of the schema, accessors that trust what it has
 * verified, and a writer that goes forward.
 * Format: google/flatbuffers, docs on internals. A table begins with the signed distance back to its vtable; a vtable
 * is two 16-bit sizes (its own, the table's), then one 16-bit place per field (0: the field is absent). References
 * are unsigned 32-bit distances forward; vectors and strings begin with a 32-bit count.
 */
#ifndef ANM_PTE_FLATBUF_H
#define ANM_PTE_FLATBUF_H

#include "base/buf.h"
#include "base/bytes.h"
#include "base/error.h"

/* ---- the schema as data ---- */

typedef enum anm_fb_kind {
    ANM_FB_SCALAR, /* arg: bytes */
    ANM_FB_STRING,
    ANM_FB_VECTOR, /* of scalars; arg: bytes of one */
    ANM_FB_TABLE,  /* arg: index of the table's type */
    ANM_FB_TABLES, /* a vector of tables; arg: index of their type */
    ANM_FB_UNION,  /* two fields: a byte that chooses (0: none), then the table; arg: index of the list of choices */
} anm_fb_kind;

typedef struct anm_fb_field {
    uint8_t kind, arg;
    const char *name;
} anm_fb_field;

typedef struct anm_fb_type {
    const char *name;
    const anm_fb_field *field; /* in the schema's order; a union counts as one here and as two in the file */
    uint8_t n_fields;
} anm_fb_type;

typedef struct anm_fb_union {
    const uint8_t *choice; /* types, for the values 1 … n */
    uint8_t n;
} anm_fb_union;

typedef struct anm_fb_schema {
    const anm_fb_type *type;
    const anm_fb_union *unions;
    char identifier[5];
    uint8_t root;
} anm_fb_schema;

/* Walks everything that can be reached from the root and checks that it lies inside `size` bytes, is aligned to its
 * size, that strings end with a 0 and hold none. What is refused is named with its place in the schema. A buffer that
 * refers to the same bytes again and again is refused once the walk exceeds a few times its size. The schema must not
 * be recursive: its depth bounds the walk's. */
int anm_fb_verify(const uint8_t *data, uint64_t size, const anm_fb_schema *schema, anm_error *err);

/* ---- reading what was verified: positions in the buffer, 0 for what is absent ---- */

static inline uint32_t anm_fb_ref(const uint8_t *d, uint32_t at)
{
    return at + anm_ld32(d + at);
}
static inline uint32_t anm_fb_root(const uint8_t *d)
{
    return anm_fb_ref(d, 0);
}
/* Where field `id` of the table lies. */
static inline uint32_t anm_fb_at(const uint8_t *d, uint32_t table, unsigned id)
{
    uint32_t vtable = table - anm_ld32(d + table);
    unsigned place = 4 + 2 * id;
    if (place + 2 > anm_ld16(d + vtable)) return 0;
    uint16_t off = anm_ld16(d + vtable + place);
    return off ? table + off : 0;
}
static inline uint32_t anm_fb_u32(const uint8_t *d, uint32_t table, unsigned id)
{
    uint32_t at = anm_fb_at(d, table, id);
    return at ? anm_ld32(d + at) : 0;
}
static inline uint64_t anm_fb_u64(const uint8_t *d, uint32_t table, unsigned id)
{
    uint32_t at = anm_fb_at(d, table, id);
    return at ? anm_ld64(d + at) : 0;
}
static inline uint8_t anm_fb_u8(const uint8_t *d, uint32_t table, unsigned id)
{
    uint32_t at = anm_fb_at(d, table, id);
    return at ? d[at] : 0;
}
static inline uint32_t anm_fb_table(const uint8_t *d, uint32_t table, unsigned id)
{
    uint32_t at = anm_fb_at(d, table, id);
    return at ? anm_fb_ref(d, at) : 0;
}
/* The first element of a vector (of references for tables) and their count; an absent vector has none. */
static inline uint32_t anm_fb_vector(const uint8_t *d, uint32_t table, unsigned id, uint32_t *n)
{
    uint32_t at = anm_fb_table(d, table, id);
    *n = at ? anm_ld32(d + at) : 0;
    return at ? at + 4 : 0;
}
/* A string with its 0, in place; "" when absent. */
static inline const char *anm_fb_string(const uint8_t *d, uint32_t table, unsigned id)
{
    uint32_t at = anm_fb_table(d, table, id);
    return at ? (const char *)d + at + 4 : "";
}

/* ---- writing: parents first, so that every reference points forward ---- */

typedef struct anm_fb_out {
    anm_buf buf;
    uint32_t vtable[64]; /* places of vtables written so far, to share equal ones */
    unsigned n_vtables;
} anm_fb_out;

/* One field of a table to be written: its number, its bytes (1, 2, 4, 8; 0: a reference, set later) and value. */
typedef struct anm_fb_put {
    uint8_t id, bytes;
    uint64_t value;
} anm_fb_put;

enum { ANM_FB_MAX_FIELDS = 16 };

/* Begins a buffer: the root's reference (anm_fb_set with at = 0), the identifier, and room for `header` bytes. */
void anm_fb_begin(anm_fb_out *o, const char *identifier, size_t header);
/* Writes a table. at[i] receives the place of put[i]'s value. Returns the table's place. */
uint32_t anm_fb_put_table(anm_fb_out *o, const anm_fb_put *put, unsigned n, uint32_t *at);
/* A vector of `n` references, to be set one by one: element i lies at the result + 4 + 4 * i. */
uint32_t anm_fb_put_refs(anm_fb_out *o, uint32_t n);
/* A vector of `n` scalars of `bytes` bytes each, copied. */
uint32_t anm_fb_put_vector(anm_fb_out *o, const void *data, uint32_t n, unsigned bytes);
uint32_t anm_fb_put_string(anm_fb_out *o, const char *s);
/* Makes the reference at `at` point to `target`. */
void anm_fb_set(anm_fb_out *o, uint32_t at, uint32_t target);

#endif
