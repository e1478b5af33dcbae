/* SPDX-License-Identifier: BSD-3-Clause */
/* GGUF: metadata and tensor table. Source of the format: ggml-org/ggml, docs/gguf.md (versions 2 and 3). */
#ifndef ANM_CKPT_GGUF_H
#define ANM_CKPT_GGUF_H

#include "base/error.h"
#include "ckpt/ckpt.h"

#include <stdbool.h>

/* Verifies `size` bytes and makes the table; `data` must outlive it. `file` names it in messages. */
int anm_gguf_parse(anm_gguf **out, const uint8_t *data, uint64_t size, const char *file, anm_error *err);
void anm_gguf_free(anm_gguf *g);

size_t anm_gguf_tensor_count(const anm_gguf *g);
const anm_tensor *anm_gguf_tensor(const anm_gguf *g, size_t i);

/* Metadata by key; false when it is not there or of another kind. Integers of any width, bools too, are read as int64;
 * floats of both widths as double. */
bool anm_gguf_int(const anm_gguf *g, const char *key, int64_t *out);
bool anm_gguf_float(const anm_gguf *g, const char *key, double *out);
bool anm_gguf_string(const anm_gguf *g, const char *key, const char **s, size_t *n); /* not 0-terminated */
/* What kind of value a key has ("u32", "string", ...); NULL when it is not there. Tells the two apart. */
const char *anm_gguf_kind(const anm_gguf *g, const char *key);
/* As anm_gguf_int, _float and _string, for keys that may be absent: *out stays as it was then. A value of another kind is
 * refused by its key, since one passed over would mean another model. */
int anm_gguf_read_int(int64_t *out, const anm_gguf *g, const char *key, anm_error *err);
int anm_gguf_read_float(double *out, const anm_gguf *g, const char *key, anm_error *err);
int anm_gguf_read_string(const char **s, size_t *n, const anm_gguf *g, const char *key, anm_error *err);
/* Where a key did not give what was wanted of it: 0 when it is not there, else a refusal that says what it must be. */
int anm_gguf_absent(const anm_gguf *g, const char *key, const char *want, anm_error *err);
/* Arrays: the length, then elements by index (constant time). */
bool anm_gguf_array(const anm_gguf *g, const char *key, size_t *n);
bool anm_gguf_array_string(const anm_gguf *g, const char *key, size_t i, const char **s, size_t *n);
bool anm_gguf_array_int(const anm_gguf *g, const char *key, size_t i, int64_t *out);
bool anm_gguf_array_float(const anm_gguf *g, const char *key, size_t i, double *out);

/* Every key in the file's order, for `inspect`. `text` gets a short printable form of the value. */
size_t anm_gguf_key_count(const anm_gguf *g);
void anm_gguf_key(const anm_gguf *g, size_t i, char *key, size_t key_room, char *text, size_t text_room);

#endif
