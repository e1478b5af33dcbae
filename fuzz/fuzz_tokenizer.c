/* SPDX-License-Identifier: BSD-3-Clause */
/* A tokenizer file of any format, then a few words through it and back. */
#include "fuzz.h"

#include "token/token.h"

#include <stdlib.h>

static const char words[] = "The fox's 3 dens, d\xc3\xa9j\xc3\xa0 vu: \xe4\xbd\xa0\xe5\xa5\xbd \xe1\xbb\x87 \xf0\x9f\x98\x80\n\n  <|end|>\xff</s> ";

static void use(const anm_tokenizer *t)
{
    int32_t *ids, n = anm_tokenizer_size(t);
    size_t count, bytes;
    const char *piece;
    char *text;
    anm_error err;
    for (int special = 0; special < 2; special++) {
        if (anm_tokenizer_encode(&ids, &count, t, words, sizeof words - 1, special, &err)) continue;
        for (size_t i = 0; i < count; i++)
            if (ids[i] < 0 || ids[i] >= n) abort();
        if (anm_tokenizer_decode(&text, &bytes, t, ids, count, special, &err) == 0) {
            fuzz_read(text, bytes);
            free(text);
        }
        free(ids);
    }
    for (int32_t id = 0; id < n && id < 1000; id++) {
        anm_tokenizer_piece(&piece, &bytes, t, id, true);
        fuzz_read(piece, bytes);
        anm_tokenizer_is_stop(t, id);
    }
}

const bool fuzz_bounded = true;

void fuzz_one(const uint8_t *data, size_t size)
{
    anm_tokenizer *t = NULL;
    anm_error err;
    if (!size || anm_tokenizer_open(&t, fuzz_file(data, size, ""), NULL, &err)) return;
    use(t);
    anm_tokenizer_free(t);
}
