/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Calibration: from a model and a text, integers and scales that keep the model's answers, in the very format that
 * rounding gives. Layer by layer, two streams run side by side over the text: the full model's, and the quantised
 * one's through the layers already done. Each linear is first moved to where it gives, from the quantised stream's
 * inputs, the full stream's outputs (least squares), then rounded with its error compensated (gptq.h). Linears that
 * write to the residual stream also take back part of what the streams have drifted apart.
 */
#ifndef ANM_CALIB_CALIBRATE_H
#define ANM_CALIB_CALIBRATE_H

#include "base/pool.h"
#include "model/model.h"

typedef struct anm_calib_opts {
    unsigned linear_bits, embed_bits;  /* 4 or 8; embed_bits 0: the embedding stays as it is */
    int64_t linear_group, embed_group; /* columns that share a scale; 0: the whole row */
    bool fp16;                         /* scales and embeddings are fp16 */
    size_t windows, len;               /* of the text */
    uint64_t seed;
    bool rotate;
    double damp;     /* of GPTQ */
    double ridge;    /* of the least-squares step, of the mean of H's diagonal; negative: no such step */
    double drift;    /* the part of the streams' drift that residual writers take back, 0 to 1 */
    bool fisher;     /* weigh each token by how much the answer depends on it (fisher.h) */
    int tries, rounds;
    /* Told as the work goes: the layer (n_layers: the head), and the error of each linear (what: "wq" …). */
    void (*progress)(void *ctx, size_t layer, const char *what, double rounding, double reached);
    void *ctx;
} anm_calib_opts;

/* The text that ships inside the program (share/calibration.txt): general English, dialogue, lists and code. */
extern const unsigned char anm_calibration_text[];
extern const unsigned long anm_calibration_text_size;

/* What measured best: see docs/quality.md. Bits, groups and windows are left to the caller. */
anm_calib_opts anm_calib_defaults(void);

enum { ANM_WQ, ANM_WK, ANM_WV, ANM_WO, ANM_W1, ANM_W2, ANM_W3, ANM_LINEARS };

typedef struct anm_calibrated {
    anm_made (*layer)[ANM_LINEARS]; /* [n_layers + 1]; the head is the first one of the last */
    anm_made embedding;             /* without q when embed_bits is 0: */
    float *embedding_values;        /* the rotated embedding itself [vocab_size, dim] */
    float *value_bias;              /* [n_layers, n_kv_heads * head_dim], rotated; NULL when the model has none */
    size_t n_layers;
    /* The model to export: as the one calibrated, with these weights in it, and all norm weights of the stream one. */
    anm_model model;
    float *ones;
    anm_tensor *vector; /* [n_layers + 2]: the ones, the embedding, each layer's value bias */
} anm_calibrated;

/* tokens [windows * len]. out->model refers to `m` and to `out`, which must not move. */
int anm_calibrate(anm_calibrated *out, const anm_model *m, const int32_t *tokens, const anm_calib_opts *o, anm_pool *pool,
                  anm_error *err);
void anm_calibrated_free(anm_calibrated *c);

#endif
