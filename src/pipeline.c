/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The roads through the house. anm_export, at the end of this file, is the list of stages; what stands above it is one
 * function a stage.
 */
#include "pipeline.h"

#include "base/bytes.h"
#include "coreml/coreml.h"
#include "export/export.h"
#include "pass/pass.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

/* The passes of an export over each function, in order; before them weights of equal bytes are made one, program by program. */
static const struct {
    const char *name;
    anm_pass_fn *run;
} export_passes[] = {
    {"remove_noops", anm_pass_remove_noops},
    {"merge_reshapes", anm_pass_merge_reshapes}, /* static form alone: the deprecated one's reshapes stay apart */
    {"remove_noops_again", anm_pass_remove_noops}, /* a merged reshape may change nothing now */
    {"remove_repeated", anm_pass_remove_repeated},
    {"remove_unused", anm_pass_remove_unused},
};

enum { PASSES = sizeof export_passes / sizeof *export_passes };

bool anm_export_has_pass(const char *name)
{
    bool has = !strcmp(name, "build");
    for (size_t i = 0; i < PASSES; i++) has |= !strcmp(name, export_passes[i].name);
    return has;
}

const char *anm_export_last_pass(void)
{
    return export_passes[PASSES - 1].name;
}

#define KEY_PREFIX "coreml_executorch_"
enum { UUID_TEXT = 36 };

/* ---- one output file on its way ---- */

typedef struct making {
    anm_graph graph;
    anm_mil_program *programs; /* a piece each, as all of the following */
    anm_layout *packages;
    anm_uuid_slots *slots;
    const char **keys;
    int32_t n_pieces; /* of those that were begun */
    anm_pte pte;
    anm_layout layout;
    uint64_t *delegate_at, *key_at;
    anm_outfile file;
    uint8_t digest[16];
} making;

typedef struct road {
    const anm_export_job *job;
    anm_export_report *report;
    struct timespec since;
    anm_ckpt *ckpt;
    anm_model *model;
    anm_calibrated calibrated;
    const anm_model *exported; /* the model, or what calibration made of it */
    making *makings;
    anm_pool *pool;
} road;

/* The time since the last call goes to `stage`. */
static void note_time(road *r, anm_export_stage stage)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    r->report->seconds[stage] += (double)(now.tv_sec - r->since.tv_sec) + 1e-9 * (double)(now.tv_nsec - r->since.tv_nsec);
    r->since = now;
}

/* ---- stages ---- */

/* That an output would replace what it is made of is said before the work. */
static int check_output(const road *r, const char *path, anm_error *err)
{
    if (anm_outfile_same(path, anm_ckpt_config_path(r->ckpt)))
        return anm_fail(err, ANM_ERR_IO, "%s: is being read; name another file to write", path);
    return anm_outfile_check(path, err);
}

static int open_model(road *r, anm_error *err)
{
    int rc = anm_ckpt_open(&r->ckpt, r->job->checkpoint, err);
    if (!rc) rc = anm_model_open(&r->model, r->ckpt, r->job->params, err);
    for (int i = 0; i < r->job->n_outputs && !rc; i++) rc = check_output(r, r->job->outputs[i].path, err);
    if (!rc && r->job->model) rc = r->job->model(r->job->ctx, r->model, err);
    if (!rc) rc = anm_pool_new(&r->pool, r->job->threads, err);
    r->exported = r->model;
    note_time(r, ANM_STAGE_OPEN);
    return rc;
}

static anm_recipe recipe_of(const road *r, const anm_export_output *out)
{
    anm_recipe recipe = r->job->recipe;
    if (out->max_context_len) recipe.max_context_len = out->max_context_len;
    return recipe;
}

/* What would be refused is refused before the long work. */
static int plan_early(road *r, anm_error *err)
{
    int rc = 0;
    for (int i = 0; i < r->job->n_outputs && !rc; i++) {
        anm_recipe recipe = recipe_of(r, r->job->outputs + i);
        anm_graph g;
        rc = anm_graph_plan(&g, r->model, &recipe, err);
        anm_graph_free(&g);
    }
    return rc;
}

