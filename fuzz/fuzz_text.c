/* SPDX-License-Identifier: BSD-3-Clause */
/* Text through tokenizers that stay the same. The first byte of the input chooses the tokenizer and whether special
 * tokens are read; the rest is the text. Those that know every byte must give valid UTF-8 back as it was. */
#include "fuzz.h"

#include "base/utf8.h"
#include "token/token.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *path;
    bool whole; /* every byte has a token */
} files[] = {
    {ANM_ROOT "/models/tiny/tiny.gguf", true},
    {ANM_ROOT "/fuzz/seeds/tiktoken/small.model", true},
    {ANM_ROOT "/fuzz/seeds/gguf_token/small.gguf", false},
};
enum { FILES = sizeof files / sizeof *files };

static const anm_tokenizer *tokenizer(unsigned i)
{
    static anm_tokenizer *open[FILES];
    anm_error err;
    if (!open[i] && anm_tokenizer_open(&open[i], files[i].path, NULL, &err)) {
        fprintf(stderr, "%s\n", err.text);
        abort();
    }
    return open[i];
}

/* RFC 3629: no overlong forms, no surrogates, nothing past U+10FFFF. */
static bool is_utf8(const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n;) {
        uint32_t c = p[i], least = c < 0x80 ? 0 : c < 0xe0 ? 0x80 : c < 0xf0 ? 0x800 : 0x10000;
        size_t more = c < 0x80 ? 0 : c >= 0xc0 && c < 0xe0 ? 1 : c >= 0xe0 && c < 0xf0 ? 2 : c >= 0xf0 && c < 0xf8 ? 3 : 9;
        if (more == 9 || more >= n - i) return false;
        if (more) c &= 0x3fu >> more;
        for (size_t k = 1; k <= more; k++) {
            if ((p[i + k] & 0xc0) != 0x80) return false;
            c = c << 6 | (p[i + k] & 0x3fu);
        }
        if (c < least || c > 0x10ffff || (c >= 0xd800 && c < 0xe000)) return false;
        i += more + 1;
    }
    return true;
}

const bool fuzz_bounded = false; /* but for the tokenizers, which stay */

void fuzz_one(const uint8_t *data, size_t size)
{
    if (!size) return;
    unsigned which = data[0] % FILES;
    const anm_tokenizer *t = tokenizer(which);
    const char *text = (const char *)data + 1;
    int32_t *ids;
    size_t count, n = size - 1, back_n;
    char *back;
    anm_error err;
    /* What is encoded is valid text: a byte that is not has become U+FFFD, of three. */
    size_t valid = 1;
    int bad;
    for (size_t i = 0, len; i < n; i += len) {
        len = anm_utf8_check(text + i, n - i, &bad);
        valid += bad ? 3 : len;
    }
    fuzz_limit(valid);
    if (anm_tokenizer_encode(&ids, &count, t, text, n, data[0] & 0x80, &err)) return;
    for (size_t i = 0; i < count; i++)
        if (ids[i] < 0 || ids[i] >= anm_tokenizer_size(t)) abort();
    if (anm_tokenizer_decode(&back, &back_n, t, ids, count, true, &err) == 0) {
        if (files[which].whole && is_utf8(data + 1, n) && (back_n != n || memcmp(back, text, n))) abort();
        free(back);
    }
    free(ids);
}
