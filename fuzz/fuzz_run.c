/* SPDX-License-Identifier: BSD-3-Clause */
/* A program that is loaded and, if that works, run: three tokens fed and two made. */
#include "fuzz.h"

#include "anemone.h"

#include <stdlib.h>

static void run(anm_llm *m)
{
    static const int32_t ids[] = {1, 2, 3};
    const anm_generation two = {.max_new = 2};
    anm_session *s = NULL;
    anm_llm_info info;
    anm_end end;
    anm_error err;
    anm_llm_get_info(&info, m);
    if (anm_session_new(&s, m, &err)) return;
    if (anm_session_feed(s, ids, 3, &err) == 0) {
        fuzz_read(anm_session_logits(s), (uint64_t)info.vocab_size * sizeof(float));
        anm_session_generate(&end, s, &two, &err);
    }
    anm_session_free(s);
}

const bool fuzz_bounded = false; /* a verified program may ask for the memory that it runs in */

void fuzz_one(const uint8_t *data, size_t size)
{
    const anm_llm_opts opts = {.threads = 1};
    anm_llm *m = NULL;
    anm_error err;
    if (!size || anm_llm_open(&m, fuzz_file(data, size, ""), &opts, &err)) return;
    run(m);
    anm_llm_free(m);
}
