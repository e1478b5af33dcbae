/* SPDX-License-Identifier: BSD-3-Clause */
/* anemone legacy export: the options of the original's export.py, and its defaults. */
#include "cli/cli.h"
#include "cli/export.h"
#include "cli/legacy.h"
#include "cli/opt.h"
#include "base/pool.h"

#include <stdlib.h>
#include <string.h>

/* The advice for Llama 1B on an iPhone 15 Pro, where the command line says nothing else. */
static void take_preset(export_words *w, bool lengths_given, bool rows_given)
{
    w->cache_list = true;
    if (!rows_given) w->input_len = 32;
    if (!w->split_given) w->split_size = 1024;
    w->split_given = true;
    if (!w->linear) w->linear = "c4w";
    if (!w->embedding) w->embedding = "4,32";
    if (!lengths_given) w->contexts = "128,256,512,1024,2048";
}

/* As the original does: a name without .pte gets it. The caller's (free). */
static char *with_suffix(const char *name)
{
    size_t n = strlen(name);
    bool has = n >= 4 && !strcmp(name + n - 4, ".pte");
    char *out = malloc(n + 5);
    if (!out) return NULL;
    memcpy(out, name, n + 1);
    if (!has) memcpy(out + n, ".pte", 5);
    return out;
}

int cli_legacy_export(int argc, char **argv)
{
    const char *preset = NULL;
    bool lengths_given = false, rows_given = false;
    export_words w = {.deprecated = true, .no_breaks = true, .output = "model.pte", .contexts = "128", .dtype = "fp16", .norm = "reference",
                      .graph = "reference", .input_len = 1, .cache_len = -1, .max_splits = 8, .calibrate_windows = 1};
    const cli_opt table[] = {
        {'n', "output_name", CLI_STRING, &w.output, "FILE", "program to write (default: model.pte)", NULL},
        {'p', "params", CLI_STRING, &w.params, "FILE", "params.json or config.json (default: what lies beside or inside the checkpoint)", NULL},
        {'c', "checkpoint", CLI_STRING, &w.checkpoint, "FILE", "checkpoint: .pth, .safetensors, .gguf, or a folder", NULL},
        {0, "seq_length", CLI_INT, &w.input_len, "N", "tokens of a step (default: 1)", &rows_given},
        {0, "max_seq_length", CLI_STRING, &w.contexts, "N", "positions in all (default: 128); several, 128,256: a file each, NAME_256.pte", &lengths_given},
        {0, "cache_size", CLI_INT, &w.cache_len, "N", "cached positions; older ones are evicted (default: what a step leaves)", &w.cache_given},
        {'E', "embedding-quantize", CLI_STRING, &w.embedding, "B,G", "bits and group of the embedding: 8,0 per row, 4,32 (default: floats)", NULL},
        {0, "coreml-quantize", CLI_CHOICE, &w.linear, "b4w|c4w", "4 bits, a scale per 32 columns, or per row (default: floats)", NULL},
        {0, "use_cache_list", CLI_FLAG, &w.cache_list, NULL, "a cache per layer, not one tensor of all", NULL},
        {0, "target_split_size", CLI_INT, &w.split_size, "N", "rows of a linear layer that stay together (default: all)", &w.split_given},
        {0, "max_splits", CLI_INT, &w.max_splits, "N", "most parts of a linear layer (default: 8)", &w.splits_given},
        {0, "dtype", CLI_CHOICE, &w.dtype, "fp16|fp32", "type of activations (default: fp16)", NULL},
        {0, NULL, CLI_HEADING, NULL, NULL, "Beyond the original", NULL},
        {0, "preset", CLI_CHOICE, &preset, "iphone15", "for Llama 1B on an iPhone 15 Pro: cache list, steps of 32, parts of 1024, c4w, -E 4,32, and a "
                                                       "file for each of 128,256,512,1024,2048 positions; other options still count", NULL},
        {'j', "threads", CLI_INT, &w.threads, "N", "threads (default: one per processor)", NULL},
        {0, "no_sync", CLI_FLAG, &w.no_sync, NULL, "do not wait until the disk has the file", NULL},
        {'q', "quiet", CLI_FLAG, &w.quiet, NULL, "no progress, notes or summary", NULL},
        {0, "json", CLI_FLAG, &w.json, NULL, "the summary as JSON on standard output", NULL},
        {0},
    };
    anm_error err = {0};
    int n_words, rc = cli_parse(table, "anemone legacy export -c CHECKPOINT [-p PARAMS] [-n OUTPUT] [options]", argc, argv, NULL, 0, &n_words, &err);
    if (rc == CLI_HELPED) return EXIT_OK;
    if (!rc && !w.checkpoint) rc = anm_fail(&err, ANM_ERR_USAGE, "legacy export: no checkpoint is given; name one with -c");
    if (!rc && (w.threads < 0 || w.threads > ANM_THREADS_MAX)) rc = anm_fail(&err, ANM_ERR_USAGE, "--threads: must be 1 to %d, or 0 for one per processor", ANM_THREADS_MAX);
    if (!rc && w.cache_given && w.cache_len < 1) rc = anm_fail(&err, ANM_ERR_USAGE, "--cache_size: must be 1 or more, not %lld", (long long)w.cache_len);
    if (preset) take_preset(&w, lengths_given, rows_given);
    if (!w.embedding) w.embedding = "";
    char *path = with_suffix(w.output);
    if (!rc && !path) rc = anm_fail_memory(&err, "a file's name");
    w.output = path;
    if (!rc) rc = cli_export(&w, &err);
    if (!rc && !w.quiet) cli_legacy_say("export", "anemone export");
    free(path);
    return rc ? cli_fail(&err) : EXIT_OK;
}
