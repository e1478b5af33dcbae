/* SPDX-License-Identifier: BSD-3-Clause */
#include "fuzz.h"

#include "ckpt/pickle.h"

enum { DEPTH = 6, WIDTH = 64 }; /* values may contain themselves */

static void walk(const anm_pickle *p, int depth)
{
    if (!p || depth > DEPTH) return;
    switch (p->kind) {
    case ANM_PICKLE_STRING: fuzz_read(p->s.at, p->s.n); break;
    case ANM_PICKLE_TUPLE:
    case ANM_PICKLE_LIST:
    case ANM_PICKLE_DICT:
        for (size_t i = 0; i < p->items.n && i < WIDTH; i++) walk(p->items.at[i], depth + 1);
        break;
    case ANM_PICKLE_STORAGE: walk(p->storage.key, depth + 1); break;
    case ANM_PICKLE_TENSOR:
        for (int i = 0; i < 4; i++) walk(p->tensor.args[i], depth + 1);
        break;
    default: break;
    }
}

const bool fuzz_bounded = true;

void fuzz_one(const uint8_t *data, size_t size)
{
    anm_arena arena;
    anm_pickle *root;
    anm_error err;
    anm_arena_init(&arena);
    if (anm_pickle_parse(&root, &arena, data, size, &err) == 0) {
        walk(root, 0);
        if (root->kind == ANM_PICKLE_DICT) anm_pickle_get(root, "model");
    }
    anm_arena_free(&arena);
}
