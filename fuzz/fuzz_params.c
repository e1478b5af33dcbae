/* SPDX-License-Identifier: BSD-3-Clause */
#include "fuzz.h"

#include "model/model.h"

const bool fuzz_bounded = true;

void fuzz_one(const uint8_t *data, size_t size)
{
    anm_params p;
    anm_error err;
    anm_params_parse(&p, (const char *)data, size, &err);
}
