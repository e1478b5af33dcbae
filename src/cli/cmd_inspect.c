/* SPDX-License-Identifier: BSD-3-Clause */
/* anemone inspect: what is in a file, as a tree or as JSON; a graph as text. */
#include "base/buf.h"
#include "base/bytes.h"
#include "base/half.h"
#include "base/json.h"
#include "base/shown.h"
#include "ckpt/ckpt.h"
#include "ckpt/gguf.h"
#include "cli/cli.h"
#include "cli/inspect_range.h"
#include "cli/not_program.h"
#include "cli/opt.h"
#include "cli/pieces.h"
#include "cli/tree.h"
#include "run/engine.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* Building JSON: a failed step leaves NULL behind, which jansson passes on; `bad` remembers it. */
typedef struct report {
    json_t *root;
    bool bad;
} report;

static void set(report *r, json_t *to, const char *key, json_t *v)
{
    if (json_object_set_new(to, key, v)) r->bad = true;
}

static json_t *add(report *r, json_t *list, json_t *v)
{
    if (json_array_append_new(list, v)) r->bad = true;
    return r->bad ? NULL : v;
}

static json_t *child_list(report *r, json_t *to, const char *key)
{
    json_t *list = json_array();
    set(r, to, key, list);
    return r->bad ? NULL : list;
}

static json_t *size_of(uint64_t n)
{
    return json_integer((json_int_t)n);
}

/* ---- graphs and packages ---- */

