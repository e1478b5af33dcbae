#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Builds with ThreadSanitizer and runs the tests in which threads work together. Any report fails.
set -eu
cd "$(dirname "$0")/.."
tools/build.sh build/tsan -Db_sanitize=thread -Dbuildtype=debugoptimized -Db_lundef=false
export TSAN_OPTIONS=halt_on_error=1:second_deadlock_stack=1
tools/run-tests.sh build/tsan --timeout-multiplier 10 base threads session engine generate quant calibrate cli_road cli_run
