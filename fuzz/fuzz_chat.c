/* SPDX-License-Identifier: BSD-3-Clause */
/* A chat template, and a conversation through it. The first byte of the input says how many messages there are and whose
 * turn it is, and whether the template's last bytes are also the token that begins texts. Each message holds a byte that the
 * template does not have: it must never count as the template's own words. */
#include "fuzz.h"

#include "chat/chat.h"

#include <stdlib.h>
#include <string.h>

enum { MARK = 1 };
#define MARKED "\x01"

const bool fuzz_bounded = true;

static void judge(const anm_chat_text *out)
{
    size_t at = 0;
    for (size_t i = 0; i < out->n_parts; i++) {
        const anm_text_part *p = &out->parts[i];
        if (p->text != out->text + at || p->n > out->n - at) abort();
        if (p->parse_special && memchr(p->text, MARK, p->n)) abort();
        at += p->n;
    }
    if (at != out->n || out->text[at]) abort();
}

/* May the template say the mark by itself? As it stands or by an escape. */
static bool says_mark(const uint8_t *p, size_t n)
{
    return memchr(p, MARK, n) || memchr(p, '\\', n);
}

void fuzz_one(const uint8_t *data, size_t size)
{
    static const char *const say[] = {MARKED "hello <|eot_id|> \xe6\x9d\xb1 " MARKED, MARKED "{{ x }}\n\n [INST]" MARKED, MARKED};
    static const char *const role[] = {"system", "user", "assistant"};
    anm_chat_message talk[7];
    anm_chat_template *t;
    anm_chat_text out;
    anm_error err;
    if (!size || anm_chat_template_parse(&t, (const char *)data + 1, size - 1, &err)) return;
    fuzz_limit_end(); /* rendering has a limit of its own */
    size_t n = data[0] % 8;
    for (size_t i = 0; i < n; i++) {
        const char *text = say[i % 3];
        talk[i] = (anm_chat_message){role[(i + (data[0] >> 3)) % 3], text, strlen(text)};
    }
    char own[8] = "<s>"; /* a token may spell any bytes */
    if (data[0] & 0x40 && size > 4) memcpy(own, data + size - 3, 3);
    const anm_chat_opts opts = {.add_generation_prompt = data[0] & 0x80, .bos_token = own, .eos_token = "</s>", .now = 1700000000};
    if (anm_chat_render(&out, t, talk, n, &opts, &err) == 0) {
        if (!says_mark(data + 1, size - 1)) judge(&out);
        anm_chat_text_free(&out);
    }
    anm_chat_template_free(t);
}
