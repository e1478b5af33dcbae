/* SPDX-License-Identifier: BSD-3-Clause */
#define VW 16
#define MR 12
#define NR 32
#define MICRO anm_micro_avx512
#include "dense/micro.h"
