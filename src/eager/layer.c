/* SPDX-License-Identifier: BSD-3-Clause */
/* One layer over many windows, some thousand rows at a time: norm, attention, norm, SwiGLU; products by dense/, the rest by
 * rows on all threads. */
#include "eager/layer.h"
#include "dense/dense.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    CHUNK = 16,       /* rows per task of the row-wise loops */
    SCORES = 128,     /* queries of a head whose scores are at hand together */
    AT_A_TIME = 2048, /* rows, about, of which everything inside the layer is at hand together */
};

void anm_eager_norm(float *y, const float *x, const float *weight, size_t rows, size_t cols, double eps)
{
    for (size_t r = 0; r < rows; r++, x += cols, y += cols) {
        double sum = 0;
        for (size_t i = 0; i < cols; i++) sum += (double)x[i] * x[i];
        float scale = (float)(1 / sqrt(sum / (double)cols + eps));
        for (size_t i = 0; i < cols; i++) y[i] = x[i] * scale * (weight ? weight[i] : 1);
    }
}

layer_work anm_layer_work(const anm_windows *win, const anm_eager_layer *l, const anm_params *p, const float *cos,
                          const float *sin, anm_pool *pool)
{
    return (layer_work){.p = p, .l = l, .cos = cos, .sin = sin, .windows = win->windows, .len = win->len,
                        .rows = win->windows * win->len, .nq = (size_t)(p->n_heads * p->head_dim),
                        .nk = (size_t)(p->n_kv_heads * p->head_dim), .pool = pool};
}

static uint32_t chunks(const layer_work *w)
{
    return (uint32_t)((w->rows + CHUNK - 1) / CHUNK);
}

typedef struct norm_job {
    const layer_work *w;
    float *h;
    const float *x, *weight;
} norm_job;

static void norm_rows(void *ctx, uint32_t i, unsigned thread)
{
    (void)thread;
    const norm_job *j = ctx;
    size_t at = (size_t)i * CHUNK, n = j->w->rows - at < CHUNK ? j->w->rows - at : CHUNK, d = (size_t)j->w->p->dim;
    anm_eager_norm(j->h + at * d, j->x + at * d, j->weight, n, d, j->w->p->norm_eps);
}

void anm_layer_norm(const layer_work *w, float *h, const float *x, const float *weight)
{
    norm_job j = {w, h, x, weight};
    anm_pool_run(w->pool, norm_rows, &j, chunks(w));
}

void anm_layer_rotate(float *x, const layer_work *w, size_t pos, float direction)
{
    const anm_params *p = w->p;
    size_t half = (size_t)p->head_dim / 2, table = p->use_hf_rope ? 2 * half : half;
    const float *cos = w->cos + pos * table, *sin = w->sin + pos * table;
    for (size_t i = 0; i < half; i++) {
        size_t a = p->use_hf_rope ? i : 2 * i, b = p->use_hf_rope ? i + half : 2 * i + 1;
        float u = x[a], v = x[b], s = sin[i] * direction;
        x[a] = u * cos[i] - v * s;
        x[b] = u * s + v * cos[i];
    }
}

/* Bias, norm and rotation of every head of one row. */
static void finish_heads(float *x, size_t heads, const float *bias, const float *norm, const layer_work *w, size_t pos)
{
    const anm_params *p = w->p;
    size_t hd = (size_t)p->head_dim;
    if (bias)
        for (size_t i = 0; i < heads * hd; i++) x[i] += bias[i];
    for (size_t h = 0; h < heads; h++, x += hd) {
        if (norm && p->qk_norm_before_rope) anm_eager_norm(x, x, norm, 1, hd, p->norm_eps);
        anm_layer_rotate(x, w, pos, 1);
        if (norm && !p->qk_norm_before_rope) anm_eager_norm(x, x, norm, 1, hd, p->norm_eps);
    }
}

