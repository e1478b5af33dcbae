/* SPDX-License-Identifier: BSD-3-Clause */
/* JSON as files hold it: every length of string comes back whole, and what is no JSON is told apart. (That memory runs
 * out in the midst of it is test/fault's affair.) */
#include "base/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void strings_of_every_length(void **state)
{
    (void)state;
    char text[3000], name[1300];
    anm_error err = {0};
    for (size_t n = 0; n < 1200; n++) {
        json_t *j;
        memset(name, 'n', n);
        name[n] = 0;
        int size = snprintf(text, sizeof text, "{\"%s\": [\"%s\", -12.5e3, \"\\\"]\\\\\"]}", name, name);
        assert_int_equal(anm_json_read(&j, text, (uint64_t)size, JSON_REJECT_DUPLICATES, "is no JSON", &err), 0);
        json_t *list = json_object_get(j, name);
        assert_string_equal(json_string_value(json_array_get(list, 0)), name);
        assert_true(json_real_value(json_array_get(list, 1)) == -12500);
        assert_string_equal(json_string_value(json_array_get(list, 2)), "\"]\\");
        json_decref(j);
    }
}

static void what_is_none_is_refused(void **state)
{
    static const char *const texts[] = {
        "", " ", "{", "[", "{\"a\"", "{\"a\":", "\"a", "{}]", "{}, {}", "{},", "{} {}", "]", "],[", "1", "\"a\"", "null",
        "{\"a\":1,\"a\":2}", "{\"a\":\"\x01\"}", "{\"a\":\"\xff\"}", "[1,]", "nul", "{\"a\\", "\\", "{\"a\":1e999}",
    };
    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        json_t *j = NULL;
        anm_error err = {0};
        int rc = anm_json_read(&j, texts[i], strlen(texts[i]), JSON_REJECT_DUPLICATES, "is no JSON", &err);
        if (rc != ANM_ERR_FORMAT) print_error("taken: %s\n", texts[i]);
        assert_int_equal(rc, ANM_ERR_FORMAT);
        assert_null(j);
        assert_ptr_equal(strstr(err.text, "is no JSON: "), err.text);
        assert_true(err.offset <= strlen(texts[i]));
    }
}

/* A whole value with something behind it is not one that ends too early. */
static void what_follows_is_named(void **state)
{
    static const struct {
        const char *text;
        size_t n;
        const char *says;
    } texts[] = {{"{}x", 3, "line 1: something follows"}, {"{\"a\":\"}\"}\n\0", 11, "line 2: something follows"},
                 {"[1] [2]", 7, "something follows"}, {"{}, {}", 6, "something follows"}, {"{}}", 3, "something follows"},
                 {"{\"a\":nul} x", 11, "invalid token"}, {"{\"a\":[1}", 9, "expected near"}, {"{\"a\":[", 6, "ends too early"}};
    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        json_t *j;
        anm_error err = {0};
        assert_int_equal(anm_json_read(&j, texts[i].text, texts[i].n, 0, "is no JSON", &err), ANM_ERR_FORMAT);
        if (!strstr(err.text, texts[i].says)) fail_msg("%s: '%s' should say '%s'", texts[i].text, err.text, texts[i].says);
    }
}

static void text_comes_back(void **state)
{
    static const char text[] = "{\"a\":[1,2,{\"b\":\"c\"}]}";
    (void)state;
    json_t *j;
    char *out;
    anm_error err = {0};
    assert_int_equal(anm_json_read(&j, text, sizeof text - 1, 0, "is no JSON", &err), 0);
    assert_int_equal(anm_json_write(&out, j, JSON_COMPACT, &err), 0);
    assert_string_equal(out, text);
    json_decref(j);
    free(out);
    assert_int_equal(anm_json_write(&out, NULL, 0, &err), ANM_ERR_MEMORY);
    assert_null(out);
}

/* A text of empty lists would take more than 64 times its size; one of usual density does not. */
static void memory_is_bounded_by_the_text(void **state)
{
    static const struct {
        const char *unit;
        int code;
    } texts[] = {{"{},", ANM_ERR_LIMIT}, {"[{}],", ANM_ERR_LIMIT}, {"[{},[]],", ANM_ERR_LIMIT}, {"\"[{\",", 0}, {"\"\\\"{[\",", 0}, {"1,", 0},
                 {"{\"id\":1,\"content\":\"x\"},", 0}};
    enum { SIZE = 1 << 20 };
    (void)state;
    char *text = malloc(SIZE + 32);
    assert_non_null(text);
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        size_t n = 1, unit = strlen(texts[i].unit);
        json_t *j;
        anm_error err = {0};
        text[0] = '[';
        for (; n + unit < SIZE; n += unit) memcpy(text + n, texts[i].unit, unit);
        memcpy(text + n, "0]", 2);
        int rc = anm_json_read(&j, text, n + 2, 0, "is no JSON", &err);
        if (rc != texts[i].code) fail_msg("%s: %d, %s", texts[i].unit, rc, err.text);
        json_decref(j);
    }
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(strings_of_every_length),
        cmocka_unit_test(what_is_none_is_refused),
        cmocka_unit_test(what_follows_is_named),
        cmocka_unit_test(text_comes_back),
        cmocka_unit_test(memory_is_bounded_by_the_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
