# What a developer of kvroute runs. Every target sees to what it needs: system packages, a virtual
# environment in .venv, builds in build/. A second run repeats only what changed.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

VENV := .venv
BIN := $(VENV)/bin
STAMPS := $(VENV)/.stamps
WHEEL_STAMP := wheelhouse/.stamp
JOBS ?= $(shell nproc)
ARGS ?=
PIP := timeout 1200 $(BIN)/python -m pip --quiet --disable-pip-version-check
export CMAKE_BUILD_PARALLEL_LEVEL := $(JOBS)
export PYTHONDONTWRITEBYTECODE := 1

# Everything that goes into the installed package. Folders count too, so that a file that is gone
# is noticed as well as one that changed.
SOURCES := CMakeLists.txt pyproject.toml \
  $(shell find cmake cpp python LICENSES -name __pycache__ -prune -o -print)

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: install ## build, start simulated engines and the frontend, replay a trace; ARGS="--keep"
	$(BIN)/kvroute demo $(ARGS)

.PHONY: test
test: test-cpp test-sanitizers test-python ## C++ tests, the same under sanitizers, Python tests

.PHONY: lint
lint: lint-cpp lint-python ## formatting and static analysis of C++ and Python

.PHONY: clean
clean: ## remove builds, wheels and the virtual environment
	rm -rf build dist wheelhouse $(VENV) .hypothesis .mypy_cache .pytest_cache .ruff_cache

# --- Environment ---------------------------------------------------------------------------------

.PHONY: system
system:
	@scripts/install_system_packages.sh

$(STAMPS)/venv: | system
	timeout 300 "$$(scripts/find_python.sh)" -m venv --clear $(VENV)
	$(PIP) install --upgrade 'pip>=25.1'
	mkdir -p $(STAMPS)
	touch $@

# One group of pyproject.toml's [dependency-groups].
$(STAMPS)/group-%: pyproject.toml $(STAMPS)/venv
	$(PIP) install --group $*
	touch $@

# The package as a user gets it, not editable: what runs is always what was built last, and a
# missing file shows. The build folder stays, so that only what changed is compiled again. PACKAGE
# may name a wheel instead, which saves compiling.
PACKAGE ?= .
.PHONY: install
install: $(STAMPS)/installed ## kvroute with its frontend, in .venv; PACKAGE=a wheel
$(STAMPS)/installed: $(SOURCES) $(STAMPS)/group-build | system
	@$(if $(filter %.whl,$(PACKAGE)),,echo "Building kvroute: the first time takes some minutes.")
	timeout 3600 $(BIN)/python -m pip --quiet --disable-pip-version-check install \
	  --no-build-isolation -Ccmake.define.KVROUTE_WARNINGS_AS_ERRORS=ON '$(PACKAGE)[serve]'
	@# A wheel of a version that is installed already would be passed over.
	$(if $(filter %.whl,$(PACKAGE)),$(PIP) install --force-reinstall --no-deps '$(PACKAGE)')
	touch $@

# --- Tests ---------------------------------------------------------------------------------------

.PHONY: test-cpp test-sanitizers test-python
test-cpp: system ## the C++ tests
	cmake --preset dev
	timeout 1500 cmake --build --preset dev
	timeout 900 ctest --preset dev --parallel $(JOBS) --timeout 300

# GCC 12's ThreadSanitizer cannot start where the kernel randomises addresses by many bits; a fixed
# layout helps where the system allows one.
FIXED_LAYOUT = $(shell setarch --addr-no-randomize true 2>/dev/null && echo setarch --addr-no-randomize)

test-sanitizers: test-asan-ubsan test-tsan ## the C++ tests under sanitizers
test-asan-ubsan test-tsan: test-%: system
	cmake --preset $*
	timeout 1500 cmake --build --preset $*
	timeout 900 $(FIXED_LAYOUT) ctest --preset $* --parallel $(JOBS) --timeout 300

# Many tests wait rather than compute: one process more than there are cores. A file's tests stay
# together, since they share what took long to start; files with few tests are not left for the end,
# for theirs are the longest.
PYTEST_JOBS ?= $(shell echo $$(($(JOBS) + 1)))
test-python: install $(STAMPS)/group-test ## the Python tests; ARGS="-k name" PYTEST_JOBS=3
	timeout 1200 $(BIN)/python -m pytest -n $(PYTEST_JOBS) --dist loadfile --no-loadscope-reorder \
	  $(ARGS)

# One Ray cluster for all of them, so one process. Ray goes beside the package in .venv: without it
# the other targets do the same as with it. The time of a test has the start of what it needs in it.
RAY_TESTS = -m pytest -p no:xdist -o timeout=300 tests/python/ray_serve --ray-cluster $(ARGS)
.PHONY: test-ray test-ray-compat
test-ray: $(STAMPS)/ray $(STAMPS)/group-test ## kvroute.ray_serve on a Ray cluster; ARGS="-k name"
	timeout --kill-after=30 900 $(BIN)/python $(RAY_TESTS)

$(STAMPS)/ray: $(STAMPS)/installed
	$(PIP) install 'kvroute[ray]'
	touch $@

# The minor versions of Ray before the current one, each in an environment of its own.
RAY_VERSIONS ?= 2.59 2.58
test-ray-compat: $(RAY_VERSIONS:%=test-ray-%) ## the same on RAY_VERSIONS; PACKAGE=a wheel
test-ray-%: build/ray-%/.stamp
	timeout --kill-after=30 900 build/ray-$*/bin/python $(RAY_TESTS)

