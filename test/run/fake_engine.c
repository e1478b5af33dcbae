/* SPDX-License-Identifier: BSD-3-Clause */
#include "test.h"
#include "run/fake_engine.h"

#include "run/engine.h"

#include <stdlib.h>
#include <string.h>

struct anm_engine {
    anm_engine_info info; /* n_layers: 1 or 2 of the two layers are used */
};

typedef struct entry {
    uint64_t v1, v2;
    int32_t token, pos;
} entry;

struct anm_state {
    const anm_engine_info *info;
    entry *cache, *last;
    int64_t cached;
    int32_t last_n;
};

static uint64_t mix(uint64_t a, uint64_t b)
{
    uint64_t z = a * 0x9e3779b97f4a7c15u ^ (b + 0x632be59bd9b4e019u) * 0xd6e8feb86659fd93u;
    z = (z ^ z >> 32) * 0xbf58476d1ce4e5b9u;
    return z ^ z >> 29;
}

int anm_engine_open(anm_engine **out, const char *path, const anm_engine_opts *opts, anm_error *err)
{
    (void)opts;
    long long vocab, context, cache, input;
    int multi, all, layers = 2;
    if (sscanf(path, "vocab=%lld context=%lld cache=%lld input=%lld multi=%d all=%d layers=%d", &vocab,
               &context, &cache, &input, &multi, &all, &layers) < 6)
        return anm_fail(err, ANM_ERR_FORMAT, "%s: not a fake", path);
    anm_engine *e = calloc(1, sizeof *e);
    assert_non_null(e);
    e->info = (anm_engine_info){.vocab_size = vocab,
                                .max_context = context,
                                .cache_len = cache,
                                .input_len = input,
                                .step_len = input,
                                .decode_len = multi ? 1 : input,
                                .multifunction = multi,
                                .all_logits = all,
                                .n_layers = layers};
    *out = e;
    return 0;
}

void anm_engine_free(anm_engine *e)
{
    free(e);
}

const anm_engine_info *anm_engine_get_info(const anm_engine *e)
{
    return &e->info;
}

int anm_state_new(anm_state **out, anm_engine *e, anm_error *err)
{
    (void)err;
    anm_state *s = calloc(1, sizeof *s);
    assert_non_null(s);
    s->info = &e->info;
    s->cache = calloc((size_t)e->info.cache_len, sizeof *s->cache);
    s->last = calloc((size_t)e->info.input_len, sizeof *s->last);
    assert_true(s->cache && s->last);
    *out = s;
    return 0;
}

void anm_state_free(anm_state *s)
{
    if (!s) return;
    free(s->cache);
    free(s->last);
    free(s);
}

void anm_state_reset(anm_state *s)
{
    s->cached = 0;
}

int64_t anm_state_cached(const anm_state *s)
{
    return s->cached;
}

void anm_state_truncate(anm_state *s, int64_t keep)
{
    assert_true(keep >= 0 && keep <= s->cached);
    s->cached = keep;
}

/* The first layer's value is that of the new position; the second's remembers what it was computed from. */
int anm_state_evict(anm_state *s, int64_t first, int64_t n, anm_error *err)
{
    (void)err;
    assert_true(first >= 0 && n >= 0 && first + n <= s->cached);
    s->cached -= n;
    for (int64_t i = first; i < s->cached; i++) {
        s->cache[i] = s->cache[i + n];
        s->cache[i].pos -= (int32_t)n;
        s->cache[i].v1 = mix((uint64_t)s->cache[i].token, (uint64_t)s->cache[i].pos);
    }
    return 0;
}

int anm_state_commit(anm_state *s, int32_t row, int32_t n, anm_error *err)
{
    assert_true(row >= 0 && n >= 1 && row + n <= s->last_n);
    if (s->cached + n > s->info->cache_len) return anm_fail(err, ANM_ERR_LIMIT, "the cache is full");
    memcpy(s->cache + s->cached, s->last + row, (size_t)n * sizeof *s->last);
    s->cached += n;
    return 0;
}

static void fill_logits(float *logits, int64_t vocab, int32_t token, uint64_t h)
{
    int64_t favourite = h % 5 == 0 ? (int64_t)(h / 5 % (uint64_t)vocab) : (token * 3 + 1) % vocab;
    for (int64_t t = 0; t < vocab; t++)
        logits[t] = (float)(mix(h, (uint64_t)t) >> 40) * 0x1p-24f * 2;
    logits[favourite] += 3;
}

int anm_state_step(float *logits, anm_state *s, const anm_step *step, anm_error *err)
{
    (void)err;
    const anm_engine_info *info = s->info;
    int32_t n = step->n;
    assert_true(n >= 1 && n <= info->input_len);
    uint64_t h[512], before1 = 0, before2 = 0;
    for (int64_t i = 0; i < s->cached; i++)
        before1 += s->cache[i].v1, before2 += s->cache[i].v2;
    for (int32_t i = 0; i < n; i++) {
        assert_in_range(step->token[i], 0, info->vocab_size - 1);
        assert_in_range(step->pos[i], 0, info->max_context - 1);
        s->last[i] =
            (entry){mix((uint64_t)step->token[i], (uint64_t)step->pos[i]), 0, step->token[i], step->pos[i]};
    }
    for (int layer = 0; layer < info->n_layers; layer++)
        for (int32_t i = 0; i < n; i++) {
            uint64_t sum = layer ? before2 : before1;
            for (int32_t j = 0; j < n; j++)
                if (step->see ? step->see[i * n + j] : j <= i) sum += layer ? s->last[j].v2 : s->last[j].v1;
            h[i] = mix(sum, mix((uint64_t)step->token[i], (uint64_t)step->pos[i]));
            if (layer == 0) s->last[i].v2 = h[i];
        }
    for (int32_t i = 0; i < n; i++) {
        if (step->want ? !step->want[i] : i < n - 1) continue;
        assert_true(info->all_logits || i == n - 1);
        fill_logits(logits, info->vocab_size, step->token[i], h[i]);
        logits += info->vocab_size;
    }
    s->last_n = n;
    return 0;
}
