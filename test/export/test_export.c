/* SPDX-License-Identifier: BSD-3-Clause */
/* Whole exports of a small checkpoint: the same bytes whatever the threads and the company, readable, and all or nothing. */
#include "test.h"

#include "ckpt/scratch.h"
#include "coreml/coreml.h"
#include "pipeline.h"
#include "pte/pte.h"

#include <string.h>
#include <unistd.h>

#define CHECKPOINT "test/data/ckpt/by_rows"

/* A path in the scratch folder, one for each letter. */
static const char *file(char letter)
{
    static char path[128][256];
    snprintf(path[(int)letter], sizeof path[0], "%s", scratch((const char[]){letter, 0}));
    return path[(int)letter];
}

static anm_recipe small_recipe(void)
{
    anm_recipe r = anm_recipe_default();
    r.max_context_len = 24;
    r.input_len = 4;
    r.split_size = 4;
    r.linear_group = 8;
    return r;
}

static void export_to(const char *path, const anm_recipe *recipe, unsigned threads)
{
    const anm_export_output out = {path, 0};
    const anm_export_job job = {.checkpoint = CHECKPOINT, .recipe = *recipe, .outputs = &out, .n_outputs = 1, .threads = threads};
    anm_export_report report;
    anm_error err = {0};
    if (anm_export(&report, &job, &err)) fail_msg("%s", err.text);
    assert_true(report.ops > 0 && report.size[0].weights > 0);
}

static void same_files(const char *a, const char *b)
{
    bytes x = read_bytes(a), y = read_bytes(b);
    assert_int_equal(x.size, y.size);
    assert_memory_equal(x.data, y.data, x.size);
    free(x.data);
    free(y.data);
}

static bool different_files(const char *a, const char *b)
{
    bytes x = read_bytes(a), y = read_bytes(b);
    bool different = x.size != y.size || memcmp(x.data, y.data, x.size) != 0;
    free(x.data);
    free(y.data);
    return different;
}

static void threads_do_not_show(void **state)
{
    (void)state;
    anm_recipe r = small_recipe();
    for (int multi = 0; multi < 2; multi++) {
        r.multifunction = multi;
        export_to(file('1'), &r, 1);
        export_to(file('5'), &r, 5);
        same_files(file('1'), file('5'));
    }
    unlink(file('1'));
    unlink(file('5'));
}

static void contexts_in_one_go_are_as_one_by_one(void **state)
{
    (void)state;
    anm_recipe r = small_recipe();
    const anm_export_output out[2] = {{file('a'), 24}, {file('b'), 12}};
    const anm_export_job job = {.checkpoint = CHECKPOINT, .recipe = r, .outputs = out, .n_outputs = 2};
    anm_export_report report;
    anm_error err = {0};
    if (anm_export(&report, &job, &err)) fail_msg("%s", err.text);
    export_to(file('c'), &r, 2);
    same_files(file('a'), file('c'));
    r.max_context_len = 12;
    export_to(file('c'), &r, 2);
    same_files(file('b'), file('c'));
    assert_true(different_files(file('a'), file('b')));
    unlink(file('a'));
    unlink(file('b'));
    unlink(file('c'));
}

/* Every package of the file: read, verified, and its weights where the graph says. Gives the ops in all. */
static size_t read_packages(const anm_pte *p)
{
    size_t ops = 0;
    for (size_t i = 0; i < (p->n_named ? p->n_named : p->methods[0].n_delegates); i++) {
        const uint8_t *data = p->n_named ? p->named[i].data : p->methods[0].delegates[i].data;
        uint64_t size = p->n_named ? p->named[i].size : p->methods[0].delegates[i].size;
        anm_arena arena;
        anm_dir dir;
        anm_package package;
        anm_error err = {0};
        anm_arena_init(&arena);
        if (anm_dir_read(&dir, data, size, &arena, &err) || anm_package_read(&package, &dir, &err)) fail_msg("%s", err.text);
        if (anm_mil_verify(&package.program, true, &err)) fail_msg("%s", err.text);
        for (const anm_mil_function *fn = package.program.functions; fn; fn = fn->next)
            for (const anm_mil_op *op = fn->first; op; op = op->next) ops++;
        anm_package_free(&package);
        anm_arena_free(&arena);
    }
    return ops;
}

