/* SPDX-License-Identifier: BSD-3-Clause */
/* Names, constants and small shapes: what all parts of the graph are made with. */
#include "graph/parts.h"
#include "base/bytes.h"
#include "base/half.h"

#include <stdarg.h>
#include <stdio.h>

/* Constants with fewer values than this stand in the program's text, as coremltools writes them. */
enum { INLINE_BELOW = 10 };

const char *anm_name(anm_hand *h, const char *fmt, ...)
{
    char *out = h->name[h->turn++ % 4];
    int n = snprintf(out, sizeof h->name[0], "%s", h->prefix);
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(out + n, sizeof h->name[0] - (size_t)n, fmt, ap);
    va_end(ap);
    return out;
}

anm_mil_value *anm_const_scalar(anm_hand *h, double v)
{
    return anm_mil_const_float(&h->b, h->graph->recipe.type, (float)v);
}

anm_mil_value *anm_const_vector(anm_hand *h, const char *name, const uint8_t *data, int64_t n)
{
    anm_dtype t = h->graph->recipe.type;
    anm_blob blob = {.size = (uint64_t)n * anm_dtype_bytes(t), .data = data, .in_file = n >= INLINE_BELOW};
    return anm_mil_const_blob(&h->b, name, anm_mil_tensor(t, 1, &n), blob);
}

static void no_memory(anm_hand *h)
{
    if (!h->b.err.code) anm_fail_memory(&h->b.err, "a graph");
}

anm_mil_value *anm_const_filled(anm_hand *h, const char *name, int rank, const int64_t *shape, double v)
{
    anm_mil_type type = anm_mil_tensor(h->graph->recipe.type, rank, shape);
    int64_t n = 0;
    uint64_t width = anm_dtype_bytes(type.dtype);
    uint8_t *data = anm_mil_type_count(&type, &n) ? anm_arena_array(&h->b.fn->program->arena, (size_t)n, width) : NULL;
    if (!data) no_memory(h);
    for (int64_t i = 0; data && i < n; i++) {
        if (width == 2) anm_st16(data + 2 * i, anm_f32_to_f16((float)v));
        else anm_stf32(data + 4 * i, (float)v);
    }
    return anm_mil_const_blob(&h->b, name, type, (anm_blob){.size = (uint64_t)n * width, .data = data, .in_file = n >= INLINE_BELOW});
}

anm_mil_value *anm_const_weight(anm_hand *h, const char *name, const anm_weight *w)
{
    const int64_t cols = w->matrix->cols, shape[2] = {w->rows, cols}, scales[2] = {w->rows, w->bits ? cols / w->group : 0};
    anm_blob data = {.size = anm_weight_size(w, ANM_WEIGHT_DATA), .source = w, .part = ANM_WEIGHT_DATA};
    anm_blob scale = {.size = anm_weight_size(w, ANM_WEIGHT_SCALE), .source = w, .part = ANM_WEIGHT_SCALE};
    data.in_file = shape[0] * shape[1] >= INLINE_BELOW;
    scale.in_file = scales[0] * scales[1] >= INLINE_BELOW;
    if (!data.in_file || (w->bits && !scale.in_file)) { /* the text wants the values now; so few that it costs nothing */
        anm_arena *a = &h->b.fn->program->arena;
        uint8_t *d = anm_arena_alloc(a, data.size), *s = anm_arena_alloc(a, scale.size + 1);
        anm_error err;
        if (!d || !s) no_memory(h);
        else if (anm_weight_make(d, s, w, 0, w->rows, &err)) {
            if (!h->b.err.code) h->b.err = err;
        } else {
            if (!data.in_file) data = (anm_blob){.size = data.size, .data = d};
            if (!scale.in_file) scale = (anm_blob){.size = scale.size, .data = s};
        }
    }
    if (!w->bits) return anm_mil_const_blob(&h->b, name, anm_mil_tensor(w->type, 2, shape), data);
    char of_part[128];
    snprintf(of_part, sizeof of_part, "%s_data", name);
    anm_dtype integer = w->bits == 4 ? ANM_DT_I4 : ANM_DT_I8;
    anm_mil_value *q = anm_mil_const_blob(&h->b, of_part, anm_mil_tensor(integer, 2, shape), data);
    snprintf(of_part, sizeof of_part, "%s_scale", name);
    anm_mil_value *s = anm_mil_const_blob(&h->b, of_part, anm_mil_tensor(w->type, 2, scales), scale);
    return anm_mil_emit(&h->b, ANM_OP_CONSTEXPR_BLOCKWISE_SHIFT_SCALE, name, ANM_P_DATA, q, ANM_P_SCALE, s, ANM_P_END);
}

