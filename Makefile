# `make serve` and `make test` are all one needs to know: each sets up what it needs, in this folder only, and does
# nothing twice. `make help` lists the rest. Set-up runs under a lock, so that two makes at once wait for each other.
# Which interpreter: the first of the list that is new enough, or PYTHON=/path/to/python3. CONTRIBUTING.md reads on.

CONFIG ?= examples/quickstart.yaml
VENV   ?= .venv
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11 python3.14; do \
              $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
ifeq ($(strip $(PYTHON)),)
  PYTHON := python3
endif
export PYTHON

PY      := $(VENV)/bin/python
EXAMPLE := examples/quickstart
# One lock for each of what is made apart from the others: the environment, a build beside it, the example's environment.
LOCKED   = flock --close --timeout 1800 .make$(1).lock $(MAKE) --no-print-directory --silent LOCK_HELD=1
CYTHON  := $(shell find fe -name '*.pyx' -o -name '*.pxd' -o -name '*.h' 2>/dev/null)
MODULES := $(shell find fe -name '*.py' -o -name '*.pyi' -o -path 'fe/control/page/*' -type f 2>/dev/null)
TESTS   ?=
BENCH   ?=
LOADTEST ?=
# Files of tests side by side, those first that take long: most of them wait for processes rather than for a core.
SIDE_BY_SIDE = --numprocesses 4 --dist loadfile --no-loadscope-reorder

# What does not need one another is made at the same time; under a lock, one after another.
ifeq ($(MAKELEVEL),0)
  MAKEFLAGS += --jobs=3
endif
ifdef LOCK_HELD
.NOTPARALLEL:
endif

.DEFAULT_GOAL := help
.PHONY: help serve test ready test-tools build debug coverage example lint format model bench bench-quick loadtest docs dist clean debian-tests FORCE

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(firstword $(MAKEFILE_LIST)) | expand -t 20
	@echo "  Settings: PYTHON=$(PYTHON) CONFIG=$(CONFIG) TESTS='-k name' BENCH='--only macro.cpu'"

serve: build example  ## set up everything and serve CONFIG (the quick start); Ctrl-C ends it
	@echo "fe: serving $(CONFIG)$(if $(filter $(EXAMPLE).yaml,$(CONFIG)), on http://127.0.0.1:8080 (README.md has a request to try)); Ctrl-C ends it"
	@exec $(VENV)/bin/fe-serve --config $(CONFIG)

test: ready  ## set up everything and run the tests (TESTS=... goes to pytest)
	@$(PY) -m pytest $(SIDE_BY_SIDE) $(TESTS)

ready: debug example test-tools  ## everything that the tests need, without running them

test-tools: build
	@+$(LOCKED) debian-tests $(VENV)/.extra-dev $(VENV)/.extra-loadtest

build:  ## virtual environment, dependencies, extension modules
	@+$(LOCKED) $(VENV)/.installed

debug: build  ## the package with assertions and crash points, in build/debug
	@+$(call LOCKED,.debug) build/debug/.built

coverage: ready  ## run the tests with line coverage of Python and Cython, report in build/coverage-report
	@+$(call LOCKED,.coverage) build/coverage/.built
	@$(PY) tools/coverage_run.py $(TESTS)

example: build  ## the quick start's own environment and its model
	@+$(call LOCKED,.example) $(EXAMPLE)/model/rents/1/weights.npz

lint: build  ## ruff, mypy and cython-lint
	@+$(LOCKED) $(VENV)/.extra-dev
	@$(PY) -m ruff check . && $(PY) -m ruff format --check . && $(PY) -m mypy
	@PATH="$(abspath $(VENV))/bin:$$PATH" cython-lint fe

format: build  ## put the sources into shape
	@+$(LOCKED) $(VENV)/.extra-dev
	@$(PY) -m ruff check --fix --quiet . ; $(PY) -m ruff format .

model:  ## check the lease table's protocol with spin (Debian: spin, gcc)
	@$(PYTHON) tests/model/run.py $(MODELS)

bench: build  ## measure fe beside nginx and HAProxy, in some minutes (BENCH=... goes to python -m bench)
	@+$(LOCKED) $(VENV)/.extra-bench
	@PATH="$$PATH:/usr/sbin" exec $(PY) -m bench $(BENCH)

