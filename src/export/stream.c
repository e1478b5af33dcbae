/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Writes layouts whose weights are not made yet. Every weight is cut into tiles of half a million values; all threads
 * take tiles in the order in which they lie in the file, make their bytes and write them where they belong:
 *
 *   checkpoint (mapped) -> rows as fp32 -> integers and scales -> pwrite, pwrite
 *
 * A large rotary table is made in the same way, its two parts the cosines and the sines.
 *
 * Each tile's bytes are hashed on the way; the hash of all hashes, in order, is the content's digest, whichever thread
 * made what.
 */
#include "export/export.h"
#include "base/bytes.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

enum { TILE_VALUES = 1 << 19, PROGRESS_STEP = 8 << 20 };

/* What tiles are made of: a weight, or a rotary table. Either has rows and two parts. */
typedef struct source {
    const anm_weight *weight;
    const anm_table_source *table;
} source;

/* Where one part of a source goes. */
typedef struct place {
    source of;
    uint64_t offset;
    uint32_t part;
    int32_t target;
} place;

/* A source with all its places, places[first, first + n). */
typedef struct job {
    source of;
    size_t first, n;
    uint64_t key; /* the place in the first file that holds it: jobs run in this order */
} job;

typedef struct tile {
    uint32_t job;
    int64_t row, rows;
} tile;

typedef struct stream {
    anm_stream_target *targets;
    const anm_stream_opts *opts;
    place *places;
    job *jobs;
    tile *tiles;
    XXH128_hash_t *hashes; /* two a tile: data, scale */
    uint8_t **buffers;     /* one a thread */
    size_t n_places, n_jobs, n_tiles, room[ANM_WEIGHT_PARTS];
    uint64_t total;
    _Atomic uint64_t done;
    uint64_t reported; /* by thread 0 alone */
    _Atomic int failed;
    anm_error err; /* of the one that failed first */
} stream;

/* ---- sources ---- */

static source source_of(const anm_piece *p)
{
    return p->part < ANM_WEIGHT_PARTS ? (source){.weight = p->source} : (source){.table = p->source};
}

static int64_t rows_of(source s)
{
    return s.weight ? s.weight->rows : s.table->rows;
}

static uint64_t offset_of(source s, uint32_t part, int64_t row)
{
    if (s.weight) return anm_weight_offset(s.weight, part, row);
    return (uint64_t)row * (uint64_t)s.table->cols * anm_dtype_bytes(s.table->type);
}

static int64_t tile_rows(source s)
{
    int64_t n = TILE_VALUES / (s.weight ? s.weight->matrix->cols : s.table->cols) / ANM_WEIGHT_ROW_STEP * ANM_WEIGHT_ROW_STEP;
    return n < ANM_WEIGHT_ROW_STEP ? ANM_WEIGHT_ROW_STEP : n;
}

static int make_table(uint8_t *const part[], const anm_table_source *t, int64_t row, int64_t n, anm_error *err)
{
    size_t count = (size_t)(n * t->cols);
    float *x = calloc(count, 2 * sizeof *x);
    if (!x) return anm_fail_memory(err, "a rotary table");
    int rc = anm_rope_rows(x, x + count, t->model, row, n, err);
    for (int k = 0; k < 2 && !rc; k++) {
        if (t->type == ANM_DT_F16) anm_floats_to_f16(part[k], x + (size_t)k * count, count);
        else memcpy(part[k], x + (size_t)k * count, count * sizeof *x); /* little-endian, as the file */
    }
    free(x);
    return rc;
}

static int make_rows(uint8_t *const part[], source s, int64_t row, int64_t n, anm_error *err)
{
    if (s.table) return make_table(part, s.table, row, n, err);
    return anm_weight_make(part[ANM_WEIGHT_DATA], part[ANM_WEIGHT_SCALE], s.weight, row, n, err);
}

/* ---- the work to do ---- */

