/* SPDX-License-Identifier: BSD-3-Clause */
/* Which format is it? Found by looking into the file. */
#include "base/json.h"
#include "base/lfs.h"
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

/* Names of ids that models keep for later: no text has them, and formats number them in their own ways. */
static bool is_spare(const char *name)
{
    static const char *const beginnings[] = {"<|reserved_special_token_", "<SPECIAL_"};
    for (int i = 0; i < 2; i++)
        if (strncmp(name, beginnings[i], strlen(beginnings[i])) == 0) return true;
    return false;
}

static const json_t *content_of(const json_t *v)
{
    return json_is_object(v) ? json_object_get(v, "content") : v;
}

/* A token's id by its spelling, or an object with it; -1 where `v` is neither. The original adds a token that is not in
 * the vocabulary; how text is cut beside it is another matter in each of its classes, so that is refused. */
static int token_of(int32_t *id, const anm_tokenizer *t, const json_t *v, const char *key, anm_error *err)
{
    *id = -1;
    v = content_of(v);
    if (!json_is_string(v) || !json_string_length(v)) return 0;
    *id = anm_strmap_get(&t->by_spell, json_string_value(v), json_string_length(v));
    if (*id >= 0 || is_spare(json_string_value(v))) return 0;
    return anm_fail(err, ANM_ERR_UNSUPPORTED, "%s adds the token '%.60s', which the tokenizer does not have: give the model's "
                                              "tokenizer.json", key, json_string_value(v));
}

/* A special token that is in the vocabulary as a word like others, or as one that all text may spell: from now on no text
 * makes it but where it may; what was a word still leads to longer ones. Those that are special already, and the unknown
 * one, stay as the tokenizer has them. */
static void make_special(anm_tokenizer *t, int32_t id, const json_t *v)
{
    anm_piece *p = id >= 0 ? &t->piece[id] : NULL;
    if (!p || p->flags & (ANM_PIECE_SPECIAL | ANM_PIECE_UNKNOWN)) return;
    const bool listed = p->flags & ANM_PIECE_LISTED;
    if (!(p->flags & ANM_PIECE_USER)) p->flags |= ANM_PIECE_UNUSED;
    p->flags = (uint8_t)((p->flags & ~(unsigned)ANM_PIECE_USER) | ANM_PIECE_SPECIAL | ANM_PIECE_LISTED);
    if (listed) return;
    p->text = p->spell;
    p->text_n = p->spell_n;
    t->added.list[t->added.n++] = (anm_added){
        .text = p->spell,
        .n = p->spell_n,
        .id = id,
        .single_word = json_is_true(json_object_get(v, "single_word")),
        .lstrip = json_is_true(json_object_get(v, "lstrip")),
        .rstrip = json_is_true(json_object_get(v, "rstrip")),
    };
}

/* Room for the tokens that the configuration may make special. */
static int make_room(anm_tokenizer *t, const json_t *config, anm_error *err)
{
    enum { BOS_AND_EOS = 2 };
    size_t more = json_object_size(json_object_get(config, "added_tokens_decoder")) +
                  json_array_size(json_object_get(config, "additional_special_tokens")) + BOS_AND_EOS;
    anm_added *list = anm_arena_array(&t->arena, t->added.n + more, sizeof *list);
    if (!list) return anm_fail_memory(err, "the added tokens");
    if (t->added.n) memcpy(list, t->added.list, t->added.n * sizeof *list);
    t->added.list = list;
    return 0;
}

/* What only fills up batches: no text has it, so it may be missing. */
static bool is_missing_padding(const anm_tokenizer *t, const json_t *config, const json_t *v)
{
    const json_t *pad = content_of(json_object_get(config, "pad_token"));
    return json_is_string(pad) && json_is_true(json_object_get(v, "special")) && json_equal(pad, content_of(v)) &&
           anm_strmap_get(&t->by_spell, json_string_value(pad), json_string_length(pad)) < 0;
}

