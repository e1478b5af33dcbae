/* SPDX-License-Identifier: BSD-3-Clause */
#include "run/lookahead.h"
#include "run/copying.h"
#include "run/ngrams.h"

#include <stdlib.h>
#include <string.h>

/* Where a step's rows lie: [tail][window, whose first row is the current token's][branch 0][branch 1]… */
typedef struct layout {
    int32_t tail;
    int32_t levels;          /* ngram_size - 1; 0: no window, only the current token's row */
    int32_t branches, depth; /* so many chains of so many guesses */
    int32_t first_branch;    /* the row where they begin */
    int32_t rows;
} layout;

struct anm_look {
    anm_lookahead how;
    int64_t vocab;
    anm_ngrams *pool;
    int64_t pooled;  /* n-grams that begin before this token of the session are in the pool */
    int32_t *window; /* [ngram_size - 1][window_size] */
    int32_t *ngram;  /* [ngram_size - 1] scratch */
    bool window_begun;
    const int32_t **branch; /* [n_verifications] guesses of this step's branches, in the pool */
    uint8_t *see;           /* [input_len][input_len] */
    int32_t *at;            /* [input_len] which of the wanted logits are this row's */
    float *logits;          /* of the wanted rows: the current one, the window's last level, all branches */
    const float *made;      /* this step's: those, or the session's own */
    /* What pays, for ANM_LOOKAHEAD_AUTO: */
    anm_copying copying;
    double *seconds;    /* [input_len + 1] a step of so many rows; 0: not seen yet */
    double window_hits; /* tokens that a step with the whole window gains */
};

/* How much faster guessing must look than a plain step to be tried: what is expected and measured is not certain. */
#define WORTH 1.06

void anm_look_free(anm_look *l)
{
    if (!l) return;
    anm_ngrams_free(l->pool);
    free(l->window);
    free(l->ngram);
    free(l->branch);
    free(l->see);
    free(l->at);
    free(l->logits);
    free(l->seconds);
    free(l);
}

void anm_look_forget(anm_look *l)
{
    if (!l) return;
    anm_ngrams_clear(l->pool);
    anm_copying_begin(&l->copying);
    l->pooled = 0;
}

void anm_look_rewind(anm_look *l, int64_t keep)
{
    if (l && l->pooled > keep) l->pooled = keep;
}

void anm_look_slide(anm_look *l, int64_t n)
{
    if (l) l->pooled = l->pooled > n ? l->pooled - n : 0;
}

static int check(const anm_session *s, const anm_lookahead *how, anm_error *err)
{
    if (!s->info->all_logits)
        return anm_fail(
            err, ANM_ERR_UNSUPPORTED,
            "lookahead: this file gives the logits of the last token only, and guesses need them all: export "
            "it with one method or with --logits all, or run without lookahead");
    if (how->ngram_size < 2)
        return anm_fail(err, ANM_ERR_USAGE, "lookahead: ngram_size %d must be at least 2", how->ngram_size);
    if (how->window_size < 0)
        return anm_fail(err, ANM_ERR_USAGE, "lookahead: window_size %d must be at least 0", how->window_size);
    if (how->n_verifications < 1)
        return anm_fail(err, ANM_ERR_USAGE, "lookahead: n_verifications %d must be at least 1",
                        how->n_verifications);
    int64_t rows = ((int64_t)how->ngram_size - 1) * ((int64_t)how->window_size + how->n_verifications);
    if (rows > s->info->input_len)
        return anm_fail(err, ANM_ERR_LIMIT,
                        "lookahead: (ngram_size %d - 1) * (window_size %d + n_verifications %d) = %lld rows "
                        "are more than the %lld of a step (input_len); take a smaller one of these three",
                        how->ngram_size, how->window_size, how->n_verifications, (long long)rows,
                        (long long)s->info->input_len);
    return 0;
}

