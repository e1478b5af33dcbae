/* SPDX-License-Identifier: BSD-3-Clause */
/* anemone inspect --range: how large values grow, by kind of op and layer. */
#include "cli/inspect_range.h"
#include "base/pool.h"
#include "ckpt/ckpt.h"
#include "cli/text.h"
#include "cli/tree.h"
#include "run/engine.h"
#include "token/token.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char text[] = "The capital of France is Paris, and the river that runs through it is the Seine. 12 + 30 = 42; "
                           "for (int i = 0; i < n; i++) sum += x[i];";

enum { MOST_TOKENS = 64 };
static const float FP16_MOST = 65504;

typedef struct subject {
    anm_ckpt *ckpt;
    anm_model *model;
    anm_pool *pool;
    anm_engine *engine;
    anm_state *state;
    int32_t token[MOST_TOKENS];
    size_t n;
    bool of_text;
} subject;

static bool only_moves(anm_mil_opcode c)
{
    switch (c) {
    case ANM_OP_SELECT: case ANM_OP_CAST: case ANM_OP_IDENTITY: case ANM_OP_RESHAPE: case ANM_OP_TRANSPOSE: case ANM_OP_SQUEEZE:
    case ANM_OP_EXPAND_DIMS: case ANM_OP_TILE: case ANM_OP_CONCAT: case ANM_OP_STACK: case ANM_OP_SPLIT: case ANM_OP_SLICE_BY_INDEX:
    case ANM_OP_SLICE_BY_SIZE:
        return true;
    default:
        return false;
    }
}

/* ---- running it ---- */

static int open_subject(subject *s, const cli_range *o, anm_error *err)
{
    int rc = anm_pool_new(&s->pool, 0, err);
    const anm_engine_opts how = {.precision = ANM_PRECISION_EXACT, .pool = s->pool, .interpret = true, .ranges = true};
    if (!rc && o->program) rc = anm_engine_open(&s->engine, o->path, &how, err);
    if (!rc && !o->program) {
        rc = anm_ckpt_open(&s->ckpt, o->path, err);
        if (!rc) rc = anm_model_open(&s->model, s->ckpt, o->params, err);
        if (!rc) {
            s->model->params.table_rows = MOST_TOKENS;
            rc = anm_engine_of_model(&s->engine, s->model, &(anm_model_form){MOST_TOKENS / 2, MOST_TOKENS / 2, false}, &how, err);
        }
    }
    if (!rc) rc = anm_state_new(&s->state, s->engine, err);
    return rc;
}

static int take_tokens(subject *s, const cli_range *o, anm_error *err)
{
    const anm_engine_info *info = anm_engine_get_info(s->engine);
    const char *file = o->tokenizer;
    if (!file && s->ckpt && anm_ckpt_kind_of(s->ckpt) == ANM_CKPT_GGUF) file = o->path;
    size_t most = MOST_TOKENS;
    if ((int64_t)most > info->cache_len) most = (size_t)info->cache_len;
    if ((int64_t)most > info->max_context) most = (size_t)info->max_context;
    if (!most) most = 1;
    s->of_text = file != NULL;
    if (!file) { /* all over the vocabulary */
        s->n = most < 32 ? most : 32;
        for (size_t i = 0; i < s->n; i++) s->token[i] = (int32_t)((int64_t)(i * 7919 + 1) % info->vocab_size);
        return 0;
    }
    anm_tokenizer *t = NULL;
    int32_t *ids = NULL;
    size_t n = 0;
    int rc = anm_tokenizer_open(&t, file, o->config, err);
    if (!rc) rc = cli_tokenizer_fits(file, anm_tokenizer_size(t), o->path, info->vocab_size, err);
    if (!rc) rc = anm_tokenizer_encode(&ids, &n, t, text, sizeof text - 1, false, err);
    s->n = n < most ? n : most;
    for (size_t i = 0; i < s->n && !rc; i++) s->token[i] = ids[i]; /* of a vocabulary that fits */
    free(ids);
    anm_tokenizer_free(t);
    return rc;
}

