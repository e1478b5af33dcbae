/* SPDX-License-Identifier: BSD-3-Clause */
/* What each format's reader gives: a list of tensors in the file's order. For src/ckpt/ alone. */
#ifndef ANM_CKPT_READER_H
#define ANM_CKPT_READER_H

#include "base/arena.h"
#include "base/map.h"
#include "ckpt/ckpt.h"

typedef struct anm_tensors {
    anm_tensor *at;
    size_t n, room;
} anm_tensors;

/* A zeroed tensor at the end of the list, its name copied. The name must be a whole C string of one byte or more: one with
 * a zero inside would stand for another. */
int anm_tensors_add(anm_tensor **out, anm_tensors *l, anm_arena *arena, const char *name, size_t name_len, anm_error *err);

/* May a file of `size` bytes hold the tensors from number `first` on? Some share their bytes, as an embedding and a head or
 * layers that are the same, but not without end: what is made of a file is bounded by its size. */
int anm_tensors_check_sharing(const anm_tensors *l, size_t first, uint64_t size, anm_error *err);

/* The tensors from number `first` on by where they begin in one file, empty ones before others; NULL when memory is out. */
const anm_tensor **anm_tensors_by_place(const anm_tensors *l, size_t first, anm_arena *arena);

/* Sets the strides of a contiguous tensor from its shape, and its bytes; false when they overflow or do not
 * fill whole blocks. */
bool anm_tensor_pack(anm_tensor *t);

/* Verify a whole file and append its tensors, which point into it; `data` outlives them. Messages do not name
 * the file. */
int anm_pth_read(anm_tensors *out, anm_arena *arena, const uint8_t *data, uint64_t size, anm_error *err);
int anm_safetensors_read(anm_tensors *out, anm_arena *arena, const uint8_t *data, uint64_t size,
                         anm_error *err);

#endif
