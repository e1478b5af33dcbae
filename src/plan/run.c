/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Running a plan. Steps that treat each row alone are run together, row by row; a linear's rows are quantised at the
 * end of that, or by what made them where nothing is between; its tiles are shared out among the threads, each tile for all rows; attention is shared out by row and
 * key head. No result depends on how the work was shared.
 *
 * Of a linear's tiles each thread has a run of neighbours, which it takes one by one, so that it reads memory in one
 * sweep; who is through with the own ones takes of the others', so that no thread waits for longer than a tile.
 */
#include "base/half.h"
#include "kernel/vexp.h"
#include "plan/internal.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum {
    SERIAL_ROWS = 4, /* fewer rows than this are not worth waking the others for */
    MANY_UNITS = 4,  /* tiles (or pairs of them) that a thread takes at a time where there are many rows */
    NEAR_BYTES = 20 << 10, /* of int8 that stay in the first-level cache with their scales and a tile */
    MANY_ROWS = 4,   /* rows that a thread takes at a time */
    FEW_GROUPS = 8,  /* a thread's groups of heads, from which on one more or less does not count */
    AHEAD_ROWS = 4,  /* with more rows than these the processor has more to do than memory */
    AHEAD_BYTES = 192 << 10, /* of a thread's next weights that are asked for before their time; its own cache holds them */
    AHEAD_LINES = 64, /* of these while the caller's thread does a row's steps */
};

/* A thread's share of a loop: the next unit to be taken of it, by whom ever; its upper half says of which loop that holds,
 * of others nothing is taken yet. So nobody has to set it before. On a cache line of its own. */
typedef struct lane {
    _Atomic uint64_t next;
    uint8_t apart[56];
} lane;

struct anm_plan_work {
    const anm_plan *p;
    int64_t rows, scores_per_thread;
    unsigned threads;
    float *act;  /* the arena of activations */
    anm_q8 q8;   /* the rows that the next linear takes; INT8X2: two for each, the second what the first leaves */
    anm_q8 q8_next; /* likewise: where a step leaves its result as the linear behind it takes it */
    float *left; /* [threads][widest_in]: what a row's first int8 leave */
    float *scores;
    int32_t *fresh, *n_fresh; /* [rows][rows], [rows]: which fresh entries each row sees */
    int32_t *row;             /* [rows]: which row of the step the i-th computed one is */
    lane *lane;               /* [threads] */
    uint32_t turn;            /* loops so far */
    anm_ahead alone;          /* without a pool: what is asked for meanwhile */
    void *memory;
};

/* One run: what the threads see. */
typedef struct run run;
/* Units [from, end) of a loop. */
typedef void loop_fn(const run *r, uint32_t from, uint32_t end, unsigned thread);

struct run {
    const anm_plan *p;
    anm_plan_work *w;
    anm_kv *kv;
    const anm_plan_rows *rows;
    anm_pool *pool;
    float *logits;
    int32_t n;                 /* rows still computed */
    const anm_plan_step *step; /* LINEAR, ATTEND; or the first of the row by row ones */
    const anm_plan_step *end, *quantise;
    const anm_plan_step *after; /* LINEAR: the next one; else NULL */
    loop_fn *fn; /* the loop: what is done to its units, how many there are and are taken at a time, its number */
    uint32_t units, many, turn;
    int32_t block;            /* LINEAR: rows that go through some tiles together */
    bool to_q8;               /* LINEAR, ATTEND: the result goes to q8_next, for the linear that takes it */
    uint32_t whole_groups;    /* ATTEND: so many groups of heads are one task each, the others' heads are one each */
};

