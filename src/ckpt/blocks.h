/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * GGML's blocked types as fp32, bit for bit as the `gguf` package's quants.py gives them. Source of the
 * layouts: ggml-org/ggml, src/ggml-common.h.
 */
#ifndef ANM_CKPT_BLOCKS_H
#define ANM_CKPT_BLOCKS_H

#include "ckpt/ckpt.h"

/* `blocks` whole blocks at `p` into out[blocks * anm_dtype_block(type)]; `type` is one of class 'q'. */
void anm_blocks_f32(float *out, anm_dtype type, const uint8_t *p, size_t blocks);

#endif
