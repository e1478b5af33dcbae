/* SPDX-License-Identifier: BSD-3-Clause */
#include "fuzz.h"

#include "pte/pte.h"

#include <stdlib.h>

static void read_values(const anm_pte_method *m)
{
    for (size_t i = 0; i < m->n_values; i++) {
        const anm_pte_value *v = &m->values[i];
        if (v->kind == ANM_PTE_STRING || v->kind == ANM_PTE_OTHER) fuzz_read_string(v->s);
        if (v->kind != ANM_PTE_TENSOR) continue;
        if (v->rank < 0 || v->rank > 8) abort();
        if (v->data) fuzz_read(v->data, v->data_size);
    }
}

/* What the header promises of a file that was accepted: every index in range, every byte inside. */
static void read_method(const anm_pte_method *m)
{
    fuzz_read_string(m->name);
    fuzz_read_string(m->in_spec);
    fuzz_read_string(m->out_spec);
    read_values(m);
    for (size_t i = 0; i < m->n_inputs; i++)
        if (m->inputs[i] >= m->n_values) abort();
    for (size_t i = 0; i < m->n_outputs; i++)
        if (m->outputs[i] >= m->n_values) abort();
    for (size_t i = 0; i < m->n_delegates; i++) {
        const anm_pte_delegate *d = &m->delegates[i];
        fuzz_read_string(d->id);
        fuzz_read(d->data, d->size);
        for (size_t k = 0; k < d->n_specs; k++) {
            fuzz_read_string(d->specs[k].key);
            fuzz_read(d->specs[k].value, d->specs[k].size);
        }
    }
    for (size_t i = 0; i < m->n_calls; i++) {
        const anm_pte_call *c = &m->calls[i];
        if (c->other) {
            fuzz_read_string(c->other);
            continue;
        }
        if (c->delegate >= m->n_delegates) abort();
        for (size_t k = 0; k < c->n_args; k++)
            if (c->args[k] >= m->n_values) abort();
    }
}

const bool fuzz_bounded = true;

void fuzz_one(const uint8_t *data, size_t size)
{
    anm_pte p;
    anm_error err;
    if (anm_pte_read(&p, data, size, &err) == 0) {
        for (size_t i = 0; i < p.n_methods; i++) read_method(&p.methods[i]);
        for (size_t i = 0; i < p.n_named; i++) {
            fuzz_read_string(p.named[i].key);
            fuzz_read(p.named[i].data, p.named[i].size);
        }
    }
    anm_pte_free(&p);
}
