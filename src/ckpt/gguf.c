/* SPDX-License-Identifier: BSD-3-Clause */
#include "ckpt/gguf.h"

#include "base/arena.h"
#include "base/bytes.h"
#include "ckpt/reader.h"
#include "ckpt/text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The kinds of metadata values, as the file numbers them. */
enum { U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64, KINDS };

static const uint8_t kind_size[KINDS] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
static const char *const kind_name[KINDS] = {"u8",   "i8",     "u16",   "i16", "u32", "i32", "f32",
                                             "bool", "string", "array", "u64", "i64", "f64"};

typedef struct pair {
    const char *key; /* not 0-terminated */
    size_t key_len;
    uint32_t kind, elem;  /* elem: the kind of an array's elements */
    const uint8_t *value; /* a scalar's bytes; a string's length and bytes; an array's first element */
    uint64_t n;           /* an array's elements */
    uint64_t *at;         /* an array of strings: where each begins, from `value` */
} pair;

struct anm_gguf {
    anm_arena arena;
    pair *kv;            /* in the file's order */
    const pair **by_key; /* sorted */
    size_t pairs;
    anm_tensors tensors;
};

/* GGML's numbers for tensor types. Those without a dtype are refused by their names. */
static const struct {
    uint32_t id;
    anm_dtype dtype;
    const char *name;
} types[] = {
    {0, ANM_DT_F32, "F32"},    {1, ANM_DT_F16, "F16"},
    {2, ANM_DT_Q4_0, "Q4_0"},  {3, ANM_DT_Q4_1, "Q4_1"},
    {6, ANM_DT_Q5_0, "Q5_0"},  {7, ANM_DT_Q5_1, "Q5_1"},
    {8, ANM_DT_Q8_0, "Q8_0"},  {9, 0, "Q8_1"},
    {10, ANM_DT_Q2_K, "Q2_K"}, {11, ANM_DT_Q3_K, "Q3_K"},
    {12, ANM_DT_Q4_K, "Q4_K"}, {13, ANM_DT_Q5_K, "Q5_K"},
    {14, ANM_DT_Q6_K, "Q6_K"}, {15, 0, "Q8_K"},
    {16, 0, "IQ2_XXS"},        {17, 0, "IQ2_XS"},
    {18, 0, "IQ3_XXS"},        {19, 0, "IQ1_S"},
    {20, 0, "IQ4_NL"},         {21, 0, "IQ3_S"},
    {22, 0, "IQ2_S"},          {23, 0, "IQ4_XS"},
    {24, ANM_DT_I8, "I8"},     {25, ANM_DT_I16, "I16"},
    {26, ANM_DT_I32, "I32"},   {27, ANM_DT_I64, "I64"},
    {28, ANM_DT_F64, "F64"},   {29, 0, "IQ1_M"},
    {30, ANM_DT_BF16, "BF16"}, {34, 0, "TQ1_0"},
    {35, 0, "TQ2_0"},          {39, 0, "MXFP4"},
};

static int cut_short(const anm_rd *r, const char *where, anm_error *err)
{
    return anm_fail_at(err, ANM_ERR_FORMAT, r->pos, "is cut short or damaged: its %s reach beyond its end",
                       where);
}

static bool read_text(anm_rd *r, const char **s, size_t *n)
{
    uint64_t len = anm_rd_u64(r);
    *s = (const char *)anm_rd_bytes(r, len);
    *n = *s ? (size_t)len : 0;
    return *s != NULL;
}

/* ---- metadata ---- */

