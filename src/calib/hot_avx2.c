/* SPDX-License-Identifier: BSD-3-Clause */
#define GRID_ERROR anm_grid_error_avx2
#define COLUMN anm_column_avx2
#define PUSH anm_push_avx2
#include "calib/hot.h"
