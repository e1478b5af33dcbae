/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Text as it is made: tokens bring bytes, perhaps parts of characters; out come whole UTF-8 characters, and
 * nothing of the stop text that comes first, however it is spread over tokens. Bytes that cannot become UTF-8 become U+FFFD, one
 * for each maximal part of a character (as Unicode recommends, and as decoders of web pages do).
 */
#ifndef ANM_RUN_STREAM_H
#define ANM_RUN_STREAM_H

#include "base/buf.h"

typedef struct anm_stream {
    const char *const *stop; /* [n_stop] texts, each of which ends all; "" never comes */
    size_t n_stop;
    bool stopped;     /* one was seen: what follows is dropped */
    anm_buf ready;    /* to be shown; the caller empties it (ready.size = 0) */
    anm_buf held;     /* whole characters that may begin a stop text */
    uint8_t part[4];  /* the beginning of a character */
    unsigned n_part;
} anm_stream;

/* Begin with a zeroed struct and `stop` set; or, for a new text, from one that anm_stream_restart made so. */
void anm_stream_push(anm_stream *s, const char *bytes, size_t n);
void anm_stream_end(anm_stream *s); /* nothing follows: what was held back is ready */
void anm_stream_restart(anm_stream *s);
void anm_stream_free(anm_stream *s);

#endif
