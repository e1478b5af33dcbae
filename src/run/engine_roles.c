/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Roles: what a method's inputs and outputs stand for. The exporter says so in constant methods (kv_cache_specs, …;
 * their names begin with decode_ and prefill_ in a multifunction file), and the signatures must agree.
 *
 * The pairs of a cache input and the output that continues it are taken from the graph itself: the output is what the
 * graph appends to the cache. (kv_cache_specs sorts its rows by the caches' names as text, "l10" before "l2", but
 * numbers outputs in their own order, so from eleven layers on its pairs can be crossed.)
 */
#include "base/half.h"
#include "base/limits.h"
#include "run/engine_internal.h"

#include <stdlib.h>
#include <string.h>

/* ---- constant methods ---- */

/* The one value that a constant method gives, or NULL. */
static const anm_pte_value *constant(const anm_loaded *l, const char *prefix, const char *name)
{
    char full[64];
    snprintf(full, sizeof full, "%s%s", prefix, name);
    const anm_pte_method *m = anm_pte_find(&l->pte, full);
    if (!m || m->n_inputs || m->n_outputs != 1 || m->outputs[0] >= m->n_values) return NULL;
    return &m->values[m->outputs[0]];
}

static bool tensor_count(const anm_pte_value *v, anm_dtype dtype, uint64_t *count)
{
    uint64_t bytes;
    *count = 1;
    if (!v || v->kind != ANM_PTE_TENSOR || v->dtype != dtype || !v->data) return false;
    for (int i = 0; i < v->rank; i++)
        if (v->size[i] < 0 || !anm_mul_u64(*count, (uint64_t)v->size[i], count)) return false;
    return anm_dtype_size(dtype, *count, &bytes) && bytes <= v->data_size;
}

static int need_int(int64_t *out, const anm_loaded *l, const char *prefix, const char *name, int64_t max,
                    anm_error *err)
{
    const anm_pte_value *v = constant(l, prefix, name);
    if (!v || v->kind != ANM_PTE_INT)
        return anm_fail(err, ANM_ERR_UNSUPPORTED,
                        "no metadata (%s%s is missing); not a program of this kind, or made by an older exporter",
                        prefix, name);
    if (v->i < 1 || v->i > max)
        return anm_fail(err, ANM_ERR_FORMAT, "%s%s is %lld, out of range", prefix, name, (long long)v->i);
    *out = v->i;
    return 0;
}

/* A tensor of int64: rows of `width` numbers. */
static int need_ints(const uint8_t **data, int64_t *rows, const anm_loaded *l, const char *prefix, const char *name,
                     int64_t width, anm_error *err)
{
    const anm_pte_value *v = constant(l, prefix, name);
    uint64_t count;
    if (!v)
        return anm_fail(err, ANM_ERR_UNSUPPORTED,
                        "no metadata (%s%s is missing); not a program of this kind, or made by an older exporter",
                        prefix, name);
    if (!tensor_count(v, ANM_DT_I64, &count) || count == 0 || count % (uint64_t)width)
        return anm_fail(err, ANM_ERR_FORMAT, "%s%s is not a table of %lld integers a row", prefix, name,
                        (long long)width);
    *data = v->data;
    *rows = (int64_t)(count / (uint64_t)width);
    return 0;
}

static int64_t int_at(const uint8_t *data, int64_t i)
{
    return (int64_t)anm_ld64(data + 8 * i);
}

/* A rotary table as fp32, whatever the file's type. */
static int read_table(const float **out, int64_t *rows, int64_t *width, anm_loaded *l, const char *name, anm_error *err)
{
    const anm_pte_value *v = constant(l, "", name);
    if (!v)
        return anm_fail(err, ANM_ERR_UNSUPPORTED,
                        "no metadata (%s is missing); not a program of this kind, or made by an older exporter", name);
    uint64_t count;
    bool half = v->dtype == ANM_DT_F16;
    if (!tensor_count(v, half ? ANM_DT_F16 : ANM_DT_F32, &count) || v->rank != 2 || count == 0 ||
        count > SIZE_MAX / 8)
        return anm_fail(err, ANM_ERR_FORMAT, "%s is not a table of floats", name);
    float *f = anm_arena_array(&l->arena, (size_t)count, sizeof *f);
    if (!f) return anm_fail_memory(err, name);
    for (size_t i = 0; i < count; i++)
        f[i] = half ? anm_f16_to_f32(anm_ld16(v->data + 2 * i)) : anm_ldf32(v->data + 4 * i);
    *out = f;
    *rows = v->size[0];
    *width = v->size[1];
    return 0;
}