static int make(anm_look **out, const anm_session *s, const anm_lookahead *how, anm_error *err)
{
    *out = NULL;
    anm_look *l = calloc(1, sizeof *l);
    if (!l) return anm_fail_memory(err, "lookahead");
    size_t rows = (size_t)s->info->input_len, vocab = (size_t)s->info->vocab_size;
    size_t levels = (size_t)how->ngram_size - 1, columns = (size_t)how->window_size,
           branches = (size_t)how->n_verifications;
    l->how = *how;
    l->vocab = s->info->vocab_size;
    l->window = calloc(levels * columns + 1, sizeof *l->window);
    l->ngram = calloc(levels, sizeof *l->ngram);
    l->branch = calloc(branches, sizeof *l->branch);
    l->see = calloc(rows * rows, 1);
    l->at = calloc(rows, sizeof *l->at);
    size_t wanted = branches * levels > ANM_COPY_MOST ? branches * levels : ANM_COPY_MOST;
    l->logits = calloc((1 + columns + wanted) * vocab, sizeof *l->logits);
    l->seconds = calloc(rows + 1, sizeof *l->seconds);
    int rc = 0;
    if (!l->window || !l->ngram || !l->branch || !l->see || !l->at || !l->logits || !l->seconds)
        rc = anm_fail_memory(err, "lookahead");
    if (!rc) rc = anm_ngrams_new(&l->pool, l->vocab, (int32_t)levels, how->n_verifications, err);
    if (rc) {
        anm_look_free(l);
        return rc;
    }
    l->window_hits = 1; /* hopeful at first, so that it is tried where a wide step costs little more than a narrow one */
    anm_copying_begin(&l->copying);
    *out = l;
    return 0;
}

int anm_look_prepare(anm_session *s, const anm_lookahead *how, anm_error *err)
{
    int rc = check(s, how, err);
    if (rc) return rc;
    anm_look *l = s->look;
    if (!l || l->how.ngram_size != how->ngram_size || l->how.window_size != how->window_size ||
        l->how.n_verifications != how->n_verifications) {
        if ((rc = make(&l, s, how, err))) return rc;
        anm_look_free(s->look);
        s->look = l;
    }
    l->how.mode = how->mode;
    l->window_begun = false;
    return 0;
}

int anm_session_seed_ngrams(anm_session *s, const anm_lookahead *how, const int32_t *ids, size_t n,
                            anm_error *err)
{
    int rc = anm_look_prepare(s, how, err);
    if (rc) return rc;
    for (size_t i = 0; i < n; i++)
        if (ids[i] < 0 || ids[i] >= s->info->vocab_size)
            return anm_fail(err, ANM_ERR_LIMIT, "token %ld is outside the vocabulary of %lld tokens",
                            (long)ids[i], (long long)s->info->vocab_size);
    for (size_t i = 0; i + (size_t)how->ngram_size <= n; i++)
        anm_ngrams_add(s->look->pool, ids[i], ids + i + 1);
    return 0;
}

/* Puts the n-grams of the text so far (n tokens) into the pool. */
static void pool_text(anm_look *l, const int32_t *ids, int64_t n)
{
    for (; l->pooled + l->how.ngram_size <= n; l->pooled++)
        anm_ngrams_add(l->pool, ids[l->pooled], ids + l->pooled + 1);
}

/* ---- What pays ---- */

/* What a step of n rows takes: as seen; else on the line between the nearest widths that were seen. Where none is wider,
 * feeding has shown the widest there is; and where it has not, every row costs as much as the first. */
static double cost(const anm_look *l, const anm_session *s, int32_t n)
{
    if (l->seconds[n] > 0 || n <= 1) return l->seconds[n];
    int32_t below = n - 1, above = n + 1;
    while (below > 1 && !(l->seconds[below] > 0)) below--;
    while (above <= s->info->input_len && !(l->seconds[above] > 0)) above++;
    double from = l->seconds[below], to;
    if (above <= s->info->input_len) {
        to = l->seconds[above];
    } else if (s->widest > n) {
        above = s->widest;
        to = s->widest_seconds;
    } else {
        return from + (n - below) * l->seconds[1];
    }
    return to > from ? from + (to - from) * (n - below) / (above - below) : from;
}

/* Shrinks the layout to what is expected to give the most tokens a second: the whole window with its branches, as much
 * of the guess at hand as pays, or the current token alone. `most` is how long a guess may be. */
static void choose(layout *y, const anm_look *l, const anm_session *s, int32_t most)
{
    int32_t plain = y->tail + 1, window = y->levels;
    double one = cost(l, s, plain), best = WORTH / one, gain = 1, chance = 1;
    bool wide = window && one > 0 && (1 + l->window_hits) / cost(l, s, y->rows) > best;
    if (wide) best = (1 + l->window_hits) / cost(l, s, y->rows);
    int32_t length = 0;
    for (int32_t i = 0; one > 0 && i < most && i < l->copying.n; i++) {
        chance *= anm_copying_chance(&l->copying, i);
        gain += chance;
        double rate = gain / cost(l, s, plain + i + 1);
        if (rate > best) best = rate, length = i + 1;
    }
    if (length) *y = (layout){.tail = y->tail, .branches = 1, .depth = length};
    else if (!wide) *y = (layout){.tail = y->tail};
}