int anm_plan_work_new(anm_plan_work **out, const anm_plan *p, const anm_pool *pool, anm_error *err)
{
    *out = NULL;
    anm_plan_work *w = calloc(1, sizeof *w);
    if (!w) return anm_fail_memory(err, "state");
    size_t rows = (size_t)p->rows, groups = ((size_t)p->widest_in + ANM_GROUP - 1) / ANM_GROUP;
    size_t q8_rows = rows * (p->activations == ANM_ACT_INT8X2 ? 2 : 1);
    w->p = p;
    w->rows = p->rows;
    w->threads = anm_pool_threads(pool);
    w->scores_per_thread = (p->m->cache_len + p->rows + 31) / 16 * 16 * ANM_HEADS_MAX;
    /* One block, parts 64 bytes apart. */
    size_t size[] = {(size_t)p->row_floats * rows * sizeof(float),
                     groups * ANM_GROUP * q8_rows,
                     groups * q8_rows * sizeof(float),
                     groups * q8_rows * sizeof(int32_t),
                     groups * ANM_GROUP * q8_rows,
                     groups * q8_rows * sizeof(float),
                     groups * q8_rows * sizeof(int32_t),
                     (size_t)w->scores_per_thread * w->threads * sizeof(float),
                     rows * rows * sizeof(int32_t),
                     rows * sizeof(int32_t),
                     rows * sizeof(int32_t),
                     groups * ANM_GROUP * w->threads * sizeof(float),
                     w->threads * sizeof(lane)};
    size_t at[sizeof size / sizeof *size], total = 64;
    bool fits = true;
    for (size_t i = 0; i < sizeof size / sizeof *size; i++) {
        at[i] = total;
        fits &= size[i] < SIZE_MAX / 16 && anm_add_size(total, (size_t)anm_align_up(size[i], 64), &total);
    }
    w->memory = fits ? calloc(1, total) : NULL;
    if (!w->memory) {
        free(w);
        return anm_fail_memory(err, "state");
    }
    uint8_t *base = (uint8_t *)w->memory + (64 - (uintptr_t)w->memory % 64) - 64; /* parts begin at 64 or behind */
    w->act = (float *)(void *)(base + at[0]);
    w->q8 = (anm_q8){(int64_t)groups, (int8_t *)(base + at[1]), (float *)(void *)(base + at[2]), (int32_t *)(void *)(base + at[3])};
    w->q8_next = (anm_q8){(int64_t)groups, (int8_t *)(base + at[4]), (float *)(void *)(base + at[5]), (int32_t *)(void *)(base + at[6])};
    w->scores = (float *)(void *)(base + at[7]);
    w->fresh = (int32_t *)(void *)(base + at[8]);
    w->n_fresh = (int32_t *)(void *)(base + at[9]);
    w->row = (int32_t *)(void *)(base + at[10]);
    w->left = (float *)(void *)(base + at[11]);
    w->lane = (lane *)(void *)(base + at[12]);
    *out = w;
    return 0;
}

void anm_plan_work_free(anm_plan_work *w)
{
    if (!w) return;
    free(w->memory);
    free(w);
}

static int64_t stride_of(const run *r, int32_t buf)
{
    return buf == ANM_BUF_LOGITS ? r->p->m->vocab_size : r->p->buf[buf].stride;
}

static float *row_of(const run *r, int32_t buf, int64_t i)
{
    if (buf == ANM_BUF_LOGITS) return r->logits + i * r->p->m->vocab_size;
    return r->w->act + r->p->buf[buf].off * r->w->rows + i * stride_of(r, buf);
}

/* ---- sharing out ---- */

static uint32_t units_of(const anm_linear_part *part)
{
    return (uint32_t)((part->spec.rows + ANM_TILE - 1) / ANM_TILE);
}

/* The first unit of a thread's share of `units`. */
static uint32_t share_from(uint32_t units, unsigned thread, unsigned threads)
{
    return (uint32_t)((uint64_t)units * thread / threads);
}

