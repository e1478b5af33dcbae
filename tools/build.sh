#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Configures a build folder, where that is needed, and builds all of it.
# usage: build.sh FOLDER [MESON-OPTION...]
set -eu
cd "$(dirname "$0")/.."
dir=$1
shift
mkdir -p "$dir"
if [ ! -f "$dir/build.ninja" ]; then
    meson setup "$dir" "$@" >"$dir/setup.txt" 2>&1 || { cat "$dir/setup.txt" >&2; exit 1; }
elif [ $# -gt 0 ]; then
    meson configure "$dir" "$@" >/dev/null
fi
# A passing build is quiet; a failing one shows everything.
ninja -C "$dir" >"$dir/build.txt" 2>&1 || { cat "$dir/build.txt" >&2; exit 1; }