static int read_array(anm_gguf *g, pair *p, anm_rd *r, anm_error *err)
{
    p->elem = anm_rd_u32(r);
    p->n = anm_rd_u64(r);
    char shown[64];
    if (anm_rd_ok(r) && (p->elem >= KINDS || p->elem == ARRAY))
        return anm_fail_at(err, ANM_ERR_UNSUPPORTED, r->pos,
                           "key '%s' is an array of values of kind %u, which is not read",
                           anm_show(shown, sizeof shown, p->key, p->key_len), p->elem);
    p->value = r->data + r->pos;
    if (p->elem != STRING) {
        uint64_t bytes;
        if (!anm_mul_u64(p->n, kind_size[p->elem < KINDS ? p->elem : 0], &bytes)) bytes = UINT64_MAX;
        anm_rd_bytes(r, bytes);
        return 0;
    }
    if (p->n > anm_rd_left(r) / 8) { /* each string has at least its length */
        r->bad = true;
        return 0;
    }
    p->at = anm_arena_array(&g->arena, (size_t)p->n, sizeof *p->at);
    if (!p->at) return anm_fail_memory(err, "the metadata");
    uint64_t start = r->pos;
    for (uint64_t i = 0; i < p->n; i++) {
        const char *s;
        size_t n;
        p->at[i] = r->pos - start;
        if (!read_text(r, &s, &n)) return 0;
    }
    return 0;
}

static int read_pair(anm_gguf *g, pair *p, anm_rd *r, anm_error *err)
{
    read_text(r, &p->key, &p->key_len);
    p->kind = anm_rd_u32(r);
    char shown[64];
    if (!anm_rd_ok(r)) return 0;
    if (p->kind >= KINDS)
        return anm_fail_at(err, ANM_ERR_FORMAT, r->pos, "key '%s' has a value of unknown kind %u",
                           anm_show(shown, sizeof shown, p->key, p->key_len), p->kind);
    if (p->kind == ARRAY) return read_array(g, p, r, err);
    p->value = r->data + r->pos;
    const char *s;
    size_t n;
    if (p->kind == STRING)
        read_text(r, &s, &n);
    else
        anm_rd_bytes(r, kind_size[p->kind]);
    return 0;
}

static int by_key(const void *pa, const void *pb)
{
    const pair *a = *(const pair *const *)pa, *b = *(const pair *const *)pb;
    int c = memcmp(a->key, b->key, a->key_len < b->key_len ? a->key_len : b->key_len);
    return c ? c : (a->key_len > b->key_len) - (a->key_len < b->key_len);
}

static int read_metadata(anm_gguf *g, anm_rd *r, uint64_t count, anm_error *err)
{
    enum { LEAST = 8 + 4 + 1 }; /* bytes of a pair */
    if (count > anm_rd_left(r) / LEAST) return cut_short(r, "metadata", err);
    g->kv = anm_arena_array(&g->arena, (size_t)count, sizeof *g->kv);
    g->by_key = anm_arena_array(&g->arena, (size_t)count, sizeof *g->by_key);
    if (!g->kv || !g->by_key) return anm_fail_memory(err, "the metadata");
    for (; g->pairs < count; g->pairs++) {
        int rc = read_pair(g, &g->kv[g->pairs], r, err);
        if (rc) return rc;
        if (!anm_rd_ok(r)) return cut_short(r, "metadata", err);
        g->by_key[g->pairs] = &g->kv[g->pairs];
    }
    if (count) qsort(g->by_key, g->pairs, sizeof *g->by_key, by_key);
    for (size_t i = 1; i < g->pairs; i++) {
        char shown[64];
        if (!by_key(&g->by_key[i - 1], &g->by_key[i]))
            return anm_fail(err, ANM_ERR_FORMAT, "key '%s' is there twice",
                            anm_show(shown, sizeof shown, g->by_key[i]->key, g->by_key[i]->key_len));
    }
    return 0;
}

/* ---- tensors ---- */

static int read_type(anm_dtype *out, uint32_t id, const char *name, anm_error *err)
{
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        if (types[i].id != id) continue;
        *out = types[i].dtype;
        if (*out) return 0;
        return anm_fail(err, ANM_ERR_UNSUPPORTED,
                        "tensor '%s' is of type %s, which anemone cannot read; convert it to Q8_0 or F16",
                        name, types[i].name);
    }
    return anm_fail(err, ANM_ERR_UNSUPPORTED,
                    "tensor '%s' is of a type with the number %u, which anemone does not know", name, id);
}

