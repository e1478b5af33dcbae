/* SPDX-License-Identifier: BSD-3-Clause */
#include "test.h"

#include "base/arena.h"
#include "base/buf.h"
#include "base/bytes.h"
#include "base/dtype.h"
#include "base/find.h"
#include "base/half.h"
#include "base/map.h"
#include "base/outfile.h"
#include "base/pool.h"
#include "base/shown.h"

#include <fcntl.h>
#include <glob.h>
#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void half_round_trips(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 0x10000; h++) {
        float f = anm_f16_to_f32((uint16_t)h);
        if (isnan(f)) assert_true((anm_f32_to_f16(f) & 0x7c00u) == 0x7c00u && (anm_f32_to_f16(f) & 0x3ffu));
        else assert_int_equal(anm_f32_to_f16(f), h);
    }
}

static void half_rounds_to_nearest_even(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 0x7bff; h++) { /* the midpoint of each neighbouring pair, and its two neighbours */
        float a = anm_f16_to_f32((uint16_t)h), b = anm_f16_to_f32((uint16_t)(h + 1)), mid = a + (b - a) / 2;
        assert_int_equal(anm_f32_to_f16(mid), h & 1 ? h + 1 : h);
        assert_int_equal(anm_f32_to_f16(nextafterf(mid, 0)), h);
        assert_int_equal(anm_f32_to_f16(nextafterf(mid, INFINITY)), h + 1);
    }
    assert_int_equal(anm_f32_to_f16(65519.996f), 0x7bff);
    assert_int_equal(anm_f32_to_f16(65520.0f), 0x7c00);
    assert_int_equal(anm_f32_to_f16(-1e30f), 0xfc00);
    assert_int_equal(anm_f32_to_bf16(1.00390625f), 0x3f80); /* a tie goes to even */
    assert_int_equal(anm_f32_to_bf16(1.01171875f), 0x3f82);
}

static void sizes_do_not_wrap(void **state)
{
    (void)state;
    uint64_t n;
    assert_true(anm_dtype_size(ANM_DT_I4, 3, &n));
    assert_int_equal(n, 2);
    assert_true(anm_dtype_size(ANM_DT_Q4_0, 64, &n));
    assert_int_equal(n, 36);
    assert_false(anm_dtype_size(ANM_DT_Q4_0, 33, &n));
    assert_false(anm_dtype_size(ANM_DT_F64, UINT64_MAX / 4, &n));
    assert_false(anm_dtype_size(ANM_DT_NONE, 1, &n));
    assert_false(anm_inside(UINT64_MAX, 2, 100));
    assert_true(anm_inside(100, 0, 100));
}

static void cursor_fails_once_and_stays_failed(void **state)
{
    (void)state;
    uint8_t bytes[6] = {1, 2, 3, 4, 5, 6};
    anm_rd r = anm_rd_of(bytes, sizeof bytes);
    assert_int_equal(anm_rd_u32(&r), 0x04030201);
    assert_int_equal(anm_rd_u32(&r), 0);
    assert_false(anm_rd_ok(&r));
    assert_int_equal(anm_rd_u8(&r), 0);
}

static void arena_keeps_its_limit(void **state)
{
    (void)state;
    anm_arena a;
    anm_arena_init(&a);
    a.limit = 1 << 20;
    assert_non_null(anm_arena_alloc(&a, 100));
    assert_null(anm_arena_alloc(&a, 2 << 20));
    assert_null(anm_arena_array(&a, SIZE_MAX / 2, 4));
    assert_string_equal(anm_arena_printf(&a, "%d-%s", 7, "x"), "7-x");
    anm_arena_free(&a);
}

typedef struct {
    _Atomic uint64_t sum;
    _Atomic uint32_t calls;
} tally;

static void add_index(void *ctx, uint32_t i, unsigned thread)
{
    (void)thread;
    tally *t = ctx;
    atomic_fetch_add(&t->sum, i);
    atomic_fetch_add(&t->calls, 1);
}

static void pool_runs_every_index_once(void **state)
{
    (void)state;
    anm_error err;
    for (unsigned threads = 1; threads <= 5; threads++) {
        anm_pool *p;
        assert_int_equal(anm_pool_new(&p, threads, &err), 0);
        for (uint32_t n = 0; n < 300; n++) {
            tally t = {0};
            anm_pool_run(p, add_index, &t, n);
            assert_int_equal(t.calls, n);
            assert_int_equal(t.sum, n ? (uint64_t)n * (n - 1) / 2 : 0);
        }
        anm_pool_free(p);
    }
}

typedef struct {
    _Atomic uint32_t next, done;
    uint32_t n;
    _Atomic uint32_t came[8];
    anm_pool *pool;
    uint8_t memory[1000];
} shared;

static void take_some(void *ctx, unsigned thread)
{
    shared *s = ctx;
    atomic_fetch_add(&s->came[thread], 1);
    while (atomic_fetch_add(&s->next, 1) < s->n) atomic_fetch_add(&s->done, 1);
    *anm_pool_ahead(s->pool, thread) = (anm_ahead){s->memory, s->memory + sizeof s->memory};
}

