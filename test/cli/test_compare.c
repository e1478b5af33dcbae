/* SPDX-License-Identifier: BSD-3-Clause */
/* anemone compare: one thing changed at a time in a program, and what the command says of it. */
#include "test.h"

#include "cli/cli.h"
#include "cli/pieces.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int cli_fail(const anm_error *err) /* main.c's, without main */
{
    printf("anemone: %s\n", err->text);
    return EXIT_FAILED;
}

/* ---- programs that differ in one thing ---- */

typedef enum variant {
    PLAIN,
    /* the same program all the same */
    OTHER_NAMES, OTHER_ORDER, REPEATED_CONSTANT, TABLE_ULP, VALUE_TABLE_ULP, OTHER_PLACES,
    /* another one: the package */
    NIBBLE, SCALE, TABLE_TWO_ULP, SCALE_ULP, OP_TYPE, CONSTANT, OPERANDS, DEAD_OP, RESULT_TYPE, OPSET, FUNCTION_NAME, DEFAULT_FUNCTION,
    OUTPUT_ORDER, METADATA,
    /* tables beside that of cosines */
    TWIN_TABLES, MANY_REFERENCES,
    /* the program */
    METHOD_NAME, CONSTANT_METHOD, VALUE_TABLE_TWO_ULP, INPUT_TYPE, DYNAMIC, SPEC, DELEGATE_ID, CONTAINER, WIRING, ARENA, OVERLAP,
    VARIANTS
} variant;

enum { ROWS = 4, COLUMNS = 16, TABLE = 40, REFERENCES = 100000 };

/* A constant of the graph; large ones lie in the weight file by the writer's choice. */
static anm_mil_value *constant(anm_mil_builder *b, const char *name, anm_dtype t, int rank, const int64_t *dim, const void *data)
{
    anm_mil_type type = anm_mil_tensor(t, rank, dim);
    int64_t n = 0;
    anm_blob blob = {.data = data, .in_file = true};
    assert_true(anm_mil_type_count(&type, &n));
    assert_true(anm_dtype_size(t, (uint64_t)n, &blob.size));
    return anm_mil_const_blob(b, name, type, blob);
}

typedef struct bytes {
    uint8_t nibbles[COLUMNS * COLUMNS / 2];
    uint16_t scales[COLUMNS];
    float cosines[TABLE], twin[TABLE], small[TABLE], values[TABLE];
    int64_t index;
} bytes;

static void fill(bytes *d, variant v)
{
    *d = (bytes){.index = 3};
    for (size_t i = 0; i < sizeof d->nibbles; i++) d->nibbles[i] = (uint8_t)(i * 29);
    for (size_t i = 0; i < COLUMNS; i++) d->scales[i] = (uint16_t)(0x2c00 + i);
    for (size_t i = 0; i < TABLE; i++) {
        d->cosines[i] = d->twin[i] = d->values[i] = cosf((float)i / 7);
        d->small[i] = 0.001f * (float)i; /* no table of cosines */
    }
    d->twin[7] = nextafterf(d->twin[7], 2);
    if (v == NIBBLE) d->nibbles[17] ^= 0x30;
    if (v == SCALE) d->scales[3]++;
    if (v == TABLE_ULP || v == TABLE_TWO_ULP) d->cosines[9] = nextafterf(d->cosines[9], 2);
    if (v == TABLE_TWO_ULP) d->cosines[9] = nextafterf(d->cosines[9], 2);
    if (v == SCALE_ULP) d->small[9] = nextafterf(d->small[9], 2);
    if (v == VALUE_TABLE_ULP || v == VALUE_TABLE_TWO_ULP) d->values[5] = nextafterf(d->values[5], -2);
    if (v == VALUE_TABLE_TWO_ULP) d->values[5] = nextafterf(d->values[5], -2);
}

