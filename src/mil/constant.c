/* SPDX-License-Identifier: BSD-3-Clause */
/* What constants say. */
#include "mil/element.h"
#include "mil/mil.h"

/* The constant's bytes when its type's class is one of `classes` (one or two), all of them are at hand, and there are
 * at most `max` elements. */
static const uint8_t *const_data(const anm_mil_value *v, const char *classes, int64_t max, int64_t *n)
{
    uint64_t bytes;
    if (!v || !v->constant || !v->constant->data) return NULL;
    char cls = anm_dtype_class(v->type.dtype);
    if (!cls || (cls != classes[0] && cls != classes[1]) || !anm_mil_type_count(&v->type, n) || *n > max) return NULL;
    if (!anm_dtype_size(v->type.dtype, (uint64_t)*n, &bytes) || bytes > v->constant->size) return NULL;
    return v->constant->data;
}

bool anm_mil_get_i64s(const anm_mil_value *v, int64_t *out, int max, int *n)
{
    int64_t count;
    const uint8_t *data = const_data(v, "iu", max, &count);
    if (!data) return false;
    for (int64_t i = 0; v->type.dtype == ANM_DT_U64 && i < count; i++)
        if (anm_ld64(data + 8 * i) > INT64_MAX) return false;
    for (int64_t i = 0; i < count; i++)
        out[i] = anm_mil_int_at(v->type.dtype, data, i);
    *n = (int)count;
    return true;
}

bool anm_mil_get_i64(const anm_mil_value *v, int64_t *out)
{
    int n;
    int64_t got;
    if (!anm_mil_get_i64s(v, &got, 1, &n) || n != 1) return false;
    *out = got;
    return true;
}

bool anm_mil_get_bool(const anm_mil_value *v, bool *out)
{
    int64_t n;
    const uint8_t *data = const_data(v, "b", 1, &n);
    if (!data || n != 1) return false;
    *out = data[0] != 0;
    return true;
}

bool anm_mil_get_f32(const anm_mil_value *v, float *out)
{
    int64_t n;
    const uint8_t *data = const_data(v, "f", 1, &n);
    if (!data || n != 1 || (v->type.dtype != ANM_DT_F16 && v->type.dtype != ANM_DT_F32)) return false;
    *out = anm_mil_float_at(v->type.dtype, data, 0);
    return true;
}

bool anm_mil_get_string(const anm_mil_value *v, const char **s, size_t *n)
{
    if (!v || !v->constant || v->type.dtype != ANM_DT_STRING || v->type.rank) return false;
    if (!v->constant->data && v->constant->size) return false;
    *s = v->constant->data ? (const char *)v->constant->data : "";
    *n = (size_t)v->constant->size;
    return true;
}
