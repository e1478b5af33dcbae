/* SPDX-License-Identifier: BSD-3-Clause */
/* Where parameters come from: params.json, config.json, or GGUF metadata. For src/model/ alone. */
#ifndef ANM_MODEL_PARAMS_H
#define ANM_MODEL_PARAMS_H

#include "model/model.h"

/* What the source says beyond the parameters. */
typedef struct anm_origin {
    bool tied, untied;   /* whether the head shares the embedding; neither: not said */
    bool halves;         /* the family's q and k rows are in two halves per head, also under other names than Hugging Face's:
                          * llama.cpp and the reference's converters rename Qwen's tensors and leave the order */
    bool factor_assumed; /* use_scaled_rope came without rope_scale_factor */
} anm_origin;

/* JSON text: ModelArgs, or a Hugging Face configuration when it looks like one. vocab_size may stay -1. */
int anm_params_read(anm_params *out, anm_origin *from, const char *json, size_t n, anm_error *err);
int anm_params_of_hf(anm_params *out, anm_origin *from, const void *json_object, anm_error *err);
int anm_params_of_gguf(anm_params *out, anm_origin *from, const anm_gguf *g, anm_error *err);

/* The defaults of ModelArgs, with 0 for what must be given or is worked out. */
static inline anm_params anm_params_default(void)
{
    return (anm_params){.norm_eps = 1e-5,
                        .rope_theta = 10000,
                        .rope_scale_factor = 8,
                        .high_freq_factor = 4,
                        .partial_rotary_factor = 1,
                        .table_rows = 2048};
}

/* Works out what follows from other parameters (n_kv_heads, head_dim), and refuses what cannot be. */
int anm_params_finish(anm_params *p, anm_error *err);

#endif