/* Takes some units of a thread's share; returns how many. */
static uint32_t take_units(const run *r, uint32_t *first, unsigned of)
{
    _Atomic uint64_t *next = &r->w->lane[of].next;
    uint32_t start = share_from(r->units, of, r->w->threads), end = share_from(r->units, of + 1, r->w->threads), n;
    uint64_t v = atomic_load_explicit(next, memory_order_relaxed);
    do {
        *first = v >> 32 == r->turn ? (uint32_t)v : start;
        if (*first >= end) return 0;
        n = (end - *first + 1) / 2 < r->many ? (end - *first + 1) / 2 : r->many; /* ever fewer, so that all end together */
    } while (!atomic_compare_exchange_weak_explicit(next, &v, (uint64_t)r->turn << 32 | (*first + n), memory_order_relaxed,
                                                    memory_order_relaxed));
    return n;
}

static anm_ahead *ahead_of(const run *r, unsigned thread)
{
    return r->pool ? anm_pool_ahead(r->pool, thread) : &r->w->alone;
}

/* What this thread takes first of the next linear, for the time in which it waits or is busy with other things. */
static void look_ahead(const run *r, unsigned thread)
{
    const anm_plan_step *s = r->after;
    anm_ahead *a = ahead_of(r, thread);
    a->at = a->end = NULL;
    if (r->n > AHEAD_ROWS) return;
    uint32_t units = 0, k = 0;
    for (uint32_t i = 0; i < s->n_parts; i++) units += units_of(&s->part[i]);
    uint32_t u = share_from(units, thread, r->w->threads);
    while (u >= units_of(&s->part[k])) u -= units_of(&s->part[k++]);
    const anm_packed *p = &s->part[k].packed;
    const uint8_t *data = p->is_q4 ? p->q4.data : p->wf.data;
    size_t tile = p->is_q4 ? p->q4.tile_bytes : p->wf.tile_bytes;
    a->at = data + (size_t)u * (s->part[k].spec.n_up ? 2 : 1) * tile;
    a->end = data + p->size - a->at > AHEAD_BYTES ? a->at + AHEAD_BYTES : data + p->size;
}

static void take_part(void *ctx, unsigned thread)
{
    const run *r = ctx;
    uint32_t u, n;
    for (unsigned k = 0, at = thread; k < r->w->threads; k++, at = at + 1 < r->w->threads ? at + 1 : 0)
        while ((n = take_units(r, &u, at)) != 0) r->fn(r, u, u + n, thread);
    if (r->after) look_ahead(r, thread);
}

/* Every thread takes its own share, then what others have left of theirs. So a thread reads the same weights, keys and
 * values from token to token, which its caches may still hold, and its own rows. */
static void loop(run *r, loop_fn *fn, uint32_t units, uint32_t many)
{
    r->fn = fn;
    r->units = units;
    r->many = many;
    r->turn = ++r->w->turn;
    anm_pool_each(r->pool, take_part, r);
}

/* ---- steps that treat each row alone ---- */

/* A head's pairs turned by their angles: neighbours, as most graphs have them, by loads and stores that compilers make
 * vectors of; or wherever they lie. */
static void turn_neighbours(float *restrict out, const float *restrict in, const float *cos, const float *sin, int64_t n)
{
    for (int64_t k = 0; k < n; k++) {
        float x = in[2 * k], y = in[2 * k + 1];
        out[2 * k] = x * cos[k] - y * sin[k];
        out[2 * k + 1] = x * sin[k] + y * cos[k];
    }
}

static void turn(const anm_plan_step *s, float *restrict out, const float *restrict in, const float *cos, const float *sin)
{
    const float *a = in + s->first, *b = in + s->second;
    for (int64_t k = 0; k < s->size; k++) {
        float x = a[k * s->pair], y = b[k * s->pair];
        out[k * s->out_pair] = x * cos[k] - y * sin[k];
        out[k * s->out_pair + s->out_second] = x * sin[k + s->column2] + y * cos[k + s->column2];
    }
}

