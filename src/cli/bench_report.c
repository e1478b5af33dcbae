/* SPDX-License-Identifier: BSD-3-Clause */
#include "cli/bench.h"
#include "base/json.h"
#include "cli/say.h"
#include "cli/tree.h"

#include <stdlib.h>

static void rates(FILE *to, const bench *b)
{
    fprintf(to, "prefill %5lld tokens  %9.1f tokens/s", (long long)b->prompt_len, b->prefill);
    if (b->prefill_share > 0)
        fprintf(to, "   %3.0f %% of %.0f G int8 products/s (%.3g M a token)", b->prefill_share * 100, b->multiply * 1e-9,
                b->products * 1e-6);
    fprintf(to, "\ndecode  %5lld tokens  %9.1f tokens/s", (long long)b->decode_len, b->decode);
    if (b->decode_share > 0)
        fprintf(to, "   %3.0f %% of reading %.1f MB a token at %.1f GB/s", b->decode_share * 100, b->bytes * 1e-6, b->read * 1e-9);
    fprintf(to, "\n");
}

static void lengths(FILE *to, const bench *b)
{
    fprintf(to, "\n%8s %22s %12s %12s\n", "tokens", "prompt, tokens/s", "next, ms", "tokens/s");
    for (int i = 0, k = 0; i < b->n_decode; i++) {
        const bench_point *p = &b->decode_at[i];
        fprintf(to, "%8lld", (long long)p->tokens);
        if (k < b->n_prefill && b->prefill_at[k].tokens == p->tokens) fprintf(to, " %22.1f", b->prefill_at[k++].value);
        else fprintf(to, " %22s", "");
        fprintf(to, " %12.3f %12.1f\n", p->value * 1e3, 1 / p->value);
    }
}

static void ops(FILE *to, const bench *b)
{
    double prefill = 0, decode = 0;
    for (int i = 0; i < b->n_ops; i++) prefill += b->op[i].prefill, decode += b->op[i].decode;
    if (b->n_ops == 0) return;
    fprintf(to, "\n%-40s %6s %14s %18s\n", "time by op", "a pass", "decode, ms", "prefill, ms/token");
    for (int i = 0; i < b->n_ops; i++) {
        const bench_op *o = &b->op[i];
        fprintf(to, "%-40s %6lld %8.3f %3.0f %% %11.4f %3.0f %%\n", o->name, (long long)o->count, o->decode * 1e3,
                decode > 0 ? o->decode / decode * 100 : 0, o->prefill * 1e3, prefill > 0 ? o->prefill / prefill * 100 : 0);
    }
}

void bench_table(FILE *to, const bench *b)
{
    fprintf(to, "%s: %s, %lld layers, cache of %lld, %lld rows a step; %s, %u thread%s, %s; loaded in %.3f s\n", b->model, b->form,
            (long long)b->layers, (long long)b->cache_len, (long long)b->input_len, b->isa, b->threads, b->threads == 1 ? "" : "s",
            b->precision, b->load);
    if (b->unplanned) cli_say(to, "no plan fits, so the interpreter runs it", "%s", b->unplanned);
    rates(to, b);
    if (b->n_decode) lengths(to, b);
    ops(to, b);
}

static json_t *points(const bench_point *p, int n, const char *what, double factor)
{
    json_t *list = json_array();
    for (int i = 0; i < n; i++)
        if (json_array_append_new(list, json_pack("{s:I, s:f}", "tokens", (json_int_t)p[i].tokens, what, p[i].value * factor))) {
            json_decref(list);
            return NULL;
        }
    return list;
}

static json_t *op_list(const bench *b)
{
    json_t *list = json_array();
    for (int i = 0; i < b->n_ops; i++) {
        const bench_op *o = &b->op[i];
        if (json_array_append_new(list, json_pack("{s:s, s:I, s:f, s:f}", "op", o->name, "count", (json_int_t)o->count,
                                                  "decode_ms", o->decode * 1e3, "prefill_ms", o->prefill * 1e3))) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

int bench_json(FILE *to, const bench *b, anm_error *err)
{
    json_t *o = json_pack(
        "{s:o, s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:f, s:f}", "model", cli_json_text(b->model), "form", b->form, "precision",
        b->precision, "isa", b->isa, "threads", (json_int_t)b->threads, "layers", (json_int_t)b->layers, "cache_len",
        (json_int_t)b->cache_len, "input_len", (json_int_t)b->input_len, "prompt_len", (json_int_t)b->prompt_len, "decode_len",
        (json_int_t)b->decode_len, "rounds", (json_int_t)b->rounds, "load_s", b->load, "prefill_tok_s", b->prefill, "decode_tok_s",
        b->decode);
    bool bad = !o;
    bad = bad || (b->unplanned && json_object_set_new(o, "unplanned", cli_json_text(b->unplanned)));
    if (b->decode_share > 0)
        bad = bad || json_object_update_new(o, json_pack("{s:f, s:f, s:f}", "decode_bytes", b->bytes, "read_bytes_s", b->read,
                                                         "decode_roofline", b->decode_share));
    if (b->prefill_share > 0)
        bad = bad || json_object_update_new(o, json_pack("{s:f, s:f, s:f}", "prefill_products", b->products, "products_s",
                                                         b->multiply, "prefill_roofline", b->prefill_share));
    bad = bad || json_object_set_new(o, "decode", points(b->decode_at, b->n_decode, "ms", 1e3)) ||
          json_object_set_new(o, "prefill", points(b->prefill_at, b->n_prefill, "tok_s", 1)) ||
          json_object_set_new(o, "ops", op_list(b));
    char *text = NULL;
    int rc = bad ? anm_fail_memory(err, "JSON") : anm_json_write(&text, o, JSON_INDENT(1) | JSON_REAL_PRECISION(9), err);
    if (!rc) fprintf(to, "%s\n", text);
    free(text);
    json_decref(o);
    return rc;
}