static void finish_rows(void *ctx, uint32_t i, unsigned thread)
{
    (void)thread;
    const layer_work *w = ctx;
    for (size_t r = (size_t)i * CHUNK; r < (size_t)(i + 1) * CHUNK && r < w->rows; r++) {
        finish_heads(w->q + r * w->nq, (size_t)w->p->n_heads, w->l->bq, w->l->q_norm, w, r % w->len);
        finish_heads(w->k + r * w->nk, (size_t)w->p->n_kv_heads, w->l->bk, w->l->k_norm, w, r % w->len);
        if (w->l->bv)
            for (size_t j = 0; j < w->nk; j++) w->v[r * w->nk + j] += w->l->bv[j];
    }
}

void anm_layer_finish_qkv(layer_work *w)
{
    anm_pool_run(w->pool, finish_rows, w, chunks(w));
}

int anm_layer_product(float *y, const float *x, const float *wt, const layer_work *w, size_t in, size_t out, bool add, anm_error *err)
{
    return anm_gemm(y, out, anm_rows(x, in), anm_rows(wt, in), w->rows, out, in, add, w->pool, err);
}

int anm_layer_qkv(layer_work *w, const float *h, bool raw, anm_error *err)
{
    size_t dim = (size_t)w->p->dim;
    int rc = anm_layer_product(w->q, h, w->l->wq, w, dim, w->nq, false, err);
    if (!rc) rc = anm_layer_product(w->k, h, w->l->wk, w, dim, w->nk, false, err);
    if (!rc) rc = anm_layer_product(w->v, h, w->l->wv, w, dim, w->nk, false, err);
    if (!rc && !raw) anm_layer_finish_qkv(w);
    return rc;
}

/* Rows [first, first + rows) of a head's probabilities, `stride` apart: the keys that these queries see, [first + rows]. */
static int probabilities(float *score, size_t stride, const layer_work *w, size_t window, size_t head, size_t first, size_t rows)
{
    const anm_params *p = w->p;
    size_t hd = (size_t)p->head_dim, len = w->len, kv = head / (size_t)(p->n_heads / p->n_kv_heads), keys = first + rows;
    const float *q = w->q + (window * len + first) * w->nq + head * hd, *k = w->k + window * len * w->nk + kv * hd;
    float scale = (float)(1 / sqrt((double)hd));
    int rc = anm_gemm(score, stride, (anm_view){q, w->nq, 1}, (anm_view){k, w->nk, 1}, rows, keys, hd, false, NULL, NULL);
    for (size_t r = 0; r < rows && !rc; r++) {
        float *s = score + r * stride, most = -INFINITY;
        size_t last = first + r;
        double sum = 0;
        for (size_t c = 0; c <= last; c++)
            if (s[c] > most) most = s[c];
        for (size_t c = 0; c <= last; c++) {
            s[c] = expf((s[c] - most) * scale);
            sum += (double)s[c];
        }
        float norm = (float)(1 / sum);
        for (size_t c = 0; c <= last; c++) s[c] *= norm;
        memset(s + last + 1, 0, (keys - last - 1) * sizeof *s);
    }
    return rc;
}

int anm_layer_probabilities(float *score, const layer_work *w, size_t window, size_t head)
{
    return probabilities(score, w->len, w, window, head, 0, w->len);
}

static void attend(void *ctx, uint32_t i, unsigned thread)
{
    (void)thread;
    layer_work *w = ctx;
    size_t heads = (size_t)w->p->n_heads, hd = (size_t)w->p->head_dim, len = w->len, win = i / heads, head = i % heads;
    const float *v = w->v + win * len * w->nk + head / (heads / (size_t)w->p->n_kv_heads) * hd;
    float *score = malloc(SCORES * len * sizeof *score), *o = w->o + win * len * w->nq + head * hd;
    int rc = score ? 0 : ANM_ERR_MEMORY;
    for (size_t r = 0; r < len && !rc; r += SCORES) {
        size_t n = len - r < SCORES ? len - r : SCORES, keys = r + n; /* those behind are not seen */
        rc = probabilities(score, keys, w, win, head, r, n);
        if (!rc) rc = anm_gemm(o + r * w->nq, w->nq, anm_rows(score, keys), (anm_view){v, 1, w->nk}, n, hd, keys, false, NULL, NULL);
    }
    if (rc) w->code = rc;
    free(score);
}