static void rope(const run *r, const anm_plan_step *s, int32_t i)
{
    int64_t width = r->p->m->table_width, pos = r->rows->pos[r->w->row[i]];
    const float *cos = r->rows->cos + pos * width, *sin = r->rows->sin + pos * width;
    const float *in = row_of(r, s->in, i);
    float *out = row_of(r, s->out, i);
    bool neighbours = s->pair == 2 && s->out_pair == 2 && s->second == s->first + 1 && s->out_second == 1 && s->column2 == 0;
    for (int64_t h = 0; h < s->heads; h++, out += 2 * s->size, in += s->stride) {
        if (neighbours) turn_neighbours(out, in + s->first, cos, sin, s->size);
        else turn(s, out, in, cos, sin);
    }
}

static void keep(const run *r, const anm_plan_step *s, int32_t i)
{
    const float *in = row_of(r, s->in, i) + s->in_off;
    anm_kv *kv = r->kv;
    for (int64_t h = 0; h < s->heads; h++) {
        uint8_t *to = anm_kv_fresh_at(kv, s->layer, s->v, h) + (size_t)(r->w->row[i] * kv->head_dim) * kv->element;
        if (kv->fp16) r->p->k->to_f16((uint16_t *)(void *)to, in + h * s->stride, s->size);
        else memcpy(to, in + h * s->stride, (size_t)s->size * sizeof(float));
    }
}

/* The view's floats, packed, times a factor; as deep as it has dimensions. */
static void move(float *out, const float *in, const anm_view *v, int d, float factor)
{
    if (d == v->rank) {
        *out = *in * factor;
        return;
    }
    int64_t inner = 1;
    for (int k = d + 1; k < v->rank; k++)
        if (v->stride[k] != ANM_ROW) inner *= v->size[k];
    int64_t n = v->stride[d] == ANM_ROW ? 1 : v->size[d], step = v->stride[d] == ANM_ROW ? 0 : v->stride[d];
    for (int64_t i = 0; i < n; i++) move(out + i * inner, in + i * step, v, d + 1, factor);
}

static void run_row(const run *r, const anm_plan_step *s, int32_t i)
{
    float *out = s->out == ANM_BUF_NONE ? NULL : row_of(r, s->out, i);
    const float *in = s->in == ANM_BUF_NONE ? NULL : row_of(r, s->in, i) + s->in_off;
    const float *other = s->other == ANM_BUF_NONE ? NULL : row_of(r, s->other, i) + s->other_off;
    switch (s->kind) {
    case ANM_STEP_EMBED: anm_weight_row(out, &s->embedding, r->rows->token[r->w->row[i]]); break;
    case ANM_STEP_NORM:
        for (int64_t h = 0; h < s->heads; h++) r->p->k->norm(out + h * s->size, in + h * s->stride, &s->norm);
        break;
    case ANM_STEP_ROPE: rope(r, s, i); break;
    case ANM_STEP_KEEP: keep(r, s, i); break;
    case ANM_STEP_COPY: move(out, in + s->view.off, &s->view, 0, s->factor); break;
    case ANM_STEP_ADD:
        for (int64_t k = 0; k < s->width; k++) out[k] = in[k] + other[k];
        break;
    case ANM_STEP_MUL:
        for (int64_t k = 0; k < s->width; k++) out[k] = in[k] * other[k];
        break;
    case ANM_STEP_SILU:
        for (int64_t k = 0; k < s->width; k++) out[k] = in[k] / (1.0f + anm_exp(-in[k]));
        break;
    case ANM_STEP_LINEAR:
    case ANM_STEP_ATTEND: break;
    }
}