static int calibrate(road *r, anm_error *err)
{
    const anm_export_calibration *c = r->job->calibration;
    const anm_recipe *recipe = &r->job->recipe;
    if (!c) return 0;
    int rc = plan_early(r, err);
    if (rc) return rc;
    anm_calib_opts how = c->how;
    how.linear_bits = 4;
    how.linear_group = recipe->linear_group;
    how.embed_bits = recipe->embedding_bits;
    how.embed_group = recipe->embedding_group;
    how.fp16 = recipe->type == ANM_DT_F16;
    if (!how.beside) how.beside = r->job->outputs[0].path;
    rc = anm_calibrate(&r->calibrated, r->model, c->tokens, &how, r->pool, err);
    r->exported = &r->calibrated.model;
    if (!rc && r->job->calibrated) rc = r->job->calibrated(r->job->ctx, &r->calibrated, err);
    note_time(r, ANM_STAGE_CALIBRATE);
    return rc;
}

static int plan(road *r, making *m, const anm_export_output *out, anm_error *err)
{
    anm_recipe recipe = recipe_of(r, out);
    int rc = anm_graph_plan(&m->graph, r->exported, &recipe, err);
    if (rc) return rc;
    size_t n = (size_t)m->graph.n_pieces;
    anm_arena *a = &m->graph.arena;
    m->programs = anm_arena_array(a, n, sizeof *m->programs);
    m->packages = anm_arena_array(a, n, sizeof *m->packages);
    m->slots = anm_arena_array(a, n, sizeof *m->slots);
    m->keys = anm_arena_array(a, n, sizeof *m->keys);
    m->delegate_at = anm_arena_array(a, n * (size_t)m->graph.n_methods, sizeof *m->delegate_at);
    m->key_at = anm_arena_array(a, n, sizeof *m->key_at);
    bool all = m->programs && m->packages && m->slots && m->keys && m->delegate_at && m->key_at;
    note_time(r, ANM_STAGE_BUILD);
    return all ? 0 : anm_fail_memory(err, "a plan");
}

static int look(road *r, const char *after, int32_t piece, const making *m, anm_error *err)
{
    return r->job->look && m == r->makings ? r->job->look(r->job->ctx, after, piece, m->programs + piece, err) : 0;
}

static int run_passes(road *r, making *m, int32_t piece, anm_error *err)
{
    anm_mil_program *p = m->programs + piece;
    int rc = look(r, "build", piece, m, err);
    if (!rc) rc = anm_pass_share_weights(p, err);
    bool deprecated = m->graph.recipe.form == ANM_FORM_DEPRECATED;
    for (size_t i = 0; i < PASSES && !rc; i++) {
        bool skip = deprecated && export_passes[i].run == anm_pass_merge_reshapes;
        for (anm_mil_function *fn = p->functions; fn && !skip && !rc; fn = fn->next) rc = export_passes[i].run(fn, err);
#ifndef NDEBUG
        if (!rc) rc = anm_mil_verify(p, true, err);
#endif
        if (!rc) rc = look(r, export_passes[i].name, piece, m, err);
    }
    return rc ? rc : anm_mil_verify(p, true, err);
}

static int make_piece(road *r, making *m, int32_t piece, anm_error *err)
{
    anm_graph *g = &m->graph;
    m->n_pieces = piece + 1;
    int rc = anm_graph_build(m->programs + piece, g, piece, err);
    note_time(r, ANM_STAGE_BUILD);
    if (!rc) rc = run_passes(r, m, piece, err);
    note_time(r, ANM_STAGE_PASSES);
    anm_package_spec spec = {.folder = "lowered_module", .multifunction = g->recipe.multifunction,
                             .default_function = g->method[0].function};
    if (g->recipe.multifunction) spec.folder = anm_arena_printf(&g->arena, "lowered_module_partition_%d", (int)piece);
    m->keys[piece] = anm_arena_printf(&g->arena, KEY_PREFIX "00000000-0000-8000-8000-%012d", (int)piece);
    if (!rc && (!spec.folder || !m->keys[piece])) rc = anm_fail_memory(err, "a package");
    if (!rc) rc = anm_package_write(m->packages + piece, m->slots + piece, m->programs + piece, &spec, &g->arena, err);
    note_time(r, ANM_STAGE_PACKAGE);
    return rc;
}

static int make_program(road *r, making *m, anm_error *err)
{
    int rc = anm_program_make(&m->pte, &m->graph, m->packages, m->keys, err);
    bool multi = m->graph.recipe.multifunction;
    uint64_t *named_at = anm_arena_array(&m->graph.arena, (size_t)m->graph.n_pieces, sizeof *named_at);
    if (!rc && !named_at) rc = anm_fail_memory(err, "a program");
    if (!rc) rc = anm_pte_write(&m->layout, &m->pte, &m->graph.arena, m->delegate_at, named_at, m->key_at, err);
    /* The places of identifiers, so far within their package, become places in the file. */
    for (int32_t i = 0; i < m->n_pieces && !rc; i++)
        for (size_t k = 0; k < m->slots[i].count; k++) m->slots[i].slot[k].offset += multi ? named_at[i] : m->delegate_at[i];
    note_time(r, ANM_STAGE_PACKAGE);
    return rc;
}

