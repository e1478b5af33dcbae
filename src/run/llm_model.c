/* SPDX-License-Identifier: BSD-3-Clause */
/* As llm.c, for a checkpoint in a file's place. */
#include "run/session.h"

#include <stdlib.h>

int anm_llm_of_model(anm_llm **out, const anm_model *model, const anm_model_form *form, const anm_llm_opts *opts,
                     anm_error *err)
{
    *out = NULL;
    anm_llm *m = calloc(1, sizeof *m);
    if (!m) return anm_fail_memory(err, "a model");
    int rc = anm_pool_new(&m->pool, opts->threads, err);
    const anm_engine_opts engine = {.precision = opts->precision, .pool = m->pool};
    if (!rc) rc = anm_engine_of_model(&m->engine, model, form, &engine, err);
    if (rc) anm_llm_free(m);
    else *out = m;
    return rc;
}
