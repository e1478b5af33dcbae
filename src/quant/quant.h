/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Weights as the exported program stores them: symmetric integers with a scale per row or per group of columns, or
 * plain floats. Made some rows at a time, from wherever the model's matrix lies, never held whole.
 *
 * The numbers are those of torchao's IntxWeightOnlyConfig as the reference applies it (torchao 0.x,
 * quantization/quant_primitives.py: choose_qparams_affine with MappingType.SYMMETRIC, then quantize_affine), bit for bit. Weights
 * are first rounded to the export's type T (fp16 or fp32); every step below is then computed in fp32 and rounded to T:
 *
 *   scale = max(max|x| / ((2^bits - 1) / 2), smallest normal T)
 *   q     = clamp(round to even(x * (1 / scale)), -2^(bits-1), 2^(bits-1) - 1)
 *
 * Where the scale is not finite (a row with an infinity or a NaN) the product is a NaN or zero, and q is 0.
 */
#ifndef ANM_QUANT_QUANT_H
#define ANM_QUANT_QUANT_H

#include "model/model.h"

/* ---- kernels (round.c, round_avx2.c, round_avx512.c, round_neon.c) ---- */

/* Quantises the `n` values that share one scale: q gets the integers, one a byte. Returns the scale. `bits` is 4 or 8. */
typedef float anm_round_fn(int8_t *q, const float *x, size_t n, unsigned bits);

/* The plain form and the fastest that this processor has; they agree bit for bit. `fp16` chooses T. */
anm_round_fn *anm_round_plain(bool fp16);
anm_round_fn *anm_round_best(bool fp16);

/* The same for values that come as `n` runs of 32 with levels: a level is rounded once, and all of its values with it. */
typedef float anm_round_levels_fn(int8_t *q, const anm_levels *x, size_t n, unsigned bits);
anm_round_levels_fn *anm_round_levels_plain(bool fp16);
anm_round_levels_fn *anm_round_levels_best(bool fp16);

/* Packs 4-bit integers two in a byte, the first in the low half; an odd last one stands alone. */
void anm_pack_int4(uint8_t *out, const int8_t *q, size_t n);

/* fp32 to fp16, rounding to nearest even: the fastest form that this processor has. */
void anm_floats_to_f16(uint8_t *out, const float *x, size_t n);

/* ---- weights ---- */

/* What the bytes of a constant are made from: rows [row, row + rows) of a matrix. The `source` of an anm_blob in an
 * exported graph points to one of these; its `part` is an anm_weight_part. */
typedef struct anm_weight {
    const anm_matrix *matrix;
    int64_t row, rows;
    unsigned bits;  /* 4 or 8: integers with scales; 0: the values themselves */
    int64_t group;  /* columns that share a scale; divides the columns */
    int64_t halves; /* > 0: within heads of so many rows, those of even index come first, then those of odd */
    anm_dtype type; /* ANM_DT_F16 or ANM_DT_F32: the export's type T, and the type of the scales */
} anm_weight;

typedef enum anm_weight_part { ANM_WEIGHT_DATA, ANM_WEIGHT_SCALE, ANM_WEIGHT_PARTS } anm_weight_part;

/* Bytes of one of a weight's parts, whole. ANM_WEIGHT_SCALE has none when bits is 0. */
uint64_t anm_weight_size(const anm_weight *w, anm_weight_part part);

/* Rows are made in steps of this many, so that each step's bytes begin on a byte of their own in every part. */
enum { ANM_WEIGHT_ROW_STEP = 2 };

/* Makes rows [row, row + n) of the weight (counted from its own first row; row a multiple of ANM_WEIGHT_ROW_STEP):
 * `data` and `scale` receive their bytes as the file holds them. `scale` may be NULL when bits is 0. */
int anm_weight_make(uint8_t *data, uint8_t *scale, const anm_weight *w, int64_t row, int64_t n, anm_error *err);

/* Where row `row` begins in a part, in bytes. */
uint64_t anm_weight_offset(const anm_weight *w, anm_weight_part part, int64_t row);

#endif