static int open_outputs(road *r, anm_error *err)
{
    int rc = 0;
    for (int i = 0; i < r->job->n_outputs && !rc; i++) rc = anm_outfile_open(&r->makings[i].file, r->job->outputs[i].path, err);
    for (int i = 0; i < r->job->n_outputs && !rc && r->job->sync; i++) anm_outfile_write_early(&r->makings[i].file);
    return rc;
}

static int write_weights(road *r, anm_error *err)
{
    int n = r->job->n_outputs, rc = 0;
    anm_stream_target *t = n > 0 ? calloc((size_t)n, sizeof *t) : NULL;
    if (!t) rc = anm_fail_memory(err, "the writer");
    for (int i = 0; i < n && !rc; i++) t[i] = (anm_stream_target){.file = &r->makings[i].file, .layout = &r->makings[i].layout};
    const anm_stream_opts opts = {r->pool, r->job->progress, r->job->ctx};
    if (!rc) rc = anm_stream_write(t, n, &opts, err);
    for (int i = 0; i < n && !rc; i++) memcpy(r->makings[i].digest, t[i].digest, sizeof t[i].digest);
    free(t);
    return rc;
}

/* A UUID (version 8) of the content: the digest, the piece, and which of the piece's identifiers it is. */
static void make_uuid(char out[UUID_TEXT + 1], const making *m, int32_t piece, uint32_t which)
{
    uint8_t seed[24], u[16];
    memcpy(seed, m->digest, 16);
    anm_st32(seed + 16, (uint32_t)piece);
    anm_st32(seed + 20, which);
    XXH128_canonical_t c;
    XXH128_canonicalFromHash(&c, XXH3_128bits(seed, sizeof seed));
    memcpy(u, c.digest, sizeof u);
    u[6] = (uint8_t)((u[6] & 0x0f) | 0x80);
    u[8] = (uint8_t)((u[8] & 0x3f) | 0x80);
    snprintf(out, UUID_TEXT + 1, "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", u[0], u[1], u[2], u[3],
             u[4], u[5], u[6], u[7], u[8], u[9], u[10], u[11], u[12], u[13], u[14], u[15]);
}

static int name_piece(making *m, int32_t piece, anm_error *err)
{
    char uuid[UUID_TEXT + 1];
    int rc = 0;
    for (size_t k = 0; k < m->slots[piece].count && !rc; k++) {
        make_uuid(uuid, m, piece, m->slots[piece].slot[k].which);
        rc = anm_outfile_write(&m->file, m->slots[piece].slot[k].offset, uuid, UUID_TEXT, err);
    }
    if (rc || !m->graph.recipe.multifunction) return rc;
    make_uuid(uuid, m, piece, ANM_UUID_IDENTIFIER);
    rc = anm_outfile_write(&m->file, m->key_at[piece] + strlen(KEY_PREFIX), uuid, UUID_TEXT, err);
    for (int32_t k = 0; k < m->graph.n_methods && !rc; k++) { /* each method's delegate names the key */
        const char *reference = (const char *)m->pte.methods[k].delegates[piece].data, *key = strstr(reference, KEY_PREFIX);
        uint64_t at = m->delegate_at[k * m->graph.n_pieces + piece] + (uint64_t)(key - reference) + strlen(KEY_PREFIX);
        rc = anm_outfile_write(&m->file, at, uuid, UUID_TEXT, err);
    }
    return rc;
}

static int write_names(road *r, anm_error *err)
{
    int rc = 0;
    for (int i = 0; i < r->job->n_outputs && !rc; i++)
        for (int32_t p = 0; p < r->makings[i].n_pieces && !rc; p++) rc = name_piece(r->makings + i, p, err);
    note_time(r, ANM_STAGE_WRITE);
    return rc;
}

static int commit(road *r, anm_error *err)
{
    int rc = 0;
    for (int i = 0; i < r->job->n_outputs && !rc; i++) rc = anm_outfile_commit(&r->makings[i].file, r->job->sync, err);
    note_time(r, ANM_STAGE_SYNC);
    return rc;
}

static uint64_t count_ops(const anm_mil_program *p)
{
    uint64_t n = 0;
    for (const anm_mil_function *fn = p->functions; fn; fn = fn->next)
        for (const anm_mil_op *op = fn->first; op; op = op->next) n++;
    return n;
}

