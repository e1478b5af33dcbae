/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * GPT-2's way to spell bytes as printable characters (openai/gpt-2, src/encoder.py): bytes that print in Latin-1 are
 * themselves, the 68 others are U+0100 and on, in order.
 */
#ifndef ANM_TOKEN_BYTELEVEL_H
#define ANM_TOKEN_BYTELEVEL_H

#include "base/utf8.h"

#include <stdbool.h>

static inline bool anm_bytelevel_same(uint32_t c)
{
    return (c >= 0x21 && c <= 0x7E) || (c >= 0xA1 && c <= 0xAC) || (c >= 0xAE && c <= 0xFF);
}

/* The character that spells a byte. */
static inline uint32_t anm_bytelevel_char(uint8_t byte)
{
    if (anm_bytelevel_same(byte)) return byte;
    return 0x100u + (byte <= 0x20 ? byte : byte <= 0xA0 ? byte - 0x7Fu + 0x21 : 0x43);
}

/* The byte that a character spells, or -1. */
static inline int anm_bytelevel_byte(uint32_t c)
{
    if (anm_bytelevel_same(c)) return (int)c;
    if (c < 0x100 || c > 0x143) return -1;
    c -= 0x100;
    return (int)(c <= 0x20 ? c : c <= 0x42 ? c - 0x21 + 0x7F : 0xAD);
}

/* Turns a spelling of n bytes (valid UTF-8) into the bytes that it spells, out having room for n. False when it has a
 * character outside the alphabet. */
static inline bool anm_bytelevel_decode(char *out, size_t *size, const char *spell, size_t n)
{
    *size = 0;
    for (size_t i = 0; i < n; i += anm_utf8_len(spell[i])) {
        int b = anm_bytelevel_byte(anm_utf8_at(spell + i));
        if (b < 0) return false;
        out[(*size)++] = (char)b;
    }
    return true;
}

#endif
