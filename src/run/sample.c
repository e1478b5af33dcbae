/* SPDX-License-Identifier: BSD-3-Clause */
#include "run/sample.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

uint64_t anm_rng_next(anm_rng *r)
{
    uint64_t z = r->state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

double anm_rng_uniform(anm_rng *r)
{
    return (double)(anm_rng_next(r) >> 11) * 0x1p-53;
}

int32_t anm_argmax(const float *logits, int64_t n)
{
    /* The greatest by lanes that do not wait for each other, then where it stands first. NaN is greater than nothing. */
    enum { LANES = 32 };
    float most[LANES], all = -INFINITY;
    for (int k = 0; k < LANES; k++) most[k] = -INFINITY;
    for (int64_t i = 0; i + LANES <= n; i += LANES)
        for (int k = 0; k < LANES; k++) most[k] = logits[i + k] > most[k] ? logits[i + k] : most[k];
    for (int64_t i = n - n % LANES; i < n; i++)
        if (logits[i] > all) all = logits[i];
    for (int k = 0; k < LANES; k++)
        if (most[k] > all) all = most[k];
    for (int64_t i = 0; i < n; i++)
        if (logits[i] == all) return (int32_t)i;
    return -1; /* nothing but NaN */
}

struct anm_sampler {
    anm_sampling how;
    anm_rng rng;
    int64_t vocab;
    float *logit;        /* [vocab] after the repeat penalty */
    double *weight;      /* [vocab] exp of the logits' distance from the greatest, over the temperature */
    anm_candidate *cand; /* [vocab] */
};

int anm_sampler_new(anm_sampler **out, int64_t vocab_size, anm_error *err)
{
    *out = NULL;
    anm_sampler *s = calloc(1, sizeof *s);
    if (!s) return anm_fail_memory(err, "the sampler");
    s->vocab = vocab_size;
    s->how = (anm_sampling)ANM_SAMPLING_GREEDY;
    s->logit = calloc((size_t)vocab_size, sizeof *s->logit);
    s->weight = calloc((size_t)vocab_size, sizeof *s->weight);
    s->cand = calloc((size_t)vocab_size, sizeof *s->cand);
    if (!s->logit || !s->weight || !s->cand) {
        anm_sampler_free(s);
        return anm_fail_memory(err, "the sampler");
    }
    *out = s;
    return 0;
}

void anm_sampler_free(anm_sampler *s)
{
    if (!s) return;
    free(s->logit);
    free(s->weight);
    free(s->cand);
    free(s);
}

int anm_sampler_set(anm_sampler *s, const anm_sampling *how, anm_error *err)
{
    if (!(how->temperature >= 0 && isfinite(how->temperature)))
        return anm_fail(err, ANM_ERR_USAGE, "temperature %g: must be 0 or more", how->temperature);
    if (!(how->top_p >= 0)) return anm_fail(err, ANM_ERR_USAGE, "top_p %g: must be 0 or more", how->top_p);
    if (!(how->min_p >= 0 && how->min_p <= 1))
        return anm_fail(err, ANM_ERR_USAGE, "min_p %g: must be between 0 and 1", how->min_p);
    if (how->top_k < 0)
        return anm_fail(err, ANM_ERR_USAGE, "top_k %lld: must be 0 or more", (long long)how->top_k);
    if (!(how->repeat_penalty > 0 && isfinite(how->repeat_penalty)))
        return anm_fail(err, ANM_ERR_USAGE, "repeat_penalty %g: must be above 0", how->repeat_penalty);
    if (how->repeat_last < 0)
        return anm_fail(err, ANM_ERR_USAGE, "repeat_last %lld: must be 0 or more",
                        (long long)how->repeat_last);
    s->how = *how;
    s->rng.state = how->seed;
    return 0;
}

/* e^x for x <= 0, the same bits on every machine: the reduction by multiples of ln 2 is exact in its high
 * part, then the series of e^r for |r| <= ln(2) / 2, whose terms beyond the 14th are below the last bit.
 * Results that no double sum could notice beside 1 are 0. */
static double exp_nonpositive(double x)
{
    if (!(x > -60)) return 0;
    const double magic =
        0x1.8p52; /* added, it rounds to the nearest whole number, which the low bits then spell */
    double spelled = x * 0x1.71547652b82fep0 + magic, k = spelled - magic;
    double r = (x - k * 0x1.62e42fee00000p-1) - k * 0x1.a39ef35793c76p-33;
    double e = 1.0 / 87178291200.0;
    static const double inverse_factorial[] = {
        1.0 / 6227020800.0,
        1.0 / 479001600.0,
        1.0 / 39916800.0,
        1.0 / 3628800.0,
        1.0 / 362880.0,
        1.0 / 40320.0,
        1.0 / 5040.0,
        1.0 / 720.0,
        1.0 / 120.0,
        1.0 / 24.0,
        1.0 / 6.0,
        0.5,
        1.0,
        1.0,
    };
    for (size_t i = 0; i < sizeof inverse_factorial / sizeof *inverse_factorial; i++)
        e = e * r + inverse_factorial[i];
    uint64_t bits, whole;
    memcpy(&bits, &e, 8);
    memcpy(&whole, &spelled, 8);
    bits += whole << 52; /* times 2^k: e is near 1 and k > -90, so the exponent stays in range */
    memcpy(&e, &bits, 8);
    return e;
}

/* Pushes down the tokens of the recent past, each once however often it occurs (Keskar et al., arXiv
 * 1909.05858). */
static const float *penalised(anm_sampler *s, const float *logits, const int32_t *past, int64_t n_past)
{
    if (s->how.repeat_penalty == 1) return logits;
    memcpy(s->logit, logits, (size_t)s->vocab * sizeof *logits);
    int64_t from = s->how.repeat_last && n_past > s->how.repeat_last ? n_past - s->how.repeat_last : 0;
    float penalty = (float)s->how.repeat_penalty;
    for (int64_t i = from; i < n_past; i++) {
        float v = logits[past[i]];
        s->logit[past[i]] = v > 0 ? v / penalty : v * penalty;
    }
    return s->logit;
}

/* Greater p first, then lower id. */
static int before(const anm_candidate *a, const anm_candidate *b)
{
    return a->p != b->p ? a->p > b->p : a->id < b->id;
}

static void sift_down(anm_candidate *c, int64_t at, int64_t n)
{
    anm_candidate v = c[at];
    for (int64_t child; (child = 2 * at + 1) < n; at = child) {
        if (child + 1 < n && before(&c[child + 1], &c[child])) child++;
        if (!before(&c[child], &v)) break;
        c[at] = c[child];
    }
    c[at] = v;
}

static void swap(anm_candidate *a, anm_candidate *b)
{
    anm_candidate t = *a;
    *a = *b;
    *b = t;
}

/* Takes the first of the heap c[0 … *left) out and returns it; it then stands at c[*left]. */
static anm_candidate pop(anm_candidate *c, int64_t *left)
{
    --*left;
    swap(&c[0], &c[*left]);
    if (*left) sift_down(c, 0, *left);
    return c[*left];
}

/* Cuts the tail off n candidates of total weight `sum`: top_k, then top_p and min_p of what it leaves. The
 * kept ones are moved to the front, likeliest first. Only as many are sorted as are kept. */
static int64_t cut(const anm_sampling *how, anm_candidate *c, int64_t n, double sum)
{
    for (int64_t i = n / 2; i-- > 0;)
        sift_down(c, i, n);
    int64_t left = n, most = n, kept = 0;
    if (how->top_k && how->top_k < n) {
        most = how->top_k;
        sum = 0;
        while (n - left < most)
            sum += pop(c, &left).p;
    }
    /* Popped candidates stand at the array's end, the likeliest last. */
    double before_it = 0, greatest = 0;
    while (kept < most) {
        anm_candidate v = n - left > kept ? c[n - 1 - kept] : pop(c, &left);
        if (kept == 0)
            greatest = v.p;
        else if (before_it > how->top_p * sum || v.p < how->min_p * greatest)
            break;
        before_it += v.p;
        kept++;
    }
    for (int64_t i = 0, j = n - 1; i < j; i++, j--)
        swap(&c[i], &c[j]);
    return kept;
}

int anm_sampler_dist(const anm_candidate **cand, int64_t *count, anm_sampler *s, const float *logits,
                     const int32_t *past, int64_t n_past, anm_error *err)
{
    const float *logit = penalised(s, logits, past, n_past);
    int32_t best = anm_argmax(logit, s->vocab);
    if (best < 0) return anm_fail(err, ANM_ERR_LIMIT, "the model's logits are no numbers (an overflow)");
    *cand = s->cand;
    if (s->how.temperature == 0) {
        s->cand[0] = (anm_candidate){1, best};
        *count = 1;
        return 0;
    }
    double top = logit[best], inverse = 1 / s->how.temperature, sum = 0;
    for (int64_t i = 0; i < s->vocab; i++)
        s->weight[i] = logit[i] == logit[best] ? 1 : exp_nonpositive(((double)logit[i] - top) * inverse);
    int64_t n = 0;
    for (int64_t i = 0; i < s->vocab; i++)
        sum += s->weight[i];
    /* All that is lighter than the nucleus' complement spread over everything lies outside the nucleus. */
    double least = s->how.top_p < 1 ? (1 - s->how.top_p) * sum / (double)s->vocab : 0;
    if (s->how.top_k) least = 0; /* the nucleus is that of what top_k leaves */
    for (int64_t i = 0; i < s->vocab; i++)
        if (s->weight[i] > 0 && (s->weight[i] >= least || i == best))
            s->cand[n++] = (anm_candidate){s->weight[i], (int32_t)i};
    if (s->how.top_k || s->how.top_p < 1 || s->how.min_p > 0) n = cut(&s->how, s->cand, n, sum);
    sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += s->cand[i].p;
    for (int64_t i = 0; i < n; i++)
        s->cand[i].p /= sum;
    *count = n;
    return 0;
}

int anm_sampler_pick(int32_t *id, anm_sampler *s, const float *logits, const int32_t *past, int64_t n_past,
                     anm_error *err)
{
    const anm_candidate *c;
    int64_t n;
    int rc = anm_sampler_dist(&c, &n, s, logits, past, n_past, err);
    if (rc) return rc;
    double u = s->how.temperature > 0 ? anm_rng_uniform(&s->rng) : 0, below = 0;
    int64_t i = 0;
    while (i < n - 1 && (below += c[i].p) <= u)
        i++;
    *id = c[i].id;
    return 0;
}