/* v beside itself, ever so often. */
static anm_mil_value *join_many(anm_mil_builder *b, anm_mil_value *v)
{
    anm_mil_value **list = malloc(REFERENCES * sizeof *list);
    assert_non_null(list);
    for (uint32_t i = 0; i < REFERENCES; i++) list[i] = v;
    v = anm_mil_emit_list(b, ANM_OP_CONCAT, "joined", ANM_P_VALUES, REFERENCES, list, ANM_P_AXIS, anm_mil_const_i32(b, 0), ANM_P_END);
    free(list);
    return v;
}

/* y = x * (nibbles * scales) + cosines …, with a slice behind it; a second output. */
static void add_function(anm_mil_program *p, const char *name, const bytes *d, variant v)
{
    anm_mil_function *fn = anm_mil_function_new(p, name, v == OPSET ? "CoreML7" : "CoreML8");
    anm_mil_builder b = anm_mil_build(fn);
    anm_mil_value *x = anm_mil_input(&b, v == OTHER_NAMES ? "tokens" : "x", anm_mil_tensor(ANM_DT_F16, 2, (int64_t[]){ROWS, COLUMNS}));
    anm_mil_value *z = anm_mil_input(&b, "z", anm_mil_tensor(ANM_DT_F32, 1, (int64_t[]){TABLE}));
    anm_mil_value *w = anm_mil_emit(&b, ANM_OP_CONSTEXPR_BLOCKWISE_SHIFT_SCALE, v == OTHER_NAMES ? "w1" : "w", ANM_P_DATA,
                                    constant(&b, "nibbles", ANM_DT_I4, 2, (int64_t[]){COLUMNS, COLUMNS}, d->nibbles), ANM_P_SCALE,
                                    constant(&b, "scales", ANM_DT_F16, 2, (int64_t[]){COLUMNS, 1}, d->scales), ANM_P_END);
    anm_mil_value *s = NULL;
    if (v == OTHER_ORDER) s = anm_mil_emit(&b, ANM_OP_MUL, "s", ANM_P_X, z, ANM_P_Y, constant(&b, "small", ANM_DT_F32, 1, (int64_t[]){TABLE}, d->small), ANM_P_END);
    anm_mil_value *y = anm_mil_emit(&b, ANM_OP_LINEAR, "y", ANM_P_X, x, ANM_P_WEIGHT, w, ANM_P_END);
    anm_mil_value *half = anm_mil_const_float(&b, ANM_DT_F16, v == CONSTANT ? 0.25f : 0.5f);
    y = anm_mil_emit(&b, v == OP_TYPE ? ANM_OP_ADD : ANM_OP_MUL, "scaled", ANM_P_X, y, ANM_P_Y, half, ANM_P_END);
    anm_mil_value *third = v == REPEATED_CONSTANT ? anm_mil_const_float(&b, ANM_DT_F16, 0.5f) : half;
    y = anm_mil_emit(&b, ANM_OP_SUB, "difference", ANM_P_X, v == OPERANDS ? third : y, ANM_P_Y, v == OPERANDS ? y : third, ANM_P_END);
    if (!s) s = anm_mil_emit(&b, ANM_OP_MUL, "s", ANM_P_X, z, ANM_P_Y, constant(&b, "small", ANM_DT_F32, 1, (int64_t[]){TABLE}, d->small), ANM_P_END);
    anm_mil_value *t = anm_mil_emit(&b, ANM_OP_ADD, "t", ANM_P_X, s, ANM_P_Y, constant(&b, "cosines", ANM_DT_F32, 1, (int64_t[]){TABLE}, d->cosines), ANM_P_END);
    if (v == TWIN_TABLES)
        t = anm_mil_emit(&b, ANM_OP_ADD, "u", ANM_P_X, t, ANM_P_Y, constant(&b, "twin", ANM_DT_F32, 1, (int64_t[]){TABLE}, d->twin), ANM_P_END);
    if (v == MANY_REFERENCES) t = join_many(&b, constant(&b, "repeated", ANM_DT_F32, 1, (int64_t[]){TABLE}, d->twin));
    if (v == DEAD_OP) anm_mil_emit(&b, ANM_OP_ABS, "unused", ANM_P_X, t, ANM_P_END);
    if (v == RESULT_TYPE) t = anm_mil_emit(&b, ANM_OP_CAST, "narrow", ANM_P_X, t, ANM_P_DTYPE, anm_mil_const_string(&b, "fp16"), ANM_P_END);
    anm_mil_output(&b, v == OUTPUT_ORDER ? t : y);
    anm_mil_output(&b, v == OUTPUT_ORDER ? y : t);
    if (b.err.code) fail_msg("%s", b.err.text);
}

