/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Rows of tensors as fp32: the inner loop of every export. The loops over fp types are written so that
 * compilers make vectors of them: loads by memcpy at any address, no branches.
 */
#include "ckpt/blocks.h"

#include "base/bytes.h"
#include "base/half.h"

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "checkpoints are little-endian and read in place: this machine is not"
#endif

static inline uint16_t half_at(const uint8_t *p)
{
    uint16_t h;
    memcpy(&h, p, 2);
    return h;
}

/* anm_f16_to_f32 without branches, and without arithmetic on subnormal floats, which is slow. */
static inline float widen_f16(uint16_t h)
{
    int32_t sign = (int32_t)((h & 0x8000u) << 16), exp = h & 0x7c00, man = h & 0x3ff;
    int32_t normal = ((h & 0x7fff) << 13) + 0x38000000;
    int32_t special = -(exp == 0x7c00) & 0x38000000; /* infinity, NaN: all ones in the wider exponent too */
    int32_t small = (int32_t)anm_f32_bits((float)man * 0x1p-24f), is_small = -(exp == 0);
    return anm_bits_f32((uint32_t)(sign | ((normal + special) & ~is_small) | (small & is_small)));
}

static void widen_bf16(float *out, const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        out[i] = anm_bf16_to_f32(half_at(p + 2 * i));
}

static void widen_half(float *out, const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        out[i] = widen_f16(half_at(p + 2 * i));
}

static void narrow_f64(float *out, const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        double d;
        memcpy(&d, p + 8 * i, 8);
        out[i] = (float)d;
    }
}

/* `n` values that lie side by side; blocked types fill whole blocks. */
static void run(float *out, anm_dtype type, const uint8_t *p, size_t n)
{
    switch (type) {
    case ANM_DT_F32: memcpy(out, p, n * 4); break;
    case ANM_DT_F16: widen_half(out, p, n); break;
    case ANM_DT_BF16: widen_bf16(out, p, n); break;
    case ANM_DT_F64: narrow_f64(out, p, n); break;
    default: anm_blocks_f32(out, type, p, n / anm_dtype_block(type)); break;
    }
}

bool anm_tensor_readable(const anm_tensor *t)
{
    char c = anm_dtype_class(t->dtype);
    return c == 'f' || c == 'q';
}

int anm_tensor_rows_f32(float *out, const anm_tensor *t, int64_t row, int64_t rows, anm_error *err)
{
    if (!anm_tensor_readable(t))
        return anm_fail(err, ANM_ERR_UNSUPPORTED,
                        "%s: tensor '%s' is of type %s; weights are fp16, bf16, fp32, fp64 or blocked",
                        t->file, t->name, anm_dtype_name(t->dtype));
    if (t->rank != 1 && t->rank != 2)
        return anm_fail(err, ANM_ERR_FORMAT,
                        "%s: tensor '%s' has %d dimensions where a matrix or a vector is needed", t->file,
                        t->name, t->rank);
    int64_t have = t->rank == 2 ? t->shape[0] : 1, cols = t->shape[t->rank - 1];
    int64_t down = t->rank == 2 ? t->stride[0] : 0, across = t->stride[t->rank - 1];
    if (row < 0 || rows < 0 || row > have || rows > have - row)
        return anm_fail(err, ANM_ERR_USAGE, "%s: rows %lld to %lld of tensor '%s', which has %lld", t->file,
                        (long long)row, (long long)(row + rows), t->name, (long long)have);
    if (!rows || !cols) return 0;

    size_t n = (size_t)cols, bytes = anm_dtype_bytes(t->dtype), block = anm_dtype_block(t->dtype);
    if (block > 1 || (across == 1 && (down == cols || rows == 1))) {
        run(out, t->dtype, t->data + (size_t)row * (size_t)down / block * bytes, n * (size_t)rows);
        return 0;
    }
    for (int64_t r = row; r < row + rows; r++, out += n) {
        const uint8_t *p = t->data + (size_t)r * (size_t)down * bytes;
        if (across == 1) {
            run(out, t->dtype, p, n);
            continue;
        }
        for (size_t i = 0; i < n; i++)
            run(out + i, t->dtype, p + i * (size_t)across * bytes, 1);
    }
    return 0;
}