/* The ops that the reference's graph of the same model would have. */
static int count_reference(road *r, anm_error *err)
{
    anm_recipe recipe = r->makings[0].graph.recipe;
    recipe.lean = false;
    recipe.norm = ANM_NORM_REFERENCE;
    anm_graph g;
    int rc = anm_graph_plan(&g, r->model, &recipe, err);
    for (int32_t i = 0; i < g.n_pieces && !rc; i++) {
        anm_mil_program p;
        rc = anm_graph_build(&p, &g, i, err);
        if (!rc) rc = anm_pass_share_weights(&p, err);
        for (size_t k = 0; k < PASSES; k++)
            for (anm_mil_function *fn = p.functions; fn && !rc; fn = fn->next) rc = export_passes[k].run(fn, err);
        r->report->reference_ops += count_ops(&p);
        anm_mil_program_free(&p);
    }
    anm_graph_free(&g);
    return rc;
}

static void fill_report(road *r)
{
    const making *m = r->makings;
    anm_export_report *o = r->report;
    o->pieces = m->n_pieces;
    o->functions = m->n_pieces * m->graph.n_methods;
    for (int32_t i = 0; i < m->n_pieces; i++) o->ops += count_ops(m->programs + i);
    if (m->graph.fitted) snprintf(o->fitted, sizeof o->fitted, "%s", m->graph.fitted);
    for (int k = 0; k < r->job->n_outputs; k++) {
        m = r->makings + k;
        o->size[k].file = m->layout.size;
        for (size_t i = 0; i < m->layout.count; i++)
            if (m->layout.piece[i].source && m->layout.piece[i].part < ANM_WEIGHT_PARTS)
                *(m->layout.piece[i].part == ANM_WEIGHT_SCALE ? &o->size[k].scales : &o->size[k].weights) += m->layout.piece[i].size;
        for (size_t i = 0; i < m->pte.n_methods; i++)
            for (size_t v = 0; v < m->pte.methods[i].n_values; v++)
                if (m->pte.methods[i].values[v].dtype == m->graph.recipe.type) o->size[k].tables += m->pte.methods[i].values[v].data_size;
    }
}

static void free_road(road *r, bool good)
{
    for (int i = 0; i < r->job->n_outputs && r->makings; i++) {
        making *m = r->makings + i;
        anm_outfile_abort(&m->file); /* nothing, after a commit */
        anm_layout_free(&m->layout);
        anm_pte_free(&m->pte);
        for (int32_t p = 0; p < m->n_pieces; p++) {
            anm_mil_program_free(m->programs + p);
            anm_layout_free(m->packages + p);
        }
        anm_graph_free(&m->graph);
    }
    free(r->makings);
    anm_calibrated_free(&r->calibrated, good);
    anm_pool_free(r->pool);
    anm_model_free(r->model);
    anm_ckpt_close(r->ckpt);
}

/* ---- the road: a checkpoint becomes one program, or several ---- */

int anm_export(anm_export_report *report, const anm_export_job *job, anm_error *err)
{
    *report = (anm_export_report){0};
    road r = {.job = job, .report = report, .makings = calloc((size_t)job->n_outputs, sizeof *r.makings)};
    clock_gettime(CLOCK_MONOTONIC, &r.since);
    int rc = r.makings ? 0 : anm_fail_memory(err, "an export");

    if (!rc) rc = open_model(&r, err);                                  /* checkpoint -> tensors -> model */
    if (!rc) rc = calibrate(&r, err);                                   /* weights chosen by a text, where one is given */
    for (int i = 0; i < job->n_outputs && !rc; i++) {
        making *m = r.makings + i;
        rc = plan(&r, m, job->outputs + i, err);                        /* model -> parts, pieces, methods */
        for (int32_t p = 0; p < m->graph.n_pieces && !rc; p++) rc = make_piece(&r, m, p, err); /* -> MIL -> passes -> package */
        if (!rc) rc = make_program(&r, m, err);                         /* packages -> the layout of a .pte */
    }
    if (!rc && job->recipe.lean) rc = count_reference(&r, err);
    if (!rc) rc = open_outputs(&r, err);
    if (!rc) rc = write_weights(&r, err);                               /* weights, rounded while they are written */
    if (!rc) rc = write_names(&r, err);                                 /* identifiers, from the content's digest */
    if (!rc) rc = commit(&r, err);                                      /* on disk, under its name */

    if (!rc) fill_report(&r);
    free_road(&r, !rc);
    return rc;
}
