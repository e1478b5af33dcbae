/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * anemone legacy run and run_lookahead: the options of the original's run.py and run_lookahead.py, and of anemone run
 * those that measuring wants. Both are anemone run with other words.
 */
#include "cli/cli.h"
#include "cli/legacy.h"
#include "cli/opt.h"

#include <string.h>

enum { MOST_OPTIONS = 48 };

typedef struct words {
    running r;
    legacy_eager eager;
    const char *dtype;
    bool use_eager, compare, gave_dtype;
    bool lookahead; /* which of both commands */
} words;

static int open_eager(running *r, const anm_llm_opts *how, anm_error *err)
{
    return cli_legacy_open_eager(&r->llm, r->ctx, how, err);
}

static int parse(words *w, int argc, char **argv, anm_error *err)
{
    options *o = &w->r.o;
    *o = (options){.who = w->lookahead ? "legacy run_lookahead" : "legacy run", .prompt = "Once upon a time,", .max_new_tokens = 32, .temperature = w->lookahead ? 0 : 0.6, .top_p = 0.9,
                   .repeat_penalty = 1, .repeat_last = 64, .ngram_size = 3, .window_size = 4, .n_verifications = 4,
                   .precision = "default", .context = "stop", .keep = 0, .deprecated = true};
    const cli_opt common[] = {
        {'m', "model", CLI_STRING, &o->model, "FILE", "the program (.pte)", NULL},
        {'t', "tokenizer", CLI_STRING, &o->tokenizer, "FILE", "tiktoken's or SentencePiece's .model, tokenizer.json, tekken.json, or a GGUF file", NULL},
        {0, "prompt", CLI_STRING, &o->prompt, "TEXT", "the text to go on with (\"Once upon a time,\")", &o->gave_prompt},
        {0, "temperature", CLI_FLOAT, &o->temperature, "X", w->lookahead ? "above 0: draw, not the likeliest (0)" : "0 takes the likeliest (0.6)", NULL},
        {0, "top_p", CLI_FLOAT, &o->top_p, "X", "only the likeliest tokens, together this probable (0.9)", NULL},
        {0, "max_seq_length", CLI_INT, &o->max_seq_length, "N", "positions that may be used (what the program's mask holds; with --max_new_tokens "
                                                               "all rows of its rotary tables)", &o->gave_max_seq},
        {0, "seq_length", CLI_INT, &o->input_len, "N", "tokens of a step; a program has its own (with --use_eager 1)", &o->gave_input},
        {0, "cache_size", CLI_INT, &o->cache_len, "N", "cached positions; a program has its own (with --use_eager what a step leaves)", &o->gave_cache},
        {0, NULL, CLI_HEADING, NULL, NULL, "The checkpoint itself:", NULL},
        {0, "use_eager", CLI_FLAG, &w->use_eager, NULL, "run the checkpoint, not a program", NULL},
        {'c', "checkpoint", CLI_STRING, &w->eager.checkpoint, "FILE", "checkpoint: .pth, .safetensors, .gguf, or a folder", NULL},
        {'p', "params", CLI_STRING, &o->params, "FILE", "params.json or config.json; of a program, if given, it must fit", NULL},
        {0, "dtype", CLI_CHOICE, &w->dtype, "fp16|fp32", "type of the checkpoint's weights and cache (fp16)", &w->gave_dtype},
        {0, "compare", CLI_FLAG, &w->compare, NULL, "run both on the prompt, and print how far they are apart", NULL},
        {0, NULL, CLI_HEADING, NULL, NULL, "Beyond the original:", NULL},
        {0, "tokens", CLI_STRING, &o->tokens, "IDS", "token ids, 1,2,3: needs no tokenizer", NULL},
        {0, "tokenizer_config", CLI_STRING, &o->tokenizer_config, "FILE", "tokenizer_config.json, where it is not beside the tokenizer", NULL},
        {0, "bos", CLI_FLAG, &o->bos, NULL, "begin with the token for the beginning of a text; without these two as the", NULL},
        {0, "no_bos", CLI_FLAG, &o->no_bos, NULL, "tokenizer's own data says, and where that is silent with it", NULL},
        {0, "max_new_tokens", CLI_INT, &o->max_new_tokens, "N", "the most new tokens (as many as fit; run_lookahead: 32)", &o->gave_max},
        {0, "seed", CLI_INT, &o->seed, "N", "of the random numbers; the same seed gives the same text", &o->gave_seed},
        {0, "ignore_eos", CLI_FLAG, &o->ignore_eos, NULL, "go on after tokens that end a text", NULL},
        {0, "exact", CLI_FLAG, &o->exact, NULL, "fp32 activations", NULL},
        {0, "precision", CLI_CHOICE, &o->precision, "default|precise|exact|fp16", "how finely activations are computed", &o->gave_precision},
        {'j', "threads", CLI_INT, &o->threads, "N", "threads (0: one per processor)", NULL},
        {0, "print_tokens", CLI_FLAG, &o->print_tokens, NULL, "the new ids on one line, instead of text", NULL},
        {0, "logits", CLI_STRING, &o->logits, "FILE.npy", "write the logits after the prompt: fp32, [1, vocabulary]", NULL},
        {0, "json", CLI_FLAG, &o->json, NULL, "figures as a JSON object, the last line of standard error", NULL},
        {0, "stats", CLI_FLAG, &o->stats, NULL, "more figures", NULL},
        {0, "sandbox", CLI_OPTIONAL, &o->sandbox, "auto|on|off", "whether to lock the process in, as anemone run does (auto)", NULL},
        {0, "no_sandbox", CLI_FLAG, &o->no_sandbox, NULL, "do without", NULL},
    };
    const cli_opt guesses[] = {
        {0, NULL, CLI_HEADING, NULL, NULL, "Lookahead, with the same answer:", NULL},
        {0, "ngram_size", CLI_INT, &o->ngram_size, "N", "a guess is N - 1 tokens long (3)", NULL},
        {0, "window_size", CLI_INT, &o->window_size, "N", "columns of the window (4)", NULL},
        {0, "n_verifications", CLI_INT, &o->n_verifications, "N", "guesses tried in a step (4)", NULL},
        {0, "ngrams_seed", CLI_STRING, &o->ngrams_seed, "TEXT", "text from which guesses may come", NULL},
        {0, "max_tokens", CLI_INT, &o->max_new_tokens, "N", "the most new tokens (32)", NULL},
    };
    enum { COMMON = sizeof common / sizeof *common, GUESSES = sizeof guesses / sizeof *guesses };
    cli_opt table[MOST_OPTIONS] = {{0}};
    memcpy(table, common, sizeof common);
    if (w->lookahead) memcpy(table + COMMON, guesses, sizeof guesses);
    _Static_assert(COMMON + GUESSES < MOST_OPTIONS, "the table ends with an empty entry");
    return cli_parse(table, w->lookahead ? "anemone legacy run_lookahead -m MODEL.pte -t TOKENIZER --prompt TEXT [OPTION…]"
                                         : "anemone legacy run -m MODEL.pte -t TOKENIZER --prompt TEXT [OPTION…]",
                     argc, argv, NULL, 0, NULL, err);
}

