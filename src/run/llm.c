/* SPDX-License-Identifier: BSD-3-Clause */
/* The public face of a loaded model: an engine and the threads that it computes on. */
#include "run/session.h"

#include <stdlib.h>

int anm_llm_open(anm_llm **out, const char *path, const anm_llm_opts *opts, anm_error *err)
{
    static const anm_llm_opts defaults;
    if (!opts) opts = &defaults;
    *out = NULL;
    if (opts->precision > ANM_PRECISION_FP16) return anm_fail(err, ANM_ERR_USAGE, "%d is no precision", (int)opts->precision);
    anm_llm *m = calloc(1, sizeof *m);
    if (!m) return anm_fail_memory(err, path);
    int rc = anm_pool_new(&m->pool, opts->threads, err);
    if (!rc) {
        const anm_engine_opts engine = {.precision = opts->precision, .pool = m->pool};
        rc = anm_engine_open(&m->engine, path, &engine, err);
    }
    if (rc)
        anm_llm_free(m);
    else
        *out = m;
    return rc;
}

void anm_llm_free(anm_llm *m)
{
    if (!m) return;
    anm_engine_free(m->engine);
    anm_pool_free(m->pool);
    free(m);
}

void anm_llm_get_info(anm_llm_info *out, const anm_llm *m)
{
    const anm_engine_info *e = anm_engine_get_info(m->engine);
    *out = (anm_llm_info){
        .vocab_size = e->vocab_size,
        .max_context = anm_positions(e),
        .input_len = e->input_len,
        .n_layers = (int)e->n_layers,
        .multifunction = e->multifunction,
        .all_logits = e->all_logits,
    };
}
