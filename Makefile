# Everything a newcomer needs: `make demo`, then `make test`. All targets share one .venv.
PYTHON ?= python3
BIN := .venv/bin
DEMO := out/demo

.PHONY: demo test test-elsewhere slow bench gpu lint docs notebooks clean

demo: .venv/core  ## plan 10 frames per second on the shipped iPhone table, and draw it
	@mkdir -p $(DEMO)
	$(BIN)/s2search plan --budget 10fps --out $(DEMO)/plan.json --figure $(DEMO)/plan.png
	@echo "picture: $(DEMO)/plan.png   plan: $(DEMO)/plan.json"

# What the core does alone is tried where nothing else is installed, by .ci/run after `make demo`.
test: .venv/installed  ## all tests but the slow ones
	$(BIN)/python -m pytest -q -n 2 -m "not slow" --ignore=tests/benchmarks --ignore=tests/test_core_only.py
	$(BIN)/python -m pytest -q -s -m "not slow" tests/benchmarks

# Tests of numbers that matrix products and convolutions make, as other processors make them. SkylakeX needs AVX-512.
NUMERIC := tests/blocks tests/network tests/stream tests/codec tests/recalibration tests/train/test_supernet.py tests/train/test_scores.py tests/solver/test_dual.py \
	tests/transfer/test_blend.py tests/transfer/test_drift.py tests/measure/test_peak_memory.py \
	tests/measure/test_program_memory.py tests/mil/test_operations.py tests/mil/test_rounding.py \
	tests/verify/test_arithmetic.py tests/verify/test_blocks.py tests/export/test_quantised.py \
	tests/export/test_step.py --ignore=tests/stream/test_cli_stream.py
ELSEWHERE := elsewhere-Haswell elsewhere-SkylakeX elsewhere-Prescott elsewhere-plain elsewhere-SSE41
elsewhere-Haswell: export OPENBLAS_CORETYPE := Haswell
elsewhere-SkylakeX: export OPENBLAS_CORETYPE := SkylakeX
elsewhere-Prescott: export OPENBLAS_CORETYPE := Prescott
elsewhere-plain: export ATEN_CPU_CAPABILITY := default
elsewhere-SSE41: export ONEDNN_MAX_CPU_ISA := SSE41

.PHONY: $(ELSEWHERE)
test-elsewhere: $(ELSEWHERE)  ## the numeric tests, as five other processors compute

$(ELSEWHERE): elsewhere-%: .venv/installed
	@if test $* = SkylakeX && ! grep -qsw avx512vl /proc/cpuinfo; then echo "not run as SkylakeX: no AVX-512 here"; \
	else $(BIN)/python -m pytest -q -n 2 -m "not slow" $(NUMERIC); fi

# Slow tests in parts of minutes; a test is in `slow-rest` where no other part names it. Slow claims of speed: `bench`.
SLOW_export := tests/export tests/kit
SLOW_edits := tests/verify/test_mil_edits.py tests/verify/test_float_edits.py tests/verify/test_pte_edits.py
SLOW_width := tests/verify/test_full_width.py
SLOW_verify := tests/verify $(patsubst %,--ignore=%,$(SLOW_edits) $(SLOW_width) tests/verify/test_fuzz.py)
SLOW_transfer := tests/transfer
SLOW_fuzz := tests/fuzz tests/verify/test_fuzz.py
SLOW_tables := tests/readers/test_fuzz.py
SLOW_rest := $(patsubst %,--ignore=%,$(SLOW_export) tests/verify $(SLOW_transfer) $(SLOW_fuzz) $(SLOW_tables))
SLOW := slow-export slow-verify slow-edits slow-width slow-transfer slow-fuzz slow-tables slow-rest slow-laws

.PHONY: $(SLOW)
slow: $(SLOW)  ## tests of minutes, part after part

$(filter-out slow-laws,$(SLOW)): slow-%: .venv/installed
	$(BIN)/python -m pytest -q -n 2 -m "slow and not benchmark" $(SLOW_$*)

slow-laws: .venv/installed  ## the property tests, on ten times as many examples as in `make test`
	$(BIN)/python -m pytest -q -n 2 --hypothesis-profile=many -m "hypothesis and not slow and not benchmark"

bench: .venv/installed  ## every claim of speed; the solver's takes half an hour
	$(BIN)/python -m pytest -q -s -m benchmark

gpu: .venv/installed  ## what only a CUDA GPU can say, in eight minutes: gpu/gpu.json
	$(BIN)/python tests/gpu.py --out gpu

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

# Bytecode of the core is left to the first import: compiling it takes a third of the time of a small installation.
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt

$(BIN)/python:
	$(PYTHON) -m venv .venv

.venv/core: $(BIN)/python pyproject.toml constraints.txt  ## the core and the pictures
	$(INSTALL) -e '.[figures]'
	@touch $@

.venv/installed: $(BIN)/python pyproject.toml constraints.txt  ## everything
	$(INSTALL) -e '.[dev]'
	$(BIN)/python -m compileall -q -j 2 .venv/lib >/dev/null 2>&1 || true  # some libraries carry files for other Pythons
	@touch $@

clean:
	rm -rf .venv out
