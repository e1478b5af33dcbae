/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Calibration: from a model and a text, integers and scales that keep the model's answers, in the very format that
 * rounding gives. It goes in stages, the embedding, each layer, the head, through which the text's activations are
 * carried in their quantised form. Each linear is rounded with its error compensated for the inputs that it will really
 * have (gptq.h). Where the options ask for it, the full model's stream runs beside, and each linear is first moved to where
 * it gives, from the quantised inputs, the full stream's outputs (least squares).
 *
 * What the stages make lies in a work file (store.h), which is also what an interrupted calibration is resumed from.
 */
#ifndef ANM_CALIB_CALIBRATE_H
#define ANM_CALIB_CALIBRATE_H

#include "base/pool.h"
#include "calib/store.h"
#include "model/model.h"

enum { ANM_WQ, ANM_WK, ANM_WV, ANM_WO, ANM_W1, ANM_W2, ANM_W3, ANM_LINEARS };
extern const char *const anm_linear_names[ANM_LINEARS]; /* "wq" … */

/* What came of one linear. Errors are sums over rows of (w - s q)^T H (w - s q), H the sum of x x^T over the text. */
enum { ANM_CALIB_BINS = 40 }; /* each half a scale wide, the middle at 0; the outermost hold all beyond */
typedef struct anm_calib_figure {
    double rounding, reached;
    double most;                      /* the largest error of a row … */
    uint64_t worst;                   /* … and which row that is: */
    uint16_t weights[ANM_CALIB_BINS]; /* how its weights, in units of their scale, are spread */
    uint16_t integers[16];            /* and its integers, in sixteenths of their range */
    float low, high;                  /* the smallest and the largest scale */
    uint64_t subnormal;               /* scales of rounding to nearest that are no normal fp16 number */
} anm_calib_figure;

/* What came of a stage: of the embedding none, of the head one linear, the first. */
typedef struct anm_calib_note {
    anm_calib_figure linear[ANM_LINEARS];
    double largest;   /* absolute value in the quantised residual stream after the stage (of the head: that flows into it) */
    double inside[4]; /* and of what flows into the layer's linears: anm_eager_point */
    double seconds;
    double loss[2];   /* of the tuning: KL from the full model on the text, nats a token, at its beginning and its end */
} anm_calib_note;

typedef struct anm_calib_event {
    size_t layer, layers;          /* the layer in work; `layers`: the head; one more: tuning */
    int which;                     /* the linear that is done, -1: the stage begins, or is there already (resumed) */
    const anm_calib_figure *figure; /* of that linear */
    double done, resumed;          /* parts of the whole work, 0 to 1: so far; found done */
} anm_calib_event;

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
    int tries, rounds;
    int tune;        /* passes over the text that tune scales across layers (tune.h); 0, or no least-squares step: none */
    const char *work;   /* the work file's path; NULL: a nameless one */
    const char *beside; /* the file in whose folder temporary files go, when TMPDIR says nothing; may be NULL */
    bool resume;        /* go on with what the work file holds */
    void (*progress)(void *ctx, const anm_calib_event *e); /* may be NULL; on the calling thread */
    void *ctx;
} anm_calib_opts;

/* The text that ships inside the program (share/calibration.txt): general English, dialogue, lists and code. */
extern const unsigned char anm_calibration_text[];
extern const unsigned long anm_calibration_text_size;

/* What measured best: see docs/quality.md. Bits, groups and windows are left to the caller. */
anm_calib_opts anm_calib_defaults(void);

typedef struct anm_calibrated {
    anm_made (*layer)[ANM_LINEARS]; /* [n_layers + 1]; the head is the first one of the last */
    anm_made embedding;             /* without q when embed_bits is 0: */
    float *embedding_values;        /* the rotated embedding itself [vocab_size, dim] */
    const float **value_bias;       /* [n_layers][n_kv_heads * head_dim], rotated; NULL when the model has none */
    size_t n_layers;
    anm_store *store;               /* all of the above lie in it, but for */
    float *scales;                  /* those that tuning made; NULL: there was none */
    bool tuned;                     /* there is a note of it */
    /* The model to export: as the one calibrated, with these weights in it, and all norm weights of the stream one. */
    anm_model model;
    float *ones;
    anm_tensor *vector; /* [n_layers + 2]: the ones, the embedding, each layer's value bias */
} anm_calibrated;

/* What came of stage i: 0 the embedding, then the layers, n_layers + 1 the head, and n_layers + 2 the tuning, where `tuned`. */
const anm_calib_note *anm_calibrated_note(const anm_calibrated *c, size_t i);

/* tokens [windows * len]. out->model refers to `m` and to `out`, which must not move. */
int anm_calibrate(anm_calibrated *out, const anm_model *m, const int32_t *tokens, const anm_calib_opts *o, anm_pool *pool,
                  anm_error *err);
/* The work file stays when it has a name, unless the work is `used`. A zeroed one is fine. */
void anm_calibrated_free(anm_calibrated *c, bool used);

#endif