static uint8_t *flatten(const anm_layout *l)
{
    uint8_t *data = calloc(1, (size_t)l->size + 1);
    assert_non_null(data);
    for (size_t i = 0; i < l->count; i++)
        if (l->piece[i].data) memcpy(data + l->piece[i].offset, l->piece[i].data, (size_t)l->piece[i].size);
    return data;
}

static void write_file(const char *path, const void *data, size_t n)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, n, f), n);
    fclose(f);
}

static void write_variant(const char *path, variant v)
{
    anm_mil_program graph;
    anm_layout package = {0}, file = {0};
    anm_arena arena;
    anm_uuid_slots slots = {0};
    anm_error err = {0};
    bytes d;
    fill(&d, v);
    anm_arena_init(&arena);
    anm_mil_program_init(&graph);
    add_function(&graph, v == FUNCTION_NAME ? "step" : "forward", &d, v);
    add_function(&graph, "prefill", &d, PLAIN);
    anm_package_spec spec = {"lowered_module_partition_0", true, v == DEFAULT_FUNCTION ? "prefill" : graph.functions->name};
    if (anm_package_write(&package, &slots, &graph, &spec, &arena, &err)) fail_msg("%s", err.text);
    uint8_t *blob = flatten(&package);
    if (v == METADATA) { /* the name of an input, in metadata.json alone */
        static const char names[] = "\"inputNames\": [\"x\"";
        uint8_t *at = blob;
        while (memcmp(at, names, sizeof names - 1)) at++;
        at[sizeof names - 3] = 'q';
    }

    char reference[120];
    snprintf(reference, sizeof reference, "CMJR{\"version\": 1, \"key\": \"package\", \"functionName\": \"%s\"}", graph.functions->name);
    anm_pte_value values[] = {
        {.kind = ANM_PTE_TENSOR, .dtype = v == INPUT_TYPE ? ANM_DT_F32 : ANM_DT_F16, .rank = 2, .size = {ROWS, COLUMNS}},
        {.kind = ANM_PTE_TENSOR, .dtype = ANM_DT_F32, .rank = 1, .size = {TABLE}, .dynamic = v == DYNAMIC},
        {.kind = ANM_PTE_TENSOR, .dtype = ANM_DT_F16, .rank = 2, .size = {ROWS, COLUMNS}, .planned = true, .memory_id = 1},
        {.kind = ANM_PTE_TENSOR, .dtype = ANM_DT_F32, .rank = 1, .size = {TABLE}, .planned = true, .memory_id = 1,
         .memory_offset = v == OVERLAP ? 64 : v == OTHER_PLACES ? 144 : 128},
    };
    anm_pte_value table = {.kind = ANM_PTE_TENSOR, .dtype = ANM_DT_F32, .rank = 1, .size = {TABLE}, .data = (uint8_t *)d.values, .data_size = sizeof d.values};
    anm_pte_value number = {.kind = ANM_PTE_INT, .i = v == CONSTANT_METHOD ? 65 : 64};
    anm_pte_spec specs[] = {{"compute_units", (const uint8_t *)(v == SPEC ? "all" : "cpu"), 3}};
    anm_pte_delegate delegate = {.id = v == DELEGATE_ID ? "CoreMLBackendX" : "CoreMLBackend", .specs = specs, .n_specs = 1,
                                 .data = (uint8_t *)reference, .size = strlen(reference)};
    uint32_t inputs[] = {0, 1}, outputs[] = {2, 3}, args[] = {0, 1, 2, 3}, only[] = {0};
    if (v == WIRING) args[2] = 3, args[3] = 2;
    anm_pte_call call = {.args = args, .n_args = 4};
    uint64_t arenas[] = {0, v == ARENA ? 512 : 320}, none[] = {0};
    anm_pte_method methods[] = {
        {.name = "forward", .in_spec = v == CONTAINER ? "[2]" : "[1]", .out_spec = "[1]", .values = values, .n_values = 4, .inputs = inputs,
         .n_inputs = 2, .outputs = outputs, .n_outputs = 2, .delegates = &delegate, .n_delegates = 1, .calls = &call, .n_calls = 1,
         .arena_sizes = arenas, .n_arenas = 2},
        {.name = v == METHOD_NAME ? "width" : "size", .in_spec = "", .out_spec = "[1]", .values = &number, .n_values = 1, .outputs = only,
         .n_outputs = 1, .arena_sizes = none, .n_arenas = 1},
        {.name = "table", .in_spec = "", .out_spec = "[1]", .values = &table, .n_values = 1, .outputs = only, .n_outputs = 1,
         .arena_sizes = none, .n_arenas = 1},
    };
    anm_pte_named named = {.key = "package", .data = blob, .size = package.size};
    anm_pte program = {.methods = methods, .n_methods = 3, .named = &named, .n_named = 1};
    if (anm_pte_write(&file, &program, &arena, NULL, NULL, NULL, &err)) fail_msg("%s", err.text);
    uint8_t *out = flatten(&file);
    write_file(path, out, (size_t)file.size);
    free(out);
    free(blob);
    anm_layout_free(&file);
    anm_layout_free(&package);
    anm_mil_program_free(&graph);
    anm_arena_free(&arena);
}

