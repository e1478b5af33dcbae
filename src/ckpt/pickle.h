/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The part of Python's pickle that torch.save needs for tensors, read as data: nothing is ever imported or
 * called. A global that is not on the list of pickle.c is refused by its name, and so is a known one with
 * other arguments than tensors need. Source of the opcodes: CPython's Lib/pickletools.py; of the globals:
 * torch/_utils.py and torch/_weights_only_unpickler.py.
 */
#ifndef ANM_CKPT_PICKLE_H
#define ANM_CKPT_PICKLE_H

#include "base/arena.h"
#include "base/dtype.h"
#include "base/error.h"

#include <stdbool.h>

typedef enum anm_pickle_kind {
    ANM_PICKLE_NONE,
    ANM_PICKLE_BOOL,
    ANM_PICKLE_INT,
    ANM_PICKLE_FLOAT,
    ANM_PICKLE_STRING,
    ANM_PICKLE_TUPLE, /* items */
    ANM_PICKLE_LIST,  /* items */
    ANM_PICKLE_DICT,  /* items: key, value, key, value, … */
    ANM_PICKLE_GLOBAL,
    ANM_PICKLE_STORAGE,
    ANM_PICKLE_TENSOR,
} anm_pickle_kind;

typedef struct anm_pickle anm_pickle;

/* Values may be shared and, through lists, contain themselves: walk them to a fixed depth only. */
struct anm_pickle {
    anm_pickle_kind kind;
    union {
        int64_t i; /* INT, BOOL */
        double f;
        struct {
            const char *at; /* not 0-terminated */
            size_t n;
        } s;
        struct {
            anm_pickle **at;
            size_t n, room;
        } items;
        const struct anm_pickle_global *global;
        struct {
            const anm_pickle *key; /* STRING: the entry data/KEY of the archive */
            anm_dtype dtype;       /* ANM_DT_NONE: bytes without a type */
            uint64_t n;            /* elements */
        } storage;
        struct {
            anm_pickle **args; /* STORAGE, INT: its first element there, size and stride: TUPLEs of INT, of
                                  one length */
            anm_dtype dtype;
            bool changed; /* its values are not those of its bytes: torch negates or conjugates them when they are read */
        } tensor;
    };
};

/* Reads one pickle that fills `data`. The values lie in `arena`, their strings in `data`. */
int anm_pickle_parse(anm_pickle **out, anm_arena *arena, const uint8_t *data, uint64_t size, anm_error *err);

/* The value under a string key of a DICT, or NULL. */
const anm_pickle *anm_pickle_get(const anm_pickle *dict, const char *key);

#endif
