/* SPDX-License-Identifier: BSD-3-Clause */
/* The page that `export --calibrate --report` writes. */
#ifndef ANM_CLI_EXPORT_REPORT_H
#define ANM_CLI_EXPORT_REPORT_H

#include "cli/export.h"
#include "cli/text.h"
#include "pipeline.h"

enum { CLI_CALIBRATION_WINDOW = 512 };

/* The text that calibration learns from: the one named, or the one that ships. */
cli_text cli_calibration_text(const export_words *w);

/* Writes the page. `notes`: the stages' (calib/calibrate.h). Perplexities are those of the first output, of what rounding
 * makes of the same job (exported beside it and removed again) and of the checkpoint; where they cannot be had, the page says
 * why. */
int cli_export_report(const export_words *w, const anm_export_job *job, const anm_export_report *report, const anm_calib_note *notes,
                      size_t n_layers, anm_error *err);

#endif
