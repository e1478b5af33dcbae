/* SPDX-License-Identifier: BSD-3-Clause */
/* anemone compare: are two programs the same? If not, where do they part, and how far are the weights apart? */
#include "base/buf.h"
#include "base/json.h"
#include "cli/cli.h"
#include "cli/compare.h"
#include "cli/opt.h"
#include "cli/pieces.h"

#include <stdlib.h>
#include <string.h>

/* ---- values ---- */

static void print_value(anm_buf *b, const anm_pte_value *v)
{
    switch (v->kind) {
    case ANM_PTE_NULL: anm_buf_puts(b, "null"); break;
    case ANM_PTE_INT: anm_buf_printf(b, "%lld", (long long)v->i); break;
    case ANM_PTE_BOOL: anm_buf_puts(b, v->i ? "true" : "false"); break;
    case ANM_PTE_DOUBLE: anm_buf_printf(b, "%.17g", v->d); break;
    case ANM_PTE_STRING: anm_buf_printf(b, "\"%.80s\"", v->s); break;
    case ANM_PTE_OTHER: anm_buf_puts(b, v->s); break;
    case ANM_PTE_TENSOR:
        anm_buf_printf(b, "%s[", anm_dtype_name(v->dtype));
        for (int i = 0; i < v->rank; i++) anm_buf_printf(b, "%s%d", i ? "," : "", v->size[i]);
        anm_buf_printf(b, "]%s%s", v->dynamic ? " dynamic" : "", v->data ? " constant" : "");
        break;
    }
}

static bool value_same(const anm_pte_value *a, const anm_pte_value *b)
{
    if (a->kind != b->kind) return false;
    switch (a->kind) {
    case ANM_PTE_INT:
    case ANM_PTE_BOOL: return a->i == b->i;
    case ANM_PTE_DOUBLE: return memcmp(&a->d, &b->d, sizeof a->d) == 0;
    case ANM_PTE_STRING: return strcmp(a->s, b->s) == 0;
    case ANM_PTE_OTHER:
        return strcmp(a->s, b->s) == 0 && a->data_size == b->data_size && (!a->data_size || memcmp(a->data, b->data, a->data_size) == 0);
    case ANM_PTE_TENSOR:
        return a->dtype == b->dtype && a->rank == b->rank && memcmp(a->size, b->size, (size_t)a->rank * sizeof a->size[0]) == 0 &&
               a->dynamic == b->dynamic && !a->data == !b->data &&
               (!a->data || cmp_compare_bytes(a->dtype, a->data, b->data, a->data_size) != CMP_OTHER);
    default: return true;
    }
}

static void compare_value(cmp_report *r, const char *where, const char *what, size_t i, const anm_pte_value *a, const anm_pte_value *b)
{
    anm_buf x = {0}, y = {0};
    if (value_same(a, b)) return;
    print_value(&x, a);
    print_value(&y, b);
    bool bytes = x.data && y.data && strcmp((char *)x.data, (char *)y.data) == 0;
    cmp_differ(r, where, "%s %zu: %s / %s%s", what, i, x.data ? (char *)x.data : "?", y.data ? (char *)y.data : "?",
               bytes ? ", with other bytes" : "");
    anm_buf_free(&x);
    anm_buf_free(&y);
}

static void compare_list(cmp_report *r, const char *where, const char *what, const anm_pte_method *a, const uint32_t *x,
                         size_t nx, const anm_pte_method *b, const uint32_t *y, size_t ny)
{
    if (nx != ny) cmp_differ(r, where, "%zu / %zu %ss", nx, ny, what);
    for (size_t i = 0; i < nx && i < ny; i++) compare_value(r, where, what, i, &a->values[x[i]], &b->values[y[i]]);
}

/* ---- arenas ---- */

typedef struct span {
    uint32_t memory;
    uint64_t from, to;
} span;

static int by_place(const void *a, const void *b)
{
    const span *x = a, *y = b;
    if (x->memory != y->memory) return x->memory < y->memory ? -1 : 1;
    return x->from != y->from ? (x->from < y->from ? -1 : 1) : x->to < y->to ? -1 : x->to > y->to;
}

