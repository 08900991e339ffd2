# make serve | make test: the two commands; each sets up what it needs. `make help` lists the rest.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
SOURCES := $(shell find fe -name '*.pyx' -o -name '*.pxd' -o -name '*.h' 2>/dev/null)

.PHONY: build debug test lint serve clean

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet 'setuptools>=77' wheel 'cython>=3.1'
	touch $@

$(VENV)/.built: $(VENV)/.installed $(SOURCES) setup.py pyproject.toml
	$(BIN)/pip install --quiet --no-build-isolation -e '.[test]'
	touch $@

build: $(VENV)/.built

debug: build
	FE_BUILD=debug $(BIN)/python setup.py --quiet build --build-base build/debug-objects --build-lib build/debug

test: build debug
	$(BIN)/python -m pytest

lint: build
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/cython-lint fe

clean:
	rm -rf build dist *.egg-info $(VENV)
