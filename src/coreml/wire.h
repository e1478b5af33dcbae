/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Protobuf's wire format, as much as Core ML's files need: a bounded cursor over the fields of one message, and a
 * writer. Nested messages are byte ranges that the caller opens in turn, so depth is the caller's, and bounded there.
 * Format: protobuf.dev, "Encoding". Groups, which proto3 does not have, are refused.
 */
#ifndef ANM_COREML_WIRE_H
#define ANM_COREML_WIRE_H

#include "base/buf.h"
#include "base/bytes.h"

enum { ANM_PB_VARINT = 0, ANM_PB_FIXED64 = 1, ANM_PB_BYTES = 2, ANM_PB_FIXED32 = 5 };

/* A byte range: a string, a nested message, packed numbers. */
typedef struct anm_pb {
    const uint8_t *p, *end;
    bool bad; /* the range is malformed from p on */
} anm_pb;

typedef struct anm_pb_field {
    uint32_t number;
    int type;        /* ANM_PB_… */
    uint64_t value;  /* VARINT, FIXED32, FIXED64 */
    anm_pb bytes;    /* BYTES */
} anm_pb_field;

static inline anm_pb anm_pb_of(const void *data, size_t n)
{
    return (anm_pb){data, (const uint8_t *)data + n, false};
}
static inline size_t anm_pb_size(const anm_pb *m)
{
    return (size_t)(m->end - m->p);
}

/* The next varint; false at a malformed one (m->bad) and at the end. */
bool anm_pb_varint(anm_pb *m, uint64_t *v);
/* The next field; false at the end and at a malformed one (m->bad then). */
bool anm_pb_next(anm_pb *m, anm_pb_field *f);

/* ---- writing ---- */

void anm_pb_put_varint(anm_buf *b, uint64_t v);
void anm_pb_put_int(anm_buf *b, uint32_t field, uint64_t v); /* a varint field; written even when 0 */
void anm_pb_put_bytes(anm_buf *b, uint32_t field, const void *data, size_t n);
void anm_pb_put_string(anm_buf *b, uint32_t field, const char *s);

/* A nested message: everything put between open and close. Close moves the content where its length needs
 * more than one byte. */
size_t anm_pb_open(anm_buf *b, uint32_t field);
void anm_pb_close(anm_buf *b, size_t mark);

#endif