/* The planned tensors of a method by place; that they lie inside their arena the reader has checked. */
static span *spans_of(cmp_report *r, const char *where, const anm_pte_method *m, size_t *n)
{
    span *s = calloc(m->n_values + 1, sizeof *s);
    *n = 0;
    for (size_t i = 0; s && i < m->n_values; i++) {
        const anm_pte_value *v = &m->values[i];
        uint64_t count = 1, bytes = 0;
        if (!v->planned) continue;
        for (int k = 0; k < v->rank; k++) count *= (uint64_t)v->size[k];
        anm_dtype_size(v->dtype, count, &bytes);
        if (v->memory_offset % 16) cmp_differ(r, where, "value %zu lies at %llu, no multiple of 16", i, (unsigned long long)v->memory_offset);
        s[(*n)++] = (span){v->memory_id, v->memory_offset, v->memory_offset + bytes};
    }
    if (s) qsort(s, *n, sizeof *s, by_place);
    return s;
}

/* Where the places differ from A's, B's tensors must at least not overlap. */
static int compare_arenas(cmp_report *r, const char *where, const anm_pte_method *a, const anm_pte_method *b, anm_error *err)
{
    size_t na, nb;
    span *x = spans_of(r, where, a, &na), *y = spans_of(r, where, b, &nb);
    int rc = x && y ? 0 : anm_fail_memory(err, "a comparison");
    if (!rc && (na != nb || memcmp(x, y, na * sizeof *x)))
        for (size_t i = 1; i < nb; i++)
            if (y[i].memory == y[i - 1].memory && y[i].from < y[i - 1].to) cmp_differ(r, where, "planned tensors of the second overlap");
    free(x);
    free(y);
    if (a->n_arenas != b->n_arenas) cmp_differ(r, where, "%zu / %zu arenas", a->n_arenas, b->n_arenas);
    for (size_t i = 0; i < a->n_arenas && i < b->n_arenas; i++)
        if (a->arena_sizes[i] != b->arena_sizes[i])
            cmp_differ(r, where, "arena %zu has %llu / %llu bytes", i, (unsigned long long)a->arena_sizes[i], (unsigned long long)b->arena_sizes[i]);
    return rc;
}

/* ---- methods ---- */

static void compare_delegates(cmp_report *r, const char *where, const anm_pte_method *a, const anm_pte_method *b)
{
    if (a->n_delegates != b->n_delegates) cmp_differ(r, where, "%zu / %zu delegates", a->n_delegates, b->n_delegates);
    for (size_t i = 0; i < a->n_delegates && i < b->n_delegates; i++) {
        const anm_pte_delegate *x = &a->delegates[i], *y = &b->delegates[i];
        if (strcmp(x->id, y->id)) cmp_differ(r, where, "delegate %zu is %s / %s", i, x->id, y->id);
        if (x->n_specs != y->n_specs) cmp_differ(r, where, "delegate %zu has %zu / %zu compile specs", i, x->n_specs, y->n_specs);
        for (size_t k = 0; k < x->n_specs && k < y->n_specs; k++) {
            const anm_pte_spec *s = &x->specs[k], *t = &y->specs[k];
            if (strcmp(s->key, t->key) || s->size != t->size || memcmp(s->value, t->value, s->size))
                cmp_differ(r, where, "delegate %zu, compile spec %zu: %s=%.*s / %s=%.*s", i, k, s->key, (int)(s->size < 80 ? s->size : 80),
                           (const char *)s->value, t->key, (int)(t->size < 80 ? t->size : 80), (const char *)t->value);
        }
    }
}

static void compare_calls(cmp_report *r, const char *where, const anm_pte_method *a, const anm_pte_method *b)
{
    if (a->n_calls != b->n_calls) cmp_differ(r, where, "%zu / %zu calls", a->n_calls, b->n_calls);
    for (size_t i = 0; i < a->n_calls && i < b->n_calls; i++) {
        const anm_pte_call *x = &a->calls[i], *y = &b->calls[i];
        if (!x->other != !y->other || (x->other && strcmp(x->other, y->other)))
            cmp_differ(r, where, "instruction %zu is %s / %s", i, x->other ? x->other : "a delegate's", y->other ? y->other : "a delegate's");
        else if (x->operands != y->operands) cmp_differ(r, where, "instruction %zu, %s, has other operands", i, x->other);
        else if (x->delegate != y->delegate) cmp_differ(r, where, "call %zu is of delegate %u / %u", i, x->delegate, y->delegate);
        else if (x->n_args != y->n_args) cmp_differ(r, where, "call %zu has %zu / %zu arguments", i, x->n_args, y->n_args);
        else
            for (size_t k = 0; k < x->n_args; k++)
                if (x->args[k] != y->args[k]) cmp_differ(r, where, "call %zu, argument %zu is value %u / %u", i, k, x->args[k], y->args[k]);
    }
}