/* Other programs can only make a step look slower than it is: what is faster counts for more. */
static void time_step(anm_look *l, int32_t n, double took)
{
    double *t = &l->seconds[n];
    if (*t > 0)
        *t += (took < *t ? 0.5 : 0.1) * (took - *t);
    else
        *t = n > 1 && l->seconds[1] > 0 && took > n * l->seconds[1] ? n * l->seconds[1] : took;
}

/* Learns from a step that took `took` seconds and gave `given` tokens. Whether the guess was right is known of its tokens
 * up to the first wrong one, tried or not, and of no more than were made. */
static void learn(anm_look *l, const layout *y, double took, const int32_t *given, int32_t n)
{
    time_step(l, y->rows, took);
    if (y->levels) l->window_hits += 0.1 * (n - 1 - l->window_hits);
    for (int32_t i = 0; i < n && i < l->copying.n; i++) {
        bool right = given[i] == l->copying.id[i];
        anm_copying_learn(&l->copying, i, right);
        if (!right) break;
    }
}

/* ---- One step ---- */

/* The widest layout that the settings, the rows and the rest of the context allow. */
static layout plan(const anm_look *l, const anm_session *s, int32_t current)
{
    int32_t levels = l->how.ngram_size - 1, columns = l->how.window_size;
    int64_t left = s->capacity - s->fed - 1; /* positions after the current token's */
    layout y = {.tail = anm_session_tail(s), .depth = left < levels ? (int32_t)left : levels};
    /* Once a cache evicts, a token sees less than the ones before it in the same step would: one at a time, then. */
    bool alone = s->info->evicts && s->fed + levels + columns > s->info->cache_len;
    int32_t room = alone ? 1 : (int32_t)s->info->input_len - y.tail;
    if (columns && levels * columns <= room && levels + columns - 2 <= left) y.levels = levels;
    y.first_branch = y.tail + (y.levels ? levels * columns : 1);
    y.branches = anm_ngrams_count(l->pool, current);
    if (y.depth == 0)
        y.branches = 0;
    else if (y.branches * y.depth > y.tail + room - y.first_branch)
        y.branches = (y.tail + room - y.first_branch) / y.depth;
    y.rows = y.first_branch + y.branches * y.depth;
    if (l->how.mode == ANM_LOOKAHEAD_AUTO) {
        int64_t most = s->info->input_len - y.tail - 1;
        if (s->info->evicts && most > s->info->cache_len - 1 - s->fed) most = s->info->cache_len - 1 - s->fed;
        choose(&y, l, s, (int32_t)(most < left ? most : left));
        y.first_branch = y.tail + (y.levels ? levels * columns : 1);
        y.rows = y.first_branch + y.branches * y.depth;
    }
    return y;
}

/* Tokens, positions, and who sees whom. Everyone sees the tail, which is causal in itself; a guess in the
 * window at (level, column) sees level 0 up to its column, then its own column down to its level; a guess in
 * a branch sees the current token and the branch before it. */
static void fill(const layout *y, anm_look *l, anm_session *s, int32_t current)
{
    int32_t n = y->rows, columns = y->levels ? l->how.window_size : 1, now = (int32_t)s->fed;
    memset(l->see, 0, (size_t)n * (size_t)n);
    memset(s->want, 0, (size_t)n);
    anm_session_put_tail(s);
    for (int32_t r = 0; r < n; r++)
        memset(l->see + (size_t)r * n, 1, (size_t)(r < y->tail ? r + 1 : y->tail));
    for (int32_t r = y->tail; r < y->first_branch; r++) {
        int32_t level = (r - y->tail) / columns, column = (r - y->tail) % columns;
        uint8_t *see = l->see + (size_t)r * n + y->tail;
        s->token[r] = r == y->tail ? current : l->window[r - y->tail];
        s->pos[r] = now + level + column;
        s->want[r] = r == y->tail || level == y->levels - 1;
        memset(see, 1, (size_t)column + 1);
        for (int32_t up = 1; up <= level; up++)
            see[up * columns + column] = 1;
    }
    int32_t found = anm_ngrams_count(l->pool, current);
    bool copied = l->how.mode == ANM_LOOKAHEAD_AUTO && !y->levels;
    for (int32_t b = 0; b < y->branches; b++) {
        l->branch[b] = copied ? l->copying.id : anm_ngrams_get(l->pool, current, found - 1 - b); /* the latest first */
        int32_t first = y->first_branch + b * y->depth;
        for (int32_t j = 0; j < y->depth; j++) {
            uint8_t *see = l->see + (size_t)(first + j) * n;
            s->token[first + j] = l->branch[b][j];
            s->pos[first + j] = now + 1 + j;
            s->want[first + j] = 1;
            see[y->tail] = 1;
            memset(see + first, 1, (size_t)j + 1);
        }
    }
    int32_t wanted = 0;
    for (int32_t r = 0; r < n; r++)
        l->at[r] = s->want[r] ? wanted++ : -1;
}

