/* SPDX-License-Identifier: BSD-3-Clause */
/* Whole files in memory and a folder that goes away, for tests that break checkpoints. */
#ifndef ANM_TEST_SCRATCH_H
#define ANM_TEST_SCRATCH_H

#include "test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct bytes {
    uint8_t *data;
    size_t size;
} bytes;

static inline bytes read_bytes(const char *path)
{
    FILE *f = fopen(path, "rb");
    if (!f) fail_msg("%s is missing: run the tests from the source folder", path);
    fseek(f, 0, SEEK_END);
    bytes b = {.size = (size_t)ftell(f)};
    rewind(f);
    b.data = malloc(b.size + 1);
    assert_non_null(b.data);
    assert_int_equal(fread(b.data, 1, b.size, f), b.size);
    b.data[b.size] = 0;
    fclose(f);
    return b;
}

static inline void write_bytes(const char *path, const void *data, size_t size)
{
    unlink(path); /* some file systems flush a file that is cut to nothing and written again */
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, size, f), size);
    assert_int_equal(fclose(f), 0);
}

/* A path in a fresh folder of this test program; valid until the call after the next. */
static inline const char *scratch(const char *name)
{
    static char root[200], path[2][256];
    static int turn;
    if (!root[0]) {
        const char *tmp = getenv("TMPDIR");
        snprintf(root, sizeof root, "%.150s/anemone-test-XXXXXX", tmp ? tmp : "/tmp");
        assert_non_null(mkdtemp(root));
    }
    turn = !turn;
    snprintf(path[turn], sizeof path[turn], "%s%s%.40s", root, *name ? "/" : "", name);
    return path[turn];
}

static inline void drop_scratch(const char *const *names, size_t n)
{
    for (size_t i = 0; i < n; i++) unlink(scratch(names[i]));
    assert_int_equal(rmdir(scratch("")), 0);
}

/* A small generator of numbers, the same in every run. */
static inline uint32_t next_random(uint64_t *s)
{
    *s = *s * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*s >> 33);
}

#endif
