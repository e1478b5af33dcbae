/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Reads a Core ML package: the manifest says which file is the model; the model is a specification (protobuf) that
 * describes inputs and outputs and holds the MIL program; constants lie in weights/weight.bin beside it.
 */
#include "base/json.h"
#include "coreml/fields.h"
#include "coreml/mil_pb.h"


enum { MAX_MANIFEST = 64 << 10, MAX_REFERENCE = 4096 };

/* ---- the specification ---- */

static int broken(anm_error *err)
{
    return anm_fail(err, ANM_ERR_FORMAT, "model: broken protobuf");
}

static bool same_text(const anm_pb *m, const char *s)
{
    return anm_pb_size(m) == strlen(s) && memcmp(m->p, s, strlen(s)) == 0;
}

/* Does a FeatureType say what the program says of this value? Where a dimension is unknown, any shape will do. */
static int check_type(anm_pb m, const anm_mil_value *v, anm_error *err)
{
    anm_pb array = {0};
    anm_pb_field f;
    uint64_t dtype = 0, dim;
    int rank = 0;
    bool same = true;
    while (anm_pb_next(&m, &f))
        if (f.number == FEATURE_TYPE_ARRAY && f.type == ANM_PB_BYTES) array = f.bytes;
    if (m.bad) return broken(err);
    while (anm_pb_next(&array, &f)) {
        if (f.number == ARRAY_DTYPE) dtype = f.value;
        if (f.number != ARRAY_SHAPE) continue;
        bool packed = f.type == ANM_PB_BYTES;
        do {
            dim = f.value;
            if (packed && !anm_pb_varint(&f.bytes, &dim)) break;
            same = same && (rank < v->type.rank ? dim == (uint64_t)v->type.dim[rank] : dim == 1 && !rank);
            rank++;
        } while (packed);
        if (f.bytes.bad) return broken(err);
    }
    if (array.bad) return broken(err);
    if (dtype != anm_coreml_array_dtype(v->type.dtype)) same = false;
    else if (!anm_mil_type_known(&v->type)) same = true;
    else if (rank != v->type.rank && v->type.rank) same = false;
    return same ? 0 : anm_fail(err, ANM_ERR_FORMAT, "model: its description of '%.100s' is not its program's", v->name);
}

/* Do the features described in field `number` of `m` name these values, in this order, with their types? */
static int check_features(anm_pb m, uint32_t number, uint32_t n, anm_mil_value *const *values, const char *what, anm_error *err)
{
    anm_pb_field f, g;
    uint32_t i = 0;
    for (; anm_pb_next(&m, &f);) {
        if (f.number != number) continue;
        if (f.type != ANM_PB_BYTES) return broken(err);
        anm_pb name = {0}, type = {0};
        while (anm_pb_next(&f.bytes, &g)) {
            if (g.number == FEATURE_NAME && g.type == ANM_PB_BYTES) name = g.bytes;
            if (g.number == FEATURE_TYPE && g.type == ANM_PB_BYTES) type = g.bytes;
        }
        if (f.bytes.bad) return broken(err);
        if (i == n || !name.p || !same_text(&name, values[i]->name))
            return anm_fail(err, ANM_ERR_FORMAT, "model: its description's %s are not its program's", what);
        int rc = check_type(type, values[i], err);
        if (rc) return rc;
        i++;
    }
    if (m.bad) return broken(err);
    return i == n ? 0 : anm_fail(err, ANM_ERR_FORMAT, "model: its description's %s are not its program's", what);
}

/* Takes the function named by a FunctionDescription out of *from. */
static int take_described(anm_mil_function **from, anm_pb m, anm_mil_function **out, anm_error *err)
{
    anm_pb_field f;
    anm_pb name = {0};
    for (anm_pb again = m; anm_pb_next(&again, &f);)
        if (f.number == FUNCTION_DESCRIPTION_NAME && f.type == ANM_PB_BYTES) name = f.bytes;
    for (anm_mil_function **at = from; *at && name.p; at = &(*at)->next) {
        anm_mil_function *fn = *at;
        if (!same_text(&name, fn->name)) continue;
        *at = fn->next;
        fn->next = NULL;
        *out = fn;
        int rc = check_features(m, FUNCTION_DESCRIPTION_INPUT, fn->n_inputs, fn->inputs, "inputs", err);
        return rc ? rc : check_features(m, FUNCTION_DESCRIPTION_OUTPUT, fn->n_outputs, fn->outputs, "outputs", err);
    }
    return anm_fail(err, ANM_ERR_FORMAT, "model: its description names a function that its program does not have");
}

