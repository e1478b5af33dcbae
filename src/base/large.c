/* SPDX-License-Identifier: BSD-3-Clause */
#include "base/large.h"
#include "base/bytes.h"

#include <stdlib.h>
#if defined(__linux__)
#include <sys/mman.h>
#endif

enum { ALIGN = 64, HUGE_PAGE = 2 << 20 };

void *anm_large_new(size_t n, uint8_t **start)
{
    size_t align = n >= HUGE_PAGE ? HUGE_PAGE : ALIGN, size;
    if (!anm_add_size(n, align, &size)) return NULL;
    void *p = calloc(1, size);
    if (!p) return NULL;
    *start = (uint8_t *)(((uintptr_t)p + align - 1) & ~(uintptr_t)(align - 1));
#if defined(__linux__)
    if (n >= HUGE_PAGE) (void)madvise(*start, n, MADV_HUGEPAGE);
#endif
    return p;
}