static void quantise_row(const run *r, const anm_plan_step *s, int32_t i, unsigned thread)
{
    const anm_q8 *to = &r->w->q8;
    int64_t n = s->part->spec.cols, groups = (n + ANM_GROUP - 1) / ANM_GROUP;
    const float *x = row_of(r, s->in, i) + s->in_off;
    bool twice = r->p->activations == ANM_ACT_INT8X2;
    int64_t at = (twice ? 2 * i : i) * groups;
    const int8_t *q = to->q + at * ANM_GROUP;
    r->p->k->quantize(to->q + at * ANM_GROUP, to->scale + at, to->offset + at, x, n);
    if (!twice) return;
    float *left = r->w->left + (int64_t)thread * r->w->q8.groups * ANM_GROUP;
    for (int64_t k = 0; k < n; k++) {
        int64_t in_order = (k & ~(int64_t)7) + (k & 1) * 4 + (k >> 1 & 3); /* see anm_q8 */
        left[k] = x[k] - to->scale[at + k / ANM_GROUP] * (float)q[in_order];
    }
    at += groups;
    r->p->k->quantize(to->q + at * ANM_GROUP, to->scale + at, to->offset + at, left, n);
}

static void some_rows(const run *r, uint32_t from, uint32_t end, unsigned thread)
{
    for (int32_t i = (int32_t)from; i < (int32_t)end; i++) {
        for (const anm_plan_step *s = r->step; s < r->end; s++) run_row(r, s, i);
        if (r->quantise) quantise_row(r, r->quantise, i, thread);
    }
}

/* ---- linears ---- */

static bool by_q8(const run *r, const anm_linear_part *part)
{
    return part->packed.is_q4 && r->p->activations != ANM_ACT_F32;
}

/* One tile for `n` rows from `first` on: [n][16]. */
static void tile(const run *r, float *out, const anm_linear_part *part, int64_t t, int32_t first, int32_t n)
{
    const anm_kernels *k = r->p->k;
    if (by_q8(r, part)) {
        anm_q8 x = r->w->q8;
        x.groups = part->packed.q4.groups;
        if (r->p->activations == ANM_ACT_INT8) {
            k->q4_q8(out, &part->packed.q4, t, &x, first, n);
            return;
        }
        float both[ANM_ROWS_MAX * ANM_TILE];
        for (int32_t done = 0; done < n; done += ANM_ROWS_MAX / 2, out += ANM_ROWS_MAX / 2 * ANM_TILE) {
            int32_t m = n - done < ANM_ROWS_MAX / 2 ? n - done : ANM_ROWS_MAX / 2;
            k->q4_q8(both, &part->packed.q4, t, &x, 2 * (first + done), 2 * m);
            for (int32_t i = 0; i < m; i++)
                for (int c = 0; c < ANM_TILE; c++)
                    out[i * ANM_TILE + c] = both[2 * i * ANM_TILE + c] + both[(2 * i + 1) * ANM_TILE + c];
        }
        return;
    }
    const float *x = row_of(r, r->step->in, first) + r->step->in_off;
    int64_t stride = stride_of(r, r->step->in);
    if (part->packed.is_q4) k->q4_f32(out, &part->packed.q4, t, x, stride, n);
    else k->wf_f32(out, &part->packed.wf, t, x, stride, n);
}

/* The 16 outputs of unit u (or what is left of them) for rows [first, first + n), at most ANM_ROWS_MAX: to y, [n][16]. */
static void unit(const run *r, float *y, const anm_linear_part *part, int64_t u, int32_t first, int32_t n)
{
    int64_t at = u * ANM_TILE;
    int32_t cols = part->spec.rows - at < ANM_TILE ? (int32_t)(part->spec.rows - at) : ANM_TILE;
    if (part->spec.n_up) {
        float up[ANM_ROWS_MAX * ANM_TILE];
        tile(r, y, part, 2 * u, first, n);
        tile(r, up, part, 2 * u + 1, first, n);
        r->p->k->silu_mul(y, y, up, n * ANM_TILE);
    } else {
        tile(r, y, part, u, first, n);
    }
    for (int32_t i = 0; i < n; i++) {
        float *from = y + i * ANM_TILE;
        if (part->spec.bias)
            for (int32_t k = 0; k < cols; k++) from[k] += part->spec.bias[at + k];
        if (part->add >= 0) {
            const float *add = row_of(r, part->add, first + i) + part->add_off + at;
            for (int32_t k = 0; k < cols; k++) from[k] += add[k];
        }
    }
}

