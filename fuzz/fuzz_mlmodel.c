/* SPDX-License-Identifier: BSD-3-Clause */
/* A model specification and its weight file, without the directory around them, so that sizes may change freely. The
 * input: four bytes that say how long the specification is, the specification, the weights. */
#include "fuzz.h"

#include "base/bytes.h"
#include "coreml/coreml.h"

const bool fuzz_bounded = true;

void fuzz_one(const uint8_t *data, size_t size)
{
    anm_package package;
    anm_error err;
    if (size < 4) return;
    uint64_t model = anm_ld32(data);
    if (model > size - 4) model = size - 4;
    if (anm_package_read_model(&package, data + 4, model, data + 4 + model, size - 4 - model, &err) == 0)
        fuzz_read_program(&package.program);
    anm_package_free(&package);
}