/* The checkpoint's form: as the words say, with export's defaults. */
static int form_eager(words *w, anm_error *err)
{
    options *o = &w->r.o;
    anm_model_form *f = &w->eager.form;
    int64_t all = o->gave_max_seq ? o->max_seq_length : 128;
    f->fp16 = !w->dtype || !strcmp(w->dtype, "fp16");
    f->input_len = o->gave_input ? o->input_len : 1;
    if (f->input_len < 1 || f->input_len >= all)
        return anm_fail(err, ANM_ERR_USAGE, "--seq_length: %lld is not between 1 and what --max_seq_length %lld holds beside a cache",
                        (long long)f->input_len, (long long)all);
    f->cache_len = o->gave_cache ? o->cache_len : all - f->input_len;
    if (f->cache_len < 1 || f->cache_len > all - f->input_len)
        return anm_fail(err, ANM_ERR_USAGE, "--cache_size: %lld is not between 1 and the %lld that --max_seq_length %lld leaves beside a step",
                        (long long)f->cache_len, (long long)(all - f->input_len), (long long)all);
    if (!o->exact && !o->gave_precision) o->exact = true;
    o->max_seq_length = all;
    o->gave_max_seq = true;
    return 0;
}

static int check(words *w, anm_error *err)
{
    options *o = &w->r.o;
    const char *name = w->lookahead ? "run_lookahead" : "run";
    if ((w->use_eager || w->compare) && !w->eager.checkpoint)
        return anm_fail(err, ANM_ERR_USAGE, "legacy %s: --use_eager and --compare need a checkpoint; name one with -c", name);
    if (w->use_eager && w->compare) return anm_fail(err, ANM_ERR_USAGE, "legacy %s: --use_eager and --compare exclude each other", name);
    if (w->compare && !o->model) return anm_fail(err, ANM_ERR_USAGE, "legacy %s: --compare needs a program; name one with -m", name);
    if (w->compare && o->logits) return anm_fail(err, ANM_ERR_USAGE, "legacy %s: --compare writes no --logits", name);
    if (w->lookahead) {
        o->lookahead = "always";
        o->gave_max = true;
    }
    if (w->gave_dtype && !w->use_eager) return anm_fail(err, ANM_ERR_USAGE, "legacy %s: --dtype goes with --use_eager; a program has its own", name);
    if (w->use_eager && o->model) return anm_fail(err, ANM_ERR_USAGE, "legacy %s: --use_eager runs the checkpoint; leave -m out", name);
    w->eager.params = o->params;
    if (w->use_eager || w->compare) {
        o->checkpoint = w->eager.checkpoint;
        o->checkpoint_params = o->params;
    }
    if (!w->use_eager) return 0;
    int rc = form_eager(w, err);
    w->r.open = open_eager;
    w->r.ctx = &w->eager;
    o->model = w->eager.checkpoint; /* for messages */
    o->params = NULL;
    o->gave_input = o->gave_cache = false;
    return rc;
}

static void say_run(void)
{
    cli_legacy_say("run", "anemone run");
}

static void say_lookahead(void)
{
    cli_legacy_say("run_lookahead", "anemone run --lookahead");
}

static int command(int argc, char **argv, bool lookahead)
{
    words w = {.lookahead = lookahead};
    anm_error err = {0};
    int rc = parse(&w, argc, argv, &err);
    if (rc == CLI_HELPED) return EXIT_OK;
    if (!rc) rc = check(&w, &err);
    w.r.said = lookahead ? say_lookahead : say_run;
    w.r.o.echo = w.r.o.tokenizer && !w.r.o.tokens && !w.r.o.print_tokens; /* the original prints the prompt first */
    if (!rc) rc = w.compare ? cli_legacy_compare(&w.r, &w.eager, &err) : run_program(&w.r, &err);
    if (!rc && !w.compare) cli_die_if_stopped();
    return rc ? cli_fail(&err) : EXIT_OK;
}

int cli_legacy_run(int argc, char **argv)
{
    return command(argc, argv, false);
}

int cli_legacy_lookahead(int argc, char **argv)
{
    return command(argc, argv, true);
}
