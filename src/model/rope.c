/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The rotary tables, step by step as PyTorch computes them in fp32 (executorch,
 * examples/models/llama/rope.py): every intermediate is rounded where a tensor is, since an angle of some
 * hundred radians turns one ulp of a frequency into many of its cosine.
 */
#include "model/model.h"

#include <math.h>
#include <stdlib.h>

/*
 * x to the power of y as SLEEF's vector powf rounds it, which PyTorch uses: the logarithm is as good as
 * exact, and so is all but the tail of the exponential's series, (e^r - 1 - r) / r^2, which is a polynomial
 * in fp32. Its small error turns about one result in eighty to the other neighbour. (Coefficients:
 * shibatch/sleef, src/libm/sleefsimdsp.c, expkf.)
 */
static float vector_powf(float x, float y)
{
    const double ln2 = 0.69314718055994530942;
    double e = (double)y * log((double)x), n = rint(e / ln2), r = e - n * ln2;
    float at = (float)r, tail = 0.00136324646882712841f;
    tail = fmaf(tail, at, 0.00836596917361021042f);
    tail = fmaf(tail, at, 0.0416710823774337769f);
    tail = fmaf(tail, at, 0.166665524244308472f);
    tail = fmaf(tail, at, 0.499999850988388062f);
    return (float)ldexp(1 + (r + r * r * (double)tail), (int)n);
}

/* theta^(2i / head_dim) for all i: PyTorch gives whole runs of 32 (on a machine with AVX-512; 16 with AVX2)
 * to the vector function, and what is left to the C library, one by one. */
static void powers(float *out, int64_t n, float theta, int64_t head_dim)
{
    enum { RUN = 32 };
    for (int64_t i = 0; i < n; i++) {
        float exponent = (float)(2 * i) / (float)head_dim;
        out[i] = i < n / RUN * RUN ? vector_powf(theta, exponent) : powf(theta, exponent);
    }
}

/* Llama 3.1's scaling: long waves are stretched by the factor, short ones kept, those between blended. */
static float scaled(float freq, const anm_params *p)
{
    const float old_context = 8192, low_factor = 1, high_factor = (float)p->high_freq_factor;
    const float factor = (float)p->rope_scale_factor;
    float wave =
        1 / freq * 6.283185307179586f; /* PyTorch divides a number by a tensor as number times reciprocal */
    if (wave < (float)(8192.0 / p->high_freq_factor)) return freq;
    if (wave > old_context / low_factor) return freq / factor;
    float blend = (1 / wave * old_context - low_factor) / (high_factor - low_factor);
    float stretched = (1 - blend) * freq / factor, kept = blend * freq;
    return stretched + kept;
}

static int not_finite(const anm_model *m, int64_t pair, int64_t position, anm_error *err)
{
    const char *who = m->rope_freqs ? "tensor 'rope_freqs.weight' holds" : "rope_theta is";
    double value = m->rope_freqs ? (double)m->rope_freqs[pair] : m->params.rope_theta;
    int rc = anm_fail(err, ANM_ERR_FORMAT, "%s %g, by which the angle of pair %lld is not finite at position %lld", who, value,
                      (long long)pair, (long long)position);
    return m->ckpt ? anm_error_prefix(err, anm_ckpt_path(m->ckpt)) : rc;
}

int anm_rope_rows(float *cos_table, float *sin_table, const anm_model *m, int64_t first, int64_t rows, anm_error *err)
{
    const anm_params *p = &m->params;
    int64_t half = p->head_dim / 2, width = p->use_hf_rope ? p->head_dim : half;
    float *freq = malloc((size_t)half * sizeof *freq);
    if (!freq) return anm_fail_memory(err, "the rotary tables");
    powers(freq, half, (float)p->rope_theta, p->head_dim);
    for (int64_t i = 0; i < half; i++) {
        freq[i] = 1 / freq[i];
        if (p->use_scaled_rope && !p->use_hf_rope) freq[i] = scaled(freq[i], p);
        if (m->rope_freqs) freq[i] /= m->rope_freqs[i];
    }
    int rc = 0;
    for (int64_t row = 0; !rc && row < rows; row++) {
        for (int64_t i = 0; !rc && i < width; i++) {
            float angle =
                (float)(first + row) * freq[i % half]; /* one table of halves twice, side by side, for use_hf_rope */
            if (!isfinite(angle)) rc = not_finite(m, i % half, first + row, err);
            cos_table[row * width + i] = (float)cos((double)angle);
            sin_table[row * width + i] = (float)sin((double)angle);
        }
    }
    free(freq);
    return rc;
}

int anm_rope_tables(float *cos_table, float *sin_table, const anm_model *m, int64_t rows, anm_error *err)
{
    return anm_rope_rows(cos_table, sin_table, m, 0, rows, err);
}
