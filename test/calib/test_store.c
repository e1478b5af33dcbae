/* SPDX-License-Identifier: BSD-3-Clause */
#include "test.h"

#include "calib/store.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { STAGES = 4, CARRIED = 5000 };
static const uint64_t sizes[STAGES] = {100, 40000, 0, 17};
static char path[] = "/tmp/anemone-store-XXXXXX";

static anm_store_plan plan(bool resume)
{
    return (anm_store_plan){.path = path, .resume = resume, .key = "key", .stages = STAGES, .size = sizes, .carried = CARRIED};
}

static anm_store *open_store(bool resume, size_t want)
{
    anm_store_plan p = plan(resume);
    anm_store *s;
    anm_error err;
    size_t done = 99;
    assert_int_equal(anm_store_open(&s, &p, &done, &err), 0);
    assert_int_equal(done, want);
    return s;
}

static void work(anm_store *s, size_t i)
{
    memset(anm_store_stage(s, i), (int)(i + 1), sizes[i]);
    memset(anm_store_carried(s, i), (int)(i + 101), CARRIED);
    memset(anm_store_note(s, i), (int)(i + 201), ANM_STORE_NOTE);
    anm_store_commit(s, i);
}

/* Spoils what stage i made, its note or the state after it. */
static void spoil(size_t i, void *(*part)(const anm_store *, size_t), size_t known)
{
    anm_store *s = open_store(true, known);
    ((uint8_t *)part(s, i))[7] ^= 1;
    anm_store_close(s);
}

static void stages_count_when_they_are_whole(void **state)
{
    (void)state;
    anm_store *s = open_store(true, 0); /* nothing is there */
    work(s, 0);
    work(s, 1);
    memset(anm_store_carried(s, 2), 7, CARRIED / 2); /* the third is in work … */
    anm_store_close(s);                              /* … and killed */
    s = open_store(true, 2);
    assert_int_equal(*(uint8_t *)anm_store_stage(s, 1), 2);
    assert_int_equal(((uint8_t *)anm_store_carried(s, 1))[CARRIED - 1], 102);
    assert_int_equal(*(uint8_t *)anm_store_note(s, 0), 201);
    work(s, 2);
    anm_store_close(s);

    spoil(2, anm_store_note, 3); /* the record: not counted, and the state before it is at hand */
    s = open_store(true, 2);
    work(s, 2);
    anm_store_close(s);
    spoil(2, anm_store_carried, 3); /* the state: one stage back */
    s = open_store(true, 2);
    work(s, 2);
    work(s, 3);
    anm_store_close(s);
    spoil(3, anm_store_carried, 4); /* of no use any more */
    spoil(0, anm_store_stage, 4); /* long ago, and its state is gone: all again */
    anm_store_close(open_store(true, 0));
}

static void other_work_is_refused(void **state)
{
    (void)state;
    anm_error err;
    anm_store *s = open_store(false, 0);
    size_t done;
    work(s, 0);
    anm_store_close(s);
    anm_store_plan p = plan(true);
    p.key[0] = 'x';
    assert_int_equal(anm_store_open(&s, &p, &done, &err), ANM_ERR_USAGE);
    assert_null(s);
    p = plan(true);
    p.carried++;
    assert_int_equal(anm_store_open(&s, &p, &done, &err), ANM_ERR_USAGE);
    s = open_store(true, 1); /* untouched by that */
    anm_store_close(s);
    s = open_store(false, 0); /* begun anew */
    anm_store_remove(s);
    anm_store_close(s);
    assert_int_not_equal(access(path, F_OK), 0);

    s = open_store(false, 0); /* one at a time, whichever way the other would begin */
    work(s, 0);
    for (int resume = 0; resume < 2; resume++) {
        anm_store *other;
        p = plan(resume);
        assert_int_equal(anm_store_open(&other, &p, &done, &err), ANM_ERR_USAGE);
        assert_null(other);
        assert_non_null(strstr(err.text, "another process is at work on it"));
    }
    unlink(path); /* another file of that name is not ours to take away */
    FILE *new = fopen(path, "w");
    fclose(new);
    anm_store_remove(s);
    anm_store_close(s);
    assert_int_equal(access(path, F_OK), 0);

    FILE *f = fopen(path, "w"); /* somebody's own file */
    fputs("a letter", f);
    fclose(f);
    p = plan(true);
    assert_int_equal(anm_store_open(&s, &p, &done, &err), ANM_ERR_USAGE);
    assert_non_null(strstr(err.text, path));
    unlink(path);
    p.path = NULL; /* no name: the same, without a trace */
    assert_int_equal(anm_store_open(&s, &p, &done, &err), 0);
    work(s, 3);
    anm_store_close(s);
}

static int name(void **state)
{
    (void)state;
    int fd = mkstemp(path);
    if (fd < 0) return -1;
    close(fd);
    return unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stages_count_when_they_are_whole),
        cmocka_unit_test(other_work_is_refused),
    };
    return cmocka_run_group_tests_name("store", tests, name, NULL);
}