/* added_tokens_decoder: objects by ids. */
static int apply_added(anm_tokenizer *t, const json_t *config, anm_error *err)
{
    static const char key[] = "added_tokens_decoder";
    const unsigned cut = ANM_PIECE_SPECIAL | ANM_PIECE_USER | ANM_PIECE_UNKNOWN;
    const char *name;
    json_t *v;
    int32_t id;
    json_object_foreach(json_object_get(config, key), name, v)
    {
        if (is_missing_padding(t, config, v)) continue;
        int rc = token_of(&id, t, v, key, err);
        if (rc) return rc;
        if (json_is_true(json_object_get(v, "special"))) make_special(t, id, v);
        else if (id >= 0 && !(t->piece[id].flags & cut))
            return anm_fail(err, ANM_ERR_UNSUPPORTED, "%s adds the token '%.*s', which is a piece like others in the tokenizer: "
                                                      "give the model's tokenizer.json", key, (int)t->piece[id].spell_n,
                            t->piece[id].spell);
    }
    return 0;
}

/* additional_special_tokens: what older configurations have in place of the objects. */
static int apply_list(anm_tokenizer *t, const json_t *config, anm_error *err)
{
    static const char key[] = "additional_special_tokens";
    size_t i;
    json_t *v;
    int32_t id;
    json_array_foreach(json_object_get(config, key), i, v)
    {
        int rc = token_of(&id, t, v, key, err);
        if (rc) return rc;
        make_special(t, id, v);
    }
    return 0;
}

