/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Makes one of the weights whose bytes will be the same, though they come from different tensors:
 *
 *   data <- rows of wq, layer 3      data <- rows of wq, layer 3
 *   data <- rows of wq, layer 7  =>  data <- rows of wq, layer 3
 *
 * What counts are the integers as they will be written, and their scales: a matrix and its double share the integers
 * alone. Afterwards equal ops on equal weights are repeated ones, and the weight file holds each once.
 *
 * The weights are not at hand, and making all of them twice would double an export. So each is known by the integers of
 * its first two rows. Only those that agree in these are made, each once, for a digest of the whole; and only those whose
 * digests agree are compared, tile by tile. (Scales alone would not do: rows with the same largest value are common.)
 *
 * requires: nothing
 * keeps:    the functions' signatures, every value exactly
 * breaks:   nothing
 */
#include "base/hash.h"
#include "pass/pass.h"
#include "quant/quant.h"

#include <stdlib.h>
#include <string.h>

#define uthash_fatal(msg) abort() /* never reached: the non-fatal form is asked for */
#define HASH_NONFATAL_OOM 1
#include <uthash.h>

enum { TILE_VALUES = 1 << 16 };

/* A weight by what the integers of its first rows look like. */
typedef struct known {
    struct key { /* all of it is hashed: no padding */
        uint64_t size, begin;
    } key;
    const anm_weight *weight;
    bool digested;
    uint64_t digest[ANM_WEIGHT_PARTS]; /* of all tiles */
    struct known *same_key;
    UT_hash_handle hh;
} known;

/* A weight that was met before, by its address: the functions of a program have the same ones. */
typedef struct met {
    const void *source;
    const anm_weight *as[ANM_WEIGHT_PARTS]; /* what stands for its parts */
    UT_hash_handle hh;
} met;

typedef struct sharing {
    known *known;
    met *met;
    known *more_known;
    met *more_met;
    uint8_t *a, *b; /* room for the parts of two tiles */
    uint64_t room;  /* of each */
    anm_arena *arena;
} sharing;

static bool same_form(const anm_weight *a, const anm_weight *b)
{
    return a->rows == b->rows && a->matrix->cols == b->matrix->cols && a->bits == b->bits && a->group == b->group && a->type == b->type;
}

static int64_t tile_rows(const anm_weight *w)
{
    int64_t n = TILE_VALUES / w->matrix->cols / ANM_WEIGHT_ROW_STEP * ANM_WEIGHT_ROW_STEP;
    return n < ANM_WEIGHT_ROW_STEP ? ANM_WEIGHT_ROW_STEP : n;
}

static int make_room(sharing *s, const anm_weight *w, anm_error *err)
{
    int64_t n = tile_rows(w);
    uint64_t need = anm_weight_offset(w, ANM_WEIGHT_DATA, n) + anm_weight_offset(w, ANM_WEIGHT_SCALE, n) + 1;
    if (need <= s->room) return 0;
    free(s->a);
    free(s->b);
    s->a = malloc((size_t)need);
    s->b = malloc((size_t)need);
    s->room = s->a && s->b ? need : 0;
    return s->room ? 0 : anm_fail_memory(err, "a pass");
}

/* The parts of rows [row, row + n) of a weight, one behind the other; `at`: where each begins, and the end. */
static int make_tile(uint8_t *out, uint64_t at[ANM_WEIGHT_PARTS + 1], const anm_weight *w, int64_t row, int64_t n, anm_error *err)
{
    at[0] = 0;
    for (uint32_t k = 0; k < ANM_WEIGHT_PARTS; k++) at[k + 1] = at[k] + anm_weight_offset(w, k, row + n) - anm_weight_offset(w, k, row);
    return anm_weight_make(out, out + at[ANM_WEIGHT_SCALE], w, row, n, err);
}

static int digest(known *k, sharing *s, anm_error *err)
{
    const anm_weight *w = k->weight;
    int64_t step = tile_rows(w);
    if (k->digested) return 0;
    for (int64_t row = 0; row < w->rows; row += step) {
        uint64_t at[ANM_WEIGHT_PARTS + 1];
        int rc = make_tile(s->a, at, w, row, w->rows - row < step ? w->rows - row : step, err);
        if (rc) return rc;
        for (uint32_t i = 0; i < ANM_WEIGHT_PARTS; i++) k->digest[i] = anm_hash(s->a + at[i], (size_t)(at[i + 1] - at[i]), k->digest[i]);
    }
    k->digested = true;
    return 0;
}

/* Which parts of two weights of one form are equal: scales count only where the integers do. */
static int compare(bool same[ANM_WEIGHT_PARTS], sharing *s, const anm_weight *x, const anm_weight *y, anm_error *err)
{
    int64_t step = tile_rows(x);
    same[ANM_WEIGHT_DATA] = same[ANM_WEIGHT_SCALE] = true;
    for (int64_t row = 0; row < x->rows && same[ANM_WEIGHT_DATA]; row += step) {
        int64_t n = x->rows - row < step ? x->rows - row : step;
        uint64_t at[ANM_WEIGHT_PARTS + 1];
        int rc = make_tile(s->a, at, x, row, n, err);
        if (!rc) rc = make_tile(s->b, at, y, row, n, err);
        if (rc) return rc;
        for (uint32_t k = 0; k < ANM_WEIGHT_PARTS; k++) same[k] &= !memcmp(s->a + at[k], s->b + at[k], (size_t)(at[k + 1] - at[k]));
    }
    same[ANM_WEIGHT_SCALE] &= same[ANM_WEIGHT_DATA];
    return 0;
}

