/* SPDX-License-Identifier: BSD-3-Clause */
/* Where one text stands in another. As memmem, which not every system has, and which some do in quadratic time. */
#ifndef ANM_BASE_FIND_H
#define ANM_BASE_FIND_H

#include <stddef.h>

/* The first place of what[0 … m) in text[0 … n), or NULL; the empty text is everywhere. Takes time in proportion to
 * n + m whatever the two say, and no memory. */
const char *anm_find(const char *text, size_t n, const char *what, size_t m);

#endif
