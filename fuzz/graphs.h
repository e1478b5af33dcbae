/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Methods made of random choices: graphs of a decoder's shape, each part in one of the forms that programs in the field
 * have, then perhaps a few changes that care for nothing but that the graph still verifies.
 */
#ifndef ANM_FUZZ_GRAPHS_H
#define ANM_FUZZ_GRAPHS_H

#include "plan/method.h"

#include <stddef.h>

/* Choices, read from the fuzzer's bytes; the first of every list when none are left. */
typedef struct fuzz_dice {
    const uint8_t *at;
    size_t left;
} fuzz_dice;

unsigned fuzz_pick(fuzz_dice *d, unsigned n); /* below n, which is 1 … 256 */

enum { FUZZ_LAYERS = 2, FUZZ_FLOATS = 256, FUZZ_POSITIONS = 16 };

typedef struct fuzz_graph {
    anm_mil_program program;
    anm_method method; /* of the program's one function */
    anm_kv_io kv[FUZZ_LAYERS];
    anm_dtype type; /* of all floats */
    float *cos, *sin; /* [FUZZ_POSITIONS][method.table_width] */
    struct {
        uint8_t *data;
        uint64_t count;
    } floats[FUZZ_FLOATS]; /* the constants of that type: weights, scales, biases, … */
    size_t n_floats;
} fuzz_graph;

/* False where the choices make no valid method. Free it in both cases. */
bool fuzz_graph_make(fuzz_graph *g, fuzz_dice *d);
void fuzz_graph_free(fuzz_graph *g);

/* Moves every float of the program a little, as rounding might: about 2^-17 of it, or a step where it is fp16. */
void fuzz_graph_shake(fuzz_graph *g);

#endif