static void what_is_written_can_be_read(void **state)
{
    (void)state;
    for (int i = 0; i < 8; i++) {
        anm_recipe r = small_recipe();
        r.multifunction = i & 1;
        r.lean = i >> 1 & 1;
        r.norm = i >> 1 & 1 ? ANM_NORM_SAFE : ANM_NORM_REFERENCE;
        r.graph_breaks = !(i >> 2 & 1);
        r.embedding_bits = i == 5 ? 0 : 4;
        r.type = i == 6 ? ANM_DT_F32 : ANM_DT_F16;
        export_to(file('r'), &r, 0);
        bytes b = read_bytes(file('r'));
        anm_pte p;
        anm_error err = {0};
        if (anm_pte_read(&p, b.data, b.size, &err)) fail_msg("%s", err.text);
        assert_string_equal(p.methods[0].name, "forward");
        assert_int_equal(p.n_methods, r.multifunction ? 2 + 15 : 1 + 10);
        assert_int_equal(p.methods[0].n_delegates, r.graph_breaks ? 3 : 1);
        assert_true(read_packages(&p) > 50);
        anm_pte_free(&p);
        free(b.data);
    }
    unlink(file('r'));
}

static void a_failure_leaves_the_old_file(void **state)
{
    (void)state;
    anm_recipe r = small_recipe();
    export_to(file('o'), &r, 1);
    bytes before = read_bytes(file('o'));
    const struct {
        int64_t split, group;
        const char *says;
    } bad[] = {{5, 8, "counts that fit are 1, 2, 4, 8; or take --split_fit"}, {4, 5, "are no multiple of 5"}};
    for (size_t i = 0; i < 2; i++) {
        const anm_export_output out = {file('o'), 0};
        anm_export_job job = {.checkpoint = CHECKPOINT, .recipe = r, .outputs = &out, .n_outputs = 1};
        job.recipe.split_size = bad[i].split;
        job.recipe.linear_group = bad[i].group;
        anm_export_report report;
        anm_error err = {0};
        assert_int_equal(anm_export(&report, &job, &err), ANM_ERR_UNSUPPORTED);
        if (!strstr(err.text, bad[i].says) || strncmp(err.text, CHECKPOINT ": ", sizeof CHECKPOINT + 1)) fail_msg("%s", err.text);
    }
    bytes after = read_bytes(file('o'));
    assert_int_equal(before.size, after.size);
    assert_memory_equal(before.data, after.data, before.size);
    free(before.data);
    free(after.data);
    unlink(file('o'));
}

/* Tables too large to be held come from the tiles: row by row what the small ones hold, in both types. */
static void large_tables_are_the_same(void **state)
{
    (void)state;
    enum { FEW = 24, MANY = 1 << 18 };
    for (int wide = 0; wide < 2; wide++) {
        anm_recipe r = small_recipe();
        r.type = wide ? ANM_DT_F32 : ANM_DT_F16;
        export_to(file('s'), &r, 1);
        r.max_context_len = MANY;
        export_to(file('l'), &r, 3);
        bytes b[2] = {read_bytes(file('s')), read_bytes(file('l'))};
        anm_pte p[2];
        anm_error err = {0};
        for (int i = 0; i < 2; i++)
            if (anm_pte_read(&p[i], b[i].data, b[i].size, &err)) fail_msg("%s", err.text);
        for (int sine = 0; sine < 2; sine++) {
            const char *name = sine ? "freqs_sin" : "freqs_cos";
            const anm_pte_value *few = &anm_pte_find(&p[0], name)->values[0], *many = &anm_pte_find(&p[1], name)->values[0];
            assert_int_equal(few->size[0], FEW);
            assert_int_equal(many->size[0], MANY);
            assert_int_equal(many->data_size, few->data_size / FEW * MANY);
            assert_memory_equal(few->data, many->data, few->data_size);
            bool zeros = true;
            for (uint64_t i = many->data_size - many->data_size / MANY; i < many->data_size; i++) zeros &= !many->data[i];
            assert_false(zeros); /* the last row is there, too */
        }
        for (int i = 0; i < 2; i++) {
            anm_pte_free(&p[i]);
            free(b[i].data);
        }
    }
    unlink(file('s'));
    unlink(file('l'));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_do_not_show),
        cmocka_unit_test(contexts_in_one_go_are_as_one_by_one),
        cmocka_unit_test(what_is_written_can_be_read),
        cmocka_unit_test(large_tables_are_the_same),
        cmocka_unit_test(a_failure_leaves_the_old_file),
    };
    int rc = cmocka_run_group_tests_name("export", tests, NULL, NULL);
    drop_scratch(NULL, 0);
    return rc;
}
