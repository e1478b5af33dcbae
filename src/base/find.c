/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Two-way string matching (Crochemore and Perrin, Journal of the ACM 38, 1991). What is sought is cut in two where its
 * local period is that of the whole; the right part is compared from left to right, then the left part from right to
 * left. A mismatch in the right part moves past it, one in the left part by the period, and no byte is read more than
 * twice.
 */
#include "base/find.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* Where the largest suffix of w begins, in the order of bytes or the reverse one; and that suffix' period. */
static size_t largest_suffix(const uint8_t *w, size_t m, bool reverse, size_t *period)
{
    size_t best = 0, other = 1, same = 0; /* the two suffixes that are compared, and how far they are equal */
    *period = 1;
    while (other + same < m) {
        uint8_t a = w[best + same], b = w[other + same];
        if (a == b) {
            if (++same < *period) continue;
            other += *period;
        } else if ((b < a) != reverse) {
            other += same + 1;
            *period = other - best;
        } else {
            best = other++;
            *period = 1;
        }
        same = 0;
    }
    return best;
}

const char *anm_find(const char *text, size_t n, const char *what, size_t m)
{
    if (!m) return text;
    if (m > n) return NULL;
    const char *first = memchr(text, what[0], n - m + 1); /* most searches end here, or find it here */
    if (!first || m == 1) return first;
    n -= (size_t)(first - text);

    const uint8_t *t = (const uint8_t *)first, *w = (const uint8_t *)what;
    size_t period, other_period, cut = largest_suffix(w, m, false, &period), other = largest_suffix(w, m, true, &other_period);
    if (other > cut) {
        cut = other;
        period = other_period;
    }
    size_t kept = 0, known = 0; /* what is still known to be equal after a move by the period, now and where it is */
    if (memcmp(w, w + period, cut) == 0) kept = m - period;
    else period = (cut > m - cut ? cut : m - cut) + 1; /* not the period, but no match is nearer than this */
    for (size_t at = 0; at <= n - m;) {
        size_t i = cut > known ? cut : known;
        while (i < m && w[i] == t[at + i]) i++;
        if (i < m) {
            at += i - cut + 1;
            known = 0;
            continue;
        }
        for (i = cut; i > known && w[i - 1] == t[at + i - 1];) i--;
        if (i <= known) return first + at;
        at += period;
        known = kept;
    }
    return NULL;
}
