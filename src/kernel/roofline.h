/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What this machine can do at best, to hold speeds against: how fast memory of a given size is read, and how fast int8
 * numbers are multiplied. Measured by the pool's own threads, so that their number, the processors that they share and
 * the other programs on the machine are the same as for what is compared.
 */
#ifndef ANM_KERNEL_ROOFLINE_H
#define ANM_KERNEL_ROOFLINE_H

#include "base/pool.h"
#include "kernel/kernel.h"

typedef struct anm_roof anm_roof;

/* Room for reading `bytes` bytes: what one token reads. `kernels` and `pool` (may be NULL: one thread) are kept. */
int anm_roof_new(anm_roof **out, size_t bytes, const anm_kernels *kernels, anm_pool *pool, anm_error *err);
void anm_roof_free(anm_roof *r); /* NULL is fine */

/* Bytes per second: the room is read from its beginning to its end, each thread its share, again and again for about
 * `seconds`. */
double anm_roof_read(anm_roof *r, double seconds);
/* Products of int8 with what 4-bit weights hold, per second, all operands in registers and the first-level cache. */
double anm_roof_multiply(anm_roof *r, double seconds);

#endif
