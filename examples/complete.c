/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Goes on with a text, by the library alone: complete MODEL.pte TOKENIZER "Once upon a time"
 *     cc complete.c $(pkg-config --cflags --libs --static anemone) -o complete
 */
#include <anemone.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Called for each new token: prints its bytes. A terminal puts characters together that come in parts. */
static int print_token(void *ctx, int32_t id)
{
    const anm_tokenizer *tok = ctx;
    const char *bytes;
    size_t n;
    anm_tokenizer_piece(&bytes, &n, tok, id, false);
    fwrite(bytes, 1, n, stdout);
    return fflush(stdout); /* other than 0 ends the text */
}

static int complete(anm_llm *llm, anm_tokenizer *tok, const char *prompt, anm_error *err)
{
    anm_session *session = NULL;
    int32_t *ids = NULL, bos = anm_tokenizer_bos(tok), stop = anm_tokenizer_eos(tok);
    size_t n = 0;
    anm_end end;
    const anm_sampling how = {.temperature = 0.7, .top_p = 0.9, .repeat_penalty = 1, .seed = 1};
    const anm_generation g = {.max_new = 100,
                              .stop = &stop,
                              .n_stop = 1,
                              .lookahead = {.mode = ANM_LOOKAHEAD_OFF},
                              .token = print_token,
                              .ctx = tok};
    int rc = anm_session_new(&session, llm, err);
    if (!rc) rc = anm_session_set_sampling(session, &how, err);
    if (!rc && bos >= 0 && anm_tokenizer_add_bos(tok) != 0) rc = anm_session_feed(session, &bos, 1, err);
    if (!rc) rc = anm_tokenizer_encode(&ids, &n, tok, prompt, strlen(prompt), false, err);
    if (!rc) rc = anm_session_feed(session, ids, n, err);
    if (!rc) rc = anm_session_generate(&end, session, &g, err);
    if (!rc)
        printf("%s\n", end == ANM_END_STOP ? "" : end == ANM_END_CONTEXT ? " [the context is full]" : " […]");
    free(ids);
    anm_session_free(session);
    return rc;
}

int main(int argc, char **argv)
{
    anm_llm *llm = NULL;
    anm_tokenizer *tok = NULL;
    anm_error err;
    if (argc != 4) {
        fprintf(stderr, "usage: complete MODEL.pte TOKENIZER TEXT\n");
        return 2;
    }
    int rc = anm_llm_open(&llm, argv[1], NULL, &err);
    if (!rc) rc = anm_tokenizer_open(&tok, argv[2], NULL, &err);
    if (!rc) rc = complete(llm, tok, argv[3], &err);
    if (rc) fprintf(stderr, "complete: %s\n", err.text);
    anm_tokenizer_free(tok);
    anm_llm_free(llm);
    return rc ? 1 : 0;
}
