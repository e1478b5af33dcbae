/* SPDX-License-Identifier: BSD-3-Clause */
/* Random numbers from a seed, the same on every machine: splitmix64 (Steele, Lea and Flood, 2014). */
#ifndef ANM_CALIB_RANDOM_H
#define ANM_CALIB_RANDOM_H

#include <math.h>
#include <stdint.h>

static inline uint64_t anm_random_next(uint64_t *s)
{
    uint64_t z = *s += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

/* In [0, 1). */
static inline double anm_random_unit(uint64_t *s) { return (double)(anm_random_next(s) >> 11) * 0x1p-53; }

/* Normal, by Box and Muller. */
static inline double anm_random_normal(uint64_t *s)
{
    double u = anm_random_unit(s) + 0x1p-54, v = anm_random_unit(s);
    return sqrt(-2 * log(u)) * cos(6.283185307179586 * v);
}

#endif
