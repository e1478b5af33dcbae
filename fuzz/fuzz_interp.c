/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What verifies may be run: MIL text, each of its functions interpreted. Whatever was left on the stack and the heap
 * meanwhile, a second run gives the same; so a result is made of what the program says and of nothing else.
 */
#include "fuzz.h"

#include "mil/mil.h"

#include <stdlib.h>
#include <string.h>

enum { MOST = 1024, MOST_TEXT = 1 << 14, MOST_PUTS = 16, UNKNOWN = 2 };

const bool fuzz_bounded = false;

/* Small numbers, of which some are 0 and some negative, so that they can be indices and lengths. */
static bool fill(anm_mil_array *a, const anm_mil_type *declared, uint32_t seed)
{
    int64_t n;
    *a = (anm_mil_array){.type = *declared};
    for (int i = 0; i < a->type.rank; i++)
        if (a->type.dim[i] == ANM_MIL_UNKNOWN_DIM) a->type.dim[i] = UNKNOWN;
    if (!anm_mil_type_count(&a->type, &n) || n > MOST || !(a->f = calloc((size_t)n + 1, sizeof *a->f))) return false;
    for (int64_t i = 0; i < n; i++) {
        int32_t number = (int32_t)((seed = seed * 1664525u + 1013904223u) >> 24) % 7 - 2;
        switch (anm_dtype_class(a->type.dtype)) {
        case 'f': a->f[i] = 0.5f * (float)number; break;
        case 'b': a->i[i] = number > 0; break;
        case 'u': a->i[i] = number < 0 ? 0 : number; break;
        default: a->i[i] = number;
        }
    }
    return true;
}

static void litter(int byte)
{
    volatile uint8_t stack[1 << 14];
    for (size_t i = 0; i < sizeof stack; i++) stack[i] = (uint8_t)byte;
    uint8_t *heap = malloc(MOST * 4);
    if (heap) memset(heap, byte, MOST * 4);
    free(heap);
}

static int run(anm_mil_array *out, const anm_mil_function *fn, const anm_mil_array *in, bool fp16, int byte)
{
    const anm_mil_interp_opts opts = {.round_fp16 = fp16, .most = MOST};
    anm_error err;
    litter(byte);
    return anm_mil_interp(out, fn, in, &opts, &err);
}

static void run_function(const anm_mil_function *fn, bool fp16)
{
    anm_mil_array in[MOST_PUTS], out[2][MOST_PUTS];
    memset(in, 0, sizeof in), memset(out, 0, sizeof out);
    bool ready = fn->n_inputs <= MOST_PUTS && fn->n_outputs <= MOST_PUTS;
    for (uint32_t i = 0; ready && i < fn->n_inputs; i++) ready = fill(&in[i], &fn->inputs[i]->type, i);
    if (ready) {
        int rc = run(out[0], fn, in, fp16, 0x55);
        if (rc != run(out[1], fn, in, fp16, 0xee)) abort();
        for (uint32_t i = 0; i < fn->n_outputs && !rc; i++) {
            int64_t n;
            if (!anm_mil_type_count(&out[0][i].type, &n) || !anm_mil_type_equal(&out[0][i].type, &out[1][i].type) ||
                memcmp(out[0][i].i, out[1][i].i, (size_t)n * 4))
                abort();
        }
        for (uint32_t i = 0; i < fn->n_outputs; i++) anm_mil_array_free(&out[0][i]), anm_mil_array_free(&out[1][i]);
    }
    for (uint32_t i = 0; i < MOST_PUTS; i++) anm_mil_array_free(&in[i]);
}

void fuzz_one(const uint8_t *data, size_t size)
{
    anm_mil_program p;
    anm_error err;
    if (size > MOST_TEXT) return;
    if (!anm_mil_parse(&p, (const char *)data, size, &err) && !anm_mil_verify(&p, true, &err))
        for (const anm_mil_function *fn = p.functions; fn; fn = fn->next) {
            run_function(fn, false);
            run_function(fn, true);
        }
    anm_mil_program_free(&p);
}
