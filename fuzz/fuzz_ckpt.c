/* SPDX-License-Identifier: BSD-3-Clause */
/* A checkpoint file of any format (.pth, safetensors, GGUF), and the model that it would make. */
#include "fuzz.h"

#include "ckpt/gguf.h"
#include "model/model.h"

enum { WIDTH = 4096 };

static void read_tensors(const anm_ckpt *c)
{
    static float row[WIDTH];
    for (size_t i = 0; i < anm_ckpt_count(c, 0) && i < 200; i++) {
        const anm_tensor *t = anm_ckpt_at(c, 0, i);
        fuzz_read_string(t->name);
        fuzz_read(t->data, t->size);
        if (t->rank < 1 || t->shape[t->rank - 1] > WIDTH) continue; /* of more than two it is refused */
        anm_tensor_rows_f32(row, t, t->rank == 2 ? t->shape[0] - 1 : 0, 1, NULL);
        if (t->rank == 2 && t->shape[0] > 1 && t->shape[1] <= WIDTH / 2) anm_tensor_rows_f32(row, t, t->shape[0] - 2, 2, NULL);
        anm_ckpt_find(c, 0, t->name);
    }
}

/* Everything that a caller may ask of the metadata. */
static void read_metadata(const anm_gguf *g)
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
        if (anm_gguf_string(g, key, &s, &n)) fuzz_read(s, n);
        if (!anm_gguf_array(g, key, &n) || !n) continue;
        if (anm_gguf_array_string(g, key, n - 1, &s, &n)) fuzz_read(s, n);
        anm_gguf_array_int(g, key, 0, &whole);
        anm_gguf_array_float(g, key, 0, &real);
    }
}

const bool fuzz_bounded = true;

void fuzz_one(const uint8_t *data, size_t size)
{
    anm_ckpt *c = NULL;
    anm_model *m = NULL;
    anm_error err;
    if (!size || anm_ckpt_open(&c, fuzz_file(data, size, ""), &err)) return;
    read_tensors(c);
    if (anm_ckpt_gguf(c)) read_metadata(anm_ckpt_gguf(c));
    if (anm_model_open(&m, c, NULL, &err) == 0) {
        float row[WIDTH];
        if (m->norm.cols <= WIDTH) anm_matrix_rows_f32(row, &m->norm, 0, 1, &err);
        anm_model_free(m);
    }
    anm_ckpt_close(c);
}
