/* SPDX-License-Identifier: BSD-3-Clause */
/* anemone run: a prompt, a program, a text. Standard output takes the text and nothing else. */
#include "base/map.h"
#include "base/outfile.h"
#include "base/pool.h"
#include "cli/cli.h"
#include "cli/input.h"
#include "cli/not_program.h"
#include "cli/npy.h"
#include "cli/opt.h"
#include "cli/conversation.h"
#include "cli/run.h"
#include "cli/say.h"
#include "cli/sandbox.h"
#include "cli/text.h"
#include "model/model.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* What a conversation has no use for, or is already. */
static bool is_for_one_answer(const char *name)
{
    static const char *const names[] = {"prompt", "prompt_file", "tokens", "parse_special", "chat", "interactive", "echo", "print_tokens", "logits"};
    for (size_t i = 0; name && i < sizeof names / sizeof *names; i++)
        if (!strcmp(name, names[i])) return true;
    return false;
}

static int parse(options *o, bool chat, int argc, char **argv, anm_error *err)
{
    *o = (options){.who = chat ? "chat" : "run",
                   .prompt = "Once upon a time,",
                   .max_new_tokens = 100,
                   .temperature = 0.6,
                   .top_p = 0.9,
                   .repeat_penalty = 1,
                   .repeat_last = 64,
                   .ngram_size = 5,
                   .window_size = 4,
                   .n_verifications = 4,
                   .precision = "default",
                   .context = "stop",
                   .keep = 4};
    const cli_opt table[] = {
        {0, NULL, CLI_HEADING, NULL, NULL, "What runs:", NULL},
        {'m', "model", CLI_STRING, &o->model, "FILE", "the program (.pte), whoever exported it", NULL},
        {'t', "tokenizer", CLI_STRING, &o->tokenizer, "FILE",
         "tiktoken's or SentencePiece's .model, tokenizer.json, tekken.json, or a GGUF file", NULL},
        {0, "tokenizer_config", CLI_STRING, &o->tokenizer_config, "FILE",
         "tokenizer_config.json; left out, the one beside the tokenizer where there is one", NULL},
        {'p', "params", CLI_STRING, &o->params, "FILE",
         "params.json; never needed: if given, it must fit the program", NULL},
        {0, "input_len", CLI_INT, &o->input_len, "N",
         "these three are in the program; if given, they must fit it", &o->gave_input},
        {0, "cache_len", CLI_INT, &o->cache_len, "N", "", &o->gave_cache},
        {0, "max_context_len", CLI_INT, &o->max_context_len, "N", "", &o->gave_context_len},
        {0, NULL, CLI_HEADING, NULL, NULL, "What it is given:", NULL},
        {0, "prompt", CLI_STRING, &o->prompt, "TEXT", "the text to go on with (\"Once upon a time,\")",
         &o->gave_prompt},
        {0, "prompt_file", CLI_STRING, &o->prompt_file, "FILE", "the same from a file; - is standard input",
         NULL},
        {0, "tokens", CLI_STRING, &o->tokens, "IDS", "token ids, 1,2,3: needs no tokenizer", NULL},
        {0, "bos", CLI_FLAG, &o->bos, NULL,
         "begin with the token for the beginning of a text; without these two as the", NULL},
        {0, "no_bos", CLI_FLAG, &o->no_bos, NULL,
         "tokenizer's own data says, and where that is silent with it", NULL},
        {0, "parse_special", CLI_FLAG, &o->parse_special, NULL,
         "special tokens spelled in the prompt are special", NULL},
        {0, NULL, CLI_HEADING, NULL, NULL, "As a chat:", NULL},
        {0, "chat", CLI_FLAG, &o->chat, NULL,
         "the prompt is a message, put as the model's chat template says", NULL},
        {0, "system", CLI_STRING, &o->system, "TEXT", "what the model is told first", NULL},
        {0, "template", CLI_CHOICE, &o->template, "llama2|llama3|chatml|none",
         "a chat template, instead of the tokenizer's own", NULL},
        {'i', "interactive", CLI_FLAG, &o->interactive, NULL, "a conversation, as anemone chat", NULL},
        {0, NULL, CLI_HEADING, NULL, NULL, "How the next token is chosen:", NULL},
        {0, "max_new_tokens", CLI_INT, &o->max_new_tokens, "N",
         "the most new tokens (100; in a conversation 1000)", &o->gave_max},
        {0, "temperature", CLI_FLOAT, &o->temperature, "X", "0 takes the likeliest (0.6)", &o->gave_temperature},
        {0, "greedy", CLI_FLAG, &o->greedy, NULL, "the same as --temperature 0", NULL},
        {0, "top_p", CLI_FLOAT, &o->top_p, "X",
         "only the likeliest tokens, together this probable (0.9; 1: all)", NULL},
        {0, "top_k", CLI_INT, &o->top_k, "N", "only the N likeliest (0: all)", NULL},
        {0, "min_p", CLI_FLOAT, &o->min_p, "X", "only those X times as probable as the likeliest (0: all)",
         NULL},
        {0, "repeat_penalty", CLI_FLOAT, &o->repeat_penalty, "X",
         "above 1: recent tokens become less likely (1)", NULL},
        {0, "repeat_last", CLI_INT, &o->repeat_last, "N", "how many tokens are recent (64; 0: all)", NULL},
        {0, "seed", CLI_INT, &o->seed, "N", "of the random numbers; the same seed gives the same text",
         &o->gave_seed},
        {0, "stop", CLI_LIST, &o->stop, "TEXT", "end before this text; may be given several times", NULL},
        {0, "ignore_eos", CLI_FLAG, &o->ignore_eos, NULL, "go on after tokens that end a text", NULL},
        {0, "context", CLI_CHOICE, &o->context, "stop|slide",
         "when it is full: end (stop), or forget the oldest tokens (slide)", NULL},
        {0, "keep", CLI_INT, &o->keep, "N", "how many first tokens are never forgotten (4)", &o->gave_keep},
        {0, NULL, CLI_HEADING, NULL, NULL, "Several tokens a step, with the same answer:", NULL},
        {0, "lookahead", CLI_OPTIONAL, &o->lookahead, "auto|always",
         "guess ahead; auto (the default when given) only where it is measured to pay", NULL},
        {0, "ngram_size", CLI_INT, &o->ngram_size, "N", "a guess is N - 1 tokens long (5)", &o->gave_look},
        {0, "window_size", CLI_INT, &o->window_size, "N", "columns of the window (4)", &o->gave_look},
        {0, "n_verifications", CLI_INT, &o->n_verifications, "N", "guesses tried in a step (4)", &o->gave_look},
        {0, "ngrams_seed", CLI_STRING, &o->ngrams_seed, "TEXT", "text from which guesses may come", NULL},
        {0, NULL, CLI_HEADING, NULL, NULL, "How it is computed:", NULL},
        {0, "exact", CLI_FLAG, &o->exact, NULL, "fp32 activations", NULL},
        {0, "precise", CLI_FLAG, &o->precise, NULL, "finer activations than the default's", NULL},
        {0, "precision", CLI_CHOICE, &o->precision, "default|precise|exact|fp16",
         "the same by name; fp16 rounds after every operation, as a device would", &o->gave_precision},
        {'j', "threads", CLI_INT, &o->threads, "N", "threads (0: one per processor)", NULL},
        {0, "sandbox", CLI_OPTIONAL, &o->sandbox, "auto|on|off",
         "give up, before anything is read, what reading a stranger's files", NULL},
        {0, "no_sandbox", CLI_FLAG, &o->no_sandbox, NULL, "needs no right to; auto: where the system can (Linux)", NULL},
        {0, NULL, CLI_HEADING, NULL, NULL, "What comes out:", NULL},
        {0, "echo", CLI_FLAG, &o->echo, NULL, "print the prompt before the answer", NULL},
        {0, "print_tokens", CLI_FLAG, &o->print_tokens, NULL, "the new ids on one line, instead of text",
         NULL},
        {0, "logits", CLI_STRING, &o->logits, "FILE.npy",
         "write the prompt's logits: fp32, [tokens, vocabulary]; where a file gives those of a step's last token alone, [1, vocabulary]", NULL},
        {0, "json", CLI_FLAG, &o->json, NULL, "figures as a JSON object, the last line of standard error",
         NULL},
        {0, "stats", CLI_FLAG, &o->stats, NULL, "more figures: rows, and where the time goes", NULL},
        {0},
    };
    if (!chat) return cli_parse(table, "anemone run -m MODEL.pte -t TOKENIZER --prompt TEXT [OPTION…]", argc, argv, NULL, 0, NULL, err);
    cli_opt fewer[sizeof table / sizeof *table];
    size_t n = 0;
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (!is_for_one_answer(table[i].name)) fewer[n++] = table[i];
    return cli_parse(fewer, "anemone chat -m MODEL.pte -t TOKENIZER [OPTION…]", argc, argv, NULL, 0, NULL, err);
}

