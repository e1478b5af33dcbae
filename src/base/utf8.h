/* SPDX-License-Identifier: BSD-3-Clause */
/* UTF-8 (RFC 3629): walking valid text, and finding what is not valid. */
#ifndef ANM_BASE_UTF8_H
#define ANM_BASE_UTF8_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define ANM_UTF8_REPLACEMENT "\xEF\xBF\xBD" /* U+FFFD */

/* Bytes of the character that begins with `lead`, in valid text. */
static inline size_t anm_utf8_len(char lead)
{
    uint8_t b = (uint8_t)lead;
    return b < 0x80 ? 1 : b < 0xE0 ? 2 : b < 0xF0 ? 3 : 4;
}

/* The character at p, in valid text. */
static inline uint32_t anm_utf8_at(const char *p)
{
    const uint8_t *b = (const uint8_t *)p;
    switch (anm_utf8_len(*p)) {
    case 1: return b[0];
    case 2: return (b[0] & 0x1Fu) << 6 | (b[1] & 0x3Fu);
    case 3: return (b[0] & 0x0Fu) << 12 | (b[1] & 0x3Fu) << 6 | (b[2] & 0x3Fu);
    default: return (b[0] & 0x07u) << 18 | (b[1] & 0x3Fu) << 12 | (b[2] & 0x3Fu) << 6 | (b[3] & 0x3Fu);
    }
}

/* Where the character before text[at] begins, in valid text; at > 0. */
static inline size_t anm_utf8_before(const char *text, size_t at)
{
    do at--;
    while (at && ((uint8_t)text[at] & 0xC0) == 0x80);
    return at;
}

/* Writes character c (a scalar value) and gives the number of bytes. */
static inline size_t anm_utf8_put(char out[4], uint32_t c)
{
    uint8_t *b = (uint8_t *)out;
    if (c < 0x80) {
        b[0] = (uint8_t)c;
        return 1;
    }
    if (c < 0x800) {
        b[0] = (uint8_t)(0xC0 | c >> 6);
        b[1] = (uint8_t)(0x80 | (c & 0x3F));
        return 2;
    }
    if (c < 0x10000) {
        b[0] = (uint8_t)(0xE0 | c >> 12);
        b[1] = (uint8_t)(0x80 | (c >> 6 & 0x3F));
        b[2] = (uint8_t)(0x80 | (c & 0x3F));
        return 3;
    }
    b[0] = (uint8_t)(0xF0 | c >> 18);
    b[1] = (uint8_t)(0x80 | (c >> 12 & 0x3F));
    b[2] = (uint8_t)(0x80 | (c >> 6 & 0x3F));
    b[3] = (uint8_t)(0x80 | (c & 0x3F));
    return 4;
}

/* Looks at the character that begins at p[0], n >= 1 bytes left. Valid: its length, and *bad = 0. Invalid: the length
 * of the maximal subpart (Unicode, section 3.9: what one U+FFFD replaces), and *bad = 1. */
static inline size_t anm_utf8_check(const char *text, size_t n, int *bad)
{
    const uint8_t *p = (const uint8_t *)text;
    uint8_t lo = 0x80, hi = 0xBF, b = p[0];
    size_t more;
    *bad = 0;
    if (b < 0x80) return 1;
    *bad = 1;
    if (b >= 0xC2 && b <= 0xDF) more = 1;
    else if (b >= 0xE0 && b <= 0xEF) more = 2;
    else if (b >= 0xF0 && b <= 0xF4) more = 3;
    else return 1;
    if (b == 0xE0) lo = 0xA0; /* overlong */
    if (b == 0xED) hi = 0x9F; /* surrogates */
    if (b == 0xF0) lo = 0x90;
    if (b == 0xF4) hi = 0x8F; /* above U+10FFFF */
    for (size_t i = 1; i <= more; i++, lo = 0x80, hi = 0xBF)
        if (i >= n || p[i] < lo || p[i] > hi) return i;
    *bad = 0;
    return more + 1;
}

/* How many bytes at the start are valid (n: all). */
static inline size_t anm_utf8_valid(const char *p, size_t n)
{
    size_t i = 0;
    while (i < n) {
        uint64_t w;
        if (n - i >= 8) {
            memcpy(&w, p + i, 8);
            if (!(w & 0x8080808080808080u)) {
                i += 8;
                continue;
            }
        }
        int bad;
        size_t len = anm_utf8_check(p + i, n - i, &bad);
        if (bad) return i;
        i += len;
    }
    return n;
}

#endif
