/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Makes one of the weights whose bytes will be the same, though they come from different tensors:
 *
 *   data <- rows of wq, layer 3      data <- rows of wq, layer 3
 *   data <- rows of wq, layer 7  =>  data <- rows of wq, layer 3
 *
 * What counts are the integers and the scales as they will be written, each by itself: a matrix and its double share
 * their integers. Afterwards equal ops on equal weights are repeated ones, and the weight file holds each once.
 *
 * The weights are not at hand, and making all of them twice would double an export. So each is known by its first two
 * rows, and only those that agree in these are made, tile by tile, until they differ or are seen to be equal.
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

/* A part of a weight by what its first rows look like. */
typedef struct known {
    struct key { /* all of it is hashed: no padding */
        uint64_t size, part, begin;
    } key;
    const anm_blob *blob;
    const anm_mil_type *type;
    struct known *same_key;
    UT_hash_handle hh;
} known;

/* A part of a weight that was met before, by its address: the parts of both functions of a program are the same. */
typedef struct met {
    struct place {
        const void *source;
        uint64_t part;
    } place;
    const anm_blob *as;
    UT_hash_handle hh;
} met;

typedef struct sharing {
    known *known;
    met *met;
    known *more_known;
    met *more_met;
    uint8_t *a, *b; /* room for the parts of two tiles */
    uint64_t room;  /* of each */
} sharing;

static int64_t tile_rows(const anm_weight *w)
{
    int64_t n = TILE_VALUES / w->matrix->cols / ANM_WEIGHT_ROW_STEP * ANM_WEIGHT_ROW_STEP;
    return n < ANM_WEIGHT_ROW_STEP ? ANM_WEIGHT_ROW_STEP : n;
}

/* Rows [row, row + n) of one part; `size` is the bytes'. */
static int make(uint8_t *to, uint64_t *size, const anm_blob *blob, int64_t row, int64_t n, anm_error *err)
{
    const anm_weight *w = blob->source;
    uint64_t at[ANM_WEIGHT_PARTS], len[ANM_WEIGHT_PARTS];
    for (uint32_t k = 0; k < ANM_WEIGHT_PARTS; k++) {
        at[k] = k ? len[k - 1] : 0;
        len[k] = anm_weight_offset(w, k, row + n) - anm_weight_offset(w, k, row);
    }
    int rc = anm_weight_make(to + at[ANM_WEIGHT_DATA], to + at[ANM_WEIGHT_SCALE], w, row, n, err);
    *size = len[blob->part];
    if (!rc && blob->part) memmove(to, to + at[blob->part], (size_t)*size);
    return rc;
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

static int compare(bool *same, sharing *s, const anm_blob *x, const anm_blob *y, anm_error *err)
{
    const anm_weight *w = x->source;
    int64_t step = tile_rows(w), other = tile_rows(y->source); /* scales may be equal where columns are not */
    if (other < step) step = other;
    *same = true;
    for (int64_t row = 0; row < w->rows && *same; row += step) {
        int64_t n = w->rows - row < step ? w->rows - row : step;
        uint64_t p, q;
        int rc = make(s->a, &p, x, row, n, err);
        if (!rc) rc = make(s->b, &q, y, row, n, err);
        if (rc) return rc;
        *same = p == q && !memcmp(s->a, s->b, (size_t)p);
    }
    return 0;
}

/* What stands for `blob`: one of equal bytes that was met before, or itself. */
static int stand_in(const anm_blob **out, sharing *s, const anm_blob *blob, const anm_mil_type *type, anm_error *err)
{
    const anm_weight *w = blob->source;
    known *k = s->more_known++, *head = NULL;
    *k = (known){.key = {.size = blob->size, .part = blob->part}, .blob = blob, .type = type};
    *out = blob;
    uint64_t n;
    int rc = make_room(s, w, err);
    if (!rc) rc = make(s->a, &n, blob, 0, w->rows < ANM_WEIGHT_ROW_STEP ? w->rows : ANM_WEIGHT_ROW_STEP, err);
    if (rc) return rc;
    k->key.begin = anm_hash(s->a, (size_t)n, 1);
    HASH_FIND(hh, s->known, &k->key, sizeof k->key, head);
    for (known *o = head; o && !rc; o = o->same_key) {
        bool same = anm_mil_type_equal(o->type, type);
        if (same) rc = make_room(s, o->blob->source, err);
        if (same && !rc) rc = compare(&same, s, blob, o->blob, err);
        if (same && !rc) {
            *out = o->blob;
            return 0;
        }
    }
    if (rc) return rc;
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
    const struct place place = {v->constant->source, v->constant->part};
    met *m;
    HASH_FIND(hh, s->met, &place, sizeof place, m);
    if (!m) {
        m = s->more_met++;
        *m = (met){.place = place};
        int rc = stand_in(&m->as, s, v->constant, &v->type, err);
        if (rc) return rc;
        size_t before = HASH_COUNT(s->met);
        HASH_ADD(hh, s->met, place, sizeof m->place, m);
        if (HASH_COUNT(s->met) == before) return anm_fail_memory(err, "a pass");
    }
    v->constant = m->as;
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
    sharing s = {.more_known = all_known, .more_met = all_met};
    int rc = all_known && all_met ? each_weight(p, NULL, &s, err) : anm_fail_memory(err, "a pass");
    HASH_CLEAR(hh, s.known);
    HASH_CLEAR(hh, s.met);
    free(all_known);
    free(all_met);
    free(s.a);
    free(s.b);
    return rc;
}