/* bos_token or eos_token: *id stays where there is none. */
static int apply_end(int32_t *id, anm_tokenizer *t, const json_t *config, const char *key, anm_error *err)
{
    const json_t *v = json_object_get(config, key);
    int32_t named;
    int rc = token_of(&named, t, v, key, err);
    if (rc || named < 0) return rc;
    make_special(t, named, v);
    *id = named;
    return 0;
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
    const json_t *add = json_object_get(config, "add_bos_token"), *text = template_of(config);
    if (t->eos >= 0) t->piece[t->eos].flags |= ANM_PIECE_STOP; /* also where the configuration names another */
    int rc = make_room(t, config, err);
    if (!rc) rc = apply_added(t, config, err);
    if (!rc) rc = apply_list(t, config, err);
    if (!rc) rc = apply_end(&t->bos, t, config, "bos_token", err);
    if (!rc) rc = apply_end(&t->eos, t, config, "eos_token", err);
    if (rc) return rc;
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

/* added_tokens.json, where older models have them: ids by spellings. */
static int check_added(anm_tokenizer *t, const json_t *tokens, anm_error *err)
{
    const char *name;
    json_t *id;
    json_object_foreach((json_t *)(uintptr_t)tokens, name, id)
    {
        if (anm_strmap_get(&t->by_spell, name, strlen(name)) < 0 && !is_spare(name) && strcmp(name, "<pad>") && strcmp(name, "[PAD]"))
            return anm_fail(err, ANM_ERR_UNSUPPORTED, "it adds the token '%.60s', which the tokenizer does not have: give the "
                                                      "model's tokenizer.json", name);
    }
    return 0;
}

static int read_json(anm_tokenizer *t, const char *path, int (*apply)(anm_tokenizer *t, const json_t *root, anm_error *err),
                     anm_error *err)
{
    anm_map map;
    json_t *root = NULL;
    int rc = anm_map_open(&map, path, err);
    if (rc) return rc;
    rc = parse_json(&root, map.data, map.size, err);
    if (!rc && !json_is_object(root)) rc = anm_fail(err, ANM_ERR_FORMAT, "is not an object of JSON");
    if (!rc) rc = apply(t, root, err);
    json_decref(root);
    anm_map_close(&map);
    return rc ? anm_error_prefix(err, path) : 0;
}

/* Notes that the template is that of `path`, where it is no longer `before`. */
static int note_template(anm_tokenizer *t, const char *before, const char *path, anm_error *err)
{
    if (t->chat_template == before) return 0;
    t->chat_template_file = anm_arena_strdup(&t->arena, path);
    return t->chat_template_file ? 0 : anm_fail_memory(err, path);
}

/* Newer models keep their template in a file of its own. */
static int read_template(anm_tokenizer *t, const char *path, anm_error *err)
{
    anm_map map;
    int rc = anm_map_open(&map, path, err);
    if (rc) return rc;
    const char *before = t->chat_template, *text = anm_arena_strndup(&t->arena, (const char *)map.data, (size_t)map.size);
    if (text) t->chat_template = text;
    rc = text ? note_template(t, before, path, err) : anm_fail_memory(err, path);
    anm_map_close(&map);
    return rc;
}

/* The template's own file stands before what the configuration beside it says. */
static int read_config_and_template(anm_tokenizer *t, const char *config, anm_error *err)
{
    char *text = beside(config, "chat_template.jinja");
    const char *before = t->chat_template;
    int rc = text ? read_json(t, config, apply_config, err) : anm_fail_memory(err, config);
    if (!rc) rc = note_template(t, before, config, err);
    if (!rc && is_file(text)) rc = read_template(t, text, err);
    free(text);
    return rc;
}

static int open_beside(anm_tokenizer *t, const char *path, const char *config, anm_error *err)
{
    char *own = beside(path, "tokenizer_config.json"), *text = beside(path, "chat_template.jinja");
    char *added = beside(path, "added_tokens.json");
    int rc = own && text && added ? 0 : anm_fail_memory(err, path);
    if (!rc && is_file(added)) rc = read_json(t, added, check_added, err);
    if (!rc && (config || is_file(own))) rc = read_config_and_template(t, config ? config : own, err);
    if (!rc && !t->chat_template && is_file(text)) rc = read_template(t, text, err);
    free(own);
    free(text);
    free(added);
    return rc;
}

static int read_file(anm_tokenizer **out, const uint8_t *data, uint64_t size, const char *file, anm_error *err)
{
    int rc;
    *out = NULL;
    if (is_gguf(data, size)) {
        rc = anm_gguf_tokenizer_open(out, data, size, file, err); /* its errors name the file */
        return rc ? rc : note_template(*out, NULL, file, err);
    }
    if (anm_is_lfs_pointer(data, size)) rc = anm_fail(err, ANM_ERR_FORMAT, ANM_LFS_POINTER);
    else if (looks_like_json(data, size)) rc = open_json(out, data, size, err);
    else if (looks_like_tiktoken(data, size)) rc = anm_tiktoken_open(out, data, size, err);
    else rc = anm_spm_open(out, data, size, err);
    return rc ? anm_error_prefix(err, file) : 0;
}

/* The last step, or where rc says that there was an error, none: the tokenizer goes then. */
static int finish(int rc, anm_tokenizer **t, const char *file, anm_error *err)
{
    if (!rc && !((*t)->file = anm_arena_strdup(&(*t)->arena, file))) rc = anm_fail_memory(err, file);
    if (!rc && (rc = anm_tokenizer_finish(*t, err))) anm_error_prefix(err, file);
    if (!rc) return 0;
    anm_tokenizer_free(*t);
    *t = NULL;
    return rc;
}

int anm_tokenizer_parse(anm_tokenizer **out, const uint8_t *data, uint64_t size, const char *file, anm_error *err)
{
    return finish(read_file(out, data, size, file, err), out, file, err);
}

int anm_tokenizer_open(anm_tokenizer **out, const char *path, const char *config, anm_error *err)
{
    anm_map map;
    *out = NULL;
    int rc = anm_map_open(&map, path, err);
    if (rc) return rc;
    bool gguf = is_gguf(map.data, map.size);
    rc = read_file(out, map.data, map.size, path, err);
    anm_map_close(&map);
    if (!rc && gguf && config) rc = read_config_and_template(*out, config, err);
    else if (!rc && !gguf) rc = open_beside(*out, path, config, err);
    return finish(rc, out, path, err);
}
