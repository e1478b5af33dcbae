/* SPDX-License-Identifier: BSD-3-Clause */
#define ANM_LANES_PRODUCT anm_lanes_avx2
#include "mil/lanes_body.h"
