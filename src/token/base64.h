/* SPDX-License-Identifier: BSD-3-Clause */
/* Base64 (RFC 4648, section 4), as the lists of tokens use it. */
#ifndef ANM_TOKEN_BASE64_H
#define ANM_TOKEN_BASE64_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Decodes n characters, padding included, into out (room for n / 4 * 3 bytes). False: not base64. */
static inline bool anm_base64_decode(uint8_t *out, size_t *size, const char *p, size_t n)
{
    size_t pad = n >= 1 && p[n - 1] == '=' ? n >= 2 && p[n - 2] == '=' ? 2 : 1 : 0;
    uint32_t bits = 0;
    *size = 0;
    if (!n || n % 4) return false;
    for (size_t i = 0; i < n; i++) {
        char c = p[i];
        uint32_t v;
        if (c >= 'A' && c <= 'Z') v = (uint32_t)(c - 'A');
        else if (c >= 'a' && c <= 'z') v = (uint32_t)(c - 'a' + 26);
        else if (c >= '0' && c <= '9') v = (uint32_t)(c - '0' + 52);
        else if (c == '+') v = 62;
        else if (c == '/') v = 63;
        else if (c == '=' && i + pad >= n) v = 0;
        else return false;
        bits = bits << 6 | v;
        if (i % 4 < 3) continue;
        size_t whole = i + 1 == n ? 3 - pad : 3;
        for (size_t k = 0; k < whole; k++) out[(*size)++] = (uint8_t)(bits >> (16 - 8 * k));
        bits = 0;
    }
    return true;
}

#endif
