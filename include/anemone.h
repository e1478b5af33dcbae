/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * anemone: Llama models for Apple's Neural Engine, and the same files run anywhere.
 *
 * The one public header. Everything is prefixed anm_ (functions, types) or ANM_ (constants).
 * Functions return 0 or a negative enum anm_code; the reason stands in the caller's anm_error.
 */
#ifndef ANEMONE_H
#define ANEMONE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum anm_code {
    ANM_OK = 0,
    ANM_ERR_USAGE = -1,       /* the call or the command's words are off */
    ANM_ERR_IO = -2,          /* the system refused a file operation */
    ANM_ERR_FORMAT = -3,      /* a file is malformed */
    ANM_ERR_UNSUPPORTED = -4, /* well-formed, but something that anemone does not do; named in the text */
    ANM_ERR_MEMORY = -5,      /* an allocation failed */
    ANM_ERR_LIMIT = -6,       /* a context, vocabulary or size bound was reached */
    ANM_ERR_STOPPED = -7,     /* a callback or a signal asked to stop */
};

#define ANM_NO_OFFSET UINT64_MAX

/* Why a call failed. The caller owns it; one line of text. Names out of files stand in it as they are: a program that shows it on a
 * terminal escapes control characters, as the command line does. */
typedef struct anm_error {
    int code;        /* enum anm_code */
    uint64_t offset; /* where in the file, in bytes; ANM_NO_OFFSET where that has no meaning */
    char text[504];
} anm_error;

#if defined(__GNUC__)
#define ANM_API __attribute__((visibility("default")))
#else
#define ANM_API
#endif

/* The version of the library, "MAJOR.MINOR.PATCH". */
ANM_API const char *anm_version(void);

/* ---------------------------------------------------------------------------------------------------------------
 * Models. A program (.pte) with Core ML packages inside, loaded to run on this machine's CPU. Immutable: any
 * number of sessions may share one and run at once, each in a thread of its caller's: one step at a time has the
 * model's threads, the others compute on the thread that called. Different models know nothing of each other.
 */
typedef struct anm_llm anm_llm;

typedef enum anm_precision {
    ANM_PRECISION_DEFAULT, /* activations as the fast kernels take them */
    ANM_PRECISION_PRECISE, /* finer activations */
    ANM_PRECISION_EXACT,   /* fp32 activations; weights as the file declares them */
    ANM_PRECISION_FP16,    /* every operation rounded to its declared type: what an fp16 device does; slow */
} anm_precision;

typedef struct anm_llm_opts {
    anm_precision precision;
    unsigned threads; /* the caller's included; 0: one per processor that this process may use; 1024 at most */
} anm_llm_opts;

typedef struct anm_llm_info {
    int64_t vocab_size;  /* ids are in [0, vocab_size) */
    int64_t max_context; /* the most tokens that a session can be fed */
    int64_t input_len;   /* tokens of the widest step that the file has; a prompt is fed in wider ones where that is faster */
    int n_layers;
    int multifunction; /* 1: two methods, `prefill` and a `forward` of one token; 0: one for both */
    int all_logits; /* 1: a step gives logits for all its tokens, as lookahead needs; 0: for its last one */
} anm_llm_info;

/* opts may be NULL: the defaults, which are zeros. Free with anm_llm_free, after its sessions. ANM_ERR_IO, ANM_ERR_FORMAT or
 * ANM_ERR_UNSUPPORTED name the file. */
ANM_API int anm_llm_open(anm_llm **out, const char *path, const anm_llm_opts *opts, anm_error *err);
ANM_API void anm_llm_free(anm_llm *m);
ANM_API void anm_llm_get_info(anm_llm_info *out, const anm_llm *m);

/* ---------------------------------------------------------------------------------------------------------------
 * Tokenizers: text to ids and back. The format is found by looking into the file: tiktoken's list,
 * SentencePiece's protobuf, Hugging Face's tokenizer.json, Mistral's tekken.json, or the tokens in a GGUF's
 * metadata. Immutable: any number of threads may use one.
 */
typedef struct anm_tokenizer anm_tokenizer;

