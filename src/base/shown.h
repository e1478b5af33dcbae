/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Text out of a file on its way to people. A terminal obeys control characters, so those of a stranger's name could
 * rename the window, overwrite what stands above or answer in the user's place: they are shown, byte by byte, as "\xNN",
 * and so is what is no text. These are C0, DEL, C1 (which UTF-8 spells C2 80 … C2 9F), bytes that are not UTF-8, and the
 * characters that turn what follows them around or begin a line (U+2028 to 202E, U+2066 to 2069), which let a name read
 * as another one (Unicode TR 36).
 */
#ifndef ANM_BASE_SHOWN_H
#define ANM_BASE_SHOWN_H

#include "base/buf.h"

#include <stdio.h>

/* How many bytes of s[0, n), n >= 1, its first character has; *hidden: each of them is to be shown as "\xNN". */
size_t anm_shown_next(const char *s, size_t n, bool *hidden);

/* Appends s[0, n) as it may be shown: on one line, whatever is in it. */
void anm_shown_put(anm_buf *to, const char *s, size_t n);

/* As anm_shown_put, into a stream; the control characters among `keep` go out as they are (line ends, for text of many
 * lines). */
void anm_shown_write(FILE *to, const char *s, size_t n, const char *keep);

#endif