int anm_layer_attend(layer_work *w, anm_error *err)
{
    anm_pool_run(w->pool, attend, w, (uint32_t)(w->windows * (size_t)w->p->n_heads));
    return w->code ? anm_fail_memory(err, "attention scores") : 0;
}

typedef struct glu_job {
    float *gate;
    const float *up;
    size_t rows, cols;
} glu_job;

static void swiglu(void *ctx, uint32_t i, unsigned thread)
{
    (void)thread;
    const glu_job *j = ctx;
    size_t at = (size_t)i * CHUNK, n = j->rows - at < CHUNK ? j->rows - at : CHUNK;
    float *g = j->gate + at * j->cols;
    const float *u = j->up + at * j->cols;
    for (size_t k = 0; k < n * j->cols; k++) g[k] = g[k] / (1 + expf(-g[k])) * u[k];
}

/* What one call of anm_eager_layer_run needs. */
typedef struct passing {
    const anm_windows *win;
    const anm_eager_layer *l;
    const anm_params *p;
    const float *cos, *sin;
    anm_eager_tap *tap;
    void *ctx;
    anm_pool *pool;
    float *h, *scratch; /* of a chunk: normed rows; q, k, v or up */
    float *wait;        /* what waits for a linear that is made only after all rows came by: attention's output, SwiGLU's */
    size_t chunk;       /* windows */
} passing;

/* The windows of chunk [first, …), and where its rows lie in `wait` with `cols` columns. */
static layer_work some_windows(const passing *g, size_t first, float **x, float **wait, size_t cols)
{
    anm_windows part = *g->win;
    part.windows = part.windows - first < g->chunk ? part.windows - first : g->chunk;
    *x = part.x + first * part.len * (size_t)g->p->dim;
    *wait = g->wait + (g->tap ? first * part.len * cols : 0);
    return anm_layer_work(&part, g->l, g->p, g->cos, g->sin, g->pool);
}

static int tell(const passing *g, anm_eager_point where, const float *x, size_t rows, size_t cols, anm_error *err)
{
    return g->tap ? g->tap(g->ctx, where, x, rows, cols, err) : 0;
}

/* norm -> the tap alone */
static int show_normed(const passing *g, size_t first, anm_eager_point where, const float *weight, anm_error *err)
{
    float *x, *wait;
    layer_work w = some_windows(g, first, &x, &wait, 0);
    anm_layer_norm(&w, g->h, x, weight);
    return tell(g, where, g->h, w.rows, (size_t)g->p->dim, err);
}

/* norm -> q, k, v -> attention's output, which waits */
static int into_o(const passing *g, size_t first, anm_error *err)
{
    float *x, *wait;
    size_t nq = (size_t)(g->p->n_heads * g->p->head_dim);
    layer_work w = some_windows(g, first, &x, &wait, nq);
    w.q = g->scratch;
    w.k = w.q + w.rows * w.nq;
    w.v = w.k + w.rows * w.nk;
    w.o = wait;
    anm_layer_norm(&w, g->h, x, g->l->attention_norm);
    int rc = anm_layer_qkv(&w, g->h, false, err);
    if (!rc) rc = anm_layer_attend(&w, err);
    return rc ? rc : tell(g, ANM_INTO_O, wait, w.rows, nq, err);
}

/* norm -> gate, up -> SwiGLU's output, which waits */
static int into_down(const passing *g, size_t first, anm_error *err)
{
    float *x, *wait;
    size_t dim = (size_t)g->p->dim, f = (size_t)g->p->hidden_dim;
    layer_work w = some_windows(g, first, &x, &wait, f);
    anm_layer_norm(&w, g->h, x, g->l->ffn_norm);
    int rc = anm_layer_product(wait, g->h, g->l->w1, &w, dim, f, false, err);
    if (!rc) rc = anm_layer_product(g->scratch, g->h, g->l->w3, &w, dim, f, false, err);
    glu_job glu = {wait, g->scratch, w.rows, f};
    if (!rc) anm_pool_run(g->pool, swiglu, &glu, chunks(&w));
    return rc ? rc : tell(g, ANM_INTO_DOWN, wait, w.rows, f, err);
}

