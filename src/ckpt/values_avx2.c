/* SPDX-License-Identifier: BSD-3-Clause */
#define ANM_VALUES anm_values_avx2
#define ANM_BLOCKS32 "ckpt/values_blocks32_avx2.h"
#include "ckpt/values_body.h"
