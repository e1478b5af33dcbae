/* SPDX-License-Identifier: BSD-3-Clause */
#include "cli/text.h"
#include "base/map.h"
#include "token/token.h"

#include <stdlib.h>
#include <string.h>

/* Where the text stops being UTF-8, or n. Overlong forms, surrogates and values past U+10FFFF are none. */
static size_t utf8_until(const uint8_t *s, size_t n)
{
    static const uint32_t least[] = {0, 0x80, 0x800, 0x10000};
    for (size_t i = 0; i < n;) {
        size_t more = s[i] < 0x80 ? 0 : s[i] >> 5 == 6 ? 1 : s[i] >> 4 == 14 ? 2 : s[i] >> 3 == 30 ? 3 : n;
        if (more >= n - i) return i;
        uint32_t c = more ? s[i] & (0x3fu >> more) : s[i];
        for (size_t k = 1; k <= more; k++) {
            if (s[i + k] >> 6 != 2) return i;
            c = c << 6 | (s[i + k] & 0x3f);
        }
        if (c < least[more] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000)) return i;
        i += more + 1;
    }
    return n;
}

int cli_text_windows(int32_t **tokens, size_t *windows, const cli_text *t, anm_error *err)
{
    anm_map map = {0};
    anm_tokenizer *tok = NULL;
    int32_t *ids = NULL;
    const char *name = t->path ? t->path : "the text";
    size_t n = 0, own = t->window - (t->bos ? 1 : 0);
    *tokens = NULL;
    int rc = anm_tokenizer_open(&tok, t->tokenizer, t->config, err);
    if (!rc && t->path) rc = anm_map_open(&map, t->path, err);
    if (rc) goto done;
    const char *data = t->path ? (const char *)map.data : t->data;
    size_t size = t->path ? (size_t)map.size : t->size, good = utf8_until((const uint8_t *)data, size);
    if (good < size) {
        rc = anm_fail_at(err, ANM_ERR_FORMAT, good, "%s: is not UTF-8 from byte %zu on; convert it first", name, good);
        goto done;
    }
    if (t->bos && anm_tokenizer_bos(tok) < 0) {
        rc = anm_fail(err, ANM_ERR_USAGE, "%s: this tokenizer has no BOS token; leave --bos out", t->tokenizer);
        goto done;
    }
    if ((rc = anm_tokenizer_encode(&ids, &n, tok, data, size, false, err))) goto done;
    *windows = n / own > t->skip ? n / own - t->skip : 0;
    if (t->most && *windows > t->most) *windows = t->most;
    if (!*windows) {
        rc = t->skip ? anm_fail(err, ANM_ERR_LIMIT, "%s: holds %zu tokens, no more than the %zu windows of %zu that are skipped", name, n, t->skip, t->window)
                     : anm_fail(err, ANM_ERR_LIMIT, "%s: holds %zu tokens, less than one window of %zu", name, n, t->window);
        goto done;
    }
    *tokens = malloc(*windows * t->window * sizeof **tokens);
    if (!*tokens) {
        rc = anm_fail_memory(err, "tokens");
        goto done;
    }
    for (size_t w = 0; w < *windows; w++) {
        int32_t *to = *tokens + w * t->window;
        if (t->bos) *to++ = anm_tokenizer_bos(tok);
        memcpy(to, ids + (w + t->skip) * own, own * sizeof *to);
    }
done:
    free(ids);
    anm_map_close(&map);
    anm_tokenizer_free(tok);
    return rc;
}