/* A tensor's entry; `offset` counts from the start of all tensors' bytes. */
static int read_info(anm_gguf *g, uint64_t *offset, anm_rd *r, anm_error *err)
{
    const char *s = NULL;
    size_t n;
    read_text(r, &s, &n);
    uint32_t rank = anm_rd_u32(r);
    if (!anm_rd_ok(r)) return cut_short(r, "tensors' entries", err);
    char name[96];
    anm_show(name, sizeof name, s, n);
    if (rank > ANM_CKPT_MAX_RANK)
        return anm_fail_at(err, ANM_ERR_UNSUPPORTED, r->pos,
                           "tensor '%s' has %u dimensions; at most %d are read", name, rank,
                           ANM_CKPT_MAX_RANK);
    anm_tensor *t;
    int rc = anm_tensors_add(&t, &g->tensors, &g->arena, s, n, err);
    if (rc == ANM_ERR_FORMAT && err) err->offset = r->pos;
    if (rc) return rc;
    t->rank = (int)rank;
    for (uint32_t k = rank; k-- > 0;) { /* innermost first in the file */
        uint64_t d = anm_rd_u64(r);
        if (d > INT64_MAX)
            return anm_fail_at(err, ANM_ERR_FORMAT, r->pos, "tensor '%s' has a size beyond all bounds", name);
        t->shape[k] = (int64_t)d;
    }
    uint32_t type = anm_rd_u32(r);
    *offset = anm_rd_u64(r);
    if (!anm_rd_ok(r)) return cut_short(r, "tensors' entries", err);
    rc = read_type(&t->dtype, type, name, err);
    if (rc) return rc;
    if (!anm_tensor_pack(t))
        return anm_fail_at(err, ANM_ERR_FORMAT, r->pos, "tensor '%s' has a shape that %s blocks cannot fill",
                           name, anm_dtype_name(t->dtype));
    return 0;
}

/* In a file that ggml reads, each tensor begins where the one before ends, but for the alignment; no two share bytes. */
static int refuse_overlap(anm_gguf *g, anm_error *err)
{
    const anm_tensor **at = anm_tensors_by_place(&g->tensors, 0, &g->arena);
    if (!at) return anm_fail_memory(err, "the table of tensors");
    for (size_t i = 1; i < g->tensors.n; i++) {
        char a[96], b[96];
        if (at[i - 1]->size <= (uint64_t)(at[i]->data - at[i - 1]->data)) continue;
        return anm_fail(err, ANM_ERR_FORMAT, "its tensors overlap: '%s' begins inside '%s'",
                        anm_show(b, sizeof b, at[i]->name, strlen(at[i]->name)),
                        anm_show(a, sizeof a, at[i - 1]->name, strlen(at[i - 1]->name)));
    }
    return 0;
}

static int read_tensors(anm_gguf *g, anm_rd *r, uint64_t count, anm_error *err)
{
    enum { LEAST = 8 + 4 + 4 + 8 }; /* bytes of an entry */
    if (count > anm_rd_left(r) / LEAST) return cut_short(r, "tensors' entries", err);
    uint64_t *offset = anm_arena_array(&g->arena, (size_t)count, sizeof *offset);
    if (!offset) return anm_fail_memory(err, "the table of tensors");
    for (uint64_t i = 0; i < count; i++) {
        int rc = read_info(g, &offset[i], r, err);
        if (rc) return rc;
    }
    int64_t align = 32;
    const char *kind = anm_gguf_kind(g, "general.alignment");
    if (kind && !anm_gguf_int(g, "general.alignment", &align))
        return anm_fail(err, ANM_ERR_FORMAT, "general.alignment is of kind %s, not a whole number", kind);
    if (align < 1 || align > 1 << 20 || (align & (align - 1)))
        return anm_fail(err, ANM_ERR_FORMAT, "general.alignment is %lld, not a power of two up to 1048576",
                        (long long)align);
    uint64_t start = anm_align_up(r->pos, (uint64_t)align);
    for (size_t i = 0; i < g->tensors.n; i++) {
        anm_tensor *t = &g->tensors.at[i];
        if (offset[i] % (uint64_t)align)
            return anm_fail(err, ANM_ERR_FORMAT, "tensor '%.96s' is not aligned to %lld bytes", t->name,
                            (long long)align);
        if (start > r->size || !anm_inside(offset[i], t->size, r->size - start))
            return anm_fail(err, ANM_ERR_FORMAT, "tensor '%.96s' lies outside the file; is it cut short?",
                            t->name);
        t->data = r->data + start + offset[i];
    }
    return refuse_overlap(g, err);
}

