/* SPDX-License-Identifier: BSD-3-Clause */
/* Memory for what is read from one end to the other: weights. */
#ifndef ANM_BASE_LARGE_H
#define ANM_BASE_LARGE_H

#include <stddef.h>
#include <stdint.h>

/* Zeroed memory, in large pages where the system has them: with small ones the processor does not read ahead far enough,
 * and half the time of filling it goes into page faults. Free the result; the aligned bytes (to 64, or to a page) begin
 * at *start. NULL: no memory. */
void *anm_large_new(size_t n, uint8_t **start);

#endif
