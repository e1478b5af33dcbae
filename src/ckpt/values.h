/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The values of tensors as fp32: floats of any width, and GGML's blocked types bit for bit as the `gguf` package's
 * quants.py gives them. Internal to ckpt/ and its tests.
 */
#ifndef ANM_CKPT_VALUES_H
#define ANM_CKPT_VALUES_H

#include "ckpt/ckpt.h"

/* `n` values of `type` (class 'f' or 'q') that lie side by side at `p`, at any address; blocked types fill whole blocks. */
typedef void anm_values_fn(float *restrict out, anm_dtype type, const uint8_t *p, size_t n);

/* The plain form, and the fastest that this processor runs: the same bits. */
anm_values_fn anm_values_plain;
anm_values_fn *anm_values_best(void);

#if defined(__x86_64__)
anm_values_fn anm_values_avx2;
#endif

/* Of the K types' blocks: the scale and minimum, 6 bits each, of group g in [0, 8), packed in 12 bytes: four of each whole, then the
 * other four in nibbles with their upper pairs above the first ones. */
static inline void anm_packed_scale(const uint8_t *s, int g, unsigned *scale, unsigned *min)
{
    if (g < 4) {
        *scale = s[g] & 63u;
        *min = s[g + 4] & 63u;
    } else {
        *scale = (s[g + 4] & 15u) | (s[g - 4] >> 6 << 4);
        *min = (unsigned)(s[g + 4] >> 4) | (s[g] >> 6 << 4);
    }
}

#endif
