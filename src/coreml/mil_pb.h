/* SPDX-License-Identifier: BSD-3-Clause */
/* Within the room: MIL programs as protobuf, and the weight file beside them. */
#ifndef ANM_COREML_MIL_PB_H
#define ANM_COREML_MIL_PB_H

#include "coreml/coreml.h"
#include "coreml/wire.h"

/* Fills `p` (initialised) from a Program message; constants point into the message and into `weights`. */
int anm_mil_pb_read(anm_mil_program *p, anm_pb program, const uint8_t *weights, uint64_t weights_size, anm_error *err);

/* The value at `offset` of a weight file: checks its metadata against the type that the graph declares. */
int anm_weights_find(anm_blob *out, const uint8_t *weights, uint64_t size, uint64_t offset, const anm_mil_type *type,
                     anm_error *err);

/* A weight file being laid out: every distinct constant once. */
typedef struct anm_weights anm_weights;
int anm_weights_new(anm_weights **out, anm_arena *arena, anm_error *err);
void anm_weights_free(anm_weights *w);
/* The offset by which the graph refers to this constant. */
int anm_weights_add(uint64_t *offset, anm_weights *w, const anm_mil_type *type, const anm_blob *blob, anm_error *err);
/* The finished file. Call once, after the last add. */
int anm_weights_finish(anm_layout *out, anm_weights *w, anm_error *err);

/* Appends the Program message; constants that belong into the weight file are added to `w`. */
int anm_mil_pb_write(anm_buf *out, const anm_mil_program *p, anm_weights *w, anm_error *err);
/* Appends a ValueType message's content. */
void anm_mil_pb_write_type(anm_buf *out, const anm_mil_type *type);

#endif
