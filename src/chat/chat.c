/* SPDX-License-Identifier: BSD-3-Clause */
#include "chat/chat.h"

#include "chat/jinja.h"
#include "base/utf8.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

struct anm_chat_template {
    anm_arena arena;
    jj_node *tree;
};

/* ---- templates that are always there ---- */

static const struct {
    const char *name, *text;
} builtins[] = {
    {"llama2", "{% set ns = namespace(system='') %}"
               "{% for m in messages %}"
               "{% if m.role == 'system' %}{% set ns.system = '<<SYS>>\\n' + m.content + '\\n<</SYS>>\\n\\n' %}"
               "{% elif m.role == 'user' %}"
               "{{ bos_token + '[INST] ' + ns.system + m.content.strip() + ' [/INST]' }}{% set ns.system = '' %}"
               "{% else %}{{ ' ' + m.content.strip() + ' ' + eos_token }}{% endif %}"
               "{% endfor %}"},
    {"llama3", "{{ bos_token }}"
               "{% for m in messages %}"
               "{{ '<|start_header_id|>' + m.role + '<|end_header_id|>\\n\\n' + m.content.strip() + '<|eot_id|>' }}"
               "{% endfor %}"
               "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"},
    {"chatml", "{% for m in messages %}"
               "{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}"
               "{% endfor %}"
               "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"},
    {"none", "{% for m in messages %}{{ m.content }}{% if not loop.last %}{{ '\\n' }}{% endif %}{% endfor %}"},
};

/* ---- parsing ---- */

enum { MOST_TEMPLATE = 1 << 20 };

int anm_chat_template_parse(anm_chat_template **out, const char *text, size_t n, anm_error *err)
{
    anm_error own = {0}; /* the parser asks whether it has failed */
    jj_tokens tokens;
    *out = NULL;
    if (n > MOST_TEMPLATE) return anm_fail(err, ANM_ERR_LIMIT, "a chat template of %zu bytes; at most %d are read", n, MOST_TEMPLATE);
    anm_chat_template *t = calloc(1, sizeof *t);
    if (!t) return anm_fail_memory(err, "the chat template");
    anm_arena_init(&t->arena);
    t->arena.limit = n * 32 + ((size_t)1 << 19); /* several times what templates take whose words are longer than a letter */
    int rc = jj_lex(&tokens, text, n, &t->arena, &own);
    if (!rc) rc = jj_parse(&t->tree, &tokens, &t->arena, &own);
    free(tokens.list);
    if (rc == ANM_ERR_MEMORY && (t->arena.total > t->arena.limit / 2 || tokens.n > n / 4))
        rc = anm_fail(&own, ANM_ERR_LIMIT, "has more words than a text of its size should");
    if (!rc) {
        *out = t;
        return 0;
    }
    anm_chat_template_free(t);
    anm_error_prefix(&own, "the chat template");
    if (err) *err = own;
    return rc;
}

int anm_chat_template_builtin(anm_chat_template **out, const char *name, anm_error *err)
{
    *out = NULL;
    for (size_t i = 0; i < sizeof builtins / sizeof *builtins; i++)
        if (strcmp(name, builtins[i].name) == 0)
            return anm_chat_template_parse(out, builtins[i].text, strlen(builtins[i].text), err);
    return anm_fail(err, ANM_ERR_USAGE, "there is no chat template '%.60s'; there are llama2, llama3, chatml and none", name);
}

void anm_chat_template_free(anm_chat_template *t)
{
    if (!t) return;
    anm_arena_free(&t->arena);
    free(t);
}

/* ---- rendering ---- */

/* A text from outside as valid UTF-8; `said`: a message holds it, so every byte is marked. */
static int outside_text(jj_run *r, jj_value *out, const char *p, size_t n, bool said)
{
    jj_text t = {0};
    uint8_t mark[256];
    memset(mark, said, sizeof mark);
    for (size_t i = 0; i < n;) {
        size_t good = anm_utf8_valid(p + i, n - i);
        for (size_t k = 0; k < good; k += sizeof mark) {
            int rc = jj_text_put(r, &t, p + i + k, mark, good - k < sizeof mark ? good - k : sizeof mark);
            if (rc) return rc;
        }
        i += good;
        if (i == n) break;
        int bad;
        i += anm_utf8_check(p + i, n - i, &bad);
        int rc = jj_text_put(r, &t, ANM_UTF8_REPLACEMENT, mark, 3);
        if (rc) return rc;
    }
    *out = jj_text_value(&t);
    return 0;
}

