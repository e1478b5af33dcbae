/* SPDX-License-Identifier: BSD-3-Clause */
/* Which format is it? Found by looking into the file. */
#include "base/json.h"
#include "base/map.h"
#include "token/tok.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static bool is_gguf(const uint8_t *p, uint64_t n)
{
    return n >= 4 && memcmp(p, "GGUF", 4) == 0;
}

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

static int parse_json(json_t **out, const uint8_t *data, uint64_t size, anm_error *err)
{
    if (size >= 3 && memcmp(data, "\xEF\xBB\xBF", 3) == 0) {
        data += 3;
        size -= 3;
    }
    return anm_json_read(out, data, size, JSON_ALLOW_NUL, "is not valid JSON", err);
}

static int open_json(anm_tokenizer **out, const uint8_t *data, uint64_t size, anm_error *err)
{
    json_t *root;
    int rc = parse_json(&root, data, size, err);
    if (rc) return rc;
    if (json_is_object(json_object_get(root, "model"))) rc = anm_hf_open(out, root, size, err);
    else if (json_is_array(json_object_get(root, "vocab"))) rc = anm_tekken_open(out, root, size, err);
    else rc = anm_fail(err, ANM_ERR_FORMAT, "is JSON, but neither a tokenizer.json nor a tekken.json: it has no model and "
                                            "no vocab");
    json_decref(root);
    return rc;
}

/* ---- tokenizer_config.json ---- */

/* A token's id by a key whose value is its spelling, or an object with it. */
static int32_t token_of(const anm_tokenizer *t, const json_t *config, const char *key)
{
    const json_t *v = json_object_get(config, key);
    if (json_is_object(v)) v = json_object_get(v, "content");
    return json_is_string(v) ? anm_strmap_get(&t->by_spell, json_string_value(v), json_string_length(v)) : -1;
}

/* The template itself, or of several the one that is named "default". */
static const json_t *template_of(const json_t *config)
{
    const json_t *v = json_object_get(config, "chat_template");
    size_t i;
    json_t *item;
    if (json_is_string(v)) return v;
    json_array_foreach(v, i, item)
    {
        const char *name = json_string_value(json_object_get(item, "name"));
        if (name && strcmp(name, "default") == 0) return json_object_get(item, "template");
    }
    return NULL;
}

static int apply_config(anm_tokenizer *t, const json_t *config, anm_error *err)
{
    int32_t bos = token_of(t, config, "bos_token"), eos = token_of(t, config, "eos_token");
    const json_t *add = json_object_get(config, "add_bos_token"), *text = template_of(config);
    if (bos >= 0) t->bos = bos;
    if (eos >= 0) {
        t->eos = eos;
        t->piece[eos].flags |= ANM_PIECE_STOP;
    }
    if (json_is_boolean(add) && t->bos >= 0) t->add_bos = json_is_true(add);
    if (!json_is_string(text)) return 0;
    t->chat_template = anm_arena_strndup(&t->arena, json_string_value(text), json_string_length(text));
    return t->chat_template ? 0 : anm_fail_memory(err, "the chat template");
}

/* The path of the file `name` beside `path`; NULL when memory is out. */
static char *beside(const char *path, const char *name)
{
    const char *slash = strrchr(path, '/');
    size_t dir = slash ? (size_t)(slash - path) + 1 : 0, n = strlen(name);
    char *p = malloc(dir + n + 1);
    if (!p) return NULL;
    memcpy(p, path, dir);
    memcpy(p + dir, name, n + 1);
    return p;
}

/* Where it cannot be told, opening it will say why. */
static bool is_file(const char *path)
{
    struct stat st;
    if (stat(path, &st)) return errno != ENOENT && errno != ENOTDIR;
    return S_ISREG(st.st_mode) && st.st_size > 0;
}

static int read_config(anm_tokenizer *t, const char *path, anm_error *err)
{
    anm_map map;
    json_t *root = NULL;
    int rc = anm_map_open(&map, path, err);
    if (rc) return rc;
    rc = parse_json(&root, map.data, map.size, err);
    if (!rc && !json_is_object(root)) rc = anm_fail(err, ANM_ERR_FORMAT, "is not an object of JSON");
    if (!rc) rc = apply_config(t, root, err);
    json_decref(root);
    anm_map_close(&map);
    return rc ? anm_error_prefix(err, path) : 0;
}

/* Newer models keep their template in a file of its own. */
static int read_template(anm_tokenizer *t, const char *path, anm_error *err)
{
    anm_map map;
    int rc = anm_map_open(&map, path, err);
    if (rc) return rc;
    t->chat_template = anm_arena_strndup(&t->arena, (const char *)map.data, (size_t)map.size);
    if (!t->chat_template) rc = anm_fail_memory(err, path);
    anm_map_close(&map);
    return rc;
}

static int open_beside(anm_tokenizer *t, const char *path, const char *config, anm_error *err)
{
    char *own = beside(path, "tokenizer_config.json"), *text = beside(path, "chat_template.jinja");
    int rc = own && text ? 0 : anm_fail_memory(err, path);
    if (!rc && (config || is_file(own))) rc = read_config(t, config ? config : own, err);
    if (!rc && !t->chat_template && is_file(text)) rc = read_template(t, text, err);
    free(own);
    free(text);
    return rc;
}

int anm_tokenizer_parse(anm_tokenizer **out, const uint8_t *data, uint64_t size, const char *file, anm_error *err)
{
    int rc;
    *out = NULL;
    if (is_gguf(data, size)) return anm_gguf_tokenizer_open(out, data, size, file, err); /* its errors name the file */
    if (looks_like_json(data, size)) rc = open_json(out, data, size, err);
    else if (looks_like_tiktoken(data, size)) rc = anm_tiktoken_open(out, data, size, err);
    else rc = anm_spm_open(out, data, size, err);
    return rc ? anm_error_prefix(err, file) : 0;
}

int anm_tokenizer_open(anm_tokenizer **out, const char *path, const char *config, anm_error *err)
{
    anm_map map;
    *out = NULL;
    int rc = anm_map_open(&map, path, err);
    if (rc) return rc;
    bool gguf = is_gguf(map.data, map.size);
    rc = anm_tokenizer_parse(out, map.data, map.size, path, err);
    anm_map_close(&map);
    if (!rc && gguf && config) rc = read_config(*out, config, err);
    else if (!rc && !gguf) rc = open_beside(*out, path, config, err);
    if (!rc) return 0;
    anm_tokenizer_free(*out);
    *out = NULL;
    return rc;
}