/* ---- a method ---- */

static bool is_shape(const anm_mil_value *v, int rank, const int64_t *dim)
{
    if (v->type.rank != rank) return false;
    for (int i = 0; i < rank; i++)
        if (v->type.dim[i] != dim[i]) return false;
    return true;
}
#define IS_SHAPE(v, ...)                                                                                               \
    is_shape(v, (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (int64_t[]){__VA_ARGS__})

static bool in_range(int64_t i, uint32_t n)
{
    return i >= 0 && i < (int64_t)n;
}

/* By a value's id, what the graph appends to it (the second operand of the first concat whose first it is): an output's number
 * and 1, or -1 where that is no output; 0: nothing. Free it; NULL: no memory. */
static int32_t *appended_outputs(const anm_mil_function *fn)
{
    int32_t *number = calloc((size_t)fn->n_values + 1, sizeof *number), *to = calloc((size_t)fn->n_values + 1, sizeof *to);
    for (uint32_t i = fn->n_outputs; number && to && i-- > 0;) number[fn->outputs[i]->id] = (int32_t)i + 1;
    for (const anm_mil_op *op = fn->first; number && to && op; op = op->next) {
        const anm_mil_arg *a = op->code == ANM_OP_CONCAT ? anm_mil_args_of(op, ANM_P_VALUES) : NULL;
        if (!a || a->count != 2 || to[a->value[0]->id]) continue;
        int32_t n = number[a->value[1]->id];
        to[a->value[0]->id] = n ? n : -1;
    }
    if (!number) {
        free(to);
        to = NULL;
    }
    free(number);
    return to;
}

/* The cache of each layer; `appended`: of appended_outputs. */
static int read_caches(anm_method *m, anm_loaded *l, const char *prefix, const uint8_t *spec, int64_t n, const int32_t *appended,
                       anm_error *err)
{
    anm_engine_info *info = &l->info;
    bool first = info->n_layers == 0;
    if (first) {
        info->n_layers = n;
        info->cache_len = int_at(spec, 4);
    }
    const anm_mil_function *fn = m->fn;
    for (int64_t i = 0; i < n; i++) {
        int64_t k_in = int_at(spec, 5 * i), k_out = int_at(spec, 5 * i + 1), v_in = int_at(spec, 5 * i + 2),
                v_out = int_at(spec, 5 * i + 3), len = int_at(spec, 5 * i + 4);
        if (!in_range(k_in, fn->n_inputs) || !in_range(v_in, fn->n_inputs) || !in_range(k_out, fn->n_outputs) ||
            !in_range(v_out, fn->n_outputs) || n != info->n_layers || len != info->cache_len || len < 0 ||
            len > ANM_CACHE_LIMIT)
            return anm_fail(err, ANM_ERR_FORMAT, "%skv_cache_specs does not fit the method's inputs and outputs",
                            prefix);
        const anm_mil_value *k = fn->inputs[k_in], *v = fn->inputs[v_in];
        int32_t k_graph = appended[k->id], v_graph = appended[v->id];
        m->kv[i] = (anm_kv_io){(int32_t)k_in, (int32_t)v_in, k_graph > 0 ? k_graph - 1 : (int32_t)k_out,
                               v_graph > 0 ? v_graph - 1 : (int32_t)v_out};
        if (first && i == 0) {
            if (k->type.rank != 4 || (k->type.dtype != ANM_DT_F16 && k->type.dtype != ANM_DT_F32))
                return anm_fail(err, ANM_ERR_UNSUPPORTED, "a cache is not [1, heads, entries, width] of floats");
            info->fp16_cache = k->type.dtype == ANM_DT_F16;
        }
        int64_t h = info->n_kv_heads, d = info->head_dim;
        if (!IS_SHAPE(k, 1, h, len, d) || !IS_SHAPE(v, 1, h, len, d) || k->type.dtype != v->type.dtype ||
            (k->type.dtype == ANM_DT_F16) != info->fp16_cache ||
            !IS_SHAPE(fn->outputs[m->kv[i].k_out], 1, h, m->rows, d) ||
            !IS_SHAPE(fn->outputs[m->kv[i].v_out], 1, h, m->rows, d))
            return anm_fail(err, ANM_ERR_FORMAT, "the cache of layer %lld has a shape that the metadata deny",
                            (long long)i);
    }
    return 0;
}

static int find_caches(anm_method *m, anm_loaded *l, const char *prefix, anm_error *err)
{
    const uint8_t *spec;
    int64_t n;
    int rc = need_ints(&spec, &n, l, prefix, "kv_cache_specs", 5, err);
    if (rc) return rc;
    if (n > ANM_LAYERS_LIMIT) return anm_fail(err, ANM_ERR_FORMAT, "%skv_cache_specs has too many rows", prefix);
    m->kv = anm_arena_array(&l->arena, (size_t)n, sizeof *m->kv);
    int32_t *appended = m->kv ? appended_outputs(m->fn) : NULL;
    rc = appended ? read_caches(m, l, prefix, spec, n, appended, err) : anm_fail_memory(err, "program");
    free(appended);
    return rc;
}

/* The input that a one-number table names. */
static int need_index(int32_t *out, const anm_method *m, const anm_loaded *l, const char *prefix, const char *name,
                      anm_error *err)
{
    const uint8_t *data = NULL;
    int64_t n;
    int rc = need_ints(&data, &n, l, prefix, name, 1, err);
    if (rc) return rc;
    if (!in_range(int_at(data, 0), m->fn->n_inputs))
        return anm_fail(err, ANM_ERR_FORMAT, "%s%s names no input", prefix, name);
    *out = (int32_t)int_at(data, 0);
    return 0;
}

/* The inputs that no table names: [1, rows] of integers are the tokens, [1] is last_valid_token_pos. */
static int find_rest(anm_method *m, anm_error *err)
{
    m->tokens = m->last_pos = -1;
    for (uint32_t i = 0; i < m->fn->n_inputs; i++) {
        const anm_mil_value *v = m->fn->inputs[i];
        if (anm_dtype_class(v->type.dtype) != 'i') continue;
        if (m->tokens < 0 && IS_SHAPE(v, 1, m->rows)) m->tokens = (int32_t)i;
        else if (m->last_pos < 0 && IS_SHAPE(v, 1)) m->last_pos = (int32_t)i;
        else
            return anm_fail(err, ANM_ERR_UNSUPPORTED, "input %u of method %s has no role that is known", (unsigned)i,
                            m->fn->name);
    }
    if (m->tokens < 0) return anm_fail(err, ANM_ERR_FORMAT, "method %s takes no tokens", m->fn->name);
    return 0;
}

/* Has each input one role? There are as many roles as inputs. */
static bool roles_differ(bool *taken, const anm_method *m, int64_t layers)
{
    const int32_t one[] = {m->tokens, m->mask, m->cos, m->sin, m->last_pos};
    bool differ = true;
    for (size_t i = 0; i < sizeof one / sizeof *one; i++) {
        if (one[i] < 0) continue;
        differ = differ && !taken[one[i]];
        taken[one[i]] = true;
    }
    for (int64_t i = 0; i < layers; i++)
        for (int v = 0; v < 2; v++) {
            int32_t at = v ? m->kv[i].v_in : m->kv[i].k_in;
            differ = differ && !taken[at];
            taken[at] = true;
        }
    return differ;
}

static int find_method(anm_method *m, anm_loaded *l, const char *name, const char *prefix, anm_error *err)
{
    const anm_pte_method *pm = anm_pte_find(&l->pte, name);
    if (!pm) return anm_fail(err, ANM_ERR_FORMAT, "the program has no method %s", name);
    char input_len[32];
    snprintf(input_len, sizeof input_len, "%sinput_len", *prefix ? prefix : "forward_");
    int rc = need_int(&m->rows, l, "", input_len, ANM_ROWS_LIMIT, err);
    if (!rc) rc = anm_loaded_join(&m->fn, l, pm, err);
    if (!rc) rc = find_caches(m, l, prefix, err);
    if (!rc) rc = need_index(&m->cos, m, l, prefix, "freqs_cos_input_index", err);
    if (!rc) rc = need_index(&m->sin, m, l, prefix, "freqs_sin_input_index", err);
    const uint8_t *spec;
    int64_t n;
    if (!rc) rc = need_ints(&spec, &n, l, prefix, "mask_specs", 2, err);
    if (!rc) rc = find_rest(m, err);
    if (rc) return rc;
    const anm_mil_function *fn = m->fn;
    int64_t mask = int_at(spec, 0), width = l->table_width;
    if (n != 1 || !in_range(mask, fn->n_inputs) ||
        !IS_SHAPE(fn->inputs[mask], 1, m->rows, l->info.cache_len + m->rows))
        return anm_fail(err, ANM_ERR_FORMAT, "%smask_specs does not fit the method's mask", prefix);
    if (!IS_SHAPE(fn->inputs[m->cos], m->rows, width) || !IS_SHAPE(fn->inputs[m->sin], m->rows, width))
        return anm_fail(err, ANM_ERR_FORMAT, "method %s takes rotary rows of another width than the tables' %lld",
                        name, (long long)width);
    m->mask = (int32_t)mask;
    m->logits = 0;
    int64_t vocab = l->info.vocab_size;
    if (fn->n_inputs != 4 + 2 * (uint32_t)l->info.n_layers + (m->last_pos >= 0))
        return anm_fail(err, ANM_ERR_UNSUPPORTED, "method %s has an input without a role", name);
    bool *taken = calloc(fn->n_inputs, sizeof *taken);
    if (!taken) return anm_fail_memory(err, "program");
    bool differ = roles_differ(taken, m, l->info.n_layers);
    free(taken);
    if (!differ) return anm_fail(err, ANM_ERR_FORMAT, "method %s has an input with two roles", name);
    if (fn->n_outputs && IS_SHAPE(fn->outputs[0], 1, m->rows, vocab)) m->logits_rows = m->rows;
    else if (fn->n_outputs && IS_SHAPE(fn->outputs[0], 1, 1, vocab)) m->logits_rows = 1;
    else return anm_fail(err, ANM_ERR_FORMAT, "the first output of method %s is not logits", name);
    if (m->logits_rows < m->rows && m->last_pos < 0)
        return anm_fail(err, ANM_ERR_UNSUPPORTED, "method %s gives one row's logits, and is not told of which", name);
    return 0;
}

/* Another backend's program is told so before anything else is missed in it. */
static int check_backends(const anm_loaded *l, anm_error *err)
{
    const anm_pte_method *m = anm_pte_find(&l->pte, "forward");
    if (!m) return anm_fail(err, ANM_ERR_UNSUPPORTED, "no method forward; not a language model of this kind");
    for (size_t i = 0; i < m->n_delegates; i++)
        if (strcmp(m->delegates[i].id, "CoreMLBackend"))
            return anm_fail(err, ANM_ERR_UNSUPPORTED, "made for the backend %s; only Core ML programs can be run",
                            m->delegates[i].id);
    return 0;
}

static int find_static(anm_loaded *l, anm_error *err)
{
    anm_engine_info *info = &l->info;
    int64_t rows = 0, width = 0;
    info->multifunction = anm_pte_find(&l->pte, "prefill") != NULL;
    int rc = need_int(&info->vocab_size, l, "", "vocab_size", INT32_MAX, err);
    if (!rc) rc = need_int(&info->head_dim, l, "", "head_dim", ANM_HEAD_LIMIT, err);
    if (!rc) rc = need_int(&info->n_kv_heads, l, "", "n_heads_per_cache", ANM_HEADS_LIMIT, err);
    if (!rc) rc = read_table(&l->cos, &info->max_context, &l->table_width, l, "freqs_cos", err);
    if (!rc) rc = read_table(&l->sin, &rows, &width, l, "freqs_sin", err);
    if (rc) return rc;
    if (rows != info->max_context || width != l->table_width)
        return anm_fail(err, ANM_ERR_FORMAT, "freqs_cos and freqs_sin differ in shape");
    rc = find_method(&l->method[ANM_METHOD_DECODE], l, "forward", info->multifunction ? "decode_" : "", err);
    if (!rc && info->multifunction) rc = find_method(&l->method[ANM_METHOD_WIDE], l, "prefill", "prefill_", err);
    return rc;
}

/* Whatever told of them. */
static int check_sizes(const anm_engine_info *info, const anm_method *m, anm_error *err)
{
    const struct {
        const char *what;
        int64_t least, n, most;
    } size[] = {
        {"the number of layers", 1, info->n_layers, ANM_LAYERS_LIMIT}, {"the number of a cache's heads", 1, info->n_kv_heads, ANM_HEADS_LIMIT},
        {"the width of a head", 1, info->head_dim, ANM_HEAD_LIMIT},    {"the length of a cache", 0, info->cache_len, ANM_CACHE_LIMIT},
        {"the number of a step's rows", 1, m->rows, ANM_ROWS_LIMIT},
    };
    for (size_t i = 0; i < sizeof size / sizeof *size; i++)
        if (size[i].n < size[i].least || size[i].n > size[i].most)
            return anm_fail(err, ANM_ERR_FORMAT, "%s is %lld, out of range", size[i].what, (long long)size[i].n);
    return 0;
}

/* A mask of truth values, which the graph's ops know too, would be filled with the opposite of what is meant. */
static int check_floats(const anm_method *m, anm_error *err)
{
    const anm_mil_function *fn = m->fn;
    const struct {
        const char *what;
        const anm_mil_value *v;
    } of[] = {{"a mask", fn->inputs[m->mask]}, {"cosines", fn->inputs[m->cos]}, {"sines", fn->inputs[m->sin]}, {"logits", fn->outputs[m->logits]}};
    for (size_t i = 0; i < sizeof of / sizeof *of; i++)
        if (anm_dtype_class(of[i].v->type.dtype) != 'f')
            return anm_fail(err, ANM_ERR_UNSUPPORTED, "method %s has %s of %s, not of floats", fn->name, of[i].what, anm_dtype_name(of[i].v->type.dtype));
    return 0;
}

int anm_loaded_share(anm_loaded *l, anm_error *err)
{
    anm_engine_info *info = &l->info;
    for (int i = 0; i < (info->multifunction ? ANM_METHOD_COUNT : 1); i++) {
        int rc = check_sizes(info, &l->method[i], err);
        if (!rc) rc = check_floats(&l->method[i], err);
        if (rc) return rc;
    }
    if (!info->multifunction) l->method[ANM_METHOD_WIDE] = l->method[ANM_METHOD_DECODE];
    l->n_methods = info->multifunction ? 2 : 1;
    for (int i = 0; i < ANM_METHOD_COUNT; i++) {
        anm_method *m = &l->method[i];
        m->n_layers = info->n_layers;
        m->n_kv_heads = info->n_kv_heads;
        m->head_dim = info->head_dim;
        m->cache_len = info->cache_len;
        m->vocab_size = info->vocab_size;
        m->table_width = l->table_width;
        m->fp16_cache = info->fp16_cache;
    }
    const anm_method *wide = &l->method[ANM_METHOD_WIDE];
    info->input_len = info->step_len = wide->rows;
    info->decode_len = l->method[ANM_METHOD_DECODE].rows;
    info->all_logits = wide->logits_rows == wide->rows;
    if (info->decode_len > info->input_len)
        return anm_fail(err, ANM_ERR_FORMAT, "prefill is narrower than forward");
    return 0;
}

int anm_loaded_find_roles(anm_loaded *l, anm_error *err)
{
    int rc = check_backends(l, err);
    if (!rc) rc = anm_loaded_is_deprecated(l) ? anm_loaded_find_deprecated(l, err) : find_static(l, err);
    return rc ? rc : anm_loaded_share(l, err);
}