/* A worker that comes late to the last loop must still learn that there is no next one. */
static void pool_has_a_most(void **state)
{
    (void)state;
    anm_pool *p = NULL;
    anm_error err = {0};
    assert_int_equal(anm_pool_new(&p, 1025, &err), ANM_ERR_USAGE);
    assert_null(p);
    assert_non_null(strstr(err.text, "1025 threads"));
}

static void pool_ends_right_after_a_loop(void **state)
{
    (void)state;
    alarm(120); /* where it waits for ever */
    for (int round = 0; round < 5000; round++) {
        anm_pool *p;
        anm_error err;
        tally t = {0};
        assert_int_equal(anm_pool_new(&p, 4, &err), 0);
        for (int i = 0; i < round % 4; i++) anm_pool_run(p, add_index, &t, 4);
        anm_pool_free(p);
        assert_int_equal(t.calls, round % 4 * 4);
    }
    alarm(0);
}

/* The caller always comes, the others once or not at all; and whoever came is through. */
static void pool_shares_a_loop(void **state)
{
    (void)state;
    anm_error err;
    for (unsigned threads = 1; threads <= 5; threads++) {
        shared s = {0};
        assert_int_equal(anm_pool_new(&s.pool, threads, &err), 0);
        for (s.n = 0; s.n < 2000; s.n++) {
            s.next = s.done = 0;
            for (unsigned t = 0; t < threads; t++) s.came[t] = 0;
            anm_pool_each(s.pool, take_some, &s);
            assert_int_equal(s.done, s.n);
            assert_int_equal(s.came[0], 1);
            for (unsigned t = 1; t < threads; t++) assert_true(s.came[t] <= 1);
        }
        anm_pool_free(s.pool);
    }
}

/* More than what is handed to the disk at once, in pieces of any size, from the end to the front. */
static void early_writing_changes_nothing(void **state)
{
    (void)state;
    enum { SIZE = (33 << 20) + 5, PIECE = 1 << 20 };
    char dir[] = "/tmp/anm-test-XXXXXX", path[64];
    anm_error err;
    anm_outfile f;
    static uint8_t piece[PIECE];
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/out", dir);
    assert_int_equal(anm_outfile_open(&f, path, &err), 0);
    anm_outfile_write_early(&f);
    assert_int_equal(anm_outfile_resize(&f, SIZE, &err), 0);
    for (int i = SIZE / PIECE; i >= 0; i--) {
        memset(piece, i, sizeof piece);
        size_t n = SIZE - i * PIECE < PIECE ? (size_t)(SIZE - i * PIECE) : PIECE;
        assert_int_equal(anm_outfile_write(&f, (uint64_t)i * PIECE, piece, n, &err), 0);
    }
    assert_int_equal(anm_outfile_commit(&f, true, &err), 0);
    anm_map m;
    assert_int_equal(anm_map_open(&m, path, &err), 0);
    assert_int_equal(m.size, SIZE);
    for (uint64_t i = 0; i < m.size; i += 4099) assert_int_equal(m.data[i], i / PIECE);
    anm_map_close(&m);
    unlink(path);
    rmdir(dir);
}

static void outfile_is_whole_or_not_there(void **state)
{
    (void)state;
    char dir[] = "/tmp/anm-test-XXXXXX", path[64];
    anm_error err;
    anm_outfile f;
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/out", dir);

    assert_int_equal(anm_outfile_open(&f, path, &err), 0);
    assert_int_equal(anm_outfile_write(&f, 3, "def", 3, &err), 0);
    assert_int_equal(anm_outfile_write(&f, 0, "abc", 3, &err), 0);
    assert_int_equal(access(path, F_OK), -1); /* not there before the commit */
    assert_int_equal(anm_outfile_commit(&f, true, &err), 0);

    anm_map m;
    assert_int_equal(anm_map_open(&m, path, &err), 0);
    assert_int_equal(m.size, 6);
    assert_memory_equal(m.data, "abcdef", 6);
    assert_string_equal(anm_map_path_of(m.data + 5), path);
    assert_null(anm_map_path_of(&m));
    assert_int_equal(anm_outfile_open(&f, path, &err), ANM_ERR_IO); /* while it is read */
    assert_non_null(strstr(err.text, "being read"));
    anm_map_close(&m);

    assert_int_equal(anm_outfile_open(&f, path, &err), 0);
    assert_int_equal(anm_outfile_write(&f, 0, "zzz", 3, &err), 0);
    anm_outfile_abort(&f);
    assert_int_equal(anm_map_open(&m, path, &err), 0); /* the old file, as it was */
    assert_memory_equal(m.data, "abcdef", 6);
    anm_map_close(&m);

    glob_t g;
    char pattern[80];
    snprintf(pattern, sizeof pattern, "%s/*", dir);
    assert_int_equal(glob(pattern, 0, NULL, &g), 0);
    assert_int_equal(g.gl_pathc, 1); /* no temporary file stays */
    globfree(&g);
    assert_int_equal(anm_outfile_open(&f, dir, &err), ANM_ERR_IO);
    unlink(path);
    assert_int_equal(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600) >= 0, 1);
    assert_int_equal(anm_map_open(&m, path, &err), ANM_ERR_FORMAT);
    assert_int_equal(anm_map_open(&m, dir, &err), ANM_ERR_IO);
    unlink(path);
    rmdir(dir);
}

