/* SPDX-License-Identifier: BSD-3-Clause */
/* A page to look at: what a calibration did, as one HTML file with its pictures in it and nothing to fetch. */
#ifndef ANM_CALIB_REPORT_H
#define ANM_CALIB_REPORT_H

#include "base/buf.h"
#include "calib/calibrate.h"

typedef struct anm_report_score {
    const char *name;
    double perplexity, perplexity_se, ratio, ratio_se, kl, top1; /* but for the first one against the first: eval/eval.h */
} anm_report_score;

typedef struct anm_report_fact {
    const char *name, *value;
} anm_report_fact;

typedef struct anm_report {
    const char *title;
    const anm_report_fact *facts;
    size_t n_facts;
    const anm_report_score *scores; /* the first: the model in full precision */
    size_t n_scores, score_tokens;
    const char *no_scores;          /* why there are none */
    bool fp16;                      /* the type of the exported program */
    const anm_calib_note *notes;    /* [n_layers + 3], as anm_calibrated_note gives them; the last all zero without tuning */
    size_t n_layers;
} anm_report;

/* Check `out->bad` afterwards. */
void anm_report_page(anm_buf *out, const anm_report *r);

#endif
