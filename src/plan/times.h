/* SPDX-License-Identifier: BSD-3-Clause */
/* Where the time of a plan's runs goes. Measured only for a caller that asks for it: a clock reading after every stretch
 * of steps, on the thread that shares the work out. */
#ifndef ANM_PLAN_TIMES_H
#define ANM_PLAN_TIMES_H

typedef enum anm_time_of {
    ANM_TIME_EMBEDDING,
    ANM_TIME_LINEARS,   /* but for the head's */
    ANM_TIME_ATTENTION, /* scores, softmax and values */
    ANM_TIME_ROWS,      /* what treats each row alone: norms, rotations, rounding to the linears' integers */
    ANM_TIME_HEAD,      /* the linear that makes the logits */
    ANM_TIME_COUNT,
} anm_time_of;

typedef struct anm_plan_times {
    double (*now)(void); /* in seconds; never goes back */
    double last;         /* its latest reading */
    double seconds[ANM_TIME_COUNT];
    double *stage; /* the same by stage (plan/report.h), or NULL; the caller's */
} anm_plan_times;

#endif
