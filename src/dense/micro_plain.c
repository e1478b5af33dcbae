/* SPDX-License-Identifier: BSD-3-Clause */
/* The tile for any processor: 128-bit vectors, which SSE2 and NEON have. */
#define VW 4
#define MR 4
#define NR 8
#define MICRO anm_micro_plain
#include "dense/micro.h"