/* How inputs and outputs are packed, as JSON: long texts, so only where they part is shown. */
static void compare_container(cmp_report *r, const char *where, const char *what, const char *a, const char *b)
{
    enum { BEFORE = 30, SHOWN = 60 };
    size_t i = 0;
    while (a[i] && a[i] == b[i]) i++;
    if (a[i] == b[i]) return;
    size_t from = i > BEFORE ? i - BEFORE : 0;
    cmp_differ(r, where, "the containers of the %s part at character %zu: …%.*s… / …%.*s…", what, i, SHOWN, a + from, SHOWN, b + from);
}

static int compare_method(cmp_report *r, const anm_pte_method *a, const anm_pte_method *b, anm_error *err)
{
    const char *where = a->name;
    compare_list(r, where, "input", a, a->inputs, a->n_inputs, b, b->inputs, b->n_inputs);
    compare_list(r, where, "output", a, a->outputs, a->n_outputs, b, b->outputs, b->n_outputs);
    compare_container(r, where, "inputs", a->in_spec, b->in_spec);
    compare_container(r, where, "outputs", a->out_spec, b->out_spec);
    if (a->n_values != b->n_values) cmp_differ(r, where, "%zu / %zu values", a->n_values, b->n_values);
    for (size_t i = 0; i < a->n_values && i < b->n_values; i++) compare_value(r, where, "value", i, &a->values[i], &b->values[i]);
    compare_delegates(r, where, a, b);
    compare_calls(r, where, a, b);
    return compare_arenas(r, where, a, b, err);
}

/* ---- packages ---- */

/* metadata.json of a package, or NULL (then the error says why). */
static json_t *read_metadata(const cli_package *k, const char *path, anm_error *err)
{
    const anm_dir_file *f = cli_dir_find(&k->dir, "metadata.json");
    json_t *j = NULL;
    if (!f) anm_fail(err, ANM_ERR_FORMAT, "%s: a package's metadata.json is missing", path);
    else if (anm_json_read(&j, f->data, f->size, JSON_REJECT_DUPLICATES, "a package's metadata.json is not JSON", err)) anm_error_prefix(err, path);
    return j;
}

static bool names_fit(const json_t *list, uint32_t n, anm_mil_value *const *v)
{
    if (json_array_size(list) != n) return false;
    for (uint32_t i = 0; i < n; i++) {
        const char *name = json_string_value(json_array_get(list, i));
        if (!name || strcmp(name, v[i]->name)) return false;
    }
    return true;
}

/* metadata.json names every function's inputs and outputs in their order; a package where it does not is no program to compare
 * another with. */
static int check_metadata(const char *path, const json_t *j, const anm_mil_program *p, anm_error *err)
{
    const json_t *methods = json_object_get(j, "methods");
    for (const anm_mil_function *fn = p->functions; fn; fn = fn->next) {
        const json_t *m = methods ? json_object_get(methods, fn->name) : j;
        if (!names_fit(json_object_get(m, "inputNames"), fn->n_inputs, fn->inputs) ||
            !names_fit(json_object_get(m, "outputNames"), fn->n_outputs, fn->outputs))
            return anm_fail(err, ANM_ERR_FORMAT, "%s: a package's metadata.json does not name the inputs and outputs of %.100s", path, fn->name);
    }
    return 0;
}

static int compare_metadata(cmp_report *r, const char *where, const char *const path[2], const cli_package *a,
                            const cli_package *b, bool names, anm_error *err)
{
    json_t *x = read_metadata(a, path[0], err), *y = x ? read_metadata(b, path[1], err) : NULL;
    int rc = x && y ? 0 : err->code;
    if (!rc) rc = check_metadata(path[0], x, &a->package.program, err);
    if (!rc) rc = check_metadata(path[1], y, &b->package.program, err);
    if (!rc) {
        const char *key;
        json_t *value;
        json_object_del(x, "identifier");
        json_object_del(y, "identifier");
        bool same = json_object_size(x) == json_object_size(y);
        json_object_foreach(x, key, value) {
            const json_t *other = json_object_get(y, key);
            same = same && other && (!names || json_equal(value, other));
        }
        if (!same) cmp_differ(r, where, "metadata.json differs");
    }
    json_decref(x);
    json_decref(y);
    return rc;
}

