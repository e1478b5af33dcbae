/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One inner loop for each count of rows and each kind of scales: the loops are inlined with both as constants. A case of
 * `switch (rows)` that calls CALL(M, kind) with the kind that `scales` (an anm_scales) is.
 */
#ifndef ANM_KERNEL_ROWS_H
#define ANM_KERNEL_ROWS_H

#define ANM_ROWS_CASE(M, scales, CALL)                                                                                 \
    case M:                                                                                                            \
        if ((scales) == ANM_SCALES_ROW) CALL(M, ANM_SCALES_ROW);                                                       \
        else if ((scales) == ANM_SCALES_GROUP_F16) CALL(M, ANM_SCALES_GROUP_F16);                                      \
        else CALL(M, ANM_SCALES_GROUP_F32);                                                                            \
        break

#endif
