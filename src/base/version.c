/* SPDX-License-Identifier: BSD-3-Clause */
#include "anemone.h"

const char *anm_version(void)
{
    return ANM_VERSION;
}
