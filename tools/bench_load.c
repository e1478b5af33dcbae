/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What verifying costs of loading: the time to open a program (read and verify all of it, make the plan, pack the weights);
 * of that the time until the graph is read, verified and understood; and of that what verifies, where and when loading does so:
 * the flatbuffer's part (which it also reads) and the graphs'. The linker leads the calls of both through here (--wrap).
 * The least of some runs, file in memory.
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

static struct {
    double flatbuffer, graphs; /* seconds of this run so far */
} verifying;

int __real_anm_pte_read(anm_pte *out, const uint8_t *data, uint64_t size, anm_error *err);
int __wrap_anm_pte_read(anm_pte *out, const uint8_t *data, uint64_t size, anm_error *err);
int __real_anm_mil_verify(const anm_mil_program *p, bool strict, anm_error *err);
int __wrap_anm_mil_verify(const anm_mil_program *p, bool strict, anm_error *err);

int __wrap_anm_pte_read(anm_pte *out, const uint8_t *data, uint64_t size, anm_error *err)
{
    double from = now();
    int rc = __real_anm_pte_read(out, data, size, err);
    verifying.flatbuffer += now() - from;
    return rc;
}

int __wrap_anm_mil_verify(const anm_mil_program *p, bool strict, anm_error *err)
{
    double from = now();
    int rc = __real_anm_mil_verify(p, strict, err);
    verifying.graphs += now() - from;
    return rc;
}

/* Seconds, or less than 0 where it cannot be opened. */
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

static double opened(const char *path)
{
    anm_engine *e;
    anm_error err;
    verifying.flatbuffer = verifying.graphs = 0;
    double from = now();
    if (anm_engine_open(&e, path, NULL, &err)) {
        fprintf(stderr, "%s\n", err.text);
        return -1;
    }
    double t = now() - from;
    anm_engine_free(e);
    return t;
}

static void keep_least(double *least, double t, bool first)
{
    if (first || t < *least) *least = t;
}

int main(int argc, char **argv)
{
    double all = 0, graph = 0, flatbuffer = 0, graphs = 0;
    long runs = argc > 2 ? strtol(argv[2], NULL, 10) : 7;
    if (argc < 2 || runs < 1) {
        fprintf(stderr, "usage: bench_load MODEL.pte [RUNS]\n");
        return 2;
    }
    for (long i = 0; i < runs; i++) {
        double t = opened(argv[1]);
        if (t < 0) return 1;
        keep_least(&all, t, !i);
        keep_least(&flatbuffer, verifying.flatbuffer, !i);
        keep_least(&graphs, verifying.graphs, !i);
    }
    for (long i = 0; i < runs; i++) {
        double t = understood(argv[1]);
        if (t < 0) return 1;
        keep_least(&graph, t, !i);
    }
    printf("open %.2f ms; until the graph is understood %.3f ms; the flatbuffer %.3f ms and the graphs %.3f ms verified: %.2f %% of all\n",
           1e3 * all, 1e3 * graph, 1e3 * flatbuffer, 1e3 * graphs, 100 * (flatbuffer + graphs) / all);
    return 0;
}
