/* SPDX-License-Identifier: BSD-3-Clause */
#define VW 8
#define MR 6
#define NR 16
#define MICRO anm_micro_avx2
#include "dense/micro.h"
