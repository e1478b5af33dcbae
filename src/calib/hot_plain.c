/* SPDX-License-Identifier: BSD-3-Clause */
#define GRID_ERROR anm_grid_error_plain
#define COLUMN anm_column_plain
#define PUSH anm_push_plain
#include "calib/hot.h"