anm_mil_value *anm_binary(anm_hand *h, anm_mil_opcode op, const char *name, anm_mil_value *x, anm_mil_value *y)
{
    return anm_mil_emit(&h->b, op, name, ANM_P_X, x, ANM_P_Y, y, ANM_P_END);
}

anm_mil_value *anm_reshape(anm_hand *h, const char *name, anm_mil_value *x, int rank, const int64_t *shape)
{
    return anm_mil_emit(&h->b, ANM_OP_RESHAPE, name, ANM_P_X, x, ANM_P_SHAPE, anm_mil_const_i32s(&h->b, rank, shape), ANM_P_END);
}

static anm_mil_value *cast(anm_hand *h, const char *name, anm_mil_value *x, const char *type)
{
    return anm_mil_emit(&h->b, ANM_OP_CAST, name, ANM_P_X, x, ANM_P_DTYPE, anm_mil_const_string(&h->b, type), ANM_P_END);
}

static anm_mil_value *wrap_negative(anm_hand *h, const char *name, anm_mil_value *rows, int64_t n)
{
    anm_mil_builder *b = &h->b;
    anm_mil_value *from_start = anm_mil_emit(b, ANM_OP_GREATER_EQUAL, anm_name(h, "%s_from_start", name), ANM_P_X, rows,
                                             ANM_P_Y, anm_mil_const_i32(b, 0), ANM_P_END);
    anm_mil_value *wrapped = anm_mil_emit(b, ANM_OP_ADD, anm_name(h, "%s_from_end", name), ANM_P_X, rows, ANM_P_Y,
                                          anm_mil_const_i32(b, (int32_t)n), ANM_P_END);
    return anm_mil_emit(b, ANM_OP_SELECT, anm_name(h, "%s_rows", name), ANM_P_COND, from_start, ANM_P_A, rows, ANM_P_B,
                        wrapped, ANM_P_END);
}

/*
 * In fp16 programs indices travel in 16 bits where every index fits, as coremltools' casts have it: as int16, or as
 * uint16, which cannot be negative and needs no guard. A dimension beyond 32,767, and fp32 programs, keep int32:
 *
 *   rows -> [int16 -> int32] -> select(rows >= 0, rows, rows + n) -> [int16] -> gather
 *   rows -> uint16 -> gather
 */
anm_mil_value *anm_take_rows(anm_hand *h, const char *name, anm_mil_value *x, anm_mil_value *rows, int axis, bool counted)
{
    anm_mil_builder *b = &h->b;
    int64_t n = x->type.dim[axis];
    bool narrow = h->graph->recipe.type == ANM_DT_F16 && n <= INT16_MAX;
    if (narrow && counted) {
        rows = cast(h, anm_name(h, "%s_uint16", rows->name), rows, "uint16");
    } else {
        if (narrow) {
            rows = cast(h, anm_name(h, "%s_int16", rows->name), rows, "int16");
            rows = cast(h, anm_name(h, "%s_index", name), rows, "int32");
        }
        rows = wrap_negative(h, name, rows, n);
        if (narrow) rows = cast(h, anm_name(h, "%s_rows_int16", name), rows, "int16");
    }
    return anm_mil_emit(b, ANM_OP_GATHER, name, ANM_P_X, x, ANM_P_INDICES, rows, ANM_P_AXIS, anm_mil_const_i32(b, axis),
                        ANM_P_BATCH_DIMS, anm_mil_const_i32(b, 0), ANM_P_VALIDATE_INDICES, anm_mil_const_bool(b, false),
                        ANM_P_END);
}
