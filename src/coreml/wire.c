/* SPDX-License-Identifier: BSD-3-Clause */
/* Protobuf's wire format. */
#include "coreml/wire.h"

#include <string.h>

bool anm_pb_varint(anm_pb *m, uint64_t *v)
{
    uint64_t out = 0;
    if (m->bad || m->p == m->end) return false;
    for (unsigned shift = 0; shift < 64 && m->p < m->end; shift += 7) {
        uint8_t byte = *m->p++;
        if (shift == 63 && byte > 1) break; /* more than 64 bits */
        out |= (uint64_t)(byte & 0x7f) << shift;
        if (!(byte & 0x80)) {
            *v = out;
            return true;
        }
    }
    m->bad = true;
    return false;
}

bool anm_pb_next(anm_pb *m, anm_pb_field *f)
{
    uint64_t key, n;
    if (!anm_pb_varint(m, &key)) return false;
    *f = (anm_pb_field){.number = (uint32_t)(key >> 3), .type = (int)(key & 7)};
    if (!f->number || key >> 3 > 0x1fffffff) goto bad;
    switch (f->type) {
    case ANM_PB_VARINT:
        if (!anm_pb_varint(m, &f->value)) goto bad;
        return true;
    case ANM_PB_FIXED64:
        if (anm_pb_size(m) < 8) goto bad;
        f->value = anm_ld64(m->p);
        m->p += 8;
        return true;
    case ANM_PB_FIXED32:
        if (anm_pb_size(m) < 4) goto bad;
        f->value = anm_ld32(m->p);
        m->p += 4;
        return true;
    case ANM_PB_BYTES:
        if (!anm_pb_varint(m, &n) || n > anm_pb_size(m)) goto bad;
        f->bytes = anm_pb_of(m->p, (size_t)n);
        m->p += n;
        return true;
    default: break;
    }
bad:
    m->bad = true;
    return false;
}

static size_t varint_of(uint8_t out[10], uint64_t v)
{
    size_t n = 0;
    for (; v >= 0x80; v >>= 7) out[n++] = (uint8_t)(v | 0x80);
    out[n++] = (uint8_t)v;
    return n;
}

void anm_pb_put_varint(anm_buf *b, uint64_t v)
{
    uint8_t bytes[10];
    anm_buf_put(b, bytes, varint_of(bytes, v));
}

void anm_pb_put_int(anm_buf *b, uint32_t field, uint64_t v)
{
    anm_pb_put_varint(b, (uint64_t)field << 3 | ANM_PB_VARINT);
    anm_pb_put_varint(b, v);
}

void anm_pb_put_bytes(anm_buf *b, uint32_t field, const void *data, size_t n)
{
    anm_pb_put_varint(b, (uint64_t)field << 3 | ANM_PB_BYTES);
    anm_pb_put_varint(b, n);
    anm_buf_put(b, data, n);
}

void anm_pb_put_string(anm_buf *b, uint32_t field, const char *s)
{
    anm_pb_put_bytes(b, field, s, strlen(s));
}

/* One byte is left for the length, which is enough for most messages; longer ones are moved when they are closed. */
size_t anm_pb_open(anm_buf *b, uint32_t field)
{
    anm_pb_put_varint(b, (uint64_t)field << 3 | ANM_PB_BYTES);
    anm_buf_u8(b, 0);
    return b->size;
}

void anm_pb_close(anm_buf *b, size_t mark)
{
    if (b->bad) return;
    uint8_t length[10];
    size_t n = b->size - mark, w = varint_of(length, n);
    if (w > 1) {
        if (!anm_buf_grow(b, w - 1)) return;
        memmove(b->data + mark + w - 1, b->data + mark, n);
    }
    memcpy(b->data + mark - 1, length, w);
}
