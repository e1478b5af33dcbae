/* SPDX-License-Identifier: BSD-3-Clause */
#include "test.h"

#include "cli/opt.h"

#include <string.h>

typedef struct {
    const char *checkpoint, *dtype, *look, *quant, *calibrate;
    int64_t len;
    double heat;
    bool breaks, given;
    const char *word[2];
    int words;
} values;

static int parse(values *v, anm_error *err, int argc, const char **argv)
{
    const cli_opt table[] = {
        {0, NULL, CLI_HEADING, NULL, NULL, "files", NULL},
        {'c', "checkpoint", CLI_STRING, &v->checkpoint, "FILE", "the model", NULL},
        {0, "dtype", CLI_CHOICE, &v->dtype, "fp16|fp32", "type", NULL},
        {'E', "embedding_quantize", CLI_STRING, &v->quant, "B,G", "bits", &v->given},
        {0, "max_context_len", CLI_INT, &v->len, "N", "length", NULL},
        {0, "max_splits", CLI_INT, &v->len, "N", "splits", NULL},
        {0, "max", CLI_INT, &v->len, "N", "a whole name that is a prefix of others", NULL},
        {0, "temperature", CLI_FLOAT, &v->heat, "T", "heat", NULL},
        {0, "lookahead", CLI_OPTIONAL, &v->look, "always", "look", NULL},
        {0, "calibrate", CLI_MAYBE, &v->calibrate, "FILE", "text", NULL},
        {'n', "no_graph_breaks", CLI_FLAG, &v->breaks, NULL, "whole", NULL},
        {0},
    };
    return cli_parse(table, "x", argc, (char **)argv, v->word, 2, &v->words, err);
}

#define PARSE(v, err, ...)                                                                                             \
    parse(&(v), &(err), (int)(sizeof((const char *[]){"x", __VA_ARGS__}) / sizeof(char *)), (const char *[]){"x", __VA_ARGS__})

static void takes_what_argparse_takes(void **state)
{
    (void)state;
    values v = {0};
    anm_error err;
    assert_int_equal(PARSE(v, err, "-c", "a", "--max_context_len=7", "--temp", "0.5", "-E8,0", "--no-graph-breaks", "w"), 0);
    assert_string_equal(v.checkpoint, "a");
    assert_int_equal(v.len, 7);
    assert_true(v.heat == 0.5);
    assert_string_equal(v.quant, "8,0");
    assert_true(v.breaks && v.given);
    assert_int_equal(v.words, 1);
    assert_string_equal(v.word[0], "w");
    assert_int_equal(PARSE(v, err, "-E", "", "--embedding-quantize", "4,32", "--max", "3", "-n", "--", "-z"), 0);
    assert_string_equal(v.quant, "4,32"); /* the last one counts */
    assert_int_equal(v.len, 3);
    assert_string_equal(v.word[0], "-z");
    assert_int_equal(PARSE(v, err, "--embedding_quantize="), 0);
    assert_string_equal(v.quant, "");
    assert_int_equal(PARSE(v, err, "--lookahead", "w", "--temperature", "-1e-3"), 0);
    assert_string_equal(v.look, "");
    assert_true(v.heat == -1e-3);
    assert_int_equal(PARSE(v, err, "--lookahead=always"), 0);
    assert_string_equal(v.look, "always");
    assert_int_equal(PARSE(v, err, "--calibrate", "-n"), 0);
    assert_string_equal(v.calibrate, "");
    assert_int_equal(PARSE(v, err, "--calibrate", "text", "w"), 0);
    assert_string_equal(v.calibrate, "text");
    assert_string_equal(v.word[0], "w");
    assert_int_equal(PARSE(v, err, "--calibrate"), 0);
    assert_string_equal(v.calibrate, "");
}

static void refuses_by_name(void **state)
{
    (void)state;
    values v = {0};
    anm_error err;
    const struct {
        const char *a, *b;
        const char *says;
    } bad[] = {
        {"--nope", "x", "--nope"},
        {"--max_", "1", "--max_context_len and --max_splits"},
        {"--dtype", "bf16", "fp16|fp32"},
        {"--dtype", "fp", "fp16|fp32"},
        {"--max_splits", "1x", "whole number"},
        {"--max_splits", "99999999999999999999", "whole number"},
        {"--temperature", "", "number"},
        {"-q", "x", "-q"},
        {"x", "--checkpoint", "needs a value"},
        {"x", "-c", "needs a value"},
        {"--no_graph_breaks=1", "x", "no value"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(PARSE(v, err, bad[i].a, bad[i].b), ANM_ERR_USAGE);
        assert_non_null(strstr(err.text, bad[i].says));
    }
    assert_int_equal(PARSE(v, err, "1", "2", "third"), ANM_ERR_USAGE);
    assert_non_null(strstr(err.text, "third"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(takes_what_argparse_takes),
        cmocka_unit_test(refuses_by_name),
    };
    return cmocka_run_group_tests_name("opt", tests, NULL, NULL);
}