static int message_text(jj_run *r, jj_value *out, const char *p, size_t n)
{
    return outside_text(r, out, p, n, true);
}

/* A token that begins or ends texts, which may spell any bytes; NULL: there is none. */
static int token_text(jj_run *r, jj_value *out, const char *token)
{
    return outside_text(r, out, token, token ? strlen(token) : 0, false);
}

/* The names that transformers gives to a template. */
static int define_all(jj_run *r, const anm_chat_message *messages, size_t n, const anm_chat_opts *opts)
{
    jj_value list, none = {.type = JJ_NONE}, prompt = {.type = JJ_BOOL, .b = opts->add_generation_prompt};
    jj_value bos, eos, role = jj_str("role"), content = jj_str("content");
    int rc = token_text(r, &bos, opts->bos_token);
    if (!rc) rc = token_text(r, &eos, opts->eos_token);
    if (!rc) rc = jj_seq_new(r, &list);
    for (size_t i = 0; !rc && i < n; i++) {
        jj_value m, who, what;
        if ((rc = jj_map_new(r, &m)) || (rc = message_text(r, &who, messages[i].role, strlen(messages[i].role))) ||
            (rc = message_text(r, &what, messages[i].content, messages[i].content_n)))
            break;
        if (!(rc = jj_map_set(r, m.map, &role, &who)) && !(rc = jj_map_set(r, m.map, &content, &what)))
            rc = jj_seq_add(r, list.seq, &m);
    }
    const struct {
        const char *name;
        const jj_value *v;
    } names[] = {{"messages", &list},         {"add_generation_prompt", &prompt}, {"bos_token", &bos},
                 {"eos_token", &eos},         {"tools", &none},                   {"documents", &none}};
    for (size_t i = 0; !rc && i < sizeof names / sizeof *names; i++)
        rc = jj_define(r, r->global, names[i].name, strlen(names[i].name), names[i].v);
    return rc;
}

static int make_parts(anm_chat_text *out, const jj_text *t, anm_error *err)
{
    size_t n = 0;
    for (size_t i = 0; i < t->n; i++) n += i == 0 || t->mark[i] != t->mark[i - 1];
    out->text = malloc(t->n + 1);
    out->parts = calloc(n + 1, sizeof *out->parts);
    if (!out->text || !out->parts) {
        anm_chat_text_free(out);
        return anm_fail_memory(err, "the rendered conversation");
    }
    if (t->n) memcpy(out->text, t->p, t->n);
    out->text[t->n] = 0;
    out->n = t->n;
    for (size_t i = 0; i < t->n; i++) {
        if (i == 0 || t->mark[i] != t->mark[i - 1])
            out->parts[out->n_parts++] = (anm_text_part){.text = out->text + i, .parse_special = !t->mark[i]};
        out->parts[out->n_parts - 1].n++;
    }
    return 0;
}

int anm_chat_render(anm_chat_text *out, const anm_chat_template *t, const anm_chat_message *messages, size_t n,
                    const anm_chat_opts *opts, anm_error *err)
{
    jj_text text = {0};
    jj_run r = {.err = err, .out = &text, .now = opts->now ? opts->now : (int64_t)time(NULL), .line = 1};
    size_t bytes = 0;
    *out = (anm_chat_text){0};
    for (size_t i = 0; i < n; i++) bytes += messages[i].content_n + 64;
    anm_arena_init(&r.arena);
    r.arena.limit = ((size_t)16 << 20) + bytes * 64;
    r.work = JJ_STEP * (2000000 + (uint64_t)n * 40000) + (uint64_t)bytes * 256;
    r.global = r.scope = jj_scope_new(&r, NULL);
    int rc = r.global ? define_all(&r, messages, n, opts) : jj_no_memory(&r);
    if (!rc) rc = jj_render(&r, t->tree);
    if (!rc && !r.work) rc = jj_no_work(&r);
    if (!rc) rc = make_parts(out, &text, err);
    anm_arena_free(&r.arena);
    return rc;
}

void anm_chat_text_free(anm_chat_text *t)
{
    free(t->text);
    free(t->parts);
    *t = (anm_chat_text){0};
}