static void unit_to_rows(const run *r, const anm_linear_part *part, int64_t u, int32_t first, int32_t n)
{
    float y[ANM_ROWS_MAX * ANM_TILE];
    unit(r, y, part, u, first, n);
    int64_t left = part->spec.rows - u * ANM_TILE;
    for (int32_t i = 0; i < n; i++) {
        float *out = row_of(r, part->out, first + i) + u * ANM_TILE, *from = y + i * ANM_TILE;
        if (left >= ANM_TILE) memcpy(out, from, ANM_TILE * sizeof *out); /* a size that the compiler knows: no call */
        else memcpy(out, from, (size_t)left * sizeof *out);
    }
}

/* Two units, which make one group of the next linear's inputs (or the last of them, which may be alone). */
static void pair_to_q8(const run *r, const anm_linear_part *part, int64_t pair, int32_t first, int32_t n)
{
    float y[2][ANM_ROWS_MAX * ANM_TILE];
    const anm_q8 *to = &r->w->q8_next;
    int64_t groups = (part->spec.rows + ANM_GROUP - 1) / ANM_GROUP, at = first * groups + pair;
    unit(r, y[0], part, 2 * pair, first, n);
    if (2 * pair + 1 < units_of(part)) unit(r, y[1], part, 2 * pair + 1, first, n);
    else memset(y[1], 0, sizeof y[1]);
    r->p->k->quantize_pair(to->q + at * ANM_GROUP, to->scale + at, to->offset + at, groups, y[0], y[1], n);
}

/* Units [u, end) of all parts' units (or pairs of them): for some rows all of them, then for the next rows, so that the
 * rows, which each unit takes anew, stay in the first-level cache. */
static void some_units(const run *r, uint32_t u, uint32_t end, unsigned thread)
{
    (void)thread;
    for (int32_t first = 0; first < r->n; first += r->block) {
        int32_t n = r->n - first < r->block ? r->n - first : r->block;
        const anm_linear_part *part = r->step->part;
        uint32_t base = 0;
        for (uint32_t k = u; k < end; k++) {
            if (r->to_q8) {
                pair_to_q8(r, part, k, first, n);
                continue;
            }
            while (k - base >= units_of(part)) base += units_of(part++);
            unit_to_rows(r, part, k - base, first, n);
        }
    }
}

/* As many rows as stay in the first-level cache: eight of them share a look at the weights in any case. */
static int32_t block_of_rows(const anm_plan_step *s)
{
    int64_t rows = NEAR_BYTES / (s->part->spec.cols + 1) / 8 * 8;
    return rows < 8 ? 8 : rows > ANM_ROWS_MAX ? ANM_ROWS_MAX : (int32_t)rows;
}

static void linear(run *r, const anm_plan_step *s)
{
    uint32_t units = 0;
    for (uint32_t k = 0; k < s->n_parts; k++) units += units_of(&s->part[k]);
    r->step = s;
    r->after = s->after;
    r->block = block_of_rows(s);
    uint32_t many = r->n > r->block ? MANY_UNITS : 1;
    if (r->to_q8) loop(r, some_units, (units + 1) / 2, (many + 1) / 2);
    else loop(r, some_units, units, many);
    r->after = NULL;
}

/* ---- attention ---- */