static int compare_sources(source s, source t)
{
    if (s.table || t.table) return (uintptr_t)s.table < (uintptr_t)t.table ? -1 : s.table != t.table;
    const anm_weight *a = s.weight, *b = t.weight;
    if (a->matrix != b->matrix) return (uintptr_t)a->matrix < (uintptr_t)b->matrix ? -1 : 1;
    if (a->row != b->row) return a->row < b->row ? -1 : 1;
    if (a->rows != b->rows) return a->rows < b->rows ? -1 : 1;
    if (a->bits != b->bits) return a->bits < b->bits ? -1 : 1;
    if (a->group != b->group) return a->group < b->group ? -1 : 1;
    if (a->halves != b->halves) return a->halves < b->halves ? -1 : 1;
    return a->type < b->type ? -1 : a->type > b->type;
}

static int compare_places(const void *a, const void *b)
{
    const place *p = a, *q = b;
    int c = compare_sources(p->of, q->of);
    if (c) return c;
    if (p->target != q->target) return p->target < q->target ? -1 : 1;
    return p->offset < q->offset ? -1 : p->offset > q->offset;
}

static int compare_jobs(const void *a, const void *b)
{
    const job *p = a, *q = b;
    return p->key < q->key ? -1 : p->key > q->key;
}

static int find_places(stream *s, int n_targets, anm_error *err)
{
    size_t n = 0;
    for (int t = 0; t < n_targets; t++)
        for (size_t i = 0; i < s->targets[t].layout->count; i++) n += s->targets[t].layout->piece[i].source != NULL;
    s->places = calloc(n + 1, sizeof *s->places);
    s->jobs = calloc(n + 1, sizeof *s->jobs);
    if (!s->places || !s->jobs) return anm_fail_memory(err, "the list of weights");
    for (int t = 0; t < n_targets; t++)
        for (size_t i = 0; i < s->targets[t].layout->count; i++) {
            const anm_piece *p = s->targets[t].layout->piece + i;
            if (!p->source) continue;
            s->places[s->n_places++] = (place){source_of(p), p->offset, p->part % ANM_WEIGHT_PARTS, t};
            s->total += p->size;
        }
    qsort(s->places, s->n_places, sizeof *s->places, compare_places);
    for (size_t i = 0; i < s->n_places; i++) {
        const place *p = s->places + i;
        if (!i || compare_sources(p->of, p[-1].of))
            s->jobs[s->n_jobs++] = (job){.of = p->of, .first = i, .key = (uint64_t)p->target << 48 | p->offset};
        s->jobs[s->n_jobs - 1].n++;
    }
    qsort(s->jobs, s->n_jobs, sizeof *s->jobs, compare_jobs);
    return 0;
}

static int cut_tiles(stream *s, anm_error *err)
{
    size_t n = 0;
    for (size_t j = 0; j < s->n_jobs; j++) n += (size_t)((rows_of(s->jobs[j].of) - 1) / tile_rows(s->jobs[j].of)) + 1;
    if (n > UINT32_MAX) return anm_fail(err, ANM_ERR_LIMIT, "the weights are too large");
    s->tiles = calloc(n + 1, sizeof *s->tiles);
    s->hashes = calloc(2 * n + 1, sizeof *s->hashes);
    if (!s->tiles || !s->hashes) return anm_fail_memory(err, "the list of weights");
    for (size_t j = 0; j < s->n_jobs; j++) {
        source of = s->jobs[j].of;
        int64_t step = tile_rows(of), rows = rows_of(of);
        for (uint32_t k = 0; k < ANM_WEIGHT_PARTS; k++) {
            uint64_t size = offset_of(of, k, step);
            if (size > s->room[k]) s->room[k] = (size_t)size;
        }
        for (int64_t row = 0; row < rows; row += step)
            s->tiles[s->n_tiles++] = (tile){(uint32_t)j, row, rows - row < step ? rows - row : step};
    }
    return 0;
}

/* ---- doing it ---- */

static void fail(stream *s, const anm_error *err)
{
    int none = 0;
    if (atomic_compare_exchange_strong(&s->failed, &none, 1)) s->err = *err;
}

static void report(stream *s, unsigned thread, uint64_t wrote)
{
    uint64_t done = atomic_fetch_add(&s->done, wrote) + wrote;
    if (thread || !s->opts->progress || done - s->reported < PROGRESS_STEP) return;
    s->reported = done;
    s->opts->progress(s->opts->ctx, done, s->total);
}