static int begin_of(uint64_t *hash, sharing *s, const anm_weight *w, anm_error *err)
{
    int64_t n = w->rows < ANM_WEIGHT_ROW_STEP ? w->rows : ANM_WEIGHT_ROW_STEP;
    uint64_t size = anm_weight_offset(w, ANM_WEIGHT_DATA, n);
    int rc = make_room(s, w, err);
    if (!rc) rc = anm_weight_make(s->a, s->a + size, w, 0, n, err);
    if (!rc) *hash = anm_hash(s->a, (size_t)size, 1);
    return rc;
}

/* What stands for the parts of a weight: those of one that was met before, where they are equal. */
static int stand_in(met *m, sharing *s, anm_error *err)
{
    const anm_weight *w = m->source;
    known *k = s->more_known++, *head;
    *k = (known){.key = {.size = anm_weight_size(w, ANM_WEIGHT_DATA)}, .weight = w};
    m->as[ANM_WEIGHT_DATA] = m->as[ANM_WEIGHT_SCALE] = w;
    int rc = begin_of(&k->key.begin, s, w, err);
    if (rc) return rc;
    HASH_FIND(hh, s->known, &k->key, sizeof k->key, head);
    for (known *o = head; o; o = o->same_key) {
        bool same[ANM_WEIGHT_PARTS] = {false};
        if (!same_form(w, o->weight)) continue;
        if ((rc = digest(k, s, err)) || (rc = digest(o, s, err))) return rc;
        if (k->digest[ANM_WEIGHT_DATA] != o->digest[ANM_WEIGHT_DATA]) continue;
        if (m->as[ANM_WEIGHT_DATA] != w && k->digest[ANM_WEIGHT_SCALE] != o->digest[ANM_WEIGHT_SCALE]) continue; /* its integers are shared already */
        if ((rc = compare(same, s, w, o->weight, err))) return rc;
        if (same[ANM_WEIGHT_DATA]) m->as[ANM_WEIGHT_DATA] = o->weight;
        if (!same[ANM_WEIGHT_SCALE]) continue;
        met *whole; /* all of it is there; its integers may be another's */
        HASH_FIND_PTR(s->met, (const void *const *)&o->weight, whole);
        m->as[ANM_WEIGHT_DATA] = whole ? whole->as[ANM_WEIGHT_DATA] : o->weight;
        m->as[ANM_WEIGHT_SCALE] = o->weight;
        return 0;
    }
    if (m->as[ANM_WEIGHT_DATA] != w) {
        met *first;
        HASH_FIND_PTR(s->met, (const void *const *)&m->as[ANM_WEIGHT_DATA], first);
        if (first) m->as[ANM_WEIGHT_DATA] = first->as[ANM_WEIGHT_DATA];
    }
    if (head) {
        k->same_key = head->same_key;
        head->same_key = k;
        return 0;
    }
    size_t before = HASH_COUNT(s->known);
    HASH_ADD(hh, s->known, key, sizeof k->key, k);
    return HASH_COUNT(s->known) > before ? 0 : anm_fail_memory(err, "a pass");
}

static int share(sharing *s, anm_mil_value *v, anm_error *err)
{
    const anm_blob *is = v->constant;
    met *m;
    HASH_FIND_PTR(s->met, &is->source, m);
    if (!m) {
        m = s->more_met++;
        *m = (met){.source = is->source};
        int rc = stand_in(m, s, err);
        if (rc) return rc;
        size_t before = HASH_COUNT(s->met);
        HASH_ADD_PTR(s->met, source, m);
        if (HASH_COUNT(s->met) == before) return anm_fail_memory(err, "a pass");
    }
    if (m->as[is->part] == is->source) return 0;
    anm_blob *other = anm_arena_alloc(s->arena, sizeof *other);
    if (!other) return anm_fail_memory(err, "a pass");
    *other = *is;
    other->source = m->as[is->part];
    v->constant = other;
    return 0;
}

static int each_weight(anm_mil_program *p, size_t *count, sharing *s, anm_error *err)
{
    int rc = 0;
    for (anm_mil_function *fn = p->functions; fn; fn = fn->next)
        for (anm_mil_op *op = fn->first; op; op = op->next)
            for (uint32_t a = 0; a < op->n_args; a++)
                for (uint32_t i = 0; i < op->args[a].count && !rc; i++) {
                    anm_mil_value *v = op->args[a].value[i];
                    if (!v->constant || !v->constant->source) continue;
                    if (count) ++*count;
                    else rc = share(s, v, err);
                }
    return rc;
}

int anm_pass_share_weights(anm_mil_program *p, anm_error *err)
{
    size_t n = 0;
    each_weight(p, &n, NULL, err);
    known *all_known = calloc(n + 1, sizeof *all_known);
    met *all_met = calloc(n + 1, sizeof *all_met);
    sharing s = {.more_known = all_known, .more_met = all_met, .arena = &p->arena};
    int rc = all_known && all_met ? each_weight(p, NULL, &s, err) : anm_fail_memory(err, "a pass");
    HASH_CLEAR(hh, s.known);
    HASH_CLEAR(hh, s.met);
    free(all_known);
    free(all_met);
    free(s.a);
    free(s.b);
    return rc;
}
