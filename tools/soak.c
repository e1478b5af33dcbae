/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A long conversation: generates for so many minutes with a context that slides, and looks at twelve windows of time whether
 * memory grows or speed falls. The first window is for warming up. Fails where the resident size of the others differs by
 * more than 1 %, or the speed of their last third is more than 5 % from that of their first. Other work on the machine takes
 * time and slows a processor down that it shares parts with, so speed is counted against a yardstick: tokens in the
 * processor's time that a fixed piece of work takes, which is measured anew twenty times a second. Threads that wait
 * for each other use the processor, too: one thread is measured best.
 *
 *     soak MODEL.pte MINUTES [THREADS]
 */
#include "anemone.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { WINDOWS = 12, THIRD = (WINDOWS - 1) / 3 };

typedef struct soak {
    double begin, window; /* seconds */
    double worked;        /* the processor's seconds at its begin */
    double measured;      /* when the yardstick was last laid on */
    double yards;         /* the processor's seconds for all `laid` of this window */
    long laid, tokens;
    float *memory; /* that a yardstick walks through: as much as the model takes */
    size_t n_memory;
    int n;                /* windows that are over */
    double speed[WINDOWS], size[WINDOWS]; /* tokens in the time of a yardstick; MB */
} soak;

static double seconds(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* MB in memory; 0 where the system does not say. */
static double resident(void)
{
    long all = 0, here = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    if (f && fscanf(f, "%ld %ld", &all, &here) != 2) here = 0;
    if (f) fclose(f);
    return (double)here * (double)sysconf(_SC_PAGESIZE) / 1e6;
}

static void begin_window(soak *s)
{
    s->tokens = s->laid = 0;
    s->yards = 0;
    s->begin = seconds(CLOCK_MONOTONIC);
    s->worked = seconds(CLOCK_PROCESS_CPUTIME_ID);
}

/* Dot products of the first-level cache's size, and one walk through as much memory as the model takes: the caches that
 * other work empties are filled again for both. */
static void lay_yardstick(soak *s)
{
    static float x[1024], sum[8];
    double from = seconds(CLOCK_PROCESS_CPUTIME_ID);
    for (int i = 0; i < 1024; i++) x[i] = (float)(i % 7);
    for (int round = 0; round < 500; round++)
        for (int i = 0; i < 1024; i += 8)
            for (int k = 0; k < 8; k++) sum[k] = 0.5f * sum[k] + x[(i + round * 8) % 1024 + k];
    for (int round = 0; round < 8; round++)
        for (size_t i = 0; i + 8 <= s->n_memory; i += 8)
            for (int k = 0; k < 8; k++) sum[k] += s->memory[i + k];
    volatile float keep = sum[0];
    (void)keep;
    s->yards += seconds(CLOCK_PROCESS_CPUTIME_ID) - from;
    s->laid++;
}

/* Floats of as many bytes as the file has, up to 64 MB. */
static int take_memory(soak *s, const char *path)
{
    FILE *f = fopen(path, "rb");
    long size = f && !fseek(f, 0, SEEK_END) ? ftell(f) : -1;
    if (f) fclose(f);
    if (size < 0) return -1;
    s->n_memory = (size_t)(size < 64000000 ? size : 64000000) / sizeof *s->memory;
    s->memory = malloc((s->n_memory + 1) * sizeof *s->memory);
    for (size_t i = 0; s->memory && i < s->n_memory; i++) s->memory[i] = 1;
    return s->memory ? 0 : -1;
}

static int on_token(void *ctx, int32_t id)
{
    soak *s = ctx;
    (void)id;
    s->tokens++;
    double time = seconds(CLOCK_MONOTONIC), t = time - s->begin;
    if (time - s->measured > 0.05) {
        lay_yardstick(s);
        s->measured = time;
    }
    if (t < s->window || !s->laid) return 0;
    double worked = seconds(CLOCK_PROCESS_CPUTIME_ID) - s->worked - s->yards;
    s->speed[s->n] = (double)s->tokens / worked * s->yards / (double)s->laid;
    s->size[s->n] = resident();
    printf("%2d: %8ld tokens, %7.2f/s, %7.2f per second of the processor's time, %7.3f per yardstick, %8.2f MB\n", s->n + 1, s->tokens,
           (double)s->tokens / t, (double)s->tokens / worked, s->speed[s->n], s->size[s->n]);
    fflush(stdout);
    begin_window(s);
    return ++s->n == WINDOWS;
}

static double mean(const double *v, int n)
{
    double sum = 0;
    for (int i = 0; i < n; i++) sum += v[i];
    return sum / n;
}

static int judge(const soak *s)
{
    double least = INFINITY, most = 0;
    for (int i = 1; i < WINDOWS; i++) {
        least = fmin(least, s->size[i]);
        most = fmax(most, s->size[i]);
    }
    double growth = least > 0 ? 100 * (most / least - 1) : 0;
    double first = mean(s->speed + 1, THIRD), last = mean(s->speed + WINDOWS - THIRD, THIRD);
    double change = 100 * (last / first - 1);
    printf("memory within %.2f %%, speed %+.2f %%\n", growth, change);
    return growth > 1 || fabs(change) > 5;
}

int main(int argc, char **argv)
{
    static const int32_t ids[] = {1, 2, 3};
    soak s = {0};
    anm_llm *m = NULL;
    anm_session *session = NULL;
    anm_error err;
    anm_end end;
    double minutes = argc > 2 ? strtod(argv[2], NULL) : 0;
    if (argc < 3 || !(minutes > 0)) {
        fprintf(stderr, "usage: soak MODEL.pte MINUTES [THREADS]\n");
        return 2;
    }
    const anm_llm_opts opts = {.threads = argc > 3 ? (unsigned)strtoul(argv[3], NULL, 10) : 0};
    const anm_sampling how = {.temperature = 0.8, .top_p = 0.95, .repeat_penalty = 1, .repeat_last = 64, .seed = 1};
    const anm_generation g = {.max_new = -1, .when_full = ANM_FULL_SLIDE, .keep = 4, .token = on_token, .ctx = &s};
    s.window = minutes * 60 / WINDOWS;
    int rc = anm_llm_open(&m, argv[1], &opts, &err);
    if (!rc && take_memory(&s, argv[1])) {
        fprintf(stderr, "%s: cannot be looked at, or memory is out\n", argv[1]);
        rc = 1;
    }
    if (rc == 1) goto done;
    if (!rc) rc = anm_session_new(&session, m, &err);
    if (!rc) rc = anm_session_set_sampling(session, &how, &err);
    if (!rc) rc = anm_session_feed(session, ids, 3, &err);
    begin_window(&s);
    if (!rc) rc = anm_session_generate(&end, session, &g, &err);
    if (rc) fprintf(stderr, "%s\n", err.text);
    else rc = judge(&s);
done:
    anm_session_free(session);
    anm_llm_free(m);
    free(s.memory);
    return rc != 0;
}
