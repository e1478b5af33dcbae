/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Writes a Core ML package as a directory blob. The weight file stands first, so that its blobs are aligned in the
 * program wherever the blob's segment is; then the model, the manifest, and metadata.json for ExecuTorch's backend.
 * Contents as coremltools 9 (spec version 9, iOS 18) and executorch 1.5 (backends/apple/coreml/compiler) write them.
 */
#include "base/json.h"
#include "coreml/dir.h"
#include "coreml/fields.h"
#include "coreml/mil_pb.h"

#include <inttypes.h>
#include <stdlib.h>

enum { SPEC_VERSION = 9, UUID_TEXT = 36 };

/* ---- the specification ---- */

/* One input or output. A scalar input is described as one element; an output of unknown shape without a shape. */
static int put_feature(anm_buf *b, uint32_t field, const anm_mil_value *v, bool input, anm_error *err)
{
    uint32_t dtype = anm_coreml_array_dtype(v->type.dtype);
    if (!dtype) return anm_fail(err, ANM_ERR_UNSUPPORTED, "package: '%.100s' is of type %s, which no input or output can have", v->name, anm_dtype_name(v->type.dtype));
    bool known = anm_mil_type_known(&v->type);
    if (input && !known) return anm_fail(err, ANM_ERR_UNSUPPORTED, "package: input '%.100s' has an unknown dimension", v->name);
    size_t feature = anm_pb_open(b, field);
    anm_pb_put_string(b, FEATURE_NAME, v->name);
    size_t type = anm_pb_open(b, FEATURE_TYPE), array = anm_pb_open(b, FEATURE_TYPE_ARRAY);
    if (input && !v->type.rank) anm_pb_put_int(b, ARRAY_SHAPE, 1);
    for (int i = 0; known && i < v->type.rank; i++) anm_pb_put_int(b, ARRAY_SHAPE, (uint64_t)v->type.dim[i]);
    anm_pb_put_int(b, ARRAY_DTYPE, dtype);
    anm_pb_close(b, array);
    anm_pb_close(b, type);
    anm_pb_close(b, feature);
    return 0;
}

static int put_features(anm_buf *b, const anm_mil_function *fn, uint32_t input, uint32_t output, anm_error *err)
{
    int rc = 0;
    for (uint32_t i = 0; i < fn->n_inputs && !rc; i++) rc = put_feature(b, input, fn->inputs[i], true, err);
    for (uint32_t i = 0; i < fn->n_outputs && !rc; i++) rc = put_feature(b, output, fn->outputs[i], false, err);
    return rc;
}

static int put_description(anm_buf *b, const anm_mil_program *p, const anm_package_spec *spec, anm_error *err)
{
    int rc = 0;
    size_t description = anm_pb_open(b, MODEL_DESCRIPTION);
    if (!spec->multifunction) rc = put_features(b, p->functions, DESCRIPTION_INPUT, DESCRIPTION_OUTPUT, err);
    for (const anm_mil_function *fn = p->functions; fn && spec->multifunction && !rc; fn = fn->next) {
        size_t function = anm_pb_open(b, DESCRIPTION_FUNCTION);
        anm_pb_put_string(b, FUNCTION_DESCRIPTION_NAME, fn->name);
        rc = put_features(b, fn, FUNCTION_DESCRIPTION_INPUT, FUNCTION_DESCRIPTION_OUTPUT, err);
        anm_pb_close(b, function);
    }
    if (spec->multifunction) anm_pb_put_string(b, DESCRIPTION_DEFAULT, spec->default_function);
    size_t metadata = anm_pb_open(b, DESCRIPTION_METADATA), user = anm_pb_open(b, METADATA_USER);
    anm_pb_put_string(b, MAP_KEY, "anemone.version");
    anm_pb_put_string(b, MAP_VALUE, anm_version());
    anm_pb_close(b, user);
    anm_pb_close(b, metadata);
    anm_pb_close(b, description);
    return rc;
}

static int put_model(anm_buf *b, const anm_mil_program *p, const anm_package_spec *spec, anm_weights *w, anm_error *err)
{
    anm_pb_put_int(b, MODEL_VERSION, SPEC_VERSION);
    int rc = put_description(b, p, spec, err);
    if (rc) return rc;
    size_t program = anm_pb_open(b, MODEL_PROGRAM);
    if ((rc = anm_mil_pb_write(b, p, w, err))) return rc;
    anm_pb_close(b, program);
    if (b->bad) return anm_fail_memory(err, "a model");
    return b->size > INT32_MAX ? anm_fail(err, ANM_ERR_LIMIT, "package: its graph is larger than a protobuf can be") : 0;
}

/* ---- the texts beside it ---- */

/* A stand-in of the right length, different for every number, a valid UUID by itself. */
static void uuid_text(char out[UUID_TEXT + 1], uint32_t which)
{
    snprintf(out, UUID_TEXT + 1, "00000000-0000-4000-8000-0000%08" PRIx32, which);
}

static void put_manifest(anm_buf *b, uint32_t first)
{
    char model[UUID_TEXT + 1], weights[UUID_TEXT + 1];
    uuid_text(model, first + ANM_UUID_MODEL);
    uuid_text(weights, first + ANM_UUID_WEIGHTS);
    static const char item[] = "        \"%s\": {\n"
                               "            \"author\": \"com.apple.CoreML\",\n"
                               "            \"description\": \"CoreML Model %s\",\n"
                               "            \"name\": \"%s\",\n"
                               "            \"path\": \"com.apple.CoreML/%s\"\n"
                               "        }%s\n";
    anm_buf_puts(b, "{\n    \"fileFormatVersion\": \"1.0.0\",\n    \"itemInfoEntries\": {\n");
    anm_buf_printf(b, item, model, "Specification", "model.mlmodel", "model.mlmodel", ",");
    anm_buf_printf(b, item, weights, "Weights", "weights", "weights", "");
    anm_buf_printf(b, "    },\n    \"rootModelIdentifier\": \"%s\"\n}\n", model);
}

