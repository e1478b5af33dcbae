/* SPDX-License-Identifier: BSD-3-Clause */
/* cmocka with what it wants included before it. */
#ifndef ANM_TEST_H
#define ANM_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#endif