int run_check_output(const options *o, const char *path, anm_error *err)
{
    const char *const read[] = {o->model, o->params, o->tokenizer, o->tokenizer_config, o->prompt_file, o->checkpoint, o->checkpoint_params};
    return anm_outfile_check_beside(path, read, sizeof read / sizeof *read, err);
}

int run_check_words(const options *o, anm_error *err)
{
    if (!o->model) return anm_fail(err, ANM_ERR_USAGE, "%s: -m FILE says which program; it is missing", o->who);
    if ((o->tokens != NULL) + (o->prompt_file != NULL) + o->gave_prompt > 1)
        return anm_fail(err, ANM_ERR_USAGE,
                        "%s: only one of --prompt, --prompt_file and --tokens can be given", o->who);
    if (!o->tokens && !o->tokenizer)
        return anm_fail(err, ANM_ERR_USAGE, o->interactive ? "%s: -t FILE says which tokenizer; it is missing" :
                        "%s: -t FILE says which tokenizer; it is missing (or give ids: --tokens 1,2,3)", o->who);
    if ((o->system || o->template) && !o->chat && !o->interactive)
        return anm_fail(err, ANM_ERR_USAGE, "%s: --system and --template need --chat or --interactive", o->who);
    if ((o->chat || o->interactive) && (o->tokens || o->parse_special))
        return anm_fail(err, ANM_ERR_USAGE, "%s: a chat takes text: not --tokens, nor --parse_special", o->who);
    if (o->interactive &&
        (o->prompt_file || o->gave_prompt || o->print_tokens || o->logits || o->echo))
        return anm_fail(
            err, ANM_ERR_USAGE,
            "%s: --interactive excludes --prompt, --prompt_file, --print_tokens, --logits and --echo", o->who);
    if (o->bos && o->no_bos)
        return anm_fail(err, ANM_ERR_USAGE, "%s: --bos and --no_bos exclude each other", o->who);
    if (o->exact + o->precise + o->gave_precision > 1)
        return anm_fail(err, ANM_ERR_USAGE,
                        "%s: only one of --exact, --precise and --precision can be given", o->who);
    if (o->max_new_tokens < 0) return anm_fail(err, ANM_ERR_USAGE, "%s: --max_new_tokens must be 0 or more", o->who);
    if (o->greedy && o->gave_temperature && o->temperature != 0)
        return anm_fail(err, ANM_ERR_USAGE, "%s: --greedy is --temperature 0; leave one of both out", o->who);
    if (o->gave_keep && strcmp(o->context, "slide"))
        return anm_fail(err, ANM_ERR_USAGE, "%s: --keep goes with --context slide", o->who);
    for (size_t i = 0; i < o->stop.n; i++)
        if (!*o->stop.item[i]) return anm_fail(err, ANM_ERR_USAGE, "%s: --stop needs a text to stop before", o->who);
    if (o->threads < 0 || o->threads > ANM_THREADS_MAX)
        return anm_fail(err, ANM_ERR_USAGE, "%s: -j must be between 0 and %d", o->who, ANM_THREADS_MAX);
    if (o->lookahead && *o->lookahead && strcmp(o->lookahead, "auto") != 0 &&
        strcmp(o->lookahead, "always") != 0)
        return anm_fail(err, ANM_ERR_USAGE, "--lookahead=%s: must be auto or always", o->lookahead);
    if (o->sandbox && *o->sandbox && strcmp(o->sandbox, "auto") && strcmp(o->sandbox, "on") && strcmp(o->sandbox, "off"))
        return anm_fail(err, ANM_ERR_USAGE, "--sandbox=%s: must be auto, on or off", o->sandbox);
    if (o->sandbox && o->no_sandbox)
        return anm_fail(err, ANM_ERR_USAGE, "%s: --sandbox and --no_sandbox exclude each other", o->who);
    if (o->ngrams_seed && !o->lookahead)
        return anm_fail(err, ANM_ERR_USAGE, "%s: --ngrams_seed needs --lookahead", o->who);
    if ((o->stop.n || o->ngrams_seed || o->echo) && !o->tokenizer)
        return anm_fail(err, ANM_ERR_USAGE, "%s: --stop, --ngrams_seed and --echo need a tokenizer (-t)", o->who);
    const int64_t look[] = {o->ngram_size, o->window_size, o->n_verifications};
    for (int i = 0; i < 3; i++)
        if (look[i] < 0 || look[i] > INT32_MAX)
            return anm_fail(err, ANM_ERR_USAGE, "%s: lookahead's sizes must be between 0 and %d", o->who, INT32_MAX);
    return 0;
}

