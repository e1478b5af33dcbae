/* SPDX-License-Identifier: BSD-3-Clause */
/* anemone tokenize: text to ids, or ids to text. */
#include "base/shown.h"
#include "cli/cli.h"
#include "cli/input.h"
#include "cli/opt.h"
#include "cli/say.h"
#include "token/token.h"

#include <stdlib.h>
#include <string.h>

/* A piece on a line of its own: what would not show is escaped. */
static void print_piece(const anm_tokenizer *t, int32_t id)
{
    const char *s;
    size_t n;
    anm_tokenizer_piece(&s, &n, t, id, true);
    printf("%d\t", id);
    for (size_t len; n; s += len, n -= len) {
        bool hidden;
        len = anm_shown_next(s, n, &hidden);
        if (*s == '\n') fputs("\\n", stdout);
        else if (*s == '\t') fputs("\\t", stdout);
        else if (*s == '\\') fputs("\\\\", stdout);
        else anm_shown_write(stdout, s, len, "");
    }
    putchar('\n');
}

enum shape { IDS, PIECES, COUNT };

static int encode(const anm_tokenizer *t, const anm_buf *text, bool bos, bool special, enum shape shape, anm_error *err)
{
    int32_t *ids;
    size_t count;
    if (bos && anm_tokenizer_bos(t) < 0)
        return anm_fail(err, ANM_ERR_USAGE, "--bos: this tokenizer has no token for the beginning of a text");
    int rc = anm_tokenizer_encode(&ids, &count, t, text->data ? (char *)text->data : "", text->size, special, err);
    if (rc) return rc;
    if (shape == COUNT) {
        printf("%zu\n", count + bos);
    } else {
        if (bos && shape == PIECES) print_piece(t, anm_tokenizer_bos(t));
        else if (bos) printf(count ? "%d " : "%d", anm_tokenizer_bos(t));
        for (size_t i = 0; i < count; i++) {
            if (shape == PIECES) print_piece(t, ids[i]);
            else printf(i + 1 < count ? "%d " : "%d", ids[i]);
        }
        if (shape == IDS) putchar('\n');
    }
    free(ids);
    return 0;
}

static int decode(const anm_tokenizer *t, const anm_buf *text, bool special, bool pieces, const char *path, anm_error *err)
{
    int32_t *ids = NULL;
    size_t count = 0, n;
    char *out = NULL;
    int rc = cli_read_ids(&ids, &count, text->data ? (char *)text->data : "", text->size, path, err);
    if (rc == ANM_ERR_USAGE) rc = err->code = ANM_ERR_FORMAT; /* the file's fault, not the command's words' */
    if (rc) return rc;
    if (!(rc = anm_tokenizer_decode(&out, &n, t, ids, count, special, err))) {
        if (pieces)
            for (size_t i = 0; i < count; i++) print_piece(t, ids[i]);
        else cli_put_text(out, n);
    }
    free(out);
    free(ids);
    return rc;
}

int cmd_tokenize(int argc, char **argv)
{
    const char *tokenizer = NULL, *config = NULL, *path = NULL;
    bool bos = false, decoding = false, pieces = false, special = false, counting = false;
    int words;
    const cli_opt table[] = {
        {'t', "tokenizer", CLI_STRING, &tokenizer, "FILE",
         "tiktoken's or SentencePiece's .model, tokenizer.json, tekken.json, or a GGUF file", NULL},
        {0, "tokenizer_config", CLI_STRING, &config, "FILE",
         "tokenizer_config.json; left out, the one beside tokenizer.json where there is one", NULL},
        {0, "bos", CLI_FLAG, &bos, NULL, "put the token for the beginning of a text first", NULL},
        {0, "parse_special", CLI_FLAG, &special, NULL,
         "make special tokens of text that spells them (without it such text is text); and with "
         "--decode spell them out", NULL},
        {0, "pieces", CLI_FLAG, &pieces, NULL, "a line for each token: its id, a tab, its text", NULL},
        {0, "count", CLI_FLAG, &counting, NULL, "only the number of tokens", NULL},
        {0, "decode", CLI_FLAG, &decoding, NULL, "the other way: FILE holds ids, the text is printed", NULL},
        {0},
    };
    anm_error err = {0};
    anm_buf text = {0};
    anm_tokenizer *t = NULL;
    int rc = cli_parse(table, "anemone tokenize -t TOKENIZER FILE|-", argc, argv, &path, 1, &words, &err);
    if (rc == CLI_HELPED) return EXIT_OK;
    if (!rc && !tokenizer) rc = anm_fail(&err, ANM_ERR_USAGE, "tokenize: -t FILE says which tokenizer; it is missing");
    if (!rc && !words) rc = anm_fail(&err, ANM_ERR_USAGE, "tokenize: the file is missing (- for standard input)");
    if (!rc && counting && (pieces || decoding)) rc = anm_fail(&err, ANM_ERR_USAGE, "tokenize: --count and %s exclude each other", pieces ? "--pieces" : "--decode");
    if (!rc && bos && decoding) rc = anm_fail(&err, ANM_ERR_USAGE, "tokenize: --bos and --decode exclude each other");
    if (!rc) rc = anm_tokenizer_open(&t, tokenizer, config, &err);
    if (!rc) rc = cli_read_text(&text, path, &err);
    if (!rc) rc = decoding ? decode(t, &text, special, pieces, path, &err) 
                           : encode(t, &text, bos, special, counting ? COUNT : pieces ? PIECES : IDS, &err);
    anm_buf_free(&text);
    anm_tokenizer_free(t);
    return rc ? cli_fail(&err) : EXIT_OK;
}
