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

int anm_tokenizer_open(anm_tokenizer **out, const char *path, const char *config, anm_error *err)
{
    anm_map map;
    (void)config;
    *out = NULL;
    int rc = anm_map_open(&map, path, err);
    if (rc) return rc;
    if (map.size >= 4 && memcmp(map.data, "GGUF", 4) == 0) {
        rc = anm_gguf_tokenizer_open(out, map.data, map.size, path, err); /* its errors name the file */
    } else {
        if (looks_like_json(map.data, map.size)) rc = anm_fail(err, ANM_ERR_UNSUPPORTED, "JSON");
        else if (looks_like_tiktoken(map.data, map.size)) rc = anm_tiktoken_open(out, map.data, map.size, err);
        else rc = anm_spm_open(out, map.data, map.size, err);
        if (rc) anm_error_prefix(err, path);
    }
    anm_map_close(&map);
    return rc;
}
