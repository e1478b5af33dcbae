/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What verifying costs of loading: the time to open a program (read and verify all of it, make the plan, pack the weights);
 * of that the time until the graph is read, verified and understood; and of that what verifies and does nothing else, the
 * flatbuffer's part (which it also reads) and the graphs'. The least of some runs, file in memory.
 *
 *     bench_load MODEL.pte [RUNS]
 */
#include "run/engine_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Seconds, or less than 0 where it cannot be opened. */
static double flatbuffer(const char *path)
{
    anm_map map;
    anm_pte pte;
    anm_error err;
    if (anm_map_open(&map, path, &err)) return -1;
    double from = now();
    int rc = anm_pte_read(&pte, map.data, map.size, &err);
    double t = now() - from;
    anm_pte_free(&pte);
    anm_map_close(&map);
    return rc ? -1 : t;
}

static double understood(const char *path)
{
    anm_loaded l;
    anm_error err;
    double from = now();
    if (anm_loaded_open(&l, path, &err)) return -1;
    double t = now() - from;
    anm_loaded_close(&l);
    return t;
}

static double graphs(const char *path)
{
    anm_loaded l;
    anm_error err;
    int rc = 0;
    if (anm_loaded_open(&l, path, &err)) return -1;
    double from = now();
    for (const anm_opened *o = l.packages; o; o = o->next) rc |= anm_mil_verify(&o->package.program, false, &err);
    double t = now() - from;
    anm_loaded_close(&l);
    return rc ? -1 : t;
}

static double opened(const char *path)
{
    anm_engine *e;
    anm_error err;
    double from = now();
    if (anm_engine_open(&e, path, NULL, &err)) {
        fprintf(stderr, "%s\n", err.text);
        return -1;
    }
    double t = now() - from;
    anm_engine_free(e);
    return t;
}

int main(int argc, char **argv)
{
    double (*const what[])(const char *) = {opened, understood, flatbuffer, graphs};
    double least[4] = {0};
    long runs = argc > 2 ? strtol(argv[2], NULL, 10) : 7;
    if (argc < 2 || runs < 1) {
        fprintf(stderr, "usage: bench_load MODEL.pte [RUNS]\n");
        return 2;
    }
    for (int w = 0; w < 4; w++)
        for (long i = 0; i < runs; i++) {
            double t = what[w](argv[1]);
            if (t < 0) return 1;
            if (!i || t < least[w]) least[w] = t;
        }
    double checks = least[2] + least[3];
    printf("open %.2f ms; until the graph is understood %.3f ms; the flatbuffer %.3f ms and the graphs %.3f ms verified: %.2f %% of all\n",
           1e3 * least[0], 1e3 * least[1], 1e3 * least[2], 1e3 * least[3], 100 * checks / least[0]);
    return 0;
}
