/* SPDX-License-Identifier: BSD-3-Clause */
/* Rows of tensors as fp32, whatever their strides. */
#include "ckpt/values.h"
#include "base/cpu.h"

anm_values_fn *anm_values_best(void)
{
#if defined(__x86_64__)
    if (anm_isa_usable(ANM_ISA_AVX2)) return anm_values_avx2;
#endif
    return anm_values_plain;
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

    anm_values_fn *run = anm_values_best();
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