static int parse(anm_gguf *g, const uint8_t *data, uint64_t size, anm_error *err)
{
    anm_rd r = anm_rd_of(data, size);
    const uint8_t *magic = anm_rd_bytes(&r, 4);
    uint32_t version = anm_rd_u32(&r);
    uint64_t tensors = anm_rd_u64(&r), pairs = anm_rd_u64(&r);
    if (magic && memcmp(magic, "GGUF", 4)) return anm_fail_at(err, ANM_ERR_FORMAT, 0, "is no GGUF file");
    if (!anm_rd_ok(&r)) return cut_short(&r, "first fields", err);
    if (version && !(version & 0xffff))
        return anm_fail_at(err, ANM_ERR_UNSUPPORTED, 4,
                           "is a big-endian GGUF file; convert it to little-endian");
    if (version != 2 && version != 3)
        return anm_fail_at(err, ANM_ERR_UNSUPPORTED, 4, "is GGUF of version %u; versions 2 and 3 are read",
                           version);
    int rc = read_metadata(g, &r, pairs, err);
    return rc ? rc : read_tensors(g, &r, tensors, err);
}

int anm_gguf_parse(anm_gguf **out, const uint8_t *data, uint64_t size, const char *file, anm_error *err)
{
    *out = NULL;
    anm_gguf *g = calloc(1, sizeof *g);
    if (!g) return anm_fail_memory(err, "a GGUF file");
    anm_arena_init(&g->arena);
    g->arena.limit = size < SIZE_MAX / 128 ? ((size_t)1 << 20) + (size_t)size * 64 : 0;
    int rc = parse(g, data, size, err);
    if (rc) {
        anm_gguf_free(g);
        return anm_error_prefix(err, file);
    }
    for (size_t i = 0; i < g->tensors.n; i++)
        g->tensors.at[i].file = file;
    *out = g;
    return 0;
}

void anm_gguf_free(anm_gguf *g)
{
    if (!g) return;
    anm_arena_free(&g->arena);
    free(g);
}

size_t anm_gguf_tensor_count(const anm_gguf *g)
{
    return g->tensors.n;
}

const anm_tensor *anm_gguf_tensor(const anm_gguf *g, size_t i)
{
    return &g->tensors.at[i];
}

/* ---- asking for metadata ---- */

static const pair *find(const anm_gguf *g, const char *key)
{
    const pair want = {.key = key, .key_len = strlen(key)}, *p = &want;
    const pair **at = g->pairs ? bsearch(&p, g->by_key, g->pairs, sizeof p, by_key) : NULL;
    return at ? *at : NULL;
}

static bool int_of(uint32_t kind, const uint8_t *v, int64_t *out)
{
    switch (kind) {
    case U8: *out = v[0]; return true;
    case BOOL: *out = v[0] != 0; return true;
    case I8: *out = (int8_t)v[0]; return true;
    case U16: *out = anm_ld16(v); return true;
    case I16: *out = (int16_t)anm_ld16(v); return true;
    case U32: *out = anm_ld32(v); return true;
    case I32: *out = (int32_t)anm_ld32(v); return true;
    case U64: *out = (int64_t)anm_ld64(v); return anm_ld64(v) <= INT64_MAX;
    case I64: *out = (int64_t)anm_ld64(v); return true;
    default: return false;
    }
}

static bool float_of(uint32_t kind, const uint8_t *v, double *out)
{
    if (kind == F32)
        *out = (double)anm_ldf32(v);
    else if (kind == F64)
        *out = anm_ldf64(v);
    return kind == F32 || kind == F64;
}

static void text_of(const uint8_t *v, const char **s, size_t *n)
{
    *n = (size_t)anm_ld64(v);
    *s = (const char *)v + 8;
}

bool anm_gguf_int(const anm_gguf *g, const char *key, int64_t *out)
{
    int64_t v;
    const pair *p = find(g, key);
    if (!p || !int_of(p->kind, p->value, &v)) return false;
    *out = v;
    return true;
}

