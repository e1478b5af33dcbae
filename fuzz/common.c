/* SPDX-License-Identifier: BSD-3-Clause */
#include "fuzz.h"

#include "mil/mil.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char path[72];

static void forget(void)
{
    unlink(path);
}

static const char *folder(void)
{
    return access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
}

const char *fuzz_file(const uint8_t *data, size_t size, const char *ending)
{
    if (!path[0]) {
        snprintf(path, sizeof path, "%s/anemone-fuzz-%ld%s", folder(), (long)getpid(), ending);
        atexit(forget);
    }
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(data, 1, size, f) != size || fclose(f)) {
        perror(path);
        abort();
    }
    return path;
}

static volatile uint8_t seen; /* keeps the reads */

void fuzz_read(const void *data, uint64_t n)
{
    const uint8_t *p = data;
    uint8_t sum = 0;
    for (uint64_t i = 0; i < n; i++) sum ^= p[i];
    seen = sum;
}

void fuzz_read_string(const char *s)
{
    fuzz_read(s, strlen(s));
}

static void read_value(const anm_mil_value *v)
{
    char type[128];
    fuzz_read_string(v->name);
    fuzz_read_string(anm_mil_type_print(&v->type, type, sizeof type));
    if (v->constant && v->constant->data) fuzz_read(v->constant->data, v->constant->size);
}

void fuzz_read_program(const anm_mil_program *p)
{
    for (const anm_mil_function *fn = p->functions; fn; fn = fn->next) {
        fuzz_read_string(fn->name);
        for (uint32_t i = 0; i < fn->n_inputs; i++) read_value(fn->inputs[i]);
        for (uint32_t i = 0; i < fn->n_outputs; i++) read_value(fn->outputs[i]);
        for (const anm_mil_op *op = fn->first; op; op = op->next) {
            for (uint32_t i = 0; i < op->n_args; i++)
                for (uint32_t k = 0; k < op->args[i].count; k++) read_value(op->args[i].value[k]);
            for (uint32_t i = 0; i < op->n_outs; i++) read_value(op->outs[i]);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (fuzz_bounded) fuzz_limit(size);
    fuzz_one(data, size);
    fuzz_limit_end();
    return 0;
}

#if defined(ANM_LIBFUZZER)

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed);

/* Half of the changes are libFuzzer's own; the others know what they change. */
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed)
{
    uint64_t state = 0x9e3779b97f4a7c15u ^ (uint64_t)seed << 8;
    if (seed % 2 || !size) return LLVMFuzzerMutate(data, size, max);
    FUZZ_SPOIL(data, size, &state);
    return size;
}

#endif
