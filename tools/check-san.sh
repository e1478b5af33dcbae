#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Builds with AddressSanitizer and UndefinedBehaviorSanitizer, asserts on, and runs the tests. Any report fails.
set -eu
cd "$(dirname "$0")/.."
tools/build.sh build/san -Db_sanitize=address,undefined -Dbuildtype=debugoptimized -Db_ndebug=false -Db_lundef=false
# Memory that cannot be had is NULL, as without sanitizers: the readers are to answer, not the sanitizer.
export ASAN_OPTIONS=allocator_may_return_null=1:detect_leaks=1:strict_string_checks=1
export UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
tools/run-tests.sh build/san --timeout-multiplier 5
