/* SPDX-License-Identifier: BSD-3-Clause */
/* A tokenizer_config.json beside one of two tokenizers (by the parity of its length), and the chat template that it holds. */
#include "fuzz.h"

#include "chat/chat.h"

#include <stdlib.h>
#include <string.h>

const bool fuzz_bounded = true;

void fuzz_one(const uint8_t *data, size_t size)
{
    static const char *const tokenizer[] = {ANM_ROOT "/fuzz/seeds/tiktoken/small.model", ANM_ROOT "/test/data/token/spm_bpe.model"};
    anm_tokenizer *t = NULL;
    anm_chat_template *template;
    anm_error err;
    if (!size || anm_tokenizer_open(&t, tokenizer[size % 2], fuzz_file(data, size, ""), &err)) return;
    int32_t n = anm_tokenizer_size(t);
    if (anm_tokenizer_bos(t) >= n || anm_tokenizer_eos(t) >= n) abort();
    const char *text = anm_tokenizer_chat_template(t);
    if (text && anm_chat_template_parse(&template, text, strlen(text), &err) == 0) anm_chat_template_free(template);
    anm_tokenizer_free(t);
}