anm_precision run_precision(const options *o)
{
    if (o->exact || strcmp(o->precision, "exact") == 0) return ANM_PRECISION_EXACT;
    if (o->precise || strcmp(o->precision, "precise") == 0) return ANM_PRECISION_PRECISE;
    return strcmp(o->precision, "fp16") == 0 ? ANM_PRECISION_FP16 : ANM_PRECISION_DEFAULT;
}

/* An option that repeats what the file says must say the same. */
static int same(const options *o, const char *from, const char *name, int64_t said, int64_t is,
                anm_error *err)
{
    if (said == is) return 0;
    return anm_fail(err, ANM_ERR_LIMIT, "%s: its %s is %lld, but %s says %lld", o->model, name, (long long)is,
                    from, (long long)said);
}

static int check_params(const running *r, anm_error *err)
{
    const char *path = r->o.params;
    anm_map map;
    anm_params p;
    int rc = anm_map_open(&map, path, err);
    if (rc) return rc;
    rc = anm_params_parse(&p, (const char *)map.data, map.size, err);
    anm_map_close(&map);
    if (rc) return anm_error_prefix(err, path);
    if (!rc) rc = same(&r->o, path, "number of layers", p.n_layers, r->info->n_layers, err);
    if (!rc) rc = same(&r->o, path, "number of key/value heads", p.n_kv_heads, r->info->n_kv_heads, err);
    if (!rc) rc = same(&r->o, path, "head size", p.head_dim, r->info->head_dim, err);
    if (!rc && p.vocab_size > 0) rc = same(&r->o, path, "vocabulary", p.vocab_size, r->info->vocab_size, err);
    return rc;
}

