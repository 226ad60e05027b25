# make demo    three PostgreSQL nodes on this machine, faults, and tables of what they and each strategy cost
# make test    everything that must pass before a change goes in (installs what it needs; at most 15 minutes)
# make check   the quick part of it: format, lint, types, import contracts, pure tests (under a minute)
# make kube-apiserver   the Kubernetes API server that its tests need: built once, in some five minutes, and kept
# make soak    the long tests
# make wheel   the package, into dist/
# make clean   removes what the others made in this folder

SHELL := /bin/sh
VENV ?= .venv
BIN := $(VENV)/bin
PY := $(BIN)/python
# Tests that start no process, as far as they are there.
PURE := $(wildcard tests/test_tidy.py tests/model tests/config tests/rules)
PYTEST ?= $(PY) -m pytest
# Further options for pytest: make test ARGS='-x tests/store'
ARGS ?=
# One more than there are processors: tests wait for real databases as much as they compute.
WORKERS := $(shell expr $$(getconf _NPROCESSORS_ONLN) + 1)
# What `make test` plays of the simulator, always the same; `make soak` plays what follows on them.
SEEDS := 1000
SOAK_MINUTES ?= 20
PIP := $(PY) -m pip --disable-pip-version-check

# Each of the thousands of processes that tests start would compile the whole package anew.
export PYTHONDONTWRITEBYTECODE :=

.DELETE_ON_ERROR:
.PHONY: help demo test check static soak wheel clean debian-packages kube-apiserver

help:
	@sed -n 's/^# \(make .*\)/\1/p' Makefile

demo: $(VENV)/.run
	$(PY) scripts/prepare_engine.py
	$(BIN)/twinstar demo
	$(BIN)/twinstar compare --quick

# A worker for each processor; the tests of a file stay together, and share what it has set up.
test: debian-packages static
	scripts/kube-apiserver || test -z "$$TWINSTAR_REQUIRE_KUBERNETES"  # without it its tests are skipped, and say so
	$(BIN)/twinstar simulate --seeds $(SEEDS)
	$(PYTEST) -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

check: static
	$(PYTEST) -q $(ARGS) $(PURE)

# Cheapest first.
static: $(VENV)/.dev
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/lint-imports --no-cache
	$(BIN)/mypy

soak: debian-packages $(VENV)/.dev
	$(BIN)/twinstar simulate --first-seed $$(($(SEEDS) + 1)) --minutes $(SOAK_MINUTES)
	$(BIN)/twinstar simulate --strategy active-active --first-seed $$(($(SEEDS) + 1)) --seeds 10000
	$(PYTEST) -m soak --timeout 3600 -s $(ARGS)

wheel: $(VENV)/.dev
	rm -rf build dist
	$(PIP) wheel --no-deps --no-build-isolation --wheel-dir dist .

clean:
	rm -rf $(VENV) build dist src/*.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

kube-apiserver:
	scripts/kube-apiserver

debian-packages:
	@scripts/debian-packages

# -- the virtual environment ------------------------------------------------------------------------------------------
# A stamp file says what is installed; it is made anew when what it was made from has changed. The venv itself is made
# anew when its interpreter has gone.

ifneq ($(wildcard $(VENV)/.made),)
ifneq ($(shell $(PY) -c 'print("fine")' 2>/dev/null),fine)
$(shell rm -rf $(VENV))
endif
endif

$(VENV)/.made:
	python=$$(scripts/find-python) && echo "Making $(VENV) with $$python" && "$$python" -m venv --clear $(VENV)
	@touch $@

$(VENV)/.run: $(VENV)/.made requirements/run.txt pyproject.toml
	$(PIP) install --require-hashes -r requirements/run.txt
	$(PIP) install --no-deps --no-build-isolation --no-index -e .
	@touch $@

# The tests' requirements hold the demo's, in the same versions.
$(VENV)/.dev: $(VENV)/.made requirements/dev.txt pyproject.toml
	$(PIP) install --require-hashes -r requirements/dev.txt
	$(PIP) install --no-deps --no-build-isolation --no-index -e .
	@touch $@ $(VENV)/.run