RAY_WHEEL = $(or $(filter %.whl,$(PACKAGE)),wheelhouse/kvroute-*-$(shell $(BIN)/python -c \
  'import sys; print("cp%d%d" % sys.version_info[:2])')-*.whl)
.PRECIOUS: build/ray-%/.stamp
build/ray-%/.stamp: $(or $(filter %.whl,$(PACKAGE)),$(WHEEL_STAMP)) pyproject.toml | $(STAMPS)/venv
	timeout 300 $(BIN)/python -m venv --clear build/ray-$*
	timeout 300 build/ray-$*/bin/python -m pip --quiet install --upgrade 'pip>=25.1'
	wheel=$$(echo $(RAY_WHEEL)) && timeout 1200 build/ray-$*/bin/python -m pip --quiet \
	  --disable-pip-version-check install "$$wheel[ray]" 'ray[serve]==$*.*' --group test
	touch $@

.PHONY: soak fuzz
# Both print how many operations were compared with the reference model.
soak: export KVROUTE_SOAK_SECONDS ?= 600
soak: system ## the index against its model for a time; KVROUTE_SOAK_SECONDS=600 KVROUTE_FIRST_SEED=1
	cmake --preset dev
	timeout 1500 cmake --build --preset dev --target index_differential_test
	timeout $$((KVROUTE_SOAK_SECONDS + 300)) build/dev/tests/cpp/index/index_differential_test $(ARGS)

FUZZ_LIMIT ?= 86400
CLANGXX ?= $(shell command -v clang++ || compgen -c clang++- | sort -rV | head -n 1)
FUZZER ?= index_fuzz
fuzz: system ## FUZZER (index_fuzz, snapshot_fuzz) by libFuzzer (needs clang); ARGS="-max_total_time=60"
	@if [ -z "$(CLANGXX)" ]; then echo "make fuzz needs clang: install it (Debian: apt-get install clang)"; exit 1; fi
	cmake -S . -B build/fuzz -G Ninja -DCMAKE_CXX_COMPILER=$(CLANGXX) -DCMAKE_BUILD_TYPE=RelWithDebInfo \
	  -DKVROUTE_BUILD_FUZZERS=ON "-DKVROUTE_SANITIZERS=address;undefined"
	timeout 1500 cmake --build build/fuzz --target $(FUZZER)
	mkdir -p build/fuzz/corpus-$(FUZZER)
	for i in {1..64}; do head -c 1000 /dev/urandom >"build/fuzz/corpus-$(FUZZER)/random-$$i"; done
	cd build/fuzz && timeout $(FUZZ_LIMIT) tests/fuzz/$(FUZZER) -max_total_time=60 -max_len=8192 \
	  -len_control=0 -print_final_stats=1 $(ARGS) corpus-$(FUZZER)

# --- Lint ----------------------------------------------------------------------------------------

CPP_FILES = $(shell find cpp tests/cpp tests/fuzz benchmarks/cpp -name '*.h' -o -name '*.cc')

.PHONY: lint-cpp lint-python format
lint-cpp: $(STAMPS)/group-lint $(STAMPS)/group-build | system ## clang-format, clang-tidy
	$(BIN)/clang-format --dry-run -Werror $(CPP_FILES)
	cmake --preset tidy -DPython_EXECUTABLE="$$PWD/$(BIN)/python" \
	  -Dpybind11_DIR="$$($(BIN)/python -m pybind11 --cmakedir)"
	find cpp/src cpp/bindings -name '*.cc' | sort | timeout 1200 \
	  xargs -n 1 -P $(JOBS) $(BIN)/clang-tidy -p build/tidy --quiet

lint-python: install $(STAMPS)/group-lint $(STAMPS)/group-test ## ruff, mypy
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	timeout 600 $(BIN)/mypy

format: $(STAMPS)/group-lint ## rewrite all files in the project's format
	$(BIN)/clang-format -i $(CPP_FILES)
	$(BIN)/ruff check --fix --exit-zero
	$(BIN)/ruff format

# --- Benchmarks ----------------------------------------------------------------------------------

.PHONY: bench
bench: install $(STAMPS)/group-test ## benchmarks in C++ and from Python
	cmake --preset release
	timeout 1500 cmake --build --preset release
	for program in build/release/benchmarks/cpp/*_bench; do \
	  echo "== $${program##*/}"; timeout 600 "$$program"; done
	for program in benchmarks/python/bench_*.py; do \
	  echo "== $${program##*/}"; timeout 600 $(BIN)/python "$$program"; done

# Figures of other projects' indexes need cargo, which is not installed here: without it kvroute is
# measured alone.
.PHONY: bench-peers
bench-peers: install ## the prefix index beside Dynamo's and SMG's, one table; ARGS="--quick"
	timeout 5400 $(BIN)/python benchmarks/bench_peers.py $(ARGS)

# --- Wheels --------------------------------------------------------------------------------------

.PHONY: wheel wheel-test
wheel: $(STAMPS)/group-wheel | system ## a self-contained wheel for every CPython found, and an sdist
	scripts/build_wheels.sh --all $(BIN)/python
	touch $(WHEEL_STAMP)

# For the virtual environment's Python alone, unless `make wheel` has built it from these sources.
$(WHEEL_STAMP): $(SOURCES) $(STAMPS)/group-wheel scripts/build_wheels.sh scripts/fetch_source.sh | system
	scripts/build_wheels.sh $(BIN)/python
	touch $@

wheel-test: $(WHEEL_STAMP) $(STAMPS)/group-test ## the wheel, in a clean environment of its own
	timeout 600 $(BIN)/python -m pytest tests/wheel $(ARGS)