/* Checks the description against the program and puts the functions in its order. */
static int read_description(anm_package *out, anm_pb m, anm_error *err)
{
    anm_pb_field f;
    int rc;
    anm_mil_program *p = &out->program;
    anm_mil_function *rest = p->functions, **end = &p->functions;
    p->functions = NULL;
    out->default_function = "";
    for (anm_pb again = m; anm_pb_next(&again, &f);) {
        if (f.number == DESCRIPTION_STATE) {
            rc = anm_fail(err, ANM_ERR_UNSUPPORTED, "model: it keeps state between calls");
            goto done;
        }
        if (f.number == DESCRIPTION_DEFAULT && f.type == ANM_PB_BYTES) {
            const char *name = anm_arena_strndup(&p->arena, (const char *)f.bytes.p, anm_pb_size(&f.bytes));
            if (name) out->default_function = name;
            else rc = anm_fail_memory(err, "a model");
            if (!name) goto done;
        }
        if (f.number != DESCRIPTION_FUNCTION) continue;
        out->multifunction = true;
        rc = f.type == ANM_PB_BYTES ? take_described(&rest, f.bytes, end, err) : broken(err);
        if (*end) end = &(*end)->next;
        if (rc) goto done;
    }
    rc = 0;
    if (out->multifunction && rest) rc = anm_fail(err, ANM_ERR_FORMAT, "model: its description leaves out function '%.60s'", rest->name);
    else if (!out->multifunction && rest->next) rc = anm_fail(err, ANM_ERR_FORMAT, "model: several functions, and none is described");
    else if (!out->multifunction) {
        rc = check_features(m, DESCRIPTION_INPUT, rest->n_inputs, rest->inputs, "inputs", err);
        if (!rc) rc = check_features(m, DESCRIPTION_OUTPUT, rest->n_outputs, rest->outputs, "outputs", err);
    }
done:
    *end = rest; /* all functions stay reachable, so that they can be freed */
    return rc;
}

int anm_package_read_model(anm_package *out, const uint8_t *model, uint64_t model_size, const uint8_t *weights,
                           uint64_t weights_size, anm_error *err)
{
    *out = (anm_package){.weights = weights, .weights_size = weights_size};
    anm_mil_program_init(&out->program);
    if (!model_size || model_size > INT32_MAX) return anm_fail(err, ANM_ERR_FORMAT, "model: empty, or larger than a protobuf can be");
    out->program.arena.limit = 64 * (size_t)model_size + (256 << 10);
    anm_pb m = anm_pb_of(model, (size_t)model_size), program = {0}, description = {0};
    anm_pb_field f;
    while (anm_pb_next(&m, &f)) {
        if (f.number == MODEL_VERSION && f.type == ANM_PB_VARINT) out->spec_version = (int64_t)f.value;
        if (f.number == MODEL_DESCRIPTION && f.type == ANM_PB_BYTES) description = f.bytes;
        if (f.number == MODEL_PROGRAM && f.type == ANM_PB_BYTES) program = f.bytes;
    }
    if (m.bad) return broken(err);
    if (!program.p) return anm_fail(err, ANM_ERR_UNSUPPORTED, "model: it is no ML program");
    int rc = anm_mil_pb_read(&out->program, program, weights, weights_size, err);
    if (!rc) rc = read_description(out, description, err);
    return rc ? rc : anm_mil_verify(&out->program, false, err);
}

/* ---- the package ---- */

