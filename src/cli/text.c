/* SPDX-License-Identifier: BSD-3-Clause */
#include "cli/text.h"
#include "base/map.h"
#include "token/token.h"
#include "base/utf8.h"

#include <stdlib.h>
#include <string.h>

/* Which window of the `all` behind the skipped ones is the i-th: the first `most`, or evenly taken; of those that are held
 * out, the others counted through. */
static size_t pick(const cli_text *t, size_t i, size_t windows, size_t all)
{
    if (!t->spread) return i;
    if (!t->held_out) return i * all / windows;
    size_t nth = i * (all - t->most) / windows, taken = 0;
    for (size_t w = 0;; w++) {
        if (taken < t->most && w == taken * all / t->most) taken++;
        else if (!nth--) return w;
    }
}

int cli_tokenizer_fits(const char *tokenizer, int64_t vocabulary, const char *model, int64_t rows, anm_error *err)
{
    int64_t pad = rows / 32 > 1024 ? rows / 32 : 1024;
    if (vocabulary <= rows && vocabulary >= rows - pad) return 0;
    return anm_fail(err, ANM_ERR_LIMIT, "%s: its vocabulary of %lld tokens does not fit the model's of %lld (%s)", tokenizer,
                    (long long)vocabulary, (long long)rows, model);
}

/* How many windows are taken of a text of n tokens, which holds *all behind those that are skipped. */
static int count_windows(size_t *out, size_t *all, const cli_text *t, const char *name, size_t n, anm_error *err)
{
    const size_t whole = n / (t->window - (t->bos ? 1 : 0));
    size_t windows = *all = whole > t->skip ? whole - t->skip : 0;
    if (t->most && windows > t->most) windows = t->most;
    if (t->held_out) {
        windows = *all > t->most ? *all - t->most : 0;
        if (windows > t->held_out) windows = t->held_out;
    }
    *out = windows;
    if (windows) return 0;
    if (t->held_out) return anm_fail(err, ANM_ERR_LIMIT, "%s: all its %zu windows are calibrated on, none is left to judge by", name, *all);
    if (t->skip)
        return anm_fail(err, ANM_ERR_LIMIT, "%s: holds %zu tokens, no more than the %zu windows of %zu that are skipped", name, n, t->skip, t->window);
    return anm_fail(err, ANM_ERR_LIMIT, "%s: holds %zu tokens, less than one window of %zu", name, n, t->window);
}

int cli_text_windows(cli_windows *out, const cli_text *t, anm_error *err)
{
    anm_map map = {0};
    anm_tokenizer *tok = NULL;
    int32_t *ids = NULL;
    const char *name = t->path ? t->path : "the text";
    size_t n = 0, own = t->window - (t->bos ? 1 : 0), windows, all;
    *out = (cli_windows){0};
    int rc = anm_tokenizer_open(&tok, t->tokenizer, t->config, err);
    if (!rc && t->path) rc = anm_map_open(&map, t->path, err);
    if (rc) goto done;
    const char *data = t->path ? (const char *)map.data : t->data;
    size_t size = t->path ? (size_t)map.size : t->size, good = anm_utf8_valid(data, size);
    if (good < size) {
        rc = anm_fail_at(err, ANM_ERR_FORMAT, good, "%s: is not UTF-8 from byte %zu on; convert it first", name, good);
        goto done;
    }
    if (t->bos && anm_tokenizer_bos(tok) < 0) {
        rc = anm_fail(err, ANM_ERR_USAGE, "%s: this tokenizer has no BOS token; leave --bos out", t->tokenizer);
        goto done;
    }
    if ((rc = anm_tokenizer_encode(&ids, &n, tok, data, size, false, err))) goto done;
    if ((rc = count_windows(&windows, &all, t, name, n, err))) goto done;
    int32_t *to = malloc(windows * t->window * sizeof *to);
    if (!to) {
        rc = anm_fail_memory(err, "tokens");
        goto done;
    }
    *out = (cli_windows){to, windows, anm_tokenizer_size(tok)};
    for (size_t w = 0; w < windows; w++, to += own) {
        if (t->bos) *to++ = anm_tokenizer_bos(tok);
        memcpy(to, ids + (pick(t, w, windows, all) + t->skip) * own, own * sizeof *to);
    }
done:
    free(ids);
    anm_map_close(&map);
    anm_tokenizer_free(tok);
    return rc;
}