/* Heads [first, first + n) of row i, which share a key head. */
static void attend(const run *r, int32_t i, int32_t first, int32_t n, unsigned thread)
{
    const anm_plan_step *s = r->step;
    int32_t row = r->w->row[i], head = s->kv_head[first];
    const anm_kv *kv = r->kv;
    anm_attend a = {.heads = n,
                    .head_dim = (int32_t)s->size,
                    .f16 = kv->fp16,
                    .scale = s->factor,
                    .k_cache = anm_kv_cache_at(kv, s->k_layer, 0, head),
                    .v_cache = anm_kv_cache_at(kv, s->v_layer, 1, head),
                    .k_fresh = anm_kv_fresh_at(kv, s->k_layer, 0, head),
                    .v_fresh = anm_kv_fresh_at(kv, s->v_layer, 1, head),
                    .cached = kv->cached,
                    .fresh = r->w->fresh + row * r->w->rows,
                    .n_fresh = r->w->n_fresh[row],
                    .scores = r->w->scores + (int64_t)thread * r->w->scores_per_thread,
                    .ahead = r->n > AHEAD_ROWS ? NULL : ahead_of(r, thread)};
    for (int32_t h = 0; h < n; h++) {
        a.q[h] = row_of(r, s->in, i) + s->q_off[first + h];
        a.out[h] = row_of(r, s->out, i) + (first + h) * s->size;
    }
    r->p->k->attend(&a);
    const anm_q8 *to = &r->w->q8_next;
    for (int32_t h = 0; r->to_q8 && h < n; h++) {
        int64_t at = (i * s->heads + first + h) * s->size / ANM_GROUP;
        r->p->k->quantize(to->q + at * ANM_GROUP, to->scale + at, to->offset + at, a.out[h], s->size);
    }
}

/* Task u of attention(). Each thread's share of them has its part of the whole groups first, then of the single heads. */
static void attend_task(const run *r, uint32_t u, unsigned thread)
{
    const anm_plan_step *s = r->step;
    uint32_t groups = (uint32_t)s->n_groups, whole = r->whole_groups, threads = r->w->threads, of = 0, t = u, head = 0;
    if (whole != r->units) {
        while (u >= share_from(r->units, of + 1, threads)) of++;
        t = u - share_from(r->units, of, threads);
        if (t < whole / threads) {
            t += share_from(whole, of, threads);
        } else {
            head = t - whole / threads + share_from(r->units - whole, of, threads);
            t = whole;
        }
    }
    for (;; t++) {
        const int32_t *group = &s->group[t % groups];
        uint32_t heads = (uint32_t)(group[1] - group[0]);
        int32_t row = (int32_t)(t / groups);
        if (t < whole) {
            attend(r, row, group[0], (int32_t)heads, thread);
            return;
        }
        if (head < heads) {
            attend(r, row, group[0] + (int32_t)head, 1, thread);
            return;
        }
        head -= heads;
    }
}

static void some_heads(const run *r, uint32_t from, uint32_t end, unsigned thread)
{
    for (uint32_t task = from; task < end; task++) attend_task(r, task, thread);
}

/* Heads that share keys read them once, together. Where there are few such groups, as for a single row, those that do not
 * go evenly into the threads are done head by head, so that no thread has a whole group more than another. */
static void attention(run *r, const anm_plan_step *s)
{
    uint32_t threads = r->w->threads, groups = (uint32_t)(r->n * s->n_groups), tasks = groups;
    r->step = s;
    r->whole_groups = groups < FEW_GROUPS * threads ? groups - groups % threads : groups;
    for (uint32_t t = r->whole_groups; t < groups; t++) {
        const int32_t *group = &s->group[t % (uint32_t)s->n_groups];
        tasks += (uint32_t)(group[1] - group[0]) - 1;
    }
    loop(r, some_heads, tasks, 1);
}

/* ---- the whole ---- */

static void list_fresh(run *r)
{
    const anm_plan_rows *x = r->rows;
    for (int32_t i = 0; i < x->n; i++) {
        int32_t n = 0, *list = r->w->fresh + i * r->w->rows;
        for (int32_t j = 0; j < x->n; j++)
            if (x->see ? x->see[(int64_t)i * x->n + j] : j <= i) list[n++] = j;
        r->w->n_fresh[i] = n;
    }
}

