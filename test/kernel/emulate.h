/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The instructions of AVX-VNNI and AMX-INT8 on processors that lack them: the processor refuses them, and a signal
 * handler carries out what the manual says (Intel's Software Developer's Manual, volume 2: VPDPBUSD, and chapter 3.3 on
 * the tiles). So the very code that other processors will run is tested here. Linux on x86-64 alone.
 */
#ifndef ANM_TEST_EMULATE_H
#define ANM_TEST_EMULATE_H

#include "base/cpu.h"

#include <stdbool.h>

/* From here on the rung can run; false where it cannot be emulated. One thread. */
bool emulate_begin(anm_isa isa);
/* Ends it, and returns how many instructions were carried out. */
unsigned long emulate_end(void);

#endif