static void put_values(report *r, json_t *to, const char *key, uint32_t n, anm_mil_value *const *v)
{
    char type[160];
    json_t *list = child_list(r, to, key);
    for (uint32_t i = 0; i < n && !r->bad; i++) {
        json_t *row = add(r, list, json_object());
        set(r, row, "name", cli_json_text(v[i]->name));
        set(r, row, "type", json_string(anm_mil_type_print(&v[i]->type, type, sizeof type)));
    }
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* How many ops of each type. */
static void put_ops(report *r, json_t *to, const anm_mil_function *fn)
{
    size_t n = 0, k = 0;
    for (const anm_mil_op *op = fn->first; op; op = op->next) n++;
    const char **name = calloc(n + 1, sizeof *name);
    if (!name) {
        r->bad = true;
        return;
    }
    for (const anm_mil_op *op = fn->first; op; op = op->next) name[k++] = op->code ? anm_mil_op_name(op->code) : op->foreign;
    qsort(name, n, sizeof *name, by_text);
    set(r, to, "ops", size_of(n));
    json_t *list = child_list(r, to, "op counts");
    for (size_t i = 0; i < n && !r->bad; i = k) {
        for (k = i; k < n && strcmp(name[k], name[i]) == 0; k++) {}
        json_t *row = add(r, list, json_object());
        set(r, row, "op", cli_json_text(name[i]));
        set(r, row, "count", size_of(k - i));
    }
    free(name);
}

static int by_address(const void *a, const void *b)
{
    const anm_mil_value *x = *(const anm_mil_value *const *)a, *y = *(const anm_mil_value *const *)b;
    uintptr_t p = (uintptr_t)x->constant->data, q = (uintptr_t)y->constant->data;
    return p != q ? (p < q ? -1 : 1) : 0;
}

/* The weight file by type: each blob once, however many functions and ops use it. */
static void put_weights(report *r, json_t *to, const anm_package *k)
{
    size_t room = 0, n = 0;
    for (const anm_mil_function *fn = k->program.functions; fn; fn = fn->next) room += fn->n_values;
    const anm_mil_value **found = calloc(room + 1, sizeof *found);
    if (!found) {
        r->bad = true;
        return;
    }
    for (const anm_mil_function *fn = k->program.functions; fn; fn = fn->next)
        for (const anm_mil_op *op = fn->first; op; op = op->next)
            for (uint32_t a = 0; a < op->n_args; a++)
                for (uint32_t i = 0; i < op->args[a].count; i++) {
                    const anm_mil_value *v = op->args[a].value[i];
                    if (v->constant && v->constant->in_file && n < room) found[n++] = v;
                }
    qsort(found, n, sizeof *found, by_address);
    json_t *list = child_list(r, to, "weights");
    for (unsigned t = 1; t < ANM_DT_COUNT && !r->bad; t++) {
        uint64_t blobs = 0, bytes = 0, values = 0;
        for (size_t i = 0; i < n; i++) {
            int64_t count = 0;
            if (found[i]->type.dtype != t || (i && by_address(&found[i - 1], &found[i]) == 0)) continue;
            anm_mil_type_count(&found[i]->type, &count);
            blobs++;
            bytes += found[i]->constant->size;
            values += (uint64_t)count;
        }
        if (!blobs) continue;
        json_t *row = add(r, list, json_object());
        set(r, row, "type", json_string(anm_dtype_name((anm_dtype)t)));
        set(r, row, "tensors", size_of(blobs));
        set(r, row, "values", size_of(values));
        set(r, row, "bytes", size_of(bytes));
    }
    free(found);
}

static void put_package(report *r, json_t *list, const char *name, const anm_package *k)
{
    json_t *to = add(r, list, json_object());
    set(r, to, "name", cli_json_text(name));
    set(r, to, "specification version", json_integer(k->spec_version));
    set(r, to, "weight file bytes", size_of(k->weights_size));
    put_weights(r, to, k);
    json_t *functions = child_list(r, to, "function");
    for (const anm_mil_function *fn = k->program.functions; fn && !r->bad; fn = fn->next) {
        json_t *f = add(r, functions, json_object());
        set(r, f, "name", cli_json_text(fn->name));
        set(r, f, "opset", cli_json_text(fn->opset));
        put_values(r, f, "inputs", fn->n_inputs, fn->inputs);
        put_values(r, f, "outputs", fn->n_outputs, fn->outputs);
        put_ops(r, f, fn);
    }
}

static int print_graphs(const char *name, const anm_package *k, anm_error *err)
{
    anm_buf text = {0};
    int rc = 0;
    for (const anm_mil_function *fn = k->program.functions; fn && !rc; fn = fn->next) {
        anm_buf_puts(&text, "# ");
        anm_shown_put(&text, name, strlen(name));
        anm_buf_puts(&text, "\n");
        rc = anm_mil_print_function(&text, fn, false, err);
        if (!rc && text.bad) rc = anm_fail_memory(err, "a graph's text");
        if (!rc) fwrite(text.data, 1, text.size, stdout);
        text.size = 0;
    }
    anm_buf_free(&text);
    return rc;
}

/* ---- programs ---- */

static void type_text(char out[120], const anm_pte_value *v)
{
    static const char *const kind[] = {[ANM_PTE_NULL] = "null",     [ANM_PTE_INT] = "int",       [ANM_PTE_BOOL] = "bool",
                                       [ANM_PTE_DOUBLE] = "double", [ANM_PTE_STRING] = "string", [ANM_PTE_OTHER] = "other"};
    if (v->kind != ANM_PTE_TENSOR) {
        snprintf(out, 120, "%s", kind[v->kind]);
        return;
    }
    anm_mil_type t = {.dtype = v->dtype, .rank = v->rank};
    for (int i = 0; i < v->rank; i++) t.dim[i] = v->size[i];
    anm_mil_type_print(&t, out, 120);
}

/* The first values of a constant tensor. */
static void put_elements(anm_buf *b, const anm_pte_value *v)
{
    enum { SHOWN = 8 };
    unsigned w = anm_dtype_bytes(v->dtype);
    uint64_t n = w ? v->data_size / w : 0;
    for (uint64_t i = 0; i < n && i < SHOWN; i++) {
        const uint8_t *p = v->data + i * w;
        switch (v->dtype) {
        case ANM_DT_F16: anm_buf_printf(b, " %.5g", (double)anm_f16_to_f32(anm_ld16(p))); break;
        case ANM_DT_F32: anm_buf_printf(b, " %.7g", (double)anm_ldf32(p)); break;
        case ANM_DT_I32: anm_buf_printf(b, " %d", (int32_t)anm_ld32(p)); break;
        case ANM_DT_I64: anm_buf_printf(b, " %lld", (long long)anm_ld64(p)); break;
        case ANM_DT_BOOL:
        case ANM_DT_U8: anm_buf_printf(b, " %u", p[0]); break;
        case ANM_DT_I8: anm_buf_printf(b, " %d", (int8_t)p[0]); break;
        default: return;
        }
    }
    if (n > SHOWN) anm_buf_puts(b, " …");
}

static json_t *constant_of(const anm_pte_value *v)
{
    char type[120];
    switch (v->kind) {
    case ANM_PTE_INT: return json_integer(v->i);
    case ANM_PTE_BOOL: return json_boolean(v->i);
    case ANM_PTE_DOUBLE: return cli_json_real(v->d);
    case ANM_PTE_STRING: return cli_json_text(v->s);
    case ANM_PTE_TENSOR: break;
    default: return json_null();
    }
    anm_buf b = {0};
    type_text(type, v);
    anm_buf_puts(&b, type);
    if (v->data) put_elements(&b, v);
    json_t *j = b.bad ? NULL : json_stringn((const char *)b.data, b.size);
    anm_buf_free(&b);
    return j;
}

static bool is_constant_method(const anm_pte_method *m)
{
    return !m->n_inputs && m->n_outputs == 1 && !m->n_calls;
}

static void put_io(report *r, json_t *to, const char *key, const anm_pte_method *m, const uint32_t *list, size_t n)
{
    char text[120];
    json_t *rows = child_list(r, to, key);
    for (size_t i = 0; i < n && !r->bad; i++) {
        json_t *row = add(r, rows, json_object());
        snprintf(text, sizeof text, "v%u", list[i]);
        set(r, row, "value", json_string(text));
        type_text(text, &m->values[list[i]]);
        set(r, row, "type", json_string(text));
    }
}

static const char *package_name(const cli_pieces *p, uint32_t i, char out[160])
{
    const cli_package *k = &p->packages[i];
    snprintf(out, 160, "%u: %.140s", i, k->key ? k->key : k->dir.count ? k->dir.file[0].path : "");
    char *slash = strchr(out, '/');
    if (slash && !k->key) *slash = 0;
    return out;
}

static void put_method(report *r, json_t *list, const cli_pieces *p, size_t index)
{
    const anm_pte_method *m = &p->pte.methods[index];
    json_t *to = add(r, list, json_object());
    set(r, to, "name", cli_json_text(m->name));
    put_io(r, to, "inputs", m, m->inputs, m->n_inputs);
    put_io(r, to, "outputs", m, m->outputs, m->n_outputs);
    uint64_t arena = 0;
    for (size_t i = 0; i < m->n_arenas; i++) arena += m->arena_sizes[i];
    set(r, to, "arena bytes", size_of(arena));
    json_t *calls = child_list(r, to, "calls");
    for (size_t i = 0; i < m->n_calls && !r->bad; i++) {
        const anm_pte_call *c = &m->calls[i];
        anm_buf args = {0};
        json_t *row = add(r, calls, json_object());
        char name[40];
        if (c->other) {
            set(r, row, "call", cli_json_text(c->other));
            continue;
        }
        const cli_piece *piece = &p->of[index][c->delegate];
        snprintf(name, sizeof name, "piece %u", c->delegate);
        set(r, row, "call", json_string(name));
        snprintf(name, sizeof name, "package %u", piece->package);
        set(r, row, "package", json_string(name));
        set(r, row, "function", cli_json_text(piece->function->name));
        for (size_t k = 0; k < c->n_args; k++) anm_buf_printf(&args, "%sv%u", k ? " " : "", c->args[k]);
        set(r, row, "values", args.bad ? NULL : json_string(args.data ? (const char *)args.data : ""));
        anm_buf_free(&args);
    }
}

static void put_constants(report *r, const anm_pte *p)
{
    json_t *to = json_object();
    for (size_t i = 0; i < p->n_methods; i++)
        if (is_constant_method(&p->methods[i])) {
            const anm_pte_method *m = &p->methods[i];
            json_t *key = cli_json_text(m->name);
            if (key) set(r, to, json_string_value(key), constant_of(&m->values[m->outputs[0]]));
            r->bad |= !key;
            json_decref(key);
        }
    set(r, r->root, "constants", to);
}

static int inspect_program(report *r, const char *path, bool ops, anm_error *err)
{
    cli_pieces p;
    char name[160];
    int rc = cli_pieces_open(&p, path, err);
    for (uint32_t i = 0; i < p.n_packages && !rc && ops; i++) rc = print_graphs(package_name(&p, i, name), &p.packages[i].package, err);
    if (!rc && !ops) {
        set(r, r->root, "format", json_string("ExecuTorch program"));
        set(r, r->root, "bytes", size_of(p.map.size));
        json_t *methods = child_list(r, r->root, "method");
        for (size_t i = 0; i < p.pte.n_methods && !r->bad; i++)
            if (!is_constant_method(&p.pte.methods[i])) put_method(r, methods, &p, i);
        put_constants(r, &p.pte);
        json_t *packages = child_list(r, r->root, "package");
        for (uint32_t i = 0; i < p.n_packages && !r->bad; i++) put_package(r, packages, package_name(&p, i, name), &p.packages[i].package);
    }
    cli_pieces_close(&p);
    return rc;
}

/* ---- an .mlpackage folder ---- */

/* The three files that matter, mapped where a package has them; the weights may be missing. */
static int inspect_package(report *r, const char *path, bool ops, anm_error *err)
{
    static const char *const file[] = {"Manifest.json", "Data/com.apple.CoreML/model.mlmodel", "Data/com.apple.CoreML/weights/weight.bin"};
    anm_map map[3] = {0};
    anm_dir_file entry[3];
    anm_package k = {0};
    anm_arena arena;
    struct stat st;
    int rc = 0;
    size_t n = 0;
    anm_arena_init(&arena);
    for (int i = 0; i < 3 && !rc; i++) {
        char *full = anm_arena_printf(&arena, "%s/%s", path, file[i]), *name = anm_arena_printf(&arena, "package/%s", file[i]);
        if (!full || !name) rc = anm_fail_memory(err, "a package");
        else if (i < 2 || stat(full, &st) == 0) rc = anm_map_open(&map[i], full, err);
        if (!rc && map[i].data) entry[n++] = (anm_dir_file){name, map[i].data, map[i].size};
    }
    if (!rc) {
        rc = anm_package_read(&k, &(anm_dir){entry, n}, err);
        if (rc) anm_error_prefix(err, path);
        if (!rc && ops) rc = print_graphs(path, &k, err);
        if (!rc && !ops) {
            set(r, r->root, "format", json_string("Core ML package"));
            put_package(r, child_list(r, r->root, "package"), path, &k);
        }
        anm_package_free(&k);
    }
    for (int i = 0; i < 3; i++)
        if (map[i].data) anm_map_close(&map[i]);
    anm_arena_free(&arena);
    return rc;
}

/* ---- checkpoints ---- */

static void put_tensors(report *r, const anm_ckpt *c)
{
    uint64_t bytes[ANM_DT_COUNT] = {0}, tensors[ANM_DT_COUNT] = {0}, values[ANM_DT_COUNT] = {0};
    json_t *totals = child_list(r, r->root, "tensors by type"), *list = child_list(r, r->root, "tensors");
    for (unsigned s = 0; s < anm_ckpt_shards(c) && !r->bad; s++) {
        for (size_t i = 0; i < anm_ckpt_count(c, s) && !r->bad; i++) {
            const anm_tensor *t = anm_ckpt_at(c, s, i);
            uint64_t n = 1, size = 0;
            char type[120];
            anm_mil_type printed = {.dtype = t->dtype, .rank = t->rank};
            for (int k = 0; k < t->rank; k++) printed.dim[k] = t->shape[k], n *= (uint64_t)t->shape[k];
            anm_dtype_size(t->dtype, n, &size);
            tensors[t->dtype]++;
            values[t->dtype] += n;
            bytes[t->dtype] += size;
            json_t *row = add(r, list, json_object());
            set(r, row, "name", cli_json_text(t->name));
            set(r, row, "type", json_string(anm_mil_type_print(&printed, type, sizeof type)));
            set(r, row, "bytes", size_of(size));
            if (anm_ckpt_shards(c) > 1) set(r, row, "shard", size_of(s));
        }
    }
    for (unsigned t = 1; t < ANM_DT_COUNT && !r->bad; t++) {
        if (!tensors[t]) continue;
        json_t *row = add(r, totals, json_object());
        set(r, row, "type", json_string(anm_dtype_name((anm_dtype)t)));
        set(r, row, "tensors", size_of(tensors[t]));
        set(r, row, "values", size_of(values[t]));
        set(r, row, "bytes", size_of(bytes[t]));
    }
}

static int inspect_checkpoint(report *r, const char *path, bool ops, anm_error *err)
{
    static const char *const kind[] = {[ANM_CKPT_PTH] = "PyTorch checkpoint", [ANM_CKPT_SAFETENSORS] = "safetensors", [ANM_CKPT_GGUF] = "GGUF"};
    anm_ckpt *c;
    int rc = anm_ckpt_open(&c, path, err);
    if (rc) return rc;
    if (ops) {
        anm_ckpt_close(c);
        return anm_fail(err, ANM_ERR_FORMAT, "%s: is a checkpoint; only programs and packages have a graph", path);
    }
    set(r, r->root, "format", json_string(kind[anm_ckpt_kind_of(c)]));
    if (anm_ckpt_config_path(c)) set(r, r->root, "configuration", cli_json_text(anm_ckpt_config_path(c)));
    const anm_gguf *g = anm_ckpt_gguf(c);
    if (g) {
        json_t *list = child_list(r, r->root, "metadata");
        for (size_t i = 0; i < anm_gguf_key_count(g) && !r->bad; i++) {
            char key[256], text[256];
            anm_gguf_key(g, i, key, sizeof key, text, sizeof text);
            json_t *row = add(r, list, json_object());
            set(r, row, "key", cli_json_text(key));
            set(r, row, "value", cli_json_text(text));
        }
    }
    put_tensors(r, c);
    anm_ckpt_close(c);
    return 0;
}

/* ---- the command ---- */

typedef struct options {
    const char *path, *params, *tokenizer, *config;
    bool ops, range, json;
} options;

static int find_range(report *r, const options *o, bool program, anm_error *err)
{
    return cli_inspect_range(r->root, &(cli_range){o->path, program, o->params, o->tokenizer, o->config}, err);
}

/* Looks into the file, not at its name. */
static int inspect(report *r, const options *o, anm_error *err)
{
    const char *path = o->path;
    bool ops = o->ops;
    struct stat st;
    anm_arena arena;
    anm_map map;
    int rc;
    bool there = stat(path, &st) == 0; /* else it may be a pattern: the files of a checkpoint */
    if (there && S_ISDIR(st.st_mode)) {
        anm_arena_init(&arena);
        char *manifest = anm_arena_printf(&arena, "%s/Manifest.json", path);
        bool package = manifest && stat(manifest, &st) == 0;
        anm_arena_free(&arena);
        if (package && o->range)
            return anm_fail(err, ANM_ERR_USAGE, "--range: %s is a package, a part of a program; programs and checkpoints can be run", path);
        if (package) return inspect_package(r, path, ops, err);
    } else if (there && !S_ISREG(st.st_mode)) { /* a pipe can be read once, and checkpoints are files */
        return o->range ? find_range(r, o, true, err) : inspect_program(r, path, ops, err);
    } else if (there || !strpbrk(path, "*?[")) {
        if ((rc = anm_map_open(&map, path, err))) return rc;
        bool program = map.size >= 8 && memcmp(map.data + 4, "ET12", 4) == 0;
        anm_map_close(&map);
        if (program) return o->range ? find_range(r, o, true, err) : inspect_program(r, path, ops, err);
    }
    return o->range ? find_range(r, o, false, err) : inspect_checkpoint(r, path, ops, err);
}

static int show_plan(const char *path, const char *stage)
{
    anm_error err = {0};
    anm_buf text = {0};
    int rc = anm_engine_dump(&text, path, stage, &err);
    if (rc == ANM_ERR_FORMAT || rc == ANM_ERR_IO) rc = cli_not_program(path, &err);
    if (!rc) anm_shown_write(stdout, (const char *)text.data, text.size, "\n\t");
    anm_buf_free(&text);
    return rc ? cli_fail(&err) : EXIT_OK;
}

int cmd_inspect(int argc, char **argv)
{
    options o = {0};
    bool plan = false;
    const char *dump = NULL;
    const cli_opt table[] = {
        {0, "ops", CLI_FLAG, &o.ops, NULL, "print the graphs as text", NULL},
        {0, "plan", CLI_FLAG, &plan, NULL, "what becomes of a program's ops when it runs here: which are fused, which are not", NULL},
        {0, "dump", CLI_STRING, &dump, "after:STAGE",
         "print a program as it is on its way to be run: join (all pieces in one graph), lower (what each op means), merge, place (the steps)", NULL},
        {0, "range", CLI_FLAG, &o.range, NULL, "run a short text through it, in fp32: the largest magnitude by kind of op and layer", NULL},
        {'t', "tokenizer", CLI_STRING, &o.tokenizer, "FILE",
         "tokenizer for that text (a GGUF holds its own; without one: ids from all over the vocabulary)", NULL},
        {0, "tokenizer_config", CLI_STRING, &o.config, "FILE", "tokenizer_config.json, where it is not beside the tokenizer", NULL},
        {'p', "params", CLI_STRING, &o.params, "FILE", "params.json of a checkpoint that --range runs, where it is not beside it", NULL},
        {0, "json", CLI_FLAG, &o.json, NULL, "print JSON, for machines", NULL},
        {0},
    };
    int n = 0;
    anm_error err = {0};
    int rc = cli_parse(table, "anemone inspect FILE [OPTION…]", argc, argv, &o.path, 1, &n, &err);
    if (rc == CLI_HELPED) return EXIT_OK;
    if (!rc && n != 1) rc = anm_fail(&err, ANM_ERR_USAGE, "inspect: a checkpoint, a program or a package is needed: anemone inspect FILE");
    if (!rc && o.ops + plan + (dump != NULL) > 1) rc = anm_fail(&err, ANM_ERR_USAGE, "inspect: only one of --ops, --plan and --dump can be given");
    if (!rc && !o.range && (o.tokenizer || o.config || o.params))
        rc = anm_fail(&err, ANM_ERR_USAGE, "%s: goes with --range", o.tokenizer ? "--tokenizer" : o.config ? "--tokenizer_config" : "--params");
    if (!rc && (o.ops || plan || dump) && (o.json || o.range)) rc = anm_fail(&err, ANM_ERR_USAGE, "inspect: --ops, --plan and --dump print text; leave out %s", o.json ? "--json" : "--range");
    if (!rc && dump && (strncmp(dump, "after:", 6) || !anm_engine_has_stage(dump + 6)))
        rc = anm_fail(&err, ANM_ERR_USAGE, "--dump: '%s' is not after:STAGE; --help lists the stages", dump);
    if (!rc && (plan || dump)) return show_plan(o.path, plan ? "report" : dump + 6);
    if (rc) return cli_fail(&err);

    report r = {.root = json_object()};
    set(&r, r.root, "file", cli_json_text(o.path));
    rc = inspect(&r, &o, &err);
    if (!rc && r.bad) rc = anm_fail_memory(&err, "a report");
    if (!rc && o.json) {
        char *text;
        if (!(rc = anm_json_write(&text, r.root, JSON_INDENT(2), &err))) puts(text);
        free(text);
    } else if (!rc && !o.ops) cli_tree_print(r.root, cli_colour());
    json_decref(r.root);
    return rc ? cli_fail(&err) : EXIT_OK;
}