/* `config` is a tokenizer_config.json, or NULL: then the one beside `path` is used, where there is one. */
ANM_API int anm_tokenizer_open(anm_tokenizer **out, const char *path, const char *config, anm_error *err);
ANM_API void anm_tokenizer_free(anm_tokenizer *t);
ANM_API int32_t anm_tokenizer_size(const anm_tokenizer *t); /* ids are in [0, size) */
ANM_API int32_t anm_tokenizer_bos(const anm_tokenizer *t);  /* -1 where there is none, as for the next */
ANM_API int32_t anm_tokenizer_eos(const anm_tokenizer *t);
/* Does the tokenizer's own data say whether a BOS goes first? 1 yes, 0 no, -1 it does not say. */
ANM_API int anm_tokenizer_add_bos(const anm_tokenizer *t);
/* Does this id end an answer: EOS, <|eot_id|>, <|im_end|>, …? */
ANM_API bool anm_tokenizer_is_stop(const anm_tokenizer *t, int32_t id);

/* Encodes n bytes of UTF-8 (invalid bytes become what the format's original makes of U+FFFD). With
 * parse_special, spelled-out special tokens become their ids; without, they are text. No BOS is added. *ids
 * is the caller's (free). */
ANM_API int anm_tokenizer_encode(int32_t **ids, size_t *count, const anm_tokenizer *t, const char *text,
                                 size_t n, bool parse_special, anm_error *err);

/* The bytes of one token as they stand in running text, perhaps part of a UTF-8 character; special tokens
 * give their spelling when `special`, else nothing. Points into the tokenizer. */
ANM_API void anm_tokenizer_piece(const char **bytes, size_t *n, const anm_tokenizer *t, int32_t id,
                                 bool special);

/* The text of `count` ids as the original's decode gives it. Ends with a 0 byte that n does not count; the
 * caller's (free). ANM_ERR_LIMIT: there is no token of such an id. */
ANM_API int anm_tokenizer_decode(char **text, size_t *n, const anm_tokenizer *t, const int32_t *ids,
                                 size_t count, bool special, anm_error *err);

/* ---------------------------------------------------------------------------------------------------------------
 * Sessions: one conversation each. Feed tokens, look at the logits, choose the next token; or let generate do
 * it. One thread at a time. Equal calls give equal answers: they depend neither on how the tokens are cut
 * into calls, nor on threads, nor on lookahead. (Programs of the deprecated form forget their oldest tokens step
 * by step; once their cache is full, the cuts are the steps.)
 */
typedef struct anm_session anm_session;

/* How the next token is chosen: the logits of recent tokens are pushed down by repeat_penalty, temperature
 * divides, softmax follows, then top_k, top_p and min_p cut the tail, in this order. */
typedef struct anm_sampling {
    double temperature;    /* 0: always the likeliest token, and of equal ones the lowest id */
    double top_p;          /* the likeliest tokens until their sum exceeds it; 1 (or more): off */
    double min_p;          /* only tokens at least this probable, relative to the likeliest; 0: off */
    int64_t top_k;         /* only so many of the likeliest; 0: off */
    double repeat_penalty; /* divides positive logits of recent tokens and multiplies negative ones; 1: off */
    int64_t repeat_last;   /* how many tokens are recent; 0: all */
    uint64_t seed;         /* the same seed, the same tokens, on every machine */
} anm_sampling;

/* Greedy decoding. */
#define ANM_SAMPLING_GREEDY                                                                                  \
    {                                                                                                        \
        0, 1, 0, 0, 1, 64, 0                                                                                 \
    }

ANM_API int anm_session_new(anm_session **out, anm_llm *m, anm_error *err);
ANM_API void anm_session_free(anm_session *s);

/* Greedy until this is called. Restarts the random numbers from the seed. ANM_ERR_USAGE names a value out of
 * range. */
ANM_API int anm_session_set_sampling(anm_session *s, const anm_sampling *how, anm_error *err);

/* Forgets everything fed, and the statistics; sampling stays as set, and its random numbers go on. */
ANM_API void anm_session_reset(anm_session *s);

/* Feeds n tokens after those fed before. ANM_ERR_LIMIT: an id is outside the vocabulary, or they are more
 * than the context holds; then nothing is fed. */
ANM_API int anm_session_feed(anm_session *s, const int32_t *ids, size_t n, anm_error *err);

/* Makes room: drops a quarter of the cache's tokens, the oldest ones but the first `keep`. What the others
 * were computed from is not computed again; positions close up. Does nothing unless the context is full, but for its
 * errors: ANM_ERR_LIMIT where so many cannot be kept; ANM_ERR_UNSUPPORTED for a program whose keys cannot be turned
 * back, and for one of the deprecated form, which forgets by itself. */
ANM_API int anm_session_slide(anm_session *s, int64_t keep, anm_error *err);

