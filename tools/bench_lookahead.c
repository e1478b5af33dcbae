/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Lookahead beside plain decoding, on fixed prompts: bench_lookahead MODEL.pte TOKENIZER PROMPTS [THREADS [ROUNDS]]
 *
 * PROMPTS holds texts, each after a line "%% NAME". Each is gone on with greedily, by at most
 * MOST tokens, and cut where a run of REPEAT tokens comes for the second time: small models loop, and a loop would be
 * guessed too well. Then the same answer is made both ways in turn, each time by a new session; the middle ratio counts.
 * The tool fails when lookahead changes an answer.
 */
#include "anemone.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 256, REPEAT = 20, PROMPTS = 64, ROUNDS = 31, TEXT = 65536 };
#define WIDE_STEP 1.11 /* an iPhone 15 Pro's Neural Engine: a step of 32 tokens over one of a single token */

typedef struct answer {
    int32_t id[MOST];
    int64_t n, steps;
    double seconds;
    bool cut; /* stop at a run that comes again */
} answer;

static bool comes_again(const answer *a)
{
    if (a->n <= REPEAT) return false;
    const int32_t *last = a->id + a->n - REPEAT;
    for (int64_t i = 0; i + REPEAT < a->n; i++)
        if (!memcmp(a->id + i, last, REPEAT * sizeof *last)) return true;
    return false;
}

static int take(void *ctx, int32_t id)
{
    answer *a = ctx;
    a->id[a->n++] = id;
    return a->cut && comes_again(a);
}

static int die(const anm_error *err)
{
    fprintf(stderr, "bench_lookahead: %s\n", err->text);
    return 1;
}

static int make(answer *a, anm_llm *m, const int32_t *prompt, size_t n, int64_t most, int32_t stop, anm_lookahead look,
                anm_error *err)
{
    anm_session *s;
    anm_session_stats st = {0};
    anm_end end;
    a->n = 0;
    int rc = anm_session_new(&s, m, err);
    if (rc) return rc;
    rc = anm_session_feed(s, prompt, n, err);
    const anm_generation g = {.max_new = most, .stop = &stop, .n_stop = stop >= 0, .lookahead = look, .token = take, .ctx = a};
    if (!rc) rc = anm_session_generate(&end, s, &g, err);
    anm_session_get_stats(&st, s);
    a->seconds = st.generate_seconds;
    a->steps = st.steps;
    anm_session_free(s);
    return rc;
}

static int upwards(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double middle(double *v, int n)
{
    qsort(v, (size_t)n, sizeof *v, upwards);
    return v[n / 2];
}

/* One prompt: a line of the table. */
static int one(const char *name, const char *text, anm_llm *m, const anm_tokenizer *t, int rounds, anm_error *err)
{
    static answer plain, look;
    double ratio[ROUNDS], slow[ROUNDS], fast[ROUNDS];
    const anm_lookahead off = {0}, measured = ANM_LOOKAHEAD_DEFAULT;
    anm_lookahead always = measured;
    always.mode = ANM_LOOKAHEAD_ALWAYS;
    int32_t *ids = NULL;
    size_t n = 0;
    int rc = anm_tokenizer_encode(&ids, &n, t, text, strlen(text), false, err);
    plain.cut = true;
    if (!rc) rc = make(&plain, m, ids, n, MOST, anm_tokenizer_eos(t), off, err);
    plain.cut = false;
    int64_t length = plain.n, steps = 0;
    double per_step = 0, wide = 0;
    if (!rc && !(rc = make(&look, m, ids, n, length, -1, always, err)))
        wide = look.steps ? (double)(length - 1) / (double)look.steps : 1;
    for (int i = 0; i < rounds && !rc; i++) {
        rc = make(&plain, m, ids, n, length, -1, off, err);
        if (!rc) rc = make(&look, m, ids, n, length, -1, measured, err);
        if (!rc && (look.n != plain.n || memcmp(look.id, plain.id, (size_t)plain.n * sizeof *plain.id))) {
            snprintf(err->text, sizeof err->text, "%s: lookahead gave another answer", name);
            rc = -1;
        }
        slow[i] = (double)(length - 1) / plain.seconds;
        fast[i] = (double)(length - 1) / look.seconds;
        ratio[i] = fast[i] / slow[i];
        steps += look.steps;
    }
    free(ids);
    if (rc || length < 2) return rc;
    per_step = (double)(length - 1) * rounds / (double)steps;
    printf("%-24s %6lld %8.1f %9.1f %7.2f %9.2f %12.2f %9.2f\n", name, (long long)length, middle(slow, rounds),
           middle(fast, rounds), middle(ratio, rounds), per_step, wide, wide / WIDE_STEP);
    fflush(stdout);
    return 0;
}

int main(int argc, char **argv)
{
    static char text[TEXT];
    anm_error err = {0};
    anm_llm *m = NULL;
    anm_tokenizer *t = NULL;
    int rounds = argc > 5 ? atoi(argv[5]) : 5;
    if (argc < 4 || rounds < 1 || rounds > ROUNDS) {
        fprintf(stderr, "usage: bench_lookahead MODEL.pte TOKENIZER PROMPTS [THREADS [ROUNDS]]\n");
        return 2;
    }
    const anm_llm_opts how = {.threads = argc > 4 ? (unsigned)atoi(argv[4]) : 0};
    FILE *f = fopen(argv[3], "rb");
    size_t n = f ? fread(text, 1, sizeof text - 1, f) : 0;
    if (f) fclose(f);
    if (!n) {
        fprintf(stderr, "bench_lookahead: %s: cannot be read\n", argv[3]);
        return 1;
    }
    int rc = anm_llm_open(&m, argv[1], &how, &err);
    if (!rc) rc = anm_tokenizer_open(&t, argv[2], NULL, &err);
    printf("%-24s %6s %8s %9s %7s %9s %12s %9s\n", "prompt", "tokens", "plain", "lookahead", "ratio", "a step", "a wide step",
           "on an ANE");
    for (char *at = text; !rc && (at = strstr(at, "%% "));) {
        char *name = at + 3, *body = strchr(name, '\n'), *end;
        if (!body) break;
        *body++ = 0;
        end = strstr(body, "\n%% ");
        if (!end && body[0] && body[strlen(body) - 1] == '\n') body[strlen(body) - 1] = 0;
        if (end) *end = 0;
        rc = one(name, body, m, t, rounds, &err);
        if (!end) break;
        at = end + 1;
    }
    anm_tokenizer_free(t);
    anm_llm_free(m);
    return rc ? die(&err) : 0;
}