static json_t *names_of(uint32_t n, anm_mil_value *const *values)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < n; i++)
        if (json_array_append_new(list, json_string(values[i]->name))) return json_decref(list), NULL;
    return list;
}

static int put_names(json_t *to, const anm_mil_function *fn)
{
    int rc = json_object_set_new(to, "inputNames", names_of(fn->n_inputs, fn->inputs));
    return rc ? rc : json_object_set_new(to, "outputNames", names_of(fn->n_outputs, fn->outputs));
}

/* metadata.json, from which the backend learns the order of inputs and outputs. */
static int put_metadata(anm_buf *b, const anm_mil_program *p, bool multifunction, uint32_t first, anm_error *err)
{
    char identifier[sizeof "executorch_" + UUID_TEXT] = "executorch_";
    uuid_text(identifier + strlen(identifier), first + ANM_UUID_IDENTIFIER);
    json_t *root = json_object(), *methods = NULL;
    int rc = root ? 0 : -1;
    if (multifunction) {
        if (!rc) rc = json_object_set_new(root, "identifier", json_string(identifier));
        if (!rc) rc = json_object_set_new(root, "methods", methods = json_object());
        for (const anm_mil_function *fn = p->functions; fn && !rc; fn = fn->next) {
            json_t *method = json_object();
            rc = json_object_set_new(methods, fn->name, method);
            if (!rc) rc = put_names(method, fn);
        }
    } else {
        if (!rc) rc = put_names(root, p->functions);
        if (!rc) rc = json_object_set_new(root, "identifier", json_string(identifier));
    }
    char *text;
    rc = rc ? anm_fail_memory(err, "a package's metadata (or a name in it is no UTF-8)") : anm_json_write(&text, root, JSON_ENSURE_ASCII, err);
    json_decref(root);
    if (rc) return rc;
    anm_buf_puts(b, text);
    free(text);
    return 0;
}

/* ---- the whole ---- */

static int add_slot(anm_uuid_slots *s, anm_arena *arena, uint64_t offset, uint32_t which, anm_error *err)
{
    if (s->count == s->room) {
        size_t room = s->room ? 2 * s->room : 16;
        anm_uuid_slot *grown = anm_arena_array(arena, room, sizeof *grown);
        if (!grown) return anm_fail_memory(err, "a package");
        if (s->count) memcpy(grown, s->slot, s->count * sizeof *grown);
        s->slot = grown;
        s->room = room;
    }
    s->slot[s->count++] = (anm_uuid_slot){offset, which};
    return 0;
}

/* Moves the buffer's text to the layout and notes where the UUIDs of this package stand in it. */
static int put_text(anm_layout *out, anm_uuid_slots *slots, anm_dir_region *region, uint64_t start, anm_buf *b,
                    uint32_t first, anm_arena *arena, anm_error *err)
{
    char uuid[UUID_TEXT + 1];
    uint64_t at = out->size;
    char *text = b->bad ? NULL : anm_arena_strndup(arena, (const char *)b->data, b->size);
    *region = (anm_dir_region){at - start, b->size};
    b->size = 0;
    if (!text) return anm_fail_memory(err, "a package");
    anm_layout_bytes(out, text, region->size);
    for (uint32_t which = first; slots && which < first + ANM_UUID_COUNT; which++) {
        uuid_text(uuid, which);
        for (const char *p = text; (p = strstr(p, uuid)); p += UUID_TEXT) {
            int rc = add_slot(slots, arena, at + (uint64_t)(p - text), which, err);
            if (rc) return rc;
        }
    }
    return 0;
}

int anm_package_write(anm_layout *out, anm_uuid_slots *uuids, const anm_mil_program *program,
                      const anm_package_spec *spec, anm_arena *arena, anm_error *err)
{
    anm_buf b = {0};
    anm_weights *w = NULL;
    anm_dir_region weights = {0}, model, manifest, metadata;
    uint64_t start = out->size;
    uint32_t first = 0;
    if (!program->functions || (!spec->multifunction && program->functions->next))
        return anm_fail(err, ANM_ERR_USAGE, "package: one function, or several that are described one by one");
    for (size_t i = 0; i < uuids->count; i++)
        if (uuids->slot[i].which >= first) first = uuids->slot[i].which + 1;
    int rc = anm_weights_new(&w, arena, err);
    if (!rc) rc = put_model(&b, program, spec, w, err);
    if (!rc) rc = anm_weights_finish(out, w, err);
    weights.size = out->size - start;
    if (!rc) rc = put_text(out, NULL, &model, start, &b, first, arena, err);
    if (!rc) put_manifest(&b, first);
    if (!rc) rc = put_text(out, uuids, &manifest, start, &b, first, arena, err);
    if (!rc) rc = put_metadata(&b, program, spec->multifunction, first, err);
    if (!rc) rc = put_text(out, uuids, &metadata, start, &b, first, arena, err);
    if (!rc) rc = anm_dir_write_listing(out, spec->folder, &weights, &model, &manifest, &metadata, arena, err);
    if (!rc && out->bad) rc = anm_fail_memory(err, "a package");
    anm_weights_free(w);
    anm_buf_free(&b);
    return rc;
}
