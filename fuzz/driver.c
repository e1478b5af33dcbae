/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Runs a fuzz target without libFuzzer: every seed as it is, cut short at up to CUTS lengths, and SPOILT times with a
 * few bytes changed. Always the same inputs, so that a failure here is a failure everywhere.
 *
 * usage: replay_NAME FILE-OR-FOLDER... (a crash found by libFuzzer is replayed by naming its file)
 */
#include "fuzz.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { CUTS = 300, SPOILT = 1500, PATH = 1024 };

static size_t inputs, seeds;

/* A copy of exactly n bytes, so that a sanitizer sees a read past the end. */
static void try(const uint8_t *data, size_t n)
{
    uint8_t *copy = malloc(n ? n : 1);
    if (!copy) abort();
    memcpy(copy, data, n);
    LLVMFuzzerTestOneInput(copy, n);
    free(copy);
    inputs++;
}

static int replay(const char *path, const struct stat *st)
{
    size_t n = (size_t)st->st_size;
    uint8_t *data = malloc(n + 1), *copy = malloc(n + 1);
    FILE *f = fopen(path, "rb");
    int rc = 1;
    if (!data || !copy || !f || fread(data, 1, n, f) != n) {
        perror(path);
        goto done;
    }
    seeds++;
    try(data, n);
    size_t step = n / CUTS + 1;
    for (size_t cut = 0; cut < n; cut += step) try(data, cut);
    uint64_t state = 0x9e3779b97f4a7c15u;
    for (unsigned i = 0; i < SPOILT && n; i++) {
        memcpy(copy, data, n);
        if (i % 4) FUZZ_SPOIL(copy, n, &state);
        else fuzz_spoil_bytes(copy, n, &state);
        try(copy, n);
    }
    rc = 0;
done:
    if (f) fclose(f);
    free(data);
    free(copy);
    return rc;
}

static int walk(const char *path)
{
    struct stat st;
    if (stat(path, &st)) {
        perror(path);
        return 1;
    }
    if (!S_ISDIR(st.st_mode)) return replay(path, &st);
    struct dirent **list;
    int rc = 0, n = scandir(path, &list, NULL, alphasort);
    if (n < 0) {
        perror(path);
        return 1;
    }
    for (int i = 0; i < n; i++) {
        char name[PATH];
        int len = snprintf(name, sizeof name, "%s/%s", path, list[i]->d_name);
        if (list[i]->d_name[0] != '.') rc |= len < PATH ? walk(name) : 1;
        free(list[i]);
    }
    free(list);
    return rc;
}

int main(int argc, char **argv)
{
    int rc = 0;
    for (int i = 1; i < argc; i++) rc |= walk(argv[i]);
    printf("%zu inputs from %zu seeds\n", inputs, seeds);
    if (!seeds) fprintf(stderr, "no seeds\n");
    return rc || !seeds;
}