/* ---- the command, and what it says ---- */

static char folder[] = "/tmp/anemone-compare-XXXXXX", start[2048];

static int setup(void **state)
{
    (void)state;
    const char *keep = getenv("ANM_KEEP"); /* a folder for the files, to be looked at with other tools */
    if (!getcwd(start, sizeof start) || (!keep && !mkdtemp(folder))) return -1;
    return chdir(keep ? keep : folder);
}

static int teardown(void **state)
{
    (void)state;
    if (getenv("ANM_KEEP")) return 0;
    if (chdir("/")) return -1;
    return rmdir(folder);
}

static void drop(const char *path)
{
    if (!getenv("ANM_KEEP")) remove(path);
}

/* Runs the command with standard output in a file; its text is in `said`. */
static char said[8192];
static int compare(const char *a, const char *b, const char *option)
{
    char *argv[] = {(char *)(uintptr_t) "compare", (char *)(uintptr_t)a, (char *)(uintptr_t)b, (char *)(uintptr_t)option, NULL};
    fflush(stdout);
    int keep = dup(STDOUT_FILENO);
    assert_non_null(freopen("said.txt", "wb", stdout));
    int code = cmd_compare(option ? 4 : 3, argv);
    fflush(stdout);
    dup2(keep, STDOUT_FILENO);
    close(keep);
    FILE *f = fopen("said.txt", "rb");
    assert_non_null(f);
    said[fread(said, 1, sizeof said - 1, f)] = 0;
    fclose(f);
    remove("said.txt");
    return code;
}

static void check(variant v, int code, const char *words)
{
    char path[40];
    snprintf(path, sizeof path, "%d.pte", v);
    write_variant("plain.pte", PLAIN);
    write_variant(path, v);
    int got = compare("plain.pte", path, NULL);
    if (got != code || !strstr(said, words)) fail_msg("variant %d: exit code %d, wanted %d and '%s':\n%s", v, got, code, words, said);
    got = compare(path, "plain.pte", NULL); /* and the other way round */
    if (got != code) fail_msg("variant %d, the other way round: exit code %d:\n%s", v, got, said);
    drop(path);
    drop("plain.pte");
}

static void test_same(void **state)
{
    (void)state;
    for (int v = PLAIN; v <= OTHER_PLACES; v++) check((variant)v, EXIT_OK, "same\n");
}

