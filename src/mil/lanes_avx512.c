/* SPDX-License-Identifier: BSD-3-Clause */
#define ANM_LANES_PRODUCT anm_lanes_avx512
#include "mil/lanes_body.h"
