# Everything a newcomer needs: `make demo`, then `make test`. All targets share one .venv.
PYTHON ?= python3
BIN := .venv/bin
DEMO := out/demo

.PHONY: demo test slow bench lint docs notebooks clean

demo: .venv/core  ## plan 10 frames per second on the shipped iPhone table, and draw it
	@mkdir -p $(DEMO)
	$(BIN)/s2search plan --budget 10fps --out $(DEMO)/plan.json --figure $(DEMO)/plan.png
	@echo "picture: $(DEMO)/plan.png   plan: $(DEMO)/plan.json"

test: .venv/installed  ## all tests but the slow ones
	$(BIN)/python -m pytest -q -n 2 --dist worksteal -m "not slow and not benchmark"
	$(BIN)/python -m pytest -q -s -m "benchmark and not slow" tests/benchmarks

slow: .venv/installed  ## tests of minutes
	$(BIN)/python -m pytest -q -m slow

bench: .venv/installed  ## every claim of speed; the solver's takes half an hour
	$(BIN)/python -m pytest -q -s -m benchmark

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/vulture

docs: .venv/installed  ## the pages as HTML; every warning, such as a broken link, is an error
	$(BIN)/sphinx-build -q -W --keep-going -n -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

notebooks: .venv/installed  ## execute them all, in place
	$(BIN)/jupyter execute --inplace notebooks/*.ipynb

# Bytecode is left to the first import: compiling all of it takes a third of the time of a small installation.
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt

$(BIN)/python:
	$(PYTHON) -m venv .venv

.venv/core: $(BIN)/python pyproject.toml constraints.txt  ## the core and the pictures
	$(INSTALL) -e '.[figures]'
	@touch $@

.venv/installed: $(BIN)/python pyproject.toml constraints.txt  ## everything
	$(INSTALL) -e '.[dev]'
	@touch $@

clean:
	rm -rf .venv out
