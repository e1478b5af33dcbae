/* SPDX-License-Identifier: BSD-3-Clause */
#include "fuzz.h"

#include "ckpt/gguf.h"

#include <string.h>

/* Everything that a caller may ask of a file that was accepted. */
static void read_all(const anm_gguf *g)
{
    char key[96], text[96];
    for (size_t i = 0; i < anm_gguf_key_count(g); i++) {
        int64_t whole;
        double real;
        const char *s;
        size_t n;
        anm_gguf_key(g, i, key, sizeof key, text, sizeof text);
        anm_gguf_int(g, key, &whole);
        anm_gguf_float(g, key, &real);
        anm_gguf_string(g, key, &s, &n);
        if (!anm_gguf_array(g, key, &n) || !n) continue;
        anm_gguf_array_string(g, key, n - 1, &s, &n);
        anm_gguf_array_int(g, key, 0, &whole);
        anm_gguf_array_float(g, key, 0, &real);
    }
    for (size_t i = 0; i < anm_gguf_tensor_count(g); i++) {
        const anm_tensor *t = anm_gguf_tensor(g, i);
        float row[512];
        if (t->rank < 1 || t->rank > 2 || t->shape[t->rank - 1] > 512) continue;
        anm_tensor_rows_f32(row, t, t->rank == 2 ? t->shape[0] - 1 : 0, 1, NULL);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    anm_gguf *g = NULL;
    anm_error err;
    if (anm_gguf_parse(&g, data, size, "fuzz.gguf", &err) == 0) {
        read_all(g);
        anm_gguf_free(g);
    }
    return 0;
}