/* How far a program of the deprecated form may go: as far as the original goes, which is until the rest of the cache is
 * less than a step; further when it is asked for, until the rotary tables end. */
static int limit_positions(running *r, anm_error *err)
{
    const options *o = &r->o;
    const anm_engine_info *info = r->info;
    if (!r->open && !info->deprecated)
        return anm_fail(err, ANM_ERR_UNSUPPORTED, "%s: is no program of the deprecated form; use anemone run", o->model);
    int64_t all = o->gave_max_seq ? o->max_seq_length : o->gave_max ? info->max_context : info->cache_len + info->input_len;
    if (all < 1 || (o->gave_max_seq && all > info->max_context))
        return anm_fail(err, ANM_ERR_LIMIT, "--max_seq_length: %lld is not between 1 and %lld, the rows of the rotary tables",
                        (long long)all, (long long)info->max_context);
    r->session->capacity = all < info->max_context ? all : info->max_context;
    return 0;
}

/* A token more than what may be fed after the prompt while a whole step fits. */
static void limit_tokens(running *r)
{
    if (!r->o.deprecated || (r->o.gave_max && !r->o.gave_max_seq)) return;
    int64_t most = r->session->capacity - r->info->input_len - (int64_t)r->n_prompt;
    most = most > 0 ? most + 1 : 1;
    if (!r->o.gave_max || r->o.max_new_tokens > most) r->o.max_new_tokens = most;
}

