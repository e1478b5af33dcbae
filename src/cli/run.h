/* SPDX-License-Identifier: BSD-3-Clause */
/* anemone run's inside: what its files share. */
#ifndef ANM_CLI_RUN_H
#define ANM_CLI_RUN_H

#include "base/buf.h"
#include "cli/opt.h"
#include "run/session.h"
#include "run/stream.h"
#include "token/token.h"

typedef struct options {
    const char *who; /* the command, for messages */
    const char *model, *params, *tokenizer, *tokenizer_config;
    const char *prompt, *prompt_file, *tokens, *logits, *ngrams_seed;
    cli_list stop;
    const char *precision, *lookahead, *context, *system, *template, *sandbox;
    int64_t max_new_tokens, input_len, cache_len, max_context_len, ngram_size, window_size, n_verifications;
    int64_t top_k, repeat_last, seed, threads, keep;
    double temperature, top_p, min_p, repeat_penalty;
    bool exact, precise, bos, no_bos, parse_special, ignore_eos, greedy, print_tokens, echo, json, stats,
        chat, interactive, no_sandbox;
    bool locked; /* in the sandbox */
    bool gave_prompt, gave_seed, gave_precision, gave_input, gave_cache, gave_context_len, gave_max, gave_temperature, gave_keep, gave_look;
    const char *checkpoint, *checkpoint_params; /* in the program's place, or beside it; NULL: none */
    /* A program of the deprecated form, or the checkpoint itself in its place: */
    bool deprecated, gave_max_seq;
    int64_t max_seq_length; /* with gave_max_seq: positions that may be used */
} options;

/* Everything that is open while the command runs. */
typedef struct running {
    options o;
    /* Opens llm where it is no file; NULL: o.model is opened. */
    int (*open)(struct running *r, const anm_llm_opts *how, anm_error *err);
    void *ctx; /* of open */
    void (*said)(void); /* NULL, or called when all went well, before the figures */
    anm_llm *llm;
    anm_tokenizer *tok;
    anm_session *session;
    const anm_engine_info *info;
    anm_lookahead look;
    uint64_t seed;
    int32_t *prompt, *stop_ids;
    size_t n_prompt, n_stop;
    anm_stream stream;
    anm_buf ids; /* the new tokens, for --print_tokens */
    bool show_text, show_ids;
    bool trim;      /* the answer's first space is the tokenizer's, not the model's */
    anm_buf answer; /* its text, kept for the conversation, … */
    anm_buf made;   /* … and its tokens, int32_t */
} running;

/* The whole command, once `o` (and `open`) are set; frees what it opened. */
int run_program(running *r, anm_error *err);

anm_precision run_precision(const options *o);

/* The options by themselves, before anything is opened. */
int run_check_words(const options *o, anm_error *err);

/* Before something is written to `path`: it may be nothing that the command reads. */
int run_check_output(const options *o, const char *path, anm_error *err);

/* Opens the program, the tokenizer and a session, and reads the prompt. Close also after a failure. */
int run_open(running *r, anm_error *err);
int run_read_prompt(running *r, anm_error *err);
void run_close(running *r);

/* Makes the answer to what the session was fed, streaming it to standard output. */
int run_answer(running *r, anm_end *end, anm_error *err);

/* Figures of all that was done, on standard error. */
int run_figures(const running *r, anm_end end, bool more, anm_error *err);

/* A conversation on standard input and output, until the input ends (run_chat.c). */
int run_chat(running *r, anm_error *err);

#endif
