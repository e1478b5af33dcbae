/* SPDX-License-Identifier: BSD-3-Clause */
/* Foreign bytes in messages: printable, and short. */
#ifndef ANM_CKPT_TEXT_H
#define ANM_CKPT_TEXT_H

#include <stddef.h>

/* Copies `n` bytes into out[room], '?' for what cannot be printed; what does not fit ends in "...".
 * 0-terminated. */
static inline const char *anm_show(char *out, size_t room, const void *bytes, size_t n)
{
    const unsigned char *s = bytes;
    size_t take = n < room ? n : room - 1;
    for (size_t i = 0; i < take; i++)
        out[i] = s[i] >= 0x20 && s[i] < 0x7f ? (char)s[i] : '?';
    if (take < n)
        for (size_t i = take > 3 ? take - 3 : 0; i < take; i++)
            out[i] = '.';
    out[take] = 0;
    return out;
}

#endif
