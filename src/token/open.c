/* SPDX-License-Identifier: BSD-3-Clause */
/* Which format is it? Found by looking into the file. */
#include "base/map.h"
#include "token/tok.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* A line of base64, a space, a number: the start of tiktoken's list. */
static bool looks_like_tiktoken(const uint8_t *p, uint64_t n)
{
    uint64_t i = 0;
    while (i < n && i < 4096 && p[i] > ' ' && p[i] < 0x7F) i++;
    return i && i + 1 < n && p[i] == ' ' && p[i + 1] >= '0' && p[i + 1] <= '9';
}

static bool looks_like_json(const uint8_t *p, uint64_t n)
{
    uint64_t i = 0;
    if (n >= 3 && memcmp(p, "\xEF\xBB\xBF", 3) == 0) i = 3;
    while (i < n && (p[i] == ' ' || p[i] == '\n' || p[i] == '\r' || p[i] == '\t')) i++;
    return i < n && p[i] == '{';
}

static int open_bytes(anm_tokenizer **out, const uint8_t *data, uint64_t size, const char *path, const char *config,
                      anm_error *err)
{
    (void)config;
    (void)path;
    if (looks_like_json(data, size)) return anm_fail(err, ANM_ERR_UNSUPPORTED, "JSON");
    if (looks_like_tiktoken(data, size)) return anm_tiktoken_open(out, data, size, err);
    return anm_spm_open(out, data, size, err);
}

int anm_tokenizer_open(anm_tokenizer **out, const char *path, const char *config, anm_error *err)
{
    anm_map map;
    *out = NULL;
    int rc = anm_map_open(&map, path, err);
    if (rc) return rc;
    rc = open_bytes(out, map.data, map.size, path, config, err);
    anm_map_close(&map);
    return rc ? anm_error_prefix(err, path) : 0;
}
