/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * An engine for tests, linked in the real one's place: a toy model, computed at once and exactly, whose every
 * answer depends on all tokens and positions that a row may see, in two layers, as a transformer's does. A
 * row that was computed in a wrong place, sees one too many or too few, or is cached though it should not be,
 * changes all answers after it. Most next tokens follow from the last one alone, so that the text is
 * repetitive.
 *
 * The "file" says what it is: "vocab=50 context=64 cache=48 input=16 multi=0 all=1", and perhaps "layers=1":
 * then a row depends on the tokens and positions that it sees, and not on what they were computed from.
 * Whatever breaks engine.h's contract stops the test.
 */
#ifndef ANM_TEST_FAKE_ENGINE_H
#define ANM_TEST_FAKE_ENGINE_H

#include "anemone.h"

#include <stdio.h>

/* The common kinds of file: a single-method one, whose cache and window make the context, and a multifunction
 * one. */
static inline void fake_single(char *path, size_t n, int vocab, int context, int input)
{
    snprintf(path, n, "vocab=%d context=%d cache=%d input=%d multi=0 all=1", vocab, context, context - input,
             input);
}
static inline void fake_multi(char *path, size_t n, int vocab, int context, int input, int all)
{
    snprintf(path, n, "vocab=%d context=%d cache=%d input=%d multi=1 all=%d", vocab, context, context - 1,
             input, all);
}

#endif