int run_open(running *r, anm_error *err)
{
    const options *o = &r->o;
    const anm_llm_opts how = {.precision = run_precision(o), .threads = (unsigned)o->threads};
    int rc = r->open ? r->open(r, &how, err) : anm_llm_open(&r->llm, o->model, &how, err);
    if ((rc == ANM_ERR_FORMAT || rc == ANM_ERR_IO) && !r->open && !o->deprecated)
        return cli_not_program(o->model, err);
    if (rc) return rc;
    r->info = anm_engine_get_info(r->llm->engine);
    if (o->gave_input) rc = same(o, o->deprecated ? "--seq_length" : "--input_len", o->deprecated ? "seq_length" : "input_len", o->input_len, r->info->input_len, err);
    if (!rc && o->gave_cache) rc = same(o, o->deprecated ? "--cache_size" : "--cache_len", o->deprecated ? "cache_size" : "cache_len", o->cache_len, r->info->cache_len, err);
    if (!rc && o->gave_context_len)
        rc = same(o, "--max_context_len", "max_context_len", o->max_context_len, r->info->max_context, err);
    if (!rc && o->params) rc = check_params(r, err);
    if (!rc && o->tokenizer) rc = anm_tokenizer_open(&r->tok, o->tokenizer, o->tokenizer_config, err);
    if (!rc && r->tok) rc = cli_tokenizer_fits(o->tokenizer, anm_tokenizer_size(r->tok), o->model, r->info->vocab_size, err);
    if (!rc) rc = anm_session_new(&r->session, r->llm, err);
    if (!rc && o->stats) anm_state_measure(r->session->state, anm_seconds);
    if (!rc && o->deprecated) rc = limit_positions(r, err);
    return rc;
}

static int encode_prompt(running *r, anm_error *err)
{
    const options *o = &r->o;
    anm_buf text = {0};
    int32_t *ids = NULL;
    size_t n = 0;
    int rc = 0;
    if (o->tokens)
        return cli_read_ids(&r->prompt, &r->n_prompt, o->tokens, strlen(o->tokens), "--tokens", err);
    if (o->prompt_file)
        rc = cli_read_text(&text, o->prompt_file, err);
    else
        anm_buf_puts(&text, o->prompt);
    if (!rc && text.bad) rc = anm_fail_memory(err, "the prompt");
    if (!rc && o->chat) {
        conversation c;
        rc = conversation_open(&c, r->tok, o->template, err);
        if (!rc && o->system) rc = conversation_say(&c, "system", o->system, strlen(o->system), err);
        if (!rc) rc = conversation_say(&c, "user", text.data ? (char *)text.data : "", text.size, err);
        if (!rc) rc = conversation_tokens(&ids, &n, &c, err);
        conversation_close(&c);
    } else if (!rc) {
        rc = anm_tokenizer_encode(&ids, &n, r->tok, text.data ? (char *)text.data : "", text.size,
                                  o->parse_special, err);
    }
    int32_t bos = anm_tokenizer_bos(r->tok);
    if (!rc && o->bos && bos < 0)
        rc = anm_fail(err, ANM_ERR_USAGE, "--bos: the tokenizer has no token for the beginning of a text");
    /* A chat template says itself where the token for the beginning stands. */
    bool add = o->bos || (!o->no_bos && !o->chat && bos >= 0 && anm_tokenizer_add_bos(r->tok) != 0);
    if (!rc && !(r->prompt = malloc((n + 1) * sizeof *r->prompt))) rc = anm_fail_memory(err, "the prompt");
    if (!rc) {
        if (add) r->prompt[r->n_prompt++] = bos;
        memcpy(r->prompt + r->n_prompt, ids, n * sizeof *ids);
        r->n_prompt += n;
        if (o->echo) anm_stream_push(&r->stream, text.data ? (char *)text.data : "", text.size);
    }
    free(ids);
    anm_buf_free(&text);
    return rc;
}

