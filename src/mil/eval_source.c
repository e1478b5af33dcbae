/* SPDX-License-Identifier: BSD-3-Clause */
/* Where the interpreter's elements come from: arrays, constants, and weights in few bits with a scale per
 * block. */
#include "mil/element.h"
#include "mil/eval.h"
#include "base/half.h"

#include <stdlib.h>
#include <string.h>

bool anm_array_new(anm_mil_array *a, const anm_mil_type *type)
{
    int64_t n;
    *a = (anm_mil_array){.type = *type};
    if (!anm_mil_type_count(type, &n) || (uint64_t)n > SIZE_MAX / 4 - 1) return false;
    a->f = malloc(((size_t)n + 1) * 4);
    return a->f != NULL;
}

void anm_mil_array_free(anm_mil_array *a)
{
    free(a->f);
    a->f = NULL;
}

int64_t anm_dims(const anm_mil_type *t, int from, int to)
{
    int64_t n = 1;
    for (int i = from; i < to; i++)
        n *= t->dim[i];
    return n;
}

void anm_walk_broadcast(anm_walk *w, const anm_mil_type *out, int inner, int n,
                        const anm_mil_type *const in[])
{
    *w = (anm_walk){.rank = out->rank - inner, .n = n};
    for (int i = 0; i < w->rank; i++)
        w->dim[i] = out->dim[i];
    for (int a = 0; a < n; a++) {
        int64_t stride = 1;
        for (int i = in[a]->rank - 1; i >= 0; i--) {
            int at = i + out->rank - in[a]->rank;
            if (at < w->rank) w->stride[a][at] = in[a]->dim[i] == 1 ? 0 : stride;
            stride *= in[a]->dim[i];
        }
    }
}

void anm_walk_next(anm_walk *w)
{
    for (int i = w->rank - 1; i >= 0; i--) {
        for (int a = 0; a < w->n; a++)
            w->at[a] += w->stride[a][i];
        if (++w->index[i] < w->dim[i]) return;
        for (int a = 0; a < w->n; a++)
            w->at[a] -= w->stride[a][i] * w->dim[i];
        w->index[i] = 0;
    }
}

int anm_source_of(anm_source *s, const anm_eval *e, const anm_mil_value *v)
{
    *s = (anm_source){.type = &v->type};
    if (e->have[v->id].f) {
        s->array = &e->have[v->id];
        return 0;
    }
    if (!v->constant && v->def && v->def->code == ANM_OP_CONSTEXPR_BLOCKWISE_SHIFT_SCALE) {
        s->quant = v->def;
        for (uint32_t a = 0; a < s->quant->n_args; a++)
            if (!s->quant->args[a].value[0]->constant || !s->quant->args[a].value[0]->constant->data)
                return anm_fail(e->err, ANM_ERR_USAGE, "%%%s: its bytes are not at hand", v->name);
        s->data = anm_mil_arg_of(s->quant, ANM_P_DATA)->constant->data;
        return 0;
    }
    if (!v->constant || !v->constant->data)
        return anm_fail(e->err, ANM_ERR_USAGE, "%%%s: its bytes are not at hand", v->name);
    s->data = v->constant->data;
    return 0;
}

static float number_at(const anm_mil_value *v, int64_t i)
{
    anm_dtype t = v->type.dtype;
    if (anm_dtype_class(t) == 'f') return anm_mil_float_at(t, v->constant->data, i);
    return (float)anm_mil_int_at(t, v->constant->data, i);
}

/* One value: scale * (code - offset) in fp32, rounded to the type that the scale has. */
static float dequantised(anm_dtype t, float scale, float code, float offset)
{
    float f = scale * (code - offset);
    return t == ANM_DT_F16 ? anm_round_f16(f) : f;
}

/* `n` values from `first` on that share a scale. Where there are more of them than there are codes, each code
 * is worked out once. */
static void read_run(const anm_source *s, int64_t first, int64_t n, float scale, float offset, float *out)
{
    anm_dtype code = anm_mil_arg_of(s->quant, ANM_P_DATA)->type.dtype, type = s->type->dtype;
    int codes = code == ANM_DT_I4 || code == ANM_DT_U4 ? 16 : 256;
    if (n < codes) {
        for (int64_t i = 0; i < n; i++)
            out[i] = dequantised(type, scale, (float)anm_mil_int_at(code, s->data, first + i), offset);
        return;
    }
    float value[256];
    for (int c = 0; c < codes; c++) {
        const uint8_t bytes[8] = {(uint8_t)c}; /* as many as the widest type has */
        value[c] = dequantised(type, scale, (float)anm_mil_int_at(code, bytes, 0), offset);
    }
    if (codes == 256)
        for (int64_t i = 0; i < n; i++)
            out[i] = value[s->data[first + i]];
    else
        for (int64_t i = first; i < first + n; i++)
            out[i - first] = value[s->data[i / 2] >> (i % 2 * 4) & 15];
}

static void read_quantised(const anm_source *s, int64_t first, int64_t n, float *out)
{
    const anm_mil_value *scale = anm_mil_arg_of(s->quant, ANM_P_SCALE),
                        *offset = anm_mil_arg_of(s->quant, ANM_P_OFFSET);
    const anm_mil_type *d = s->type, *t = &scale->type;
    int last = d->rank - 1;
    int64_t block = d->dim[last] / t->dim[last];
    while (n > 0) {
        int64_t rest = first / d->dim[last], column = first % d->dim[last], which = column / block,
                step = t->dim[last];
        for (int i = last - 1; i >= 0; i--) { /* the scale's place, from the last dimension to the first */
            which += rest % d->dim[i] / (d->dim[i] / t->dim[i]) * step;
            rest /= d->dim[i];
            step *= t->dim[i];
        }
        int64_t run = block - column % block;
        if (run > n) run = n;
        read_run(s, first, run, number_at(scale, which), offset ? number_at(offset, which) : 0, out);
        first += run;
        out += run;
        n -= run;
    }
}

void anm_source_read(const anm_source *s, int64_t first, int64_t n, void *out)
{
    float *f = out;
    int32_t *w = out;
    if (s->array) {
        memcpy(out, s->array->f + first, (size_t)n * 4);
    } else if (s->quant) {
        read_quantised(s, first, n, out);
    } else if (anm_dtype_class(s->type->dtype) == 'f') {
        for (int64_t i = 0; i < n; i++)
            f[i] = anm_mil_float_at(s->type->dtype, s->data, first + i);
    } else {
        for (int64_t i = 0; i < n; i++)
            w[i] = (int32_t)anm_mil_int_at(s->type->dtype, s->data, first + i);
    }
}

const anm_mil_array *anm_eval_value(anm_eval *e, const anm_mil_value *v)
{
    anm_source s;
    if (anm_source_of(&s, e, v)) return NULL;
    if (s.array) return s.array;
    anm_mil_array *a = &e->temp[e->n_temp];
    int64_t n;
    if (!anm_mil_type_count(&v->type, &n) || !anm_array_new(a, &v->type)) {
        anm_fail_memory(e->err, "a constant");
        return NULL;
    }
    e->n_temp++;
    anm_source_read(&s, 0, n, a->f);
    return a;
}

const anm_mil_array *anm_eval_arg(anm_eval *e, anm_mil_param p)
{
    const anm_mil_value *v = anm_mil_arg_of(e->op, p);
    return v ? anm_eval_value(e, v) : NULL;
}