static void run_tile(void *ctx, uint32_t i, unsigned thread)
{
    stream *s = ctx;
    if (atomic_load_explicit(&s->failed, memory_order_relaxed)) return;
    const tile *t = s->tiles + i;
    const job *j = s->jobs + t->job;
    uint8_t *part[ANM_WEIGHT_PARTS] = {s->buffers[thread], s->buffers[thread] + s->room[0]};
    uint64_t at[ANM_WEIGHT_PARTS], size[ANM_WEIGHT_PARTS], wrote = 0;
    anm_error err;
    int rc = make_rows(part, j->of, t->row, t->rows, &err);
    for (uint32_t k = 0; k < ANM_WEIGHT_PARTS && !rc; k++) {
        at[k] = offset_of(j->of, k, t->row);
        size[k] = offset_of(j->of, k, t->row + t->rows) - at[k];
        s->hashes[2 * (size_t)i + k] = XXH3_128bits_withSeed(part[k], (size_t)size[k], k);
    }
    for (size_t p = j->first; p < j->first + j->n && !rc; p++) {
        const place *to = s->places + p;
        rc = anm_outfile_write(s->targets[to->target].file, to->offset + at[to->part], part[to->part], (size_t)size[to->part], &err);
        wrote += size[to->part];
    }
    if (rc) fail(s, &err);
    else report(s, thread, wrote);
}

static int run(stream *s, anm_error *err)
{
    unsigned threads = s->opts->pool ? anm_pool_threads(s->opts->pool) : 1;
    int rc = 0;
    s->buffers = calloc(threads, sizeof *s->buffers);
    if (!s->buffers) return anm_fail_memory(err, "the writer");
    for (unsigned i = 0; i < threads && !rc; i++)
        if (!(s->buffers[i] = malloc(s->room[0] + s->room[1] + 1))) rc = anm_fail_memory(err, "the writer");
    if (!rc) anm_pool_run(s->opts->pool, run_tile, s, (uint32_t)s->n_tiles);
    for (unsigned i = 0; i < threads; i++) free(s->buffers[i]);
    free(s->buffers);
    if (!rc && atomic_load(&s->failed)) {
        rc = s->err.code;
        if (err) *err = s->err;
    }
    return rc;
}

/* What is at hand: headers, graphs, small constants. */
static int write_rest(stream *s, anm_stream_target *t, anm_error *err)
{
    XXH3_state_t *state = XXH3_createState();
    if (!state) return anm_fail_memory(err, "the writer");
    XXH3_128bits_reset(state);
    XXH3_128bits_update(state, s->hashes, 2 * s->n_tiles * sizeof *s->hashes);
    int rc = 0;
    for (size_t i = 0; i < t->layout->count && !rc; i++) {
        const anm_piece *p = t->layout->piece + i;
        if (!p->data) continue;
        uint8_t offset[8];
        anm_st64(offset, p->offset);
        XXH3_128bits_update(state, offset, sizeof offset);
        XXH3_128bits_update(state, p->data, (size_t)p->size);
        rc = anm_outfile_write(t->file, p->offset, p->data, (size_t)p->size, err);
    }
    XXH128_canonical_t digest;
    XXH128_canonicalFromHash(&digest, XXH3_128bits_digest(state));
    memcpy(t->digest, digest.digest, sizeof t->digest);
    XXH3_freeState(state);
    return rc;
}

int anm_stream_write(anm_stream_target *targets, int n_targets, const anm_stream_opts *opts, anm_error *err)
{
    stream s = {.targets = targets, .opts = opts};
    int rc = 0;
    for (int t = 0; t < n_targets && !rc; t++) {
        if (targets[t].layout->bad) rc = anm_fail_memory(err, "the layout of a file");
        else rc = anm_outfile_resize(targets[t].file, targets[t].layout->size, err);
    }
    if (!rc) rc = find_places(&s, n_targets, err);
    if (!rc) rc = cut_tiles(&s, err);
    if (!rc) rc = run(&s, err);
    for (int t = 0; t < n_targets && !rc; t++) rc = write_rest(&s, targets + t, err);
    if (!rc && opts->progress) opts->progress(opts->ctx, s.total, s.total);
    free(s.places);
    free(s.jobs);
    free(s.tiles);
    free(s.hashes);
    return rc;
}