static int check_prompt(const running *r, anm_error *err)
{
    if (r->n_prompt == 0) return anm_fail(err, ANM_ERR_USAGE, "%s: the prompt is empty", r->o.who);
    if (r->n_prompt <= (size_t)r->session->capacity) return 0;
    return anm_fail(
        err, ANM_ERR_LIMIT,
        "%s: the prompt has %zu tokens, and the context holds %lld: shorten it, or %s", r->o.model, r->n_prompt,
        (long long)r->session->capacity,
        r->o.deprecated ? "take a larger --max_seq_length" : "export with a larger --max_context_len");
}

int run_read_prompt(running *r, anm_error *err)
{
    int rc = encode_prompt(r, err);
    if (!rc) rc = check_prompt(r, err);
    return rc;
}

static int find_stops(running *r, anm_error *err)
{
    if (!r->tok || r->o.ignore_eos) return 0;
    int32_t size = anm_tokenizer_size(r->tok);
    for (int pass = 0; pass < 2; pass++) {
        size_t n = 0;
        for (int32_t id = 0; id < size; id++)
            if (anm_tokenizer_is_stop(r->tok, id)) {
                if (pass) r->stop_ids[n] = id;
                n++;
            }
        r->n_stop = n;
        if (pass == 0 && !(r->stop_ids = calloc(n + 1, sizeof *r->stop_ids)))
            return anm_fail_memory(err, "stop tokens");
    }
    return 0;
}

static int set_up(running *r, anm_error *err)
{
    const options *o = &r->o;
    r->seed = o->gave_seed ? (uint64_t)o->seed : (uint64_t)time(NULL) * 1000003u ^ (uint64_t)getpid();
    const anm_sampling how = {.temperature = o->greedy ? 0 : o->temperature,
                              .top_p = o->top_p,
                              .min_p = o->min_p,
                              .top_k = o->top_k,
                              .repeat_penalty = o->repeat_penalty,
                              .repeat_last = o->repeat_last,
                              .seed = r->seed};
    int rc = anm_session_set_sampling(r->session, &how, err);
    if (rc || !o->lookahead) return rc;
    r->look = (anm_lookahead){strcmp(o->lookahead, "always") == 0 ? ANM_LOOKAHEAD_ALWAYS : ANM_LOOKAHEAD_AUTO,
                              (int32_t)o->ngram_size, (int32_t)o->window_size, (int32_t)o->n_verifications};
    int32_t *ids = NULL;
    size_t n = 0;
    if (o->ngrams_seed)
        rc = anm_tokenizer_encode(&ids, &n, r->tok, o->ngrams_seed, strlen(o->ngrams_seed), false, err);
    if (!rc && (rc = anm_session_seed_ngrams(r->session, &r->look, ids, n, err)))
        anm_error_prefix(err, o->model);
    free(ids);
    return rc;
}

