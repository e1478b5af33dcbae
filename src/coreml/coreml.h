/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Core ML packages: the model specification (protobuf) with its MIL program, the weight file, the manifest; and the
 * directory blob ("in-memory filesystem") in which ExecuTorch's Core ML backend keeps a package. Each writer stands
 * beside its reader.
 * Formats: apple/coremltools mlmodel/format/{Model,MIL,FeatureTypes}.proto, mlmodel/src/MILBlob/Blob/StorageFormat.hpp;
 * pytorch/executorch backends/apple/coreml/runtime/inmemoryfs/.
 */
#ifndef ANM_COREML_COREML_H
#define ANM_COREML_COREML_H

#include "base/arena.h"
#include "base/layout.h"
#include "mil/mil.h"

/* ---- writing ---- */

/* What a package says of itself beyond its program. */
typedef struct anm_package_spec {
    const char *folder;      /* "lowered_module", or "lowered_module_partition_0" */
    bool multifunction;      /* functions are described one by one (and metadata.json has "methods") */
    const char *default_function;
} anm_package_spec;

/* Appends to `out` the directory blob of the package made of `program`: all functions share one weight file, in which
 * equal constants stand once. Bytes that the layout points to live in `arena`. Weights with a `source` stay sources.
 * What lies in the weight file and what in the graph is decided here as coremltools does (ten elements and more), and
 * not by a constant's in_file; constants smaller than that must be at hand. Weights stand first in the blob, so that
 * a blob at a multiple of 64 has its weights there too.
 * Identifiers (UUIDs) are fixed-size text: their places are appended to `uuids` so that they can be derived from the
 * content once it is written; until then a valid stand-in is there. */
typedef struct anm_uuid_slot {
    uint64_t offset; /* in `out`, of 36 characters */
    uint32_t which;  /* equal numbers get the same UUID */
} anm_uuid_slot;
/* What the UUIDs of one package stand for: its numbers are these plus the first number that `uuids` did not have yet
 * (0 when it was empty). The package's identifier, by which named data is keyed, is "executorch_" + the first. */
enum { ANM_UUID_IDENTIFIER, ANM_UUID_MODEL, ANM_UUID_WEIGHTS, ANM_UUID_COUNT };
typedef struct anm_uuid_slots {
    anm_uuid_slot *slot; /* in the arena */
    size_t count, room;
} anm_uuid_slots;
int anm_package_write(anm_layout *out, anm_uuid_slots *uuids, const anm_mil_program *program,
                      const anm_package_spec *spec, anm_arena *arena, anm_error *err);

/* ---- reading ---- */

/* A file inside a directory blob. */
typedef struct anm_dir_file {
    const char *path; /* "lowered_module/model.mlpackage/Manifest.json" */
    const uint8_t *data;
    uint64_t size;
} anm_dir_file;
typedef struct anm_dir {
    anm_dir_file *file;
    size_t count;
} anm_dir;

/* Verifies a directory blob and lists its files. `arena` holds the list; file bytes stay in `data`. */
int anm_dir_read(anm_dir *out, const uint8_t *data, uint64_t size, anm_arena *arena, anm_error *err);

/* An opened package: its program, with constants that point into the weight file where it lies. */
typedef struct anm_package {
    anm_mil_program program; /* functions in the order of the description */
    int64_t spec_version;
    bool multifunction;
    const char *default_function; /* "" where the description names none; in the program's arena */
    const uint8_t *weights;
    uint64_t weights_size;
} anm_package;

/* What a delegate of a multifunction program holds instead of a package: "CMJR" and JSON, the key of the named data
 * that holds the package, and the function in it. Both are NULL when `data` is no reference. Strings go to `arena`. */
typedef struct anm_reference {
    const char *key, *function;
} anm_reference;
int anm_reference_read(anm_reference *out, const uint8_t *data, uint64_t size, anm_arena *arena, anm_error *err);

/* Reads the package in a directory blob: manifest, model.mlmodel, weight.bin; verifies the MIL (not strictly). */
int anm_package_read(anm_package *out, const anm_dir *dir, anm_error *err);
/* The parts of that, for other containers (an .mlpackage folder on disk): a model specification and its weights. */
int anm_package_read_model(anm_package *out, const uint8_t *model, uint64_t model_size, const uint8_t *weights,
                           uint64_t weights_size, anm_error *err);
void anm_package_free(anm_package *p);

#endif