int anm_reference_read(anm_reference *out, const uint8_t *data, uint64_t size, anm_arena *arena, anm_error *err)
{
    *out = (anm_reference){0};
    if (size < 4 || memcmp(data, "CMJR", 4)) return 0;
    if (size > MAX_REFERENCE) return anm_fail(err, ANM_ERR_FORMAT, "reference: too long to be one");
    json_t *root;
    int rc = anm_json_read(&root, data + 4, size - 4, JSON_REJECT_DUPLICATES, "reference: no JSON", err);
    if (rc) return rc;
    const char *key = json_string_value(json_object_get(root, "key"));
    const char *function = json_string_value(json_object_get(root, "functionName"));
    if (json_integer_value(json_object_get(root, "version")) != 1) rc = anm_fail(err, ANM_ERR_UNSUPPORTED, "reference: its version is not 1");
    else if (!key || !function) rc = anm_fail(err, ANM_ERR_FORMAT, "reference: it names no data or no function");
    else {
        out->key = anm_arena_strdup(arena, key);
        out->function = anm_arena_strdup(arena, function);
        if (!out->key || !out->function) rc = anm_fail_memory(err, "a reference");
    }
    json_decref(root);
    return rc;
}

/* The file whose path is `tail` behind the first `n` bytes of `folder`, or NULL. */
static const anm_dir_file *find(const anm_dir *dir, const char *folder, size_t n, const char *tail)
{
    for (size_t i = 0; i < dir->count; i++)
        if (strncmp(dir->file[i].path, folder, n) == 0 && strcmp(dir->file[i].path + n, tail) == 0) return &dir->file[i];
    return NULL;
}

/* The path of the model that a manifest names, relative to Data/. */
static int read_manifest(char path[256], const anm_dir_file *file, anm_error *err)
{
    if (file->size > MAX_MANIFEST) return anm_fail(err, ANM_ERR_FORMAT, "package: its manifest is too long to be one");
    json_t *m;
    int rc = anm_json_read(&m, file->data, file->size, JSON_REJECT_DUPLICATES, "package: its manifest is no JSON", err);
    if (rc) return rc;
    const char *root = json_string_value(json_object_get(m, "rootModelIdentifier"));
    json_t *entry = root ? json_object_get(json_object_get(m, "itemInfoEntries"), root) : NULL;
    const char *name = json_string_value(json_object_get(entry, "path"));
    if (!name || strlen(name) >= 256) rc = anm_fail(err, ANM_ERR_FORMAT, "package: its manifest names no model");
    else memcpy(path, name, strlen(name) + 1);
    json_decref(m);
    return rc;
}

int anm_package_read(anm_package *out, const anm_dir *dir, anm_error *err)
{
    static const char manifest_name[] = "Manifest.json", data_name[] = "Data/";
    const anm_dir_file *manifest = NULL;
    *out = (anm_package){0};
    anm_mil_program_init(&out->program);
    for (size_t i = 0; i < dir->count && !manifest; i++) {
        const char *slash = strrchr(dir->file[i].path, '/');
        if (slash && strcmp(slash + 1, manifest_name) == 0) manifest = &dir->file[i];
    }
    if (!manifest) return anm_fail(err, ANM_ERR_FORMAT, "package: no Manifest.json in it");
    size_t folder = strlen(manifest->path) - (sizeof manifest_name - 1);
    char tail[256 + sizeof data_name], path[256];
    int rc = read_manifest(path, manifest, err);
    if (rc) return rc;
    snprintf(tail, sizeof tail, "%s%s", data_name, path);
    const anm_dir_file *model = find(dir, manifest->path, folder, tail);
    if (!model) return anm_fail(err, ANM_ERR_FORMAT, "package: the model that its manifest names is missing");
    const char *slash = strrchr(model->path, '/');
    const anm_dir_file *weights = find(dir, model->path, (size_t)(slash - model->path) + 1, "weights/weight.bin");
    return anm_package_read_model(out, model->data, model->size, weights ? weights->data : NULL, weights ? weights->size : 0, err);
}

void anm_package_free(anm_package *p)
{
    anm_mil_program_free(&p->program);
    *p = (anm_package){0};
}