/* The tokens fed so far, less those that left; *ids points into the session until its next call. */
ANM_API size_t anm_session_fed(const int32_t **ids, const anm_session *s);

/* Keeps the first `keep` of the tokens fed, at most all but the last one, and forgets the rest. Afterwards
 * feed before you sample. ANM_ERR_USAGE: they were not fed; ANM_ERR_LIMIT: some of them have left. */
ANM_API int anm_session_rewind(anm_session *s, size_t keep, anm_error *err);

/* vocab_size logits of what follows the last token fed; NULL where nothing was fed since the start or a
 * rewind. */
ANM_API const float *anm_session_logits(const anm_session *s);

/* Chooses the token that follows the last one fed. Does not feed it. ANM_ERR_USAGE: there are no logits yet;
 * ANM_ERR_LIMIT: they are no numbers (an overflow). */
ANM_API int anm_session_sample(int32_t *id, anm_session *s, anm_error *err);

/* Lookahead decoding (Fu et al., arXiv 2402.02057): several tokens a step, where guesses from a Jacobi window
 * and from n-grams seen before come true. The answer is the one without it, token for token, greedy or
 * sampled. */
typedef enum anm_lookahead_mode {
    ANM_LOOKAHEAD_OFF,
    ANM_LOOKAHEAD_AUTO,  /* measures, and guesses only where that pays */
    ANM_LOOKAHEAD_ALWAYS /* the whole window in every step */
} anm_lookahead_mode;

typedef struct anm_lookahead {
    anm_lookahead_mode mode;
    int32_t ngram_size;      /* at least 2 */
    int32_t window_size;     /* columns of the window; 0: n-grams only */
    int32_t n_verifications; /* at least 1: n-grams kept per first token, and tried per step */
    /* (ngram_size - 1) * (window_size + n_verifications) must not exceed the model's input_len. */
} anm_lookahead;

#define ANM_LOOKAHEAD_DEFAULT                                                                                \
    {                                                                                                        \
        ANM_LOOKAHEAD_AUTO, 5, 4, 4                                                                          \
    }

typedef enum anm_end {
    ANM_END_MAX,     /* max_new tokens were made */
    ANM_END_STOP,    /* a stop token was chosen; it is the last one given to the callback */
    ANM_END_CALLER,  /* the callback said so */
    ANM_END_CONTEXT, /* the context is full */
} anm_end;

typedef enum anm_when_full {
    ANM_FULL_STOP,  /* the answer ends (ANM_END_CONTEXT) */
    ANM_FULL_SLIDE, /* the oldest tokens leave, a quarter of the cache at a time; the first `keep` stay */
} anm_when_full;

typedef struct anm_generation {
    int64_t max_new;     /* the most new tokens; < 0: until something else ends it */
    const int32_t *stop; /* ids that end the answer */
    size_t n_stop;
    anm_lookahead lookahead; /* zeros: off */
    anm_when_full when_full;
    int64_t keep; /* tokens at the context's beginning that never leave; 4 are enough (Xiao et al., arXiv
                     2309.17453) */
    /* Called for every new token in order, the ending one included. Other than 0 ends the answer after this
     * token. May be NULL. It must not call the session. */
    int (*token)(void *ctx, int32_t id);
    void *ctx;
} anm_generation;

/* Continues after the last token fed. All new tokens but the last one are fed (the last is the caller's to
 * feed or to leave). *end says why it stopped. */
ANM_API int anm_session_generate(anm_end *end, anm_session *s, const anm_generation *g, anm_error *err);

/* Fills lookahead's n-gram pool from text as tokens, before generate; the tokens fed are added without this.
 */
ANM_API int anm_session_seed_ngrams(anm_session *s, const anm_lookahead *how, const int32_t *ids, size_t n,
                                    anm_error *err);

typedef struct anm_method_stats {
    int64_t calls, rows; /* rows: tokens and guesses computed */
    double seconds;
} anm_method_stats;

typedef struct anm_session_stats {
    int64_t fed_tokens, new_tokens; /* fed by the caller; made by generate */
    int64_t steps; /* steps that generate took: none for an answer's first token, which what was fed gives, one for each
                      other, or fewer where lookahead guessed right */
    double feed_seconds, generate_seconds;
    anm_method_stats forward, prefill;
} anm_session_stats;

ANM_API void anm_session_get_stats(anm_session_stats *out, const anm_session *s);

#ifdef __cplusplus
}
#endif

#endif