static int run_tokens(subject *s, anm_error *err)
{
    const anm_engine_info *info = anm_engine_get_info(s->engine);
    float *logits = malloc((size_t)info->vocab_size * sizeof *logits);
    int32_t pos[MOST_TOKENS];
    int rc = logits ? 0 : anm_fail_memory(err, "logits");
    for (size_t i = 0; i < MOST_TOKENS; i++) pos[i] = (int32_t)i;
    for (size_t i = 0; i < s->n && !rc;) {
        int32_t n = (int32_t)(s->n - i < (size_t)info->input_len ? s->n - i : (size_t)info->input_len);
        rc = anm_state_step(logits, s->state, &(anm_step){.n = n, .token = s->token + i, .pos = pos + i}, err);
        i += (size_t)n;
        if (!rc && i < s->n) rc = anm_state_commit(s->state, 0, n, err);
    }
    free(logits);
    return rc;
}

/* ---- saying so ---- */

static json_t *magnitude(float f)
{
    char number[32];
    snprintf(number, sizeof number, "%.4g", (double)f); /* as many digits as are of use */
    return cli_json_real(strtod(number, NULL));
}

static void name_layer(char out[32], int64_t layer, int64_t n)
{
    if (layer < 0) snprintf(out, 32, "embedding");
    else if (layer == n) snprintf(out, 32, "head");
    else snprintf(out, 32, "layer %lld", (long long)layer);
}

static int tell(json_t *to, const subject *s, anm_error *err)
{
    int64_t n = anm_engine_get_info(s->engine)->n_layers;
    json_t *range = json_object(), *rows = json_array();
    bool used[ANM_OP_COUNT] = {0}, bad = false;
    float most = 0;
    char where[80] = "", first[80] = "", layer[32];
    for (int64_t i = -1; i <= n; i++)
        for (int c = 1; c < ANM_OP_COUNT; c++) {
            float f = only_moves((anm_mil_opcode)c) ? 0 : anm_state_largest(s->state, i, (anm_mil_opcode)c);
            if (!(f > 0)) continue;
            used[c] = true;
            name_layer(layer, i, n);
            if (f > most) {
                most = f;
                snprintf(where, sizeof where, "%s, %s", layer, anm_mil_op_name((anm_mil_opcode)c));
            }
            if (f > FP16_MOST && !*first) snprintf(first, sizeof first, "%s, %s", layer, anm_mil_op_name((anm_mil_opcode)c));
        }
    bad |= json_object_set_new(range, "tokens", json_integer((json_int_t)s->n));
    bad |= json_object_set_new(range, "text", json_string(s->of_text ? text : "none: no tokenizer is given"));
    bad |= json_object_set_new(range, "largest", magnitude(most));
    bad |= json_object_set_new(range, "largest in", json_string(where));
    if (*first) bad |= json_object_set_new(range, "beyond fp16 first in", json_string(first));
    bad |= json_object_set_new(range, "by layer", rows);
    for (int64_t i = -1; i <= n && !bad; i++) {
        json_t *row = json_object();
        name_layer(layer, i, n);
        bad |= json_array_append_new(rows, row);
        if (!bad) bad |= json_object_set_new(row, "layer", json_string(layer));
        for (int c = 1; c < ANM_OP_COUNT && !bad; c++)
            if (used[c])
                bad |= json_object_set_new(row, anm_mil_op_name((anm_mil_opcode)c), magnitude(anm_state_largest(s->state, i, (anm_mil_opcode)c)));
    }
    bad |= json_object_set_new(to, "range", range);
    return bad ? anm_fail_memory(err, "a report") : 0;
}

int cli_inspect_range(json_t *to, const cli_range *o, anm_error *err)
{
    subject s = {0};
    int rc = open_subject(&s, o, err);
    if (!rc) rc = take_tokens(&s, o, err);
    if (!rc) rc = run_tokens(&s, err);
    if (!rc) rc = tell(to, &s, err);
    anm_state_free(s.state);
    anm_engine_free(s.engine);
    anm_model_free(s.model);
    anm_ckpt_close(s.ckpt);
    anm_pool_free(s.pool);
    return rc;
}
