/* SPDX-License-Identifier: BSD-3-Clause */
/* 18 running sums, what they are made of beside them: 27 of the 32 registers. */
#define VW 4
#define MR 6
#define NR 12
#define MICRO anm_micro_neon
#include "dense/micro.h"
