/* SPDX-License-Identifier: BSD-3-Clause */
/* How large the residual stream grows: the model itself, in full precision, on a few tokens. */
#include "export/export.h"
#include "eager/eager.h"

#include <math.h>
#include <stdlib.h>

/* The most that a layer's weights may take as fp32: an export is small in memory, whatever the model. */
enum { LAYER_VALUES = 12 << 20 };

static bool is_small(const anm_params *p)
{
    int64_t heads = (p->n_heads * 2 + p->n_kv_heads * 2) * p->head_dim;
    return p->dim < 1 << 16 && p->dim * (heads + 3 * p->hidden_dim) < LAYER_VALUES;
}

static float largest(const float *x, size_t n)
{
    float m = 0;
    for (size_t i = 0; i < n; i++) m = fmaxf(m, fabsf(x[i]));
    return m;
}

int anm_export_range(anm_range *out, const anm_model *m, const int32_t *tokens, size_t n, float limit, anm_pool *pool,
                     anm_error *err)
{
    const anm_params *p = &m->params;
    *out = (anm_range){.layer = -1};
    if (!is_small(p) || !n) return 0;
    size_t angles = (size_t)(p->use_hf_rope ? p->head_dim : p->head_dim / 2) * n;
    float *tables = calloc(angles, 2 * sizeof *tables);
    anm_windows w = {0};
    int rc = tables ? anm_rope_tables(tables, tables + angles, m, (int64_t)n, err) : anm_fail_memory(err, "the rotary tables");
    if (!rc) rc = anm_windows_new(&w, m, tokens, 1, n, err);
    for (int64_t i = 0; i < p->n_layers && !rc && out->largest < limit; i++) {
        anm_eager_layer l;
        rc = anm_eager_layer_load(&l, m, (size_t)i, pool, err);
        if (rc) break;
        rc = anm_eager_layer_run(&w, &l, p, tables, tables + angles, NULL, NULL, pool, err);
        anm_eager_layer_free(&l);
        *out = (anm_range){i, largest(w.x, n * (size_t)p->dim)};
    }
    anm_windows_free(&w);
    free(tables);
    return rc;
}