/* Against the plain search, over all short texts of two letters, and where the plain one takes quadratic time. */
static void finding_is_right_and_linear(void **state)
{
    (void)state;
    char text[11], what[7];
    for (unsigned n = 0; n <= 10; n++)
        for (unsigned t = 0; t < 1u << n; t++) {
            for (unsigned i = 0; i < n; i++) text[i] = (char)('a' + (t >> i & 1));
            for (unsigned m = 0; m <= 6; m++)
                for (unsigned w = 0; w < 1u << m; w++) {
                    for (unsigned i = 0; i < m; i++) what[i] = (char)('a' + (w >> i & 1));
                    const char *is = NULL;
                    for (unsigned i = 0; !is && i + m <= n; i++)
                        if (memcmp(text + i, what, m) == 0) is = text + i;
                    assert_ptr_equal(anm_find(text, n, what, m), is);
                }
        }
    enum { LONG = 1 << 22 };
    char *p = malloc(2 * LONG);
    assert_non_null(p);
    memset(p, 'a', 2 * LONG);
    p[LONG / 2] = 'b'; /* a search in the square of this takes most of a minute */
    alarm(TEST_SANITIZED ? 600 : 20);
    assert_ptr_equal(anm_find(p + LONG, LONG, p, LONG), NULL);
    assert_ptr_equal(anm_find(p + 1, 2 * LONG - 1, p + LONG / 2 + 1, LONG), p + LONG / 2 + 1);
    alarm(0);
    free(p);
}

static void buf_keeps_its_limit(void **state)
{
    (void)state;
    anm_buf b = {.limit = 300};
    for (int i = 0; i < 300; i++) anm_buf_u8(&b, (uint8_t)i);
    assert_true(!b.bad && b.size == 300 && b.room <= 301);
    anm_buf_u8(&b, 0);
    assert_true(b.bad && b.over && b.size == 300);
    anm_buf_free(&b);
}

static void what_a_terminal_obeys_is_escaped(void **state)
{
    (void)state;
    static const struct {
        const char *text, *shown;
    } each[] = {
        {"plain \xc3\xa9\xe2\x82\xac\xf0\x9f\xa6\x8a~", "plain \xc3\xa9\xe2\x82\xac\xf0\x9f\xa6\x8a~"},
        {"\033[31m\a\n\t\177", "\\x1b[31m\\x07\\x0a\\x09\\x7f"},
        {"\xc2\x80\xc2\x9f\xc2\xa0", "\\xc2\\x80\\xc2\\x9f\xc2\xa0"}, /* C1, and the first behind it */
        {"\x9b\xff\xc0\x9b\xe2\x82", "\\x9b\\xff\\xc0\\x9b\\xe2\\x82"},   /* no UTF-8: alone, overlong, cut short */
        {"\xe0\x82\x9b\xed\xa0\x80", "\\xe0\\x82\\x9b\\xed\\xa0\\x80"},   /* overlong, a surrogate */
        {"\xe2\x80\xae\xe2\x81\xa6\xe2\x81\xa9\xe2\x80\xa8", "\\xe2\\x80\\xae\\xe2\\x81\\xa6\\xe2\\x81\\xa9\\xe2\\x80\\xa8"},
        {"\xe2\x80\xa7\xe2\x80\xaf\xe2\x81\xa5\xe2\x81\xaa", "\xe2\x80\xa7\xe2\x80\xaf\xe2\x81\xa5\xe2\x81\xaa"}, /* beside those */
        {"", ""},
    };
    for (size_t i = 0; i < sizeof each / sizeof *each; i++) {
        anm_buf b = {0};
        anm_buf_puts(&b, "");
        anm_shown_put(&b, each[i].text, strlen(each[i].text));
        assert_string_equal((char *)b.data, each[i].shown);
        anm_buf_free(&b);
    }
    anm_buf b = {0};
    anm_shown_put(&b, "a\0b", 3);
    assert_string_equal((char *)b.data, "a\\x00b");
    anm_buf_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(half_round_trips),
        cmocka_unit_test(half_rounds_to_nearest_even),
        cmocka_unit_test(sizes_do_not_wrap),
        cmocka_unit_test(cursor_fails_once_and_stays_failed),
        cmocka_unit_test(arena_keeps_its_limit),
        cmocka_unit_test(pool_runs_every_index_once),
        cmocka_unit_test(pool_has_a_most),
        cmocka_unit_test(pool_ends_right_after_a_loop),
        cmocka_unit_test(pool_shares_a_loop),
        cmocka_unit_test(outfile_is_whole_or_not_there),
        cmocka_unit_test(early_writing_changes_nothing),
        cmocka_unit_test(finding_is_right_and_linear),
        cmocka_unit_test(buf_keeps_its_limit),
        cmocka_unit_test(what_a_terminal_obeys_is_escaped),
    };
    return cmocka_run_group_tests_name("base", tests, NULL, NULL);
}