/* From here on only wanted rows: they move to the front of every buffer that is still in use. */
static void keep_wanted(run *r)
{
    const anm_plan_rows *x = r->rows;
    int32_t n = 0;
    for (int32_t i = 0; i < x->n; i++)
        if (x->want ? x->want[i] : i == x->n - 1) r->w->row[n++] = i;
    r->n = n;
    for (int32_t b = 0; b < r->p->n_bufs; b++) {
        const anm_plan_buf *buf = &r->p->buf[b];
        if (buf->first < 0 || buf->first >= r->p->tail || buf->last < r->p->tail) continue;
        for (int32_t i = 0; i < n; i++)
            if (r->w->row[i] != i)
                memcpy(row_of(r, b, i), row_of(r, b, r->w->row[i]), (size_t)buf->width * sizeof(float));
    }
}

static bool row_by_row(const anm_plan_step *s)
{
    return s->kind != ANM_STEP_LINEAR && s->kind != ANM_STEP_ATTEND;
}

static void took(anm_plan_times *t, anm_time_of what, int32_t stage)
{
    if (!t) return;
    double now = t->now();
    t->seconds[what] += now - t->last;
    if (t->stage) t->stage[stage] += now - t->last;
    t->last = now;
}

/* Where a stretch of row by row steps ends: at another kind, and after the embedding where times are wanted. */
static int32_t stretch(const run *r, int32_t i, int32_t limit)
{
    const anm_plan_step *step = r->p->step;
    int32_t end = i;
    while (end < limit && row_by_row(&step[end]))
        if (step[end++].kind == ANM_STEP_EMBED && r->rows->times) break;
    return end;
}

void anm_plan_run(float *logits, const anm_plan *p, anm_plan_work *w, anm_kv *kv, const anm_plan_rows *rows,
                  anm_pool *pool)
{
    run r = {.p = p, .w = w, .kv = kv, .rows = rows, .pool = pool, .logits = logits, .n = rows->n};
    for (int32_t i = 0; i < rows->n; i++) w->row[i] = i;
    list_fresh(&r);
    kv->rows = rows->n;
    if (rows->times) rows->times->last = rows->times->now();
    for (int32_t i = 0; i < p->n_steps;) {
        if (i == p->tail) keep_wanted(&r);
        if (r.n == 0) return;
        int32_t limit = i < p->tail ? p->tail : p->n_steps, end = stretch(&r, i, limit);
        const anm_plan_step *next = end < limit && !row_by_row(&p->step[end]) ? &p->step[end] : NULL;
        r.step = &p->step[i];
        r.end = &p->step[end];
        r.quantise = NULL;
        bool is_q8 = end == i && r.to_q8; /* as the step before has left it */
        if (is_q8) {
            anm_q8 t = w->q8;
            w->q8 = w->q8_next;
            w->q8_next = t;
        }
        for (uint32_t k = 0; !is_q8 && next && next->kind == ANM_STEP_LINEAR && k < next->n_parts; k++)
            if (by_q8(&r, &next->part[k])) r.quantise = next;
        if (r.n <= AHEAD_ROWS) anm_ahead_ask(ahead_of(&r, 0), AHEAD_LINES);
        if ((end > i || r.quantise) && r.n < SERIAL_ROWS) some_rows(&r, 0, (uint32_t)r.n, 0);
        else if (end > i || r.quantise) loop(&r, some_rows, (uint32_t)r.n, MANY_ROWS);
        r.to_q8 = next && next->feeds_q8;
        took(rows->times, p->step[i].kind == ANM_STEP_EMBED ? ANM_TIME_EMBEDDING : ANM_TIME_ROWS, 2 * i);
        if (next && next->kind == ANM_STEP_LINEAR) {
            linear(&r, next);
            took(rows->times, next->part[0].out == ANM_BUF_LOGITS ? ANM_TIME_HEAD : ANM_TIME_LINEARS, 2 * end + 1);
        }
        if (next && next->kind == ANM_STEP_ATTEND) {
            attention(&r, next);
            took(rows->times, ANM_TIME_ATTENTION, 2 * end + 1);
        }
        i = next ? end + 1 : end;
    }
}