/* Feeds the prompt, and on the way writes its logits, a step's rows at a time. */
static int feed_prompt(running *r, anm_error *err)
{
    anm_session *s = r->session;
    if (!r->o.logits) return anm_session_feed(s, r->prompt, r->n_prompt, err);
    bool all = r->info->all_logits && !r->o.deprecated; /* that form gives the last row's */
    size_t vocab = (size_t)r->info->vocab_size, step = all ? (size_t)r->info->input_len : r->n_prompt;
    cli_npy f = {0};
    float *rows = all ? malloc(step * vocab * sizeof *rows) : NULL;
    if (all && !rows) return anm_fail_memory(err, "the logits");
    int rc = cli_npy_open(&f, r->o.logits, all ? r->n_prompt : 1, vocab, err);
    for (size_t i = 0; i < r->n_prompt && !rc; i += step) {
        size_t n = r->n_prompt - i < step ? r->n_prompt - i : step;
        rc = anm_session_feed_rows(rows, s, r->prompt + i, n, err);
        if (!rc) rc = cli_npy_write(&f, all ? rows : anm_session_logits(s), (all ? n : 1) * vocab, err);
    }
    if (!rc) rc = cli_npy_commit(&f, err);
    cli_npy_abort(&f);
    free(rows);
    return rc;
}

/* One prompt, one answer. */
static int run_once(running *r, anm_error *err)
{
    anm_end end = ANM_END_MAX;
    int rc = run_read_prompt(r, err);
    if (!rc) limit_tokens(r);
    if (!rc && (rc = feed_prompt(r, err)) && !r->o.logits) anm_error_prefix(err, r->o.model);
    cli_handle_stop(true);
    if (!rc) rc = run_answer(r, &end, err);
    if (!rc && run_precision(&r->o) == ANM_PRECISION_FP16) anm_state_print_range(stderr, r->session->state);
    if (!rc) rc = run_figures(r, end, r->o.stats, err);
    return rc;
}

void run_close(running *r)
{
    anm_stream_free(&r->stream);
    anm_buf_free(&r->ids);
    anm_buf_free(&r->answer);
    anm_buf_free(&r->made);
    free(r->prompt);
    free(r->stop_ids);
    anm_session_free(r->session);
    anm_tokenizer_free(r->tok);
    anm_llm_free(r->llm);
}

int run_program(running *r, anm_error *err)
{
    int rc = run_check_words(&r->o, err);
    if (!rc && r->o.logits) rc = run_check_output(&r->o, r->o.logits, err); /* said before the work, not behind it */
    if (!rc && r->o.gave_look && !r->o.lookahead) cli_note("--ngram_size, --window_size and --n_verifications do nothing without --lookahead");
    if (!rc) rc = cli_sandbox_run(&r->o, err);
    if (!rc) rc = run_open(r, err);
    if (!rc && r->o.logits) rc = run_check_output(&r->o, r->o.logits, err); /* now that all is known that is read */
    r->show_ids = r->o.print_tokens || !r->tok;
    r->show_text = !r->show_ids;
    r->stream.stop = r->o.stop.item;
    r->stream.n_stop = r->o.stop.n;
    if (!rc) rc = find_stops(r, err);
    if (!rc) rc = set_up(r, err);
    if (!rc) rc = r->o.interactive ? run_chat(r, err) : run_once(r, err);
    run_close(r);
    return rc;
}

static int command(int argc, char **argv, bool interactive)
{
    running r = {0};
    anm_error err = {0};
    int rc = parse(&r.o, interactive, argc, argv, &err);
    if (rc == CLI_HELPED) return EXIT_OK;
    r.o.interactive |= interactive;
    if (r.o.interactive && !r.o.gave_max) r.o.max_new_tokens = 1000;
    if (!rc) rc = run_program(&r, &err);
    if (!rc && !r.o.interactive) cli_die_if_stopped();
    return rc ? cli_fail(&err) : EXIT_OK;
}

int cmd_run(int argc, char **argv)
{
    return command(argc, argv, false);
}

int cmd_chat(int argc, char **argv)
{
    return command(argc, argv, true);
}
