/* SPDX-License-Identifier: BSD-3-Clause */
#define GRID_ERROR anm_grid_error_avx512
#define COLUMN anm_column_avx512
#define PUSH anm_push_avx512
#include "calib/hot.h"
