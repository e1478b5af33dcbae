/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Checkpoints: a table of named tensors over mapped files, whatever the format: .pth (zip and pickle), safetensors
 * (one file or sharded), GGUF, or a folder of them. The format is found by looking into the file, never by its name.
 * Nothing is copied: tensors point into the map.
 */
#ifndef ANM_CKPT_CKPT_H
#define ANM_CKPT_CKPT_H

#include "base/dtype.h"
#include "base/error.h"

#include <stdbool.h>

enum { ANM_CKPT_MAX_RANK = 8 };

/* A tensor of a checkpoint. shape and stride are in elements, outermost first; blocked types (Q4_0, …) are always
 * contiguous and their rows fill whole blocks. The reader has checked that all of it lies inside the file. */
typedef struct anm_tensor {
    const char *name;
    anm_dtype dtype; /* F64 F32 F16 BF16, integers, or one of GGML's blocked types */
    int rank;
    int64_t shape[ANM_CKPT_MAX_RANK];
    int64_t stride[ANM_CKPT_MAX_RANK];
    const uint8_t *data; /* element 0; any alignment */
    uint64_t size;       /* bytes from data to the end of the last element */
    const char *file;    /* the file it lies in, for messages */
} anm_tensor;

typedef enum anm_ckpt_kind { ANM_CKPT_PTH, ANM_CKPT_SAFETENSORS, ANM_CKPT_GGUF } anm_ckpt_kind;

typedef struct anm_ckpt anm_ckpt;

/* Opens a file, a folder (safetensors with config.json; .pth with params.json; consolidated.*.pth; one .gguf), a shell
 * pattern naming shards, or the index of a checkpoint in several files (*.json). Everything is verified here. Messages
 * begin with the file's name. */
int anm_ckpt_open(anm_ckpt **out, const char *path, anm_error *err);
void anm_ckpt_close(anm_ckpt *c);

anm_ckpt_kind anm_ckpt_kind_of(const anm_ckpt *c);
const char *anm_ckpt_path(const anm_ckpt *c); /* as it was opened */

/* Model-parallel shards (Meta's consolidated.NN.pth) hold pieces of one tensor under one name: `shard` in
 * [0, anm_ckpt_shards). Other checkpoints have one shard. */
unsigned anm_ckpt_shards(const anm_ckpt *c);
size_t anm_ckpt_count(const anm_ckpt *c, unsigned shard);
const anm_tensor *anm_ckpt_at(const anm_ckpt *c, unsigned shard, size_t i); /* in the file's order */
const anm_tensor *anm_ckpt_find(const anm_ckpt *c, unsigned shard, const char *name);

/* The configuration found beside the tensors (params.json or config.json), to be opened by anm_map_open_found: it may be what
 * is no file; or NULL. */
const char *anm_ckpt_config_path(const anm_ckpt *c);

/* GGUF metadata; NULL for other formats. Strings and arrays point into the map. */
typedef struct anm_gguf anm_gguf;
const anm_gguf *anm_ckpt_gguf(const anm_ckpt *c);

/* Is it of a type whose values anm_tensor_rows_f32 gives: floats and blocked types, not integers? */
bool anm_tensor_readable(const anm_tensor *t);

/* Rows [row, row + rows) of a tensor of rank 1 (one row) or 2, as fp32, into out[rows * columns]: exactly the values
 * that the file declares (blocked types as the `gguf` package dequantises them). F64 rounds. */
int anm_tensor_rows_f32(float *out, const anm_tensor *t, int64_t row, int64_t rows, anm_error *err);

/* 32 values side by side that share two numbers: value i is step * index[i] + base in fp32, the product exact, the sum rounded
 * once; index is 0 to 15. What Q4_0, Q4_1 and Q4_K are made of, and all that has to be looked at to round them. */
enum { ANM_LEVELS = 16, ANM_LEVEL_RUN = 32 };
typedef struct anm_levels {
    float step, base;
    uint8_t index[ANM_LEVEL_RUN];
} anm_levels;

/* Is it of one of these types? */
bool anm_tensor_has_levels(const anm_tensor *t);

/* Rows [row, row + rows) of such a tensor, which has them: out[rows * columns / 32]. */
void anm_tensor_rows_levels(anm_levels *out, const anm_tensor *t, int64_t row, int64_t rows);

#endif
