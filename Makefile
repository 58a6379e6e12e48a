# Every check and command of the repository. `make help` lists them.
#
# Variables: PYTHON (interpreter the environment is made with), VENV (where it is made),
#            TORCH (torch and torchvision, always a matched pair), WORKERS (test processes),
#            PYTEST_ARGS, BENCH_ARGS.

SHELL := bash
PYTHON ?= python3
VENV ?= .venv
# The pair that CI tests. Any pair from torch 2.11 on works: make test TORCH="torch torchvision".
TORCH ?= torch==2.14.1 torchvision==0.29.1
EXTRAS ?= bench,models,gpu,dev
WORKERS ?= 2
PYTEST_ARGS ?=
BENCH_ARGS ?= --quick --html report.html

# The pair of the GPU machines.
COMPAT_PYTHON ?= python3.12
COMPAT_TORCH ?= torch==2.11.* torchvision==0.26.*

BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
CODE := $(wildcard janus_lite nimble_lite benchmarks tests examples)

# One thread: figures and bits do not depend on the number of cores.
export OMP_NUM_THREADS ?= 1
export MKL_NUM_THREADS ?= 1
export PYTHONUTF8 := 1

.DEFAULT_GOAL := help
.PHONY: help install lint format types unit test nightly compat bench tiny clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(STAMP) ## make the environment and install everything into it

$(STAMP): pyproject.toml Makefile
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "make: '$(PYTHON)' is missing or older than Python 3.11; name another: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --progress-bar off --quiet $(TORCH) -e ".[$(EXTRAS)]"
	@touch $@

test: lint types unit ## everything that CI runs

lint: $(STAMP) ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(STAMP) ## ruff: format in place and apply safe fixes
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

types: $(STAMP) ## mypy, strict
	$(BIN)/mypy $(CODE)

unit: $(STAMP) ## all tests on this machine's devices
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(PYTEST_ARGS)

tiny: $(STAMP) ## the pre-commit tests, under 10 s
	$(BIN)/python -m pytest -m tiny

nightly: $(STAMP) ## the long runs: 2,000 random sequences of calls, 3,000 random programs, planted bugs
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m nightly $(PYTEST_ARGS)

compat: ## the same tests on Python 3.12 with torch 2.11
	@command -v $(COMPAT_PYTHON) >/dev/null && $(COMPAT_PYTHON) -c '' 2>/dev/null || \
	  { echo "make compat: no working '$(COMPAT_PYTHON)' here; install Python 3.12 or name it: make compat COMPAT_PYTHON=PATH" >&2; exit 1; }
	$(MAKE) unit PYTHON=$(COMPAT_PYTHON) VENV=.venv-compat TORCH="$(COMPAT_TORCH)"

bench: $(STAMP) ## the quick benchmarks: table here, report.html with plots
	$(BIN)/python -m benchmarks run $(BENCH_ARGS)

clean: ## remove the environments and all caches
	rm -rf .venv .venv-compat .mypy_cache .pytest_cache .ruff_cache .hypothesis build *.egg-info