/* residual += what waited, through its linear */
static int add_waiting(const passing *g, size_t first, const float *weights, size_t cols, anm_error *err)
{
    float *x, *wait;
    layer_work w = some_windows(g, first, &x, &wait, cols);
    return anm_layer_product(x, wait, weights, &w, cols, (size_t)g->p->dim, true, err);
}

size_t anm_eager_room(const anm_params *p, size_t rows)
{
    size_t nq = (size_t)(p->n_heads * p->head_dim), f = (size_t)p->hidden_dim;
    return rows * (nq > f ? nq : f);
}

/* With a tap, each step is done for all windows before the next: the tap may make a linear's weights at the last moment. */
static int step_by_step(passing *g, anm_error *err)
{
    const size_t all = g->win->windows, rows = all * g->win->len;
    const size_t dim = (size_t)g->p->dim, nq = (size_t)(g->p->n_heads * g->p->head_dim), f = (size_t)g->p->hidden_dim;
    int rc = 0;
#define EACH(call) for (size_t i = 0; i < all && !rc; i += g->chunk) rc = call
    EACH(show_normed(g, i, ANM_INTO_QKV, g->l->attention_norm, err));
    if (!rc) rc = tell(g, ANM_INTO_QKV, NULL, rows, dim, err);
    EACH(into_o(g, i, err));
    if (!rc) rc = tell(g, ANM_INTO_O, NULL, rows, nq, err);
    EACH(add_waiting(g, i, g->l->wo, nq, err));
    EACH(show_normed(g, i, ANM_INTO_GATE_UP, g->l->ffn_norm, err));
    if (!rc) rc = tell(g, ANM_INTO_GATE_UP, NULL, rows, dim, err);
    EACH(into_down(g, i, err));
    if (!rc) rc = tell(g, ANM_INTO_DOWN, NULL, rows, f, err);
    EACH(add_waiting(g, i, g->l->w2, f, err));
#undef EACH
    return rc;
}

int anm_eager_layer_run(anm_windows *win, const anm_eager_layer *l, const anm_params *p, const float *cos,
                        const float *sin, anm_eager_tap *tap, void *ctx, anm_pool *pool, anm_error *err)
{
    passing g = {.win = win, .l = l, .p = p, .cos = cos, .sin = sin, .tap = tap, .ctx = ctx, .pool = pool};
    size_t dim = (size_t)p->dim, f = (size_t)p->hidden_dim, nq = (size_t)(p->n_heads * p->head_dim);
    size_t attention = nq + 2 * (size_t)(p->n_kv_heads * p->head_dim);
    g.chunk = win->len < AT_A_TIME ? AT_A_TIME / win->len : 1;
    if (g.chunk > win->windows) g.chunk = win->windows;
    size_t rows = g.chunk * win->len;
    bool own = !tap || !win->room;
    g.h = malloc(rows * dim * sizeof *g.h);
    g.scratch = malloc(rows * (attention > f ? attention : f) * sizeof *g.scratch);
    g.wait = own ? malloc(anm_eager_room(p, tap ? win->windows * win->len : rows) * sizeof *g.wait) : win->room;
    int rc = g.h && g.scratch && g.wait ? 0 : anm_fail_memory(err, "activations of a layer");
    if (tap && !rc) rc = step_by_step(&g, err);
    for (size_t i = 0; i < win->windows && !tap && !rc; i += g.chunk) {
        rc = into_o(&g, i, err);
        if (!rc) rc = add_waiting(&g, i, l->wo, nq, err);
        if (!rc) rc = into_down(&g, i, err);
        if (!rc) rc = add_waiting(&g, i, l->w2, f, err);
    }
    free(g.h);
    free(g.scratch);
    if (own) free(g.wait);
    return rc;
}