static int compare_piece(cmp_report *r, const char *where, const char *const path[2], cli_pieces *const side[2],
                         const cli_piece *const piece[2], bool names, anm_error *err)
{
    cli_package *a = &side[0]->packages[piece[0]->package], *b = &side[1]->packages[piece[1]->package];
    const char *x = piece[0]->named, *y = piece[1]->named;
    if (!x != !y || (x && strcmp(x, y))) cmp_differ(r, where, "function %s / %s", x ? x : "(none named)", y ? y : "(none named)");
    if (a->package.spec_version != b->package.spec_version)
        cmp_differ(r, where, "specification version %lld / %lld", (long long)a->package.spec_version, (long long)b->package.spec_version);
    if (a->package.multifunction != b->package.multifunction) cmp_differ(r, where, "only one describes its functions one by one");
    if (strcmp(a->package.default_function, b->package.default_function))
        cmp_differ(r, where, "the default function is '%s' / '%s'", a->package.default_function, b->package.default_function);
    const anm_mil_function *f = a->package.program.functions, *g = b->package.program.functions;
    for (; f && g && strcmp(f->name, g->name) == 0; f = f->next, g = g->next) {}
    if (f || g) cmp_differ(r, where, "the functions part at %s / %s", f ? f->name : "(no more)", g ? g->name : "(no more)");
    int rc = compare_metadata(r, where, path, a, b, names, err);
    if (rc) return rc;
    /* the tables of B may be exchanged by A's: the graphs are ours */
    return cmp_functions(r, where, anm_mil_function_find(&a->package.program, piece[0]->function->name),
                         anm_mil_function_find(&b->package.program, piece[1]->function->name), names, err);
}

/* ---- the whole ---- */

static int compare(cmp_report *r, const char *const path[2], cli_pieces *const side[2], bool names, anm_error *err)
{
    const anm_pte *a = &side[0]->pte, *b = &side[1]->pte;
    int rc = 0;
    for (size_t i = 0; i < a->n_methods || i < b->n_methods; i++) {
        const char *x = i < a->n_methods ? a->methods[i].name : "(none)", *y = i < b->n_methods ? b->methods[i].name : "(none)";
        if (strcmp(x, y)) cmp_differ(r, "program", "method %zu is %s / %s", i, x, y);
    }
    for (size_t m = 0; m < a->n_methods && !rc; m++) {
        const anm_pte_method *x = &a->methods[m], *y = anm_pte_find(b, x->name);
        if (!y) continue;
        rc = compare_method(r, x, y, err);
        for (size_t i = 0; i < x->n_delegates && i < y->n_delegates && !rc; i++) {
            const cli_piece *piece[2] = {&side[0]->of[m][i], &side[1]->of[y - b->methods][i]};
            char *where = anm_arena_printf(&side[0]->arena, "%s, piece %zu", x->name, i);
            rc = where ? compare_piece(r, where, path, side, piece, names, err) : anm_fail_memory(err, "a comparison");
        }
    }
    return rc;
}

int cmd_compare(int argc, char **argv)
{
    bool names = false;
    int64_t max = 20;
    const cli_opt table[] = {
        {0, "names", CLI_FLAG, &names, NULL, "the names of inputs and outputs must be the same too", NULL},
        {0, "max", CLI_INT, &max, "N", "differences to print (20)", NULL},
        {0},
    };
    const char *path[2];
    int n = 0;
    anm_error err = {0};
    int rc = cli_parse(table, "anemone compare A.pte B.pte [OPTION…]", argc, argv, path, 2, &n, &err);
    if (rc == CLI_HELPED) return EXIT_OK;
    if (!rc && (n != 2 || max < 0)) rc = anm_fail(&err, ANM_ERR_USAGE, "compare: two programs are needed: anemone compare A.pte B.pte");
    if (rc) return cli_fail(&err);

    cli_pieces a = {0}, b = {0};
    cli_pieces *const side[2] = {&a, &b};
    cmp_report report = {.max = (uint64_t)max};
    rc = cli_pieces_open(&a, path[0], &err);
    if (!rc) rc = cli_pieces_open(&b, path[1], &err);
    if (!rc) rc = compare(&report, path, side, names, &err);
    if (!rc && report.cut) rc = anm_fail_memory(&err, "a comparison");
    if (!rc && report.found) printf("%llu difference%s\n", (unsigned long long)report.found, report.found == 1 ? "" : "s");
    else if (!rc) puts("same");
    cli_pieces_close(&a);
    cli_pieces_close(&b);
    if (!rc && fflush(stdout)) rc = anm_fail(&err, ANM_ERR_IO, "standard output: not all of it could be written");
    if (rc) {
        cli_fail(&err);
        return EXIT_TROUBLE;
    }
    return report.found ? EXIT_FAILED : EXIT_OK;
}