static const float *logits_of(const anm_look *l, int32_t row)
{
    return l->made + (size_t)l->at[row] * (size_t)l->vocab;
}

/* A branch whose first j guesses are those of branch `like` (at j = 0 there is none yet), and whose next one
 * is `id`; -1: no branch. */
static int32_t follow(const anm_look *l, const layout *y, int32_t like, int32_t j, int32_t id)
{
    if (j == y->depth) return -1;
    for (int32_t b = 0; b < y->branches; b++)
        if (l->branch[b][j] == id &&
            (j == 0 || memcmp(l->branch[b], l->branch[like], (size_t)j * sizeof id) == 0))
            return b;
    return -1;
}

/* The window's n-grams go into the pool; then each level moves up, and what the last one gave comes in below.
 */
static void advance(anm_look *l, const layout *y)
{
    int32_t columns = l->how.window_size, levels = y->levels, *w = l->window;
    for (int32_t c = 0; c < columns; c++) {
        int32_t made = anm_argmax(logits_of(l, y->tail + (levels - 1) * columns + c), l->vocab), key = w[c];
        if (made < 0) made = 0; /* no number among the logits: the guess is only wrong */
        for (int32_t v = 0; v < levels - 1; v++)
            w[v * columns + c] = l->ngram[v] = w[(v + 1) * columns + c];
        w[(levels - 1) * columns + c] = l->ngram[levels - 1] = made;
        anm_ngrams_add(l->pool, key, l->ngram);
    }
}

/* What may follow: as in the text so far; else as the pool says, which may know other texts. */
static void guess(anm_look *l, const anm_session *s, int32_t current)
{
    anm_copying_guess(&l->copying, s->ids, s->fed + 1);
    int32_t found = anm_ngrams_count(l->pool, current);
    if (!l->copying.n && found) anm_copying_take(&l->copying, anm_ngrams_get(l->pool, current, found - 1), l->how.ngram_size - 1);
}

int anm_look_step(int32_t *id, bool *done, anm_session *s, anm_making *m, anm_error *err)
{
    anm_look *l = s->look;
    int32_t current = *id, cells = (l->how.ngram_size - 1) * l->how.window_size;
    s->ids[s->fed] = current;
    pool_text(l, s->ids, s->fed + 1);
    if (!l->window_begun)
        for (int32_t i = 0; i < cells; i++)
            l->window[i] = current;
    else if (cells)
        l->window[0] = current;
    l->window_begun = true;

    if (l->how.mode == ANM_LOOKAHEAD_AUTO) guess(l, s, current);
    layout y = plan(l, s, current);
    bool alone = !y.levels && !y.branches;
    fill(&y, l, s, current);
    s->have_logits = false;
    l->made = alone ? s->logits : l->logits;
    double start = anm_seconds();
    int rc = anm_session_run(alone ? s->logits : l->logits, s, y.rows, alone ? NULL : l->see, err);
    if (rc) return rc;
    double took = anm_seconds() - start;

    int32_t row = y.tail, taken = 0, branch = -1;
    int failed;
    for (;;) {
        failed = anm_sampler_pick(id, s->sampler, logits_of(l, row), s->ids, s->fed + 1 + taken, err);
        if (failed) break; /* what was given before counts */
        int32_t b = follow(l, &y, branch, taken, *id);
        if ((*done = anm_making_give(m, *id)) || b < 0) break;
        branch = b;
        row = y.first_branch + b * y.depth + taken++;
        s->ids[s->fed + taken] = *id;
    }
    rc = anm_session_keep(s, 0, y.tail + 1, err);
    if (!rc && taken) rc = anm_session_keep(s, row - taken + 1, taken, err);
    if (rc) return rc;
    s->fed += 1 + taken;
    if (!alone) memcpy(s->logits, logits_of(l, row), (size_t)l->vocab * sizeof *s->logits);
    s->have_logits = true;
    if (failed) return failed;
    if (y.levels && !*done) advance(l, &y);
    s->ids[s->fed] = *id; /* not fed yet, but behind those that were made in this step */
    learn(l, &y, took, s->ids + s->fed - taken, taken + 1);
    return 0;
}