static void test_different(void **state)
{
    (void)state;
    static const struct {
        variant v;
        const char *words;
    } cases[] = {
        {NIBBLE, "1 of 256 values differ, by 1 at most"},
        {SCALE, "scale of w: fp16[16,1]: 1 of 16 values differ"},
        {TABLE_TWO_ULP, "1 of 40 values differ"},
        {SCALE_ULP, "1 of 40 values differ"},
        {OP_TYPE, "1 / 2 ops are add"},
        {CONSTANT, "1 of 1 values differ, by 0.25"},
        {OPERANDS, "forward, piece 0: "},
        {DEAD_OP, "0 / 1 ops are abs"},
        {RESULT_TYPE, "fp32[40] / fp16[40]"},
        {OPSET, "opset CoreML8 / CoreML7"},
        {FUNCTION_NAME, "function forward / step"},
        {DEFAULT_FUNCTION, "default function is 'forward' / 'prefill'"},
        {OUTPUT_ORDER, "outputs 0"},
        {METHOD_NAME, "method 1 is size / width"},
        {CONSTANT_METHOD, "64 / 65"},
        {VALUE_TABLE_TWO_ULP, "with other bytes"},
        {INPUT_TYPE, "fp16[4,16] / fp32[4,16]"},
        {DYNAMIC, "fp32[40] dynamic"},
        {SPEC, "compute_units=cpu / compute_units=all"},
        {CONTAINER, "containers of the inputs"},
        {WIRING, "argument 2 is value 2 / 3"},
        {ARENA, "arena 1 has 320 / 512 bytes"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) check(cases[i].v, EXIT_FAILED, cases[i].words);
}

/* A package whose metadata names other inputs than it has is no program to hold another one against, nor itself. */
static void test_contradiction(void **state)
{
    (void)state;
    check(METADATA, EXIT_TROUBLE, "");
    write_variant("named.pte", METADATA);
    assert_int_equal(compare("named.pte", "named.pte", NULL), EXIT_TROUBLE);
    drop("named.pte");
}

/* Two tables a unit apart in one program: each is itself, and not the other. */
static void test_twins(void **state)
{
    (void)state;
    write_variant("twins.pte", TWIN_TABLES);
    assert_int_equal(compare("twins.pte", "twins.pte", NULL), EXIT_OK);
    drop("twins.pte");
}

/* A table that is referred to ever so often is one table; to take references two and two would not end. */
static void test_many_references(void **state)
{
    (void)state;
    write_variant("many.pte", MANY_REFERENCES);
    assert_int_equal(compare("many.pte", "many.pte", NULL), EXIT_OK);
    drop("many.pte");
}

static void test_overlap(void **state)
{
    (void)state;
    write_variant("plain.pte", PLAIN);
    write_variant("overlap.pte", OVERLAP);
    assert_int_equal(compare("plain.pte", "overlap.pte", NULL), EXIT_FAILED);
    assert_non_null(strstr(said, "planned tensors of the second overlap"));
    drop("plain.pte");
    drop("overlap.pte");
}

static void test_names(void **state)
{
    (void)state;
    write_variant("plain.pte", PLAIN);
    write_variant("named.pte", OTHER_NAMES);
    assert_int_equal(compare("plain.pte", "named.pte", NULL), EXIT_OK);
    assert_int_equal(compare("plain.pte", "named.pte", "--names"), EXIT_FAILED);
    assert_non_null(strstr(said, "inputs 0 is called x / tokens"));
    drop("plain.pte");
    drop("named.pte");
}

static void test_errors(void **state)
{
    (void)state;
    write_variant("plain.pte", PLAIN);
    write_variant("foreign.pte", DELEGATE_ID);
    assert_int_equal(compare("plain.pte", "foreign.pte", NULL), EXIT_TROUBLE);
    assert_non_null(strstr(said, "anemone: foreign.pte: a delegate is for 'CoreMLBackendX'"));
    assert_int_equal(compare("nowhere.pte", "plain.pte", NULL), EXIT_TROUBLE);
    assert_non_null(strstr(said, "anemone: nowhere.pte: "));
    drop("plain.pte");
    drop("foreign.pte");
}

/* ---- the reference's own programs ---- */

/* Reads a program and writes it anew, packages and all. */
static void rewrite(const char *from, const char *to)
{
    cli_pieces p;
    anm_arena arena;
    anm_layout file = {0};
    anm_error err = {0};
    anm_arena_init(&arena);
    if (cli_pieces_open(&p, from, &err)) fail_msg("%s", err.text);
    anm_layout *package = calloc(p.n_packages + 1, sizeof *package);
    assert_non_null(package);
    for (size_t i = 0; i < p.n_packages; i++) {
        const anm_package *k = &p.packages[i].package;
        anm_uuid_slots slots = {0};
        anm_package_spec spec = {"lowered_module", k->multifunction, k->default_function};
        if (anm_package_write(&package[i], &slots, &k->program, &spec, &arena, &err)) fail_msg("%s: %s", from, err.text);
        for (size_t n = 0; n < p.pte.n_named; n++)
            if (p.pte.named[n].data == p.packages[i].data) p.pte.named[n].layout = &package[i];
        for (size_t m = 0; m < p.pte.n_methods; m++)
            for (size_t d = 0; d < p.pte.methods[m].n_delegates; d++)
                if (p.pte.methods[m].delegates[d].data == p.packages[i].data) p.pte.methods[m].delegates[d].layout = &package[i];
    }
    if (anm_pte_write(&file, &p.pte, &arena, NULL, NULL, NULL, &err)) fail_msg("%s: %s", from, err.text);
    uint8_t *data = flatten(&file);
    write_file(to, data, (size_t)file.size);
    free(data);
    for (size_t i = 0; i < p.n_packages; i++) anm_layout_free(&package[i]);
    free(package);
    anm_layout_free(&file);
    anm_arena_free(&arena);
    cli_pieces_close(&p);
}

static const char *const goldens[] = {
    "test/data/golden/mha/model.pte",
    "test/data/golden/tiny_multi.pte",
    "../shared/golden/single/model.pte",
    "../shared/golden/single_fp32/model.pte",
    "../shared/golden/single_e8g32/model.pte",
    "../shared/golden/multi_b4w_e4g32/model.pte",
    "../shared/golden/vocab40k/model.pte",
    "../shared/golden/dep_c4w/model.pte",
    "../shared/golden/dep_plain_fp32/model.pte",
};

static void test_goldens_rewritten(void **state)
{
    (void)state;
    char path[4096];
    unsigned found = 0;
    for (size_t i = 0; i < sizeof goldens / sizeof goldens[0]; i++) {
        snprintf(path, sizeof path, "%s/%s", start, goldens[i]);
        if (access(path, R_OK)) continue;
        found++;
        rewrite(path, "again.pte");
        int code = compare(path, "again.pte", "--names");
        if (code != EXIT_OK) fail_msg("%s:\n%s", goldens[i], said);
    }
    remove("again.pte");
    if (!found) skip();
}

/* A program of the reference cut short here and there: always refused, never more. */
static void test_goldens_cut_short(void **state)
{
    (void)state;
    char path[4096];
    unsigned found = 0;
    for (size_t i = 0; i < 2; i++) {
        cli_pieces p;
        anm_map map;
        anm_error err = {0};
        snprintf(path, sizeof path, "%s/%s", start, goldens[i]);
        if (access(path, R_OK)) continue;
        found++;
        assert_int_equal(anm_map_open(&map, path, &err), 0);
        for (uint64_t n = 1; n < map.size; n += n < 9000 ? 61 : 1999) {
            write_file("cut.pte", map.data, (size_t)n);
            assert_int_not_equal(cli_pieces_open(&p, "cut.pte", &err), 0);
            cli_pieces_close(&p);
        }
        anm_map_close(&map);
    }
    remove("cut.pte");
    if (!found) skip();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same),
        cmocka_unit_test(test_different), cmocka_unit_test(test_contradiction),
        cmocka_unit_test(test_twins),
        cmocka_unit_test(test_many_references),
        cmocka_unit_test(test_overlap),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_goldens_rewritten),
        cmocka_unit_test(test_goldens_cut_short),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
