/* SPDX-License-Identifier: BSD-3-Clause */
/* For what every processor of the family has. */
#define ANM_VALUES anm_values_plain
#define ANM_BLOCKS32 "ckpt/values_blocks32.h"
#include "ckpt/values_body.h"
