/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Computes once what is computed twice:
 *
 *   x -> op(x, 4.5) -> a        x -> op(x, 4.5) -> a
 *   x -> op(x, 4.5) -> b   =>   b is a
 *
 * where every argument is the same value, or an equal constant. Weights made from the same bytes of a checkpoint
 * (tensors that share their storage) are equal constants.
 *
 * requires: nothing
 * keeps:    the function's signature, every remaining value exactly
 * breaks:   nothing; an op that makes an output of the function stays
 */
#include "base/hash.h"
#include "pass/pass.h"
#include "quant/quant.h"

#include <stdlib.h>
#include <string.h>

#define uthash_fatal(msg) abort() /* never reached: the non-fatal form is asked for */
#define HASH_NONFATAL_OOM 1
#include <uthash.h>

typedef struct entry {
    uint64_t key;     /* a digest of the op; equal digests are compared in full */
    anm_mil_op *op;
    struct entry *same_key;
    UT_hash_handle hh;
} entry;

/* ---- equal constants ---- */

static bool same_bytes_of_tensor(const anm_tensor *a, const anm_tensor *b)
{
    return a->data == b->data && a->dtype == b->dtype && a->rank == b->rank &&
           !memcmp(a->shape, b->shape, (size_t)a->rank * sizeof *a->shape) &&
           !memcmp(a->stride, b->stride, (size_t)a->rank * sizeof *a->stride);
}

static bool same_weight(const anm_weight *a, const anm_weight *b)
{
    if (a == b) return true;
    const anm_matrix *m = a->matrix, *n = b->matrix;
    if (a->row != b->row || a->rows != b->rows || a->bits != b->bits || a->group != b->group ||
        a->halves != b->halves || a->type != b->type)
        return false;
    if (m->cols != n->cols || m->n_parts != n->n_parts || m->split_dim != n->split_dim || m->unpermute_heads != n->unpermute_heads)
        return false;
    if (m->made || n->made) return m->made == n->made;
    for (int i = 0; i < m->n_parts; i++)
        if (!same_bytes_of_tensor(m->part[i], n->part[i])) return false;
    return true;
}

static bool same_constant(const anm_mil_value *a, const anm_mil_value *b)
{
    const anm_blob *p = a->constant, *q = b->constant;
    if (!anm_mil_type_equal(&a->type, &b->type) || p->size != q->size) return false;
    if (p->data && q->data) return !memcmp(p->data, q->data, (size_t)p->size);
    return !p->data && !q->data && p->part == q->part && same_weight(p->source, q->source);
}

static bool same_value(const anm_mil_value *a, const anm_mil_value *b)
{
    return a == b || (a->constant && b->constant && same_constant(a, b));
}

/* ---- equal ops ---- */

static uint64_t mix(uint64_t h, uint64_t v)
{
    h = (h ^ v) * 0x9e3779b97f4a7c15u;
    return h ^ h >> 29;
}

/* What equal constants have in common, and others rarely: the weights of all layers have one size. */
static uint64_t digest_constant(const anm_blob *c)
{
    const anm_weight *w = c->source;
    uint64_t h = mix(c->size, c->part);
    if (c->data) return anm_hash(c->data, (size_t)c->size, h);
    if (!w) return h;
    h = mix(mix(h, (uint64_t)w->row), (uint64_t)w->rows);
    return mix(h, (uintptr_t)(w->matrix->made ? (const void *)w->matrix->made : w->matrix->part[0]->data));
}

static uint64_t digest(const anm_mil_op *op)
{
    uint64_t h = op->code;
    for (uint32_t a = 0; a < op->n_args; a++) {
        h = mix(mix(h, op->args[a].param), op->args[a].count);
        for (uint32_t i = 0; i < op->args[a].count; i++) {
            const anm_mil_value *v = op->args[a].value[i];
            h = mix(h, v->constant ? digest_constant(v->constant) : (uint64_t)v->id << 32);
        }
    }
    return h;
}

static bool same_op(const anm_mil_op *a, const anm_mil_op *b)
{
    if (a->code != b->code || a->n_args != b->n_args) return false;
    for (uint32_t i = 0; i < a->n_args; i++) {
        const anm_mil_arg *p = a->args + i, *q = b->args + i;
        if (p->param != q->param || p->count != q->count) return false;
        for (uint32_t k = 0; k < p->count; k++)
            if (!same_value(p->value[k], q->value[k])) return false;
    }
    return true;
}

static int keep(entry **seen, entry *e, entry *head, anm_error *err)
{
    if (head) {
        e->same_key = head->same_key;
        head->same_key = e;
        return 0;
    }
    size_t before = HASH_COUNT(*seen);
    HASH_ADD(hh, *seen, key, sizeof e->key, e);
    return HASH_COUNT(*seen) > before ? 0 : anm_fail_memory(err, "a pass");
}

int anm_pass_remove_repeated(anm_mil_function *fn, anm_error *err)
{
    size_t n = 0;
    for (const anm_mil_op *op = fn->first; op; op = op->next) n++;
    entry *entries = calloc(n + 1, sizeof *entries), *seen = NULL, *e = entries;
    anm_pass_values values = {0};
    int rc = entries ? anm_pass_values_open(&values, fn, err) : anm_fail_memory(err, "a pass");
    for (anm_mil_op *op = fn->first, *next; op && !rc; op = next) {
        next = op->next;
        anm_mil_replace_args(op, values.to);
        if (op->code == ANM_OP_FOREIGN || op->n_outs != 1) continue;
        entry *head, *s;
        uint64_t key = digest(op);
        HASH_FIND(hh, seen, &key, sizeof key, head);
        for (s = head; s && !same_op(s->op, op); s = s->same_key) continue;
        if (!s) {
            *e = (entry){.key = key, .op = op};
            rc = keep(&seen, e++, head, err);
        } else if (!values.is_output[op->outs[0]->id]) {
            values.to[op->outs[0]->id] = s->op->outs[0];
            anm_mil_remove(fn, op);
        }
    }
    HASH_CLEAR(hh, seen);
    free(entries);
    anm_pass_values_close(&values);
    return rc;
}