bool anm_gguf_float(const anm_gguf *g, const char *key, double *out)
{
    const pair *p = find(g, key);
    return p && float_of(p->kind, p->value, out);
}

bool anm_gguf_string(const anm_gguf *g, const char *key, const char **s, size_t *n)
{
    const pair *p = find(g, key);
    if (!p || p->kind != STRING) return false;
    text_of(p->value, s, n);
    return true;
}

const char *anm_gguf_kind(const anm_gguf *g, const char *key)
{
    const pair *p = find(g, key);
    return p ? kind_name[p->kind] : NULL;
}

int anm_gguf_absent(const anm_gguf *g, const char *key, const char *want, anm_error *err)
{
    const char *kind = anm_gguf_kind(g, key);
    return kind ? anm_fail(err, ANM_ERR_FORMAT, "%s must be %s, not a value of kind %s", key, want, kind) : 0;
}

int anm_gguf_read_int(int64_t *out, const anm_gguf *g, const char *key, anm_error *err)
{
    return anm_gguf_int(g, key, out) ? 0 : anm_gguf_absent(g, key, "a whole number below 2^63", err);
}

int anm_gguf_read_float(double *out, const anm_gguf *g, const char *key, anm_error *err)
{
    return anm_gguf_float(g, key, out) ? 0 : anm_gguf_absent(g, key, "a float", err);
}

int anm_gguf_read_string(const char **s, size_t *n, const anm_gguf *g, const char *key, anm_error *err)
{
    return anm_gguf_string(g, key, s, n) ? 0 : anm_gguf_absent(g, key, "a string", err);
}

bool anm_gguf_array(const anm_gguf *g, const char *key, size_t *n)
{
    const pair *p = find(g, key);
    if (!p || p->kind != ARRAY) return false;
    *n = (size_t)p->n;
    return true;
}

/* An element of an array of scalars, or NULL. */
static const uint8_t *elem(const pair *p, size_t i)
{
    return p && p->kind == ARRAY && p->elem != STRING && i < p->n ? p->value + i * kind_size[p->elem] : NULL;
}

bool anm_gguf_array_string(const anm_gguf *g, const char *key, size_t i, const char **s, size_t *n)
{
    const pair *p = find(g, key);
    if (!p || p->kind != ARRAY || p->elem != STRING || i >= p->n) return false;
    text_of(p->value + p->at[i], s, n);
    return true;
}

bool anm_gguf_array_int(const anm_gguf *g, const char *key, size_t i, int64_t *out)
{
    const pair *p = find(g, key);
    const uint8_t *v = elem(p, i);
    return v && int_of(p->elem, v, out);
}

bool anm_gguf_array_float(const anm_gguf *g, const char *key, size_t i, double *out)
{
    const pair *p = find(g, key);
    const uint8_t *v = elem(p, i);
    return v && float_of(p->elem, v, out);
}

/* ---- for inspect ---- */

size_t anm_gguf_key_count(const anm_gguf *g)
{
    return g->pairs;
}

void anm_gguf_key(const anm_gguf *g, size_t i, char *key, size_t key_room, char *text, size_t text_room)
{
    const pair *p = &g->kv[i];
    const char *s;
    size_t n;
    int64_t integer;
    double real;
    anm_show(key, key_room, p->key, p->key_len);
    if (p->kind == STRING) {
        text_of(p->value, &s, &n);
        anm_show(text, text_room, s, n);
    } else if (p->kind == ARRAY) {
        snprintf(text, text_room, "%llu x %s", (unsigned long long)p->n, kind_name[p->elem]);
    } else if (p->kind == BOOL) {
        snprintf(text, text_room, "%s", p->value[0] ? "true" : "false");
    } else if (float_of(p->kind, p->value, &real)) {
        snprintf(text, text_room, "%.9g", real);
    } else if (int_of(p->kind, p->value, &integer)) {
        snprintf(text, text_room, "%lld", (long long)integer);
    } else {
        snprintf(text, text_room, "%llu", (unsigned long long)anm_ld64(p->value)); /* beyond int64 */
    }
}
