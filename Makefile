# SPDX-License-Identifier: BSD-3-Clause
# A short front for Meson and Ninja. `make` alone lists what can be done.
.DEFAULT_GOAL := help
.PHONY: help build demo check check-san check-tsan analyze soak fuzz-coverage faults check-arm64 check-macos bench bench-export bench-lookahead bench-accuracy bench-quality bench-run bench-token fuzz format install clean

SECONDS_PER_TARGET ?= $(or $(TIME),60)
MINUTES ?= 60
PREFIX ?= /usr/local

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' Makefile

build: ## build the program: build/anemone
	@tools/build.sh build && ls build/anemone

demo: ## build, export SmolLM2-135M, and let it answer (./demo)
	@./demo

check: ## build with warnings as errors, run every test (./check)
	@./check

check-san: ## the tests under AddressSanitizer and UndefinedBehaviorSanitizer
	@tools/check-san.sh

check-tsan: ## the tests in which threads work together, under ThreadSanitizer
	@tools/check-tsan.sh

faults: build ## every command against each failing allocation and system call, and 200 exports struck by each of six signals (half an hour)
	@build/test/fault/faults build/anemone build/test/fault/failing_malloc.so . every

check-arm64: ## build for 64-bit Arm, run every test under qemu, the kernels' on three kinds of processor
	@tools/check-arm64.sh

analyze: ## gcc's analyzer and clang-tidy over every source built here (six minutes); ONLY=src/ckpt for a part
	@tools/analyze.sh $(ONLY)

soak: build ## generate for MINUTES=60 with a sliding context: does memory stay, and speed? MODEL=FILE.pte for another model, THREADS=N (all processors)
	@[ -n "$(MODEL)" ] || [ -f build/soak.pte ] || build/anemone export -q -c models/tiny/tiny.gguf -o build/soak.pte --linear_quantize b4w
	@ninja -C build tools/soak >/dev/null
	@build/tools/soak $(or $(MODEL),build/soak.pte) $(MINUTES) $(THREADS)

check-macos: ## compile every source for macOS on Apple silicon (compile only)
	@tools/check-macos.sh

fuzz-coverage: ## lines of each reader that its fuzz target's inputs reach
	@tools/fuzz-coverage.sh

fuzz: ## fuzz every reader with clang's libFuzzer, SECONDS_PER_TARGET=60; ONLY=zip for one
	@tools/fuzz.sh $(SECONDS_PER_TARGET) $(ONLY)

bench: bench-export ## what can be measured without other programs

bench-export: build ## exports timed beside a plain copy: SmolLM2 if ./demo fetched it, and a random 1B checkpoint (2.5 GB)
	@mkdir -p build/bench
	@set --; f=build/models/SmolLM2-135M-Instruct.Q4_1.gguf; [ ! -f $$f ] || set -- --checkpoint $$f; \
	python3 tools/bench_export.py build/anemone --dir build/bench "$$@"

bench-lookahead: build ## lookahead beside plain decoding on ten prompts; MODEL=FILE.pte with all logits, TOKENIZER=FILE
	@ninja -C build tools/bench_lookahead >/dev/null
	@build/tools/bench_lookahead $(or $(MODEL),$(error MODEL=FILE.pte is missing)) $(or $(TOKENIZER),$(error TOKENIZER=FILE is missing)) tools/lookahead_prompts.txt

bench-accuracy: build ## what rounding activations costs on a text; MODEL=FILE.pte, TOKENIZER=FILE, TEXT=FILE
	@python3 tools/bench_accuracy.py build/anemone $(or $(MODEL),$(error MODEL=FILE.pte is missing)) $(or $(TOKENIZER),$(error TOKENIZER=FILE is missing)) $(or $(TEXT),$(error TEXT=FILE is missing))

bench-quality: build ## the tables of docs/quality.md: SmolLM2 rounded and calibrated, on three texts (an hour); WINDOWS=32, EFFORT=high
	@python3 tools/bench_quality.py build/anemone $$(tools/fetch-smollm2.sh) --dir build/bench --windows $(or $(WINDOWS),32) --options '$(if $(EFFORT),--calibrate_effort $(EFFORT))'

bench-run: build ## files run beside llama.cpp, which it builds first (many minutes, once): SmolLM2 if ./demo fetched it, a random 1B model
	@mkdir -p build/bench
	python3 tools/bench_run.py build/anemone --dir build/bench

bench-token: build ## encoding beside the originals; TOKENIZERS=DIR as `tools/token_oracle.py real DIR` left it
	@python3 tools/bench_token.py build/anemone $(TOKENIZERS)

format: ## clang-format all sources in place
	@git ls-files '*.c' '*.h' | xargs clang-format -i

install: build ## install under PREFIX=/usr/local (DESTDIR is heeded)
	@meson configure build --prefix "$(PREFIX)" && meson install -C build

clean: ## remove what was built; what was fetched stays
	@for d in build build/*/; do [ ! -f "$$d/build.ninja" ] || ninja -C "$$d" -t clean >/dev/null; done
