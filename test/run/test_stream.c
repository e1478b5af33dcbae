/* SPDX-License-Identifier: BSD-3-Clause */
#include "test.h"

#include "run/stream.h"

#include <string.h>

/* Pushes `text` in pieces of `step` bytes; after every piece what is ready must be whole characters. */
static void expect_first(const char *text, size_t n, const char *const *stop, size_t n_stop, const char *want)
{
    for (size_t step = 1; step <= n + 1; step++) {
        anm_stream s = {.stop = stop, .n_stop = n_stop};
        for (size_t i = 0; i < n; i += step) {
            size_t had = s.ready.size;
            anm_stream_push(&s, text + i, n - i < step ? n - i : step);
            if (s.ready.size > had) {
                assert_true((s.ready.data[had] & 0xc0) != 0x80); /* begins with a character */
                size_t last = s.ready.size - 1, back = 0;
                while ((s.ready.data[last - back] & 0xc0) == 0x80)
                    back++;
                uint8_t lead = s.ready.data[last - back];
                assert_int_equal(back, lead < 0x80   ? 0
                                       : lead < 0xe0 ? 1
                                       : lead < 0xf0 ? 2
                                                     : 3); /* ends with one */
            }
        }
        anm_stream_end(&s);
        assert_int_equal(s.ready.size, strlen(want));
        if (*want) assert_memory_equal(s.ready.data, want, strlen(want));
        anm_stream_free(&s);
    }
}

static void expect(const char *text, size_t n, const char *stop, const char *want)
{
    expect_first(text, n, &stop, stop != NULL, want);
}

#define TEXT(t, stop, want) expect(t, sizeof t - 1, stop, want)
#define BAD "\xEF\xBF\xBD"

static void characters_come_whole(void **state)
{
    (void)state;
    TEXT("", NULL, "");
    TEXT("plain", NULL, "plain");
    TEXT("größer ≥ 𝄞 日本語 é", NULL, "größer ≥ 𝄞 日本語 é");
    TEXT("a\xff z", NULL, "a" BAD " z");
    TEXT("\x80\x80", NULL, BAD BAD);
    TEXT("\xc0\xaf", NULL, BAD BAD);                  /* overlong */
    TEXT("\xed\xa0\x80", NULL, BAD BAD BAD);          /* a surrogate */
    TEXT("\xf4\x90\x80\x80", NULL, BAD BAD BAD BAD);  /* beyond the last character */
    TEXT("\xe2\x82", NULL, BAD);                      /* cut short at the end: one for the part */
    TEXT("\xe2\x82x\xf0\x9f\x98", NULL, BAD "x" BAD); /* and in the middle */
    TEXT("\xf0\x9f\xf0\x9f\x98\x80", NULL, BAD "😀");
}

static void stop_text_ends_it_wherever_it_is_cut(void **state)
{
    (void)state;
    TEXT("one END two", "END", "one ");
    TEXT("one EN two", "END", "one EN two");
    TEXT("EEEND", "END", "EE");
    TEXT("ababac!", "abac", "ab");
    TEXT("aab", "ab", "a");
    TEXT("tail EN", "END", "tail EN");
    TEXT("END", "END", "");
    TEXT("ü≥ü≥≥", "ü≥≥", "ü≥");
    TEXT("x\xe2\x82", "\xEF\xBF\xBD", "x");
    TEXT("text", "", "text");
}

static void the_stop_text_that_is_whole_first_ends_it(void **state)
{
    (void)state;
#define ANY(text, want, ...)                                                                                 \
    do {                                                                                                     \
        const char *const stop[] = {__VA_ARGS__};                                                            \
        expect_first(text, sizeof text - 1, stop, sizeof stop / sizeof *stop, want);                           \
    } while (0)
    ANY("one END two STOP", "one ", "STOP", "END");
    ANY("one STOP two END", "one ", "STOP", "END");
    ANY("xabcd", "xab", "abcd", "c");     /* inside what the other had begun */
    ANY("xabd", "xabd", "abc", "bcd");
    ANY("xabcde", "xa", "abcdf", "bcde"); /* begun later, whole first */
    ANY("xabc", "x", "bc", "abc");        /* both at once: the longer one */
    ANY("xabc", "x", "abc", "bc");
    ANY("ab", "ab", "", "abc");
}

static void a_stream_begins_again(void **state)
{
    (void)state;
    const char *const stop[] = {"END"};
    anm_stream s = {.stop = stop, .n_stop = 1};
    anm_stream_push(&s, "one END \xe2", 9);
    assert_true(s.stopped);
    anm_stream_restart(&s);
    anm_stream_push(&s, "ND two E\xe2\x82", 10);
    anm_stream_restart(&s);
    anm_stream_push(&s, "\xacND", 3);
    anm_stream_end(&s);
    assert_int_equal(s.ready.size, 5);
    assert_memory_equal(s.ready.data, BAD "ND", 5);
    anm_stream_free(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(characters_come_whole),
        cmocka_unit_test(stop_text_ends_it_wherever_it_is_cut),
        cmocka_unit_test(the_stop_text_that_is_whole_first_ends_it),
        cmocka_unit_test(a_stream_begins_again),
    };
    return cmocka_run_group_tests_name("stream", tests, NULL, NULL);
}