bench-quick: build  ## the same within a minute: it all works, its figures are rough
	@+$(LOCKED) $(VENV)/.extra-bench
	@PATH="$$PATH:/usr/sbin" exec $(PY) -m bench --quick $(BENCH)

loadtest: build  ## half a minute of load on fe and simulated models (LOADTEST=... goes to python -m loadtest)
	@+$(LOCKED) $(VENV)/.extra-loadtest
	@exec $(PY) -m loadtest $(LOADTEST)

docs: build  ## regenerate the tables in docs/ that come from the code
	@set -e; for tool in tools/*_reference.py; do $(PY) $$tool; done

dist: build  ## sdist and wheel, in dist/
	@+$(LOCKED) $(VENV)/.extra-dev
	@$(PY) -m build --no-isolation --outdir dist .

clean:  ## remove everything that was made here
	rm -rf build dist *.egg-info $(VENV) $(EXAMPLE)/.venv $(EXAMPLE)/model
	find fe -name '*.so' -delete

# --- What the targets above make, under the lock ----------------------------------------------------------------------

# The environment is made again when the interpreter or the folder is another one: its scripts name both.
IDENTITY := $(if $(LOCK_HELD),$(CURDIR) $(shell $(PYTHON) -c 'import sys; print(sys.base_prefix, sys.version)' 2>/dev/null))
FOUND    := $(if $(LOCK_HELD),$(shell cat $(VENV)/.made 2>/dev/null))
PIP       = -m pip --disable-pip-version-check -q -q

FORCE:

$(VENV)/.made: $(if $(findstring |$(strip $(IDENTITY))|,|$(strip $(FOUND))|),,FORCE)
	@command -v $(PYTHON) >/dev/null || { echo 'fe: no $(PYTHON) here; install Python 3.11 or newer (Debian: python3 python3-venv python3-dev)' >&2; exit 1; }
	@$(PYTHON) tools/prerequisites.py
	@echo "fe: virtual environment ($(VENV), $(PYTHON))"
	@rm -rf $(VENV) && $(PYTHON) -m venv $(VENV)
	@$(PY) $(PIP) install $$($(PY) -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"])')
	@echo '$(IDENTITY)' > $@

$(VENV)/.extensions: $(VENV)/.made $(CYTHON) setup.py
	@echo "fe: extension modules"
	@FE_BUILD=release $(PY) setup.py --quiet build_ext --inplace
	@touch $@

# After the extensions, and without them (none): pip builds into a folder of its own and would compile each a second time.
$(VENV)/.installed: pyproject.toml setup.py | $(VENV)/.extensions
	@echo "fe: dependencies"
	@FE_BUILD=none $(PY) $(PIP) install --no-build-isolation --editable .
	@touch $@

# What only tests, linters, benchmarks or load tests need: the quick start does without.
$(VENV)/.extra-%: pyproject.toml | $(VENV)/.installed
	@echo "fe: dependencies ($*)"
	@$(PY) $(PIP) install $$($(PY) tools/extras.py $*)
	@touch $@

debian-tests:
	@tools/debian.sh tests

# A build of the whole package beside the one in place; what is no longer in fe/ must not linger there.
build/%/.built: $(VENV)/.installed $(CYTHON) $(MODULES)
	@echo "fe: $* build"
	@find $(@D) -name '*.py' -delete 2>/dev/null || true
	@env -u PYTHONDONTWRITEBYTECODE FE_BUILD=$* $(PY) setup.py --quiet build --build-base build/$*-objects --build-lib $(@D)
	@touch $@

$(EXAMPLE)/.venv/.made: $(EXAMPLE)/requirements.txt $(if $(findstring |$(strip $(IDENTITY))|,|$(strip $(shell cat $(EXAMPLE)/.venv/.made 2>/dev/null))|),,FORCE)
	@echo "fe: the model server's environment ($(EXAMPLE)/.venv)"
	@rm -rf $(EXAMPLE)/.venv && $(PYTHON) -m venv $(EXAMPLE)/.venv
	@$(EXAMPLE)/.venv/bin/python $(PIP) install --requirement $<
	@echo '$(IDENTITY)' > $@

$(EXAMPLE)/model/rents/1/weights.npz: $(EXAMPLE)/.venv/.made $(EXAMPLE)/train.py
	@$(EXAMPLE)/.venv/bin/python $(EXAMPLE)/train.py
